"""What starts work: landed files, new data, new models, changed specs, rejections, and what was left undone.

Each sensor wraps a plain planner, asks for a page of what is due, and remembers next to nothing.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import dagster as dg

from mlassets.automation.fetches import plan_fetches
from mlassets.automation.partition_changes import PartitionChanges, plan_partitions
from mlassets.automation.planners import JUDGED_AGAIN, Decision, decide, run_together, sources_to_judge
from mlassets.checks.again import judge_again, judging
from mlassets.home import Home
from mlassets.ingestion.taking import plan_landing
from mlassets.origins import origin_of
from mlassets.partitions import PROJECT, SEGMENT, SOURCE, projects, segments, sources
from mlassets.projects import ProjectSpec
from mlassets.releasing.deciding import unfinished_claim
from mlassets.sources import LoadedSources
from mlassets.steps import (
    AGGREGATE,
    DRAW_DATA,
    MODEL,
    MODEL_READY,
    PROJECT_STEPS,
    PUBLISH,
    REVIEW,
    SEGMENT_STEPS,
    SOURCES,
    look_at,
)
from resources.errors import MlassetsError
from resources.lake import LakeUnreachable
from resources.settings import Settings
from resources.snapshot import Snapshot
from resources.things import Partition

SECONDS_BETWEEN_LOOKS = Settings.load().seconds_between_looks

# Dagster gives a look a minute; none of ours shall take more than ten seconds.
SECONDS_FOR_A_LOOK = 5.0
LOOKS_BEFORE_LEFT = 4
KEYS_PER_QUERY = 200
LEFT_TO_DAGSTER = (MODEL, REVIEW)
# Tags that Dagster documents or shows on its runs, but has no public names for.
RUN_KEY = "dagster/run_key"
PARTITION_TAG = "dagster/partition"
WILL_RETRY = "dagster/will_retry"
RETRIED_BY = "dagster/auto_retry_run_id"
UNTIL_RUN_AGAIN = timedelta(minutes=2)
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
UNDERWAY = [
    *WAITING,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

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
    loaded, seen = home.projects(), look_at(home.store)
    sources = home.load_sources()
    for error in sources.errors:
        context.log.error(str(error))
    plan = plan_landing(context.cursor, sources.specs, home.settings, seen, seconds=SECONDS_FOR_A_LOOK)
    for note in plan.notes:
        context.log.info(note)
    requests = [
        dg.RunRequest(partition_key=name, run_key=f"{SOURCES}|{name}|{identity}")
        for name, identity in plan.requests.items()
    ]
    return dg.SensorResult(
        run_requests=list(_page(context, requests, home.settings.runs_per_look)),
        cursor=plan.cursor,
        dynamic_partitions_requests=_requests(
            plan_partitions(loaded, sources, seen, _present(context.instance))
        ),
    )


@dg.sensor(
    jobs=[segment_job],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New data: asks for the draws that read it and, where they differ, for training, as `retrain` says.",
)
def new_data_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """New data: ask for the draws that read it, for no others, and for training where a draw has new content.

    The project's `retrain` may hold either back.
    """
    return _ask_for(
        context,
        home,
        lambda _, due: [
            one
            for one in due
            if (one.step == DRAW_DATA and one.cause in ("missing", "input", "spec", "code"))
            or (one.step == MODEL_READY and one.cause in ("missing", "input"))
        ],
    )


@dg.sensor(
    jobs=[project_job],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Models are new, and all work on the project's segments is at rest: asks for the aggregate. A review "
    "has approved: asks for the release.",
)
def new_models_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """Models are new: ask for the aggregate once all work on the project's segments has come to rest.

    At rest is also a segment whose work has failed: the others do not wait for it for ever. The release of a version
    that was approved is asked for here too: Dagster sees that a review is new, but not what it says.
    """

    def at_rest(_: ProjectSpec, due: list[Decision]) -> list[Decision]:
        asked = [
            one for one in due if one.step == AGGREGATE and one.cause in ("missing", "input", "segments")
        ]
        approved = [one for one in due if one.step == PUBLISH and one.cause in ("missing", "input")]
        steps = [one for one in due if one.step in SEGMENT_STEPS]
        ahead = [one.identity for one in steps if one.cause not in JUDGED_AGAIN]
        unjudged = {one.partition.key for one in steps if one.cause in JUDGED_AGAIN}
        # What a run has made and not yet judged is no work that is due, and the run goes on after it.
        if asked and unjudged and unjudged & _underway(context.instance):
            return approved
        if not asked or not ahead:
            return asked + approved
        ended = {key for key, underway in _runs_by_key(context.instance, ahead).items() if not underway}
        return asked + approved if ended.issuperset(ahead) else approved

    return _ask_for(context, home, at_rest)


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
        lambda _, due: [
            one
            for one in due
            if one.cause == "limits" or (one.step != DRAW_DATA and one.cause in ("spec", "code"))
        ],
        lambda seen: sources_to_judge(home.load_sources(landed=False).specs, seen),
    )


@dg.sensor(
    jobs=[segment_job, project_job],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A review or a verdict sent work back: asks for another attempt at the step that it went back to.",
)
def sent_back_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """A review or a verdict sent work back: ask for another attempt at the step that it went back to."""
    return _ask_for(context, home, lambda _, due: [one for one in due if one.cause == "rework"])


@dg.sensor(
    jobs=[segment_job, project_job, judge_again],
    minimum_interval_seconds=LOOKS_BEFORE_LEFT * SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Work was left undone, as after a kill: asks for what has been due since its last look.",
)
def left_work_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """Work was left undone: ask for what has been due since the last look.

    Dagster's declarative automation reacts to what happens; what happened while it could not look, as before its first
    look or when a run was killed between two steps, it does not make good. Nor does it know of a person's decision that
    was claimed and not committed.
    """
    before = set(json.loads(context.cursor)) if context.cursor else set()
    waiting: set[str] = set()

    def left(spec: ProjectSpec, due: list[Decision]) -> list[Decision]:
        found = [
            one
            for one in due
            if one.cause == "checks" or (one.step in LEFT_TO_DAGSTER and one.cause in ("missing", "input"))
        ]
        if claim := unfinished_claim(home.store, spec):
            reason = f"{claim.decision} by {claim.reviewer} was interrupted"
            project = Partition.project(spec.project)
            found = [one for one in found if one.step not in (REVIEW, PUBLISH)]
            found.append(Decision(REVIEW, project, "due", reason, "missing", f"{claim.thing} {claim.token}"))
        waiting.update(one.identity for one in found)
        return [one for one in found if one.identity in before]

    result = _ask_for(context, home, left)
    return result._replace(cursor=json.dumps(sorted(waiting)))


def _ask_for(
    context: dg.SensorEvaluationContext,
    home: Home,
    chosen: Callable[[ProjectSpec, list[Decision]], Iterable[Decision]],
    beside: Callable[[Snapshot], Iterable[Decision]] = lambda _: (),
) -> dg.SensorResult:
    loaded = home.projects()
    for error in loaded.errors:
        context.log.error(str(error))
    # Before the store is read: a run that ends in between must not be taken for work that nobody does.
    busy = _underway(context.instance)
    seen = look_at(home.store)

    def requests() -> Iterator[dg.RunRequest]:
        for spec in loaded.specs.values():
            # One project's trouble must not hold up the others.
            try:
                due = _due(spec, seen)
            except MlassetsError as error:
                context.log.error(str(error))
                continue
            yield from (_request(one) for one in chosen(spec, due) if one.partition.key not in busy)
        yield from (_request(one) for one in beside(seen) if one.partition.key not in busy)

    return dg.SensorResult(
        run_requests=list(_page(context, list(requests()), home.settings.runs_per_look)),
        dynamic_partitions_requests=_requests(
            plan_partitions(loaded, _sources(context, home), seen, _present(context.instance))
        ),
    )


@dg.sensor(
    job=source_job,
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A source's origin may have changed: fetches it as often as its spec says, if the server does not say "
    "that it is the same.",
)
def changed_origin_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """A source's origin may have changed: ask for a run that fetches it, as often as its spec says."""
    specs = {name: spec for name, spec in home.load_sources(landed=False).specs.items() if spec.fetch}
    plan = plan_fetches(
        context.cursor,
        specs,
        origin_of,
        failed=lambda key: _failed(context.instance, key),
        now=datetime.now(UTC),
        seconds=SECONDS_FOR_A_LOOK,
    )
    for note in plan.notes:
        context.log.warning(note)
    requests = [
        dg.RunRequest(
            partition_key=name, run_key=key, run_config={"ops": {SOURCES: {"config": {"fetch": True}}}}
        )
        for name, key in plan.requests.items()
    ]
    missing = sorted(set(plan.requests) - set(context.instance.get_dynamic_partitions(SOURCE)))
    return dg.SensorResult(
        run_requests=requests,
        cursor=plan.cursor,
        dynamic_partitions_requests=[sources.build_add_request(missing)] if missing else None,
    )


def _failed(instance: dg.DagsterInstance, run_key: str) -> bool:
    """Say whether the run that was asked for under a key has failed."""
    filters = dg.RunsFilter(tags={RUN_KEY: run_key})
    runs = instance.get_runs(filters, limit=1)
    return bool(runs) and runs[0].status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def _sources(context: dg.SensorEvaluationContext, home: Home) -> LoadedSources | None:
    """Return what is known about the sources; None where the landing zone does not answer."""
    try:
        return home.load_sources()
    except LakeUnreachable as error:
        context.log.warning(str(error))
        return None


_deciding = threading.Lock()
_decided: WeakKeyDictionary[Snapshot, dict[str, tuple[ProjectSpec, list[Decision]]]] = WeakKeyDictionary()


def _due(spec: ProjectSpec, seen: Snapshot) -> list[Decision]:
    """Return what is due of a project; sensors that look at the same time decide once."""
    with _deciding:
        known = _decided.setdefault(seen, {})
        if spec.project not in known or known[spec.project][0] is not spec:
            due = [one for one in decide({spec.project: spec}, seen) if one.state == "due"]
            known[spec.project] = spec, due
        return known[spec.project][1]


def _page(
    context: dg.SensorEvaluationContext, requests: Sequence[dg.RunRequest], most: int
) -> Iterator[dg.RunRequest]:
    """Yield the first requests that were not made before, no more than fill the queue.

    What is due stays due until it is done, so nothing needs to be remembered: the next look goes on. A short queue also
    means that what runs is what is due now, not what was due an hour ago.
    """
    queued = context.instance.get_runs_count(dg.RunsFilter(statuses=WAITING)) if requests else 0
    left = max(most - queued, 0)
    for start in range(0, len(requests), KEYS_PER_QUERY):
        if not left:
            return
        chunk = requests[start : start + KEYS_PER_QUERY]
        made = _runs_by_key(context.instance, [one.run_key or "" for one in chunk])
        for request in [one for one in chunk if one.run_key not in made][:left]:
            left -= 1
            yield request


def _runs_by_key(instance: dg.DagsterInstance, keys: Sequence[str]) -> dict[str, bool]:
    """Return which run keys have runs, and whether one of these is underway."""
    found: dict[str, bool] = {}
    for start in range(0, len(keys), KEYS_PER_QUERY):
        some = list(keys[start : start + KEYS_PER_QUERY])
        for run in instance.get_runs(dg.RunsFilter(tags={RUN_KEY: some})):
            key = run.tags[RUN_KEY]
            found[key] = found.get(key, False) or run.status in UNDERWAY
    return found


def _underway(instance: dg.DagsterInstance) -> set[str]:
    """Return the partitions that have a run underway, or one that Dagster is about to run again.

    A run that is underway may be about to do what is due, as the step after the one that it has just ended.
    """
    lately = datetime.now(UTC) - UNTIL_RUN_AGAIN
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=lately)
    found = [
        *instance.get_runs(dg.RunsFilter(statuses=UNDERWAY)),
        *filter(will_run_again, instance.get_runs(failed)),
    ]
    return {run.tags[PARTITION_TAG] for run in found if PARTITION_TAG in run.tags}


def will_run_again(run: dg.DagsterRun) -> bool:
    """Say whether Dagster means to run a failed run again, or has yet to say so, and has not begun to."""
    # What was not launched from a code location, as by `mlassets run`, Dagster means to run again but cannot.
    means_to = run.tags.get(WILL_RETRY) != "false" and run.remote_job_origin is not None
    return means_to and RETRIED_BY not in run.tags


def _request(decision: Decision) -> dg.RunRequest:
    if decision.cause in JUDGED_AGAIN:
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
    changes = plan_partitions(home.projects(), home.load_sources(), look_at(home.store), _present(instance))
    for name, keys in changes.added.items():
        if keys:
            instance.add_dynamic_partitions(name, keys)
    for name, keys in changes.retired.items():
        _retire(instance, name, keys)
    return changes


def _retire(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> None:
    for key in keys:
        instance.delete_dynamic_partition(name, key)
