"""Running what is due in this process: the same decisions as the sensors', without a daemon.

Every piece of work is a Dagster run of its own, in the same instance that the UI shows.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from mlassets.automation.planners import JUDGED_AGAIN, Decision, decide, run_together, sources_to_judge
from mlassets.automation.sensors import sync_partitions
from mlassets.checks.again import judge_again, judging
from mlassets.home import Home
from mlassets.ingestion.taking import plan_landing
from mlassets.launching import end_dead_runs, process_tags
from mlassets.projects import ProjectSpec
from mlassets.releasing.deciding import unfinished_claim
from mlassets.sections import close_matches
from mlassets.segments import segments_of
from mlassets.steps import PROJECT_STEPS, PUBLISH, REVIEW, SOURCES, STEPS, look_at
from resources.errors import MlassetsError
from resources.settings import Settings
from resources.things import Partition

DAGSTER_YAML = """\
# Written by mlassets when the home was laid out; yours to change.
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  pools: {default_limit: 1}
  runs: {max_concurrent_runs: %d}  # each trains with one thread and holds its data in memory
# A run whose process was killed, with all that would have noticed, is found dead and its work done again: at once
# for what is left of it, but not where a step itself failed.
run_launcher: {module: mlassets.launching, class: WatchedRunLauncher}
run_monitoring:
  enabled: true
  poll_interval_seconds: 20
  start_timeout_seconds: 90
  free_slots_after_run_end_seconds: 60
run_retries: {enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}
sensors: {use_threads: true, num_workers: 4}  # one that waits for a server does not hold up the others
"""

WORKSPACE_YAML = """\
# Written by mlassets when the home was laid out; yours to change, but for the name, by which Dagster remembers.
load_from:
  - python_module: {module_name: mlassets.definitions, location_name: mlassets}
"""


class UnknownPartition(MlassetsError):
    """A step is asked for where no project has such a partition."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        steps: The steps that were asked for.
        partition: Key of the partition.
        reason: Why it ran.
        state: `done`; `blocked`: a verdict stopped what is downstream; `failed`: a step raised.
        seconds: Wall-clock seconds.
        run_id: Dagster's id of the run.
        error: What went wrong, in a person's words; empty if nothing did.
    """

    steps: tuple[str, ...]
    partition: str
    reason: str
    state: str
    seconds: float
    run_id: str
    error: str = ""


def lay_out(settings: Settings) -> None:
    """Make the folders of a home and the configuration of its Dagster instance; what is there stays as it is."""
    folders = [settings.home, settings.projects, settings.dagster_home, settings.quarantine]
    if "://" not in settings.landing:
        folders.append(Path(settings.landing))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("dagster.yaml", DAGSTER_YAML % max(2, os.cpu_count() or 1)),
        ("workspace.yaml", WORKSPACE_YAML),
    ):
        configuration = settings.dagster_home / name
        if not configuration.exists():
            configuration.write_text(text)


@contextmanager
def instance_of(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of a home, laying the home out if it is new."""
    lay_out(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


class Runner:
    """Runs work of one home in this process.

    Args:
        home: The home.
        instance: Its Dagster instance.
        on_start: Called with each piece of work as it starts: its steps, partition and reason.
        on_end: Called with each outcome.
    """

    def __init__(
        self,
        home: Home,
        instance: dg.DagsterInstance,
        on_start: Callable[[tuple[str, ...], str, str], None] = lambda steps, partition, reason: None,
        on_end: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        from mlassets.definitions import definitions

        self._home, self._instance = home, instance
        end_dead_runs(instance)
        self._on_start, self._on_end = on_start, on_end
        self._definitions = definitions(home.home)
        self._job = self._definitions.resolve_implicit_global_asset_job_def()

    def take_landed_files(self) -> list[Outcome]:
        """Take what has landed for every source, at once: whoever asks for it says that the files are complete."""
        sync_partitions(self._instance, self._home)
        plan = plan_landing(
            None, self._home.sources(), self._home.settings, self._home.store, quiet_seconds=0
        )
        outcomes = [
            self.run((SOURCES,), name, "files landed", config={SOURCES: {"quiet_seconds": 0.0}})
            for name in plan.requests
        ]
        specs = self._home.load_sources(landed=False).specs
        outcomes += [self.judge(one) for one in sources_to_judge(specs, look_at(self._home.store))]
        sync_partitions(self._instance, self._home)
        return outcomes

    def take_sources(self, names: Iterable[str], *, again: Collection[str] = ()) -> list[Outcome]:
        """Take what has landed for these sources, whether anything is new or not.

        Args:
            names: The sources.
            again: Names of refused files that are tried once more, or forgotten if they are gone.
        """
        sync_partitions(self._instance, self._home)
        how = {"quiet_seconds": 0.0, "again": list(again)}
        outcomes = [self.run((SOURCES,), name, "asked for", config={SOURCES: how}) for name in names]
        sync_partitions(self._instance, self._home)
        return outcomes

    def run_due(
        self, projects: Collection[str] | None = None, segments: Collection[str] | None = None
    ) -> list[Outcome]:
        """Run whatever is due, upstream first, until nothing is.

        Args:
            projects: Only these; None means all.
            segments: Only these segments' steps, and nothing of the project as a whole; None means everything.
        """
        outcomes = self._finish_decisions(projects) if segments is None else []
        # What failed is not tried again at once; but what was sent back is, and what follows it then.
        ran: set[tuple[str, str]] = set()
        tried: set[str] = set()

        def is_left(one: Decision) -> bool:
            again = one.cause == "rework" and one.identity not in tried
            return one.state == "due" and (again or (one.step, one.partition.key) not in ran)

        while work := next(filter(is_left, self.decisions(projects, segments)), None):
            key, project = work.partition.key, work.partition["project"]
            if work.cause == "rework":
                tried.add(work.identity)
                below = STEPS[STEPS.index(work.step) :]
                ran = {one for one in ran if one[0] not in below or _project_of(one[1]) != project}
            steps = run_together(work)
            ran |= {(step, key) for step in steps}
            again = work.cause in JUDGED_AGAIN
            outcomes.append(self.judge(work) if again else self.run(steps, key, work.reason))
        return outcomes

    def _finish_decisions(self, projects: Collection[str] | None) -> list[Outcome]:
        """Commit what people have decided, where a kill came between the decision and its commit."""
        found = [
            (spec, claim)
            for spec in self._home.projects().specs.values()
            if (projects is None or spec.project in projects)
            and (claim := unfinished_claim(self._home.store, spec)) is not None
        ]
        return [
            self.run(
                (REVIEW, PUBLISH),
                Partition.project(spec.project).key,
                f"{claim.decision} by {claim.reviewer} was interrupted",
            )
            for spec, claim in found
        ]

    def require_segment(self, specs: Sequence[ProjectSpec], segment: str) -> None:
        """Refuse a segment that none of the projects has.

        Raises:
            UnknownPartition: If so; it names the segments that come near.
        """
        known = [name for spec in specs for name in segments_of(spec, self._home.store) or []]
        if segment not in known:
            hint = close_matches(segment, dict.fromkeys(known))
            raise UnknownPartition(f"no chosen project has the segment {segment!r}; {hint}")

    def judge(self, work: Decision) -> Outcome:
        """Judge again what is there, without making it again."""
        key = work.partition.key
        return self._execute(
            self._definitions.resolve_job_def(judge_again.name),
            (f"checks of {work.step}",),
            key,
            work.reason,
            judging(work.step, key),
        )

    def run_step(self, step: str, specs: Sequence[ProjectSpec], segment: str | None) -> list[Outcome]:
        """Run one step of the given projects, due or not.

        Args:
            step: The step.
            specs: The projects.
            segment: Only this segment, for a step that has segments.

        Raises:
            UnknownPartition: If no project has that segment, or the step has none.
        """
        partitions = []
        for spec in specs:
            if step in PROJECT_STEPS:
                partitions += [Partition.project(spec.project)] if segment is None else []
                continue
            names = segments_of(spec, self._home.store) or []
            partitions += [Partition.segment(spec.project, name) for name in names if segment in (None, name)]
        if not partitions:
            raise UnknownPartition(
                f"there is nothing to run {step} for: "
                + (f"no chosen project has the segment {segment!r}" if segment else "no data has landed yet")
                + (" (the step is per project; leave --segment out)" if step in PROJECT_STEPS else "")
            )
        return [self.run((step,), partition.key, "asked for") for partition in partitions]

    def decisions(
        self, projects: Collection[str] | None = None, segments: Collection[str] | None = None
    ) -> list[Decision]:
        """Return the decision on every step of the chosen projects and segments."""
        specs: Mapping[str, ProjectSpec] = self._home.projects().specs
        chosen = {name: spec for name, spec in specs.items() if projects is None or name in projects}
        return [
            one
            for one in decide(chosen, self._home.store)
            if segments is None or one.partition.get("segment") in segments
        ]

    def run(
        self,
        steps: tuple[str, ...],
        partition: str,
        reason: str,
        *,
        config: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Run steps of one partition, with their checks, as one Dagster run in this process."""
        ops = {step: {"config": dict(values)} for step, values in (config or {}).items()}
        keys = [dg.AssetKey(step) for step in steps]
        return self._execute(
            self._job,
            steps,
            partition,
            reason,
            {"ops": ops},
            asset_selection=keys,
            partition_key=partition,
        )

    def _execute(
        self,
        job: dg.JobDefinition,
        steps: tuple[str, ...],
        partition: str,
        reason: str,
        run_config: Mapping[str, Any],
        **selected: Any,
    ) -> Outcome:
        self._on_start(steps, partition, reason)
        started = time.perf_counter()
        result = job.execute_in_process(
            instance=self._instance,
            run_config={**run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={"mlassets/reason": reason[:200], **process_tags()},
            raise_on_error=False,
            **selected,
        )
        state, error = _state_of(result)
        outcome = Outcome(
            steps, partition, reason, state, time.perf_counter() - started, result.run_id, error
        )
        self._on_end(outcome)
        return outcome


def _project_of(key: str) -> str:
    return Partition.parse(key)["project"]


def _state_of(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    if result.success:
        return "done", ""
    failures = result.filter_events(lambda event: event.is_step_failure)
    infos = [event.step_failure_data.error for event in failures if event.step_failure_data.error]
    if infos and all(info.cls_name == "DagsterAssetCheckFailedError" for info in infos):
        blocked = [one for one in result.get_asset_check_evaluations() if not one.passed and one.blocking]
        return "blocked", " ".join(f"{one.asset_key.path[-1]}: {one.description}" for one in blocked)
    messages = []
    for info in infos:
        while info.cause:
            info = info.cause
        messages.append(info.message.strip().removeprefix("resources.").strip())
    return "failed", "\n".join(messages) or "the run did not finish; see its log in Dagster"
