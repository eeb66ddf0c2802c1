"""A landing zone to land files in, by any name and with any bytes."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlassets.ingestion.landing import QuarantineNote, read_notes
from mlassets.ingestion.taking import LandingPlan, plan_landing, taking, zone_of
from mlassets.sources import SourceSpec
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition, Thing

GLOB = "landing/rows/*"
ROWS = Partition.source("rows")


class Landing:
    """The landing zone of one source, `rows`, in a home of its own."""

    def __init__(self, home: Path, **said: Any) -> None:
        self.spec = SourceSpec(files=GLOB, **said)
        self.settings = Settings(home=home)
        self.store = Store.open(self.settings)
        self.folder = home / "landing" / "rows"
        self.folder.mkdir(parents=True)
        self.notes: tuple[str, ...] = ()
        self._landed = 0

    def land(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        # Each landing has a time of its own, also on file systems with coarse times.
        self._landed += 1
        os.utime(path, ns=(10**18 + self._landed * 10**9,) * 2)
        return path

    def look(self, cursor: str | None = None, **options: Any) -> LandingPlan:
        return plan_landing(cursor, {"rows": self.spec}, self.settings, self.store, **options)

    def read_as(self, **said: Any) -> None:
        """Say otherwise how the files are read."""
        self.spec = SourceSpec(files=GLOB, **said)

    def take(self, quiet_seconds: float = 0, again: Collection[str] = ()) -> Thing | None:
        with taking(
            "rows",
            zone_of(GLOB, self.settings),
            self.newest,
            options=self.spec.options,
            again=again,
            quarantine=self.settings.quarantine,
            code_version="1",
            quiet_seconds=quiet_seconds,
        ) as taken:
            self.notes = taken.notes
            return None if taken.draft is None else self.store.commit("sources", ROWS, taken.draft)

    @property
    def newest(self) -> Thing | None:
        return self.store.latest("sources", ROWS)

    @property
    def rows(self) -> list[dict[str, Any]]:
        thing = self.store.require("sources", ROWS)
        table = thing.table()
        assert thing.rows == table.num_rows == thing.metrics["rows"] == thing.scan().count_rows()
        return sorted(table.to_pylist(), key=repr)

    @property
    def quarantined(self) -> dict[str, QuarantineNote]:
        return {note.file.name: note for note in read_notes(self.settings.quarantine, "rows")}
