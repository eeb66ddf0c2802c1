"""Parquet files as what other programs read: CSV, JSON lines, Feather.

A spreadsheet runs text that starts like a formula. Whoever exports what others have landed would pass their formulas on
to whoever opens the file, so an apostrophe is put before such text, which spreadsheets take as "this is text".
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from resources.errors import MlassetsError

# A tab and a carriage return are passed over before a formula; the wide signs count as the narrow ones.
FORMULA = "^[=+\\-@\\t\\r\\n＝＋－＠]"  # noqa: RUF001


class CannotExport(MlassetsError):
    """out.doc: rows are not written as .doc. Name a file that ends in .parquet, .csv, .tsv, .jsonl or .feather."""


def export(parquet: Path, target: Path, *, formulas: bool = False) -> None:
    """Write a Parquet file in the format that the target's suffix names; the target appears when it is complete.

    Args:
        parquet: The file.
        target: Where to write; what is there is replaced.
        formulas: Whether text that a spreadsheet would run is written as it is.

    Raises:
        CannotExport: If the suffix names no format that is written.
    """
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        *most, last = WRITERS
        raise CannotExport(
            f"{target}: rows are not written as {target.suffix or 'a file without a suffix'}. Name a folder, or a file "
            f"that ends in {', '.join(most)} or {last}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{uuid4().hex}.part")
    try:
        write(parquet, hidden, formulas)
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def _parquet(parquet: Path, target: Path, _formulas: bool) -> None:
    shutil.copyfile(parquet, target)


def _feather(parquet: Path, target: Path, _formulas: bool) -> None:
    with pq.ParquetFile(parquet) as file:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(target, file.schema_arrow, options=options) as writer:
            for batch in file.iter_batches():
                writer.write_batch(batch)


def _delimited(delimiter: str) -> Callable[[Path, Path, bool], None]:
    def write(parquet: Path, target: Path, formulas: bool) -> None:
        schema = pq.read_schema(parquet)
        texts = [field.name for field in schema if _is_text(field.type)]
        columns = [
            f"{_as_text(field, formulas)} AS {_name(_safe(field.name) if not formulas else field.name)}"
            for field in schema
        ]
        # Quoted text is text: an empty one is not null, and `NA` is not either.
        quoted = ", ".join(_name(name if formulas else _safe(name)) for name in texts)
        force = f", FORCE_QUOTE ({quoted})" if texts else ""
        _copy(
            parquet, target, columns, f"FORMAT csv, HEADER, DELIMITER {_text(delimiter)}, NULLSTR ''{force}"
        )

    return write


def _json_lines(parquet: Path, target: Path, _formulas: bool) -> None:
    columns = [
        # JSON knows neither of the three.
        f"CASE WHEN isfinite({_name(field.name)}) THEN {_name(field.name)} END AS {_name(field.name)}"
        if pt.is_floating(field.type)
        else _name(field.name)
        for field in pq.read_schema(parquet)
    ]
    _copy(parquet, target, columns, "FORMAT json")


def _copy(parquet: Path, target: Path, columns: list[str], how: str) -> None:
    import duckdb

    with duckdb.connect(config={"memory_limit": "1GB", "autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
        connection.execute(  # names and paths are quoted
            f"COPY (SELECT {', '.join(columns)} "  # noqa: S608
            f"FROM read_parquet({_text(str(parquet))}, hive_partitioning = false)) "
            f"TO {_text(str(target))} ({how})"
        )


def _is_text(kind: pa.DataType) -> bool:
    plain = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind)
    return not (plain or pt.is_temporal(kind) or pt.is_null(kind))


def _as_text(field: pa.Field, formulas: bool) -> str:
    name = _name(field.name)
    if pt.is_nested(field.type):
        name = f"CAST(to_json({name}) AS VARCHAR)"
    elif pt.is_binary(field.type) or pt.is_large_binary(field.type):
        name = f"hex({name})"
    elif pt.is_timestamp(field.type) and field.type.tz:
        name = f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if formulas or not _is_text(field.type):
        return name
    return f"CASE WHEN regexp_matches({name}, {_text(FORMULA)}) THEN '''' || {name} ELSE {name} END"


def _safe(name: str) -> str:
    import re

    return f"'{name}" if re.match(FORMULA, name) else name


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


WRITERS: Mapping[str, Callable[[Path, Path, bool], None]] = {
    ".parquet": _parquet,
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".feather": _feather,
    ".arrow": _feather,
}
