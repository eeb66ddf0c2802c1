"""Avro files: the schema in the file says the types."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from mlassets.ingestion.columnar import write_batches
from mlassets.ingestion.columns import JSON, stored
from mlassets.ingestion.errors import NotRecords, TruncatedFile, UnreadableFile
from mlassets.ingestion.formats import Tables
from mlassets.ingestion.options import ReadOptions

_ROWS = 16_384
_DAMAGED = "Land it again; if it was still being written, land it under another name and rename it when done"
_DEEPEST = 16
_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time64("us"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("us", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
    "uuid": pa.string(),
}


def read_avro(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read an Avro file: one table. A union of more than one type besides null becomes JSON text."""
    import fastavro

    try:
        with source.open("rb") as file:
            reader = fastavro.reader(file)
            schema = reader.writer_schema
            if not isinstance(schema, dict) or schema.get("type") != "record":
                raise NotRecords(name, "its values are not records", "Land a file whose schema is a record")
            known: dict[str, Any] = {}
            kinds = {field["name"]: _type(field["type"], known, ()) for field in schema["fields"]}
            fields = [pa.field(column, stored(kind)) for column, kind in kinds.items()]

            def batches() -> Any:
                held: list[Any] = []
                for record in reader:
                    held.append(record)
                    if len(held) == _ROWS:
                        yield _batch(held, kinds, pa.schema(fields))
                        held = []
                        tables.progress(file.tell(), source.stat().st_size)
                if held:
                    yield _batch(held, kinds, pa.schema(fields))

            write_batches(pa.schema(fields), batches(), name, options, tables)
            return {"codec": reader.codec} if reader.codec != "null" else {}
    except (UnreadableFile, MemoryError):
        raise
    except Exception as error:
        # Whatever the decoder stumbles on: the bytes of an Avro file have no structure that could be checked before.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TruncatedFile(name, f"the Avro file is cut off or damaged ({text})", _DAMAGED) from error


def _batch(records: list[Any], kinds: Mapping[str, pa.DataType], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        kind = kinds[field.name]
        values = [record[field.name] for record in records]
        if pt.is_nested(kind) or kind.equals(JSON) or pt.is_string(kind):
            values = [_value(value, kind) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _type(schema: Any, known: dict[str, Any], within: tuple[str, ...]) -> pa.DataType:
    """Return the type of values of an Avro schema; JSON where there is none, as for a type that holds itself."""
    if isinstance(schema, list):
        branches = [one for one in schema if one != "null"]
        if len(branches) == 1:
            return _type(branches[0], known, within)
        return pa.null() if not branches else JSON
    if isinstance(schema, str):
        if schema in _PLAIN:
            return _PLAIN[schema]
        return JSON if schema in within or schema not in known else _type(known[schema], known, within)
    kind, logical = schema["type"], schema.get("logicalType")
    if isinstance(kind, dict | list):
        return _type(kind, known, within)
    if "name" in schema:
        known[schema["name"]] = schema
        within = (*within, schema["name"])
    if len(within) > _DEEPEST:
        return JSON
    if logical == "decimal" and schema.get("precision", 99) <= 38:
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind == "record":
        fields = [pa.field(one["name"], _type(one["type"], known, within)) for one in schema["fields"]]
        return pa.struct(fields) if fields else JSON
    if kind == "array":
        return pa.list_(_type(schema["items"], known, (*within, "")))
    if kind == "map":
        return pa.map_(pa.string(), _type(schema["values"], known, (*within, "")))
    if kind == "enum":
        return pa.string()
    return pa.binary() if kind == "fixed" else _type(kind, known, within)


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if kind.equals(JSON):
        return json.dumps(value, default=str, ensure_ascii=False)
    if pt.is_string(kind):
        return str(value)
    if pt.is_map(kind):
        return [(key, _value(one, kind.item_type)) for key, one in value.items()]
    if pt.is_list(kind):
        return [_value(one, kind.value_type) for one in value]
    if pt.is_struct(kind):
        return {field.name: _value(value[field.name], field.type) for field in kind}
    return value
