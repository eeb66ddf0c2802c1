"""What may go, goes; what is needed never does, whatever is killed, shared, damaged, or told by a wrong clock."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets_tests.places import Place
from mlassets_tests.resources.crowd import (
    CROWD,
    EWR,
    assert_whole,
    commit_many,
    in_child,
    kill_removals_at_points,
)
from mlassets_tests.small_homes import mlassets
from resources.retaining import BadRetention, CannotRemove, Policy, expired, load_policies
from resources.settings import Settings
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, RemovedThing, Thing

LATE = Partition.project("late")
NOW = timedelta(0)
STEPS = ("sources", "draw_data", "model", "publish")


def commit(store: Store, step: str = "model", number: int = 0, where: Partition = LATE, **more: Any) -> Thing:
    """A Thing whose artifact depends on `number`, so that equal numbers in a row share it."""
    draft = Draft(
        dataset=pa.table({"number": [number]}), artifacts={"note.txt": f"{number}".encode()}, **more
    )
    return store.commit(step, where, draft)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def test_what_was_retired_goes_and_what_a_release_needs_stays(place: Place) -> None:
    store = place.open()
    source = commit(store, "sources", 1, Partition.source("flights"))
    old = commit(store, number=2, based_on=[source.id])
    kept = commit(store, number=3, based_on=[source.id])
    release = commit(store, "publish", 4, based_on=[kept.id])
    for one in (source, old, kept):
        store.retire(one.id, "for the test")
    plan = store.removable(NOW)
    assert [one.id for one in plan.removals] == [old.id]
    assert (plan.files, plan.size) == (2, sum(one.size for one in old.components))
    assert set(plan.named) == {source.id, kept.id}
    assert store.removable().removals == ()
    done = store.gc(NOW)
    assert (done.things, done.files, done.size, done.problems) == ((old.id,), plan.files, plan.size, ())
    for one in (source, kept, release):
        assert store.verify(store.get(one.id)) == ()
    left = {entry.path for entry in store.lake.files(old.folder)}
    assert left == {f"{old.folder}/{name}.json" for name in ("thing", "retired", "removed")}
    gone = store.get(old.id)
    assert gone == old
    assert [one.state for one in store.lineage(old.id).nodes] == ["retired", "removed"]
    for read in (
        gone.table,
        gone.scan,
        lambda: gone.artifact("note.txt"),
        lambda: gone.artifact_path("note.txt"),
    ):
        with pytest.raises(RemovedThing, match=r"was removed at .* retired at .* \(for the test\)"):
            read()
    with pytest.raises(RemovedThing):
        old.artifact("note.txt")  # taken into the hand before
    assert store.verify_all().damaged == ()
    assert store.garbage(NOW) == []
    assert store.gc(NOW).things == ()
    report = store.rebuild()
    assert (report.retired, report.removed, report.damaged) == (3, 1, ())
    assert store.lineage(old.id)[old.id].state == "removed"
    store.retire(release.id, "for the test")
    assert set(store.gc(NOW).things) == {source.id, kept.id, release.id}


def test_a_file_goes_with_the_last_that_shares_it(store: Store) -> None:
    first, second, third = (commit(store, number=7) for _ in range(3))
    assert third.artifacts["note.txt"].path.startswith(first.folder)
    store.retire(first.id, "for the test")
    assert store.removable(NOW).files == 0
    assert store.gc(NOW).files == 0
    assert third.artifact("note.txt") == b"7"
    with pytest.raises(RemovedThing):
        store.get(first.id).table()
    store.retire(second.id, "for the test")
    store.retire(third.id, "for the test")
    plan = store.removable(NOW)
    assert (plan.files, plan.size) == (2, sum(one.size for one in first.components))
    assert store.gc(NOW).files == 2
    assert [entry.path for entry in store.lake.files("things") if not entry.path.endswith(".json")] == []


made = st.tuples(
    st.sampled_from(STEPS), st.integers(0, 2), st.sets(st.integers(0, 20), max_size=3), st.booleans()
)


@given(st.lists(made, min_size=1, max_size=9), st.booleans())
@settings(max_examples=15, deadline=None)
def test_after_any_history_nothing_that_is_needed_is_gone(
    history: list[tuple[str, int, set[int], bool]], lost: bool
) -> None:
    with TemporaryDirectory() as home:
        store = Store.open(Settings(home=Path(home)))
        things: list[Thing] = []
        upstream: dict[str, set[str]] = {}
        for step, number, on, _ in history:
            based_on = [things[one].id for one in on if one < len(things)]
            things.append(commit(store, step, number, based_on=based_on))
            upstream[things[-1].id] = {things[-1].id}.union(*(upstream[one] for one in based_on))
        retired = {thing.id for thing, (*_, goes) in zip(things, history, strict=True) if goes}
        for one in retired:
            store.retire(one, "for the test")
        plan = store.removable(NOW)
        if lost:
            # A catalog that knows nothing of what is needed learns it first.
            store.catalog.close()
            Path(home, "catalog.db").unlink()
            store = Store.open(Settings(home=Path(home)))
        done = store.gc(NOW)
        releases = [thing for thing in things if thing.step == "publish" and thing.id not in retired]
        needed = set().union(*(upstream[one.id] for one in releases))
        assert set(done.things) == retired - needed == {one.id for one in plan.removals}
        assert (done.files, done.size) == (plan.files, plan.size)
        kept_paths = {part.path for one in things if one.id not in done.things for part in one.components}
        for thing in map(store.get, (one.id for one in things)):
            if thing.id in done.things:
                with pytest.raises(RemovedThing):
                    thing.table()
                assert all(
                    store.lake.exists(part.path) == (part.path in kept_paths) for part in thing.components
                )
            else:
                assert store.verify(thing) == ()
                assert thing.table().num_rows == 1
        assert store.verify_all().damaged == ()
        assert store.sweep(NOW) == []
        assert store.gc(NOW).things == ()
        assert store.rebuild().removed == len(done.things)
        store.catalog.close()


@pytest.mark.parametrize(
    ("lake_uri", "catalog_url"),
    [("folder", "SQLite"), ("S3", "PostgreSQL")],
    indirect=True,
    ids=["local", "remote"],
)
def test_a_kill_at_any_point_of_a_removal_is_finished_by_the_next(place: Place) -> None:
    assert in_child(kill_removals_at_points, place, 7 if place.on_s3 else 1) >= 10
    store = place.open()
    assert store.verify_all().damaged == ()
    assert store.sweep(NOW) == []


def test_what_a_removal_left_behind_is_swept_too(store: Store) -> None:
    kept, gone = commit(store, number=1), commit(store, number=2)
    store.retire(gone.id, "for the test")
    store.gc(NOW)
    left = Path(store.lake.full(gone.files["data.parquet"].path))
    left.write_bytes(b"not deleted, as the process was killed")
    assert store.verify_all().damaged == ()
    assert [one.path for one in store.garbage(NOW)] == [gone.files["data.parquet"].path]
    assert store.sweep(NOW) == [gone.files["data.parquet"].path]
    assert store.verify(kept) == ()
    assert (left.parent / "removed.json").exists()


def test_a_mark_from_a_host_whose_clock_is_behind_removes_nothing_too_early(place: Place) -> None:
    store = place.open()
    thing = commit(store)
    long_ago = (datetime.now(UTC) - timedelta(days=60)).isoformat(timespec="microseconds")
    mark = {"schema": 1, "thing_id": thing.id, "retired_at": long_ago, "reason": "behind", "user": "somebody"}
    store.lake.put_bytes(f"{thing.folder}/retired.json", json.dumps(mark).encode())
    store.sync()
    assert len(store.removable().removals) == 1
    done = store.gc()
    assert (done.things, done.young) == ((), (thing.id,))
    assert store.get(thing.id).table().num_rows == 1


def test_a_host_whose_clock_is_ahead_removes_nothing_too_early(tmp_path: Path, store: Store) -> None:
    thing = commit(store)
    store.retire(thing.id, "for the test")
    library = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))[0]
    code = (
        "import sys, datetime\nfrom pathlib import Path\nfrom resources.settings import Settings\n"
        "from resources.store import Store\n"
        "store = Store.open(Settings(home=Path(sys.argv[1])))\n"
        "print(datetime.datetime.now(datetime.UTC).isoformat(), len(store.gc().things))"
    )
    # What the disk says is left alone, as a file server's clock would be.
    ahead = {"LD_PRELOAD": str(library), "FAKETIME": "+90d", "NO_FAKE_STAT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, **ahead},
        capture_output=True,
        text=True,
        check=True,
    )
    said, removed = done.stdout.split()
    assert datetime.fromisoformat(said) > datetime.now(UTC) + timedelta(days=80)
    assert removed == "0"
    assert store.get(thing.id).table().num_rows == 1


def test_nothing_goes_while_a_manifest_cannot_be_read(store: Store) -> None:
    thing = commit(store)
    store.retire(thing.id, "for the test")
    store.lake.put_bytes(f"things/publish/project=late/{thing.id[:-1]}f/thing.json", b"{cut short")
    with pytest.raises(CannotRemove, match="not known what they need"):
        store.gc(NOW)
    assert store.get(thing.id).table().num_rows == 1


def test_a_manifest_that_names_another_things_file_wrongly_cannot_have_it_removed(store: Store) -> None:
    victim, thing = commit(store, number=1), commit(store, number=2)
    path = Path(store.lake.full(f"{thing.folder}/thing.json"))
    manifest = json.loads(path.read_text())
    manifest["components"][0]["path"] = victim.files["data.parquet"].path
    path.write_text(json.dumps(manifest))
    store.rebuild()
    store.retire(thing.id, "for the test")
    assert store.gc(NOW).things == (thing.id,)
    assert store.verify(victim) == ()


def test_a_thing_whose_upstream_was_removed_stays_whole_and_a_damaged_one_still_says_so(store: Store) -> None:
    source = commit(store, "sources", 1)
    model = commit(store, based_on=[source.id])
    store.retire(source.id, "too old")
    store.gc(NOW)
    assert store.get(model.id).table().num_rows == 1
    assert [one.state for one in store.lineage(model.id).upstream] == ["removed"]
    assert store.get(source.id).parameters == {}
    Path(store.lake.full(model.files["data.parquet"].path)).unlink()
    with pytest.raises(DamagedThing, match="missing"):
        store.get(model.id).table()


def test_an_upload_whose_bytes_are_gone_has_no_next_version(store: Store) -> None:
    old = store.log(artifacts={"note": b"x"}, name="notes")
    store.retire(old.id, "for the test")
    store.gc(NOW)
    for reference in (old, old.id):
        with pytest.raises(RemovedThing):
            store.update(reference, labels={"a": 1})


def test_commits_go_on_while_others_retire_and_remove(store: Store) -> None:
    place = Place(Settings(home=Path(store.lake.root).parent))
    children = [CROWD.Process(target=commit_many, args=(place, worker, 12)) for worker in range(2)]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        for thing in store.history("model", EWR)[1:]:
            store.retire(thing.id, "superseded")
        assert store.gc(NOW).problems == ()
    assert [child.exitcode for child in children] == [0, 0]
    assert_whole(store, store.history())
    assert len(store.history()) + len(store.catalog.retired()) == 24
    assert store.verify_all().damaged == ()


def test_a_policy_keeps_by_number_and_age_and_never_what_is_needed(store: Store) -> None:
    first = commit(store, "sources", 0, Partition.source("flights"))
    models = [commit(store, number=number, based_on=[first.id]) for number in range(5)]
    commit(store, "publish", 9, based_on=[models[1].id])
    other = commit(store, number=0, where=Partition.project("other"))
    for _ in range(2):
        commit(store, "sources", 5, Partition.source("flights"))

    def going(now: datetime | None = None, **policies: Policy) -> list[str]:
        return [one.id for one in expired(store, policies, now).going]

    assert going(model=Policy(keep_last=2)) == [models[0].id, models[2].id]
    assert going(model=Policy(keep_last=2, keep_for=timedelta(days=1))) == []
    later = datetime.now(UTC) + timedelta(days=2)
    assert going(later, model=Policy(2, timedelta(days=1))) == [models[0].id, models[2].id]
    assert going(later, model=Policy(0, timedelta(days=1))) == [
        one.id for one in (models[0], *models[2:], other)
    ]
    assert first.id not in going(sources=Policy())
    assert expired(store, {"model": Policy(2)}).going[0].reason == (
        "not kept by age, and not among the newest 2 of late"
    )


def test_a_policy_on_releases_leaves_the_champion_and_the_challenger(store: Store) -> None:
    model = commit(store)
    releases = [
        commit(store, "publish", number, labels={"alias": alias}, based_on=[model.id])
        for number, alias in enumerate(["champion", "champion", "challenger", "challenger"])
    ]
    going = expired(store, {"publish": Policy(keep_last=0, keep_for=timedelta(0)), "model": Policy(0, NOW)})
    assert [one.id for one in going.going] == [releases[0].id, releases[2].id]
    # The model and two releases.
    assert going.needed == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle: {keep_last: 3}", "did you mean model"),
        ("model: {keep_lst: 3}", "did you mean keep_last"),
        ("model: {keep_last: many}", "number of versions"),
        ("model: {keep_last: 0}", "would keep nothing"),
        ("model: {keep_for: 90}", "is not a duration"),
        ("model: {}", "says nothing"),
        ("model: 3", "for each step"),
        ("model: [", "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_understood_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "retention.yaml"
    path.write_text(text)
    with pytest.raises(BadRetention, match=says) as caught:
        load_policies(path, STEPS)
    assert str(path) in str(caught.value)


def test_policies_are_read_and_there_need_be_none(tmp_path: Path) -> None:
    path = tmp_path / "retention.yaml"
    assert load_policies(path, STEPS) == {}
    path.write_text("model: {keep_last: 3, keep_for: 2w}\nsources: {keep_for: 90d}\n")
    assert load_policies(path, STEPS) == {
        "model": Policy(3, timedelta(weeks=2)),
        "sources": Policy(1, timedelta(days=90)),
    }


def test_the_commands_retire_and_remove(tmp_path: Path, store: Store) -> None:
    things = [commit(store, number=number) for number in range(4)]
    assert mlassets(tmp_path, "retire", things[0].id).exit_code == 2
    assert mlassets(tmp_path, "retire").exit_code == 2
    assert mlassets(tmp_path, "retire", "--by-policy").exit_code == 2
    told = mlassets(tmp_path, "retire", things[0].id, "--reason", "wrong data", "--json")
    assert json.loads(told.stdout)["retired"] == [things[0].id]
    assert "1 were retired before" in mlassets(tmp_path, "retire", things[0].id, "--reason", "again").stdout
    (tmp_path / "retention.yaml").write_text("model: {keep_last: 2}")
    dry = json.loads(mlassets(tmp_path, "retire", "--by-policy", "--dry-run", "--json").stdout)
    assert (dry["retired"], [one["id"] for one in dry["things"]]) == ([], [things[1].id])
    assert "1 Things" in mlassets(tmp_path, "retire", "--by-policy").stdout
    assert store.get(things[1].id).retired_at is not None
    assert "2 stay: retired less than 30 days ago" in mlassets(tmp_path, "gc", "--dry-run").stdout
    plan = json.loads(mlassets(tmp_path, "gc", "--grace", "0d", "--dry-run", "--json").stdout)
    assert [one["id"] for one in plan["things"]] == [things[0].id, things[1].id]
    done = json.loads(mlassets(tmp_path, "gc", "--grace", "0d", "--json").stdout)
    assert (done["files"], done["size"]) == (plan["files"], plan["bytes"])
    assert mlassets(tmp_path, "gc", "--grace", "soon").exit_code == 2
    assert mlassets(tmp_path, "gc").stdout.startswith("The data of 0 Things")
