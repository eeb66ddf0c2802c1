"""The store keeps what it was given, whole, unchanged and findable, whatever the names and values are."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.settings import Settings
from resources.things import BadDraft, DamagedThing, Draft, Partition, Store, Thing, UnknownThing, new_id
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
    "é漢字",
    "x" * 300,
    "~",
    "a\nb",
    "con",
    "...",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


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


def test_versions_stay_in_order_when_the_clock_jumps_back() -> None:
    future = "ffffff00-0000-7000-8000-000000000000"
    after = new_id(after=future)
    assert after > future
    assert new_id(after=after) > after


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


def test_a_stream_and_a_table_of_the_same_rows_give_the_same_bytes(store: Store) -> None:
    numbers = np.arange(1_200_000)
    table = pa.table({"a": numbers, "s": pa.array(numbers % 97).cast(pa.string())})
    whole = store.commit("model", EWR, Draft(dataset=table))
    for size in (100_000, 1 << 20, 1_199_999):
        stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size))
        assert store.commit("model", EWR, Draft(dataset=stream)).data_version == whole.data_version


def test_schema_metadata_and_dictionary_columns_survive(store: Store) -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    field = pa.field("c", kind, nullable=False).with_metadata({b"mlassets.role": b"feature"})
    table = pa.table({"c": pa.array(["x", "y", "x"]).cast(kind)}, schema=pa.schema([field], {b"k": b"v"}))
    thing = store.get(store.commit("model", EWR, Draft(dataset=table)).id)
    assert thing.table().schema.equals(table.schema, check_metadata=True)
    assert thing.table().to_pydict() == table.to_pydict()


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_works_and_stays_inside_the_lake(store: Store, tmp_path: Path, name: str) -> None:
    partition = Partition.segment(name, name)
    assert Partition.parse(partition.key) == partition
    made = store.commit("model", partition, Draft(dataset=TABLE, artifacts={name: b"1"}, labels={name: name}))
    store.record_verdicts(made.id, name, [verdict(name)], b"<html>")
    store.rebuild()
    found = store.latest("model", partition)
    assert found == made
    assert made.artifact(name) == b"1"
    assert found is not None
    assert found.partition["segment"] == name
    assert [one.claim for one in store.verdicts(made.id)] == [name]
    assert {path.name for path in tmp_path.iterdir()} <= {
        "lake", "catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.lock"
    }  # fmt: skip
    assert Path(made.artifact_path(name)).resolve().is_relative_to(tmp_path / "lake")


@given(
    st.lists(st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text), min_size=1, max_size=2)
)
def test_partition_keys_tell_any_values_apart(values: list[str]) -> None:
    try:
        partition = Partition(zip(("project", "segment"), values, strict=False))
    except BadDraft:
        return
    assert Partition.parse(partition.key) == partition
    assert partition.key.count("|") == len(values) - 1


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
    report = store.report_path(thing.id)
    assert report is not None
    assert Path(report).read_bytes() == b"<p>one"
    assert store.get(thing.id) == thing
    with pytest.raises(BadDraft, match="run 1"):
        store.record_verdicts(thing.id, "run 1", [verdict("a")])
    with pytest.raises(BadDraft, match="claim"):
        store.record_verdicts(thing.id, "run 3", [verdict("a"), verdict("a")])
    with pytest.raises(UnknownThing):
        store.record_verdicts(new_id(), "run 4", [verdict("a")])


@pytest.mark.parametrize(
    ("draft", "names"),
    [
        (
            Draft(parameters={"when": {"at": [datetime(2026, 1, 1, tzinfo=UTC)]}}),
            r"parameters\['when'\]\['at'\]\[0\]",
        ),
        (Draft(parameters={"p": {1: 2}}), "keys must be text"),
        (Draft(metrics={"auc": "high"}), r"metrics\['auc'\]"),
        (Draft(metrics={"auc": None}), "use nan"),
        (Draft(based_on=["nonsense"]), "nonsense"),
        (Draft(dataset=TABLE, files={"x": Path("x")}), "not both"),
        (Draft(files={"x": Path("/nowhere/x.parquet")}), "/nowhere/x.parquet"),
    ],
)
def test_a_draft_that_cannot_be_stored_is_refused_by_name_and_leaves_nothing(
    store: Store, draft: Draft, names: str
) -> None:
    with pytest.raises(BadDraft, match=names):
        store.commit("model", EWR, draft)
    assert store.history() == []
    assert list(store.lake.files("things")) == []


def test_damaged_files_are_refused_by_name(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"model.skops": b"estimator"}))
    artifact = Path(thing.artifact_path("model.skops"))
    artifact.write_bytes(b"estimatos")
    with pytest.raises(DamagedThing, match=r"artifacts/model\.skops"):
        thing.artifact("model.skops")
    data = Path(store.lake.location(thing.files["data.parquet"].path))
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(DamagedThing, match=r"data\.parquet"):
        thing.table()
    data.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    with pytest.raises(DamagedThing, match=r"data\.parquet"):
        thing.table()
    assert len(store.verify(thing)) == 2
    data.unlink()
    with pytest.raises(DamagedThing, match="missing"):
        thing.table()


def test_a_manifest_cut_short_or_pointing_outside_is_reported_and_the_rest_is_adopted(store: Store) -> None:
    good = store.commit("model", EWR, Draft(dataset=TABLE))
    short = store.commit("model", EWR, Draft(parameters={"a": 1}))
    outside = store.commit("model", EWR, Draft(artifacts={"a": b"1"}))
    newer = store.commit("model", EWR, Draft())
    manifest = Path(store.lake.location(f"{short.folder}/thing.json"))
    manifest.write_bytes(manifest.read_bytes()[:50])
    manifest = Path(store.lake.location(f"{outside.folder}/thing.json"))
    record = json.loads(manifest.read_text())
    record["components"][0]["path"] = "../../../etc/passwd"
    manifest.write_text(json.dumps(record))
    manifest = Path(store.lake.location(f"{newer.folder}/thing.json"))
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99', 1))
    report = store.rebuild()
    assert store.history() == [good]
    assert len(report.damaged) == 3
    assert all("thing.json" in line for line in report.damaged)


def test_the_lake_alone_gives_the_same_answers(store: Store, tmp_path: Path) -> None:
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

    before = answers(store)
    store.catalog.close()
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    fresh = Store.open(Settings(home=tmp_path))
    assert fresh.history() == []
    assert fresh.rebuild().things == 2
    assert answers(fresh) == before
    assert fresh.sync() == type(fresh.sync())(0, 0, ())


def test_unknown_fields_of_a_manifest_survive(store: Store) -> None:
    thing = store.commit("model", EWR, Draft())
    manifest = Path(store.lake.location(f"{thing.folder}/thing.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "embedding": [1, 2]}))
    store.rebuild()
    assert store.get(thing.id).manifest["embedding"] == [1, 2]


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
