"""Parquet files: their values as they are, without what only their writer chose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from mlassets.ingestion.errors import TruncatedFile, UnreadableFile
from mlassets.ingestion.formats import ROW_GROUP_ROWS, Tables, check_names
from mlassets.ingestion.options import ReadOptions

_DAMAGED = "Land it again; if it was still being written, land it under another name and rename it when done"


def read_parquet(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a Parquet file: one table."""
    try:
        with (
            pq.ParquetFile(source, page_checksum_verification=True) as file,
            tables.table() as sink,
        ):
            read = file.schema_arrow
            check_names(name, list(read.names))
            schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in read])
            sink.begin(schema)
            for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS // 4):
                sink.write(plain_batch(batch, schema))
    except UnreadableFile:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise TruncatedFile(name, f"the Parquet file is cut off or damaged ({text})", _DAMAGED) from error
    return {}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is kept as: without encodings, and without units that only a writer chose."""
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_timestamp(kind) and kind.unit in ("s", "ms"):
        return pa.timestamp("us", kind.tz)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return kind


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the types of a schema whose types are plain."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        storage = column.storage if isinstance(column, pa.ExtensionArray) else column
        columns.append(storage if storage.type.equals(field.type) else storage.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
