"""The decision on one version of an aggregate: by rules, or by a person, with the evidence on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlassets.projects import ReviewSpec, rules_met
from mlassets.steps import SOURCES, STEPS
from resources.errors import MlassetsError
from resources.things import Store, Thing
from resources.verdicts import Verdict

Word = Literal["approve", "reject", "wait"]


class BadDecision(MlassetsError):
    """`aprove` is no decision; write `approve` or `reject`."""


@dataclass(frozen=True)
class RuleResult:
    """One rule of the review and whether it is met.

    Attributes:
        rule: The rule as the spec has it.
        met: Whether it holds; what was never measured or judged is not met.
        observed: The metric, or the number of failed verdicts; None where there was nothing to look at.
    """

    rule: str
    met: bool
    observed: float | None


@dataclass(frozen=True)
class Decision:
    """What the review says of one version.

    Attributes:
        decision: `approve`, `reject` or `wait` (for a person).
        decided_by: `rules`, or the reviewer's name; empty while it waits.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to; empty otherwise.
        rules: Every rule with its result.
    """

    decision: Word
    decided_by: str
    comment: str
    send_back_to: str
    rules: tuple[RuleResult, ...]

    @property
    def satisfaction(self) -> float:
        """Share of rules that are met, 0 to 1; 1 where there are none."""
        return sum(rule.met for rule in self.rules) / len(self.rules) if self.rules else 1.0

    def as_parameters(self) -> dict[str, Any]:
        """Return the decision as plain JSON-serialisable values."""
        return {**asdict(self), "rules": [asdict(rule) for rule in self.rules]}


def decide(
    review: ReviewSpec,
    metrics: Mapping[str, float],
    verdicts: Sequence[Verdict],
    *,
    decision: str = "",
    reviewer: str = "",
    comment: str = "",
    send_back_to: str = "",
) -> Decision:
    """Decide on an aggregate.

    A person's decision stands, whatever the mode and the rules say; the rules' results are recorded beside it.
    Without one, `auto` approves when every rule is met and rejects otherwise, and `manual` waits.

    Raises:
        BadDecision: If the decision is no word of ours, has no reviewer, or sends back to an unknown step.
    """
    rules = tuple(RuleResult(*result) for result in rules_met(review.rules, metrics, verdicts))
    if decision:
        return Decision(
            check_decision(decision, reviewer, send_back_to), reviewer, comment, send_back_to, rules
        )
    if review.mode == "manual":
        return Decision("wait", "", "waits for a reviewer", "", rules)
    unmet = [rule.rule for rule in rules if not rule.met]
    if unmet:
        return Decision("reject", "rules", f"not met: {'; '.join(unmet)}", "", rules)
    return Decision("approve", "rules", "every rule is met", "", rules)


def check_decision(decision: str, reviewer: str, send_back_to: str = "") -> Word:
    """Return a person's decision as one of our words.

    Raises:
        BadDecision: If it is none, has no reviewer, or sends back to an unknown step.
    """
    if decision not in ("approve", "reject"):
        raise BadDecision(f"{decision!r} is no decision; write `approve` or `reject`")
    if not reviewer.strip():
        raise BadDecision("a decision needs the name of its reviewer")
    if send_back_to and (decision != "reject" or send_back_to not in STEPS):
        raise BadDecision(
            f"only a rejection sends work back, and only to one of {', '.join(STEPS)}; got {send_back_to!r}"
        )
    return "approve" if decision == "approve" else "reject"


def verdicts_below(store: Store, aggregate: Thing) -> list[tuple[Thing, Verdict]]:
    """Return every verdict on the aggregate and on all that it was made from, nearest first.

    A model is based on the champion too, which it was compared with. The champion is no part of what is reviewed: a
    verdict on an earlier release must neither reject this one nor speak for it.
    """
    place = {step: number for number, step in enumerate((SOURCES, *STEPS))}
    things = {aggregate.id: aggregate}
    queue = [aggregate]
    for thing in queue:
        for one in map(store.get, thing.based_on):
            if one.step in place and place[one.step] < place[thing.step] and one.id not in things:
                things[one.id] = one
                queue.append(one)
    return [(thing, verdict) for thing in things.values() for verdict in store.verdicts(thing.id)]


def _measured(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the metrics on the test split, each with its interval."""
    rows = []
    for name, value in metrics.items():
        if name.startswith("test.") and not name.endswith((".low", ".high")):
            low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
            interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
            rows.append((name, f"{value:.4g}{interval}"))
    return rows


def evidence_page(
    project: str, aggregate: Thing, below: Sequence[tuple[Thing, Verdict]], decision: Decision
) -> bytes:
    """Return one self-contained HTML page with all that a reviewer needs."""
    from mlassets.quality.report import render_report

    rows = [
        ("Project", project),
        ("Aggregate", aggregate.id),
        ("Decision", decision.decision),
        ("Decided by", decision.decided_by or "nobody yet"),
        ("Comment", decision.comment),
    ]
    for rule in decision.rules:
        seen = "" if rule.observed is None else f" ({rule.observed:.4g})"
        rows.append((f"Rule: {rule.rule}", f"{'met' if rule.met else 'not met'}{seen}"))
    rows += _measured(aggregate.metrics)
    verdicts = [
        Verdict(**{**vars(verdict), "message": f"{thing.step} of {thing.partition.key}: {verdict.message}"})
        for thing, verdict in below
    ]
    pictures = {name: aggregate.artifact(name) for name in aggregate.artifacts if name.endswith(".png")}
    return render_report(verdicts, title=f"Review of {project}", rows=rows, pictures=pictures)
