"""Every check of deepchecks' three suites runs here, on every task, and none of them crashes."""

import pytest

from mlassets.quality import deepchecks_compat, frames
from mlassets.quality.checks import CHECKS, Task
from mlassets.quality.deepchecks_adapter import OBSERVE, Deepchecks, Judged
from mlassets.quality.judging import DoesNotApply, Observation
from mlassets_tests.quality.recipes import TASKS, draw, fitted, model_ready
from resources.roles import ROW_KEY, features_of

DEEPCHECKS = [entry for entry in CHECKS if entry.deepchecks]


def test_the_table_names_every_check_of_the_three_suites_once() -> None:
    deepchecks_compat.load()
    from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation

    theirs = {
        "integrity": data_integrity(),
        "train_test": train_test_validation(),
        "evaluation": model_evaluation(),
    }
    for suite, checks in theirs.items():
        ours = [entry.deepchecks for entry in DEEPCHECKS if entry.suite == suite]
        assert sorted(ours) == sorted(type(check).__name__ for check in checks.checks.values())
    assert set(OBSERVE) == {entry.deepchecks for entry in DEEPCHECKS}


@pytest.mark.parametrize("task", TASKS)
def test_no_check_crashes_on_dates_indexes_nulls_and_categories(task: Task) -> None:
    drawn, ready = draw(task), model_ready(task)
    rows = frames.frame(drawn, ["when"])
    kinds = features_of(ready.schema)
    prepared = frames.model_frame(ready, kinds, ["target", ROW_KEY])
    prepared["when"] = rows["when"]
    bound = int(len(rows) * 0.6)
    plain = ["size", "weight", "pieces", "price", "colour", "flag", "maybe", "note", "same"]
    whole = Judged(
        rows, None, "target", task, plain, ["colour", "flag", "maybe"], "key", "when", drawn_from=1
    )
    apart = Judged(
        train=prepared.iloc[:bound],
        test=prepared.iloc[bound:],
        target="target",
        task=task,
        features=list(kinds),
        categorical=["colour", "flag"],
        key=ROW_KEY,
        date="when",
        estimator=fitted(ready, task),
    )
    contexts = {
        "integrity": Deepchecks(whole),
        "train_test": Deepchecks(apart),
        "evaluation": Deepchecks(apart),
    }

    applied = set()
    for entry in DEEPCHECKS:
        try:
            seen = contexts[entry.suite].observe(entry)
        except DoesNotApply:
            assert task not in entry.tasks, f"{entry.claim} says that it does not apply to {task}"
            continue
        assert isinstance(seen, Observation)
        assert seen.value == seen.value, f"{entry.claim} observed NaN"
        applied.add(entry.deepchecks)
    assert applied == {entry.deepchecks for entry in DEEPCHECKS if task in entry.tasks}


def test_deepchecks_stays_silent_and_offline() -> None:
    import os

    import numpy as np

    deepchecks_compat.load()
    from deepchecks.analytics import anonymous_telemetry

    assert anonymous_telemetry.ANALYTICS_DISABLED
    assert os.environ["DISABLE_DEEPCHECKS_ANONYMOUS_TELEMETRY"]
    assert not hasattr(np, "Inf"), "numpy itself is left as it was"
    from sklearn.metrics import get_scorer_names

    assert "max_error" not in get_scorer_names()
