"""The evidence: the champion on the same rows, what changed since the last approval, a page that is safe to open."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlassets.modelling.evaluation import Scored, resample
from mlassets.modelling.metrics import METRICS
from mlassets.projects import ProjectSpec
from mlassets.quality.displays import Table, Text
from mlassets.releasing.comparing import _interval, compare_with_champion
from mlassets.releasing.deciding import Claim
from mlassets.releasing.evidence import changes, differences, evidence_page, gather
from mlassets.releasing.review import decide
from mlassets.rules import rules_met
from mlassets_tests.releasing.test_release import SPEC, STRANGE, Approved
from mlassets_tests.releasing.waiting import LATE, Waiting
from resources.things import Draft, Thing
from resources.verdicts import Verdict

RULE = "not worse than champion by more than 0.01 on the same rows"


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Approved:
    return Approved(tmp_path_factory.mktemp("approved"))


def publish(approved: Approved, models: dict[str, Thing]) -> Thing:
    parameters = {"models": {name: one.id for name, one in models.items()}, "alias": "champion"}
    return approved.store.commit("publish", LATE, Draft(parameters=parameters, labels={"alias": "champion"}))


def another(approved: Approved, name: str) -> Thing:
    """A model of the same kind that was trained for another segment, as if it were this segment's."""
    model = approved.models[name]
    other = approved.models[next(one for one in approved.models if one != name)]
    return approved.store.commit(
        "model",
        model.partition,
        Draft(artifacts={"model.skops": other.artifact("model.skops")}, based_on=model.based_on),
    )


def compared(approved: Approved, spec: ProjectSpec = SPEC) -> Any:
    return compare_with_champion(approved.store, approved.aggregate, spec)


def test_without_a_champion_there_is_nothing_to_be_worse_than(approved: Approved) -> None:
    found = compared(approved)
    assert (found.release, found.together, found.not_compared) == (None, None, "")
    facts = gather(approved.store, approved.aggregate, SPEC).facts
    assert rules_met([RULE], facts)[0].met


def test_the_same_models_are_as_good_as_themselves(approved: Approved) -> None:
    champion = publish(approved, approved.models)
    with approved.store.recording() as read:
        found = compared(approved)
    assert found.release == champion.id
    assert {champion.id, *(one.id for one in approved.models.values())} <= set(read)
    assert found.together.gains == dict.fromkeys(found.together.gains, 0.0)
    assert set(found.together.gains) == set(METRICS["binary"])
    assert found.together.interval == (0.0, 0.0)
    assert found.together.champion["roc_auc"] == pytest.approx(approved.aggregate.metrics["test.roc_auc"])
    for name, model in approved.models.items():
        assert found.segments[name].champion["roc_auc"] == pytest.approx(model.metrics["test.roc_auc"])


def test_what_is_better_than_the_champion_is_positive_whichever_direction_a_metric_has(
    approved: Approved,
) -> None:
    publish(approved, {**approved.models, "EWR": another(approved, "EWR")})
    beside = compared(approved).segments["EWR"]
    mine = approved.models["EWR"].metrics
    assert beside.gains["log_loss"] != 0
    assert beside.gains["log_loss"] == pytest.approx(beside.champion["log_loss"] - mine["test.log_loss"])
    assert beside.gains["roc_auc"] == pytest.approx(mine["test.roc_auc"] - beside.champion["roc_auc"])
    low, high = beside.interval
    assert low <= beside.gains["roc_auc"] <= high
    method = SPEC.aggregate.model_copy(update={"method": "unweighted"})
    unweighted = compared(approved, SPEC.model_copy(update={"aggregate": method}))
    gains = [one.gains["roc_auc"] for one in unweighted.segments.values()]
    assert unweighted.together.gains["roc_auc"] == pytest.approx(sum(gains) / 2)


def test_segments_that_one_of_both_lacks_are_left_out_of_both_and_named(approved: Approved) -> None:
    publish(approved, {"EWR": approved.models["EWR"], "SEA": approved.models["EWR"]})
    found = compared(approved)
    assert set(found.segments) == {"EWR"}
    assert found.left_out == {
        STRANGE: "the champion does not have it",
        "SEA": "this version does not have it",
    }
    assert found.together.gains["roc_auc"] == 0


def test_a_champion_that_cannot_predict_these_rows_is_not_silently_passed_over(approved: Approved) -> None:
    broken = approved.store.commit(
        "model", approved.models["EWR"].partition, Draft(artifacts={"model.skops": b"no model"})
    )
    publish(approved, {"EWR": broken})
    found = compared(approved)
    assert found.together is None
    assert "EWR: its champion cannot predict these rows" in found.not_compared
    (result,) = rules_met([RULE], gather(approved.store, approved.aggregate, SPEC).facts)
    assert not result.met
    assert "cannot be read as a skops file" in result.says


def shown(evidence: Any) -> list[str]:
    """What changed, a line for each row and text."""
    lines = []
    for item in changes(evidence):
        lines += [item.text] if isinstance(item, Text) else [" | ".join(row) for row in item.rows]
        assert isinstance(item, Text | Table)
    return lines


def test_what_changed_since_the_last_approval_is_named_data_spec_and_code(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, whole=True)
    store, spec = waiting.store, waiting.project
    assert shown(gather(store, waiting.first, spec)) == ["No other version was approved yet."]
    parameters = {"decision": "approve", "decided_by": "ana", "aggregate": waiting.first.id}
    waiting.thing(
        "review", on=[waiting.first], parameters=parameters | {"spec": spec.model_dump(mode="json")}
    )
    waiting.source("flights", {"origin": ["EWR"] * 3, "late": [0, 1, 1]})
    now = waiting.version("two")
    lines = shown(gather(store, now, spec))
    assert lines[0].startswith(f"The last approved version is {waiting.first.id}, approved by ana at ")
    assert "rows of source flights | 2 | 3" in lines
    assert "rows of the draw of late|EWR | 1 | 1" in lines
    assert lines[-2:] == ["The spec is the same.", "Code and packages are the same."]
    changed = waiting.spec(changes={"candidates: [baseline]": "candidates: [baseline, linear]"})
    assert "model.candidates | baseline | baseline, linear" in shown(gather(store, now, changed))


def test_differences_name_the_field_and_both_values() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "gone": True}
    now = {"a": {"b": 2, "c": [1]}, "d": "x", "new": {"e": None, "f": []}}
    assert list(differences(before, now)) == [
        ("a.b", "1", "2"),
        ("a.c", "1, 2", "1"),
        ("gone", "True", "not there"),
        ("new", "not there", "{'e': None, 'f': []}"),
    ]
    assert list(differences(before, before)) == []


def test_the_page_gives_the_exact_command_until_somebody_has_decided(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, "{reviewers: [ana, ben], four_eyes: true}")
    evidence = gather(waiting.store, waiting.first, waiting.project)
    page = evidence_page(evidence, decide(waiting.project.review, evidence.facts)).decode()
    assert f"mlassets review late approve --version {waiting.first.id} --comment" in page
    assert "The spec lets only ana, ben decide." in page
    claim = waiting.claim()
    page = evidence_page(evidence, decide(waiting.project.review, evidence.facts, claim)).decode()
    assert "ana has decided on this version already" in page
    assert "mlassets review late approve --comment" in page
    assert "--version" not in page


def test_nothing_that_a_user_wrote_becomes_markup_on_the_page(approved: Approved) -> None:
    publish(approved, {"EWR": approved.models["EWR"]})
    evidence = gather(approved.store, approved.aggregate, SPEC)
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    claim = Claim("t", "t", "t", "reject", evil, evil, "model", (STRANGE,), "2026-01-01T00:00:00+00:00")
    page = evidence_page(evidence, decide(SPEC.review, evidence.facts, claim)).decode()
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"<(script|img)\b(?! alt=)", page)
    assert "<b>a|b</b>" not in page
    assert "script-src &#39;none&#39;" in page


def test_a_page_of_hundreds_of_segments_lists_what_failed_and_stays_a_page(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    evidence = gather(waiting.store, waiting.first, waiting.project)
    many = [
        (waiting.first, Verdict(f"claim_{number}", status, "WARN", 0.1, ">= 0", 10, "found " * 20, {"a": 1}))
        for number in range(6_000)
        for status in (("failed",) if number % 100 == 99 else ("passed",))
    ]
    evidence = replace(evidence, below=tuple(many))  # type: ignore[arg-type]
    page = evidence_page(evidence, decide(waiting.project.review, evidence.facts)).decode()
    assert len(page) < 6_000_000
    assert "4,500 of 6,000 verdicts, all of which passed or do not apply" in page
    assert all(f">claim {number}</a>" in page for number in range(99, 6_000, 100))


def test_the_interval_of_many_rows_comes_from_a_sample_and_is_as_wide_as_that_of_all(
    approved: Approved,
) -> None:
    rng = np.random.default_rng(0)
    rows = 60_000
    actual, score = rng.integers(0, 2, rows), rng.random(rows)
    new, old = (
        Scored("binary", actual, (given > 0.5).astype(int), given)
        for given in ((actual * 0.3 + score) / 1.3, (actual * 0.25 + score) / 1.25)
    )
    models = {"model": new, "champion": old}
    whole, ends = resample(models, 0, wanted={name: ["roc_auc"] for name in models}).gain(
        "model", "champion", "roc_auc", "binary"
    )
    found = _interval(models, "roc_auc", whole, SPEC)
    assert found is not None
    assert ends is not None
    assert found[0] < whole < found[1]
    assert found[1] - found[0] == pytest.approx(ends[1] - ends[0], rel=0.3)
