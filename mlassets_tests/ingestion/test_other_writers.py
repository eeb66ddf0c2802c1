"""Tables that other libraries wrote in every other format come back with their values and types."""

import datetime as dt
import decimal
import io
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.formats import Converted, convert

kinds: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "string": st.text(st.characters(categories=("L", "N", "P"), codec="utf-8"), max_size=6).map("~{}".format),
    "date32[day]": st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)),
    "timestamp[us]": st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
}

TYPES = {
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "date32[day]": pa.date32(),
    "timestamp[us]": pa.timestamp("us"),
}


@st.composite
def frames(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 8))
    columns = {"k": pa.array(range(rows))}
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(sorted(kinds)))
        values = draw(st.lists(st.none() | kinds[kind], min_size=rows, max_size=rows))
        columns[f"c{number}"] = pa.array(values, TYPES[kind])
    return pa.table(columns)


def read(folder: Path, content: bytes, name: str) -> Converted:
    source = folder / name
    source.write_bytes(content)
    return convert(source, name, folder)


def written(table: pa.Table, suffix: str, folder: Path) -> bytes:
    """Return the table as a file that another library wrote."""
    buffer = io.BytesIO()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if suffix == ".parquet":
        frame.write_parquet(buffer)
    elif suffix == ".arrow":
        frame.write_ipc(buffer)
    elif suffix == ".arrows":
        frame.write_ipc_stream(buffer)
    elif suffix == ".feather":
        table.to_pandas(types_mapper=pd.ArrowDtype).to_feather(buffer)
    elif suffix == ".orc":
        pyarrow.orc.write_table(table, buffer)
    elif suffix == ".avro":
        frame.write_avro(buffer)
    elif suffix == ".jsonl":
        frame.write_ndjson(buffer)
    elif suffix == ".duckdb":
        path = folder / "written.duckdb"
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as database:
            database.register("given", table)
            database.execute("CREATE TABLE t AS SELECT * FROM given")
        return path.read_bytes()
    return buffer.getvalue()


@pytest.mark.parametrize(
    "suffix", [".parquet", ".arrow", ".arrows", ".feather", ".orc", ".avro", ".jsonl", ".duckdb"]
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
def test_a_frame_comes_back_with_its_values_and_types(tmp_path: Path, suffix: str, table: pa.Table) -> None:
    one = read(tmp_path, written(table, suffix, tmp_path), f"a{suffix}").tables[0]
    back = pq.read_table(one.path)
    assert back.to_pylist() == table.to_pylist()
    for field in table.schema:
        kind = back.schema.field(field.name).type
        if table[field.name].null_count == table.num_rows or suffix == ".jsonl":
            # A format without types says nothing about a column of nulls, and midnight may be a date.
            continue
        if suffix == ".orc" and pa.types.is_timestamp(field.type):
            assert kind.unit == "ns"
        else:
            assert kind.equals(field.type)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames(), st.sampled_from([".sqlite", ".xml", ".html"]))
def test_a_frame_comes_back_from_formats_that_have_but_texts_and_numbers(
    tmp_path: Path, table: pa.Table, suffix: str
) -> None:
    frame = table.to_pandas(types_mapper=pd.ArrowDtype).astype(object)
    frame = frame.where(frame.notna(), None)
    if suffix == ".sqlite":
        path = tmp_path / "written.sqlite"
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        names = ", ".join(frame.columns)
        database.execute(f"CREATE TABLE t ({names})")
        rows = [
            [
                value.isoformat(" ")
                if isinstance(value, dt.datetime)
                else value.isoformat()
                if isinstance(value, dt.date)
                else value
                for value in row.values()
            ]
            for row in table.to_pylist()
        ]
        database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(frame.columns))})", rows)
        database.commit()
        database.close()
        content = path.read_bytes()
    elif suffix == ".xml":
        cells = "".join(
            "<o>"
            + "".join(
                f"<{name}>{_escaped(value)}</{name}>" for name, value in row.items() if value is not None
            )
            + "</o>"
            for row in table.to_pylist()
        )
        content = f"<r>{cells}<o><k>-1</k></o></r>".encode()
    else:
        head = "".join(f"<th>{name}</th>" for name in table.column_names)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{'' if value is None else _escaped(value)}</td>" for value in row.values())
            + "</tr>"
            for row in table.to_pylist()
        )
        content = f"<meta charset=utf-8><table><tr>{head}</tr>{body}</table>".encode()
    one = read(tmp_path, content, f"a{suffix}").tables[0]
    back = pq.read_table(one.path)
    for name in table.column_names:
        expected = table[name].to_pylist()
        if all(value is None for value in expected):
            continue
        found = back[name].to_pylist()[: table.num_rows]
        if pa.types.is_boolean(table.schema.field(name).type):
            found = [value if value is None else bool(value) for value in found]
        if pa.types.is_timestamp(table.schema.field(name).type):
            found = [
                dt.datetime.combine(value, dt.time()) if type(value) is dt.date else value for value in found
            ]
        assert found == expected


def _escaped(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    text = repr(value) if isinstance(value, float) else str(value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_nested_values_survive_parquet_and_duckdb(tmp_path: Path) -> None:
    records = '{"a":{"b":[{"c":1}],"d":{}},"e":[[1],[]]}\n{"a":null,"e":[[null]]}\n'
    path = read(tmp_path, records.encode(), "a.jsonl").tables[0].path
    assert duckdb.sql(f"SELECT a.b[1].c, a.d, e FROM '{path}'").fetchall() == [
        (1, "{}", [[1], []]),
        (None, None, [[None]]),
    ]


def test_a_database_whose_journal_lies_beside_it_is_read_with_what_is_in_it(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (a INT)")
    database.execute("INSERT INTO t VALUES (7)")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    one = convert(tmp_path / "a.db", "a.db", tmp_path).tables[0]
    assert pq.read_table(one.path).to_pylist() == [{"a": 7}]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    database.close()


def test_a_type_that_holds_itself_ends_as_text(tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "node",
        "fields": [
            {"name": "n", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}},
            {"name": "next", "type": ["null", "node"]},
        ],
    }
    last = {"n": decimal.Decimal("2.5"), "next": None}
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, [{"n": decimal.Decimal("1.5"), "next": last}])
    one = read(tmp_path, buffer.getvalue(), "a.avro").tables[0]
    assert pq.read_table(one.path).to_pylist() == [
        {"n": decimal.Decimal("1.5"), "next": '{"n": "2.5", "next": null}'}
    ]
