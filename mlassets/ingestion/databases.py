"""SQLite and DuckDB files: a table for each of theirs, read without changing a byte or running a view of theirs."""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from mlassets.ingestion.columnar import plain_batch, plain_type
from mlassets.ingestion.columns import Columns
from mlassets.ingestion.errors import Protected, TruncatedFile
from mlassets.ingestion.formats import ROW_GROUP_ROWS, Sink, Tables, distinct_names
from mlassets.ingestion.options import ReadOptions

_ROWS = 16_384
_DAMAGED = "Check it with its own program, and land a copy that was made while nobody wrote to it"
# Types that Arrow, Parquet or the store do not have as they are; their text is exact.
_AS_TEXT = (
    "HUGEINT",
    "UHUGEINT",
    "BIT",
    "INTERVAL",
    "UUID",
    "UNION",
    "TIME WITH TIME ZONE",
    "VARIANT",
    "BIGNUM",
)


def read_sqlite(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read the tables of a SQLite file.

    SQLite types values, not columns: a column has the type that holds all its values, and is text, with a note, where
    they are of several kinds. Texts that are dates become dates. Views are left out, for they are programs.
    """
    with _alone(source, "-wal") as path, _sqlite_errors(name):
        # Immutable: nothing is locked, and no journal is looked for.
        uri = f"file:{quote(str(path))}?mode=ro&immutable={int(path == source)}"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.text_factory = bytes
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.execute("PRAGMA query_only = ON")
            there = [
                (kind.decode(), one.decode("utf-8", "replace"), (sql or b"").decode("utf-8", "replace"))
                for kind, one, sql in database.execute(
                    "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY rowid"
                )
            ]
            virtual = [one for kind, one, sql in there if sql.lstrip().upper().startswith("CREATE VIRTUAL")]
            for kind, table, _ in there:
                if table.startswith("sqlite_") or any(table.startswith(f"{one}_") for one in virtual):
                    continue
                if kind == "view" or table in virtual:
                    tables.note(
                        f"{table} was left out: it is a {'view' if kind == 'view' else 'virtual table'}"
                    )
                    continue
                with tables.table(table) as sink:
                    if sink.wanted:
                        _read_sqlite_table(database, table, sink, options, name)
    return {}


def _read_sqlite_table(
    database: sqlite3.Connection, table: str, sink: Sink, options: ReadOptions, name: str
) -> None:
    described = database.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    # Hidden columns of virtual tables are 1; generated ones 2 and 3.
    columns = [
        (row[1].decode("utf-8", "replace"), (row[2] or b"").decode("utf-8", "replace"))
        for row in described
        if row[6] != 1
    ]
    names, renamed = distinct_names([one for one, _ in columns])
    if renamed:
        sink.found["named"] = renamed
    kinds, mixed = [], []
    # One look at all values tells the types, so that nothing has to be written twice; SQLite joins 2,000 at most.
    for at in range(0, len(columns), 250):
        part = columns[at : at + 250]
        counted = ", ".join(
            f"sum(typeof({_quoted(one)}) = '{kind}')"
            for one, _ in part
            for kind in ("integer", "real", "text", "blob")
        )
        counts = database.execute(f"SELECT {counted} FROM {_quoted(table)}").fetchone()  # noqa: S608
        for position, (one, declared) in enumerate(part):
            integers, reals, texts, blobs = (count or 0 for count in counts[position * 4 : position * 4 + 4])
            several = bool(texts) + bool(blobs) + bool(integers or reals) > 1
            if several:
                mixed.append(one)
            kinds.append(_sqlite_type(integers, reals, texts, blobs, declared, several=several))
    if mixed:
        sink.found["mixed"] = mixed[:100]
    plain = frozenset(new for new, (one, _) in zip(names, columns, strict=True) if one in mixed)
    chosen = ", ".join(_quoted(one) for one, _ in columns)
    typed = Columns(sink, options, name)
    for _ in typed.passes():
        rows = database.execute(f"SELECT {chosen} FROM {_quoted(table)}")  # noqa: S608
        while held := rows.fetchmany(_ROWS):
            arrays = [
                pa.array([_sqlite_value(value, kind) for value in values], kind)
                for values, kind in zip(zip(*held, strict=True), kinds, strict=True)
            ]
            typed.write(pa.Table.from_arrays(arrays, names=names), plain=plain)


def _sqlite_type(
    integers: int, reals: int, texts: int, blobs: int, declared: str, *, several: bool
) -> pa.DataType:
    if several or texts:
        return pa.string()
    if blobs:
        return pa.binary()
    if reals:
        return pa.float64()
    if integers:
        return pa.bool_() if declared.upper().startswith("BOOL") else pa.int64()
    return pa.null()


def _sqlite_value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if kind == pa.string():
        # Bytes that are no text are shown as SQLite's own shell would.
        return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if kind == pa.bool_():
        return bool(value)
    return float(value) if kind == pa.float64() else value


@contextmanager
def _sqlite_errors(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text:
            raise Protected(
                name,
                "it is encrypted, or no SQLite database in spite of how it begins",
                "Decrypt it and land it again",
            ) from error
        raise TruncatedFile(name, f"the SQLite database is damaged ({text})", _DAMAGED) from error


def read_duckdb(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read the tables of a DuckDB file; views are left out, for they are programs."""
    import duckdb

    with _alone(source, ".wal") as path:
        try:
            with duckdb.connect(
                str(path),
                read_only=True,
                config={
                    "enable_external_access": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                    "lock_configuration": "true",
                },
            ) as database:
                for schema, view in database.execute(
                    "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
                ).fetchall():
                    tables.note(f"{_qualified(schema, view)} was left out: it is a view")
                there = database.execute(
                    "SELECT schema_name, table_name FROM duckdb_tables()"
                    " WHERE NOT internal AND database_name = current_database() ORDER BY table_oid"
                ).fetchall()
                for schema, table in there:
                    with tables.table(_qualified(schema, table)) as sink:
                        if sink.wanted:
                            _read_duckdb_table(database, schema, table, sink, options, name)
        except duckdb.Error as error:
            text = " ".join(str(error).split())[:200]
            raise TruncatedFile(
                name, f"the DuckDB database is damaged, or of a version that is not known ({text})", _DAMAGED
            ) from error
    return {}


def _read_duckdb_table(
    database: Any, schema: str, table: str, sink: Sink, options: ReadOptions, name: str
) -> None:
    place = f"{_quoted(schema)}.{_quoted(table)}"
    described = database.execute(f"DESCRIBE {place}").fetchall()
    chosen = ", ".join(
        f"{_quoted(column)}::VARCHAR AS {_quoted(column)}"
        if any(kind.startswith(one) for one in _AS_TEXT)
        else _quoted(column)
        for column, kind, *_ in described
    )
    typed = Columns(sink, options, name, texts=())
    for _ in typed.passes():
        reader = database.sql(f"SELECT {chosen} FROM {place}").to_arrow_reader(ROW_GROUP_ROWS // 4)  # noqa: S608
        plain = pa.schema([pa.field(one.name, plain_type(one.type)) for one in reader.schema])
        for batch in reader:
            typed.write(pa.Table.from_batches([plain_batch(batch, plain)]))


def _qualified(schema: str, name: str) -> str:
    return name if schema == "main" else f"{schema}.{name}"


@contextmanager
def _alone(source: Path, journal: str) -> Iterator[Path]:
    """Yield where a database can be opened: itself, or a copy if a journal beside it holds some of its content."""
    beside = source.with_name(source.name + journal)
    if not beside.exists():
        yield source
        return
    with TemporaryDirectory(prefix="mlassets-") as folder:
        copy = Path(folder) / source.name
        shutil.copyfile(source, copy)
        shutil.copyfile(beside, copy.with_name(copy.name + journal))
        yield copy


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
