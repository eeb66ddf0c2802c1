"""Landed files of every supported format become Parquet: typed over the whole file, in bounded memory, or refused.

A file holds one or more tables. A format is an entry of `FORMATS`: a suffix, the first bytes of such files, and the
reader that hands their tables to `Tables`. What is common to all formats stays here: one way to write (so that equal
content gives equal bytes), one family of errors, and no trace of a file that could not be taken in.
"""

import codecs
import json
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from mlassets.ingestion.errors import (
    BadRow,
    DuplicateColumns,
    EmptyFile,
    MissingTable,
    ReaderFailed,
    SeveralTables,
    UnknownFormat,
    UnreadableFile,
)
from mlassets.ingestion.options import ReadOptions
from resources.errors import MlassetsError

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 * 2**20
_HEAD_BYTES = 4096
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\v\x1a\x1b")

# What is counted, how much of it is done, how much of it there is: as the bars of the command line take it.
Progress = Callable[[str, int, int], None]
# Path, landed name, options, where the tables go; returns what was found out about the file, JSON-serialisable.
Reader = Callable[[Path, str, ReadOptions, "Tables"], Mapping[str, Any]]


@dataclass(frozen=True)
class Format:
    """A kind of file that is taken in.

    Attributes:
        suffix: How names of such files end, with the leading dot.
        what: What it is, for people, with its article.
        reader: Module and name of its `Reader`, joined by a colon; imported when the first such file is read.
        magic: First bytes of such files, any one of them; none for text.
        offset: Where these stand.
    """

    suffix: str
    what: str
    reader: str
    magic: tuple[bytes, ...] = ()
    offset: int = 0

    def begins(self, head: bytes) -> bool:
        """Say whether a file that begins so can be of this format."""
        return head.startswith(self.magic, self.offset) if self.magic else True

    @property
    def name(self) -> str:
        """The suffix without the leading dot."""
        return self.suffix.removeprefix(".")

    def read(self, source: Path, name: str, options: ReadOptions, tables: "Tables") -> Mapping[str, Any]:
        """Call the reader."""
        module, _, function = self.reader.partition(":")
        return cast("Reader", getattr(import_module(module), function))(source, name, options, tables)


_GZIP = (b"\x1f\x8b",)
_BZIP2 = (b"BZh",)
_XZ = (b"\xfd7zXZ\x00",)
_ZSTANDARD = (b"\x28\xb5\x2f\xfd",)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_DELIMITED = "mlassets.ingestion.delimited:read_delimited"
_JSON = "mlassets.ingestion.json_records"
_WORKBOOK = "mlassets.ingestion.spreadsheets:read_workbook"
_MARKUP = "mlassets.ingestion.markup"
_COLUMNAR = "mlassets.ingestion.columnar"
_ARROW = (b"ARROW1", b"FEA1", b"\xff\xff\xff\xff")
_DATABASES = "mlassets.ingestion.databases"
_SQLITE = (b"SQLite format 3\x00",)
_DOCUMENTS = "mlassets.ingestion.documents"
_ARCHIVE = "mlassets.ingestion.archives:read_archive"

FORMATS: Mapping[str, Format] = {
    one.suffix: one
    for one in (
        # Delimited text
        Format(".csv", "a CSV file", _DELIMITED),
        Format(".csv.gz", "a gzipped CSV file", _DELIMITED, _GZIP),
        Format(".tsv", "a file of tab-separated values", _DELIMITED),
        Format(".tsv.gz", "a gzipped file of tab-separated values", _DELIMITED, _GZIP),
        Format(".tab", "a file of tab-separated values", _DELIMITED),
        Format(".psv", "a file of values separated by bars", _DELIMITED),
        Format(".txt", "a text file", "mlassets.ingestion.delimited:read_txt"),
        Format(".fwf", "a file of fixed width", "mlassets.ingestion.fixed_width:read_fixed_width"),
        # Tables
        Format(".parquet", "a Parquet file", f"{_COLUMNAR}:read_parquet", (b"PAR1",)),
        Format(".json", "a JSON document", f"{_JSON}:read_json"),
        Format(".geojson", "a GeoJSON document", f"{_JSON}:read_json"),
        Format(".jsonl", "a file of JSON lines", f"{_JSON}:read_jsonl"),
        Format(".ndjson", "a file of JSON lines", f"{_JSON}:read_jsonl"),
        Format(".xlsx", "an Excel workbook", _WORKBOOK, (*_ZIP, _OLE)),
        Format(".xlsm", "an Excel workbook with macros", _WORKBOOK, (*_ZIP, _OLE)),
        Format(".xls", "an old Excel workbook", _WORKBOOK, (_OLE,)),
        Format(".ods", "an OpenDocument spreadsheet", _WORKBOOK, _ZIP),
        Format(".xml", "an XML document", f"{_MARKUP}:read_xml"),
        Format(".html", "an HTML page", f"{_MARKUP}:read_html"),
        Format(".htm", "an HTML page", f"{_MARKUP}:read_html"),
        Format(".feather", "a Feather file", f"{_COLUMNAR}:read_arrow", _ARROW),
        Format(".arrow", "an Arrow file", f"{_COLUMNAR}:read_arrow", _ARROW),
        Format(".ipc", "an Arrow file", f"{_COLUMNAR}:read_arrow", _ARROW),
        Format(".arrows", "an Arrow stream", f"{_COLUMNAR}:read_arrow", _ARROW),
        Format(".orc", "an ORC file", f"{_COLUMNAR}:read_orc", (b"ORC",)),
        Format(".avro", "an Avro file", "mlassets.ingestion.avro_records:read_avro", (b"Obj\x01",)),
        Format(".sqlite", "a SQLite database", f"{_DATABASES}:read_sqlite", _SQLITE),
        Format(".sqlite3", "a SQLite database", f"{_DATABASES}:read_sqlite", _SQLITE),
        Format(".db", "a SQLite database", f"{_DATABASES}:read_sqlite", _SQLITE),
        Format(".duckdb", "a DuckDB database", f"{_DATABASES}:read_duckdb", (b"DUCK",), offset=8),
        # Documents
        Format(".pdf", "a PDF", f"{_DOCUMENTS}:read_pdf", (b"%PDF",)),
        Format(".docx", "a Word document", f"{_DOCUMENTS}:read_word", (*_ZIP, _OLE)),
        Format(".md", "a Markdown document", f"{_DOCUMENTS}:read_markdown"),
        Format(".markdown", "a Markdown document", f"{_DOCUMENTS}:read_markdown"),
        Format(".xhtml", "a web page as a document", f"{_DOCUMENTS}:read_web_page"),
        # Archives
        Format(".zip", "a ZIP archive", _ARCHIVE, _ZIP),
        Format(".tar", "a TAR archive", _ARCHIVE, (b"ustar",), offset=257),
        Format(".tar.gz", "a gzipped TAR archive", _ARCHIVE, _GZIP),
        Format(".tgz", "a gzipped TAR archive", _ARCHIVE, _GZIP),
        Format(".tar.bz2", "a TAR archive in bzip2", _ARCHIVE, _BZIP2),
        Format(".tbz2", "a TAR archive in bzip2", _ARCHIVE, _BZIP2),
        Format(".tar.xz", "a TAR archive in xz", _ARCHIVE, _XZ),
        Format(".txz", "a TAR archive in xz", _ARCHIVE, _XZ),
        Format(".tar.zst", "a TAR archive in Zstandard", _ARCHIVE, _ZSTANDARD),
        Format(".tzst", "a TAR archive in Zstandard", _ARCHIVE, _ZSTANDARD),
        Format(".gz", "a gzipped file", _ARCHIVE, _GZIP),
        Format(".bz2", "a file in bzip2", _ARCHIVE, _BZIP2),
        Format(".xz", "a file in xz", _ARCHIVE, _XZ),
        Format(".zst", "a file in Zstandard", _ARCHIVE, _ZSTANDARD),
    )
}


@dataclass(frozen=True)
class ConvertedTable:
    """What became of one table of a landed file.

    Attributes:
        name: Name of the table within the file; empty where a file is one table.
        path: The Parquet file.
        schema: Columns and types, without metadata.
        rows: Number of rows.
        bytes: Size of the Parquet file.
        rejected: Number of rows that could not be taken.
        rejects: Those rows as JSON lines, each with its line and the reason; None if there are none.
        found: What was found out about the table (delimiter, renamed columns), JSON-serialisable.
    """

    name: str
    path: Path
    schema: pa.Schema
    rows: int
    bytes: int
    rejected: int
    rejects: Path | None
    found: Mapping[str, Any]


@dataclass(frozen=True)
class Converted:
    """What became of a landed file.

    Attributes:
        tables: Its tables, at least one.
        format: Suffix of the format that the file was read as, without the leading dot.
        found: What was found out about the file as a whole, JSON-serialisable.
        notes: For a person: what was left out, and why.
    """

    tables: tuple[ConvertedTable, ...]
    format: str
    found: Mapping[str, Any]
    notes: tuple[str, ...]


class Sink:
    """Where a reader puts one table: batches in, row groups of a fixed number of rows out.

    Compressing a row group takes about as long as reading it does, so a thread writes one while the next is read.

    Attributes:
        name: Name of the table.
        rows: Rows written since `begin`.
        rejected: Rows rejected since `begin`.
        found: What is found out about the table; readers add to it.
        wanted: Whether anybody takes the table; if not, what is written to it is dropped.
    """

    def __init__(
        self,
        path: Path,
        name: str = "",
        *,
        file: str = "",
        skip: bool = False,
        found: Mapping[str, Any] | None = None,
        wanted: bool = True,
    ) -> None:
        self.path, self.name, self.wanted = path, name, wanted
        self.rejects = path.with_suffix(".rejected.jsonl")
        self.rows = self.rejected = 0
        self.schema: pa.Schema | None = None
        self.found = dict(found or {})
        self._file, self._skip = file, skip
        self._rejects: IO[str] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._pending: deque[Future[None]] = deque()

    def begin(self, schema: pa.Schema) -> None:
        """Start the table, or start it over, with this schema."""
        self.discard()
        self._close()
        self.rejects.unlink(missing_ok=True)
        self.schema, self.rows, self.rejected = schema, 0, 0
        if not self.wanted:
            return
        # Numbers seldom repeat enough within a row group for a dictionary to pay for its hashing.
        repeating = [field.name for field in schema if not _is_numeric(field.type)]
        self._writer = pq.ParquetWriter(
            self.path, schema, compression="zstd", version="2.6", use_dictionary=repeating or False
        )

    def discard(self) -> None:
        """Drop what is not written yet."""
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        while self._pending:
            self._pending.popleft().exception()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch of the schema that `begin` was given."""
        if self._writer is None:
            return
        while batch.num_rows:
            part = batch.slice(0, ROW_GROUP_ROWS - self._held_rows)
            batch = batch.slice(part.num_rows)
            self._held.append(part)
            self._held_rows += part.num_rows
            self._held_bytes += part.nbytes
            if self._held_rows == ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
                self._write_row_group()

    def reject(
        self,
        row: Mapping[str, Any] | str,
        reason: str,
        *,
        line: int | None = None,
        fix: str = "Mend the row and land the file again, or take the others with `on_bad_rows: skip`",
        error: type[UnreadableFile] = BadRow,
    ) -> None:
        """Keep a row that cannot be taken beside the table, if that is what was asked for.

        Args:
            row: The row as text, or as values by column.
            reason: What is wrong with it.
            line: Line in the file, from 1.
            fix: What to do about it.
            error: What to raise.

        Raises:
            UnreadableFile: `error`, unless rows may be skipped.
        """
        if not self._skip:
            raise error(self._file, reason, fix, line=line)
        self.rejected += 1
        if not self.wanted:
            return
        if self._rejects is None:
            self._rejects = self.rejects.open("w", encoding="utf-8", errors="backslashreplace")
        kept = {"line": line, "reason": reason, "row": row}
        self._rejects.write(json.dumps(kept, ensure_ascii=False, default=str) + "\n")

    def flush(self) -> None:
        """Write what is held, and wait until all of it is in the file."""
        self._write_row_group()
        while self._pending:
            self._pending.popleft().result()

    def finish(self) -> None:
        """Complete the table."""
        self.flush()
        self._thread.shutdown()
        self._close()

    def abandon(self) -> None:
        """Leave no trace of the table."""
        self.discard()
        self._thread.shutdown()
        try:
            self._close()
        finally:
            self.path.unlink(missing_ok=True)
            self.rejects.unlink(missing_ok=True)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        rejects, self._rejects = self._rejects, None
        if rejects is not None:
            rejects.close()
        if writer is not None:
            writer.close()

    def _write_row_group(self) -> None:
        if not self._held or self._writer is None:
            return
        table = pa.Table.from_batches(self._held, self.schema)
        self.rows += table.num_rows
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        while len(self._pending) >= 2:
            self._pending.popleft().result()
        self._pending.append(
            self._thread.submit(self._writer.write_table, table, row_group_size=ROW_GROUP_ROWS)
        )


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_temporal(kind) or pt.is_boolean(kind))


@dataclass
class _Collected:
    """All tables of one landed file, whichever member of it they are in."""

    folder: Path
    file: str
    options: ReadOptions
    progress: Progress | None
    tables: list[ConvertedTable] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Tables:
    """Where a reader puts the tables of a file."""

    def __init__(self, collected: _Collected, within: str = "") -> None:
        self._all, self._within = collected, within

    def under(self, member: str) -> "Tables":
        """Return where the tables of a member of this file go: `member`, or `member#table`."""
        return Tables(self._all, self._named(member))

    def wants(self, name: str = "", *, optional: bool = False) -> bool:
        """Say whether a table is taken; reading one that is not can be spared.

        Args:
            name: Name of the table.
            optional: Whether it is taken only when it is asked for.
        """
        chosen = self._all.options.tables
        if chosen is None:
            return not optional
        full = self._named(name)
        return any(one == full or fnmatchcase(full, one) for one in chosen)

    @contextmanager
    def table(
        self, name: str = "", *, optional: bool = False, found: Mapping[str, Any] | None = None
    ) -> Iterator[Sink]:
        """Take one table: complete when the context ends, gone if it ends with an error.

        Args:
            name: Name of the table within the file.
            optional: Whether it is taken only when the options name it.
            found: What was found out about it.
        """
        wanted = self.wants(name, optional=optional)
        full = self._named(name)
        taken = {one.casefold() for one in self._all.names}
        unique, number = full, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{full}_{number}"
        self._all.names.append(unique)
        path = self._all.folder / f"{uuid4().hex}.parquet"
        skip = self._all.options.on_bad_rows == "skip"
        sink = Sink(path, unique, file=self._all.file, skip=skip, found=found, wanted=wanted)
        try:
            yield sink
            sink.finish()
        except BaseException:
            sink.abandon()
            raise
        if not wanted:
            sink.abandon()
        elif not sink.rows or sink.schema is None:
            sink.abandon()
            lost = f"none of its {sink.rejected:,} rows could be taken" if sink.rejected else "it has no rows"
            self.note(f"{unique or 'the table'} was left out: {lost}")
        else:
            rejects = sink.rejects if sink.rejected else None
            size = path.stat().st_size
            self._all.tables.append(
                ConvertedTable(
                    unique, path, sink.schema, sink.rows, size, sink.rejected, rejects, dict(sink.found)
                )
            )

    def note(self, text: str) -> None:
        """Tell people something about the file, such as what was left out and why."""
        self._all.notes.append(text)

    def progress(self, done: int, total: int) -> None:
        """Say how many bytes of the file have been read."""
        if self._all.progress is not None:
            self._all.progress("bytes", done, total)

    def _named(self, name: str) -> str:
        return f"{self._within}#{name}" if self._within and name else self._within or name


def suffix_of(name: str) -> str | None:
    """Return the suffix in `FORMATS` that a file name ends with, or None."""
    lower = name.lower()
    return max((suffix for suffix in FORMATS if lower.endswith(suffix)), key=len, default=None)


def format_of(source: Path, name: str, options: ReadOptions) -> Format:
    """Return the format of a file: the one that is given, else by its name, else by its first bytes.

    Raises:
        UnknownFormat: If it is none that is taken in, or its first bytes are of another.
    """
    with source.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if options.format is not None:
        suffix: str | None = f".{options.format.removeprefix('.').lower()}"
        if suffix not in FORMATS:
            known = ", ".join(one.name for one in FORMATS.values())
            raise UnknownFormat(
                name, f"{options.format!r} is no format that is known", f"Name one of {known}"
            )
    else:
        suffix = suffix_of(name) or _suffix_by_content(source, head)
    if suffix is None or suffix not in FORMATS:
        supported = ", ".join(FORMATS)
        raise UnknownFormat(name, "files of this kind are not taken in", f"Land one of {supported}")
    wanted = FORMATS[suffix]
    if wanted.magic and not wanted.begins(head):
        other = _magic_of(source, head)
        what = other.what if other else "something else"
        raise UnknownFormat(
            name,
            f"by its name this is {wanted.what}, by its first bytes {what}",
            "Land it under its right suffix, or once more if it was cut off or damaged",
        )
    if not wanted.magic and (other := _magic_of(source, head)) is not None:
        raise UnknownFormat(
            name,
            f"this is {other.what}, whatever its name says ({wanted.what})",
            "Land it under its right suffix",
        )
    return wanted


def _magic_of(source: Path, head: bytes) -> Format | None:
    """Return the format whose first bytes these are, the most general one of several; None if it may be text."""
    found = [one for one in FORMATS.values() if one.magic and one.begins(head)]
    if not found or (_is_text(head) and not head.startswith(b"%PDF")):
        return None
    if head.startswith(b"PK"):
        inside = _suffix_in_zip(source)
        if inside in FORMATS:
            return FORMATS[inside]
        found = [one for one in found if one.suffix == ".zip"] or found
    return min(found, key=lambda one: len(one.suffix))


def _suffix_by_content(source: Path, head: bytes) -> str | None:
    """Return the suffix that a file without one should have had, if its first bytes tell."""
    if (found := _magic_of(source, head)) is not None:
        return found.suffix
    from mlassets.ingestion.delimited import is_delimited

    if not _is_text(head):
        wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return (".csv" if is_delimited(source) else ".txt") if wide else None

    start = head.decode("utf-8-sig", "ignore").lstrip()[:512].lower()
    if start.startswith(("{", "[")):
        return ".jsonl" if re.match(r"\{.*\}\s*\n\s*\{", start) else ".json"
    if start.startswith(("<!doctype html", "<html")):
        return ".html"
    if start.startswith("<"):
        return ".xml"
    return ".csv" if is_delimited(source) else ".txt"


def _suffix_in_zip(source: Path) -> str:
    """Return the suffix of what a ZIP archive is by the names in it."""
    try:
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                kind = archive.read("mimetype").decode("ascii", "replace").strip()
                if kind == "application/vnd.oasis.opendocument.spreadsheet":
                    return ".ods"
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return ".zip"
    if "xl/workbook.bin" in names:
        return ".xlsb"
    if "xl/workbook.xml" in names:
        return ".xlsx"
    return ".docx" if "word/document.xml" in names else ".zip"


def _is_text(head: bytes) -> bool:
    """Say whether these are characters of UTF-8 or of an encoding of one byte each, without controls."""
    return not _CONTROLS.intersection(head)


def read(source: Path, name: str, options: ReadOptions, tables: Tables) -> tuple[Format, Mapping[str, Any]]:
    """Read one file (landed, or a member of a landed archive) into `tables`.

    Returns:
        The format it was read as, and what was found out about it.

    Raises:
        UnreadableFile: One of its subclasses, which says what is wrong, where, and what to do.
    """
    if source.stat().st_size == 0:
        raise EmptyFile(name, "the file has 0 bytes", "Land it again when it is written completely")
    chosen = format_of(source, name, options)
    try:
        return chosen, chosen.read(source, name, options, tables)
    except (MlassetsError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            # The disk's fault, not the file's.
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        reason = f"it could not be read as {chosen.what} ({text})"
        raise ReaderFailed(
            name, reason, "Look whether the file opens elsewhere, and land it again"
        ) from error


def convert(
    source: Path,
    name: str,
    folder: Path,
    options: ReadOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Converted:
    """Convert the tables of a landed file to Parquet files (zstd); equal content gives equal bytes.

    Types hold for every value of a table: a column whose millionth value is text is a text column. Text that
    looks like a number but would not come back the same (leading zeros, more digits than 64 bits hold) stays text.

    Args:
        source: The file to read.
        name: The name it landed under, whose suffix says what it is, and which errors mention.
        folder: Where to write; if this fails, nothing is left there.
        options: How to read it; what they leave open is found out.
        progress: Called with "bytes", the bytes that were read and the size of the file.

    Raises:
        UnreadableFile: One of its subclasses, which says what is wrong, where, and what to do.
    """
    options = options or ReadOptions()
    collected = _Collected(folder, name, options, progress)
    try:
        chosen, found = read(source, name, options, Tables(collected))
        _check_chosen(collected)
        if not collected.tables:
            reason = "; ".join(collected.notes) or "it names columns but holds no row"
            raise EmptyFile(name, reason, "Land a file with at least one row")
    except BaseException:
        for table in collected.tables:
            table.path.unlink(missing_ok=True)
            if table.rejects is not None:
                table.rejects.unlink(missing_ok=True)
        raise
    return Converted(tuple(collected.tables), chosen.name, dict(found), tuple(collected.notes))


def convert_one(source: Path, name: str, sink: Path, options: ReadOptions | None = None) -> ConvertedTable:
    """Convert a landed file that holds one table to one Parquet file.

    Args:
        source: The file to read.
        name: The name it landed under.
        sink: Where to write; only there when this returns.
        options: How to read it.

    Raises:
        SeveralTables: If it holds more than one table.
        UnreadableFile: As `convert`.
    """
    converted = convert(source, name, sink.parent, options)
    first, *others = converted.tables
    if others:
        for table in converted.tables:
            table.path.unlink()
            if table.rejects is not None:
                table.rejects.unlink()
        raise SeveralTables(name, [table.name for table in converted.tables])
    rejects = first.rejects.replace(sink.with_suffix(".rejected.jsonl")) if first.rejects else None
    found = {**converted.found, **first.found}
    return replace(first, path=first.path.replace(sink), rejects=rejects, found=found)


def _check_chosen(collected: _Collected) -> None:
    """Refuse a file without a table that was asked for."""
    for wanted in collected.options.tables or ():
        if not any(name == wanted or fnmatchcase(name, wanted) for name in collected.names):
            raise MissingTable(collected.file, wanted, collected.names)


def check_names(file: str, names: list[str]) -> None:
    """Refuse column names that SQL could not tell apart.

    Raises:
        DuplicateColumns: Naming the first pair.
    """
    seen: dict[str, str] = {}
    for column in names:
        first = seen.setdefault(column.casefold(), column)
        if seen.get(column.casefold()) is not column or names.count(column) > 1:
            pair = (
                f"two columns are named {column}"
                if first == column
                else f"{first} and {column} differ only in case"
            )
            raise DuplicateColumns(file, pair, "Give every column a name of its own", column=column)


def distinct_names(names: list[str | None]) -> tuple[list[str], dict[str, str]]:
    """Return column names that SQL can tell apart, as a person would rename them, and what was renamed.

    Blank names become `column_3` by their position from 1; a name that is there already gets the next number.

    Returns:
        The names, and by every new name what stood in the file (`""` where nothing did).

    >>> distinct_names(["a", "", "A"])
    (['a', 'column_2', 'A_2'], {'column_2': '', 'A_2': 'A'})
    """
    given = [(name or "").strip() for name in names]
    reserved = {name.casefold() for name in given}
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    distinct: list[str] = []
    renamed: dict[str, str] = {}
    for position, name in enumerate(given, 1):
        base = name or f"column_{position}"
        unique, number = base, numbers.get(base.casefold(), 1)
        while unique.casefold() in taken or (unique != name and unique.casefold() in reserved):
            number += 1
            unique = f"{base}_{number}"
        numbers[base.casefold()] = number
        taken.add(unique.casefold())
        distinct.append(unique)
        if unique != name:
            renamed[unique] = name
    return distinct, renamed


def tables_of(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches into tables about as large as a row group."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(held)
