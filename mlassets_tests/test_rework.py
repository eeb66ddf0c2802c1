"""What was sent back is made again, in another way, as often as the spec allows; then a person is asked."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlassets.rework import Attempt, loops_of, next_attempt
from mlassets_tests.automation.made import Made
from mlassets_tests.small_homes import departures, new_home, ran, run_all, store_of
from resources.things import Partition, Thing, new_id

EWR, JFK = Partition.segment("late", "EWR"), Partition.segment("late", "JFK")
LATE = Partition.project("late")
BOTH = {("model", "late|EWR"): "rework", ("model", "late|JFK"): "rework"}
VERDICTS = "{beats_the_baseline: model, every_split_holds_rows: draw_data}"
REWORK = f"rework: {{send_back_to: model, verdicts: {VERDICTS}, limit: 2}}"
CANDIDATES = "[baseline, linear, gradient_boosting, random_forest]"


@pytest.fixture(scope="module")
def current_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the project `late`, everything made and current."""
    made = Made(tmp_path_factory.mktemp("current"))
    made.spec("late", {"review:": f"{REWORK}\nreview:", "[baseline]": CANDIDATES})
    made.source("flights")
    made.source("weather", {"temp": [1.0]})
    made.all_steps()
    return made.home


@pytest.fixture
def made(current_home: Path, tmp_path: Path) -> Made:
    return Made(shutil.copytree(current_home, tmp_path / "home"))


def newest(made: Made, step: str, partition: Partition) -> Thing:
    return made.store.require(step, partition)


def reject(made: Made, by: str = "ana", **decided: Any) -> Thing:
    """Commit a rejection of the newest aggregate."""
    aggregate = newest(made, "aggregate", LATE)
    parameters = {
        "decision": "reject",
        "decided_by": by,
        "comment": "too weak",
        "send_back_to": "model",
        "segments": [],
        "aggregate": aggregate.id,
    }
    return made.thing("review", on=[aggregate], parameters=parameters | decided, content=new_id())


def again(made: Made, step: str, partition: Partition, content: str, candidate: str = "linear") -> Thing:
    """Make a segment's step again as its asset would, with what an attempt notes."""
    attempt = next_attempt(made.specs["late"], made.store, step, partition)
    above = {"draw_data": ("sources", Partition.source("flights")), "model_ready": ("draw_data", partition)}
    on = newest(made, *above.get(step, ("model_ready", partition)))
    parameters = {"candidate": candidate} | attempt.as_parameters()
    return made.thing(
        step,
        segment=partition["segment"],
        on=[on, *map(made.store.get, attempt.based_on)],
        content=content,
        parameters=parameters,
    )


def aggregate_again(made: Made, content: str) -> Thing:
    models = {name: newest(made, "model", Partition.segment("late", name)) for name in ("EWR", "JFK")}
    parameters = {
        "coverage": {"expected": sorted(models), "present": sorted(models)},
        "models": {name: one.id for name, one in models.items()},
    }
    return made.thing("aggregate", on=models.values(), parameters=parameters, content=content)


def reason(made: Made, step: str, partition: Partition) -> str:
    return next(one.reason for one in made.decisions() if (one.step, one.partition) == (step, partition))


def test_a_rejection_that_sends_back_makes_the_step_due_and_nothing_else(made: Made) -> None:
    aggregate_again(made, "")
    review = reject(made)
    assert made.due() == BOTH
    assert reason(made, "model", EWR) == "sent back by ana: too weak"
    assert reason(made, "aggregate", LATE).startswith("waits for model of late|EWR: sent back by ana")
    thing = again(made, "model", EWR, "better")
    assert review.id in thing.based_on
    assert thing.parameters["rework"]["attempt"] == 2
    assert made.due() == {("model", "late|JFK"): "rework"}
    again(made, "model", JFK, "better")
    assert made.due() == {("aggregate", "late"): "input"}


@pytest.mark.parametrize(
    ("step", "due"),
    [
        ("draw_data", {("draw_data", "late|EWR"): "rework", ("draw_data", "late|JFK"): "rework"}),
        ("model_ready", {("model_ready", "late|EWR"): "rework", ("model_ready", "late|JFK"): "rework"}),
        ("model", BOTH),
        ("aggregate", {("aggregate", "late"): "rework"}),
        ("", {}),
    ],
)
def test_the_step_that_is_named_is_opened_again(
    made: Made, step: str, due: Mapping[tuple[str, str], str]
) -> None:
    aggregate_again(made, "")
    reject(made, send_back_to=step)
    assert made.due() == due


def test_only_the_segments_that_are_named_go_back(made: Made) -> None:
    aggregate_again(made, "")
    reject(made, segments=["JFK"])
    assert made.due() == {("model", "late|JFK"): "rework"}


@pytest.mark.parametrize("decided", [{"decision": "approve"}, {"decision": "wait"}])
def test_what_was_not_rejected_is_not_opened(made: Made, decided: dict[str, Any]) -> None:
    aggregate_again(made, "")
    reject(made, **decided)
    assert not [one for one in made.due().values() if one == "rework"]


def test_what_a_person_sent_back_and_came_back_the_same_is_for_a_person_again(made: Made) -> None:
    aggregate_again(made, "")
    reject(made)
    for partition in (EWR, JFK):
        again(made, "model", partition, "")
    assert made.due() == {}
    assert "a person has to change something" in reason(made, "publish", LATE)


def test_a_rejection_by_rules_tries_up_to_the_limit_although_it_comes_back_the_same(made: Made) -> None:
    aggregate_again(made, "")
    reject(made, by="rules")
    for attempt in (2, 3):
        assert made.due() == BOTH
        for partition in (EWR, JFK):
            assert again(made, "model", partition, "").parameters["rework"]["attempt"] == attempt
    assert "3 attempts were made, the rework limit: a person has to decide" in reason(made, "model", EWR)
    assert loops_of(made.store, newest(made, "aggregate", LATE)) == 2
    assert made.due() == {("review", "late"): "rework"}
    reject(made, by="rules", decision="wait", send_back_to="")
    assert made.due() == {}
    assert "waits for a reviewer" in reason(made, "publish", LATE)


def test_new_data_after_a_rejection_begins_anew(made: Made) -> None:
    aggregate_again(made, "")
    reject(made)
    again(made, "model", EWR, "better")
    made.source("flights", {"origin": ["EWR", "JFK", "EWR"], "late": [0, 1, 1]})
    draw = again(made, "draw_data", EWR, "more")
    assert "rework" not in draw.parameters
    again(made, "model_ready", EWR, "more")
    assert next_attempt(made.specs["late"], made.store, "model", EWR) == Attempt()


def test_an_older_rejection_is_forgotten_once_a_new_aggregate_holds_something_else(made: Made) -> None:
    aggregate_again(made, "")
    reject(made)
    for partition in (EWR, JFK):
        again(made, "model", partition, "better")
    aggregate_again(made, "better")
    assert made.due() == {("review", "late"): "input"}


def blocked(made: Made, thing: Thing, claim: str) -> None:
    made.judge(thing, "failed", claim=claim)


def test_a_blocking_verdict_sends_back_until_the_limit_is_reached(made: Made) -> None:
    for attempt in (2, 3):
        blocked(made, newest(made, "model", EWR), "beats_the_baseline")
        assert made.due() == {("model", "late|EWR"): "rework"}
        thing = again(made, "model", EWR, f"attempt {attempt}", candidate=f"candidate {attempt}")
        assert thing.parameters["rework"]["attempt"] == attempt
        assert thing.parameters["rework"]["by"] == "verdict"
    blocked(made, newest(made, "model", EWR), "beats_the_baseline")
    assert made.due() == {}
    assert made.states()["model", "late|EWR"] == "waiting"
    assert "beats_the_baseline failed for model of late|EWR" in reason(made, "model", EWR)
    assert "a person has to decide" in reason(made, "model", EWR)


def test_a_verdict_further_down_opens_the_step_that_it_names(made: Made) -> None:
    blocked(made, newest(made, "model_ready", JFK), "every_split_holds_rows")
    assert made.due() == {("draw_data", "late|JFK"): "rework"}
    again(made, "draw_data", JFK, "")
    assert made.due() == {("draw_data", "late|JFK"): "rework"}
    again(made, "draw_data", JFK, "clean")
    assert made.due() == {("model_ready", "late|JFK"): "input"}


def test_a_blocking_verdict_that_no_rule_names_sends_nothing_back(made: Made) -> None:
    blocked(made, newest(made, "model", EWR), "probabilities_are_calibrated")
    assert made.due() == {}


def test_attempts_leave_out_candidates_and_search_wider_in_turn(made: Made) -> None:
    tried = []
    for number, candidate in enumerate(("gradient_boosting",) * 2 + ("random_forest",) * 3):
        aggregate_again(made, f"{number}")
        reject(made)
        attempt = next_attempt(made.specs["late"], made.store, "model", EWR)
        tried.append((attempt.number, attempt.left_out, attempt.search))
        again(made, "model", EWR, f"made {number}", candidate=candidate)
    assert tried == [
        (2, ("linear",), 1),
        (3, ("linear",), 2),
        (4, ("linear", "gradient_boosting"), 2),
        (5, ("linear", "gradient_boosting"), 4),
        # Only the baseline is left, which nobody tries.
        (6, ("linear", "gradient_boosting"), 8),
    ]


def test_a_step_that_was_not_sent_back_is_made_again_as_the_attempt_that_it_was(made: Made) -> None:
    aggregate_again(made, "")
    reject(made)
    first = again(made, "model", EWR, "better").parameters["rework"]
    second = again(made, "model", EWR, "better").parameters["rework"]
    assert (second["attempt"], second["left_out"]) == (first["attempt"], first["left_out"])


def test_rules_that_are_not_met_try_other_models_and_then_ask_a_person(tmp_path: Path) -> None:
    home = new_home(
        tmp_path / "home",
        departures(("EWR",)),
        model={"candidates": ["linear", "gradient_boosting"], "tune": {"trials": 2, "seconds": 60}},
        review={"mode": "auto", "rules": ["roc_auc >= 0.999"]},
        rework={"send_back_to": "model", "limit": 2},
    )
    outcomes = run_all(home)
    assert {one.state for one in outcomes} == {"done"}
    store = store_of(home)
    models = list(reversed(store.history("model")))
    assert [one.parameters.get("rework", {}).get("attempt", 1) for one in models] == [1, 2, 3]
    assert len({one.parameters["candidate"] for one in models[:2]}) == 2
    assert [one.parameters["trials_asked"] for one in models] == [2, 2, 4]
    reviews = list(reversed(store.history("review")))
    assert [one.parameters["decision"] for one in reviews[:-1]] == ["reject"] * (len(reviews) - 1)
    assert reviews[0].id in models[1].based_on
    assert reviews[-1].parameters["decision"] == "wait"
    assert "rework limit" in reviews[-1].parameters["comment"]
    assert store.latest("publish", LATE) is None
    assert ran(run_all(home)) == set()
