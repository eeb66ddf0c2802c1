"""The words of modelling that a project spec may use: tasks, metrics, candidates. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Literal

Task = Literal["binary", "multiclass", "regression"]

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")

METRICS: Mapping[Task, Mapping[str, bool]] = {
    "binary": {
        "roc_auc": True,
        "average_precision": True,
        "log_loss": False,
        "brier": False,
        "f1": True,
        "precision": True,
        "recall": True,
        "accuracy": True,
        "balanced_accuracy": True,
    },
    "multiclass": {
        "accuracy": True,
        "balanced_accuracy": True,
        "f1_macro": True,
        "log_loss": False,
        "roc_auc_ovr": True,
    },
    "regression": {"rmse": False, "mae": False, "r2": True, "median_absolute_error": False, "mape": False},
}
"""For each task its metrics, and whether higher is better. `mape` is absent where a true value is zero."""

DEFAULT_METRIC: Mapping[Task, str] = {
    "binary": "roc_auc",
    "multiclass": "balanced_accuracy",
    "regression": "rmse",
}

CANDIDATES: tuple[str, ...] = ("baseline", "linear", "gradient_boosting", "random_forest")

MIN_TRAINING_ROWS = 50
"""Rows that the training split must have before anything but the baseline is fitted."""
