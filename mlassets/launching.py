"""Starting runs so that it can be seen later whether they are still alive: Dagster's default launcher with that added.

Dagster's own launcher leaves it to the code server to notice that a run's process died. Where that server is killed
with it, as by a power cut, nobody does, and the run would count as started, and hold a slot, for ever.
"""

import json
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psutil
from blake3 import blake3
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

HOST, PROCESS = "mlassets/host", "mlassets/process"
UNSEEN = timedelta(hours=24)
"""After so long without a word of it, a run on a host that cannot be looked at counts as gone."""


def process_tags() -> dict[str, str]:
    """Return the tags of a run that this very process executes."""
    process = psutil.Process()
    return {HOST: socket.gethostname(), PROCESS: f"{process.pid} {_fingerprint(process)}"}


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Launches runs on code servers, as Dagster does by default, and tells whether a started run is still alive.

    Used as the `run_launcher` of an instance; Dagster's run monitoring then asks it. A run whose end cannot be seen
    counts as alive: what was lost is better done late than twice.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Say whether a started run is alive.

        A run of a process, as `mlassets run` makes them, and one that a code server on this host started, are looked
        for among the processes here. Any other is asked for at the code server that started it.
        """
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if "socket" in server or server.get("host") in ("localhost", "127.0.0.1", "::1"):
            # Not asked: after its definitions were reloaded, it knows nothing of runs that it has still going.
            return self._started_on_this_host(run)
        if server:
            return self._started_elsewhere(run, server)
        return self._in_a_process(run) if PROCESS in run.tags else _ALIVE

    def _in_a_process(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if run.tags.get(HOST) == socket.gethostname():
            number, _, fingerprint = run.tags[PROCESS].partition(" ")
            return _look(int(number), lambda process: _fingerprint(process) == fingerprint)
        page = self._instance.get_records_for_run(run.run_id, limit=1, ascending=False)
        newest = max((record.timestamp for record in page.records), default=0.0)
        if datetime.fromtimestamp(newest, UTC) > datetime.now(UTC) - UNSEEN:
            return _ALIVE
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"its host {run.tags.get(HOST)} was silent for {UNSEEN}"
        )

    def _started_on_this_host(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        # The process says its number as the first thing that it does.
        page = self._instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        for record in page.records:
            event = record.event_log_entry.dagster_event
            number = event.engine_event_data.metadata.get("pid") if event else None
            if number is not None:
                # Not by the time of its start, which moves with the clock.
                return _look(
                    int(str(number.value)), lambda process: "multiprocessing.spawn" in _command(process)
                )
        return _ALIVE

    def _started_elsewhere(self, run: dg.DagsterRun, server: Mapping[str, Any]) -> CheckRunHealthResult:
        from dagster._core.errors import DagsterUserCodeUnreachableError
        from dagster._grpc.client import DagsterGrpcClient
        from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
        from dagster._serdes import deserialize_value

        client = DagsterGrpcClient(
            port=server.get("port"), host=server["host"], use_ssl=bool(server.get("use_ssl"))
        )
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError:
            # Its runs may be alive while the network is not.
            return _ALIVE
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return _ALIVE
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "the code server that started it knows nothing of it"
        )


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Give back what runs whose process is gone still hold, so that the next run does not wait for them for ever.

    Where Dagster's daemon is, it does so too. A run of `mlassets run` is marked as failed; one that a daemon has
    started is left to be marked by the daemon, which also runs it again.

    Args:
        instance: The instance.

    Returns:
        Ids of the dead runs.
    """
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        health = launcher.check_run_worker_health(run)
        if health.status != WorkerStatus.NOT_FOUND:
            continue
        if PROCESS in run.tags:
            instance.report_run_failed(run, f"The run was killed: {health.msg}.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        dead.append(run.run_id)
    return dead


_ALIVE = CheckRunHealthResult(WorkerStatus.RUNNING)


def _look(number: int, is_it: Callable[[psutil.Process], bool]) -> CheckRunHealthResult:
    """Look for a process; another one may have its number by now."""
    try:
        if is_it(psutil.Process(number)):
            return _ALIVE
    except psutil.AccessDenied:
        return _ALIVE
    except psutil.NoSuchProcess:
        pass
    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {number} is gone")


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def _fingerprint(process: psutil.Process) -> str:
    """Return what tells a process from a later one of the same number, and says nothing of its arguments."""
    return blake3(_command(process).encode()).hexdigest()[:16]
