"""Whether a started run is alive is told from its process, or by the code server that started it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.utils import make_new_run_id

from mlassets.home import Home
from mlassets.launching import PROCESS, WatchedRunLauncher, end_dead_runs, process_tags
from mlassets.runs import Runner, instance_of
from mlassets_tests.processes import free_port, wait_until
from resources.settings import Settings

LOCAL = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": "/tmp/nobody-listens-here"})}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_of(Settings(home=tmp_path)) as instance:
        yield instance


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A process that prints the tags of a run of its own and waits."""
    code = (
        "import json; from mlassets.launching import process_tags; print(json.dumps(process_tags())); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def started(instance: dg.DagsterInstance, tags: dict[str, str], number: int | None = None) -> dg.DagsterRun:
    """A run that has started, of a process that has said its number."""
    run = dg.DagsterRun("a_job", make_new_run_id(), status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.add_run(run)
    if number is not None:
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(number))
    return run


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_run_of_a_process_lives_as_long_as_the_process(
    instance: dg.DagsterInstance, process: subprocess.Popen[str]
) -> None:
    assert process.stdout is not None
    run = started(instance, json.loads(process.stdout.readline()))
    assert status(instance, run) is WorkerStatus.RUNNING
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert status(instance, run) is WorkerStatus.NOT_FOUND


def test_another_process_that_has_the_number_now_is_not_the_run(instance: dg.DagsterInstance) -> None:
    mine = process_tags()
    assert status(instance, started(instance, mine)) is WorkerStatus.RUNNING
    others = {**mine, PROCESS: f"{mine[PROCESS].split()[0]} 0123456789abcdef"}
    assert status(instance, started(instance, others)) is WorkerStatus.NOT_FOUND


def test_a_run_on_another_host_is_left_alone(instance: dg.DagsterInstance) -> None:
    tags = {**process_tags(), "mlassets/host": "elsewhere"}
    assert status(instance, started(instance, tags, 1)) is WorkerStatus.RUNNING


def test_a_run_of_a_code_server_on_this_host_is_its_process(instance: dg.DagsterInstance) -> None:
    code = "import sys; sys.argv.append('multiprocessing.spawn'); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "multiprocessing.spawn"], stdin=subprocess.PIPE
    ) as process:
        run = started(instance, LOCAL, process.pid)
        assert status(instance, run) is WorkerStatus.RUNNING
        # Not yet collected, it still has its number.
        process.kill()
        wait_until(lambda: status(instance, run) is WorkerStatus.NOT_FOUND, "the process is gone", 60)
    assert status(instance, started(instance, LOCAL)) is WorkerStatus.RUNNING, (
        "its process may yet say its number"
    )


def test_a_code_server_elsewhere_is_asked_and_believed(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    port = free_port()
    tags = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.2", "port": port})}
    run = started(instance, tags)
    assert status(instance, run) is WorkerStatus.RUNNING, "the network may be down, and the run alive"
    (tmp_path / "nothing.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-f", str(tmp_path / "nothing.py")]
    with subprocess.Popen(
        [*command, "-h", "127.0.0.2", "-p", str(port)], stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_until(lambda: status(instance, run) is WorkerStatus.NOT_FOUND, "it was asked", 120)
        finally:
            # Asked politely while it answers, it may never end.
            server.kill()


def test_a_killed_run_gives_its_slot_to_the_next_one_although_no_daemon_is_there(
    instance: dg.DagsterInstance, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stdout is not None
    killed = started(instance, json.loads(process.stdout.readline()))
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("consumption_database")
    assert storage.claim_concurrency_slot("consumption_database", killed.run_id, "publish").is_claimed
    assert end_dead_runs(instance) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    Runner(Home(home=str(tmp_path)), instance)
    assert storage.get_concurrency_info("consumption_database").active_slot_count == 0
    run = instance.get_run_by_id(killed.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert end_dead_runs(instance) == []
