"""Whether a spec's `retrain` rule holds, in words: what sensors act on and `mlassets why` explains.

Pure functions of the rule and the facts of one segment. A scheduled time counts once: whoever looks, however
often and however late, finds that it has passed until the segment is made again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

from mlassets.projects import (
    AllRule,
    AnyRule,
    CronRule,
    DriftRule,
    NewDataRule,
    RetrainRule,
    RetrainSpec,
)
from mlassets.sections import duration
from resources.verdicts import Verdict

DRIFT_CLAIM = "data_is_like_the_champions"
DAY = timedelta(days=1)
# No clock of the world was ever put forward or back by more at once, but for moves over the date line.
_LARGEST_SHIFT = timedelta(hours=3)


@dataclass(frozen=True)
class Facts:
    """What is known about one segment when its rule is asked. All times are aware.

    Attributes:
        now: When it is asked.
        since: When the step that the rule holds back was last made.
        new_rows: Rows that its sources gained since then; negative where they lost some.
        rows_before: Rows that they had then.
        changed: Whether anything that it reads has changed since then.
        drift: Effect size of the newest draw's drift from the champion's; None where nothing is known.
        runs: When the step was made in the last 24 hours.
        changed_at: When the first of the changes came; None counts from `since`.
    """

    now: datetime
    since: datetime
    new_rows: int = 0
    rows_before: int = 0
    changed: bool = True
    drift: float | None = None
    runs: Sequence[datetime] = ()
    changed_at: datetime | None = None


@dataclass(frozen=True)
class Held:
    """Whether a rule holds, and why.

    Attributes:
        holds: Whether it does.
        text: Why, in a phrase.
        parts: What it was put together from.
        next_at: When time alone may make it hold; None where it holds, or where time alone does not.
        scheduled_at: The newest scheduled time that made it hold; None where no schedule did.
    """

    holds: bool
    text: str
    parts: tuple["Held", ...] = ()
    next_at: datetime | None = None
    scheduled_at: datetime | None = None


def held(retrain: RetrainSpec, facts: Facts) -> Held:
    """Return whether a segment should be made again, and why, or why not."""
    rule = _rule(retrain.rule, facts)
    limits = [
        *([_cooled_down(duration(retrain.cool_down), facts)] if retrain.cool_down else []),
        *([_below_cap(retrain.most_per_day, facts)] if retrain.most_per_day else []),
    ]
    if not limits:
        return rule
    parts = (rule, *limits)
    hindered = [limit for limit in limits if not limit.holds]
    if not rule.holds or not hindered:
        return replace(rule, parts=parts, next_at=_later(parts))
    text = f"{_joined(hindered)} ({rule.text})"
    return Held(False, text, parts, _later(parts), rule.scheduled_at)


def uses_drift(retrain: RetrainSpec) -> bool:
    """Return whether the rule needs to know how far the newest draw has drifted."""
    return _uses(retrain.rule, DriftRule)


def uses_schedule(retrain: RetrainSpec) -> bool:
    """Return whether the rule needs to know when something changed first."""
    return _uses(retrain.rule, CronRule)


def _uses(rule: RetrainRule, kind: type) -> bool:
    if isinstance(rule, AnyRule | AllRule):
        return any(_uses(part, kind) for part in _parts(rule))
    return isinstance(rule, kind)


def drift_of(verdicts: Iterable[Verdict]) -> float | None:
    """Return the drift that the verdicts on a draw tell of.

    None where there is nothing to compare with, or where chance alone could have made the figure in so few rows.
    """
    for verdict in verdicts:
        if verdict.claim == DRIFT_CLAIM and verdict.status in ("passed", "failed"):
            beyond_chance = (verdict.observed or 0.0) >= verdict.details.get("chance", 0.0)
            return verdict.observed if beyond_chance else None
    return None


def _parts(rule: AnyRule | AllRule) -> tuple[RetrainRule, ...]:
    return rule.any if isinstance(rule, AnyRule) else rule.all


def _rule(rule: RetrainRule, facts: Facts) -> Held:
    if isinstance(rule, NewDataRule):
        return _new_data(rule, facts)
    if isinstance(rule, CronRule):
        return _cron(rule, facts)
    if isinstance(rule, DriftRule):
        return _drift(rule, facts)
    parts = tuple(_rule(part, facts) for part in _parts(rule))
    holding = [part for part in parts if part.holds]
    scheduled = [part.scheduled_at for part in holding if part.scheduled_at]
    at = max(scheduled) if scheduled else None
    if isinstance(rule, AnyRule):
        if holding:
            return Held(True, _joined(holding), parts, scheduled_at=at)
        asking = [part.next_at for part in parts if part.next_at]
        return Held(False, _joined(parts), parts, min(asking) if asking else None)
    missing = [part for part in parts if not part.holds]
    if not missing:
        return Held(True, _joined(parts), parts, scheduled_at=at)
    return Held(False, _joined(missing), parts, _later(parts))


def _joined(parts: Iterable[Held]) -> str:
    return "; ".join(dict.fromkeys(part.text for part in parts))


def _later(parts: Iterable[Held]) -> datetime | None:
    """Return when time alone may have made all of the parts hold; None where one of them needs more than time."""
    missing = [part for part in parts if not part.holds]
    times = [part.next_at for part in missing if part.next_at]
    return max(times) if times and len(times) == len(missing) else None


def _new_data(rule: NewDataRule, facts: Facts) -> Held:
    if not facts.changed:
        return Held(False, "nothing new has landed")
    rows = f"{facts.new_rows:,} new rows"
    if rule.min_new_rows and facts.new_rows < rule.min_new_rows:
        return Held(False, f"{rows} are fewer than min_new_rows {rule.min_new_rows:,}")
    least = rule.min_new_share * facts.rows_before
    if rule.min_new_share and facts.new_rows < least:
        before = f"the {facts.rows_before:,} before"
        return Held(False, f"{rows} are less than min_new_share {_percent(rule.min_new_share)} of {before}")
    asked = [
        *([f"min_new_rows {rule.min_new_rows:,}"] if rule.min_new_rows else []),
        *([f"min_new_share {_percent(rule.min_new_share)}"] if rule.min_new_share else []),
    ]
    return Held(True, f"{rows} reach {' and '.join(asked)}" if asked else "new data has landed")


def _cron(rule: CronRule, facts: Facts) -> Held:
    schedule = f"the schedule `{rule.cron}`"
    # A time that found nothing new is gone: data that lands later waits for the next one.
    waiting_since = max(facts.since, facts.changed_at or facts.since)
    due = _scheduled(rule.cron, rule.timezone, facts.now, back=True)
    if facts.changed and due and due > waiting_since:
        return Held(True, f"{schedule} asked at {_clock(due, rule)}", scheduled_at=due)
    # Where the clock was set back, what was made later than now is as good as made now.
    upcoming = _scheduled(rule.cron, rule.timezone, max(facts.now, waiting_since))
    when = f"{schedule} asks next at {_clock(upcoming, rule)}" if upcoming else f"{schedule} never asks again"
    return Held(False, when, next_at=upcoming)


def _drift(rule: DriftRule, facts: Facts) -> Held:
    if not facts.changed:
        return Held(False, "nothing new has landed")
    if facts.drift is None:
        return Held(False, "no drift from the champion's data is known beyond what chance makes")
    drifted = facts.drift > rule.above
    word = "exceeds" if drifted else "does not exceed"
    return Held(drifted, f"champion_drift {_figure(facts.drift)} {word} {rule.above:g}")


def _cooled_down(cool_down: timedelta, facts: Facts) -> Held:
    until = facts.since + cool_down
    if facts.now >= until:
        return Held(True, "it has cooled down")
    late = " (the clock was set back since)" if facts.since > facts.now else ""
    return Held(
        False, f"it was made at {_utc(facts.since)}{late} and cools down until {_utc(until)}", next_at=until
    )


def _below_cap(most: int, facts: Facts) -> Held:
    recent = sorted(run for run in facts.runs if run > facts.now - DAY)
    if len(recent) < most:
        return Held(True, f"it was made {len(recent)} of at most {most} times within 24 hours")
    free = recent[-most] + DAY
    times = "once" if len(recent) == 1 else f"{len(recent)} times"
    return Held(
        False,
        f"it was made {times} within 24 hours (most_per_day {most}) and may be again at {_utc(free)}",
        next_at=free,
    )


@lru_cache(maxsize=256)
def _scheduled(cron: str, timezone: str, moment: datetime, back: bool = False) -> datetime | None:
    """Return the first scheduled time after a moment, or, looking back, the newest that is not after it."""
    zone, found = ZoneInfo(timezone), None
    starred = any(field.startswith("*") for field in cron.split()[:2])
    sign = -1 if back else 1
    # The clock on the wall says some hours twice, so by its order moments are in theirs only to within a shift.
    for wall in CronSim(cron, _on_the_wall(moment, zone) - sign * _LARGEST_SHIFT, reverse=back):
        if found and sign * (wall - _on_the_wall(found, zone)) > _LARGEST_SHIFT:
            break
        for one in _moments(wall, zone, starred):
            if (one <= moment) if back else (one > moment):
                found = one if found is None else max(found, one) if back else min(found, one)
    return found


def _moments(wall: datetime, zone: ZoneInfo, starred: bool) -> tuple[datetime, ...]:
    """Return when the clock on the wall says this and a schedule asks: what Debian's cron does when clocks change.

    A schedule with a star for its minute or hour goes by the clock: never at a time that is left out, twice at one that
    comes twice. Any other asks once a day all the same: at the change, or at the first of the two.
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if _on_the_wall(first, zone) == wall:
        return (first, second) if starred and first != second else (first,)
    if starred:
        return ()
    while _on_the_wall(first, zone) != wall:
        wall += timedelta(minutes=1)
        first = wall.replace(tzinfo=zone).astimezone(UTC)
    return (first,)


def _on_the_wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _clock(moment: datetime, rule: CronRule) -> str:
    return f"{moment.astimezone(ZoneInfo(rule.timezone)):%a %Y-%m-%d %H:%M} {rule.timezone}"


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _figure(value: float) -> str:
    return f"{value:.3g}"
