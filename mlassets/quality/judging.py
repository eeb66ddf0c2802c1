"""From an observation to a verdict: the one place where a figure meets its limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlassets.quality.checks import CheckEntry, limit_of
from resources.verdicts import Limit, Verdict


@dataclass(frozen=True)
class Observation:
    """What one check saw.

    Attributes:
        value: The effect size, in the unit that the check's entry names.
        n: Rows that were looked at.
        found: One sentence: what was found, and where.
        details: Further figures, JSON-serialisable.
        compared: Rows on each side that the figure rests on (the harmonic mean of two sides), where too few
            of them would make it noise; None where every count is exact.
        displays: Tables, texts and figures for the report.
    """

    value: float
    n: int
    found: str
    details: Mapping[str, Any] = field(default_factory=dict)
    compared: float | None = None
    displays: tuple[Any, ...] = ()


class DoesNotApply(Exception):  # an answer, not an error: the verdict says so and passes
    """A check has nothing to say about this Thing; the message says why."""

    def __init__(self, reason: str, n: int = 0) -> None:
        super().__init__(reason)
        self.n = n


def judge(
    entry: CheckEntry, limits: Mapping[str, Limit], observe: Callable[[], Observation]
) -> tuple[Verdict, tuple[Any, ...]]:
    """Observe, hold the figure against its limit, and return the verdict with what the report may show.

    A check that raises gets the status `crashed`, which is a failure of the limit's severity; a figure that
    is not a number fails. Where so few rows were compared that chance could have made the figure, the verdict
    is `not_applicable` and says how many rows there were.
    """
    limit = limit_of(entry, limits)

    def verdict(status: Any, n: int, message: str, value: float | None = None, **details: Any) -> Verdict:
        return Verdict(entry.claim, status, limit.severity, value, str(limit), n, message, details)

    try:
        seen = observe()
    except DoesNotApply as reason:
        return verdict("not_applicable", reason.n, f"Does not apply: {reason}."), ()
    except Exception as error:  # noqa: BLE001  # whatever breaks inside a check is that check's verdict
        what = f"{type(error).__name__}: {str(error)[:500]}"
        return verdict("crashed", 0, f"The check crashed: {what}", error=what), ()
    value, details = float(seen.value), dict(seen.details)
    holds = limit.holds(value)
    if seen.compared is not None:
        rows = round(seen.compared)
        if rows < entry.needs_rows:
            message = f"Too few rows to tell: {rows:,}, where {entry.needs_rows:,} are needed. {seen.found}"
            return verdict("not_applicable", seen.n, message, value, **details), seen.displays
        # Chance makes a figure larger; it excuses none that is too small.
        if not holds and limit.op in ("<=", "<") and value < (chance := entry.noise(rows)):
            message = (
                f"Too few rows to tell: with {rows:,} on each side chance alone reaches {chance:.2g}. "
                f"{seen.found}"
            )
            return verdict("not_applicable", seen.n, message, value, **details), seen.displays
    return verdict("passed" if holds else "failed", seen.n, seen.found, value, **details), seen.displays
