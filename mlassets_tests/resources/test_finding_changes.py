"""find, browse and the definition agree after any sequence of what can happen to a store."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlassets_tests.resources.oracle import Oracle
from mlassets_tests.servers import PostgresServer
from resources.catalog import Catalog
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition
from resources.verdicts import Verdict

NAMES = st.sampled_from(["split", "other"])
LABELS = st.dictionaries(
    st.sampled_from(["ticket", "a.b"]), st.sampled_from(["x", 1, True, None, 2**60]), max_size=2
)
QUERIES: list[dict[str, Any]] = [
    {},
    {"labels.ticket": "x"},
    {"labels.ticket": {"$ne": 1}},
    {"labels.a.b": {"$gte": 2**60}},
    {"metrics.auc": {"$gt": 0.4}, "step": "model"},
    {"$or": [{"name": "split"}, {"verdicts.fine": "failed"}]},
    {"file": "note.txt"},
    {"labels.ticket": {"$exists": False}},
]


def machine(server: PostgresServer | None) -> type[RuleBasedStateMachine]:
    """A store, on SQLite or on a server, that things are done to in any order."""

    class Changes(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.folder = tempfile.TemporaryDirectory()
            self.home = Path(self.folder.name)
            self.database = server.make_database() if server else ""
            self.url = server.url(self.database) if server else f"sqlite:///{self.home}/catalog.db"
            self.store = Store.open(Settings(home=self.home, catalog=self.url))
            self.ids: list[str] = []

        def teardown(self) -> None:
            if hasattr(self, "store"):
                self.store.catalog.close()
                if server:
                    server.drop_database(self.database)
                self.folder.cleanup()

        @rule(name=NAMES, labels=LABELS, file=st.booleans())
        def log(self, name: str, labels: dict[str, Any], file: bool) -> None:
            artifacts = {"note.txt": b"hello"} if file else {}
            draft = Draft(labels=labels, artifacts=artifacts)
            self.ids.append(self.store.commit("uploads", Partition({"name": name}), draft).id)

        @rule(auc=st.sampled_from([0.1, 0.5, 0.9, float("nan")]), labels=LABELS, many=st.integers(1, 3))
        def commit(self, auc: float, labels: dict[str, Any], many: int) -> None:
            draft = Draft(metrics={"auc": auc}, labels=labels)
            made = self.store.commit_all([("model", Partition.project("late"), draft)] * many)
            self.ids += [thing.id for thing in made]

        @precondition(lambda self: self.ids)
        @rule(data=st.data())
        def retire(self, data: st.DataObject) -> None:
            self.store.retire(data.draw(st.sampled_from(self.ids)), "for the test")

        @precondition(lambda self: self.ids)
        @rule(data=st.data(), status=st.sampled_from(["passed", "failed"]))
        def judge(self, data: st.DataObject, status: Any) -> None:
            one = data.draw(st.sampled_from(self.ids))
            run = f"run{len(self.store.catalog.verdicts([one]))}"
            self.store.record_verdicts(one, run, [Verdict("fine", status, "WARN", 1, "", 1, "", {})])

        @precondition(lambda self: self.ids)
        @rule(data=st.data())
        def copy(self, data: st.DataObject) -> None:
            """Copy a Thing to another lake, where it is found by the same queries."""
            one = data.draw(st.sampled_from(self.ids))
            other = Store.open(Settings(home=self.home / "other"))
            self.store.copy(one, other)
            there = Oracle(other)
            for query in QUERIES:
                assert other.find(query).ids() == there.find(query), query
                assert (one in other.find(query, retired=True).ids()) == (
                    one in self.store.find(query, retired=True).ids()
                )
            other.catalog.close()

        @rule()
        def rebuild(self) -> None:
            assert self.store.rebuild().damaged == ()

        @rule()
        def lose_the_catalog(self) -> None:
            """Another catalog takes its place, which knows the lake alone."""
            self.store.catalog.close()
            if server:
                server.drop_database(self.database)
                self.database = server.make_database()
                self.url = server.url(self.database)
            else:
                for file in self.home.glob("catalog.db*"):
                    file.unlink()
            self.store = Store(self.store.lake, Catalog(self.url))
            assert self.store.sync().damaged == ()

        @invariant()
        def all_agree(self) -> None:
            if not hasattr(self, "store"):
                return
            oracle = Oracle(self.store)
            assert {thing.id for thing in oracle.things} == set(self.ids)
            assert self.store.browse().ids() == oracle.find({})
            for query in QUERIES:
                assert self.store.find(query).ids() == oracle.find(query), query

    return Changes


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def test_find_and_browse_agree_after_any_sequence_of_changes(
    database: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres_server") if database == "PostgreSQL" else None
    run_state_machine_as_test(
        machine(server), settings=settings(max_examples=2, stateful_step_count=10, deadline=None)
    )
