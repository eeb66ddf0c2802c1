import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion import formats
from mlassets.ingestion.errors import (
    BadEncoding,
    BadRow,
    DuplicateColumns,
    EmptyFile,
    MissingTable,
    RaggedRows,
    ReaderFailed,
    SeveralTables,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
)
from mlassets.ingestion.formats import (
    FORMATS,
    ROW_GROUP_ROWS,
    Converted,
    ConvertedTable,
    Format,
    Tables,
    convert,
    convert_one,
    format_of,
)
from mlassets.ingestion.options import ReadOptions


def converted(folder: Path, content: bytes, name: str = "landed.csv") -> tuple[ConvertedTable, pa.Table]:
    source, sink = folder / name.replace("/", "_"), folder / "sink.parquet"
    source.write_bytes(content)
    result = convert_one(source, name, sink)
    return result, pq.read_table(sink)


def types(folder: Path, column: str) -> str:
    _, table = converted(folder, f"x,y\n{column}".encode())
    return str(table.schema.field("x").type)


def refused(folder: Path, content: bytes, name: str = "landed.csv") -> UnreadableFile:
    source, sink = folder / name.replace("/", "_"), folder / "sink.parquet"
    source.write_bytes(content)
    with pytest.raises(UnreadableFile) as caught:
        convert_one(source, name, sink)
    assert not sink.exists()
    assert str(caught.value).startswith(name)
    return caught.value


def csv_bytes(rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(
        text, quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else csv.QUOTE_MINIMAL
    ).writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("1,\n-2,\n0,\n", "int64"),
        ("9007199254740993,\n", "int64"),
        ("1,\n2.5,\n", "double"),
        ("0.5,\n-0.25,\n1e3,\nnan,\n", "double"),
        ("true,\nFALSE,\n", "bool"),
        ("0,\n1,\n", "int64"),
        ("2013-01-31,\n", "date32[day]"),
        ("2013-01-31,\n2013-01-31 10:00:00,\n", "timestamp[us]"),
        ("2013-01-31T10:00:00.123456,\n", "timestamp[us]"),
        ("2013-01-31T10:00:00Z,\n2013-01-31T10:00:00+02:00,\n", "timestamp[us, tz=UTC]"),
        ("2013-01-31 10:00,\n2013-01-31T10:00:00Z,\n", "string"),
        ("007,\n8,\n", "string"),
        ("-01,\n", "string"),
        ("00.5,\n", "string"),
        ("0x10,\n", "string"),
        ("+4915112345678,\n", "string"),
        ("9223372036854775808,\n", "string"),
        ("1e400,\n", "string"),
        ("03/04/2024,\n", "string"),
        ("1,\ntrue,\n", "string"),
        (" 1,\n2 ,\n", "int64"),
        (",\nNA,\n", "null"),
        ('"",\n1,\n', "int64"),
    ],
)
def test_a_column_has_the_narrowest_type_that_loses_nothing(
    tmp_path: Path, cells: str, expected: str
) -> None:
    assert types(tmp_path, cells) == expected


def test_whole_numbers_beyond_what_a_double_holds_stay_exact(tmp_path: Path) -> None:
    _, table = converted(tmp_path, b"x\n9007199254740993\n-9223372036854775808\n")
    assert table["x"].to_pylist() == [9007199254740993, -9223372036854775808]


def test_nothing_and_NA_are_null_but_a_quoted_NA_is_text(tmp_path: Path) -> None:
    _, table = converted(tmp_path, b'n,s\n1,"NA"\nNA,NA\n,x\n3,""\n')
    assert table.to_pydict() == {"n": [1, None, None, 3], "s": ["NA", None, "x", ""]}


def test_a_column_of_nothing_but_quoted_NA_is_one_of_text(tmp_path: Path) -> None:
    _, table = converted(tmp_path, b'n,country\n1,"NA"\n2,NA\n3,"NA"\n')
    assert table["country"].to_pylist() == ["NA", None, "NA"]


@pytest.mark.parametrize("late", ["x", "1.5", "2013-01-01", "007", "9223372036854775808"])
def test_a_type_that_changes_in_the_last_of_many_rows_holds_for_all(tmp_path: Path, late: str) -> None:
    rows = ROW_GROUP_ROWS + 10
    body = "".join(f"{number},a\n" for number in range(rows))
    result, table = converted(tmp_path, f"x,y\n{body}{late},a\n".encode())
    assert result.rows == table.num_rows == rows + 1
    assert table["x"].null_count == 0
    if late == "1.5":
        assert table["x"].to_pylist()[-2:] == [rows - 1.0, 1.5]
    else:
        assert table["x"].to_pylist()[-2:] == [str(rows - 1), late]
    assert table["x"].to_pylist()[0] == (0.0 if late == "1.5" else "0")


def test_a_column_that_is_null_for_a_whole_row_group_gets_the_type_of_what_follows(tmp_path: Path) -> None:
    body = ",a\n" * (ROW_GROUP_ROWS + 5)
    _, table = converted(tmp_path, f"x,y\n{body}7,a\n".encode())
    assert str(table["x"].type) == "int64"
    assert table["x"][-1].as_py() == 7
    assert table["x"].null_count == ROW_GROUP_ROWS + 5


def test_integers_near_the_64_bit_limit_and_a_later_fraction_become_doubles(tmp_path: Path) -> None:
    body = "9200000000000000000,a\n" * (ROW_GROUP_ROWS + 1)
    _, table = converted(tmp_path, f"x,y\n{body}1.5,a\n".encode())
    assert str(table["x"].type) == "double"


def test_values_may_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    values = ["a,b", 'say "hi"', "two\nlines", "crlf\r\nhere", "ünïcödé 🛫", "x" * 3_000_000]
    _, table = converted(
        tmp_path, csv_bytes([["n", "s"], *([number, value] for number, value in enumerate(values))])
    )
    assert table["s"].to_pylist() == values


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiter_and_line_ends_are_found(tmp_path: Path, delimiter: str, newline: str) -> None:
    text = newline.join([delimiter.join(["a", "b", "c"]), delimiter.join(["1", "x", "2.5"]), ""])
    result, table = converted(tmp_path, b"\xef\xbb\xbf" + text.encode())
    assert table.to_pylist() == [{"a": 1, "b": "x", "c": 2.5}]
    assert result.found["delimiter"] == delimiter


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    result, table = converted(tmp_path, b'"", x\n1,2\n')
    assert table.column_names == ["column_1", "x"]
    assert result.found["named"] == {"column_1": ""}


def test_the_same_content_gives_the_same_bytes_whether_compressed_or_not(tmp_path: Path) -> None:
    content = b"a,b\n" + b"".join(b"%d,%d.5\n" % (number, number) for number in range(200_000))
    converted(tmp_path, content)
    first = (tmp_path / "sink.parquet").read_bytes()
    result, _ = converted(tmp_path, gzip.compress(content, mtime=0), "landed.CSV.gz")
    assert (tmp_path / "sink.parquet").read_bytes() == first
    assert result.bytes == len(first)


cells = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda value: "e" not in repr(value) or True
    ),
    "bool": st.booleans(),
    "date32[day]": st.dates(),
    "timestamp[us]": st.datetimes(),
    "string": st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).map(
        lambda text: f"~{text}"
    ),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_typed_values_come_back_from_csv_as_they_went_in(tmp_path: Path, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(cells)), min_size=1, max_size=4))
    rows = data.draw(
        st.lists(st.tuples(*(st.none() | cells[kind] for kind in kinds)), min_size=1, max_size=20)
    )
    names = ["k", *(f"c{position}" for position in range(len(kinds)))]
    body = [
        ["" if value is None else repr(value) if isinstance(value, float) else value for value in row]
        for row in rows
    ]
    text = io.StringIO()
    csv.writer(text).writerows([names, *([number, *row] for number, row in enumerate(body))])
    _, table = converted(tmp_path, text.getvalue().encode())
    for position, kind in enumerate(kinds):
        column = table[f"c{position}"]
        wanted = [row[position] for row in rows]
        assert column.to_pylist() == wanted
        if any(value is not None for value in wanted) and kind in ("int64", "bool", "date32[day]"):
            assert str(column.type) == kind


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_converted_or_refused_by_name(tmp_path: Path, content: bytes) -> None:
    for name in ("any.csv", "any.csv.gz", "any.parquet"):
        with contextlib.suppress(UnreadableFile):
            result, table = converted(tmp_path, content, name)
            assert result.rows == table.num_rows > 0


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"a,b\n", b"a,b"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    assert isinstance(refused(tmp_path, content), EmptyFile)


def test_a_ragged_row_is_named_by_its_line_also_after_values_of_several_lines(tmp_path: Path) -> None:
    error = refused(tmp_path, b'a,b\n1,"x\ny"\n\n2,3\n4,5,6\n')
    assert isinstance(error, RaggedRows)
    assert error.line == 6
    assert "3 values" in error.reason
    assert "2 columns" in error.reason


def test_a_short_row_far_down_is_found(tmp_path: Path) -> None:
    error = refused(tmp_path, b"a,b\n" + b"1,2\n" * 300_000 + b"3\n1,2\n")
    assert isinstance(error, RaggedRows)
    assert error.line == 300_002


@pytest.mark.parametrize("tail", [b'3,"open\n4,5\n6,7\n', b'3,"open'])
def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(tmp_path: Path, tail: bytes) -> None:
    error = refused(tmp_path, b"a,b\n1,2\n" + tail)
    assert isinstance(error, RaggedRows)
    assert error.line == 3


def test_bad_utf_8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    head = "a,b\n1,é\n".encode() + b"2,x\n" * 200_000
    error = refused(tmp_path, head + b"3,\xe9t\xe9\n")
    assert isinstance(error, BadEncoding)
    assert error.line == 200_003
    assert error.byte == len(head) + 2


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a,b,a", ["a", "b", "a_2"]),
        ("Origin,origin,x", ["Origin", "origin_2", "x"]),
        ("column_2,,a", ["column_2", "column_2_2", "a"]),
        ("a,a,a_2", ["a", "a_3", "a_2"]),
    ],
)
def test_columns_that_sql_could_not_tell_apart_are_renamed_and_that_is_told(
    tmp_path: Path, header: str, names: list[str]
) -> None:
    result, table = converted(tmp_path, f"{header}\n1,2,3\n".encode())
    assert table.column_names == names
    assert set(result.found["named"]) == set(names) - set(header.split(","))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99, -1])
def test_a_gzip_that_is_cut_off_is_refused_whole(tmp_path: Path, share: float) -> None:
    whole = gzip.compress(
        b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919) for number in range(300_000))
    )
    cut = int(share * len(whole)) if share > 0 else -1
    assert isinstance(refused(tmp_path, whole[:cut], "landed.csv.gz"), TruncatedFile)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0))
    whole[-6] ^= 1
    assert isinstance(refused(tmp_path, bytes(whole), "landed.csv.gz"), TruncatedFile)


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    _, table = converted(
        tmp_path, gzip.compress(b"a,b\n1,2\n", mtime=0) + gzip.compress(b"3,4\n", mtime=0), "landed.csv.gz"
    )
    assert table["a"].to_pylist() == [1, 3]


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy")
    return buffer.getvalue()


def test_parquet_keeps_its_values_and_drops_what_only_its_writer_chose(tmp_path: Path) -> None:
    table = pa.table(
        {
            "category": pa.array(["x", "y", "x"]).dictionary_encode(),
            "when": pa.array([0, 1, None], pa.timestamp("ms")),
            "long": pa.array(["a", None, "c"], pa.large_string()),
            "small": pa.array([1, 2, 3], pa.int8()),
            "list": pa.array([[1], [], None]),
        }
    ).replace_schema_metadata({"pandas": "{}"})
    result, read = converted(tmp_path, parquet_bytes(table), "landed.parquet")
    assert [str(field.type) for field in result.schema] == [
        "string",
        "timestamp[us]",
        "string",
        "int8",
        "list<item: int64>",
    ]
    assert read.to_pylist() == table.to_pylist()
    assert b"pandas" not in (read.schema.metadata or {})


@pytest.mark.parametrize("cut", [8, 100, -1, -200])
def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    whole = parquet_bytes(pa.table({"a": range(10_000)}))
    assert isinstance(refused(tmp_path, whole[:cut], "landed.parquet"), TruncatedFile)


def test_a_parquet_file_without_rows_or_with_names_that_clash_is_refused(tmp_path: Path) -> None:
    assert isinstance(
        refused(tmp_path, parquet_bytes(pa.table({"a": pa.array([], pa.int8())})), "l.parquet"), EmptyFile
    )
    clash = pa.table([[1], [2]], names=["a", "A"])
    assert isinstance(refused(tmp_path, parquet_bytes(clash), "l.parquet"), DuplicateColumns)


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"x", "landed.docx"), (b"\x00x", "landed"), (gzip.compress(b"a\n1\n", mtime=0), "l.csv")],
)
def test_what_is_of_no_known_format_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    assert isinstance(refused(tmp_path, content, name), UnknownFormat)


def test_an_error_does_not_replace_what_stood_at_the_sink_with_half_a_file(tmp_path: Path) -> None:
    refused(tmp_path, b"a,b\n" + b"1,2\n" * 400_000 + b"3\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["landed.csv"]


READERS = "mlassets_tests.ingestion.test_formats"


def read_lines(source: Path, name: str, options: ReadOptions, tables: Tables) -> dict[str, Any]:
    """A reader of made-up files: each line is `table:rows`, or `table?:rows` for one taken on request only."""
    for line in source.read_text().splitlines():
        table, _, count = line.partition(":")
        with tables.table(table.removesuffix("?"), optional=table.endswith("?")) as sink:
            if count == "odd":
                raise KeyError(table)
            sink.begin(pa.schema({"n": pa.int64()}))
            for number in range(int(count)):
                if number == 7:
                    sink.reject("seven", "it is odd", line=number)
                    continue
                sink.write(pa.RecordBatch.from_pydict({"n": [number]}, sink.schema))
    return {"lines": len(source.read_text().splitlines())}


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Converted]:
    made_up = Format(".lines", "a file of lines", f"{READERS}:read_lines")
    monkeypatch.setattr(formats, "FORMATS", {**FORMATS, ".lines": made_up})
    (tmp_path / "out").mkdir()

    def read(text: str, **options: Any) -> Converted:
        (tmp_path / "in").write_text(text)
        return convert(tmp_path / "in", "landed.lines", tmp_path / "out", ReadOptions(**options))

    return read


def test_a_file_gives_as_many_tables_as_it_holds_and_notes_those_without_rows(
    lines: Callable[..., Converted],
) -> None:
    result = lines("a:2\nb:3\nempty:0\nA:1\nc?:4\n")
    assert [(table.name, table.rows) for table in result.tables] == [("a", 2), ("b", 3), ("A_2", 1)]
    assert (result.format, result.found) == ("lines", {"lines": 5})
    assert any("empty was left out" in note for note in result.notes)
    assert pq.read_table(result.tables[1].path)["n"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [(("b",), ["b"]), (("c",), ["c"]), (("*",), ["a", "b", "c"]), (("a*", "b"), ["a", "b"])],
)
def test_tables_are_taken_by_their_names(
    lines: Callable[..., Converted], chosen: tuple[str, ...], names: list[str]
) -> None:
    assert [table.name for table in lines("a:2\nb:3\nc?:4\n", tables=chosen).tables] == names


def test_a_table_that_is_not_there_is_refused_naming_those_that_are(lines: Callable[..., Converted]) -> None:
    with pytest.raises(MissingTable, match="its tables are a, b"):
        lines("a:2\nb:3\n", tables=("z",))


def test_a_file_of_several_tables_is_no_single_table(lines: Callable[..., Converted], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a:2\nb:3\n")
    with pytest.raises(SeveralTables, match="2 tables: a, b"):
        convert_one(tmp_path / "in", "landed.lines", tmp_path / "out" / "sink.parquet")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a:2\nb:9\n", BadRow),
        ("a:2\nb:odd\n", ReaderFailed),
        ("a:0\n", EmptyFile),
        ("a:2\nb:x\n", ReaderFailed),
    ],
)
def test_an_error_in_one_table_leaves_nothing_of_the_others(
    lines: Callable[..., Converted], tmp_path: Path, text: str, kind: type[UnreadableFile]
) -> None:
    with pytest.raises(kind):
        lines(text)
    assert list((tmp_path / "out").iterdir()) == []


def test_rejected_rows_lie_beside_their_table_on_request(lines: Callable[..., Converted]) -> None:
    first, second = lines("a:9\nb:2\n", on_bad_rows="skip").tables
    assert (first.rows, first.rejected, second.rejected, second.rejects) == (8, 1, 0, None)
    assert first.rejects is not None
    assert json.loads(first.rejects.read_text()) == {"line": 7, "reason": "it is odd", "row": "seven"}


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    source = tmp_path / "landed.csv"
    source.write_bytes(b"a,b\n" + b"1,2\n" * 800_000)
    told: list[tuple[str, int, int]] = []
    convert(source, "landed.csv", tmp_path, progress=lambda *what: told.append(what))
    assert told[-1] == ("bytes", source.stat().st_size, source.stat().st_size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", b"PK\x03\x04rest\x00", "a ZIP archive, whatever its name says"),
        ("l.parquet", b"a,b\n1,2\n", "by its first bytes something else"),
        ("l.parquet", b"PK\x03\x04rest\x00", "by its first bytes a ZIP archive"),
        ("l.csv.gz", b"a,b\n1,2\n", "a gzipped CSV file"),
        ("l.csv", b"%PDF-1.7\n", "this is a PDF"),
        ("l.json", b"SQLite format 3\x00", "a SQLite database"),
    ],
)
def test_a_name_that_says_otherwise_than_the_first_bytes_is_refused_naming_both(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    error = refused(tmp_path, content, name)
    assert isinstance(error, UnknownFormat)
    assert words in error.reason


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"ORCID,BZh\n1,2\n", "csv"),
        (b"a\tb\n1\t2\n", "csv"),
        ("a\tb\n1\t2\n".encode("utf-16"), "csv"),
        (b"just words\n", "txt"),
        (b'{"a": 1}\n{"a": 2}\n', "jsonl"),
        (b'[{"a": 1}]', "json"),
        (b"<html><body>x</body></html>", "html"),
        (b"<?xml version='1.0'?><a/>", "xml"),
    ],
)
def test_a_file_without_a_suffix_is_known_by_its_first_bytes(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    (tmp_path / "landed").write_bytes(content)
    assert format_of(tmp_path / "landed", "landed", ReadOptions()).name == suffix


def test_a_format_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "landed.dat").write_bytes(b"a;b\n1;2\n")
    assert (
        convert_one(tmp_path / "landed.dat", "landed.dat", tmp_path / "sink", ReadOptions(format="csv")).rows
        == 1
    )
    with pytest.raises(UnknownFormat, match="'docs' is no format"):
        format_of(tmp_path / "landed.dat", "landed.dat", ReadOptions(format="docs"))


def test_every_format_has_a_reader() -> None:
    for one in FORMATS.values():
        module, _, function = one.reader.partition(":")
        assert callable(getattr(import_module(module), function)), one.suffix
