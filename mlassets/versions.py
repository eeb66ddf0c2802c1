"""All versions of a project beside each other: parameters and metrics as a table, over time, and as parallel lines."""

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlassets.differences import shown
from mlassets.steps import MODEL, STEPS
from resources.errors import MlassetsError
from resources.store import Store

PARAMETER, METRIC = "parameters.", "metrics."
_ABOUT = ("id", "partition", "segment", "created_at", "user", "code_version")
# What a step tells among its parameters of how it went, and what is no single value.
_FOUND = (
    *(
        "importances",
        "importances_rows",
        "calibration_curve",
        "candidates",
        "trials",
        "trials_done",
        "intervals",
    ),
    *(
        "rows",
        "slices",
        "notes",
        "classes",
        "search_space",
        "coverage",
        "models",
        "sources",
        "features",
        "rework",
    ),
)
_PARAMETER_AXES, _METRIC_AXES = 8, 3
_LINES = 300
_TICKS = 8
_TABLE_ROWS = 200
_LOW, _HIGH = (217, 130, 43), (43, 108, 176)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_Values = Sequence[Any]


class NothingToCompare(MlassetsError):
    """There are no versions to compare, or they have no such metric."""


@dataclass(frozen=True)
class Versions:
    """The versions of one step of a project, oldest first.

    Attributes:
        project: The project.
        step: The step.
        table: One row for each: `id`, `partition`, `segment`, `created_at`, `user`, `code_version`, all of
            `parameters.*` and all of `metrics.*`.
        metric: The metric that matters most, as `metrics` names it; empty if nothing was measured.
    """

    project: str
    step: str
    table: pa.Table
    metric: str

    def to_arrow(self) -> pa.Table:
        """Return the table."""
        return self.table

    def to_pandas(self) -> Any:
        """Return the table as pandas has it."""
        return self.table.to_pandas()

    def varying(self) -> list[str]:
        """Return the columns of what was chosen and is not the same in all versions."""
        return [
            name
            for name in self.table.column_names
            if name.startswith(PARAMETER)
            and name.removeprefix(PARAMETER).split(".")[0] not in _FOUND
            and _is_choice(self.table[name])
        ]

    def measured(self) -> list[str]:
        """Return the columns of what was measured of the whole, the metric that matters most first."""
        names = [
            name
            for name in self.table.column_names
            if name.startswith(METRIC) and not name.endswith((".low", ".high"))
        ]
        best = METRIC + self.metric
        return sorted(names, key=lambda name: (name != best, not name.startswith(f"{METRIC}test."), name))

    def values(self, column: str) -> list[Any]:
        """Return the values of a column; one that the versions do not have is empty."""
        if column not in self.table.column_names:
            return [None] * self.table.num_rows
        found: list[Any] = self.table[column].to_pylist()
        return found


def versions_of(
    store: Store, project: str, step: str = MODEL, *, segment: str | None = None, metric: str = ""
) -> Versions:
    """Return the versions of one step of a project, oldest first; retired ones are left out.

    Args:
        store: The store.
        project: The project.
        step: The step.
        segment: Only this segment.
        metric: The metric that matters most; by default the project's, on the test split.

    Raises:
        NothingToCompare: If there is no version, or no version has the metric.
    """
    if step not in STEPS:
        raise NothingToCompare(f"{step!r} is no step of a project; the steps are {', '.join(STEPS)}")
    query = {"project": project, "step": step, **({"segment": segment} if segment else {})}
    found = store.find(query, sort="created_at")
    table = found.to_arrow([*_ABOUT, f"{PARAMETER}*", f"{METRIC}*"])
    if not table.num_rows:
        of = f"the segment {segment} of {project}" if segment else project
        raise NothingToCompare(
            f"{of} has no {step} yet; `mlassets find 'project={project}'` shows what there is"
        )
    measured = [name.removeprefix(METRIC) for name in table.column_names if name.startswith(METRIC)]
    if metric and metric not in measured:
        near = [name for name in measured if metric in name and not name.endswith((".low", ".high"))][:10]
        raise NothingToCompare(
            f"no {step} of {project} has the metric {metric!r}; there is {', '.join(near or measured[:10])}"
        )
    return Versions(project, step, table, metric or _main_metric(store, table, measured))


def _main_metric(store: Store, table: pa.Table, measured: Sequence[str]) -> str:
    spec = store.get(table["id"][-1].as_py()).spec() or {}
    name = f"test.{spec.get('model', {}).get('metric', '')}"
    known = [one for one in measured if not one.endswith((".low", ".high"))]
    return next((one for one in (name, "test.roc_auc", "test.rmse", "rows", *known) if one in known), "")


def _is_choice(column: pa.ChunkedArray) -> bool:
    values = column.to_pylist()
    present = [value for value in values if value is not None]
    if not present or len({str(value) for value in values}) == 1:
        return False
    if all(isinstance(value, str) for value in present):
        # Lists and mappings are told as JSON; ids differ always and say nothing.
        return not all(value[:1] in ("[", "{") or _ID.fullmatch(value) for value in present)
    return True


def over_time(versions: Versions, metric: str = "") -> dict[str, Any]:
    """Return a picture of a metric over time, a line for each partition, with its intervals."""
    name = METRIC + (metric or versions.metric)
    rows = list(
        zip(
            versions.values("partition"),
            versions.values("created_at"),
            versions.values(name),
            versions.values(f"{name}.low"),
            versions.values(f"{name}.high"),
            versions.values("id"),
            strict=True,
        )
    )
    lines = []
    for partition in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == partition and _number(row[2]) is not None]
        line: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": _label(partition),
            "x": [row[1].isoformat() for row in own],
            "y": [row[2] for row in own],
            "text": [html.escape(row[5]) for row in own],
            "hovertemplate": "%{y:.4g}<br>%{x}<br>%{text}<extra>%{fullData.name}</extra>",
        }
        if any(_number(row[3]) is not None and _number(row[4]) is not None for row in own):
            line["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": [_reach(row[4], row[2]) for row in own],
                "arrayminus": [_reach(row[2], row[3]) for row in own],
                "thickness": 1,
                "width": 3,
            }
        lines.append(line)
    layout = {
        "xaxis": {"title": {"text": "made (UTC)"}},
        "yaxis": {"title": {"text": _label(name.removeprefix(METRIC))}},
        "margin": {"t": 20, "r": 20},
        "showlegend": len(lines) > 1,
        "legend": {"orientation": "v"},
    }
    return {"data": lines, "layout": layout}


def _reach(high: Any, low: Any) -> float:
    both = _number(high), _number(low)
    return 0.0 if both[0] is None or both[1] is None else max(0.0, both[0] - both[1])


def parallel_coordinates(versions: Versions, columns: Sequence[str] = ()) -> dict[str, Any]:
    """Return a picture with an axis for each parameter and metric, and a line for each version.

    The lines go from orange to blue with the metric that matters most. Plotly's own trace of this kind compiles shaders
    at run time, which the policy of our pages does not allow; lines do.

    Args:
        versions: The versions; of very many the newest are shown.
        columns: The axes; by default parameters that vary, then the most important metrics.
    """
    axes = list(columns) or [
        *versions.varying()[:_PARAMETER_AXES],
        *reversed(versions.measured()[:_METRIC_AXES]),
    ]
    start = max(0, versions.table.num_rows - _LINES)
    scales = [_Scale.of(versions.values(name)[start:]) for name in axes]
    main = [_number(value) for value in versions.values(METRIC + versions.metric)[start:]]
    known = [value for value in main if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    ids, partitions = versions.values("id")[start:], versions.values("partition")[start:]
    lines: list[dict[str, Any]] = []
    for row, (name, partition) in enumerate(zip(ids, partitions, strict=True)):
        value = main[row]
        share = None if value is None else (value - low) / (high - low) if high > low else 1.0
        told = [
            f"{_label(axis, 60)}: {html.escape(scale.told[row])}"
            for axis, scale in zip(axes, scales, strict=True)
        ]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": list(range(len(axes))),
                "y": [scale.places[row] for scale in scales],
                "connectgaps": True,
                "line": {"color": _colour(share), "width": 1.5},
                "marker": {"size": 5},
                "opacity": 0.75,
                "showlegend": False,
                "text": ["<br>".join([html.escape(f"{partition} {name}"), *told])] * len(axes),
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    if known:
        lines.append(_colour_bar(low, high, versions.metric))
    layout = {
        "xaxis": {
            "tickvals": list(range(len(axes))),
            "ticktext": [_label(axis.removeprefix(PARAMETER).removeprefix(METRIC)) for axis in axes],
            "range": [-0.4, len(axes) - 0.6],
            "showgrid": True,
            "zeroline": False,
        },
        "yaxis": {"visible": False, "range": [-0.15, 1.15]},
        "margin": {"t": 20, "l": 20, "r": 20, "b": 40},
        "hovermode": "closest",
        "annotations": [
            {
                "x": at,
                "y": place,
                "text": html.escape(text),
                "showarrow": False,
                "bgcolor": "panel",
                "font": {"size": 10},
                **_beside(scale, place),
            }
            for at, scale in enumerate(scales)
            for place, text in scale.ticks
        ],
    }
    return {"data": lines, "layout": layout}


@dataclass(frozen=True)
class _Scale:
    """Where the values of one axis are: places from 0 to 1, what to say of each, and ticks."""

    places: list[float | None]
    told: list[str]
    ticks: list[tuple[float, str]]
    words: bool = False

    @classmethod
    def of(cls, values: _Values) -> "_Scale":
        told = ["" if value is None else shown(value, 40) for value in values]
        numbers = [_number(value) for value in values]
        if all(
            value is None or isinstance(value, float) or number is not None
            for value, number in zip(values, numbers, strict=True)
        ):
            known = [number for number in numbers if number is not None]
            if not known:
                return cls([None] * len(values), told, [])
            # What spans several powers of ten was chosen among powers of ten.
            log = min(known) > 0 and max(known) / min(known) > 1000
            turned = [None if one is None else math.log10(one) if log else one for one in numbers]
            ends = [one for one in turned if one is not None]
            low, high = min(ends), max(ends)
            places = [
                None if one is None else (one - low) / (high - low) if high > low else 0.5 for one in turned
            ]
            edges = [(0.0, f"{min(known):.4g}"), (1.0, f"{max(known):.4g}")]
            return cls(places, told, edges if high > low else [(0.5, f"{known[0]:.4g}")])
        words = sorted({word for value, word in zip(values, told, strict=True) if value is not None})
        place = {word: (at + 0.5) / len(words) for at, word in enumerate(words)}
        ticks = [(place[word], shown(word, 16)) for word in words[:: max(1, math.ceil(len(words) / _TICKS))]]
        return cls([place.get(word) if word else None for word in told], told, ticks, words=True)


def _beside(scale: _Scale, place: float) -> dict[str, Any]:
    """Say where a tick's text stands: words beside the axis, numbers above and below it."""
    if scale.words:
        return {"xanchor": "left", "xshift": 6}
    return {"xanchor": "center", "yshift": 14 if place > 0 else -14}


def _colour_bar(low: float, high: float, metric: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "showlegend": False,
        "hoverinfo": "skip",
        "marker": {
            "color": [low],
            "cmin": low,
            "cmax": high if high > low else low + 1e-9,
            "colorscale": [[0, _rgb(_LOW)], [1, _rgb(_HIGH)]],
            "showscale": True,
            "colorbar": {"title": {"text": _label(metric)}, "thickness": 12, "outlinewidth": 0},
        },
    }


def _colour(share: float | None) -> str:
    if share is None:
        return "rgb(140,145,152)"
    return _rgb(tuple(round(low + (high - low) * share) for low, high in zip(_LOW, _HIGH, strict=True)))


def _rgb(parts: Sequence[int]) -> str:
    return f"rgb({','.join(map(str, parts))})"


def _number(value: Any) -> float | None:
    """Return a value as a finite number, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _label(text: str, length: int = 28) -> str:
    """Return a name as plotly, which knows some HTML, shows it as it is."""
    return html.escape(shown(text, length))


def page(versions: Versions) -> bytes:
    """Return the comparison as one self-contained page, which opens offline."""
    from mlassets.quality.displays import Display, Figure, Table, Text
    from mlassets.quality.report import render_report

    table = versions.table
    made = versions.values("created_at")
    rows = [
        ("Project", versions.project),
        ("Step", versions.step),
        ("Versions", f"{table.num_rows:,}"),
        ("Made", f"{made[0]:%Y-%m-%d %H:%M} to {made[-1]:%Y-%m-%d %H:%M} UTC"),
        ("Metric", versions.metric or "none was measured"),
    ]
    sections: list[tuple[str, list[Display]]] = []
    if versions.metric:
        sections.append((f"{versions.metric} over time", [Figure(over_time(versions))]))
    if versions.varying() or versions.measured():
        about = "One line for each version, from orange to blue with the metric above."
        if table.num_rows > _LINES:
            about += f" Of {table.num_rows:,} versions the newest {_LINES} are shown."
        figure = Figure(parallel_coordinates(versions))
        sections.append(("What was chosen, and what came of it", [Text(about), figure]))
    header, cells = cells_of(versions, _TABLE_ROWS)
    listed: list[Display] = [Table(header, tuple(cells))]
    if table.num_rows > _TABLE_ROWS:
        listed.insert(
            0, Text(f"The newest {_TABLE_ROWS} of {table.num_rows:,}; `mlassets compare --csv` has all.")
        )
    sections.append(("Versions, newest first", listed))
    same = list(_same(versions))
    if same:
        sections.append(("The same in all versions", [Table(("Parameter", "Value"), tuple(same))]))
    return render_report(
        [], title=f"{versions.project}: {versions.step} compared", rows=rows, sections=sections
    )


def cells_of(
    versions: Versions, most: int, metrics: int = 4, parameters: int | None = None
) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
    """Return a table for a person, newest first: what varies and the most important metrics with their intervals.

    Args:
        versions: The versions.
        most: How many of them at most.
        metrics: How many metrics at most.
        parameters: How many parameters at most, those first that most versions have; None means all.
    """
    chosen, measured = versions.varying(), versions.measured()[:metrics]
    if parameters is not None:
        chosen = sorted(chosen, key=lambda name: versions.table[name].null_count)[:parameters]
    header = (
        *("partition", "made (UTC)", "id"),
        *(name.removeprefix(METRIC) for name in measured),
        *(name.removeprefix(PARAMETER) for name in chosen),
    )
    columns = [versions.values(name) for name in ("partition", "created_at", "id", *chosen)]
    triples = [[versions.values(f"{name}{end}") for end in ("", ".low", ".high")] for name in measured]

    def cells() -> Iterator[tuple[str, ...]]:
        last = versions.table.num_rows - 1
        for row in range(last, max(-1, last - most), -1):
            partition, made, name, *values = (column[row] for column in columns)
            told = ("" if value is None else shown(value, 40) for value in values)
            ends = (_with_interval(*(values[row] for values in triple)) for triple in triples)
            yield (shown(partition), f"{made:%Y-%m-%d %H:%M}", name.rpartition("-")[2][:8], *ends, *told)

    return header, cells()


def _with_interval(value: Any, low: Any, high: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4g} ({low:.4g} to {high:.4g})" if low is not None and high is not None else f"{value:.4g}"
    )


def _same(versions: Versions) -> Iterator[tuple[str, str]]:
    for name in versions.table.column_names:
        plain = name.removeprefix(PARAMETER)
        if name == plain or plain.split(".")[0] in _FOUND:
            continue
        values = versions.values(name)
        if len({str(value) for value in values}) == 1 and values[0] is not None:
            yield plain, shown(values[0], 200)


def as_records(versions: Versions) -> list[Mapping[str, Any]]:
    """Return the table as plain values that JSON can hold, without what a version does not have."""
    from mlassets.differences import plain

    return [
        {name: plain(value) for name, value in row.items() if value is not None}
        for row in versions.table.to_pylist()
    ]
