"""Any sequence of what a store does, and of crashes within it, against a plain list; kills are in test_kills."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resources import lake
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Verdict

segments = st.sampled_from("ab")
values = st.integers(0, 3)


class _Crash(BaseException):
    """Stands for the end of the process, where a real kill would take too long for many examples."""


@dataclass
class Version:
    """What a plain list knows of a version: in the lake it always is; the catalog may have to be told."""

    segment: str
    value: int
    has_row: bool = True
    is_marked: bool = False
    is_hidden: bool = False
    is_removed: bool = False
    judged: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def draft(value: int) -> Draft:
    return Draft(
        dataset=pa.table({"value": [value]}),
        parameters={"value": value},
        artifacts={"a": str(value).encode()},
    )


class StoreAgainstAModel(RuleBasedStateMachine):
    """Commit, crash, retry, sync, rebuild, retire, remove, verify and sweep answer as a plain list would."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.store = Store.open(Settings(home=self.home))
        self.versions: list[Version] = []
        self.commit("first", 0)

    def teardown(self) -> None:
        lake.on_reached = lambda _point: None
        if hasattr(self, "store"):
            self.store.catalog.close()
            self.folder.cleanup()

    def _crashing(self, after: int, work: Callable[[], object]) -> list[str]:
        """Call `work`, crash at a marked point, and return the points that it passed."""
        passed: list[str] = []

        def die(point: str) -> None:
            passed.append(point)
            if len(passed) > after:
                raise _Crash

        lake.on_reached = die
        try:
            work()
            passed.append("the end")
        except _Crash:
            pass
        finally:
            lake.on_reached = lambda _point: None
        return passed

    def _seen(self, segment: str) -> list[Version]:
        """The versions of a segment that `history` gives, newest first."""
        return [
            one for one in self.versions[::-1] if one.segment == segment and one.has_row and not one.is_hidden
        ]

    def _pick(self, segment: str, place: int) -> tuple[Version, Thing] | None:
        seen = self._seen(segment)
        if not seen:
            return None
        number = place % len(seen)
        return seen[number], self.store.history("model", Partition.segment("p", segment))[number]

    @rule(segment=segments, value=values)
    def commit(self, segment: str, value: int) -> None:
        self.store.commit("model", Partition.segment("p", segment), draft(value))
        self.versions.append(Version(segment, value))

    @rule(several=st.lists(st.tuples(segments, values), max_size=4))
    def commit_several(self, several: list[tuple[str, int]]) -> None:
        self.store.commit_all(
            ("model", Partition.segment("p", segment), draft(value)) for segment, value in several
        )
        self.versions += [Version(segment, value) for segment, value in several]

    @rule(segment=segments, value=values, after=st.integers(0, 25))
    def crash_in_a_commit(self, segment: str, value: int, after: int) -> None:
        passed = self._crashing(
            after, lambda: self.store.commit("model", Partition.segment("p", segment), draft(value))
        )
        if "linked" in passed:
            self.versions.append(Version(segment, value, has_row="row written" in passed))

    @rule(several=st.lists(st.tuples(segments, values), min_size=2, max_size=4), after=st.integers(0, 60))
    def crash_in_several(self, several: list[tuple[str, int]], after: int) -> None:
        passed = self._crashing(
            after,
            lambda: self.store.commit_all(
                ("model", Partition.segment("p", segment), draft(value)) for segment, value in several
            ),
        )
        there = several[: passed.count("linked")]
        self.versions += [
            Version(segment, value, has_row="row written" in passed) for segment, value in there
        ]

    @rule(segment=segments, place=st.integers(0, 9))
    def retire(self, segment: str, place: int) -> None:
        if picked := self._pick(segment, place):
            version, thing = picked
            assert self.store.retire(thing.id, "for the test").retired_at is not None
            version.is_marked = version.is_hidden = True

    @rule(segment=segments, place=st.integers(0, 9), after=st.integers(0, 8))
    def crash_in_a_retirement(self, segment: str, place: int, after: int) -> None:
        if picked := self._pick(segment, place):
            version, thing = picked
            passed = self._crashing(after, lambda: self.store.retire(thing.id, "for the test"))
            version.is_marked |= "linked" in passed or "the end" in passed
            version.is_hidden |= "the end" in passed

    @rule(segment=segments, place=st.integers(0, 9), status=st.sampled_from(["passed", "failed"]))
    def judge(self, segment: str, place: int, status: str) -> None:
        if picked := self._pick(segment, place):
            version, thing = picked
            verdict = Verdict("a", status, "ERROR", 0.5, "<= 1", 10, "fine", {})  # type: ignore[arg-type]
            self.store.record_verdicts(thing.id, new_id(), [verdict], b"<p>")
            version.judged.append(status)
            version.shown = list(version.judged)

    def _adopted(self) -> None:
        for one in self.versions:
            one.has_row, one.is_hidden, one.shown = True, one.is_marked, list(one.judged)

    @rule()
    def sync(self) -> None:
        report = self.store.sync()
        assert report.damaged == ()
        assert report.things == sum(not one.has_row for one in self.versions)
        assert report.retired == sum(one.has_row and one.is_marked > one.is_hidden for one in self.versions)
        self._adopted()

    @rule()
    def rebuild(self) -> None:
        report = self.store.rebuild()
        assert report.damaged == ()
        assert report.things == len(self.versions)
        self._adopted()

    @precondition(lambda self: len(self.versions) > 3)
    @rule()
    def lose_the_catalog(self) -> None:
        self.store.catalog.close()
        for file in self.home.glob("catalog.db*"):
            file.unlink()
        self.store = Store.open(Settings(home=self.home))
        for one in self.versions:
            one.has_row, one.is_hidden, one.shown = False, False, []

    @rule()
    def verify(self) -> None:
        found = self.store.verify_all(self.home / "verify.jsonl")
        assert found.damaged == ()
        assert found.things == len(self.versions)
        assert found.check_runs == sum(len(one.judged) for one in self.versions)

    @rule()
    def sweep(self) -> None:
        garbage = [one.path for one in self.store.garbage(timedelta(0))]
        assert self.store.sweep(timedelta(0)) == garbage
        self._adopted()  # so as to know which files are in use
        assert self.store.garbage(timedelta(0)) == []

    @rule(after=st.none() | st.integers(0, 60))
    def remove(self, after: int | None) -> None:
        if after is not None:
            self._crashing(after, lambda: self.store.gc(timedelta(0)))
        done = self.store.gc(timedelta(0))
        assert done.problems == ()
        going = [one for one in self.versions if one.is_marked and not one.is_removed]
        assert len(done.things) == len(going) or after is not None
        for one in going:
            one.is_removed = True
        self._adopted()
        removed = self.store.sql("SELECT count(*) AS n FROM things WHERE removed_at IS NOT NULL")["n"]
        assert removed.to_pylist() == [sum(one.is_removed for one in self.versions)]

    @invariant()
    def answers_are_equal(self) -> None:
        if not hasattr(self, "store"):
            return
        for segment in ("first", "a", "b"):
            expected = self._seen(segment)
            things = self.store.history("model", Partition.segment("p", segment))
            assert [thing.parameters["value"] for thing in things] == [one.value for one in expected]
            for thing, one in zip(things, expected, strict=True):
                judged = [verdict.status for verdict in self.store.verdicts(thing.id)]
                assert judged == one.shown[-1:]
            for thing in things[:2]:
                assert thing.table().to_pydict() == {"value": [thing.parameters["value"]]}
                assert thing.artifact("a") == str(thing.parameters["value"]).encode()


TestStoreAgainstAModel = StoreAgainstAModel.TestCase
TestStoreAgainstAModel.settings = hypothesis_settings(max_examples=25, stateful_step_count=20, deadline=None)
