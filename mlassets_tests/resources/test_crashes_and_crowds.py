"""Any sequence of commits, crashes, syncs, rebuilds and sweeps; kills of real processes are in test_kills."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resources import lake
from resources.settings import Settings
from resources.things import Draft, Partition, Store


class _Crash(BaseException):
    """Stands for the end of the process, where a real kill would take too long for many examples."""


class StoreAgainstAModel(RuleBasedStateMachine):
    """Any sequence of commits, crashes, syncs, rebuilds and sweeps answers as a plain list would."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(Settings(home=Path(self.folder.name)))
        self.visible: list[tuple[str, int]] = []
        self.made: list[tuple[str, int]] = []
        self.commit("first", 0)

    def teardown(self) -> None:
        lake.on_reached = lambda _point: None
        if hasattr(self, "store"):
            self.store.catalog.close()
            self.folder.cleanup()

    def _commit(self, segment: str, value: int) -> None:
        table = pa.table({"value": [value]})
        self.store.commit(
            "model",
            Partition.segment("p", segment),
            Draft(dataset=table, parameters={"value": value}, artifacts={"a": str(value).encode()}),
        )

    @rule(segment=st.sampled_from("ab"), value=st.integers(0, 3))
    def commit(self, segment: str, value: int) -> None:
        self._commit(segment, value)
        self.made.append((segment, value))
        self.visible.append((segment, value))

    @rule(segment=st.sampled_from("ab"), value=st.integers(0, 3), after=st.integers(0, 20))
    def crash(self, segment: str, value: int, after: int) -> None:
        passed: list[str] = []

        def die(point: str) -> None:
            passed.append(point)
            if len(passed) > after:
                raise _Crash

        lake.on_reached = die
        try:
            self._commit(segment, value)
            passed.append("row written")
        except _Crash:
            pass
        finally:
            lake.on_reached = lambda _point: None
        if "linked" in passed:
            self.made.append((segment, value))
            if "row written" in passed:
                self.visible.append((segment, value))

    @rule()
    def sync(self) -> None:
        report = self.store.sync()
        assert report.damaged == ()
        assert report.things == len(self.made) - len(self.visible)
        self.visible = list(self.made)

    @rule()
    def rebuild(self) -> None:
        assert self.store.rebuild().things == len(self.made)
        self.visible = list(self.made)

    @rule()
    def sweep(self) -> None:
        self.store.sweep(timedelta(0))

    @invariant()
    def answers_are_equal(self) -> None:
        if not hasattr(self, "store"):
            return
        for segment in "ab":
            expected = [value for name, value in self.visible if name == segment][::-1]
            things = self.store.history("model", Partition.segment("p", segment))
            assert [thing.parameters["value"] for thing in things] == expected
            for thing in things[:2]:
                assert thing.table().to_pydict() == {"value": [thing.parameters["value"]]}
                assert thing.artifact("a") == str(thing.parameters["value"]).encode()


TestStoreAgainstAModel = StoreAgainstAModel.TestCase
TestStoreAgainstAModel.settings = hypothesis_settings(max_examples=15, stateful_step_count=15, deadline=None)
