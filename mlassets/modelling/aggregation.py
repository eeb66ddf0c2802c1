"""Put the segments' predictions together and say how good they are as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from mlassets.modelling.evaluation import score_predictions
from mlassets.modelling.explanation import bars_picture
from mlassets.modelling.metrics import METRICS, Task

SEGMENT = "segment"


@dataclass(frozen=True)
class Pooled:
    """All segments' predictions and what was measured on them.

    Attributes:
        predictions: The segments' tables one below the other, with a first column `segment`.
        parameters: Method and weights.
        metrics: `test.{metric}` for the project, `segment.{name}.{metric}`, `spread.{metric}` (largest minus smallest
            of the segments), `worst_segment.{metric}`, and `compression_ratio`.
        artifacts: A picture that compares the segments.
    """

    predictions: pa.Table
    parameters: dict[str, Any]
    metrics: dict[str, float]
    artifacts: dict[str, bytes]


def pool_predictions(
    predictions: Mapping[str, pa.Table],
    measured: Mapping[str, Mapping[str, float]],
    *,
    task: Task,
    metric: str,
    method: Literal["weighted", "unweighted"],
    seed: int,
    bytes_in: int = 0,
) -> Pooled:
    """Pool the test predictions of all segments.

    Args:
        predictions: Each segment's test predictions, as made by `train`.
        measured: Each segment's flat metrics.
        task: What the target is.
        metric: The metric that the picture compares.
        method: `weighted`: metrics on all rows together, each row counting the same, with bootstrap intervals.
            `unweighted`: the mean of the segments' metrics, each segment counting the same, without intervals.
        seed: Seed of the bootstrap.
        bytes_in: Size of what the predictions came from; `compression_ratio` is this per byte of predictions.
    """
    names = sorted(predictions)
    labelled = [
        predictions[name].add_column(0, SEGMENT, pa.array([name] * predictions[name].num_rows, pa.string()))
        for name in names
    ]
    # A class that one segment has never seen has no probability there.
    pooled = pa.concat_tables(labelled, promote_options="default").combine_chunks()
    rows = {name: predictions[name].num_rows for name in names}
    metrics: dict[str, float] = {}
    for one in METRICS[task]:
        values = {name: measured[name][f"test.{one}"] for name in names if f"test.{one}" in measured[name]}
        for name, value in values.items():
            metrics[f"segment.{name}.{one}"] = value
        if not values:
            continue
        metrics[f"spread.{one}"] = max(values.values()) - min(values.values())
        metrics[f"worst_segment.{one}"] = min(values.values()) if METRICS[task][one] else max(values.values())
        if method == "unweighted":
            metrics[f"test.{one}"] = sum(values.values()) / len(values)
    if method == "weighted" and pooled.num_rows:
        scored = score_predictions(pooled, task, seed=seed)
        metrics |= {f"test.{name}": value for name, value in scored.items()}
    if bytes_in and pooled.nbytes:
        metrics["compression_ratio"] = bytes_in / pooled.nbytes
    metrics["rows"] = pooled.num_rows
    metrics["segments"] = len(names)
    total = sum(rows.values())
    weights = {
        name: (rows[name] / total if total else 0.0) if method == "weighted" else 1 / len(names)
        for name in names
    }
    key = f"test.{metric}"
    bars = {
        name: (of[key], of.get(f"{key}.low", of[key]), of.get(f"{key}.high", of[key]))
        for name in names
        if key in (of := measured[name])
    }
    pictures = {"segments.png": bars_picture(bars, metric, f"{metric} on test, by segment")} if bars else {}
    return Pooled(pooled, {"method": method, "weights": weights}, metrics, pictures)
