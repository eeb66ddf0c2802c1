"""Rules of `retrain` as tables: facts and rule -> whether it holds, and the words that say why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.automation.retraining import DRIFT_CLAIM, Facts, Held, drift_of, held, uses_drift
from mlassets.projects import RetrainSpec
from mlassets.quality.checks import CHECKS
from resources.verdicts import Verdict

NOW = datetime(2026, 2, 4, 12, tzinfo=UTC)  # a Wednesday
MONDAYS: dict[str, Any] = {"on": "cron", "cron": "0 6 * * 1", "timezone": "Europe/Berlin"}
ROWS: dict[str, Any] = {"on": "new_data", "min_new_rows": 500}
SHARE: dict[str, Any] = {"on": "new_data", "min_new_share": 0.05}
DRIFT: dict[str, Any] = {"on": "drift", "above": 0.2}


def asked(rule: dict[str, Any], **facts: Any) -> Held:
    known = {"now": NOW, "since": NOW - timedelta(days=1)} | facts
    return held(RetrainSpec.model_validate(rule), Facts(**known))


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("rule", "facts", "holds", "text"),
    [
        ({}, {"new_rows": 0}, True, "new data has landed"),
        ({}, {"new_rows": -40}, True, "new data has landed"),
        ({}, {"changed": False}, False, "nothing new has landed"),
        (ROWS, {"new_rows": 499}, False, "499 new rows are fewer than min_new_rows 500"),
        (ROWS, {"new_rows": 500}, True, "500 new rows reach min_new_rows 500"),
        (ROWS, {"new_rows": -1_200}, False, "-1,200 new rows are fewer than min_new_rows 500"),
        (ROWS, {"new_rows": 900, "changed": False}, False, "nothing new has landed"),
        (
            SHARE,
            {"new_rows": 49, "rows_before": 1_000},
            False,
            "49 new rows are less than min_new_share 5% of the 1,000 before",
        ),
        (SHARE, {"new_rows": 50, "rows_before": 1_000}, True, "50 new rows reach min_new_share 5%"),
        (SHARE, {"new_rows": 1, "rows_before": 0}, True, "1 new rows reach min_new_share 5%"),
        (
            ROWS | SHARE,
            {"new_rows": 600, "rows_before": 100_000},
            False,
            "600 new rows are less than min_new_share 5% of the 100,000 before",
        ),
        (
            ROWS | SHARE,
            {"new_rows": 600, "rows_before": 9_000},
            True,
            "600 new rows reach min_new_rows 500 and min_new_share 5%",
        ),
        (DRIFT, {"drift": 0.2}, False, "champion_drift 0.2 does not exceed 0.2"),
        (DRIFT, {"drift": 0.31}, True, "champion_drift 0.31 exceeds 0.2"),
        (DRIFT, {"drift": 0.31, "changed": False}, False, "nothing new has landed"),
        (
            DRIFT,
            {"drift": None},
            False,
            "no drift from the champion's data is known beyond what chance makes",
        ),
        (
            {"any": [DRIFT, ROWS]},
            {"drift": 0.1, "new_rows": 3},
            False,
            "champion_drift 0.1 does not exceed 0.2; 3 new rows are fewer than min_new_rows 500",
        ),
        ({"any": [DRIFT, ROWS]}, {"drift": 0.3, "new_rows": 3}, True, "champion_drift 0.3 exceeds 0.2"),
        (
            {"any": [DRIFT, ROWS]},
            {"drift": 0.3, "new_rows": 600},
            True,
            "champion_drift 0.3 exceeds 0.2; 600 new rows reach min_new_rows 500",
        ),
        ({"any": [DRIFT, ROWS]}, {"changed": False}, False, "nothing new has landed"),
        (
            {"all": [DRIFT, ROWS]},
            {"drift": 0.3, "new_rows": 3},
            False,
            "3 new rows are fewer than min_new_rows 500",
        ),
        (
            {"all": [DRIFT, ROWS]},
            {"drift": 0.3, "new_rows": 600},
            True,
            "champion_drift 0.3 exceeds 0.2; 600 new rows reach min_new_rows 500",
        ),
        (
            {"all": [{"any": [DRIFT, ROWS]}, SHARE]},
            {"drift": 0.3, "new_rows": 3, "rows_before": 10},
            True,
            "champion_drift 0.3 exceeds 0.2; 3 new rows reach min_new_share 5%",
        ),
    ],
)
def test_a_rule_holds_or_not_and_says_why(
    rule: dict[str, Any], facts: dict[str, Any], holds: bool, text: str
) -> None:
    found = asked(rule, **facts)
    assert (found.holds, found.text, found.next_at) == (holds, text, None)


# --- schedules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "now", "changed_at", "scheduled_at"),
    [
        # The schedule asks on Mondays at 06:00 in Berlin, which is 05:00 UTC in February.
        ("2026-01-30 00:00", "2026-02-02 04:59:59.999999", None, None),
        ("2026-01-30 00:00", "2026-02-02 05:00", None, "2026-02-02 05:00"),
        ("2026-01-30 00:00", "2026-02-04 12:00", None, "2026-02-02 05:00"),
        ("2026-01-01 00:00", "2026-02-04 12:00", None, "2026-02-02 05:00"),
        ("2026-02-02 05:00", "2026-02-04 12:00", None, None),
        ("2026-02-02 05:00:01", "2026-02-09 04:59", None, None),
        ("2026-02-02 05:00:01", "2026-02-09 05:00", None, "2026-02-09 05:00"),
        # Data that lands after a scheduled time waits for the next one.
        ("2026-01-30 00:00", "2026-02-04 12:00", "2026-02-01 10:00", "2026-02-02 05:00"),
        ("2026-01-30 00:00", "2026-02-04 12:00", "2026-02-03 10:00", None),
    ],
)
def test_a_schedule_holds_once_its_time_has_passed_since_the_data_came_and_the_step_was_made(
    since: str, now: str, changed_at: str | None, scheduled_at: str | None
) -> None:
    found = asked(MONDAYS, since=at(since), now=at(now), changed_at=at(changed_at) if changed_at else None)
    assert found.holds is (scheduled_at is not None)
    assert found.scheduled_at == (at(scheduled_at) if scheduled_at else None)
    if found.holds:
        assert found.text.startswith("the schedule `0 6 * * 1` asked at Mon 2026-02-0")
        assert found.text.endswith("06:00 Europe/Berlin")
    else:
        assert found.next_at is not None
        assert found.next_at > at(now)
        assert "the schedule `0 6 * * 1` asks next at Mon 2026-02-" in found.text


def test_a_schedule_with_nothing_new_does_not_hold_and_says_when_it_asks_next() -> None:
    found = asked(MONDAYS, since=at("2026-01-01 00:00"), changed=False)
    assert not found.holds
    assert found.next_at == at("2026-02-09 05:00")
    assert found.text == "the schedule `0 6 * * 1` asks next at Mon 2026-02-09 06:00 Europe/Berlin"


def test_of_several_schedules_the_newest_that_asked_is_told_and_the_soonest_to_come() -> None:
    days = {"on": "cron", "cron": "0 0 * * *"}
    either = asked({"any": [MONDAYS, days]}, since=at("2026-02-01 00:00"))
    assert either.scheduled_at == at("2026-02-04 00:00")
    assert asked({"any": [MONDAYS, days]}, changed=False).next_at == at("2026-02-05 00:00")
    assert asked({"all": [MONDAYS, days]}, changed=False).next_at == at("2026-02-09 05:00")
    assert asked({"all": [MONDAYS, ROWS]}, changed=False).next_at is None, "time alone brings no rows"


@pytest.mark.parametrize(
    ("cron", "zone", "day", "times"),
    [
        # Clocks go forward over the time: it asks as they do, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("15,30 2 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("30 2 * * *", "America/New_York", "2026-03-08", ["07:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02", ["15:45"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03", ["15:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["15:15"]),
        # They go back over it: it asks at the first of the two, once.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:30"]),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["05:30"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04", ["14:45"]),
        # A star goes by the clock: hours that are left out are, and those that come twice count twice.
        ("0 * * * *", "Europe/Berlin", "2026-10-25", [f"{hour:02}:00" for hour in range(24)]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", []),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:00", "00:30", "01:00", "01:30"]),
        ("30 */12 * * *", "America/St_Johns", "2026-11-01", ["03:00", "16:00"]),
        # Half hours away from UTC, and where midnight is left out.
        ("0 6 * * *", "Asia/Kolkata", "2026-03-29", ["00:30"]),
        ("0 0 24 4 *", "Africa/Cairo", "2026-04-23", ["22:00"]),
    ],
)
def test_when_clocks_change_a_schedule_does_what_debians_cron_does(
    cron: str, zone: str, day: str, times: list[str]
) -> None:
    rule = {"on": "cron", "cron": cron, "timezone": zone}
    start = at(f"{day} 00:00")
    assert [f"{time:%H:%M}" for time in scheduled(rule, start, start + timedelta(hours=24))] == times


def scheduled(rule: dict[str, Any], start: datetime, end: datetime) -> Iterator[datetime]:
    """Every time that a schedule names, one after the other."""
    start -= timedelta(microseconds=1)
    while (following := asked(rule, now=start, since=start).next_at) and following < end:
        yield following
        start = following


def test_leap_days_come_every_four_years() -> None:
    found = asked(
        {"on": "cron", "cron": "0 0 29 2 *"}, now=at("2096-01-01 00:00"), since=at("2096-01-01 00:00")
    )
    assert found.next_at == at("2096-02-29 00:00")
    after = asked(
        {"on": "cron", "cron": "0 0 29 2 *"}, now=at("2096-03-01 00:00"), since=at("2096-03-01 00:00")
    )
    assert after.next_at == at("2104-02-29 00:00"), "2100 is no leap year"


def test_a_clock_that_was_set_back_starts_nothing_twice() -> None:
    made = at("2026-02-09 05:00:10")
    for rule in (MONDAYS, {**MONDAYS, "cool_down": "1h"}):
        found = asked(rule, since=made, now=at("2026-02-09 04:10"))
        assert not found.holds
        assert found.next_at == at("2026-02-16 05:00")
        assert not asked(rule, since=made, now=at("2026-02-09 05:00:05")).holds
    cooling = asked({"cool_down": "1h"}, since=made, now=at("2026-02-09 04:10"))
    assert not cooling.holds
    assert "the clock was set back since" in cooling.text


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
# Around changes of the clocks in all of them.
DAYS = [datetime(2026, *day, tzinfo=UTC) for day in ((3, 7), (3, 28), (4, 4), (10, 3), (10, 24), (10, 31))]
MINUTES, HOURS = ("0", "15,45", "30", "59", "*/20"), ("*", "*/2", "*/3", "0", "2", "1-3", "23")


def on_the_clock(cron: str, zone: ZoneInfo, start: datetime, minutes: int) -> list[datetime]:
    """The same, told by looking at the clock on the wall every minute."""
    minute, hour = cron.split()[:2]

    def named(field: str, value: int) -> bool:
        if field.startswith("*"):
            return value % int(field.partition("/")[2] or 1) == 0
        if "-" in field:
            first, last = field.split("-")
            return int(first) <= value <= int(last)
        return value in map(int, field.split(","))

    found, said, offset = [], set(), start.astimezone(zone).utcoffset()
    for time in (start + timedelta(minutes=number) for number in range(minutes)):
        wall = time.astimezone(zone)
        walls = [wall.replace(tzinfo=None)]
        if "*" not in (minute[0], hour[0]) and offset is not None and (shift := wall.utcoffset()) != offset:
            # What was left out asks now.
            walls += [
                walls[0] - timedelta(minutes=left)
                for left in range(1, 181)
                if shift - offset >= timedelta(minutes=left)
            ]
        offset = wall.utcoffset()
        asks = [one for one in walls if named(minute, one.minute) and named(hour, one.hour)]
        if "*" not in (minute[0], hour[0]):
            asks = [one for one in asks if one not in said]
            said |= set(asks)
        if asks:
            found.append(time)
    return found


@settings(max_examples=60, deadline=None)
@given(
    minute=st.sampled_from(MINUTES),
    hour=st.sampled_from(HOURS),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(DAYS),
    looks=st.lists(st.integers(0, 60 * 60 * 60), min_size=1, max_size=25, unique=True).map(sorted),
)
def test_a_scheduled_time_holds_exactly_once_whenever_somebody_looks(
    minute: str, hour: str, zone: str, day: datetime, looks: list[int]
) -> None:
    cron = f"{minute} {hour} * * *"
    due = on_the_clock(cron, ZoneInfo(zone), day - timedelta(hours=6), 67 * 60)
    since, answered = day, []
    for seconds in looks:
        now = day + timedelta(seconds=seconds)
        found = asked({"on": "cron", "cron": cron, "timezone": zone}, now=now, since=since)
        missed = [time for time in due if since < time <= now]
        assert found.holds is bool(missed)
        if found.holds:
            assert found.scheduled_at == missed[-1]
            answered += missed
            since = now
    assert answered == [time for time in due if day < time <= since]


# --- any and all -------------------------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.integers(0, 20).map(lambda rows: {"on": "new_data", "min_new_rows": rows}),
    st.sampled_from([0.0, 0.1, 0.5]).map(lambda share: {"on": "new_data", "min_new_share": share}),
    st.sampled_from([0.0, 0.2, 0.6]).map(lambda above: {"on": "drift", "above": above}),
)
RULES = st.recursive(
    LEAVES,
    lambda rules: st.builds(
        lambda word, parts: {word: parts},
        st.sampled_from(["any", "all"]),
        st.lists(rules, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    rule=RULES,
    rows=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    drifts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_more_data_and_more_drift_never_make_a_rule_hold_less(
    rule: dict[str, Any], rows: tuple[int, int], drifts: tuple[float, float]
) -> None:
    less, more = (
        asked(rule, rows_before=20, new_rows=choose(rows), drift=choose(drifts)) for choose in (min, max)
    )
    assert more.holds or not less.holds
    for found in (less, more):
        assert found.holds is told(rule, found)
        assert found.text


def told(rule: dict[str, Any], found: Held) -> bool:
    """Whether a tree holds by what its leaves say."""
    word = next((word for word in ("any", "all") if word in rule), None)
    if word is None:
        return found.holds
    parts = [told(part, one) for part, one in zip(rule[word], found.parts, strict=True)]
    return any(parts) if word == "any" else all(parts)


# --- cool-down and cap -------------------------------------------------------------------------------------------


def test_a_cool_down_ends_on_the_dot() -> None:
    rule = {"cool_down": "6h"}
    end = NOW - timedelta(hours=6)
    assert asked(rule, since=end).holds
    early = asked(rule, since=end + timedelta(microseconds=1))
    assert not early.holds
    assert early.next_at == NOW + timedelta(microseconds=1)
    assert early.text == (
        "it was made at 2026-02-04 06:00 UTC and cools down until 2026-02-04 12:00 UTC (new data has landed)"
    )


def test_a_cap_counts_the_runs_of_any_24_hours() -> None:
    rule = {"most_per_day": 2}
    day = timedelta(days=1)
    gone, first, second = NOW - day, NOW - day + timedelta(microseconds=1), NOW - timedelta(hours=1)
    assert asked(rule, runs=[second]).holds
    assert asked(rule, runs=[gone, second]).holds
    full = asked(rule, runs=[second, first])
    assert not full.holds
    assert full.next_at == NOW + timedelta(microseconds=1)
    assert (
        "it was made 2 times within 24 hours (most_per_day 2) and may be again at 2026-02-04 12:00 UTC"
        in full.text
    )
    over = asked(rule, runs=[first, second, NOW - timedelta(minutes=5)])
    assert over.next_at == second + day, "the two newest of three still count"


def test_what_holds_a_rule_back_counts_only_where_the_rule_holds() -> None:
    limits = {"cool_down": "6h", "most_per_day": 1}
    facts: dict[str, Any] = {"since": NOW - timedelta(hours=1), "runs": [NOW - timedelta(hours=1)]}
    both = asked({**ROWS, **limits}, new_rows=600, **facts)
    assert not both.holds
    assert both.next_at == NOW + timedelta(hours=23), "the later of the two"
    assert "cools down until" in both.text
    assert "most_per_day 1" in both.text
    assert "600 new rows reach min_new_rows 500" in both.text
    neither = asked({**ROWS, **limits}, new_rows=6, **facts)
    assert neither.text == "6 new rows are fewer than min_new_rows 500"
    assert neither.next_at is None
    assert asked({**ROWS, **limits}, new_rows=600).holds


def test_a_schedule_held_back_by_a_cool_down_asks_until_it_is_over() -> None:
    rule = {"on": "cron", "cron": "0 * * * *", "cool_down": "3h"}
    made = at("2026-02-04 08:30")
    late = asked(rule, since=made, now=at("2026-02-04 11:29"))
    assert not late.holds
    assert late.next_at == at("2026-02-04 11:30")
    found = asked(rule, since=made, now=at("2026-02-04 11:30"))
    assert found.holds
    assert found.scheduled_at == at("2026-02-04 11:00")


# --- drift -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "uses"),
    [
        ({}, False),
        (MONDAYS, False),
        (DRIFT, True),
        ({"any": [ROWS, MONDAYS]}, False),
        ({"any": [ROWS, {"all": [MONDAYS, DRIFT]}]}, True),
    ],
)
def test_a_rule_tells_whether_it_needs_the_drift(rule: dict[str, Any], uses: bool) -> None:
    assert uses_drift(RetrainSpec.model_validate(rule)) is uses


@pytest.mark.parametrize(
    ("status", "observed", "details", "drift"),
    [
        ("passed", 0.1, {"chance": 0.03}, 0.1),
        ("failed", 0.4, {"chance": 0.03}, 0.4),
        ("passed", 0.1, {"chance": 0.15}, None),
        ("passed", 0.0, {}, 0.0),
        ("not_applicable", 0.4, {"chance": 0.7}, None),
        ("not_applicable", None, {}, None),
        ("crashed", None, {}, None),
    ],
)
def test_a_drift_that_chance_could_have_made_is_none(
    status: Any, observed: float | None, details: dict[str, float], drift: float | None
) -> None:
    others = Verdict("columns_are_filled", "failed", "WARN", 0.9, "<= 0.5", 10, "", {})
    verdict = Verdict(DRIFT_CLAIM, status, "WARN", observed, "<= 0.2", 10, "", details)
    assert drift_of([others, verdict]) == drift
    assert drift_of([others]) is None


def test_the_drift_that_rules_go_by_is_a_check_on_draws() -> None:
    (entry,) = [entry for entry in CHECKS if entry.claim == DRIFT_CLAIM]
    assert (entry.measure, entry.suite) == ("champion_drift", "integrity")
