"""From the landing zone to a source: what is new, and the version of the source that holds it.

A source holds, for every name that ever landed, the bytes that landed under it last. The same bytes under two names
count once. What cannot be read is noted in quarantine and left where it is; everything else goes on without it.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from blake3 import blake3

from mlassets.ingestion.errors import UnreadableFile
from mlassets.ingestion.formats import convert
from mlassets.ingestion.landing import (
    LandedFile,
    fingerprint,
    list_landing,
    remove_note,
    settled,
    write_note,
)
from mlassets.ingestion.schemas import reconcile
from resources.settings import Settings
from resources.things import Component, Draft, Partition, Store, Thing

LANDING = "landing"
STEP = "sources"


@dataclass(frozen=True)
class Zone:
    """Where the files of one source land.

    Attributes:
        filesystem: Where to look.
        base: Folder, or bucket with a prefix, that `pattern` is relative to.
        pattern: Glob of the source's files.
    """

    filesystem: pafs.FileSystem
    base: str
    pattern: str

    def path(self, file: LandedFile) -> str:
        """Return where a listed file is."""
        return f"{self.base.rstrip('/')}/{file.name}"


def zone_of(glob: str, settings: Settings) -> Zone:
    """Return where a spec's glob looks: below the landing zone if it starts with `landing/`, else below the home."""
    folder, _, rest = glob.partition("/")
    if folder == LANDING and rest:
        if "://" in settings.landing:
            filesystem, base = pafs.FileSystem.from_uri(settings.landing)
            return Zone(filesystem, base, rest)
        return Zone(pafs.LocalFileSystem(), settings.landing, rest)
    return Zone(pafs.LocalFileSystem(), str(settings.home), glob)


@dataclass(frozen=True)
class LandingPlan:
    """What a look at all landing zones found.

    Attributes:
        requests: By source that has something new: an identity of its content, equal only for equal work.
        cursor: What to remember for the next look.
        notes: For a person: what was not looked at, and why.
    """

    requests: Mapping[str, str]
    cursor: str
    notes: tuple[str, ...]


def plan_landing(
    cursor: str | None,
    sources: Mapping[str, str],
    settings: Settings,
    store: Store,
    now_ns: int | None = None,
    quiet_seconds: float = 10,
) -> LandingPlan:
    """Look at the landing zone of every source and say which of them have new content.

    A file counts once it has settled: unchanged since the last look, or for a while. Its bytes are hashed when its
    size or time is new, so that the same bytes landed again ask for nothing.

    Args:
        cursor: What the previous look returned; None at the first.
        sources: Glob of every source.
        settings: Where the landing zone is.
        store: Where the sources' versions are.
        now_ns: The time now, nanoseconds since 1970.
        quiet_seconds: Seconds without a change after which a file counts as settled at the first look.
    """
    before: dict[str, dict[str, list[Any]]] = json.loads(cursor) if cursor else {}
    after: dict[str, dict[str, list[Any]]] = {}
    requests: dict[str, str] = {}
    notes: list[str] = []
    for name, glob in sources.items():
        zone = zone_of(glob, settings)
        listing = list_landing(zone.pattern, zone.filesystem, zone.base)
        notes += [f"{name}: {file} is ignored: {reason}" for file, reason in listing.ignored.items()]
        seen = before.get(name, {})
        last = [LandedFile(file, size, mtime_ns) for file, (size, mtime_ns, _) in seen.items()]
        found = settled(last, listing, now_ns=now_ns or time.time_ns(), quiet_seconds=quiet_seconds)
        known = _Known(store.latest(STEP, Partition.source(name)))
        hashes: dict[str, str] = {}
        for file in found.ready:
            remembered = seen.get(file.name)
            same = remembered is not None and remembered[:2] == [file.size, file.mtime_ns] and remembered[2]
            hashes[file.name] = known.hash_of(file) or (same or fingerprint(zone.filesystem, zone.path(file)))
        after[name] = {file.name: [file.size, file.mtime_ns, hashes.get(file.name)] for file in listing.files}
        wanted = known.hashes_with(hashes)
        if wanted != known.hashes:
            parts = [known.version, glob, *sorted(wanted)]
            requests[name] = str(blake3("\n".join(parts).encode()).hexdigest()[:24])
    return LandingPlan(requests, json.dumps(after), tuple(notes))


class _Known:
    """What the newest version of a source holds and what it refused."""

    def __init__(self, thing: Thing | None) -> None:
        self.thing = thing
        parameters = thing.parameters if thing else {"files": [], "quarantined": []}
        self.files: dict[str, dict[str, Any]] = {one["name"]: one for one in parameters["files"]}
        self.refused: dict[str, dict[str, Any]] = {one["name"]: one for one in parameters["quarantined"]}

    @property
    def version(self) -> str:
        return self.thing.id if self.thing else ""

    @property
    def looked_at(self) -> dict[str, str]:
        """Hash of the bytes that were looked at last under every name, taken or refused."""
        return {name: str(one["hash"]) for name, one in {**self.files, **self.refused}.items()}

    @property
    def hashes(self) -> set[str]:
        """Hashes of all bytes that were looked at last."""
        return set(self.looked_at.values())

    def hash_of(self, file: LandedFile) -> str | None:
        """The hash of a file that nobody has written to since it was looked at."""
        for one in (self.files.get(file.name), self.refused.get(file.name)):
            if one and one["size"] == file.size and one["mtime_ns"] == file.mtime_ns:
                return str(one["hash"])
        return None

    def hashes_with(self, landed: Mapping[str, str]) -> set[str]:
        """Hashes of what the source should have looked at, given what lies in the landing zone now."""
        kept = {content for name, content in self.looked_at.items() if name not in landed}
        return kept | set(landed.values())


@dataclass(frozen=True)
class Taken:
    """What became of a source's landed files.

    Attributes:
        draft: The source's next version; None if nothing is new.
        notes: For a person: what was taken, what was refused and why.
    """

    draft: Draft | None
    notes: tuple[str, ...]


@contextmanager
def taking(
    source: str,
    zone: Zone,
    known: Thing | None,
    *,
    quarantine: Path,
    code_version: str,
    quiet_seconds: float = 1.0,
) -> Iterator[Taken]:
    """Convert what is new in a landing zone; the draft's files exist as long as the context does.

    Args:
        source: Name of the source.
        zone: Where its files land.
        known: Its newest version.
        quarantine: Where notes on refused files go.
        code_version: Code version of the step.
        quiet_seconds: Files that may still be written to are looked at again after this time; 0 takes all at once.
    """
    before = _Known(known)
    listing = list_landing(zone.pattern, zone.filesystem, zone.base)
    files: Sequence[LandedFile] = listing.files
    if quiet_seconds and settled((), listing, now_ns=time.time_ns()).waiting:
        time.sleep(quiet_seconds)
        again = list_landing(zone.pattern, zone.filesystem, zone.base)
        files = settled(listing.files, again, now_ns=time.time_ns()).ready
    hashes = {
        file.name: before.hash_of(file) or fingerprint(zone.filesystem, zone.path(file)) for file in files
    }
    if before.hashes_with(hashes) == before.hashes:
        yield Taken(None, ())
        return
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        yield _take(source, zone, before, files, hashes, quarantine, code_version, Path(folder))


def _take(
    source: str,
    zone: Zone,
    before: _Known,
    files: Sequence[LandedFile],
    hashes: Mapping[str, str],
    quarantine: Path,
    code_version: str,
    folder: Path,
) -> Taken:
    notes: list[str] = []
    records: dict[str, dict[str, Any]] = {
        name: one for name, one in before.files.items() if name not in hashes
    }
    refused: dict[str, dict[str, Any]] = {
        name: one for name, one in before.refused.items() if name not in hashes
    }
    held = {one["hash"]: one for one in before.files.values()}
    components = before.thing.files if before.thing else {}
    drafted: dict[str, Path | Component] = {
        one["component"]: components[one["component"]] for one in records.values()
    }
    schema = _schema_kept(before, hashes)
    taken = {one["hash"] for one in records.values()}
    for number, file in enumerate(files):
        record: dict[str, Any] = {
            "name": file.name,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "hash": hashes[file.name],
        }
        if record["hash"] in taken:
            notes.append(f"{file.name}: the same bytes are there under another name")
            continue
        try:
            old = held.get(record["hash"])
            if old:
                record = {**old, **record}
                drafted[old["component"]] = components[old["component"]]
            else:
                sink = folder / f"{number}.parquet"
                converted = convert(_local(zone, file, folder), file.name, sink)
                schema = reconcile(schema, converted.schema, file.name)
                record |= {
                    "component": f"{file.name}.{record['hash'][:12]}.parquet",
                    "rows": converted.rows,
                    "schema": {field.name: str(field.type) for field in converted.schema},
                    "format": converted.format,
                    "options": dict(converted.options),
                }
                drafted[record["component"]] = sink
                notes.append(f"{file.name}: {converted.rows:,} rows taken")
        except UnreadableFile as error:
            write_note(quarantine, source, file, error)
            refused[file.name] = {**record, "reason": str(error)}
            notes.append(f"quarantined: {error}")
            # What was taken under this name before stays in the source until a readable file replaces it.
            if (earlier := before.files.get(file.name)) and earlier["component"] not in drafted:
                records[file.name] = earlier
                drafted[earlier["component"]] = components[earlier["component"]]
            continue
        taken.add(record["hash"])
        records[file.name] = record
        refused.pop(file.name, None)
        remove_note(quarantine, source, file.name)
    draft = Draft(
        files=drafted,
        schema=schema if drafted else None,
        parameters={
            "pattern": zone.pattern,
            "files": sorted(records.values(), key=lambda one: str(one["name"])),
            "quarantined": sorted(refused.values(), key=lambda one: str(one["name"])),
        },
        metrics={
            "rows": sum(one["rows"] for one in records.values()),
            "files": len(records),
            "quarantined": len(refused),
            "landed_bytes": sum(one["size"] for one in records.values()),
        },
        code_version=code_version,
    )
    return Taken(draft, tuple(notes))


def _schema_kept(before: _Known, landed: Mapping[str, str]) -> pa.Schema:
    """Return the schema that new files must fit: that of all files which stay.

    A file that is replaced no longer has a say, so that a wrong type can be corrected by landing the file again.
    """
    if before.thing is None or before.thing.schema is None:
        return pa.schema([])
    staying = set(landed.values()) | {one["hash"] for name, one in before.files.items() if name not in landed}
    stay = [one for one in before.files.values() if one["hash"] in staying]
    if len(stay) == len(before.files):
        return before.thing.schema
    schema = pa.schema([])
    for one in stay:
        schema = reconcile(schema, before.thing.file_schema(one["component"]), one["name"])
    return schema


def _local(zone: Zone, file: LandedFile, folder: Path) -> Path:
    """Return a landed file as a path on this machine, fetching it if it lies elsewhere."""
    if isinstance(zone.filesystem, pafs.LocalFileSystem):
        return Path(zone.path(file))
    fetched = folder / "landed"
    with zone.filesystem.open_input_stream(zone.path(file)) as stream, fetched.open("wb") as target:
        shutil.copyfileobj(stream, target)
    return fetched
