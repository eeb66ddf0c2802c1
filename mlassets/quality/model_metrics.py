"""What a model's flat metrics say: against its baseline, the champion, the spec's limits, and perturbed inputs."""

from collections.abc import Mapping

from mlassets.quality.checks import CHECKS, metric_of
from mlassets.quality.judging import DoesNotApply, Observation
from resources.verdicts import Limit, Severity, Verdict


class ModelMetrics:
    """Observations on the metrics of one model.

    Args:
        metrics: Flat metrics by name (`test.roc_auc`, `gain_over_baseline.roc_auc.low`).
        train_rows: Rows in the training split.
        test_rows: Rows in the test split.
        fallback: Why the baseline was kept in place of a trained model, if it was.
    """

    def __init__(
        self, metrics: Mapping[str, float], *, train_rows: int, test_rows: int, fallback: str | None = None
    ) -> None:
        self._metrics, self._fallback = metrics, fallback
        self._train_rows, self._n = train_rows, test_rows

    def training_rows(self) -> Observation:
        """Count the training rows; a fallback counts as none."""
        found = f"{self._train_rows:,} training rows."
        details = {"training_rows": self._train_rows, "fallback": self._fallback}
        if self._fallback:
            return Observation(0, self._train_rows, f"{found} {self._fallback}", details)
        return Observation(self._train_rows, self._train_rows, found, details)

    def gain_over_baseline(self) -> Observation:
        """Return the lower end of the interval of the gain over the baseline."""
        return self._gain("baseline", ".low")

    def gain_over_champion(self) -> Observation:
        """Return the upper end of the interval of the gain over the champion."""
        return self._gain("champion", ".high")

    def calibration_error(self) -> Observation:
        """Return the largest calibration error that the metrics hold."""
        held = {
            name: value
            for name, value in self._metrics.items()
            if name.startswith("calibration.") and metric_of(name).endswith(("error", "ece"))
        }
        if not held:
            raise DoesNotApply("the model's metrics hold no calibration error", self._n)
        name = max(held, key=lambda metric: held[metric])
        found = f"`{name}` is {held[name]:.3f} on {self._n:,} test rows."
        return Observation(held[name], self._n, found, held, self._n)

    def robustness_loss(self) -> Observation:
        """Return the largest relative loss of a metric under perturbation."""
        held = {name: value for name, value in self._metrics.items() if name.startswith("robustness.")}
        losses = {name: value for name, value in held.items() if name.endswith("loss")}
        if not losses:
            raise DoesNotApply("the model's metrics hold no loss under perturbation", self._n)
        name = max(losses, key=lambda metric: losses[metric])
        return Observation(losses[name], self._n, f"`{name}` is {losses[name]:.3f}.", held)

    def _gain(self, over: str, end: str) -> Observation:
        prefix = f"gain_over_{over}."
        names = [name for name in self._metrics if name.startswith(prefix) and name.endswith(end)]
        if not names:
            raise DoesNotApply(f"the metrics hold no comparison with the {over}", self._n)
        name = names[0]
        middle = self._metrics.get(name.removesuffix(end), float("nan"))
        low, high = (self._metrics.get(name.removesuffix(end) + e, float("nan")) for e in (".low", ".high"))
        metric = name.removeprefix(prefix).removesuffix(end)
        found = f"`{metric}` gains {middle:.4g} over the {over} (interval {low:.4g} to {high:.4g})."
        return Observation(self._metrics[name], self._n, found, {"metric": metric, "gain": middle})


def metrics_verdict(claim: str, metrics: Mapping[str, float], limits: Mapping[str, Limit], n: int) -> Verdict:
    """Hold every limit that names a metric against it, in one verdict.

    A bare name (`roc_auc`) means the test split's. A limit on a metric that the model does not report is broken:
    what was not measured is not met. The verdict's severity is the worst of the limits broken, or, with none
    broken, the worst stated.
    """
    checks = {name for e in CHECKS for name in (e.claim, e.measure)}
    flat = {
        name: name if name in metrics else f"test.{name}"
        for name in limits
        if name not in checks or name in metrics or f"test.{name}" in metrics
    }
    if not flat:
        return Verdict(
            claim, "not_applicable", "WARN", None, None, n, "Does not apply: the spec limits no metric.", {}
        )
    broken, words, figures = [], [], {}
    for name, full in flat.items():
        value, limit = metrics.get(full), limits[name]
        figures[full] = {"observed": value, "limit": str(limit), "severity": limit.severity}
        if value is not None and limit.holds(value):
            continue
        broken.append(name)
        words.append(
            f"`{full}` is not among the metrics" if value is None else f"`{full}` is {value:.4g}, not {limit}"
        )
    severities = {limits[name].severity for name in (broken or flat)}
    severity: Severity = "ERROR" if "ERROR" in severities else "WARN"
    text = ", ".join(f"{name} {limits[name]}" for name in flat)
    message = "; ".join(words) + "." if words else f"All {len(flat)} limits hold."
    status = "failed" if broken else "passed"
    return Verdict(
        claim,
        "failed" if status == "failed" else "passed",
        severity,
        float(len(broken)),
        text,
        n,
        message,
        figures,
    )
