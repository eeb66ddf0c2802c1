"""From one published prediction back to the landed files: which model, which drawn row, which bytes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import and_, or_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.aggregation import SEGMENT
from mlassets.modelling.features import with_target
from mlassets.releasing.release import champion_of, made_from
from mlassets.steps import AGGREGATE, DRAW_DATA, MODEL, MODEL_READY, PUBLISH, REVIEW
from resources.errors import MlassetsError
from resources.lake import LakeUnreachable
from resources.roles import ROW_KEY
from resources.store import Store
from resources.things import Thing
from resources.views import plain

_KEYS_SHOWN = 5
_ROWS_TRACED = 100


class NoSuchRow(MlassetsError):
    """A release has no such prediction, or several."""


@dataclass(frozen=True)
class TracedFile:
    """One landed file of a source.

    Attributes:
        name: Its path in the landing zone.
        hash: BLAKE3 hash of the bytes that landed.
        size: Their number.
        rows: Rows in it.
        matching: How many of these have the values of the drawn rows; None if that cannot be told.
        component: The file of the source that holds its rows as Parquet.
    """

    name: str
    hash: str
    size: int
    rows: int
    matching: int | None
    component: str


@dataclass(frozen=True)
class TracedSource:
    """A source that was drawn from.

    Attributes:
        name: The source.
        thing_id: The version that was read.
        matched_on: The columns by which the rows were found again; empty if they could not be.
        files: The landed files that hold them; all of the version's if the rows could not be found again.
        of: How many landed files the version has.
    """

    name: str
    thing_id: str
    matched_on: tuple[str, ...]
    files: tuple[TracedFile, ...]
    of: int


@dataclass
class Trace:
    """Where one published prediction comes from.

    Attributes:
        project: The project.
        segment: The segment whose model made it.
        row_key: The row's key.
        predictions: The published rows; more than one if the key is not unique.
        things: Id of the Thing of each step, from `publish` back to `draw_data`.
        drawn: The rows as they were drawn, before anything was made of them.
        sources: The sources that were drawn from, with the landed files.
        gaps: What could not be followed, and why; empty if the trace is whole.
    """

    project: str
    segment: str
    row_key: str
    predictions: list[dict[str, Any]]
    things: dict[str, str] = field(default_factory=dict)
    drawn: list[dict[str, Any]] = field(default_factory=list)
    sources: list[TracedSource] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {name: plain(value) for name, value in asdict(self).items()}


def trace(store: Store, project: str, row: Mapping[str, str], release: Thing | None = None) -> Trace:
    """Follow one published prediction back to the landed files.

    Args:
        store: The store.
        project: The project.
        row: Values of the key's columns, as text; or `row_key` itself. `segment` may be among them, and must be where
            several segments have the key.
        release: The release; None means the champion.

    Raises:
        NoSuchRow: If there is no release, or not exactly one segment of it has a row of that key.
        DamagedThing: If the release itself cannot be read.
    """
    found = release or champion_of(store, project)
    if found is None or found.step != PUBLISH:
        raise NoSuchRow(
            f"{project} has no release to trace a row of"
            if found is None
            else f"{found} is no release; give the id of a `publish`"
        )
    segment, key, published = _published(store, found, dict(row))
    traced = Trace(project, segment, key, published.to_pylist(), {PUBLISH: found.id})
    parameters = found.parameters
    traced.things |= {REVIEW: parameters["review"], AGGREGATE: parameters["aggregate"]}
    traced.things[MODEL] = parameters["models"][segment]
    with _noting(traced):
        model = store.get(traced.things[MODEL])
        ready = made_from(store, model, MODEL_READY)
        traced.things[MODEL_READY] = ready.id
        draw = made_from(store, ready, DRAW_DATA)
        traced.things[DRAW_DATA] = draw.id
        drawn: pa.Table | None = None
        with _noting(traced):
            drawn = _drawn(ready, draw, key)
            traced.drawn = drawn.to_pylist()
        for name, thing_id in draw.parameters["sources"].items():
            with _noting(traced):
                source = store.get(thing_id)
                traced.sources.append(_source(traced, name, source, drawn, ready.parameters.get("key", [])))
    return traced


@contextmanager
def _noting(traced: Trace) -> Iterator[None]:
    """Note what cannot be followed, and go on without it: what is left still tells something."""
    try:
        yield
    except LakeUnreachable:
        raise
    except MlassetsError as error:
        traced.gaps.append(str(error))


def _published(store: Store, release: Thing, row: dict[str, str]) -> tuple[str, str, pa.Table]:
    """Return the segment, key and published rows that a row's values mean."""
    asked = row.pop(SEGMENT, None)
    segments = [one for one in release.parameters["models"] if asked in (None, one)]
    if not segments:
        known = ", ".join(sorted(release.parameters["models"]))
        raise NoSuchRow(f"{release} has no segment {asked!r}; it has {known}")
    # Columns of the key may be written in other words than they are joined in, so that they are read as their types.
    keys = {one: _key_of(store, release, one, row) for one in segments}
    wanted = pc.field(ROW_KEY).isin(list(set(keys.values())))
    table = release.table(filter=wanted)
    hits = {one: table.filter(_of(table, one, key)) for one, key in keys.items()}
    hits = {one: rows for one, rows in hits.items() if rows.num_rows}
    if not hits:
        some = release.first_rows(_KEYS_SHOWN, [ROW_KEY])[ROW_KEY].to_pylist()
        raise NoSuchRow(
            f"{release} publishes no prediction for the key {', '.join(sorted(set(keys.values())))!r}. It publishes "
            f"{release.rows or 0:,}, those of the test split, as for {', '.join(map(str, some))}"
        )
    if len(hits) > 1:
        raise NoSuchRow(
            f"the segments {', '.join(sorted(hits))} of {release} all have that key; add {SEGMENT}=…"
        )
    ((segment, rows),) = hits.items()
    return segment, keys[segment], rows


def _of(table: pa.Table, segment: str, key: str) -> pa.ChunkedArray:
    return pc.and_(pc.equal(table[SEGMENT], segment), pc.equal(table[ROW_KEY], key))


def _key_of(store: Store, release: Thing, segment: str, row: Mapping[str, str]) -> str:
    """Return the key as the release has it."""
    if set(row) == {ROW_KEY}:
        return row[ROW_KEY]
    ready = made_from(store, store.get(release.parameters["models"][segment]), MODEL_READY)
    key = ready.parameters.get("key", [])
    if not key:
        raise NoSuchRow(
            f"the project names no key, so its rows are numbered within each draw; give {ROW_KEY}=… and {SEGMENT}=…"
        )
    if set(row) != set(key):
        raise NoSuchRow(
            f"a row is named by {', '.join(key)}, not by {', '.join(sorted(row)) or 'nothing'}; give "
            + " ".join(f"--row {name}=…" for name in key)
        )
    schema = made_from(store, ready, DRAW_DATA).schema
    return "|".join(as_written(row[name], schema.field(name).type if schema else pa.string()) for name in key)


def as_written(text: str, kind: pa.DataType) -> str:
    """Return a value as it stands within a key: `2013-01-01T05` as its column's type writes it."""
    # A time without a zone is meant as the column's: Arrow reads it only with one.
    for given in (text, f"{text}Z"):
        with suppress(pa.ArrowException):
            return str(pc.cast(pc.cast(pa.scalar(given), _plain_type(kind)), pa.string()).as_py())
    return text


def _drawn(ready: Thing, draw: Thing, key: str) -> pa.Table:
    """Return the drawn rows that a key stands for."""
    how = ready.parameters
    marked = draw.table([how["target"]])
    numbered = marked.append_column("number", pa.array(range(marked.num_rows), pa.int64()))
    kept = with_target(numbered, target=how["target"], task=how["task"], positive=how.get("positive"))
    # Rows of the model-ready table are in the order of the draw.
    same = pc.equal(ready.table([ROW_KEY])[ROW_KEY], key)
    positions = kept["number"].filter(same).slice(0, _ROWS_TRACED)
    with _reading(draw):
        return draw.scan().take(positions.combine_chunks())


def _source(
    traced: Trace, name: str, source: Thing, drawn: pa.Table | None, key: Sequence[str]
) -> TracedSource:
    """Return the landed files of a source, narrowed to those that hold the drawn rows if these are found again."""
    landed: list[dict[str, Any]] = source.parameters["files"]
    matched: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    if drawn is not None:
        with _noting(traced):
            matched, counts = _found_again(source, drawn, key)
    files = [
        TracedFile(
            one["name"],
            one["hash"],
            one["size"],
            one["rows"],
            counts.get(one["component"], 0) if matched else None,
            one["component"],
        )
        for one in landed
        if not matched or counts.get(one["component"])
    ]
    return TracedSource(name, source.id, matched, tuple(files), len(landed))


def _found_again(
    source: Thing, drawn: pa.Table, key: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return by which columns rows are found again, and how many of them each file of the source holds."""
    shared = tuple(_shared(source.schema, drawn)) if source.schema is not None else ()
    # A draw may have changed a column under its own name; the key is what it changes least.
    for columns in dict.fromkeys((shared, tuple(one for one in key if one in shared))):
        if columns:
            condition = _condition(drawn.select(list(columns)), source.schema)
            counts = {name: count for name, count in _counts(source, condition).items() if count}
            if counts:
                return columns, counts
    return (), {}


def _shared(schema: pa.Schema, drawn: pa.Table) -> Iterator[str]:
    """Yield the columns of drawn rows that a source has, too, and whose values it can be searched for."""
    for name in drawn.column_names:
        if name not in schema.names or pa.types.is_nested(_plain_type(schema.field(name).type)):
            continue
        # If it is of another type in the source, the draw may have made something else of it.
        with suppress(pa.ArrowException):
            pc.cast(_decoded(drawn[name]), _plain_type(schema.field(name).type))
            yield name


def _condition(drawn: pa.Table, schema: pa.Schema) -> pc.Expression:
    """Return the condition that a row of a source has the values of one of the drawn rows."""
    columns = {
        name: pc.cast(_decoded(drawn[name]), _plain_type(schema.field(name).type))
        for name in drawn.column_names
    }
    rows = [
        reduce(and_, (_term(name, column[number]) for name, column in columns.items()))
        for number in range(drawn.num_rows)
    ]
    return reduce(or_, rows)


def _term(name: str, value: pa.Scalar) -> pc.Expression:
    if not value.is_valid:
        return pc.field(name).is_null()
    if pa.types.is_floating(value.type) and value.as_py() != value.as_py():
        return pc.is_nan(pc.field(name))
    return pc.field(name) == value


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _counts(source: Thing, condition: pc.Expression) -> dict[str, int]:
    """Return how many rows of each file of a source meet a condition; its statistics spare most of the reading."""
    import pyarrow.dataset as ds

    names = {component.path: name for name, component in source.files.items()}
    found: dict[str, int] = {}
    with _reading(source):
        for fragment in source.scan().get_fragments():
            parts = fragment.path.split("/")
            ends = ("/".join(parts[start:]) for start in range(len(parts)))
            name = next(names[end] for end in ends if end in names)
            alone = ds.FileSystemDataset([fragment], source.schema, fragment.format)
            found[name] = alone.count_rows(filter=condition)
    return found


@contextmanager
def _reading(thing: Thing) -> Iterator[None]:
    """Name the file that is damaged, if that is why a Thing cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError):
        thing.check_files()
        raise
