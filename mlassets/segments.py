"""Which segments a project has: those its spec lists, or those its data names."""

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.projects import ProjectSpec
from mlassets.steps import SOURCES
from resources.errors import MlassetsError
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition, Thing

MOST_SEGMENTS = 10_000


class UnknownSegmentColumn(MlassetsError):
    """late-flights: no source has the segment column `orign`; flights has origin, dest, …"""


class BadSegmentColumn(MlassetsError):
    """late-flights: the column `tags` cannot name segments: it holds list<item: string>."""


class TooManySegments(MlassetsError):
    """late-flights: the column `flight` has 51,000 values; segments are meant to be at most 10,000."""


def segments_of(spec: ProjectSpec, seen: Store | Snapshot) -> list[str] | None:
    """Return the names of the project's segments, sorted; None while no data has landed that names them.

    Rows without a value, or with empty text, belong to no segment.

    Args:
        spec: The project's spec.
        seen: The store, or a look at it.

    Raises:
        UnknownSegmentColumn: If the landed sources have no such column.
        BadSegmentColumn: If its values are neither text, numbers, dates nor booleans.
        TooManySegments: If the column has more than `MOST_SEGMENTS` values.
    """
    if spec.segments.values is not None:
        return sorted(spec.segments.values)
    column = spec.segments.column
    assert column is not None, "a spec gives either values or a column"
    names = [spec.segments.source] if spec.segments.source else list(spec.sources)
    landed = [thing for name in names if (thing := seen.latest(SOURCES, Partition.source(name))) is not None]
    for thing in landed:
        if thing.schema is not None and column in thing.schema.names:
            return list(_named(thing, column, spec.project))
    if len(landed) < len(names):
        return None
    known = ", ".join(
        sorted({name for thing in landed for name in (thing.schema.names if thing.schema else ())})
    )
    raise UnknownSegmentColumn(
        f"{spec.project}: no source has the segment column `{column}`; the columns are {known}. "
        "Correct `segments: {column: …}` in its spec."
    )


def _named(thing: Thing, column: str, project: str) -> tuple[str, ...]:
    try:
        names = _values(thing, column)
    except pa.ArrowException as error:
        kind = thing.schema.field(column).type if thing.schema else "nothing"
        raise BadSegmentColumn(
            f"{project}: the column `{column}` cannot name segments: it holds {kind} ({error}). Choose a "
            "column of text, numbers or dates, or list the segments that matter."
        ) from None
    if len(names) > MOST_SEGMENTS:
        raise TooManySegments(
            f"{project}: the column `{column}` has {len(names):,} values; a project may have {MOST_SEGMENTS:,} "
            "segments. Choose a coarser column, or list the segments that matter."
        )
    return names


@lru_cache(maxsize=256)
def _values(thing: Thing, column: str) -> tuple[str, ...]:
    values = thing.table(columns=[column]).column(column)
    return tuple(sorted(set(pc.cast(values.unique().drop_null(), "string").to_pylist()) - {""}))
