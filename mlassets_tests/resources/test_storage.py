"""What a store promises, on every kind of lake with every kind of catalog."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mlassets_tests.places import Place
from resources.store import Store
from resources.things import BadDraft, DamagedThing, Draft, Partition, Thing, UnknownThing, new_id
from resources.verdicts import Verdict

EWR = Partition.segment("late-flights", "EWR")
FLIGHTS = Partition.source("flights")
TABLE = pa.table({"carrier": ["AA", "UA", None], "delay": [1, 2, 3]})
HOSTILE = [
    "a/b",
    "..",
    ".",
    "../../etc",
    "a b",
    'it\'s "q"',
    "a|b",
    "%7C",
    "a+b&c=d?e#f",
    "é漢字",
    "x" * 300,
    "~",
    "a\nb",
    "con",
    "...",
]


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def verdict(claim: str, status: str = "passed", observed: float | None = 0.5) -> Verdict:
    return Verdict(claim, status, "ERROR", observed, "<= 1", 10, "fine", {"at": float("inf")})  # type: ignore[arg-type]


def test_a_committed_thing_reads_back_as_it_was_given(store: Store) -> None:
    started = datetime.now(UTC) - timedelta(seconds=3)
    draft = Draft(
        dataset=TABLE,
        parameters={"seed": np.int64(7), "none": None, "deep": {"a": [1, (2, float("nan"))], "$float": "x"}},
        metrics={"auc": np.float32(0.5), "nan": math.nan, "inf": -math.inf, "count": 3},
        labels={"alias": "champion"},
        artifacts={"model.skops": b"\x00\x01"},
        code_version="2",
        spec_hash="abc",
    )
    made = store.commit("model", EWR, draft, run_id="run", started_at=started)
    found = store.get(made.id)
    for thing in (made, found):
        assert thing.table() == TABLE
        assert thing.artifact("model.skops") == b"\x00\x01"
        assert thing.parameters["seed"] == 7
        assert thing.parameters["none"] is None
        assert math.isnan(thing.parameters["deep"]["a"][1][1])
        assert thing.parameters["deep"]["$float"] == "x"
        assert thing.metrics["auc"] == 0.5
        assert math.isnan(thing.metrics["nan"])
        assert thing.metrics["inf"] == -math.inf
        assert thing.labels == {"alias": "champion"}
        assert (thing.run_id, thing.code_version, thing.spec_hash, thing.rows) == ("run", "2", "abc", 3)
        assert thing.provenance["started_at"] == started.isoformat()
        assert thing.packages()["pyarrow"] == pa.__version__
    assert store.verify(found) == ()


def test_latest_and_history_are_newest_first_and_kept_apart_by_partition(store: Store) -> None:
    other = Partition.segment("late-flights", "JFK")
    things = [store.commit("model", EWR, Draft(parameters={"number": number})) for number in range(5)]
    store.commit("model", other, Draft())
    assert store.latest("model", EWR) == things[-1]
    assert store.history("model", EWR) == things[::-1]
    assert store.history("model", EWR, limit=2) == things[:2:-1]
    assert len(store.history(project="late-flights")) == 6
    assert store.partitions("model") == [EWR, other]
    assert store.latest("draw_data", EWR) is None


def test_equal_bytes_are_stored_once_and_give_an_equal_data_version(store: Store) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"m": b"1", "n": b"2"}))
    second = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"m": b"1", "n": b"3"}))
    third = store.commit(
        "model", EWR, Draft(dataset=TABLE, artifacts={"m": b"1", "n": b"3"}, metrics={"x": 1})
    )
    assert second.files == first.files
    assert second.artifacts["m"] == first.artifacts["m"]
    assert second.artifacts["n"] != first.artifacts["n"]
    assert second.data_version != first.data_version
    assert third.data_version == second.data_version
    assert third.components == second.components
    assert [entry.path for entry in store.lake.files(third.folder)] == [f"{third.folder}/thing.json"]
    assert third.table() == TABLE


def test_a_dataset_of_several_files_points_at_those_that_are_there_and_reads_as_one(
    store: Store, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"a": pa.array([1, 2], pa.int32())}), tmp_path / "january")
    pq.write_table(pa.table({"a": pa.array([2**40], pa.int64()), "b": ["x"]}), tmp_path / "february")
    known = pa.schema([("a", pa.int64()), ("b", pa.string())])
    january = store.commit("sources", FLIGHTS, Draft(files={"jan": tmp_path / "january"}))
    both = store.commit(
        "sources", FLIGHTS, Draft(files={**january.files, "feb": tmp_path / "february"}, schema=known)
    )
    assert both.files["jan"] == january.files["jan"]
    assert both.table().schema == known
    assert both.table().to_pydict() == {"a": [1, 2, 2**40], "b": [None, None, "x"]}
    assert both.table(columns=["b"], filter=ds.field("a") > 2).to_pydict() == {"b": ["x"]}
    assert both.rows == 3
    unified = store.commit("sources", FLIGHTS, Draft(files={**january.files, "feb": tmp_path / "february"}))
    assert unified.schema == known


def test_any_name_works_and_stays_inside_the_lake(store: Store, place: Place, tmp_path: Path) -> None:
    made = []
    for name in HOSTILE:
        partition = Partition.segment(name, name)
        assert Partition.parse(partition.key) == partition
        draft = Draft(dataset=TABLE, artifacts={name: b"1"}, labels={name: name})
        made.append(store.commit("model", partition, draft))
        store.record_verdicts(made[-1].id, name, [verdict(name)], b"<html>")
    store.rebuild()
    for name, thing in zip(HOSTILE, made, strict=True):
        found = store.require("model", Partition.segment(name, name))
        assert found == thing
        assert found.artifact(name) == b"1"
        assert found.table() == TABLE
        assert found.partition["segment"] == name
        assert [one.claim for one in store.verdicts(thing.id)] == [name]
        where = thing.artifact_path(name)
        assert where.startswith(f"{place.settings.lake}/things/model/")
        assert not {".", ".."} & set(where.split("/"))
    assert {path.name for path in tmp_path.iterdir()} <= {
        "lake", "catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"
    }  # fmt: skip


def test_lineage_is_captured_from_what_is_read_and_not_from_what_is_looked_up(store: Store) -> None:
    source = store.commit("sources", FLIGHTS, Draft(dataset=TABLE))
    other = store.commit("sources", Partition.source("weather"), Draft(dataset=TABLE, artifacts={"a": b"1"}))
    unread = store.commit("sources", Partition.source("planes"), Draft(dataset=TABLE))
    with store.recording() as reads:
        store.get(unread.id)
        store.latest("sources", FLIGHTS)
        source.table(columns=["delay"])
        other.artifact("a")
        source.scan()
        drawn = store.commit("draw_data", EWR, Draft(dataset=TABLE))
    assert list(reads) == [source.id, other.id]
    assert drawn.based_on == (source.id, other.id)
    model = store.commit("model", EWR, Draft(based_on=[drawn.id]))
    assert [(edge.based_on, edge.depth) for edge in store.upstream(model.id)] == [
        (drawn.id, 1),
        (source.id, 2),
        (other.id, 2),
    ]
    assert [edge.thing_id for edge in store.downstream(source.id)] == [drawn.id, model.id]
    assert [edge.thing_id for edge in store.downstream(source.id, depth=1)] == [drawn.id]


def test_the_newest_verdict_of_every_claim_counts(store: Store) -> None:
    thing = store.commit("model", EWR, Draft())
    store.record_verdicts(thing.id, "run 1", [verdict("a"), verdict("b", observed=math.nan)], b"<p>one")
    store.record_verdicts(thing.id, "run 2", [verdict("a", "failed")])
    assert [(one.claim, one.status) for one in store.verdicts(thing.id)] == [("a", "failed"), ("b", "passed")]
    assert store.verdicts(thing.id)[0].details == {"at": math.inf}
    assert store.report(thing.id) == b"<p>one"
    assert store.get(thing.id) == thing
    with pytest.raises(BadDraft, match="run 1"):
        store.record_verdicts(thing.id, "run 1", [verdict("a")])
    with pytest.raises(BadDraft, match="claim"):
        store.record_verdicts(thing.id, "run 3", [verdict("a"), verdict("a")])
    with pytest.raises(UnknownThing):
        store.record_verdicts(new_id(), "run 4", [verdict("a")])


def test_damaged_files_are_refused_by_name(store: Store, place: Place) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"model.skops": b"estimator"}))
    place.replace(thing.artifacts["model.skops"].path, b"estimatos")
    with pytest.raises(DamagedThing, match=r"artifacts/model\.skops"):
        thing.artifact("model.skops")
    data = thing.files["data.parquet"].path
    whole = place.bytes_at(data)
    place.replace(data, whole[:-1])
    with pytest.raises(DamagedThing, match=r"data\.parquet"):
        thing.table()
    place.replace(data, bytes([*whole[:-1], whole[-1] ^ 1]))
    with pytest.raises(DamagedThing, match=r"data\.parquet"):
        thing.table()
    assert len(store.verify(thing)) == 2
    place.remove(data)
    with pytest.raises(DamagedThing, match="missing"):
        thing.table()
    assert any("missing" in problem for problem in store.verify(thing))


def test_a_manifest_cut_short_or_pointing_outside_is_reported_and_the_rest_is_adopted(
    store: Store, place: Place
) -> None:
    good = store.commit("model", EWR, Draft(dataset=TABLE))
    short = store.commit("model", EWR, Draft(parameters={"a": 1}))
    outside = store.commit("model", EWR, Draft(artifacts={"a": b"1"}))
    newer = store.commit("model", EWR, Draft())
    manifests = [f"{thing.folder}/thing.json" for thing in (short, outside, newer)]
    place.replace(manifests[0], place.bytes_at(manifests[0])[:50])
    record = json.loads(place.bytes_at(manifests[1]))
    record["components"][0]["path"] = "../../../etc/passwd"
    place.replace(manifests[1], json.dumps(record).encode())
    place.replace(manifests[2], place.bytes_at(manifests[2]).replace(b'"schema": 1', b'"schema": 99', 1))
    report = store.rebuild()
    assert store.history() == [good]
    assert len(report.damaged) == 3
    assert all(any(path in line for line in report.damaged) for path in manifests)
    assert good.table() == TABLE


def test_the_lake_alone_gives_the_same_answers(store: Store, place: Place, tmp_path: Path) -> None:
    source = store.commit("sources", FLIGHTS, Draft(dataset=TABLE))
    with store.recording():
        source.table()
        drawn = store.commit("draw_data", EWR, Draft(dataset=TABLE, metrics={"nan": math.nan}))
    store.record_verdicts(drawn.id, "run", [verdict("b"), verdict("a")], b"<p>")

    def answers(asked: Store) -> object:
        return (
            [repr(thing.manifest) for thing in asked.history()],
            asked.partitions("draw_data"),
            asked.upstream(drawn.id),
            asked.downstream(source.id),
            asked.verdicts(drawn.id),
            asked.report_path(drawn.id),
        )

    # Another catalog on the same lake, which knows nothing yet; the first one goes on as before.
    fresh = Store.open(place.settings.model_copy(update={"catalog": f"sqlite:///{tmp_path}/another.db"}))
    assert fresh.history() == []
    assert fresh.rebuild().things == 2
    assert answers(fresh) == answers(store)
    assert fresh.sync() == type(fresh.sync())(0, 0, ())
    third = fresh.commit("draw_data", EWR, Draft(dataset=TABLE))
    assert store.latest("draw_data", EWR) == drawn
    assert store.sync().things == 1
    assert store.latest("draw_data", EWR) == third
    assert answers(fresh) == answers(store)


def test_sweep_spares_what_is_young_or_committed(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    store.record_verdicts(thing.id, "run", [verdict("a")], b"<p>")
    garbage = [
        f"things/model/{EWR.path}/{new_id()}/artifacts/x",
        f"verdicts/{thing.id}/run%202/report.html",
        "tmp/0123",
    ]
    for path in garbage:
        store.lake.write_bytes(path, b"1")
    assert store.sweep() == []
    assert store.sweep(timedelta(0)) == sorted(garbage)
    assert store.sweep(timedelta(0)) == []
    assert store.verify(thing) == ()
    assert store.rebuild() == type(store.sync())(1, 1, ())


def test_what_is_not_there_is_named(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE))
    bare = store.commit("review", Partition.project("late-flights"), Draft())
    with pytest.raises(UnknownThing, match="no column"):
        thing.table(columns=["dleay"])
    with pytest.raises(UnknownThing, match="no dataset"):
        bare.table()
    with pytest.raises(UnknownThing, match="no artifact 'x'"):
        thing.artifact("x")
    with pytest.raises(UnknownThing, match="catalog sync"):
        store.get(new_id())
    with pytest.raises(UnknownThing, match="late-flights has no publish"):
        store.require("publish", Partition.project("late-flights"))


def test_empty_and_wide_datasets_keep_their_schema(store: Store) -> None:
    empty = pa.table({"a": pa.array([], pa.timestamp("us", "UTC")), "b": pa.array([], pa.list_(pa.int8()))})
    wide = pa.table({f"c{number}": [number] for number in range(2000)})
    for table in (empty, wide):
        thing: Thing = store.get(store.commit("model", EWR, Draft(dataset=table)).id)
        assert thing.table() == table
        assert thing.schema == table.schema


def test_scans_read_only_the_columns_and_rows_that_are_asked_for(store: Store) -> None:
    table = pa.table({"a": range(1000), "b": [str(number % 7) for number in range(1000)], "c": [0.5] * 1000})
    thing = store.commit("model", EWR, Draft(dataset=table))
    some = thing.table(columns=["b"], filter=(ds.field("a") >= 990) & (ds.field("b") == "5"))
    assert some.to_pydict() == {"b": ["5", "5"]}
    assert thing.scan().count_rows(filter=ds.field("a") < 10) == 10
    assert thing.table(columns=[]).num_rows == 1000


def test_many_versions_are_listed_limited_and_adopted(store: Store) -> None:
    made = [store.commit("model", EWR, Draft(parameters={"number": number})) for number in range(60)]
    assert store.history("model", EWR) == made[::-1]
    assert store.history("model", EWR, limit=7) == made[:-8:-1]
    assert sorted(thing.id for thing in made) == [thing.id for thing in made]
    assert store.rebuild().things == 60
    assert store.history("model", EWR) == made[::-1]


def test_large_and_empty_things_come_back_whole(store: Store, tmp_path: Path) -> None:
    # Above the size from which S3 takes an object in parts only.
    large = np.random.default_rng(1).bytes(17 << 20)
    tmp_path.joinpath("large").write_bytes(large)
    numbers = pa.table({"n": np.random.default_rng(2).random(2_500_000)})
    thing = store.commit(
        "model",
        EWR,
        Draft(dataset=numbers, artifacts={"large": tmp_path / "large", "also": large, "none": b""}),
    )
    assert thing.artifact("large") == thing.artifact("also") == large
    assert thing.artifact("none") == b""
    assert thing.table() == numbers
    assert store.verify(thing) == ()
    bare = store.commit("model", EWR, Draft())
    assert (bare.components, bare.schema, bare.rows) == ((), None, None)
    no_columns = store.commit("model", EWR, Draft(dataset=pa.table({})))
    assert store.get(no_columns.id).table() == pa.table({})


def test_verdicts_and_reports_without_rows_are_adopted(store: Store, place: Place, tmp_path: Path) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE))
    store.record_verdicts(thing.id, "run 1", [verdict("a")], b"<p>one")
    other = Store.open(place.settings.model_copy(update={"catalog": f"sqlite:///{tmp_path}/another.db"}))
    report = other.sync()
    assert (report.things, report.check_runs, report.damaged) == (1, 1, ())
    assert other.verdicts(thing.id) == store.verdicts(thing.id)
    assert other.report(thing.id) == b"<p>one"


def test_a_retired_version_is_passed_over_for_ever_and_stays_readable(
    store: Store, place: Place, tmp_path: Path
) -> None:
    kept, retired = (store.commit("model", EWR, Draft(dataset=TABLE, labels={"n": n})) for n in ("1", "2"))
    store.retire(retired.id, "trained on the wrong month")
    other = Store.open(place.settings.model_copy(update={"catalog": f"sqlite:///{tmp_path}/another.db"}))
    other.sync()
    for asked in (store, other):
        assert asked.latest("model", EWR) == kept
        assert asked.history() == [kept]
        assert asked.get(retired.id).table() == TABLE
        assert asked.rebuild().damaged == ()
        assert asked.history() == [kept]
    newer = store.commit("model", EWR, Draft(dataset=TABLE))
    assert newer.id > retired.id
    assert store.history() == [newer, kept]


def test_many_drafts_are_committed_at_once_and_all_verified(store: Store, place: Place) -> None:
    partitions = [Partition.segment("p", str(number)) for number in range(4)]
    made = store.commit_all(
        (
            "model",
            partitions[number % 4],
            Draft(parameters={"n": number}, artifacts={"a": str(number).encode()}),
        )
        for number in range(20)
    )
    assert store.history() == made[::-1]
    assert [thing.parameters["n"] for thing in store.history("model", partitions[1])] == [17, 13, 9, 5, 1]
    whole = store.verify_all()
    assert (whole.things, whole.damaged) == (20, ())
    place.replace(made[3].artifacts["a"].path, b"x")
    place.remove(made[4].artifacts["a"].path)
    manifest = f"{made[5].folder}/thing.json"
    place.replace(manifest, place.bytes_at(manifest)[:-5])
    damaged = {one.path for one in store.verify_all().damaged}
    assert damaged == {made[3].artifacts["a"].path, made[4].artifacts["a"].path, manifest}
