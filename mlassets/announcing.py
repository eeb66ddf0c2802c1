"""The store as notebooks and commands open it: what is logged there shows in Dagster, too."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resources.settings import Settings
from resources.store import Store
from resources.things import Thing

if TYPE_CHECKING:
    import dagster as dg


def open_store(home: Path | str | None = None) -> Store:
    """Open the store of a home. What is logged there is reported to Dagster, whose UI shows it under `uploads`.

    Dagster itself is loaded when something is logged, and not before. If it cannot be reached, a warning says so: what
    was logged is in the store all the same.

    Args:
        home: Folder of the deployment; `MLASSETS_HOME`, else `.mlassets`, where it is None.

    Raises:
        BadSettings: If a setting cannot be used.
        CatalogError: If the catalog cannot be opened.
    """
    settings = Settings.load(home=Path(home)) if home else Settings.load()
    store = Store.open(settings)
    store.on_logged = _Announcer(settings, store).announce
    return store


DATA_VERSION = "dagster/data_version"
"""The tag by which Dagster knows what a materialization holds."""

ANNOUNCED_AT_ONCE = 100
"""Dagster takes some 25 ms for each: of many that are logged at once it is told of the last names, and their newest."""


class _Announcer:
    """Tells the Dagster instance of a home what was logged."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    @cached_property
    def _instance(self) -> "dg.DagsterInstance":
        import dagster as dg

        if not (self._settings.dagster_home / "dagster.yaml").exists():
            from mlassets.runs import lay_out

            lay_out(self._settings)
        return dg.DagsterInstance.from_config(str(self._settings.dagster_home))

    def announce(self, things: Sequence[Thing]) -> None:
        import dagster as dg
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._announce(things)
        except (dg.DagsterError, SQLAlchemyError, OSError) as error:
            warnings.warn(
                f"{', '.join(map(str, things[:3]))}{' …' if len(things) > 3 else ''}: in the store, but Dagster at "
                f"{self._settings.dagster_home} could not be told: {error}",
                stacklevel=4,
            )

    def _announce(self, things: Sequence[Thing]) -> None:
        from mlassets.partitions import NAME

        newest = {one.partition.key: one for one in things}
        things = things if len(things) == 1 else list(newest.values())[-ANNOUNCED_AT_ONCE:]
        instance = self._instance
        instance.add_dynamic_partitions(NAME, [one.partition.key for one in things])
        for thing in things:
            instance.report_runless_asset_event(materialization(thing, self._store, self._settings))


def materialization(
    thing: Thing, store: Store, settings: Settings, description: str | None = None
) -> "dg.AssetMaterialization":
    """Return the event that tells Dagster of a Thing that no run has made."""
    import dagster as dg

    from resources.io_managers import metadata_of

    return dg.AssetMaterialization(
        thing.step,
        partition=thing.partition.key,
        description=description,
        metadata=metadata_of(thing, store, settings.reports_url, settings.things_url),
        tags={DATA_VERSION: thing.data_version},
    )
