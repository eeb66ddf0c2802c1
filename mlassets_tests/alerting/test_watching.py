"""What is open is found in the store and the specs, and an alert says what an on-call person must know."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlassets.alerting.watching import Open, open_alerts
from mlassets.sources import SourceSpec
from mlassets_tests.automation.made import Made
from resources.settings import Settings
from resources.things import Partition


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    made.spec()
    made.source("flights")
    return made


def look(made: Made, now: datetime | None = None, **pages: str) -> Open:
    return open_alerts(made.specs, made.store, Settings(home=made.home, **pages), now)  # type: ignore[arg-type]


def test_nothing_is_open_where_all_is_well(made: Made) -> None:
    made.all_steps()
    assert look(made) == Open((), frozenset({"late"}), ())


def test_a_blocking_verdict_is_told_with_what_was_found_and_where_to_look(made: Made) -> None:
    made.all_steps()
    model = made.store.require("model", Partition.segment("late", "EWR"))
    made.judge(model, "failed", "WARN", "is_fast")
    made.judge(model, "crashed", claim="beats_the_baseline")
    made.judge(model, "failed", claim="is_calibrated")
    (found,) = look(made, reports_url="http://here/reports").alerts
    assert found.title == "late: beats_the_baseline and 1 more failed for model of late|EWR"
    assert "is_calibrated: as found" in found.text
    assert f"mlassets report {model.id}" in found.text
    assert found.link == f"http://here/reports/{model.id}"
    assert found.at == model.created_at
    (found,) = look(made, dagster_url="http://here:3000/").alerts
    assert found.link == "http://here:3000/assets/model?view=partitions&partition=late%7CEWR"
    # Made anew and judged right, it is open no more; wrong again, it is another alert.
    made.segment_steps("EWR", content="better")
    assert look(made).alerts == ()
    made.judge(made.store.require("model", Partition.segment("late", "EWR")), "failed")
    (again,) = look(made).alerts
    assert again.key != found.key


def test_only_segments_that_the_spec_has_are_told_of(made: Made) -> None:
    made.all_steps()
    made.judge(made.store.require("model", Partition.segment("late", "JFK")), "failed")
    made.spec(changes={"[EWR, JFK]": "[EWR]"})
    assert look(made).alerts == ()


def test_a_source_that_is_refused_concerns_no_project_alone(made: Made) -> None:
    made.spec("other")
    made.judge(made.store.require("sources", Partition.source("flights")), "failed")
    (found,) = look(made).alerts
    assert (found.project, found.title) == ("", "flights: rows_are_right failed for sources of flights")


def test_a_waiting_review_says_whom_it_waits_for_and_how_to_decide(made: Made) -> None:
    made.spec(changes={"{mode: auto}": "{mode: manual, reviewers: [ana, ben]}"})
    made.project_steps({"EWR": made.segment_steps("EWR")}, decision="wait")
    review = made.store.require("review", Partition.project("late"))
    (found,) = look(made, review.created_at + timedelta(days=3), reports_url="http://here/reports").alerts
    assert found.title == "late: a review waits for ana or ben"
    assert "(3 days ago)" in found.text
    assert "mlassets review late approve" in found.text
    assert found.link == f"http://here/reports/{review.id}/evidence.html"
    aggregate = made.store.require("aggregate", Partition.project("late"))
    made.thing("review", on=[aggregate], parameters={"decision": "approve"})
    assert look(made).alerts == ()


def test_a_review_of_what_was_made_anew_waits_no_more(made: Made) -> None:
    models = {"EWR": made.segment_steps("EWR")}
    made.project_steps(models, decision="wait")
    coverage = {"coverage": {"expected": ["EWR"]}}
    aggregate = made.store.require("aggregate", Partition.project("late"))
    same = aggregate.table()["content"][0].as_py()
    made.thing("aggregate", on=models.values(), content=same, parameters=coverage)
    assert len(look(made).alerts) == 1, "made again and the same, it still waits"
    made.thing("aggregate", on=models.values(), content="new", parameters=coverage)
    assert look(made).alerts == ()


def test_a_source_is_stale_after_the_time_that_the_spec_gives_it(made: Made) -> None:
    made.spec(changes={"review:": "stale_after: {flights: 35d, weather: 6h}\nreview:"})
    landed = made.store.require("sources", Partition.source("flights")).created_at
    assert look(made, landed + timedelta(days=35)).alerts == ()
    (found,) = look(made, landed + timedelta(days=40)).alerts
    assert found.title == "late: nothing has landed for flights for 40 days"
    assert "`stale_after: {flights: 35d}`" in found.text
    assert "landing/flights/*" in found.text
    assert found.at == landed + timedelta(days=35)
    assert look(made, landed - timedelta(days=100)).alerts == ()
    made.source("flights", {"origin": ["EWR"], "late": [1]})
    landed = made.store.require("sources", Partition.source("flights")).created_at
    assert look(made, landed + timedelta(days=1)).alerts == ()
    (again,) = look(made, landed + timedelta(days=40)).alerts
    assert again.key != found.key


def test_a_source_that_no_project_reads_is_stale_after_the_time_that_its_own_spec_gives_it(
    made: Made,
) -> None:
    landed = made.store.require("sources", Partition.source("flights")).created_at
    sources = {"flights": SourceSpec(stale_after="2d"), "weather": SourceSpec(stale_after="1h")}

    def found(after: timedelta) -> list[str]:
        opened = open_alerts({}, made.store, Settings(home=made.home), landed + after, sources=sources)
        return [one.title for one in opened.alerts]

    assert found(timedelta(days=2)) == []
    assert found(timedelta(days=3)) == ["nothing has landed for flights for 3 days"]


def test_a_project_that_cannot_be_looked_at_holds_up_no_other(made: Made) -> None:
    made.spec("odd", {"[EWR, JFK]": "{column: nosuch}", '"landing/weather/*"': '"landing/weather/*"'})
    made.source("weather")
    made.project_steps({"EWR": made.segment_steps("EWR")}, decision="wait")
    found = look(made, datetime.now(UTC))
    assert [one.project for one in found.alerts] == ["late"]
    assert found.seen == {"late"}
    assert "nosuch" in found.troubles[0]
