"""aggregate: the predictions of all segments' models, and how good they are together."""

import dagster as dg

from mlassets.home import Home
from mlassets.modelling.aggregation import pool_predictions
from mlassets.partitions import projects, segments_of_project
from mlassets.rework import next_attempt
from mlassets.segments import segments_of
from mlassets.steps import AGGREGATE, CODE_VERSIONS, step_hash
from resources.io_managers import Upstream
from resources.things import Draft, Partition


@dg.asset(
    name=AGGREGATE,
    partitions_def=projects,
    io_manager_key="things",
    # Segments whose models are missing are left out here; the check `segments_are_covered` judges it.
    ins={
        "model": dg.AssetIn(
            partition_mapping=segments_of_project, metadata={"allow_missing_partitions": True}
        )
    },
    code_version=CODE_VERSIONS[AGGREGATE],
    kinds={"pyarrow"},
    group_name="steps",
    tags={"step": AGGREGATE},
)
def aggregate(context: dg.AssetExecutionContext, model: Upstream, home: Home) -> Draft:
    """One table of predictions, with pooled and per-segment metrics.

    Only the segments that the project has today take part. Missing ones are named in `coverage`, and judged
    by the check `segments_are_covered`.
    """
    spec, key = home.project(context.partition_key), context.partition_key
    attempt = next_attempt(spec, home.store, AGGREGATE, Partition.parse(key))
    wanted = {name: Partition.segment(spec.project, name).key for name in segments_of(spec, home.store) or []}
    models = {name: model[key] for name, key in wanted.items() if key in model}
    pooled = pool_predictions(
        {name: thing.table() for name, thing in models.items()},
        {name: thing.metrics for name, thing in models.items()},
        task=spec.target.task,
        metric=spec.model.metric,
        method=spec.aggregate.method,
        seed=spec.seed,
        bytes_in=sum(one.size for thing in models.values() for one in thing.components),
    )
    return Draft(
        dataset=pooled.predictions,
        parameters=pooled.parameters
        | {
            "coverage": {"expected": sorted(wanted), "present": sorted(models)},
            "models": {name: thing.id for name, thing in models.items()},
            **attempt.as_parameters(),
        },
        metrics=pooled.metrics,
        artifacts=pooled.artifacts,
        based_on=attempt.based_on,
        code_version=CODE_VERSIONS[AGGREGATE],
        spec_hash=step_hash(spec, AGGREGATE),
        spec=spec.text(),
    )
