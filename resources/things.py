"""Things: immutable, versioned results of steps, what they are made of, and how they are written down.

    <lake>/things/<step>/project=<p>/segment=<s>/<version id>/
        data.parquet      the dataset
        artifacts/…       anything else
        thing.json        the manifest, written last: its presence is the commit

`resources.store` commits and finds them.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uuid_utils
from blake3 import blake3

from resources.catalog import (
    OWN_PROVENANCE,
    ThingRows,
    attribute_rows,
    index_name,
    origin_rows,
    searchable,
)
from resources.errors import MlassetsError
from resources.lake import (
    Lake,
    LakeError,
    NotInLake,
    encode_name,
    hash_bytes,
)

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from resources.handles import Artifact, Dataset, Provenance

ADDRESS = "mlassets://"
NAME = "name"
MANIFEST = "thing.json"
MANIFEST_SCHEMA = 1
RETIRED = "retired.json"
REMOVED = "removed.json"
VERDICTS = "verdicts.json"
_CHANGED = "is not what was committed: its bytes do not match their hash"
_PAGE = 1 << 16


class UnknownThing(MlassetsError):
    """No Thing of that id, step or partition is in the store."""


class DamagedThing(MlassetsError):
    """A committed Thing's manifest or bytes are not what they were."""


class RemovedThing(MlassetsError):
    """The bytes of a retired Thing were removed; what it was made from and what it said stays readable."""


class BadDraft(MlassetsError):
    """What should become a Thing cannot be stored as it is."""


@dataclass(frozen=True, init=False)
class Partition:
    """Which project, segment or source a Thing is about: ordered pairs of dimension and value.

    Values are kept exactly as the user gave them; only paths encode them.

    Attributes:
        dimensions: The pairs, coarsest first.
    """

    dimensions: tuple[tuple[str, str], ...]

    def __init__(self, dimensions: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Make a partition of any dimensions.

        Raises:
            BadDraft: If there are none, or a value is empty or no text.
        """
        object.__setattr__(self, "dimensions", tuple(dict(dimensions).items()))
        if not self.dimensions:
            raise BadDraft("a partition needs at least one dimension")
        for name, value in self.dimensions:
            if not value or "\0" in value or not is_text(value):
                raise BadDraft(
                    f"{value!r} cannot be a {name}: it must be text with at least one character and no NUL"
                )

    @classmethod
    def project(cls, project: str) -> "Partition":
        """Return the partition of a whole project."""
        return cls({"project": project})

    @classmethod
    def segment(cls, project: str, segment: str) -> "Partition":
        """Return the partition of one segment of a project."""
        return cls({"project": project, "segment": segment})

    @classmethod
    def source(cls, source: str) -> "Partition":
        """Return the partition of a source."""
        return cls({"source": source})

    @classmethod
    def parse(cls, key: str, dimensions: Sequence[str] = ("project", "segment")) -> "Partition":
        """Return the partition of a project (`late-flights`) or a segment (`late-flights|EWR`) from its key.

        Args:
            key: The key.
            dimensions: Names of the dimensions; a key may leave out the finer ones.

        Raises:
            BadDraft: If the key has more parts than there are dimensions, or an empty one.
        """
        values = [cls.decode(part) for part in key.split("|")]
        if len(values) > len(dimensions):
            raise BadDraft(
                f"{key!r} is no partition key: it has {len(values)} parts, "
                f"not those of {' and '.join(dimensions)}"
            )
        return cls(zip(dimensions, values, strict=False))

    @staticmethod
    def encode(value: str) -> str:
        """Return a value as it stands within a key: unchanged, but for what no Dagster key can hold.

        >>> Partition.encode("north|south, 100%")
        'north%7Csouth, 100%'
        """
        kept = re.sub(rf"%(?=(?:25)*(?:{_RESERVED}))", "%25", value)
        return re.sub(r"[|\x00-\x1f]|\.{3,}", lambda found: "".join(f"%{ord(c):02X}" for c in found[0]), kept)

    @staticmethod
    def decode(part: str) -> str:
        """Return the value that stands as `part` within a key, the opposite of `encode`."""
        return re.sub(
            rf"%((?:25)*)({_RESERVED})",
            lambda found: f"%{found[1][2:]}{found[2]}" if found[1] else chr(int(found[2], 16)),
            part,
        )

    @property
    def key(self) -> str:
        """The values joined by `|`; what Dagster's keys cannot hold within a value is percent-encoded."""
        return "|".join(self.encode(value) for _, value in self.dimensions)

    @property
    def path(self) -> str:
        """The folder below a step's, with every value encoded."""
        return "/".join(f"{encode_name(name)}={encode_name(value)}" for name, value in self.dimensions)

    def get(self, dimension: str) -> str | None:
        """Return the value of a dimension, or None if the partition has no such dimension."""
        return dict(self.dimensions).get(dimension)

    def __getitem__(self, dimension: str) -> str:
        return dict(self.dimensions)[dimension]

    def __str__(self) -> str:
        return self.key


# What Dagster does not allow within a partition key: `|`, control characters, and three dots in a row.
_RESERVED = "7C|2E|0[0-9A-F]|1[0-9A-F]"


def is_text(value: str) -> bool:
    """Say whether UTF-8 can hold a text: it has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Component:
    """One file of a Thing. Its path may lie in an earlier version's folder, if the bytes were the same.

    Attributes:
        kind: What it is to the Thing.
        name: Its name among those of its kind.
        path: Where it is in the lake.
        size: Its bytes.
        hash: BLAKE3 of them.
        rows: Its rows, where it belongs to the dataset.
        form: Which Python value was written into it (`pandas.DataFrame`), where it was one.
        lake: The lake that holds the bytes, as MLASSETS_LAKES names it; None where this one does.
    """

    kind: Literal["dataset", "artifact", "embedding"]
    name: str
    path: str
    size: int
    hash: str
    rows: int | None = None
    form: str | None = None
    lake: str | None = None

    def record(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        told = {name: getattr(self, name) for name in _COMPONENT_FIELDS}
        return {name: value for name, value in told.items() if value is not None}


_COMPONENT_FIELDS = tuple(one.name for one in fields(Component))
_INDEXED = ("kind", "name", "path", "size", "hash", "rows", "lake")


@dataclass(frozen=True)
class Encoded:
    """A Python value on its way into a file: its bytes or rows, and what it was, so that it can come back as that."""

    content: bytes | pa.Table | pa.RecordBatchReader
    form: str


Content = bytes | Path | Encoded | Component
"""What a file of a draft may be: bytes, a path on this machine's disk, a value, or what is in the lake already."""


@dataclass(frozen=True)
class Draft:
    """A Thing before its commit.

    Attributes:
        dataset: The rows, or a stream of them; None if the step has none.
        files: Instead of `dataset`: several Parquet files that together are the dataset, each a new file on
            this machine's disk or a component that is in the lake already.
        parameters: What was chosen; JSON values of any depth, numpy scalars too. Nulls are kept.
        metrics: What was measured; numbers, NaN and infinities too.
        labels: Short words to find the Thing by.
        artifacts: Other files by name: as bytes, as paths on this machine's disk, as values, or as components that
            are in the lake already.
        embedding: A vector that stands for the Thing, as a file.
        based_on: Ids of the Things that this one was made from; those read under `Store.recording` are added.
        code_version: Version of the code that made it.
        spec_hash: Hash of the project spec that it was made under.
        spec: That whole spec, as JSON text; the lake keeps it once for all Things that were made under it.
        schema: The schema of the whole dataset where `files` differ from each other.
    """

    dataset: pa.Table | pa.RecordBatchReader | None = None
    files: Mapping[str, Path | Component] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Content] = field(default_factory=dict)
    embedding: Content | None = None
    based_on: Iterable[str] = ()
    code_version: str | None = None
    spec_hash: str | None = None
    spec: str | None = None
    schema: pa.Schema | None = None

    def with_based_on(self, ids: Iterable[str]) -> "Draft":
        """Return the same draft, based on `ids` too."""
        return replace(self, based_on=dict.fromkeys((*self.based_on, *ids)))


recorders: ContextVar[tuple[dict[str, None], ...]] = ContextVar("recorders", default=())


@dataclass(frozen=True)
class Edge:
    """`thing_id` is based on `based_on`; `depth` steps away from the Thing that was asked about."""

    thing_id: str
    based_on: str
    depth: int


@dataclass(frozen=True)
class SyncReport:
    """How much was adopted from the lake, and which manifests could not be read and why."""

    things: int
    check_runs: int
    damaged: tuple[str, ...]
    retired: int = 0
    removed: int = 0


class Thing:
    """A committed Thing: a handle that reads its components when asked.

    Whatever is read through it while `Store.recording` is active counts as lineage.

    Attributes:
        manifest: All that is known about it, as it was committed.
        retired_at: When it was retired (UTC), if it was when it was looked up.
    """

    def __init__(self, manifest: Mapping[str, Any], lake: Lake) -> None:
        """Wrap a manifest; use `Store.get`, `latest` or `history` instead."""
        self.manifest = manifest
        self.retired_at: datetime | None = None
        self._lake = lake

    @classmethod
    def from_json(cls, text: str | bytes, lake: Lake, where: str = "") -> Self:
        """Read a manifest, of this or any earlier schema number; unknown fields are kept.

        Raises:
            DamagedThing: If it is cut short, or names a file outside of the lake.
        """
        try:
            manifest = json.loads(text)
            thing = cls(manifest, lake)
            for component in thing.components:
                lake.full(component.path)
            if where and thing.folder != where.rpartition("/")[0]:
                raise ValueError(f"it belongs to {thing.folder}")
        except (ValueError, KeyError, TypeError, AttributeError, LakeError) as error:
            place = where or "a manifest in the catalog"
            raise DamagedThing(
                f"{place} cannot be read: {error}. Restore it from a backup, "
                "or remove its folder and make the version anew"
            ) from error
        if manifest["schema"] > MANIFEST_SCHEMA:
            raise DamagedThing(
                f"{where or thing.id} has manifest schema {manifest['schema']}, newer than this mlassets "
                f"knows ({MANIFEST_SCHEMA}); upgrade mlassets"
            )
        return thing

    @property
    def id(self) -> str:
        """The version id, a UUIDv7: sorts by time."""
        return cast("str", self.manifest["id"])

    @property
    def short_id(self) -> str:
        """What is enough of its id for people: `Store.get` takes it."""
        return self.id[-12:-4]

    @property
    def step(self) -> str:
        """The step that made it."""
        return cast("str", self.manifest["step"])

    @cached_property
    def partition(self) -> Partition:
        """What it is about."""
        return Partition(self.manifest["partition"])

    @property
    def folder(self) -> str:
        """Its folder in the lake."""
        return folder_of(self.step, self.partition, self.id)

    @cached_property
    def created_at(self) -> datetime:
        """When it was committed (UTC)."""
        return datetime.fromisoformat(self.manifest["created_at"])

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What was chosen."""
        return cast("dict[str, Any]", unpack(self.manifest["parameters"]))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """What was measured."""
        return cast("dict[str, float]", unpack(self.manifest["metrics"]))

    @cached_property
    def labels(self) -> dict[str, Any]:
        """Short words to find it by."""
        return cast("dict[str, Any]", unpack(self.manifest["labels"]))

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Its files."""
        return tuple(
            Component(
                one["kind"],
                one["name"],
                one["path"],
                one["size"],
                one["hash"],
                one.get("rows"),
                one.get("form"),
                one.get("lake"),
            )
            for one in self.manifest["components"]
        )

    @property
    def files(self) -> dict[str, Component]:
        """The Parquet files that are its dataset, by name."""
        return {one.name: one for one in self.components if one.kind == "dataset"}

    @property
    def dataset(self) -> "Dataset":
        """Its rows, read when asked for.

        Raises:
            UnknownThing: If it has none.
        """
        from resources.handles import Dataset

        return Dataset(self)

    @property
    def artifacts(self) -> "dict[str, Artifact]":
        """Its other files, by name."""
        from resources.handles import Artifact

        return {
            one.name: Artifact(**vars(one), thing=self) for one in self.components if one.kind == "artifact"
        }

    @property
    def embedding(self) -> "np.ndarray[Any, Any] | None":
        """The vector that stands for it; None if it has none.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
        """
        from resources.values import decoded

        found = next((one for one in self.components if one.kind == "embedding"), None)
        return None if found is None else decoded(found.form, found.name, self.bytes_of(found), str(self))

    @property
    def size(self) -> int:
        """Bytes of all its files, those that it shares with other versions included."""
        return sum(one.size for one in self.components)

    @property
    def lake(self) -> Lake:
        """The lake that holds its manifest."""
        return self._lake

    @property
    def address(self) -> str:
        """What names it from anywhere: `mlassets://<lake>/<id>`."""
        return f"{ADDRESS}{self._lake.name}/{self.id}"

    @property
    def based_on(self) -> tuple[str, ...]:
        """Ids of the Things it was made from, in the order in which they were read."""
        return tuple(self.manifest["based_on"])

    @property
    def provenance(self) -> "Provenance":
        """Who made it, when, where, with what code; its `packages` are those that were installed there."""
        from resources.handles import Provenance

        return Provenance(self.manifest["provenance"], self._lake)

    @property
    def run_id(self) -> str | None:
        """The run that made it."""
        return cast("str | None", self.manifest.get("run_id"))

    @property
    def code_version(self) -> str | None:
        """Version of the code that made it."""
        return cast("str | None", self.manifest.get("code_version"))

    @property
    def spec_hash(self) -> str | None:
        """Hash of the project spec that it was made under."""
        return cast("str | None", self.manifest.get("spec_hash"))

    @property
    def data_version(self) -> str:
        """BLAKE3 over the names and hashes of its files: equal for equal content."""
        return cast("str", self.manifest["data_version"])

    @cached_property
    def schema(self) -> pa.Schema | None:
        """The exact schema of its dataset; None if it has none."""
        stored = self.manifest.get("dataset_schema")
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored["ipc"]))) if stored else None

    @property
    def rows(self) -> int | None:
        """Rows of its dataset; None if it has none."""
        counts = [one.rows for one in self.files.values() if one.rows is not None]
        return sum(counts) if counts else None

    def packages(self) -> dict[str, str]:
        """Return the versions of all packages that were installed where it was made."""
        return self.provenance.packages

    def environment(self) -> dict[str, Any]:
        """Return the software environment where it was made: python, implementation, platform, packages."""
        return environment_at(self._lake, self.provenance["environment"])

    def spec(self) -> dict[str, Any] | None:
        """Return the whole project spec that it was made under; None if none was stored."""
        name = self.manifest.get("spec")
        return cast("dict[str, Any]", json.loads(self._lake.read_bytes(spec_path(name)))) if name else None

    def patch(self, of: Literal["code", "git"] = "code") -> bytes | None:
        """Return what differed from the commit it was made with, scrubbed; None if nothing did, or it is not known.

        Args:
            of: `code`: the checkout that mlassets ran from; `git`: the folder in which the process was started.
        """
        name = (self.provenance.get(of) or {}).get("diff")
        return self._lake.read_bytes(diff_path(name)) if name else None

    def read(self) -> Self:
        """Record that this Thing was read, for whoever uses no more than its parameters or metrics."""
        for recorder in recorders.get():
            recorder[self.id] = None
        return self

    def scan(self) -> "ds.Dataset":
        """Return the dataset as one that is read lazily, with projection and filters pushed down.

        Raises:
            UnknownThing: If this Thing has no dataset.
            DamagedThing: If a file is missing or of another size than was committed.
        """
        self.read()
        self._refuse_removed()
        if self.schema is None:
            raise UnknownThing(
                f"{self} has no dataset, only {sorted(self.artifacts) or 'parameters and metrics'}"
            )
        files = list(self.files.values())
        here = [one for one in files if one.lake is None]
        for component, size in zip(here, self._lake.sizes_of([one.path for one in here]), strict=True):
            if size != component.size:
                found = "missing" if size is None else f"{size} bytes long instead of {component.size}"
                raise self._damaged(component, f"is {found}")
        if len(here) == len(files):
            return self._lake.dataset([one.path for one in files], self.schema)
        from resources.handles import scan_of_pointers

        return scan_of_pointers(self)

    def table(self, columns: Sequence[str] | None = None, filter: "ds.Expression | None" = None) -> pa.Table:
        """Return the dataset, or some of its columns and rows.

        Raises:
            UnknownThing: If this Thing has no dataset or no such column.
            DamagedThing: If a file is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer.
        """
        dataset = self.scan()
        names = dataset.schema.names if columns is None else list(columns)
        missing = sorted(set(names) - set(dataset.schema.names))
        if missing:
            raise UnknownThing(f"{self} has no column {missing}; it has {dataset.schema.names}")
        try:
            with self._lake.scanning(f"the dataset of {self}"):
                table = dataset.to_table(columns=names, filter=filter)
        except NotInLake as error:
            raise DamagedThing(str(error)) from error
        except (pa.ArrowException, OSError) as error:
            damaged = [one for one in self.files.values() if not self.is_whole(one)]
            if damaged:
                also = "".join(f"; {one.path} too" for one in damaged[1:])
                raise self._damaged(
                    damaged[0], f"cannot be read: {error}. The bytes do not match their hash{also}"
                ) from error
            if isinstance(error, OSError):
                raise LakeError(
                    f"the dataset of {self} cannot be read: {error}. Its files are whole; try again"
                ) from error
            raise  # the filter does not fit the columns
        exact = pa.schema(
            [dataset.schema.field(name) for name in names], self.schema.metadata if self.schema else None
        )
        return table if table.schema.equals(exact, check_metadata=True) else table.cast(exact)

    def first_rows(self, count: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the first rows of the dataset, at the cost of these rows however many there are.

        Raises:
            UnknownThing: If this Thing has no dataset.
            DamagedThing: If a file is missing or of another size than was committed.
        """
        dataset = self.scan()
        wanted = pa.schema(
            [one for one in dataset.schema if columns is None or one.name in columns], dataset.schema.metadata
        )
        try:
            for fragment in dataset.get_fragments():
                # Not through the scan, which reads a whole row group: that is a million rows, and may be far away.
                with (
                    self._lake.scanning(f"the dataset of {self}"),
                    fragment.filesystem.open_input_file(fragment.path) as stream,
                    pq.ParquetFile(stream, buffer_size=_PAGE) as file,
                ):
                    there = set(file.schema_arrow.names).intersection(wanted.names)
                    for batch in file.iter_batches(batch_size=count, columns=sorted(there)):
                        columns_of = [
                            (batch[one.name] if one.name in there else pa.nulls(len(batch))).cast(one.type)
                            for one in wanted
                        ]
                        return pa.table(columns_of, schema=wanted)
        except (pa.ArrowException, NotInLake) as error:
            raise DamagedThing(
                f"the first rows of {self} cannot be read: {error}; `mlassets catalog verify` names the file that "
                "is damaged"
            ) from error
        return wanted.empty_table()

    def file_schema(self, name: str) -> pa.Schema:
        """Return the schema that one of the dataset's files has by itself."""
        return self._lake.dataset([self.files[name].path]).schema

    def artifact(self, name: str) -> bytes:
        """Return an artifact's bytes, after a check of their hash.

        Raises:
            UnknownThing: If there is no such artifact.
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer.
        """
        return self.bytes_of(self._artifact(name))

    def bytes_of(self, component: Component) -> bytes:
        """Return the bytes of one of its files, after a check of their hash.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer.
        """
        self.read()
        self._refuse_removed()
        try:
            data = self.lake_of(component).read_bytes(component.path)
        except NotInLake as error:
            raise self._damaged(component, "is missing") from error
        if hash_bytes(data) != component.hash:
            raise self._damaged(component, _CHANGED)
        return data

    def check_files(self) -> None:
        """Read every file of the dataset and compare it with its hash.

        Raises:
            DamagedThing: If one is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer.
        """
        for component in self.files.values():
            self.require_whole(component)

    def require_whole(self, component: Component) -> None:
        """Read one of its files and compare it with its hash.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer.
        """
        try:
            if self.lake_of(component).hash_of(component.path) == component.hash:
                return
        except NotInLake as error:
            raise self._damaged(component, "is missing") from error
        raise self._damaged(component, _CHANGED)

    def fetch(self, component: Component, target: Path) -> Path:
        """Copy one of its files to this machine's disk, whole or not at all, after a check of its hash.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
            LakeError: If the lake does not answer, or the copy cannot be written.
        """
        self.read()
        self._refuse_removed()
        part = target.with_name(f".{uuid_utils.uuid7()}.part")
        try:
            try:
                content = self.lake_of(component).fetch(component.path, part)
            except NotInLake as error:
                raise self._damaged(component, "is missing") from error
            if content != component.hash:
                raise self._damaged(component, _CHANGED)
            part.replace(target)
        except OSError as error:
            raise LakeError(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)
        return target

    def lake_of(self, component: Component) -> Lake:
        """Return the lake that holds the bytes of one of its files.

        Raises:
            UnknownLake: If that is another one, and the settings do not name it.
        """
        return self._lake if component.lake is None else self._lake.named(component.lake)

    @property
    def removed(self) -> dict[str, Any] | None:
        """The mark that says when, why and by whom its bytes were removed; None if they were not."""
        try:
            return cast("dict[str, Any]", json.loads(self._lake.read_bytes(f"{self.folder}/{REMOVED}")))
        except NotInLake:
            return None

    def _refuse_removed(self) -> None:
        """Raise if the bytes were removed, which only those of a retired Thing can be."""
        if self.retired_at is not None:
            self.require_kept()

    def require_kept(self) -> None:
        """Look into the lake whether the bytes were removed, whenever this handle was taken.

        Raises:
            RemovedThing: If they were.
        """
        if (mark := self.removed) is not None:
            raise self._gone(mark)

    def _gone(self, mark: Mapping[str, Any]) -> RemovedThing:
        return RemovedThing(
            f"the data of {self} was removed at {mark['removed_at'][:19]} UTC by {mark['user']}: it had been retired "
            f"at {mark['retired_at'][:19]} ({mark['reason']}). Its parameters, metrics, hashes and lineage are still "
            "there; read another version, or make it anew"
        )

    def _damaged(self, component: Component, what: str) -> MlassetsError:
        """Return the error that names a file that is not what was committed, and what there is instead."""
        from resources.handles import last_good

        # Whoever took the Thing into the hand before it was retired learns it here.
        if (mark := self.removed) is not None:
            return self._gone(mark)
        good = last_good(self, component)
        instead = f"; the newest version before it whose {component.name} is whole is {good}" if good else ""
        return DamagedThing(
            f"{self._named(component)} {what}. It is not used; restore the file from a backup or make the version anew"
            f"{instead}"
        )

    def _named(self, component: Component) -> str:
        """Return a component's path and whose it is: its first version's, and of those that share it since."""
        if component.path.startswith(f"{self.folder}/"):
            return f"{component.path} of {self}"
        return f"{component.path} of {self} and of the version in whose folder it lies"

    def is_whole(self, component: Component) -> bool:
        """Say whether the bytes of one of its files are there and match their hash."""
        try:
            return self.lake_of(component).hash_of(component.path) == component.hash
        except NotInLake:
            return False

    def artifact_path(self, name: str) -> str:
        """Return where an artifact is: an absolute local path, or a URI.

        Raises:
            UnknownThing: If there is no such artifact.
        """
        component = self._artifact(name)
        self._refuse_removed()
        return self.lake_of(component).location(component.path)

    def _artifact(self, name: str) -> Component:
        self.read()
        try:
            return self.artifacts[name]
        except KeyError:
            raise UnknownThing(f"{self} has no artifact {name!r}; it has {sorted(self.artifacts)}") from None

    def __str__(self) -> str:
        return f"{self.step} of {self.partition.key} ({self.id})"

    def __repr__(self) -> str:
        return f"<Thing {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.manifest == other.manifest

    def __hash__(self) -> int:
        return hash(self.id)


def new_id(after: str | None = None) -> str:
    """Return a fresh UUIDv7 that sorts after `after`, even if the clock has jumped back since."""
    fresh = str(uuid_utils.uuid7())
    if after is None or fresh > after:
        return fresh
    random = UUID(fresh).int & ((1 << 80) - 1)
    return str(UUID(int=((UUID(after).int >> 80) + 1) << 80 | random))


def folder_of(step: str, partition: Partition, thing_id: str) -> str:
    """Return the folder of a version in the lake."""
    return f"things/{encode_name(step)}/{partition.path}/{thing_id}"


SHARED = ("environments", "specs", "diffs")
"""Folders of a lake with texts that many Things share, each named by a hash of its bytes."""


def environment_path(name: str) -> str:
    """Return where the packages of an environment are listed."""
    return f"environments/{encode_name(name)}.json"


def spec_path(name: str) -> str:
    """Return where a whole project spec is."""
    return f"specs/{encode_name(name)}.json"


def diff_path(name: str) -> str:
    """Return where a patch is: what differed from a commit."""
    return f"diffs/{encode_name(name)}.patch"


def shared_paths(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where the texts are that a Thing shares with others: its environment, its spec, what it differed by."""
    about = manifest["provenance"]
    diffs = dict.fromkeys((about.get(of) or {}).get("diff") for of in ("git", "code"))
    found = [environment_path(about["environment"]), *(diff_path(name) for name in diffs if name)]
    return (*found, spec_path(manifest["spec"])) if manifest.get("spec") else tuple(found)


def environment_at(lake: Lake, name: str) -> dict[str, Any]:
    """Return a software environment: python, implementation, platform, packages."""
    return cast("dict[str, Any]", json.loads(lake.read_bytes(environment_path(name))))


def pack(value: Any, where: str) -> Any:
    """Return `value` as strict JSON can hold it.

    What JSON cannot say is written `{"$float": "nan"}`, and times `{"$time": "2026-11-22T09:30:00+01:00"}`.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        if value.dtype.kind in "mM":
            raise BadDraft(f"{where} is {value!r}; {_AWARE}")
        value = value.tolist()
    if isinstance(value, datetime):
        if value != value:
            raise BadDraft(f"{where} is {value!r}, which is no time; leave it out, or give None")
        if value.utcoffset() is None:
            raise BadDraft(f"{where} is {value.isoformat()}, a time without a time zone; {_AWARE}")
        return {"$time": value.isoformat()}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return [pack(one, f"{where}[{number}]") for number, one in enumerate(value)]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise BadDraft(f"{where} has the key {name!r}, a {type(name).__name__}; keys must be text")
        packed = {str.__str__(name): pack(one, f"{where}[{name!r}]") for name, one in value.items()}
        return {"$dict": packed} if any(name.startswith("$") for name in packed) else packed
    raise BadDraft(
        f"{where} is {value!r}, a {type(value).__name__}, which JSON cannot hold; "
        "give it as text, a number, a time with a zone, a list or a mapping"
    )


_AWARE = "give a datetime with its zone, such as `datetime.now(UTC)` or `value.replace(tzinfo=UTC)`"


def unpack(value: Any) -> Any:
    """Return what `pack` was given; tuples and arrays come back as lists."""
    if isinstance(value, list):
        return [unpack(one) for one in value]
    if isinstance(value, dict):
        if set(value) == {"$float"}:
            return float(value["$float"])
        if set(value) == {"$time"}:
            return datetime.fromisoformat(value["$time"])
        inner = value["$dict"] if set(value) == {"$dict"} else value
        return {name: unpack(one) for name, one in inner.items()}
    return value


def rows_of(thing: Thing, text: str) -> ThingRows:
    """Return the catalog's rows for a Thing, from nothing but its manifest."""
    partition = thing.partition
    origin, shared = origin_rows(thing.provenance)
    own = {name: value for name, value in searchable(thing.provenance).items() if name in OWN_PROVENANCE}
    return ThingRows(
        thing={
            "id": thing.id,
            "step": thing.step,
            "partition": partition.key,
            "project": partition.get("project"),
            "segment": partition.get("segment"),
            "source": partition.get("source"),
            "name": partition.get("name"),
            "user": _text_or_none(thing.provenance.get("user")),
            "host": _text_or_none(thing.provenance.get("host")),
            "created_at": thing.manifest["created_at"],
            "data_version": thing.data_version,
            "code_version": thing.code_version,
            "spec_hash": thing.spec_hash,
            "run_id": thing.run_id,
            "origin": origin,
            "size": sum(one.size for one in thing.components),
            "rows": thing.rows,
            "retired_at": None,
            "removed_at": None,
        },
        manifest=text,
        edges=[{"thing_id": thing.id, "based_on": other} for other in dict.fromkeys(thing.based_on)],
        attributes=[
            *attribute_rows(thing.id, "parameter", thing.parameters),
            *attribute_rows(thing.id, "metric", thing.metrics),
            *attribute_rows(thing.id, "label", thing.labels),
            *attribute_rows(thing.id, "provenance", own),
        ],
        components=[
            {
                "thing_id": thing.id,
                **{name: getattr(one, name) for name in _INDEXED},
                "name": index_name(one.name),
            }
            for one in thing.components
        ],
        origin=shared,
    )


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def verdict_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the catalog's rows for what a check run found, from nothing but its record."""
    report = record["report"]
    return [
        {
            "thing_id": record["thing_id"],
            "check_run": record["check_run"],
            "claim": verdict["claim"],
            "position": position,
            "created_at": record["created_at"],
            "run_id": record["run_id"],
            "report": report["path"] if report else None,
            "status": verdict["status"],
            "severity": verdict["severity"],
            "observed": verdict["observed"] if isinstance(verdict["observed"], (int, float)) else None,
            "verdict": json.dumps(verdict),
        }
        for position, verdict in enumerate(record["verdicts"])
    ]


def hash_file(path: Path) -> str:
    """Return the BLAKE3 hash of a local file."""
    hasher = blake3()
    hasher.update_mmap(path)
    return hasher.hexdigest()
