"""Bundles: loaded in one line without a home, they predict raw rows as they were released, or refuse clearly."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import mlassets
from mlassets.modelling.features import make_model_ready, prepare_rows
from mlassets.modelling.training import train
from mlassets.projects import ProjectSpec
from mlassets.releasing.bundles import BadBundle, Bundle, OtherPackages, UnknownSegment, UnusableRows
from mlassets.releasing.release import bundle_of, round_trip_error
from mlassets_tests.modelling.drawn import departures
from resources.estimators import UntrustedModel
from resources.lake import hash_bytes
from resources.roles import ROW_KEY, SPLIT
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing

OFFLINE = """
import sys
import pyarrow.parquet as pq
import mlassets
rows = pq.read_table(sys.argv[2])
pq.write_table(mlassets.load_release(sys.argv[1]).predict(rows, segment="EWR"), sys.argv[3])
heavy = {"dagster", "deepchecks", "optuna", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def drawn(rows: int = 300, seed: int = 0) -> pa.Table:
    """Departures with columns of every type that a draw may have, nulls among them."""
    rng = np.random.default_rng(seed)
    table = departures(rows, seed)

    def gaps(values: Any, kind: pa.DataType | None = None) -> pa.Array:
        return pa.array(values, type=kind, mask=rng.random(rows) < 0.05)

    stamps = np.datetime64("2013-03-01T00:00:00", "us") + rng.integers(0, 9_000_000, rows).astype(
        "timedelta64[s]"
    )
    more = {
        "id": pa.array([f"F{number}" for number in range(rows)]),
        "seats": gaps(rng.integers(20, 300, rows), pa.int32()),
        "price": gaps(np.round(rng.random(rows) * 100, 2)).cast(pa.decimal128(10, 2), safe=False),
        "plane": gaps(rng.choice(["A320", "B737"], rows)).dictionary_encode(),
        "day": gaps(stamps.astype("datetime64[D]")),
        "landed": gaps(stamps, pa.timestamp("us", "Europe/Berlin")),
        "took": gaps(rng.integers(1000, 9000, rows), pa.int64()).cast(pa.duration("s")),
        "gate": gaps(rng.integers(1, 9, rows), pa.int8()),
    }
    for name, values in more.items():
        table = table.append_column(name, values)
    late = pa.array(table["late"].to_pylist(), mask=rng.random(rows) < 0.04)
    return table.set_column(table.column_names.index("late"), "late", late)


@dataclass
class Released:
    """One segment's draw, its model and the bundle of it."""

    store: Store
    draw: pa.Table
    model: Thing
    models: dict[str, Thing]
    data: bytes
    predictions: pa.Table

    @property
    def bundle(self) -> Bundle:
        return mlassets.load_release(self.data)

    @property
    def tested(self) -> pa.Table:
        """The raw rows that the released predictions are of, in their order."""
        keys = self.predictions[ROW_KEY]
        return self.draw.take(pc.index_in(keys, value_set=self.draw["id"].combine_chunks()))


def release(home: Path, target: str, task: Any, key: tuple[str, ...] = ("id",)) -> Released:
    store, draw, partition = Store.open(Settings(home=home)), drawn(), Partition.segment("late", "EWR")
    spec = ProjectSpec.model_validate(
        {
            "project": "late",
            "sources": {"flights": "landing/flights/*"},
            "segments": ["EWR"],
            "draw": {"sql": "SELECT * FROM flights WHERE origin = $segment"},
            "target": {"column": target, "task": task},
            "key": list(key),
        }
    )
    drop = [name for name in ("late", "delay", "cause") if name != target]
    made = make_model_ready(
        draw,
        target=target,
        task=task,
        key=key,
        drop=drop,
        kinds={"gate": "categorical"},
        test=0.4,
        validation=0.2,
    )
    drawn_thing = store.commit("draw_data", partition, Draft(dataset=draw))
    ready = store.commit(
        "model_ready",
        partition,
        Draft(dataset=made.table, parameters=made.parameters, based_on=[drawn_thing.id]),
    )
    metric = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[task]
    trained = train(made.table, task=task, candidates=["linear"], metric=metric, trials=1, seconds=60, seed=0)
    model = store.commit(
        "model",
        partition,
        Draft(dataset=trained.predictions, artifacts=trained.artifacts, based_on=[ready.id]),
    )
    models = {"EWR": model}
    predictions = model.table().add_column(0, "segment", pa.array(["EWR"] * (model.rows or 0)))
    return Released(store, draw, model, models, bundle_of(store, spec, models), predictions)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return release(tmp_path_factory.mktemp("binary"), "late", "binary")


def same(predicted: pa.Table, released: pa.Table) -> bool:
    """Whether predictions equal the released ones, bit for bit."""
    return all(
        predicted[name].combine_chunks().equals(released[name].combine_chunks())
        for name in predicted.column_names
    )


def test_raw_rows_are_predicted_as_they_were_released(binary: Released) -> None:
    predicted = binary.bundle.predict(binary.tested, segment="EWR")
    assert predicted.column_names == ["row_key", "prediction", "probability"]
    assert same(predicted, binary.predictions)
    assert round_trip_error(binary.store, binary.data, binary.models, binary.predictions) == 0


@pytest.mark.parametrize(("target", "task"), [("cause", "multiclass"), ("delay", "regression")])
def test_every_task_makes_the_round_trip_with_and_without_a_key(
    tmp_path: Path, target: str, task: str
) -> None:
    made = release(tmp_path, target, task, key=() if task == "regression" else ("id", "gate"))
    assert round_trip_error(made.store, made.data, made.models, made.predictions) == 0
    changed = pc.if_else(pc.equal(made.draw["plane"].cast(pa.string()), "A320"), "B737", "A320")
    other = made.draw.set_column(made.draw.column_names.index("plane"), "plane", changed)
    assert not made.bundle.predict(made.draw).equals(made.bundle.predict(other))


def test_a_fresh_process_without_a_home_predicts_the_same_bit_for_bit(
    binary: Released, tmp_path: Path
) -> None:
    (tmp_path / "bundle.zip").write_bytes(binary.data)
    pq.write_table(binary.tested, tmp_path / "rows.parquet")
    away = tmp_path / "away"
    away.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLASSETS")}
    script = [sys.executable, "-W", "error::UserWarning", "-c", OFFLINE]
    given = [str(tmp_path / name) for name in ("bundle.zip", "rows.parquet", "predicted.parquet")]
    ended = subprocess.run(
        [*script, *given],
        cwd=away,
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert same(pq.read_table(tmp_path / "predicted.parquet"), binary.predictions)
    assert list(away.iterdir()) == []


def test_features_are_prepared_again_exactly_as_model_ready_made_them(binary: Released) -> None:
    made = make_model_ready(binary.draw, target="late", task="binary", key=["id"], drop=["delay", "cause"])
    valid = binary.draw.filter(binary.draw["late"].is_valid())
    again = prepare_rows(valid, transformations=made.parameters["transformations"], key=["id"])
    assert again.schema.equals(made.table.drop(["late", SPLIT]).schema, check_metadata=True)
    assert again.equals(made.table.drop(["late", SPLIT]))
    assert {"landed.hour", "day.month", "took", "price"} <= set(again.column_names)


def test_pandas_and_polars_come_back_as_they_went_in(binary: Released) -> None:
    rows, expected = binary.tested, binary.bundle.predict(binary.tested)
    frame = rows.to_pandas().set_index(pd.Index(range(100, 100 + rows.num_rows)))
    predicted = binary.bundle.predict(frame)
    assert isinstance(predicted, pd.DataFrame)
    assert predicted.index.equals(frame.index)
    assert predicted["probability"].to_list() == expected["probability"].to_pylist()
    for polar in (pl.from_arrow(rows), pl.from_arrow(rows).lazy()):  # type: ignore[union-attr]
        found = binary.bundle.predict(polar)
        assert isinstance(found, pl.DataFrame)
        assert found["probability"].to_list() == expected["probability"].to_pylist()
    batches = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=7))
    assert binary.bundle.predict(batches).equals(expected)


def test_a_bundle_says_what_it_is_and_what_it_reads(binary: Released, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(binary.data)
    with path.open("rb") as file:
        bundles = [mlassets.load_release(given) for given in (path, str(path), file, binary.data)]
    for bundle in bundles:
        assert (bundle.project, bundle.segments, bundle.target, bundle.task) == (
            "late",
            ("EWR",),
            "late",
            "binary",
        )
        columns = bundle.columns("EWR")
        assert columns["seats"] == pa.int32()
        assert not {"late", "delay", "cause", "id"} & set(columns)


def test_rows_without_the_target_with_more_columns_and_in_any_order_are_fine(binary: Released) -> None:
    expected = binary.bundle.predict(binary.tested)
    rows = binary.tested.drop(["late", "delay", "cause"]).append_column(
        "note", pa.array(["x"] * binary.tested.num_rows)
    )
    assert binary.bundle.predict(rows.select(rows.column_names[::-1])).equals(expected)
    without_key = binary.bundle.predict(rows.drop(["id"]))
    assert without_key[ROW_KEY].to_pylist() == [str(number) for number in range(rows.num_rows)]
    assert without_key.drop([ROW_KEY]).equals(expected.drop([ROW_KEY]))


def test_a_missing_column_is_named_and_a_null_is_a_missing_value(binary: Released) -> None:
    with pytest.raises(
        UnusableRows, match=r"the rows lack wind, carrier, which the model of EWR reads; they have"
    ):
        binary.bundle.predict(binary.tested.drop(["wind", "carrier"]))
    with pytest.raises(UnusableRows, match="the rows lack"):
        binary.bundle.predict(pd.DataFrame())
    nothing = pa.table({name: pa.nulls(3, kind) for name, kind in binary.bundle.columns().items()})
    probability = binary.bundle.predict(nothing)["probability"].to_pylist()
    # Rows are not multiplied one by one: the last bit may depend on the rows beside them.
    assert probability == pytest.approx([probability[0]] * 3, abs=1e-12)
    assert 0 <= probability[0] <= 1


def test_no_row_and_one_row_are_predicted(binary: Released) -> None:
    expected = binary.bundle.predict(binary.tested)
    assert binary.bundle.predict(binary.tested.slice(0, 0)).equals(expected.slice(0, 0))
    one = binary.bundle.predict(binary.tested.slice(3, 1))
    assert one.num_rows == 1
    assert one["probability"][0].as_py() == pytest.approx(expected["probability"][3].as_py(), abs=1e-12)


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_a_category_that_was_never_seen_counts_as_a_rare_one(binary: Released) -> None:
    rows = binary.tested
    for name in ("carrier", "plane"):
        unseen = pa.array([f"never seen {number}" for number in range(rows.num_rows)])
        predicted = binary.bundle.predict(replaced(rows, name, unseen))
        assert pc.all(pc.is_finite(predicted["probability"])).as_py()


LOSSLESS: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    "seats": lambda column: column.cast(pa.float64()),
    "gate": lambda column: column.cast(pa.string()),
    "wind": lambda column: pa.array([None if v is None else repr(v) for v in column.to_pylist()]),
    "plane": lambda column: column.cast(pa.string()),
    "carrier": lambda column: column.combine_chunks().dictionary_encode(),
    "time": lambda column: column.cast(pa.timestamp("ns")),
    "landed": lambda column: column.cast(pa.timestamp("ns", "UTC")),
    "day": lambda column: column.cast(pa.string()),
    "price": lambda column: column.cast(pa.string()),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_values_of_another_type_that_say_the_same_predict_the_same(binary: Released, name: str) -> None:
    rows = replaced(binary.tested, name, LOSSLESS[name](binary.tested[name]))
    assert rows.schema.field(name).type != binary.tested.schema.field(name).type
    predicted = binary.bundle.predict(rows)
    assert same(predicted, binary.predictions)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("wind", "strong", "'wind' holds string and cannot be read as double, which it was in the draw"),
        ("seats", 12.5, "'seats' holds double and cannot be read as int32"),
        ("gate", 1000, "'gate' holds int64 and cannot be read as int8"),
        ("rain", "perhaps", "'rain' holds string and cannot be read as bool"),
        ("time", "yesterday", "'time' holds string and cannot be read as timestamp"),
        (
            "time",
            datetime(2026, 1, 1, tzinfo=UTC),
            "times in the zone UTC, and in the draw they were without one",
        ),
        (
            "landed",
            datetime(2026, 1, 1),
            "times without a time zone, and in the draw they were in the zone Europe",
        ),
        ("wind", {"a": 1}, "'wind' holds struct<a: int64> and cannot be read as double"),
    ],
)
def test_values_that_cannot_be_read_as_in_the_draw_are_refused(
    binary: Released, name: str, value: object, says: str
) -> None:
    rows = replaced(binary.tested, name, pa.array([value] * binary.tested.num_rows))
    with pytest.raises(UnusableRows) as caught:
        binary.bundle.predict(rows)
    assert says in str(caught.value)


def test_what_is_no_table_is_refused(binary: Released) -> None:
    for rows in ([1, 2], {"wind": [1.0]}, "rows.csv", pd.Series([1.0])):
        with pytest.raises(UnusableRows, match=f"not a {type(rows).__name__}"):
            binary.bundle.predict(rows)
    mixed = binary.tested.to_pandas().head(2).assign(wind=["1", 2.0])
    with pytest.raises(UnusableRows, match="column wind"):
        binary.bundle.predict(mixed)
    twice = pd.concat([binary.tested.to_pandas()] * 2, axis=1)
    with pytest.raises(UnusableRows, match="twice; keep one"):
        binary.bundle.predict(twice)


def test_a_segment_must_be_one_that_the_bundle_has(binary: Released) -> None:
    for segment in ("JFK", "", "EWR "):
        with pytest.raises(UnknownSegment, match=f"no model of {segment!r}; it has EWR"):
            binary.bundle.predict(binary.tested, segment)
    assert binary.bundle.predict(binary.tested).num_rows == binary.tested.num_rows


def rewritten(data: bytes, changes: dict[str, bytes | None], about: dict[str, Any] | None = None) -> bytes:
    """A bundle with some of its files replaced or left out, and some fields of release.json."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if about is not None:
        files["release.json"] = json.dumps({**json.loads(files["release.json"]), **about}).encode()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in {**files, **changes}.items():
            if content is not None:
                archive.writestr(name, content)
    return sink.getvalue()


def test_what_is_no_bundle_is_refused_when_it_is_loaded(binary: Released, tmp_path: Path) -> None:
    model = "segments/0/model.skops"
    (segment,) = binary.bundle.about["segments"]
    wind = {"wind": {"from": "wind", "kind": "code", "how": "as it is"}}
    lacking: list[dict[str, Any]] = [
        {"hash": None},
        {"prepare": None},
        {"prepare": {}},
        {"prepare": {**segment["prepare"], "schema": "AAAA"}},
        {"prepare": {**segment["prepare"], "key": ["other key"]}},
        {"prepare": {**segment["prepare"], "transformations": wind}},
        {"prepare": {**segment["prepare"], "transformations": ["wind"]}},
    ]
    foreign = [
        b"",
        b"not a zip file",
        binary.data[: len(binary.data) // 2],
        rewritten(binary.data, {"release.json": None}),
        rewritten(binary.data, {"release.json": b"{"}),
        rewritten(binary.data, {"release.json": b"[]"}),
        rewritten(binary.data, {"release.json": b'{"project": "late"}'}),
        rewritten(binary.data, {model: None}),
        rewritten(binary.data, {}, {"segments": [{"segment": "EWR"}]}),
        rewritten(binary.data, {}, {"target": {"column": "late", "task": "guess"}}),
        *(rewritten(binary.data, {}, {"segments": [{**segment, **change}]}) for change in lacking),
    ]
    for data in foreign:
        with pytest.raises(BadBundle, match="the bundle is no bundle of a release, or is damaged"):
            mlassets.load_release(data)
    with pytest.raises(BadBundle, match="format 3, newer than this mlassets knows"):
        mlassets.load_release(rewritten(binary.data, {}, {"format": 3}))
    with pytest.raises(BadBundle, match=r"none.zip cannot be read: No such file"):
        mlassets.load_release(tmp_path / "none.zip")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_model_that_was_exchanged_is_never_loaded_and_nothing_is_unpickled(
    binary: Released, tmp_path: Path
) -> None:
    model, sprung = "segments/0/model.skops", tmp_path / "sprung"
    evil = pickle.dumps(Trap(sprung))
    bundle = mlassets.load_release(rewritten(binary.data, {model: evil}))
    with pytest.raises(
        BadBundle, match=r"model.skops in the bundle is not what was published: .* not loaded"
    ):
        bundle.predict(binary.tested)
    # Whoever can write the file can write its hash, too; the allow-list is what holds then.
    about = json.loads(zipfile.ZipFile(io.BytesIO(binary.data)).read("release.json"))
    schema = zipfile.ZipFile(io.BytesIO(zipfile.ZipFile(io.BytesIO(binary.data)).read(model))).read(
        "schema.json"
    )
    foreign = rewritten(
        zipfile.ZipFile(io.BytesIO(binary.data)).read(model),
        {"schema.json": schema.replace(b"LogisticRegression", b"SGDClassifier")},
    )
    for content in (evil, foreign):
        about["segments"][0]["hash"] = hash_bytes(content)
        bundle = mlassets.load_release(rewritten(binary.data, {model: content}, about))
        with pytest.raises(UntrustedModel):
            bundle.predict(binary.tested)
    assert not sprung.exists()


def test_a_bundle_of_an_older_version_takes_model_ready_rows_only(binary: Released) -> None:
    about = json.loads(zipfile.ZipFile(io.BytesIO(binary.data)).read("release.json"))
    segments = [{name: one[name] for name in ("segment", "model", "file")} for one in about["segments"]]
    old = rewritten(binary.data, {}, {"segments": segments, "format": 1})
    with pytest.raises(BadBundle, match="older mlassets and takes model-ready rows only"):
        mlassets.load_release(old).predict(binary.tested)
    assert round_trip_error(binary.store, old, binary.models, binary.predictions) == 0


def test_other_versions_of_the_packages_that_decide_are_told(binary: Released) -> None:
    other = rewritten(binary.data, {}, {"packages": {"scikit-learn": "0.1", "numpy": np.__version__}})
    with pytest.warns(OtherPackages, match=r"published with scikit-learn 0.1 \(here 1"):
        assert mlassets.load_release(other).predict(binary.tested).num_rows
