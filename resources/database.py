"""The database under the catalog: connections, waiting for it, its schema's revision, and what its errors mean.

The same SQLAlchemy Core statements run on SQLite and PostgreSQL; whatever differs between the two is here.
"""

import fcntl
import logging
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from resources.errors import MlassetsError
from resources.lake import reached

HEAD = "0003"
PATIENCE = 30.0
_BUSY_SECONDS = 60.0
_MIGRATION_LOCK = 0x6D6C6173
_POOL_SIZE = 5
_POOL_OVERFLOW = 15
_RECYCLE_SECONDS = 1800
_STATEMENT_SECONDS = 120
_LOCK_SECONDS = 60
_REVISION = sa.table("alembic_version", sa.column("version_num"))

# What a PostgreSQL that is there says to whom it will not let in, however often they ask.
_REFUSALS = (
    "authentication failed",
    "does not exist",
    "pg_hba.conf",
    "no password supplied",
    "not permitted",
)
# SQLSTATE classes and codes: connection lost, shut down or starting, too many clients, deadlock, serialization.
_PASSING = ("08", "57P01", "57P02", "57P03", "53300", "40P01", "40001")
_REMEDIES = {
    "SQLITE_BUSY": "another process has held it locked for too long; end that process, or try again",
    "SQLITE_LOCKED": "another process has held it locked for too long; end that process, or try again",
    "SQLITE_FULL": "its disk is full; free some space there and try again",
    "SQLITE_IOERR": "its disk does not read or write as it should; check the disk and the space on it",
    "SQLITE_CORRUPT": "the file is damaged; remove it with its -wal and -shm files and run "
    "`mlassets catalog rebuild`, which makes it anew from the lake",
    "SQLITE_NOTADB": "the file is damaged, or something else; remove it, or point MLASSETS_CATALOG elsewhere, and "
    "run `mlassets catalog rebuild`, which makes it anew from the lake",
    "SQLITE_READONLY": "the file or its folder cannot be written to; check their permissions and owner",
    "SQLITE_CANTOPEN": "check that its folder exists and can be written to, or set MLASSETS_CATALOG",
    "55P03": "another transaction has held a lock on it for too long; end that one, or try again",
    "57014": "the statement took too long; see what else the database is doing, or try again",
    "53100": "the database's disk is full; free some space there and try again",
    "42501": "the database's user lacks a permission; grant it, or set MLASSETS_CATALOG to another user",
    "42P01": "a table is missing; drop the others and run `mlassets catalog rebuild`",
}
_CHECK_IT = "check MLASSETS_CATALOG, and that the database is up and reachable from here (`pg_isready`); then try again"

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class CatalogError(MlassetsError):
    """The catalog cannot be opened, read or written."""


class CatalogOutdated(CatalogError):
    """The catalog's tables were laid out by an older version of mlassets."""


class Database:
    """One SQLite file or PostgreSQL database: a pool of connections that waits out restarts and locks."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Prepare connections to a SQLAlchemy URL; none is made yet.

        Args:
            url: Where the database is.
            patience: Seconds for which a PostgreSQL that has gone away is tried again.

        Raises:
            CatalogError: If the URL cannot be understood.
        """
        try:
            self.url = sa.make_url(url)
        except SQLAlchemyError:
            raise CatalogError(
                "the catalog's URL cannot be understood. Set MLASSETS_CATALOG to a path, "
                "sqlite:////absolute/path.db or postgresql+psycopg2://user:password@host/database"
            ) from None
        self.patience = patience
        self._texts: weakref.WeakKeyDictionary[Any, dict[tuple[str, ...], tuple[str, Sequence[str]]]] = (
            weakref.WeakKeyDictionary()
        )
        self.sqlite = self.url.get_backend_name() == "sqlite"
        with self._told("opened"):
            self._engine = self._sqlite_engine() if self.sqlite else self._postgresql_engine()
        # Connections are no good in two processes: a forked child makes its own and leaves the parent's alone.
        forget = weakref.WeakMethod(self._engine.dispose)
        os.register_at_fork(after_in_child=lambda: (dispose := forget()) and dispose(close=False))

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def _sqlite_engine(self) -> sa.Engine:
        engine = sa.create_engine(self.url, connect_args={"timeout": _BUSY_SECONDS})

        @sa.event.listens_for(engine, "connect")
        def _settle(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous=NORMAL")
            # Room for a rebuild: the default, 2 MB and 1,000 pages, writes every page of an index many times over.
            connection.execute("PRAGMA cache_size=-65536")
            connection.execute("PRAGMA wal_autocheckpoint=4000")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            # A transaction that first reads and then writes would fail at once, without waiting, if another
            # process wrote in between; taking the write lock at its start makes it wait its turn instead.
            if connection.get_execution_options().get("writes"):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine

    def _postgresql_engine(self) -> sa.Engine:
        defaults: dict[str, Any] = {
            "connect_timeout": 10,
            "application_name": "mlassets",
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "options": f"-c statement_timeout={_STATEMENT_SECONDS}s -c lock_timeout={_LOCK_SECONDS}s "
            f"-c idle_in_transaction_session_timeout={_STATEMENT_SECONDS}s",
        }
        return sa.create_engine(
            self.url,
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=_LOCK_SECONDS,
            pool_pre_ping=True,
            # Without it, rows that may be there already are sent one by one.
            executemany_mode="values_plus_batch",
            executemany_batch_page_size=500,
            pool_recycle=_RECYCLE_SECONDS,
            connect_args={name: value for name, value in defaults.items() if name not in self.url.query},
        )

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise self._failed(what, error) from error
        except AssertionError as error:
            # An interrupt in the midst of SQLAlchemy's clean-up ends in its own assertion that all is clean.
            if error.__context__ is not None and not isinstance(error.__context__, Exception):
                raise error.__context__ from None
            raise

    def _failed(self, what: str, error: Exception) -> CatalogError:
        original = error.orig if isinstance(error, DBAPIError) else error
        reason = str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
        code = getattr(original, "sqlite_errorname", None) or getattr(original, "pgcode", None) or ""
        name = "_".join(code.split("_")[:2])
        remedy = _REMEDIES.get(name, _CHECK_IT if not self.sqlite else _REMEDIES["SQLITE_CANTOPEN"])
        if isinstance(original, ImportError):
            remedy = "install what it needs: pip install 'mlassets[team]'"
        return CatalogError(f"the catalog {self.shown} cannot be {what}: {reason}. What to do: {remedy}")

    def _again(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_delay(self.patience),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            before_sleep=self._tell_waiting,
            reraise=True,
        )

    def _tell_waiting(self, state: RetryCallState) -> None:
        if state.attempt_number == 3:  # not for what is over in a moment
            error = state.outcome.exception() if state.outcome else None
            reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
            _log.warning(
                "the catalog %s does not answer; trying again for %.0f s: %s",
                self.shown,
                self.patience,
                reason,
            )

    def read(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        """Return what `work` reads; a lost connection is made again, and `work` called again.

        Raises:
            CatalogError: If the database cannot be read.
        """

        def once() -> _Result:
            with self._engine.connect() as connection:
                return work(connection)

        with self._told("read"):
            return self._again()(once)

    def write(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        """Call `work` in a transaction; if the connection is lost, in another one.

        It may have been committed although the connection was lost, so that `work` must come to the same when
        it is called twice.

        Raises:
            CatalogError: If the database cannot be written.
        """

        def once() -> _Result:
            with self._engine.execution_options(writes=True).begin() as connection:
                result = work(connection)
                reached("before row commit")
            return result

        with self._told("written"):
            return self._again()(once)

    def insert(self, table: sa.Table) -> Any:
        """Return an INSERT for `table`, which both databases can tell to leave or to update what is there."""
        return sqlite.insert(table) if self.sqlite else postgresql.insert(table)

    def execute_many(
        self,
        connection: sa.Connection,
        statement: sa.Insert | sa.Delete | sa.Update,
        rows: Sequence[dict[str, Any]],
    ) -> None:
        """Execute a statement once for each row; all rows have the same keys."""
        if not rows:
            return
        if not self.sqlite:
            connection.execute(statement, rows)
            return
        # What SQLAlchemy does for each row takes as long as SQLite itself, and these values need none of it.
        text, names = self._text_of(statement, tuple(rows[0]))
        connection.exec_driver_sql(text, [tuple(map(row.__getitem__, names)) for row in rows])

    def _text_of(self, statement: Any, columns: tuple[str, ...]) -> tuple[str, Sequence[str]]:
        """Return a statement as SQL, and the columns in the order in which it takes them; made once for each."""
        known = self._texts.setdefault(statement, {})
        if columns not in known:
            compiled = statement.compile(dialect=self._engine.dialect, column_keys=list(columns))
            known[columns] = str(compiled), getattr(compiled, "positiontup", None) or ()
        return known[columns]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def revision(self) -> str | None:
        """Return the revision of the schema; None if nothing was laid out yet. Nothing is changed.

        Raises:
            CatalogError: If the database cannot be read.
        """
        if self.sqlite and self.url.database and not Path(self.url.database).exists():
            return None
        return self.read(_revision)

    def examine(self) -> list[str]:
        """Say what is wrong with a database that was laid out; nothing is changed.

        Raises:
            CatalogError: If it cannot be read, or not written.
        """
        if self.sqlite:
            # The write lock is taken and given back: only a file that can be written to gives it.
            self.write(lambda connection: None)
            found = self.read(
                lambda connection: list(connection.exec_driver_sql("PRAGMA quick_check(5)").scalars())
            )
            return [str(line) for line in found if line != "ok"]
        names = ("things", "manifests", "edges", "attributes", "components", "verdicts")
        missing = self.read(
            lambda connection: [
                f"its user may not {right} {name}"
                for name in names
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
                if not connection.scalar(sa.select(sa.func.has_table_privilege(name, right)))
            ]
        )
        return list(missing)

    def clock_skew(self) -> float:
        """Return by how many seconds the database's clock is ahead of this machine's; 0 for SQLite.

        Raises:
            CatalogError: If the database cannot be read.
        """
        if self.sqlite:
            return 0.0
        now = self.read(
            lambda connection: connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        )
        return float((now - datetime.now(UTC)).total_seconds())

    def lay_out(self) -> None:
        """Make an empty database ready for use.

        Raises:
            CatalogOutdated: If the tables are there, but as an older version made them.
            CatalogError: If a newer version made them, or the database cannot be used.
        """
        revision = self.revision() or self._upgrade(only_new=True)
        self._refuse_foreign(revision)
        if revision < HEAD:
            raise CatalogOutdated(
                f"the catalog {self.shown} has revision {revision}, this mlassets needs {HEAD}. "
                "Run `mlassets catalog migrate`; what is in it stays"
            )

    def migrate(self) -> str | None:
        """Bring the schema to this version's revision, in one transaction, and return what it was before.

        Raises:
            CatalogError: If a newer version made the tables, or the database cannot be changed.
        """
        before = self.revision()
        self._upgrade(only_new=False)
        return before

    def _refuse_foreign(self, revision: str) -> None:
        if not re.fullmatch(r"\d{4}", revision):
            raise CatalogError(
                f"the database {self.shown} holds another program's tables (revision {revision}; Dagster's instance "
                "has such). Give the catalog a database of its own with MLASSETS_CATALOG"
            )
        if revision > HEAD:
            raise CatalogError(
                f"the catalog {self.shown} has revision {revision}, newer than this mlassets "
                f"knows ({HEAD}); upgrade mlassets"
            )

    def _upgrade(self, *, only_new: bool) -> str:
        """Return the revision that there is afterwards: if `only_new`, tables that are there are left alone."""
        with self._told("laid out"):
            return self._again()(lambda: self._upgrade_once(only_new))

    def _upgrade_once(self, only_new: bool) -> str:
        with self._migrating() as connection:
            revision = _revision(connection)
            if revision is not None:
                self._refuse_foreign(revision)
                if revision == HEAD or only_new:
                    return revision
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option(
                "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
            )
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
            reached("before migration commit")
        return HEAD

    @contextmanager
    def _migrating(self) -> Iterator[sa.Connection]:
        """Give one process at a time a connection to change the tables with, in one transaction."""
        if not self.sqlite:
            with self._engine.begin() as connection:
                # Waiting for another migration, and a long one, are as they should be.
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                yield connection
            return
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with open(f"{self.url.database}.lock", "w") as lock:  # noqa: PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Changing the journal needs the database for oneself and does not wait for it, hence the lock.
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            with self._engine.execution_options(writes=True).begin() as connection:
                yield connection


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.select(_REVISION.c.version_num)).scalar()


def _passes(error: BaseException) -> bool:
    """Say whether the same may succeed in a moment: a lost connection, or a transaction that had to give way."""
    if not isinstance(error, DBAPIError):
        return False
    if type(error.orig).__module__ == "sqlite3":
        return False
    code: str | None = getattr(error.orig, "pgcode", None)
    if code:
        return code.startswith(_PASSING)
    if error.connection_invalidated:
        return True
    refused = any(refusal in str(error.orig) for refusal in _REFUSALS)
    return isinstance(error, sa.exc.OperationalError) and not refused
