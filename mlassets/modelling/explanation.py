"""Pictures and importances of a model. Imports matplotlib when a picture is drawn."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlassets.modelling.evaluation import Calibration, Scored, one_metric
from mlassets.modelling.metrics import METRICS

_INK, _FAINT = "#1f4e79", "#b0b7bf"


def permutation_importances(
    predict: Any, frame: Any, scored: Scored, metric: str, *, seed: int, repeats: int = 3
) -> dict[str, dict[str, float]]:
    """Measure what each feature is worth: how much worse `metric` gets when its values are shuffled.

    Args:
        predict: Takes a frame, returns the `Scored` of these rows.
        frame: Features of the rows.
        scored: The outputs on the rows as they are.
        metric: The metric; a positive importance is a loss without the feature, in either direction of the metric.
        seed: Seed of the shuffles.
        repeats: Shuffles per feature.

    Returns:
        Mean and standard deviation by feature, the most important first; empty where the metric is undefined.
    """
    import pandas as pd

    whole = one_metric(scored, metric)
    if whole is None:
        return {}
    sign = 1.0 if METRICS[scored.task][metric] else -1.0
    rng = np.random.default_rng(seed)
    rows = len(frame)
    shuffles = [rng.permutation(rows) for _ in range(repeats)]
    stacked = pd.concat([frame] * repeats, ignore_index=True)
    losses: dict[str, npt.NDArray[np.float64]] = {}
    for name in frame.columns:
        column = frame[name].to_numpy()
        changed = stacked.assign(**{name: np.concatenate([column[order] for order in shuffles])})
        outcome: Scored = predict(changed, repeats)
        values = [
            one_metric(outcome.rows(np.arange(k * rows, (k + 1) * rows)), metric) for k in range(repeats)
        ]
        losses[name] = np.array([sign * (whole - value) for value in values if value is not None])
    return {
        name: {"mean": float(found.mean()), "std": float(found.std())}
        for name, found in sorted(losses.items(), key=lambda item: (-item[1].mean(), item[0]))
    }


def importances_picture(
    importances: Mapping[str, Mapping[str, float]], metric: str, *, top: int = 20
) -> bytes:
    """Draw the most important features as bars; returns a PNG."""
    shown = list(importances.items())[:top][::-1]
    figure, (axes,) = _canvas(1, height=1.2 + 0.28 * len(shown), width=7.0)
    axes.barh(
        [_plain_label(name) for name, _ in shown],
        [of["mean"] for _, of in shown],
        xerr=[of["std"] for _, of in shown],
        color=_INK,
        ecolor=_FAINT,
    )
    axes.set_xlabel(f"loss in {metric} when the feature is shuffled")
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    return _png(figure)


def curves_picture(scored: Scored, calibrated: Calibration, title: str) -> bytes:
    """Draw what a person wants to see of test predictions; returns a PNG.

    Binary: ROC, precision-recall and calibration. Multiclass: the confusion matrix and calibration. Regression:
    predicted against true values and the residuals.
    """
    if scored.task == "binary":
        figure, panels = _canvas(3)
        _roc_and_precision(panels, scored)
        _calibration(panels[2], calibrated)
    elif scored.task == "multiclass":
        figure, panels = _canvas(2)
        _confusion(panels[0], scored)
        _calibration(panels[1], calibrated)
    else:
        figure, panels = _canvas(2)
        _residuals(panels, scored)
    figure.suptitle(_plain_label(title, 80), fontsize=10)
    return _png(figure)


def bars_picture(values: Mapping[str, tuple[float, float, float]], metric: str, title: str) -> bytes:
    """Draw one value with its interval (value, low, high) per name, such as a metric per segment; returns a PNG."""
    shown = list(values.items())[:60][::-1]
    figure, (axes,) = _canvas(1, height=1.4 + 0.28 * len(shown), width=7.0)
    for at, (_, (value, low, high)) in enumerate(shown):
        axes.plot([low, high], [at, at], color=_FAINT, linewidth=3, solid_capstyle="round")
        axes.plot([value], [at], "o", color=_INK)
    axes.set_yticks(range(len(shown)), [_plain_label(name) for name, _ in shown])
    axes.set_xlabel(metric)
    figure.suptitle(_plain_label(title, 80), fontsize=10)
    return _png(figure)


def _roc_and_precision(panels: Sequence[Any], scored: Scored) -> None:
    assert scored.probability is not None
    values, where = np.unique(-scored.probability, return_inverse=True)
    tp = np.r_[0.0, np.cumsum(np.bincount(where, weights=scored.actual == 1, minlength=len(values)))]
    fp = np.r_[0.0, np.cumsum(np.bincount(where, weights=scored.actual == 0, minlength=len(values)))]
    keep = np.unique(np.linspace(0, len(tp) - 1, 400).astype(int))
    tp, fp = tp[keep], fp[keep]
    panels[0].plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
    if fp[-1] and tp[-1]:
        panels[0].plot(fp / fp[-1], tp / tp[-1], color=_INK)
    panels[0].set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    if tp[-1]:
        panels[1].plot(tp[1:] / tp[-1], tp[1:] / (tp[1:] + fp[1:]), color=_INK)
        panels[1].axhline(tp[-1] / (tp[-1] + fp[-1]), color=_FAINT, linestyle="--", linewidth=1)
    panels[1].set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.02))


def _calibration(axes: Any, calibrated: Calibration) -> None:
    axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
    axes.plot(
        [b["predicted"] for b in calibrated.curve],
        [b["observed"] for b in calibrated.curve],
        "o-",
        color=_INK,
    )
    axes.set(xlabel="mean predicted probability", ylabel="observed share", title="calibration")


def _confusion(axes: Any, scored: Scored) -> None:
    size = len(scored.classes)
    counts = np.bincount(scored.actual * size + scored.predicted, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 12:
        for row in range(size):
            for column in range(size):
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=7
                )
    if size <= 30:
        labels = [_plain_label(name, 14) for name in scored.classes]
        axes.set_xticks(range(size), labels, rotation=90)
        axes.set_yticks(range(size), labels)
    axes.set(xlabel="predicted", ylabel="actual", title="confusion (shares of each actual class)")


def _residuals(panels: Sequence[Any], scored: Scored) -> None:
    chosen = np.unique(np.linspace(0, len(scored) - 1, min(len(scored), 3000)).astype(int))
    actual, predicted = scored.actual[chosen], scored.predicted[chosen]
    panels[0].plot(predicted, actual, ".", markersize=3, alpha=0.4, color=_INK)
    ends = [float(min(actual.min(), predicted.min())), float(max(actual.max(), predicted.max()))]
    panels[0].plot(ends, ends, color=_FAINT, linestyle="--", linewidth=1)
    panels[0].set(xlabel="predicted", ylabel="actual", title="predicted against actual")
    panels[1].hist(scored.predicted - scored.actual, bins=40, color=_INK)
    panels[1].set(xlabel="predicted minus actual", ylabel="rows", title="residuals")


def _canvas(panels: int, *, height: float = 3.6, width: float | None = None) -> tuple[Any, Sequence[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width or 3.6 * panels, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.tick_params(labelsize=8)
    return figure, axes


def _png(figure: Any) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _plain_label(text: str, longest: int = 40) -> str:
    """Shorten a label and keep matplotlib from reading `$` as mathematics."""
    short = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")
