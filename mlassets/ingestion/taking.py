"""From the landing zone to a source: what is new, and the version of the source that holds it.

A source holds, for every name that ever landed, the bytes that landed under it last. The same bytes under two names
count once. What cannot be read is noted in quarantine and left where it is; everything else goes on without it. Files
are read again when it is said otherwise how to read them.
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
from blake3 import blake3

from mlassets.ingestion.errors import ChangedWhileRead, ClosedFile, SeveralTables, UnreadableFile
from mlassets.ingestion.formats import Converted, ConvertedTable, Progress, convert
from mlassets.ingestion.landing import (
    LandedFile,
    Listing,
    excerpt_of,
    fingerprint,
    list_landing,
    note_rejected,
    remove_note,
    settled,
    write_note,
)
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.schemas import reconcile
from resources.lake import Folder, Lake, NotInLake, open_lake
from resources.settings import Settings
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Component, Draft, Partition, Thing

LANDING = "landing"
STEP = "sources"
# In place of a hash: the file cannot be opened. Nobody writes to a file to open it to others, so it is tried each time.
CLOSED = "closed"
_COARSE_SECONDS = 2
# More at a time would not be faster for long, and each takes memory.
_WORKERS = min(4, os.cpu_count() or 1)


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
        place_is_home: Whether that is the landing zone, or the home.
    """

    place: Lake
    pattern: str
    place_is_home: bool = True

    def listing(self) -> Listing:
        """Return what is there now.

        Raises:
            LakeUnreachable: If the storage does not answer, or not to us.
        """
        with self.place.scanning(self.pattern):
            return list_landing(self.pattern, self.place.fs, self.place.root)

    def fingerprint(self, file: LandedFile) -> str:
        """Return the BLAKE3 hash of a listed file's bytes, or `CLOSED` if they are there but not for us to read.

        Raises:
            FileNotFoundError: If the file is gone.
            NotInLake: If it is gone, from S3.
        """
        if not isinstance(self.place, Folder):
            return self.place.hash_of(file.name)
        try:
            return fingerprint(self.place.fs, f"{self.place.root}/{file.name}")
        except FileNotFoundError:
            raise
        except OSError:
            return CLOSED

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
        try:
            if self.place.fetch(file.name, fetched) != content:
                raise ChangedWhileRead(file.name)
            yield fetched
        except NotInLake as error:
            raise ChangedWhileRead(file.name) from error
        finally:
            fetched.unlink(missing_ok=True)


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
        return Zone(landing, "/".join(parts[len(fixed) :]), place_is_home=False)
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

    Raises:
        ChangedWhileRead: If somebody wrote to it meanwhile; nothing has landed then.
    """
    before = file.stat()
    with landing_file(settings, name) as path:
        shutil.copyfile(file, path)
        after = file.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ChangedWhileRead(file.name)
    return landing_place(settings.landing, settings.s3_endpoint, settings.patience).location(name)


@contextmanager
def landing_file(settings: Settings, name: str) -> Iterator[Path]:
    """Give a path to write a file to, which lands when the context ends, in place of a file of its name.

    If it ends with an error, nothing has landed.

    Args:
        settings: Where the landing zone is.
        name: Path within the landing zone, as in `flights/2013-01.csv`.
    """
    place = landing_place(settings.landing, settings.s3_endpoint, settings.patience)
    if not isinstance(place, Folder):
        with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
            path = Path(folder, "landed")
            yield path
            place.write_file(name, path)
        return
    landed = Path(place.root, name)
    landed.parent.mkdir(parents=True, exist_ok=True)
    hidden = landed.with_name(f".{uuid4().hex}.part")
    try:
        yield hidden
        hidden.replace(landed)
    finally:
        hidden.unlink(missing_ok=True)


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
        known, read_as = _Known(seen.latest(STEP, Partition.source(name))), hash_of_options(source.options)
        hashes: dict[str, str] = {}
        hashed = gone = 0
        for file in found.ready:
            content = known.hash_of(file)
            if content is None and noted.get(file.name, [])[:2] == [file.size, file.mtime_ns]:
                content = noted[file.name][2] if noted[file.name][2] != CLOSED else None
            if content is None and (not hashed or time.monotonic() < until):
                hashed += 1
                try:
                    content = zone.fingerprint(file)
                except (FileNotFoundError, NotInLake):
                    gone += 1
            if content is not None:
                hashes[file.name] = content
        # Of what was taken and has not changed since, the source's own version knows enough.
        after[name] = {
            file.name: [file.size, file.mtime_ns, hashes.get(file.name)]
            for file in listing.files
            if known.hash_of(file) is None
        }
        left = len(found.ready) - len(hashes) - gone
        if left:
            notes.append(f"{name}: {left:,} of {len(found.ready):,} files are left for the next look")
            continue
        wanted = known.looked_at_with(hashes, read_as)
        if wanted != set(known.looked_at.values()):
            parts = [known.version, source.files, *sorted(":".join(filter(None, one)) for one in wanted)]
            requests[name] = str(blake3("\n".join(parts).encode()).hexdigest()[:24])
    return LandingPlan(requests, json.dumps(after), tuple(notes))


def hash_of_options(options: ReadOptions) -> str:
    """Return a hash of how files are read; nothing at all where everything is found out."""
    given = options.as_dict()
    text = json.dumps(given, sort_keys=True, ensure_ascii=False)
    return str(blake3(text.encode()).hexdigest()[:16]) if given else ""


class _Known:
    """What the newest version of a source holds and what it refused."""

    def __init__(self, thing: Thing | None, forgotten: Collection[str] = ()) -> None:
        self.thing = thing
        parameters = thing.parameters if thing else {"files": [], "quarantined": []}
        self.files: dict[str, list[dict[str, Any]]] = {}
        for one in parameters["files"]:
            self.files.setdefault(one["name"], []).append(one)
        self.refused: dict[str, dict[str, Any]] = {
            one["name"]: one for one in parameters["quarantined"] if one["name"] not in forgotten
        }

    @property
    def version(self) -> str:
        return self.thing.id if self.thing else ""

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        """What is known of every table of every file."""
        for tables in self.files.values():
            yield from tables

    @property
    def looked_at(self) -> dict[str, tuple[str, str]]:
        """Hash of the bytes that were looked at last under every name, taken or refused, and how they were read."""
        last = {**{name: tables[0] for name, tables in self.files.items()}, **self.refused}
        return {name: (str(one["hash"]), read_as_of(one)) for name, one in last.items()}

    def hash_of(self, file: LandedFile) -> str | None:
        """The hash of a file that nobody has written to since it was looked at."""
        for one in (*self.files.get(file.name, ())[:1], self.refused.get(file.name)):
            same = one and one["size"] == file.size and one["mtime_ns"] == file.mtime_ns
            if one and same and one["hash"] != CLOSED and not self._too_fresh(file):
                return str(one["hash"])
        return None

    def _too_fresh(self, file: LandedFile) -> bool:
        """Say whether a file was taken in the second in which it changed, and may have changed again within it.

        S3 tells times in seconds.
        """
        if self.thing is None or file.mtime_ns % 10**9:
            return False
        return file.mtime_ns > (self.thing.created_at.timestamp() - _COARSE_SECONDS) * 1e9

    def looked_at_with(self, landed: Mapping[str, str], read_as: str) -> set[tuple[str, str]]:
        """What the source should have looked at, given what lies in the landing zone now, and how it is read."""
        kept = {content for name, content in self.looked_at.items() if name not in landed}
        return kept | {(content, read_as) for content in landed.values()}


def read_as_of(record: Mapping[str, Any]) -> str:
    """Return the hash of the options that a file was read with, from its record."""
    read_as = record.get("options", "")
    # Records of old say here what was found out about the file.
    return read_as if isinstance(read_as, str) else ""


@dataclass(frozen=True)
class Taken:
    """What became of a source's landed files.

    Attributes:
        draft: The source's next version; None if nothing is new.
        notes: For a person: what was taken, what was refused and why.
    """

    draft: Draft | None
    notes: tuple[str, ...]


_told: ContextVar[Progress | None] = ContextVar("told", default=None)


@contextmanager
def watching(progress: Progress | None) -> Iterator[None]:
    """Tell `progress` how far files are that this process takes meanwhile, also within a run of Dagster's."""
    token = _told.set(progress)
    try:
        yield
    finally:
        _told.reset(token)


@contextmanager
def taking(
    source: str,
    zone: Zone,
    known: Thing | None,
    *,
    options: ReadOptions | None = None,
    quarantine: Path,
    code_version: str,
    quiet_seconds: float = 1.0,
    again: Collection[str] = (),
    progress: Progress | None = None,
) -> Iterator[Taken]:
    """Convert what is new in a landing zone; the draft's files exist as long as the context does.

    Args:
        source: Name of the source.
        zone: Where its files land.
        known: Its newest version.
        options: How its files are read.
        quarantine: Where notes on refused files go.
        code_version: Code version of the step.
        quiet_seconds: Files that may still be written to are looked at again after this time; 0 takes all at once.
        again: Names of refused files that are tried once more, or forgotten if they are gone.
        progress: Called with "bytes", how many bytes were read and how many there are.
    """
    options = options or ReadOptions()
    before, read_as = _Known(known, forgotten=again), hash_of_options(options)
    listing = zone.listing()
    files: Sequence[LandedFile] = listing.files
    if quiet_seconds and settled((), listing, now_ns=time.time_ns()).waiting:
        time.sleep(quiet_seconds)
        later = zone.listing()
        files = settled(listing.files, later, now_ns=time.time_ns()).ready
    hashes = {}
    for file in files:
        # One that went since the listing is as if it never was there.
        with suppress(FileNotFoundError, NotInLake):
            hashes[file.name] = before.hash_of(file) or zone.fingerprint(file)
    files = [file for file in files if file.name in hashes]
    if not again and before.looked_at_with(hashes, read_as) == set(before.looked_at.values()):
        yield Taken(None, ())
        return
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        reading = _Reading(zone, Path(folder), options, progress or _told.get())
        taken = _take(source, zone, before, files, hashes, quarantine, code_version, reading)
        same = taken.draft is not None and known is not None and taken.draft.parameters == known.parameters
        yield Taken(None, taken.notes) if same else taken


def _take(
    source: str,
    zone: Zone,
    before: _Known,
    files: Sequence[LandedFile],
    hashes: Mapping[str, str],
    quarantine: Path,
    code_version: str,
    reading: "_Reading",
) -> Taken:
    held = {one["hash"] for one in before.records if read_as_of(one) == reading.read_as}
    reading.read_ahead([(file, hashes[file.name]) for file in files if hashes[file.name] not in held])
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
            if before.looked_at_with(hashes, reading.read_as) == set(before.looked_at.values()):
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
        tables = fitted.records.get(file.name, ())
        if error:
            write_note(quarantine, source, file, error, excerpt=reading.excerpts.get(file.name))
            refused[file.name] = {**_record(file, hashes, reading.read_as), "reason": str(error)}
        elif not any(one.get("rejected") for one in tables):
            remove_note(quarantine, source, file.name)
        elif file.name in fitted.rejects:
            rows = sum(one["rows"] for one in tables)
            note_rejected(quarantine, source, file, fitted.rejects[file.name], rows)
    records = [one for tables in fitted.records.values() for one in tables]
    options = reading.options.as_dict()
    draft = Draft(
        files=fitted.files,
        schema=fitted.schema if fitted.files else None,
        parameters={
            "pattern": zone.pattern,
            **({} if zone.place_is_home else {"place": zone.place.uri}),
            **({"options": options} if options else {}),
            "files": sorted(records, key=lambda one: (str(one["name"]), str(one.get("table", "")))),
            "quarantined": sorted(refused.values(), key=lambda one: str(one["name"])),
        },
        metrics={
            "rows": sum(one["rows"] for one in records),
            "files": len(fitted.records),
            "quarantined": len(refused),
            "rejected": sum(one.get("rejected", 0) for one in records),
            "landed_bytes": sum(tables[0]["size"] for tables in fitted.records.values()),
        },
        code_version=code_version,
    )
    return Taken(draft, (*fitted.notes, *changing))


def _record(file: LandedFile, hashes: Mapping[str, str], read_as: str) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "hash": hashes[file.name],
        "options": read_as,
    }


class _Reading:
    """Converts landed files, each one once, several at a time.

    Attributes:
        options: How they are read.
        read_as: Hash of that.
        excerpts: By name of a file that cannot be read: what it looks like where it is wrong.
    """

    def __init__(
        self, zone: Zone, folder: Path, options: ReadOptions, progress: Progress | None = None
    ) -> None:
        self._zone, self._folder, self.options = zone, folder, options
        self.read_as = hash_of_options(options)
        self.excerpts: dict[str, str] = {}
        self._done: dict[tuple[str, str], Converted | UnreadableFile] = {}
        self._progress = progress
        self._bytes: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def read_ahead(self, files: Sequence[tuple[LandedFile, str]]) -> None:
        """Convert files that will be asked for, in parallel; equal bytes are converted once."""
        once = {content: file for file, content in reversed(files)}
        self._sizes = {file.name: file.size for file in once.values()}
        with ThreadPoolExecutor(min(_WORKERS, len(once)) or 1, thread_name_prefix="reading") as threads:
            work = [threads.submit(self._read, file, content) for content, file in once.items()]
            try:
                for one in work:
                    one.result()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def read(self, file: LandedFile, content: str) -> Converted:
        """Return a file's tables as Parquet files.

        Raises:
            UnreadableFile: If the file cannot be taken.
        """
        found = self._done.get((file.name, content)) or self._read(file, content)
        if isinstance(found, UnreadableFile):
            raise found
        return found

    def _read(self, file: LandedFile, content: str) -> Converted | UnreadableFile:
        # Readers name their files themselves; a folder each keeps what is fetched apart.
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        found: Converted | UnreadableFile
        try:
            if content == CLOSED:
                raise ClosedFile(file.name)
            with self._zone.local(file, content, folder) as path:
                try:
                    found = convert(path, file.name, folder, self.options, progress=self._told(file))
                    found = replace(found, tables=tables_together(file.name, found, self.options))
                except UnreadableFile as error:
                    self.excerpts[file.name] = excerpt_of(path, error)
                    raise
        except UnreadableFile as error:
            found = error
        self._done[file.name, content] = found
        self._told(file)("bytes", file.size, file.size)
        return found

    def _told(self, file: LandedFile) -> Progress:
        def told(what: str, done: int, total: int) -> None:
            if self._progress is not None and what == "bytes" and total:
                # What readers count may be unpacked bytes; the share is what they know.
                self._bytes[file.name] = min(file.size, file.size * done // total)
                self._progress("bytes", sum(list(self._bytes.values())), sum(self._sizes.values()))

        return told


def tables_together(file: str, converted: Converted, options: ReadOptions) -> tuple[ConvertedTable, ...]:
    """Return the tables of a file that make up one source together.

    Raises:
        SeveralTables: If nobody named them, and their columns say that they are different things.
    """
    shapes = {frozenset(name.casefold() for name in table.schema.names) for table in converted.tables}
    if len(shapes) > 1 and options.tables is None:
        raise SeveralTables(file, [table.name for table in converted.tables])
    return converted.tables


@dataclass
class _Fitted:
    """Which files make up the source, in one schema, and which do not fit."""

    schema: pa.Schema
    records: dict[str, list[dict[str, Any]]]
    files: dict[str, Path | Component]
    errors: dict[str, UnreadableFile]
    notes: list[str]
    rejects: dict[str, list[Path]]


def _fit(
    before: _Known,
    landed: Sequence[LandedFile],
    hashes: Mapping[str, str],
    reading: _Reading,
    errors: Mapping[str, UnreadableFile],
) -> _Fitted:
    """Fit the landed files together, but for those whose errors are known."""
    contents = {content for name, content in hashes.items() if name not in errors}
    held: dict[str, list[dict[str, Any]]] = {}
    for one in before.records:
        if read_as_of(one) == reading.read_as:
            held.setdefault(one["hash"], []).append(one)
    records = {
        name: tables
        for name, tables in before.files.items()
        # What lies there under another name now, and is to be read otherwise, is taken from there.
        if (name not in hashes and (tables[0]["hash"] not in contents or tables[0]["hash"] in held))
        or (name in errors and tables[0]["hash"] not in contents)
    }
    components = before.thing.files if before.thing else {}
    kept = [one for tables in records.values() for one in tables]
    again = [one for content in contents for one in held.get(content, ())]
    fitted = _Fitted(
        _schema_of(before, {one["component"] for one in (*kept, *again)}),
        records,
        {one["component"]: components[one["component"]] for one in kept},
        dict(errors),
        [f"quarantined: {error}" for error in errors.values()],
        {},
    )
    taken = {one["hash"] for one in kept}
    for file in landed:
        if file.name in errors:
            continue
        record = _record(file, hashes, reading.read_as)
        if record["hash"] in taken:
            fitted.notes.append(f"{file.name}: the same bytes are there under another name")
            continue
        if old := held.get(record["hash"]):
            records[file.name] = [{**one, **record} for one in old]
            fitted.files |= {one["component"]: components[one["component"]] for one in old}
        else:
            try:
                converted = reading.read(file, record["hash"])
                schema = fitted.schema
                for table in converted.tables:
                    schema = reconcile(schema, table.schema, file.name)
            except UnreadableFile as error:
                fitted.errors[file.name] = error
                fitted.notes.append(f"quarantined: {error}")
                continue
            fitted.schema = schema
            records[file.name] = []
            for table in converted.tables:
                one = record | _record_of_table(file.name, record["hash"], converted, table)
                records[file.name].append(one)
                fitted.files[one["component"]] = table.path
            rows = sum(table.rows for table in converted.tables)
            rejected = sum(table.rejected for table in converted.tables)
            fitted.rejects[file.name] = [table.rejects for table in converted.tables if table.rejects]
            lost = f", {rejected:,} rejected" if rejected else ""
            fitted.notes.append(f"{file.name}: {rows:,} rows taken{lost}")
            fitted.notes += [f"{file.name}: {note}" for note in converted.notes]
        taken.add(record["hash"])
    return fitted


def _record_of_table(file: str, content: str, converted: Converted, table: ConvertedTable) -> dict[str, Any]:
    name = f"{file}#{table.name}" if table.name else file
    return {
        "table": table.name,
        "component": f"{name}.{content[:12]}.parquet",
        "rows": table.rows,
        "rejected": table.rejected,
        "schema": {field.name: str(field.type) for field in table.schema},
        "format": converted.format,
        "found": {**converted.found, **table.found},
    }


def _schema_of(before: _Known, staying: Collection[str]) -> pa.Schema:
    """Return the schema that new files must fit: that of all tables which stay, given by their components.

    A file that is replaced no longer has a say, so that a wrong type can be corrected by landing the file again.
    """
    if before.thing is None or before.thing.schema is None:
        return pa.schema([])
    stay = [one for one in before.records if one["component"] in staying]
    if len(stay) == len(list(before.records)):
        return before.thing.schema
    schema = pa.schema([])
    for one in stay:
        schema = reconcile(schema, before.thing.file_schema(one["component"]), one["name"])
    return schema
