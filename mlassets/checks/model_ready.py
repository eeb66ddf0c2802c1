"""Verdicts on the splits: deepchecks' train-test suite, and what must be counted on every row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import segments
from mlassets.projects import ProjectSpec
from mlassets.releasing.release import made_from
from mlassets.steps import DRAW_DATA, MODEL_READY
from resources.things import Thing

if TYPE_CHECKING:
    from mlassets.quality.suites import Judgement


def verdicts_on(home: Home, model_ready: Thing) -> "Judgement":
    """Whether what is learnt on the training split can be measured on the test split."""
    from mlassets.quality.suites import judge_model_ready

    spec = home.project(model_ready.partition.key)
    table = model_ready.table()
    return judge_model_ready(
        table,
        task=spec.target.task,
        limits=spec.checks.limits,
        dates=_dates(home, model_ready, spec, table.num_rows),
        sample=spec.checks.sample,
        seed=spec.seed,
    )


@dg.multi_asset_check(name="model_ready_checks", specs=declare(MODEL_READY, "train_test", segments))
def model_ready_checks(
    context: dg.AssetCheckExecutionContext, model_ready: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Whether what is learnt on the training split can be measured on the test split."""
    yield from report(home, model_ready, verdicts_on(home, model_ready), context.run.run_id)


def _dates(home: Home, ready: Thing, spec: ProjectSpec, rows: int) -> pa.ChunkedArray | None:
    """The date of each row, which is no feature and so stands in the draw alone; its order is the same."""
    if spec.split.by != "time" or spec.split.column is None:
        return None
    draw = made_from(home.store, ready, DRAW_DATA).table([spec.target.column, spec.split.column])
    dates = draw.filter(pc.invert(pc.is_null(draw[spec.target.column], nan_is_null=True)))[spec.split.column]
    return dates if len(dates) == rows else None
