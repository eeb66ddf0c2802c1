"""The consumption database: one DuckDB file with the released predictions of every project's champion and challenger.

DuckDB allows one writer, and none beside readers. So a new file is built next to the old one from the newest
releases, and takes its place in one rename: readers keep the file they opened, and a kill leaves the old one.
"""

import os
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from resources.io_managers import ThingIOManager, settings_of, step_name
from resources.releases import CHALLENGER, CHAMPION, challengers, champions
from resources.store import Store
from resources.things import Thing

# No rebuild takes this long: what is older was left behind by a process that was killed.
_ABANDONED = timedelta(days=1)


class ReleaseIOManager(ThingIOManager):
    """Commits a release as a Thing, then brings the consumption database up to date."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Commit the release, then rebuild the database from the champion and challenger of every project."""
        super().handle_output(context, obj)
        rebuild_consumption(self.store, settings_of(self.home).consumption, step=step_name(context.asset_key))


def rebuild_consumption(store: Store, database: Path, step: str) -> list[str]:
    """Write what is released of every project to the database and return its tables.

    Args:
        store: The store of Things.
        database: The DuckDB file; it is replaced as a whole.
        step: The step whose Things are releases.
    """
    from dagster_duckdb import DuckDBResource

    database.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(database)
    fresh = database.with_name(f".{database.name}.{uuid4().hex}")
    while True:
        releases = _standing(store, step)
        try:
            with DuckDBResource(database=str(fresh)).get_connection() as connection:
                for name, thing in releases.items():
                    connection.register("released", thing.scan())
                    connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM released')  # noqa: S608 - a slug
                    connection.unregister("released")
                    connection.execute(f"COMMENT ON TABLE \"{name}\" IS '{thing.id}'")
            os.replace(fresh, database)  # noqa: PTH105 - the atomic replacement is the point
        finally:
            for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
                left.unlink(missing_ok=True)
        # Another process may have released in the meantime, and its newer database may be the one just replaced.
        if _standing(store, step) == releases:
            return list(releases)


def consumption_is_current(store: Store, database: Path, step: str) -> bool:
    """Say whether the database holds what is released; a kill between a release and the database leaves it behind.

    Every table carries the id of its release as a comment.
    """
    import duckdb

    wanted = {name: thing.id for name, thing in _standing(store, step).items()}
    if not database.exists():
        return not wanted
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            rows = connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall()
    except duckdb.Error:
        return False
    return dict(rows) == wanted


def _remove_abandoned(database: Path) -> None:
    """Delete what killed rebuilds left beside the database; the newer files may be of one that is under way."""
    for path in database.parent.glob(f".{database.name}.*"):
        try:
            if path.stat().st_mtime < time.time() - _ABANDONED.total_seconds():
                path.unlink()
        except FileNotFoundError:
            # Another process has just done so.
            continue


def _standing(store: Store, step: str) -> dict[str, Thing]:
    """Return the champion and the challenger of every project by the name of their tables, sorted."""
    found = {
        **{table_name(of["project"]): thing for of, thing in champions(store, step).items()},
        **{table_name(of["project"], CHALLENGER): thing for of, thing in challengers(store, step).items()},
    }
    return dict(sorted(found.items()))


def table_name(project: str, alias: str = CHAMPION) -> str:
    """Return the name of a project's table: `late-flights` becomes `late_flights_predictions`.

    That of its challenger is `late_flights_challenger`.
    """
    ending = "predictions" if alias == CHAMPION else alias
    return f"{re.sub(r'[^a-z0-9]', '_', project)}_{ending}"
