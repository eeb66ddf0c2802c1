"""publish: the released predictions, with everything needed to use and to trust them."""

from collections.abc import Iterator

import dagster as dg

from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.releasing.aliases import published
from mlassets.steps import CODE_VERSIONS, PUBLISH, step_hash
from resources.things import Draft, Thing


@dg.asset(
    name=PUBLISH,
    partitions_def=projects,
    io_manager_key="releases",
    code_version=CODE_VERSIONS[PUBLISH],
    kinds={"duckdb", "parquet"},
    group_name="steps",
    tags={"step": PUBLISH},
    output_required=False,
    pool="consumption_database",
)
def publish(context: dg.AssetExecutionContext, review: Thing, home: Home) -> Iterator[dg.Output[Draft]]:
    """The predictions of the approved version, its models in one bundle, and a model card.

    Nothing is published while the review waits or has rejected. What a person has rolled back or promoted since the
    approval is published again in its place.
    """
    spec = home.project(context.partition_key)
    if review.parameters["decision"] != "approve":
        context.log.info(
            f"{spec.project}: nothing to publish, the review says {review.parameters['decision']}"
        )
        return
    with home.store.recording() as read:
        release = published(home.store, review, spec)
    yield dg.Output(
        Draft(
            dataset=release.predictions,
            parameters=release.parameters,
            metrics={"round_trip_error": release.round_trip_error, "rows": release.predictions.num_rows},
            labels={"alias": release.parameters["alias"]},
            artifacts=release.artifacts,
            based_on=read,
            code_version=CODE_VERSIONS[PUBLISH],
            spec_hash=step_hash(spec, PUBLISH),
            spec=spec.text(),
        )
    )
