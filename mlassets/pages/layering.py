"""Where the nodes of a lineage graph stand: in layers from left to right, with few crossings and short edges.

The usual three passes for layered graphs: layers by the longest path, the order within each by the medians of its
neighbours, then heights that bring each node as near to its neighbours as the order allows. No library does it:
networkx has the layers but not the order, plotly draws but does not place, and what does both (Graphviz, pyvis and its
vis.js) is a program of its own or half a megabyte of script for every page.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Generic, TypeVar

_SWEEPS = 12
_CALM = 10
_BEND = 0.35

Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True)
class Layout(Generic[Node]):
    """A layered drawing.

    Attributes:
        places: Layer, from 0, and height of each node; two nodes of a layer are at least 1 apart.
        bends: The places where each edge, from upstream to downstream, passes the layers between its ends.
        layers: Number of layers.
        height: The largest height.
    """

    places: Mapping[Node, tuple[int, float]]
    bends: Mapping[tuple[Node, Node], Sequence[tuple[int, float]]]
    layers: int
    height: float


def lay_out(nodes: Sequence[Node], edges: Iterable[tuple[Node, Node]]) -> Layout[Node]:
    """Place the nodes of an acyclic graph.

    Args:
        nodes: The nodes, in the order that they keep where nothing else speaks for another one.
        edges: Pairs of upstream and downstream node; those with an end elsewhere, or that close a circle, are left out.
    """
    known = set(nodes)
    given = list(dict.fromkeys((a, b) for a, b in edges if a in known and b in known and a != b))
    layers_of, kept = layered(nodes, given)
    # What passes a layer takes a place in it, so that no edge runs through a node.
    chains: dict[tuple[Node, Node], list[int]] = {}
    numbers = {node: number for number, node in enumerate(nodes)}
    layer = [layers_of[node] for node in nodes]
    links: list[tuple[int, int]] = []
    for upstream, downstream in kept:
        chain = [numbers[upstream]]
        for between in range(layers_of[upstream] + 1, layers_of[downstream]):
            layer.append(between)
            chain.append(len(layer) - 1)
        chain.append(numbers[downstream])
        chains[upstream, downstream] = chain
        links += pairwise(chain)
    before: dict[int, list[int]] = defaultdict(list)
    after: dict[int, list[int]] = defaultdict(list)
    for left, right in links:
        after[left].append(right)
        before[right].append(left)
    columns: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for number, column in enumerate(layer):
        columns[column].append(number)
    columns = _ordered(columns, before, after)
    heights = _heights(
        columns, before, after, [1.0 if one < len(nodes) else _BEND for one in range(len(layer))]
    )
    return Layout(
        {node: (layer[number], heights[number]) for node, number in numbers.items()},
        {edge: [(layer[one], heights[one]) for one in chain[1:-1]] for edge, chain in chains.items()},
        len(columns),
        max(heights.values(), default=0.0),
    )


def layered(
    nodes: Sequence[Node], edges: Sequence[tuple[Node, Node]]
) -> tuple[dict[Node, int], list[tuple[Node, Node]]]:
    """Return the layer of each node, and those of the edges that go from a lower one to a higher: all but circles.

    Args:
        nodes: The nodes.
        edges: Pairs of upstream and downstream node, both of them among the nodes.
    """
    after: dict[Node, list[Node]] = defaultdict(list)
    waits: dict[Node, int] = dict.fromkeys(nodes, 0)
    for upstream, downstream in edges:
        after[upstream].append(downstream)
        waits[downstream] += 1
    first = [node for node in nodes if not waits[node]]
    found: dict[Node, int] = dict.fromkeys(first, 0)
    ready, done = list(first), list[Node]()
    while ready:
        node = ready.pop()
        done.append(node)
        for other in after[node]:
            found[other] = max(found.get(other, 0), found[node] + 1)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    settled = set(done)
    found |= {node: found.get(node, 0) for node in nodes if node not in settled}
    # What starts a path stands next to the first that uses it, not at the far left.
    for node in first:
        if after[node]:
            found[node] = max(0, min(found[other] for other in after[node]) - 1)
    return found, [(a, b) for a, b in edges if found[a] < found[b]]


def _ordered(
    columns: list[list[int]], before: Mapping[int, Sequence[int]], after: Mapping[int, Sequence[int]]
) -> list[list[int]]:
    """Return the columns in the order, of those that were tried, in which the fewest edges cross."""
    best, fewest = columns, _crossings(columns, after)
    now = [list(column) for column in columns]
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        beside = before if forth else after
        for index in range(1, len(now)) if forth else range(len(now) - 2, -1, -1):
            position = {one: at for at, one in enumerate(now[index - 1 if forth else index + 1])}
            own = {one: at for at, one in enumerate(now[index])}
            middle = {
                one: fmean(position[other] for other in beside[one]) if beside.get(one) else float(own[one])
                for one in now[index]
            }
            # Of equal ones each keeps its place: sorting is stable.
            now[index].sort(key=middle.__getitem__)
        count = _crossings(now, after)
        if count < fewest:
            best, fewest = [list(column) for column in now], count
    return best


def _crossings(columns: Sequence[Sequence[int]], after: Mapping[int, Sequence[int]]) -> int:
    count = 0
    for left, right in pairwise(columns):
        position = {one: at for at, one in enumerate(right)}
        passed: list[int] = []
        for one in left:
            ends = sorted(position[other] for other in after.get(one, ()))
            count += sum(len(passed) - bisect_left(passed, end + 1) for end in ends)
            for end in ends:
                insort(passed, end)
    return count


def _heights(
    columns: Sequence[Sequence[int]],
    before: Mapping[int, Sequence[int]],
    after: Mapping[int, Sequence[int]],
    sizes: Sequence[float],
) -> dict[int, float]:
    """Return heights that keep the order and the distances, each near those of its neighbours."""
    found: dict[int, float] = {}
    for column in columns:
        at = 0.0
        for number, one in enumerate(column):
            at += (sizes[one] + sizes[column[number - 1]]) / 2 if number else 0.0
            found[one] = at
    for calm in range(_CALM):
        forth = calm % 2 == 0
        beside = before if forth else after
        for column in columns if forth else columns[::-1]:
            wanted = [
                fmean(found[other] for other in beside[one]) if beside.get(one) else found[one]
                for one in column
            ]
            found.update(zip(column, _apart(wanted, [sizes[one] for one in column]), strict=True))
    lowest = min(found.values(), default=0.0)
    return {one: height - lowest for one, height in found.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted, in their order and as far apart as their sizes ask.

    Least squares: neighbours that would overlap move as one block, to the mean of what its members want.
    """
    offsets, at = [], 0.0
    for number, size in enumerate(sizes):
        at += (size + sizes[number - 1]) / 2 if number else 0.0
        offsets.append(at)
    blocks: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        total, count = place - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            more, many = blocks.pop()
            total, count = total + more, count + many
        blocks.append((total, count))
    means = [total / count for total, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
