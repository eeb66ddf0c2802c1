"""Logging anything as a Thing, outside of the pipeline: what `Store.log`, `upload`, `new` and `update` do.

An upload is a Thing of the step `uploads`, whose partition is the name it was given. Logging under the same name makes
the next version; what has no name becomes a Thing of its own, named by the end of its id.
"""

import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from resources.handles import Artifact
from resources.lake import hash_bytes, is_inside
from resources.references import UPLOADS as UPLOADS
from resources.store import Store
from resources.things import (
    ADDRESS,
    NAME,
    BadDraft,
    Component,
    Content,
    Draft,
    Encoded,
    Partition,
    Thing,
    hash_file,
)
from resources.values import encoded, rows_in

_SHARED_FROM = 1 << 20
"""Smaller files are stored again under another name: to ask for them would take longer than to write them."""

Reference = Thing | str
"""A Thing, or what names it: an id, a short id, a name, an address."""


def log(store: Store, dataset: Any, name: str | None, given: Mapping[str, Any]) -> Thing:
    """Log one Thing; see `Store.log`."""
    return log_many(store, [{"dataset": dataset, "name": name, **given}])[0]


def log_many(store: Store, items: Iterable[Mapping[str, Any]]) -> list[Thing]:
    """Log many Things; see `Store.log_many`."""
    drafts = (
        (UPLOADS, partition_of(item.get("name")), _draft(store, number, item))
        for number, item in enumerate(items)
    )
    made = store.commit_all(drafts)
    store.announce(made)
    return made


def partition_of(name: str | None) -> Partition | None:
    """Return the partition of the uploads of a name; None for what is to have none.

    Raises:
        BadDraft: If the name would be taken for something else wherever a Thing is named.
    """
    if name is None:
        return None
    if (
        not isinstance(name, str)
        or re.search(r"@-?\d+$", name)
        or name.startswith(ADDRESS)
        or name != name.strip()
    ):
        raise BadDraft(
            f"{name!r} cannot be the name of an upload: names are text, without spaces at either end, that does not "
            f"end in `@` and a number (which names a version) and does not start with {ADDRESS}"
        )
    return Partition({NAME: name})


FIELDS = frozenset(
    (
        "dataset",
        "name",
        "parameters",
        "metrics",
        "labels",
        "artifacts",
        "embedding",
        "based_on",
        "trusted_types",
    )
)


def _draft(store: Store, number: int, item: Mapping[str, Any]) -> Draft:
    if unknown := sorted(set(item) - FIELDS):
        raise BadDraft(f"item {number} has {', '.join(unknown)}; it may have {', '.join(sorted(FIELDS))}")
    dataset, trusted = item.get("dataset"), item.get("trusted_types") or ()
    return Draft(
        dataset=None if dataset is None or isinstance(dataset, Path) else rows_in(dataset, "`dataset`"),
        files={dataset.name: dataset} if isinstance(dataset, Path) else {},
        parameters=item.get("parameters") or {},
        metrics=item.get("metrics") or {},
        labels=item.get("labels") or {},
        artifacts={
            key: _content(store, value, key, trusted) for key, value in (item.get("artifacts") or {}).items()
        },
        embedding=_embedding(item.get("embedding")),
        based_on=_ids(store, item.get("based_on") or ()),
    )


def _content(store: Store, value: Any, key: str, trusted: Collection[str]) -> Content:
    what = f"artifacts[{key!r}]"
    if isinstance(value, Component):
        if not isinstance(value, Artifact) or value.lake or value.of.lake is not store.lake:
            raise BadDraft(f"{what} is a file of another lake; copy its Thing, or point at it, first")
        value.of.require_kept()
        return Component("artifact", key, value.path, value.size, value.hash, form=value.form)
    content = value if isinstance(value, Path) else encoded(value, what, trusted)
    return _stored(store, key, content) or content


def _stored(store: Store, key: str, content: Content) -> Component | None:
    """Return a large file that is in the lake already, of whichever Thing that is in use; None if there is none."""
    try:
        if isinstance(content, Path):
            size = content.stat().st_size
            hashed = hash_file(content) if size >= _SHARED_FROM else ""
        elif isinstance(content, bytes):
            size = len(content)
            hashed = hash_bytes(content) if size >= _SHARED_FROM else ""
        else:
            return None
    except OSError:
        return None  # it is told when it is stored
    if not hashed:
        return None
    path = store.catalog.file_with(hashed)
    if path is None or store.lake.size_of(path) != size:
        return None
    return Component("artifact", key, path, size, hashed)


def _embedding(value: Any) -> Encoded | None:
    if value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise BadDraft(f"`embedding` is no vector: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in "fiu" or not array.size:
        raise BadDraft(
            f"`embedding` is an array of {array.dtype} with the shape {array.shape}; give one vector of numbers"
        )
    content = encoded(np.ascontiguousarray(array), "`embedding`")
    assert isinstance(content, Encoded)
    return content


def _ids(store: Store, based_on: Iterable[Reference] | Reference) -> list[str]:
    several = [based_on] if isinstance(based_on, str | Thing) else based_on
    return [one.id if isinstance(one, Thing) else _id_of(store, one) for one in several]


def _id_of(store: Store, reference: str) -> str:
    try:
        return str(UUID(reference))
    except (ValueError, AttributeError, TypeError):
        return store.get(reference).id


def upload(
    store: Store,
    files: Sequence[Path | str] | Mapping[str, Path | str] | Path | str,
    name: str | None,
    as_dataset: bool,
    given: Mapping[str, Any],
) -> Thing:
    """Log files as one Thing; see `Store.upload`."""
    found = _found(files)
    parquet = {key: path for key, path in found.items() if as_dataset and key.endswith(".parquet")}
    if as_dataset and not parquet:
        raise BadDraft(f"there is no .parquet file among {', '.join(found)}; leave out `as_dataset`")
    artifacts = {key: path for key, path in found.items() if key not in parquet}
    draft = replace(_draft(store, 0, {**given, "artifacts": artifacts}), files=parquet)
    thing = store.commit(UPLOADS, partition_of(name), draft)
    store.announce([thing])
    return thing


def _found(files: Sequence[Path | str] | Mapping[str, Path | str] | Path | str) -> dict[str, Path]:
    """Return every file by the name that it is to have: its own, with the folders below one that was given."""
    if isinstance(files, Mapping):
        named = {key: Path(path) for key, path in files.items()}
        missing = [str(path) for path in named.values() if not path.is_file()]
    else:
        named, missing = {}, []
        for one in [files] if isinstance(files, Path | str) else files:
            path = Path(one)
            if path.is_dir():
                below = {
                    str(each.relative_to(path)): each for each in sorted(path.rglob("*")) if each.is_file()
                }
            else:
                below = {path.name: path}
                missing += [] if path.is_file() else [str(path)]
            if doubles := sorted(set(below) & set(named)):
                raise BadDraft(
                    f"two files are called {doubles[0]}; give a mapping from the name that each shall have to its path"
                )
            named |= below
    if missing:
        raise BadDraft(f"there is no file {missing[0]}")
    if not named:
        raise BadDraft(f"there is no file in {files!r}; name at least one")
    return named


class New:
    """A Thing in the making: paths to write to, and what is to be said of it.

    Attributes:
        folder: Where the files are written to.
        parameters: What was chosen.
        metrics: What was measured.
        labels: Words to find it by.
        thing: The Thing, once the block has ended well.
    """

    def __init__(self, folder: Path, files: Sequence[str], given: Mapping[str, Any]) -> None:
        for one in files:
            if not is_inside(one):
                raise BadDraft(f"{one!r} is no name of a file: give one without `..`, and not from the root")
        self.folder = folder
        self.parameters: dict[str, Any] = dict(given.get("parameters") or {})
        self.metrics: dict[str, Any] = dict(given.get("metrics") or {})
        self.labels: dict[str, Any] = dict(given.get("labels") or {})
        self.thing: Thing | None = None
        self._files = {one: folder / one for one in files}
        for path in self._files.values():
            path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files are to be written, in the order in which they were named."""
        return tuple(self._files.values())

    def __getitem__(self, name: str) -> Path:
        return self._files[name]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def new(store: Store, files: Sequence[str], name: str | None, given: Mapping[str, Any]) -> Iterator[New]:
    """Make a Thing of files that are written in the block; see `Store.new`."""
    partition_of(name)
    with tempfile.TemporaryDirectory(prefix="mlassets-new-") as folder, store.recording():
        making = New(Path(folder), [files] if isinstance(files, str) else files, given)
        yield making
        missing = [key for key, path in making._files.items() if not path.is_file()]
        if missing:
            raise BadDraft(f"{', '.join(missing)} was not written; write to the paths that `Store.new` gave")
        said = {"parameters": making.parameters, "metrics": making.metrics, "labels": making.labels}
        making.thing = upload(store, making._files, name, False, {**given, **said})


def update(
    store: Store,
    reference: Reference,
    changed: Mapping[str, Mapping[str, Any] | None],
    without: Collection[str],
) -> Thing:
    """Make the next version of an upload; see `Store.update`."""
    old = reference if isinstance(reference, Thing) else store.get(reference)
    if old.step != UPLOADS:
        raise BadDraft(
            f"{old} was made by a step, and its versions are what that step made; log a Thing of your own that is "
            f"based on it: store.log(labels=…, based_on=[{old.id!r}])"
        )
    if old.lake is not store.lake:
        raise BadDraft(f"{old} is in another lake, {old.lake.uri}; copy it here, or point at it, first")
    # The next version would point at files that are not there any more.
    old.require_kept()
    said: dict[str, dict[str, Any]] = {}
    for kind in ("parameters", "metrics", "labels"):
        said[kind] = {**getattr(old, kind), **(changed.get(kind) or {})}
    for one in without:
        kind, _, key = one.partition(".")
        if key not in said.get(kind, {}):
            raise BadDraft(
                f"{old} has no {one!r} to leave out; write `labels.ticket`, `parameters.…` or `metrics.…`"
            )
        del said[kind][key]
    by_kind = {
        kind: {one.name: one for one in old.components if one.kind == kind}
        for kind in ("dataset", "artifact", "embedding")
    }
    draft = Draft(
        files=by_kind["dataset"],
        schema=old.schema,
        artifacts=by_kind["artifact"],
        embedding=next(iter(by_kind["embedding"].values()), None),
        based_on=[*old.based_on, old.id],
        parameters=said["parameters"],
        metrics=said["metrics"],
        labels=said["labels"],
    )
    thing = store.commit(UPLOADS, old.partition, draft)
    store.announce([thing])
    return thing
