"""The consumption database: whole at any time, readable at any time, and never older than the releases."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition
from resources.warehouse import ReleaseIOManager, rebuild_consumption, table_name


class Releases:
    """A home with a step `publish` whose Things are releases."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home)
        self.store = Store.open(self.settings)
        self.database = self.settings.consumption

    def commit(self, project: str, rows: list[int]) -> None:
        draft = Draft(dataset=pa.table({"row_key": [str(row) for row in rows], "prediction": rows}))
        self.store.commit("publish", Partition.project(project), draft)

    def rebuild(self) -> list[str]:
        return rebuild_consumption(self.store, self.database, "publish")

    def read(self, table: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(f'SELECT prediction FROM "{table}" ORDER BY ALL').fetchall()

    def tables(self) -> set[str]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return {row[0] for row in connection.execute("SHOW TABLES").fetchall()}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


def test_it_holds_the_newest_release_of_every_project(releases: Releases) -> None:
    releases.commit("late-flights", [1, 2])
    releases.commit("late-flights", [3])
    releases.commit("trees", [4])
    assert releases.rebuild() == ["late_flights_predictions", "trees_predictions"]
    assert releases.read("late_flights_predictions") == [(3,)]
    assert releases.read("trees_predictions") == [(4,)]
    releases.commit("trees", [5])
    releases.rebuild()
    assert (releases.read("trees_predictions"), releases.read("late_flights_predictions")) == ([(5,)], [(3,)])


def test_without_a_release_it_is_empty(releases: Releases) -> None:
    assert releases.rebuild() == []
    assert releases.tables() == set()


def test_a_release_of_no_rows_is_an_empty_table(releases: Releases) -> None:
    releases.commit("none", [])
    releases.rebuild()
    assert releases.read("none_predictions") == []


def test_a_release_in_dagster_is_in_the_database_at_once(releases: Releases) -> None:
    projects = dg.DynamicPartitionsDefinition(name="project")

    @dg.asset(name="publish", partitions_def=projects)
    def publish(context: dg.AssetExecutionContext) -> Draft:
        return Draft(dataset=pa.table({"prediction": [len(context.partition_key)]}))

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("project", ["late", "trees"])
        for project in ("late", "trees"):
            dg.materialize(
                [publish],
                partition_key=project,
                instance=instance,
                resources={"io_manager": ReleaseIOManager(home=str(releases.home))},
            )
    assert releases.read("late_predictions") == [(4,)]
    assert releases.read("trees_predictions") == [(5,)]
    assert releases.store.require("publish", Partition.project("late")).table().num_rows == 1


def test_a_reader_keeps_what_it_opened_while_a_new_release_takes_its_place(releases: Releases) -> None:
    releases.commit("late", [1])
    releases.rebuild()
    reads = (
        "import duckdb,sys; c=duckdb.connect(sys.argv[1],read_only=True); print('open',flush=True); input();"
    )
    reads += "print(c.execute('SELECT prediction FROM late_predictions').fetchall(),flush=True)"
    command = [sys.executable, "-c", reads, str(releases.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        releases.commit("late", [2])
        releases.rebuild()
        assert releases.read("late_predictions") == [(2,)]
        assert reader.communicate("\n", timeout=60)[0].strip() == "[(1,)]"


def test_a_release_that_cannot_be_written_leaves_the_database_as_it_was(releases: Releases) -> None:
    releases.commit("late", [1])
    releases.rebuild()
    before = releases.database.read_bytes()
    releases.commit("trees", [2])
    trees = releases.store.require("publish", Partition.project("trees"))
    for component in trees.files.values():
        (releases.home / "lake" / component.path).unlink()
    with pytest.raises(Exception, match="missing"):
        releases.rebuild()
    assert releases.database.read_bytes() == before
    assert [path.name for path in releases.database.parent.glob(f"*{releases.database.name}*")] == [
        releases.database.name
    ]


def test_releases_at_the_same_time_leave_the_newest_of_all(releases: Releases) -> None:
    def release(project: str) -> None:
        for number in range(3):
            releases.commit(project, [number])
            releases.rebuild()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(release, ["p0", "p1", "p2", "p3"])) == [None] * 4
    assert {name: releases.read(name) for name in releases.tables()} == {
        f"p{number}_predictions": [(2,)] for number in range(4)
    }


@pytest.mark.parametrize(
    ("project", "name"), [("late-flights", "late_flights_predictions"), ("p1", "p1_predictions")]
)
def test_a_table_is_named_after_its_project(project: str, name: str) -> None:
    assert table_name(project) == name


KILLED_AT_A_LINE = """
import linecache, os, signal, sys
from pathlib import Path
from resources import warehouse
from resources.settings import Settings
from resources.store import Store

settings = Settings(home=Path(sys.argv[1]))

def at_line(frame, event, argument):
    if frame.f_code.co_filename != warehouse.__file__:
        return None
    if event == "line" and sys.argv[2] in linecache.getline(warehouse.__file__, frame.f_lineno):
        os.kill(os.getpid(), signal.SIGKILL)
    return at_line

sys.settrace(at_line)
warehouse.rebuild_consumption(Store.open(settings), settings.consumption, "publish")
"""


@pytest.mark.parametrize(
    ("line", "then"),
    [
        ("connection.execute", 1),
        ("connection.unregister", 1),
        ("os.replace(fresh", 1),
        ("for left in (fresh", 2),
        ("== releases:", 2),
    ],
)
def test_a_kill_on_the_way_leaves_it_whole_and_the_next_rebuild_brings_it_up_to_date(
    releases: Releases, line: str, then: int
) -> None:
    releases.commit("late", [1])
    releases.rebuild()
    releases.commit("late", [2])
    command = [sys.executable, "-c", KILLED_AT_A_LINE, str(releases.home), line]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    assert releases.read("late_predictions") == [(then,)]
    releases.rebuild()
    assert releases.read("late_predictions") == [(2,)]


def test_what_killed_rebuilds_left_is_removed_once_no_rebuild_can_need_it(releases: Releases) -> None:
    releases.commit("late", [1])
    name = f".{releases.database.name}"
    old, new = (releases.home / f"{name}.{letter * 32}" for letter in "ab")
    for path in (old, releases.home / f"{old.name}.wal", new, releases.home / "other.duckdb"):
        path.touch()
    two_days_ago = time.time() - 2 * 86_400
    for path in (old, releases.home / f"{old.name}.wal", releases.home / "other.duckdb"):
        os.utime(path, (two_days_ago, two_days_ago))
    releases.rebuild()
    assert {path.name for path in releases.home.glob(f"{name}.*")} == {new.name}
    assert (releases.home / "other.duckdb").exists()


READS_AGAIN_AND_AGAIN = """
import duckdb, sys
seen = set()
print("ready", flush=True)
while len(seen) < 2 or max(seen) < 8:
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        ((value,),) = connection.execute("SELECT prediction FROM late_predictions").fetchall()
    assert value >= max(seen, default=0), "an older release came back"
    seen.add(value)
"""


def test_readers_never_meet_a_lock_while_it_is_rebuilt(releases: Releases) -> None:
    releases.commit("late", [0])
    releases.rebuild()
    command = [sys.executable, "-c", READS_AGAIN_AND_AGAIN, str(releases.database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(1, 9):
            releases.commit("late", [number])
            releases.rebuild()
        _, errors = reader.communicate(timeout=120)
    assert (reader.returncode, errors) == (0, "")


def test_releases_on_s3_are_read_into_it(bucket: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, lake=f"s3://{bucket}/lake")
    store = Store.open(settings)
    store.commit(
        "publish",
        Partition.project("late"),
        Draft(dataset=pa.table({"prediction": [1, 2], "k": ["a", None]})),
    )
    assert rebuild_consumption(store, settings.consumption, "publish") == ["late_predictions"]
    with duckdb.connect(str(settings.consumption), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM late_predictions ORDER BY ALL").fetchall()
    assert rows == [(1, "a"), (2, None)]
