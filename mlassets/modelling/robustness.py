"""What small damage to the input does to a model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlassets.modelling.evaluation import Scored, one_metric
from mlassets.modelling.metrics import METRICS
from resources.roles import Kind

NOISE = 0.1
"""Standard deviation of the noise, in standard deviations of the feature."""

MISSING_SHARE = 0.1
SHUFFLED_SHARE = 0.1

Damage = Callable[[Any, Mapping[str, Kind], np.random.Generator], Any]


def _noise(frame: Any, kinds: Mapping[str, Kind], rng: np.random.Generator) -> Any:
    changed = {}
    for name, kind in kinds.items():
        if kind == "numeric":
            values = frame[name].to_numpy(dtype=np.float64)
            known = values[np.isfinite(values)]
            spread = float(known.std()) if len(known) else 0.0
            changed[name] = values + rng.normal(0.0, NOISE * spread, size=len(values))
    return frame.assign(**changed) if changed else None


def _missing(frame: Any, kinds: Mapping[str, Kind], rng: np.random.Generator) -> Any:
    lost = {name: rng.random(len(frame)) < MISSING_SHARE for name in kinds}
    return frame.assign(**{name: frame[name].mask(rows) for name, rows in lost.items()})


def _shuffled_categories(frame: Any, kinds: Mapping[str, Kind], rng: np.random.Generator) -> Any:
    changed = {}
    for name, kind in kinds.items():
        if kind != "numeric":
            values = frame[name].to_numpy().copy()
            rows = np.flatnonzero(rng.random(len(values)) < SHUFFLED_SHARE)
            values[rows] = values[rng.permutation(rows)]
            changed[name] = values
    return frame.assign(**changed) if changed else None


DAMAGES: Mapping[str, Damage] = {
    "noise": _noise,
    "missing_values": _missing,
    "shuffled_categories": _shuffled_categories,
}
"""Noise of a tenth of a standard deviation on numbers; a tenth of all values missing; a tenth of each category's
values exchanged between rows."""


def robustness(
    predict: Callable[[Any], Scored],
    frame: Any,
    scored: Scored,
    kinds: Mapping[str, Kind],
    metric: str,
    *,
    seed: int,
) -> dict[str, float]:
    """Return by kind of damage which share of `metric` is lost; positive is worse, in either direction of the metric.

    Args:
        predict: Takes a frame, returns the `Scored` of its rows.
        frame: Features of the rows, at best not of the test split.
        scored: The outputs on the rows as they are.
        kinds: Kind of each feature.
        metric: The metric.
        seed: Seed of the damage.
    """
    whole = one_metric(scored, metric)
    if whole is None or not kinds:
        return {}
    sign = 1.0 if METRICS[scored.task][metric] else -1.0
    losses: dict[str, float] = {}
    for name, damage in DAMAGES.items():
        changed = damage(frame, kinds, np.random.default_rng([seed, len(name)]))
        value = None if changed is None else one_metric(predict(changed), metric)
        if value is not None:
            losses[name] = sign * (whole - value) / max(abs(whole), 1e-12)
    return losses
