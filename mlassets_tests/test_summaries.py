"""How projects stand at a glance: which release, how old, and what waits on what or whom."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mlassets.summaries import overviews_of
from mlassets_tests.automation.made import Made
from mlassets_tests.small_homes import mlassets
from resources.things import Draft, Partition

LATE = Partition.project("late")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    made.spec()
    return made


def overview(made: Made, **later: float) -> dict[str, Any]:
    newest = made.store.history()
    now = newest[0].created_at + timedelta(**later) if newest else None
    return {row["project"]: row for row in overviews_of(made.specs.values(), made.store, now)}["late"]


def test_a_project_without_data_waits_for_it(made: Made) -> None:
    found = overview(made)
    assert (found["releases"], found["state"]) == ([], "waiting")
    assert found["says"] == ["waits: nothing has landed for flights"]


def test_what_is_due_is_named_with_its_reason(made: Made) -> None:
    made.source("flights")
    found = overview(made)
    assert found["state"] == "due"
    assert found["says"] == ["due: draw_data of late|EWR (never made), and 1 more"]


def test_a_current_project_has_a_release_of_an_age(made: Made) -> None:
    made.source("flights")
    made.all_steps()
    found = overview(made, days=3)
    assert (found["state"], found["says"]) == ("current", ["all is current"])
    (release,) = found["releases"]
    assert release["id"] == made.store.require("publish", LATE).id
    assert (release["alias"], release["age"]) == ("champion", "3 days")
    for alias in ("champion", "challenger"):
        made.store.commit("publish", LATE, Draft(labels={"alias": alias}, parameters={"models": {}}))
    assert [one["alias"] for one in overview(made)["releases"]] == ["champion", "challenger"]


def test_a_waiting_review_says_on_whom(made: Made) -> None:
    made.spec(changes={"{mode: auto}": "{mode: manual, reviewers: [ana, ben]}"})
    made.source("flights")
    models = {name: made.segment_steps(name) for name in ("EWR", "JFK")}
    made.project_steps(models, decision="wait")
    found = overview(made, hours=5)
    assert found["state"] == "person"
    assert found["says"] == ["waits for ana or ben to review, for 5 hours"]


def test_a_blocking_verdict_is_named_with_its_segment_also_on_the_last_step(made: Made) -> None:
    made.source("flights")
    made.all_steps()
    made.judge(made.store.require("publish", LATE), "failed", claim="round_trip_is_exact")
    assert overview(made)["says"][0] == "blocked by round_trip_is_exact of publish of late"
    made.judge(made.store.require("model", Partition.segment("late", "EWR")), "failed", claim="beats_it")
    found = overview(made)
    assert found["state"] == "blocked"
    assert found["says"][0] == "blocked by beats_it of model of late|EWR, and 1 more"


def test_a_stale_source_is_told_beside_the_rest(made: Made) -> None:
    made.spec(changes={"review:": "stale_after: {flights: 35d}\nreview:"})
    made.source("flights")
    made.all_steps()
    found = overview(made, days=40)
    assert found["state"] == "stale"
    assert "nothing has landed for flights for 40 days" in found["says"]


def test_a_project_that_cannot_be_read_hides_no_other(made: Made) -> None:
    made.source("flights")
    made.source("weather")
    made.spec("odd", {"[EWR, JFK]": "{column: nosuch}"})
    rows = {row["project"]: row for row in overviews_of(made.specs.values(), made.store)}
    assert (rows["odd"]["state"], rows["late"]["state"]) == ("unreadable", "due")
    assert "nosuch" in rows["odd"]["says"][0]
    printed = mlassets(made.home, "status")
    assert printed.exit_code == 0, printed.output
    assert "nosuch" in printed.stdout
    assert mlassets(made.home, "status", "odd").exit_code == 2


def test_many_projects_are_a_line_each_and_one_is_shown_whole(made: Made) -> None:
    made.source("flights")
    made.spec("other")
    printed = mlassets(made.home, "status").stdout
    assert "late" in printed
    assert "other" in printed
    assert "together" not in printed
    assert "together" in mlassets(made.home, "status", "other").stdout
