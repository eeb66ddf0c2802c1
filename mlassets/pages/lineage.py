"""The lineage of a Thing as a graph and a table: part of the Thing's page, a page of its own, and a file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlassets.pages.drawing import Box, draw, draw_groups
from mlassets.pages.rendering import render, time
from resources.lineage import Lineage, Node
from resources.store import Store

DRAWN = 600
LISTED = 2_000
NEARBY = 300
AT_A_GLANCE = 40
_DEPTHS = (1, 2, 3, 5, 8, 13)

Links = Callable[[str], str]
Counts = Callable[[Sequence[str]], Mapping[str, Mapping[str, int]]]


def lineage_page(lineage: Lineage, links: Links | None = None) -> str:
    """Return a page with the graph of a lineage that opens anywhere: one file, offline, with every name escaped.

    Args:
        lineage: What to show.
        links: Gives the address at which a Thing is shown, if there is one; else its row in the table is.
    """
    return render(
        "lineage.html",
        served=False,
        title=f"Lineage of {lineage[lineage.root]}",
        graph=graph(lineage, links),
        thing=None,
    )


def around(store: Store, thing_id: str) -> tuple[Lineage, bool]:
    """Return what is near a Thing: as far as can be shown at a glance, and whether that is all.

    A source may have led to all that there is; so one step more is looked at only while there are few.
    """
    found = store.lineage(thing_id, depth=_DEPTHS[0])
    for depth in _DEPTHS[1:]:
        if len(found.nodes) > NEARBY:
            return found, False
        further = store.lineage(thing_id, depth=depth)
        if len(further.nodes) == len(found.nodes):
            return found, True
        if len(further.nodes) > NEARBY:
            return found, False
        found = further
    return found, False


def graph(
    lineage: Lineage,
    links: Links | None = None,
    verdicts_of: Counts | None = None,
    drawn: int = DRAWN,
    listed: int = LISTED,
) -> dict[str, Any]:
    """Return what the templates need to show a lineage.

    Args:
        lineage: What to show.
        links: Gives the address at which a Thing is shown.
        verdicts_of: Gives how many verdicts of each kind there are on each of some Things; see
            `mlassets.summaries.counted`.
        drawn: How many Things are drawn at most, the nearest to the one that was asked about, the newest of these.
        listed: How many are listed at most, the nearest, too.
    """
    # Of equal distance the newest first: a lineage has them by age, and sorting is stable.
    newest_first = lineage.nodes[::-1]
    nearest = sorted(newest_first, key=lambda one: (abs(one.depth), one.depth))
    nodes = {one.id: one for one in nearest}
    in_table = {one.id for one in nearest[:listed]}
    in_drawing = {one.id for one in nearest[:drawn]}
    verdicts = verdicts_of(list(in_table | in_drawing)) if verdicts_of else {}
    ordered = sorted(
        nodes.values(),
        key=lambda one: (one.id not in in_drawing, one.step or "", one.partition or "", one.id),
    )
    boxes = [_box(one, lineage.root, links, verdicts.get(one.id, {})) for one in ordered]
    edges = [(edge.based_on, edge.thing_id) for edge in lineage.edges]
    based_on: dict[str, list[str]] = {}
    for edge in lineage.edges:
        based_on.setdefault(edge.thing_id, []).append(edge.based_on)
    return {
        "root": lineage.root,
        "things": draw(boxes[:drawn], edges),
        "groups": draw_groups(boxes, edges) if len(boxes) > AT_A_GLANCE else None,
        "rows": [
            {
                "node": one,
                "href": links(one.id) if links else "",
                "made": time(one.created_at),
                "based_on": [nodes[other] for other in based_on.get(one.id, ())[:20]],
                "more": max(0, len(based_on.get(one.id, ())) - 20),
                "verdicts": verdicts.get(one.id),
            }
            for one in lineage.nodes
            if one.id in in_table
        ],
        "not_drawn": len(nodes) - len(in_drawing),
        "not_listed": len(nodes) - len(in_table),
        "upstream": len(lineage.upstream),
        "downstream": len(lineage.downstream),
    }


def _box(node: Node, root: str, links: Links | None, counts: Mapping[str, int]) -> Box:
    kinds = [f"step-{node.step}" if node.step and node.step.isidentifier() else "step-other"]
    kinds += [node.state] if node.state != "there" else []
    kinds += ["start"] if node.id == root else []
    kinds += ["blocks"] if counts.get("blocking") else ["warns"] if counts.get("warning") else []
    return Box(
        key=node.id,
        title=node.step or "not in this catalog",
        text=node.name or node.partition or "",
        corner=node.short_id,
        kinds=tuple(kinds),
        href=links(node.id) if links and node.state != "missing" else f"#{node.id}",
        group=(node.step or "", node.project or node.source or ""),
    )


def as_json(lineage: Lineage) -> dict[str, Any]:
    """Return a lineage as plain values: the JSON twin of its page."""
    return {
        "root": lineage.root,
        "nodes": [{**vars(one), "short_id": one.short_id} for one in lineage.nodes],
        "edges": [
            {"thing_id": one.thing_id, "based_on": one.based_on, "depth": one.depth} for one in lineage.edges
        ],
    }
