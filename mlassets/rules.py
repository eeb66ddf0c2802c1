"""The rules of a review: how they are written, and whether they are met. Text in, no code is ever run."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from mlassets.sections import Section, WrongError, shown
from resources.verdicts import Limit, Severity, Verdict

NO_FAILED_ERROR = "no failed verdict of severity ERROR"
DEFAULT_RULES = (NO_FAILED_ERROR, "beats_the_baseline")
FORMS = (
    "roc_auc >= 0.6",
    "worst segment >= 0.55",
    "not worse than champion by more than 0.01 on the same rows",
    NO_FAILED_ERROR,
)
"""One rule of each form, beside the bare name of a check."""

Form = Literal["metric", "worst_segment", "champion", "severity", "claim"]

_LONGEST = 300
_ROUNDING = 1e-9
_LIMIT = re.compile(r"(<=|>=|==|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)")
_SEVERITY = re.compile(r"no (?:failed )?verdict of severity (ERROR|WARN)")
_WORST = re.compile(r"worst segment\b\s*([A-Za-z_]\w*)?\s*((?:<=|>=|==|<|>).*)")
_CHAMPION = re.compile(
    r"not worse than (?:the )?champion(?: in (\w+))? by more than (\d+\.?\d*|\.\d+) on the same rows"
)
_METRIC = re.compile(r"(\S+?)\s*((?:<=|>=|==|<|>).*)")
_MEASURED = re.compile(r"(?:test\.|spread\.|worst_segment\.|segment\..+?\.)?([^.]+?)(?:\.low|\.high)?")


@dataclass(frozen=True)
class Rule:
    """One rule, read.

    Attributes:
        text: As the spec has it.
        form: Which form it has.
        name: The metric (`roc_auc`; empty for the project's own) or the claim.
        limit: What a metric is held against; for the champion, how much better than it this version is at least.
        severity: For a rule on verdicts: those that count.
    """

    text: str
    form: Form
    name: str = ""
    limit: Limit | None = None
    severity: Severity | None = None

    @property
    def metric(self) -> str:
        """The bare name of the metric that the rule is about (`roc_auc` for `segment.EWR.roc_auc.low`), or empty."""
        if self.form not in ("metric", "worst_segment", "champion"):
            return ""
        measured = _MEASURED.fullmatch(self.name)
        return measured[1] if measured else self.name


@dataclass(frozen=True)
class RuleResult:
    """One rule of a review and whether it is met.

    Attributes:
        rule: The rule as the spec has it.
        met: Whether it holds; what was never measured or judged is not met.
        observed: The metric, the difference to the champion, or the number of failed verdicts; None where there was
            nothing to look at.
        says: What a person should know beside the number; empty if nothing.
    """

    rule: str
    met: bool
    observed: float | None
    says: str = ""


@dataclass(frozen=True)
class Facts:
    """What the rules of a review are held against.

    Attributes:
        metrics: Metrics of the project as a whole, as the aggregate has them.
        verdicts: All verdicts on what is up for review.
        metric: The project's own metric.
        champion: There is a champion to be compared with.
        gains: How much better than the champion this version is on the same rows, by metric; positive is better,
            whichever direction the metric has.
        not_compared: Why it was not compared with the champion, if it was not.
    """

    metrics: Mapping[str, float]
    verdicts: Sequence[Verdict]
    metric: str = ""
    champion: bool = False
    gains: Mapping[str, float] = field(default_factory=dict)
    not_compared: str = ""


def parse_limit(text: str, severity: Severity) -> Limit | None:
    """Return a limit such as `>= 0.60`, or None if `text` is none."""
    match = _LIMIT.fullmatch(text.strip()) if len(text) < 100 else None
    return Limit(match[1], float(match[2]), severity) if match else None  # type: ignore[arg-type]  # the pattern's own five


def _limit(severity: Severity) -> Callable[[Any], Any]:
    def parse(given: Any) -> Any:
        if isinstance(given, Limit):
            return given
        if isinstance(given, Mapping):
            # As a spec's own text has it.
            given = f"{given.get('op')} {given.get('value')}"
        limit = parse_limit(given, severity) if isinstance(given, str) else None
        if limit is None:
            raise ValueError(
                f'{shown(given)} is not a limit; write a comparison in quotes, such as ">= 0.60"'
            )
        return limit

    return parse


class MovedLimits(Section):
    """Limits and severities that a spec moves; all other checks keep their defaults.

    Attributes:
        fail: By metric, claim or measure: the limit whose breach blocks what is downstream.
        warn: The same for limits whose breach informs.
    """

    fail: Mapping[str, Annotated[Limit, BeforeValidator(_limit("ERROR"))]] = {}
    warn: Mapping[str, Annotated[Limit, BeforeValidator(_limit("WARN"))]] = {}

    @model_validator(mode="after")
    def _one_limit_each(self) -> "MovedLimits":
        both = [name for name in self.warn if name in self.fail]
        if both:
            raise WrongError(
                *((("warn", name), "stands under `fail` as well; keep one of the two") for name in both)
            )
        return self

    @property
    def limits(self) -> dict[str, Limit]:
        """The moved limits by metric, claim or measure, each with its severity."""
        return {**self.fail, **self.warn}


def parse_rule(text: str) -> Rule | None:
    """Return a rule, or None if `text` has the form of none; whether its names are known is not looked at."""
    text = " ".join(text[: _LONGEST + 1].split())
    if not text or len(text) > _LONGEST:
        return None
    if match := _SEVERITY.fullmatch(text):
        return Rule(text, "severity", severity=match[1])  # type: ignore[arg-type]  # the pattern's own two
    if match := _CHAMPION.fullmatch(text):
        return Rule(text, "champion", match[1] or "", Limit(">=", -float(match[2])))
    for form, pattern in (("worst_segment", _WORST), ("metric", _METRIC)):
        if (match := pattern.fullmatch(text)) and (limit := parse_limit(match[2], "ERROR")):
            return Rule(text, form, match[1] or "", limit)  # type: ignore[arg-type]  # the two of this loop
    return Rule(text, "claim", text) if re.fullmatch(r"\w+", text) else None


def rules_met(rules: Iterable[str], facts: Facts) -> list[RuleResult]:
    """Hold a review's rules against what was measured and judged.

    A rule is a comparison with a metric (`roc_auc >= 0.6`; looked up by that name, else as `test.roc_auc`), with that
    of the worst segment (`worst segment >= 0.55`), with the champion on the same rows, the phrase `no failed verdict
    of severity ERROR` (or WARN, which counts ERROR too), or a claim, met when all its verdicts passed. What was never
    measured or judged is not met: silence is no approval. Only where there is no champion yet, nothing can be worse
    than it.

    Args:
        rules: Rules as a spec holds them.
        facts: What was measured and judged.
    """
    return [_held(parse_rule(text), text, facts) for text in rules]


def _held(rule: Rule | None, text: str, facts: Facts) -> RuleResult:
    if rule is None:
        return RuleResult(text, False, None, "it has the form of no rule")
    if rule.form == "metric":
        return _against(rule, facts.metrics.get(rule.name, facts.metrics.get(f"test.{rule.name}")))
    if rule.form == "worst_segment":
        return _worst(rule, facts)
    if rule.form == "champion":
        return _champion(rule, facts)
    if rule.form == "severity":
        looked_at = list(facts.verdicts)
        failed = [one for one in looked_at if not one.passed and one.severity in ("ERROR", rule.severity)]
    else:
        looked_at = [one for one in facts.verdicts if one.claim == rule.name]
        failed = [one for one in looked_at if not one.passed]
    if not looked_at:
        return RuleResult(text, False, None, "nothing of this was judged")
    return RuleResult(
        text, not failed, float(len(failed)), ", ".join(dict.fromkeys(one.claim for one in failed))
    )


def _against(rule: Rule, value: float | None, says: str = "") -> RuleResult:
    if value is None or rule.limit is None:
        return RuleResult(rule.text, False, None, says or "this was not measured")
    return RuleResult(rule.text, rule.limit.holds(value), value, says)


def _worst(rule: Rule, facts: Facts) -> RuleResult:
    metric = rule.name or facts.metric
    value = facts.metrics.get(f"worst_segment.{metric}")
    ending = f".{metric}"
    where = [
        name.removeprefix("segment.").removesuffix(ending)
        for name, one in facts.metrics.items()
        if name.startswith("segment.") and name.endswith(ending) and one == value
    ]
    return _against(rule, value, where[0] if where else "")


def _champion(rule: Rule, facts: Facts) -> RuleResult:
    if not facts.champion:
        return RuleResult(rule.text, True, None, "there is no champion yet")
    gain = facts.gains.get(rule.name or facts.metric)
    if gain is None or rule.limit is None:
        return RuleResult(
            rule.text, False, None, facts.not_compared or "it was not compared with the champion"
        )
    # A difference of exactly the margin is not more than it, whatever its last bit says.
    return RuleResult(rule.text, gain >= rule.limit.value - _ROUNDING, gain)
