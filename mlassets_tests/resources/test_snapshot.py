"""A snapshot says of the newest versions what the store says, whatever happened before, and however it was taken."""

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.settings import Settings
from resources.snapshot import Snapshot, snapshot_of
from resources.store import Store
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Verdict

STEPS = ("draw", "model")
PARTITIONS = (Partition.project("late"), Partition.segment("late", "EWR"), Partition.segment("late", "JFK"))
CLAIMS = ("a", "b")


def commit(store: Store, step: str, partition: Partition, on: list[str] | None = None) -> Thing:
    draft = Draft(parameters={"p": 1}, metrics={"m": 2}, based_on=on or [], code_version="1", spec_hash="s")
    return store.commit(step, partition, draft)


def judge(store: Store, thing: Thing, claims: dict[str, tuple[str, str]], mark: str = "") -> None:
    verdicts = [
        Verdict(claim, status, severity, 0.5, None, 1, f"{claim} {status}", {"mark": mark})  # type: ignore[arg-type]
        for claim, (status, severity) in claims.items()
    ]
    store.record_verdicts(thing.id, new_id(), verdicts)


def agrees(seen: Snapshot, store: Store) -> None:
    """Assert that a snapshot says what the store says."""
    for step in STEPS:
        for partition in PARTITIONS:
            there, now = seen.latest(step, partition), store.latest(step, partition)
            if now is None:
                assert there is None
                continue
            assert there is not None
            assert (there.id, there.data_version) == (now.id, now.data_version)
            assert (there.code_version, there.spec_hash) == (now.code_version, now.spec_hash)
            assert (there.created_at, there.partition) == (now.created_at, now.partition)
            assert set(there.based_on) == set(now.based_on)
            assert (there.parameters, there.metrics) == (now.parameters, now.metrics)
            verdicts = store.verdicts(now.id)
            assert {one.claim for one in seen.blocking(now.id)} == {
                one.claim for one in verdicts if one.blocks
            }
            judged = seen.judged(now.id)
            assert (judged is None) == (not verdicts)
            if judged is not None:
                assert {mark["mark"] for mark in judged.marks} == {one.details["mark"] for one in verdicts}


STATUS = st.tuples(
    st.sampled_from(["passed", "failed", "crashed", "not_applicable"]), st.sampled_from(["ERROR", "WARN"])
)
EVENTS = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from(STEPS), st.sampled_from(PARTITIONS)),
    st.tuples(st.just("retire"), st.integers(0, 20), st.none()),
    st.tuples(
        st.just("judge"), st.integers(0, 20), st.dictionaries(st.sampled_from(CLAIMS), STATUS, min_size=1)
    ),
    st.tuples(st.just("look"), st.none(), st.none()),
)


@settings(max_examples=12, deadline=None)
@given(events=st.lists(EVENTS, max_size=14))
def test_a_snapshot_agrees_with_the_store_after_any_sequence_of_events(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, object, object]]
) -> None:
    store = Store.open(Settings(home=tmp_path_factory.mktemp("home")))
    made: list[Thing] = []
    for number, (what, first, second) in enumerate(events):
        if what == "commit":
            made.append(commit(store, str(first), second, [one.id for one in made[-2:]]))  # type: ignore[arg-type]
        elif what == "look":
            agrees(snapshot_of(store, STEPS), store)
        elif made:
            thing = made[int(first) % len(made)]  # type: ignore[call-overload]
            if what == "retire":
                store.retire(thing.id, "wrong")
            else:
                judge(store, thing, second, mark=f"{number}")  # type: ignore[arg-type]
    agrees(snapshot_of(store, STEPS), store)
    agrees(Snapshot(store, STEPS), store)


def test_a_snapshot_is_the_same_on_every_kind_of_catalog(catalog_url: str, tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path, catalog=catalog_url))
    first = commit(store, "draw", PARTITIONS[1])
    judge(store, first, {"a": ("failed", "ERROR"), "b": ("passed", "ERROR")}, "x")
    second = commit(store, "model", PARTITIONS[1], [first.id])
    judge(store, second, {"a": ("failed", "ERROR")}, "x")
    agrees(snapshot_of(store, STEPS), store)
    judge(store, second, {"a": ("passed", "ERROR")}, "y")
    third = commit(store, "draw", PARTITIONS[1])
    store.retire(third.id, "wrong")
    seen = snapshot_of(store, STEPS)
    agrees(seen, store)
    assert seen.made_since("draw", PARTITIONS[1], first.created_at) == [third.created_at]
    assert seen.get(third.id).retired_at is not None


def test_threads_that_ask_at_once_all_see_what_was_there_when_they_asked(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    thing = commit(store, "draw", PARTITIONS[0])
    found: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: found.append(snapshot_of(store, STEPS))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [seen.latest("draw", PARTITIONS[0]) for seen in found] == [thing] * 8
