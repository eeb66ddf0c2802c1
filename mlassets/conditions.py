"""When Dagster runs a step by itself: its inputs' content changed, is whole, and nothing blocks it.

Dagster's own `eager()` differs in two ways that matter here. It fires on every materialization, also one
with the same content; this condition fires on a changed data version, which is what stops work early. And it
does not look at blocking checks. What is a decision of the project's (to draw, to train, to aggregate) is left to
the planner: see `mlassets.automation`.
"""

from typing import cast

import dagster as dg

_AC = dg.AutomationCondition
_Condition = dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]

_blocked = _AC.any_deps_match(_AC.any_checks_match(_AC.check_failed(), blocking_only=True)).with_label(
    "blocked by a verdict"
)
_judging = _AC.any_checks_match(_AC.in_progress(), blocking_only=True)
# Also of the step itself: a run that made input and step in one go may be nearly over, and not yet known as a whole.
_being_judged = cast(
    "_Condition", (_AC.any_deps_match(_judging) | _judging).with_label("verdicts are underway")
)
_input_changed = _AC.any_deps_match(_AC.data_version_changed() | _AC.will_be_requested()).with_label(
    "an input changed"
)


_work_underway = _AC.any_deps_match(_AC.in_progress()).with_label("work underway upstream")

ON_NEW_INPUT: _Condition = (
    (_AC.newly_missing() | _input_changed).since_last_handled()
    & ~_AC.any_deps_match(_AC.missing() & ~_AC.will_be_requested())
    & ~_work_underway
    & ~_being_judged
    & ~_blocked
    & ~_AC.in_progress()
).with_label("on_new_input")
"""Every input exists, at least one has new content, none is blocked or being made."""
