"""The consumption database: whole at any time, readable at any time, and never older than the releases."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from resources.settings import Settings
from resources.things import Draft, Partition, Store
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
