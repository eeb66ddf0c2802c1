"""From landed files to a release, through Dagster and the command, on a home small enough to trace.

`finished` holds two projects on one source: `late` (three airports, reviewed by rules) and `windy` (one segment,
reviewed by a person). Tests that change something work on a copy.
"""

import json
import random
import shutil
import time
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest
from blake3 import blake3

from mlassets.releasing.bundles import predict
from mlassets.releasing.release import made_from
from mlassets.steps import SEGMENT_STEPS, STEPS
from mlassets_tests.small_homes import (
    SEGMENTS,
    check_evaluations,
    departures,
    land,
    mlassets,
    mlassets_process,
    new_home,
    newest,
    ran,
    run_all,
    status_but_for_ages,
    store_of,
    write_spec,
)
from resources import lake
from resources.roles import ROW_KEY, SPLIT
from resources.things import Thing

WINDY = {
    "project": "windy",
    "segments": None,
    "draw": {"sql": "SELECT id, wind, carrier, late FROM flights"},
    "review": {"mode": "manual", "rules": ["roc_auc >= 0.5"]},
}
LATE_RELEASE = ("publish", "late")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = new_home(tmp_path_factory.mktemp("finished") / "home")
    write_spec(home, **WINDY)
    outcomes = run_all(home)
    assert [(one.state, one.error) for one in outcomes if one.state != "done"] == []
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "home"))


def ids(home: Path) -> dict[tuple[str, str], str]:
    return {key: thing.id for key, thing in newest(home).items()}


def contents(thing: Thing) -> dict[str, str]:
    return {component.name: component.hash for component in thing.components}


def test_a_landed_file_becomes_a_release_through_all_six_steps(finished: Path) -> None:
    things = newest(finished)
    segments = {(step, f"late|{name}") for step in STEPS[:3] for name in SEGMENTS}
    assert {key for key in things if key[1].startswith("late")} == segments | {
        (step, "late") for step in STEPS[3:]
    }
    assert things["review", "late"].parameters["decision"] == "approve"
    release = things[LATE_RELEASE]
    assert release.rows == sum(things["model", f"late|{name}"].rows or 0 for name in SEGMENTS)
    assert release.metrics["round_trip_error"] == 0


def test_every_published_prediction_leads_back_to_the_landed_bytes(finished: Path) -> None:
    store, things = store_of(finished), newest(finished)
    upstream = {edge.based_on for edge in store.upstream(things[LATE_RELEASE].id)}
    steps = {(store.get(one).step, store.get(one).partition.key) for one in upstream}
    assert steps == {key for key in things if key[1].startswith("late")} - {LATE_RELEASE} | {
        ("sources", "flights")
    }
    (source,) = (store.get(one) for one in upstream if store.get(one).step == "sources")
    landed = (finished / "landing/flights/2013-01.csv").read_bytes()
    assert [(one["name"], one["hash"]) for one in source.parameters["files"]] == [
        ("flights/2013-01.csv", blake3(landed).hexdigest())
    ]
    keys = set(things[LATE_RELEASE].table()[ROW_KEY].to_pylist())
    known = {
        key for name in SEGMENTS for key in things["model_ready", f"late|{name}"].table()[ROW_KEY].to_pylist()
    }
    assert keys
    assert keys <= known


def test_every_step_is_judged_in_the_store_and_in_dagster(finished: Path) -> None:
    store, evaluations = store_of(finished), check_evaluations(finished)
    for (step, partition), thing in newest(finished).items():
        verdicts = store.verdicts(thing.id)
        assert verdicts, (step, partition)
        assert Path(store.report_path(thing.id) or "").is_file()
        assert evaluations[step, "no_verdict_blocks", partition].passed
        for verdict in verdicts:
            seen = evaluations[step, verdict.claim, partition]
            assert seen.passed == verdict.passed
            assert seen.severity.value == verdict.severity
            assert seen.metadata["n"].value == verdict.n
            assert seen.metadata["limit"].value == (verdict.limit or "none")
            assert ("observed" in seen.metadata) == (verdict.observed is not None)
            assert seen.metadata["thing"].value == thing.id


def test_the_release_bundle_alone_makes_the_released_predictions_again(finished: Path) -> None:
    store, things = store_of(finished), newest(finished)
    bundle = things[LATE_RELEASE].artifact("bundle.zip")
    released = things[LATE_RELEASE].table()
    for name in SEGMENTS:
        ready = made_from(store, things["model", f"late|{name}"], "model_ready").table()
        again = predict(bundle, ready.filter(pc.equal(ready[SPLIT], "test")), name).sort_by(ROW_KEY)
        before = released.filter(pc.equal(released["segment"], name)).sort_by(ROW_KEY)
        assert again.to_pydict() == before.select(again.column_names).to_pydict()


def test_the_consumption_database_holds_the_released_predictions(finished: Path) -> None:
    with duckdb.connect(str(finished / "consumption.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM late_predictions ORDER BY ALL").to_arrow_table()
    released = newest(finished)[LATE_RELEASE].table()
    assert rows.num_rows == released.num_rows
    assert sorted(rows[ROW_KEY].to_pylist()) == sorted(released[ROW_KEY].to_pylist())
    assert rows.column_names == released.column_names


def test_a_new_month_runs_again_what_depends_on_it_and_nothing_else(home: Path) -> None:
    before = ids(home)
    land(home, "flights/2013-02.csv", departures(["EWR"], 60, seed=5, first_id=10_000))
    outcomes = run_all(home, ["late"])
    assert {one.state for one in outcomes} == {"done"}
    # Every draw is made again, for all of them read the source; those that come out the same stop there.
    assert ran(outcomes) == {
        ("sources", "flights"),
        *(("draw_data", f"late|{name}") for name in SEGMENTS),
        ("model_ready", "late|EWR"),
        ("model", "late|EWR"),
        *((step, "late") for step in STEPS[3:]),
    }
    things = newest(home)
    for name in ("JFK", "LGA"):
        assert things["model_ready", f"late|{name}"].id == before["model_ready", f"late|{name}"]
        assert things["model", f"late|{name}"].id == before["model", f"late|{name}"]
    assert things["model_ready", "late|EWR"].rows == 190
    assert things[LATE_RELEASE].parameters["models"] == {
        name: things["model", f"late|{name}"].id for name in SEGMENTS
    }
    assert things["model", "late|EWR"].metrics["champion.test.roc_auc"] > 0.5

    after = ids(home)
    land(home, "flights/2013-02.csv", departures(["EWR"], 60, seed=5, first_id=10_000))
    land(home, "flights/copy.csv", departures(["EWR"], 60, seed=5, first_id=10_000))
    assert run_all(home, ["late"]) == []
    assert ids(home) == after


def test_a_changed_spec_runs_that_project_again_from_the_step_it_concerns(home: Path) -> None:
    before = ids(home)
    write_spec(home, **WINDY, model={"candidates": ["baseline"], "metric": "roc_auc"})
    outcomes = run_all(home)
    assert {one.state for one in outcomes} == {"done"}
    assert {partition for _, partition in ran(outcomes)} == {"windy|all", "windy"}
    changed = {key for key, one in ids(home).items() if before[key] != one}
    assert changed == {("model", "windy|all"), ("aggregate", "windy"), ("review", "windy")}


def test_a_changed_review_is_decided_anew_without_training(home: Path) -> None:
    write_spec(home, review={"mode": "auto", "rules": ["roc_auc >= 0.51"]})
    outcomes = run_all(home)
    assert ran(outcomes) == {("review", "late"), ("publish", "late")}
    things = newest(home)
    assert things["review", "late"].parameters["rules"][0]["rule"] == "roc_auc >= 0.51"
    assert things[LATE_RELEASE].parameters["review"] == things["review", "late"].id


def test_a_moved_limit_judges_again_what_is_there_and_makes_none_of_it_again(home: Path) -> None:
    before = ids(home)
    write_spec(home, checks={"fail": {"roc_auc": ">= 0.9999"}})
    outcomes = run_all(home)
    judged = {(f"checks of {step}", f"late|{name}") for step in SEGMENT_STEPS for name in SEGMENTS}
    assert ran(outcomes) == judged
    assert {one.state for one in outcomes if one.steps == ("checks of model",)} == {"blocked"}
    assert ids(home) == before
    blocked = check_evaluations(home)["model", "no_verdict_blocks", f"late|{SEGMENTS[0]}"]
    assert not blocked.passed
    assert mlassets(home, "verdicts", "late").exit_code == 3

    write_spec(home)
    assert {one.state for one in run_all(home)} == {"done"}
    assert ids(home) == before
    assert check_evaluations(home)["model", "no_verdict_blocks", f"late|{SEGMENTS[0]}"].passed
    assert mlassets(home, "verdicts", "late").exit_code == 0


def test_a_spec_written_anew_with_the_same_meaning_runs_nothing(home: Path) -> None:
    path = write_spec(home)
    path.write_text(f"# a remark\n{path.read_text()}")
    assert run_all(home) == []


def test_a_manual_review_waits_and_a_persons_approval_publishes(home: Path) -> None:
    status = mlassets(home, "status", "windy", "--json")
    (windy,) = json.loads(status.stdout)["projects"]
    assert windy["review"]["decision"] == "wait"
    assert windy["release"] is None
    assert ("publish", "waiting") in {(one["step"], one["state"]) for one in windy["work"]}
    assert run_all(home) == []

    process = mlassets_process(
        home, "review", "windy", "approve", "--comment", "good", "--reviewer", "Ana", "--json"
    )
    printed, told = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert json.loads(printed)["state"] == "done"
    things = newest(home)
    review = things["review", "windy"].parameters
    assert (review["decision"], review["decided_by"], review["comment"]) == ("approve", "Ana", "good")
    assert things["publish", "windy"].parameters["review"] == things["review", "windy"].id
    assert run_all(home) == []
    with duckdb.connect(str(home / "consumption.duckdb"), read_only=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert tables == {"late_predictions", "windy_predictions"}


def test_a_rejection_publishes_nothing_and_says_so(home: Path) -> None:
    result = mlassets(home, "review", "windy", "reject", "--comment", "too few rows")
    assert result.exit_code == 0, result.output
    assert ("publish", "windy") not in newest(home)
    assert newest(home)["review", "windy"].parameters["send_back_to"] == ""
    status = mlassets(home, "status", "windy")
    assert "review: reject (too few rows)" in status.stdout
    assert "publish of windy: the review did not approve" in status.stdout
    assert run_all(home) == []


def test_a_project_that_is_removed_while_it_runs_ends_with_a_word_and_goes_on_when_it_is_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(home, "flights/2013-02.csv", departures(("EWR",), seed=2, first_id=1_000))
    spec = home / "projects" / "late.yaml"
    text = spec.read_bytes()
    before = ids(home)

    def remove(point: str) -> None:
        # The draw is committed; nothing of what follows is.
        if (
            point == "row written"
            and newest(home)["draw_data", "late|EWR"].id != before["draw_data", "late|EWR"]
        ):
            spec.unlink(missing_ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(lake, "on_reached", remove)
        outcomes = run_all(home)
    (failed,) = [one for one in outcomes if one.state == "failed"]
    assert "late" in failed.error
    assert "no spec names the project" in failed.error
    after = ids(home)
    changed = {key for key in after if after[key] != before[key] and "windy" not in key[1]}
    assert changed == {("sources", "flights"), ("draw_data", "late|EWR")}
    assert ran(run_all(home)) <= {(step, key) for step, key in after if key.startswith("windy")}
    assert mlassets(home, "why", "late").exit_code == 2
    spec.write_bytes(text)
    outcomes = run_all(home)
    assert {one.state for one in outcomes} == {"done"}
    assert {("model", "late|EWR"), LATE_RELEASE} <= ran(outcomes)
    assert mlassets(home, "catalog", "verify").exit_code == 0


def test_a_lost_catalog_is_built_anew_from_the_lake(finished: Path, home: Path) -> None:
    before, history = status_but_for_ages(finished), store_of(finished).history()
    for path in home.glob("catalog.db*"):
        path.unlink()
    assert not json.loads(mlassets(home, "status", "--json").stdout)["projects"][0]["release"]
    rebuilt = mlassets(home, "catalog", "rebuild", "--json")
    assert rebuilt.exit_code == 0
    assert json.loads(rebuilt.stdout)["things"] == len(history)
    assert status_but_for_ages(home) == before
    assert store_of(home).history() == history
    assert run_all(home) == []


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `windy` project in a home of its own, run by processes that were killed, and one that was not."""
    home = new_home(
        tmp_path_factory.mktemp("survivor") / "home",
        **{**WINDY, "review": {"mode": "auto", "rules": ["roc_auc >= 0.5"]}},
    )
    chance = random.Random(11)
    for things_to_wait_for in (0, 2, 5):
        process = mlassets_process(home, "run")
        _wait_for_things(home, things_to_wait_for, process)
        time.sleep(chance.uniform(0, 1.5))
        process.kill()
        process.communicate()
        store = store_of(home)
        assert store.sync().damaged == ()
        assert all(store.verify(thing) == () for thing in store.history())
    process = mlassets_process(home, "run", "--json")
    printed, told = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert json.loads(printed)["left"] is not None
    return home


def _wait_for_things(home: Path, number: int, process) -> None:
    while process.poll() is None and len(list((home / "lake").glob("things/**/thing.json"))) < number:
        time.sleep(0.02)


def test_runs_that_are_killed_leave_whole_things_and_the_next_run_ends(survivor: Path) -> None:
    store = store_of(survivor)
    assert all(store.verify(thing) == () for thing in store.history())
    assert set(newest(survivor)) == {
        ("sources", "flights"),
        *((step, "windy|all") for step in STEPS[:3]),
        *((step, "windy") for step in STEPS[3:]),
    }
    assert all(store.verdicts(thing.id) for thing in newest(survivor).values())
    assert run_all(survivor) == []


def test_equal_inputs_and_seed_give_equal_bytes_in_another_home_and_process(
    finished: Path, survivor: Path
) -> None:
    here, there = newest(finished), newest(survivor)
    for step, partition in (
        ("sources", "flights"),
        *((step, "windy|all") for step in STEPS[:3]),
        ("aggregate", "windy"),
    ):
        assert contents(here[step, partition]) == contents(there[step, partition])
        assert here[step, partition].data_version == there[step, partition].data_version
