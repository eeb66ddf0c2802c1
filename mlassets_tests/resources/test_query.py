"""A draw is one SELECT that reaches its tables and nothing else, within its limits, in one order."""

import os
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.query import (
    BadCondition,
    BadDraw,
    BadQuery,
    Condition,
    Draw,
    reading_files,
    run_draw,
    sql_text,
    tables_of,
)

FLIGHTS = pa.table({"origin": ["EWR", "JFK", "EWR"], "delay": [3, 1, 2]})
TABLES = {"flights": FLIGHTS, "weather": pa.table({"origin": ["EWR"], "wind": [1.5]})}


def draw(sql: str, **values: object) -> pa.Table:
    return run_draw(sql, TABLES, values)


def test_values_are_bound_by_name_and_never_become_sql() -> None:
    sql = "SELECT delay FROM flights WHERE origin = $segment; -- the end"
    assert draw(sql, segment="EWR", unused=1).to_pydict() == {"delay": [2, 3]}
    assert draw(sql, segment="EWR' OR 1 = 1 --").num_rows == 0


@given(st.permutations(range(3)), st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_input_does_not_show(first: list[int], second: list[int]) -> None:
    results = [
        run_draw("SELECT * FROM flights", {"flights": FLIGHTS.take(order)}, {}) for order in (first, second)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DROP TABLE flights", "DROP statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "0 statements"),
        ("PRAGMA version", "PRAGMA"),
        ("SHOW TABLES", "SHOW"),
        ("COPY flights TO '/tmp/x.csv'", "COPY"),
        ("ATTACH 'x.db'", "ATTACH"),
        ("INSTALL httpfs", "INSTALL"),
        ("SET memory_limit = '9GB'", "SET"),
        ("CREATE TABLE x AS SELECT 1", "CREATE"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM read_text('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM glob('/*')", "disabled"),
        ("SELECT getenv('HOME')", "getenv"),
        ("SELECT * FROM FLIGHT", "Did you mean flights"),
        ("SELECT orign FROM flights", "Did you mean origin"),
        ("SELECT f.orign FROM flights f", "Did you mean origin"),
        ("SELECT * FROM flights f, weather w", r"\['origin'\] twice"),
        ("SELECT $segmnt", "Did you mean segment"),
        ("SELECT * FROM flights WHERE origin = ?", "by name"),
        ("SELECT origin::INT FROM flights", "Could not convert"),
        ("SELEC 1", "no valid SQL"),
        ("WITH x AS (INSERT INTO flights VALUES ('a', 1) RETURNING *) SELECT * FROM x", "draw"),
    ],
)
def test_a_statement_that_is_not_one_select_over_its_tables_is_refused(sql: str, says: str) -> None:
    with pytest.raises(BadDraw, match=says):
        draw(sql, segment="EWR")


def test_no_variable_of_this_process_is_a_table() -> None:
    hidden = FLIGHTS
    assert hidden.num_rows
    with pytest.raises(BadDraw, match="hidden"):
        draw("SELECT * FROM hidden")


def test_nothing_can_be_written_even_by_a_select(tmp_path: Path) -> None:
    before = set(os.listdir(tmp_path))  # noqa: PTH208
    for sql in (
        f"SELECT * FROM read_parquet('{tmp_path}/*')",
        f"SELECT * FROM query('COPY flights TO ''{tmp_path}/x''')",
    ):
        with pytest.raises(BadDraw):
            draw(sql)
    assert set(os.listdir(tmp_path)) == before  # noqa: PTH208


def test_a_draw_stops_at_its_time_limit() -> None:
    endless = "WITH RECURSIVE q AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM q) SELECT count(*) AS n FROM q"
    with pytest.raises(BadDraw, match=r"longer than its limit of 0\.2 s"):
        run_draw(endless, {}, {}, seconds=0.2)


def test_a_draw_stops_at_its_memory_limit() -> None:
    hungry = "SELECT list(range) AS l FROM range(50000000)"
    with pytest.raises(BadDraw, match="limit of 50MB"):
        run_draw(hungry, {}, {}, memory="50MB")
    with pytest.raises(BadDraw, match="limits"):
        run_draw("SELECT 1 AS a", {}, {}, memory="lots")


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM flights", {"flights"}),
        (
            "WITH q AS (SELECT * FROM flights) SELECT * FROM q JOIN weather USING (origin)",
            {"flights", "weather"},
        ),
        (
            "SELECT * FROM t1, LATERAL (SELECT * FROM t2) WHERE EXISTS (FROM t3) AND x = $x",
            {"t1", "t2", "t3"},
        ),
        ("SELECT 'é', $segment FROM t WHERE a BETWEEN $a AND $b -- $c", {"t"}),
        ("WITH t AS (SELECT * FROM T WHERE a) SELECT * FROM t, main.t2", {"T", "t2"}),
        ("WITH RECURSIVE q AS (SELECT 1 AS x UNION ALL SELECT x FROM q, w) SELECT * FROM q", {"w"}),
        ("SELECT nosuch(a) FROM t PIVOT (sum(a) FOR s IN ('x'))", {"t"}),
        ("SELECT '$x' FROM t WHERE b = $$it $x$$", {"t"}),
    ],
)
def test_the_tables_that_a_draw_reads_are_known_without_running_it(sql: str, tables: set[str]) -> None:
    assert tables_of(sql) == tables


def test_parameters_are_known_without_running_it() -> None:
    assert Draw.parse("SELECT $a, '$b' WHERE 1 = $c").parameters == {"a", "c"}


def test_only_the_columns_and_rows_that_count_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(10), "b": ["x"] * 10}), tmp_path / "t.parquet")
    damaged = ds.dataset(tmp_path / "t.parquet", schema=pa.schema([("a", pa.int64()), ("b", pa.int64())]))
    assert run_draw("SELECT a FROM t WHERE a > 7", {"t": damaged}, {}).to_pydict() == {"a": [8, 9]}
    with pytest.raises(BadDraw):
        run_draw("SELECT b FROM t", {"t": damaged}, {})


NAMES = {"A": "c0", "b": "c1", 'we"ird': "c2"}


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("a >= b -- and nothing more", "c0 c1"),
        ('"we""ird" LIKE \'a%\' AND NOT (B IS NULL OR A IN (1, 2))', "c0 c1 c2"),
        ("CASE WHEN a > 1 THEN b ELSE true END", "c0 c1"),
        ("a::DATE < DATE '2024-01-01' + INTERVAL 3 DAY", "c0"),
        ("b.field = 1 AND b[1:2] = 'x'", "c1"),
        ("regexp_full_match(b, 'it''s') AND b SIMILAR TO 'x'", "c1"),
    ],
)
def test_a_condition_is_one_expression_over_the_columns_of_a_row(sql: str, columns: str) -> None:
    said = Condition.parse(sql).over(NAMES)
    assert set(re.findall(r"\bc\d\b", said)) == set(columns.split())
    assert "we" not in said


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("", "holds no SQL"),
        ("a >", "is no valid SQL"),
        ("a; DROP TABLE rows", "is no valid SQL"),
        ("a > 1), (b", "more than one expression"),
        ("true) UNION SELECT (true", "more than one expression"),
        ("a > 1) FROM read_csv('/etc/passwd') --", "is no valid SQL"),
        ("EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))", "holds a subquery"),
        ("a IN (SELECT 1)", "holds a subquery"),
        ("a > ALL (SELECT 1)", "holds a subquery"),
        ("sum(a) > 1", "calls sum(), which is no function of one row's values"),
        ("sum(a) OVER () > 1", "holds a window"),
        ("random() > 0.5", "calls random()"),
        ("nextval('s') > 1", "calls nextval()"),
        ("a > $x", "holds a parameter"),
        ("a > ?", "holds a parameter"),
        ("COLUMNS('.*') > 1", "holds a star"),
        ("list_filter(a, v -> v > 1) = []", "holds a lambda"),
        ("lowr(b) = 'x'", "Did you mean floor or lower"),
    ],
)
def test_nothing_else_is_a_condition(sql: str, wrong: str) -> None:
    with pytest.raises(BadCondition, match=re.escape(wrong)):
        Condition.parse(sql)


def test_a_condition_on_a_column_that_is_not_there_names_what_is() -> None:
    with pytest.raises(BadCondition, match="reads the column 'wierd', which is not there"):
        Condition.parse("wierd > 1").over(NAMES)
    with pytest.raises(BadCondition, match="'current_date'"):
        Condition.parse("a < current_date").over(NAMES)


def test_files_are_read_and_nothing_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "odd [x]*'"
    folder.mkdir()
    for name in ("in.parquet", "out.parquet"):
        pq.write_table(pa.table({"v": [1]}), folder / name)
    inside, outside = (sql_text(str(folder / name)) for name in ("in.parquet", "out.parquet"))
    with reading_files([folder / "in.parquet"], memory="200MB", seconds=60, threads=1) as connection:
        assert connection.execute(f"SELECT v FROM read_parquet({inside})").fetchall() == [(1,)]
        for sql in (
            f"SELECT v FROM read_parquet({outside})",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM glob('/etc/*')",
            f"COPY (SELECT 1) TO {inside}",
            "SET enable_external_access = true",
            "SET memory_limit = '9GB'",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)


def test_a_look_that_passes_its_limits_is_stopped() -> None:
    with (
        pytest.raises(BadQuery, match=r"took longer than its limit of 0\.2 s"),
        reading_files([], memory="200MB", seconds=0.2, threads=1) as connection,
    ):
        connection.execute("SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = 3")
    assert sql_text("it's\0") == "'it''s' || chr(0) || ''"
