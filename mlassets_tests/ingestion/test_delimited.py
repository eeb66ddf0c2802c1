import contextlib
import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion import delimited
from mlassets.ingestion.errors import (
    BadEncoding,
    BadRow,
    EmptyFile,
    RaggedRows,
    ReaderFailed,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
)
from mlassets.ingestion.formats import ConvertedTable, convert_one
from mlassets.ingestion.options import ReadOptions

in_one_folder = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def converted(
    folder: Path, content: bytes | str, name: str = "landed.csv", **options: Any
) -> tuple[ConvertedTable, pa.Table]:
    source, sink = folder / "landed", folder / "sink.parquet"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    result = convert_one(source, name, sink, ReadOptions(**options))
    return result, pq.read_table(sink)


def rows(
    folder: Path, content: bytes | str, name: str = "landed.csv", **options: Any
) -> list[dict[str, Any]]:
    return list(converted(folder, content, name, **options)[1].to_pylist())


def types(folder: Path, content: bytes | str, **options: Any) -> list[str]:
    return [str(field.type) for field in converted(folder, content, **options)[1].schema]


def refused(folder: Path, content: bytes | str, name: str = "landed.csv", **options: Any) -> UnreadableFile:
    (folder / "sink.parquet").unlink(missing_ok=True)
    with pytest.raises(UnreadableFile) as caught:
        converted(folder, content, name, **options)
    assert not isinstance(caught.value, ReaderFailed)
    assert sorted(path.name for path in folder.iterdir()) == ["landed"]
    return caught.value


@contextlib.contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Cut files into tiny blocks, as large files are into large ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", size)
        patch.setattr(delimited, "_FIRST_BLOCK", size)
        patch.setattr(delimited, "_WIDEST_BLOCK", size)
        yield


def outcome(folder: Path, content: bytes, **options: Any) -> Any:
    """What becomes of a file: its rows and types, or the error."""
    try:
        result, table = converted(folder, content, **options)
    except ReaderFailed:
        raise
    except UnreadableFile as error:
        return type(error), error.line
    rejected = result.rejects.read_text() if result.rejects else ""
    return table.schema, repr(table.to_pylist()), json.dumps(dict(result.found)), rejected


value = st.one_of(
    st.sampled_from(
        [
            "NA",
            "n/a",
            "-",
            "nan",
            "null",
            "1",
            "-7",
            "007",
            "+1",
            "1.5",
            "1e400",
            "0x1f",
            "true",
            "FALSE",
            "9223372036854775808",
            "1,5",
            "1.234,5",
            "1,234",
            "é",
            'a"b',
            "2024-01-31",
            "2024-01-31T10:00",
            "31/12/2024",
            "03/04/2024",
            "12/31/2024",
            "1.2.2024",
            "2024-01-31T10:00:00Z",
            "",
            " 3 ",
            "x\ny",
            "\r",
            "x" * 70,
        ]
    ),
    st.text('01,;x"\n\r é-', max_size=4),
)


@settings(in_one_folder, max_examples=60)
@given(
    st.lists(st.lists(value, min_size=1, max_size=3), min_size=1, max_size=12),
    st.sampled_from([",", ";"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(8, 64),
    st.sampled_from(["fail", "skip"]),
)
def test_how_a_file_is_cut_into_blocks_makes_no_difference(
    tmp_path: Path, body: list[list[str]], delimiter: str, quoting: Any, size: int, on_bad_rows: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows(
        [[f"c{at}" for at in range(len(body[0]))], *body]
    )
    content = text.getvalue().encode()
    whole = outcome(tmp_path, content, on_bad_rows=on_bad_rows)
    with blocks_of(size):
        assert outcome(tmp_path, content, on_bad_rows=on_bad_rows) == whole


@settings(in_one_folder, max_examples=60)
@given(st.text('a1,"\n\r é', max_size=60), st.integers(4, 40), st.sampled_from(["fail", "skip"]))
def test_nor_does_it_where_quotes_stand_anywhere(
    tmp_path: Path, body: str, size: int, on_bad_rows: str
) -> None:
    content = f"a,b\n{body}".encode()
    whole = outcome(tmp_path, content, on_bad_rows=on_bad_rows, header=True, delimiter=",")
    with blocks_of(size):
        assert outcome(tmp_path, content, on_bad_rows=on_bad_rows, header=True, delimiter=",") == whole


@pytest.mark.parametrize(
    ("content", "names", "header"),
    [
        ("a,b\n1,2\n", ["a", "b"], True),
        ("1,2\n3,4\n", ["column_1", "column_2"], False),
        ("2024-01-01,1.5\n2024-01-02,2.5\n", ["column_1", "column_2"], False),
        ("1,x\n2,y\n", ["1", "x"], True),
        ("1,2\n3,y\n", ["1", "2"], True),
        ("2019,2020,2021\n1.5,2.5,3.5\n", ["2019", "2020", "2021"], True),
        ("1,1\n2,2\n", ["column_1", "column_2"], False),
    ],
)
def test_a_first_row_of_numbers_over_numbers_is_no_header(
    tmp_path: Path, content: str, names: list[str], header: bool
) -> None:
    result, table = converted(tmp_path, content)
    assert table.column_names == names
    assert result.found["header"] is header


def test_whether_there_is_a_header_and_what_the_columns_are_called_can_be_said(tmp_path: Path) -> None:
    assert rows(tmp_path, "1,2\n", header=False) == [{"column_1": 1, "column_2": 2}]
    assert rows(tmp_path, "1,2\n3,4\n", header=True) == [{"1": 3, "2": 4}]
    assert rows(tmp_path, "1,2\n3,4\n", columns=("x", "y"), header=False)[0] == {"x": 1, "y": 2}
    assert rows(tmp_path, "a,b\n3,4\n", columns=("x", "y")) == [{"x": 3, "y": 4}]
    assert "2 values" in refused(tmp_path, "a,b\n1,2\n", columns=("x",)).reason


def test_lines_before_the_header_can_be_passed_over(tmp_path: Path) -> None:
    assert rows(tmp_path, "made by x\r\n\r\na;b\r\n1;2\r\n", skip_rows=2) == [{"a": 1, "b": 2}]
    assert refused(tmp_path, "# é\n# \na,b\n1,2\n3\n", skip_rows=2).line == 5


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("a;b\n1,5;2\n", ";"),
        ("a,b;c\n1,2;3\n", ","),
        ('a\tb\n"x,y,z"\t1,2,3\n', "\t"),
        ("name|size\nx, y|1\n", "|"),
        ("a\n1\n", ","),
    ],
)
def test_the_delimiter_is_the_one_that_gives_all_rows_equally_many_values(
    tmp_path: Path, content: str, delimiter: str
) -> None:
    assert converted(tmp_path, content)[0].found["delimiter"] == delimiter


def test_the_suffix_speaks_for_a_delimiter_and_another_can_be_given(tmp_path: Path) -> None:
    assert rows(tmp_path, "a,b\tc\nx,y\t3\n", "l.tsv") == [{"a,b": "x,y", "c": 3}]
    assert rows(tmp_path, "a|b\n1|2\n", "l.psv") == [{"a": 1, "b": 2}]
    assert rows(tmp_path, "a,b\n1,2\n", "l.tsv") == [{"a": 1, "b": 2}]
    assert rows(tmp_path, "a^b\n1^2\n", delimiter="^") == [{"a": 1, "b": 2}]
    assert rows(tmp_path, gzip.compress(b"a\tb\n1\t2\n"), "l.tsv.gz") == [{"a": 1, "b": 2}]
    assert "not one character" in refused(tmp_path, "a\n1\n", delimiter="||").reason


def test_quotes_can_be_others_or_none(tmp_path: Path) -> None:
    assert rows(tmp_path, "a,b\n'x,y',2\n", quote="'") == [{"a": "x,y", "b": 2}]
    assert rows(tmp_path, 'a,b\n5" pipe,"\n', quote="") == [{"a": '5" pipe', "b": '"'}]
    assert rows(tmp_path, 'a,b\n5" pipe,1\n6" pipe,2\n"q\nr",3\n')[2] == {"a": "q\nr", "b": 3}
    assert rows(tmp_path, 'a,b\n"say ""hi""",1\n') == [{"a": 'say "hi"', "b": 1}]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_are_found(tmp_path: Path, encoding: str, newline: str) -> None:
    text = newline.join(["année;größe", "1;é" + " x" * 40, "2;ü", ""])
    result, table = converted(tmp_path, text.encode(encoding))
    assert table.to_pydict() == {"année": [1, 2], "größe": ["é" + " x" * 40, "ü"]}
    assert result.found["encoding"].startswith(encoding[:5] if encoding[:3] == "utf" else "cp1252")


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis", "gb18030", "cp1253"])
def test_other_letters_are_told_where_there_are_enough_of_them(tmp_path: Path, encoding: str) -> None:
    texts = {
        "cp1251": "Москва и Санкт-Петербург, большие города на реках",
        "shift_jis": "東京と大阪は日本の大きな都市です。ひらがなとカタカナ",
        "gb18030": "北京和上海是中国最大的城市。人口超过两千万。这里有很多公司和学校。",
        "cp1253": "Πόλεις όπως Αθήνα και Θεσσαλονίκη είναι μεγάλες πόλεις της Ελλάδας",
    }
    _, table = converted(tmp_path, f"k;v\n1;{texts[encoding]}\n".encode(encoding))
    assert table["v"].to_pylist() == [texts[encoding]]


def test_an_encoding_that_shows_late_is_found_and_a_given_one_holds(tmp_path: Path) -> None:
    content = ("k,v\n" + "1,x\n" * 300_000 + "2,é\n").encode("latin-1")
    result, table = converted(tmp_path, content)
    assert table["v"][-1].as_py() == "é"
    assert result.found["encoding"] == "cp1252"
    assert rows(tmp_path, "k,v\n1,é\n".encode(), encoding="latin-1") == [{"k": 1, "v": "Ã©"}]
    error = refused(tmp_path, b"k,v\n1,\xe9\n", encoding="ascii")
    assert isinstance(error, BadEncoding)
    assert (error.line, error.byte) == (2, 6)
    assert "no encoding" in refused(tmp_path, b"k\n1\n", encoding="klingon").reason


def test_utf_16_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, "k,v\n1,é\n".encode("utf-16")[:-1]), BadEncoding)


def test_bytes_of_no_text_are_refused(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, b"a,b\n1,\x00\n"), UnknownFormat)
    assert isinstance(refused(tmp_path, b"a,b\n1,\xff\x01\xfe\n"), UnknownFormat)


@pytest.mark.parametrize(
    ("cells", "kind", "first"),
    [
        ("1,5;2,25", "double", 1.5),
        ("1.234,5;7", "double", 1234.5),
        ("1.234.567;1", "int64", 1234567),
        ("1,234.5;1", "double", 1234.5),
        ("1,234,567;1", "int64", 1234567),
        ("1,234;5,678", "string", "1,234"),
        ("1.234;5.678", "double", 1.234),
        ("007,5;1,5", "string", "007,5"),
        ("1,5;1.5", "string", "1,5"),
        ("31/12/2024;03/04/2024", "date32[day]", date(2024, 12, 31)),
        ("12/31/2024;03/04/2024", "date32[day]", date(2024, 12, 31)),
        ("03/04/2024;05/06/2024", "string", "03/04/2024"),
        ("31/12/2024;12/31/2024", "string", "31/12/2024"),
        ("31/02/2024;01/02/2024", "string", "31/02/2024"),
        ("31.12.2024 9:05;1.2.2024 10:00", "timestamp[us]", datetime(2024, 12, 31, 9, 5)),
        ("31-12-2024;01-02-2024", "date32[day]", date(2024, 12, 31)),
        ("2024/03/04;2024/3/5", "date32[day]", date(2024, 3, 4)),
        ("5;N/A", "int64", 5),
        ("5;nan", "int64", 5),
        ("5.5;-", "double", 5.5),
        ("true;null", "bool", True),
        ("2024-01-01;\\N", "date32[day]", date(2024, 1, 1)),
        ("x;N/A", "string", "x"),
        ("?;?", "string", "?"),
        ("nan;nan", "double", None),
        ("-5;-", "int64", -5),
    ],
)
def test_what_a_column_itself_proves_is_taken_and_nothing_else(
    tmp_path: Path, cells: str, kind: str, first: Any
) -> None:
    body = "\n".join(f"{cell}\tx" for cell in cells.split(";"))
    _, table = converted(tmp_path, f"k\tv\n{body}\n")
    assert str(table["k"].type) == kind
    if first is not None:
        assert table["k"][0].as_py() == first


def test_what_was_proved_is_told(tmp_path: Path) -> None:
    result, _ = converted(tmp_path, "n;d;m\n1,5;31/12/2024;-\n2,5;01/02/2024;3\n")
    assert result.found["columns"] == {
        "n": {"decimal": ","},
        "d": {"date_format": "%d/%m/%Y"},
        "m": {"nulls": ["-"]},
    }


def test_a_decimal_comma_in_one_column_makes_a_point_in_another_a_mark_of_thousands(tmp_path: Path) -> None:
    assert rows(tmp_path, "a;b;c\n1,5;1.234;1.5\n2,5;5.678;2.5\n")[0] == {"a": 1.5, "b": 1234, "c": 1.5}


def test_marks_and_formats_can_be_given(tmp_path: Path) -> None:
    assert types(tmp_path, "a;b\n1,234;1.5\n", decimal=",") == ["double", "string"]
    assert rows(tmp_path, "a;b\n1,234;1.5\n", thousands=",") == [{"a": 1234, "b": 1.5}]
    assert rows(tmp_path, "a;b\n1'234.5;2\n", thousands="'") == [{"a": 1234.5, "b": 2}]
    assert rows(tmp_path, "a\n03/04/2024\n", date_format="%m/%d/%Y") == [{"a": date(2024, 3, 4)}]
    assert rows(tmp_path, "a\n3 Jan 24 05:06\n", date_format="%d %b %y %H:%M") == [
        {"a": datetime(2024, 1, 3, 5, 6)}
    ]
    assert types(tmp_path, "a,b\nNA,x\n1,none\n", nulls=("none",)) == ["string", "string"]
    assert rows(tmp_path, "a,b\n-,x\n1,none\n", nulls=("none", "-")) == [
        {"a": None, "b": "x"},
        {"a": 1, "b": None},
    ]


def test_types_can_be_given(tmp_path: Path) -> None:
    given = {"i": "text", "n": "number", "d": "decimal(10,2)", "t": "timestamp", "b": "boolean"}
    _, table = converted(tmp_path, "i,n,d,t,b\n7,1,1.50,2024-01-01,true\n", types=given)
    assert table.to_pylist() == [
        {"i": "7", "n": 1.0, "d": Decimal("1.50"), "t": datetime(2024, 1, 1), "b": True}
    ]
    assert refused(tmp_path, "a\n1\n", types={"b": "text"}).column == "b"
    error = refused(tmp_path, 'a,b\n1,"x\ny"\n\n2.5,z\n', types={"a": "integer"})
    assert isinstance(error, BadRow)
    assert error.line == 5
    assert "'2.5' in a" in error.reason


def test_rows_that_cannot_be_read_are_kept_apart_with_line_and_reason_on_request(tmp_path: Path) -> None:
    content = b'a,b\n1,"x\ny"\n2\n3,4,5\n\n6,\xff\nseven,z\n8,"open\n9,w\n'
    options: dict[str, Any] = {"on_bad_rows": "skip", "types": {"a": "integer"}, "encoding": "utf-8"}
    result, table = converted(tmp_path, content, **options)
    assert table.to_pydict() == {"a": [1, 9], "b": ["x\ny", "w"]}
    assert result.rejects is not None
    kept = [json.loads(line) for line in result.rejects.read_text().splitlines()]
    assert [(one["line"], one["row"]) for one in kept] == [
        (4, "2"),
        (5, "3,4,5"),
        (7, "6,\\xff"),
        (8, "seven,z"),
        (9, '8,"open'),
    ]
    assert result.rejected == len(kept) == 5
    assert "1 value," in kept[0]["reason"]
    assert "0xff" in kept[2]["reason"]
    assert "never closed" in kept[4]["reason"]


def test_bad_rows_in_large_files_are_named_by_their_lines(tmp_path: Path) -> None:
    body = "".join(f"{number},x\n" + ("bad\n" if number % 100_000 == 7 else "") for number in range(400_000))
    result, table = converted(tmp_path, f"a,b\n{body}", on_bad_rows="skip")
    assert table.num_rows == 400_000
    assert result.rejects is not None
    lines = [json.loads(line)["line"] for line in result.rejects.read_text().splitlines()]
    assert lines == [10, 100_011, 200_012, 300_013]


def test_a_file_of_nothing_but_bad_rows_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "a,b\n1\n2\n", on_bad_rows="skip", header=True, delimiter=",")
    assert isinstance(error, EmptyFile)
    assert "none of its 2 rows" in error.reason


def test_ten_thousand_columns_are_taken(tmp_path: Path) -> None:
    width = 10_000
    content = ",".join(f"c{at}" for at in range(width)) + "\n" + (",".join(["1.5"] * width) + "\n") * 3
    _, table = converted(tmp_path, content)
    assert table.shape == (3, width)
    assert table["c9999"].to_pylist() == [1.5] * 3


def test_a_single_line_of_200_megabytes_is_a_value_and_no_header(tmp_path: Path) -> None:
    source, piece = tmp_path / "landed", b"x" * 2**20
    with source.open("wb") as file:
        file.write(b"a,b\n1,")
        for _ in range(200):
            file.write(piece)
        file.write(b"\n")
    result = convert_one(source, "landed.csv", tmp_path / "sink.parquet")
    assert result.rows == 1
    with source.open("r+b") as file:
        file.write(b"x" * 6)
    with pytest.raises(UnreadableFile, match="longer than 16 MB") as caught:
        convert_one(source, "landed.csv", tmp_path / "other.parquet")
    assert caught.value.line == 1


def test_a_line_of_many_values_is_counted_and_not_kept(tmp_path: Path) -> None:
    error = refused(tmp_path, b"a,b\n" + b"1," * 2_000_000 + b"\n")
    assert isinstance(error, RaggedRows)
    assert "2,000,001 values" in error.reason
    assert "100,000 values" in refused(tmp_path, b"1," * 200_000 + b"\n1\n").reason


def test_a_compressed_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)
    error = refused(tmp_path, packed, "l.csv.gz", unpacked=300_000)
    assert isinstance(error, UnsafeArchive)
    assert "300,000 bytes" in error.reason
    assert len(rows(tmp_path, packed, "l.csv.gz", unpacked=500_000)) == 100_000


@pytest.mark.parametrize(
    ("content", "is_table"),
    [
        ("a\tb\n1\t2\n", True),
        ("a,b\n1,2\n3,4\n", True),
        ("Dear all,\nwe met, as agreed.\n", False),
        ("one, two\nthree, four\n", False),
        ("just a line\n", False),
        ("a;b\n1;2\n3\n", False),
    ],
)
def test_a_text_file_is_a_table_where_it_is_delimited_throughout(
    tmp_path: Path, content: str, is_table: bool
) -> None:
    _, table = converted(tmp_path, content, "landed.txt")
    assert ("document" not in table.column_names) is is_table


@in_one_folder
@given(st.data())
def test_what_is_flipped_or_cut_off_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = 'id;név;d\n1;"a;""b""\nc";2024-01-01\n2;é;2024-01-02\n' * 3
    whole = bytearray(text.encode(data.draw(st.sampled_from(["utf-8", "iso8859-2", "utf-16"]))))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    packed = data.draw(st.booleans())
    if packed:
        content = gzip.compress(content)[: data.draw(st.sampled_from([None, -1, -9]))]
    try:
        result, table = converted(
            tmp_path,
            content,
            "l.csv.gz" if packed else "l.csv",
            on_bad_rows=data.draw(st.sampled_from(["fail", "skip"])),
        )
    except ReaderFailed:
        raise
    except TruncatedFile:
        if not packed:
            raise
    except UnreadableFile:
        pass
    else:
        assert result.rows == table.num_rows > 0


frames = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64),
            "b": st.none() | st.booleans(),
            "d": st.none() | st.dates(date(1900, 1, 1), date(2200, 1, 1)),
            "t": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
            "s": st.none()
            | st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).map(
                "~{}".format
            ),
        }
    ),
    min_size=1,
    max_size=12,
)
schema: dict[str, Any] = {
    "i": pl.Int64,
    "f": pl.Float64,
    "b": pl.Boolean,
    "d": pl.Date,
    "t": pl.Datetime("us"),
    "s": pl.String,
}


@settings(in_one_folder, max_examples=40)
@given(frames, st.sampled_from(["csv", "tsv"]), st.sampled_from(["pandas", "polars"]))
def test_frames_that_other_libraries_write_come_back(
    tmp_path: Path, body: list[dict[str, Any]], suffix: str, writer: str
) -> None:
    frame = pl.DataFrame(body, schema=schema)
    separator = "\t" if suffix == "tsv" else ","
    if writer == "polars":
        text = frame.write_csv(separator=separator)
    else:
        text = pd.DataFrame({name: frame[name].to_list() for name in schema}, dtype=object).to_csv(
            sep=separator, index=False, lineterminator="\n"
        )
    _, table = converted(tmp_path, text, f"landed.{suffix}", header=True)
    for name in schema:
        wanted = frame[name].to_list()
        found = table[name].to_pylist()
        if name == "t" and pa.types.is_date(table[name].type):
            found = [one and datetime(one.year, one.month, one.day) for one in found]
        assert found == wanted, name
