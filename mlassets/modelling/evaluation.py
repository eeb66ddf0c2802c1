"""How good predictions are: metrics with bootstrap intervals, paired gains, slices, calibration, thresholds.

Every metric is computed for many weightings of the rows at once. A bootstrap resample is a weighting (how often each
row was drawn), so the metric itself (all ones), its resamples and the pairing of two models on the same resamples
are one computation. The tests hold each metric against scikit-learn's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.metrics import METRICS, Task
from resources.errors import MlassetsError
from resources.roles import ROW_KEY

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 200
LEVEL: Final = 0.95
ROWS_PER_RESAMPLE: Final = 20_000
"""Larger tables are resampled to this many rows and the spread scaled to all rows (m out of n bootstrap, Bickel,
Götze and van Zwet 1997)."""

ACTUAL, PREDICTION, PROBABILITY = "actual", "prediction", "probability"
_CELLS_AT_ONCE: Final = 2_000_000
_SMALLEST: Final = float(np.finfo(np.float64).eps)
_BINS: Final = 10


class NotScorable(MlassetsError):
    """A table of predictions lacks what its task needs."""


@dataclass(frozen=True)
class Scored:
    """True values beside one model's outputs, row by row.

    Attributes:
        task: What the target is.
        actual: True values: 0/1, class index into `classes`, or the number.
        predicted: Predicted values, coded the same way.
        probability: For a binary target that of class 1 (rows), for a multiclass one a column per class.
        classes: The class names of a multiclass target, sorted.
    """

    task: Task
    actual: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    probability: Floats | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.actual)

    def rows(self, chosen: npt.NDArray[Any]) -> "Scored":
        """Return the chosen rows, given as a mask or as row numbers."""
        probability = None if self.probability is None else self.probability[chosen]
        return Scored(self.task, self.actual[chosen], self.predicted[chosen], probability, self.classes)


Weighted = Callable[[Floats], Floats]
"""Takes weights (resamples x rows), returns a metric for each resample; NaN where it is undefined."""


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _mean_of(values: npt.NDArray[Any]) -> Weighted:
    values = values.astype(np.float64)
    return lambda w: _divide(w @ values, w.sum(axis=1))


def _ranked(actual: npt.NDArray[Any], score: Floats) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Return a function from weights to (positives, negatives) per distinct score, best score first."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = (
        np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(score) else np.zeros(0, dtype=int)
    )
    positive = actual[order] == 1

    def groups(w: Floats) -> tuple[Floats, Floats]:
        sorted_w = w[:, order]
        positives = sorted_w * positive
        negatives = sorted_w - positives
        if len(starts) < len(order):
            positives = np.add.reduceat(positives, starts, axis=1)
            negatives = np.add.reduceat(negatives, starts, axis=1)
        return positives, negatives

    return groups


def _roc_auc(actual: npt.NDArray[Any], score: Floats) -> Weighted:
    groups = _ranked(actual, score)

    def auc(w: Floats) -> Floats:
        positives, negatives = groups(w)
        above = np.cumsum(positives, axis=1) - positives / 2
        return _divide((above * negatives).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))

    return auc


def _average_precision(actual: npt.NDArray[Any], score: Floats) -> Weighted:
    groups = _ranked(actual, score)

    def average(w: Floats) -> Floats:
        positives, negatives = groups(w)
        found = np.cumsum(positives, axis=1)
        seen = np.cumsum(negatives, axis=1) + found
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        # Without a single negative the metric is 1 whatever the model does, which says nothing.
        some = np.where(negatives.sum(axis=1) > 0, found[:, -1], 0.0)
        return _divide((precision * positives).sum(axis=1), some)

    return average


def _binary(scored: Scored) -> dict[str, Weighted]:
    actual, predicted, score = scored.actual, scored.predicted, scored.probability
    assert score is not None
    cells = np.stack(
        [
            (actual == 1) & (predicted == 1),
            (actual == 0) & (predicted == 1),
            (actual == 1) & (predicted == 0),
            (actual == 0) & (predicted == 0),
        ],
        axis=1,
    ).astype(np.float64)

    def confusion(w: Floats) -> Floats:
        return (w @ cells).T

    def precision(w: Floats) -> Floats:
        tp, fp, fn, _ = confusion(w)
        # scikit-learn's convention: no positive prediction is a precision of 0, not an undefined one.
        return np.where(tp + fn > 0, _divide(tp, np.maximum(tp + fp, 1e-300)), np.nan)

    def recall(w: Floats) -> Floats:
        tp, _, fn, _ = confusion(w)
        return _divide(tp, tp + fn)

    def f1(w: Floats) -> Floats:
        tp, fp, fn, _ = confusion(w)
        return np.where(tp + fn > 0, _divide(2 * tp, 2 * tp + fp + fn), np.nan)

    def balanced(w: Floats) -> Floats:
        tp, fp, fn, tn = confusion(w)
        return (_divide(tp, tp + fn) + _divide(tn, tn + fp)) / 2

    clipped = np.clip(score, _SMALLEST, 1 - _SMALLEST)
    return {
        "roc_auc": _roc_auc(actual, score),
        "average_precision": _average_precision(actual, score),
        "log_loss": _mean_of(-np.where(actual == 1, np.log(clipped), np.log1p(-clipped))),
        "brier": _mean_of((score - actual) ** 2),
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "accuracy": _mean_of(actual == predicted),
        "balanced_accuracy": balanced,
    }


def _multiclass(scored: Scored) -> dict[str, Weighted]:
    actual, predicted, probability = scored.actual, scored.predicted, scored.probability
    assert probability is not None
    numbers = np.arange(len(scored.classes))
    is_actual = (actual[:, None] == numbers).astype(np.float64)
    is_predicted = (predicted[:, None] == numbers).astype(np.float64)
    hits = is_actual * is_predicted
    total = probability.sum(axis=1)
    true_class = probability[np.arange(len(actual)), actual] / np.where(total > 0, total, 1.0)

    def balanced(w: Floats) -> Floats:
        return _mean_of_defined(_divide(w @ hits, w @ is_actual))

    def f1_macro(w: Floats) -> Floats:
        return _mean_of_defined(_divide(2 * (w @ hits), w @ is_actual + w @ is_predicted))

    areas = [_roc_auc(is_actual[:, k], probability[:, k]) for k in numbers]

    def roc_auc_ovr(w: Floats) -> Floats:
        # Undefined as soon as one class is absent: another class's mean is not the same metric.
        return np.asarray(np.mean([area(w) for area in areas], axis=0))

    return {
        "accuracy": _mean_of(actual == predicted),
        "balanced_accuracy": balanced,
        "f1_macro": f1_macro,
        "log_loss": _mean_of(-np.log(np.clip(true_class, _SMALLEST, 1.0))),
        "roc_auc_ovr": roc_auc_ovr,
    }


def _mean_of_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def _regression(scored: Scored) -> dict[str, Weighted]:
    actual = scored.actual.astype(np.float64)
    error = scored.predicted.astype(np.float64) - actual
    squared = error**2
    distance = np.abs(error)
    order = np.argsort(distance, kind="stable")
    # Centred, so that a large mean does not swallow the variance.
    centred = actual - actual.mean() if len(actual) else actual

    def rmse(w: Floats) -> Floats:
        return np.asarray(np.sqrt(_mean_of(squared)(w)))

    def r2(w: Floats) -> Floats:
        rows = w.sum(axis=1)
        spread = w @ centred**2 - _divide((w @ centred) ** 2, rows)
        return 1 - _divide(
            w @ squared, np.where(spread > 1e-12 * np.maximum(w @ centred**2, 1e-300), spread, 0.0)
        )

    def median(w: Floats) -> Floats:
        reached = np.cumsum(w[:, order], axis=1)
        half = reached[:, -1:] / 2
        lower = distance[order][np.argmax(reached >= half, axis=1)]
        upper = distance[order][np.argmax(reached > half, axis=1)]
        return np.asarray((lower + upper) / 2)

    metrics: dict[str, Weighted] = {
        "rmse": rmse,
        "mae": _mean_of(distance),
        "r2": r2,
        "median_absolute_error": median,
    }
    if len(actual) and (actual != 0).all():
        metrics["mape"] = _mean_of(distance / np.abs(actual))
    return metrics


def _metrics_of(scored: Scored) -> dict[str, Weighted]:
    return {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[scored.task](scored)


def point_metrics(scored: Scored) -> dict[str, float]:
    """Return every metric that is defined on these rows; one that needs an absent class is left out."""
    if not len(scored):
        return {}
    once = np.ones((1, len(scored)))
    values = {name: float(metric(once)[0]) for name, metric in _metrics_of(scored).items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def one_metric(scored: Scored, metric: str) -> float | None:
    """Return one metric, or None where it is undefined."""
    if not len(scored):
        return None
    weighted = _metrics_of(scored).get(metric)
    value = float(weighted(np.ones((1, len(scored))))[0]) if weighted else np.nan
    return value if np.isfinite(value) else None


@dataclass(frozen=True)
class Resampled:
    """The metrics of several models on the same rows and the same bootstrap resamples.

    Attributes:
        points: Metric by model, on all rows.
        resamples: Resampled metric values by model and metric.
        scale: What the spread of the resamples is multiplied with, below 1 if they hold fewer rows than there are.
    """

    points: Mapping[str, Mapping[str, float]]
    resamples: Mapping[str, Mapping[str, Floats]]
    scale: float

    def interval(self, model: str, metric: str) -> tuple[float, float] | None:
        """Return the percentile interval of a metric, or None if too few resamples define it."""
        return self._ends(self.points[model][metric], self.resamples[model][metric])

    def gain(
        self, model: str, other: str, metric: str, task: Task
    ) -> tuple[float, tuple[float, float] | None]:
        """Return how much better `model` is than `other`, with its paired interval.

        Positive is better, whichever direction the metric has.
        """
        sign = 1.0 if METRICS[task][metric] else -1.0
        point = sign * (self.points[model][metric] - self.points[other][metric])
        return point, self._ends(
            point, sign * (self.resamples[model][metric] - self.resamples[other][metric])
        )

    def _ends(self, point: float, values: Floats) -> tuple[float, float] | None:
        defined = values[np.isfinite(values)]
        if 2 * len(defined) < len(values) or not len(values):
            return None
        tail = (1 - LEVEL) / 2
        low, high = point + self.scale * (np.quantile(defined, [tail, 1 - tail]) - point)
        # The percentiles of a biased statistic on few rows can miss the point itself.
        return float(min(low, point)), float(max(high, point))


def resample(
    models: Mapping[str, Scored],
    seed: int,
    resamples: int = RESAMPLES,
    wanted: Mapping[str, Sequence[str]] | None = None,
) -> Resampled:
    """Compute the metrics of all models on all rows, and on the same bootstrap resamples of them.

    Args:
        models: Several models' outputs on the same rows.
        seed: Seed of the resamples.
        resamples: How many are drawn.
        wanted: Metrics to resample for a model; all where it is not named. Points are always computed for all.
    """
    first = next(iter(models.values()))
    rows = len(first)
    points = {name: point_metrics(scored) for name, scored in models.items()}
    if not rows:
        return Resampled(points, {name: {} for name in models}, 1.0)
    drawn = min(rows, ROWS_PER_RESAMPLE)
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // rows)
    functions = {name: _metrics_of(scored) for name, scored in models.items()}
    chosen = {
        name: [m for m in points[name] if m in (wanted or {}).get(name, points[name])] for name in models
    }
    parts: dict[str, dict[str, list[Floats]]] = {name: {m: [] for m in chosen[name]} for name in models}
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        picks = rng.integers(0, rows, size=(count, drawn))
        weights = np.stack([np.bincount(pick, minlength=rows) for pick in picks]).astype(np.float64)
        for name, metrics in functions.items():
            for metric in chosen[name]:
                parts[name][metric].append(metrics[metric](weights))
    values = {name: {m: np.concatenate(p) for m, p in metrics.items()} for name, metrics in parts.items()}
    return Resampled(points, values, float(np.sqrt(drawn / rows)))


def best_threshold(actual: npt.NDArray[Any], probability: Floats, metric: str) -> tuple[float, str]:
    """Choose the probability from which a binary model says 1.

    The threshold maximises `metric` where that depends on one in both directions (`f1`, `accuracy`,
    `balanced_accuracy`) and `f1` otherwise. It lies halfway between two probabilities that occur.

    Returns:
        The threshold and the metric that it maximises; 0.5 where the rows hold a single class.
    """
    criterion = metric if metric in ("accuracy", "balanced_accuracy") else "f1"
    positives = float((actual == 1).sum())
    negatives = float(len(actual) - positives)
    if not positives or not negatives:
        return 0.5, "none"
    values, where = np.unique(-probability, return_inverse=True)
    tp = np.r_[0.0, np.cumsum(np.bincount(where, weights=actual == 1))]
    fp = np.r_[0.0, np.cumsum(np.bincount(where, weights=actual == 0))]
    quality = {
        "f1": 2 * tp / (tp + fp + positives),
        "accuracy": (tp + negatives - fp) / len(actual),
        "balanced_accuracy": (tp / positives + (negatives - fp) / negatives) / 2,
    }[criterion]
    edges = np.r_[1.0, -values, 0.0]
    between = (edges[:-1] + edges[1:]) / 2
    return float(between[int(np.argmax(quality))]), criterion


@dataclass(frozen=True)
class Calibration:
    """How far predicted probabilities are from observed shares.

    Attributes:
        metrics: `expected_error` (mean over rows of the distance in a row's bin), `worst_bin`, `bias`.
        curve: Per bin of equal size: mean predicted probability, observed share, rows.
    """

    metrics: dict[str, float]
    curve: list[dict[str, float]]


def calibration(scored: Scored) -> Calibration:
    """Compare predicted probabilities with observed shares in ten bins of equal size.

    Multiclass: the probability of the predicted class with how often it is right (Guo et al. 2017). Regression has
    only the bias, the mean of prediction minus true value.
    """
    if not len(scored):
        return Calibration({}, [])
    if scored.task == "regression":
        return Calibration({"bias": float((scored.predicted - scored.actual).mean())}, [])
    assert scored.probability is not None
    if scored.task == "binary":
        score, outcome = scored.probability, (scored.actual == 1).astype(np.float64)
    else:
        score = scored.probability.max(axis=1)
        outcome = (scored.probability.argmax(axis=1) == scored.actual).astype(np.float64)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, score, side="right")
    rows = np.bincount(bins, minlength=len(edges) + 1).astype(np.float64)
    kept = rows > 0
    predicted = np.bincount(bins, weights=score, minlength=len(rows))[kept] / rows[kept]
    observed = np.bincount(bins, weights=outcome, minlength=len(rows))[kept] / rows[kept]
    distance = np.abs(predicted - observed)
    return Calibration(
        {
            "expected_error": float((distance * rows[kept]).sum() / rows.sum()),
            "worst_bin": float(distance.max()),
            "bias": float(score.mean() - outcome.mean()),
        },
        [
            {"predicted": float(p), "observed": float(o), "rows": float(n)}
            for p, o, n in zip(predicted, observed, rows[kept], strict=True)
        ],
    )


@dataclass(frozen=True)
class Slices:
    """A metric on parts of the rows, the worst parts first.

    Attributes:
        kept: Column, value, rows, metric value of each kept slice.
        considered: How many slices were large enough to be measured.
    """

    kept: list[dict[str, Any]]
    considered: int


def worst_slices(
    scored: Scored,
    columns: Mapping[str, pa.ChunkedArray],
    metric: str,
    *,
    min_rows: int = 30,
    max_values: int = 50,
    keep: int = 20,
) -> Slices:
    """Measure `metric` for every value of the given columns and keep the worst slices.

    Args:
        scored: The rows.
        columns: Categorical and boolean columns of the same rows; null is a value.
        metric: The metric; a slice where it is undefined is not considered.
        min_rows: Smaller slices are left out: their metric is noise.
        max_values: Of a column with more values only the most frequent are considered.
        keep: How many slices are kept.
    """
    found: list[dict[str, Any]] = []
    for name, column in columns.items():
        counts = sorted(pc.value_counts(column).to_pylist(), key=lambda c: (-c["counts"], str(c["values"])))
        for entry in counts[:max_values]:
            if not min_rows <= entry["counts"] < len(scored):
                continue
            value = entry["values"]
            mask = column.is_null() if value is None else pc.fill_null(pc.equal(column, value), False)
            measured = one_metric(scored.rows(mask.to_numpy().astype(bool)), metric)
            if measured is not None:
                shown = (
                    "(missing)"
                    if value is None
                    else str(value).lower()
                    if isinstance(value, bool)
                    else str(value)
                )
                found.append({"column": name, "value": shown, "rows": entry["counts"], metric: measured})
    sign = 1.0 if METRICS[scored.task][metric] else -1.0
    found.sort(key=lambda s: (sign * s[metric], s["column"], s["value"]))
    return Slices(found[:keep], len(found))


def probability_column(name: str) -> str:
    """Return the column that holds a class's probability: percent-encoded, so that any class name is safe."""
    return f"{PROBABILITY}_{quote(name, safe='')}"


def predictions_table(row_keys: pa.ChunkedArray, scored: Scored) -> pa.Table:
    """Return predictions beside the true values: row_key, actual, prediction and the probabilities."""
    names = np.array(scored.classes, dtype=object)

    def decoded(codes: npt.NDArray[Any]) -> pa.Array:
        if scored.task == "multiclass":
            return pa.array(names[codes], type=pa.string())
        return pa.array(codes, type=pa.int64() if scored.task == "binary" else pa.float64())

    columns: dict[str, Any] = {
        ROW_KEY: row_keys.cast(pa.string()),
        ACTUAL: decoded(scored.actual),
        PREDICTION: decoded(scored.predicted),
    }
    if scored.task == "binary" and scored.probability is not None:
        columns[PROBABILITY] = pa.array(scored.probability, type=pa.float64())
    if scored.task == "multiclass" and scored.probability is not None:
        for k, name in enumerate(scored.classes):
            columns[probability_column(name)] = pa.array(scored.probability[:, k], type=pa.float64())
    return pa.table(columns)


def scored_from(predictions: pa.Table, task: Task) -> Scored:
    """Read a table of predictions back, such as several segments' tables joined by their union of columns.

    Raises:
        NotScorable: If a column that the task needs is missing.
    """
    needed = [ACTUAL, PREDICTION, *([PROBABILITY] if task == "binary" else [])]
    if lacking := [name for name in needed if name not in predictions.column_names]:
        raise NotScorable(
            f"the predictions lack {', '.join(lacking)}, which a {task} target needs; they have "
            f"{', '.join(predictions.column_names)}. Train the model again with this task."
        )
    actual, predicted = predictions[ACTUAL], predictions[PREDICTION]
    if task == "regression":
        return Scored(task, actual.to_numpy().astype(np.float64), predicted.to_numpy().astype(np.float64))
    if task == "binary":
        score = predictions[PROBABILITY].to_numpy().astype(np.float64)
        return Scored(task, actual.to_numpy().astype(np.int64), predicted.to_numpy().astype(np.int64), score)
    prefix = f"{PROBABILITY}_"
    columns = {unquote(c[len(prefix) :]): c for c in predictions.column_names if c.startswith(prefix)}
    seen = {*pc.unique(actual).to_pylist(), *pc.unique(predicted).to_pylist()}
    classes = tuple(sorted(seen | set(columns)))
    probability = np.zeros((predictions.num_rows, len(classes)))
    for k, name in enumerate(classes):
        if name in columns:
            # A class that a segment's model never met has no column there, hence null after the join.
            probability[:, k] = pc.fill_null(predictions[columns[name]], 0.0).to_numpy()
    return Scored(task, class_codes(actual, classes), class_codes(predicted, classes), probability, classes)


def class_codes(column: pa.ChunkedArray, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the index of each value in `classes`."""
    found = pc.index_in(column, value_set=pa.array(classes, type=pa.string()))
    return np.asarray(found.to_numpy(), dtype=np.int64)


def score_predictions(
    predictions: pa.Table, task: Task, *, seed: int = 0, intervals: bool = True
) -> dict[str, float]:
    """Return every metric of a table of predictions, each with `.low` and `.high` if intervals are wanted.

    Args:
        predictions: As made by `train`, or several such tables joined (`promote_options="default"`).
        task: What the target is.
        seed: Seed of the bootstrap.
        intervals: Whether to compute the 95 % bootstrap intervals.
    """
    scored = scored_from(predictions, task)
    if not intervals:
        return point_metrics(scored)
    return with_intervals(resample({"model": scored}, seed), "model")


def with_intervals(resampled: Resampled, model: str) -> dict[str, float]:
    """Return the metrics of one model as flat names: `{metric}`, `{metric}.low`, `{metric}.high`."""
    flat: dict[str, float] = {}
    for metric, value in resampled.points[model].items():
        flat[metric] = value
        if ends := resampled.interval(model, metric):
            flat[f"{metric}.low"], flat[f"{metric}.high"] = ends
    return flat
