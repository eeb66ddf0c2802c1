"""JSON and JSON lines to typed batches: every member of the records gets a type that holds all its values.

What a file means is settled by Python's parser, block by block: it sees every member, says where a text is wrong,
and keeps whole numbers that no double holds. Arrow's parser is several times as fast, and strict once it is told the
types: it gives the same values or an error. So Python reads the first rows, Arrow goes on with the types that were
found, and a block that Arrow refuses is read by Python again, which may widen the types. Only when a type was widened
after rows had been written is the file read a second time, now with the types that hold everywhere.

A JSON document is read as if its records stood on lines of their own: numpy finds where each one ends, so that a
document larger than memory is read in pieces, too.
"""

import codecs
import json
import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json
import pyarrow.types as pt

from mlassets.ingestion.columns import JSON, Columns, stored
from mlassets.ingestion.errors import (
    BadEncoding,
    BadRow,
    EmptyFile,
    NotRecords,
    TruncatedFile,
)
from mlassets.ingestion.formats import Sink, Tables, distinct_names
from mlassets.ingestion.options import ReadOptions

_FIRST = 2**16
_BLOCK = 2**20
_LONGEST_RECORD = 2**29
_MOST_COLUMNS = 20_000
# Of a block; more than a hundredth of them should hold something.
_MOST_CELLS = 20_000_000
_MOST_MEMBERS = 500
_DEEPEST_TYPE = 16
_MOST_SKELETON = 1_000_000
_LOST = "Land it again; if it was still being written, land it under another name and rename it when done"
_MEND = "Mend this record, or take the others with `on_bad_rows: skip`"
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_jsonl(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a file with a JSON object on every line; or a document, if it is one in spite of its name."""
    return _read(source, name, options, tables, lines=True)


def read_json(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a JSON document: a list of records, or an object that holds such lists; or lines, if it holds these.

    A list of objects is a table. An object with lists of objects among its members is a table of each; one without
    is a single record. `records` says where the list is, names joined by dots.
    """
    return _read(source, name, options, tables, lines=False)


def _read(source: Path, name: str, options: ReadOptions, tables: Tables, *, lines: bool) -> Mapping[str, Any]:
    with _as_utf_8(source, name, options) as (file, encoding):
        text = _Text(file, name, exact=encoding is None)
        found: dict[str, Any] = {"encoding": encoding} if encoding else {}
        if text.start == text.end:
            raise EmptyFile(
                name, "the file holds nothing but blanks", "Land it again when it is written completely"
            )
        if options.records is None and text.is_lines(lines=lines):
            with tables.table() as sink:
                _Conversion(text, _Lines(text), sink, options, tables).run()
            return found
        _read_document(text, options, tables)
    return found


@contextmanager
def _as_utf_8(source: Path, name: str, options: ReadOptions) -> Iterator[tuple[IO[bytes], str | None]]:
    """Open a file as UTF-8, and say what else it was if it had to be recoded."""
    with source.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        encoding = options.encoding
        if encoding is None:
            encoding = next((one for mark, one in _ENCODINGS if head.startswith(mark)), None)
        if encoding is None and b"\0" in head:
            # JSON begins with two ASCII characters, so that the noughts tell its encoding.
            noughts = "".join("0" if byte == 0 else "x" for byte in head.ljust(4))
            encoding = {
                "x0x0": "utf-16-le",
                "0x0x": "utf-16-be",
                "x000": "utf-32-le",
                "000x": "utf-32-be",
            }.get(noughts)
        try:
            known = "utf-8" if encoding is None else codecs.lookup(encoding).name
        except LookupError:
            raise BadEncoding(
                name, f"there is no encoding {encoding!r}", "Name another with `encoding:`"
            ) from None
        if encoding is None or known == "utf-8":
            yield file, None
            return
        with TemporaryFile() as recoded:
            decoder = codecs.getincrementaldecoder(encoding)()
            read = 0
            try:
                while content := file.read(_BLOCK):
                    recoded.write(decoder.decode(content).encode("utf-8"))
                    read += len(content)
                recoded.write(decoder.decode(b"", final=True).encode("utf-8"))
            except UnicodeError as error:
                raise BadEncoding(
                    name, f"it is not {encoding} throughout ({error})", "Say `encoding:`", byte=read
                ) from error
            yield recoded, encoding


class _Text:
    """The bytes of a file, UTF-8, and where in it things are."""

    def __init__(self, file: IO[bytes], name: str, *, exact: bool) -> None:
        self.file, self.name = file, name
        # Offsets of a file that was recoded would mislead.
        self.exact = exact
        file.flush()
        self.size = os.fstat(file.fileno()).st_size
        self.start = 3 if self.read(0, 3) == codecs.BOM_UTF8 else 0
        self.start = self.after_blanks(self.start)
        self.end = self.size
        while self.end > self.start:
            tail = self.read(max(self.start, self.end - _FIRST), self.end)
            self.end -= len(tail) - len(tail.rstrip(b" \t\r\n"))
            if tail.rstrip(b" \t\r\n"):
                break

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`."""
        content = b""
        while len(content) < end - start:
            more = os.pread(self.file.fileno(), end - start - len(content), start + len(content))
            if not more:
                break
            content = content + more if content else more
        return content

    def after_blanks(self, start: int) -> int:
        """Return where the next thing is that is not blank."""
        while block := self.read(start, start + 4096):
            rest = block.lstrip(b" \t\r\n")
            if rest:
                return start + len(block) - len(rest)
            start += len(block)
        return self.size

    def line_of(self, byte: int) -> int:
        """Return the line that a byte is in, from 1."""
        line, at = 1, 0
        while at < byte:
            block = self.read(at, min(byte, at + _BLOCK))
            if not block:
                break
            line += block.count(b"\n")
            at += len(block)
        return line

    def is_lines(self, *, lines: bool) -> bool:
        """Say whether there is a JSON value on each line, rather than one value that spans the file."""
        head = self.read(self.start, min(self.end, self.start + _BLOCK))
        first, line_end, rest = head.partition(b"\n")
        if not line_end:
            first, line_end, rest = head.partition(b"\r")
        if not rest.strip() and self.start + len(head) >= self.end:
            # A single line: an array is a document, an object is a record either way.
            return lines and first.startswith(b"{")
        try:
            value = json.loads(first)
        except (ValueError, RecursionError):
            # Broken, or the beginning of a document; JSON lines have their first object end where its line does.
            return lines and not (first.startswith(b"[") or first.strip() == b"{")
        return isinstance(value, dict) or (lines and isinstance(value, list))


@dataclass(frozen=True)
class _Block:
    """Some records, each on a line of its own; `start` is where they are in the file."""

    content: bytes
    start: int


class _Lines:
    """The records of a file that has one on every line."""

    def __init__(self, text: _Text) -> None:
        self._text = text

    def __iter__(self) -> Iterator[_Block]:
        text, at, size = self._text, self._text.start, _FIRST
        head = text.read(at, min(text.end, at + _FIRST))
        carriage = b"\n" not in head and b"\r" in head
        while at < text.end:
            content = text.read(at, min(text.end, at + size))
            if not content:
                raise TruncatedFile(text.name, "it became shorter while it was read", _LOST)
            if carriage:
                content = content.replace(b"\r", b"\n")
            if at + len(content) < text.end:
                cut = content.rfind(b"\n") + 1
                if not cut:
                    _check_length(text, at, size)
                    size *= 4
                    continue
                content = content[:cut]
            yield _Block(content, at)
            at += len(content)
            size = _BLOCK


class _Elements:
    """The elements of the list between two places of a document."""

    def __init__(self, text: _Text, start: int, end: int) -> None:
        self._text, self._start, self._end = text, start, end

    def __iter__(self) -> Iterator[_Block]:
        text, structure = self._text, _Structure()
        # The brackets stay outside, so that what separates the elements is at depth 0.
        at, held, begun, size = self._start + 1, b"", self._start + 1, _FIRST
        while at < self._end - 1:
            content = text.read(at, min(self._end - 1, at + size))
            if not content:
                raise TruncatedFile(text.name, "it became shorter while it was read", _LOST)
            at += len(content)
            places, kinds, depths = structure.feed(content)
            commas = places[(kinds == _COMMA) & (depths == 0)]
            array = np.frombuffer(content, np.uint8).copy()
            array[(array == 10) | (array == 13)] = 32
            array[commas] = 10
            content = held + array.tobytes()
            if len(commas):
                cut = len(held) + int(commas[-1]) + 1
                yield _Block(content[:cut], begun)
                begun += cut
                content = content[cut:]
            held = content
            _check_length(text, begun, len(held))
            size = _BLOCK
        if held.strip():
            yield _Block(held, begun)


def _check_length(text: _Text, start: int, size: int) -> None:
    if size >= _LONGEST_RECORD:
        raise NotRecords(
            text.name,
            f"a single record is longer than {_LONGEST_RECORD:,} bytes",
            "Land a list of smaller records, or say with `records:` where they are",
            line=text.line_of(start),
            byte=start if text.exact else None,
        )


_QUOTE, _OPEN, _CLOSE, _COMMA, _COLON = 1, 2, 3, 4, 5
_MARKS = np.zeros(256, np.uint8)
for _characters, _kind in ((b'"', _QUOTE), (b"[{", _OPEN), (b"]}", _CLOSE), (b",", _COMMA), (b":", _COLON)):
    _MARKS[list(_characters)] = _kind


class _Structure:
    """Finds brackets, commas and colons outside of strings, over pieces of a text."""

    def __init__(self) -> None:
        self.depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return places, kinds and levels: that of the value a mark opens, closes or separates the members of."""
        array = np.frombuffer(content, np.uint8)
        marks = _MARKS[array]
        places = np.flatnonzero(marks)
        kinds = marks[places]
        escaped, self._escaped = self._after_backslashes(content, array)
        if len(escaped):
            spared = ~((kinds == _QUOTE) & np.isin(places, escaped))
            places, kinds = places[spared], kinds[spared]
        quotes = kinds == _QUOTE
        outside = (np.cumsum(quotes) + self._quoted) % 2 == 0
        self._quoted = bool((int(quotes.sum()) + self._quoted) % 2)
        kept = outside & ~quotes
        places, kinds = places[kept], kinds[kept]
        step = (kinds == _OPEN).astype(np.int64) - (kinds == _CLOSE)
        after = np.cumsum(step) + self.depth
        if len(after):
            self.depth = int(after[-1])
        return places, kinds, after - (kinds == _OPEN)

    def _after_backslashes(self, content: bytes, array: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the places that follow an odd number of backslashes, and whether the next piece begins so."""
        if not (self._escaped or b"\\" in content):
            return np.empty(0, np.int64), False
        places = np.flatnonzero(array == ord("\\"))
        if self._escaped:
            # The first character is escaped: if it is a backslash itself, it escapes nothing.
            first = np.zeros(1, np.int64)
            places = places[1:] if len(places) and places[0] == 0 else places
        else:
            first = np.empty(0, np.int64)
        if not len(places):
            return first, False
        breaks = np.flatnonzero(np.diff(places) != 1)
        begins = places[np.concatenate([[0], breaks + 1])]
        ends = places[np.concatenate([breaks, [len(places) - 1]])]
        after = ends[(ends - begins) % 2 == 0] + 1
        return np.concatenate([first, after]), bool(len(after) and after[-1] == len(array))


@dataclass
class _Member:
    """A member of an object in a document: its name, and where its value is."""

    key: str
    start: int
    end: int


def _read_document(text: _Text, options: ReadOptions, tables: Tables) -> None:
    """Find the records in a document and read them."""
    path = options.records.split(".") if options.records else []
    start, end = text.start, text.end
    for depth, key in enumerate(path):
        members = (
            {one.key: one for one in _members(text, start, end)}
            if text.read(start, start + 1) == b"{"
            else {}
        )
        if key not in members:
            there = ", ".join(list(members)[:20]) or "nothing of that kind"
            raise NotRecords(
                text.name,
                f"there is no {'.'.join(path[: depth + 1])!r} in the document; there is {there}",
                "Say with `records:` where the records are, names joined by dots",
            )
        start, end = members[key].start, members[key].end
    first = text.read(start, start + 1)
    if first == b"[":
        _check_closed(text, start, end)
        with tables.table(found={"records": options.records} if path else None) as sink:
            _Conversion(text, _Elements(text, start, end), sink, options, tables).run()
        return
    if first != b"{":
        raise NotRecords(
            text.name,
            "the document is a single value, not records",
            "Land a list of objects, or an object that holds one",
            line=text.line_of(start),
        )
    members_ = list(_members(text, start, end))
    lists = [one for one in members_ if _is_list_of_records(text, one)]
    beside = [one.key for one in members_ if one not in lists]
    for one in lists:
        table = one.key if len(lists) > 1 else ""
        found: dict[str, Any] = {"records": ".".join([*path, one.key])}
        if beside:
            found["beside"] = beside[:100]
        if not tables.wants(table):
            with tables.table(table):
                continue
        with tables.table(table, found=found) as sink:
            names = _names_beside(text, members_) if len(lists) == 1 else None
            _Conversion(text, _Elements(text, one.start, one.end), sink, options, tables, names).run()
    if not lists:
        _check_length(text, start, end - start)
        record = text.read(start, end)
        columns = _by_columns(record)
        with tables.table(found={"records": "columns" if columns else "one object"}) as sink:
            block = columns or record.replace(b"\n", b" ").replace(b"\r", b" ")
            _Conversion(text, [_Block(block, start)], sink, options, tables).run()


def _members(text: _Text, start: int, end: int) -> Iterator[_Member]:
    """Yield the members of the object between two places, and refuse what follows it or is missing of it."""
    structure = _Structure()
    begun = start + 1
    colon: int | None = None
    seen = 0
    at = start
    closed = False
    while at < end:
        content = text.read(at, min(end, at + _BLOCK))
        if not content:
            break
        places, kinds, depths = structure.feed(content)
        chosen = (depths == 0) & (kinds == _CLOSE) | (depths == 1) & ((kinds == _COMMA) | (kinds == _COLON))
        for place, kind in zip((places[chosen] + at).tolist(), kinds[chosen].tolist(), strict=True):
            if closed:
                break
            seen += 1
            if seen > _MOST_SKELETON:
                raise NotRecords(
                    text.name,
                    "the document is one object with too many members to be a record",
                    "Land a list of objects, one for each record",
                )
            if kind == _COLON:
                colon = place
                continue
            if colon is not None:
                yield _Member(_key(text, begun, colon), text.after_blanks(colon + 1), place)
            begun, colon = place + 1, None
            if kind == _CLOSE:
                closed = True
                rest = text.after_blanks(place + 1)
                if rest < end:
                    raise NotRecords(
                        text.name,
                        "something follows the end of the document",
                        "Land one document in a file, or one record on every line as .jsonl",
                        line=text.line_of(rest),
                        byte=rest if text.exact else None,
                    )
        at += len(content)
    if not closed:
        raise _cut_off(text)


def _check_closed(text: _Text, start: int, end: int) -> None:
    if text.read(end - 1, end) != b"]" or end - start < 2:
        raise _cut_off(text)


def _cut_off(text: _Text) -> TruncatedFile:
    return TruncatedFile(
        text.name,
        "the document ends before its brackets and quotes are closed",
        _LOST,
        line=text.line_of(text.end),
        byte=text.end if text.exact else None,
    )


def _key(text: _Text, start: int, end: int) -> str:
    try:
        key = json.loads(text.read(start, end))
    except (ValueError, RecursionError):
        key = None
    if not isinstance(key, str):
        raise BadRow(
            text.name,
            "what stands before this colon is not a name in double quotes",
            "Mend the file and land it again",
            line=text.line_of(start),
            byte=start if text.exact else None,
        )
    return key


def _is_list_of_records(text: _Text, member: _Member) -> bool:
    if text.read(member.start, member.start + 1) != b"[":
        return False
    first = text.after_blanks(member.start + 1)
    return text.read(first, first + 1) == b"{" or (
        # Lists of values below a name such as `data` are rows, too, if the columns are named beside it.
        text.read(first, first + 1) == b"[" and member.key in ("data", "rows", "values", "records")
    )


def _names_beside(text: _Text, members: Sequence[_Member]) -> list[str] | None:
    """Return the names in a member `columns`, which says what the lists of values beside it hold."""
    for one in members:
        if one.key == "columns" and one.end - one.start < _BLOCK:
            try:
                names = json.loads(text.read(one.start, one.end))
            except (ValueError, RecursionError):
                return None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return names
    return None


def _by_columns(record: bytes) -> bytes | None:
    """Return the records of an object that holds, by column, the values of rows 0, 1, 2 ... (as pandas writes it)."""
    try:
        columns = json.loads(record)
    except (ValueError, RecursionError):
        return None
    values = list(columns.values()) if isinstance(columns, dict) else []
    if not values or not all(isinstance(value, dict) and value for value in values):
        return None
    rows = [str(number) for number in range(len(values[0]))]
    if any(list(value) != rows for value in values):
        return None
    records = ({name: value[row] for name, value in columns.items()} for row in rows)
    return "\n".join(json.dumps(one) for one in records).encode("utf-8", "surrogatepass")


class _Conversion:
    """Turns the records of one list into one table."""

    def __init__(
        self,
        text: _Text,
        blocks: Iterable[_Block],
        sink: Sink,
        options: ReadOptions,
        tables: Tables,
        names: list[str] | None = None,
    ) -> None:
        self._text, self._blocks, self._sink, self._tables = text, blocks, sink, tables
        self._header, self._given = options.header, names
        self._kinds: dict[str, _Kind] = {}
        self._schema = pa.schema([])
        # Columns that hold numbers or booleans that had to become texts.
        self._mixed: set[str] = set()
        # What such columns were before: most blocks may hold nothing else.
        self._before: dict[str, pa.DataType] = {}
        # Names of the columns where rows are lists of values.
        self._names: list[str] | None = None
        self._lists = names is not None
        self._columns = Columns(sink, options, text.name)

    def run(self) -> None:
        """Read the records, twice if need be."""
        for _ in self._columns.passes():
            self._names = self._given
            self._read()
        if self._mixed:
            self._sink.found["mixed"] = sorted(self._mixed)[:100]
        if texts := [field.name for field in self._schema if _holds_json(field.type)]:
            self._sink.found["json"] = texts[:100]

    def _read(self) -> None:
        pending: deque[tuple[_Block, pa.Schema, Future[pa.Table | None]]] = deque()
        with ThreadPoolExecutor(2, thread_name_prefix="json") as pool:
            for block in self._blocks:
                pending.append(
                    (block, self._schema, pool.submit(_fast, block.content, self._schema, dict(self._before)))
                )
                # The first rows tell the types that the others are parsed with.
                while pending and (len(pending) > 3 or not len(self._schema)):
                    self._take(*pending.popleft())
            while pending:
                self._take(*pending.popleft())

    def _take(self, block: _Block, schema: pa.Schema, future: Future[pa.Table | None]) -> None:
        table = future.result()
        rejected: list[tuple[str, str, int, type[BadRow | BadEncoding]]] = []
        if schema is not self._schema:
            # The types were widened since.
            table = _fast(block.content, self._schema, self._before)
        if table is None:
            table, rejected = self._slowly(block)
        plain = frozenset(self._mixed | {field.name for field in self._schema if _holds_json(field.type)})
        self._columns.write(table, plain=plain)
        for row, reason, at, error in rejected:
            fix = _MEND if error is BadRow else "Save the file as UTF-8, or say its `encoding:`"
            self._sink.reject(row, reason, line=self._text.line_of(at), fix=fix, error=error)
        self._tables.progress(min(block.start + len(block.content), self._text.size), self._text.size)

    def _slowly(
        self, block: _Block
    ) -> tuple[pa.Table, list[tuple[str, str, int, type[BadRow | BadEncoding]]]]:
        """Read records one by one: slow, but it widens the types and says what is wrong."""
        rows: list[dict[str, Any]] = []
        rejected: list[tuple[str, str, int, type[BadRow | BadEncoding]]] = []
        at = block.start
        for line in block.content.split(b"\n"):
            try:
                for value in _values(line):
                    row = self._row(value)
                    if row is not None:
                        rows.append(row)
            except UnicodeDecodeError as error:
                reason = f"byte 0x{line[error.start]:02x} is not UTF-8"
                rejected.append(
                    (line.decode("utf-8", "backslashreplace"), reason, at + error.start, BadEncoding)
                )
            except json.JSONDecodeError as error:
                place = at + len(error.doc[: error.pos].encode("utf-8"))
                rejected.append(
                    (line.decode(), f"{error.msg} at character {error.pos + 1} of the record", place, BadRow)
                )
            except RecursionError:
                rejected.append(
                    (line[:1000].decode("utf-8", "replace"), "it is nested too deeply", at, BadRow)
                )
            except ValueError as error:
                rejected.append((line.decode("utf-8", "replace"), str(error), at, BadRow))
            at += len(line) + 1
        return self._table(rows), rejected

    def _row(self, value: Any) -> dict[str, Any] | None:
        """Return a value of the list as a row; None if it only names the columns."""
        if isinstance(value, list) and (self._lists or not self._kinds):
            if self._names is None:
                texts = bool(value) and all(isinstance(one, str) for one in value)
                header = texts if self._header is None else self._header
                names = (
                    [one if isinstance(one, str) else "" for one in value] if header else [""] * len(value)
                )
                self._lists = True
                self._names, renamed = distinct_names([*names])
                if renamed:
                    self._sink.found["named"] = renamed
                if header:
                    return None
            if len(value) != len(self._names):
                raise ValueError(f"this row has {len(value)} values, there are {len(self._names)} columns")
            value = dict(zip(self._names, value, strict=True))
        if not isinstance(value, dict):
            what = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}.get(
                type(value), "a number"
            )
            raise ValueError(f"this is {what}, not an object")
        if (
            len(value) + len(self._kinds) > _MOST_COLUMNS
            and len(value.keys() | self._kinds.keys()) > _MOST_COLUMNS
        ):
            raise self._too_many_names()
        for name, one in value.items():
            self._kinds[name] = _join(self._kinds.get(name), one)
        return value

    def _too_many_names(self) -> NotRecords:
        return NotRecords(
            self._text.name,
            f"the records have {len(self._kinds):,} different names for their members, and few in common",
            "Land records that name their members alike, and keep what varies in a value",
        )

    def _table(self, rows: list[dict[str, Any]]) -> pa.Table:
        cells = len(rows) * len(self._kinds)
        if cells > _MOST_CELLS and sum(map(len, rows)) < cells / 100:
            raise self._too_many_names()
        schema = pa.schema([pa.field(name, _arrow(kind)) for name, kind in self._kinds.items()])
        if not schema.equals(self._schema):
            for field in self._schema:
                if pt.is_integer(field.type) or pt.is_boolean(field.type):
                    self._before[field.name] = field.type
            self._schema = schema
        columns = []
        for field in schema:
            values = [row.get(field.name) for row in rows]
            if pt.is_string(field.type) and not all(value is None or type(value) is str for value in values):
                self._mixed.add(field.name)
            if not (pt.is_integer(field.type) or pt.is_boolean(field.type)):
                values = [_value(value, field.type) for value in values]
            columns.append(pa.array(values, stored(field.type)))
        return pa.Table.from_arrays(columns, names=schema.names)


def _fast(content: bytes, schema: pa.Schema, before: Mapping[str, pa.DataType]) -> pa.Table | None:
    """Return the records as Arrow's parser reads them; None unless that is certainly what Python would read.

    Arrow's parser calls itself for every level of a value, but stops at the first level that the types do not have.

    Args:
        content: The records.
        schema: The types of their members.
        before: What columns that are text by now had been: whole numbers or booleans.
    """
    if not len(schema) or any(_holds_json(field.type) for field in schema):
        return None
    try:
        pa.array([content], pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return None
    table = _by_arrow(content, schema)
    narrow = {name: kind for name, kind in before.items() if pt.is_string(schema.field(name).type)}
    if table is None and narrow:
        read = _by_arrow(
            content, pa.schema([pa.field(one.name, narrow.get(one.name, one.type)) for one in schema])
        )
        return read.cast(schema) if read is not None else None
    return table


def _by_arrow(content: bytes, schema: pa.Schema) -> pa.Table | None:
    options = arrow_json.ReadOptions(use_threads=False, block_size=len(content) + 1)
    strictly = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    try:
        table = arrow_json.read_json(pa.BufferReader(content), read_options=options, parse_options=strictly)
    except pa.ArrowException:
        return None
    # Whole numbers beyond 64 bits would have been rounded.
    if any(_has_large(chunk) for column in table.columns for chunk in column.chunks):
        return None
    return table


def _has_large(array: pa.Array) -> bool:
    if pt.is_floating(array.type):
        return bool(pc.any(pc.greater_equal(pc.abs(array), 2.0**63)).as_py())
    if pt.is_struct(array.type):
        return any(_has_large(array.field(position)) for position in range(array.type.num_fields))
    return pt.is_list(array.type) and _has_large(array.values)


# What a member of the records is: None as long as it is null everywhere, a name of a type, the members of an object,
# or what a list holds.
_Kind = str | dict[str, Any] | list[Any] | None
_SCALARS = {str: "text", bool: "boolean", int: "integer", float: "number"}
_TYPES = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "json": JSON,
}


def _join(known: Any, value: Any) -> Any:
    """Return the kind that holds a value and what is known; lists and objects of a kind are changed in place."""
    if value is None:
        return known
    if isinstance(value, dict):
        if known is None:
            known = {}
        elif not isinstance(known, dict):
            return "json"
        for name, one in value.items():
            known[name] = _join(known.get(name), one)
        return known if len(known) <= _MOST_MEMBERS and "" not in known else "json"
    if isinstance(value, list):
        if known is None:
            known = [None]
        elif not isinstance(known, list):
            return "json"
        inner = known[0]
        for one in value:
            inner = _join(inner, one)
        known[0] = inner
        return known
    kind = _SCALARS.get(type(value), "text")
    if kind == "integer" and not -(2**63) <= value < 2**63:
        kind = "text"
    if known is None or known == kind:
        return kind
    if known == "json" or isinstance(known, dict | list):
        return "json"
    return "number" if {known, kind} == {"integer", "number"} else "text"


def _arrow(kind: _Kind, level: int = 0) -> pa.DataType:
    if kind is None:
        return pa.null()
    if isinstance(kind, str):
        return _TYPES[kind]
    # Parquet has no objects without members.
    if level >= _DEEPEST_TYPE or not kind:
        return JSON
    if isinstance(kind, list):
        return pa.list_(_arrow(kind[0], level + 1))
    return pa.struct([pa.field(name, _arrow(one, level + 1)) for name, one in kind.items()])


def _holds_json(kind: pa.DataType) -> bool:
    if kind.equals(JSON):
        return True
    return any(_holds_json(kind.field(position).type) for position in range(kind.num_fields))


def _value(value: Any, kind: pa.DataType) -> Any:
    """Return a value as what Arrow makes one of `kind` of."""
    if value is None:
        return None
    if pt.is_string(kind):
        return str(value) if isinstance(value, str) else json.dumps(value)
    if pt.is_floating(kind):
        return float(value)
    if kind.equals(JSON):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if pt.is_list(kind):
        return [_value(one, kind.value_type) for one in value]
    if pt.is_struct(kind):
        return {field.name: _value(value.get(field.name), field.type) for field in kind}
    return value


class _Digits(str):
    """A number as it is written, which neither 64 bits nor a double hold."""

    __slots__ = ()


def _whole(text: str) -> int | str:
    return int(text) if len(text) < 4000 else _Digits(text)


def _fraction(text: str) -> float | str:
    number = float(text)
    return _Digits(text) if math.isinf(number) else number


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction)
_BLANKS = re.compile(r"[ \t\r\n]*")


def _values(line: bytes) -> Iterator[Any]:
    """Yield the JSON values on a line, of which there should be one."""
    text = line.decode("utf-8")
    at = cast("re.Match[str]", _BLANKS.match(text)).end()
    while at < len(text):
        value, at = _DECODER.raw_decode(text, at)
        if "\\u" in text:
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise ValueError("it holds half of a surrogate pair, which is no character") from None
        yield value
        at = cast("re.Match[str]", _BLANKS.match(text, at)).end()
