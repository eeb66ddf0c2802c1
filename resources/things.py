"""Things: immutable, versioned results of steps, and the store that commits and finds them.

    <lake>/things/<step>/project=<p>/segment=<s>/<version id>/
        data.parquet      the dataset
        artifacts/…       anything else
        thing.json        the manifest, written last: its presence is the commit

Then come the rows in the catalog. Whatever happens in between leaves either garbage without a manifest, which
`sweep` removes, or a manifest without rows, which `sync` adopts.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uuid_utils
from blake3 import blake3

from resources import provenance
from resources.catalog import (
    OWN_PROVENANCE,
    Catalog,
    ThingRows,
    attribute_rows,
    index_name,
    origin_rows,
    searchable,
)
from resources.errors import MlassetsError
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
from resources.verdicts import Verdict

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from resources.copying import Copied
    from resources.finding import Found
    from resources.handles import Artifact, Dataset, Provenance
    from resources.keeping import Progress
    from resources.lineage import Lineage, Node
    from resources.retaining import Collected, Plan
    from resources.snapshot import Snapshot
    from resources.uploads import New, Reference
    from resources.verifying import Verified

ADDRESS = "mlassets://"
NAME = "name"
MANIFEST = "thing.json"
MANIFEST_SCHEMA = 1
RETIRED = "retired.json"
REMOVED = "removed.json"
VERDICTS = "verdicts.json"
_REPORT = "report.html"
_EMBEDDING = "embedding.npy"
_CHANGED = "is not what was committed: its bytes do not match their hash"
_GRACE = timedelta(days=1)
_COMMITS_AT_ONCE = 500
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
            if not value or "\0" in value or not _is_text(value):
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


def _is_text(value: str) -> bool:
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


_recorders: ContextVar[tuple[dict[str, None], ...]] = ContextVar("recorders", default=())


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
        return _folder(self.step, self.partition, self.id)

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
        for recorder in _recorders.get():
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
                folder = _folder(step, partition, thing_id)
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
        token = _recorders.set((*_recorders.get(), reads))
        try:
            yield reads
        finally:
            _recorders.reset(token)

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


def _folder(step: str, partition: Partition, thing_id: str) -> str:
    return f"things/{encode_name(step)}/{partition.path}/{thing_id}"


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
    for recorder in _recorders.get():
        based_on.update(recorder)
    return {**checked, "based_on": list(based_on)}


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


def _id(one: str) -> str:
    try:
        return str(UUID(one))
    except (ValueError, AttributeError, TypeError):
        raise BadDraft(f"based_on: {one!r} is no id of a Thing") from None


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or not name or not _is_text(name):
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


def hash_file(path: Path) -> str:
    """Return the BLAKE3 hash of a local file."""
    hasher = blake3()
    hasher.update_mmap(path)
    return hasher.hexdigest()
