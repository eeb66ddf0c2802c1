"""Texts as a person sees them on a page: excerpts that cannot harm it, tables, and pictures of where texts lie."""

import html
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.expectations import EmbeddingName
from mlassets.quality.displays import Display, Figure, Table, Text
from mlassets.quality.frames import is_text
from mlassets.quality.text_embeddings import Embedding, embedding_of
from mlassets.quality.text_likeness import Clusters, Copies, cluster, near_copies, plane
from mlassets.quality.text_properties import LONGEST, NUMERIC, PROPERTIES, properties_of, text_columns
from resources.errors import MlassetsError

if TYPE_CHECKING:
    import pyarrow.dataset as ds

BATCH_ROWS = 65_536
# What tables of documents and knowledge bases have, where `text` is what they are about.
_OF_DOCUMENTS = frozenset(("document", "heading", "text"))

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


class NoTexts(MlassetsError):
    """There is no such column of texts, or nothing in it."""


@dataclass(frozen=True)
class TextsSeen:
    """A sample of texts with all that is found out about them.

    Attributes:
        texts: The texts that were looked at, none of them blank.
        rows: Rows that they were drawn from.
        embedding: How they became vectors.
        vectors: A row for each, of length one.
        seed: Seed of whatever is drawn.
    """

    texts: Sequence[str]
    rows: int
    embedding: Embedding
    vectors: Any
    seed: int = 0

    @cached_property
    def properties(self) -> pa.Table:
        """Their properties."""
        return properties_of(pa.array(self.texts, pa.string()))

    @cached_property
    def clusters(self) -> Clusters:
        """What they are about."""
        return cluster(self.texts, self.vectors, seed=self.seed)

    @cached_property
    def copies(self) -> Copies:
        """Which of them are nearly the same."""
        return near_copies(self.texts)

    def nearest(self, text: str, count: int = 10) -> list[tuple[float, str]]:
        """Return the texts most like one, each with the cosine of the angle between the two."""
        likeness = self.vectors @ self.embedding.embed([text])[0]
        order = np.argsort(-likeness, kind="stable")[:count]
        return [(float(likeness[i]), self.texts[i]) for i in order]

    def as_dict(self, like: str | None = None) -> dict[str, Any]:
        """Return all of it as plain values; texts are cut to excerpts, but for the nearest."""
        properties = {name: _spread(self.properties[name]) for name in NUMERIC}
        groups = self.copies.largest(10)
        return {
            "rows": self.rows,
            "texts": len(self.texts),
            "embedding": self.embedding.name,
            "properties": {name: spread for name, spread in properties.items() if spread},
            "scripts": _scripts(self.properties),
            "clusters": [
                {
                    "texts": size,
                    "words": list(words),
                    "example": excerpt(self.texts[_nearest_to_middle(self.vectors, self.clusters.of == i)]),
                }
                for i, (size, words) in enumerate(self._sizes())
            ],
            "silhouette": self.clusters.silhouette,
            "copies": {
                "texts": self.copies.repeats,
                "groups": [{"texts": len(one), "example": excerpt(self.texts[one[0]])} for one in groups],
            },
            **(
                {}
                if like is None
                else {"nearest": [{"likeness": one, "text": text} for one, text in self.nearest(like)]}
            ),
        }

    def _sizes(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        sizes = np.bincount(self.clusters.of, minlength=len(self.clusters.words)).tolist()
        return zip(sizes, self.clusters.words, strict=True)

    def page(self, title: str, rows: Sequence[tuple[str, str]] = (), like: str | None = None) -> bytes:
        """Return a page: what the texts are about, their properties, which are copies, which are far from all others.

        Args:
            title: What they are.
            rows: Labels and values at the top.
            like: A text whose nearest are shown first.
        """
        from mlassets.quality.report import render_report

        looked = (
            f"{len(self.texts):,} of {self.rows:,} rows" if len(self.texts) < self.rows else f"{self.rows:,}"
        )
        sections: list[tuple[str, Sequence[Display]]] = []
        if like is not None:
            listed = tuple((f"{one:.3f}", excerpt(text)) for one, text in self.nearest(like))
            sections.append(
                ("Nearest texts", [Text(f"To “{excerpt(like)}”:"), Table(("likeness", "text"), listed)])
            )
        sections += [
            ("What they are about", show_clusters(self.texts, self.vectors, self.clusters, seed=self.seed)),
            ("Properties", show_properties(self.properties)),
            ("Copies", show_copies(self.texts, self.copies)),
            ("Far from all others", show_far(self.texts, self.vectors, seed=self.seed)),
        ]
        facts = [*rows, ("Texts", looked), ("Embedding", self.embedding.name)]
        return render_report([], title=title, rows=facts, sections=sections)


def look_at(
    dataset: "ds.Dataset",
    column: str | None = None,
    *,
    sample: int,
    embedding: EmbeddingName = "lsa",
    seed: int = 0,
) -> tuple[str, TextsSeen]:
    """Look at a column of texts, and return its name with what is seen.

    Args:
        dataset: The rows.
        column: The column; may be left out where one column alone holds texts, and of documents.
        sample: Rows to look at, drawn by the seed.
        embedding: How texts become vectors.
        seed: Seed of whatever is drawn.

    Raises:
        NoTexts: If there is no such column of strings, none or several of texts, or nothing but blank ones.
        NoSuchEmbedding: If its package is not installed.
    """
    strings = [one.name for one in dataset.schema if is_text(one.type)]
    listed = ", ".join(f"`{one}`" for one in strings[:20]) or "none"
    if column is None and set(strings) >= _OF_DOCUMENTS:
        column = "text"
    if column is None:
        found = text_columns(dataset.head(1_000, columns=strings)) if strings else []
        if len(found) != 1:
            what = (
                f"the columns {', '.join(f'`{one}`' for one in found)} hold" if found else "no column holds"
            )
            raise NoTexts(
                f"{what} texts; name the one to look at with --column. Columns of strings: {listed}"
            )
        column = found[0]
    if column not in strings:
        raise NoTexts(f"there is no column of strings named `{column}`; there is {listed}")
    seen = pc.cast(sampled(dataset, [column], sample, seed)[column], pa.string())
    texts = seen.filter(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(seen), ""), False)).to_pylist()
    if not texts:
        raise NoTexts(f"every value of `{column}` is blank")
    how = embedding_of(texts, embedding, seed=seed)
    return column, TextsSeen(texts, dataset.count_rows(), how, how.embed(texts), seed)


def sampled(dataset: "ds.Dataset", columns: Sequence[str], rows: int, seed: int) -> pa.Table:
    """Return at most `rows` rows of some columns, drawn without replacement, in their order.

    All of these columns are read, a few ten thousand rows at a time; what is kept is what was drawn, and of a text the
    first 20,000 characters.
    """
    of_texts = {name for name in columns if is_text(dataset.schema.field(name).type)}
    wanted = pa.schema(
        [pa.field(name, pa.string()) if name in of_texts else dataset.schema.field(name) for name in columns]
    )
    count = dataset.count_rows()
    drawn = np.arange(count)
    if count > rows:
        drawn = np.sort(np.random.default_rng(seed).choice(count, size=rows, replace=False))
    parts, at = [wanted.empty_table()], 0
    for batch in dataset.to_batches(
        columns=list(columns), batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
    ):
        here = drawn[np.searchsorted(drawn, at) : np.searchsorted(drawn, at + len(batch))] - at
        at += len(batch)
        if len(here):
            cut = [
                pc.utf8_slice_codeunits(pc.cast(batch[name], pa.string()), 0, LONGEST)
                if name in of_texts
                else batch[name]
                for name in columns
            ]
            parts.append(pa.table(cut, names=list(columns)).take(pa.array(here)).cast(wanted))
    return pa.concat_tables(parts)


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
    spreads = {name: spread for name in NUMERIC if (spread := _spread(properties[name]))}
    rows = [
        (_words(name), *(f"{one:.4g}" for one in spread.values()), PROPERTIES[name])
        for name, spread in spreads.items()
    ]
    shares = ", ".join(f"{name} {one:.1%}" for name, one in list(_scripts(properties).items())[:6])
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
    marks = _ticks(low, high) if logarithmic else []
    return Figure(
        {
            "data": traces,
            "layout": {
                "height": 300,
                "barmode": "overlay",
                "bargap": 0,
                "xaxis": {
                    "title": {"text": _words(what)},
                    **(
                        {
                            "tickvals": [round(float(change(one)), 6) for one in marks],
                            "ticktext": [f"{one:,}" for one in marks],
                        }
                        if marks
                        else {}
                    ),
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
    rows += [("", excerpt(texts[i])) for i in blank[:5]]
    said = f"Of {len(seen):,} texts, those that are least like the text nearest to them."
    if len(blank):
        said += f" {len(blank):,} more hold no word that another holds too, and are like none."
    return [Text(said), Table(("likeness", "text"), tuple(rows))]


def _spread(values: pa.ChunkedArray) -> dict[str, float]:
    known = values.drop_null()
    if not len(known):
        return {}
    return dict(
        zip(("5 %", "median", "95 %"), pc.quantile(known, [0.05, 0.5, 0.95]).to_pylist(), strict=True)
    )


def _scripts(properties: pa.Table) -> dict[str, float]:
    """Return the share of the texts in each script, the most frequent first."""
    counts = {one["values"]: one["counts"] for one in pc.value_counts(properties["script"]).to_pylist()}
    ordered = sorted((-count, name) for name, count in counts.items() if name is not None)
    return {name: -count / properties.num_rows for count, name in ordered}


def _ticks(low: float, high: float) -> list[int]:
    """Return round numbers for an axis that shows the logarithm of one more than a count."""
    round_ones = [0, *(step * 10**power for power in range(10) for step in (1, 2, 5))]
    return [one for one in round_ones if low - 0.02 <= np.log10(one + 1) <= high + 0.02]


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
