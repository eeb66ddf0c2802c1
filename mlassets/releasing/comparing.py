"""A version beside the champion of its project, on the same rows: per segment and together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.metrics import METRICS, Task
from mlassets.projects import ProjectSpec
from mlassets.releasing.bundles import MODEL_FILE
from mlassets.releasing.release import champion_of, made_from
from mlassets.steps import MODEL_READY
from resources.errors import MlassetsError
from resources.roles import ROW_KEY, SPLIT
from resources.store import Store
from resources.things import Thing

Interval = tuple[float, float]


@dataclass(frozen=True)
class Beside:
    """Two models on the same rows.

    Attributes:
        champion: The champion's metrics.
        gains: How much better the version is, by metric; positive is better, whichever direction the metric has.
        interval: 95 % interval of the gain in the project's metric, paired on the same resamples.
    """

    champion: Mapping[str, float]
    gains: Mapping[str, float]
    interval: Interval | None


@dataclass(frozen=True)
class Compared:
    """A version beside the champion.

    Attributes:
        release: Id of the champion; None where there is none.
        together: All rows of all segments that both have; None if nothing could be compared.
        segments: Each segment by itself.
        left_out: Segments that were not compared, with the reason.
    """

    release: str | None = None
    together: Beside | None = None
    segments: Mapping[str, Beside] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def not_compared(self) -> str:
        """Why there is nothing to compare, if there is a champion and it was not compared at all."""
        if self.release is None or self.together is not None:
            return ""
        reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
        return f"no segment could be compared with the champion ({reasons})"


def compare_with_champion(store: Store, aggregate: Thing, spec: ProjectSpec) -> Compared:
    """Let the champion's models predict the rows that the version was tested on, and measure both.

    The champion is the one of today, whichever it was when the models were trained. Segments that one of both does
    not have are left out of both.
    """
    champion = champion_of(store, spec.project)
    if champion is None:
        return Compared()
    store.read(champion)
    task, released = spec.target.task, champion.parameters.get("models", {})
    predictions = aggregate.table()
    left_out: dict[str, str] = {}
    pairs: dict[str, tuple[pa.Table, pa.Table]] = {}
    for name, model_id in sorted(aggregate.parameters.get("models", {}).items()):
        if name not in released:
            left_out[name] = "the champion does not have it"
            continue
        new = predictions.filter(pc.equal(predictions["segment"], name))
        try:
            old = _predicted(store, store.get(model_id), store.read(released[name]), new, task)
        except (MlassetsError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
            left_out[name] = f"its champion cannot predict these rows ({error})"
            continue
        if new.num_rows:
            pairs[name] = new, old
        else:
            left_out[name] = "it has no test rows"
    left_out |= dict.fromkeys(
        sorted(set(released) - set(pairs) - set(left_out)), "this version does not have it"
    )
    segments = {name: beside(new, old, spec) for name, (new, old) in pairs.items()}
    together = _together(pairs, segments, spec) if pairs else None
    return Compared(champion.id, together, segments, left_out)


def _predicted(store: Store, model: Thing, champion: Thing, new: pa.Table, task: Task) -> pa.Table:
    """Return the champion's predictions of the rows that a model was tested on, beside their true values."""
    from mlassets.modelling.persistence import load_estimator
    from mlassets.modelling.prediction import predict_rows

    rows = made_from(store, model, MODEL_READY).table(filter=pc.field(SPLIT) == "test")
    if rows[ROW_KEY].to_pylist() != new[ROW_KEY].to_pylist():
        raise ValueError("its rows are not those that were predicted")
    estimator = load_estimator(champion.artifact(MODEL_FILE))
    known = getattr(estimator.steps[-1][1], "classes_", None)
    if (known is None) != (task == "regression"):
        raise ValueError("it was trained for another task")
    predicted = predict_rows(estimator, rows, task)
    return predicted.append_column("actual", new["actual"])


def _together(
    pairs: Mapping[str, tuple[pa.Table, pa.Table]], segments: Mapping[str, Beside], spec: ProjectSpec
) -> Beside:
    if len(pairs) == 1:
        return next(iter(segments.values()))
    new, old = (
        pa.concat_tables([pair[place] for pair in pairs.values()], promote_options="default")
        for place in (0, 1)
    )
    pooled = beside(new, old, spec)
    if spec.aggregate.method == "weighted":
        return pooled
    # Each segment counts the same, as in the version's own metrics.
    names = set.intersection(*(set(one.gains) for one in segments.values()))

    def mean(part: str, name: str) -> float:
        return float(sum(getattr(one, part)[name] for one in segments.values()) / len(segments))

    return Beside(
        {name: mean("champion", name) for name in sorted(names)},
        {name: mean("gains", name) for name in sorted(names)},
        None,
    )


def beside(new: pa.Table, old: pa.Table, spec: ProjectSpec) -> Beside:
    """Measure two tables of predictions of the same rows, in the same order."""
    from mlassets.modelling.evaluation import point_metrics, scored_from

    task, metric = spec.target.task, spec.model.metric
    models = {
        "model": scored_from(_with_classes_of(new, old), task),
        "champion": scored_from(_with_classes_of(old, new), task),
    }
    mine, theirs = (point_metrics(models[name]) for name in ("model", "champion"))
    gains = {
        name: (1.0 if higher else -1.0) * (mine[name] - theirs[name])
        for name, higher in METRICS[task].items()
        if name in mine and name in theirs
    }
    interval = _interval(models, metric, gains[metric], spec) if metric in gains else None
    return Beside(theirs, gains, interval)


def _interval(models: Mapping[str, Any], metric: str, gain: float, spec: ProjectSpec) -> Interval | None:
    """Return the paired interval of a gain; of many rows from a seeded sample, its spread scaled to all of them."""
    import numpy as np

    from mlassets.modelling.evaluation import ROWS_PER_RESAMPLE, resample

    rows = len(models["model"])
    share = 1.0
    if rows > ROWS_PER_RESAMPLE:
        chosen = np.sort(np.random.default_rng(spec.seed).choice(rows, ROWS_PER_RESAMPLE, replace=False))
        models = {name: scored.rows(chosen) for name, scored in models.items()}
        share = float(np.sqrt(ROWS_PER_RESAMPLE / rows))
    resampled = resample(models, spec.seed, wanted={name: [metric] for name in models})
    if any(metric not in points for points in resampled.points.values()):
        return None
    point, ends = resampled.gain("model", "champion", metric, spec.target.task)
    return (gain + (ends[0] - point) * share, gain + (ends[1] - point) * share) if ends else None


def _with_classes_of(table: pa.Table, other: pa.Table) -> pa.Table:
    """Return a table of predictions with a column for every class that the other one knows; nulls count as zero."""
    for name in other.column_names:
        if name.startswith("probability_") and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
    return table


def as_parameters(compared: Compared, metric: str) -> dict[str, Any]:
    """Return the comparison in one metric as plain JSON-serialisable values."""

    def plain(one: Beside | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {
            "champion": one.champion.get(metric),
            "gain": one.gains.get(metric),
            "interval": list(one.interval) if one.interval else None,
        }

    return {
        "champion": compared.release,
        "metric": metric,
        "together": plain(compared.together),
        "segments": {name: plain(one) for name, one in compared.segments.items()},
        "left_out": dict(compared.left_out),
    }
