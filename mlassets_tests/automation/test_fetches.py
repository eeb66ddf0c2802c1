"""Origins are fetched as often as is said, when they have changed, and again when that has failed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from mlassets.automation.fetches import FetchPlan, plan_fetches
from mlassets.automation.sensors import changed_origin_sensor
from mlassets.home import Home
from mlassets.ingestion.fetching import NotFetched, Origin
from mlassets.sources import FetchSpec, SourceSpec
from mlassets_tests.ingestion.web import Answer, Web
from mlassets_tests.small_homes import newest, runner_of

START = datetime(2024, 1, 1, tzinfo=UTC)


class Origins:
    """Origins that say what a test says, asked every hour."""

    def __init__(self, **marks: str | None) -> None:
        self.marks, self.failed, self.cursor = dict(marks), set[str](), ""
        self.asked: list[str] = []
        self.specs = {
            name: SourceSpec(fetch=FetchSpec(url=f"https://example.org/{name}", every="1h")) for name in marks
        }

    def ask(self, spec: SourceSpec) -> Origin:
        assert spec.fetch is not None
        name = str(spec.fetch.url).rpartition("/")[2]
        self.asked.append(name)
        if self.marks[name] == "down":
            raise NotFetched("no answer")
        return Origin(etag=self.marks[name])

    def look(self, minutes: float, seconds: float = 60) -> FetchPlan:
        plan = plan_fetches(
            self.cursor,
            self.specs,
            self.ask,
            self.failed.__contains__,
            START + timedelta(minutes=minutes),
            seconds,
        )
        self.cursor = plan.cursor
        return plan


def test_an_origin_is_fetched_at_first_and_then_when_it_has_changed() -> None:
    origins = Origins(a="1")
    assert set(origins.look(0).requests) == {"a"}
    origins.marks["a"] = "2"
    assert origins.look(59).requests == {}, "it is not asked before its time"
    assert set(origins.look(60).requests) == {"a"}
    assert origins.look(120).requests == {}
    assert origins.asked == ["a"] * 3


def test_an_origin_that_says_nothing_is_fetched_each_time() -> None:
    origins = Origins(a=None)
    keys = [origins.look(60 * hour).requests["a"] for hour in range(3)]
    assert len(set(keys)) == 3


def test_what_failed_is_asked_for_again() -> None:
    origins = Origins(a="1")
    first = origins.look(0).requests["a"]
    origins.failed.add(first)
    second = origins.look(60).requests["a"]
    assert second != first
    assert origins.look(120).requests == {}


def test_an_origin_that_does_not_answer_is_told_of_and_holds_up_no_other() -> None:
    origins = Origins(a="down", b="1")
    plan = origins.look(0)
    assert set(plan.requests) == {"b"}
    assert plan.notes == ("a: no answer",)
    assert origins.look(5).notes == ()
    origins.marks["a"] = "1"
    assert set(origins.look(60).requests) == {"a"}


def test_another_origin_of_a_source_is_new() -> None:
    origins = Origins(a="1")
    origins.look(0)
    origins.specs["a"] = SourceSpec(fetch=FetchSpec(url="https://example.org/other/a", every="1h"))
    assert set(origins.look(1).requests) == {"a"}


def test_a_look_that_takes_too_long_goes_on_at_the_next() -> None:
    origins = Origins(a="1", b="1", c="1")
    found = [set(origins.look(minutes, seconds=0).requests) for minutes in (0, 1, 2, 3)]
    assert found == [{"a"}, {"b"}, {"c"}, set()]


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().running() as running:
        yield running


def test_the_sensor_asks_for_a_run_that_fetches_and_takes(tmp_path: Path, web: Web) -> None:
    web.answers["/x.csv"] = Answer(b"k\n1\n", headers={"ETag": '"1"'})
    (tmp_path / "sources").mkdir()
    fetch = {"url": f"{web.url}/x.csv", "every": "1min", "name": "x-%Y.csv"}
    (tmp_path / "sources" / "rows.yaml").write_text(json.dumps({"fetch": fetch}))
    home = Home(home=str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"home": home})
        found = changed_origin_sensor(context)
        assert isinstance(found, dg.SensorResult)
        assert found.run_requests is not None
        (request,) = found.run_requests
        assert request.partition_key == "rows"
        again = dg.build_sensor_context(instance=instance, cursor=found.cursor, resources={"home": home})
        assert changed_origin_sensor(again).run_requests == []  # type: ignore[union-attr]
    with runner_of(tmp_path) as runner:
        runner.take_landed_files()
        config = request.run_config["ops"]["sources"]["config"]
        outcome = runner.run(("sources",), "rows", "fetched", config={"sources": config})
    assert outcome.state == "done", outcome.error
    thing = newest(tmp_path)["sources", "rows"]
    assert thing.table().to_pylist() == [{"k": 1}]
    assert thing.parameters["files"][0]["name"] == f"rows/x-{datetime.now(UTC):%Y}.csv"
