"""What is known about the sources of a home, as plain values: for the command line and for programs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlassets.home import Home
from mlassets.ingestion.landing import read_notes
from mlassets.sections import close_matches, duration, shown
from mlassets.sources import LoadedSources, SourceSpec
from mlassets.steps import SOURCES
from resources.errors import MlassetsError
from resources.store import Store
from resources.things import Partition, Thing


class NoSuchSource(MlassetsError):
    """There is no source `flihgts`; did you mean flights?"""


def sources_of(home: Home, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return a line for every source, by name: its files, rows and columns, how fresh and how large it is.

    Args:
        home: The home.
        now: The time.
    """
    loaded, store, at = home.load_sources(), home.store, now or datetime.now(UTC)
    notes: dict[str, int] = {}
    for note in read_notes(home.settings.quarantine):
        notes[note.source] = notes.get(note.source, 0) + (not note.rejected)
    return [_line(name, spec, loaded, store, notes.get(name, 0), at) for name, spec in loaded.specs.items()]


def _line(
    name: str, spec: SourceSpec, loaded: LoadedSources, store: Store, quarantined: int, now: datetime
) -> dict[str, Any]:
    thing = store.latest(SOURCES, Partition.source(name))
    line: dict[str, Any] = {
        "source": name,
        "description": spec.description,
        "where": spec.files,
        "spec": str(loaded.files[name]) if name in loaded.files else None,
        "version": None,
        "tables": 0,
        "files": 0,
        "rows": 0,
        "columns": 0,
        "rejected": 0,
        "quarantined": quarantined,
        "landed_bytes": 0,
        "stored_bytes": 0,
        "taken_at": None,
        "age_seconds": None,
        "stale": False,
    }
    if thing is None:
        return line
    records: list[Mapping[str, Any]] = thing.parameters["files"]
    age = now - thing.created_at
    return line | {
        "version": thing.id,
        "tables": len(records),
        "files": len({one["name"] for one in records}),
        "rows": thing.rows or 0,
        "columns": len(thing.schema.names) if thing.schema is not None else 0,
        "rejected": sum(one.get("rejected", 0) for one in records),
        "landed_bytes": sum({one["name"]: one["size"] for one in records}.values()),
        "stored_bytes": sum(component.size for component in thing.files.values()),
        "taken_at": thing.created_at.isoformat(timespec="seconds"),
        "age_seconds": round(age.total_seconds()),
        "stale": spec.stale_after is not None and age > duration(spec.stale_after),
    }


def source_of(home: Home, name: str, now: datetime | None = None) -> dict[str, Any]:
    """Return all that is known about one source: also its schema, and each file with what was found out about it.

    Raises:
        NoSuchSource: If there is none of that name.
        SpecError: If the file that describes it cannot be used.
    """
    loaded, store, at = home.load_sources(), home.store, now or datetime.now(UTC)
    broken = next((error for error in loaded.errors if error.file.stem == name), None)
    if broken is not None:
        raise broken
    if name not in loaded.specs:
        raise NoSuchSource(f"there is no source {shown(name)}; {close_matches(name, loaded.specs)}")
    spec, notes = loaded.specs[name], read_notes(home.settings.quarantine, name)
    refused = sum(not note.rejected for note in notes)
    thing = store.latest(SOURCES, Partition.source(name))
    readers = sorted(one.project for one in home.projects().specs.values() if name in one.sources)
    return {
        **_line(name, spec, loaded, store, refused, at),
        "projects": readers,
        "said": spec.model_dump(mode="json"),
        "schema": _schema(thing),
        "contents": _contents(thing),
        "notes": [
            {"name": one.file.name, "reason": one.reason, "fix": one.fix, "rejected": one.rejected}
            for one in notes
        ],
    }


def _schema(thing: Thing | None) -> dict[str, str]:
    if thing is None or thing.schema is None:
        return {}
    return {field.name: str(field.type) for field in thing.schema}


def _contents(thing: Thing | None) -> list[dict[str, Any]]:
    wanted = ("name", "table", "rows", "rejected", "size", "hash", "format", "found")
    if thing is None:
        return []
    return [
        {
            **{key: one.get(key) for key in wanted},
            # Records of old say here what was found out.
            "found": one.get("found", one.get("options") if isinstance(one.get("options"), dict) else {}),
            "stored_bytes": thing.files[one["component"]].size,
            "landed_at": datetime.fromtimestamp(one["mtime_ns"] / 1e9, UTC).isoformat(timespec="seconds"),
        }
        for one in thing.parameters["files"]
    ]
