"""Who must know, knows: what is open in the store and what runs failed, sent to the channels of the settings.

Dagster's own hook for failed checks does not fire (its issue 29896), and its sensors for failed runs do not try
again what could not be sent. So this sensor looks at what is there, and remembers what it told whom.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from mlassets.alerting.alerts import Alert, alert, since
from mlassets.alerting.channels import BadChannel, Channel, channels_of
from mlassets.alerting.delivering import deliver, was_told
from mlassets.alerting.watching import Open, open_alerts
from mlassets.automation.sensors import (
    PARTITION_TAG,
    RETRIED_BY,
    SECONDS_BETWEEN_LOOKS,
    UNTIL_RUN_AGAIN,
    project_job,
    segment_job,
    source_job,
    will_run_again,
)
from mlassets.checks.again import judge_again
from mlassets.home import Home
from mlassets.sources import SourceSpec
from mlassets.steps import PROJECT_STEPS, SEGMENT_STEPS, SOURCES, STEPS
from resources.lake import LakeUnreachable
from resources.store import Store
from resources.things import Partition

WATCHED = timedelta(days=1)
"""For so long a failed run counts as open, unless a later one has made it good."""
WATCHED_UNTOLD = timedelta(days=14)
"""For so long, if a channel could not be told of it."""
RUNS_READ = 500


@dg.sensor(
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of failed runs, blocking verdicts, waiting reviews and stale sources, each channel once.",
)
def alerts_sensor(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
    """Tell of failed runs, blocking verdicts, waiting reviews and stale sources, each channel once."""
    try:
        channels = channels_of(home.settings.alerts)
    except BadChannel as error:
        # Nobody else would be told of it, and the tick is where people look.
        return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
    if not channels:
        return dg.SensorResult(
            skip_reason="No alert channel is set (MLASSETS_ALERTS).", cursor=context.cursor
        )
    now = datetime.now(UTC)
    told, runs_since = _remembered(context.cursor, now)
    failed = list(failed_runs(context.instance, home, runs_since, now))
    loaded = home.projects()
    found = open_alerts(loaded.specs, home.store, home.settings, now, sources=_sources(home), also=failed)
    for trouble in found.troubles:
        context.log.error(trouble)
    complete = not loaded.errors and not found.troubles
    delivered = deliver(found.alerts, channels, told, now, seen=None if complete else found.seen)
    for trouble in delivered.troubles:
        context.log.warning(f"Alerts were not sent: {trouble}")
    return dg.SensorResult(
        skip_reason=f"{len(found.alerts)} alerts are open; sent: {delivered.text}.",
        cursor=json.dumps(
            {
                "told": delivered.memory,
                "runs_since": _watched_from(failed, channels, delivered.memory, runs_since, now).isoformat(),
            }
        ),
    )


def everything_open(home: Home, instance: dg.DagsterInstance, now: datetime | None = None) -> Open:
    """Return all that is open now: in the store, and the runs that failed within the last day."""
    now = now or datetime.now(UTC)
    failed = failed_runs(instance, home, now - WATCHED, now)
    return open_alerts(
        home.projects().specs, home.store, home.settings, now, sources=_sources(home), also=failed
    )


def _sources(home: Home) -> Mapping[str, SourceSpec]:
    """Return what is known about the sources; where the landing zone does not answer, what specs say of them."""
    try:
        return home.sources()
    except LakeUnreachable:
        return home.load_sources(landed=False).specs


def failed_runs(instance: dg.DagsterInstance, home: Home, after: datetime, now: datetime) -> Iterator[Alert]:
    """Yield an alert for each run that failed after a time.

    Left out are runs that Dagster runs again by itself, those whose work was done since, and those that a blocking
    verdict stopped: the verdict is told of.
    """
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after)
    url = home.settings.dagster_url
    for record in instance.get_run_records(filters, limit=RUNS_READ):
        run, ended = record.dagster_run, record.end_time or record.update_timestamp.timestamp()
        steps, partition, at = _steps(run), _partition(run), datetime.fromtimestamp(ended, UTC)
        if not steps or RETRIED_BY in run.tags:
            continue
        if will_run_again(run) and now - at < UNTIL_RUN_AGAIN:
            continue
        failure = _failure_of(instance, run)
        lost = [step for step in failure.steps if step in steps] or steps[-1:]
        if failure.by_verdict or _made_since(home.store, lost, partition, at):
            continue
        project = "" if SOURCES in steps else partition.partition("|")[0]
        again = f"mlassets run {project}" if project else "mlassets run"
        yield alert(
            f"failed_run/{run.run_id}",
            "failed_run",
            project,
            f"{project or partition}: {', '.join(steps)} of {partition or 'several partitions'} failed",
            f"At {since(at, now)}, run {run.run_id}:\n{failure.cause}\n"
            f"Once the cause is mended, `{again}` or Dagster's re-execution does it again.",
            f"{url.rstrip('/')}/runs/{run.run_id}" if url else "",
            at,
        )


def _remembered(cursor: str | None, now: datetime) -> tuple[str | None, datetime]:
    """Return what was told, and from when on failed runs are looked at."""
    try:
        found = json.loads(cursor or "{}")
        told, runs_since = found["told"], datetime.fromisoformat(found["runs_since"])
        # A clock that was ahead must not hide what fails now.
        return told, max(min(runs_since, now - WATCHED), now - WATCHED_UNTOLD)
    except (ValueError, KeyError, TypeError):
        return None, now - WATCHED


def _watched_from(
    failed: list[Alert], channels: list[Channel], memory: str, runs_since: datetime, now: datetime
) -> datetime:
    untold = [one.at for one in failed if not was_told(one, channels, memory)]
    return max(runs_since, min([now - WATCHED, *(at - timedelta(minutes=1) for at in untold)]))


def _steps(run: dg.DagsterRun) -> tuple[str, ...]:
    """Return what a run was to make; nothing if it is not one of ours."""
    if run.asset_selection:
        asked = {key.path[-1] for key in run.asset_selection}
        return tuple(step for step in (SOURCES, *STEPS) if step in asked)
    if run.job_name == judge_again.name:
        return (f"checks of {_judged(run).get('step', '')}",)
    return _OF_JOBS.get(run.job_name, ())


_OF_JOBS = {source_job.name: (SOURCES,), segment_job.name: SEGMENT_STEPS, project_job.name: PROJECT_STEPS}


def _partition(run: dg.DagsterRun) -> str:
    return run.tags.get(PARTITION_TAG) or str(_judged(run).get("partition", ""))


def _judged(run: dg.DagsterRun) -> dict[str, Any]:
    config: Any = run.run_config
    return dict(config.get("ops", {}).get("judge", {}).get("config", {})) if isinstance(config, dict) else {}


def _made_since(store: Store, steps: Iterable[str], partition: str, at: datetime) -> bool:
    """Say whether all of these steps have a version that was made after a time."""
    newest = [
        store.latest(step, Partition.source(partition) if step == SOURCES else Partition.parse(partition))
        for step in steps
        if partition and step in (SOURCES, *STEPS)
    ]
    return bool(newest) and all(thing is not None and thing.created_at > at for thing in newest)


@dataclass(frozen=True)
class _Failure:
    """Why a run failed.

    Attributes:
        steps: The steps that failed.
        cause: Why, for a person.
        by_verdict: Whether nothing failed but that a blocking verdict stopped it.
    """

    steps: tuple[str, ...]
    cause: str
    by_verdict: bool = False


# A run that has ended is what it is: its events are read once in a process.
_failures: dict[str, _Failure] = {}


def _failure_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> _Failure:
    if run.run_id not in _failures:
        if len(_failures) > 4 * RUNS_READ:
            _failures.clear()
        _failures[run.run_id] = _read_failure(instance, run.run_id)
    return _failures[run.run_id]


def _read_failure(instance: dg.DagsterInstance, run_id: str) -> _Failure:
    page = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=20)
    events = [record.event_log_entry.dagster_event for record in page.records]
    infos = [
        (str(event.step_key), event.step_failure_data.error)
        for event in events
        if event and event.step_failure_data.error
    ]
    steps = tuple(step for step, _ in infos)
    if infos and all(info.cls_name == "DagsterAssetCheckFailedError" for _, info in infos):
        return _Failure(steps, "", by_verdict=True)
    causes = []
    for step, info in infos:
        while info.cause:
            info = info.cause
        causes.append(f"{step}: {info.message.strip().removeprefix('resources.').strip()}")
    if not causes:
        page = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE, limit=1)
        causes = [one.event_log_entry.user_message or one.event_log_entry.message for one in page.records]
    return _Failure(steps, "\n".join(causes) or "It did not finish; its log says more.")
