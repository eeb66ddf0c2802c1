"""What a table holds: types, ranges, keys, forms and distributions of its columns; and what to expect of it by that.

Whatever is proposed has been held against the rows that it was found in: they pass it.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

from mlassets.expectations import Expectations
from mlassets.quality.dimensions import judged_dimensions, moment
from mlassets.quality.displays import Code, Display, Figure, Table, Text
from mlassets.quality.file_drift import as_label
from mlassets.quality.judging import Observation
from mlassets.quality.report import render_report
from mlassets.quality.rows import Rows, View, family_of, opened
from mlassets.sections import named
from resources.query import BadCondition, Condition

SAMPLE = 20_000
MOST_TOP = 20
MOST_VALUES = 20
MOST_DRAWN = 100
# Of wide tables values are counted, and expectations proposed, for so many columns only.
MOST_COUNTED = 300
_MOST_TRIED = 10
_LARGEST_KEY = 4
_MOST_RULE_COLUMNS = 6
_BINS = 40
_LONGEST_FORM = 100
_MOST_TEXTS = 1_000
_LONGEST_COUNTED = 1_000
_TOLD_AT_ONCE = 1_000
_SAMPLED_AT_ONCE = 100
_SECONDS = {"date", "timestamp"}
_NUMBERS = {"integer", "number"}


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: Its name.
        type: text, integer, number, boolean, date, timestamp, or what DuckDB calls it.
        nulls: Rows that lack a value.
        distinct: How many different values there are.
        distinct_is_exact: Whether that is counted, and not estimated within a few percent.
        low: The lowest value, as text; of long texts the beginning.
        high: The highest value, as text.
        mean: Mean of numbers.
        deviation: Standard deviation of numbers, on a sample.
        quantiles: Quartiles of numbers, on a sample.
        lengths: Fewest and most characters of texts.
        pattern: Form that all texts of a sample have, as a regular expression.
        top: The most frequent values with their counts, where they are few.
        bins: Left edges of the bars of a histogram, and their width; numbers, or seconds since 1970.
        counts: Rows in each bar.
    """

    name: str
    type: str
    nulls: int
    distinct: int
    distinct_is_exact: bool = False
    low: str | None = None
    high: str | None = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    lengths: tuple[int, int] | None = None
    pattern: str | None = None
    top: tuple[tuple[str, int], ...] = ()
    bins: tuple[float, float] | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A table.

    Attributes:
        rows: How many rows it has.
        columns: Its columns, in their order.
        keys: Columns that identify a row, each alone, or else a few of them together.
        expected: What may be expected of such data, as a spec holds it under `expect`; these rows pass it.
    """

    rows: int
    columns: tuple[ColumnProfile, ...]
    keys: tuple[tuple[str, ...], ...]
    expected: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the profile as plain JSON-serialisable values."""
        return asdict(self)

    def as_yaml(self) -> str:
        """Return what is expected as a spec writes it."""
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 110
        text = StringIO()
        yaml.dump({"expect": dict(self.expected)}, text)
        return text.getvalue()


def profile(rows: Rows, *, memory: str = "1GB", threads: int | None = None) -> Profile:
    """Look at all rows of a table.

    Args:
        rows: The rows.
        memory: Limit of the memory that is used before rows spill to the disk.
        threads: How many threads to use; one for each core by default.
    """
    with opened({"": rows}, memory=memory, threads=threads) as views:
        view = views[""]
        columns = tuple(_columns(view))
        keys = tuple(_keys(view, columns))
        alone = {key[0] for key in keys if len(key) == 1}
        columns = tuple(
            replace(one, distinct=view.n, distinct_is_exact=True) if one.name in alone else one
            for one in columns
        )
        proposed = _proposed(view, columns, keys)
        n = view.n
    return Profile(n, columns, keys, _kept(rows, proposed, memory, threads) if n else {})


def profile_page(profile: Profile, *, title: str, rows: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a profile as one HTML page that loads nothing: what is proposed, a table of columns, a picture of each.

    Args:
        profile: The profile.
        title: What was looked at.
        rows: What it is: labels and values.
    """
    header = ("column", "type", "nulls", "distinct", "lowest", "highest", "mean", "form or most frequent")
    table = Table(header, tuple(_row(one, profile.rows) for one in profile.columns[:1000]))
    sections: list[tuple[str, Sequence[Display]]] = []
    keys = "; ".join(" with ".join(f"`{name}`" for name in key) for key in profile.keys)
    about = Text(
        f"Identify a row: {keys}."
        if keys
        else "No column, and no few together that were tried, identify a row."
    )
    sections.append(("Columns", [about, table]))
    if profile.expected:
        words = Text(
            "What may be expected of such data; these rows pass it. Put it into the spec, and change it."
        )
        sections.append(("Proposed expectations", [words, Code(profile.as_yaml())]))
    for one in profile.columns[:MOST_DRAWN]:
        facts = Table(("", ""), tuple((name, value) for name, value in _facts(one, profile.rows) if value))
        figure = _figure(one)
        sections.append((one.name, [*([Figure(figure)] if figure else []), facts]))
    if len(profile.columns) > MOST_DRAWN:
        left = len(profile.columns) - MOST_DRAWN
        sections.append(("More columns", [Text(f"{left:,} more columns are not drawn.")]))
    identity = [*rows, ("Rows", f"{profile.rows:,}"), ("Columns", f"{len(profile.columns):,}")]
    return render_report([], title=title, rows=identity, sections=sections)


def _columns(view: View) -> Iterator[ColumnProfile]:
    names = list(view.columns)
    for start in range(0, len(names), _TOLD_AT_ONCE):
        some = names[start : start + _TOLD_AT_ONCE]
        told = _told(view, some)
        if start:
            yield from (replace(told[name], bins=None) for name in some)
            continue
        for at in range(0, len(some), _SAMPLED_AT_ONCE):
            part = some[at : at + _SAMPLED_AT_ONCE]
            sampled = _sampled(view, part)
            known = [replace(told[name], **sampled.get(name, {})) for name in part]
            yield from _with_pictures(view, known) if at < MOST_COUNTED else known


def _told(view: View, names: Sequence[str]) -> dict[str, ColumnProfile]:
    """Return what one pass over the rows tells of some columns."""
    asked: list[str] = []
    places: dict[str, dict[str, int]] = {}
    for name in names:
        column, family = view.columns[name], family_of(view.types[name])
        wanted = {"known": f"count({column})", "distinct": f"approx_count_distinct({column})"}
        if family in {"text", "boolean", *_NUMBERS, *_SECONDS}:
            short = f"left({column}, 200)" if family == "text" else column
            wanted |= {"low": f"CAST(min({short}) AS VARCHAR)", "high": f"CAST(max({short}) AS VARCHAR)"}
        if family == "text":
            wanted |= {"shortest": f"min(length({column}))", "longest": f"max(length({column}))"}
        if family in _NUMBERS:
            finite = f"CASE WHEN isfinite(CAST({column} AS DOUBLE)) THEN CAST({column} AS DOUBLE) END"
            wanted["mean"] = f"avg({finite})"
            wanted |= {"least": f"min({finite})", "most": f"max({finite})"}
        if family in _SECONDS:
            at = moment(column, family)
            wanted |= {"least": f"min({at}) / 1e6", "most": f"max({at}) / 1e6"}
        places[name] = {}
        for what, sql in wanted.items():
            places[name][what] = len(asked)
            asked.append(sql)
    answer = view.ask(f"SELECT {', '.join(asked)} FROM {view.name}") if asked else ()
    found = {}
    for name in names:
        got = {what: answer[at] for what, at in places[name].items()}
        least, most = got.get("least"), got.get("most")
        found[name] = ColumnProfile(
            name,
            family_of(view.types[name]),
            view.n - got["known"],
            min(got["distinct"], got["known"]),
            low=got.get("low"),
            high=got.get("high"),
            mean=_finite(got.get("mean")),
            lengths=None if got.get("shortest") is None else (got["shortest"], got["longest"]),
            bins=_bins(least, most),
        )
    return found


def _bins(least: Any, most: Any) -> tuple[float, float] | None:
    if least is None or most is None or not math.isfinite(width := float(most - least) / _BINS):
        return None
    return float(least), width


def _sampled(view: View, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a sample of the rows tells of some columns: quartiles of numbers, forms of texts."""
    import numpy as np

    families = {name: family_of(view.types[name]) for name in names}
    wanted = {
        name: f"CAST({view.columns[name]} AS DOUBLE)"
        if family in _NUMBERS
        else f"left({view.columns[name]}, {_LONGEST_FORM})"
        for name, family in families.items()
        if family in {"text", *_NUMBERS}
    }
    if not wanted or not view.n:
        return {}
    sample = view.sample(list(wanted.values()), SAMPLE)
    found: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(wanted):
        values = sample.column(i).drop_null()
        if not len(values):
            continue
        if families[name] == "text":
            found[name] = {"pattern": _pattern(values.unique().to_pylist())}
            continue
        numbers = values.to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            with np.errstate(all="ignore"):
                quartiles = np.quantile(numbers, (0.25, 0.5, 0.75), method="lower")
                deviation = _finite(numbers.std())
            found[name] = {"quantiles": tuple(map(float, quartiles)), "deviation": deviation}
    return found


def _with_pictures(view: View, columns: Sequence[ColumnProfile]) -> Iterator[ColumnProfile]:
    """Yield columns with their most frequent values, where they have few, and with the bars of their histograms."""
    few = {one.name: view.columns[one.name] for one in columns if _has_few(one)}
    bars = {one.name: _bar(view, one) for one in columns if one.bins is not None and one.bins[1] > 0}
    values, counts = view.frequencies(few), view.frequencies(bars)
    for one in columns:
        if one.name in few and values[one.name]:
            top = tuple((value[:200], count) for value, count in list(values[one.name].items())[:MOST_TOP])
            one = replace(one, top=top, distinct=len(values[one.name]), distinct_is_exact=True)
        if one.name not in bars:
            yield replace(one, bins=None)
            continue
        by_bar = {int(float(bar)): count for bar, count in counts[one.name].items()}
        yield replace(one, counts=tuple(by_bar.get(bar, 0) for bar in range(_BINS)))


def _has_few(one: ColumnProfile) -> bool:
    if one.type == "text":
        return one.distinct <= _MOST_TEXTS and (one.lengths or (0, 0))[1] <= _LONGEST_COUNTED
    return one.type == "boolean" or (one.type in _NUMBERS | _SECONDS and one.distinct <= MOST_VALUES)


def _bar(view: View, one: ColumnProfile) -> str:
    """Return SQL for the number of the bar that a value of a column belongs to; null for what is not finite."""
    column, (low, width) = view.columns[one.name], one.bins or (0.0, 1.0)
    value = f"{moment(column, one.type)} / 1e6" if one.type in _SECONDS else f"CAST({column} AS DOUBLE)"
    bar = f"least(greatest(floor(({value} - ({low!r})) / {width!r}), 0), {_BINS - 1})"
    return f"CASE WHEN isfinite({value}) THEN {bar} END"


def _keys(view: View, columns: Sequence[ColumnProfile]) -> Iterator[tuple[str, ...]]:
    """Yield the columns that identify a row; if there are none, a few that do so together."""
    usable = [one for one in columns if one.type in {"text", "integer", *_SECONDS} and not one.nulls]
    if view.n < 2:
        return
    # Estimates of the number of values are off by a few percent.
    likely = [one for one in usable if one.distinct >= 0.85 * view.n]
    single = [one for one in likely if _identify(view, one.name)]
    yield from ((one.name,) for one in single)
    varied = [one.name for one in sorted(usable, key=lambda one: -one.distinct) if one.distinct > 1]
    if single or not varied:
        return
    chosen, others = varied[:1], varied[1:_MOST_TRIED]
    while others and len(chosen) < _LARGEST_KEY:
        asked = [_marks(view, [*chosen, name]) for name in others]
        found = view.ask(
            f"SELECT {', '.join(f'approx_count_distinct({one})' for one in asked)} FROM {view.name}"
        )
        best = max(range(len(others)), key=lambda at: found[at])
        chosen.append(others.pop(best))
        if found[best] >= 0.85 * view.n and _identify(view, *chosen):
            for name in list(chosen):
                fewer = [one for one in chosen if one != name]
                if len(fewer) > 1 and _identify(view, *fewer):
                    chosen = fewer
            yield tuple(name for name in view.columns if name in chosen)
            return


def _marks(view: View, names: Sequence[str]) -> str:
    return f"hash({', '.join(view.columns[name] for name in names)})"


def _identify(view: View, *names: str) -> bool:
    return view.distinct(names) == (view.n, view.n)


def _pattern(values: Sequence[str]) -> str | None:
    """Return the form that all values have: runs of digits, of letters of one case, and other characters in one order.

    >>> _pattern(["AB-1", "CD-234"])
    '[A-Z]{2}-[0-9]{1,3}'
    >>> _pattern(["one", "two words"]) is None
    True
    """
    forms: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for value in values:
        runs = [(_class(run[0]), len(run)) for run in _RUNS.findall(value)]
        form = tuple(kind for kind, _ in runs)
        lengths = forms.setdefault(form, [(length, length) for _, length in runs])
        forms[form] = [(min(a, n), max(b, n)) for (a, b), (_, n) in zip(lengths, runs, strict=True)]
        if len(forms) > 1 or len(form) > 12:
            return None
    ((form, lengths),) = forms.items() if forms else ((((), []),))
    if not form:
        return None
    return "".join(kind + _times(low, high) for kind, (low, high) in zip(form, lengths, strict=True))


_RUNS = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|[^0-9A-Za-z]", re.DOTALL)


def _class(character: str) -> str:
    for kind in ("[0-9]", "[A-Z]", "[a-z]"):
        if re.fullmatch(kind, character):
            return kind
    if not character.isprintable():
        return "."
    return f"\\{character}" if character in "\\.+*?()|[]{}^$" else character


def _times(low: int, high: int) -> str:
    if low == high:
        return "" if low == 1 else f"{{{low}}}"
    return f"{{{low},{high}}}"


def _proposed(
    view: View, columns: Sequence[ColumnProfile], keys: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """Return what such data may be expected to be, before anybody has looked whether it is."""
    usable = [one for one in columns[:MOST_COUNTED] if _is_name(one.name)]
    key = next((list(key) for key in keys if all(map(_is_name, key))), None)
    expected: dict[str, Any] = {"key": key} if key else {}
    proposed = {one.name: _of_column(one, view.n, one.name in (key or ())) for one in usable}
    expected["columns"] = {name: one for name, one in proposed.items() if one}
    rules = [{"sql": sql} for sql in _orders(view, usable)]
    return expected | ({"rules": rules} if rules else {})


def _of_column(one: ColumnProfile, rows: int, is_key: bool) -> dict[str, Any]:
    known = rows - one.nulls
    if not known:
        return {}
    expected: dict[str, Any] = {}
    if one.type in {"text", "boolean", *_NUMBERS, *_SECONDS}:
        expected["type"] = one.type
    if not is_key and one.type in _NUMBERS and (ends := _ends(one)):
        expected["range"] = ends
    if one.type in _SECONDS and one.low and re.match(r"\d{4}-\d\d-\d\d", one.low):
        expected["range"] = [one.low[:10], None]
    if (
        one.type == "text"
        and one.top
        and one.distinct_is_exact
        and one.distinct <= min(MOST_VALUES, known / 10)
    ):
        expected["values"] = sorted(value for value, _ in one.top)
    elif one.pattern and one.lengths and one.lengths[1] <= _LONGEST_FORM and known >= MOST_VALUES:
        expected["pattern"] = one.pattern
    elif one.lengths:
        expected["length"] = [min(one.lengths[0], 1), math.ceil(one.lengths[1] * 1.5)]
    if not is_key:
        # Half as many again may be missing as are now.
        expected["nulls"] = min(1.0, math.ceil(150 * one.nulls / rows) / 100) if one.nulls else 0
    return expected


def _ends(one: ColumnProfile) -> list[Any] | None:
    """Return a range with round ends around all values, not below 0 if none of them is."""
    try:
        low, high = float(one.low or ""), float(one.high or "")
    except ValueError:
        return None
    # Also what is too large to have room around it.
    if not all(map(math.isfinite, (2 * low, 2 * high, 2 * (high - low)))):
        return None
    room = max(high - low, abs(high), 1e-9) * 0.1
    step = 10.0 ** math.floor(math.log10(room))
    ends = [math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step]
    if low >= 0:
        ends[0] = 0.0
    if one.type == "integer":
        return [math.floor(ends[0]), math.ceil(ends[1])]
    rounded = [float(f"{end:.12g}") for end in ends]
    return [int(end) if end == int(end) and abs(end) < 2**53 else end for end in rounded]


def _orders(view: View, columns: Sequence[ColumnProfile]) -> Iterator[str]:
    """Yield which dates or times never come after which others."""
    dated = [one.name for one in columns if one.type in _SECONDS]
    for kind in sorted({view.types[name] for name in dated}):
        names = [name for name in dated if view.types[name] == kind][:_MOST_RULE_COLUMNS]
        pairs = list(itertools.permutations(names, 2))
        if not pairs or not view.n:
            continue
        counted = [
            f"count_if({view.columns[a]} < {view.columns[b]}), count_if({view.columns[a]} > {view.columns[b]})"
            for a, b in pairs
        ]
        found = view.ask(f"SELECT {', '.join(counted)} FROM {view.name}")
        for (a, b), holds, breaks in zip(pairs, found[::2], found[1::2], strict=True):
            if holds and not breaks:
                yield _at_most(a, b)


def _at_most(one: str, other: str) -> str:
    """Return SQL that says that one column is at most another, with names in quotes only where they need them."""
    bare = f"{one} <= {other}"
    try:
        if Condition.parse(bare).columns == {one, other}:
            return bare
    except BadCondition:
        pass
    quoted = ('"' + name.replace('"', '""') + '"' for name in (one, other))
    return " <= ".join(quoted)


def _is_name(name: str) -> bool:
    try:
        named(name)
    except ValueError:
        return False
    return True


def _kept(rows: Rows, proposed: dict[str, Any], memory: str, threads: int | None) -> dict[str, Any]:
    """Return of what is proposed all that a spec can say, and that the rows pass: a sample's form may not be theirs."""
    columns = {
        name: one for name, one in proposed["columns"].items() if _can_be_said({"columns": {name: one}})
    }
    rules = [rule for rule in proposed.get("rules", ()) if _can_be_said({"rules": [rule]})]
    kept: dict[str, Any] = {**proposed, "columns": columns, "rules": rules}
    while True:
        found = judged_dimensions(rows, Expectations.model_validate(kept), memory=memory, threads=threads)
        broken = {
            name
            for one in found.values()
            if isinstance(one, Observation)
            for name in one.details.get("columns", {})
        }
        if not broken:
            return {name: one for name, one in kept.items() if one}
        for name in broken & set(columns):
            plain = {what: value for what, value in columns[name].items() if what in ("type", "nulls")}
            if plain == columns.pop(name):
                continue
            columns[name] = plain
        if not broken & set(proposed["columns"]):
            kept = {"columns": columns}


def _can_be_said(expected: Mapping[str, Any]) -> bool:
    try:
        Expectations.model_validate(expected)
    except ValueError:
        return False
    return True


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _row(one: ColumnProfile, rows: int) -> tuple[str, ...]:
    return (
        one.name[:200],
        one.type[:80],
        f"{one.nulls / rows:.2%}" if rows and one.nulls else "none",
        f"{'' if one.distinct_is_exact else 'about '}{one.distinct:,}",
        (one.low or "")[:60],
        (one.high or "")[:60],
        "" if one.mean is None else f"{one.mean:,.4g}",
        one.pattern or ", ".join(value[:40] for value, _ in one.top[:5]),
    )


def _facts(one: ColumnProfile, rows: int) -> Iterator[tuple[str, str]]:
    yield "type", one.type[:80]
    yield "rows that lack a value", f"{one.nulls:,} ({one.nulls / rows:.2%})" if rows else ""
    yield "different values", f"{'' if one.distinct_is_exact else 'about '}{one.distinct:,}"
    yield "lowest", (one.low or "")[:200]
    yield "highest", (one.high or "")[:200]
    yield "mean", "" if one.mean is None else f"{one.mean:,.6g}"
    yield "standard deviation", "" if one.deviation is None else f"{one.deviation:,.6g}"
    yield "quartiles", ", ".join(f"{value:,.6g}" for value in one.quantiles)
    yield "characters", f"{one.lengths[0]:,} to {one.lengths[1]:,}" if one.lengths else ""
    yield "form", one.pattern or ""
    yield "most frequent", ", ".join(f"{value[:60]} ({count:,})" for value, count in one.top[:10])


def _figure(one: ColumnProfile) -> dict[str, Any] | None:
    """Return a picture of how a column's values are distributed."""
    layout: dict[str, Any] = {
        "yaxis": {"title": {"text": "rows"}},
        "bargap": 0.05,
        "margin": {"t": 20},
        "height": 300,
    }
    if one.bins is not None and one.counts and not one.top:
        low, width = one.bins
        middles: list[Any] = [low + (i + 0.5) * width for i in range(len(one.counts))]
        if one.type in _SECONDS:
            start = datetime(1970, 1, 1, tzinfo=UTC)
            try:
                middles = [f"{start + timedelta(seconds=at):%Y-%m-%dT%H:%M:%S}" for at in middles]
            except OverflowError:
                return None
        return {"data": [{"type": "bar", "x": middles, "y": list(one.counts)}], "layout": layout}
    if not one.top:
        return None
    in_order = sorted(one.top, key=lambda pair: float(pair[0])) if one.type in _NUMBERS else one.top
    values, counts = zip(*in_order, strict=True)
    places = list(range(len(values)))
    ticks = {
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [as_label(value) or "(empty)" for value in values],
    }
    return {"data": [{"type": "bar", "x": places, "y": list(counts)}], "layout": {**layout, "xaxis": ticks}}
