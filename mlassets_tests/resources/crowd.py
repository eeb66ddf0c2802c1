"""What the child processes of the storage tests run; imported by a fork server that holds no threads."""

import os
import signal
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import pyarrow as pa

from resources import lake
from resources.settings import Settings
from resources.things import Draft, Partition, Store

CROWD = get_context("forkserver")
CROWD.set_forkserver_preload(["mlassets_tests.resources.crowd"])

EWR = Partition.segment("late-flights", "EWR")


def draft(number: int, rows: int = 100) -> Draft:
    return Draft(
        dataset=pa.table({"number": [number] * rows, "row": range(rows)}),
        parameters={"number": number},
        metrics={"half": number / 2},
        artifacts={"note.txt": f"note {number}".encode()},
    )


def commit_and_die(home: Path, number: int, point: int) -> None:
    """Commit one version, killed at the `point`th marked point; end well if there is no such point."""
    seen = 0

    def die(_name: str) -> None:
        nonlocal seen
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    lake.on_reached = die
    Store.open(Settings(home=home)).commit("model", EWR, draft(number))


def commit_for_ever(home: Path, start: int, going: Event) -> None:
    store = Store.open(Settings(home=home))
    for number in range(start, start + 1_000_000):
        store.commit("model", EWR, draft(number))
        going.set()


def commit_many(home: Path, worker: int, count: int) -> None:
    store = Store.open(Settings(home=home))
    own = Partition.segment("late-flights", f"worker {worker}")
    for number in range(count):
        store.commit("model", EWR, draft(worker * 1000 + number, rows=3))
        store.commit("model", own, draft(number, rows=3))
