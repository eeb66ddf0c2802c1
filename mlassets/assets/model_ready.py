"""model_ready: typed features, target, row key and split of one segment."""

import dagster as dg
import pyarrow as pa

from mlassets.home import Home
from mlassets.modelling.features import make_model_ready
from mlassets.partitions import segments
from mlassets.rework import next_attempt
from mlassets.steps import CODE_VERSIONS, MODEL_READY, step_hash
from resources.things import Draft, Partition


@dg.asset(
    name=MODEL_READY,
    partitions_def=segments,
    io_manager_key="things",
    code_version=CODE_VERSIONS[MODEL_READY],
    kinds={"pyarrow"},
    group_name="steps",
    tags={"step": MODEL_READY},
)
def model_ready(context: dg.AssetExecutionContext, draw_data: pa.Table, home: Home) -> Draft:
    """Typed features, target, row key and split of one segment.

    Row-wise transformations only: whatever has to be fitted is fitted later, on the training split.
    """
    spec, key = home.project(context.partition_key), context.partition_key
    attempt = next_attempt(spec, home.store, MODEL_READY, Partition.parse(key))
    ready = make_model_ready(
        draw_data,
        target=spec.target.column,
        task=spec.target.task,
        positive=spec.target.positive,
        key=spec.key,
        drop=spec.features.drop,
        kinds=spec.features.kinds,
        by=spec.split.by,
        split_column=spec.split.column,
        test=spec.split.test,
        validation=spec.split.validation,
        seed=spec.seed,
    )
    return Draft(
        dataset=ready.table,
        parameters=ready.parameters | attempt.as_parameters(),
        metrics=ready.metrics,
        based_on=attempt.based_on,
        code_version=CODE_VERSIONS[MODEL_READY],
        spec_hash=step_hash(spec, MODEL_READY),
        spec=spec.text(),
    )
