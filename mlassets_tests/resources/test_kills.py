"""Kill -9 anywhere, and any number of processes at once: nothing lost, nothing half-visible."""

from datetime import timedelta
from pathlib import Path

import pytest

from mlassets_tests.places import Place
from mlassets_tests.resources.crowd import (
    CROWD,
    assert_whole,
    commit_many,
    in_child,
    kill_at_every_point,
    kill_at_random_times,
    kill_logs_at_every_point,
    log_many_in_turn,
    numbers,
    wait_for_children,
)
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition

# Where commits are quickest, most kills happen.
SHARE = {
    ("folder", "SQLite"): 0.6,
    ("folder", "PostgreSQL"): 0.2,
    ("S3", "SQLite"): 0.1,
    ("S3", "PostgreSQL"): 0.1,
}
KILLS_PER_HOME = 100
LOGS = 25
WORKERS = 8


def assert_only_garbage_is_swept(store: Store) -> None:
    """Sweeping takes nothing from any version, and leaves nothing that belongs to none."""
    history = store.history()
    store.sweep(timedelta(0))
    assert store.sweep(timedelta(0)) == []
    assert_whole(store, history if store.lake.local else history[::5])
    for thing in history[:3]:
        assert set(thing.table()["number"].to_pylist()) == {thing.parameters["number"]}
    named = {component.path for thing in history for component in thing.components}
    named |= {f"{thing.folder}/thing.json" for thing in history}
    assert {entry.path for entry in store.lake.files("things")} == named
    assert list(store.lake.files("tmp")) == []
    assert store.rebuild().things == len(history)
    assert store.history() == history


def test_a_kill_at_any_point_of_a_commit_loses_nothing_and_shows_nothing_half_done(
    place: Place, tmp_path: Path
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    assert in_child(kill_at_every_point, place, staging) >= (12 if place.on_s3 else 18)
    store = place.open()
    seen = numbers(store)
    assert sorted(seen) == seen
    assert_only_garbage_is_swept(store)


def test_kills_at_random_times_leave_a_store_that_works(
    place: Place, tmp_path: Path, pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> None:
    kinds = request.node.callspec.params
    kills = round(pytestconfig.getoption("--kills") * SHARE[kinds["lake_uri"], kinds["catalog_url"]])
    staging = tmp_path / "staging"
    staging.mkdir()
    for number, start in enumerate(range(0, kills, KILLS_PER_HOME)):
        lake = f"{place.settings.lake}/{number}"
        here = Place(place.settings.model_copy(update={"lake": lake}), place.environment)
        store = here.open()
        store.rebuild()
        must, may = in_child(kill_at_random_times, here, staging, min(KILLS_PER_HOME, kills - start), number)
        assert store.sync().damaged == ()
        assert [one for one in numbers(store) if one not in may] == must
        assert sorted(set(numbers(store))) == numbers(store)
        assert_only_garbage_is_swept(store)


def test_eight_processes_lose_nothing_and_keep_order(
    place: Place, pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> None:
    quick = request.node.callspec.params == {"lake_uri": "folder", "catalog_url": "SQLite"}
    count = 200 if quick else pytestconfig.getoption("--commits")
    codes = wait_for_children(
        [CROWD.Process(target=commit_many, args=(place, worker, count)) for worker in range(WORKERS)]
    )
    assert codes == [0] * WORKERS
    store = place.open()
    shared = numbers(store)
    assert len(shared) == len(set(shared)) == WORKERS * ((count + 1) // 2)
    for worker in range(WORKERS):
        own = Partition.segment("late-flights", f"worker {worker}")
        alone = [thing.parameters["number"] for thing in store.history("model", own)][::-1]
        assert alone == [worker * 1000 + number for number in range(1, count, 2)]
        among = [number for number in shared if number // 1000 == worker]
        assert among == [worker * 1000 + number for number in range(0, count, 2)]
    history = store.history()
    assert_whole(store, history if quick else history[::10])
    assert store.sync().things == 0
    assert store.rebuild().things == len(history) == WORKERS * count
    assert store.history() == history


def test_processes_may_open_a_fresh_home_at_the_same_time(place: Place, tmp_path: Path) -> None:
    codes = wait_for_children(
        [CROWD.Process(target=commit_many, args=(place, worker, 2)) for worker in range(3)]
    )
    assert codes == [0] * 3
    assert len(place.open().history()) == 6


def test_a_kill_at_any_point_of_a_log_loses_nothing_and_shows_nothing_half_done(tmp_path: Path) -> None:
    assert in_child(kill_logs_at_every_point, Place(Settings(home=tmp_path))) >= 10


@pytest.mark.parametrize(
    ("lake_uri", "catalog_url"), [("folder", "SQLite"), ("S3", "PostgreSQL")], indirect=True
)
def test_eight_processes_that_log_lose_nothing(place: Place, pytestconfig: pytest.Config) -> None:
    count = max(LOGS, pytestconfig.getoption("--commits"))
    codes = wait_for_children(
        [CROWD.Process(target=log_many_in_turn, args=(place, worker, count)) for worker in range(WORKERS)]
    )
    assert codes == [0] * WORKERS
    store = place.open()
    history = store.history()
    logged = {(one.labels["worker"], one.labels["number"]): one for one in history}
    assert set(logged) == {(worker, number) for worker in range(WORKERS) for number in range(count)}
    assert len(history) == len(logged) == store.find().count() == WORKERS * count
    assert len({one.partition for one in history}) == 1 + WORKERS + WORKERS * len(range(2, count, 3))
    for (worker, number), thing in logged.items():
        assert thing.partition["name"] in ("shared", f"worker {worker}") or number % 3 == 2
        if number > count - 3:
            assert thing.artifacts["own"].load() == f"{worker} {number}"
            assert thing.dataset.to_arrow()["number"].to_pylist() == [number] * 3
    own = [one for one in history if one.partition["name"] == "worker 0"]
    assert len({one.artifacts["same"].path for one in own}) == 1
    assert store.sync().things == 0
    assert store.rebuild().things == len(history)
    assert store.history() == history
