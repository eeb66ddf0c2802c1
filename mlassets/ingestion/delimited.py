"""Delimited text (CSV and its kin) to typed batches, in bounded memory and on all cores.

The text is cut into blocks of whole records, which Arrow parses side by side. The first block shows the type of each
column; from then on Arrow is asked for these types, and what it lets pass that would lose something (leading zeros,
digits beyond a double) is looked for apart. A block that does not fit is read as text, and shows by what types are to
be widened: then the file is read once more.
"""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.types as pt

from mlassets.ingestion.errors import BadRow, EmptyFile, RaggedRows, UnreadableFile, UnsafeArchive
from mlassets.ingestion.formats import Sink, Tables, distinct_names
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.text_streams import (
    BLOCK,
    Block,
    TextFile,
    blocks,
    is_gzip,
    large_fields,
    not_utf8,
    other_encoding,
    text_file,
)
from mlassets.ingestion.text_types import COMMA, PLAIN, Column, Reading, TextTypes, described

DELIMITERS = (",", ";", "\t", "|")

_FIRST_BLOCK = 2**18
_WIDEST_BLOCK = 2**25
# Rows of many columns are parsed many at once, since each column of a block costs something.
_BYTES_PER_COLUMN = 2**14
# As much as stays near the processor.
_WINDOW = 2**18
_LONGEST_HEADER = 2**24
_MOST_COLUMNS = 100_000
_SAMPLE_ROWS = 100
_SAMPLE_CHARACTERS = 2**18
_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_TRUE, _FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
_LAND_ROWS = "Land a file with at least one row, or say `header: false` if its first row is one"


@dataclass(frozen=True)
class Layout:
    """How the rows of a text lie in it.

    Attributes:
        names: Names of the columns.
        renamed: What stood in the file, by name that was made up.
        header: Whether the first row names the columns.
        start: Bytes (of UTF-8) before the first row of values.
        line: Line of that row, from 1.
        delimiter: What separates values.
        quote: What surrounds values; empty if nothing does.
        widths: Characters of each column, where nothing separates values.
    """

    names: list[str]
    renamed: Mapping[str, str]
    header: bool
    start: int
    line: int
    delimiter: str
    quote: str
    widths: tuple[int, ...] = ()


def read_delimited(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a file of delimited text: one table.

    The first row names the columns, unless it is numbers or dates throughout, as are those below it. Nulls are nothing
    at all and an unquoted `NA`; a quoted `"NA"` is text, as in Namibia.

    Raises:
        UnreadableFile: One of its subclasses.
    """
    compressed, encoding = is_gzip(source), options.encoding
    while True:
        lenient = options.on_bad_rows == "skip"
        file, head = text_file(source, name, compressed, encoding, lenient=lenient)
        try:
            layout = delimited_layout(file, head, options)
            with tables.table() as sink:
                read_rows(DelimitedText(file, layout, options), sink, tables)
            return {}
        except OtherEncoding as found:
            encoding = found.encoding


def read_txt(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a text file: as a table where it is delimited throughout, or its widths are given; else as a document."""
    if options.widths is not None:
        from mlassets.ingestion.fixed_width import read_fixed_width

        return read_fixed_width(source, name, options, tables)
    if options.delimiter is not None or options.columns is not None or is_delimited(source, name, options):
        return read_delimited(source, name, options, tables)
    from mlassets.ingestion.documents import read_text

    return read_text(source, name, options, tables)


def is_delimited(source: Path, name: str = "", options: ReadOptions | None = None) -> bool:
    """Say whether the rows at the beginning of a text have equally many values, two at least, below distinct names."""
    options = options or ReadOptions()
    try:
        _, head = text_file(source, name, is_gzip(source), options.encoding)
    except UnreadableFile:
        return False
    text = _after_lines(_whole_lines(head), options.skip_rows)[:_SAMPLE_CHARACTERS]
    for delimiter in DELIMITERS:
        rows = _sample(text, delimiter, '"')
        names = [cell.strip().casefold() for cell in rows[0]] if rows else []
        if len(rows) < 2 or len(names) < 2 or any(len(row) != len(names) for row in rows):
            continue
        if len(set(names)) < len(names) or "" in names:
            continue
        # Sentences have commas too, and a blank behind them.
        if delimiter in ",;" and all(cell.startswith(" ") for row in rows for cell in row[1:]):
            continue
        return True
    return False


class OtherEncoding(Exception):
    """The file is of another encoding than was thought."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        super().__init__(encoding)


def delimited_layout(file: TextFile, head: bytes, options: ReadOptions) -> Layout:
    """Find out how the rows lie in a file that begins so."""
    head = _with_first_line(file, head, options)
    text = _after_lines(_whole_lines(head), options.skip_rows)
    if not text.strip():
        raise EmptyFile(
            file.name, "the file holds nothing but blanks", "Land it again when it is written completely"
        )
    quote = '"' if options.quote is None else options.quote
    for what, character in (("delimiter", options.delimiter), ("quote", quote or None)):
        if character is not None and (len(character) != 1 or not character.isascii()):
            reason = f"the {what} {character!r} is not one character of ASCII"
            raise UnreadableFile(file.name, reason, f"Give another with `{what}:`")
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    delimiter = options.delimiter or _delimiter(text, quote, _BY_SUFFIX.get(suffix))
    first_line = text[: text.find("\n") + 1 or len(text)]
    if first_line.count(delimiter) >= _MOST_COLUMNS:
        reason = f"its first line has more than {_MOST_COLUMNS:,} values"
        raise UnreadableFile(file.name, reason, "Look whether line ends are missing", line=1)
    try:
        rows = _sample(text, delimiter, quote)
    except csv.Error as error:
        raise UnreadableFile(file.name, str(error), "Mend the file and land it again", line=1) from error
    consumed = head.decode("utf-8", "replace").find(text) if options.skip_rows else 0
    before = head.decode("utf-8", "replace")[:consumed]
    start, line = len(before.encode()), 1 + _lines(before)
    names, renamed, header = names_of(file.name, rows, options)
    if header:
        length, lines = _header_size(text, delimiter, quote)
        start += length
        line += lines
        whole = len(head) < 2**20
        if whole and not text.encode()[length:].strip():
            raise EmptyFile(file.name, "the file names columns but holds no row", _LAND_ROWS)
    return Layout(names, renamed, header, start, line, delimiter, quote)


def _with_first_line(file: TextFile, head: bytes, options: ReadOptions) -> bytes:
    """Return the head, with more of the file where no line ends in it."""
    if len(head) < 2**20 or b"\n" in head or b"\r" in head:
        return head
    with file.bytes() as read:
        head = read(_LONGEST_HEADER)
    if b"\n" in head or b"\r" in head:
        return head
    if len(head) < _LONGEST_HEADER:
        raise EmptyFile(
            file.name, "it is one long line, which would name columns and hold no row", _LAND_ROWS
        )
    reason = f"its first line is longer than {_LONGEST_HEADER // 2**20} MB"
    raise UnreadableFile(file.name, reason, "Look whether its line ends are missing", line=1)


def _whole_lines(head: bytes) -> str:
    """Return the head as text, without a line at its end that goes on behind it."""
    if len(head) >= 2**20:
        cut = max(head.rfind(b"\n"), head.rfind(b"\r"))
        head = head[: cut + 1] if cut >= 0 else head
    return head.decode("utf-8", "replace")


def _after_lines(text: str, lines: int) -> str:
    return "".join(islice(StringIO(text, newline=""), lines, None)) if lines else text


def _lines(text: str) -> int:
    return sum(1 for _ in StringIO(text, newline=""))


def _sample(text: str, delimiter: str, quote: str) -> list[list[str]]:
    """Return the first rows that are not blank."""
    with large_fields():
        reader = csv.reader(StringIO(text, newline=""), **_dialect(delimiter, quote))
        return list(islice((row for row in reader if row), _SAMPLE_ROWS))


def _dialect(delimiter: str, quote: str) -> dict[str, Any]:
    if quote:
        return {"delimiter": delimiter, "quotechar": quote}
    return {"delimiter": delimiter, "quoting": csv.QUOTE_NONE, "quotechar": None}


def _header_size(text: str, delimiter: str, quote: str) -> tuple[int, int]:
    """Return how many bytes and lines there are to the end of the first row that is not blank."""
    length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        for one in StringIO(text, newline=""):
            length += len(one.encode())
            yield one

    with large_fields():
        reader = csv.reader(lines(), **_dialect(delimiter, quote))
        next(row for row in reader if row)
        return length, reader.line_num


def _delimiter(text: str, quote: str, usual: str | None) -> str:
    """Return the delimiter by which the first rows have equally many values, most of them; else the commonest."""
    sample = text[:_SAMPLE_CHARACTERS]
    if len(sample) < len(text):
        sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    widths: dict[str, int] = {}
    for delimiter in dict.fromkeys([usual, *DELIMITERS] if usual else DELIMITERS):
        try:
            rows = _sample(sample, delimiter, quote)
        except csv.Error:
            continue
        if len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows):
            widths[delimiter] = len(rows[0])
    if usual in widths:
        return usual
    if widths:
        return max(widths, key=lambda one: widths[one])
    first = next(line for line in StringIO(sample, newline="") if line.strip())
    outside = "".join(first.split(quote)[::2]) if quote else first
    commonest = max(DELIMITERS, key=outside.count)
    return usual if usual and not outside.count(commonest) else commonest


def names_of(
    file: str, rows: Sequence[Sequence[str]], options: ReadOptions
) -> tuple[list[str], Mapping[str, str], bool]:
    """Return the names of the columns, what was renamed, and whether the first row names them.

    Raises:
        UnreadableFile: If names were given, and not one for each column.
    """
    header = _has_header(rows) if options.header is None else options.header
    width = len(rows[0])
    if options.columns is not None:
        if len(options.columns) != width:
            reason = (
                f"{len(options.columns)} names were given with `columns:`, and its rows have {width} values"
            )
            raise UnreadableFile(file, reason, "Give one name for each column")
        names, renamed = distinct_names(list(options.columns))
    else:
        names, renamed = distinct_names(list(rows[0]) if header else [None] * width)
    missing = [one for one in options.types if one not in names]
    if missing:
        there = ", ".join(names[:30])
        reason = f"it has no column {missing[0]!r}, for which `types:` gives a type; its columns are {there}"
        raise UnreadableFile(file, reason, "Correct the name in `types:`", column=missing[0])
    return names, renamed if header and options.columns is None else {}, header


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names columns: it does unless it is numbers and dates, as are those below it."""
    first, rest = rows[0], rows[1:]
    if not rest or not all(_is_value(cell) for cell in first):
        return True
    if len(set(first)) < len(first):
        return False
    if not all(_is_value(cell) or not cell.strip() for row in rest for cell in row):
        return True
    # Years, or positions, over numbers.
    return _is_sequence(first) and not any(_is_sequence(row) for row in rest)


def _is_value(cell: str) -> bool:
    types = TextTypes(ReadOptions())
    column = types.look(pa.array([cell.strip()], pa.string()), Column())
    kind = types.resolve([column])[0].kind
    ambiguous = bool(column.others) and pt.is_string(column.plain)
    return not (pt.is_string(kind) or pt.is_null(kind) or pt.is_boolean(kind)) or ambiguous


def _is_sequence(row: Sequence[str]) -> bool:
    try:
        numbers = [int(cell) for cell in row]
    except ValueError:
        return False
    return len(numbers) > 1 and all(after - before == 1 for before, after in pairwise(numbers))


@dataclass
class _Parsed:
    """What a block holds.

    Attributes:
        columns: What it shows of each column, and what was known before; the very list that was given if nothing new.
        batch: Its rows; None if they are not of the types that were asked for.
        rejected: Line, reason and text of rows that are left out.
        fits: Whether its rows, if there are any, are of the types that were asked for.
    """

    columns: list[Column]
    batch: pa.RecordBatch | None
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    fits: bool = True


class DelimitedText:
    """Parses blocks of delimited text."""

    remedy = "Quote values that hold the delimiter, or complete the row; `on_bad_rows: skip` takes the others"

    def __init__(self, file: TextFile, layout: Layout, options: ReadOptions) -> None:
        self.file, self.layout, self.options = file, layout, options
        self.types = TextTypes(options)
        self.given = [self.types.forced(name) for name in layout.names]
        self._ids = [str(position) for position in range(len(layout.names))]
        self.nulls = list(self.types.nulls)

    def found(self, columns: Sequence[Column], readings: Sequence[Reading]) -> dict[str, Any]:
        """Return what was found out about the file, JSON-serialisable."""
        layout = self.layout
        found: dict[str, Any] = (
            {"delimiter": layout.delimiter} if not layout.widths else {"widths": list(layout.widths)}
        )
        found |= {"encoding": self.file.encoding, "header": layout.header}
        if layout.renamed:
            found["named"] = dict(layout.renamed)
        special = {
            name: about
            for name, column, reading in zip(layout.names, columns, readings, strict=True)
            if (about := described(column, reading, self.types))
        }
        return found | ({"columns": special} if special else {})

    def parse(self, block: Block, columns: list[Column], readings: Sequence[Reading] | None) -> _Parsed:
        """Parse a block; without readings only look at it.

        Args:
            block: The block.
            columns: What is known of each column.
            readings: How each column is to be read.

        Raises:
            UnreadableFile: If it cannot be parsed, and rows may not be skipped.
        """
        if block.unclosed:
            row = block.data.decode("utf-8", "backslashreplace").rstrip("\r\n")
            return _Parsed(
                columns, None, [(block.line, "a quote is opened in this row and never closed", row)]
            )
        data = block.data
        rejected: list[tuple[int, str, str]] = []
        records: list[tuple[int, bytes]] | None = None
        try:
            arrays, watched = self.arrays(data, columns, readings)
        except pa.ArrowInvalid as error:
            records, rejected = self._mended(block, error)
            data = b"".join(raw for _, raw in records)
            if not data:
                return _Parsed(columns, None, rejected)
            arrays, watched = self.arrays(data, columns, readings)
        looked = columns
        fits = readings is not None
        bad: dict[int, str] = {}
        for at in watched:
            strings = arrays[at]
            given = self.given[at]
            if given is not None:
                arrays[at], wrong = self.types.as_given(strings, given.kind)
                for place in wrong:
                    name, text = self.layout.names[at], strings[place].as_py()
                    bad.setdefault(place, f"{_shown(text)} in {name} is not {_named(given.kind)}")
                continue
            column = self.types.look(strings, columns[at])
            if column is not columns[at] and column != columns[at]:
                looked = list(columns) if looked is columns else looked
                looked[at] = column
            if readings is not None:
                values = self.types.values(strings, readings[at])
                fits = fits and values is not None
                arrays[at] = values
        if readings is None or not fits:
            return _Parsed(looked, None, rejected, fits)
        schema = schema_of(self.layout.names, readings)
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if bad:
            batch, more = self._without(batch, bad, block, records)
            rejected = sorted(rejected + more)
        return _Parsed(looked, batch, rejected)

    def arrays(
        self, data: bytes, columns: Sequence[Column], readings: Sequence[Reading] | None
    ) -> tuple[list[pa.Array], list[int]]:
        """Return the values by column, and which of these are text that is to be looked at.

        Raises:
            ArrowInvalid: If a row has more or fewer values than there are columns, or is not UTF-8.
        """
        direct: dict[int, pa.DataType] = {}
        if readings is not None:
            direct = {
                at: reading.kind
                for at, (column, reading) in enumerate(zip(columns, readings, strict=True))
                if reading.how == PLAIN and self.given[at] is None and column.plain.equals(reading.kind)
            }
            if self.options.date_format or self.types.proved:
                direct = {
                    at: kind for at, kind in direct.items() if pt.is_integer(kind) or pt.is_boolean(kind)
                }
            numbers = any(_is_number(kind) for kind in direct.values())
            if numbers and (len(data) > 2 * _WIDEST_BLOCK or self._is_suspicious(data)):
                direct = {at: kind for at, kind in direct.items() if not _is_number(kind)}
            direct = {
                at: kind for at, kind in direct.items() if not pt.is_string(kind) or columns[at].is_text
            }
        try:
            table = self._read(data, direct)
        except pa.ArrowInvalid as error:
            if not direct or "conversion error" not in str(error):
                raise
            direct = {at: kind for at, kind in direct.items() if pt.is_string(kind)}
            table = self._read(data, direct)
        if any(_is_large(table.column(at)) for at, kind in direct.items() if pt.is_floating(kind)):
            direct = {at: kind for at, kind in direct.items() if pt.is_string(kind)}
            table = self._read(data, direct)
        arrays = [
            column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns
        ]
        return arrays, [at for at in range(len(arrays)) if at not in direct]

    def _read(self, data: bytes, direct: Mapping[int, pa.DataType]) -> pa.Table:
        text = pa.string()
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            # One block, so that nothing cuts it again.
            read_options=arrow_csv.ReadOptions(
                block_size=len(data) + 1, column_names=self._ids, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.layout.delimiter,
                quote_char=self.layout.quote or False,
                newlines_in_values=False,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={one: direct.get(at, text) for at, one in enumerate(self._ids)},
                null_values=self.nulls,
                true_values=_TRUE,
                false_values=_FALSE,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _is_suspicious(self, data: bytes) -> bool:
        """Say whether a value may begin with what Arrow takes for numbers and we do not: 007, 0x7, +7, blanks."""
        marks = [
            mark for mark in f"{self.layout.delimiter}{self.layout.quote}\r".encode() if bytes([mark]) in data
        ]
        signs = [sign for sign in b" \t+" if bytes([sign]) in data and chr(sign) != self.layout.delimiter]
        # Line ends before and after let every value begin and end within.
        whole = np.frombuffer(b"\n" + data + b"\n\n", np.uint8)
        return any(
            _begins_oddly(whole[start : start + _WINDOW + 3], marks, signs)
            for start in range(0, len(data), _WINDOW)
        )

    def rows(self, data: bytes, line: int) -> Iterator[tuple[int, bytes, str | None]]:
        """Give out line, bytes and fault of each row that is not blank, given the line of the first."""
        layout = self.layout
        names = "the header names" if layout.header else "the first row has"

        def fault(values: int) -> str | None:
            if values == len(layout.names):
                return None
            counted = f"{values:,} value{'s' if values != 1 else ''}"
            return f"this row has {counted}, {names} {len(layout.names):,} columns"

        if not layout.quote or layout.quote.encode() not in data:
            delimiter = layout.delimiter.encode()
            for number, raw in enumerate(data.splitlines(keepends=True), line):
                if raw.strip(b"\r\n"):
                    yield number, raw, fault(raw.count(delimiter) + 1)
            return
        length = 0

        def lines() -> Iterator[str]:
            nonlocal length
            # One character for each byte, so that lengths are those of the bytes.
            for one in StringIO(data.decode("latin-1"), newline=""):
                length += len(one)
                yield one

        with large_fields():
            reader = csv.reader(lines(), **_dialect(layout.delimiter, layout.quote))
            start, number = 0, line
            for row in reader:
                if row:
                    yield number, data[start:length], fault(len(row))
                start, number = length, line + reader.line_num

    def _mended(
        self, block: Block, error: pa.ArrowInvalid
    ) -> tuple[list[tuple[int, bytes]], list[tuple[int, str, str]]]:
        """Return the rows of a block that can be parsed, and those that cannot.

        Raises:
            UnreadableFile: The first fault, unless rows may be skipped.
        """
        self._check_encoding(block)
        good: list[tuple[int, bytes]] = []
        bad: list[tuple[int, str, str]] = []
        for line, raw, reason in self.rows(block.data, block.line):
            try:
                raw.decode()
            except UnicodeDecodeError as wrong:
                reason = f"byte 0x{raw[wrong.start]:02x} is not UTF-8"
            if reason is None:
                good.append((line, raw))
                continue
            if self.options.on_bad_rows == "fail":
                raise RaggedRows(self.file.name, reason, self.remedy, line=line)
            bad.append((line, reason, raw.decode("utf-8", "backslashreplace").rstrip("\r\n")))
        if not bad:
            text = " ".join(str(error).split())[:200]
            raise UnreadableFile(self.file.name, text, "Mend the file and land it again", line=block.line)
        return good, bad

    def _check_encoding(self, block: Block) -> None:
        try:
            block.data.decode()
        except UnicodeDecodeError as error:
            if (
                not self.file.given
                and block.ascii_before
                and (found := other_encoding(block.data)) is not None
            ):
                raise OtherEncoding(found) from error
            if self.options.on_bad_rows == "fail":
                offset = block.offset + self.layout.start + self.file.bom
                raise not_utf8(self.file.name, block.data, error, block.line, offset) from error

    def _without(
        self,
        batch: pa.RecordBatch,
        bad: Mapping[int, str],
        block: Block,
        records: list[tuple[int, bytes]] | None,
    ) -> tuple[pa.RecordBatch, list[tuple[int, str, str]]]:
        """Return a batch without rows that are not of the types that were given, and these."""
        if records is None:
            records = [(line, raw) for line, raw, _ in self.rows(block.data, block.line)]
        rejected = []
        for row in sorted(bad):
            line, raw = records[row] if row < len(records) else (block.line, b"")
            if self.options.on_bad_rows == "fail":
                fix = "Correct the value, or the column's type in `types:`"
                raise BadRow(self.file.name, bad[row], fix, line=line)
            rejected.append((line, bad[row], raw.decode("utf-8", "backslashreplace").rstrip("\r\n")))
        keep = np.ones(batch.num_rows, bool)
        keep[list(bad)] = False
        return batch.filter(pa.array(keep)), rejected


def schema_of(names: Sequence[str], readings: Sequence[Reading]) -> pa.Schema:
    """Return the schema of columns that are read so."""
    return pa.schema([pa.field(name, reading.kind) for name, reading in zip(names, readings, strict=True)])


@dataclass
class _Known:
    """What is known of the columns so far, and how they are read; None before the first block was looked at."""

    columns: list[Column]
    readings: list[Reading] | None = None


def read_rows(text: DelimitedText, sink: Sink, tables: Tables) -> None:
    """Read all rows into `sink`, once for each time that types have to be widened, which seldom is more than once."""
    names = text.layout.names
    known = _Known([Column()] * len(names))
    workers = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(workers, thread_name_prefix="delimited") as pool:
        while True:
            holds = _read_once(text, sink, tables, known, pool, workers)
            readings = known.readings
            if readings is None:
                sink.begin(schema_of(names, [Reading(pa.null())] * len(names)))
                return
            known.readings = _resolved(text, known.columns)
            if any(column.wants_another_look for column in known.columns):
                known.columns = [
                    replace(one, unsure=False) if one.wants_another_look else one for one in known.columns
                ]
            elif holds and known.readings == readings:
                if not _proves_comma(text, readings):
                    break
                text.types = TextTypes(text.options, decimal=",")
                known = _Known([Column()] * len(names))
    sink.found |= text.found(known.columns, readings)


def _read_once(
    text: DelimitedText, sink: Sink, tables: Tables, known: _Known, pool: ThreadPoolExecutor, workers: int
) -> bool:
    """Read the file from its beginning to its end; return whether all of it was as it was known to be.

    Once a block is otherwise, the rest is only looked at.
    """
    layout, holds = text.layout, True
    if known.readings is not None:
        sink.begin(schema_of(layout.names, known.readings))
    with text.file.bytes(tables.progress) as unlimited:
        read = _limited(unlimited, text.file, text.options.unpacked)
        read(layout.start)
        cut = blocks(
            read,
            text.file.name,
            delimiter=layout.delimiter,
            quote=layout.quote,
            line=layout.line,
            size=min(max(BLOCK, _BYTES_PER_COLUMN * len(layout.names)), _WIDEST_BLOCK),
            first=_FIRST_BLOCK,
            skip_unclosed=text.options.on_bad_rows == "skip",
        )

        def jobs() -> Iterator[Callable[[], _Parsed]]:
            for block in cut:
                if known.readings is None:
                    known.columns = text.parse(block, known.columns, None).columns
                    known.readings = _resolved(text, known.columns)
                    sink.begin(schema_of(layout.names, known.readings))
                yield partial(text.parse, block, known.columns, known.readings)

        for parsed in _in_order(pool, jobs(), workers):
            if parsed.columns is not known.columns:
                joined = [one.join(other) for one, other in zip(known.columns, parsed.columns, strict=True)]
                if joined != known.columns:
                    known.columns = joined
                    if holds and _resolved(text, joined) != known.readings:
                        holds = False
                        sink.discard()
            if not holds:
                continue
            if not parsed.fits:
                raise RuntimeError("a block is not of the types that it showed")
            for line, reason, row in parsed.rejected:
                sink.reject(row, reason, line=line)
            if parsed.batch is not None:
                sink.write(parsed.batch)
    return holds


def _in_order(
    pool: ThreadPoolExecutor, jobs: Iterator[Callable[[], _Parsed]], ahead: int
) -> Iterator[_Parsed]:
    """Give out what jobs return, in their order; some of them run ahead."""
    pending: deque[Future[_Parsed]] = deque()
    failure: UnreadableFile | None = None
    ended = False
    while pending or not ended:
        while not ended and len(pending) <= ahead:
            try:
                job = next(jobs, None)
            except UnreadableFile as error:
                # What is wrong further up is told first.
                job, failure = None, error
            if job is None:
                ended = True
            else:
                pending.append(pool.submit(job))
        if pending:
            yield pending.popleft().result()
    if failure is not None:
        raise failure


def _limited(read: Callable[[int], bytes], file: TextFile, most: int) -> Callable[[int], bytes]:
    """Return a function that reads the text of a compressed file up to so many bytes."""
    if not file.compressed:
        return read
    done = 0

    def limited(size: int) -> bytes:
        nonlocal done
        data = read(size)
        done += len(data)
        if done > most:
            fix = "If it is what it should be, say how much it may unpack to with `unpacked`, or land it in parts"
            raise UnsafeArchive(file.name, f"it unpacks to more than {most:,} bytes", fix)
        return data

    return limited


def _resolved(text: DelimitedText, columns: Sequence[Column]) -> list[Reading]:
    return [given or reading for given, reading in zip(text.given, text.types.resolve(columns), strict=True)]


def _proves_comma(text: DelimitedText, readings: Sequence[Reading]) -> bool:
    """Say whether a column has shown the decimal mark to be a comma, so that `1.234` of another is a thousand."""
    if text.types.proved or text.options.decimal or text.options.thousands:
        return False
    has_comma = any(reading.how == COMMA for reading in readings)
    return has_comma and any(pt.is_floating(one.kind) and one.how == PLAIN for one in readings)


def _begins_oddly(at: np.ndarray, marks: Sequence[int], signs: Sequence[int]) -> bool:
    """Say whether one of these signs, or a zero before a digit, stands where a value begins."""
    begins = at == ord("\n")
    for mark in marks:
        begins |= at == mark
    zero = at[:-1] == ord("0")
    zero &= (at[1:] - np.uint8(ord("0")) < 10) | ((at[1:] | 32) == ord("x"))
    if np.any(begins[:-2] & zero[1:]) or np.any(begins[:-3] & (at[1:-2] == ord("-")) & zero[2:]):
        return True
    return any(bool(np.any(begins[:-1] & (at[1:] == sign))) for sign in signs)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def _is_large(column: pa.ChunkedArray) -> bool:
    """Say whether a number is so large that its text has to be looked at."""
    bounds = pc.min_max(column).as_py()
    return any(bound is not None and not abs(bound) < 1e18 for bound in bounds.values())


def _named(kind: pa.DataType) -> str:
    if pt.is_decimal(kind):
        return f"a decimal number of {kind.precision - kind.scale} and {kind.scale} digits"
    names = {pa.int64(): "a whole number of 64 bits", pa.float64(): "a number", pa.bool_(): "true or false"}
    return names.get(kind, "a date" if pt.is_date(kind) else "a date and time")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
