"""Kill -9 anywhere, and any number of processes at once: nothing lost, nothing half-visible."""

import random
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlassets_tests.resources.crowd import (
    CROWD,
    EWR,
    commit_and_die,
    commit_for_ever,
    commit_many,
    draft,
)
from resources import lake
from resources.settings import Settings
from resources.things import Draft, Partition, Store


def assert_whole(store: Store) -> None:
    """Every visible version is complete and says what it was made with."""
    for thing in store.history():
        assert store.verify(thing) == ()
        number = thing.parameters["number"]
        assert thing.artifact("note.txt") == f"note {number}".encode()
        assert set(thing.table()["number"].to_pylist()) == {number}


def test_a_kill_at_any_point_of_a_commit_loses_nothing_and_shows_nothing_half_done(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    before = store.commit("model", EWR, draft(0))
    killed = 0
    for point in range(100):
        child = CROWD.Process(target=commit_and_die, args=(tmp_path, point + 1, point))
        child.start()
        child.join()
        latest = store.latest("model", EWR)
        assert latest is not None
        if child.exitcode == 0:
            assert latest.parameters["number"] == point + 1
            break
        killed += 1
        assert store.get(before.id) == before
        assert latest.parameters["number"] in (before.parameters["number"], point + 1)
        report = store.sync()
        assert report.damaged == ()
        assert_whole(store)
        before = store.commit("model", EWR, draft(1000 + point))
        assert store.latest("model", EWR) == before
    assert killed >= 15
    committed = {thing.folder for thing in store.history()}
    for path in store.sweep(timedelta(0)):
        assert path.startswith("tmp/") or path.rpartition("/artifacts/")[0] not in committed
    assert_whole(store)
    left = {entry.path for entry in store.lake.files("things")} | {
        entry.path for entry in store.lake.files("tmp")
    }
    assert all(any(path.startswith(f"{folder}/") for folder in committed) for path in left)
    history = store.history()
    assert store.rebuild().things == len(history)
    assert store.history() == history


def test_kills_at_random_times_leave_a_store_that_works(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    chance = random.Random(7)
    for attempt in range(35):
        going = CROWD.Event()
        child = CROWD.Process(target=commit_for_ever, args=(tmp_path, attempt * 1_000_000, going))
        child.start()
        assert going.wait(60)
        time.sleep(0.04 * chance.random())
        child.kill()
        child.join()
        assert store.sync().damaged == ()
        store.commit("model", EWR, draft(attempt))
    assert len(store.history()) > 70
    assert_whole(store)
    assert all(not path.endswith("thing.json") for path in store.sweep(timedelta(0)))
    assert_whole(store)


def test_four_processes_lose_nothing_and_keep_order(tmp_path: Path) -> None:
    children = [CROWD.Process(target=commit_many, args=(tmp_path, worker, 25)) for worker in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    store = Store.open(Settings(home=tmp_path))
    history = [thing.parameters["number"] for thing in store.history("model", EWR)][::-1]
    assert sorted(history) == sorted(worker * 1000 + number for worker in range(4) for number in range(25))
    for worker in range(4):
        own = [number for number in history if number // 1000 == worker]
        assert own == sorted(own)
        alone = store.history("model", Partition.segment("late-flights", f"worker {worker}"))
        assert [thing.parameters["number"] for thing in alone] == list(range(25))[::-1]
    assert_whole(store)
    rows = store.history()
    assert store.sync().things == 0
    assert store.rebuild().things == len(rows) == 200
    assert store.history() == rows


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


def test_two_processes_may_open_a_fresh_home_at_the_same_time(tmp_path: Path) -> None:
    for attempt in range(5):
        home = tmp_path / str(attempt)
        children = [CROWD.Process(target=commit_many, args=(home, worker, 1)) for worker in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 3
        assert len(Store.open(Settings(home=home)).history()) == 6


@pytest.mark.parametrize("broken", ["disk full", "interrupted"])
def test_a_failed_commit_cleans_up_after_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = Store.open(Settings(home=tmp_path))
    first = store.commit("model", EWR, draft(1))

    def fail(point: str) -> None:
        if point == "file written":
            raise OSError(28, "No space left on device") if broken == "disk full" else KeyboardInterrupt

    monkeypatch.setattr(lake, "on_reached", fail)
    with pytest.raises(lake.LakeError if broken == "disk full" else KeyboardInterrupt):
        store.commit("model", EWR, draft(2))
    monkeypatch.undo()
    assert store.latest("model", EWR) == first
    assert {entry.path.split("/")[4] for entry in store.lake.files("things")} == {first.id}
