"""`mlassets ui` as a process: started, asked over GraphQL what it knows, and ended with all of its family."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlassets.runs import lay_out
from mlassets_tests.processes import free_port, processes_of_session, wait_until
from resources.settings import Settings


@dataclass
class Ui:
    """A running `mlassets ui`."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def dagster(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def reports(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}/reports"

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data that a GraphQL query answers with."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.dagster}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def is_ready(self) -> bool:
        """Say whether the code location has loaded."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            workspace = self.ask("{workspaceOrError{... on Workspace{locationEntries{name loadStatus}}}}")
        except (OSError, urllib.error.URLError):
            return False
        entries = workspace["workspaceOrError"]["locationEntries"]
        return bool(entries) and all(one["loadStatus"] == "LOADED" for one in entries)

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, newest first."""
        query = "{runsOrError{... on Runs{results{runId status tags{key value}}}}}"
        found: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        return found

    def is_at_rest(self) -> bool:
        return all(one["status"] in ("SUCCESS", "FAILURE", "CANCELED") for one in self.runs())

    def ticks(self, sensor: str) -> int:
        """Return how many times a sensor has looked."""
        query = """query($selector: InstigationSelector!) {instigationStateOrError(instigationSelector: $selector) {
            ... on InstigationState {ticks(limit: 1000) {tickId status}}}}"""
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "mlassets",
            "name": sensor,
        }
        found = self.ask(query, selector=selector)["instigationStateOrError"]["ticks"]
        assert all(one["status"] != "FAILURE" for one in found), self.log.read_text()
        return sum(one["status"] in ("SUCCESS", "SKIPPED") for one in found)


def start(home: Path, log: Path, **variables: str) -> Ui:
    """Start `mlassets ui` on a home, in a session of its own, with sensors that look as often as they can."""
    lay_out(Settings(home=home))
    port = free_port(also=1)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlassets.cli", "ui", "--home", str(home), "--port", str(port)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=home,
            env={**os.environ, "MLASSETS_SECONDS_BETWEEN_LOOKS": "5", **variables},
        )
    return Ui(home, port, process, log)


def kill(ui: Ui) -> None:
    """Kill a server with all of its family at once, as a power cut would."""
    # Stopped first, so that none can notice that another one is gone.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in processes_of_session(ui.process.pid):
            with suppress(ProcessLookupError):
                os.kill(one, number)
    ui.process.wait()
    wait_until(lambda: not processes_of_session(ui.process.pid), "all of them are gone", 60)


def end(ui: Ui) -> None:
    """End whatever is left of a server's family, politely at first."""
    if ui.process.poll() is None:
        ui.process.terminate()
        try:
            ui.process.wait(60)
        except subprocess.TimeoutExpired:
            ui.process.kill()
    for one in processes_of_session(ui.process.pid):
        os.kill(one, signal.SIGKILL)
    ui.process.wait()
