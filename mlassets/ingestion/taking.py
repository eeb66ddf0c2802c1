"""From the landing zone to a source: what is new, and the version of the source that holds it.

A source holds, for every name that ever landed, the bytes that landed under it last. The same bytes under two names
count once. What cannot be read is noted in quarantine and left where it is; everything else goes on without it.
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
from blake3 import blake3

from mlassets.ingestion.errors import ChangedWhileRead, UnreadableFile
from mlassets.ingestion.formats import ConvertedTable, convert_one, suffix_of
from mlassets.ingestion.landing import (
    LandedFile,
    Listing,
    fingerprint,
    list_landing,
    remove_note,
    settled,
    write_note,
)
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.schemas import reconcile
from resources.lake import Folder, Lake, open_lake
from resources.settings import Settings
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Component, Draft, Partition, Thing

LANDING = "landing"
STEP = "sources"


class Described(Protocol):
    """What is known about a source: where its files are and how they are read."""

    @property
    def files(self) -> str:
        """Glob below the home, or below an S3 prefix."""

    @property
    def options(self) -> ReadOptions:
        """How its files are read."""


@dataclass(frozen=True)
class Zone:
    """Where the files of one source land.

    Attributes:
        place: The folder, or the S3 prefix, that `pattern` is relative to.
        pattern: Glob of the source's files.
    """

    place: Lake
    pattern: str

    def listing(self) -> Listing:
        """Return what is there now.

        Raises:
            LakeUnreachable: If the storage does not answer, or not to us.
        """
        with self.place.scanning(self.pattern):
            return list_landing(self.pattern, self.place.fs, self.place.root)

    def fingerprint(self, file: LandedFile) -> str:
        """Return the BLAKE3 hash of a listed file's bytes."""
        if isinstance(self.place, Folder):
            return fingerprint(self.place.fs, f"{self.place.root}/{file.name}")
        return self.place.hash_of(file.name)

    @contextmanager
    def local(self, file: LandedFile, content: str, folder: Path) -> Iterator[Path]:
        """Give a listed file as a path on this machine, fetching it into `folder` if it lies elsewhere.

        Raises:
            ChangedWhileRead: If its bytes are not those with the hash `content`, or change meanwhile.
        """
        if isinstance(self.place, Folder):
            path = Path(self.place.root, file.name)
            try:
                yield path
            except (UnreadableFile, FileNotFoundError) as error:
                if _is_another(path, file):
                    raise ChangedWhileRead(file.name) from error
                raise
            if _is_another(path, file):
                raise ChangedWhileRead(file.name)
            return
        fetched = folder / "landed"
        if self.place.fetch(file.name, fetched) != content:
            raise ChangedWhileRead(file.name)
        yield fetched


def _is_another(path: Path, file: LandedFile) -> bool:
    try:
        state = path.stat()
    except FileNotFoundError:
        return True
    return (state.st_size, state.st_mtime_ns) != (file.size, file.mtime_ns)


@lru_cache(maxsize=8)
def landing_place(uri: str, endpoint: str | None, patience: float) -> Lake:
    """Open a landing zone, once per process."""
    return open_lake(uri, endpoint=endpoint, patience=patience)


def zone_of(glob: str, settings: Settings) -> Zone:
    """Return where a glob looks: in S3, or below the landing zone if it starts with `landing/`, or below the home."""
    if glob.startswith("s3://"):
        bucket, *parts = glob.removeprefix("s3://").split("/")
        fixed = list(takewhile(lambda part: not any(character in part for character in "*?["), parts[:-1]))
        place = "/".join([bucket, *fixed])
        landing = landing_place(f"s3://{place}", settings.s3_endpoint, settings.patience)
        return Zone(landing, "/".join(parts[len(fixed) :]))
    folder, _, rest = glob.partition("/")
    if folder == LANDING and rest:
        return Zone(landing_place(settings.landing, settings.s3_endpoint, settings.patience), rest)
    return Zone(Folder(str(settings.home)), glob)


def landing_folders(settings: Settings) -> list[str]:
    """Return the names of the folders directly below the landing zone, sorted.

    Raises:
        LakeUnreachable: If the storage does not answer, or not to us.
    """
    place = landing_place(settings.landing, settings.s3_endpoint, settings.patience)
    if isinstance(place, Folder):
        root = Path(place.root)
        return sorted(one.name for one in os.scandir(root) if one.is_dir()) if root.is_dir() else []
    with place.scanning(LANDING):
        found = place.fs.get_file_info(pafs.FileSelector(place.root, allow_not_found=True))
    return sorted(one.base_name for one in found if one.type == pafs.FileType.Directory)


def land(file: Path, settings: Settings, name: str) -> str:
    """Copy a file into the landing zone so that nobody sees it half-written.

    Args:
        file: The file.
        settings: Where the landing zone is.
        name: Path within the landing zone, as in `flights/2013-01.csv`.

    Returns:
        Where it landed: an absolute path, or a URI.
    """
    place = landing_place(settings.landing, settings.s3_endpoint, settings.patience)
    if not isinstance(place, Folder):
        place.write_file(name, file)
        return place.location(name)
    landed = Path(place.full(name))
    landed.parent.mkdir(parents=True, exist_ok=True)
    hidden = landed.with_name(f".{uuid4().hex}.part")
    try:
        shutil.copyfile(file, hidden)
        hidden.replace(landed)
    finally:
        hidden.unlink(missing_ok=True)
    return str(landed)


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
    sources: Mapping[str, Described],
    settings: Settings,
    seen: Store | Snapshot,
    now_ns: int | None = None,
    quiet_seconds: float = 10,
    seconds: float = math.inf,
) -> LandingPlan:
    """Look at the landing zone of every source and say which of them have new content.

    A file counts once it has settled: unchanged since the last look, or for a while. Its bytes are hashed when its
    size or time is new, so that the same bytes landed again ask for nothing.

    Args:
        cursor: What the previous look returned; None at the first.
        sources: What is known about every source.
        settings: Where the landing zone is.
        seen: Where the sources' versions are.
        now_ns: The time now, nanoseconds since 1970.
        quiet_seconds: Seconds without a change after which a file counts as settled at the first look.
        seconds: For how long files are hashed at one look, one of each source at least; the next goes on from there.
    """
    until = time.monotonic() + seconds
    before: dict[str, dict[str, list[Any]]] = json.loads(cursor) if cursor else {}
    after: dict[str, dict[str, list[Any]]] = {}
    requests: dict[str, str] = {}
    notes: list[str] = []
    for name, source in sources.items():
        zone = zone_of(source.files, settings)
        listing = zone.listing()
        notes += [f"{name}: {file} is ignored: {reason}" for file, reason in listing.ignored.items()]
        noted = before.get(name, {})
        last = [LandedFile(file, size, mtime_ns) for file, (size, mtime_ns, _) in noted.items()]
        found = settled(last, listing, now_ns=now_ns or time.time_ns(), quiet_seconds=quiet_seconds)
        known = _Known(seen.latest(STEP, Partition.source(name)))
        hashes: dict[str, str] = {}
        hashed = 0
        for file in found.ready:
            content = known.hash_of(file)
            if content is None and noted.get(file.name, [])[:2] == [file.size, file.mtime_ns]:
                content = noted[file.name][2]
            if content is None and (not hashed or time.monotonic() < until):
                content = zone.fingerprint(file)
                hashed += 1
            if content is not None:
                hashes[file.name] = content
        # Of what was taken and has not changed since, the source's own version knows enough.
        after[name] = {
            file.name: [file.size, file.mtime_ns, hashes.get(file.name)]
            for file in listing.files
            if known.hash_of(file) is None
        }
        left = len(found.ready) - len(hashes)
        if left:
            notes.append(f"{name}: {left:,} of {len(found.ready):,} files are left for the next look")
            continue
        wanted = known.hashes_with(hashes)
        if wanted != known.hashes:
            parts = [known.version, source.files, *sorted(wanted)]
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
    listing = zone.listing()
    files: Sequence[LandedFile] = listing.files
    if quiet_seconds and settled((), listing, now_ns=time.time_ns()).waiting:
        time.sleep(quiet_seconds)
        again = zone.listing()
        files = settled(listing.files, again, now_ns=time.time_ns()).ready
    hashes = {file.name: before.hash_of(file) or zone.fingerprint(file) for file in files}
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
    reading = _Reading(zone, folder)
    errors: dict[str, UnreadableFile] = {}
    changing: list[str] = []
    while True:
        fitted = _fit(before, files, hashes, reading, errors)
        moved = [name for name, error in fitted.errors.items() if isinstance(error, ChangedWhileRead)]
        if moved:
            # Not a fault of the file's: it is left for the next look.
            changing += [str(fitted.errors[name]) for name in moved]
            files = [file for file in files if file.name not in moved]
            hashes = {name: content for name, content in hashes.items() if name not in moved}
            if before.hashes_with(hashes) == before.hashes:
                return Taken(None, tuple(changing))
            continue
        # Where a file is refused, what was taken under its name before stays until a readable file replaces it. The
        # others must then fit that too.
        back = {
            name: error
            for name, error in fitted.errors.items()
            if name in before.files and name not in errors
        }
        if not back:
            break
        errors |= back
    refused = {name: one for name, one in before.refused.items() if name not in hashes}
    for file in files:
        error = fitted.errors.get(file.name)
        if error:
            write_note(quarantine, source, file, error)
            refused[file.name] = {**_record(file, hashes), "reason": str(error)}
        elif file.name in fitted.records:
            remove_note(quarantine, source, file.name)
    draft = Draft(
        files=fitted.files,
        schema=fitted.schema if fitted.files else None,
        parameters={
            "pattern": zone.pattern,
            "files": sorted(fitted.records.values(), key=lambda one: str(one["name"])),
            "quarantined": sorted(refused.values(), key=lambda one: str(one["name"])),
        },
        metrics={
            "rows": sum(one["rows"] for one in fitted.records.values()),
            "files": len(fitted.records),
            "quarantined": len(refused),
            "landed_bytes": sum(one["size"] for one in fitted.records.values()),
        },
        code_version=code_version,
    )
    return Taken(draft, (*fitted.notes, *changing))


def _record(file: LandedFile, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "hash": hashes[file.name],
    }


class _Reading:
    """Converts landed files, each one once."""

    def __init__(self, zone: Zone, folder: Path) -> None:
        self._zone, self._folder = zone, folder
        self._done: dict[tuple[str, str], tuple[Path, ConvertedTable] | UnreadableFile] = {}

    def read(self, file: LandedFile, content: str) -> tuple[Path, ConvertedTable]:
        """Return where a file's rows are as Parquet, and what they are.

        Raises:
            UnreadableFile: If the file cannot be taken.
        """
        key = (file.name, content)
        if key not in self._done:
            sink = self._folder / f"{len(self._done)}.parquet"
            try:
                with self._zone.local(file, content, self._folder) as path:
                    converted = convert_one(path, file.name, sink)
                self._done[key] = sink, converted
            except UnreadableFile as error:
                self._done[key] = error
        found = self._done[key]
        if isinstance(found, UnreadableFile):
            raise found
        return found


@dataclass
class _Fitted:
    """Which files make up the source, in one schema, and which do not fit."""

    schema: pa.Schema
    records: dict[str, dict[str, Any]]
    files: dict[str, Path | Component]
    errors: dict[str, UnreadableFile]
    notes: list[str]


def _fit(
    before: _Known,
    landed: Sequence[LandedFile],
    hashes: Mapping[str, str],
    reading: _Reading,
    errors: Mapping[str, UnreadableFile],
) -> _Fitted:
    """Fit the landed files together, but for those whose errors are known."""
    contents = set(hashes.values())
    records = {
        name: one
        for name, one in before.files.items()
        if name not in hashes or (name in errors and one["hash"] not in contents)
    }
    held = {one["hash"]: one for one in before.files.values()}
    components = before.thing.files if before.thing else {}
    fitted = _Fitted(
        _schema_of(before, contents | {one["hash"] for one in records.values()}),
        records,
        {one["component"]: components[one["component"]] for one in records.values()},
        dict(errors),
        [f"quarantined: {error}" for error in errors.values()],
    )
    taken = {one["hash"] for one in records.values()}
    for file in landed:
        record = _record(file, hashes)
        if file.name in errors:
            continue
        if record["hash"] in taken:
            fitted.notes.append(f"{file.name}: the same bytes are there under another name")
            continue
        if old := held.get(record["hash"]):
            record = {**old, **record}
            fitted.files[old["component"]] = components[old["component"]]
        else:
            try:
                sink, converted = reading.read(file, record["hash"])
                fitted.schema = reconcile(fitted.schema, converted.schema, file.name)
            except UnreadableFile as error:
                fitted.errors[file.name] = error
                fitted.notes.append(f"quarantined: {error}")
                continue
            record |= {
                "component": f"{file.name}.{record['hash'][:12]}.parquet",
                "rows": converted.rows,
                "schema": {field.name: str(field.type) for field in converted.schema},
                "format": (suffix_of(file.name) or "").removeprefix("."),
                "options": dict(converted.found),
            }
            fitted.files[record["component"]] = sink
            fitted.notes.append(f"{file.name}: {converted.rows:,} rows taken")
        taken.add(record["hash"])
        records[file.name] = record
    return fitted


def _schema_of(before: _Known, staying: Collection[str]) -> pa.Schema:
    """Return the schema that new files must fit: that of all files which stay, given by their hashes.

    A file that is replaced no longer has a say, so that a wrong type can be corrected by landing the file again.
    """
    if before.thing is None or before.thing.schema is None:
        return pa.schema([])
    stay = [one for one in before.files.values() if one["hash"] in staying]
    if len(stay) == len(before.files):
        return before.thing.schema
    schema = pa.schema([])
    for one in stay:
        schema = reconcile(schema, before.thing.file_schema(one["component"]), one["name"])
    return schema
