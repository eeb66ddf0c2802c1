"""Keeping lake and catalog in step: what `mlassets catalog sync`, `rebuild` and `sweep` do.

The lake is the truth. Everything is done in short transactions, one batch after another, while commits go on: every
Thing is whole for a reader at any time, and what was interrupted is finished by doing it again.
"""

import gc
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from resources.catalog import Catalog, ThingRows
from resources.errors import MlassetsError
from resources.lake import Entry, Lake, LakeError, LakeUnreachable, NotInLake, encode_name
from resources.things import MANIFEST, REMOVED, RETIRED, VERDICTS, SyncReport, Thing, rows_of, verdict_rows

Progress = Callable[[str, int, int], None]

_BATCH = 1000
_AT_ONCE = 50
_OBJECTS_PER_COLLECTION = 500_000
_LOCAL_READERS = 1
_REMOTE_READERS = 32

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def readers(lake: Lake) -> int:
    """Return how many threads read best at once: parsing keeps one busy, a server needs many."""
    return _LOCAL_READERS if lake.local else _REMOTE_READERS


def in_batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def loaded(
    lake: Lake, items: Sequence[_Item], load: Callable[[_Item], _Found], batch: int = _BATCH
) -> Iterator[list[_Found]]:
    """Yield what `load` returns for each item, in batches; the next one is loaded while a batch is looked at."""

    def several(some: Sequence[_Item]) -> list[_Found]:
        return [load(one) for one in some]

    with ThreadPoolExecutor(readers(lake)) as pool:
        ahead: deque[list[Future[list[_Found]]]] = deque()
        for items_of_batch in in_batches(items, batch):
            ahead.append([pool.submit(several, some) for some in in_batches(items_of_batch, _AT_ONCE)])
            if len(ahead) > 1:
                yield [one for future in ahead.popleft() for one in future.result()]
        while ahead:
            yield [one for future in ahead.popleft() for one in future.result()]


@dataclass
class Listing:
    """Where the manifests, marks and verdicts of a lake are, and how large each of its files is."""

    manifests: list[str] = field(default_factory=list)
    retired: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, lake: Lake, *, sizes: bool = False) -> "Listing":
        """List a lake."""
        listing = cls()
        for top in ("things", "verdicts"):
            for entry in lake.files(top):
                listing._add(entry.path)
                if sizes:
                    listing.sizes[entry.path] = entry.size
        listing.manifests.sort()
        return listing

    def _add(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if name == VERDICTS and path.startswith("verdicts/") and path.count("/") == 3:
            _, thing_id, run = folder.split("/")
            self.verdicts[thing_id, run] = path
        elif path.startswith("things/"):
            if name == MANIFEST:
                self.manifests.append(path)
            elif name == RETIRED:
                self.retired[id_in(path)] = path
            elif name == REMOVED:
                self.removed[id_in(path)] = path


def id_in(path: str) -> str:
    """Return the id of the Thing whose manifest or mark of retirement is at `path`."""
    return path.split("/")[-2]


@dataclass(frozen=True)
class _Loaded:
    """What a file was read as; or what is wrong with it, and whether it is certain that it is damaged."""

    path: str
    rows: ThingRows | None = None
    record: Mapping[str, Any] | None = None
    problem: str = ""
    damaged: bool = False


def _load(lake: Lake, path: str, read: Callable[[bytes], _Loaded]) -> _Loaded:
    try:
        return read(lake.read_bytes(path))
    except LakeUnreachable:
        raise
    except LakeError as error:
        return _Loaded(path, problem=str(error), damaged=isinstance(error, NotInLake))
    except MlassetsError as error:
        return _Loaded(path, problem=str(error), damaged=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _Loaded(path, problem=f"{path} cannot be read: {error!r}", damaged=True)


def load_thing(lake: Lake, path: str, listing: Listing) -> _Loaded:
    """Read the manifest at `path`, and when the Thing was retired and removed if there are marks of it."""

    def read(data: bytes) -> _Loaded:
        text = data.decode()
        rows = rows_of(Thing.from_json(text, lake, path), text)
        for column, markers in (("retired_at", listing.retired), ("removed_at", listing.removed)):
            marker = markers.get(id_in(path))
            if marker is not None:
                rows.thing[column] = marked_at(lake.read_bytes(marker), marker, column)
        return _Loaded(path, rows=rows)

    return _load(lake, path, read)


def load_verdicts(lake: Lake, path: str) -> _Loaded:
    """Read the record of a check run."""

    def read(data: bytes) -> _Loaded:
        record = json.loads(data)
        verdict_rows(record)
        if path.split("/")[1:3] != [record["thing_id"], encode_name(record["check_run"])]:
            raise ValueError(f"it belongs to {record['thing_id']}, check run {record['check_run']!r}")
        return _Loaded(path, record=record)

    return _load(lake, path, read)


def marked_at(data: bytes, path: str, column: str) -> str:
    """Return when a Thing was retired or removed, from its mark.

    Args:
        data: The bytes of the mark.
        path: Where it is.
        column: What is asked for: `retired_at` or `removed_at`.

    Raises:
        ValueError: If the mark cannot be read.
    """
    at = json.loads(data)[column]
    if not isinstance(at, str):
        raise ValueError(f"{path} does not say when")
    return at


def sync(lake: Lake, catalog: Catalog, progress: Progress = silent) -> SyncReport:
    """Give rows to all committed Things, verdicts and marks of retirement that have none."""
    listing = Listing.of(lake)
    damaged: list[str] = []
    things = check_runs = 0

    there = catalog.ids()
    missing = [path for path in listing.manifests if id_in(path) not in there]
    done = 0
    for batch in loaded(lake, missing, lambda path: load_thing(lake, path, listing)):
        good = [one.rows for one in batch if one.rows]
        catalog.add_things(good)
        things += len(good)
        damaged += [one.problem for one in batch if one.problem]
        done += len(batch)
        progress("manifests", done, len(missing))

    retired = _new_marks(lake, listing.retired, there - catalog.retired(), "retired_at", damaged)
    catalog.retire(retired)
    removed = _new_marks(lake, listing.removed, there - catalog.removed(), "removed_at", damaged)
    catalog.remove(removed)

    judged = {(thing_id, encode_name(run)) for thing_id, run in catalog.check_runs()}
    new = [path for key, path in sorted(listing.verdicts.items()) if key not in judged]
    done = 0
    for batch in loaded(lake, new, lambda path: load_verdicts(lake, path)):
        records = [one.record for one in batch if one.record]
        catalog.add_verdicts([row for record in records for row in verdict_rows(record)])
        check_runs += len(records)
        damaged += [one.problem for one in batch if one.problem]
        done += len(batch)
        progress("check runs", done, len(new))
    return SyncReport(things, check_runs, tuple(damaged), len(retired), len(removed))


def _new_marks(
    lake: Lake, markers: Mapping[str, str], unmarked: set[str], column: str, damaged: list[str]
) -> dict[str, str]:
    """Return when Things were retired or removed that are not so in the catalog, by id."""
    found: dict[str, str] = {}
    for thing_id, path in sorted(markers.items()):
        if thing_id in unmarked:
            try:
                found[thing_id] = marked_at(lake.read_bytes(path), path, column)
            except (NotInLake, ValueError, KeyError, TypeError) as error:
                damaged.append(f"{path} cannot be read: {error}")
    return found


def rebuild(lake: Lake, catalog: Catalog, progress: Progress = silent) -> SyncReport:
    """Make the catalog say what the lake says, from the lake alone."""
    listing = Listing.of(lake)
    damaged: list[str] = []
    with _collecting_rarely():
        kept = _rebuild_things(lake, catalog, listing, damaged, progress)
        _remove_gone_things(lake, catalog, kept)
        _bring_back_unmarked(lake, catalog, listing)
        check_runs = _rebuild_verdicts(lake, catalog, listing, damaged, progress)
    return SyncReport(
        sum(kept.values()), check_runs, tuple(damaged), len(listing.retired), len(listing.removed)
    )


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Let Python look for cycles more rarely: a batch makes a hundred thousand objects that all live until its end."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _rebuild_things(
    lake: Lake, catalog: Catalog, listing: Listing, damaged: list[str], progress: Progress
) -> dict[str, bool]:
    """Return the ids whose rows stay: those that were read, and those of which nothing is known for sure."""
    kept: dict[str, bool] = {}
    done = 0
    for batch in loaded(lake, listing.manifests, lambda path: load_thing(lake, path, listing)):
        good = [one.rows for one in batch if one.rows]
        catalog.replace_things(good)
        kept.update((rows.thing["id"], True) for rows in good)
        for one in batch:
            if one.problem:
                damaged.append(one.problem)
                if not one.damaged:
                    kept.setdefault(id_in(one.path), False)
        done += len(batch)
        progress("manifests", done, len(listing.manifests))
    return kept


def _remove_gone_things(lake: Lake, catalog: Catalog, kept: Mapping[str, bool]) -> None:
    listed_damaged = sorted((catalog.ids() | catalog.strays()) - set(kept))
    for batch in in_batches(listed_damaged, _BATCH):
        texts = catalog.manifests_of(batch)
        # A Thing that was committed since the lake was listed has a row, too, and its manifest is whole.
        gone = [one for one in batch if not _still_there(lake, texts.get(one))]
        catalog.remove_things(gone)


def _still_there(lake: Lake, text: str | None) -> bool:
    if text is None:
        return False
    try:
        thing = Thing.from_json(text, lake)
        path = f"{thing.folder}/{MANIFEST}"
        Thing.from_json(lake.read_bytes(path), lake, path)
    except LakeUnreachable:
        raise
    except MlassetsError:
        return False
    return True


def _bring_back_unmarked(lake: Lake, catalog: Catalog, listing: Listing) -> None:
    for name, marked, there, mark in (
        (RETIRED, catalog.retired(), listing.retired, catalog.retire),
        (REMOVED, catalog.removed(), listing.removed, catalog.remove),
    ):
        for batch in in_batches(sorted(marked - set(there)), _BATCH):
            folders = {
                one: Thing.from_json(text, lake).folder for one, text in catalog.manifests_of(batch).items()
            }
            mark({one: None for one, folder in folders.items() if not lake.exists(f"{folder}/{name}")})


def _rebuild_verdicts(
    lake: Lake, catalog: Catalog, listing: Listing, damaged: list[str], progress: Progress
) -> int:
    kept: set[tuple[str, str]] = set()
    paths = sorted(listing.verdicts.values())
    done = count = 0
    for batch in loaded(lake, paths, lambda path: load_verdicts(lake, path)):
        records = [one.record for one in batch if one.record]
        keys = {(record["thing_id"], record["check_run"]) for record in records}
        catalog.replace_verdicts(keys, [row for record in records for row in verdict_rows(record)])
        kept.update((thing_id, encode_name(run)) for thing_id, run in keys)
        for one in batch:
            if one.problem:
                damaged.append(one.problem)
                if not one.damaged:
                    kept.add((one.path.split("/")[1], one.path.split("/")[2]))
        count += len(records)
        done += len(batch)
        progress("check runs", done, len(paths))
    gone = [
        (thing_id, run)
        for thing_id, run in sorted(catalog.check_runs())
        if (thing_id, encode_name(run)) not in kept
        and (
            (thing_id, encode_name(run)) in listing.verdicts or not lake.exists(verdicts_path(thing_id, run))
        )
    ]
    for some in in_batches(gone, _BATCH):
        catalog.replace_verdicts(some, [])
    return count


def verdicts_path(thing_id: str, check_run: str) -> str:
    """Return where the record of a check run is."""
    return f"verdicts/{thing_id}/{encode_name(check_run)}/{VERDICTS}"


def garbage(lake: Lake, catalog: Catalog, older_than: timedelta) -> dict[str, list[Entry]]:
    """Return what crashed commits and removals left behind; nothing that was written to within `older_than`.

    It is by folder, or by path where a file goes alone. Files that only Things without a row point at may be among
    it: `sweep` gives them rows first.
    """
    limit = datetime.now(UTC) - older_than
    groups: dict[str, list[Entry]] = {}
    committed: set[str] = set()
    removed: dict[str, datetime] = {}
    for top in ("things", "verdicts", "tmp"):
        for entry in lake.files(top):
            group = _sweep_group(entry.path)
            groups.setdefault(group, []).append(entry)
            if entry.path in (f"{group}/{MANIFEST}", f"{group}/{VERDICTS}"):
                committed.add(group)
            elif entry.path == f"{group}/{REMOVED}":
                removed[group] = entry.modified
    found = {
        group: entries
        for group, entries in groups.items()
        if group not in committed and max(entry.modified for entry in entries) < limit
    }
    paths = [entry.path for group in found if group.startswith("things/") for entry in found[group]]
    # A manifest that was lost leaves files to which later versions may point.
    used = {_sweep_group(path) for path in catalog.used(paths)}
    left = {group: entries for group, entries in found.items() if group not in used}
    # What a removal that was interrupted had marked, and not yet deleted.
    over = [group for group, since in removed.items() if group in committed and since < limit]
    files = _files_of(catalog, [group.rpartition("/")[2] for group in over])
    users = catalog.users(files)
    there = {entry.path: [entry] for group in over for entry in groups[group]}
    return left | {path: there[path] for path in files if path in there and path not in users}


def _files_of(catalog: Catalog, ids: Sequence[str]) -> dict[str, str]:
    """Return the hashes of the files of some Things, by path."""
    return {
        component["path"]: component["hash"]
        for text in catalog.manifests_of(ids).values()
        for component in json.loads(text)["components"]
        if component.get("lake") is None
    }


def sweep(lake: Lake, catalog: Catalog, older_than: timedelta) -> list[str]:
    """Delete what crashed commits left behind and return the deleted paths."""
    deleted: list[str] = []
    # What has no row yet points at files, too.
    sync(lake, catalog)
    for group, entries in garbage(lake, catalog, older_than).items():
        deleted.extend(entry.path for entry in entries)
        if entries[0].path == group:
            lake.delete(group)
        else:
            lake.delete_folder(group)
    return sorted([*deleted, *lake.unfinished(datetime.now(UTC) - older_than)])


def owner_of(path: str) -> str:
    """Return the id of the Thing in whose folder a component lies."""
    return _sweep_group(path).rpartition("/")[2]


def _sweep_group(path: str) -> str:
    """Return the folder that is committed or not as a whole; a file of its own if it is in `tmp`."""
    parts = path.split("/")
    if parts[0] == "things":
        end = next(
            (number for number, part in enumerate(parts) if number > 1 and "=" not in part), len(parts)
        )
        return "/".join(parts[: end + 1])
    return "/".join(parts[:3])
