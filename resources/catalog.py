"""The SQL index of all Things, their edges, attributes, components and verdicts.

It holds nothing that the lake does not: it can be thrown away and built again from the manifests. The same
SQLAlchemy Core statements run on SQLite and PostgreSQL.
"""

import fcntl
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from resources.errors import MlassetsError
from resources.lake import reached

HEAD = "0001"
_BUSY_SECONDS = 60
_MIGRATION_LOCK = 0x6D6C6173
_LONGEST_TEXT = 300
_LARGEST = sys.float_info.max
_IDS_PER_QUERY = 500

_metadata = sa.MetaData()
THINGS = sa.Table(
    "things",
    _metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("step", "partition", "project", "segment", "source")),
    sa.Column("created_at", sa.String(32)),
    *(
        sa.Column(name, sa.Text)
        for name in ("data_version", "code_version", "spec_hash", "run_id", "manifest")
    ),
)
EDGES = sa.Table("edges", _metadata, *(sa.Column(name, sa.String(36)) for name in ("thing_id", "based_on")))
ATTRIBUTES = sa.Table(
    "attributes",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    sa.Column("kind", sa.String(9)),
    sa.Column("name", sa.Text),
    sa.Column("number", sa.Double),
    sa.Column("text", sa.Text),
)
COMPONENTS = sa.Table(
    "components",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    *(sa.Column(name, sa.Text) for name in ("kind", "name", "path")),
    sa.Column("size", sa.BigInteger),
    sa.Column("hash", sa.String(64)),
    sa.Column("rows", sa.BigInteger),
)
VERDICTS = sa.Table(
    "verdicts",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    *(sa.Column(name, sa.Text) for name in ("check_run", "claim")),
    sa.Column("position", sa.Integer),
    *(sa.Column(name, sa.Text) for name in ("created_at", "run_id", "report", "status", "severity")),
    sa.Column("observed", sa.Double),
    sa.Column("verdict", sa.Text),
)
_REVISION = sa.table("alembic_version", sa.column("version_num"))

_Row = dict[str, Any]
_Result = TypeVar("_Result")


class CatalogError(MlassetsError):
    """The catalog cannot be opened, read or written."""


@dataclass
class ThingRows:
    """The rows that index one Thing: one of `things`, and those of the other tables that belong to it."""

    thing: _Row
    edges: list[_Row] = field(default_factory=list)
    attributes: list[_Row] = field(default_factory=list)
    components: list[_Row] = field(default_factory=list)


def attribute_rows(thing_id: str, kind: str, values: Mapping[str, Any]) -> list[_Row]:
    """Return one row per scalar of `values`: numbers and truth values as numbers, the rest as text.

    Nested mappings become dotted names. Lists and nulls have a row without a value.
    """
    found: dict[str, _Row] = {}
    for name, value in _flat(values):
        number = float(value) if isinstance(value, (int, float)) and abs(value) <= _LARGEST else None
        text = _storable(value) if isinstance(value, str) else None
        key = _storable(name)
        found[key] = {"thing_id": thing_id, "kind": kind, "name": key, "number": number, "text": text}
    return list(found.values())


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _storable(text: str) -> str:
    """Return `text` as an index can hold it: not too long, no NUL (PostgreSQL), no lone surrogates."""
    return text[:_LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Catalog:
    """The index, on SQLite or PostgreSQL; created and migrated when it is opened."""

    def __init__(self, url: str) -> None:
        """Open the catalog at a SQLAlchemy URL.

        Raises:
            CatalogError: If it cannot be reached, or was written by a newer version of mlassets.
        """
        try:
            self.url = sa.make_url(url)
        except SQLAlchemyError:
            raise CatalogError(
                "the catalog's URL cannot be understood. Set MLASSETS_CATALOG to a path, "
                "sqlite:////absolute/path.db or postgresql+psycopg2://user:password@host/database"
            ) from None
        self._sqlite = self.url.get_backend_name() == "sqlite"
        try:
            self._engine = self._connect()
            self._migrate()
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise self._failed("opened", error) from error

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def _failed(self, what: str, error: Exception) -> CatalogError:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        return CatalogError(
            f"the catalog {self.shown} cannot be {what}: {reason.strip()}. Check MLASSETS_CATALOG, "
            "that its place can be written to, and that the database is up"
        )

    def _connect(self) -> sa.Engine:
        if not self._sqlite:
            return sa.create_engine(self.url, pool_pre_ping=True)
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self.url, connect_args={"timeout": _BUSY_SECONDS})

        @sa.event.listens_for(engine, "connect")
        def _settle(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous=NORMAL")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            # A transaction that first reads and then writes would fail at once, without waiting, if another
            # process wrote in between; taking the write lock at its start makes it wait its turn instead.
            if connection.get_execution_options().get("writes"):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        forget = weakref.WeakMethod(engine.dispose)
        os.register_at_fork(after_in_child=lambda: (dispose := forget()) and dispose(close=False))
        return engine

    def _revision(self, connection: sa.Connection) -> str | None:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.select(_REVISION.c.version_num)).scalar()

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            revision = self._revision(connection)
        if revision == HEAD:
            return
        with self._migrating() as connection:
            revision = self._revision(connection)
            if revision == HEAD:
                return
            if revision is not None and revision > HEAD:
                raise CatalogError(
                    f"the catalog {self.shown} has revision {revision}, newer than this mlassets "
                    f"knows ({HEAD}); upgrade mlassets"
                )
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option(
                "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
            )
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)

    @contextmanager
    def _migrating(self) -> Iterator[sa.Connection]:
        """Give one process at a time a connection to change the tables with, in one transaction."""
        if not self._sqlite:
            with self._engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                yield connection
            return
        with open(f"{self.url.database}.lock", "w") as lock:  # noqa: PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Changing the journal needs the database for oneself and does not wait for it, hence the lock.
            raw = self._engine.raw_connection()
            raw.cursor().execute("PRAGMA journal_mode=WAL")
            raw.close()
            with self._engine.execution_options(writes=True).begin() as connection:
                yield connection

    def _read(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise self._failed("read", error) from error

    def _write(self, work: Callable[[sa.Connection], None]) -> None:
        try:
            with self._engine.execution_options(writes=True).begin() as connection:
                work(connection)
                reached("before row commit")
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._failed("written", error) from error

    def _write_first_of(self, *works: Callable[[sa.Connection], None]) -> None:
        """Try each in turn until one does not meet a row that another process has just added."""
        for attempt, work in enumerate(works, start=1):
            try:
                self._write(work)
            except IntegrityError as error:
                if attempt == len(works):
                    raise self._failed("written", error) from error
            else:
                return

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add_things(self, things: Sequence[ThingRows]) -> None:
        """Add the rows of Things in one transaction; those that are there already are left as they are."""

        def fresh(connection: sa.Connection) -> None:
            _insert_things(connection, things)

        def others(connection: sa.Connection) -> None:
            there = _present(connection, [rows.thing["id"] for rows in things])
            _insert_things(connection, [rows for rows in things if rows.thing["id"] not in there])

        # A sync in another process may adopt a Thing between its manifest and its row.
        self._write_first_of(fresh, others, others)

    def add_verdicts(self, rows: Sequence[_Row]) -> None:
        """Add verdict rows in one transaction; check runs that are there already are left as they are."""

        def fresh(connection: sa.Connection) -> None:
            if rows:
                connection.execute(sa.insert(VERDICTS), list(rows))

        def others(connection: sa.Connection) -> None:
            there = _check_runs(connection)
            new = [row for row in rows if (row["thing_id"], row["check_run"]) not in there]
            if new:
                connection.execute(sa.insert(VERDICTS), new)

        self._write_first_of(fresh, others, others)

    def replace_all(self, load: Callable[[], tuple[Iterable[Sequence[ThingRows]], Iterable[_Row]]]) -> None:
        """Empty every table and fill it anew in one transaction: readers see the old state or the new.

        Args:
            load: Called inside of the transaction; returns batches of Things, and verdict rows.
        """

        def work(connection: sa.Connection) -> None:
            for table in reversed(_metadata.sorted_tables):
                connection.execute(sa.delete(table))
            things, verdicts = load()
            for batch in things:
                _insert_things(connection, batch)
            rows = list(verdicts)
            if rows:
                connection.execute(sa.insert(VERDICTS), rows)

        self._write_first_of(work, work, work)

    def manifest(self, thing_id: str) -> str | None:
        """Return the manifest of a Thing as JSON text, or None if there is no such Thing."""
        query = sa.select(THINGS.c.manifest).where(THINGS.c.id == thing_id)
        return self._read(lambda connection: connection.execute(query).scalar())

    def manifests(
        self,
        *,
        step: str | None = None,
        partition: str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the manifests of the versions that match all that is given, newest first."""
        query = sa.select(THINGS.c.manifest).order_by(THINGS.c.id.desc()).limit(limit)
        for column, value in (
            (THINGS.c.step, step),
            (THINGS.c.partition, partition),
            (THINGS.c.project, project),
        ):
            if value is not None:
                query = query.where(column == value)
        return self._read(lambda connection: list(connection.execute(query).scalars()))

    def latest_of(self, step: str) -> list[str]:
        """Return the manifest of the newest version of every partition of `step`, by partition."""
        newest = (
            sa.select(sa.func.max(THINGS.c.id)).where(THINGS.c.step == step).group_by(THINGS.c.partition)
        ).scalar_subquery()
        query = sa.select(THINGS.c.manifest).where(THINGS.c.id.in_(newest)).order_by(THINGS.c.partition)
        return self._read(lambda connection: list(connection.execute(query).scalars()))

    def present(self, ids: Iterable[str]) -> set[str]:
        """Return those of `ids` that are in the catalog."""
        wanted = list(ids)
        return self._read(lambda connection: _present(connection, wanted))

    def check_runs(self) -> set[tuple[str, str]]:
        """Return every (Thing, check run) that has verdicts."""
        return self._read(_check_runs)

    def verdicts(self, thing_ids: Sequence[str]) -> list[_Row]:
        """Return all verdict rows on some Things, oldest check run first, in the order they were given."""

        def work(connection: sa.Connection) -> list[_Row]:
            rows: list[_Row] = []
            for start in range(0, len(thing_ids), _IDS_PER_QUERY):
                query = (
                    sa.select(VERDICTS)
                    .where(VERDICTS.c.thing_id.in_(thing_ids[start : start + _IDS_PER_QUERY]))
                    .order_by(VERDICTS.c.created_at, VERDICTS.c.check_run, VERDICTS.c.position)
                )
                rows.extend(dict(row) for row in connection.execute(query).mappings())
            return rows

        return self._read(work)

    def edges(self, ids: Sequence[str], *, downstream: bool) -> list[tuple[str, str]]:
        """Return the edges (Thing, what it is based on) next to `ids`, upstream or downstream of them."""
        here = EDGES.c.based_on if downstream else EDGES.c.thing_id

        def work(connection: sa.Connection) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            for start in range(0, len(ids), _IDS_PER_QUERY):
                query = (
                    sa.select(EDGES)
                    .where(here.in_(ids[start : start + _IDS_PER_QUERY]))
                    .order_by(EDGES.c.thing_id, EDGES.c.based_on)
                )
                found.extend((row.thing_id, row.based_on) for row in connection.execute(query))
            return found

        return self._read(work)


def _present(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), _IDS_PER_QUERY):
        query = sa.select(THINGS.c.id).where(THINGS.c.id.in_(ids[start : start + _IDS_PER_QUERY]))
        found.update(connection.execute(query).scalars())
    return found


def _check_runs(connection: sa.Connection) -> set[tuple[str, str]]:
    query = sa.select(VERDICTS.c.thing_id, VERDICTS.c.check_run).distinct()
    return {(row.thing_id, row.check_run) for row in connection.execute(query)}


def _insert_things(connection: sa.Connection, things: Sequence[ThingRows]) -> None:
    for table, rows in (
        (THINGS, [each.thing for each in things]),
        (EDGES, [row for each in things for row in each.edges]),
        (ATTRIBUTES, [row for each in things for row in each.attributes]),
        (COMPONENTS, [row for each in things for row in each.components]),
    ):
        if rows:
            connection.execute(sa.insert(table), rows)
