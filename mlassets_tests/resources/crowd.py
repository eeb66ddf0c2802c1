"""What the child processes of the storage tests run; imported by a fork server that holds no threads."""

import mmap
import os
import random
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlassets_tests.places import Place
from resources import lake
from resources.lake import Lake
from resources.store import Store
from resources.things import Draft, Partition, Thing, shared_paths
from resources.verdicts import Verdict

CROWD = get_context("forkserver")
CROWD.set_forkserver_preload(
    ["mlassets_tests.resources.crowd", "boto3", "sqlalchemy.dialects.postgresql.psycopg2"]
)

EWR = Partition.segment("late-flights", "EWR")
INTERRUPTED = 130


def draft(number: int, rows: int = 100) -> Draft:
    return Draft(
        dataset=pa.table({"number": [number] * rows, "row": range(rows)}),
        parameters={"number": number},
        metrics={"half": number / 2},
        artifacts={"note.txt": f"note {number}".encode()},
    )


def assert_whole(store: Store, things: list[Any]) -> None:
    """Every one of some versions is complete and says what it was made with."""
    for thing in things:
        assert store.verify(thing) == ()
        number = thing.parameters["number"]
        assert thing.artifact("note.txt") == f"note {number}".encode()


def assert_nothing_left_over(store: Store) -> None:
    """The lake holds what belongs to a version, and nothing else."""
    history = store.history()
    named = {component.path for thing in history for component in thing.components}
    named |= {f"{thing.folder}/thing.json" for thing in history}
    assert {entry.path for entry in store.lake.files("things")} - named == set()
    assert list(store.lake.files("tmp")) == []


def in_child(work: Callable[..., Any], *given: Any) -> Any:
    """Call a function of a module in a process of its own and return what it returns.

    Raises:
        AssertionError: If it raises something, with its traceback, or dies.
    """
    receiver, sender = CROWD.Pipe(duplex=False)
    child = CROWD.Process(target=_answer, args=(sender, work, given))
    child.start()
    sender.close()
    try:
        fine, result = receiver.recv()
    except EOFError:
        fine, result = False, "the child died"
    child.join()
    assert fine, f"{result}(exit code {child.exitcode})"
    return result


def _answer(sender: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    try:
        sender.send((True, work(*given)))
    except BaseException:  # noqa: BLE001
        sender.send((False, traceback.format_exc()))


class Victim:
    """Forks children of this process that commit one version after the other, until they are killed.

    The store is open before the fork, without a connection, so that a child has nothing to do but to commit.
    """

    def __init__(self, place: Place, staging: Path) -> None:
        # What a killed child was about to send stays there.
        tempfile.tempdir = str(staging)
        self._spare = place.open()
        self._spare.catalog.close()
        self._counter = mmap.mmap(-1, 8)

    @property
    def acknowledged(self) -> int:
        """The highest number whose commit has returned."""
        return int(struct.unpack("q", self._counter[:])[0])

    def acknowledge(self, number: int) -> None:
        self._counter[:] = struct.pack("q", number)

    def start(self, point: int | None = None, at_most: int = 1_000_000, *, interrupted: bool = False) -> int:
        """Start a child that commits the next numbers, and return its process id.

        Args:
            point: The child kills itself at the marked point of this number, counted from 0.
            at_most: How many versions it commits before it ends well.
            interrupted: Whether SIGINT and SIGTERM raise KeyboardInterrupt in it.
        """
        endings = (signal.SIGINT, signal.SIGTERM)
        # No signal may come before the child is ready for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, endings)
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, endings)
            return child
        code = 1
        try:
            for number in endings if interrupted else ():
                signal.signal(number, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, endings)
            lake.on_reached = _killing_at(point)
            for number in range(self.acknowledged + 1, self.acknowledged + 1 + at_most):
                thing = self._spare.commit("model", EWR, draft(number, rows=3))
                self.acknowledge(number)
                if number % 5 == 0:
                    verdict = Verdict("fine", "passed", "ERROR", 1.0, "<= 1", 1, "", {})
                    self._spare.record_verdicts(thing.id, "run", [verdict], b"<p>")
            code = 0
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)


def interrupt_at_random_times(place: Place, staging: Path, times: int, seed: int) -> None:
    """Ask committing children to end, by SIGINT or SIGTERM: they do, and leave nothing but whole versions."""
    chance = random.Random(seed)
    victim = Victim(place, staging)
    store = place.open()
    longest = 0.0
    for attempt in range(times):
        number = victim.acknowledged + 2
        start = time.monotonic()
        store.commit("model", EWR, draft(number, rows=3))
        longest = max(longest, time.monotonic() - start) if attempt == 1 else longest or 0.01
        victim.acknowledge(number)
        child = victim.start(interrupted=True)
        time.sleep(chance.uniform(0, 3 * longest))
        asked = chance.choice([signal.SIGINT, signal.SIGTERM])
        # Python ignores what a signal raises while an object is finalized; then one asks again, as a person would.
        for _ in range(5):
            os.kill(child, asked)
            until = time.monotonic() + 2
            ended, status = 0, 0
            while not ended and time.monotonic() < until:
                ended, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.002)
            if ended:
                break
        assert ended
        assert os.waitstatus_to_exitcode(status) == INTERRUPTED
        assert list(staging.iterdir()) == []
        report = store.sync()
        assert report.damaged == ()
        latest = store.require("model", EWR)
        assert latest.parameters["number"] in (victim.acknowledged, victim.acknowledged + 1)
        assert_whole(store, [latest])
        if store.lake.local:
            assert_nothing_left_over(store)


def _killing_at(point: int | None) -> Callable[[str], None]:
    seen = 0

    def die(_name: str) -> None:
        nonlocal seen
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    return die


def numbers(store: Store) -> list[int]:
    """The numbers of all visible versions, oldest first."""
    return [thing.parameters["number"] for thing in store.history("model", EWR)][::-1]


def kill_at_every_point(place: Place, staging: Path) -> int:
    """Kill a commit at its first marked point, the next one at its second, and so on; return how many were killed."""
    victim = Victim(place, staging)
    store = place.open()
    store.commit("model", EWR, draft(0, rows=3))
    for point in range(100):
        # A number that ends in 5, so that verdicts are killed, too.
        number = 10 * point + 5
        victim.acknowledge(number - 1)
        _, status = os.waitpid(victim.start(point, at_most=1), 0)
        assert status in (0, signal.SIGKILL)
        report = store.sync()
        assert report.damaged == ()
        latest = store.require("model", EWR)
        assert latest.parameters["number"] in (0 if point == 0 else number - 9, number)
        assert_whole(store, [latest])
        if status == 0:
            assert latest.parameters["number"] == number
            assert [one.claim for one in store.verdicts(latest.id)] == ["fine"]
            return point
        store.commit("model", EWR, draft(number + 1, rows=3))
    raise AssertionError("a commit has more than 100 points")


def kill_at_random_times(place: Place, staging: Path, kills: int, seed: int) -> tuple[list[int], list[int]]:
    """Kill committing children at random moments; return the numbers that must be there, and those that may be."""
    chance = random.Random(seed)
    victim = Victim(place, staging)
    store = place.open()
    must: list[int] = []
    may: list[int] = []
    longest = 0.0
    for kill in range(kills + 1):
        number = may[-1] + 1 if may else 0
        start = time.monotonic()
        store.commit("model", EWR, draft(number, rows=3))
        # The very first commit takes longer than the others.
        longest = max(longest, time.monotonic() - start) if kill == 1 else longest or 0.01
        victim.acknowledge(number)
        child = victim.start()
        time.sleep(chance.uniform(0, 3 * longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status == signal.SIGKILL, "an error reached the child before the kill did"
        # One version may have been committed without a word of it.
        must += range(number, victim.acknowledged + 1)
        may.append(victim.acknowledged + 1)
        latest = store.require("model", EWR)
        assert latest.parameters["number"] in (must[-1], may[-1])
        assert_whole(store, [latest])
        if kill % 25 == 24:
            assert store.sync().damaged == ()
    return must, may


def commit_many(place: Place, worker: int, count: int) -> None:
    """Commit to a partition that all workers share, and to one's own, in turn."""
    store = place.open()
    own = Partition.segment("late-flights", f"worker {worker}")
    for number in range(count):
        store.commit("model", own if number % 2 else EWR, draft(worker * 1000 + number, rows=3))


def wait_for_children(children: list[Any]) -> list[int | None]:
    """Start processes, wait for them, and return their exit codes."""
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def kill_copies_at_every_point(place: Place, thing_id: str, target: str, stride: int) -> int:
    """Kill a copy at its first marked point, another at its second, and so on; each is then gone on with."""
    store = place.open()
    thing = store.get(thing_id)
    store.catalog.close()
    for point in range(0, 200, stride):
        here = f"{target}/{point}"
        child = os.fork()
        if not child:
            lake.on_reached = _killing_at(point)
            try:
                store.copy(thing, here)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        copies = store.lake.at(here)
        visible = copies.exists(f"{thing.folder}/thing.json")
        assert visible or status
        if visible:
            assert_copied(thing, copies)
        copied = store.copy(thing, here)
        assert copied.new == (() if visible else (thing_id,))
        assert_copied(thing, copies)
        if status == 0:
            assert copied.bytes == 0
            return point
    raise AssertionError("a copy has more than 200 points")


def assert_copied(thing: Thing, copies: Lake) -> None:
    """All that a Thing is made of is in another lake, and whole."""
    for one in thing.components:
        assert copies.hash_of(one.path) == one.hash
    for path in shared_paths(thing.manifest):
        assert copies.exists(path)
    there = {entry.path for top in (thing.folder, f"verdicts/{thing.id}") for entry in copies.files(top)}
    assert there >= {
        entry.path for top in (thing.folder, f"verdicts/{thing.id}") for entry in thing.lake.files(top)
    }


def kill_removals_at_points(place: Place, every: int) -> int:
    """Kill a removal at a marked point, the next one `every` points later, and so on; return the last point.

    After each, what is not retired is whole, and another removal finishes the work.
    """
    store = place.open()
    for point in range(0, 100, every):
        kept = store.commit("model", EWR, draft(3 * point, rows=3))
        shared = store.commit("model", EWR, draft(3 * point, rows=3))
        gone = [store.commit("model", EWR, draft(3 * point + 1, rows=3)) for _ in range(2)]
        for thing in (shared, *gone):
            store.retire(thing.id, "for the test")
        store.catalog.close()
        child = os.fork()
        if not child:
            code = 1
            try:
                lake.on_reached = _killing_at(point)
                store.gc(timedelta(0))
                code = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        assert_whole(store, [store.get(kept.id)])
        assert point % 5 or store.verify_all().damaged == ()
        store.gc(timedelta(0))
        store.sweep(timedelta(0))
        assert all(store.get(thing.id).removed for thing in (shared, *gone))
        left = {part.path for thing in gone for part in thing.components if store.lake.exists(part.path)}
        assert left == set()
        assert_whole(store, [store.get(kept.id)])
        if status == 0:
            return point
    raise AssertionError("a removal has more than 100 points")


def log_many_in_turn(place: Place, worker: int, count: int) -> None:
    """Log under a name that all workers share, under one's own, and under none, in turn."""
    store = place.open()
    for number in range(count):
        name = ("shared", f"worker {worker}", None)[number % 3]
        store.log(
            pa.table({"number": [number] * 3}),
            name=name,
            labels={"worker": worker, "number": number},
            artifacts={"same": b"the same", "own": f"{worker} {number}"},
        )


def kill_logs_at_every_point(place: Place) -> int:
    """Kill a log at its first marked point, the next one at its second, and so on; return how many were killed."""
    store = place.open()
    logged = [store.log(name="x", labels={"number": -1}, artifacts={"same": b"same"}).id]
    for point in range(100):
        store.catalog.close()
        child = os.fork()
        if not child:
            lake.on_reached = _killing_at(point)
            try:
                store.log(name="x", labels={"number": point}, artifacts={"same": b"same", "own": str(point)})
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        assert store.sync().damaged == ()
        newest = store.get("x")
        assert (newest.id in logged) == (newest.labels["number"] != point)
        assert newest.artifacts["same"].read() == b"same"
        assert newest.artifacts["same"].path == store.get("x@1").artifacts["same"].path
        if newest.id not in logged:
            assert newest.artifacts["own"].load() == str(point)
            logged.append(newest.id)
        if status == 0:
            assert [one.id for one in store.history()][::-1] == logged
            store.sweep(timedelta(0))
            assert store.verify_all().damaged == ()
            return point
    raise AssertionError("a log has more than 100 points")
