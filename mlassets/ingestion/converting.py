"""One file into another, or into a folder with a file for each table: without a project, a home or a store."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlassets.ingestion.exporting import CannotExport, export
from mlassets.ingestion.formats import ConvertedTable, Progress, convert
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.schemas import reconcile
from mlassets.ingestion.taking import tables_together
from resources.lake import encode_name


def convert_file(
    source: Path,
    target: Path,
    folder: Path,
    options: ReadOptions,
    *,
    formulas: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Convert a file.

    Args:
        source: Any file that can be read.
        target: A file, whose suffix says what is written; or a folder, for a Parquet file for each table.
        folder: Where to work.
        options: How the file is read.
        formulas: Whether text that a spreadsheet would run is written as it is.
        overwrite: Whether what is there is replaced.
        progress: Called with "bytes", how many were read and how many there are.

    Returns:
        What was written and what was found out, as plain values.

    Raises:
        UnreadableFile: If the file cannot be read.
        CannotExport: If the target is there already, or of no format that is written.
    """
    whole = bool(target.suffix) and not target.is_dir()
    if whole and target.exists() and not overwrite:
        raise CannotExport(f"{target} is there already. Give --overwrite, or another name.")
    converted = convert(source, source.name, folder, options, progress=progress)
    written = []
    if whole:
        tables = tables_together(source.name, converted, options)
        joined = (
            tables[0].path if len(tables) == 1 else _joined(tables, folder / "joined.parquet", source.name)
        )
        export(joined, target, formulas=formulas)
        written.append(_told(target, tables))
    else:
        target.mkdir(parents=True, exist_ok=True)
        for table in converted.tables:
            name = encode_name(table.name.replace("/", "_")) if table.name else source.name.partition(".")[0]
            path = target / f"{name}.parquet"
            if path.exists() and not overwrite:
                raise CannotExport(f"{path} is there already. Give --overwrite, or another folder.")
            export(table.path, path)
            written.append(_told(path, (table,)))
    about = {"format": converted.format, "found": dict(converted.found), "notes": list(converted.notes)}
    return {"tables": written, **about}


def _told(path: Path, tables: tuple[ConvertedTable, ...]) -> dict[str, Any]:
    rejected = sum(table.rejected for table in tables)
    kept = path.with_name(f"{path.name}.rejected.jsonl")
    if rejected:
        with kept.open("wb") as file:
            for table in tables:
                if table.rejects is not None:
                    file.write(table.rejects.read_bytes())
    return {
        "path": str(path),
        "tables": [table.name for table in tables],
        "rows": sum(table.rows for table in tables),
        "schema": {field.name: str(field.type) for table in tables for field in table.schema},
        "bytes": path.stat().st_size,
        "rejected": rejected,
        "rejects": str(kept) if rejected else None,
        "found": [dict(table.found) for table in tables],
    }


def _joined(tables: tuple[ConvertedTable, ...], target: Path, name: str) -> Path:
    schema = pa.schema([])
    for table in tables:
        schema = reconcile(schema, table.schema, name)
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for table in tables:
            with pq.ParquetFile(table.path) as file:
                for batch in file.iter_batches():
                    writer.write_table(_fitted(pa.Table.from_batches([batch]), schema))
    return target


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    own = {name.casefold(): name for name in table.column_names}
    columns = [
        table[own[field.name.casefold()]].cast(field.type)
        if field.name.casefold() in own
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
