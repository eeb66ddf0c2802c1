"""Verdicts: what a check found on one Thing, as a record of its own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ERROR", "WARN"]
Status = Literal["passed", "failed", "not_applicable", "crashed"]


@dataclass(frozen=True)
class Limit:
    """The bound that an observed value must keep, and what breaking it means.

    Attributes:
        op: Comparison that must hold between the observed value and `value`.
        value: The bound, in the unit of the observed value.
        severity: `ERROR` blocks what is downstream, `WARN` informs.
    """

    op: Literal["<=", "<", ">=", ">", "=="]
    value: float
    severity: Severity = "WARN"

    def holds(self, observed: float) -> bool:
        """Say whether `observed` keeps the limit; NaN never does."""
        return {
            "<=": observed <= self.value,
            "<": observed < self.value,
            ">=": observed >= self.value,
            ">": observed > self.value,
            "==": observed == self.value,
        }[self.op]

    def __str__(self) -> str:
        return f"{self.op} {self.value:g}"


@dataclass(frozen=True)
class Verdict:
    """The result of one check on one Thing.

    Attributes:
        claim: The check's name, a claim that should be true (`no_conflicting_labels`).
        status: A check that crashed is a failed one; one that does not apply says so and passes.
        severity: What a failure means: `ERROR` blocks what is downstream, `WARN` informs.
        observed: The effect size that was measured, if the check measures one.
        limit: The bound it was held against, as text (`<= 0.2`).
        n: Rows that were looked at.
        message: One sentence for a person: what was found, and where to look.
        details: Further figures (per column, sample size, seed), JSON-serialisable.
    """

    claim: str
    status: Status
    severity: Severity
    observed: float | None
    limit: str | None
    n: int
    message: str
    details: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether the claim holds or does not apply; a crash is never a pass."""
        return self.status in ("passed", "not_applicable")

    @property
    def blocks(self) -> bool:
        """Whether work downstream of the judged Thing must stop."""
        return not self.passed and self.severity == "ERROR"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON-serialisable values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Verdict":
        """Rebuild a verdict from `as_dict`, ignoring fields of newer versions."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__})
