"""Work that was sent back: which version, by whom, and what its next attempt does differently.

Nothing is remembered but Things and verdicts: a rejection or a blocking verdict says what is sent back, and the next
attempt names it as what it is based on. So whoever looks finds the same, and a kill at any moment loses nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlassets.projects import ProjectSpec
from mlassets.steps import (
    AGGREGATE,
    CODE_VERSIONS,
    DRAW_DATA,
    MODEL,
    MODEL_READY,
    REVIEW,
    SEGMENT_STEPS,
    SOURCES,
    step_hash,
)
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition, Thing

_ABOVE = {DRAW_DATA: SOURCES, MODEL_READY: DRAW_DATA, MODEL: MODEL_READY, AGGREGATE: MODEL}

RULES = "rules"
VERDICT = "verdict"
REWORK = "rework"


@dataclass(frozen=True)
class SentBack:
    """A version that was not accepted.

    Attributes:
        thing: The version.
        by: `rules`, `verdict`, or the reviewer.
        cause: Id of the review that rejected it, or of the Thing whose verdict blocks.
        reason: Why, for a person.
    """

    thing: Thing
    by: str
    cause: str
    reason: str

    def may_try_again(self, spec: ProjectSpec) -> bool:
        """Say whether another attempt is made by itself; what a person sends back always gets one."""
        return self.by not in (RULES, VERDICT) or attempt_of(self.thing) <= spec.rework.limit


@dataclass(frozen=True)
class Attempt:
    """One attempt at a step.

    Attributes:
        number: 1 for the first.
        left_out: Candidates that earlier attempts at `model` came to, and that were sent back.
        search: By how much the search at `model` is wider than the spec says.
        sent_back: The version that this attempt answers; None if it answers none.
    """

    number: int = 1
    left_out: tuple[str, ...] = ()
    search: int = 1
    sent_back: SentBack | None = None

    @property
    def based_on(self) -> tuple[str, ...]:
        """Id of what sent the work back: whatever the attempt makes is based on it."""
        return (self.sent_back.cause,) if self.sent_back else ()

    def as_parameters(self) -> dict[str, Any]:
        """Return what a Thing's parameters say of its attempt: nothing at the first."""
        if self.number == 1:
            return {}
        found: dict[str, Any] = {
            "attempt": self.number,
            "left_out": list(self.left_out),
            "search": self.search,
        }
        if self.sent_back:
            found |= {"by": self.sent_back.by, "cause": self.sent_back.cause, "reason": self.sent_back.reason}
        return {REWORK: found}


def attempt_of(thing: Thing) -> int:
    """Return which attempt at its step a version was."""
    return int(thing.parameters.get(REWORK, {}).get("attempt", 1))


def loops_of(store: Store, aggregate: Thing) -> int:
    """Return how many further attempts the work under an aggregate has taken: of all its parts, the most.

    An attempt that came out the same counts too, although the aggregate was not made again for it.
    """
    parts = [aggregate]
    for model in map(store.get, aggregate.parameters.get("models", {}).values()):
        parts += _made_from(store, model)
    newest = [store.latest(one.step, one.partition) for one in parts]
    same = [
        one for one, part in zip(newest, parts, strict=True) if one and one.data_version == part.data_version
    ]
    return max(attempt_of(thing) for thing in (*parts, *same)) - 1


def sent_back(
    spec: ProjectSpec, reader: Store | Snapshot, step: str, partition: Partition
) -> SentBack | None:
    """Say whether the newest version of a step was sent back and not been made anew since."""
    newest = reader.latest(step, partition)
    if newest is None:
        return None
    return _by_verdict(spec, reader, newest) or _by_review(reader, newest)


def next_attempt(spec: ProjectSpec, store: Store, step: str, partition: Partition) -> Attempt:
    """Return which attempt it would be to run a step now, and what it does differently.

    A version that was not sent back is made again as the attempt that it was. New input, another spec or other code
    begin anew.
    """
    newest = store.latest(step, partition)
    if newest is None or not _same_base(spec, store, newest):
        return Attempt()
    before = newest.parameters.get(REWORK, {})
    left_out, search = tuple(before.get("left_out", ())), int(before.get("search", 1))
    found = sent_back(spec, store, step, partition)
    if found is None:
        return Attempt(attempt_of(newest), left_out, search)
    number = attempt_of(newest) + 1
    if step != MODEL:
        return Attempt(number, sent_back=found)
    tries = spec.rework.tries
    what = tries[(number - 2) % len(tries)]
    candidate = newest.parameters["candidate"]
    # That the trivial baseline would be accepted where a model was not, nobody needs to try.
    others = [name for name in spec.model.candidates if name not in (*left_out, candidate, "baseline")]
    if what == "next_candidate" and others:
        left_out = (*left_out, candidate)
    else:
        search *= 2
    return Attempt(number, left_out, search, found)


def _by_verdict(spec: ProjectSpec, reader: Store | Snapshot, newest: Thing) -> SentBack | None:
    claims = [claim for claim, step in spec.rework.verdicts.items() if step == newest.step]
    if not claims:
        return None
    for judged in _made_of(reader, newest):
        for verdict in reader.blocking(judged.id):
            if verdict.claim in claims:
                where = f"{verdict.claim} failed for {judged.step} of {judged.partition.key}"
                return SentBack(newest, VERDICT, judged.id, f"{where}: {verdict.message}")
    return None


def _by_review(reader: Store | Snapshot, newest: Thing) -> SentBack | None:
    project = Partition.project(newest.partition["project"])
    review = reader.latest(REVIEW, project)
    if review is None or review.parameters["decision"] != "reject":
        return None
    decided = review.parameters
    if decided.get("send_back_to") != newest.step or "aggregate" not in decided:
        return None
    segment = newest.partition.get("segment")
    if segment and decided.get("segments") and segment not in decided["segments"]:
        return None
    aggregate, now = reader.get(decided["aggregate"]), reader.latest(AGGREGATE, project)
    if now is None or now.data_version != aggregate.data_version:
        return None
    rejected = _part_of(reader, aggregate, newest.step, segment)
    if rejected is None or rejected.data_version != newest.data_version:
        return None
    answers = newest.parameters.get(REWORK, {}).get("cause") == review.id
    if answers and decided["decided_by"] != RULES:
        return None
    reason = f"sent back by {decided['decided_by']}: {decided['comment']}"
    return SentBack(newest, str(decided["decided_by"]), review.id, reason)


def _made_of(reader: Store | Snapshot, thing: Thing) -> Iterator[Thing]:
    """Yield a version, and of the steps below it the newest versions that hold what it holds."""
    yield thing
    if thing.step not in SEGMENT_STEPS:
        return
    for step in SEGMENT_STEPS[SEGMENT_STEPS.index(thing.step) + 1 :]:
        made = reader.latest(step, thing.partition)
        if made is None:
            return
        if any(one.data_version == thing.data_version for one in _made_from(reader, made, thing.step)):
            yield made
    aggregate = reader.latest(AGGREGATE, Partition.project(thing.partition["project"]))
    if aggregate is not None:
        part = _part_of(reader, aggregate, thing.step, thing.partition["segment"])
        if part is not None and part.data_version == thing.data_version:
            yield aggregate


def _made_from(reader: Store | Snapshot, thing: Thing, step: str = "") -> list[Thing]:
    """Return a segment's version and what it was made from within the segment, or what of that is of one step."""
    found = [thing]
    for one in found:
        found += [
            other
            for other in map(reader.get, one.based_on)
            if other.partition == thing.partition and _place(other.step) < _place(one.step)
        ]
    return [one for one in found if step in ("", one.step)]


def _part_of(reader: Store | Snapshot, aggregate: Thing, step: str, segment: str | None) -> Thing | None:
    """Return the version of a step that an aggregate was made from; None if there is none."""
    if segment is None:
        return aggregate
    model = aggregate.parameters.get("models", {}).get(segment)
    parts = _made_from(reader, reader.get(model), step) if model else []
    return parts[0] if parts else None


def _place(step: str) -> int:
    return SEGMENT_STEPS.index(step) if step in SEGMENT_STEPS else -1


def _same_base(spec: ProjectSpec, store: Store, newest: Thing) -> bool:
    """Say whether a step has still what its newest version was made from."""
    if newest.code_version != CODE_VERSIONS[newest.step] or newest.spec_hash != step_hash(spec, newest.step):
        return False
    above = [one for one in map(store.get, newest.based_on) if one.step == _ABOVE[newest.step]]
    now = [store.latest(one.step, one.partition) for one in above]
    return all(
        one is not None and one.data_version == old.data_version for one, old in zip(now, above, strict=True)
    )
