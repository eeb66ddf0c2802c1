"""Whether everything in the lake is still what was committed: what `mlassets catalog verify` does.

First all manifests and records are read and compared with the catalog, then every file that they name is hashed once,
however many Things share it. What passes is written to a journal, so that a verify that was interrupted goes on there.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from resources.catalog import Catalog
from resources.errors import MlassetsError
from resources.imports import GRAMMAR_OF_IRIS, without
from resources.keeping import (
    Listing,
    Progress,
    id_in,
    load_verdicts,
    loaded,
    marked_at,
    readers,
    silent,
    verdicts_path,
)
from resources.lake import Lake, LakeError, LakeUnreachable, NotInLake
from resources.provenance import content_name
from resources.things import MANIFEST, REMOVED, RETIRED, SHARED, Component, DamagedThing, Thing, shared_paths

_HASHERS = 8
_DAMAGES_LOOKED_INTO = 20
_MANIFESTS_AT_ONCE = 500
_PARCEL_BYTES = 8 << 20
_PARCEL_FILES = 100
_PARCELS_AHEAD = 64
_THINGS_NAMED = 10
_JOURNAL_SECONDS = 7 * 24 * 3600

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Damage:
    """One file of the lake that is not what it was.

    Attributes:
        path: Its path in the lake.
        things: Ids of the Things that are made of it.
        what: What is wrong, and what to do.
    """

    path: str
    things: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        shared = f" (of {', '.join(self.things)})" if self.things else ""
        return f"{self.path}{shared}: {self.what}"


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what of it is damaged."""

    things: int
    check_runs: int
    files: int
    bytes: int
    damaged: tuple[Damage, ...]


@dataclass
class _File:
    size: int
    things: list[str] = field(default_factory=list)


@cache
def _validator() -> Any:
    with without(GRAMMAR_OF_IRIS):
        from jsonschema import Draft202012Validator

    return Draft202012Validator(
        json.loads(files("resources").joinpath("schemas/thing-1.json").read_text("utf-8"))
    )


def against_schema(manifest: object) -> str | None:
    """Return what in a manifest breaks the JSON schema of manifests, or None."""
    error = next(_validator().iter_errors(manifest), None)
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


class _Journal:
    """The files that have passed, one a line, of a verify of one lake."""

    def __init__(self, path: Path | None, lake: Lake, *, fresh: bool) -> None:
        self._path = path
        self.passed: set[tuple[str, str]] = set()
        first = {"lake": lake.uri}
        if path is None:
            return
        # What passed long ago says little of today.
        recent = path.exists() and time.time() - path.stat().st_mtime < _JOURNAL_SECONDS
        lines = path.read_text(encoding="utf-8").splitlines() if recent and not fresh else []
        if lines and _line(lines[0]) == first:
            self.passed = {tuple(found) for line in lines[1:] if isinstance(found := _line(line), list)}
            self._file = path.open("a", encoding="utf-8")
            self._file.write("\n")  # ends a line that was cut short
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._file.write(f"{json.dumps(first)}\n")

    def add(self, keys: list[tuple[str, str]]) -> None:
        if self._path is not None:
            self._file.writelines(f"{json.dumps(key)}\n" for key in keys)
            self._file.flush()

    def close(self) -> None:
        if self._path is not None:
            self._file.close()

    def remove(self) -> None:
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _line(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def verify_all(
    lake: Lake,
    catalog: Catalog,
    journal: Path | None = None,
    *,
    fresh: bool = False,
    progress: Progress = silent,
) -> Verified:
    """Read everything in the lake that a Thing or a verdict is made of, and name what is damaged.

    Args:
        lake: The lake.
        catalog: Its catalog, whose copies of the manifests are compared with the lake's.
        journal: A local file that notes what has passed; gone once all has been looked at.
        fresh: Do not go on where the journal ends.
        progress: Called with what is being read, how much is done, and how much there is.

    Raises:
        LakeUnreachable: If the lake does not answer; the journal keeps what has passed.
    """
    listing = Listing.of(lake, sizes=True)
    looked = _Look(lake, catalog, listing)
    looked.at_manifests(progress)
    looked.at_verdicts(progress)
    kept = _Journal(journal, lake, fresh=fresh)
    try:
        size = looked.at_files(kept, progress)
    except BaseException:
        kept.close()
        raise
    kept.remove()
    damaged = tuple(sorted(looked.damaged, key=lambda one: (one.path, one.what)))
    return Verified(looked.things, looked.check_runs, len(looked.files), size, damaged)


class _Look:
    """One look through a lake."""

    def __init__(self, lake: Lake, catalog: Catalog, listing: Listing) -> None:
        self.lake = lake
        self.catalog = catalog
        self.listing = listing
        self.files: dict[tuple[str, str], _File] = {}
        self.shared: dict[str, list[str]] = {}
        self.damaged: list[Damage] = []
        self.things = 0
        self.check_runs = 0

    def _damage(self, path: str, thing_ids: list[str], what: str) -> None:
        self.damaged.append(Damage(path, tuple(thing_ids), what))

    def _file(self, path: str, content: str, size: int, thing_id: str) -> None:
        self.files.setdefault((path, content), _File(size)).things.append(thing_id)

    def _read(self, path: str, thing_id: str) -> bytes | None:
        try:
            return self.lake.read_bytes(path)
        except LakeUnreachable:
            raise
        except LakeError as error:
            self._damage(path, [thing_id], str(error))
            return None

    def at_manifests(self, progress: Progress) -> None:
        """Compare every manifest with the schema and the catalog, and note what it names."""
        paths = {id_in(path): path for path in self.listing.manifests}
        known = self.catalog.ids()
        for thing_id in sorted(known - set(paths)):
            text = self.catalog.manifests_of([thing_id]).get(thing_id, "")
            path = self._where(text, thing_id)
            # What was committed since the lake was listed is there.
            if not path or not self.lake.exists(path):
                self._damage(
                    path or f"things/…/{thing_id}/{MANIFEST}",
                    [thing_id],
                    "is missing, though the catalog knows it; restore it from a backup, or run "
                    "`mlassets catalog rebuild` to forget the Thing",
                )
        done = 0

        def load(path: str) -> tuple[str, bytes | None]:
            return path, self._read(path, id_in(path))

        for batch in loaded(self.lake, self.listing.manifests, load, _MANIFESTS_AT_ONCE):
            texts = self.catalog.manifests_of([id_in(path) for path, _ in batch])
            for path, data in batch:
                self._at_manifest(path, data, texts.get(id_in(path)))
            done += len(batch)
            progress("manifests", done, len(self.listing.manifests))
        self._at_shared()

    def _where(self, text: str, thing_id: str) -> str | None:
        try:
            return f"{Thing.from_json(text, self.lake).folder}/{MANIFEST}"
        except DamagedThing as error:
            self._damage(f"the catalog's manifest of {thing_id}", [thing_id], str(error))
            return None

    def _at_manifest(self, path: str, data: bytes | None, copy: str | None) -> None:
        self.things += 1
        thing_id = id_in(path)
        if data is not None and copy is not None and data != copy.encode():
            self._damage(
                path,
                [thing_id],
                "differs from the catalog's copy; restore it from a backup, or, if it is the right one, run "
                "`mlassets catalog rebuild`",
            )
        thing = self._thing(path, data, copy)
        if thing is None:
            return
        if thing_id not in self.listing.removed:
            for component in thing.components:
                # What lies in another lake is verified there.
                if component.lake is None:
                    self._file(component.path, component.hash, component.size, thing_id)
        for shared in shared_paths(thing.manifest):
            self.shared.setdefault(shared, []).append(thing_id)
        self._at_mark(
            self.listing.retired.get(thing_id), thing_id, "retired_at", "retire the Thing again without it"
        )
        self._at_mark(self.listing.removed.get(thing_id), thing_id, "removed_at", "restore it from a backup")
        if thing_id in self.listing.removed and thing_id not in self.listing.retired:
            path = self.listing.removed[thing_id]
            self._damage(path, [thing_id], f"the Thing was removed, and its {RETIRED} is missing; restore it")

    def _at_mark(self, marker: str | None, thing_id: str, column: str, remedy: str) -> None:
        if marker is not None and (mark := self._read(marker, thing_id)) is not None:
            try:
                marked_at(mark, marker, column)
            except (ValueError, KeyError, TypeError) as error:
                self._damage(marker, [thing_id], f"cannot be read: {error}; {remedy}")

    def _thing(self, path: str, data: bytes | None, copy: str | None) -> Thing | None:
        """Return the Thing as the lake tells it, else as the catalog does: its files are looked at all the same."""
        if data is not None:
            try:
                thing = Thing.from_json(data, self.lake, path)
            except MlassetsError as error:
                self._damage(path, [id_in(path)], str(error))
            else:
                broken = against_schema(thing.manifest)
                if broken:
                    self._damage(path, [thing.id], f"breaks the schema of manifests at {broken}")
                return thing
        with suppress(MlassetsError):
            return Thing.from_json(copy or "", self.lake)
        return None

    def _at_shared(self) -> None:
        """Hash the texts that Things share, which are few and small."""
        there: set[str] = set()
        for entry in (one for folder in SHARED for one in self.lake.files(folder)):
            there.add(entry.path)
            data = self._read(entry.path, "")
            name = PurePosixPath(entry.path).stem
            if data is not None and content_name(data) != name:
                self._damage(entry.path, [], "its bytes do not match its name; restore it from a backup")
        for path in sorted(set(self.shared) - there):
            # What was stored since the lake was listed is there.
            if not self.lake.exists(path):
                self._damage(path, self.shared[path][:_THINGS_NAMED], "is missing; restore it from a backup")

    def at_verdicts(self, progress: Progress) -> None:
        """Read every record of verdicts, and note the reports."""
        paths = sorted(self.listing.verdicts.values())
        for thing_id, run in sorted(self.catalog.check_runs()):
            path = verdicts_path(thing_id, run)
            if path not in self.listing.sizes and not self.lake.exists(path):
                self._damage(
                    path, [thing_id], "is missing, though the catalog knows it; restore it from a backup"
                )
        done = 0
        for batch in loaded(
            self.lake, paths, lambda path: load_verdicts(self.lake, path), _MANIFESTS_AT_ONCE
        ):
            for one in batch:
                thing_id = one.path.split("/")[1]
                if one.record is None:
                    self._damage(one.path, [thing_id], one.problem)
                    continue
                self.check_runs += 1
                report = one.record["report"]
                if report:
                    self._file(report["path"], report["hash"], report["size"], thing_id)
            done += len(batch)
            progress("check runs", done, len(paths))

    def at_files(self, journal: _Journal, progress: Progress) -> int:
        """Hash every file that is named, side by side, and return the number of their bytes."""
        total = sum(one.size for one in self.files.values())

        def hashed(keys: list[tuple[str, str]]) -> list[tuple[tuple[str, str], str | None]]:
            return [(key, self._check(*key)) for key in keys]

        keys = sorted(self.files)
        before = [
            key
            for key in keys
            if key in journal.passed and self.listing.sizes.get(key[0]) == self.files[key].size
        ]
        done = sum(self.files[key].size for key in before)
        todo = self._parcels(set(keys) - set(before))
        problems: dict[tuple[str, str], str] = {}
        with ThreadPoolExecutor(_HASHERS if self.lake.local else readers(self.lake)) as pool:
            for ended in _as_they_end(pool, hashed, todo):
                for key, problem in ended:
                    if problem is not None:
                        problems[key] = problem
                    done += self.files[key].size
                journal.add([key for key, problem in ended if problem is None])
                progress("bytes", done, total)
        for key, problem in problems.items():
            self._damage(key[0], self.files[key].things, problem + self._instead(key[0], problems))
        return total

    def _parcels(self, keys: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
        """Yield large files alone and small ones together, so that handing them out costs little."""
        parcel: list[tuple[str, str]] = []
        size = 0
        for key in sorted(keys):
            parcel.append(key)
            size += self.files[key].size
            if size >= _PARCEL_BYTES or len(parcel) == _PARCEL_FILES:
                yield parcel
                parcel, size = [], 0
        if parcel:
            yield parcel

    def _check(self, path: str, content: str) -> str | None:
        expected = self.files[path, content].size
        try:
            # A file that was written since the lake was listed has no size there.
            size = self.listing.sizes.get(path, None) or self.lake.size_of(path)
            if size is None:
                return self._missing(path, content)
            if size != expected:
                return f"is {size} bytes long instead of {expected}; restore it from a backup"
            if self.lake.hash_of(path) != content:
                return "does not match its hash; restore it from a backup, or make the versions of it anew"
        except NotInLake:
            return self._missing(path, content)
        except LakeUnreachable:
            raise
        except LakeError as error:
            return str(error)
        return None

    def _missing(self, path: str, content: str) -> str | None:
        """Say that a file is missing, unless all that it belongs to has been removed since the lake was listed."""
        folders = [self._folder(thing_id) for thing_id in self.files[path, content].things]
        if all(folder and self.lake.exists(f"{folder}/{REMOVED}") for folder in folders):
            return None
        return "is missing; restore it from a backup"

    def _folder(self, thing_id: str) -> str | None:
        found = next((path for path in self.listing.manifests if id_in(path) == thing_id), None)
        return found.rpartition("/")[0] if found else None

    def _instead(self, path: str, damaged: Mapping[tuple[str, str], str]) -> str:
        """Say in which earlier version a damaged file of a Thing is whole, for the first few that are damaged."""
        manifests = set(self.listing.manifests)
        folder = path
        while folder and f"{folder}/{MANIFEST}" not in manifests:
            folder = folder.rpartition("/")[0]
        if not folder or len(self.damaged) >= _DAMAGES_LOOKED_INTO:
            return ""
        with suppress(LakeError, MlassetsError):
            thing = Thing.from_json(self.lake.read_bytes(f"{folder}/{MANIFEST}"), self.lake)
            name = next(((one.kind, one.name) for one in thing.components if one.path == path), None)
            place = folder.rpartition("/")[0]
            earlier = sorted(one for one in manifests if one.rpartition("/")[0].rpartition("/")[0] == place)
            for one in reversed(earlier[: earlier.index(f"{folder}/{MANIFEST}")]):
                version = Thing.from_json(self.lake.read_bytes(one), self.lake)
                same = [part for part in version.components if (part.kind, part.name) == name]
                if same and all(self._passed(part, damaged) for part in same):
                    return f" (the newest version before it in which it is whole is {version.id})"
        return ""

    def _passed(self, component: Component, damaged: Mapping[tuple[str, str], str]) -> bool:
        key = (component.path, component.hash)
        return key in self.files and key not in damaged


def _as_they_end(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Found], items: Iterable[_Item]
) -> Iterator[_Found]:
    """Yield what `work` returns for each item as soon as it does, a few items at a time."""
    running: set[Future[_Found]] = set()
    for item in items:
        running.add(pool.submit(work, item))
        if len(running) >= _PARCELS_AHEAD:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in ended)
    while running:
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (one.result() for one in ended)
