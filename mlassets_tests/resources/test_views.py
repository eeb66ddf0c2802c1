"""SQL over all Things: the tables there are, what they hold, and what a query can never do."""

import csv
import json
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets_tests.places import Place
from mlassets_tests.small_homes import mlassets
from resources.query import BadQuery
from resources.settings import Settings
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, Thing
from resources.verdicts import Verdict
from resources.views import tables


def commit(store: Store, step: str, project: str, segment: str, numbers: list[int], **more: object) -> Thing:
    table = pa.table({"number": numbers, "name": [f"n{number}" for number in numbers]})
    return store.commit(step, Partition.segment(project, segment), Draft(dataset=table, **more))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(Settings(home=tmp_path))
    commit(made, "model", "late-flights", "EWR", [1, 2])
    commit(
        made, "model", "late-flights", "EWR", [3], metrics={"auc": 0.7, "nan": math.nan}, labels={"a.b": "x"}
    )
    commit(made, "model", "late-flights", "JFK", [4, 5], parameters={"seed": 7, "deep": {"rate": 0.5}})
    commit(made, "draw_data", "other", "all", [9])
    return made


def test_a_step_of_a_project_is_one_table_over_the_newest_versions_of_all_segments(place: Place) -> None:
    store = place.open()
    commit(store, "model", "late-flights", "EWR", [1, 2])
    newest = commit(store, "model", "late-flights", "EWR", [3])
    commit(store, "model", "late-flights", "JFK", [4, 5])
    commit(store, "model", "late", "JFK", [6])
    with store.recording() as read:
        found = store.sql(
            "SELECT segment, sum(number) AS total FROM late_flights_model GROUP BY ALL ORDER BY 1"
        )
    assert found.to_pylist() == [{"segment": "EWR", "total": 3}, {"segment": "JFK", "total": 9}]
    assert len(read) == 2
    rows = store.sql("FROM late_flights_model WHERE thing_id = $id", {"id": newest.id})
    assert rows.to_pylist() == [{"number": 3, "name": "n3", "thing_id": newest.id, "segment": "EWR"}]


def test_a_step_is_one_table_over_all_projects_that_fit_together(store: Store) -> None:
    commit(store, "model", "other", "all", [7])
    found = store.sql("SELECT project, segment, sum(number) AS total FROM model GROUP BY ALL ORDER BY ALL")
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("late-flights", "EWR", 3),
        ("late-flights", "JFK", 9),
        ("other", "all", 7),
    ]
    store.commit("model", Partition.project("odd"), Draft(dataset=pa.table({"number": [b"not", b"one"]})))
    with pytest.raises(
        BadQuery, match=r"'model', whose versions do not fit together: .* of one project alone"
    ):
        store.sql("FROM model")
    assert store.sql("FROM other_model")["number"].to_pylist() == [7]


def test_all_versions_or_chosen_ones_can_be_read(store: Store) -> None:
    query = "SELECT number FROM late_flights_model ORDER BY number"
    old = store.history("model", Partition.segment("late-flights", "EWR"))[-1]
    assert store.sql(query)["number"].to_pylist() == [3, 4, 5]
    assert store.sql(query, versions="all")["number"].to_pylist() == [1, 2, 3, 4, 5]
    assert store.sql(query, versions=[old.id])["number"].to_pylist() == [1, 2, 4, 5]
    store.retire(old.id, "for the test")
    assert store.sql(query, versions="all")["number"].to_pylist() == [3, 4, 5]


def test_versions_that_gained_a_column_or_a_wider_type_fit_together(store: Store) -> None:
    where = Partition.project("wide")
    for table in (
        pa.table({"a": pa.array([1], pa.int32())}),
        pa.table({"a": pa.array([2], pa.int64()), "b": [True]}),
        pa.table({"a": pa.array([1 << 40], pa.int64())}),
    ):
        store.commit("aggregate", where, Draft(dataset=table))
    rows = store.sql("SELECT a, b FROM wide_aggregate ORDER BY a", versions="all").to_pylist()
    assert rows == [{"a": 1, "b": None}, {"a": 2, "b": True}, {"a": 1 << 40, "b": None}]
    store.commit("aggregate", where, Draft(dataset=pa.table({"a": ["text"]})))
    with pytest.raises(BadQuery, match="do not fit together"):
        store.sql("SELECT a FROM wide_aggregate", versions="all")


def test_the_catalog_is_there_as_tables(store: Store) -> None:
    model = store.require("model", Partition.segment("late-flights", "JFK"))
    store.record_verdicts(model.id, "run", [Verdict("c", "passed", "WARN", 0.5, None, 1, "fine", {})])
    draw = store.commit("draw_data", Partition.project("p"), Draft(based_on=[model.id]))
    latest = store.sql("SELECT step, partition FROM things WHERE latest ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in latest] == [
        ("draw_data", "other|all"),
        ("draw_data", "p"),
        ("model", "late-flights|EWR"),
        ("model", "late-flights|JFK"),
    ]
    assert (
        store.sql("SELECT count(*) AS n FROM things WHERE created_at > now() - INTERVAL 1 DAY")["n"][
            0
        ].as_py()
        == 5
    )
    metrics = store.sql("SELECT name, value FROM metrics ORDER BY name").to_pylist()
    assert metrics[0] == {"name": "auc", "value": 0.7}
    assert math.isnan(metrics[1]["value"])
    assert store.sql("SELECT number FROM parameters WHERE name = 'deep.rate'")["number"].to_pylist() == [0.5]
    assert store.sql("SELECT text FROM labels WHERE name = 'a.b'")["text"].to_pylist() == ["x"]
    assert store.sql("SELECT * FROM edges").to_pylist() == [{"thing_id": draw.id, "based_on": model.id}]
    assert store.sql("SELECT claim FROM verdicts")["claim"].to_pylist() == ["c"]
    joined = store.sql(
        "SELECT t.partition, sum(c.size) AS bytes FROM things t JOIN components c ON c.thing_id = t.id GROUP BY ALL"
    )
    assert joined.num_rows == 3


def test_sources_are_there_under_their_own_names_too(store: Store) -> None:
    store.commit("sources", Partition.source("big-flights"), Draft(dataset=pa.table({"a": [1]})))
    for name in ("big_flights", '"big-flights"', "big_flights_sources"):
        assert store.sql(f"SELECT a FROM {name}")["a"].to_pylist() == [1]


def test_what_was_logged_is_there_under_its_name_or_its_id(store: Store) -> None:
    store.log(pa.table({"a": [1]}), name="my split")
    alone = store.log(pa.table({"a": [2]}))
    assert store.sql("SELECT a FROM my_split_uploads")["a"].to_pylist() == [1]
    assert store.sql(f'SELECT a FROM "{alone.partition.key}_uploads"')["a"].to_pylist() == [2]
    listed = tables(store)
    assert "my_split_uploads" in listed
    assert not any(alone.partition.key.replace("-", "_") in name for name in listed)


def test_names_that_come_to_the_same_are_told_apart_in_quotes(store: Store) -> None:
    commit(store, "model", "late_flights", "EWR", [100])
    with pytest.raises(BadQuery, match="late-flights and late_flights both come to that name"):
        store.sql("SELECT * FROM Late_Flights_model")
    assert store.sql('SELECT number FROM "late_flights_model"')["number"].to_pylist() == [100]
    assert store.sql('SELECT count(*) AS n FROM "late-flights_model"')["n"].to_pylist() == [3]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT * FROM late_flight_model", "Did you mean late_flights_model"),
        ("SELECT numbr FROM late_flights_model", "Did you mean number"),
        ("SELECT 1; DROP TABLE things", "2 statements"),
        ("DELETE FROM things", "DELETE"),
        ("CREATE TABLE x AS SELECT 1", "CREATE"),
        ("COPY things TO '/tmp/x.csv'", "COPY"),
        ("ATTACH 'x.db'", "ATTACH"),
        ("SELECT * FROM read_text('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT getenv('HOME')", "getenv"),
        ("SELECT * FROM things WHERE id = $id", "which has no value"),
        ("SELECT id, id FROM things", "twice"),
        ("SELEC 1", "no valid SQL"),
    ],
)
def test_what_is_not_one_select_over_the_tables_is_refused(store: Store, sql: str, says: str) -> None:
    with pytest.raises(BadQuery, match=says) as caught:
        store.sql(sql)
    assert "the query" in str(caught.value)


def test_a_query_stops_at_its_limits(store: Store, tmp_path: Path) -> None:
    endless = "WITH RECURSIVE q AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM q) SELECT x FROM q"
    with pytest.raises(BadQuery, match=r"longer than its limit of 0\.3 s"):
        store.sql_to(tmp_path / "out.csv", endless, seconds=0.3)
    with pytest.raises(BadQuery, match="limit of 50MB"):
        store.sql("SELECT list(range) AS l FROM range(50000000)", memory="50MB")
    with pytest.raises(BadQuery, match="more than its memory limit of 1MB"):
        store.sql("SELECT range AS n FROM range(10000000)", memory="1MB")
    assert not list(tmp_path.glob("*out*"))


def test_a_damaged_file_is_named_with_the_last_version_in_which_it_is_whole(store: Store) -> None:
    newest, first = store.history("model", Partition.segment("late-flights", "EWR"))
    path = Path(store.lake.full(newest.files["data.parquet"].path))
    whole = path.read_bytes()
    query = "SELECT number, name FROM late_flights_model"
    for damaged in (whole[: len(whole) // 2], None, whole[:40] + bytes(40) + whole[80:]):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        for read in (lambda: store.sql(query), newest.table):
            with pytest.raises(DamagedThing) as caught:
                read()
            assert newest.files["data.parquet"].path in str(caught.value)
            assert f"is whole is {first.id}" in str(caught.value)


def test_rows_go_to_files_of_three_kinds(store: Store, tmp_path: Path) -> None:
    columns = "number, name, [number] AS list, 1.5 AS half, NULL AS none, 'a,\"b' AS q"
    query = f"SELECT {columns} FROM late_flights_model ORDER BY 1"
    for kind in ("parquet", "csv", "json"):
        assert store.sql_to(tmp_path / f"out.{kind}", query) == 3
    assert pq.read_table(tmp_path / "out.parquet")["number"].to_pylist() == [3, 4, 5]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"number": "3", "name": "n3", "list": "[3]", "half": "1.5", "none": "", "q": 'a,"b'}
    assert json.loads((tmp_path / "out.json").read_text())[2]["list"] == [5]
    for wrong in (tmp_path / "out.xlsx", tmp_path / "none" / "out.csv"):
        with pytest.raises(BadQuery, match="cannot be written"):
            store.sql_to(wrong, query)


def test_only_the_columns_that_are_asked_for_are_read(store: Store) -> None:
    thing = store.require("model", Partition.segment("late-flights", "JFK"))
    path = Path(store.lake.full(thing.files["data.parquet"].path))
    file = pq.ParquetFile(path)
    chunk = file.metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = os.urandom(chunk.total_compressed_size)
    path.write_bytes(data)
    assert store.sql("SELECT number FROM late_flights_model WHERE segment = 'JFK'").num_rows == 2
    assert store.sql("SELECT name FROM late_flights_model WHERE segment = 'EWR'").num_rows == 1
    with pytest.raises(DamagedThing):
        store.sql("SELECT name FROM late_flights_model")


def test_the_command_lists_tables_shows_rows_and_writes_files(store: Store, tmp_path: Path) -> None:
    assert "late_flights_model" in json.loads(mlassets(tmp_path, "sql", "--json").stdout)
    query = "SELECT number FROM late_flights_model ORDER BY 1"
    assert json.loads(mlassets(tmp_path, "sql", query, "--json").stdout) == [
        {"number": one} for one in (3, 4, 5)
    ]
    assert len(json.loads(mlassets(tmp_path, "sql", query, "--all", "--json").stdout)) == 5
    assert mlassets(tmp_path, "sql", query, "--limit", "1").stdout.split() == ["number", "3"]
    told = mlassets(tmp_path, "sql", query, "--to", str(tmp_path / "rows.csv"), "--json")
    assert json.loads(told.stdout)["rows"] == 3
    assert (tmp_path / "rows.csv").read_text() == "number\n3\n4\n5\n"
    assert mlassets(tmp_path, "sql", "DROP TABLE things").exit_code == 2
    assert mlassets(tmp_path, "sql", query, "--all", "--version", "x").exit_code == 2
