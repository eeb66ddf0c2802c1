"""Each form of a rule: met, unmet, and refused when the spec loads."""

from pathlib import Path

import pytest

from mlassets.projects import ProjectSpec, load_project
from mlassets.rules import DEFAULT_RULES, FORMS, Facts, Rule, RuleResult, parse_rule, rules_met
from mlassets.sections import SpecError
from mlassets_tests.small_homes import SPEC, write_spec
from resources.verdicts import Severity, Status, Verdict

METRICS = {
    "test.roc_auc": 0.7,
    "test.roc_auc.low": 0.64,
    "test.log_loss": 0.6,
    "worst_segment.roc_auc": 0.61,
    "worst_segment.log_loss": 0.65,
    "segment.EWR.roc_auc": 0.61,
    "segment.St. Louis.roc_auc": 0.8,
}


def verdict(claim: str, status: Status = "passed", severity: Severity = "ERROR") -> Verdict:
    return Verdict(claim, status, severity, None, None, 10, "", {})


def held(rule: str, **facts: object) -> RuleResult:
    given = {"metrics": METRICS, "verdicts": [verdict("beats_the_baseline")], "metric": "roc_auc", **facts}
    (result,) = rules_met([rule], Facts(**given))  # type: ignore[arg-type]
    assert result.rule == rule
    return result


@pytest.mark.parametrize(
    ("rule", "met", "observed"),
    [
        ("roc_auc >= 0.7", True, 0.7),
        ("roc_auc > 0.7", False, 0.7),
        ("test.roc_auc.low >= 0.65", False, 0.64),
        ("log_loss<0.5", False, 0.6),
        ("segment.EWR.roc_auc >= 0.6", True, 0.61),
        ("roc_auc >= 0", True, 0.7),
        ("f1 >= 0", False, None),
        ("worst segment >= 0.6", True, 0.61),
        ("worst segment >= 0.62", False, 0.61),
        ("worst segment roc_auc >= 0.62", False, 0.61),
        ("worst segment log_loss <= 0.65", True, 0.65),
        ("worst segment f1 >= 0.1", False, None),
    ],
)
def test_a_rule_on_a_metric_is_held_against_what_was_measured(rule, met, observed) -> None:
    found = held(rule)
    assert (found.met, found.observed) == (met, observed)


def test_the_worst_segment_is_named() -> None:
    assert held("worst segment >= 0.62").says == "EWR"


def test_nan_keeps_no_limit() -> None:
    assert not held("roc_auc >= 0", metrics={"roc_auc": float("nan")}).met
    assert not held("worst segment >= 0", metrics={"worst_segment.roc_auc": float("nan")}).met


WORSE = "not worse than champion by more than 0.01 on the same rows"


@pytest.mark.parametrize(
    ("rule", "facts", "met", "observed", "says"),
    [
        (WORSE, {"champion": False}, True, None, "no champion yet"),
        (WORSE, {"champion": True, "gains": {"roc_auc": -0.01}}, True, -0.01, ""),
        (WORSE, {"champion": True, "gains": {"roc_auc": 0.7 - 0.71}}, True, 0.7 - 0.71, ""),
        (WORSE, {"champion": True, "gains": {"roc_auc": -0.0101}}, False, -0.0101, ""),
        (WORSE, {"champion": True, "gains": {"log_loss": 0.2}}, False, None, "not compared"),
        (WORSE, {"champion": True, "not_compared": "it has no EWR"}, False, None, "it has no EWR"),
        (
            "not worse than the champion in log_loss by more than .05 on the same rows",
            {"champion": True, "gains": {"log_loss": -0.04, "roc_auc": -1}},
            True,
            -0.04,
            "",
        ),
    ],
)
def test_a_version_is_held_against_the_champion_on_the_same_rows(rule, facts, met, observed, says) -> None:
    found = held(rule, **facts)
    assert (found.met, found.observed) == (met, observed)
    assert says in found.says


@pytest.mark.parametrize("status", ["failed", "crashed"])
def test_a_failed_or_crashed_verdict_breaks_the_rules_on_it(status: Status) -> None:
    verdicts = [verdict("beats_the_baseline", status), verdict("beats_the_baseline")]
    for rule in ("no failed verdict of severity ERROR", "no verdict of severity WARN", "beats_the_baseline"):
        assert held(rule, verdicts=verdicts) == RuleResult(rule, False, 1.0, "beats_the_baseline")


def test_a_warning_is_no_error_but_an_error_is_worth_a_warning() -> None:
    warned = [verdict("keys_are_unique", "failed", "WARN")]
    assert held("no verdict of severity ERROR", verdicts=warned).met
    assert not held("no verdict of severity WARN", verdicts=warned).met


def test_what_was_never_measured_or_judged_is_not_approved() -> None:
    for rule in (*DEFAULT_RULES, *FORMS[:2]):
        found = held(rule, metrics={}, verdicts=[])
        assert (found.met, found.observed) == (False, None)
        assert found.says


def test_a_rule_knows_its_metric() -> None:
    names = {
        "roc_auc >= 0.6": "roc_auc",
        "test.roc_auc.low > 0.6": "roc_auc",
        "segment.EWR.log_loss < 0.6": "log_loss",
        "spread.f1 <= 0.1": "f1",
        "worst segment brier <= 0.2": "brier",
        WORSE: "",
        "beats_the_baseline": "",
    }
    for text, name in names.items():
        rule = parse_rule(text)
        assert isinstance(rule, Rule)
        assert rule.metric == name


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("auc >= 0.6", '"auc" is no metric of a binary task; did you mean'),
        ("tset.roc_auc >= 0.6", '"tset.roc_auc" is no metric'),
        ("rmse <= 3", '"rmse" is no metric of a binary task'),
        ("worst segment rocauc >= 0.5", '"rocauc" is no metric of a binary task; did you mean roc_auc'),
        ("not worse than champion in auc by more than 0.01 on the same rows", '"auc" is no metric'),
        ("not worse than champion by more than 0.01", "is no rule; write one like `roc_auc >= 0.6`"),
        ("no failed verdict of severity INFO", "is no rule"),
        ("beats_the_base_line", "the name of a check (did you mean beats_the_baseline"),
        ("roc_auc >= __import__('os')", "is no rule"),
        ("roc_auc >= 0.6 " * 100, "is no rule"),
        ("", "is no rule"),
    ],
)
def test_a_rule_that_could_never_be_met_is_refused_when_the_spec_loads(
    tmp_path: Path, rule: str, wrong: str
) -> None:
    path = write_spec(tmp_path, review={"rules": ["beats_the_baseline", rule]})
    with pytest.raises(SpecError) as caught:
        load_project(path)
    assert caught.value.field == "review.rules.1"
    assert caught.value.line is not None
    assert wrong in caught.value.wrong
    assert caught.value.example.startswith("rules: [")


def test_every_form_that_an_error_names_is_a_rule() -> None:
    spec = ProjectSpec.model_validate(SPEC | {"review": {"rules": list(FORMS)}})
    assert spec.review.rules == FORMS


def test_a_review_that_nobody_may_decide_is_refused(tmp_path: Path) -> None:
    path = write_spec(tmp_path, authors=["ana"], review={"reviewers": ["ana"], "four_eyes": True})
    with pytest.raises(SpecError, match="leaves nobody to decide"):
        load_project(path)
