"""What starts work: landed files, new data, and changed specs. Each sensor wraps a plain planner."""

from collections.abc import Iterable, Mapping

import dagster as dg

from mlassets.automation.partition_changes import PartitionChanges, plan_partitions
from mlassets.automation.planners import Decision, decide, run_together
from mlassets.checks.again import judge_again, judging
from mlassets.home import Home
from mlassets.ingestion.taking import plan_landing
from mlassets.partitions import PROJECT, SEGMENT, SOURCE, projects, segments, sources
from mlassets.steps import DRAW_DATA, PROJECT_STEPS, SEGMENT_STEPS, SOURCES
from resources.errors import MlassetsError
from resources.settings import Settings

SECONDS_BETWEEN_LOOKS = Settings.load().seconds_between_looks

DIMENSIONS: Mapping[str, dg.DynamicPartitionsDefinition] = {
    PROJECT: projects,
    SEGMENT: segments.get_partitions_def_for_dimension(SEGMENT),  # type: ignore[dict-item]
    SOURCE: sources,
}

# A job of Dagster's holds assets of one partitioning, and a sensor may ask for runs of several jobs.
source_job = dg.define_asset_job("landed_files", dg.AssetSelection.assets(SOURCES))
segment_job = dg.define_asset_job("segment_steps", dg.AssetSelection.assets(*SEGMENT_STEPS))
project_job = dg.define_asset_job("project_steps", dg.AssetSelection.assets(*PROJECT_STEPS))


@dg.sensor(
    job=source_job,
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Files landed: asks for their sources, once for the same content.",
)
def new_files_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """Files landed: ask for their sources, once for the same content."""
    loaded = home.projects()
    plan = plan_landing(context.cursor, loaded.sources, home.settings, home.store)
    for note in plan.notes:
        context.log.info(note)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(partition_key=name, run_key=f"{SOURCES}|{name}|{identity}")
            for name, identity in plan.requests.items()
        ],
        cursor=plan.cursor,
        dynamic_partitions_requests=_requests(
            plan_partitions(loaded, home.store, _present(context.instance))
        ),
    )


@dg.sensor(
    jobs=[segment_job],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A source changed: asks for the draws that read it, and for no others.",
)
def new_data_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """A source changed: ask for the draws that read it, and for no others."""
    return _ask_for(
        context,
        home,
        lambda decision: (
            decision.step == DRAW_DATA and decision.cause in ("missing", "input", "spec", "code")
        ),
    )


@dg.sensor(
    jobs=[segment_job, project_job, judge_again],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A spec or a code version changed: asks for the first step that it concerns.",
)
def changed_spec_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """A spec or a code version changed: ask for the first step that it concerns.

    Dagster's declarative automation, which runs these steps when their inputs change, knows nothing of specs.
    """
    return _ask_for(
        context,
        home,
        lambda decision: (
            decision.cause == "limits"
            or (decision.step != DRAW_DATA and decision.cause in ("spec", "code", "segments"))
        ),
    )


def _ask_for(context: dg.SensorEvaluationContext, home: Home, wanted) -> dg.SensorResult:  # type: ignore[no-untyped-def]
    loaded = home.projects()
    for error in loaded.errors:
        context.log.error(str(error))
    requests = []
    for spec in loaded.specs.values():
        # One project's trouble must not hold up the others.
        try:
            due = [one for one in decide({spec.project: spec}, home.store) if one.state == "due"]
        except MlassetsError as error:
            context.log.error(str(error))
            continue
        requests += [_request(decision) for decision in due if wanted(decision)]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=_requests(
            plan_partitions(loaded, home.store, _present(context.instance))
        ),
    )


def _request(decision: Decision) -> dg.RunRequest:
    if decision.cause == "limits":
        return dg.RunRequest(
            job_name=judge_again.name,
            run_config=judging(decision.step, decision.partition.key),
            run_key=decision.identity,
            tags={"mlassets/reason": decision.reason[:200]},
        )
    return dg.RunRequest(
        partition_key=decision.partition.key,
        job_name=(segment_job if decision.step in SEGMENT_STEPS else project_job).name,
        asset_selection=[dg.AssetKey(step) for step in run_together(decision)],
        run_key=decision.identity,
        tags={"mlassets/reason": decision.reason[:200]},
    )


def _present(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    return {name: set(instance.get_dynamic_partitions(name)) for name in DIMENSIONS}


def _requests(
    changes: PartitionChanges,
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    return [
        *(DIMENSIONS[name].build_add_request(keys) for name, keys in changes.added.items() if keys),
        *(DIMENSIONS[name].build_delete_request(keys) for name, keys in changes.retired.items() if keys),
    ]


def sync_partitions(instance: dg.DagsterInstance, home: Home) -> PartitionChanges:
    """Bring the instance's partitions in step with the specs at once, as the sensors do at each look."""
    changes = plan_partitions(home.projects(), home.store, _present(instance))
    for name, keys in changes.added.items():
        if keys:
            instance.add_dynamic_partitions(name, keys)
    for name, keys in changes.retired.items():
        _retire(instance, name, keys)
    return changes


def _retire(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> None:
    for key in keys:
        instance.delete_dynamic_partition(name, key)
