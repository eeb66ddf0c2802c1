"""model: the best candidate for one segment, with its test predictions."""

import dagster as dg
import pyarrow as pa

from mlassets.conditions import ON_NEW_INPUT
from mlassets.home import Home
from mlassets.modelling.training import train
from mlassets.partitions import segments
from mlassets.releasing.release import champion_model
from mlassets.rework import next_attempt
from mlassets.steps import CODE_VERSIONS, MODEL, step_hash
from resources.limits import limited
from resources.things import Draft, Partition


@dg.asset(
    name=MODEL,
    partitions_def=segments,
    io_manager_key="things",
    automation_condition=ON_NEW_INPUT,
    code_version=CODE_VERSIONS[MODEL],
    kinds={"scikitlearn", "optuna"},
    group_name="steps",
    tags={"step": MODEL},
)
def model(context: dg.AssetExecutionContext, model_ready: pa.Table, home: Home) -> Draft:
    """The best candidate for one segment, with its test predictions.

    Every candidate is tuned on the validation split; the best one meets the test split once. The
    model is compared there, on the same rows, with a trivial baseline and with the project's champion.
    """
    spec, key = home.project(context.partition_key), context.partition_key
    limits, tune = spec.model.limits, spec.model.tune
    attempt = next_attempt(spec, home.store, MODEL, Partition.parse(key))
    with (
        home.store.recording() as read,
        limited(seconds=limits.seconds, memory=limits.memory, what=f"{key} {MODEL}"),
    ):
        trained = train(
            model_ready,
            task=spec.target.task,
            candidates=[name for name in spec.model.candidates if name not in attempt.left_out],
            metric=spec.model.metric,
            trials=tune.trials * attempt.search,
            seconds=tune.seconds * attempt.search,
            seed=spec.seed,
            segment=key,
            champion=champion_model(home.store, Partition.parse(key)),
            progress=context.log.info,
        )
    return Draft(
        dataset=trained.predictions,
        parameters=trained.parameters | {"notes": trained.notes} | attempt.as_parameters(),
        metrics=trained.metrics,
        artifacts=trained.artifacts,
        based_on=[*read, *attempt.based_on],
        code_version=CODE_VERSIONS[MODEL],
        spec_hash=step_hash(spec, MODEL),
        spec=spec.text(),
    )
