"""A lineage graph as SVG: readable without a script, and with one that shows details and paths."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

from mlassets.pages.layering import lay_out, layered

WIDTH, HEIGHT = 188, 42
_GAP, _ROW, _EDGE = 52, 54, 16
_LETTERS = 26


@dataclass(frozen=True)
class Box:
    """One node as it is to be drawn.

    Attributes:
        key: What tells it from the others.
        title: Its first line.
        text: Its second line.
        corner: A few letters at the end of the first line.
        kinds: What it is, for the style: its step, `start`, `retired`, `removed`, `blocks`, `warns`, `group`.
        href: Where it leads to.
        group: Where it goes if several are drawn as one.
    """

    key: str
    title: str
    text: str
    corner: str = ""
    kinds: tuple[str, ...] = ()
    href: str = ""
    group: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placed:
    """A node with the corner at which it stands, and its texts as far as they fit."""

    box: Box
    x: float
    y: float
    title: str
    text: str


@dataclass(frozen=True)
class Line:
    """An edge: the numbers of its ends, its path, and how many edges it stands for."""

    upstream: int
    downstream: int
    path: str
    count: int = 1


@dataclass(frozen=True)
class Drawing:
    """What the template turns into SVG."""

    boxes: Sequence[Placed]
    lines: Sequence[Line]
    width: float
    height: float
    box_width: float = WIDTH
    box_height: float = HEIGHT


def draw(boxes: Sequence[Box], edges: Iterable[tuple[str, str]]) -> Drawing:
    """Return a drawing of a graph whose edges are pairs of upstream and downstream key."""
    return _drawn(boxes, Counter(edges))


def draw_groups(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> Drawing:
    """Return a drawing in which those of one group and layer are one node: large graphs at a glance.

    A node that stands for several leads to the first of them.
    """
    layers, _ = layered([one.key for one in boxes], edges)
    members: dict[tuple[object, ...], list[Box]] = defaultdict(list)
    for box in boxes:
        members[layers[box.key], *box.group].append(box)
    home = {box.key: next(iter(some)).key for some in members.values() for box in some}
    grouped = [_group(some) for some in members.values()]
    between = Counter((home[a], home[b]) for a, b in edges if home[a] != home[b])
    return _drawn(grouped, between)


def _group(members: Sequence[Box]) -> Box:
    first = members[0]
    if len(members) == 1:
        return first
    kinds = dict.fromkeys(kind for one in members for kind in one.kinds if kind not in ("retired", "removed"))
    return Box(
        first.key,
        first.title,
        " · ".join(first.group[1:]),
        f"× {len(members):,}",
        (*kinds, "group"),
        f"#{first.key}",
    )


def _drawn(boxes: Sequence[Box], edges: Mapping[tuple[str, str], int]) -> Drawing:
    layout = lay_out([one.key for one in boxes], edges)

    def left(layer: int) -> float:
        return _EDGE + layer * (WIDTH + _GAP)

    def middle(height: float) -> float:
        return round(_EDGE + HEIGHT / 2 + height * _ROW, 1)

    placed = []
    for box in boxes:
        layer, height = layout.places[box.key]
        room = _LETTERS - _wide(box.corner) - (1 if box.corner else 0)
        placed.append(
            Placed(
                box,
                left(layer),
                middle(height) - HEIGHT / 2,
                shortened(box.title, room),
                shortened(box.text, _LETTERS + 2),
            )
        )
    numbers = {box.key: number for number, box in enumerate(boxes)}
    lines = []
    for (upstream, downstream), bends in layout.bends.items():
        start, height = layout.places[upstream]
        end, other = layout.places[downstream]
        x, y = left(start) + WIDTH, middle(height)
        path = f"M{x:g} {y:g}"
        for layer, at in (*bends, (end, other)):
            near, far = left(layer), middle(at)
            half = (near - x) / 2
            path += f"C{x + half:g} {y:g} {near - half:g} {far:g} {near:g} {far:g}"
            x, y = near, far
            if layer != end:
                x += WIDTH
                path += f"H{x:g}"
        lines.append(Line(numbers[upstream], numbers[downstream], path, edges[upstream, downstream]))
    return Drawing(
        placed,
        lines,
        2 * _EDGE + max(1, layout.layers) * (WIDTH + _GAP) - _GAP,
        math.ceil(2 * _EDGE + HEIGHT + layout.height * _ROW),
    )


def shortened(text: str, room: int) -> str:
    """Return a text of at most so many columns; what is left out, is left out of its middle.

    >>> shortened("late-flights|a very long name of a segment", 20)
    'late-fligh…a segment'
    """
    plain = " ".join(text.split())
    if _wide(plain) <= room:
        return plain
    start, end = plain[: math.ceil((room - 1) / 2)], plain[-((room - 1) // 2) :]
    while _wide(start) + _wide(end) > room - 1 and len(start) > 1:
        start, end = (start[:-1], end) if _wide(start) >= _wide(end) else (start, end[1:])
    return f"{start}…{end}"


def _wide(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
