"""Things in other lakes: copied there and from there, pointed at, found by their address.

A copy keeps its id. Every file is compared with its hash on the way, and the manifest comes last: a copy that was
killed is not there, and doing it again goes on where it ended. A pointer is a manifest whose files stay in the other
lake.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from resources.catalog import Catalog
from resources.errors import MlassetsError
from resources.keeping import Listing, Progress, id_in, load_thing, load_verdicts, silent
from resources.lake import Lake, LakeError, NameTaken, NotInLake, UnknownLake, reached
from resources.references import parse_address
from resources.store import Store
from resources.things import (
    MANIFEST,
    REMOVED,
    RETIRED,
    VERDICTS,
    BadDraft,
    Component,
    DamagedThing,
    Thing,
    UnknownThing,
    shared_paths,
    verdict_rows,
)

_OWNER = re.compile(r"things/[^/]+(/[^/]*=[^/]*)+/[^/]+/")


class CopyConflict(MlassetsError):
    """The other lake has a Thing of this id already, and it is another."""


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        lake: Where to.
        things: Ids of all Things that are there now, in the order in which they were made sure of.
        new: Those of them that were not there before.
        bytes: How many were written.
        missing: Ids in the lineage that this store does not have either.
    """

    lake: str
    things: tuple[str, ...]
    new: tuple[str, ...]
    bytes: int
    missing: tuple[str, ...]


def thing_at(lake: Lake, address: str) -> Thing:
    """Return the Thing of an address in another lake, which the settings must name; the lake is listed for it.

    Raises:
        UnknownLake: If the settings do not name that lake.
        UnknownThing: If it has no such Thing.
        DamagedThing: If its manifest cannot be read.
    """
    name, thing_id, _ = parse_address(address)
    other = lake.named(name)
    if other is lake:
        raise UnknownThing(
            f"{address} names no Thing of this lake; `mlassets catalog sync` adopts what is in it only"
        )
    found = _manifest_in(other, thing_id)
    if found is None:
        raise UnknownThing(
            f"the lake {name}, {other.uri}, has no Thing with the id {thing_id}; give the whole id"
        )
    return found


def _manifest_in(lake: Lake, thing_id: str) -> Thing | None:
    end = f"/{thing_id}/{MANIFEST}"
    path = next((entry.path for entry in lake.files("things") if entry.path.endswith(end)), None)
    return Thing.from_json(lake.read_bytes(path), lake, path) if path else None


def lake_called(lake: Lake, to: str) -> Lake:
    """Return the lake that a person names: as the settings call it, or by where it is."""
    with suppress(UnknownLake):
        return lake.named(to)
    where = to if "://" in to else str(Path(to).expanduser().absolute())
    return lake if where == lake.uri else lake.at(where)


def copy(
    store: Store,
    thing: Thing,
    to: Store | str,
    *,
    with_lineage: bool = False,
    progress: Progress = silent,
) -> Copied:
    """Copy a Thing, and all that it is made of if asked, to another lake; see `Store.copy`."""
    target = to.lake if isinstance(to, Store) else lake_called(store.lake, to)
    catalog = to.catalog if isinstance(to, Store) else store.catalog if target is store.lake else None
    source = thing.lake
    if target.uri == source.uri:
        raise BadDraft(f"{thing} is in {target.uri} already; name another lake to copy it to")
    things, missing = _with_lineage(store, thing) if with_lineage else ([thing], [])
    sizes = {one.path: one.size for each in things for one in each.components}
    total, written = sum(sizes.values()), 0
    done: set[str] = set()
    new = []
    for each in things:
        copying = _Copying(each, target)
        is_new = copying.begin()
        for component in copying.files if is_new else ():
            if component.path not in done:
                written += copying.file(component)
        done.update(one.path for one in each.components)
        progress("bytes", sum(sizes[path] for path in done), total)
        copying.end(_copied(each.manifest) if is_new else None)
        if catalog is not None:
            _adopt(target, catalog, each)
        if is_new:
            new.append(each.id)
    return Copied(target.uri, tuple(one.id for one in things), tuple(new), written, tuple(missing))


def point(store: Store, address: str) -> Thing:
    """Let a Thing of another lake be one of this store's, too; see `Store.point`."""
    thing = thing_at(store.lake, address)
    other = thing.lake
    name = next((name for name, uri in store.lake.names.items() if uri == other.uri), None)
    if name is None:
        raise UnknownLake(f"{other.uri} has no name here; put one into MLASSETS_LAKES")
    for component in thing.components:
        if thing.lake_of(component).size_of(component.path) != component.size:
            thing.require_whole(component)
    copying = _Copying(thing, store.lake)
    copying.end(_pointing(thing.manifest, name) if copying.begin() else None)
    _adopt(store.lake, store.catalog, thing)
    return store.get(thing.id)


def _with_lineage(store: Store, thing: Thing) -> tuple[list[Thing], list[str]]:
    """Return all that a Thing is made of, each after what it is based on, and the ids of what is nowhere."""
    look = _lookup(store, thing.lake)
    order: dict[str, Thing] = {}
    missing: dict[str, None] = {}
    waiting: list[tuple[Thing, bool]] = [(thing, False)]
    while waiting:
        one, below_is_done = waiting.pop()
        if one.id in order:
            continue
        if below_is_done:
            order[one.id] = one
            continue
        waiting.append((one, True))
        for upstream in one.based_on:
            if upstream in order or upstream in missing:
                continue
            found = look(upstream)
            if found is None:
                missing[upstream] = None
            else:
                waiting.append((found, False))
    return list(order.values()), list(missing)


def _lookup(store: Store, lake: Lake) -> Callable[[str], Thing | None]:
    if lake is store.lake:

        def in_catalog(thing_id: str) -> Thing | None:
            try:
                return store.get(thing_id)
            except UnknownThing:
                return None

        return in_catalog

    @cache
    def paths() -> dict[str, str]:
        return {
            id_in(one.path): one.path for one in lake.files("things") if one.path.endswith(f"/{MANIFEST}")
        }

    def in_lake(thing_id: str) -> Thing | None:
        path = paths().get(thing_id)
        return Thing.from_json(lake.read_bytes(path), lake, path) if path else None

    return in_lake


def _copied(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a copy: its files are where it is."""
    components = [
        {key: value for key, value in one.items() if key != "lake"} for one in manifest["components"]
    ]
    return {**manifest, "components": components}


def _pointing(manifest: Mapping[str, Any], lake: str) -> dict[str, Any]:
    """Return the manifest of a pointer: its files stay in the lake of that name."""
    return {**manifest, "components": [{"lake": lake, **one} for one in manifest["components"]]}


class _Copying:
    """One Thing on its way into a lake."""

    def __init__(self, thing: Thing, target: Lake) -> None:
        self.thing = thing
        self.source = thing.lake
        self.target = target
        self._path = f"{thing.folder}/{MANIFEST}"
        for one in thing.components:
            if not one.path.startswith("things/") or one.path.rpartition("/")[2] in (
                MANIFEST,
                RETIRED,
                REMOVED,
            ):
                raise DamagedThing(
                    f"{thing} names {one.path} as a file of its own, which it cannot be; it is not copied"
                )
        self._beside = [
            entry.path
            for entry in self.source.files(thing.folder)
            if entry.path.endswith(".json")
            and entry.path.rpartition("/")[0] == thing.folder
            and entry.path != self._path
        ]

    @property
    def files(self) -> tuple[Component, ...]:
        """Its files; none if its bytes were removed."""
        return () if f"{self.thing.folder}/{REMOVED}" in self._beside else self.thing.components

    def begin(self) -> bool:
        """Say whether it is not there yet.

        Raises:
            CopyConflict: If another Thing of its id is.
        """
        try:
            there = json.loads(self.target.read_bytes(self._path))
        except NotInLake:
            return True
        except ValueError as error:
            raise DamagedThing(f"{self._path} in {self.target.uri} cannot be read: {error}") from error
        if _copied(there) != _copied(self.thing.manifest):
            raise CopyConflict(
                f"{self.target.uri} has another Thing of the id {self.thing.id}: its manifest differs. Run `mlassets "
                "catalog verify` on both lakes to see which is damaged"
            )
        return False

    def file(self, component: Component) -> int:
        """Copy a file, unless it is there whole, and return how many bytes were written.

        Raises:
            DamagedThing: If what is in the source is not what was committed.
            CopyConflict: If another file of that name belongs to a Thing that is there.
        """
        path = component.path
        size = self.target.size_of(path)
        if size == component.size and self.target.hash_of(path) == component.hash:
            self.target.keep(path)
            return 0
        owner = _OWNER.match(path)
        if size is not None and owner and self.target.exists(f"{owner[0]}{MANIFEST}"):
            raise CopyConflict(
                f"{path} in {self.target.uri} is another file than that of {self.thing}, or damaged; run `mlassets "
                "catalog verify` there"
            )
        with _on_disk(self.thing, component) as file:
            if not self.target.copy_in(path, file, component.hash):
                self.thing.require_whole(component)
                raise LakeError(f"{path} changed while it was copied; copy it again")
        reached("component copied")
        return component.size

    def end(self, manifest: Mapping[str, Any] | None) -> None:
        """Copy what lies beside its files, and last its manifest, which makes it visible."""
        for path in shared_paths(self.thing.manifest):
            if not self.target.exists(path):
                self._text(path)
        for path in self._beside:
            self._text(path)
        reached("marks copied")
        self._verdicts()
        if manifest is not None:
            self.target.put_bytes(self._path, self._written(manifest))

    def _written(self, manifest: Mapping[str, Any]) -> bytes:
        """Return the text of a manifest: that of the source where it says the same."""
        if manifest == self.thing.manifest:
            text: bytes = self.source.read_bytes(self._path)
            return text
        return json.dumps(manifest, allow_nan=False).encode()

    def _text(self, path: str) -> None:
        # What somebody has said of the Thing there stands, and so does what is not here either.
        with suppress(NameTaken, NotInLake):
            self.target.put_bytes(path, self.source.read_bytes(path))

    def _verdicts(self) -> None:
        for path in [one.path for one in self.source.files(f"verdicts/{self.thing.id}")]:
            if not path.endswith(f"/{VERDICTS}") or self.target.exists(path):
                continue
            record = load_verdicts(self.source, path).record
            if record is None:
                continue  # `mlassets catalog verify` tells of it
            report = record["report"]
            if report and report["path"].startswith(path.removesuffix(VERDICTS)):
                self.file(Component("artifact", "report", report["path"], report["size"], report["hash"]))
            self._text(path)
            reached("verdicts copied")


@contextmanager
def _on_disk(thing: Thing, component: Component) -> Iterator[Path]:
    """Give a file of a Thing as one on this machine's disk."""
    lake = thing.lake_of(component)
    if lake.local:
        path = Path(lake.location(component.path))
        if not path.is_file():
            thing.require_whole(component)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mlassets-copy-") as folder:
        yield thing.fetch(component, Path(folder, "file"))


def _adopt(lake: Lake, catalog: Catalog, thing: Thing) -> None:
    """Give the rows of a copied Thing to the catalog of the lake that it is in now."""
    marks = {mark: f"{thing.folder}/{mark}" for mark in (RETIRED, REMOVED)}
    listing = Listing(
        retired={thing.id: marks[RETIRED]} if lake.exists(marks[RETIRED]) else {},
        removed={thing.id: marks[REMOVED]} if lake.exists(marks[REMOVED]) else {},
    )
    loaded = load_thing(lake, f"{thing.folder}/{MANIFEST}", listing)
    if loaded.rows is None:
        raise DamagedThing(loaded.problem)
    catalog.add_things([loaded.rows])
    if listing.retired:
        catalog.retire({thing.id: loaded.rows.thing["retired_at"]})
    if listing.removed:
        catalog.remove({thing.id: loaded.rows.thing["removed_at"]})
    paths = [one.path for one in lake.files(f"verdicts/{thing.id}") if one.path.endswith(f"/{VERDICTS}")]
    records = [found.record for found in (load_verdicts(lake, one) for one in paths) if found.record]
    catalog.add_verdicts([row for record in records for row in verdict_rows(record)])
