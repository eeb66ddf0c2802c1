"""Record what deepchecks finds on the stack it was written for, for `test_parity.py` to compare with.

Run once, from the root of the repository, in a virtual environment of its own:

    python3.11 -m venv old
    old/bin/pip install deepchecks==0.19.1 numpy==1.26.4 pandas==2.3.3 scikit-learn==1.5.2 \
        "category_encoders<2.7" "setuptools<81"
    old/bin/python -m mlassets_tests.quality.record_old_stack

It reads `recorded/rows.csv.gz`, seeded rows that `recipes.spoilt` made (no Arrow of today runs beside numpy 1),
and writes `recorded/old_stack.json`.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from mlassets.quality.checks import CHECKS, Task, limit_of
from mlassets.quality.deepchecks_adapter import Deepchecks, Judged
from mlassets.quality.judging import DoesNotApply
from mlassets_tests.quality.hand_made import HandMade

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
RECORDED = Path(__file__).parent / "recorded"
FEATURES = ["size", "weight", "pieces", "price", "colour", "code", "twin"]
CATEGORICAL = ["colour", "code"]


def recorded_rows() -> pd.DataFrame:
    """Return the recorded rows, strings as objects with None for null, on either stack.

    The three classes are numbers: with words, deepchecks' scorers per class fail on scikit-learn 1.5 (its default
    positive label 1 is looked for among them).
    """
    rows = pd.read_csv(
        RECORDED / "rows.csv.gz",
        keep_default_na=False,
        na_values=[""],
        parse_dates=["when"],
        # What pandas 3 does by default, and pandas 2 only when asked.
        **({} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}),
    )
    for name in rows.columns:
        if pd.api.types.is_string_dtype(rows[name]):
            rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
    rows["target_multiclass"] = (
        rows["target_multiclass"].map({"low": 0, "middle": 1, "top": 2}).astype("int64")
    )
    return rows


def judged_for(suite: str, task: Task) -> Judged:
    """Return the recorded rows as one suite is given them: all rows, or the first 60 % against the rest."""
    target = f"target_{task}"
    rows = recorded_rows().drop(columns=[f"target_{other}" for other in TASKS if other != task])
    bound = int(len(rows) * 0.6)
    whole = suite == "integrity"
    return Judged(
        train=rows if whole else rows.iloc[:bound].reset_index(drop=True),
        test=None if whole else rows.iloc[bound:].reset_index(drop=True),
        target=target,
        task=task,
        features=FEATURES,
        categorical=CATEGORICAL,
        key="key",
        date="when",
        estimator=HandMade(task) if suite == "evaluation" else None,
        seed=3,
        drawn_from=len(rows),
    )


def observe_all(task: Task) -> dict[str, dict[str, Any]]:
    """Return, by claim, what deepchecks observes and whether the default limit holds."""
    found: dict[str, dict[str, Any]] = {}
    contexts = {
        suite: Deepchecks(judged_for(suite, task), with_display=False)
        for suite in ("integrity", "train_test", "evaluation")
    }
    for entry in CHECKS:
        if entry.deepchecks is None:
            continue
        try:
            seen = contexts[entry.suite].observe(entry)
        except DoesNotApply as reason:
            found[entry.claim] = {"does_not_apply": str(reason)}
        except Exception as error:  # noqa: BLE001  # a crash of the old stack is part of what is recorded
            # Weak segments of a regression: scikit-learn 1.5 refuses deepchecks' own stand-in for a model.
            found[entry.claim] = {"crashed": f"{type(error).__name__}: {error}"}
        else:
            found[entry.claim] = {"observed": seen.value, "holds": limit_of(entry, {}).holds(seen.value)}
            if not math.isfinite(seen.value):
                raise ValueError(f"{entry.claim} on {task} is {seen.value}")
    return found


def main() -> None:
    """Write the recordings."""
    packages = ("deepchecks", "numpy", "pandas", "scikit-learn", "category_encoders")
    recording = {"versions": {name: version(name) for name in packages}} | {
        task: observe_all(task) for task in TASKS
    }
    (RECORDED / "old_stack.json").write_text(json.dumps(recording, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
