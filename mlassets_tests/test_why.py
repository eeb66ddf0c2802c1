"""`mlassets why`: what would run, what would not, and what says so; and the page that shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlassets.automation.planners import decide
from mlassets.runs import UnknownPartition
from mlassets.summaries import at_a_glance, why_of
from mlassets_tests import automation_page
from mlassets_tests.automation.made import Made
from mlassets_tests.small_homes import departures, land, mlassets, new_home
from resources.things import Partition

MANY = [f"S{number:02}" for number in range(50)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    made.spec()
    made.source("flights")
    return made


def why(made: Made, segment: str | None = None, landed: tuple[str, ...] = ()) -> dict[str, Any]:
    return why_of(made.specs["late"], made.store, segment, landed=landed)


def lines(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (one["state"], "+".join(one["steps"]), ",".join(one["segments"] or ["the project"]), one["reason"])
        for one in found["steps"]
    ]


def test_the_page_on_automation_shows_what_why_says() -> None:
    assert automation_page.play() == automation_page.PAGE.read_text(encoding="utf-8"), "run `make docs`"


def test_every_step_of_every_segment_is_told_once(made: Made) -> None:
    assert lines(why(made)) == [
        ("due", "draw_data+model_ready+model", "EWR,JFK", "never made"),
        ("waiting", "aggregate", "the project", "no segment has a model yet"),
        ("waiting", "review", "the project", "waits for aggregate"),
        ("waiting", "publish", "the project", "waits for review"),
    ]
    made.segment_steps("EWR")
    assert lines(why(made)) == [
        ("due", "draw_data+model_ready+model", "JFK", "never made"),
        ("due", "aggregate+review+publish", "the project", "never made"),
        ("current", "draw_data", "EWR", "flights unchanged"),
        ("current", "model_ready", "EWR", "draw_data unchanged"),
        ("current", "model", "EWR", "model_ready unchanged"),
    ]


def test_what_is_told_is_what_the_planner_decides(made: Made) -> None:
    made.all_steps()
    made.spec("late", {"review:": "retrain: {min_new_rows: 3, cool_down: 1h}\nreview:"})
    made.source("flights", {"origin": ["EWR"] * 9, "late": [0] * 9})
    made.judge(made.store.require("model", Partition.segment("late", "EWR")), "failed")
    told = {
        (step, segment or "")
        for one in why(made)["steps"]
        for step in one["steps"]
        for segment in (one["segments"] or [""])
    }
    decided = {(one.step, one.partition.get("segment") or "") for one in decide(made.specs, made.store)}
    assert told == decided
    states = {(one["steps"][0], one["state"]) for one in why(made)["steps"]}
    assert ("aggregate", "blocked") in states
    (draw,) = [one for one in why(made)["steps"] if one["steps"] == ["draw_data"]]
    assert draw["rule"]["holds"] is False
    assert [part["holds"] for part in draw["rule"]["parts"]] == [True, False]
    assert draw["asks_next_at"] == draw["rule"]["parts"][1]["next_at"]
    assert json.loads(json.dumps(why(made)))["retrain"]["cool_down"] == "1h"


def test_what_is_current_says_when_a_schedule_asks_next(made: Made) -> None:
    made.spec("late", {"review:": 'retrain: {on: cron, cron: "0 6 * * 1"}\nreview:'})
    made.all_steps()
    (draw,) = [one for one in why(made)["steps"] if one["steps"] == ["draw_data"]]
    assert draw["reason"].startswith("flights unchanged; the schedule `0 6 * * 1` asks next at Mon ")
    assert draw["asks_next_at"]


def test_one_segment_is_told_alone_and_an_unknown_one_is_refused(made: Made) -> None:
    assert lines(why(made, "EWR")) == [("due", "draw_data+model_ready+model", "EWR", "never made")]
    with pytest.raises(UnknownPartition, match="late has no segment 'EWT'; did you mean EWR"):
        why(made, "EWT")


def test_a_project_whose_segments_nobody_knows_yet_says_what_it_waits_for(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.spec("late", {"[EWR, JFK]": "{column: origin}"})
    assert lines(why(made)) == [
        ("waiting", "draw_data", "the project", "no data has landed that names its segments (origin)")
    ]


def entry(state: str, name: str, reason: str, *, ruled: bool = True) -> dict[str, Any]:
    return {
        "state": state,
        "steps": ["model_ready"],
        "source": None,
        "segments": [name],
        "reason": reason,
        "rule": {"holds": state == "due"} if ruled else None,
    }


def test_fifty_segments_with_figures_of_their_own_read_at_a_glance() -> None:
    steps = [
        entry(
            "due" if drift > 200 else "current",
            name,
            f"champion_drift {drift / 1_000:g}, and 1,{drift:03} rows",
        )
        for drift, name in zip(range(0, 250, 5), MANY, strict=True)
    ]
    steps.append(entry("current", "S50", "cools down until 2026-02-04 12:00 UTC"))
    steps.append(entry("current", "S51", "cools down until 2026-02-03 09:30 UTC"))
    steps.append(entry("blocked", "S52", "failed for draw_data of late|52: 7 rows", ruled=False))
    steps.append(entry("blocked", "S53", "failed for draw_data of late|53: 8 rows", ruled=False))
    assert [(one["segments"], one["reason"]) for one in at_a_glance(steps)] == [
        (MANY[:41], "champion_drift 0 to 0.2, and 1,000 to 1,200 rows"),
        (MANY[41:], "champion_drift 0.205 to 0.245, and 1,205 to 1,245 rows"),
        (["S50", "S51"], "cools down until 2026-02-03 09:30 to 2026-02-04 12:00 UTC"),
        (["S52"], "failed for draw_data of late|52: 7 rows"),
        (["S53"], "failed for draw_data of late|53: 8 rows"),
    ]
    assert len(steps) == 54, "what it is given stays as it is"


def test_the_command_tells_of_landed_files_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    new_home(tmp_path, departures(rows=30))
    land(tmp_path, "flights/.half-written.csv.part", "id,origin\n")
    mlassets(tmp_path, "status")

    def state() -> dict[str, bytes]:
        # Reading a SQLite file may touch its -shm and -wal.
        return {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in sorted(tmp_path.rglob("*"))
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }

    before = state()
    done = mlassets(tmp_path, "why", "late")
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "due sources flights files have landed that were not taken yet" in words
    assert "waiting draw_data the project no data has landed that names its segments (origin)" in words
    assert "note: flights: flights/.half-written.csv.part is ignored" in words
    told = json.loads(mlassets(tmp_path, "why", "late", "--json").output)
    assert told["steps"][0]["source"] == "flights"
    assert state() == before


def test_mistakes_are_told_in_words(tmp_path: Path) -> None:
    Made(tmp_path).spec()
    for words, told in (
        (["lade"], 'no spec names the project "lade"; did you mean late?'),
        (["late", "EWRR"], "late has no segment 'EWRR'; did you mean EWR?"),
    ):
        done = mlassets(tmp_path, "why", *words)
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    made = Made(tmp_path)
    names = ["[red]x[/red]", "a | b", "tür ✈", "x" * 300]
    made.spec("late", {"[EWR, JFK]": json.dumps(names)})
    made.source("flights")
    shown = mlassets(tmp_path, "why", "late").output
    assert "[red]x[/red]" in shown
    done = mlassets(tmp_path, "why", "late", names[1])
    assert done.exit_code == 0, done.output
