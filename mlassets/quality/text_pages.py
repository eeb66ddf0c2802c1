"""Texts as a person sees them on a page: excerpts that cannot harm it, tables, and pictures of where texts lie."""

import html
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlassets.quality.displays import Display, Figure, Table, Text
from mlassets.quality.text_likeness import Clusters, Copies, cluster, near_copies, plane
from mlassets.quality.text_properties import NUMERIC, PROPERTIES, properties_of

_LONGEST = 140
_MOST_MARKS = 3
_POINTS = 1_500
_BINS = 40
# Marks of format are invisible, and those of direction turn the text around them; joiners belong to words and emoji.
_JOINERS = "\u200c\u200d"
_COUNTS = ("characters", "words", "lines", "longest_word", "links")
_COLOURS = (
    *("#4c7fd6", "#d9822b", "#3b9c62", "#b5485d", "#8a63c9", "#2a9d9c"),
    *("#c9a227", "#7a6a5b", "#d15fa0", "#5c8a2d", "#5a78a0", "#a35b2b"),
)


def excerpt(text: str, longest: int = _LONGEST) -> str:
    """Return the start of a text on one line, in which nothing is invisible, turns direction or piles up."""
    shown: list[str] = []
    marks = 0
    for one in " ".join(text[: 4 * longest].split()):
        category = unicodedata.category(one)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MOST_MARKS:
            continue
        if category in ("Cc", "Cs", "Co", "Cn") or (category == "Cf" and one not in _JOINERS):
            code = ord(one)
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            shown.append(one)
        if len(shown) > longest:
            return "".join(shown[: longest - 1]) + "…"
    if len(text) > 4 * longest:
        shown.append("…")
    return "".join(shown)


def texts_page(
    texts: Sequence[str],
    vectors: Any,
    *,
    title: str,
    rows: Sequence[tuple[str, str]],
    like: tuple[str, Sequence[tuple[float, str]]] | None = None,
    seed: int = 0,
) -> bytes:
    """Return a page about texts: their properties, what they are about, which are copies, which are unusual.

    Args:
        texts: The texts, none of them null or blank.
        vectors: A row for each, of length one.
        title: What they are.
        rows: Labels and values at the top.
        like: A text that was searched for, and its nearest texts with their likeness.
        seed: Seed of whatever is drawn.
    """
    from mlassets.quality.report import render_report

    sections: list[tuple[str, Sequence[Display]]] = []
    if like is not None:
        asked, found = like
        listed = tuple((f"{likeness:.3f}", excerpt(text)) for likeness, text in found)
        sections.append(
            (
                "Nearest texts",
                [Text(f"To “{excerpt(asked)}”:"), Table(("likeness", "text"), listed)],
            )
        )
    properties = properties_of(pa.array(texts, pa.string()))
    clusters = cluster(texts, vectors, seed=seed)
    sections += [
        ("What they are about", show_clusters(texts, vectors, clusters, seed=seed)),
        ("Properties", show_properties(properties)),
        ("Copies", show_copies(texts, near_copies(texts))),
        ("Far from all others", show_far(texts, vectors, seed=seed)),
    ]
    return render_report([], title=title, rows=rows, sections=sections)


def show_clusters(texts: Sequence[str], vectors: Any, clusters: Clusters, *, seed: int = 0) -> list[Display]:
    """Show what texts are about: a picture of where they lie, and a table of their clusters."""
    sizes = np.bincount(clusters.of, minlength=len(clusters.words))
    named = [_named(i, words) for i, words in enumerate(clusters.words)]
    where = plane(vectors, clusters.of, seed=seed)
    groups = [(name, np.flatnonzero(clusters.of == i)) for i, name in enumerate(named)]
    listed = []
    for i, (words, size) in enumerate(zip(clusters.words, sizes, strict=True)):
        nearest = _nearest_to_middle(vectors, clusters.of == i)
        listed.append(
            (
                str(i + 1),
                f"{size:,}",
                f"{size / len(texts):.1%}",
                ", ".join(excerpt(word, 30) for word in words),
                excerpt(texts[nearest]),
            )
        )
    apart = (
        f"{len(named)} clusters; silhouette {clusters.silhouette:.2f} (1: far apart, 0: no clusters)."
        if len(named) > 1
        else "The texts do not fall into clusters."
    )
    return [
        Text(apart),
        points(where, groups, texts, seed=seed),
        Table(("cluster", "texts", "share", "words that tell it", "its most typical text"), tuple(listed)),
    ]


def points(
    where: Any, groups: Sequence[tuple[str, Any]], texts: Sequence[str], *, seed: int = 0, most: int = _POINTS
) -> Figure:
    """Draw texts as points, a colour for each group; of many a seeded sample of at most 1,500 is drawn.

    Args:
        where: Two coordinates for each text.
        groups: Names, each with the positions of its texts.
        texts: What a point says when it is pointed at.
        seed: Seed of the sample.
        most: Points to draw.
    """
    total = sum(len(members) for _, members in groups)
    rng = np.random.default_rng(seed)
    traces = []
    for number, (name, members) in enumerate(groups):
        share = members
        if total > most:
            wanted = max(1, round(most * len(members) / total))
            share = np.sort(rng.choice(members, min(wanted, len(members)), replace=False))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _for_plotly(name),
                "x": np.round(where[share, 0], 4).tolist(),
                "y": np.round(where[share, 1], 4).tolist(),
                "text": [_for_plotly(excerpt(texts[i], 100)) for i in share],
                "hoverinfo": "text+name",
                "hoverlabel": {"namelength": 30},
                "marker": {"size": 6, "opacity": 0.65, "color": _COLOURS[number % len(_COLOURS)]},
            }
        )
    axis = {"showticklabels": False, "zeroline": False, "showgrid": False}
    return Figure(
        {
            "data": traces,
            "layout": {
                "height": 560,
                "xaxis": axis,
                "yaxis": axis,
                "hovermode": "closest",
                "legend": {"orientation": "h", "y": -0.05},
                "margin": {"l": 20, "r": 20, "t": 20, "b": 20},
            },
        }
    )


def show_properties(properties: pa.Table, before: pa.Table | None = None) -> list[Display]:
    """Show properties as a table of what they are and how they are spread, and the lengths as a histogram."""
    import pyarrow.compute as pc

    rows = []
    for name in NUMERIC:
        known = properties[name].drop_null()
        if len(known):
            low, middle, high = pc.quantile(known, [0.05, 0.5, 0.95]).to_pylist()
            rows.append((_words(name), f"{low:.4g}", f"{middle:.4g}", f"{high:.4g}", PROPERTIES[name]))
    scripts = pc.value_counts(properties["script"].drop_null()).to_pylist()
    shares = ", ".join(
        f"{one['values']} {one['counts'] / max(1, properties.num_rows):.1%}"
        for one in sorted(scripts, key=lambda one: (-one["counts"], one["values"]))[:6]
    )
    rows.append(("script", "", shares or "none", "", PROPERTIES["script"]))
    sides = (
        [("texts", properties)] if before is None else [("earlier texts", before), ("new texts", properties)]
    )
    return [
        Table(("property", "5 %", "median", "95 %", "what it is"), tuple(rows)),
        histogram({name: side["characters"] for name, side in sides}, "characters"),
    ]


def histogram(sides: Mapping[str, pa.ChunkedArray], what: str) -> Figure:
    """Draw how a property is spread, as shares; counts on a logarithmic axis.

    Args:
        sides: Values by whose they are.
        what: The property.
    """
    logarithmic = what in _COUNTS
    values = {name: _finite(side) for name, side in sides.items()}
    every = np.concatenate(list(values.values())) if values else np.zeros(0)
    change: Callable[[Any], Any] = (lambda x: np.log10(x + 1)) if logarithmic else (lambda x: x)
    low, high = (change(every).min(), change(every).max()) if len(every) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    shown = (10**middles - 1) if logarithmic else middles
    traces = [
        {
            "type": "bar",
            "name": _for_plotly(name),
            "x": np.round(middles, 6).tolist(),
            "y": np.round(np.histogram(change(side), edges)[0] / max(1, len(side)), 6).tolist(),
            "text": [f"{one:,.4g}" for one in shown],
            "textposition": "none",
            "hovertemplate": f"{_words(what)} about %{{text}}: %{{y:.2%}}<extra></extra>",
            "marker": {"color": _COLOURS[number], "opacity": 0.65},
        }
        for number, (name, side) in enumerate(values.items())
    ]
    ticks = np.unique(np.linspace(low, high, 6)) if high > low else np.array([low])
    labels = [f"{(10**one - 1 if logarithmic else one):,.3g}" for one in ticks]
    return Figure(
        {
            "data": traces,
            "layout": {
                "height": 300,
                "barmode": "overlay",
                "bargap": 0,
                "xaxis": {
                    "title": {"text": _words(what)},
                    "tickvals": np.round(ticks, 6).tolist(),
                    "ticktext": labels,
                },
                "yaxis": {"title": {"text": "share of the texts"}, "tickformat": ".0%"},
                "showlegend": len(traces) > 1,
                "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            },
        }
    )


def show_copies(texts: Sequence[str], copies: Copies) -> list[Display]:
    """Show how many texts are copies of others, and the largest groups of them."""
    groups = copies.largest(10)
    said = (
        f"{copies.repeats:,} of {len(texts):,} texts are nearly the same as an earlier one."
        if groups
        else "No two texts are nearly the same."
    )
    rows = tuple((f"{len(group):,}", *_two_of(texts, group)) for group in groups)
    return [Text(said), *([Table(("texts", "one of them", "the one most unlike it"), rows)] if rows else [])]


def show_far(texts: Sequence[str], vectors: Any, *, most: int = 10, seed: int = 0) -> list[Display]:
    """Show the texts that are least like their nearest neighbour, and those without a known word."""
    blank = np.flatnonzero(~vectors.any(axis=1))
    seen = np.flatnonzero(vectors.any(axis=1))
    if len(seen) > 2_000:
        seen = np.sort(np.random.default_rng(seed).choice(seen, 2_000, replace=False))
    rows = []
    if len(seen) > 1:
        likeness = vectors[seen] @ vectors[seen].T
        np.fill_diagonal(likeness, -1)
        nearest = likeness.max(axis=1)
        rows = [
            (f"{nearest[i]:.3f}", excerpt(texts[seen[i]])) for i in np.argsort(nearest, kind="stable")[:most]
        ]
    said = f"Of {len(seen):,} texts, those that are least like the text nearest to them."
    if len(blank):
        said += f" {len(blank):,} more hold no word that is known."
    return [Text(said), Table(("likeness", "text"), tuple(rows))]


def _two_of(texts: Sequence[str], group: Any) -> tuple[str, str]:
    first = texts[group[0]]
    members = [texts[i] for i in group[:50]]
    other = max(members, key=lambda one: (one != first, abs(len(one) - len(first))))
    return excerpt(first), excerpt(other) if other != first else "(the same)"


def _nearest_to_middle(vectors: Any, mask: Any) -> int:
    members = np.flatnonzero(mask)
    return int(members[np.argmax(vectors[members] @ vectors[members].mean(axis=0))])


def _named(number: int, words: Sequence[str]) -> str:
    return f"{number + 1}: {', '.join(excerpt(word, 16) for word in words[:3]) or 'no words'}"


def _finite(values: pa.ChunkedArray) -> Any:
    return values.drop_null().to_numpy().astype(float)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _for_plotly(text: str) -> str:
    """Escape what plotly would take for markup in its labels."""
    return html.escape(text, quote=False)
