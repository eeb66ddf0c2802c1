"""What is due follows from specs, code and content alone: each row of these tables is one state and its decisions."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mlassets.automation.planners import run_together
from mlassets.automation.retraining import DRIFT_CLAIM
from mlassets.steps import CODE_VERSIONS, LIMITS, PROJECT_STEPS, SEGMENT_STEPS
from mlassets_tests.automation.made import Made
from resources.things import Partition, new_id
from resources.verdicts import Verdict

EWR, JFK = Partition.segment("late", "EWR"), Partition.segment("late", "JFK")
KEYS = {"EWR": "late|EWR", "JFK": "late|JFK", "late": "late"}
MORE_FLIGHTS = {"origin": ["EWR", "JFK", "EWR"], "late": [0, 1, 1]}


@pytest.fixture(scope="module")
def current_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the project `late`, everything made and current."""
    made = Made(tmp_path_factory.mktemp("current"))
    made.spec()
    made.source("flights")
    made.source("weather", {"temp": [1.0]})
    made.all_steps()
    return made.home


@pytest.fixture
def made(current_home: Path, tmp_path: Path) -> Made:
    """A copy of that home."""
    return Made(shutil.copytree(current_home, tmp_path / "home"))


def test_when_everything_is_made_nothing_is_due(made: Made) -> None:
    assert set(made.states().values()) == {"current"}
    assert len(made.states()) == 2 * len(SEGMENT_STEPS) + len(PROJECT_STEPS)


def test_before_anything_is_made_only_draws_are_due_and_the_rest_waits(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.spec()
    assert set(made.states().values()) == {"waiting"}
    made.source("weather", {"temp": [1.0]})
    assert made.due() == {}
    made.source("flights")
    assert made.due() == {("draw_data", "late|EWR"): "missing", ("draw_data", "late|JFK"): "missing"}
    others = {state for (step, _), state in made.states().items() if step != "draw_data"}
    assert others == {"waiting"}


def test_while_no_data_names_the_segments_the_draw_waits_and_says_for_what(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.spec(changes={"[EWR, JFK]": "{column: origin}"})
    (decision,) = made.decisions()
    assert (decision.step, decision.state) == ("draw_data", "waiting")
    assert "origin" in decision.reason


Change = Callable[[Made], object]
INPUT_CHANGES: dict[str, tuple[Change, dict[tuple[str, str], str]]] = {
    "a source that the SQL reads has new content": (
        lambda made: made.source("flights", MORE_FLIGHTS),
        {("draw_data", "late|EWR"): "input", ("draw_data", "late|JFK"): "input"},
    ),
    "a source that the SQL does not read has new content": (
        lambda made: made.source("weather", {"temp": [2.0]}),
        {},
    ),
    "a source has a new version with the same content": (lambda made: made.source("flights"), {}),
    "one segment's draw has new content": (
        lambda made: made.thing(
            "draw_data",
            "late",
            "EWR",
            on=[made.store.require("sources", Partition.source("flights"))],
            content="x",
        ),
        {("model_ready", "late|EWR"): "input"},
    ),
    "one segment's draw was made again with the same content": (
        lambda made: made.thing(
            "draw_data", "late", "EWR", on=[made.store.require("sources", Partition.source("flights"))]
        ),
        {},
    ),
    "one segment's model has new content": (
        lambda made: made.thing(
            "model", "late", "EWR", on=[made.store.require("model_ready", EWR)], content="x"
        ),
        {("aggregate", "late"): "input"},
    ),
}


@pytest.mark.parametrize("change", INPUT_CHANGES)
def test_new_content_makes_due_what_reads_it_and_nothing_else(made: Made, change: str) -> None:
    make, due = INPUT_CHANGES[change]
    make(made)
    assert made.due() == due


def test_of_two_projects_only_the_one_whose_sql_reads_a_source_is_due(made: Made) -> None:
    made.spec("windy", {"SELECT * FROM flights WHERE origin": "SELECT * FROM weather WHERE temp::text"})
    made.all_steps("windy", reads=["weather"])
    made.source("weather", {"temp": [2.0]})
    assert made.due() == {("draw_data", "windy|EWR"): "input", ("draw_data", "windy|JFK"): "input"}


BOTH = [("EWR", "late|EWR"), ("JFK", "late|JFK")]
SPEC_CHANGES: dict[str, tuple[dict[str, str], dict[tuple[str, str], str]]] = {
    "the SQL": (
        {"SELECT * FROM": "SELECT late, origin FROM"},
        {("draw_data", key): "spec" for _, key in BOTH},
    ),
    "the features": (
        {"review: {mode: auto}": "review: {mode: auto}\nfeatures: {drop: [origin]}"},
        {("model_ready", key): "spec" for _, key in BOTH},
    ),
    "the split": (
        {"review: {mode: auto}": "review: {mode: auto}\nsplit: {by: random, test: 0.5}"},
        {("model_ready", key): "spec" for _, key in BOTH},
    ),
    "the candidates": (
        {"[baseline]": "[baseline, linear]"},
        {("model", key): "spec" for _, key in BOTH},
    ),
    "the aggregation": ({"weighted": "unweighted"}, {("aggregate", "late"): "spec"}),
    "the review": ({"mode: auto": "mode: manual"}, {("review", "late"): "spec"}),
    "the owners": (
        {"project: late": "project: late\nowners: [team:ops]"},
        {("publish", "late"): "spec"},
    ),
    "the limits of checks, by which rules decide again": (
        {"review:": "checks: {warn: {roc_auc: '>= 0.9'}}\nreview:"},
        {("review", "late"): "spec"},
    ),
    "a comment": ({"project: late": "# late\nproject: late"}, {}),
}


@pytest.mark.parametrize("section", SPEC_CHANGES)
def test_a_changed_section_makes_due_the_first_step_that_it_concerns(made: Made, section: str) -> None:
    changes, due = SPEC_CHANGES[section]
    made.spec("other")
    made.all_steps("other")
    made.spec("late", changes)
    assert made.due() == due


@pytest.mark.parametrize("step", [*SEGMENT_STEPS, *PROJECT_STEPS])
def test_a_changed_code_version_makes_its_own_step_due_and_what_follows_wait(
    made: Made, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODE_VERSIONS, step, "next")
    keys = ["late|EWR", "late|JFK"] if step in SEGMENT_STEPS else ["late"]
    assert made.due() == {(step, key): "code" for key in keys}
    order = [*SEGMENT_STEPS, *PROJECT_STEPS]
    for (other, _), state in made.states().items():
        if order.index(other) < order.index(step):
            assert state == "current"


def test_fewer_new_rows_than_the_spec_asks_for_leave_a_draw_as_it_is(made: Made) -> None:
    made.spec("late", {"review:": "retrain: {min_new_rows: 3}\nreview:"})
    made.source("flights", {"origin": ["EWR"] * 4, "late": [0] * 4})
    assert made.due() == {}
    draws = [one for one in made.decisions() if one.step == "draw_data"]
    assert [one.reason for one in draws] == [
        "flights has new content, but 2 new rows are fewer than min_new_rows 3"
    ] * 2
    made.source("flights", {"origin": ["EWR"] * 5, "late": [0] * 5})
    assert made.due() == {("draw_data", "late|EWR"): "input", ("draw_data", "late|JFK"): "input"}


def test_too_few_new_rows_do_not_hold_up_a_changed_spec(made: Made) -> None:
    made.spec("late", {"review:": "retrain: {min_new_rows: 3}\nreview:", "SELECT *": "SELECT late, origin"})
    made.source("flights", MORE_FLIGHTS)
    assert set(made.due().values()) == {"spec"}


def retraining(made: Made, rule: str) -> None:
    made.spec("late", {"review:": f"retrain: {rule}\nreview:"})


def drawn(made: Made, segment: str, drift: float | None) -> None:
    """Draw a segment with new content that has drifted so far from the champion's."""
    flights = made.store.require("sources", Partition.source("flights"))
    draw = made.thing("draw_data", segment=segment, on=[flights], content="new", judged=False)
    claim = Verdict(DRIFT_CLAIM, "passed", "WARN", drift, "<= 0.2", 1, "as found", {})
    made.store.record_verdicts(draw.id, new_id(), [claim], None)


DRAWS = {("draw_data", "late|EWR"): "input", ("draw_data", "late|JFK"): "input"}


def test_with_a_drift_rule_draws_are_made_and_training_waits_for_drift(made: Made) -> None:
    retraining(made, "{on: drift, above: 0.3}")
    made.source("flights", MORE_FLIGHTS)
    assert made.due() == DRAWS
    drawn(made, "EWR", 0.31)
    drawn(made, "JFK", 0.29)
    assert made.due() == {("model_ready", "late|EWR"): "input"}
    reasons = {one.partition.key: one for one in made.decisions() if one.step == "model_ready"}
    assert reasons["late|EWR"].reason == "draw_data has new content; champion_drift 0.31 exceeds 0.3"
    assert (
        reasons["late|JFK"].reason == "draw_data has new content, but champion_drift 0.29 does not exceed 0.3"
    )
    assert reasons["late|JFK"].rule is not None
    assert not reasons["late|JFK"].rule.holds
    assert made.states()["model", "late|JFK"] == "current"


def test_a_drift_that_nobody_measured_trains_nothing(made: Made) -> None:
    retraining(made, "{on: drift}")
    made.source("flights", MORE_FLIGHTS)
    drawn(made, "EWR", None)
    assert ("model_ready", "late|EWR") not in made.due()


def test_what_is_new_waits_for_the_schedule_and_is_other_work_at_each_of_its_times(made: Made) -> None:
    retraining(made, '{on: cron, cron: "0 6 * * *", timezone: Europe/Berlin}')
    landed = made.source("flights", MORE_FLIGHTS).created_at.astimezone(ZoneInfo("Europe/Berlin"))
    first = (landed + timedelta(days=1)).replace(hour=6, minute=0, second=0, microsecond=0)
    if landed.hour < 6:
        first -= timedelta(days=1)
    assert made.due(first - timedelta(seconds=1)) == {}
    waiting = [one for one in made.decisions(first - timedelta(seconds=1)) if one.step == "draw_data"]
    assert all("asks next at" in one.reason for one in waiting)
    assert made.due(first) == DRAWS
    times = [first, first + timedelta(hours=20), first + timedelta(days=1)]
    keys = [{one.identity for one in made.decisions(time) if one.state == "due"} for time in times]
    assert keys[0] == keys[1]
    assert not keys[1] & keys[2]


def test_a_cap_and_a_cool_down_hold_back_new_data_alone(made: Made) -> None:
    retraining(made, "{on: new_data, cool_down: 6h, most_per_day: 2}")
    made.source("flights", MORE_FLIGHTS)
    now = datetime.now(UTC)
    assert made.due(now) == {}
    assert made.due(now + timedelta(hours=6)) == DRAWS
    for content in ("once", "twice"):
        flights = made.store.require("sources", Partition.source("flights"))
        made.thing("draw_data", segment="EWR", on=[flights], content=content)
    made.source("flights", {"origin": ["EWR"] * 9, "late": [0] * 9})
    later = datetime.now(UTC) + timedelta(hours=7)
    assert ("draw_data", "late|EWR") not in made.due(later)
    assert ("draw_data", "late|JFK") in made.due(later)
    assert ("draw_data", "late|EWR") in made.due(later + timedelta(hours=18))
    made.spec("late", {"SELECT *": "SELECT late", "review:": "retrain: {cool_down: 6h}\nreview:"})
    assert made.due()["draw_data", "late|EWR"] == "spec"


@pytest.mark.parametrize(
    ("status", "severity", "state"),
    [
        ("failed", "ERROR", "blocked"),
        ("crashed", "ERROR", "blocked"),
        ("failed", "WARN", "due"),
        ("crashed", "WARN", "due"),
        ("passed", "ERROR", "due"),
        ("not_applicable", "ERROR", "due"),
    ],
)
def test_only_a_failed_verdict_of_severity_error_blocks_what_is_downstream(
    made: Made, status: str, severity: str, state: str
) -> None:
    flights = made.store.require("sources", Partition.source("flights"))
    draw = made.thing("draw_data", "late", "EWR", on=[flights], content="new", judged=False)
    made.judge(draw, status, severity)
    states = made.states()
    assert states["model_ready", "late|EWR"] == state
    assert states["model", "late|EWR"] == "waiting"
    assert states["model_ready", "late|JFK"] == "current"
    if state == "blocked":
        (blocked,) = [one for one in made.decisions() if one.state == "blocked"]
        assert "rows_are_right" in blocked.reason
        assert "as found" in blocked.reason


def test_a_source_that_a_verdict_blocks_is_not_drawn_from(made: Made) -> None:
    made.judge(made.source("flights", MORE_FLIGHTS), "failed")
    assert {state for (step, _), state in made.states().items() if step == "draw_data"} == {"blocked"}


def test_one_blocked_model_blocks_the_aggregate(made: Made) -> None:
    model = made.thing(
        "model", "late", "EWR", on=[made.store.require("model_ready", EWR)], content="bad", judged=False
    )
    made.judge(model, "failed")
    states = made.states()
    assert [states[step, "late"] for step in PROJECT_STEPS] == ["blocked", "waiting", "waiting"]


def test_a_verdict_that_was_judged_again_counts_as_it_is_now(made: Made) -> None:
    draw = made.store.require("draw_data", EWR)
    made.judge(draw, "failed")
    assert made.states()["model_ready", "late|EWR"] == "blocked"
    made.judge(draw, "passed")
    assert made.states()["model_ready", "late|EWR"] == "current"


def test_what_was_judged_by_other_limits_is_judged_again_and_what_follows_waits(made: Made) -> None:
    draw = made.store.require("draw_data", EWR)
    by_others = Verdict("rows_are_right", "passed", "WARN", None, None, 1, "as found", {LIMITS: "others"})
    made.store.record_verdicts(draw.id, new_id(), [by_others], None)
    assert made.due() == {("draw_data", "late|EWR"): "limits"}
    (due,) = [one for one in made.decisions() if one.state == "due"]
    assert run_together(due) == ("draw_data",)
    assert {made.states()[step, "late|EWR"] for step in ("model_ready", "model")} == {"waiting"}
    assert made.states()["aggregate", "late"] == "waiting"


def test_a_step_that_was_made_but_never_judged_is_due_for_its_checks(made: Made) -> None:
    draw = made.store.require("draw_data", EWR)
    made.thing("model_ready", "late", "EWR", on=[draw], content="new", judged=False)
    assert made.due() == {("model_ready", "late|EWR"): "checks"}
    assert made.states()["model", "late|EWR"] == "waiting"


def test_a_segment_that_the_spec_adds_is_due_and_one_that_it_drops_remakes_the_aggregate(made: Made) -> None:
    made.spec("late", {"[EWR, JFK]": "[EWR, JFK, LGA]"})
    assert made.due() == {("draw_data", "late|LGA"): "missing", ("aggregate", "late"): "segments"}
    made.spec("late", {"[EWR, JFK]": "[EWR]"})
    assert made.due() == {("aggregate", "late"): "segments"}
    fewer = identities(made)["aggregate", "late"]
    made.spec("late", {"[EWR, JFK]": "[JFK]"})
    assert identities(made)["aggregate", "late"] != fewer
    made.spec("late", {"[EWR, JFK]": "[EWR]"})
    assert not any("JFK" in key for _, key in made.states())


def test_a_segment_that_data_adds_is_due(made: Made) -> None:
    made.spec("late", {"[EWR, JFK]": "{column: origin, source: weather}"})
    made.source("weather", {"origin": ["EWR", "JFK"]})
    assert made.due() == {}
    made.source("weather", {"origin": ["EWR", "JFK", "LGA"]})
    assert made.due() == {("draw_data", "late|LGA"): "missing", ("aggregate", "late"): "segments"}


def test_an_aggregate_is_due_when_the_first_segment_has_a_model(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.spec()
    made.source("flights")
    model = made.segment_steps("EWR")
    assert made.due() == {("draw_data", "late|JFK"): "missing", ("aggregate", "late"): "missing"}
    coverage = {"coverage": {"expected": ["EWR", "JFK"], "present": ["EWR"]}}
    made.thing("aggregate", on=[model], parameters=coverage)
    assert ("aggregate", "late") not in made.due()
    made.segment_steps("JFK")
    assert made.due()["aggregate", "late"] == "input"


@pytest.mark.parametrize(
    ("decision", "words"), [("wait", "waits for a reviewer"), ("reject", "did not approve")]
)
def test_a_review_that_waits_or_rejects_keeps_publish_waiting(
    tmp_path: Path, decision: str, words: str
) -> None:
    made = Made(tmp_path)
    made.spec()
    made.source("flights")
    made.project_steps({name: made.segment_steps(name) for name in ("EWR", "JFK")}, decision=decision)
    (publish,) = [one for one in made.decisions() if one.step == "publish"]
    assert (publish.state, made.due()) == ("waiting", {})
    assert words in publish.reason
    aggregate = made.store.require("aggregate", Partition.project("late"))
    made.thing("review", on=[aggregate], parameters={"decision": "approve"}, content="approved")
    assert made.due() == {("publish", "late"): "missing"}


def test_a_rejection_after_a_release_leaves_the_release_as_it_is(made: Made) -> None:
    aggregate = made.store.require("aggregate", Partition.project("late"))
    made.thing("review", on=[aggregate], parameters={"decision": "reject"}, content="rejected")
    assert made.due() == {}


def identities(made: Made) -> dict[tuple[str, str], str]:
    return {(one.step, one.partition.key): one.identity for one in made.decisions() if one.state == "due"}


def test_asking_twice_gives_the_same_identity_and_other_work_another(made: Made) -> None:
    seen: list[str] = []
    for content in (MORE_FLIGHTS, {"origin": ["EWR"], "late": [1]}, MORE_FLIGHTS):
        made.source("flights", content)
        assert identities(made) == identities(made)
        seen += identities(made).values()
        made.spec("late", {"SELECT *": "SELECT late, origin"})
        seen += identities(made).values()
        made.spec("late")
        assert len(identities(made)) == 2
    assert len(set(seen)) == len(seen) == 12


def test_work_that_was_done_and_is_due_again_has_another_identity(made: Made) -> None:
    first = made.source("flights", MORE_FLIGHTS)
    before = identities(made)
    made.thing("draw_data", "late", "EWR", on=[first], content="more")
    made.thing("draw_data", "late", "EWR", on=[made.source("flights", {"late": [1]})], content="other")
    made.source("flights", MORE_FLIGHTS)
    assert identities(made)["draw_data", "late|EWR"] != before["draw_data", "late|EWR"]


def test_decisions_come_upstream_first(made: Made) -> None:
    order = [*SEGMENT_STEPS, *PROJECT_STEPS]
    for key in ("late|EWR", "late"):
        steps = [one.step for one in made.decisions() if one.partition.key == key]
        assert steps == sorted(steps, key=order.index)
    assert [one.step for one in made.decisions()][-3:] == list(PROJECT_STEPS)
