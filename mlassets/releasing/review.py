"""The decision on one version of an aggregate: by a person, or by the project's rules."""

from dataclasses import asdict, dataclass
from typing import Any

from mlassets.projects import ReviewSpec
from mlassets.releasing.deciding import Claim, Word, things_below
from mlassets.rework import RULES
from mlassets.rules import Facts, RuleResult, rules_met
from resources.store import Store
from resources.things import Thing
from resources.verdicts import Verdict


@dataclass(frozen=True)
class Decision:
    """What the review says of one version.

    Attributes:
        decision: `approve`, `reject` or `wait` (for a person).
        decided_by: `rules`, or the reviewer's name; empty while it waits.
        decided_at: When a person decided (UTC, ISO); empty otherwise.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to; empty otherwise.
        segments: The segments that are sent back; empty means all.
        claim: Token of the person's claim; empty otherwise.
        rules: Every rule with its result.
    """

    decision: Word
    decided_by: str
    comment: str
    rules: tuple[RuleResult, ...]
    send_back_to: str = ""
    segments: tuple[str, ...] = ()
    decided_at: str = ""
    claim: str = ""

    @property
    def satisfaction(self) -> float:
        """Share of rules that are met, 0 to 1; 1 where there are none."""
        return sum(rule.met for rule in self.rules) / len(self.rules) if self.rules else 1.0

    def as_parameters(self) -> dict[str, Any]:
        """Return the decision as plain JSON-serialisable values."""
        return {
            **asdict(self),
            "segments": list(self.segments),
            "rules": [asdict(rule) for rule in self.rules],
        }


def decide(
    review: ReviewSpec,
    facts: Facts,
    claim: Claim | None = None,
    *,
    send_back_to: str | None = None,
    loops: int = 0,
    limit: int = 0,
) -> Decision:
    """Decide on an aggregate.

    A person's decision stands, whatever the mode and the rules say; the rules' results are recorded beside it.
    Without one, `manual` waits, and `auto` approves when every rule is met. If one is not, it rejects; where the spec
    sends work back, only until the limit of further attempts is reached, and then waits for a person.

    Args:
        review: The project's review.
        facts: What was measured and judged.
        claim: A person's decision.
        send_back_to: The step that unmet rules send the work back to.
        loops: Further attempts that were made already.
        limit: Further attempts before a person is asked.
    """
    rules = tuple(rules_met(review.rules, facts))
    if claim is not None:
        return Decision(
            claim.decision,
            claim.reviewer,
            claim.comment,
            rules,
            claim.send_back_to,
            claim.segments,
            claim.decided_at,
            claim.token,
        )
    if review.mode == "manual":
        return Decision("wait", "", "waits for a reviewer", rules)
    unmet = [f"{rule.rule}{f' ({rule.says})' if rule.says else ''}" for rule in rules if not rule.met]
    if not unmet:
        return Decision("approve", RULES, "every rule is met", rules)
    why = f"not met: {'; '.join(unmet)}"
    if send_back_to and loops >= limit:
        again = "no further attempt" if not limit else f"{loops} further attempt{'s' if loops != 1 else ''}"
        return Decision("wait", "", f"the rework limit is reached ({again}), a person decides; {why}", rules)
    return Decision("reject", RULES, why, rules, send_back_to or "")


def verdicts_below(store: Store, aggregate: Thing) -> list[tuple[Thing, Verdict]]:
    """Return every verdict on the aggregate and on all that it was made from, nearest first.

    A verdict on an earlier release must neither reject this version nor speak for it.
    """
    return [
        (thing, verdict) for thing in things_below(store, aggregate) for verdict in store.verdicts(thing.id)
    ]
