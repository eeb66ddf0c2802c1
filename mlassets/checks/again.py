"""Judging a version again that is there already: its checks never ended, or the project moved a limit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from mlassets.checks import aggregate, draw_data, model, model_ready, publish, review, sources
from mlassets.checks.reporting import NO_VERDICT_BLOCKS, report
from mlassets.home import Home
from mlassets.steps import AGGREGATE, DRAW_DATA, MODEL, MODEL_READY, PUBLISH, REVIEW, SOURCES
from resources.things import Partition, Thing

_JUDGES: Mapping[str, Callable[[Home, Thing], Any]] = {
    SOURCES: sources.verdicts_on,
    DRAW_DATA: draw_data.verdicts_on,
    MODEL_READY: model_ready.verdicts_on,
    MODEL: model.verdicts_on,
    AGGREGATE: aggregate.verdicts_on,
    REVIEW: review.verdicts_on,
    PUBLISH: publish.verdicts_on,
}


class JudgeConfig(dg.Config):
    """What to judge.

    Attributes:
        step: The step.
        partition: Key of the partition, whose newest version is judged.
    """

    step: str
    partition: str


@dg.op(out=dg.Out(is_required=False))
def judge(
    context: dg.OpExecutionContext, config: JudgeConfig, home: Home
) -> Iterator[dg.AssetCheckEvaluation]:
    """Judge the newest version of a step anew, without making it anew.

    Dagster runs partitioned checks together with their asset only. So this is no check of Dagster's: it reports the
    evaluations that the checks would.
    """
    key = config.partition
    partition = Partition.source(key) if config.step == SOURCES else Partition.parse(key)
    thing = home.store.require(config.step, partition)
    found = _JUDGES[config.step](home, thing)
    for result in report(home, thing, found, context.run_id):
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(config.step),
            check_name=result.check_name or "",
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            blocking=result.check_name == NO_VERDICT_BLOCKS,
            partition=config.partition,
        )


@dg.job(executor_def=dg.in_process_executor)
def judge_again() -> None:
    """Judge a version that is there already: its checks never ended, or the project moved a limit."""
    judge()


def judging(step: str, partition: str) -> dict[str, Any]:
    """Return the run configuration that judges the newest version of a step and partition."""
    return {"ops": {judge.name: {"config": {"step": step, "partition": partition}}}}
