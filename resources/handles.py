"""What a person holds of a Thing: its dataset, its artifacts and its provenance, read when they are asked for."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import pyarrow as pa

from resources.errors import MlassetsError, did_you_mean
from resources.lake import Lake, LakeError, encode_name, is_inside
from resources.things import MANIFEST, Component, Thing, UnknownThing, environment_at

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds

_IN_MEMORY = 64 << 20
_VERSIONS_LOOKED_AT = 20
_SUFFIXES = {
    "json": ".json",
    "text": ".txt",
    "numpy.ndarray": ".npy",
    "sklearn.BaseEstimator": ".skops",
    "matplotlib.Figure": ".png",
    "plotly.BaseFigure": ".json",
}


class Provenance(dict[str, Any]):
    """Who made a Thing, when, where, with what code."""

    def __init__(self, values: Mapping[str, Any], lake: Lake) -> None:
        super().__init__(values)
        self._lake = lake

    @cached_property
    def packages(self) -> dict[str, str]:
        """Versions of all packages that were installed where it was made, by name."""
        return cast("dict[str, str]", environment_at(self._lake, self["environment"])["packages"])


class Dataset:
    """The rows of a Thing. Nothing is read before it is asked for; reading counts as lineage."""

    def __init__(self, thing: Thing) -> None:
        if thing.schema is None:
            raise UnknownThing(
                f"{thing} has no dataset, only {sorted(thing.artifacts) or 'parameters and metrics'}"
            )
        self._thing = thing
        self.schema: pa.Schema = thing.schema

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._thing.rows or 0

    @property
    def files(self) -> dict[str, Component]:
        """The Parquet files that hold them, by name."""
        return self._thing.files

    def to_pandas(self, columns: Sequence[str] | None = None, filter: Any = None) -> "pd.DataFrame":
        """Return the rows, or some of their columns, as a frame; one that was logged comes back as it was.

        Args:
            columns: The only columns that are read.
            filter: The only rows: a pyarrow expression, or tuples as `pyarrow.parquet` takes them.
        """
        import pandas as pd

        return cast("pd.DataFrame", self._as(pd.DataFrame, columns, filter))

    def to_arrow(self, columns: Sequence[str] | None = None, filter: Any = None) -> pa.Table:
        """Return the rows, or some of their columns, as an Arrow table; the arguments are those of `to_pandas`."""
        return self._as(pa.Table, columns, filter)

    def to_polars(self, columns: Sequence[str] | None = None, filter: Any = None) -> "pl.DataFrame":
        """Return the rows, or some of their columns, with polars; the arguments are those of `to_pandas`."""
        import polars as pl

        return cast("pl.DataFrame", self._as(pl.DataFrame, columns, filter))

    def scan(self) -> "ds.Dataset":
        """Return a dataset that is read lazily, with projection and filters pushed down."""
        return self._thing.scan()

    def download(self, to: Path | str) -> Path:
        """Copy the Parquet files to this machine's disk and return where they are, each checked by its hash.

        Args:
            to: A folder, or the file to write where there is one file only.
        """
        target = Path(to)
        files = list(self.files.values())
        if len(files) == 1:
            return self._thing.fetch(files[0], _file_at(target, files[0].name))
        target.mkdir(parents=True, exist_ok=True)
        for one in files:
            self._thing.fetch(one, _file_at(target, one.name))
        return target

    def _as(self, wanted: Any, columns: Sequence[str] | None, filter: Any) -> Any:
        from resources.values import value_of

        return value_of(self._thing, wanted, "the dataset was asked for", columns, filter)

    def __repr__(self) -> str:
        return f"<Dataset of {self._thing}: {self.rows:,} rows, {len(self.schema)} columns>"


@dataclass(frozen=True)
class Artifact(Component):
    """A file of a Thing. Nothing is read before it is asked for, and what is read is checked by its hash."""

    thing: Thing | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def of(self) -> Thing:
        """The Thing that it belongs to."""
        return cast("Thing", self.thing)

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
        """
        return self.of.bytes_of(self)

    def open(self) -> IO[bytes]:
        """Open it for reading; a large one passes through a temporary file.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
        """
        if self.size <= _IN_MEMORY:
            return BytesIO(self.read())
        with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
            # An open file outlives its name.
            return self.of.fetch(self, Path(folder, "file")).open("rb")

    def download(self, to: Path | str) -> Path:
        """Copy it to this machine's disk and return where it is.

        Args:
            to: A folder, or the file to write.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
        """
        return self.of.fetch(self, _file_at(Path(to), self.file_name))

    def load(self, trusted_types: Collection[str] = ()) -> Any:
        """Return the value that was logged, as what it was; of a file, what its suffix says it is, else its bytes.

        Args:
            trusted_types: Full names of types that an estimator may hold beside those that skops trusts.

        Raises:
            DamagedThing: If the file is missing, or its bytes are not those that were committed.
            UntrustedModel: If an estimator holds a type that is not on the allow-list.
        """
        from resources.values import decoded

        return decoded(self.form, self.name, self.read(), str(self.of), trusted_types)

    @property
    def file_name(self) -> str:
        """What it is called on a disk: its name, with the suffix of what is in it."""
        suffix = _SUFFIXES.get(self.form or "", ".parquet" if self.form else "")
        return self.name if self.name.endswith(suffix) else f"{self.name}{suffix}"


def download(thing: Thing, to: Path, component: str | None = None) -> list[Path]:
    """Copy the files of a Thing, or one of them, to this machine's disk and return where they are.

    Args:
        thing: The Thing.
        to: The folder to write to; for one file also the file.
        component: Name of an artifact or of a file of the dataset; `dataset`; `embedding`.

    Raises:
        UnknownThing: If it has no such file.
        DamagedThing: If a file is missing, or its bytes are not those that were committed.
    """
    if component is None:
        to.mkdir(parents=True, exist_ok=True)
        wanted: list[Component] = [*thing.files.values(), *thing.artifacts.values()]
        return [thing.fetch(one, _file_at(to, _name_on_disk(one))) for one in wanted]
    if component in thing.artifacts:
        return [thing.artifacts[component].download(to)]
    if component == "dataset":
        return [thing.dataset.download(to)]
    found = next((one for one in thing.components if component in (one.name, one.kind)), None)
    if found is None:
        names = [one.name for one in thing.components]
        raise UnknownThing(
            f"{thing} has no file {component!r}; it has {names}{did_you_mean(component, names)}"
        )
    return [thing.fetch(found, _file_at(to, found.name))]


def _name_on_disk(component: Component) -> str:
    return component.file_name if isinstance(component, Artifact) else component.name


def _file_at(target: Path, name: str) -> Path:
    """Return where a file of some name goes that a person wants at `target`, a folder or a file."""
    path = target
    if target.is_dir():
        # Any text may be a name; one that leads out of the folder is written so that it does not.
        path = target / (name if is_inside(name) and name.isprintable() else encode_name(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def scan_of_pointers(thing: Thing) -> "ds.Dataset":
    """Return a dataset that lies in other lakes, too, whose files are checked by their hashes first.

    Raises:
        DamagedThing: If a file is missing, or its bytes are not those that were committed.
        UnknownLake: If the settings do not name such a lake.
    """
    import pyarrow.dataset as ds

    parts = []
    for name, files in groupby(thing.files.values(), key=lambda one: one.lake):
        several = list(files)
        lake = thing.lake_of(several[0])
        if name is not None:
            for one in several:
                thing.require_whole(one)
        parts.append(lake.dataset([one.path for one in several], thing.schema))
    return parts[0] if len(parts) == 1 else ds.dataset(parts)


def last_good(thing: Thing, component: Component) -> str | None:
    """Return the newest version before `thing` whose file of the same name is whole, looked for in the lake alone."""
    lake = thing.lake_of(component)
    folder = thing.folder.rpartition("/")[0]
    try:
        found = (entry.path for entry in lake.files(folder) if entry.path.endswith(f"/{MANIFEST}"))
        paths = sorted(
            (path for path in found if path.count("/") == thing.folder.count("/") + 1), reverse=True
        )
        for path in [one for one in paths if one.split("/")[-2] < thing.id][:_VERSIONS_LOOKED_AT]:
            older = Thing.from_json(lake.read_bytes(path), lake, path)
            for one in older.components:
                if (one.kind, one.name) == (component.kind, component.name) and older.is_whole(one):
                    return older.id
    except (MlassetsError, LakeError):
        # What is told is the damage that was found first.
        return None
    return None
