"""Small files of every format and with every fault, each with the table it holds or the reason why it is refused.

The files are made here, by other libraries where there are some, so that everybody sees what is in them.
"""

import bz2
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docx
import duckdb
import fastavro
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import xlwt
from odf import opendocument, table, text
from openpyxl.chart import BarChart
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

from mlassets.ingestion.errors import (
    BadEncoding,
    BadRow,
    EmptyFile,
    MissingTable,
    NotRecords,
    Protected,
    RaggedRows,
    TooLarge,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
    UnsafeXml,
    WrongType,
)

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Table:
    """A table that a file is expected to hold: names and types of the columns, and the rows."""

    columns: tuple[tuple[str, str], ...]
    rows: Rows
    rejected: int = 0


@dataclass(frozen=True)
class Refused:
    """An error that a file is expected to be refused with, and words that stand in it."""

    error: type[UnreadableFile]
    words: str


@dataclass(frozen=True)
class Case:
    """A file, how it is read, and what becomes of it."""

    what: str
    name: str
    content: bytes
    becomes: Mapping[str, Table] | Refused
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def holds(columns: str, *rows: tuple[Any, ...], rejected: int = 0) -> dict[str, Table]:
    """One table without a name; its columns as `a:int64 b:string`, with `_` for a blank in a name or type."""
    return {"": Table(_columns(columns), rows, rejected)}


def tables(**given: tuple[str, Rows]) -> dict[str, Table]:
    """Several tables by name."""
    return {name: Table(_columns(columns), rows) for name, (columns, rows) in given.items()}


def _columns(columns: str) -> tuple[tuple[str, str], ...]:
    pairs = (one.partition(":") for one in columns.split())
    return tuple((name.replace("~", " "), kind.replace("~", " ")) for name, _, kind in pairs)


def document(*parts: str) -> str:
    """Words that the texts of a document are."""
    return "\n".join(parts)


def _bytes(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _in_a_file(write: Callable[[str], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        write(str(path))
        return path.read_bytes()


def _workbook(*sheets: tuple[str, Iterable[Sequence[Any]]], **extra: Any) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    for change in extra.values():
        change(book)
    return _bytes(book.save)


def _old_workbook(rows: Sequence[Sequence[Any]], *, locked: bool = False) -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("S")
    day = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for at, row in enumerate(rows):
        for column, value in enumerate(row):
            if value is not None:
                sheet.write(at, column, value, *([day] if isinstance(value, dt.date) else []))
    content = bytearray(_bytes(book.save))
    if locked:
        # The record after the beginning of the book becomes the one that says it is encrypted.
        start = content.index(b"\x09\x08\x10\x00\x00\x06\x05\x00") + 20
        content[start : start + 2] = b"\x2f\x00"
    return bytes(content)


def _open_document(rows: Sequence[Sequence[Any]]) -> bytes:
    book = opendocument.OpenDocumentSpreadsheet()
    sheet = table.Table(name="S")
    for row in rows:
        line = table.TableRow()
        for value in row:
            kind = "float" if isinstance(value, int | float) else "string"
            cell = table.TableCell(valuetype=kind, **({"value": value} if kind == "float" else {}))
            if value is not None:
                cell.addElement(text.P(text=str(value)))
            line.addElement(cell if value is not None else table.TableCell())
        sheet.addElement(line)
    book.spreadsheet.addElement(sheet)
    return _bytes(book.write)


def _zip(members: Mapping[str, bytes]) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return _bytes(write)


def _tar(members: Mapping[str, bytes], mode: Any = "w") -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name, content in members.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))

    return _bytes(write)


def _tar_link() -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            about = tarfile.TarInfo("a.csv")
            about.type, about.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(about)

    return _bytes(write)


def _zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def _arrow(data: pa.Table, *, stream: bool = False) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(buffer, data.schema) as writer:
            writer.write_table(data)

    return _bytes(write)


def _avro(schema: Any, records: list[Any], codec: str = "null") -> bytes:
    return _bytes(lambda buffer: fastavro.writer(buffer, schema, records, codec=codec, sync_marker=b"0" * 16))


def _avro_record(*fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def _sqlite(*statements: str) -> bytes:
    def write(path: str) -> None:
        database = sqlite3.connect(path)
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.close()

    return _in_a_file(write, ".sqlite")


def _duckdb(*statements: str) -> bytes:
    def write(path: str) -> None:
        with duckdb.connect(path) as database:
            for statement in statements:
                database.execute(statement)

    return _in_a_file(write, ".duckdb")


def _pdf(*pages: str, password: str | None = None) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        locked = pdfencrypt.StandardEncryption(password) if password else None
        drawing = canvas.Canvas(buffer, encrypt=locked, invariant=1)
        for page in pages:
            drawing.drawString(72, 700, page)
            drawing.showPage()
        drawing.save()

    return _bytes(write)


def _word(heading: str, paragraph: str) -> bytes:
    made = docx.Document()
    made.add_heading(heading, 1)
    made.add_paragraph(paragraph)
    return _bytes(made.save)


def _parquet(data: pa.Table) -> bytes:
    return _bytes(lambda buffer: pq.write_table(data, buffer))


AB = holds("a:int64 b:string", (1, "x"), (2, "y"))
CSV = b"a,b\n1,x\n2,y\n"
A = pa.table({"a": pa.array([1, 2]), "b": ["x", "y"]})
BIG = 2**53 + 1
DAY, NIGHT = dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4, 5)
DOC = "document:string page:int32 part:int32 heading:string text:string links:list<element:~string>"
EMPTY = Refused(EmptyFile, "")
CUT = Refused(TruncatedFile, "")


def _delimited() -> Iterable[Case]:
    def csv(what: str, content: bytes | str, becomes: Any, name: str = "a.csv", **options: Any) -> Case:
        return Case(what, name, content.encode() if isinstance(content, str) else content, becomes, options)

    yield csv("plain", CSV, AB)
    yield csv("no line end at the end", CSV.rstrip(), AB)
    yield csv("CRLF", CSV.replace(b"\n", b"\r\n"), AB)
    yield csv("CR", CSV.replace(b"\n", b"\r"), AB)
    yield csv("semicolons", CSV.replace(b",", b";"), AB)
    yield csv("bars", CSV.replace(b",", b"|"), AB, "a.psv")
    yield csv("tabs", CSV.replace(b",", b"\t"), AB, "a.tsv")
    yield csv("tabs under another suffix", CSV.replace(b",", b"\t"), AB, "a.tab")
    yield csv("a given delimiter", CSV.replace(b",", b"~"), AB, delimiter="~")
    yield csv("gzip", gzip.compress(CSV), AB, "a.csv.gz")
    yield csv("tabs in gzip", gzip.compress(CSV.replace(b",", b"\t")), AB, "a.tsv.gz")
    yield csv("gzip cut off", gzip.compress(CSV * 50)[:-12], CUT, "a.csv.gz")
    yield csv("text in place of gzip", CSV, Refused(UnknownFormat, "gzip"), "a.csv.gz")
    yield csv("UTF-8 with a BOM", b"\xef\xbb\xbf" + CSV, AB)
    yield csv("UTF-16", CSV.decode().encode("utf-16"), AB)
    yield csv("UTF-16 big-endian", b"\xfe\xff" + CSV.decode().encode("utf-16-be"), AB)
    yield csv("UTF-32", CSV.decode().encode("utf-32"), AB)
    latin = "stadt,n\nKöln,1\nMünchen,2\nDüsseldorf,3\n"
    cities = holds("stadt:string n:int64", ("Köln", 1), ("München", 2), ("Düsseldorf", 3))
    yield csv("Latin-1", latin.encode("latin-1"), cities)
    yield csv("a given encoding", latin.encode("cp1252"), cities, encoding="cp1252")
    yield csv(
        "a given encoding that it is not in",
        latin.encode("latin-1"),
        Refused(BadEncoding, "0xf6"),
        encoding="utf-8",
    )
    yield csv("quotes in quotes", 'a,b\n1,"say ""hi"""\n', holds("a:int64 b:string", (1, 'say "hi"')))
    yield csv("a delimiter in quotes", 'a,b\n1,"x,y"\n', holds("a:int64 b:string", (1, "x,y")))
    yield csv(
        "line breaks in quotes",
        'a,b\n1,"x\ny"\n2,"z\r\n"\n',
        holds("a:int64 b:string", (1, "x\ny"), (2, "z\r\n")),
    )
    yield csv("a quote that is never closed", 'a,b\n1,"x\n2,y\n', Refused(RaggedRows, "never closed"))
    yield csv("a row too long", "a,b\n1,x\n2,y,z\n", Refused(RaggedRows, "line 3"))
    yield csv("a row too short", "a,b\n1,x\n2\n", Refused(RaggedRows, "line 3"))
    yield csv(
        "a row too long, skipped",
        "a,b\n1,x\n2,y,z\n2,y\n",
        holds("a:int64 b:string", (1, "x"), (2, "y"), rejected=1),
        on_bad_rows="skip",
    )
    yield csv("blank lines", "a,b\n1,x\n\n2,y\n\n", AB)
    yield csv("nothing", b"", Refused(EmptyFile, "0 bytes"))
    yield csv("blanks only", "\n \n", EMPTY)
    yield csv("header only", "a,b\n", EMPTY)
    yield csv("no header", "1,2.5\n2,3.5\n", holds("column_1:int64 column_2:double", (1, 2.5), (2, 3.5)))
    yield csv(
        "a header that is denied",
        "a,b\n1,x\n",
        holds("column_1:string column_2:string", ("a", "b"), ("1", "x")),
        header=False,
    )
    yield csv(
        "a header of numbers that is insisted on", "1,2\n3,4\n", holds("1:int64 2:int64", (3, 4)), header=True
    )
    yield csv("names that are given", CSV, holds("p:int64 q:string", (1, "x"), (2, "y")), columns=("p", "q"))
    yield csv("names twice", "a,a,A\n1,2,3\n", holds("a:int64 a_2:int64 A_3:int64", (1, 2, 3)))
    yield csv("a blank name", ",b\n1,x\n", holds("column_1:int64 b:string", (1, "x")))
    yield csv("lines above the header", "report\nof today\na,b\n1,x\n2,y\n", AB, skip_rows=2)
    yield csv("a formula, which stays text", "a,b\n1,=1+1\n", holds("a:int64 b:string", (1, "=1+1")))
    yield csv("leading zeros", "a\n007\n010\n", holds("a:string", ("007",), ("010",)))
    yield csv("whole numbers beyond 2^53", f"a\n{BIG}\n", holds("a:int64", (BIG,)))
    yield csv(
        "whole numbers beyond 2^63", "a\n9223372036854775808\n", holds("a:string", ("9223372036854775808",))
    )
    yield csv("numbers and a text", "a\n1\nx\n", holds("a:string", ("1",), ("x",)))
    yield csv(
        "ISO dates and times",
        "a,b\n2024-01-02,2024-01-02 03:04:05\n",
        holds("a:date32[day] b:timestamp[us]", (DAY, NIGHT)),
    )
    yield csv("dates that could be either way", "a\n03/04/2024\n", holds("a:string", ("03/04/2024",)))
    yield csv(
        "dates of which one tells",
        "a\n03/04/2024\n31/04/2023\n".replace("31/04", "31/05"),
        holds("a:date32[day]", (dt.date(2024, 4, 3),), (dt.date(2023, 5, 31),)),
    )
    yield csv(
        "dates in a given form",
        "a\n03/04/2024\n",
        holds("a:date32[day]", (dt.date(2024, 4, 3),)),
        date_format="%d/%m/%Y",
    )
    yield csv("decimal commas", "a;b\n1,5;x\n2,25;y\n", holds("a:double b:string", (1.5, "x"), (2.25, "y")))
    yield csv(
        "markers of null beside numbers",
        "a,b\n1,x\nN/A,y\n",
        holds("a:int64 b:string", (1, "x"), (None, "y")),
    )
    yield csv(
        "markers of null beside texts", "a,b\n1,x\n2,N/A\n", holds("a:int64 b:string", (1, "x"), (2, "N/A"))
    )
    yield csv("a marker that is given", "a\n1\n-999\n", holds("a:int64", (1,), (None,)), nulls=("-999",))
    yield csv(
        "Namibia", 'a,b\n1,"NA"\n2,NA\n3,x\n', holds("a:int64 b:string", (1, "NA"), (2, None), (3, "x"))
    )
    yield csv(
        "a type that is given", CSV, holds("a:string b:string", ("1", "x"), ("2", "y")), types={"a": "text"}
    )
    yield csv("a type that is given and wrong", CSV, Refused(BadRow, "b"), types={"b": "integer"})
    yield csv("booleans", "a,b\ntrue,1\nFALSE,2\n", holds("a:bool b:int64", (True, 1), (False, 2)))
    yield csv("a ZIP archive by another name", _zip({"a.csv": CSV}), Refused(UnknownFormat, "ZIP"))
    yield csv("a Parquet file by another name", _parquet(A), Refused(UnknownFormat, "Parquet"))
    yield csv(
        "a suffix that nobody knows", b"\x00\x01\x02\x03", Refused(UnknownFormat, "Land one of"), "a.xyz"
    )
    yield csv("no suffix", CSV, AB, "export")
    yield csv("any name", CSV, AB, "Ж 漢字 🛫 'a\" ;--.CSV")
    yield csv("a table in a text file", CSV.replace(b",", b"\t"), AB, "a.txt")
    yield csv(
        "a thousand columns",
        ",".join(f"c{n}" for n in range(1000)) + "\n" + ",".join(["1"] * 1000) + "\n",
        holds(" ".join(f"c{n}:int64" for n in range(1000)), (1,) * 1000),
    )
    yield csv(
        "fixed width",
        "id  name \n001 Anna \n002 Bob  \n",
        holds("id:string name:string", ("001", "Anna"), ("002", "Bob")),
        "a.fwf",
        widths=(4, 5),
    )
    yield csv(
        "fixed width in a text file",
        "id  n\n001 5\n002 7\n",
        holds("id:string n:int64", ("001", 5), ("002", 7)),
        "b.txt",
        widths=(4, 1),
    )


def _json() -> Iterable[Case]:
    def case(what: str, content: bytes | str, becomes: Any, name: str = "a.json", **options: Any) -> Case:
        return Case(what, name, content.encode() if isinstance(content, str) else content, becomes, options)

    def lines(what: str, content: bytes | str, becomes: Any, **options: Any) -> Case:
        return case(what, content, becomes, "a.jsonl", **options)

    yield case("a list of objects", '[{"a":1,"b":"x"},\n {"a":2,"b":"y"}]', AB)
    yield case("lines in a document", '{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n', AB)
    yield case("records in an object", '{"n":2,"data":[{"a":1,"b":"x"},{"a":2,"b":"y"}]}', AB)
    yield case(
        "two lists",
        '{"x":[{"a":1}],"y":[{"b":"z"}]}',
        tables(x=("a:int64", [(1,)]), y=("b:string", [("z",)])),
    )
    yield case(
        "one of two lists", '{"x":[{"a":1}],"y":[{"b":"z"}]}', tables(y=("b:string", [("z",)])), tables=("y",)
    )
    yield case("a list that is not there", '{"x":[{"a":1}]}', Refused(NotRecords, "there is x"), records="y")
    yield case("a path to the records", '{"r":{"s":[{"a":1}]}}', holds("a:int64", (1,)), records="r.s")
    yield case(
        "a single object", '{"a":1,"b":{"c":"x"}}', holds("a:int64 b:struct<c:~string>", (1, {"c": "x"}))
    )
    yield case(
        "nested objects and lists",
        '[{"a":{"b":[1,2]}},{"a":{"b":[],"c":true}}]',
        holds(
            "a:struct<b:~list<element:~int64>,~c:~bool>", ({"b": [1, 2], "c": None},), ({"b": [], "c": True},)
        ),
    )
    yield case(
        "objects of changing shape",
        '[{"a":{"b":1}},{"a":[1]},{"a":"x"}]',
        holds("a:string", ('{"b":1}',), ("[1]",), ('"x"',)),
    )
    yield case("empty objects", '[{"a":1,"b":{}}]', holds("a:int64 b:string", (1, "{}")))
    yield case(
        "members that come and go", '[{"a":1},{"b":"x"}]', holds("a:int64 b:string", (1, None), (None, "x"))
    )
    yield case("rows with a header", '[["a","b"],[1,"x"],[2,"y"]]', AB)
    yield case(
        "rows without a header",
        '[[1,"x"],[2,"y"]]',
        holds("column_1:int64 column_2:string", (1, "x"), (2, "y")),
    )
    yield case("split, as pandas writes it", A.to_pandas().to_json(orient="split"), AB)
    yield case("columns, as pandas writes it", A.to_pandas().to_json(), AB)
    yield case("records, as pandas writes it", A.to_pandas().to_json(orient="records", indent=2), AB)
    yield case("a list of numbers", "[1,2]", Refused(BadRow, "a number, not an object"))
    yield case("a number", "5", Refused(NotRecords, "single value"))
    yield case("an empty list", "[]", EMPTY)
    yield case("blanks", " \n", EMPTY)
    yield case("cut off in a list", '[{"a":1},{"a":2', Refused(TruncatedFile, "closed"))
    yield case("cut off in an object", '{"d":[{"a":1}', Refused(TruncatedFile, "closed"))
    yield case("something after the end", '{"a":1} x', Refused(NotRecords, "follows the end"))
    yield case("names without quotes", "[{a:1}]", Refused(BadRow, "line 1"))
    yield case("an encoding that nobody knows", "[]", Refused(BadEncoding, "klingon"), encoding="klingon")
    yield case("not JSON", "hello", Refused(NotRecords, "not records"))
    yield case("a member twice", '[{"a":1,"a":2}]', Refused(BadRow, "given twice"))
    yield case("names that differ only in case", '[{"a":1,"A":2}]', holds("a:int64 A_2:int64", (1, 2)))
    yield case("UTF-16", '[{"a":"é"}]'.encode("utf-16"), holds("a:string", ("é",)))
    yield case("UTF-16 without a mark", '[{"a":"é"}]'.encode("utf-16-le"), holds("a:string", ("é",)))
    yield case("a BOM", '\ufeff[{"a":"é"}]', holds("a:string", ("é",)))
    yield case(
        "brackets and quotes in texts",
        r'[{"a":"x\"],[{"},{"a":"\\"}]',
        holds("a:string", ('x"],[{',), ("\\",)),
    )
    points = '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"n":1}}]}'
    yield case(
        "GeoJSON",
        points,
        holds("type:string properties:struct<n:~int64>", ("Feature", {"n": 1})),
        "a.geojson",
    )
    yield lines("plain", '{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n', AB)
    yield case("another suffix", '{"a":1,"b":"x"}\n\n{"a":2,"b":"y"}', AB, "a.ndjson")
    yield lines("CRLF", '{"a":1,"b":"x"}\r\n{"a":2,"b":"y"}\r\n', AB)
    yield lines("CR", '{"a":1,"b":"x"}\r{"a":2,"b":"y"}\r', AB)
    yield lines("a list in spite of the name", '[{"a":1,"b":"x"},{"a":2,"b":"y"}]', AB)
    yield lines("whole numbers beyond 2^53", f'{{"a":{BIG}}}\n', holds("a:int64", (BIG,)))
    yield lines(
        "whole numbers beyond 2^63",
        '{"a":9223372036854775808}\n{"a":1}\n',
        holds("a:string", ("9223372036854775808",), ("1",)),
    )
    yield lines("whole numbers and fractions", '{"a":1}\n{"a":2.5}\n', holds("a:double", (1.0,), (2.5,)))
    yield lines(
        "numbers and a text", '{"a":1}\n{"a":"x"}\n{"a":true}\n', holds("a:string", ("1",), ("x",), ("true",))
    )
    yield lines(
        "texts that look like numbers", '{"a":"007"}\n{"a":"12"}\n', holds("a:string", ("007",), ("12",))
    )
    yield lines(
        "dates and times",
        '{"a":"2024-01-02","b":"2024-01-02T03:04:05"}\n',
        holds("a:date32[day] b:timestamp[us]", (DAY, NIGHT)),
    )
    yield lines(
        "dates and a text", '{"a":"2024-01-02"}\n{"a":"x"}\n', holds("a:string", ("2024-01-02",), ("x",))
    )
    yield lines("a bad line", '{"a":1}\n{"a":}\n', Refused(BadRow, "line 2"))
    yield lines(
        "a bad line, skipped",
        '{"a":1}\n{"a":}\n5\n{"a":2}\n',
        holds("a:int64", (1,), (2,), rejected=2),
        on_bad_rows="skip",
    )
    yield lines("bytes that are no UTF-8", b'{"a":"x"}\n{"a":"\xff"}\n', Refused(BadEncoding, "line 2"))
    yield lines("half of a surrogate pair", '{"a":"\\ud800"}\n', Refused(BadRow, "surrogate"))
    yield lines(
        "nested a hundred thousand deep",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}\n",
        Refused(BadRow, "nested too deeply"),
    )
    yield lines(
        "a type that is given", '{"a":"1"}\n{"a":"2"}\n', holds("a:int64", (1,), (2,)), types={"a": "integer"}
    )
    yield lines(
        "a type that is given and wrong",
        '{"a":"1"}\n{"a":"x"}\n',
        Refused(WrongType, "'x'"),
        types={"a": "integer"},
    )
    yield lines(
        "more members than a table has columns",
        "".join(json.dumps({f"k{n}": 1}) + "\n" for n in range(20_001)),
        Refused(NotRecords, "different names"),
    )
    yield lines(
        "keys that are values",
        "".join(json.dumps({"a": {f"k{n}": n}}) + "\n" for n in range(600)),
        holds("a:string", *((f'{{"k{n}":{n}}}',) for n in range(600))),
    )


def _spreadsheets() -> Iterable[Case]:
    def case(
        what: str, content: bytes, becomes: Any, name: str = "a.xlsx", notes: str = "", **options: Any
    ) -> Case:
        return Case(what, name, content, becomes, options, notes)

    ab = [("a", "b"), (1, "x"), (2, "y")]
    yield case("a sheet", _workbook(("S", ab)), {"S": AB[""]})
    yield case("with macros, by its suffix", _workbook(("S", ab)), {"S": AB[""]}, "a.xlsm")
    yield case(
        "two sheets",
        _workbook(("S", ab), ("T", [("c",), (1.5,)])),
        {"S": AB[""], **tables(T=("c:double", [(1.5,)]))},
    )
    yield case(
        "one of two sheets",
        _workbook(("S", ab), ("T", [("c",), (1.5,)])),
        tables(T=("c:double", [(1.5,)])),
        tables=("T",),
    )
    yield case(
        "a sheet that is not there",
        _workbook(("S", ab)),
        Refused(MissingTable, "its tables are S"),
        tables=("T",),
    )
    typed = [
        ("f", "d", "t", "c", "o", "w"),
        (1.5, DAY, NIGHT, dt.time(1, 2, 3), True, "007"),
        (2, None, None, None, None, "8"),
    ]
    kinds = "f:double d:date32[day] t:timestamp[us] c:time64[us] o:bool w:string"
    yield case(
        "types", _workbook(("S", typed)), tables(S=(kinds, [typed[1], (2.0, None, None, None, None, "8")]))
    )
    yield case(
        "a column of numbers and texts",
        _workbook(("S", [("a",), (1,), ("x",)])),
        tables(S=("a:string", [("1",), ("x",)])),
    )
    errors = [("a", "b"), (1, "#N/A"), ("#DIV/0!", "x")]
    yield case(
        "cells with errors",
        _workbook(("S", errors)),
        tables(S=("a:int64 b:string", [(1, None), (None, "x")])),
    )
    yield case(
        "a title and blank rows", _workbook(("S", [("Report",), (), *ab[:2], (), ab[2]])), {"S": AB[""]}
    )
    yield case(
        "names twice and none",
        _workbook(("S", [("a", "a", None), (1, 2, 3)])),
        tables(S=("a:int64 a_2:int64 column_3:int64", [(1, 2, 3)])),
    )
    yield case(
        "no header",
        _workbook(("S", [(1, 2.5), (2, 3.5)])),
        tables(S=("column_1:int64 column_2:double", [(1, 2.5), (2, 3.5)])),
    )
    yield case(
        "years as names",
        _workbook(("S", [("a", 2020), ("x", 1)])),
        tables(S=("a:string 2020:int64", [("x", 1)])),
    )
    yield case(
        "an index, as pandas writes it",
        _bytes(lambda b: pd.DataFrame({"a": [1]}, index=["p"]).to_excel(b)),
        tables(Sheet1=("column_1:string a:int64", [("p", 1)])),
    )
    merged = _workbook(
        ("S", [("a", "b"), ("x", 1), (None, 2)]), merge=lambda book: book["S"].merge_cells("A2:A3")
    )
    yield case("merged cells", merged, tables(S=("a:string b:int64", [("x", 1), ("x", 2)])))
    hidden = _workbook(("S", ab), ("T", ab), hide=lambda book: setattr(book["T"], "sheet_state", "hidden"))
    yield case("a hidden sheet", hidden, {"S": AB[""]}, notes="T was left out: it is hidden")
    yield case("a hidden sheet that is named", hidden, {"T": AB[""]}, tables=("T",))
    yield case(
        "an empty sheet beside one", _workbook(("S", ab), ("T", [])), {"S": AB[""]}, notes="T was left out"
    )
    yield case("only empty sheets", _workbook(("S", [])), EMPTY)
    yield case("header only", _workbook(("S", ab[:1])), EMPTY)
    chart = _workbook(("S", ab), chart=lambda book: book.create_chartsheet("C").add_chart(BarChart()))
    yield case("a chart", chart, {"S": AB[""]}, notes="C was left out: it is a chart")
    yield case(
        "a cell in the last corner",
        _workbook(("S", ab), far=lambda book: book["S"].cell(1_048_576, 16_384, 1)),
        Refused(TooLarge, "17,179,869,184"),
    )
    for what, place in (("row", b"A99999999"), ("column", b"ZZZZ2")):
        far = _zip(
            {
                one: zipped.read(one).replace(b'r="A2"', b'r="' + place + b'"')
                for zipped in [zipfile.ZipFile(io.BytesIO(_workbook(("S", ab))))]
                for one in zipped.namelist()
            }
        )
        yield case(f"a cell in a {what} that no sheet has", far, Refused(TooLarge, "reaches to column"))
    yield case("cut off", _workbook(("S", ab))[:-200], CUT)
    yield case("a text by this name", b"a,b\n1,x\n", Refused(UnknownFormat, "Excel"))
    yield case("an archive by this name", _zip({"a.csv": CSV}), Refused(UnknownFormat, ""))
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le")
    yield case("locked with a password", locked, Refused(Protected, "password"))
    yield case(
        "formulas without values",
        _workbook(("S", [("a", "b"), (1, "=A2+1")])),
        tables(S=("a:int64 b:null", [(1, None)])),
    )
    yield case(
        "names and types that are given",
        _workbook(("S", ab)),
        tables(S=("p:string q:string", [("1", "x"), ("2", "y")])),
        columns=("p", "q"),
        types={"p": "text"},
    )
    old = [("a", "b", "d"), (1, "x", DAY), (2, "y", None)]
    yield case(
        "an old workbook",
        _old_workbook(old),
        tables(S=("a:int64 b:string d:date32[day]", [(1, "x", DAY), (2, "y", None)])),
        "a.xls",
    )
    yield case(
        "an old workbook, locked", _old_workbook(old, locked=True), Refused(Protected, "password"), "a.xls"
    )
    yield case("an old workbook, cut off", _old_workbook(old)[:1500], CUT, "a.xls")
    yield case("OpenDocument", _open_document(ab), {"S": AB[""]}, "a.ods")
    content = zipfile.ZipFile(io.BytesIO(_open_document([("a",), (1,)]))).read("content.xml")
    mime = {"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}
    many = content.replace(
        b"<table:table-row>", b'<table:table-row table:number-rows-repeated="1000000">'
    ).replace(b"<table:table-cell ", b'<table:table-cell table:number-columns-repeated="9000" ')
    yield case(
        "OpenDocument that repeats a cell for ever",
        _zip({**mime, "content.xml": many}),
        Refused(TooLarge, "rows"),
        "a.ods",
    )
    entity = b'<!DOCTYPE x [<!ENTITY a "b">]>' + content[content.index(b"?>") + 2 :]
    yield case(
        "OpenDocument with an entity",
        _zip({**mime, "content.xml": entity}),
        Refused(UnsafeXml, "entity"),
        "a.ods",
    )
    manifest = {"META-INF/manifest.xml": b"<manifest:encryption-data/>"}
    yield case(
        "OpenDocument, locked",
        _zip({**mime, "content.xml": b"?", **manifest}),
        Refused(Protected, "password"),
        "a.ods",
    )


def _markup() -> Iterable[Case]:
    def case(what: str, content: bytes | str, becomes: Any, name: str = "a.xml", **options: Any) -> Case:
        return Case(what, name, content.encode() if isinstance(content, str) else content, becomes, options)

    yield case("elements", "<r><o><a>1</a><b>x</b></o><o><a>2</a><b>y</b></o></r>", AB)
    yield case("attributes", '<r><o a="1" b="x"/><o a="2" b="y"/></r>', AB)
    yield case(
        "an attribute and a child of one name",
        '<r><o a="1"><a>2</a></o><o a="3"><a>4</a></o></r>',
        holds("@a:int64 a:int64", (1, 2), (3, 4)),
    )
    yield case(
        "children within children",
        "<r><o><p><q>1</q></p></o><o><p><q>2</q></p></o></r>",
        holds("p.q:int64", (1,), (2,)),
    )
    yield case(
        "a child that is repeated",
        "<r><o><t>a</t><t>b</t></o><o><t>c</t></o></r>",
        holds("t:string", ('["a", "b"]',), ('["c"]',)),
    )
    yield case("one record", "<r><a>1</a><b>x</b></r>", holds("a:int64 b:string", (1, "x")))
    yield case(
        "two kinds of records",
        '<r><o a="1"/><o a="2"/><p b="x"/><p b="y"/></r>',
        tables(o=("a:int64", [(1,), (2,)]), p=("b:string", [("x",), ("y",)])),
    )
    yield case(
        "a path to the records", "<r><d><o><a>1</a></o></d></r>", holds("a:int64", (1,)), records="r.d.o"
    )
    yield case(
        "a path that is not there", "<r><o/></r>", Refused(NotRecords, "there are r, r.o"), records="r.x"
    )
    yield case(
        "namespaces",
        '<r xmlns="urn:x" xmlns:y="urn:y"><y:o a="1"/><y:o a="2"/></r>',
        holds("a:int64", (1,), (2,)),
    )
    yield case(
        "null",
        '<r xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><o><a i:nil="true"/></o><o><a>1</a></o></r>',
        holds("a:int64", (None,), (1,)),
    )
    yield case(
        "decimal commas and markers",
        '<r><o a="N/A" b="1,5"/><o a="3" b="2,25"/></r>',
        holds("a:int64 b:double", (None, 1.5), (3, 2.25)),
        decimal=",",
    )
    bomb = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    yield case(
        "a thousand million laughs",
        f'<!DOCTYPE l [<!ENTITY l0 "lol">{bomb}]><l>&l9;</l>',
        Refused(UnsafeXml, "entity"),
    )
    yield case(
        "a file of the machine",
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
        Refused(UnsafeXml, "entity"),
    )
    yield case(
        "a document type elsewhere",
        '<!DOCTYPE r SYSTEM "http://192.0.2.1/x.dtd"><r a="1"/>',
        Refused(UnsafeXml, "fetched"),
    )
    yield case(
        "a parameter entity",
        '<!DOCTYPE r [<!ENTITY % p SYSTEM "http://192.0.2.1/x"> %p;]><r a="1"/>',
        Refused(UnsafeXml, "entity"),
    )
    yield case("cut off", "<r><o><a>1</a>", Refused(TruncatedFile, "ends before"))
    yield case("elements crossed", "<r><a></r></a>", Refused(TruncatedFile, "mismatched"))
    yield case("an encoding that nobody knows", "<r/>", Refused(BadEncoding, "klingon"), encoding="klingon")
    yield case("not XML", "hello", Refused(TruncatedFile, "well-formed"))
    yield case("nothing in it", "<r/>", EMPTY)
    yield case("too deep", "<a>" * 500 + "</a>" * 500, Refused(NotRecords, "deep"))
    yield case(
        "Latin-1, as it says",
        '<?xml version="1.0" encoding="latin-1"?><r><o a="é"/><o a="e"/></r>'.encode("latin-1"),
        holds("a:string", ("é",), ("e",)),
    )
    yield case(
        "Shift-JIS, as it says",
        '<?xml version="1.0" encoding="shift_jis"?><r><o a="日"/></r>'.encode("shift_jis"),
        holds("a:string", ("日",)),
    )
    yield case(
        "Latin-1 that does not say so",
        '<r><o a="é"/></r>'.encode("latin-1"),
        Refused(BadEncoding, "encoding"),
    )
    yield case("UTF-16", '<r><o a="é"/></r>'.encode("utf-16"), holds("a:string", ("é",)))
    page = "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>x</td></tr><tr><td>2</td><td>y</td></tr></table>"
    yield case("a table", page, AB, "a.html")
    yield case("a table by another suffix", page, AB, "a.htm")
    yield case(
        "two tables",
        f"{page}<table id=u><tr><td>c</td></tr><tr><td>1</td></tr></table>",
        {"table_1": AB[""], **tables(u=("c:int64", [(1,)]))},
        "a.html",
    )
    yield case(
        "cells over rows and columns",
        "<table><tr><th colspan=2>g</th></tr><tr><td rowspan=2>1</td><td>x</td></tr><tr><td>y</td></tr></table>",
        holds("g:int64 g_2:string", (1, "x"), (1, "y")),
        "a.html",
    )
    yield case(
        "a cell over a thousand million columns",
        "<table><tr><td colspan=999999999>a</td></tr><tr><td>1</td></tr></table>",
        holds("a:int64", (1,)),
        "a.html",
    )
    yield case(
        "a script in a cell",
        "<table><tr><td>a</td></tr><tr><td>1<script>2</script></td></tr></table>",
        holds("a:int64", (1,)),
        "a.html",
    )
    yield case(
        "a page by the suffix of a document",
        "<html><body><p>text</p></body></html>",
        holds(DOC, ("a.xhtml", None, 1, None, "text", [])),
        "a.xhtml",
    )
    yield case(
        "a page without tables",
        "<h1>H</h1><p>text</p>",
        holds(DOC, ("a.html", None, 1, "H", "text", [])),
        "a.html",
    )


def _columnar() -> Iterable[Case]:
    def case(what: str, name: str, content: bytes, becomes: Any, **options: Any) -> Case:
        return Case(what, name, content, becomes, options)

    yield case("plain", "a.parquet", _parquet(A), AB)
    yield case("cut off", "a.parquet", _parquet(A)[:-20], CUT)
    yield case("damaged", "a.parquet", b"PAR1" + b"x" * 40 + b"PAR1", CUT)
    yield case("no rows", "a.parquet", _parquet(A.slice(0, 0)), EMPTY)
    yield case(
        "names and types that are given",
        "a.parquet",
        _parquet(A),
        holds("p:string q:string", ("1", "x"), ("2", "y")),
        columns=("p", "q"),
        types={"p": "text"},
    )
    odd = pa.table(
        {
            "h": pa.array([1.5], pa.float16()),
            "d": pa.array(["x"]).dictionary_encode(),
            "l": pa.array([["y"]], pa.large_list(pa.dictionary(pa.int8(), pa.string()))),
            "v": pa.array([[1]], pa.list_view(pa.int64())),
            "e": pa.array([{}], pa.struct([])),
            "n": pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 2)),
            "r": pa.RunEndEncodedArray.from_arrays([1], ["z"]),
            "i": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
            "s": pa.array([1], pa.timestamp("s")),
        }
    )
    kinds = (
        "h:float d:string l:list<element:~string> v:list<element:~int64> e:string n:string r:string i:string"
    )
    kinds += " s:timestamp[us]"
    values = (1.5, "x", ["y"], [1], "{}", "1.50", "z", "[1, 2, 3]", dt.datetime(1970, 1, 1, 0, 0, 1))
    yield case("types that Parquet or DuckDB lack", "a.arrow", _arrow(odd), holds(kinds, values))
    yield case("a file", "a.arrow", _arrow(A), AB)
    yield case("a stream", "a.arrows", _arrow(A, stream=True), AB)
    yield case("a stream by another suffix", "a.ipc", _arrow(A, stream=True), AB)
    yield case("a stream, cut off", "a.arrows", _arrow(A, stream=True)[:300], CUT)
    yield case("a file, cut off", "a.arrow", _arrow(A)[:400], CUT)
    yield case(
        "Feather", "a.feather", _bytes(lambda b: pyarrow.feather.write_feather(A, b, compression="lz4")), AB
    )
    yield case("a text by this name", "a.feather", b"hello", Refused(UnknownFormat, "Feather"))
    yield case("plain", "a.orc", _bytes(lambda b: pyarrow.orc.write_table(A, b)), AB)
    yield case("cut off", "a.orc", _bytes(lambda b: pyarrow.orc.write_table(A, b))[:-30], CUT)
    ab = _avro_record(("a", "long"), ("b", "string"))
    records = A.to_pylist()
    yield case("plain", "a.avro", _avro(ab, records), AB)
    yield case("compressed", "a.avro", _avro(ab, records, "deflate"), AB)
    yield case("cut off", "a.avro", _avro(ab, records)[:-10], CUT)
    yield case("values that are no records", "a.avro", _avro("long", [1]), Refused(NotRecords, "not records"))
    rich = _avro_record(
        ("d", {"type": "int", "logicalType": "date"}),
        ("n", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        ("u", ["null", "string"]),
        ("v", ["long", "string"]),
        ("m", {"type": "map", "values": "int"}),
    )
    rich_one = {"d": DAY, "n": decimal.Decimal("1.25"), "u": None, "v": "x", "m": {"k": 1}}
    yield case(
        "types",
        "a.avro",
        _avro(rich, [rich_one]),
        holds(
            "d:date32[day] n:decimal128(9,~2) u:string v:string m:map<string,~int32~('m')>",
            (DAY, decimal.Decimal("1.25"), None, '"x"', [("k", 1)]),
        ),
    )
    made = ("CREATE TABLE t (a INT, b TEXT)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    yield case("a table", "a.sqlite", _sqlite(*made), {"t": AB[""]})
    yield case("by another suffix", "a.sqlite3", _sqlite(*made), {"t": AB[""]})
    mixed = (
        "CREATE TABLE t (a, d DATE, o BOOLEAN)",
        "INSERT INTO t VALUES (1, '2024-01-02', 1), ('x', NULL, 0)",
    )
    yield case(
        "values of several kinds",
        "a.db",
        _sqlite(*mixed),
        tables(t=("a:string d:date32[day] o:bool", [("1", DAY, True), ("x", None, False)])),
    )
    yield case(
        "a view and a hostile name",
        "a.db",
        _sqlite(
            'CREATE TABLE "a""; DROP" (a INT)',
            'INSERT INTO "a""; DROP" VALUES (1)',
            "CREATE VIEW v AS SELECT 1",
        ),
        {'a"; DROP': Table((("a", "int64"),), [(1,)])},
    )
    yield case("damaged", "a.db", _sqlite(*made)[:4096] + b"\xff" * 4096, CUT)
    yield case("encrypted", "a.db", b"SQLite format 3\0" + b"\x07" * 4096, Refused(Protected, "encrypted"))
    yield case(
        "a table that is not there",
        "a.db",
        _sqlite(*made),
        Refused(MissingTable, "its tables are t"),
        tables=("x",),
    )
    yield case(
        "tables",
        "a.duckdb",
        _duckdb(*made, "CREATE SCHEMA s", "CREATE TABLE s.u AS SELECT 1::HUGEINT AS h"),
        {
            "t": Table((("a", "int32"), ("b", "string")), AB[""].rows),
            **{"s.u": Table((("h", "string"),), [("1",)])},
        },
    )
    yield case("damaged", "a.duckdb", b"x" * 8 + b"DUCK" + b"y" * 5000, CUT)


def _documents() -> Iterable[Case]:
    def case(what: str, name: str, content: bytes, becomes: Any, **options: Any) -> Case:
        return Case(what, name, content, becomes, options)

    def one(name: str, heading: str | None, said: str, page: int | None = None) -> dict[str, Table]:
        return holds(DOC, (name, page, 1, heading, said, []))

    yield case("a page", "a.pdf", _pdf("Hello"), one("a.pdf", None, "Hello", 1))
    yield case("without text", "a.pdf", _pdf(""), Refused(UnreadableFile, "text"))
    yield case("locked", "a.pdf", _pdf("Hello", password="x"), Refused(UnreadableFile, "password"))
    yield case("cut off", "a.pdf", _pdf("Hello")[:200], Refused(UnreadableFile, ""))
    yield case("a heading", "a.docx", _word("Title", "Hello"), one("a.docx", "Title", "Hello"))
    yield case("an archive by this name", "a.docx", _zip({"a.csv": CSV}), Refused(UnreadableFile, ""))
    yield case("a heading", "a.md", b"# Title\n\nHello\n", one("a.md", "Title", "Hello"))
    yield case("by another suffix", "a.markdown", b"# Title\n\nHello\n", one("a.markdown", "Title", "Hello"))
    yield case(
        "sentences", "a.txt", b"Hello, you.\nHow are you?\n", one("a.txt", None, "Hello, you.\nHow are you?")
    )
    yield case("bytes", "a.txt", b"\x00\x01\x02" * 50, Refused(UnreadableFile, ""))


def _archives() -> Iterable[Case]:
    def case(what: str, name: str, content: bytes, becomes: Any, **options: Any) -> Case:
        return Case(what, name, content, becomes, options)

    member = {"a.csv": AB[""]}
    files = {"a.csv": CSV}
    yield case("a member", "a.zip", _zip(files), member)
    yield case(
        "two members",
        "a.zip",
        _zip({"a.csv": CSV, "d/b.json": b'[{"c":1}]'}),
        {**member, "d/b.json": Table((("c", "int64"),), [(1,)])},
    )
    yield case(
        "a workbook",
        "a.zip",
        _zip({"w.xlsx": _workbook(("S", [("a", "b"), (1, "x"), (2, "y")]))}),
        {"w.xlsx#S": AB[""]},
    )
    yield case("an archive in an archive", "a.zip", _zip({"b.zip": _zip(files)}), {"b.zip/a.csv": AB[""]})
    yield case("a member out of the folder", "a.zip", _zip({"../a.csv": CSV}), Refused(UnsafeArchive, ""))
    yield case("a member from the root", "a.zip", _zip({"/etc/a.csv": CSV}), Refused(UnsafeArchive, ""))
    yield case(
        "a bomb",
        "a.zip",
        _zip({"a.csv": b"a\n" + b"1\n" * 200_000}),
        Refused(UnsafeArchive, ""),
        unpacked=100_000,
    )
    yield case(
        "a member that cannot be read", "a.zip", _zip({"a.csv": b"a,b\n1\n"}), Refused(RaggedRows, "a.csv")
    )
    yield case("cut off", "a.zip", _zip(files)[:-30], CUT)
    yield case("empty", "a.zip", _zip({}), EMPTY)
    yield case("plain", "a.tar", _tar(files), member)
    yield case("a link", "a.tar", _tar_link(), Refused(UnsafeArchive, ""))
    yield case("out of the folder", "a.tar", _tar({"../../a.csv": CSV}), Refused(UnsafeArchive, ""))
    for suffix, mode in (
        (".tar.gz", "w:gz"),
        (".tgz", "w:gz"),
        (".tar.bz2", "w:bz2"),
        (".tbz2", "w:bz2"),
        (".tar.xz", "w:xz"),
        (".txz", "w:xz"),
    ):
        yield case("compressed", f"a{suffix}", _tar(files, mode), member)
    for suffix in (".tar.zst", ".tzst"):
        yield case("compressed", f"a{suffix}", _zstd(_tar(files)), member)
    for suffix, packed in (
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", _zstd),
    ):
        yield case("a file alone", f"a.jsonl{suffix}", packed(b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'), AB)
    yield case("cut off", "a.tar.gz", _tar({"a.csv": CSV * 100}, "w:gz")[:-20], CUT)
    yield case("a file alone, cut off", "a.json.bz2", bz2.compress(b'[{"a":1}]' * 500)[:-10], CUT)


def cases() -> list[Case]:
    """All files of the corpus."""
    families = (_delimited, _json, _spreadsheets, _markup, _columnar, _documents, _archives)
    return [case for family in families for case in family()]
