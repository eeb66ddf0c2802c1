"""Verdicts on a model: deepchecks' evaluation suite, the spec's limits, the baseline, the champion."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import segments
from mlassets.releasing.bundles import MODEL_FILE
from mlassets.releasing.release import made_from
from mlassets.steps import MODEL, MODEL_READY
from resources.things import Thing

if TYPE_CHECKING:
    from mlassets.quality.suites import Judgement


def verdicts_on(home: Home, model: Thing) -> "Judgement":
    """Whether the model is good enough, on what was never used to choose it."""
    from mlassets.modelling.persistence import load_estimator
    from mlassets.quality.suites import judge_model

    spec = home.project(model.partition.key)
    return judge_model(
        made_from(home.store, model, MODEL_READY).table(),
        load_estimator(model.artifact(MODEL_FILE)),
        task=spec.target.task,
        metrics=model.metrics,
        limits=spec.checks.limits,
        fallback=model.parameters.get("fallback"),
        sample=spec.checks.sample,
        seed=spec.seed,
    )


@dg.multi_asset_check(name="model_checks", specs=declare(MODEL, "evaluation", segments))
def model_checks(
    context: dg.AssetCheckExecutionContext, model: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Whether the model is good enough, on what was never used to choose it."""
    yield from report(home, model, verdicts_on(home, model), context.run.run_id)
