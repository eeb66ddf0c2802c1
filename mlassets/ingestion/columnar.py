"""Parquet, Arrow (Feather) and ORC files: their values as they are, without what only their writer chose."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from mlassets.ingestion.columns import Columns, check_count
from mlassets.ingestion.errors import NotRecords, TruncatedFile, UnreadableFile
from mlassets.ingestion.formats import ROW_GROUP_ROWS, Tables, check_names
from mlassets.ingestion.options import ReadOptions

_DAMAGED = "Land it again; if it was still being written, land it under another name and rename it when done"
_DECIMAL_DIGITS = 38


def read_parquet(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a Parquet file: one table."""
    with _damage(name, "Parquet"), pq.ParquetFile(source, page_checksum_verification=True) as file:
        batches = file.iter_batches(batch_size=ROW_GROUP_ROWS // 4)
        write_batches(file.schema_arrow, batches, name, options, tables)
    return {}


def read_arrow(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read an Arrow file or stream, or a Feather file: one table."""
    with _damage(name, "Arrow"), pa.OSFile(str(source), "rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(b"FEA1"):
            from pyarrow import feather

            table = feather.read_table(source, memory_map=False)
            table.validate(full=True)
            write_batches(table.schema, table.to_batches(), name, options, tables)
        elif head.startswith(b"ARROW1"):
            with pa.ipc.open_file(file) as reader:
                numbers = range(reader.num_record_batches)
                write_batches(reader.schema, _valid(map(reader.get_batch, numbers)), name, options, tables)
        else:
            with pa.ipc.open_stream(file) as stream:
                write_batches(stream.schema, _valid(stream), name, options, tables)
    return {}


def read_orc(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read an ORC file: one table."""
    from pyarrow import orc

    with _damage(name, "ORC"):
        file = orc.ORCFile(source)
        stripes = (file.read_stripe(number) for number in range(file.nstripes))
        write_batches(file.schema, stripes, name, options, tables)
    return {}


def write_batches(
    read: pa.Schema, batches: Iterable[pa.RecordBatch], name: str, options: ReadOptions, tables: Tables
) -> None:
    """Write the batches of a table whose file says its types."""
    check_names(name, list(read.names))
    names = list(read.names)
    if options.columns is not None:
        check_count(name, options.columns, len(names))
        names = list(options.columns)
    if not names:
        raise NotRecords(name, "its table has no columns", "Land a file with at least one column")
    schema = pa.schema([pa.field(new, plain_type(one.type)) for new, one in zip(names, read, strict=True)])
    with tables.table() as sink:
        if not options.types and options.nulls is None:
            sink.begin(schema)
            for batch in batches:
                sink.write(plain_batch(batch, schema))
            return
        columns = Columns(sink, replace(options, columns=None), name, texts=())
        for _ in columns.passes():
            for batch in batches:
                columns.write(pa.Table.from_batches([plain_batch(batch, schema)]))


@contextmanager
def _damage(name: str, what: str) -> Iterator[None]:
    """Turn what Arrow raises at bytes it cannot read into an error that says what to do."""
    try:
        yield
    except UnreadableFile:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = " ".join(str(error).split())[:200]
        raise TruncatedFile(name, f"the {what} file is cut off or damaged ({text})", _DAMAGED) from error


def _valid(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Check what the format does not: offsets that point outside of a buffer would end the process."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is kept as: without encodings, and without units that only a writer chose."""
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_timestamp(kind) and kind.unit in ("s", "ms"):
        return pa.timestamp("us", kind.tz)
    if pt.is_float16(kind):
        return pa.float32()
    if pt.is_decimal(kind):
        # What has more digits than DuckDB keeps stays exact as text.
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= _DECIMAL_DIGITS else pa.string()
    if pt.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if (
        pt.is_list(kind)
        or pt.is_large_list(kind)
        or pt.is_fixed_size_list(kind)
        or pt.is_list_view(kind)
        or pt.is_large_list_view(kind)
    ):
        return pa.list_(plain_type(kind.value_type))
    if pt.is_struct(kind):
        if not kind.num_fields:
            return pa.string()
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if pt.is_union(kind) or pt.is_interval(kind):
        return pa.string()
    return kind


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the names and types of a schema whose types are plain."""
    columns = [_plain(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type.equals(kind):
        return column
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage, kind)
    if pt.is_run_end_encoded(column.type):
        return _plain(pc.run_end_decode(column), kind)
    if pt.is_dictionary(column.type):
        return _plain(column.dictionary_decode(), kind)
    if pt.is_string(kind) and (pt.is_nested(column.type) or pt.is_interval(column.type)):
        import json

        texts = [
            None if value is None else json.dumps(value, default=str, ensure_ascii=False)
            for value in column.to_pylist()
        ]
        return pa.array(texts, pa.string())
    try:
        values = column.cast(kind)
        # Arrow 26 casts list views to lists that lack an offset.
        values.validate()
    except pa.ArrowException:
        return pa.array(column.to_pylist(), kind)
    return values
