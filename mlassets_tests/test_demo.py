"""The demonstration, once, on the real bundled data."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlassets.tracing import trace
from mlassets_tests.small_homes import mlassets, store_of
from resources.lake import hash_bytes
from resources.things import Partition

AIRPORTS = ("EWR", "JFK", "LGA")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def summary(home: Path) -> Any:
    result = mlassets(home, "demo", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ran(runs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(step, run["partition"]) for run in runs for step in run["steps"]}


@pytest.mark.parametrize("part", ["first", "second"])
def test_every_airport_has_a_model_that_beats_the_baseline_and_a_release_follows(
    summary: Any, part: str
) -> None:
    status = summary[part]["status"]
    assert [row["segment"] for row in status["segments"]] == list(AIRPORTS)
    for row in status["segments"]:
        assert row["low"] > row["baseline"]
        assert row["rows"] > 10_000
        assert row["verdicts"]["blocking"] == 0
    assert status["review"]["decision"] == "approve"
    assert status["release"]["round_trip_error"] == 0
    assert status["work"] == []


def test_the_second_month_makes_a_new_release_of_more_rows(summary: Any) -> None:
    first, second = summary["first"]["status"], summary["second"]["status"]
    assert first["release"]["id"] != second["release"]["id"]
    for before, after in zip(first["segments"], second["segments"], strict=True):
        assert after["rows"] > before["rows"]
        assert after["model"] != before["model"]


def test_the_new_month_runs_again_what_depends_on_it_and_leaves_the_planes_alone(summary: Any) -> None:
    runs = ran(summary["second"]["runs"])
    assert runs == {
        ("sources", "flights"),
        ("sources", "weather"),
        *(
            (step, f"late-flights|{name}")
            for step in ("draw_data", "model_ready", "model")
            for name in AIRPORTS
        ),
        *((step, "late-flights") for step in ("aggregate", "review", "publish")),
    }
    assert {run["state"] for run in summary["second"]["runs"]} == {"done"}
    alone = {(one["step"], one["partition"]): one["reason"] for one in summary["second"]["left_alone"]}
    assert alone["sources", "planes"] == "nothing new landed"
    assert alone["sources", "flights"].startswith("3 of its 4 files were there already")


def test_the_same_bytes_again_run_nothing(summary: Any) -> None:
    assert summary["third"]["runs"] == []
    assert summary["exit_code"] == 0


def test_the_new_models_were_compared_with_the_champion_on_the_same_rows(home: Path, summary: Any) -> None:
    store = store_of(home)
    for row in summary["second"]["status"]["segments"]:
        metrics = store.get(row["model"]).metrics
        assert metrics["champion.test.roc_auc"] > 0.5
    release = store.require("publish", Partition.project("late-flights"))
    assert release.id == summary["second"]["status"]["release"]["id"]
    for thing in store.history():
        assert store.verify(thing) == ()


def test_a_published_flight_leads_back_to_the_bytes_that_landed_in_its_month(
    home: Path, summary: Any
) -> None:
    assert summary["exit_code"] == 0
    store = store_of(home)
    release = store.require("publish", Partition.project("late-flights"))
    keys = release.table(["row_key"])["row_key"].to_pylist()
    # Not at the ends of a month, as keys have the time in UTC.
    key = next(one for one in keys if one.partition("|")[2][8:10] in ("10", "15", "20"))
    number, time = key.split("|")
    traced = trace(store, "late-flights", {"flight_number": number, "time_hour": time})
    assert traced.gaps == []
    assert [one["flight_number"] for one in traced.drawn] == [number]
    found = {source.name: source for source in traced.sources}
    (flights,) = found["flights"].files
    assert flights.name.startswith(f"flights/{time[:7]}")
    assert flights.hash == hash_bytes((home / "landing" / flights.name).read_bytes())
    assert [one.name[:15] for one in found["weather"].files] == [f"weather/{time[:7]}"]
