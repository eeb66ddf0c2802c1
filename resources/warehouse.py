"""The consumption database: one DuckDB file with the newest released predictions of every project.

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
from resources.things import Store, Thing

# No rebuild takes this long: what is older was left behind by a process that was killed.
_ABANDONED = timedelta(days=1)


class ReleaseIOManager(ThingIOManager):
    """Commits a release as a Thing, then brings the consumption database up to date."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Commit the release, then rebuild the database from the newest release of every project."""
        super().handle_output(context, obj)
        rebuild_consumption(self.store, settings_of(self.home).consumption, step=step_name(context.asset_key))


def rebuild_consumption(store: Store, database: Path, step: str) -> list[str]:
    """Write the newest release of every project to the database and return its tables.

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
        releases = _newest(store, step)
        try:
            with DuckDBResource(database=str(fresh)).get_connection() as connection:
                for name, thing in releases.items():
                    connection.register("released", thing.scan())
                    connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM released')  # noqa: S608 - a slug
                    connection.unregister("released")
            os.replace(fresh, database)  # noqa: PTH105 - the atomic replacement is the point
        finally:
            for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
                left.unlink(missing_ok=True)
        # Another process may have released in the meantime, and its newer database may be the one just replaced.
        if _newest(store, step) == releases:
            return list(releases)


def _remove_abandoned(database: Path) -> None:
    """Delete what killed rebuilds left beside the database; the newer files may be of one that is under way."""
    for path in database.parent.glob(f".{database.name}.*"):
        try:
            if path.stat().st_mtime < time.time() - _ABANDONED.total_seconds():
                path.unlink()
        except FileNotFoundError:
            # Another process has just done so.
            continue


def _newest(store: Store, step: str) -> dict[str, Thing]:
    """Return the newest release of every project by the name of its table, sorted."""
    newest = {table_name(partition["project"]): thing for partition, thing in store.latest_of(step).items()}
    return dict(sorted(newest.items()))


def table_name(project: str) -> str:
    """Return the name of a project's table: `late-flights` becomes `late_flights_predictions`."""
    return re.sub(r"[^a-z0-9]", "_", project) + "_predictions"
