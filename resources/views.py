"""Reading many Things at once, by SQL: a table for each step, one for each of a project's, and the catalog's own.

A table of Things is a dataset over the Parquet files of their versions, as they lie in the lake, read lazily with
columns and filters pushed down. Only the tables that a query names are looked up.
"""

import csv
import json
import math
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from resources.catalog import ATTRIBUTES, COMPONENTS, EDGES, THINGS, VERDICTS, Catalog
from resources.query import QUERY, BadQuery, Draw, in_batches, instead, running
from resources.store import Store
from resources.things import Thing

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

LATEST = "latest"
ALL = "all"
FORMATS = (".parquet", ".csv", ".json")

_THING = "thing_id"
_SOURCES = "sources"
_ROWS_AT_ONCE = 50_000
_TIMES = ("created_at", "retired_at", "removed_at")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def run_query(
    store: Store,
    sql: str,
    parameters: Mapping[str, object] | None = None,
    *,
    versions: str | Sequence[str] = LATEST,
    memory: str = "1GB",
    seconds: float = 300.0,
) -> pa.Table:
    """Run one SELECT over the store's tables and return its rows; `Store.sql` says what the arguments mean.

    Raises:
        BadQuery: If the SQL is not one SELECT, names what is not there, or passes a limit.
        DamagedThing: If a file that it reads is missing or not what was committed.
    """
    limit = _bytes(memory)
    with _reading(store, sql, parameters, versions, memory, seconds) as relation:
        schema, rows = in_batches(relation, _ROWS_AT_ONCE)
        batches, size = [], 0
        for batch in rows:
            batches.append(batch)
            size += batch.nbytes
            if size > limit:
                raise QUERY.wrong(
                    f"returns more than its memory limit of {memory}; write the rows to a file (`--to`), select "
                    "fewer, or raise the limit"
                )
        return pa.Table.from_batches(batches, schema)


def write_query(
    store: Store,
    sql: str,
    path: Path,
    parameters: Mapping[str, object] | None = None,
    *,
    versions: str | Sequence[str] = LATEST,
    memory: str = "1GB",
    seconds: float = 300.0,
) -> int:
    """Write the rows of one SELECT to a file, some at a time, and return how many there are.

    The file is there once it is whole; its name says what it is: `.parquet`, `.csv` or `.json`, an array with an
    object on each line.

    Raises:
        BadQuery: As `run_query` says, or if the file is of no such kind, or cannot be written.
        DamagedThing: If a file that it reads is missing or not what was committed.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise BadQuery(f"{path} cannot be written: its name must end with {', '.join(FORMATS)}")
    hidden = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with _reading(store, sql, parameters, versions, memory, seconds) as relation:
            schema, rows = in_batches(relation, _ROWS_AT_ONCE)
            count = {".parquet": _to_parquet, ".csv": _to_csv, ".json": _to_json}[kind](schema, rows, hidden)
        hidden.replace(path)
    except OSError as error:
        raise BadQuery(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            hidden.unlink()
    return count


def tables(store: Store) -> dict[str, str]:
    """Return the names of all tables that a query may read, each with what it holds."""
    found = {name: description for name, (description, _) in _CATALOG.items()}
    for step in store.catalog.steps():
        found.setdefault(step.lower(), f"{step} of everything: the newest version of each partition")
        for row in store.catalog.newest_of(step):
            if row["name"] == row["id"].rpartition("-")[2]:
                continue  # logged without a name, and there may be many: each has a table, under what stands for one
            name = table_name(_first(row), step)
            found.setdefault(name, f"{step} of {_first(row)}: the newest version of each partition")
    return dict(sorted(found.items()))


def table_name(project: str, step: str) -> str:
    """Return the name of the table of a project's step: in lower case, what is no letter or digit as `_`.

    >>> table_name("late-flights", "model")
    'late_flights_model'
    """
    return re.sub(r"\W", "_", f"{project}_{step}".lower())


@contextmanager
def _reading(
    store: Store,
    sql: str,
    parameters: Mapping[str, object] | None,
    versions: str | Sequence[str],
    memory: str,
    seconds: float,
) -> Iterator["duckdb.DuckDBPyRelation"]:
    """Give what a SELECT returns; if reading fails, say which file is at fault."""
    asked = Draw.parse(sql, QUERY).tables
    with tempfile.TemporaryDirectory(prefix="mlassets-tables-") as folder:
        found = _Tables(store, versions, Path(folder))
        named = {name: found.table(name) for name in sorted(asked)}
        try:
            with running(
                sql,
                named,
                parameters or {},
                QUERY,
                memory=memory,
                seconds=seconds,
                threads=os.cpu_count() or 1,
            ) as relation:
                yield relation
        except BadQuery as error:
            found.blame(error)
            raise


class _Tables:
    """The tables of a store under one choice of versions."""

    def __init__(self, store: Store, versions: str | Sequence[str], folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._all = versions == ALL
        if isinstance(versions, str) and versions not in (LATEST, ALL):
            versions = [versions]
        self._chosen: dict[tuple[str, str], list[Thing]] = defaultdict(list)
        if not isinstance(versions, str):
            for one in versions:
                thing = store.get(one)
                self._chosen[thing.step, thing.partition.key].append(thing)
        self._read: list[Thing] = []

    def table(self, name: str) -> "ds.Dataset":
        """Return the table of a name.

        Raises:
            BadQuery: If there is none, or several projects' names come to it.
            DamagedThing: If a version's files are gone.
        """
        import pyarrow.dataset as ds

        if name.lower() in _CATALOG:
            path = self._folder / f"{name.lower()}.parquet"
            if not path.exists():
                _, query = _CATALOG[name.lower()]
                _write_table(self._store.catalog, query(), path)
            return ds.dataset(path)
        steps = {one.lower(): one for one in self._store.catalog.steps()}
        if name.lower() in steps:
            step, first = steps[name.lower()], 0
            things = self._versions(step, [row["partition"] for row in self._store.catalog.newest_of(step)])
        else:
            things, first = self._things(name), 1
        self._read += things
        return _dataset(name, things, first)

    def _things(self, name: str) -> list[Thing]:
        wanted = table_name(name, "")[:-1]
        for step in self._store.catalog.steps():
            end = table_name("", step)
            plain = step == _SOURCES and not wanted.endswith(end)
            if not plain and not wanted.endswith(end):
                continue
            rows = [
                row
                for row in self._store.catalog.newest_of(step)
                if wanted in (table_name(_first(row), step), *([table_name(_first(row), "")[:-1]] * plain))
            ]
            # A name in quotes may tell apart what comes to the same.
            exact = [row for row in rows if name in (f"{_first(row)}_{step}", _first(row))]
            names = sorted({_first(row) for row in exact or rows})
            if len(names) > 1:
                raise QUERY.wrong(
                    f"reads the table {name!r}, and {' and '.join(names)} both come to that name; write "
                    f'"{names[0]}_{step}" or "{names[1]}_{step}", in quotes'
                )
            if rows:
                return self._versions(step, [row["partition"] for row in exact or rows])
        raise QUERY.wrong(f"reads the table {name!r}, which is not there{instead(name, tables(self._store))}")

    def _versions(self, step: str, partitions: Sequence[str]) -> list[Thing]:
        """Return the versions that are to be read, oldest first."""
        if not self._all and not any((step, one) in self._chosen for one in partitions):
            newest = self._store.latest_of(step)
            return [thing for partition, thing in newest.items() if partition.key in set(partitions)]
        found: list[Thing] = []
        for one in partitions:
            chosen = self._chosen.get((step, one))
            if chosen is None:
                texts = self._store.catalog.manifests(
                    step=step, partition=one, limit=None if self._all else 1
                )
                chosen = [Thing.from_json(text, self._store.lake) for text in texts]
            found += chosen
        return sorted(found, key=lambda thing: thing.id)

    def blame(self, error: Exception) -> None:
        """Raise what is wrong with a file that was read, if that is why a query failed.

        Raises:
            DamagedThing: If it names a file that is missing, or is not what was committed.
        """
        if re.search(r"took longer|needs more memory|which is not there", str(error)):
            return
        for thing in self._read:
            thing.check_files()


def _first(row: Mapping[str, Any]) -> str:
    """Return what the first dimension of a Thing's partition says: its project, source or name."""
    return str(row["project"] or row["source"] or row["name"] or row["partition"])


def _dataset(name: str, things: Sequence[Thing], first: int) -> "ds.Dataset":
    """Return the files of some versions as one dataset, with columns that say whose each row is.

    `first` is the first dimension of their partitions that becomes a column.
    """
    import pyarrow.dataset as ds

    with_rows = [thing for thing in things if thing.schema is not None]
    if not with_rows:
        raise QUERY.wrong(
            f"reads the table {name!r}, whose Things have no dataset; read `things` for what they say"
        )
    schema = _unified(name, with_rows)
    extra = [_THING, *(pair[0] for pair in with_rows[0].partition.dimensions[first:])]
    extra = [one for one in extra if one not in schema.names]
    full = schema
    for one in extra:
        full = full.append(pa.field(one, pa.string()))
    parquet = ds.ParquetFileFormat()
    fragments: list[Any] = []
    for thing in with_rows:
        says = {**dict(thing.partition.dimensions), _THING: thing.id}
        guarantee: Any = ds.scalar(True)
        for one in extra:
            guarantee = guarantee & (ds.field(one) == pa.scalar(says.get(one), pa.string()))
        scanned = thing.scan()
        fragments += [
            parquet.make_fragment(fragment.path, fragment.filesystem, partition_expression=guarantee)
            for fragment in scanned.get_fragments()
        ]
    return ds.FileSystemDataset(fragments, full, parquet)


def _unified(name: str, things: Sequence[Thing]) -> pa.Schema:
    schemas = [thing.schema.remove_metadata() for thing in things if thing.schema is not None]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise QUERY.wrong(
            f"reads the table {name!r}, whose versions do not fit together: {error}. Read the table of one project "
            f"alone, or choose versions that do (`--version`), from {things[0].id} to {things[-1].id}"
        ) from error


def _attributes(kind: str) -> sa.Select[Any]:
    columns = [ATTRIBUTES.c[name] for name in (_THING, "name", "type", "number", "integer", "text")]
    return sa.select(*columns).where(ATTRIBUTES.c.kind == kind)


def _things() -> sa.Select[Any]:
    each = THINGS.alias()
    newest = (
        sa.select(sa.func.max(each.c.id))
        .where(each.c.retired_at.is_(None))
        .group_by(each.c.step, each.c.partition)
    )
    latest = sa.case((THINGS.c.id.in_(newest), 1), else_=0).label("latest")
    return sa.select(*(one for one in THINGS.columns if one.name != "origin"), latest)


def _metrics() -> sa.Select[Any]:
    return sa.select(ATTRIBUTES.c.thing_id, ATTRIBUTES.c.name, ATTRIBUTES.c.type, ATTRIBUTES.c.number).where(
        ATTRIBUTES.c.kind == "metric"
    )


_CATALOG: dict[str, tuple[str, Callable[[], sa.Select[Any]]]] = {
    "things": (
        "every Thing: where, when, by whom, how large; `latest` says whether it is the newest",
        _things,
    ),
    "parameters": ("the parameters of every Thing, by name", lambda: _attributes("parameter")),
    "metrics": ("the metrics of every Thing, by name", _metrics),
    "labels": ("the labels of every Thing, by name", lambda: _attributes("label")),
    "edges": ("which Thing is based on which", lambda: sa.select(EDGES)),
    "components": ("the files of every Thing, with sizes and hashes", lambda: sa.select(COMPONENTS)),
    "verdicts": (
        "what checks found on every Thing",
        lambda: sa.select(*(one for one in VERDICTS.columns if one.name != "verdict")),
    ),
}


def _write_table(catalog: Catalog, query: sa.Select[Any], path: Path) -> None:
    """Write a table of the catalog to a Parquet file, some rows at a time."""
    given = pa.schema([(one.name, _type_of(one)) for one in query.selected_columns])

    def work(connection: sa.Connection) -> None:
        with pq.ParquetWriter(path, _told(given.empty_table()).schema) as writer:
            for rows in _in_parts(connection, query):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(columns, given, strict=True)]
                writer.write_table(_told(pa.Table.from_arrays(arrays, schema=given)))

    catalog.read(work)


def _in_parts(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    """Yield rows some at a time."""
    if connection.dialect.name != "sqlite":
        yield from connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).partitions()
        return
    # As the driver gives them, which reads them one by one anyway.
    cursor: Any = connection.execute(query).cursor
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield rows


def _told(rows: pa.Table) -> pa.Table:
    """Return rows of the catalog as a query is to see them: times as times, NaN as the value that it is."""
    for number, field in enumerate(rows.schema):
        if field.name in _TIMES:
            rows = rows.set_column(number, field.name, pc.cast(rows[field.name], pa.timestamp("us", "UTC")))
        elif field.name == "latest":
            rows = rows.set_column(number, field.name, pc.cast(rows[field.name], pa.bool_()))
    if rows.column_names == [_THING, "name", "type", "number"]:
        value = pc.if_else(pc.equal(rows["type"], "nan"), math.nan, rows["number"])
        return rows.drop_columns(["type", "number"]).append_column("value", value)
    return rows


def _type_of(column: sa.ColumnElement[Any]) -> pa.DataType:
    if isinstance(column.type, sa.Double):
        return pa.float64()
    if isinstance(column.type, sa.Integer):
        return pa.int64()
    return pa.string()


def _to_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _to_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema.names)
        for batch in batches:
            columns = [[_cell(one) for one in column.to_pylist()] for column in batch.columns]
            writer.writerows(zip(*columns, strict=True))
            count += batch.num_rows
    return count


def _to_json(_schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for batch in batches:
            for row in batch.to_pylist():
                file.write(("\n" if count == 0 else ",\n") + json.dumps(plain(row), ensure_ascii=False))
                count += 1
        file.write("\n]\n")
    return count


def _cell(value: object) -> object:
    """Return a value as CSV holds it: nothing for null, JSON for what has parts."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    found = plain(value)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def plain(value: object) -> Any:
    """Return a value of a row as strict JSON can hold it: times as text, bytes as hexadecimal, no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat else str(value)


def _bytes(memory: str) -> float:
    """Return a limit such as `2GB` in bytes; what DuckDB alone understands is left to it."""
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", memory)
    unit = _UNITS.get(found[2].upper().replace("I", "")) if found else None
    return float(found[1]) * unit if found and unit else math.inf
