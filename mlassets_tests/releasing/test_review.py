from pathlib import Path
from typing import Any

import pytest

from mlassets.projects import ReviewSpec
from mlassets.releasing.deciding import BadDecision, Claim, check_decision
from mlassets.releasing.review import Decision, decide, verdicts_below
from mlassets.rules import Facts
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Severity, Status, Verdict

RULES = ("roc_auc >= 0.6", "no failed verdict of severity ERROR", "beats_the_baseline")
AUTO = ReviewSpec(mode="auto", rules=RULES)
MANUAL = ReviewSpec(mode="manual", rules=RULES)
GOOD = {"test.roc_auc": 0.7}


def verdict(claim: str, status: Status = "passed", severity: Severity = "ERROR") -> Verdict:
    return Verdict(claim, status, severity, 0.1, ">= 0", 10, "found", {})


BEATEN = [verdict("beats_the_baseline")]


def decided(review: ReviewSpec, metrics: dict[str, float], verdicts: list[Verdict], **more: Any) -> Decision:
    return decide(review, Facts(metrics, verdicts, "roc_auc"), **more)


def claim(word: str, reviewer: str = "Ana", send_back_to: str = "") -> Claim:
    return Claim("token", "thing", "aggregate", word, reviewer, "why", send_back_to, ("EWR",), "2026-01-01")  # type: ignore[arg-type]


def test_rules_that_are_all_met_approve() -> None:
    found = decided(AUTO, GOOD, BEATEN)
    assert (found.decision, found.decided_by, found.satisfaction) == ("approve", "rules", 1)
    assert [(rule.rule, rule.met, rule.observed) for rule in found.rules] == [
        (RULES[0], True, 0.7),
        (RULES[1], True, 0),
        (RULES[2], True, 0),
    ]


@pytest.mark.parametrize(
    ("metrics", "verdicts", "unmet"),
    [
        ({"test.roc_auc": 0.59}, BEATEN, RULES[0]),
        ({"test.roc_auc": float("nan")}, BEATEN, RULES[0]),
        ({}, BEATEN, RULES[0]),
        (GOOD, [*BEATEN, verdict("no_null_target", "failed")], RULES[1]),
        (GOOD, [*BEATEN, verdict("no_null_target", "crashed")], RULES[1]),
        (GOOD, [verdict("beats_the_baseline", "failed", "WARN")], RULES[2]),
        (GOOD, [verdict("something_else")], RULES[2]),
    ],
)
def test_a_rule_that_is_not_met_rejects_and_is_named(metrics, verdicts, unmet) -> None:
    found = decided(AUTO, metrics, verdicts)
    assert (found.decision, found.decided_by) == ("reject", "rules")
    assert found.comment.startswith(f"not met: {unmet} (") or found.comment == f"not met: {unmet}"
    assert found.satisfaction == pytest.approx(2 / 3)


def test_a_warning_does_not_count_as_a_failed_error() -> None:
    assert decided(AUTO, GOOD, [*BEATEN, verdict("no_outlier_rows", "failed", "WARN")]).decision == "approve"


def test_nothing_judged_is_no_approval() -> None:
    assert decided(AUTO, GOOD, []).decision == "reject"


def test_a_manual_review_waits_however_good_the_model_is() -> None:
    found = decided(MANUAL, GOOD, BEATEN)
    assert (found.decision, found.decided_by, found.satisfaction) == ("wait", "", 1)


@pytest.mark.parametrize("review", [AUTO, MANUAL])
@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_persons_decision_stands_and_the_rules_are_recorded_beside_it(review, word) -> None:
    found = decided(review, {}, [], claim=claim(word))
    assert (found.decision, found.decided_by, found.comment, found.satisfaction) == (word, "Ana", "why", 0)
    rule = {"rule": RULES[0], "met": False, "observed": None, "says": "this was not measured"}
    assert found.as_parameters()["rules"][0] == rule


def test_a_review_without_rules_is_satisfied() -> None:
    found = decided(ReviewSpec(mode="manual", rules=()), {}, [], claim=claim("approve"))
    assert found.satisfaction == 1


@pytest.mark.parametrize(
    ("decision", "reviewer", "send_back_to", "says"),
    [
        ("aprove", "Ana", "", "'aprove' is no decision; write `approve` or `reject`"),
        ("wait", "Ana", "", "'wait' is no decision"),
        ("approve", "  ", "", "needs the name of its reviewer"),
        ("approve", "Ana", "model", "only a rejection sends work back"),
        ("approve", "rules", "", "stands for the project's rules"),
        ("reject", "Ana", "modell", "only to one of draw_data, model_ready, model, .*'modell'"),
        ("reject", "Ana", "publish", "only to one of draw_data, model_ready, model, aggregate; got"),
    ],
)
def test_a_wrong_decision_is_refused_with_what_is_right(decision, reviewer, send_back_to, says) -> None:
    with pytest.raises(BadDecision, match=says):
        check_decision(decision, reviewer, send_back_to)


def test_a_rejection_may_send_the_work_back_to_a_step() -> None:
    found = decided(MANUAL, GOOD, BEATEN, claim=claim("reject", send_back_to="draw_data"))
    assert (found.send_back_to, found.segments, found.claim) == ("draw_data", ("EWR",), "token")


def test_rules_send_work_back_until_the_limit_and_then_ask_a_person() -> None:
    first = decided(AUTO, {}, BEATEN, send_back_to="model", loops=0, limit=2)
    assert (first.decision, first.decided_by, first.send_back_to) == ("reject", "rules", "model")
    last = decided(AUTO, {}, BEATEN, send_back_to="model", loops=2, limit=2)
    assert (last.decision, last.decided_by, last.send_back_to) == ("wait", "", "")
    assert last.comment.startswith(
        "the rework limit is reached (2 further attempts), a person decides; not met:"
    )
    assert decided(AUTO, GOOD, BEATEN, send_back_to="model", loops=2, limit=2).decision == "approve"
    assert decided(AUTO, {}, BEATEN, send_back_to="model", limit=0).decision == "wait"


def test_a_review_looks_at_all_that_the_aggregate_was_made_from_and_not_at_the_champion(
    tmp_path: Path,
) -> None:
    store = Store.open(Settings(home=tmp_path))
    segment, project = Partition.segment("late", "EWR"), Partition.project("late")

    def made(step: str, partition: Partition, *inputs: Thing) -> Thing:
        thing = store.commit(step, partition, Draft(based_on=[one.id for one in inputs]))
        store.record_verdicts(thing.id, new_id(), [verdict(f"of_{step}", "failed")])
        return thing

    def whole(*champion: Thing) -> tuple[list[Thing], Thing]:
        source = made("sources", Partition.source("flights"))
        draw = made("draw_data", segment, source)
        ready = made("model_ready", segment, draw)
        model = made("model", segment, ready, *champion)
        return [model, ready, draw, source], made("aggregate", project, model)

    (champion, *_), _ = whole()
    below, aggregate = whole(champion)
    assert [thing.id for thing, _ in verdicts_below(store, aggregate)] == [
        aggregate.id,
        *(thing.id for thing in below),
    ]
