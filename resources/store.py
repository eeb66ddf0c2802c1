"""The store: all Things of one lake and its catalog. It commits them, finds them, and keeps lake and catalog in step.

A commit writes the files, then the manifest, then the rows in the catalog. Whatever happens in between leaves either
garbage without a manifest, which `sweep` removes, or a manifest without rows, which `sync` adopts.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from resources import provenance
from resources.catalog import (
    Catalog,
)
from resources.lake import (
    Entry,
    Lake,
    LakeError,
    LakeUnreachable,
    NameTaken,
    NotInLake,
    Retention,
    encode_name,
    hash_bytes,
    open_lake,
    reached,
)
from resources.references import instead, is_id, parse_address, resolve
from resources.settings import Settings
from resources.things import (
    ADDRESS,
    MANIFEST,
    MANIFEST_SCHEMA,
    NAME,
    REMOVED,
    RETIRED,
    VERDICTS,
    BadDraft,
    Component,
    Content,
    Draft,
    Edge,
    Encoded,
    Partition,
    SyncReport,
    Thing,
    UnknownThing,
    diff_path,
    environment_path,
    folder_of,
    hash_file,
    is_text,
    new_id,
    pack,
    recorders,
    rows_of,
    shared_paths,
    spec_path,
    unpack,
    verdict_rows,
)
from resources.verdicts import Verdict

if TYPE_CHECKING:
    from resources.copying import Copied
    from resources.finding import Found
    from resources.keeping import Progress
    from resources.lineage import Lineage, Node
    from resources.retaining import Collected, Plan
    from resources.snapshot import Snapshot
    from resources.uploads import New, Reference
    from resources.verifying import Verified

_REPORT = "report.html"
_EMBEDDING = "embedding.npy"
_GRACE = timedelta(days=1)
_COMMITS_AT_ONCE = 500


class Store:
    """All Things of one lake and its catalog: commits them, finds them, keeps lake and catalog in step.

    Attributes:
        snapshot: The last one that was taken of it, which the next one builds on; see `resources.snapshot`.
        on_logged: Called with the Things that were logged outside of the pipeline; it is how
            `mlassets.open_store` tells Dagster.
        lock_releases: For how long nobody may delete a release, and whether that is a matter of compliance.
    """

    snapshot: "Snapshot | None" = None
    on_logged: Callable[[Sequence[Thing]], None] | None = None
    lock_releases: tuple[timedelta, bool] | None = None

    def __init__(self, lake: Lake, catalog: Catalog) -> None:
        """Join a lake and its catalog; `Store.open` does it from settings."""
        self.lake = lake
        self.catalog = catalog
        self._known_shared: set[str] = set()

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        """Open the store that the settings name; lake and catalog are made where they do not exist."""
        lake = open_lake(
            settings.lake,
            endpoint=settings.s3_endpoint,
            patience=settings.patience,
            names=dict(settings.lakes),
        )
        store = cls(lake, Catalog(settings.catalog, settings.patience))
        store.lock_releases = settings.release_lock
        return store

    def log(
        self,
        dataset: Any = None,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Any] | None = None,
        embedding: Any = None,
        based_on: "Iterable[Reference] | Reference" = (),
        trusted_types: Collection[str] = (),
    ) -> Thing:
        """Store anything as a Thing of its own, outside of the pipeline.

        Args:
            dataset: A table (pandas, pyarrow, polars; whole, lazy or as a stream), or the Path of a Parquet file.
            name: What to call it. Logging under the same name makes the next version, and what has not changed since
                is shared, not stored again.
            parameters: What was chosen: what JSON can hold, and times with a zone.
            metrics: What was measured: numbers.
            labels: Words to find it by; values as for parameters.
            artifacts: Other things by name: tables, arrays, scikit-learn estimators, matplotlib and plotly figures,
                text, bytes, what JSON can hold, files as Paths, and artifacts of other Things, which are
                shared. `thing.artifacts[name].load()` gives them back.
            embedding: A vector of numbers that stands for it.
            based_on: What it was made from; within `Store.recording` all that was read is added.
            trusted_types: Full names of types that an estimator may hold beside those that skops trusts.

        Raises:
            BadDraft: If something cannot be stored; nothing has been written then.
            UnstorableValue: If a value would not come back as it is; nothing has been written then.
            LakeError: If the lake cannot be written to.
        """
        from resources import uploads

        given = {
            "parameters": parameters,
            "metrics": metrics,
            "labels": labels,
            "artifacts": artifacts,
            "embedding": embedding,
            "based_on": based_on,
            "trusted_types": trusted_types,
        }
        return uploads.log(self, dataset, name, given)

    def log_many(self, items: Iterable[Mapping[str, Any]]) -> list[Thing]:
        """Log many Things at once, each given as a mapping of what `log` takes; each is there whole or not at all.

        Raises:
            BadDraft: If something cannot be stored; what was before it may have been.
        """
        from resources import uploads

        return uploads.log_many(self, items)

    def upload(
        self,
        files: Sequence[Path | str] | Mapping[str, Path | str] | Path | str,
        *,
        name: str | None = None,
        as_dataset: bool = False,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        based_on: "Iterable[Reference] | Reference" = (),
    ) -> Thing:
        """Store files as one Thing.

        Args:
            files: Their paths, folders with all that is below them, or a mapping from names to paths.
            name: What to call it; see `log`.
            as_dataset: Whether the .parquet files among them are together the dataset; else all are artifacts.
            parameters: What was chosen.
            metrics: What was measured.
            labels: Words to find it by.
            based_on: What it was made from.

        Raises:
            BadDraft: If a file is not there, or two have one name; nothing has been written then.
            LakeError: If the lake cannot be written to.
        """
        from resources import uploads

        given = {"parameters": parameters, "metrics": metrics, "labels": labels, "based_on": based_on}
        return uploads.upload(self, files, name, as_dataset, given)

    def new(
        self,
        files: Sequence[str],
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        based_on: "Iterable[Reference] | Reference" = (),
    ) -> "AbstractContextManager[New]":
        """Make a Thing of files that are written in a `with` block.

        The block is given paths to write to (`new["model.pt"]`, or in order by `new.paths`) and may say more in
        `new.labels`, `new.parameters` and `new.metrics`. What it reads from the store is what the Thing is based on. If
        it ends well the Thing is `new.thing`; if it raises, nothing is stored.

        Args:
            files: Names of the files.
            name: What to call it; see `log`.
            parameters: What was chosen.
            metrics: What was measured.
            labels: Words to find it by.
            based_on: What it was made from.

        Raises:
            BadDraft: If a file was not written.
        """
        from resources import uploads

        given = {"parameters": parameters, "metrics": metrics, "labels": labels, "based_on": based_on}
        return uploads.new(self, files, name, given)

    def update(
        self,
        reference: "Reference",
        *,
        labels: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> Thing:
        """Make the next version of an upload, with other labels, parameters or metrics and the same files.

        Args:
            reference: The Thing, or what names it.
            labels: Those that are new or other; the rest stays.
            parameters: As for labels.
            metrics: As for labels.
            without: What is left out: `labels.ticket`.

        Raises:
            BadDraft: If it is no upload.
            UnknownThing: If there is no such Thing.
        """
        from resources import uploads

        changed = {"labels": labels, "parameters": parameters, "metrics": metrics}
        return uploads.update(self, reference, changed, without)

    def run(
        self,
        function: "Callable[..., Any] | Reference",
        inputs: "Mapping[str, Reference] | None" = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> Thing:
        """Call a function and log what it returns, with its source, what it was called with, and its lineage.

        The Thing keeps the function: `store.run(thing, inputs, parameters)` calls it again, anywhere. Tables come in
        the form that the function's annotations ask for; what has no annotation comes as a `Thing`.

        Args:
            function: A function that `def` made; or a Thing that keeps one, or what names that.
            inputs: The Things that it is called with, by argument. The result is based on them, and on whatever else
                the function reads from the store.
            parameters: Its other arguments: what JSON can hold.
            name: What to call the result; the function's name by default.
            labels: Words to find it by.

        Returns:
            The Thing. A table that the function returns is its dataset; a mapping with nothing but `dataset`,
            `parameters`, `metrics`, `labels`, `artifacts` and `embedding` is taken apart as `log` takes these; anything
            else becomes the artifact `result`.

        Raises:
            BadFunction: If its source alone would not do the same, or it cannot be called so.
            BadDraft: If the result cannot be stored.
            UnknownThing: If an input is not there.
        """
        from resources import functions

        return functions.run(self, function, inputs or {}, parameters or {}, name, labels)

    def copy(
        self,
        reference: "Reference",
        to: "Store | str",
        *,
        with_lineage: bool = False,
        progress: "Progress | None" = None,
    ) -> "Copied":
        """Copy a Thing to another lake, or from another one to this: every file is compared with its hash on the way.

        It keeps its id, its verdicts, and what was said of it since. A copy that was killed is not there; doing it
        again goes on where it ended. The catalog over there is told where `to` is a store; elsewhere `mlassets catalog
        sync` adopts what has come.

        Args:
            reference: The Thing, or what names it; also the address of one in a lake that the settings name.
            to: A store; or a lake as the settings call it, or by where it is.
            with_lineage: Whether all that it is based on goes first.
            progress: Called with what is copied, how much is done, and how much there is.

        Raises:
            UnknownThing: If there is no such Thing.
            DamagedThing: If a file is missing, or its bytes are not those that were committed.
            LakeError: If one of the lakes does not answer.
        """
        from resources import copying, keeping

        thing = reference if isinstance(reference, Thing) else self.get(reference)
        return copying.copy(self, thing, to, with_lineage=with_lineage, progress=progress or keeping.silent)

    def point(self, address: str) -> Thing:
        """Let a Thing of another lake be one of this store's, too, while its files stay where they are.

        Each file is compared with its hash whenever it is read. The settings must name the lake (MLASSETS_LAKES).

        Raises:
            UnknownLake: If they do not.
            UnknownThing: If that lake has no such Thing.
        """
        from resources import copying

        return copying.point(self, address)

    def announce(self, things: Sequence[Thing]) -> None:
        """Tell whoever asked to be told (`on_logged`) of Things that were logged."""
        if self.on_logged is not None and things:
            self.on_logged(things)

    def commit(
        self,
        step: str,
        partition: Partition | None,
        draft: Draft,
        *,
        run_id: str | None = None,
        started_at: datetime | None = None,
    ) -> Thing:
        """Store a draft as the newest version of `step` and `partition`; it is there whole or not at all.

        A file whose bytes equal those of the same file in the previous version is not stored again: the
        manifest points at the existing one. Where `partition` is None, it becomes one of its own, by the name of
        its id's last group.

        Raises:
            BadDraft: If something in the draft cannot be stored; nothing has been written then.
            LakeError: If the lake cannot be written to.
            CatalogError: If the catalog cannot be written to. The Thing is committed nevertheless, and the
                next `sync` finds it.
        """
        return self._commit([(step, partition, draft)], run_id, started_at)[0]

    def commit_all(
        self,
        items: Iterable[tuple[str, Partition | None, Draft]],
        *,
        run_id: str | None = None,
        started_at: datetime | None = None,
    ) -> list[Thing]:
        """Commit many small drafts, some hundreds at a time: each is there whole or not at all.

        The disk is waited for once for all of them. If one cannot be stored, it and those of its batch are not,
        those before may be.

        Args:
            items: Step, partition and draft of each; of one partition the last becomes the newest version.
            run_id: The run that made them.
            started_at: When making them began.

        Raises:
            BadDraft: If something in a draft cannot be stored.
            LakeError: If the lake cannot be written to.
            CatalogError: If the catalog cannot be written to; the next `sync` finds what is in the lake.
        """
        rest = iter(items)
        made: list[Thing] = []
        while batch := list(islice(rest, _COMMITS_AT_ONCE)):
            made += self._commit(batch, run_id, started_at)
        return made

    def _commit(
        self,
        items: Sequence[tuple[str, Partition | None, Draft]],
        run_id: str | None,
        started_at: datetime | None,
    ) -> list[Thing]:
        checked = [_checked(draft) for _, _, draft in items]
        before: dict[tuple[str, Partition], tuple[str | None, Thing | None]] = {}
        folders: list[str] = []
        manifests: list[dict[str, Any]] = []
        naming = False
        try:
            for (step, named, draft), plain in zip(items, checked, strict=True):
                if named is None:
                    thing_id, previous = new_id(), None
                    partition = Partition({NAME: thing_id.rpartition("-")[2]})
                else:
                    partition = named
                    key = (step, partition)
                    if key not in before:
                        before[key] = self._before(step, partition)
                    last, previous = before[key]
                    thing_id = new_id(after=last)
                    # A version of this batch is not there yet: no other may point to its files.
                    before[key] = thing_id, previous
                folder = folder_of(step, partition, thing_id)
                folders.append(folder)
                components, schema = self._write_components(folder, draft, previous)
                now = datetime.now(UTC)
                manifests.append(
                    {
                        "schema": MANIFEST_SCHEMA,
                        "id": thing_id,
                        "step": step,
                        "partition": dict(partition.dimensions),
                        "created_at": now.isoformat(timespec="microseconds"),
                        "run_id": run_id,
                        "code_version": draft.code_version,
                        "spec_hash": draft.spec_hash,
                        "spec": self._write_spec(draft.spec),
                        "data_version": _data_version(components),
                        **plain,
                        "components": [one.record() for one in components],
                        "dataset_schema": _schema_record(schema),
                        "provenance": provenance.capture(started_at, now),
                    }
                )
            self._write_surroundings()
            texts = [json.dumps(one, allow_nan=False) for one in manifests]
            retention = self._lock(items, manifests)
            naming = True
            self.lake.put_all(
                {f"{folder}/{MANIFEST}": text.encode() for folder, text in zip(folders, texts, strict=True)},
                retention,
            )
        except LakeUnreachable:
            # Asking a server that is down to clean up would only take its time once more; `sweep` does it later.
            raise
        except BaseException:
            # A server may still act on a request that was given up; on a disk, what is not there will not come.
            for folder in folders if self.lake.local or not naming else ():
                with suppress(LakeError):
                    if not self.lake.exists(f"{folder}/{MANIFEST}"):
                        self.lake.delete_folder(folder)
            raise
        reached("manifest written")
        things = [Thing(manifest, self.lake) for manifest in manifests]
        self.catalog.add_things([rows_of(thing, text) for thing, text in zip(things, texts, strict=True)])
        reached("row written")
        return things

    def _lock(
        self, items: Sequence[tuple[str, Partition | None, Draft]], manifests: Sequence[Mapping[str, Any]]
    ) -> Retention | None:
        """Lock what releases are made of, if that is wanted, and return how their manifests are to be."""
        from resources.releases import STEP

        releases = [manifest for (step, _, _), manifest in zip(items, manifests, strict=True) if step == STEP]
        if self.lock_releases is None or not releases:
            return None
        days, compliance = self.lock_releases
        retention = Retention(datetime.now(UTC) + days, compliance)
        paths = [one["path"] for manifest in releases for one in manifest["components"] if "lake" not in one]
        paths += [path for manifest in releases for path in shared_paths(manifest)]
        self.lake.lock(list(dict.fromkeys(paths)), retention)
        return retention

    def _before(self, step: str, partition: Partition) -> tuple[str | None, Thing | None]:
        """Return the id that a new version must sort after, and the version whose files it may point to."""
        newest = self.catalog.newest(step, partition.key)
        if newest is None:
            return None, None
        manifest, retired_at = newest
        previous = Thing.from_json(manifest, self.lake)
        return previous.id, self.latest(step, partition) if retired_at else previous

    def _write_components(
        self, folder: str, draft: Draft, previous: Thing | None
    ) -> tuple[list[Component], pa.Schema | None]:
        before: dict[tuple[str, str], Component] = (
            {(one.kind, one.name): one for one in previous.components} if previous else {}
        )
        components: list[Component] = []
        schema = draft.schema
        if draft.dataset is not None:
            schema = draft.dataset.schema
            path = f"{folder}/data.parquet"
            old = before.get(("dataset", "data.parquet"))
            unless = old.hash if old and self._is_there(old) else None
            written = self.lake.write_table(path, draft.dataset, unless=unless)
            if written is None:
                components.append(cast("Component", old))
            else:
                components.append(
                    Component("dataset", "data.parquet", path, written.size, written.hash, written.rows)
                )
        elif draft.files:
            schemas = []
            for name, file in draft.files.items():
                if isinstance(file, Component):
                    components.append(file)
                    if draft.schema is None:
                        schemas.append(self.lake.dataset([file.path]).schema)
                    continue
                rows, own = _footer(file)
                schemas.append(own)
                path = f"{folder}/data/{encode_name(name)}"
                components.append(self._write_file("dataset", name, path, file, before, rows))
            if schema is None:
                schema = _unified(schemas, list(draft.files))
        for name, content in draft.artifacts.items():
            path = f"{folder}/artifacts/{encode_name(_name(name, 'artifacts'))}"
            components.append(self._write_file("artifact", name, path, content, before))
        if draft.embedding is not None:
            path = f"{folder}/{_EMBEDDING}"
            components.append(self._write_file("embedding", _EMBEDDING, path, draft.embedding, before))
        _refuse_doubles(components)
        reached("components written")
        return components, schema

    def _write_file(
        self,
        kind: Literal["dataset", "artifact", "embedding"],
        name: str,
        path: str,
        content: Content,
        before: Mapping[tuple[str, str], Component],
        rows: int | None = None,
    ) -> Component:
        """Write one file, unless it is in the lake already, as the previous version's of the same name may be."""
        if isinstance(content, Component):
            return content
        old = before.get((kind, name))
        if isinstance(content, Encoded):
            if isinstance(content.content, bytes):
                plain = self._write_file(kind, name, path, content.content, before)
                return replace(plain, form=content.form)
            unless = old.hash if old and self._is_there(old) else None
            table = self.lake.write_table(path, content.content, unless=unless)
            if table is None:
                return replace(cast("Component", old), form=content.form)
            return Component(kind, name, path, table.size, table.hash, form=content.form)
        if isinstance(content, Path):
            if (
                old
                and content.stat().st_size == old.size
                and hash_file(content) == old.hash
                and self._is_there(old)
            ):
                return old
            written = self.lake.write_file(path, content)
        else:
            if old and len(content) == old.size and hash_bytes(content) == old.hash and self._is_there(old):
                return old
            written = self.lake.write_bytes(path, content)
        return Component(kind, name, path, written.size, written.hash, rows)

    def _is_there(self, component: Component) -> bool:
        """Say whether a file that need not be written again is there, as far as a glance tells."""
        return self.lake.size_of(component.path) == component.size

    def _write_surroundings(self) -> None:
        """Store what packages are installed and what differs from the commit, once for all Things made with them."""
        name, text = provenance.environment()
        self._write_shared(environment_path(name), text)
        for name, patch in provenance.patches().items():
            self._write_shared(diff_path(name), patch)

    def _write_spec(self, spec: str | None) -> str | None:
        """Store a spec, once for all Things that are made under it, and return its name."""
        if spec is None:
            return None
        content = spec.encode()
        name = provenance.content_name(content)
        self._write_shared(spec_path(name), content)
        return name

    def _write_shared(self, path: str, content: bytes) -> None:
        if path not in self._known_shared:
            if not self.lake.exists(path):
                # Whoever was a moment faster has stored the same bytes.
                with suppress(NameTaken):
                    self.lake.put_bytes(path, content)
            self._known_shared.add(path)

    def get(self, reference: str) -> Thing:
        """Return a Thing by its id, or by whatever else people call it; see `resources.references`.

        Raises:
            UnknownThing: If there is none.
            AmbiguousThing: If more than one is meant.
            BadReference: If it cannot name a Thing.
        """
        thing_id = reference if is_id(reference) else resolve(self.catalog, reference)
        found = self.catalog.manifest(thing_id) if thing_id else None
        if found is None and self._is_elsewhere(reference):
            from resources.copying import thing_at

            return thing_at(self.lake, reference)
        if found is None:
            raise UnknownThing(
                f"no Thing has the id {reference!r}, nor is it called so{instead(self.catalog, reference)}. "
                "`mlassets catalog sync` adopts Things that are only in the lake"
            )
        text, retired_at = found
        thing = Thing.from_json(text, self.lake)
        thing.retired_at = datetime.fromisoformat(retired_at) if retired_at else None
        return thing

    def _is_elsewhere(self, reference: str) -> bool:
        """Say whether a reference is the address of a Thing in another lake."""
        return reference.startswith(ADDRESS) and parse_address(reference)[0] not in (
            self.lake.name,
            self.lake.uri,
        )

    def find(
        self,
        query: "Mapping[str, Any] | str | None" = None,
        *,
        sort: str | Sequence[str] = "-created_at",
        limit: int | None = None,
        offset: int = 0,
        retired: bool = False,
    ) -> "Found":
        """Return what matches a query, as ids, Things or a frame; nothing is looked up before it is asked for.

        Args:
            query: A mapping, `{"labels.ticket": "AB-123", "metrics.roc_auc": {"$gt": 0.7}}`, or the same as a line of
                text, `labels.ticket=AB-123 metrics.roc_auc>0.7`; see `resources.filters`.
            sort: Fields to sort by, with `-` before those whose largest comes first; of equal ones the newest is
                first, and those without a value come last.
            limit: How many to return at most.
            offset: How many to pass over.
            retired: Find retired Things too.

        Raises:
            BadQuery: If the query names what there is not, or compares what cannot be compared.
        """
        from resources.finding import Found

        return Found(self.catalog, self.lake, query, sort=sort, limit=limit, offset=offset, retired=retired)

    def browse(self, *, limit: int | None = None, offset: int = 0, retired: bool = False) -> "Found":
        """Return all Things, newest first."""
        return self.find(limit=limit, offset=offset, retired=retired)

    def latest(self, step: str, partition: Partition) -> Thing | None:
        """Return the newest version of a step and partition, or None if there is none."""
        texts = self.catalog.manifests(step=step, partition=partition.key, limit=1)
        return Thing.from_json(texts[0], self.lake) if texts else None

    def require(self, step: str, partition: Partition) -> Thing:
        """Return the newest version of a step and partition.

        Raises:
            UnknownThing: If there is none.
        """
        thing = self.latest(step, partition)
        if thing is None:
            raise UnknownThing(f"{partition.key} has no {step} yet; run that step first")
        return thing

    def latest_of(self, step: str) -> dict[Partition, Thing]:
        """Return the newest version of every partition of a step."""
        things = [Thing.from_json(text, self.lake) for text in self.catalog.latest_of(step)]
        # Sorted here: PostgreSQL sorts text by the rules of its own language.
        return {thing.partition: thing for thing in sorted(things, key=lambda one: one.partition.key)}

    def labelled(
        self, step: str, name: str, text: str, partition: Partition | None = None
    ) -> dict[Partition, Thing]:
        """Return the newest version with a label of every partition of a step, or of one of them."""
        texts = self.catalog.labelled(step, name, text, partition.key if partition else None)
        things = [Thing.from_json(one, self.lake) for one in texts]
        return {thing.partition: thing for thing in sorted(things, key=lambda one: one.partition.key)}

    def read(self, thing: "Thing | str") -> Thing:
        """Return a Thing, by itself or by its id, and record that it was read.

        Raises:
            UnknownThing: If there is none.
        """
        found = self.get(thing) if isinstance(thing, str) else thing
        return found.read()

    def history(
        self,
        step: str | None = None,
        partition: Partition | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> list[Thing]:
        """Return the versions that match all that is given, newest first."""
        texts = self.catalog.manifests(
            step=step, partition=partition.key if partition else None, project=project, limit=limit
        )
        return [Thing.from_json(text, self.lake) for text in texts]

    def partitions(self, step: str) -> list[Partition]:
        """Return the partitions of which `step` has a version, by key."""
        return list(self.latest_of(step))

    @contextmanager
    def recording(self) -> Iterator[dict[str, None]]:
        """Collect the ids of all Things that are read in this block, in order, without doubles.

        Every commit inside of the block is based on what was read before it.
        """
        reads: dict[str, None] = {}
        token = recorders.set((*recorders.get(), reads))
        try:
            yield reads
        finally:
            recorders.reset(token)

    def upstream(self, thing_id: str, depth: int | None = None) -> list[Edge]:
        """Return what a Thing is based on, and what that is based on, nearest first."""
        from resources.lineage import edges_from

        return edges_from(self.catalog, thing_id, depth, downstream=False)

    def downstream(self, thing_id: str, depth: int | None = None) -> list[Edge]:
        """Return what is based on a Thing, and what is based on that, nearest first."""
        from resources.lineage import edges_from

        return edges_from(self.catalog, thing_id, depth, downstream=True)

    def lineage(
        self, reference: str, *, upstream: bool = True, downstream: bool = True, depth: int | None = None
    ) -> "Lineage":
        """Return the Things that a Thing was made from, those that were made from it, and the edges between them.

        Args:
            reference: The Thing, as `get` takes it.
            upstream: What it was made from.
            downstream: What was made from it.
            depth: How many steps to go; None means all.

        Raises:
            UnknownThing: If there is no such Thing.
            BadLineage: If the depth is less than 1.
        """
        from resources.lineage import lineage

        start = self.get(reference).id
        return lineage(self.catalog, start, upstream=upstream, downstream=downstream, depth=depth)

    def used_by(self, reference: str, depth: int | None = None) -> "tuple[Node, ...]":
        """Return what was made from a Thing, in any project: what, by whom, on which machine, when; nearest first.

        Args:
            reference: The Thing, as `get` takes it.
            depth: How many steps to go; 1 means those that read it themselves, None means all.

        Raises:
            UnknownThing: If there is no such Thing.
            BadLineage: If the depth is less than 1.
        """
        return self.lineage(reference, upstream=False, depth=depth).downstream

    def sql(
        self,
        query: str,
        parameters: Mapping[str, object] | None = None,
        *,
        versions: str | Sequence[str] = "latest",
        memory: str = "1GB",
        seconds: float = 300.0,
    ) -> pa.Table:
        """Run one SELECT over the datasets of all Things and the catalog, and return its rows.

        There is a table for each step of each project (`late_flights_model`), source (`flights_sources`, or
        `flights`) and upload, read lazily, with `thing_id` and `segment` beside its own columns; and the
        catalog's own: `things`, `parameters`, `metrics`, `labels`, `edges`, `components`, `verdicts`. The statement
        reaches nothing else: no file, no network, no setting.

        Args:
            query: The statement.
            parameters: Values that it binds by name (`$segment`).
            versions: Which versions the tables hold: the `latest` of each partition, `all`, or those of some
                references, as `get` takes them; of partitions that none of these is of, the latest.
            memory: Limit of memory, as in `2GB`.
            seconds: Limit of time.

        Raises:
            BadQuery: If it is not exactly one SELECT, names what is not there, fails, or passes a limit.
            DamagedThing: If a file that it reads is missing or not what was committed.
        """
        from resources.views import run_query

        return run_query(self, query, parameters, versions=versions, memory=memory, seconds=seconds)

    def sql_to(
        self,
        path: Path | str,
        query: str,
        parameters: Mapping[str, object] | None = None,
        *,
        versions: str | Sequence[str] = "latest",
        memory: str = "1GB",
        seconds: float = 300.0,
    ) -> int:
        """Do as `sql`, write the rows to a `.parquet`, `.csv` or `.json` file, and return how many there are.

        They are written some at a time, so that there may be more of them than memory holds.

        Raises:
            BadQuery: As `sql`, or if the file cannot be written.
            DamagedThing: As `sql`.
        """
        from resources.views import write_query

        to = Path(path)
        return write_query(self, query, to, parameters, versions=versions, memory=memory, seconds=seconds)

    def record_verdicts(
        self,
        thing_id: str,
        check_run: str,
        verdicts: Sequence[Verdict],
        report: bytes | None = None,
        run_id: str | None = None,
    ) -> None:
        """Store what a run of checks found on a Thing, and its report; the Thing itself does not change.

        Raises:
            UnknownThing: If there is no such Thing.
            BadDraft: If there are no verdicts, a claim occurs twice, or the check run has verdicts already.
        """
        self.get(thing_id)
        claims = Counter(verdict.claim for verdict in verdicts)
        if not claims or max(claims.values()) > 1:
            raise BadDraft(f"check run {check_run!r} needs one verdict for every claim, got {dict(claims)}")
        folder = f"verdicts/{thing_id}/{encode_name(check_run)}"
        if self.lake.exists(f"{folder}/{VERDICTS}"):
            raise BadDraft(
                f"check run {check_run!r} has verdicts on {thing_id} already; verdicts do not change, give a "
                "new check run an id of its own (`resources.things.new_id()`)"
            )
        record: dict[str, Any] = {
            "schema": MANIFEST_SCHEMA,
            "thing_id": thing_id,
            "check_run": check_run,
            "created_at": self._later_than_verdicts(thing_id).isoformat(timespec="microseconds"),
            "run_id": run_id,
            "report": None,
            "verdicts": [pack(one.as_dict(), f"verdict {one.claim}") for one in verdicts],
        }
        if report is not None:
            # A crashed attempt of the same check run may have left a report behind.
            name = f"report-{new_id()}.html" if self.lake.exists(f"{folder}/{_REPORT}") else _REPORT
            written = self.lake.write_bytes(f"{folder}/{name}", report)
            record["report"] = {"path": written.path, "size": written.size, "hash": written.hash}
        reached("report written")
        self.lake.put_bytes(f"{folder}/{VERDICTS}", json.dumps(record, allow_nan=False).encode())
        reached("verdicts written")
        self.catalog.add_verdicts(verdict_rows(record))

    def _later_than_verdicts(self, thing_id: str) -> datetime:
        """Return the time; if the clock has jumped back since a Thing was judged last, a moment after that."""
        times = [datetime.fromisoformat(row["created_at"]) for row in self.catalog.verdicts([thing_id])]
        return max([datetime.now(UTC), *(time + timedelta(microseconds=1) for time in times)])

    def verdicts(self, thing_id: str) -> list[Verdict]:
        """Return the newest verdict of every claim on a Thing, by claim; empty if it was never judged."""
        newest: dict[str, Verdict] = {}
        for row in self.catalog.verdicts([thing_id]):
            newest[row["claim"]] = Verdict.from_dict(
                cast("dict[str, Any]", unpack(json.loads(row["verdict"])))
            )
        return [newest[claim] for claim in sorted(newest)]

    def blocking(self, thing_id: str) -> tuple[Verdict, ...]:
        """Return the verdicts on a Thing that stop what is downstream."""
        return tuple(verdict for verdict in self.verdicts(thing_id) if verdict.blocks)

    def report_path(self, thing_id: str) -> str | None:
        """Return where the newest report on a Thing is, an absolute path or a URI; None if there is none."""
        reports = [row["report"] for row in self.catalog.verdicts([thing_id]) if row["report"]]
        return self.lake.location(reports[-1]) if reports else None

    def report(self, thing_id: str) -> bytes | None:
        """Return the newest report on a Thing; None if there is none."""
        reports = [row["report"] for row in self.catalog.verdicts([thing_id]) if row["report"]]
        return self.lake.read_bytes(reports[-1]) if reports else None

    def retire(self, thing_id: str, reason: str) -> Thing:
        """Take a version out of use: `latest` and `history` pass over it, `get` still gives it.

        The Thing itself does not change: a mark beside its manifest says so, for ever. Retiring it again
        changes nothing.

        Raises:
            UnknownThing: If there is no such Thing.
            BadDraft: If no reason is given.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise BadDraft(f"{thing_id} can only be retired for a reason; say why")
        thing = self.get(thing_id)
        path = f"{thing.folder}/{RETIRED}"
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        mark = {
            "schema": MANIFEST_SCHEMA,
            "thing_id": thing.id,
            "retired_at": now,
            "reason": reason,
            "user": provenance.user(),
        }
        if not self.lake.exists(path):
            # Whoever was a moment faster has retired it.
            with suppress(NameTaken):
                self.lake.put_bytes(path, json.dumps(mark).encode())
        reached("mark written")
        self.catalog.retire({thing.id: json.loads(self.lake.read_bytes(path))["retired_at"]})
        return self.get(thing.id)

    def removable(self, grace: timedelta = timedelta(days=30)) -> "Plan":
        """Say which bytes `gc` would remove, how many, and why other retired Things stay; nothing is changed.

        Args:
            grace: For how long a Thing must have been retired.
        """
        from resources.retaining import plan

        return plan(self, grace)

    def gc(self, grace: timedelta = timedelta(days=30), progress: "Progress | None" = None) -> "Collected":
        """Remove the bytes of Things that were retired long enough ago; what they said and came from stays.

        What a release that is not retired was made from is never touched, nor are files that others share. A Thing
        whose bytes are gone is still found and still in every lineage; reading its data raises `RemovedThing`.

        Args:
            grace: For how long a Thing must have been retired. No commit and no reading may take longer.
            progress: Called with what is being done, how much of it is, and how much there is.

        Raises:
            CannotRemove: If manifests in the lake cannot be read, as nobody knows what they need.
            LakeUnreachable: If the lake does not answer.
        """
        from resources import keeping, retaining

        return retaining.collect(self, grace, progress or keeping.silent)

    def claim(self, thing_id: str, name: str, record: bytes) -> bytes:
        """Put `record` beside a Thing's manifest under `name`, unless there is one: whoever is first has it for ever.

        Any number of processes may claim at once; each learns from what is returned whether it was first. The Thing
        itself does not change.

        Args:
            thing_id: The Thing.
            name: What is claimed: letters, digits, hyphens (`decided`).
            record: What everybody who comes later is to know.

        Returns:
            The bytes of whoever was first: `record`, or another's.

        Raises:
            UnknownThing: If there is no such Thing.
            BadDraft: If `name` is no such name.
            LakeError: If the lake does not answer.
        """
        path = self._claim_path(thing_id, name)
        if not self.lake.exists(path):
            # Whoever was a moment faster has claimed it.
            with suppress(NameTaken):
                self.lake.put_bytes(path, record)
        reached("claimed")
        return self.lake.read_bytes(path)

    def claimed(self, thing_id: str, name: str) -> bytes | None:
        """Return what was put beside a Thing by `claim`; None if nobody has claimed it.

        Raises:
            UnknownThing: If there is no such Thing.
            BadDraft: If `name` is no name of a claim.
            LakeError: If the lake does not answer.
        """
        try:
            return self.lake.read_bytes(self._claim_path(thing_id, name))
        except NotInLake:
            return None

    def _claim_path(self, thing_id: str, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or f"{name}.json" in (
            MANIFEST,
            RETIRED,
            REMOVED,
        ):
            raise BadDraft(f"{name!r} cannot be claimed; use lower-case letters, digits and single hyphens")
        return f"{self.get(thing_id).folder}/{name}.json"

    def sync(self, progress: "Progress | None" = None) -> SyncReport:
        """Give rows to all committed Things, verdicts and marks of retirement that have none.

        A crash may leave such, or another catalog on the same lake.

        Args:
            progress: Called with what is being read, how much is done, and how much there is.
        """
        from resources import keeping

        return keeping.sync(self.lake, self.catalog, progress or keeping.silent)

    def rebuild(self, progress: "Progress | None" = None) -> SyncReport:
        """Make the catalog say what the lake says, from the lake alone.

        It is done in short steps, while others read and commit; every Thing is whole at any time.

        Args:
            progress: Called with what is being read, how much is done, and how much there is.
        """
        from resources import keeping

        return keeping.rebuild(self.lake, self.catalog, progress or keeping.silent)

    def verify(self, thing: Thing) -> tuple[str, ...]:
        """Hash every file of a Thing again and return what is wrong with it; empty if it is whole.

        Raises:
            LakeUnreachable: If the lake does not answer.
        """
        problems = []
        for component in thing.components:
            try:
                if thing.lake_of(component).hash_of(component.path) != component.hash:
                    problems.append(f"{component.path} of {thing} does not match its hash")
            except LakeUnreachable:
                raise
            except LakeError as error:
                problems.append(f"{thing}: {error}")
        return tuple(problems)

    def verify_all(
        self, journal: Path | None = None, *, fresh: bool = False, progress: "Progress | None" = None
    ) -> "Verified":
        """Read everything that any Thing or verdict is made of, each file once, and name what is damaged.

        Args:
            journal: A local file that notes what has passed, so that a verify that was interrupted goes on
                there; gone once all has been looked at.
            fresh: Do not go on where the journal ends.
            progress: Called with what is being read, how much is done, and how much there is.

        Raises:
            LakeUnreachable: If the lake does not answer.
        """
        from resources import keeping, verifying

        return verifying.verify_all(
            self.lake, self.catalog, journal, fresh=fresh, progress=progress or keeping.silent
        )

    def garbage(self, older_than: timedelta = _GRACE) -> list[Entry]:
        """Return the files that `sweep` would delete."""
        from resources import keeping

        found = keeping.garbage(self.lake, self.catalog, older_than)
        return sorted((one for entries in found.values() for one in entries), key=lambda one: one.path)

    def sweep(self, older_than: timedelta = _GRACE) -> list[str]:
        """Delete what crashed commits left behind and return the deleted paths.

        Only folders without a manifest go, and only if nothing was written to them for `older_than`: a commit
        that takes longer than that would lose its files.
        """
        from resources import keeping

        return keeping.sweep(self.lake, self.catalog, older_than)


def _checked(draft: Draft) -> dict[str, Any]:
    """Return what a manifest says of a draft without its files."""
    checked = {
        "parameters": _packed(draft.parameters, "parameters"),
        "metrics": {_name(name, "metrics"): _metric(name, value) for name, value in draft.metrics.items()},
        "labels": _packed(draft.labels, "labels"),
    }
    if draft.dataset is not None and draft.files:
        raise BadDraft("a draft has either `dataset` or `files`, not both")
    based_on = dict.fromkeys(_id(one) for one in draft.based_on)
    for recorder in recorders.get():
        based_on.update(recorder)
    return {**checked, "based_on": list(based_on)}


def _id(one: str) -> str:
    try:
        return str(UUID(one))
    except (ValueError, AttributeError, TypeError):
        raise BadDraft(f"based_on: {one!r} is no id of a Thing") from None


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or not name or not is_text(name):
        raise BadDraft(f"{where}: {name!r} is no name; names are text with at least one character")
    return name


def _metric(name: str, value: object) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (int, float)):
        raise BadDraft(
            f"metrics[{name!r}] is {value!r}, a {type(value).__name__}; a metric is a number "
            "(use nan if it could not be measured)"
        )
    return pack(float(plain), name)


def _packed(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {_name(name, where): pack(value, f"{where}[{name!r}]") for name, value in values.items()}


def _data_version(components: Sequence[Component]) -> str:
    hasher = blake3()
    for kind, name, content in sorted((one.kind, one.name, one.hash) for one in components):
        hasher.update(json.dumps([kind, name, content]).encode())
    return hasher.hexdigest()


def _schema_record(schema: pa.Schema | None) -> dict[str, Any] | None:
    """Return a schema in full, for machines, and its fields for people."""
    if schema is None:
        return None
    return {
        "ipc": base64.b64encode(schema.serialize()).decode(),
        "fields": [{"name": one.name, "type": str(one.type), "nullable": one.nullable} for one in schema],
    }


def _footer(path: Path) -> tuple[int, pa.Schema]:
    try:
        with pq.ParquetFile(path) as file:
            return file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise BadDraft(f"{path} cannot be read as Parquet: {error}") from error


def _unified(schemas: Sequence[pa.Schema], names: Sequence[str]) -> pa.Schema:
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise BadDraft(
            f"the files {', '.join(names)} have no common schema: {error}. Give one as `schema`"
        ) from error


def _refuse_doubles(components: Sequence[Component]) -> None:
    names = Counter((one.kind, one.name) for one in components)
    doubles = sorted(name for (_, name), count in names.items() if count > 1)
    if doubles:
        raise BadDraft(f"the files {doubles} occur twice; give each a name of its own")
