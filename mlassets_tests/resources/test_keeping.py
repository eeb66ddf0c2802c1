"""Lake and catalog are kept in step while others read and commit; whatever is interrupted is finished by a rerun."""

import json
import threading
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from mlassets_tests.places import Place
from resources import keeping
from resources.catalog import ATTRIBUTES, MANIFESTS, THINGS, VERDICTS, Catalog
from resources.lake import open_lake
from resources.settings import Settings
from resources.store import Store
from resources.things import BadDraft, DamagedThing, Draft, Partition, SyncReport, UnknownThing
from resources.verdicts import Verdict

EWR = Partition.segment("late-flights", "EWR")
TABLE = pa.table({"delay": [1, 2, 3]})
VERDICT = Verdict("a", "passed", "ERROR", 0.5, "<= 1", 10, "fine", {})


@pytest.fixture
def store(tmp_path: Path, catalog_url: str) -> Store:
    """A store with a local lake, on every kind of catalog."""
    return Store.open(Settings(home=tmp_path, catalog=catalog_url))


def execute(store: Store, statement: sa.Executable) -> None:
    engine = sa.create_engine(store.catalog._database.url)
    with engine.begin() as connection:
        connection.execute(statement)
    engine.dispose()


def count(store: Store, table: sa.Table) -> int:
    engine = sa.create_engine(store.catalog._database.url)
    with engine.begin() as connection:
        query = sa.select(sa.func.count()).select_from(table)
        if table is ATTRIBUTES:  # those that were given; provenance comes with every Thing
            query = query.where(ATTRIBUTES.c.kind.in_(("parameter", "metric")))
        found = connection.execute(query).scalar_one()
    engine.dispose()
    return found


def test_two_catalogs_on_one_lake_adopt_what_the_other_committed(store: Store, tmp_path: Path) -> None:
    other = Store(store.lake, Catalog(f"sqlite:///{tmp_path}/other.db"))
    made = []
    for number in range(6):
        mine, theirs = (store, other) if number % 2 else (other, store)
        made.append(mine.commit("model", EWR, Draft(parameters={"number": number})))
        mine.record_verdicts(made[-1].id, "run", [VERDICT])
        if number == 3:
            mine.retire(made[-1].id, "for the test")
        report = theirs.sync()
        assert (report.things, report.check_runs, report.damaged) == (1, 1, ())
    kept = [thing for number, thing in enumerate(made) if number != 3][::-1]
    assert store.history("model", EWR) == other.history("model", EWR) == kept
    assert [thing.id for thing in kept] == sorted((thing.id for thing in kept), reverse=True)
    assert store.get(made[3].id).retired_at == other.get(made[3].id).retired_at is not None
    store.retire(made[5].id, "for the test")
    assert other.sync() == SyncReport(0, 0, (), 1)
    assert other.latest("model", EWR) == made[4]
    other.catalog.close()


def test_a_retired_thing_is_passed_over_but_not_lost_and_stays_retired(store: Store) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE))
    second = store.commit("model", EWR, Draft(dataset=TABLE, based_on=[first.id]))
    retired = store.retire(second.id, "the data was wrong")
    assert retired == second
    assert retired.retired_at is not None
    assert store.retire(second.id, "again").retired_at == retired.retired_at
    assert (
        json.loads(store.lake.read_bytes(f"{second.folder}/retired.json"))["reason"] == "the data was wrong"
    )
    for _ in range(2):
        assert store.latest("model", EWR) == first
        assert store.history() == [first]
        assert store.latest_of("model") == {EWR: first}
        assert store.get(second.id).retired_at == retired.retired_at
        assert store.get(second.id).table() == TABLE
        assert [edge.thing_id for edge in store.downstream(first.id)] == [second.id]
        assert store.sweep(timedelta(0)) == []
        store.rebuild()
    store.retire(first.id, "the data was wrong too")
    assert store.latest("model", EWR) is None
    assert store.partitions("model") == []
    third = store.commit("model", EWR, Draft(dataset=TABLE))
    assert third.id > second.id
    assert third.files["data.parquet"].path.startswith(third.folder)
    with pytest.raises(UnknownThing):
        store.retire("nonsense", "x")
    with pytest.raises(BadDraft, match="say why"):
        store.retire(third.id, " ")


def test_a_mark_without_its_row_is_adopted_and_a_row_without_its_mark_is_taken_back(store: Store) -> None:
    marked = store.commit("model", EWR, Draft())
    store.retire(marked.id, "for the test")
    execute(store, sa.update(THINGS).values(retired_at=None))
    assert store.sync().retired == 1
    assert store.latest("model", EWR) is None
    store.lake.delete(f"{marked.folder}/retired.json")
    store.rebuild()
    assert store.latest("model", EWR) == marked


def test_a_rebuild_mends_rows_that_are_wrong_and_removes_those_of_nothing(store: Store) -> None:
    things = [store.commit("model", EWR, Draft(parameters={"number": number})) for number in range(3)]
    gone = store.commit("model", EWR, Draft(metrics={"auc": 0.5}))
    for thing in (things[0], gone):
        store.record_verdicts(thing.id, "run", [VERDICT])
    store.lake.delete_folder(gone.folder)
    store.lake.delete_folder(f"verdicts/{gone.id}")
    execute(store, sa.update(THINGS).values(step="nonsense"))
    execute(store, sa.update(MANIFESTS).values(manifest="{}"))
    execute(store, sa.update(VERDICTS).values(status="failed", check_run="nonsense"))
    stray = {"thing_id": "stray", "kind": "metric", "name": "auc", "type": "number", "number": 1.0}
    execute(store, sa.insert(ATTRIBUTES).values(stray))
    report = store.rebuild()
    assert (report.things, report.check_runs, report.damaged) == (3, 1, ())
    assert store.history("model", EWR) == things[::-1]
    assert store.verdicts(things[0].id) == [VERDICT]
    assert count(store, ATTRIBUTES) == 3
    assert count(store, VERDICTS) == 1


class Interrupted(BaseException):
    """Stands for Ctrl-C, or for the end of the process between two batches."""


def test_an_interrupted_rebuild_leaves_whole_things_and_a_rerun_finishes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_BATCH", 2)
    monkeypatch.setattr(keeping.loaded, "__defaults__", (2,))
    things = [
        store.commit("model", EWR, Draft(metrics={"a": number, "b": number}, based_on=[]))
        for number in range(9)
    ]
    for table in (THINGS, ATTRIBUTES):
        execute(store, sa.delete(table))

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        store.rebuild(stop)
    assert store.history() == things[3::-1]
    assert count(store, ATTRIBUTES) == 8
    assert store.rebuild().things == 9
    assert store.history() == things[::-1]
    assert count(store, ATTRIBUTES) == 18


def test_readers_and_writers_go_on_during_a_rebuild_and_lose_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping.loaded, "__defaults__", (5,))
    before = [store.commit("model", EWR, Draft(metrics={"auc": number})) for number in range(30)]
    doomed = before[7]
    made = []
    incomplete = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            made.append(store.commit("model", EWR, Draft(metrics={"auc": 1})))
            store.record_verdicts(made[-1].id, "run", [VERDICT])
            if store.get(doomed.id).retired_at is None:
                store.retire(doomed.id, "for the test")

    def read() -> None:
        while not over.is_set():
            if store.get(before[20].id).metrics != {"auc": 20}:
                incomplete.append(1)

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert store.rebuild().damaged == ()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert made
    assert incomplete == []
    assert store.history() == [*made[::-1], *(thing for thing in before[::-1] if thing != doomed)]
    assert all(store.verdicts(thing.id) == [VERDICT] for thing in made)
    assert count(store, ATTRIBUTES) == len(made) + 30


def test_a_sync_reads_no_record_that_has_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = store.commit("model", EWR, Draft())
    store.record_verdicts(thing.id, "run one", [VERDICT])
    store.retire(thing.id, "for the test")

    def refuse(_lake: object, path: str) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr(type(store.lake), "read_bytes", refuse)
    assert store.sync() == SyncReport(0, 0, ())


def test_a_record_that_lies_in_another_things_folder_is_damaged(store: Store) -> None:
    one, other = (store.commit("model", EWR, Draft()) for _ in range(2))
    store.record_verdicts(one.id, "run", [VERDICT])
    record = store.lake.read_bytes(f"verdicts/{one.id}/run/verdicts.json")
    store.lake.write_bytes(f"verdicts/{other.id}/run/verdicts.json", record)
    for report in (store.sync(), store.rebuild()):
        (line,) = report.damaged
        assert "it belongs to" in line
    assert store.verdicts(other.id) == []


def test_a_copy_of_a_things_folder_elsewhere_does_not_hide_the_thing(store: Store) -> None:
    thing = store.commit("model", EWR, Draft())
    data = store.lake.read_bytes(f"{thing.folder}/thing.json")
    store.lake.write_bytes(f"things/model/project=a/segment=b/{thing.id}/thing.json", data)
    assert len(store.rebuild().damaged) == 1
    assert store.history() == [thing]


def test_sweep_spares_files_that_others_share_though_their_manifest_is_lost(store: Store) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE))
    second = store.commit("model", EWR, Draft(dataset=TABLE))
    store.lake.delete(f"{first.folder}/thing.json")
    store.lake.write_bytes(f"things/model/{EWR.path}/{'0' * 8}/artifacts/x", b"123")
    (entry,) = store.garbage(timedelta(0))
    assert (entry.path.endswith("/x"), entry.size) == (True, 3)
    assert store.sweep(timedelta(0)) == [entry.path]
    assert second.table() == TABLE


def test_a_file_that_is_gone_is_not_pointed_at_again(store: Store) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    for component in first.components:
        store.lake.delete(component.path)
    second = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    assert second.table() == TABLE
    assert second.artifact("a") == b"1"
    assert second.data_version == first.data_version


def test_damage_tells_that_another_version_shares_the_file_and_a_wrong_filter_is_no_damage(
    store: Store,
) -> None:
    import pyarrow.dataset as ds

    first = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    second = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}, parameters={"b": 2}))
    with pytest.raises(pa.ArrowException):
        second.table(filter=ds.field("delay") == pa.scalar([1]))
    Path(first.artifact_path("a")).write_bytes(b"2")
    with pytest.raises(DamagedThing, match="and of the version in whose folder it lies"):
        second.artifact("a")


def test_many_drafts_are_committed_at_once_each_as_if_alone(store: Store) -> None:
    old = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    partitions = [Partition.segment("late-flights", name) for name in ("EWR", "JFK")]
    items = [
        (
            "model",
            partitions[number % 2],
            Draft(dataset=TABLE, parameters={"number": number}, artifacts={"a": b"1"}),
        )
        for number in range(20)
    ]
    made = store.commit_all(items, run_id="run")
    assert [thing.parameters["number"] for thing in made] == list(range(20))
    assert store.history("model", EWR) == [*made[::2][::-1], old]
    assert store.history("model", partitions[1]) == made[1::2][::-1]
    assert all(thing.table() == TABLE and thing.run_id == "run" for thing in made)
    assert made[0].components == old.components
    assert store.verify_all().damaged == ()
    before = store.history()
    assert store.rebuild().things == 21
    assert store.history() == before
    with pytest.raises(BadDraft, match="keys must be text"):
        store.commit_all([*items, ("model", EWR, Draft(parameters={"p": {1: 2}}))])
    assert store.history() == before
    assert store.commit_all([]) == []


def test_the_lake_of_one_home_can_be_read_from_another(tmp_path: Path) -> None:
    first = Store.open(Settings(home=tmp_path / "a"))
    made = first.commit("model", EWR, Draft(dataset=TABLE))
    second = Store(open_lake(str(tmp_path / "a/lake")), Catalog(f"sqlite:///{tmp_path}/b/catalog.db"))
    second.sync()
    assert second.history() == [made]


def test_everything_that_keeps_a_store_works_on_every_lake_and_catalog(place: Place, tmp_path: Path) -> None:
    store = place.open()
    made = store.commit_all(
        ("model", EWR, Draft(dataset=TABLE, artifacts={"a": bytes([number])}, metrics={"auc": number}))
        for number in range(5)
    )
    store.record_verdicts(made[0].id, "run", [VERDICT], b"<p>")
    store.retire(made[1].id, "for the test")
    other = Store(store.lake, Catalog(f"sqlite:///{tmp_path}/other.db"))
    assert other.sync().things == store.rebuild().things == 5
    assert other.history() == store.history() == [made[number] for number in (4, 3, 2, 0)]
    found = store.verify_all(tmp_path / "verify.jsonl")
    assert (found.damaged, found.things, found.check_runs, found.files) == ((), 5, 1, 11)
    path = made[2].artifacts["a"].path
    store.lake.delete(path)
    store.lake.write_bytes(path, b"x")
    store.lake.delete(f"{made[3].folder}/thing.json")
    store.lake.write_bytes(f"things/model/{EWR.path}/{'0' * 8}/artifacts/x", b"123")
    damaged = {one.path: one for one in store.verify_all().damaged}
    assert set(damaged) == {path, f"{made[3].folder}/thing.json"}
    assert damaged[path].things == (made[2].id,)
    assert store.sweep() == []
    assert store.rebuild().things == 4
    assert store.history() == [made[number] for number in (4, 2, 0)]
    other.catalog.close()
