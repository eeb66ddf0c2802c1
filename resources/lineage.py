"""What a Thing was made from, and what was made from it, to any depth and across projects.

The catalog walks the edges in one statement; what it returns is put in order here. A Thing whose upstream was retired,
removed or never came along with a copy still says what that was: an edge stays, whatever becomes of its ends.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import sqlalchemy as sa

from resources.catalog import EDGES, THINGS, Catalog
from resources.errors import MlassetsError
from resources.things import Edge

if TYPE_CHECKING:
    import pandas as pd

State = Literal["there", "retired", "removed", "missing"]

_IDS_PER_QUERY = 500
_DESCRIBED = (
    "step",
    "partition",
    "project",
    "segment",
    "source",
    "name",
    "created_at",
    "user",
    "host",
    "run_id",
    "code_version",
    "data_version",
    "retired_at",
    "removed_at",
)


class BadLineage(MlassetsError):
    """A lineage cannot be asked for like this."""


@dataclass(frozen=True)
class Node:
    """One Thing of a lineage, as far as the catalog knows it.

    Attributes:
        id: Its id.
        depth: How many steps it is away from the Thing that was asked about: negative upstream, positive downstream.
        state: `there`; `retired`; `removed`, so that its bytes are gone and its manifest is not; `missing`, so that
            this catalog knows nothing of it but its id.
        step: The step that made it; None if it is missing, as everything below then is.
        partition: Key of its partition.
        project: Its project, if it has one.
        segment: Its segment, if it has one.
        source: Its source, if it is one.
        name: Its name, if it was uploaded under one.
        created_at: When it was committed.
        user: Who made it.
        host: On which machine.
        run_id: In which run.
        code_version: Version of the code that made it.
        data_version: Hash of its content.
        retired_at: When it was retired.
        removed_at: When its bytes were removed.
    """

    id: str
    depth: int
    state: State
    step: str | None = None
    partition: str | None = None
    project: str | None = None
    segment: str | None = None
    source: str | None = None
    name: str | None = None
    created_at: str | None = None
    user: str | None = None
    host: str | None = None
    run_id: str | None = None
    code_version: str | None = None
    data_version: str | None = None
    retired_at: str | None = None
    removed_at: str | None = None

    @property
    def short_id(self) -> str:
        """The first characters of the last group of its id: enough to tell it from others."""
        return self.id.rpartition("-")[2][:8]

    def __str__(self) -> str:
        what = f"{self.step} of {self.partition}" if self.step else "a Thing that is not in this catalog"
        return f"{what} ({self.id})" + ("" if self.state in ("there", "missing") else f", {self.state}")


@dataclass(frozen=True)
class Lineage:
    """The Things around one Thing, and the edges between them.

    Attributes:
        root: Id of the Thing that was asked about.
        nodes: All Things, the furthest upstream first, those of equal distance by age.
        edges: All edges between them, nearest to the root first.
    """

    root: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def __getitem__(self, thing_id: str) -> Node:
        """Return the node of a Thing.

        Raises:
            KeyError: If the Thing is not in the lineage.
        """
        return self._by_id()[thing_id]

    def _by_id(self) -> dict[str, Node]:
        return {one.id: one for one in self.nodes}

    @property
    def upstream(self) -> tuple[Node, ...]:
        """What the Thing was made from, nearest first."""
        return tuple(sorted((one for one in self.nodes if one.depth < 0), key=lambda one: -one.depth))

    @property
    def downstream(self) -> tuple[Node, ...]:
        """What was made from the Thing, nearest first."""
        return tuple(one for one in self.nodes if one.depth > 0)

    def to_arrow(self) -> pa.Table:
        """Return a row for each Thing, with the ids of what it is based on as a list."""
        based_on: dict[str, list[str]] = defaultdict(list)
        for edge in self.edges:
            based_on[edge.thing_id].append(edge.based_on)
        rows = [{**asdict(one), "short_id": one.short_id, "based_on": based_on[one.id]} for one in self.nodes]
        text = ["id", "short_id", "state", *_DESCRIBED]
        schema = pa.schema(
            [
                *(pa.field(name, pa.string()) for name in text[:2]),
                pa.field("depth", pa.int32()),
                *(pa.field(name, pa.string()) for name in text[2:]),
                pa.field("based_on", pa.list_(pa.string())),
            ]
        )
        return pa.Table.from_pylist(rows, schema=schema)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the same rows as a pandas frame."""
        return self.to_arrow().to_pandas()

    def mermaid(self) -> str:
        """Return the lineage as a Mermaid flow chart, which GitHub, GitLab and notebooks draw; names are escaped."""
        names = {one.id: f"t{number}" for number, one in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for one in self.nodes:
            words = [_shown(one.step or "not in this catalog"), _shown(one.partition or one.id)]
            words.append(_shown(one.short_id if one.state == "there" else f"{one.short_id}, {one.state}"))
            lines.append(f'    {names[one.id]}["{"<br/>".join(words)}"]')
        lines += [f"    {names[edge.based_on]} --> {names[edge.thing_id]}" for edge in self.edges]
        lines.append("    classDef asked stroke-width:3px")
        lines.append("    classDef gone stroke-dasharray:4 4")
        lines.append(f"    class {names[self.root]} asked")
        gone = [names[one.id] for one in self.nodes if one.state != "there"]
        if gone:
            lines.append(f"    class {','.join(gone)} gone")
        return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    """Return text as it may stand within a quoted label of Mermaid: what is no letter or digit as its code."""
    cut = text if len(text) <= 80 else f"{text[:79]}…"
    return re.sub(r"[^\w \-.,:|…]", lambda found: f"#{ord(found[0])};", cut)


def lineage(
    catalog: Catalog,
    thing_id: str,
    *,
    upstream: bool = True,
    downstream: bool = True,
    depth: int | None = None,
) -> Lineage:
    """Return the Things around one Thing, in either direction or both.

    Args:
        catalog: The catalog.
        thing_id: The Thing's id.
        upstream: What it was made from.
        downstream: What was made from it.
        depth: How many steps to go; None means all.

    Raises:
        BadLineage: If the depth is less than 1.
    """
    if depth is not None and depth < 1:
        raise BadLineage(
            f"a lineage of depth {depth} has nothing in it; give 1 or more, or none for all of it"
        )
    distances = {thing_id: 0}
    edges: dict[tuple[str, str], Edge] = {}
    for wanted, sign in ((upstream, -1), (downstream, 1)):
        if wanted:
            for edge in edges_from(catalog, thing_id, depth, downstream=sign > 0):
                edges.setdefault((edge.thing_id, edge.based_on), edge)
                distances.setdefault(edge.thing_id if sign > 0 else edge.based_on, sign * edge.depth)
    known = catalog.read(lambda connection: _described(connection, list(distances)))
    nodes = [_node(one, distance, known.get(one)) for one, distance in distances.items()]
    nodes.sort(key=lambda one: (one.depth, one.created_at or "", one.id))
    return Lineage(thing_id, tuple(nodes), tuple(edges.values()))


def edges_from(catalog: Catalog, start: str, depth: int | None = None, *, downstream: bool) -> list[Edge]:
    """Return every edge that is reached from a Thing in one direction, nearest first; one statement finds them."""
    found = catalog.read(lambda connection: _walk(connection, start, depth, downstream))
    return _by_distance(start, found, depth, downstream=downstream)


def _walk(
    connection: sa.Connection, start: str, depth: int | None, downstream: bool
) -> list[tuple[str, str]]:
    """Return every edge (Thing, what it is based on) that is reached from a Thing, in one statement."""
    here, there = (EDGES.c.based_on, EDGES.c.thing_id) if downstream else (EDGES.c.thing_id, EDGES.c.based_on)
    first = sa.select(there.label("id"), sa.literal(1).label("away")).where(here == start)
    if depth is None:
        reached = first.with_only_columns(there.label("id")).cte("reached", recursive=True)
        # UNION drops what was reached before: a Thing that can be reached on a million paths is followed once.
        near = reached.union(sa.select(there).where(here == reached.c.id))
    else:
        steps = first.cte("steps", recursive=True)
        # Once for each distance at most.
        steps = steps.union(
            sa.select(there, steps.c.away + 1).where(here == steps.c.id, steps.c.away + 1 < depth)
        )
        near = sa.select(steps.c.id).where(steps.c.away < depth).distinct().cte("near")
    both = (EDGES.c.thing_id, EDGES.c.based_on)
    query = sa.union(sa.select(*both).where(here == start), sa.select(*both).where(here == near.c.id))
    return [(row.thing_id, row.based_on) for row in connection.execute(query)]


def _by_distance(
    start: str, pairs: Sequence[tuple[str, str]], depth: int | None, *, downstream: bool
) -> list[Edge]:
    """Return the edges with their distance from the start, nearest first, and otherwise in order of ids."""
    nearby: dict[str, list[str]] = defaultdict(list)
    for thing, other in sorted(pairs):
        nearby[other if downstream else thing].append(thing if downstream else other)
    found: list[Edge] = []
    seen = {start}
    front = [start]
    level = 0
    while front and (depth is None or level < depth):
        level += 1
        following: dict[str, None] = {}
        for one in sorted(front):
            for other in nearby[one]:
                found.append(Edge(other, one, level) if downstream else Edge(one, other, level))
                following[other] = None
        front = [one for one in following if one not in seen]
        seen.update(front)
    return found


def _described(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    columns = [THINGS.c.id, *(THINGS.c[name] for name in _DESCRIBED)]
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _IDS_PER_QUERY):
        query = sa.select(*columns).where(THINGS.c.id.in_(ids[start : start + _IDS_PER_QUERY]))
        found |= {row.id: row._mapping for row in connection.execute(query)}
    return found


def _node(thing_id: str, depth: int, row: Mapping[str, Any] | None) -> Node:
    if row is None:
        return Node(thing_id, depth, "missing")
    state: State = "removed" if row["removed_at"] else "retired" if row["retired_at"] else "there"
    return Node(thing_id, depth, state, **{name: row[name] for name in _DESCRIBED})


def upstream_of(connection: sa.Connection, starts: sa.Select[Any] | Sequence[str]) -> Iterator[str]:
    """Yield the ids of some Things, given as a query or one by one, and those of all that these were made from."""
    if not isinstance(starts, sa.Select):
        for some in range(0, len(starts), _IDS_PER_QUERY):
            ids = sa.select(THINGS.c.id).where(THINGS.c.id.in_(starts[some : some + _IDS_PER_QUERY]))
            yield from upstream_of(connection, ids)
        return
    needed = starts.cte("needed", recursive=True)
    needed = needed.union(sa.select(EDGES.c.based_on).where(EDGES.c.thing_id == needed.c.id))
    cursor: Any = connection.execute(sa.select(needed)).cursor
    yield from (one for (one,) in cursor.fetchall())
