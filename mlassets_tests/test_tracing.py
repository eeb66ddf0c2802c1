"""One published prediction leads back to the bytes that landed."""

import json
import re
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from blake3 import blake3

from mlassets.assets.aggregate import aggregate
from mlassets.assets.draw_data import draw_data
from mlassets.assets.model import model
from mlassets.assets.model_ready import model_ready
from mlassets.assets.sources import sources
from mlassets.home import Home
from mlassets.projects import load_project
from mlassets.releasing.release import make_release
from mlassets.tracing import NoSuchRow, as_written, trace
from mlassets_tests.small_homes import departures, land, mlassets, new_home, store_of
from resources.io_managers import ThingIOManager
from resources.store import Store
from resources.things import Draft, Partition, Thing

DRAW = """
    SELECT id, CAST(wind AS FLOAT) AS wind, upper(carrier) AS carrier, late, station
    FROM flights JOIN stations USING (origin) WHERE origin = $segment
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released project whose rows landed in three files of flights and two of stations; nothing is judged."""
    folder = tmp_path_factory.mktemp("traced")
    new_home(
        folder,
        departures(rows=60),
        sources={"flights": "landing/flights/*", "stations": "landing/stations/*"},
        draw={"sql": DRAW},
        segments=["EWR", "JFK"],
        model={"candidates": ["baseline"], "metric": "roc_auc"},
    )
    land(folder, "flights/2013-02.csv", departures(rows=60, seed=1, first_id=1000))
    land(folder, "flights/2013-03 é.csv", departures(rows=60, seed=2, first_id=2000))
    land(folder, "stations/a.csv", [{"origin": "EWR", "station": 7}, {"origin": "JFK", "station": 8}])
    land(folder, "stations/b.csv", [{"origin": "XXX", "station": 9}])
    make(folder, [sources], "flights", "stations")
    make(folder, [draw_data, model_ready, model], "late|EWR", "late|JFK")
    make(folder, [aggregate], "late")
    store, late = store_of(folder), Partition.project("late")
    found = store.require("aggregate", late)
    decision = {"decision": "approve", "decided_by": "rules", "comment": "", "aggregate": found.id}
    review = store.commit("review", late, Draft(parameters=decision, based_on=[found.id]))
    with store.recording():
        released = make_release(store, review, load_project(folder / "projects" / "late.yaml"))
        store.commit(
            "publish",
            late,
            Draft(dataset=released.predictions, parameters=released.parameters, based_on=[review.id]),
        )
    return folder


def make(folder: Path, steps: list[dg.AssetsDefinition], *partitions: str) -> None:
    """Run steps as Dagster does, without their checks."""
    resources = {"home": Home(home=str(folder)), "things": ThingIOManager(home=str(folder))}
    with dg.instance_for_test() as instance:
        if steps != [sources]:
            for name in ("project", "segment"):
                instance.add_dynamic_partitions(name, ["late"] if name == "project" else ["EWR", "JFK"])
        else:
            instance.add_dynamic_partitions("source", list(partitions))
        for partition in partitions:
            for step in steps:
                every = [draw_data, model_ready, model, aggregate, sources]
                result = dg.materialize(
                    every, selection=[step], partition_key=partition, resources=resources, instance=instance
                )
                assert result.success


@pytest.fixture(scope="module")
def store(home: Path) -> Store:
    return store_of(home)


@pytest.fixture(scope="module")
def release(store: Store) -> Thing:
    return store.require("publish", Partition.project("late"))


def test_a_published_row_leads_back_to_the_hashes_of_the_files_that_hold_it(
    home: Path, store: Store, release: Thing
) -> None:
    rows = release.table().to_pylist()
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        traced = trace(store, "late", {"id": row["row_key"]})
        assert traced.gaps == []
        assert traced.predictions == [row]
        assert traced.segment == row["segment"]
        assert [one["id"] for one in traced.drawn] == [int(row["row_key"])]
        name = {0: "2013-01", 1: "2013-02", 2: "2013-03 é"}[int(row["row_key"]) // 1000]
        flights, stations = traced.sources
        assert [file.name for file in flights.files] == [f"flights/{name}.csv"]
        assert flights.of == 3
        landed = (home / "landing" / "flights" / f"{name}.csv").read_bytes()
        assert flights.files[0].hash == blake3(landed).hexdigest()
        assert flights.files[0].matching == 1
        assert [file.name for file in stations.files] == ["stations/a.csv"]


@pytest.mark.parametrize(
    ("text", "kind", "written"),
    [
        ("2013-04-01T05:00", pa.timestamp("us"), "2013-04-01 05:00:00.000000"),
        ("2013-04-01T05:00", pa.timestamp("us", "UTC"), "2013-04-01 05:00:00.000000Z"),
        ("2013-04-01T05:00+02:00", pa.timestamp("us", "UTC"), "2013-04-01 03:00:00.000000Z"),
        ("007", pa.int64(), "7"),
        ("seven", pa.int64(), "seven"),
        ("AA", pa.dictionary(pa.int32(), pa.string()), "AA"),
    ],
)
def test_a_value_of_a_key_is_read_as_its_column_is(text: str, kind: pa.DataType, written: str) -> None:
    assert as_written(text, kind) == written


def test_every_step_on_the_way_is_named(store: Store, release: Thing) -> None:
    traced = trace(store, "late", {"row_key": release.table()["row_key"][0].as_py()})
    assert list(traced.things) == ["publish", "review", "aggregate", "model", "model_ready", "draw_data"]
    ids = [one.id for one in store.lineage(release.id, downstream=False).nodes]
    assert set(traced.things.values()) <= set(ids)
    assert {one.thing_id for one in traced.sources} <= set(ids)
    assert [store.get(one).step for one in traced.things.values()] == list(traced.things)


def test_a_row_that_is_not_published_is_an_error_that_says_what_is(store: Store, release: Thing) -> None:
    for row, says in (
        ({"id": "99999"}, "publishes no prediction for the key '99999'"),
        ({"segment": "LAX", "id": "1"}, "has no segment 'LAX'; it has EWR, JFK"),
        ({"flight": "1"}, "named by id, not by flight; give --row id="),
    ):
        with pytest.raises(NoSuchRow, match=says):
            trace(store, "late", row)
    with pytest.raises(NoSuchRow, match="no release"):
        trace(store, "never", {"id": "1"})
    with pytest.raises(NoSuchRow, match="is no release"):
        trace(store, "late", {"id": "1"}, store.get(release.parameters["aggregate"]))


def test_what_cannot_be_followed_is_said_and_the_rest_is_told(
    home: Path, store: Store, release: Thing
) -> None:
    key = release.table()["row_key"][0].as_py()
    whole = trace(store, "late", {"id": key})
    draw = store.get(whole.things["draw_data"])
    path = Path(store.lake.full(draw.files["data.parquet"].path))
    content = path.read_bytes()
    path.unlink()
    try:
        traced = trace(store, "late", {"id": key})
        told = mlassets(home, "trace", "late", "--row", f"id={key}", "--json")
    finally:
        path.write_bytes(content)
    assert len(traced.gaps) == 1
    assert draw.files["data.parquet"].path in traced.gaps[0]
    assert [(one.name, len(one.files), one.matched_on) for one in traced.sources] == [
        ("flights", 3, ()),
        ("stations", 2, ()),
    ]
    assert told.exit_code == 1
    assert len(json.loads(told.stdout)["gaps"]) == 1


def test_the_command_says_it_in_words_and_as_json(home: Path, release: Thing) -> None:
    key = release.table()["row_key"][0].as_py()
    told = mlassets(home, "trace", "late", "--row", f"id={key}")
    assert told.exit_code == 0
    assert re.search(rf"publish +{release.id}", told.stdout)
    assert "blake3" in told.stdout
    as_json = json.loads(mlassets(home, "trace", "late", "--row", f"id={key}", "--json").stdout)
    assert as_json["things"]["publish"] == release.id
    assert mlassets(home, "trace", "late", "--row", "id").exit_code == 2
