"""The bundle of a release: everything needed to predict, in one zip file, without a store, a catalog or a home.

    release.json                  what it is: project, target, and for each segment how raw rows become features
    segments/<number>/model.skops

`load_bundle("bundle.zip").predict(frame, segment="EWR")` takes rows as the draw returns them. Nothing is unpickled:
models are loaded through skops with an allow-list of types, after their hashes were compared.
"""

import base64
import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from mlassets.modelling.features import prepare_rows
from mlassets.modelling.metrics import TASKS, Task
from resources.errors import MlassetsError
from resources.lake import hash_bytes

if TYPE_CHECKING:
    from mlassets.projects import ProjectSpec
    from resources.things import Thing

RELEASE_FILE = "release.json"
MODEL_FILE = "model.skops"
FORMAT = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LARGEST_ABOUT = 100_000_000
_LARGEST_MODEL = 4_000_000_000
_DECIDING_PACKAGES = ("scikit-learn", "numpy")


class BadBundle(MlassetsError):
    """bundle.zip is no bundle of a release, or not as it was published; fetch it again."""


class UnknownSegment(MlassetsError):
    """A bundle has no model of this segment."""


class UnusableRows(MlassetsError):
    """The rows lack a column that the model reads, or hold values that cannot be read as they were in the draw."""


class OtherPackages(UserWarning):
    """Predictions may differ in their last digits: this release was made with other versions of packages."""


@dataclass(frozen=True)
class _Segment:
    name: str
    file: str
    hash: str | None
    prepare: Mapping[str, Any] | None


def _check_segment(one: _Segment) -> None:
    """Refuse a segment that lacks what every one has since format 2.

    Raises:
        ValueError: If something is missing.
        TypeError: If something is of another type than it should be.
    """
    if not isinstance(one.hash, str) or one.prepare is None:
        raise ValueError(
            f"it does not say how rows of {one.name!r} are prepared, or what its model's hash is"
        )
    types = _types(one.prepare)
    for name in (*_read_by(one.prepare), *one.prepare["key"]):
        if name not in types:
            raise ValueError(f"it does not say of which type {name!r} is")
    if any(
        how["kind"] not in ("numeric", "categorical", "boolean") for how in _made_by(one.prepare).values()
    ):
        raise ValueError(f"a feature of {one.name!r} is of no kind of ours")


class Bundle:
    """A release that was loaded from its bundle.

    Attributes:
        about: All that `release.json` says.
    """

    def __init__(self, data: bytes, where: str = "the bundle") -> None:
        """Look into a bundle; models are loaded when they are needed.

        Raises:
            BadBundle: If it is none, was cut short, or is of a newer format.
        """
        self._data, self._where = data, where
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if archive.getinfo(RELEASE_FILE).file_size > _LARGEST_ABOUT:
                    raise ValueError(f"{RELEASE_FILE} is too large")
                about = json.loads(archive.read(RELEASE_FILE))
                names = set(archive.namelist())
            self.about: Mapping[str, Any] = about
            number = about.get("format", 1)
            segments = [
                _Segment(one["segment"], one["file"], one.get("hash"), one.get("prepare"))
                for one in about["segments"]
            ]
            self._segments = {one.name: one for one in segments}
            if about["target"]["task"] not in TASKS or not isinstance(about["project"], str):
                raise ValueError("it names no project or no task")
            if missing := [one.file for one in segments if one.file not in names]:
                raise ValueError(f"it lacks {missing[0]}")
            if isinstance(number, int) and 1 < number <= FORMAT:
                for one in segments:
                    _check_segment(one)
        except (
            zipfile.BadZipFile,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            NotImplementedError,
            EOFError,
        ) as error:
            raise BadBundle(
                f"{where} is no bundle of a release, or is damaged ({error}); fetch `bundle.zip` of the release again"
            ) from error
        if not isinstance(number, int) or number > FORMAT:
            raise BadBundle(
                f"{where} has the format {number}, newer than this mlassets knows ({FORMAT}); upgrade mlassets"
            )
        self._estimators: dict[str, Any] = {}

    @property
    def project(self) -> str:
        """The project that was released."""
        return str(self.about["project"])

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments that have a model."""
        return tuple(sorted(self._segments))

    @property
    def target(self) -> str:
        """The column that is predicted."""
        return str(self.about["target"]["column"])

    @property
    def task(self) -> Task:
        """What the target is."""
        task: Task = self.about["target"]["task"]
        return task

    def takes_raw_rows(self, segment: str | None = None) -> bool:
        """Say whether `predict` works: a release of an older mlassets takes model-ready rows only.

        Raises:
            UnknownSegment: If there is no such segment.
        """
        return self._one(segment).prepare is not None

    def columns(self, segment: str | None = None) -> dict[str, pa.DataType]:
        """Return the columns of raw rows that the model of a segment reads, with their types.

        Raises:
            UnknownSegment: If there is no such segment.
        """
        prepare = self._prepare(self._one(segment))
        return {name: kind for name, kind in _types(prepare).items() if name in _read_by(prepare)}

    def predict(self, rows: Any, segment: str | None = None) -> Any:
        """Predict raw rows, as the project's draw returns them.

        Columns that the model does not read (the target among them) are passed over. A category that was not there
        when the model was trained counts as a rare one; a null counts as missing, as in training. Values are
        converted to the types that the draw had where that loses nothing.

        Args:
            rows: A table of pyarrow, pandas or polars.
            segment: Which segment's model to use; may be left out if there is only one.

        Returns:
            One row for each of `rows`, in their order, as the library gave them: `row_key` (the key columns joined by
            `|`, or the row's number if the project has none or one is missing), `prediction`, and for a
            classification the probabilities.

        Raises:
            UnknownSegment: If there is no such segment, or several and none was named.
            UnusableRows: If a column is missing, or holds what cannot be read as it was in the draw.
            BadBundle: If the model is not what was published.
        """
        one = self._one(segment)
        prepare = self._prepare(one)
        table = _table_of(rows)
        named = set(prepare["key"]) <= set(table.column_names)
        ready = prepare_rows(
            self._cast(table, prepare, one.name),
            transformations=prepare["transformations"],
            key=prepare["key"] if named else (),
        )
        return _like(rows, self.predict_ready(ready, one.name))

    def predict_ready(self, rows: pa.Table, segment: str | None = None) -> pa.Table:
        """Predict model-ready rows: features with their roles, as the step model_ready makes them.

        Raises:
            UnknownSegment: If there is no such segment.
            BadBundle: If the model is not what was published.
        """
        from mlassets.modelling.prediction import predict_rows

        return predict_rows(self._estimator(self._one(segment)), rows, self.task)

    def _one(self, segment: str | None) -> _Segment:
        if segment is None and len(self._segments) == 1:
            return next(iter(self._segments.values()))
        found = self._segments.get(segment) if isinstance(segment, str) else None
        if found is None:
            what = "several models, so name a segment" if segment is None else f"no model of {segment!r}"
            raise UnknownSegment(f"{self._where} has {what}; it has {', '.join(self.segments)}")
        return found

    def _prepare(self, one: _Segment) -> Mapping[str, Any]:
        if one.prepare is None:
            raise BadBundle(
                f"{self._where} was published by an older mlassets and takes model-ready rows only (`predict_ready`); "
                "publish the project again"
            )
        return one.prepare

    def _estimator(self, one: _Segment) -> Any:
        from mlassets.modelling.persistence import load_estimator

        if one.name not in self._estimators:
            self._warn_of_other_packages()
            try:
                with zipfile.ZipFile(io.BytesIO(self._data)) as archive:
                    if archive.getinfo(one.file).file_size > _LARGEST_MODEL:
                        raise ValueError("it is too large")
                    data = archive.read(one.file)
            except (zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, EOFError) as error:
                raise BadBundle(
                    f"{one.file} in {self._where} is damaged ({error}); fetch it again"
                ) from error
            if one.hash is not None and hash_bytes(data) != one.hash:
                raise BadBundle(
                    f"{one.file} in {self._where} is not what was published: its bytes do not match their hash. It was "
                    "not loaded; fetch the bundle again"
                )
            self._estimators[one.name] = load_estimator(data)
        return self._estimators[one.name]

    @cached_property
    def other_packages(self) -> dict[str, tuple[str, str]]:
        """Packages that decide on the last digits, and are of another version here: theirs and ours."""
        here = packages()
        made_with: Mapping[str, str] = self.about.get("packages", {})
        return {
            name: (version, here.get(name, "none"))
            for name, version in made_with.items()
            if here.get(name) != version
        }

    def _warn_of_other_packages(self) -> None:
        if not self._estimators and self.other_packages:
            told = ", ".join(
                f"{name} {theirs} (here {ours})" for name, (theirs, ours) in self.other_packages.items()
            )
            warnings.warn(
                f"{self._where} was published with {told}; predictions may differ, or the model may not load",
                OtherPackages,
                stacklevel=5,
            )

    def _cast(self, table: pa.Table, prepare: Mapping[str, Any], segment: str) -> pa.Table:
        """Return the columns that are read, each as the type that the draw had.

        Raises:
            UnusableRows: If one is missing, occurs twice, or cannot be read so.
        """
        types, names = _types(prepare), table.column_names
        wanted = _read_by(prepare)
        if missing := [name for name in wanted if name not in names]:
            raise UnusableRows(
                f"the rows lack {', '.join(missing)}, which the model of {segment} reads; they have "
                f"{', '.join(names) or 'no column'}. Give what the draw returns, with nulls where a value is unknown"
            )
        if twice := [name for name in wanted if names.count(name) > 1]:
            raise UnusableRows(f"the rows have the column {twice[0]!r} twice; keep one")
        there = [*wanted, *(name for name in prepare["key"] if names.count(name) == 1 and name not in wanted)]
        columns = {name: _as_drawn(table[name], types[name], name) for name in there}
        return pa.table(columns) if columns else table.select([])


def load_bundle(bundle: "bytes | str | Path | IO[bytes]") -> Bundle:
    """Load a release from its bundle: a path, an open file, or its bytes.

    Raises:
        BadBundle: If it cannot be read, or is no bundle.
    """
    if isinstance(bundle, bytes):
        return Bundle(bundle)
    if isinstance(bundle, (str, Path)):
        try:
            return Bundle(Path(bundle).read_bytes(), str(bundle))
        except OSError as error:
            raise BadBundle(f"{bundle} cannot be read: {error.strerror}") from error
    return Bundle(bundle.read())


def make_bundle(
    spec: "ProjectSpec",
    models: Mapping[str, "Thing"],
    ready: Mapping[str, "Thing"],
    draws: Mapping[str, "Thing"],
) -> bytes:
    """Return the models and what they need as one zip file; equal models give equal bytes.

    Args:
        spec: The project.
        models: Its models by segment.
        ready: What each was trained on.
        draws: The rows that this was made from.
    """
    segments, contents = [], {}
    for number, (name, thing) in enumerate(sorted(models.items())):
        file, data = f"segments/{number}/{MODEL_FILE}", thing.artifact(MODEL_FILE)
        contents[file] = data
        segments.append(
            {
                "segment": name,
                # Not the model's id, which no two runs share: the parameters of the release hold the ids.
                "model": thing.data_version,
                "file": file,
                "hash": hash_bytes(data),
                "prepare": _preparation(ready[name], draws[name]),
            }
        )
    about = {
        "format": FORMAT,
        "project": spec.project,
        "description": spec.description,
        "target": spec.target.model_dump(mode="json"),
        "packages": {name: version for name, version in packages().items() if name in _DECIDING_PACKAGES},
        "segments": segments,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, RELEASE_FILE, json.dumps(about, indent=2).encode())
        for file, data in contents.items():
            _add(archive, file, data)
    return buffer.getvalue()


def packages() -> dict[str, str]:
    """Return the versions of the packages that decide on the last digits of a prediction."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _DECIDING_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _preparation(ready: "Thing", draw: "Thing") -> dict[str, Any]:
    """Return how raw rows become features: what model_ready did, and the types that it found."""
    parameters, schema = ready.parameters, draw.schema
    assert schema is not None, "a draw has rows"
    key = list(parameters["key"])
    used = [*dict.fromkeys([*(one["from"] for one in parameters["transformations"].values()), *key])]
    # Without the metadata, which differs with how the rows were drawn.
    kept = pa.schema([pa.field(name, schema.field(name).type) for name in used])
    return {
        "transformations": parameters["transformations"],
        "key": key,
        "columns": {field.name: str(field.type) for field in kept},
        "schema": base64.b64encode(kept.serialize()).decode(),
    }


def _types(prepare: Mapping[str, Any]) -> dict[str, pa.DataType]:
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(prepare["schema"])))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"the types of its rows cannot be read: {error}") from error
    return {field.name: field.type for field in schema}


def _made_by(prepare: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    made: Mapping[str, Mapping[str, str]] = prepare["transformations"]
    return made


def _read_by(prepare: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(one["from"] for one in _made_by(prepare).values()))


def _as_drawn(column: pa.ChunkedArray, wanted: pa.DataType, name: str) -> pa.ChunkedArray:
    """Return a column as the type it had in the draw.

    Raises:
        UnusableRows: If that would lose something, or the values cannot be read so.
    """
    if pa.types.is_dictionary(wanted):
        wanted = wanted.value_type
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type.equals(wanted):
        return column
    zones = [getattr(kind, "tz", None) for kind in (wanted, column.type)]
    if (
        pa.types.is_timestamp(wanted)
        and pa.types.is_timestamp(column.type)
        and bool(zones[0]) != bool(zones[1])
    ):
        raise UnusableRows(
            f"the column {name!r} has times {f'in the zone {zones[1]}' if zones[1] else 'without a time zone'}, and in "
            f"the draw they were {f'in the zone {zones[0]}' if zones[0] else 'without one'}; convert them first"
        )
    try:
        # A finer unit of time may be cut: features are made of nothing below the minute.
        timely = pa.types.is_timestamp(wanted) and pa.types.is_timestamp(column.type)
        return column.cast(wanted, safe=not timely)
    except (pa.ArrowException, ValueError) as error:
        raise UnusableRows(
            f"the column {name!r} holds {column.type} and cannot be read as {wanted}, which it was in the draw "
            f"({' '.join(str(error).split())[:200]}); convert it first"
        ) from error


def _table_of(rows: Any) -> pa.Table:
    """Return rows of any of the libraries as an Arrow table.

    Raises:
        UnusableRows: If they are none, or a column holds values of several kinds.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pa.RecordBatchReader):
        return rows.read_all()
    library = type(rows).__module__.partition(".")[0]
    try:
        if library == "polars":
            return (rows.collect() if hasattr(rows, "collect") else rows).to_arrow()
        if library == "pandas" and hasattr(rows, "columns"):
            if twice := sorted({str(name) for name in rows.columns if list(rows.columns).count(name) > 1}):
                raise UnusableRows(f"the rows have the column {twice[0]!r} twice; keep one")
            return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise UnusableRows(f"the rows cannot be read: {' '.join(map(str, error.args))}") from error
    raise UnusableRows(f"rows are a table of pyarrow, pandas or polars, not a {type(rows).__name__}")


def _like(rows: Any, table: pa.Table) -> Any:
    """Return a table as the library has it that the rows came in."""
    library = type(rows).__module__.partition(".")[0]
    if library == "pandas":
        return table.to_pandas().set_index(rows.index)
    if library == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # A fixed time and no compression: equal content gives equal bytes; models are compressed already.
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def predict(bundle: bytes, rows: pa.Table, segment: str) -> pa.Table:
    """Predict model-ready rows with the model of one segment of a bundle; see `Bundle.predict_ready`."""
    return Bundle(bundle).predict_ready(rows, segment)
