"""The real sensors on real homes: what they ask for, how often, and what they leave alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlassets.automation.sensors import (
    changed_spec_sensor,
    left_work_sensor,
    new_data_sensor,
    new_files_sensor,
    new_models_sensor,
    sent_back_sensor,
    sync_partitions,
)
from mlassets.definitions import definitions
from mlassets.home import Home
from mlassets.releasing.deciding import claim_decision
from mlassets.steps import CODE_VERSIONS, LIMITS
from mlassets_tests.automation.made import Made
from mlassets_tests.releasing.waiting import Waiting
from resources.things import Partition, new_id
from resources.verdicts import Verdict

MORE_FLIGHTS = {"origin": ["EWR", "JFK", "EWR"], "late": [0, 1, 1]}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def look(
    sensor: dg.SensorDefinition, made: Made, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult:
    """Evaluate a sensor as the daemon does, and apply what it asks for to the partitions."""
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        definitions=definitions(str(made.home)),
        resources={"home": Home(home=str(made.home))},
    )
    result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        else:
            for key in request.partition_keys:
                instance.delete_dynamic_partition(request.partitions_def_name, key)
    return result


def asked(result: dg.SensorResult) -> set[tuple[str, str | None]]:
    """First step and partition of every run that is asked for."""
    return {((steps_of(one) or ["sources"])[0], one.partition_key) for one in result.run_requests or []}


def steps_of(request: dg.RunRequest) -> list[str]:
    return [key.path[-1] for key in request.asset_selection or []]


def keys(result: dg.SensorResult) -> list[str | None]:
    return [one.run_key for one in result.run_requests or []]


def partitions(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    return {name: set(instance.get_dynamic_partitions(name)) for name in ("project", "segment", "source")}


def land(made: Made, name: str, text: str) -> None:
    path = made.home / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_landed_file_asks_for_its_source_once_it_has_settled(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    land(made, "flights/1.csv", "origin,late\nEWR,1\n")
    first = look(new_files_sensor, made, instance)
    assert asked(first) == set()
    second = look(new_files_sensor, made, instance, first.cursor)
    assert asked(second) == {("sources", "flights")}
    third = look(new_files_sensor, made, instance, second.cursor)
    assert keys(third) == keys(second)
    land(made, "flights/2.csv", "origin,late\nEWR,0\n")
    fourth = look(new_files_sensor, made, instance, third.cursor)
    fifth = look(new_files_sensor, made, instance, fourth.cursor)
    assert keys(fourth) == keys(second)
    assert len(keys(fifth)) == 1
    assert keys(fifth) != keys(second)


def test_the_partitions_that_a_run_needs_are_asked_for_with_it(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    look(new_files_sensor, made, instance)
    assert partitions(instance) == {
        "project": {"late"},
        "segment": {"EWR", "JFK"},
        "source": {"flights", "weather"},
    }
    again = look(new_files_sensor, made, instance)
    assert not again.dynamic_partitions_requests


@pytest.mark.parametrize("sensor", [new_files_sensor, new_data_sensor, changed_spec_sensor])
def test_partitions_follow_specs_and_data_and_no_thing_is_deleted(
    made: Made, instance: dg.DagsterInstance, sensor: dg.SensorDefinition
) -> None:
    made.spec()
    made.spec("second", {"[EWR, JFK]": "{column: origin}"})
    made.source("flights")
    made.all_steps()
    things = {thing.id for thing in made.store.history()}
    look(sensor, made, instance)
    assert partitions(instance)["project"] == {"late", "second"}
    made.source("flights", {"origin": ["LGA"], "late": [1]})
    made.source("weather")
    look(sensor, made, instance)
    assert partitions(instance)["segment"] == {"EWR", "JFK", "LGA"}
    (made.settings.projects / "second.yaml").unlink()
    made.spec("late", {"[EWR, JFK]": "[EWR]", ', weather: "landing/weather/*"': ""})
    look(sensor, made, instance)
    assert partitions(instance) == {"project": {"late"}, "segment": {"EWR"}, "source": {"flights"}}
    assert things <= {thing.id for thing in made.store.history()}
    assert made.store.latest("model", Partition.segment("late", "JFK")) is not None
    made.spec("late")
    look(sensor, made, instance)
    assert ("model", "late|JFK") in made.states()
    assert partitions(instance)["segment"] == {"EWR", "JFK"}


def test_a_broken_spec_retires_nothing_and_its_error_is_no_one_else_s(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec("late")
    made.spec("other")
    made.source("flights")
    for sensor in (new_files_sensor, new_data_sensor):
        look(sensor, made, instance)
    before = partitions(instance)
    (made.settings.projects / "late.yaml").write_text("project: late\ndraw: {sql: DROP TABLE flights}\n")
    for sensor in (new_files_sensor, new_data_sensor, changed_spec_sensor):
        result = look(sensor, made, instance)
        assert partitions(instance) == before
        if sensor is new_data_sensor:
            assert asked(result) == {("draw_data", "other|EWR"), ("draw_data", "other|JFK")}


def test_one_project_s_trouble_does_not_hold_up_the_others(made: Made, instance: dg.DagsterInstance) -> None:
    made.spec("a-broken", {"[EWR, JFK]": "{column: orign}"})
    made.spec("b-odd", {"[EWR, JFK]": "{column: temp, source: weather}"})
    made.spec("late")
    made.source("flights")
    made.source("weather", {"temp": [[1.0]]})
    assert asked(look(new_data_sensor, made, instance)) == {
        ("draw_data", "late|EWR"),
        ("draw_data", "late|JFK"),
    }
    assert "late" in partitions(instance)["project"]


def test_a_changed_source_asks_for_the_draws_that_read_it_and_for_no_others(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec("late")
    made.spec("windy", {"SELECT * FROM flights WHERE origin": "SELECT * FROM weather WHERE temp::text"})
    made.source("flights")
    made.source("weather", {"temp": [1.0]})
    made.all_steps("late")
    made.all_steps("windy", reads=["weather"])
    assert asked(look(new_data_sensor, made, instance)) == set()
    made.source("flights", MORE_FLIGHTS)
    first = look(new_data_sensor, made, instance)
    assert asked(first) == {("draw_data", "late|EWR"), ("draw_data", "late|JFK")}
    assert keys(look(new_data_sensor, made, instance)) == keys(first)
    assert asked(look(changed_spec_sensor, made, instance)) == set()
    made.source("flights", {"origin": ["EWR"], "late": [0]})
    assert not set(keys(look(new_data_sensor, made, instance))) & set(keys(first))


def test_a_changed_spec_asks_for_the_step_that_it_concerns(made: Made, instance: dg.DagsterInstance) -> None:
    made.source("flights")
    for project in ("late", "other"):
        made.spec(project)
        made.all_steps(project)
    made.spec("late", {"mode: auto": "mode: manual"})
    assert asked(look(changed_spec_sensor, made, instance)) == {("review", "late")}
    made.spec("late", {"[baseline]": "[baseline, linear]"})
    assert asked(look(changed_spec_sensor, made, instance)) == {("model", "late|EWR"), ("model", "late|JFK")}
    made.spec("late", {"SELECT *": "SELECT late"})
    assert asked(look(changed_spec_sensor, made, instance)) == set()
    assert asked(look(new_data_sensor, made, instance)) == {
        ("draw_data", "late|EWR"),
        ("draw_data", "late|JFK"),
    }


def test_changed_code_and_changed_segments_ask_for_their_step(
    made: Made, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.spec()
    made.source("flights")
    made.all_steps()
    made.spec("late", {"[EWR, JFK]": "[EWR]"})
    assert asked(look(new_models_sensor, made, instance)) == {("aggregate", "late")}
    made.spec()
    monkeypatch.setitem(CODE_VERSIONS, "model_ready", "next")
    assert asked(look(changed_spec_sensor, made, instance)) == {
        ("model_ready", "late|EWR"),
        ("model_ready", "late|JFK"),
    }


def test_what_a_sensor_asks_for_are_runs_that_dagster_accepts(
    made: Made, instance: dg.DagsterInstance
) -> None:
    odd = ["a|b", "...", "é 'x'", "x" * 300, "../up"]
    made.spec("late", {"[EWR, JFK]": "{column: origin}"})
    made.source("flights", {"origin": odd, "late": [0, 1, 0, 1, 0]})
    home = definitions(str(made.home))
    result = look(new_data_sensor, made, instance)
    wanted = {Partition.segment("late", name).key for name in odd}
    assert {key for _, key in asked(result)} == wanted
    draw = home.resolve_assets_def("draw_data").partitions_def
    assert draw is not None
    assert wanted <= set(draw.get_partition_keys(dynamic_partitions_store=instance))
    assert len(set(keys(result))) == len(odd)
    for request in result.run_requests or []:
        job = home.resolve_job_def(request.job_name or "")
        assert set(request.asset_selection or []) <= set(job.asset_layer.selected_asset_keys)


def test_a_first_draw_runs_with_what_follows_and_a_later_one_alone_as_it_may_be_the_same(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    made.source("flights")
    first = look(new_data_sensor, made, instance).run_requests or []
    assert [steps_of(one) for one in first] == [["draw_data", "model_ready", "model"]] * 2
    made.all_steps()
    made.source("flights", MORE_FLIGHTS)
    later = look(new_data_sensor, made, instance).run_requests or []
    assert [steps_of(one) for one in later] == [["draw_data"]] * 2
    assert {one.tags["mlassets/reason"] for one in later} == {"flights has new content; new data has landed"}


def test_partitions_can_be_brought_in_step_at_once(made: Made, instance: dg.DagsterInstance) -> None:
    home = Home(home=str(made.home))
    made.spec()
    sync_partitions(instance, home)
    assert partitions(instance)["segment"] == {"EWR", "JFK"}
    (made.settings.projects / "late.yaml").unlink()
    assert sync_partitions(instance, home).retired["segment"] == ["EWR", "JFK"]
    assert partitions(instance) == {"project": set(), "segment": set(), "source": set()}
    assert not sync_partitions(instance, home)


def test_a_home_without_projects_asks_for_nothing(made: Made, instance: dg.DagsterInstance) -> None:
    for sensor in (new_files_sensor, new_data_sensor, changed_spec_sensor):
        result: Any = look(sensor, made, instance)
        assert not result.run_requests
        assert not result.dynamic_partitions_requests


def test_a_moved_limit_asks_for_new_verdicts_and_for_no_new_version(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    made.source("flights")
    made.all_steps()
    draw = made.store.require("draw_data", Partition.segment("late", "EWR"))
    by_others = Verdict("rows_are_right", "passed", "WARN", None, None, 1, "as found", {LIMITS: "others"})
    made.store.record_verdicts(draw.id, new_id(), [by_others], None)
    assert asked(look(new_data_sensor, made, instance)) == set()
    (request,) = look(changed_spec_sensor, made, instance).run_requests or []
    assert request.job_name == "judge_again"
    assert request.run_config["ops"]["judge"]["config"] == {"step": "draw_data", "partition": "late|EWR"}


def run(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus, times: int = 1
) -> None:
    """Put runs for a request into the instance, as the daemon makes them."""
    for _ in range(times):
        tags = {**request.tags, "dagster/run_key": request.run_key or ""}
        if request.partition_key:
            tags["dagster/partition"] = request.partition_key
        instance.add_run(dg.DagsterRun(job_name="any", run_id=new_id(), status=status, tags=tags))


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    return list(result.run_requests or [])


def test_large_work_is_asked_for_a_page_at_a_time_and_all_of_it_once(
    made: Made, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLASSETS_RUNS_PER_LOOK", "10")
    names = [f"S{number:02}" for number in range(34)]
    made.spec("late", {"[EWR, JFK]": "{column: origin}"})
    made.source("flights", {"origin": names, "late": [0] * 34})
    seen: list[str | None] = []
    for page in (10, 10, 10, 4, 0):
        asked_for = requests(look(new_data_sensor, made, instance))
        assert len(asked_for) == page
        seen += [one.partition_key for one in asked_for]
        for one in asked_for:
            run(instance, one, dg.DagsterRunStatus.STARTED)
    assert sorted(seen, key=str) == [f"late|{name}" for name in names]


def test_a_full_queue_is_not_made_longer(
    made: Made, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLASSETS_RUNS_PER_LOOK", "3")
    made.spec()
    made.source("flights")
    (first, _) = requests(look(new_data_sensor, made, instance))
    run(instance, dg.RunRequest(run_key="of somebody else"), dg.DagsterRunStatus.NOT_STARTED, times=2)
    assert requests(look(new_data_sensor, made, instance)) == [first]
    run(instance, first, dg.DagsterRunStatus.NOT_STARTED)
    assert requests(look(new_data_sensor, made, instance)) == []


def test_work_that_failed_is_not_asked_for_again_until_something_changes(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    made.source("flights")
    for one in requests(look(new_data_sensor, made, instance)):
        run(instance, one, dg.DagsterRunStatus.FAILURE)
    assert requests(look(new_data_sensor, made, instance)) == []
    made.source("flights", MORE_FLIGHTS)
    assert len(requests(look(new_data_sensor, made, instance))) == 2


def test_an_aggregate_waits_until_all_work_on_its_segments_has_come_to_rest(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    made.source("flights")
    for one in requests(look(new_data_sensor, made, instance)):
        run(instance, one, dg.DagsterRunStatus.STARTED)
    made.segment_steps("EWR")
    assert asked(look(new_models_sensor, made, instance)) == set()
    made.segment_steps("JFK")
    assert asked(look(new_models_sensor, made, instance)) == {("aggregate", "late")}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (dg.DagsterRunStatus.STARTED, set()),
        (dg.DagsterRunStatus.CANCELED, {("aggregate", "late")}),
    ],
)
def test_an_aggregate_waits_for_a_run_that_has_yet_to_judge_what_it_made(
    made: Made, instance: dg.DagsterInstance, status: dg.DagsterRunStatus, expected: set[Any]
) -> None:
    made.spec()
    made.source("flights")
    made.all_steps()
    made.source("flights", MORE_FLIGHTS)
    for one in requests(look(new_data_sensor, made, instance)):
        run(instance, one, status)
    made.segment_steps("JFK", content="more")
    flights = made.store.require("sources", Partition.source("flights"))
    made.thing("draw_data", segment="EWR", on=[flights], content="more", judged=False)
    assert asked(look(new_models_sensor, made, instance)) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, set()),
        (dg.DagsterRunStatus.NOT_STARTED, set()),
        (dg.DagsterRunStatus.STARTED, set()),
        (dg.DagsterRunStatus.FAILURE, {("aggregate", "late")}),
        (dg.DagsterRunStatus.CANCELED, {("aggregate", "late")}),
    ],
)
def test_an_aggregate_does_not_wait_for_a_segment_that_has_failed(
    made: Made, instance: dg.DagsterInstance, status: dg.DagsterRunStatus | None, expected: set[Any]
) -> None:
    made.spec()
    made.source("flights")
    made.segment_steps("EWR")
    (draw,) = requests(look(new_data_sensor, made, instance))
    if status:
        run(instance, draw, status)
    assert asked(look(new_models_sensor, made, instance)) == expected


def test_a_draw_with_new_content_asks_for_training_and_one_with_the_same_for_nothing(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    made.source("flights")
    made.all_steps()
    flights = made.source("flights", MORE_FLIGHTS)
    made.thing("draw_data", segment="EWR", on=[flights], content="more")
    made.thing("draw_data", segment="JFK", on=[flights])
    (request,) = requests(look(new_data_sensor, made, instance))
    assert (steps_of(request), request.partition_key) == (["model_ready", "model"], "late|EWR")


def test_work_that_was_left_is_taken_up_at_the_second_look_unless_it_is_underway(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    flights = made.source("flights")
    draw = made.thing("draw_data", segment="EWR", on=[flights])
    made.thing("model_ready", segment="EWR", on=[draw])
    first = look(left_work_sensor, made, instance)
    assert asked(first) == set()
    second = look(left_work_sensor, made, instance, first.cursor)
    assert asked(second) == {("model", "late|EWR")}
    run(instance, dg.RunRequest(run_key="x", partition_key="late|EWR"), dg.DagsterRunStatus.STARTED)
    assert asked(look(left_work_sensor, made, instance, first.cursor)) == set()


def test_a_version_whose_checks_never_ended_is_judged_in_the_end(
    made: Made, instance: dg.DagsterInstance
) -> None:
    made.spec()
    flights = made.source("flights")
    made.thing("draw_data", segment="EWR", on=[flights], judged=False)
    first = look(left_work_sensor, made, instance)
    (request,) = requests(look(left_work_sensor, made, instance, first.cursor))
    assert request.job_name == "judge_again"


def test_what_a_review_sent_back_is_asked_for_alone(made: Made, instance: dg.DagsterInstance) -> None:
    made.spec()
    made.source("flights")
    made.all_steps()
    models = {name: made.store.require("model", Partition.segment("late", name)) for name in ("EWR", "JFK")}
    parameters = {
        "coverage": {"expected": ["EWR", "JFK"], "present": ["EWR", "JFK"]},
        "models": {name: one.id for name, one in models.items()},
    }
    aggregate = made.thing("aggregate", on=models.values(), parameters=parameters)
    decided = {"decision": "reject", "decided_by": "ana", "comment": "weak", "send_back_to": "model"}
    made.thing("review", on=[aggregate], parameters=decided | {"aggregate": aggregate.id})
    found = requests(look(sent_back_sensor, made, instance))
    assert [(steps_of(one), one.partition_key) for one in found] == [
        (["model"], "late|EWR"),
        (["model"], "late|JFK"),
    ]
    for sensor in (new_data_sensor, new_models_sensor, changed_spec_sensor):
        assert asked(look(sensor, made, instance)) == set()


def test_a_decision_that_was_interrupted_is_finished_at_the_second_look(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    waiting = Waiting(tmp_path)
    claim_decision(waiting.store, waiting.project, "approve", reviewer="ana", comment="good")
    first = look(left_work_sensor, waiting, instance)
    assert asked(first) == set()
    (request,) = requests(look(left_work_sensor, waiting, instance, first.cursor))
    assert (steps_of(request), request.partition_key) == (["review", "publish"], "late")
    assert request.tags["mlassets/reason"] == "approve by ana was interrupted"
