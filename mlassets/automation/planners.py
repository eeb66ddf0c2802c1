"""What is due, what is not, and why: decided from specs and the store alone, without Dagster.

The sensors and `mlassets run` act on the same decisions. A decision compares what a step's newest Thing was
made from (the content of its inputs, its part of the spec, its code version) with what is there now; there is
no cursor to lose, and asking twice changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from blake3 import blake3

from mlassets.automation.retraining import DAY, Facts, Held, drift_of, held, uses_drift, uses_schedule
from mlassets.projects import ProjectSpec
from mlassets.rework import RULES, attempt_of, sent_back
from mlassets.segments import segments_of
from mlassets.sources import SourceSpec
from mlassets.steps import (
    AGGREGATE,
    CODE_VERSIONS,
    DRAW_DATA,
    LIMITS,
    MODEL,
    MODEL_READY,
    PROJECT_STEPS,
    PUBLISH,
    REVIEW,
    SEGMENT_STEPS,
    SOURCES,
    STEPS,
    draw_reads,
    limits_hash,
    look_at,
    source_limits_hash,
    step_hash,
)
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition, Thing

State = Literal["due", "current", "waiting", "blocked"]
Cause = Literal["missing", "input", "spec", "code", "segments", "checks", "limits", "rework", ""]

# What was made under another spec, by other code, under other limits, or was sent back.
_NOT_TO_BE_RELEASED: tuple[Cause, ...] = ("spec", "code", "limits", "rework")

JUDGED_AGAIN: tuple[Cause, ...] = ("checks", "limits")
"""Causes that ask for nothing but new verdicts on what is there."""


@dataclass(frozen=True)
class Decision:
    """Whether one step is due for one partition.

    Attributes:
        step: The step.
        partition: The partition.
        state: `due`: it should run; `current`: nothing it depends on has changed; `waiting`: an input is not there
            yet; `blocked`: a verdict stops it.
        reason: Why, for a person.
        cause: What kind of change makes it due: nothing was made yet, an input has new content, the spec, the
            code version or the project's segments changed, its checks never ended (`checks`), the spec moved their
            limits (`limits`), or it was sent back (`rework`). Empty if it is not due, but for what was sent back once
            more than may be tried.
        identity: Equal for equal work: run keys are made from it, so that no work is asked for twice.
        rule: What the project's `retrain` says, where it was asked.
    """

    step: str
    partition: Partition
    state: State
    reason: str
    cause: Cause = ""
    identity: str = ""
    rule: Held | None = None


def decide(
    specs: Mapping[str, ProjectSpec], seen: Store | Snapshot, now: datetime | None = None
) -> Iterator[Decision]:
    """Decide on every step of every partition of the given projects, upstream first.

    Args:
        specs: Specs by project.
        seen: The store, or a look at it.
        now: The time, for rules that go by it; by default that of the clock.
    """
    seen = look_at(seen) if isinstance(seen, Store) else seen
    for spec in specs.values():
        names = segments_of(spec, seen)
        if names is None:
            yield Decision(
                DRAW_DATA,
                Partition.project(spec.project),
                "waiting",
                f"no data has landed that names its segments ({spec.segments.column})",
            )
            continue
        planner = _Planner(spec, seen, now or datetime.now(UTC))
        below: list[Decision] = []
        for name in names:
            below += planner.segment(Partition.segment(spec.project, name))
        yield from below
        yield from planner.project(Partition.project(spec.project), names, below)


def sources_to_judge(specs: Mapping[str, SourceSpec], seen: Snapshot) -> Iterator[Decision]:
    """Decide on the sources whose newest version was judged by other expectations than their specs have now.

    Args:
        specs: Specs by source.
        seen: What there is, as it was at one moment.
    """
    # Verdicts of before there were expectations say nothing of any.
    nothing = source_limits_hash(SourceSpec())
    for name, spec in specs.items():
        partition = Partition.source(name)
        newest = seen.latest(SOURCES, partition)
        judged = seen.judged(newest.id) if newest is not None else None
        if newest is None or judged is None:
            continue
        limits = source_limits_hash(spec)
        if any(mark.get(LIMITS, nothing) != limits for mark in judged.marks):
            identity = str(blake3("\n".join((SOURCES, name, newest.id, limits)).encode()).hexdigest()[:24])
            yield Decision(SOURCES, partition, "due", "what is expected of it changed", "limits", identity)


def run_together(decision: Decision) -> tuple[str, ...]:
    """Return the steps that run in one go with a due one: those that would follow anyway.

    A draw that was made before runs alone, because it may turn out to be the same; so does what is made again as it is
    because it was sent back.
    """
    may_be_the_same = (decision.step == DRAW_DATA and decision.cause != "missing") or (
        decision.step == MODEL_READY and decision.cause == "rework"
    )
    if decision.cause in JUDGED_AGAIN or may_be_the_same:
        return (decision.step,)
    steps = SEGMENT_STEPS if decision.step in SEGMENT_STEPS else PROJECT_STEPS
    return steps[steps.index(decision.step) :]


class _Planner:
    def __init__(self, spec: ProjectSpec, seen: Snapshot, now: datetime) -> None:
        self._spec, self._seen, self._now = spec, seen, now
        self._hashes = {step: step_hash(spec, step) for step in STEPS}
        self._limits = dict.fromkeys(STEPS, limits_hash(spec, MODEL)) | {
            DRAW_DATA: limits_hash(spec, DRAW_DATA)
        }
        self._reads = draw_reads(spec)
        self._draws_freely, self._scheduled = uses_drift(spec.retrain), uses_schedule(spec.retrain)

    def segment(self, partition: Partition) -> Iterator[Decision]:
        draw = self._draw(partition)
        yield draw
        ready = self._step(MODEL_READY, partition, [(DRAW_DATA, partition)], upstream=[draw])
        if self._draws_freely:
            ready = self._gated(ready)
        yield ready
        yield self._step(MODEL, partition, [(MODEL_READY, partition)], upstream=[ready])

    def project(
        self, partition: Partition, names: list[str], below: Sequence[Decision]
    ) -> Iterator[Decision]:
        outdated = [one for one in below if one.state == "due" and one.cause in _NOT_TO_BE_RELEASED]
        inputs = [(MODEL, Partition.segment(self._spec.project, name)) for name in names]
        made = [key for key in inputs if self._seen.latest(*key) is not None]
        if not made:
            aggregate = Decision(AGGREGATE, partition, "waiting", "no segment has a model yet")
        elif outdated:
            work = f"{outdated[0].step} of {outdated[0].partition.key}"
            aggregate = Decision(AGGREGATE, partition, "waiting", f"waits for {work}: {outdated[0].reason}")
        else:
            aggregate = self._step(AGGREGATE, partition, made)
            newest = self._seen.latest(AGGREGATE, partition)
            if aggregate.state == "current" and newest is not None:
                expected = newest.parameters["coverage"]["expected"]
                if expected != sorted(names):
                    aggregate = self._due(
                        AGGREGATE, partition, "segments", f"segments are {names}, were {expected}", also=names
                    )
        yield aggregate
        review = self._step(REVIEW, partition, [(AGGREGATE, partition)], upstream=[aggregate])
        if review.state == "current":
            review = self._handed_over(review, [*below, aggregate])
        yield review
        publish = self._step(PUBLISH, partition, [(REVIEW, partition)], upstream=[review])
        decision = self._seen.latest(REVIEW, partition)
        if publish.state == "due" and decision is not None and decision.parameters["decision"] != "approve":
            publish = Decision(PUBLISH, partition, "waiting", _why_not_released(decision))
        yield publish

    def _handed_over(self, review: Decision, below: Sequence[Decision]) -> Decision:
        """Have the rules' rejection end in the wait for a person, once the last attempt has come back the same."""
        newest = self._seen.latest(REVIEW, review.partition)
        states = {one.state for one in below if one.cause == "rework"}
        if newest is None or states != {"waiting"}:
            return review
        if (newest.parameters["decision"], newest.parameters.get("decided_by")) != ("reject", RULES):
            return review
        reason = "the rework limit is reached: a person is asked"
        return self._due(REVIEW, review.partition, "rework", reason, also=[newest.id])

    def _draw(self, partition: Partition) -> Decision:
        reads = self._reads
        missing = [name for name in reads if self._seen.latest(SOURCES, Partition.source(name)) is None]
        if missing:
            return Decision(DRAW_DATA, partition, "waiting", f"nothing has landed for {', '.join(missing)}")
        decision = self._step(DRAW_DATA, partition, [(SOURCES, Partition.source(name)) for name in reads])
        return decision if self._draws_freely else self._gated(decision)

    def _gated(self, decision: Decision) -> Decision:
        """Hold new input back until the project's `retrain` lets it through."""
        if decision.state == "current":
            rule = self._held(decision.step, decision.partition, changed=False)
            return replace(decision, rule=rule)
        if decision.cause != "input":
            return decision
        rule = self._held(decision.step, decision.partition, changed=True)
        if not rule.holds:
            return Decision(
                decision.step, decision.partition, "current", f"{decision.reason}, but {rule.text}", rule=rule
            )
        # What a schedule asks for is other work each time, so that a failed run does not stand for all later ones.
        identity = (
            f"{decision.identity}@{rule.scheduled_at:%Y%m%dT%H%M}" if rule.scheduled_at else decision.identity
        )
        return replace(decision, reason=f"{decision.reason}; {rule.text}", identity=identity, rule=rule)

    def _held(self, step: str, partition: Partition, *, changed: bool) -> Held:
        newest = self._seen.latest(step, partition)
        assert newest is not None, "what was never made is not held back"
        if not changed:
            return held(self._spec.retrain, Facts(self._now, newest.created_at, changed=False))
        reads = [(SOURCES, Partition.source(name)) for name in self._reads]
        reads = reads if step == DRAW_DATA else [(DRAW_DATA, partition)]
        now = [thing for read in reads if (thing := self._seen.latest(*read)) is not None]
        before = [thing for thing in map(self._seen.get, newest.based_on) if thing.step == reads[0][0]]
        later = [
            time
            for read in (reads if self._scheduled else [])
            for time in self._seen.made_since(*read, newest.created_at)
        ]
        day = self._now - DAY
        rows_before = sum(map(_rows, before))
        return held(
            self._spec.retrain,
            Facts(
                now=self._now,
                since=newest.created_at,
                new_rows=sum(map(_rows, now)) - rows_before,
                rows_before=rows_before,
                drift=drift_of(self._seen.verdicts(now[0].id)) if step != DRAW_DATA else None,
                runs=self._seen.made_since(step, partition, day) if self._spec.retrain.most_per_day else [],
                changed_at=min(later, default=None),
            ),
        )

    def _step(
        self,
        step: str,
        partition: Partition,
        inputs: list[tuple[str, Partition]],
        upstream: list[Decision] | None = None,
    ) -> Decision:
        held_up = [decision for decision in upstream or [] if decision.state != "current"]
        if held_up:
            return Decision(step, partition, "waiting", f"waits for {held_up[0].step}")
        read: list[Thing] = []
        for input_step, input_partition in inputs:
            thing = self._seen.latest(input_step, input_partition)
            if thing is None:
                return Decision(step, partition, "waiting", f"{input_partition.key} has no {input_step} yet")
            judged = self._seen.judged(thing.id)
            if judged is None and input_step != SOURCES:
                return Decision(
                    step, partition, "waiting", f"{input_step} of {input_partition.key} is not judged yet"
                )
            if judged is not None and judged.blocking:
                first = judged.blocking[0]
                return Decision(
                    step,
                    partition,
                    "blocked",
                    f"{first.claim} failed for {input_step} of {input_partition.key}: {first.message}",
                )
            read.append(thing)
        newest = self._seen.latest(step, partition)
        cause, reason = self._why(step, newest, read)
        if cause:
            return self._due(step, partition, cause, reason, read)
        own = self._seen.judged(newest.id) if newest is not None else None
        if own is None:
            return self._due(step, partition, "checks", "its checks never ended", read)
        limits = self._limits[step]
        if any(mark.get(LIMITS, limits) != limits for mark in own.marks):
            return self._due(step, partition, "limits", "the spec's checks changed", read, also=[limits])
        return self._reworked(step, partition, read)

    def _reworked(self, step: str, partition: Partition, read: list[Thing]) -> Decision:
        """Decide on a step whose newest version is what its inputs, spec and code make: was it sent back?"""
        found = sent_back(self._spec, self._seen, step, partition)
        if found is None:
            return Decision(step, partition, "current", f"{_named(read)} unchanged")
        if found.may_try_again(self._spec):
            return self._due(step, partition, "rework", found.reason, read, also=[found.cause])
        made = attempt_of(found.thing)
        return Decision(
            step,
            partition,
            "waiting",
            f"{found.reason}; {made} attempts were made, the rework limit: a person has to decide",
            "rework",
        )

    def _why(self, step: str, newest: Thing | None, read: list[Thing]) -> tuple[Cause, str]:
        if newest is None:
            return "missing", "never made"
        if newest.code_version != CODE_VERSIONS[step]:
            return "code", f"code version changed from {newest.code_version} to {CODE_VERSIONS[step]}"
        if newest.spec_hash != self._hashes[step]:
            return "spec", f"the spec changed in what concerns {step}"
        based_on = set(newest.based_on)
        if all(thing.id in based_on for thing in read):
            return "", ""
        seen = {_content(thing) for thing in map(self._seen.get, newest.based_on)}
        changed = [thing for thing in read if _content(thing) not in seen]
        return ("input", f"{_named(changed)} has new content") if changed else ("", "")

    def _due(
        self,
        step: str,
        partition: Partition,
        cause: Cause,
        reason: str,
        read: Sequence[Thing] = (),
        also: Sequence[str] = (),
    ) -> Decision:
        newest = self._seen.latest(step, partition)
        parts = [
            step,
            partition.key,
            newest.id if newest else "",
            CODE_VERSIONS[step],
            self._hashes[step],
            *(thing.id for thing in read),
            *also,
        ]
        identity = str(blake3("\n".join(parts).encode()).hexdigest()[:24])
        return Decision(step, partition, "due", reason, cause, identity)


def _content(thing: Thing) -> tuple[str, Partition, str]:
    return thing.step, thing.partition, thing.data_version


def _rows(thing: Thing) -> int:
    return int(thing.metrics["rows"]) if thing.step == SOURCES else (thing.rows or 0)


def _named(things: list[Thing]) -> str:
    if not things:
        return "its input"
    names = [thing.partition.key if thing.step == SOURCES else thing.step for thing in things]
    return ", ".join(dict.fromkeys(names))


def _why_not_released(review: Thing) -> str:
    decided = review.parameters
    if decided["decision"] == "wait":
        why = str(decided.get("comment", "")).removeprefix("waits for a reviewer")
        return f"the review waits for a reviewer{': ' if why else ''}{why}"
    back = decided.get("send_back_to")
    if not back:
        return "the review did not approve"
    return (
        f"the review sent the work back to {back}; what came back is the same, so a person has to change "
        "something (the spec, the data) or to decide again"
    )
