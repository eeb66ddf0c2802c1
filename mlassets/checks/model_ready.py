"""Verdicts on the splits: deepchecks' train-test suite, and what must be counted on every row."""

from collections.abc import Iterator

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import segments
from mlassets.steps import MODEL_READY
from resources.things import Thing


@dg.multi_asset_check(name="model_ready_checks", specs=declare(MODEL_READY, "train_test", segments))
def model_ready_checks(
    context: dg.AssetCheckExecutionContext, model_ready: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Whether what is learnt on the training split can be measured on the test split."""
    from mlassets.quality.suites import judge_model_ready

    spec = home.project(model_ready.partition.key)
    judgement = judge_model_ready(
        model_ready.table(),
        task=spec.target.task,
        limits=spec.checks.limits,
        sample=spec.checks.sample,
        seed=spec.seed,
    )
    yield from report(context, home, model_ready, judgement)
