from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.examples import make_late_flights
from mlassets.ingestion.formats import convert_one
from mlassets.ingestion.schemas import reconcile
from mlassets.modelling.features import make_model_ready
from mlassets.projects import ProjectSpec, load_project
from resources.roles import features_of

EXAMPLE = Path(make_late_flights.__file__).parent / "late_flights"
ROWS = {"flights": 336_776, "weather": 26_115, "planes": 3_322}
MONTHS = {"flights": 12, "weather": 12, "planes": 1}


@pytest.fixture(scope="module")
def spec() -> ProjectSpec:
    return load_project(EXAMPLE / "late-flights.yaml")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    folder = tmp_path_factory.mktemp("sources")
    found = {}
    for source, count in MONTHS.items():
        files = sorted((EXAMPLE / "landing" / source).iterdir())
        assert len(files) == count
        schema = pa.schema([])
        sinks = [folder / f"{source}-{file.name}.parquet" for file in files]
        for file, sink in zip(files, sinks, strict=True):
            schema = reconcile(schema, convert_one(file, file.name, sink).schema, file.name)
        found[source] = pa.concat_tables([pq.read_table(sink).cast(schema) for sink in sinks])
    return found


@pytest.fixture(scope="module")
def draws(spec: ProjectSpec, sources: dict[str, pa.Table]) -> dict[str, pa.Table]:
    connection = duckdb.connect()
    for name, table in sources.items():
        connection.register(name, table)
    airports = sources["flights"][str(spec.segments.column)].unique().to_pylist()
    return {
        airport: connection.sql(spec.draw.sql, params={"segment": airport}).to_arrow_table()
        for airport in airports
    }


def test_the_bundled_files_are_complete_and_small(sources: dict[str, pa.Table]) -> None:
    assert {name: table.num_rows for name, table in sources.items()} == ROWS
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 8_000_000


def test_the_source_notes_name_every_column_and_the_licence(sources: dict[str, pa.Table]) -> None:
    notes = (EXAMPLE / "SOURCE.md").read_text(encoding="utf-8")
    assert "CC0" in notes
    for table in sources.values():
        assert [name for name in table.column_names if f"`{name}`" not in notes] == []


def test_every_column_has_the_type_that_its_values_have(sources: dict[str, pa.Table]) -> None:
    text = {"carrier", "tailnum", "origin", "dest", "type", "manufacturer", "model", "engine"}
    for table in sources.values():
        for field in table.schema:
            expected = (
                "string"
                if field.name in text
                else "timestamp"
                if field.name == "time_hour"
                else ("int", "double")
            )
            assert str(field.type).startswith(expected), field


def test_the_draws_hold_every_flight_that_arrived_exactly_once(
    draws: dict[str, pa.Table], sources: dict[str, pa.Table]
) -> None:
    flights = sources["flights"]
    assert set(draws) == {"EWR", "JFK", "LGA"}
    assert sum(draw.num_rows for draw in draws.values()) == flights.num_rows - flights["arr_delay"].null_count


def test_the_key_names_one_row_of_a_draw(spec: ProjectSpec, draws: dict[str, pa.Table]) -> None:
    for draw in draws.values():
        keys = draw.group_by(list(spec.key)).aggregate([])
        assert keys.num_rows == draw.num_rows
        assert all(draw[column].null_count == 0 for column in spec.key)


def test_nearly_every_flight_finds_its_weather_and_most_their_plane(draws: dict[str, pa.Table]) -> None:
    for draw in draws.values():
        assert draw["temp"].null_count < 0.01 * draw.num_rows
        assert draw["plane_seats"].null_count < 0.3 * draw.num_rows


def test_between_a_fifth_and_a_third_of_flights_are_late(draws: dict[str, pa.Table]) -> None:
    for draw in draws.values():
        assert 0.2 < sum(draw["late"].to_pylist()) / draw.num_rows < 0.34


def test_only_what_is_known_before_departure_is_a_feature(
    spec: ProjectSpec, draws: dict[str, pa.Table]
) -> None:
    ready = make_model_ready(
        draws["EWR"].slice(0, 5_000),
        target=spec.target.column,
        task=spec.target.task,
        positive=spec.target.positive,
        key=spec.key,
        drop=spec.features.drop,
        kinds=spec.features.kinds,
        by=spec.split.by,
        split_column=spec.split.column,
        test=spec.split.test,
        validation=spec.split.validation,
        seed=spec.seed,
    )
    features = features_of(ready.table.schema)
    after_departure = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "late"}
    assert not after_departure & set(features)
    assert {"carrier", "dest", "temp", "scheduled_departure_minute", "weekday"} <= set(features)
    assert features["weekday"] == "categorical"
    assert features["plane_seats"] == "numeric"
