"""CSV to typed batches: every column gets the narrowest type that holds all its values, found while streaming.

Arrow parses the text (fast, in bounded memory) but guesses types from the first block and would read `007` as 7.
So it is asked for text, and the types are found here: for each chunk the narrowest type of the chunk, joined with
that of the chunks before. What is found at first nearly always holds, so the file is written in the same pass; only
when a later chunk widens a type is it read once more.
"""

import csv
import gzip
import sys
from collections.abc import Iterator, Mapping
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.types as pt

from mlassets.ingestion.errors import (
    BadEncoding,
    EmptyFile,
    RaggedRows,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
)
from mlassets.ingestion.formats import Sink, Tables, check_names, tables_of
from mlassets.ingestion.options import ReadOptions

NULLS = ("", "NA")
DELIMITERS = (",", ";", "\t", "|")

_BLOCK = 2**20
_LARGEST_BLOCK = 2**29
_HEAD = 2**20
_STAMP = pa.timestamp("us")
_INSTANT = pa.timestamp("us", "UTC")
# Narrow before wide: the first that holds all values is taken, text if none does.
_KINDS = (pa.int64(), pa.float64(), pa.bool_(), pa.date32(), _STAMP, _INSTANT)
_WIDER = {
    frozenset({pa.int64(), pa.float64()}): pa.float64(),
    frozenset({pa.date32(), _STAMP}): _STAMP,
}
_DIGITS_OR_X = np.frombuffer(b"0123456789xX", np.uint8)
_NULL_TEXTS = pa.array(NULLS)
_BOOLEANS = pa.array(["true", "false"])
_MAGIC = {b"PK\x03\x04": "a ZIP or Excel file", b"\x1f\x8b": "a gzip file", b"PAR1": "a Parquet file"}
_SAVE_AS_UTF8 = "Save the whole file as UTF-8 and land it again"


def read_delimited(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a CSV file: one table."""
    with tables.table() as sink:
        return convert_csv(source, name, sink, compressed=name.lower().endswith(".gz"))


def convert_csv(source: Path, name: str, sink: Sink, *, compressed: bool) -> Mapping[str, Any]:
    """Read a CSV file into `sink`.

    The first row names the columns; the delimiter is the commonest of comma, semicolon, tab and bar in it. Nulls
    are nothing at all and an unquoted `NA`; a quoted `"NA"` is text, as in Namibia. Dates and times are taken in
    ISO form only: `03/04/2024` means different days to different people and stays text.

    Args:
        source: The file.
        name: The name it landed under, for errors.
        sink: Where the typed batches go.
        compressed: Whether the file is gzipped.

    Returns:
        The delimiter, and the columns that had no name.

    Raises:
        UnreadableFile: One of its subclasses.
    """
    try:
        names, delimiter, renamed = _header(source, name, compressed)
        block = _BLOCK
        while True:
            try:
                _convert(source, name, sink, names, delimiter, compressed, block)
                break
            except pa.ArrowInvalid as error:
                if "straddl" not in str(error) or block >= _LARGEST_BLOCK:
                    raise
                # A single row is longer than a block.
                block *= 8
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise _diagnosis(source, name, compressed, error) from error
    except (OSError, EOFError) as error:
        if not compressed:
            raise
        fix = (
            "Land it again; if it was still being written, land it under another name and rename it when done"
        )
        raise TruncatedFile(name, f"the gzip data is cut off or damaged ({error})", fix) from error
    return {"delimiter": delimiter} | ({"named": renamed} if renamed else {})


class _Counted:
    """A stream that counts the quotes and bytes which pass through it."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self.quotes = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        content = cast("bytes", self._stream.read(None if size < 0 else size))
        self.quotes += content.count(b'"')
        return content

    def close(self) -> None:
        self.closed = True
        self._stream.close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _convert(
    source: Path, name: str, sink: Sink, names: list[str], delimiter: str, compressed: bool, block: int
) -> None:
    kinds: list[pa.DataType] = [pa.null()] * len(names)
    written: list[pa.DataType] | None = None
    rest = False
    for table in _text(source, name, len(names), delimiter, compressed, block):
        columns = []
        for position, strings in enumerate(table.columns):
            kinds[position], values = _typed(strings.combine_chunks(), kinds[position])
            columns.append(values)
        if rest:
            continue
        if written is None:
            written = list(kinds)
            sink.begin(_schema(names, kinds))
        if written != kinds:
            rest = True
            sink.discard()
            continue
        sink.write(pa.RecordBatch.from_arrays(columns, schema=_schema(names, kinds)))
    if written is None:
        sink.begin(_schema(names, kinds))
    if rest:
        schema = _schema(names, kinds)
        sink.begin(schema)
        for table in _text(source, name, len(names), delimiter, compressed, block):
            columns = [
                _typed(strings.combine_chunks(), kind)[1]
                for strings, kind in zip(table.columns, kinds, strict=True)
            ]
            sink.write(pa.RecordBatch.from_arrays(columns, schema=schema))


def _schema(names: list[str], kinds: list[pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(column, kind) for column, kind in zip(names, kinds, strict=True)])


def _text(
    source: Path, name: str, width: int, delimiter: str, compressed: bool, block: int
) -> Iterator[pa.Table]:
    """Read the rows as text columns, and refuse a file whose last quote is never closed."""
    columns = [str(position) for position in range(width)]
    with _stream(source, compressed) as stream:
        counted = _Counted(stream)
        reader = arrow_csv.open_csv(
            pa.PythonFile(counted, mode="r"),
            read_options=arrow_csv.ReadOptions(
                block_size=block, column_names=columns, skip_rows_after_names=1, use_threads=True
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=list(NULLS),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        last: pa.RecordBatch | None = None

        def watched() -> Iterator[pa.RecordBatch]:
            nonlocal last
            for batch in reader:
                if batch.num_rows:
                    last = batch
                    yield batch

        yield from tables_of(watched())
    # Arrow takes everything after an opening quote as one value, to the end of the file if need be.
    tail = [str(column[-1].as_py() or "") for column in last.columns] if last is not None else []
    if counted.quotes % 2 or any("\n" in value or "\r" in value for value in tail):
        _check_quotes(source, name, delimiter, compressed)


def _stream(source: Path, compressed: bool) -> pa.NativeFile:
    file = pa.OSFile(str(source), "rb")
    return pa.CompressedInputStream(file, "gzip") if compressed else file


def _typed(strings: pa.Array, known: pa.DataType) -> tuple[pa.DataType, pa.Array]:
    """Return the narrowest type that holds these strings and `known`, and the values as that type.

    The type depends on the set of values only, not on how they are cut into chunks.
    """
    if pt.is_string(known):
        return known, strings
    present = strings.null_count < len(strings)
    if not pt.is_null(known) and (values := _parse(strings, known)) is not None:
        return known, values
    if not present:
        return known, pa.nulls(len(strings), known)
    sample = _cleaned(strings.drop_null().slice(0, 64))
    for kind in _KINDS:
        if sample.null_count < len(sample) and _parse(sample, kind) is None:
            continue
        if (values := _parse(strings, kind)) is None:
            continue
        if values.null_count == len(values) and pt.is_null(known):
            # Only quoted blanks so far, which are text if the rest is text, and null if it is not.
            return known, pa.nulls(len(strings))
        wider = kind if pt.is_null(known) else _WIDER.get(frozenset({kind, known}), pa.string())
        return (wider, strings) if pt.is_string(wider) else (wider, _parse(strings, wider))
    return pa.string(), strings


def _cleaned(strings: pa.Array) -> pa.Array:
    """Return the strings without surrounding blanks, and null for those that stand for null."""
    trimmed = pc.utf8_trim_whitespace(strings)
    return pc.if_else(pc.is_in(trimmed, value_set=_NULL_TEXTS), pa.scalar(None, pa.string()), trimmed)


def _parse(strings: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the strings as `kind`, or None if a single one is not exactly that."""
    for text in (strings, None):
        values = text if text is not None else _cleaned(strings)
        try:
            parsed = pc.cast(values, kind)
        except pa.ArrowInvalid:
            continue
        return parsed if _faithful(values, parsed) else None
    return None


def _faithful(strings: pa.Array, parsed: pa.Array) -> bool:
    """Say whether nothing was lost that the casts of Arrow let pass."""
    kind = parsed.type
    if pt.is_boolean(kind):
        # Arrow takes 0 and 1 for booleans too.
        return not _any(pc.invert(pc.is_in(pc.utf8_lower(strings.drop_null()), value_set=_BOOLEANS)))
    if not (pt.is_integer(kind) or pt.is_floating(kind)):
        return True
    if len(strings) == strings.null_count:
        return True
    length, first, second, third = _first_characters(strings)
    # Codes such as 007, and hexadecimal numbers.
    negative = first == ord("-")
    lead, after = np.where(negative, second, first), np.where(negative, third, second)
    if bool(np.any((length > 1 + negative) & (lead == ord("0")) & np.isin(after, _DIGITS_OR_X))):
        return False
    if pt.is_integer(kind):
        return True
    if bool(np.any((length > 0) & (first == ord("+")))):
        return False
    # Whole numbers beyond 64 bits would be rounded, and numbers beyond a double's range be infinite.
    large = pc.greater_equal(pc.abs(parsed), 1e18)
    texts, numbers = strings.filter(large), parsed.filter(large)
    if not len(texts):
        return True
    whole = texts.filter(pc.match_substring_regex(texts, r"^-?[0-9]+$"))
    try:
        pc.cast(whole, pa.int64())
    except pa.ArrowInvalid:
        return False
    return not _any(pc.and_(pc.is_inf(numbers), pc.match_substring_regex(texts, r"[0-9]")))


def _first_characters(strings: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the length of each string in bytes and its first three bytes (anything where it has fewer)."""
    _, offsets, content = strings.buffers()
    ends = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1]
    characters = np.frombuffer(content, np.uint8)
    start, last = ends[:-1], len(characters) - 1
    at = [characters[np.minimum(start + position, last)] for position in range(3)]
    return np.diff(ends), at[0], at[1], at[2]


def _any(flags: pa.Array) -> bool:
    return bool(pc.any(flags).as_py())


def _header(source: Path, name: str, compressed: bool) -> tuple[list[str], str, list[str]]:
    """Return the column names, the delimiter, and which names had to be made up."""
    with _stream(source, compressed) as stream:
        head = cast("bytes", stream.read(_HEAD))
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise EmptyFile(
            name, "the file holds nothing but blanks", "Land it again when it is written completely"
        )
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UnknownFormat(
                name, f"this is {what}, whatever its name says", "Land it under its right suffix"
            )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadEncoding(name, "the file is UTF-16, not UTF-8", _SAVE_AS_UTF8, line=1, byte=0)
    # The cut at the end may fall inside a character.
    text = (
        head.decode("utf-8-sig") if len(head) < _HEAD else head[: head.rfind(b"\n") + 1].decode("utf-8-sig")
    )
    first = next(line for line in StringIO(text, newline="") if line.strip())
    outside = "".join(first.split('"')[::2])
    delimiter = max(DELIMITERS, key=outside.count)
    lines = StringIO(text, newline="")
    names = next(row for row in csv.reader(lines, delimiter=delimiter) if row)
    if len(head) < _HEAD and not lines.read().strip():
        raise EmptyFile(name, "the file names columns but holds no row", "Land a file with at least one row")
    names = [column.strip() for column in names]
    renamed = [f"column_{position}" for position, column in enumerate(names, 1) if not column]
    names = [column or f"column_{position}" for position, column in enumerate(names, 1)]
    check_names(name, names)
    return names, delimiter, renamed


def _open(source: Path, compressed: bool) -> BinaryIO:
    return cast("BinaryIO", gzip.open(source, "rb")) if compressed else source.open("rb")


def _check_quotes(source: Path, name: str, delimiter: str, compressed: bool) -> None:
    limit = csv.field_size_limit(sys.maxsize)
    line = 0
    try:
        with TextIOWrapper(_open(source, compressed), "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            line = 1
            for _ in reader:
                line = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            reason = (
                "a quote is opened in this row and never closed, so the rest of the file would be one value"
            )
            raise RaggedRows(
                name, reason, 'Close the quote, or write a quote inside a value as ""', line=line
            ) from None
    finally:
        csv.field_size_limit(limit)


def _diagnosis(source: Path, name: str, compressed: bool, error: Exception) -> UnreadableFile:
    """Read the file once more, slowly, to say where it is wrong."""
    offset = 0
    with _open(source, compressed) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as wrong:
                at = offset + wrong.start
                reason = f"byte 0x{line[wrong.start]:02x} is not UTF-8"
                return BadEncoding(name, reason, _SAVE_AS_UTF8, line=number, byte=at)
            offset += len(line)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        names, delimiter, _ = _header(source, name, compressed)
        with TextIOWrapper(_open(source, compressed), "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            start = 1
            for row in reader:
                if row and len(row) != len(names):
                    reason = f"this row has {len(row)} values, the header names {len(names)} columns"
                    fix = "Quote values that hold the delimiter, or complete the row"
                    return RaggedRows(name, reason, fix, line=start)
                start = reader.line_num + 1
    except csv.Error as wrong:
        return UnreadableFile(name, str(wrong), "Mend the file and land it again")
    finally:
        csv.field_size_limit(limit)
    return UnreadableFile(name, " ".join(str(error).split())[:200], "Mend the file and land it again")
