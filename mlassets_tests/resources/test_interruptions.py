"""SIGINT and SIGTERM end a commit or a command cleanly; a clock that jumps puts nothing out of order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlassets_tests.places import Place
from mlassets_tests.processes import wait_until
from mlassets_tests.resources.crowd import (
    EWR,
    assert_nothing_left_over,
    assert_whole,
    draft,
    in_child,
    interrupt_at_random_times,
    numbers,
)
from mlassets_tests.small_homes import departures, mlassets_process, new_home, newest, store_of

# Commits and judges at the times that a file says.
JUMPING = """
import sys
from pathlib import Path
from mlassets_tests.resources.crowd import EWR, draft
from resources.settings import Settings
from resources.store import Store
from resources.verdicts import Verdict

clock = Path(sys.argv[2])
store = Store.open(Settings(home=Path(sys.argv[1])))
for number, jump in enumerate(["+0", "-2d", "-2d", "-3d", "+1d", "+0"]):
    clock.write_text(jump)
    thing = store.commit("model", EWR, draft(number))
    store.record_verdicts(
        store.history("model", EWR)[-1].id, f"run {number}", [Verdict("c", "passed", "ERROR", number, "", 1, "", {})]
    )
    print(thing.created_at.isoformat())
"""


@pytest.mark.parametrize(
    ("lake_uri", "catalog_url"),
    [("folder", "SQLite"), ("S3", "PostgreSQL")],
    indirect=True,
    ids=["local", "remote"],
)
def test_interrupted_commits_leave_nothing_but_whole_versions(place: Place, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    in_child(interrupt_at_random_times, place, staging, 8 if place.on_s3 else 40, 3)
    store = place.open()
    assert numbers(store) == sorted(set(numbers(store)))
    assert_whole(store, store.history())


def manifests(home: Path) -> list[Path]:
    return list((home / "lake").glob("things/**/thing.json"))


def test_the_command_ends_cleanly_when_it_is_asked_to(tmp_path: Path) -> None:
    flights = {"segments": None, "draw": {"sql": "SELECT id, wind, carrier, late FROM flights"}}
    home = new_home(tmp_path / "home", rows=departures(["EWR"]), **flights)
    folder = tmp_path / "temporary"
    folder.mkdir()
    for asked, code, more in ((signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 1)):
        wanted = len(manifests(home)) + more
        process = mlassets_process(home, "run", TMPDIR=str(folder))
        wait_until(
            lambda wanted=wanted: (
                len(manifests(home)) >= wanted and list((home / "dagster").glob("storage*"))
            ),
            "the run is under way",
            60,
            every=0.02,
        )
        process.send_signal(asked)
        printed, told = process.communicate(timeout=60)
        assert process.returncode == code, told
        assert f"stopped by {asked.name}" in " ".join(told.split())
        assert "Traceback" not in told + printed
        assert "failed" not in printed
        assert list(folder.glob("mlassets-*")) == []
        store = store_of(home)
        assert store.sync().damaged == ()
        assert all(store.verify(thing) == () for thing in store.history())
        assert_nothing_left_over(store)
    assert ("sources", "flights") in newest(home)


def test_versions_and_verdicts_stay_in_order_when_the_clock_jumps_back(tmp_path: Path) -> None:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert libraries, "this test moves the clock of a process: apt-get install libfaketime"
    clock = tmp_path / "clock"
    clock.write_text("+0")
    done = subprocess.run(
        [sys.executable, "-c", JUMPING, str(tmp_path), str(clock)],
        env={
            **os.environ,
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    times = done.stdout.split()
    assert times != sorted(times)
    store = store_of(tmp_path)
    assert numbers(store) == [0, 1, 2, 3, 4, 5]
    assert store.require("model", EWR).parameters["number"] == 5
    first = store.history("model", EWR)[-1]
    assert [one.observed for one in store.verdicts(first.id)] == [5]
    history = store.history()
    assert store.rebuild().things == 6
    assert store.history() == history
    store.commit("model", EWR, draft(6))
    assert numbers(store)[-1] == 6
