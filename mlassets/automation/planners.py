"""What is due, what is not, and why: decided from specs and the store alone, without Dagster.

The sensors and `mlassets run` act on the same decisions. A decision compares what a step's newest Thing was
made from (the content of its inputs, its part of the spec, its code version) with what is there now; there is
no cursor to lose, and asking twice changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from blake3 import blake3

from mlassets.projects import ProjectSpec
from mlassets.segments import segments_of
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
    draw_reads,
    step_hash,
)
from resources.things import Partition, Store, Thing

State = Literal["due", "current", "waiting", "blocked"]
Cause = Literal["missing", "input", "spec", "code", "segments", "checks", "limits", ""]


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
            code version or the project's segments changed, its checks never ended (`checks`), or the spec moved their
            limits (`limits`); empty if it is not due.
        identity: Equal for equal work: run keys are made from it, so that no work is asked for twice.
    """

    step: str
    partition: Partition
    state: State
    reason: str
    cause: Cause = ""
    identity: str = ""


def decide(specs: Mapping[str, ProjectSpec], store: Store) -> Iterator[Decision]:
    """Decide on every step of every partition of the given projects, upstream first.

    Args:
        specs: Specs by project.
        store: The store.
    """
    for spec in specs.values():
        names = segments_of(spec, store)
        if names is None:
            yield Decision(
                DRAW_DATA,
                Partition.project(spec.project),
                "waiting",
                f"no data has landed that names its segments ({spec.segments.column})",
            )
            continue
        planner = _Planner(spec, store)
        below: list[Decision] = []
        for name in names:
            below += planner.segment(Partition.segment(spec.project, name))
        yield from below
        yield from planner.project(Partition.project(spec.project), names, below)


def run_together(decision: Decision) -> tuple[str, ...]:
    """Return the steps that run in one go with a due one: those that would follow anyway.

    A draw that was made before runs alone, because it may turn out to be the same.
    """
    if decision.cause in JUDGED_AGAIN or (decision.step == DRAW_DATA and decision.cause != "missing"):
        return (decision.step,)
    steps = SEGMENT_STEPS if decision.step in SEGMENT_STEPS else PROJECT_STEPS
    return steps[steps.index(decision.step) :]


class _Planner:
    def __init__(self, spec: ProjectSpec, store: Store) -> None:
        self._spec, self._store = spec, store

    def segment(self, partition: Partition) -> Iterator[Decision]:
        draw = self._draw(partition)
        yield draw
        ready = self._step(MODEL_READY, partition, [(DRAW_DATA, partition)], upstream=[draw])
        yield ready
        yield self._step(MODEL, partition, [(MODEL_READY, partition)], upstream=[ready])

    def project(
        self, partition: Partition, names: list[str], below: Sequence[Decision]
    ) -> Iterator[Decision]:
        # What was made under another spec or by other code must not be released under this one.
        outdated = [one for one in below if one.state == "due" and one.cause in ("spec", "code", "limits")]
        inputs = [(MODEL, Partition.segment(self._spec.project, name)) for name in names]
        made = [key for key in inputs if self._store.latest(*key) is not None]
        if not made:
            aggregate = Decision(AGGREGATE, partition, "waiting", "no segment has a model yet")
        elif outdated:
            work = f"{outdated[0].step} of {outdated[0].partition.key}"
            aggregate = Decision(AGGREGATE, partition, "waiting", f"waits for {work}: {outdated[0].reason}")
        else:
            aggregate = self._step(AGGREGATE, partition, made)
            newest = self._store.latest(AGGREGATE, partition)
            if aggregate.state == "current" and newest is not None:
                expected = newest.parameters["coverage"]["expected"]
                if expected != sorted(names):
                    aggregate = self._due(
                        AGGREGATE, partition, "segments", f"segments are {names}, were {expected}", also=names
                    )
        yield aggregate
        review = self._step(REVIEW, partition, [(AGGREGATE, partition)], upstream=[aggregate])
        yield review
        publish = self._step(PUBLISH, partition, [(REVIEW, partition)], upstream=[review])
        decision = self._store.latest(REVIEW, partition)
        if publish.state == "due" and decision is not None and decision.parameters["decision"] != "approve":
            word = "waits for a reviewer" if decision.parameters["decision"] == "wait" else "did not approve"
            publish = Decision(PUBLISH, partition, "waiting", f"the review {word}")
        yield publish

    def _draw(self, partition: Partition) -> Decision:
        reads = draw_reads(self._spec)
        missing = [name for name in reads if self._store.latest(SOURCES, Partition.source(name)) is None]
        if missing:
            return Decision(DRAW_DATA, partition, "waiting", f"nothing has landed for {', '.join(missing)}")
        decision = self._step(DRAW_DATA, partition, [(SOURCES, Partition.source(name)) for name in reads])
        least = self._spec.retrain.min_new_rows
        newest = self._store.latest(DRAW_DATA, partition)
        if decision.state == "due" and newest is not None and least and decision.cause == "input":
            new = self._new_rows(newest, reads)
            if new < least:
                return Decision(
                    DRAW_DATA, partition, "current", f"{new:,} new rows, fewer than min_new_rows {least:,}"
                )
        return decision

    def _new_rows(self, newest: Thing, reads: list[str]) -> int:
        before = sum(
            int(thing.metrics["rows"])
            for thing in map(self._store.get, newest.based_on)
            if thing.step == SOURCES
        )
        now = sum(int(self._store.require(SOURCES, Partition.source(name)).metrics["rows"]) for name in reads)
        return now - before

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
            thing = self._store.latest(input_step, input_partition)
            if thing is None:
                return Decision(step, partition, "waiting", f"{input_partition.key} has no {input_step} yet")
            verdicts = self._store.verdicts(thing.id)
            if not verdicts and input_step != SOURCES:
                return Decision(
                    step, partition, "waiting", f"{input_step} of {input_partition.key} is not judged yet"
                )
            blocking = [verdict for verdict in verdicts if verdict.blocks]
            if blocking:
                return Decision(
                    step,
                    partition,
                    "blocked",
                    f"{blocking[0].claim} failed for {input_step} of {input_partition.key}: {blocking[0].message}",
                )
            read.append(thing)
        newest = self._store.latest(step, partition)
        cause, reason = self._why(step, newest, read)
        if cause:
            return self._due(step, partition, cause, reason, read)
        judged = self._store.verdicts(newest.id) if newest is not None else []
        if not judged:
            return self._due(step, partition, "checks", "its checks never ended", read)
        limits = self._spec.hash_of("checks")
        if any(verdict.details.get(LIMITS, limits) != limits for verdict in judged):
            return self._due(step, partition, "limits", "the spec's checks changed", read, also=[limits])
        return Decision(step, partition, "current", f"{_named(read)} unchanged")

    def _why(self, step: str, newest: Thing | None, read: list[Thing]) -> tuple[Cause, str]:
        if newest is None:
            return "missing", "never made"
        if newest.code_version != CODE_VERSIONS[step]:
            return "code", f"code version changed from {newest.code_version} to {CODE_VERSIONS[step]}"
        if newest.spec_hash != step_hash(self._spec, step):
            return "spec", f"the spec changed in what concerns {step}"
        based_on = set(newest.based_on)
        if all(thing.id in based_on for thing in read):
            return "", ""
        seen = {_content(thing) for thing in map(self._store.get, newest.based_on)}
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
        newest = self._store.latest(step, partition)
        parts = [
            step,
            partition.key,
            newest.id if newest else "",
            CODE_VERSIONS[step],
            step_hash(self._spec, step),
            *(thing.id for thing in read),
            *also,
        ]
        identity = str(blake3("\n".join(parts).encode()).hexdigest()[:24])
        return Decision(step, partition, "due", reason, cause, identity)


def _content(thing: Thing) -> tuple[str, Partition, str]:
    return thing.step, thing.partition, thing.data_version


def _named(things: list[Thing]) -> str:
    if not things:
        return "its input"
    names = [thing.partition.key if thing.step == SOURCES else thing.step for thing in things]
    return ", ".join(dict.fromkeys(names))
