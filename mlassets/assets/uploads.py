"""uploads: what people log outside of the pipeline."""

import dagster as dg

from mlassets.partitions import names
from resources.uploads import UPLOADS

uploads = dg.AssetSpec(
    UPLOADS,
    partitions_def=names,
    description="What people logged with `store.log`, `store.upload` or `mlassets log`: a version for each time that "
    "they did, under the name that they gave it.",
    # With the steps: Dagster folds the whole graph into boxes as soon as there are two groups.
    group_name="steps",
    kinds={"parquet"},
    tags={"step": UPLOADS},
).with_io_manager_key("things")
