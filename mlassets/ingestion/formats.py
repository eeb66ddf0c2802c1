"""Landed files of every supported format become Parquet: typed over the whole file, in bounded memory, or refused.

A format is an entry of `FORMATS`: a suffix and the function that converts such files. What is common to all
formats stays here: one way to write (so that equal content gives equal bytes), one family of errors, and no trace
of a file that could not be taken in.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from mlassets.ingestion.errors import (
    DuplicateColumns,
    EmptyFile,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
)

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Converted:
    """What became of a landed file.

    Attributes:
        schema: Columns and types, without metadata.
        rows: Number of rows.
        format: Suffix of the format that the file was read as, without the leading dot.
        options: What was found out about the file (delimiter, encoding, renamed columns), JSON-serialisable.
        bytes: Size of the Parquet file.
    """

    schema: pa.Schema
    rows: int
    format: str
    options: Mapping[str, Any]
    bytes: int


Converter = Callable[[Path, str, "Sink"], Mapping[str, Any]]


class Sink:
    """The Parquet file that a converter writes to: batches in, row groups of a fixed number of rows out.

    Compressing a row group takes about as long as reading it does, so a thread writes one while the next is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = False
        try:
            if kind is None:
                self.flush()
            else:
                self.discard()
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()
            complete = kind is None
        finally:
            self._thread.shutdown()
            if not complete:
                self.path.unlink(missing_ok=True)

    def begin(self, schema: pa.Schema) -> None:
        """Start the file, or start it over, with this schema."""
        self.discard()
        if self._writer is not None:
            self._writer.close()
        self.schema, self.rows = schema, 0
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
        while batch.num_rows:
            part = batch.slice(0, ROW_GROUP_ROWS - self._held_rows)
            batch = batch.slice(part.num_rows)
            self._held.append(part)
            self._held_rows += part.num_rows
            self._held_bytes += part.nbytes
            if self._held_rows == ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
                self._write_row_group()

    def flush(self) -> None:
        """Write what is held, and wait until all of it is in the file."""
        self._write_row_group()
        while self._pending:
            self._pending.popleft().result()

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


def suffix_of(name: str) -> str | None:
    """Return the suffix in `FORMATS` that a file name ends with, or None."""
    lower = name.lower()
    return max((suffix for suffix in FORMATS if lower.endswith(suffix)), key=len, default=None)


def convert(source: Path, name: str, sink: Path) -> Converted:
    """Convert a landed file to one Parquet file (zstd); equal content gives equal bytes.

    Types hold for every value of the file: a column whose millionth value is text is a text column. Text that
    looks like a number but would not come back the same (leading zeros, more digits than 64 bits hold) stays text.

    Args:
        source: The file to read.
        name: The name it landed under, whose suffix says what it is, and which errors mention.
        sink: Where to write; only there when this returns.

    Returns:
        Schema, number of rows, and what was found out about the file.

    Raises:
        UnreadableFile: One of its subclasses, which says what is wrong, where, and what to do.
    """
    suffix = suffix_of(name)
    if suffix is None:
        supported = ", ".join(FORMATS)
        raise UnknownFormat(name, "files of this kind are not taken in", f"Land one of {supported}")
    if source.stat().st_size == 0:
        raise EmptyFile(name, "the file has 0 bytes", "Land it again when it is written completely")
    with Sink(sink) as target:
        options = FORMATS[suffix](source, name, target)
        target.flush()
        if target.rows == 0 or target.schema is None:
            raise EmptyFile(
                name, "the file names columns but holds no row", "Land a file with at least one row"
            )
    return Converted(target.schema, target.rows, suffix.removeprefix("."), options, sink.stat().st_size)


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


def _convert_csv(source: Path, name: str, sink: Sink) -> Mapping[str, Any]:
    from mlassets.ingestion.delimited import convert_csv

    return convert_csv(source, name, sink, compressed=False)


def _convert_csv_gz(source: Path, name: str, sink: Sink) -> Mapping[str, Any]:
    from mlassets.ingestion.delimited import convert_csv

    return convert_csv(source, name, sink, compressed=True)


def _convert_parquet(source: Path, name: str, sink: Sink) -> Mapping[str, Any]:
    damaged = (
        "Land it again; if it was still being written, land it under another name and rename it when done"
    )
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            read = file.schema_arrow
            check_names(name, list(read.names))
            schema = pa.schema([pa.field(field.name, _plain(field.type)) for field in read])
            sink.begin(schema)
            for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS // 4):
                sink.write(_as_schema(batch, schema))
    except UnreadableFile:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise TruncatedFile(name, f"the Parquet file is cut off or damaged ({text})", damaged) from error
    return {}


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is kept as: without encodings, and without units that only a writer chose."""
    if pt.is_dictionary(kind):
        return _plain(kind.value_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_timestamp(kind) and kind.unit in ("s", "ms"):
        return pa.timestamp("us", kind.tz)
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return kind


def _as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        storage = column.storage if isinstance(column, pa.ExtensionArray) else column
        columns.append(storage if storage.type.equals(field.type) else storage.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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


FORMATS: Mapping[str, Converter] = {
    ".csv": _convert_csv,
    ".csv.gz": _convert_csv_gz,
    ".parquet": _convert_parquet,
}
