"""How new files differ from those that were there before: in how values are distributed, and in values never seen."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mlassets.quality.all_rows import only_broken, share
from mlassets.quality.checks import entry_of
from mlassets.quality.displays import Figure
from mlassets.quality.judging import DoesNotApply, Observation
from mlassets.quality.rows import View, family_of
from mlassets.sections import shown

SAMPLE = 20_000
# A column of more values than this holds names or texts, not categories.
MOST_VALUES = 1_000
MOST_COLUMNS = 300
_AT_ONCE = 100
_RARE = 0.01
_MOST_DRAWN = 8


@dataclass(frozen=True)
class _Drift:
    size: float
    rows: float
    figure: Mapping[str, Any] | None = None

    @property
    def told(self) -> bool:
        """Whether chance alone would hardly reach it."""
        return self.rows > 0 and self.size >= entry_of("files_are_like_the_ones_before").noise(self.rows)


class FileDrift:
    """New rows beside the earlier ones, column by column; within the block that `opened` is used in.

    Numbers are compared on a sample of each side, by the Kolmogorov-Smirnov distance. Columns of few values are
    compared on all rows, by Cramer's V, in which both sides weigh the same however many rows they have. Dates go on
    by themselves, and so do keys and other numbers that are never there twice: these are left out. Of wide tables the
    first three hundred columns are compared.

    Args:
        new: The rows of the new files.
        earlier: The rows that were there before.
        aside: Columns that are not compared, such as keys.
    """

    def __init__(self, new: View, earlier: View, aside: Collection[str] = ()) -> None:
        self._new, self._earlier = new, earlier
        self._columns = [
            name
            for name in new.columns
            if name in earlier.columns
            and name not in aside
            and _kind(new, name) == _kind(earlier, name) is not None
        ][:MOST_COLUMNS]

    def drift(self) -> Observation:
        """Measure how far each column has moved, and return the move of the column that did most."""
        self._need_rows()
        drifts = {**self._numbers(), **self._categories()}
        if not drifts:
            raise DoesNotApply("no column can be compared with the earlier files", self._new.n)
        likely = {name: one for name, one in drifts.items() if one.told} or drifts
        worst = max(likely, key=lambda name: likely[name].size)
        found = (
            f"{shown(worst)} moved most from the earlier files, by {drifts[worst].size:.3f}."
            if drifts[worst].size
            else "No column has moved from the earlier files."
        )
        ordered = sorted(drifts.items(), key=lambda item: -item[1].size)
        figures = [one.figure for _, one in ordered[:_MOST_DRAWN] if one.figure]
        return Observation(
            drifts[worst].size,
            self._new.n,
            found,
            {"columns": only_broken({name: one.size for name, one in drifts.items()})},
            compared=drifts[worst].rows,
            displays=tuple(Figure(figure) for figure in figures),
        )

    def new_values(self) -> Observation:
        """Measure, per column of few values, the share of new rows whose value the earlier files lack."""
        self._need_rows()
        if not self._counts:
            raise DoesNotApply("no column holds few values", self._new.n)
        unseen = {
            name: {value: new for value, new, earlier in counts if new and not earlier}
            for name, counts in self._counts.items()
        }
        shares = {name: share(sum(new.values()), self._new.n) for name, new in unseen.items()}
        worst = max(shares, key=lambda name: shares[name])
        listed = sorted(unseen[worst].items(), key=lambda item: -item[1])
        counted = f"{len(listed):,} new {'value' if len(listed) == 1 else 'values'}"
        examples = ", ".join(shown(value, 40) for value, _ in listed[:5]) + (", …" if len(listed) > 5 else "")
        found = (
            f"{shown(worst)} holds {counted} in {sum(unseen[worst].values()):,} of {self._new.n:,} new rows: "
            f"{examples}."
            if listed
            else "Every value has been there before."
        )
        news = {name: [str(value)[:80] for value in new][:20] for name, new in unseen.items() if new}
        return Observation(
            shares[worst],
            self._new.n,
            found,
            {"columns": only_broken(shares), "new values": news},
            compared=float(min(self._new.n, self._earlier.n)),
        )

    def _need_rows(self) -> None:
        if not self._new.n or not self._earlier.n:
            raise DoesNotApply("there are no new rows, or no earlier ones", self._new.n)

    @cached_property
    def _distinct(self) -> dict[str, int]:
        """About how many different values the earlier rows have."""
        names = self._columns
        if not names:
            return {}
        asked = ", ".join(f"approx_count_distinct({self._earlier.columns[name]})" for name in names)
        found = self._earlier.ask(f"SELECT {asked} FROM {self._earlier.name}")
        return dict(zip(names, map(int, found), strict=True))

    @cached_property
    def _counts(self) -> dict[str, list[tuple[str, int, int]]]:
        """By column of few values: each value with how often it is new and how often it was there before."""
        few = [
            name
            for name in self._columns
            if _kind(self._new, name) == "category"
            and self._distinct[name] <= min(MOST_VALUES, max(30, self._earlier.n / 20))
        ]
        new, earlier = (
            view.frequencies({name: view.columns[name] for name in few})
            for view in (self._new, self._earlier)
        )
        return {
            name: [
                (value, new[name].get(value, 0), earlier[name].get(value, 0))
                for value in {**earlier[name], **new[name]}
            ]
            for name in few
        }

    def _categories(self) -> dict[str, _Drift]:
        drifts = {}
        for name, counts in self._counts.items():
            new, earlier = sum(one[1] for one in counts), sum(one[2] for one in counts)
            if not new or not earlier:
                continue
            pairs = [(value, a / new, b / earlier) for value, a, b in counts]
            common = [one for one in pairs if max(one[1:]) >= _RARE]
            rare = [one[1:] for one in pairs if max(one[1:]) < _RARE]
            table = [one[1:] for one in common]
            table += [(sum(a for a, _ in rare), sum(b for _, b in rare))] if rare else []
            rows = 2 * new * earlier / (new + earlier)
            drifts[name] = _Drift(_cramers_v(table, rows), rows, _bars(name, common[:20]))
        return drifts

    def _numbers(self) -> dict[str, _Drift]:
        names = [
            name
            for name in self._columns
            if _kind(self._new, name) == "number"
            and not (
                family_of(self._earlier.types[name]) == "integer"
                and self._distinct[name] > 0.8 * self._earlier.n
            )
        ]
        if not names:
            return {}
        drifts: dict[str, _Drift] = {}
        for start in range(0, len(names), _AT_ONCE):
            drifts |= self._moved(names[start : start + _AT_ONCE])
        return drifts

    def _moved(self, names: list[str]) -> dict[str, _Drift]:
        new, earlier = (_sample(view, names) for view in (self._new, self._earlier))
        drifts = {}
        for name in names:
            one, other = (values[name][np.isfinite(values[name])] for values in (new, earlier))
            if len(one) and len(other):
                rows = 2 * len(one) * len(other) / (len(one) + len(other))
                drifts[name] = _Drift(_kolmogorov_smirnov(one, other), rows, _histogram(name, one, other))
        return drifts


def _kind(view: View, name: str) -> str | None:
    family = family_of(view.types[name])
    return {"text": "category", "boolean": "category", "integer": "number", "number": "number"}.get(family)


def _sample(view: View, names: list[str]) -> dict[str, Any]:
    """Return some columns of about `SAMPLE` rows as numbers, NaN for null."""
    found = view.sample([f"CAST({view.columns[name]} AS DOUBLE)" for name in names], SAMPLE)
    return {
        name: found.column(i).fill_null(float("nan")).to_numpy().astype(float) for i, name in enumerate(names)
    }


def _kolmogorov_smirnov(one: Any, other: Any) -> float:
    """Return the largest distance between two empirical distributions."""
    one, other = np.sort(one), np.sort(other)
    points = np.concatenate([one, other])
    apart = np.searchsorted(one, points, "right") / len(one) - np.searchsorted(other, points, "right") / len(
        other
    )
    return float(np.abs(apart).max())


def _cramers_v(shares: list[tuple[float, float]], rows: float) -> float:
    """Return Cramer's V of two sides of one weight, less what chance adds with `rows` rows each (Bergsma 2013)."""
    squared = sum((a - b) ** 2 / (a + b) for a, b in shares if a + b) / 2
    chance = (len(shares) - 1) / max(2 * rows - 1, 1)
    return math.sqrt(max(0.0, squared - chance))


def _histogram(name: str, new: Any, earlier: Any) -> dict[str, Any]:
    low, high = np.quantile(np.concatenate([new, earlier]), [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, 41)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    traces = [
        {"type": "scatter", "mode": "lines", "line": {"shape": "hvh"}, "name": side, "x": middles}
        | {"y": (np.histogram(values, edges)[0] / len(values)).tolist()}
        for side, values in (("earlier files", earlier), ("new files", new))
    ]
    return {
        "data": traces,
        "layout": {"title": {"text": as_label(name)}, "yaxis": {"title": {"text": "share"}}},
    }


def _bars(name: str, counts: list[tuple[str, float, float]]) -> dict[str, Any]:
    values = [as_label(value) for value, _, _ in counts]
    traces = [
        {"type": "bar", "name": side, "x": list(range(len(values))), "y": [one[at] for one in counts]}
        for side, at in (("earlier files", 2), ("new files", 1))
    ]
    ticks = {"tickmode": "array", "tickvals": list(range(len(values))), "ticktext": values}
    layout = {"title": {"text": as_label(name)}, "xaxis": ticks, "yaxis": {"title": {"text": "share"}}}
    return {"data": traces, "layout": layout}


def as_label(text: str) -> str:
    """Return text as plotly shows it as it is, and not as markup of its own."""
    short = text if len(text) <= 40 else f"{text[:39]}…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
