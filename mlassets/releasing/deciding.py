"""A person's decision on a version: who may decide, on what, and that of several at once exactly one wins.

A decision is claimed before it is committed. The claim is a small file beside the Thing that it follows: the first
decision on a version follows its aggregate, the next one the review that the first became. Whoever puts the file there
first has decided. The next run of review turns the claim into a Thing, so that a kill in between loses nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlassets.projects import ProjectSpec
from mlassets.rework import RULES
from mlassets.sections import close_matches
from mlassets.steps import AGGREGATE, REVIEW, SOURCES, STEPS
from resources.errors import MlassetsError
from resources.store import Store
from resources.things import DamagedThing, Partition, Thing, new_id

DECIDED = "decided"

Word = Literal["approve", "reject", "wait"]

_SHOWN = 200


class BadDecision(MlassetsError):
    """`aprove` is no decision; write `approve` or `reject`."""


class MayNotDecide(MlassetsError):
    """ben is no reviewer of late-flights; its spec names ana."""


class AlreadyDecided(MlassetsError):
    """ana has approved this version of late-flights at 2026-11-22 09:14 UTC; decide on top of that with --version."""


class NotTheNewest(MlassetsError):
    """What was to be decided on is no longer the newest version; look at the newest one first."""


@dataclass(frozen=True)
class Claim:
    """A person's decision, as it was claimed.

    Attributes:
        token: Equal for the same attempt to decide: a run that is retried finds its own claim.
        thing: Id of the Thing that the decision follows, beside which the claim lies.
        aggregate: Id of the aggregate that is decided on.
        decision: `approve` or `reject`.
        reviewer: Who.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to; empty otherwise.
        segments: The segments that are sent back; empty means all.
        decided_at: When (UTC, ISO).
    """

    token: str
    thing: str
    aggregate: str
    decision: Word
    reviewer: str
    comment: str
    send_back_to: str
    segments: tuple[str, ...]
    decided_at: str


def check_decision(decision: str, reviewer: str, send_back_to: str = "") -> Word:
    """Return a person's decision as one of our words.

    Raises:
        BadDecision: If it is none, has no reviewer, or sends back to an unknown step.
    """
    if decision not in ("approve", "reject"):
        raise BadDecision(f"{decision!r} is no decision; write `approve` or `reject`")
    if not reviewer.strip():
        raise BadDecision("a decision needs the name of its reviewer")
    if reviewer == RULES:
        raise BadDecision(f"{RULES!r} stands for the project's rules; a reviewer needs another name")
    to = [step for step in STEPS if step not in ("review", "publish")]
    if send_back_to and (decision != "reject" or send_back_to not in to):
        raise BadDecision(
            f"only a rejection sends work back, and only to one of {', '.join(to)}; got {send_back_to!r}"
        )
    return "approve" if decision == "approve" else "reject"


def claim_decision(
    store: Store,
    spec: ProjectSpec,
    decision: str,
    *,
    reviewer: str,
    comment: str = "",
    send_back_to: str = "",
    segments: Sequence[str] = (),
    version: str = "",
    token: str = "",
) -> Claim:
    """Claim a decision on the newest version of a project; the next run of review commits it.

    Args:
        store: The store.
        spec: The project.
        decision: `approve` or `reject`.
        reviewer: Who decides.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to.
        segments: The segments that are sent back; empty means all.
        version: What the reviewer looked at: the id of an aggregate or of a review. Empty takes what is newest now.
        token: What a retry of the same attempt gives again; empty makes a new one.

    Raises:
        BadDecision: If the decision is no word of ours, or names a step, segment or version that is not there.
        MayNotDecide: If the spec does not let this reviewer decide on it.
        NotTheNewest: If `version` is not the newest one.
        AlreadyDecided: If somebody was faster.
    """
    word = check_decision(decision, reviewer, send_back_to)
    aggregate = store.require(AGGREGATE, Partition.project(spec.project))
    _refuse_unknown_segments(aggregate, segments, send_back_to)
    if trouble := may_not_decide(store, spec, aggregate, reviewer):
        raise MayNotDecide(trouble)
    before = _decided(store, aggregate)
    mine = next((one for one in before.claims if one.token == token), None)
    if mine is not None:
        return mine
    if version:
        _refuse_other_version(store, spec, version, aggregate, before)
    if before.follows is None:
        raise AlreadyDecided(_already(spec, before.claims[-1]))
    claim = Claim(
        token or new_id(),
        before.follows.id,
        aggregate.id,
        word,
        reviewer,
        comment,
        send_back_to,
        tuple(segments),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    record = store.claim(before.follows.id, DECIDED, json.dumps(asdict(claim)).encode())
    first = _read(record, before.follows)
    if first.token != claim.token:
        raise AlreadyDecided(_already(spec, first))
    return claim


def standing_claim(store: Store, spec: ProjectSpec, aggregate: Thing) -> Claim | None:
    """Return the last decision that a person has made on a version, committed or not; None if nobody has.

    It stands when the version is reviewed again, unless the spec does not let this person decide any more.
    """
    claims = _decided(store, aggregate).claims
    if claims and not may_not_decide(store, spec, aggregate, claims[-1].reviewer):
        return claims[-1]
    return None


def unfinished_claim(store: Store, spec: ProjectSpec) -> Claim | None:
    """Return the decision on a project's newest version that was claimed and not committed, as a kill leaves it.

    A run of review finishes it.
    """
    aggregate = store.latest(AGGREGATE, Partition.project(spec.project))
    claim = standing_claim(store, spec, aggregate) if aggregate is not None else None
    review = store.latest(REVIEW, Partition.project(spec.project))
    if claim is None or (review is not None and review.parameters.get("claim") == claim.token):
        return None
    return claim


@dataclass(frozen=True)
class _Decided:
    """What people have decided on a version.

    Attributes:
        claims: The decisions, in the order in which they were made.
        reviews: The reviews of the version, newest first.
        follows: What the next decision follows; None while the last one is not committed.
    """

    claims: tuple[Claim, ...]
    reviews: tuple[Thing, ...]
    follows: Thing | None


def _decided(store: Store, aggregate: Thing) -> _Decided:
    """Follow the claims on a version from the first to the last."""
    # A new aggregate with the same content is the same version: it is not reviewed again.
    first, same = aggregate, {aggregate.id}
    for one in store.history(AGGREGATE, aggregate.partition):
        if one.id < first.id:
            if one.data_version != aggregate.data_version:
                break
            first = one
            same.add(one.id)
    history = store.history(REVIEW, aggregate.partition)
    reviews = tuple(one for one in history if one.parameters.get("aggregate") in same)
    claims: list[Claim] = []
    follows: Thing | None = first
    while follows is not None and (record := store.claimed(follows.id, DECIDED)) is not None:
        claims.append(_read(record, follows))
        # Of a decision that was committed twice, the next one follows the first review.
        token = claims[-1].token
        follows = next((one for one in reversed(reviews) if one.parameters.get("claim") == token), None)
    return _Decided(tuple(claims), reviews, follows)


def things_below(store: Store, aggregate: Thing) -> list[Thing]:
    """Return an aggregate and all that it was made from, nearest first.

    A model is based on the champion too, which it was compared with. The champion is no part of what is reviewed.
    """
    place = {step: number for number, step in enumerate((SOURCES, *STEPS))}
    things = {aggregate.id: aggregate}
    queue = [aggregate]
    for thing in queue:
        for one in map(store.get, thing.based_on):
            if one.step in place and place[one.step] < place[thing.step] and one.id not in things:
                things[one.id] = one
                queue.append(one)
    return list(things.values())


def may_not_decide(store: Store, spec: ProjectSpec, aggregate: Thing, reviewer: str) -> str:
    """Return why the spec does not let `reviewer` decide on a version; empty if it does."""
    review = spec.review
    if review.reviewers and reviewer not in review.reviewers:
        return f"{reviewer} is no reviewer of {spec.project}; its spec names {', '.join(review.reviewers)}"
    if not review.four_eyes:
        return ""
    if reviewer in spec.authors:
        return f"{reviewer} is an author of {spec.project}, and its spec wants four eyes; somebody else must decide"
    made = [one for one in things_below(store, aggregate) if one.provenance.get("user") == reviewer]
    if made:
        return (
            f"{reviewer} has made {made[0]}, which is up for review, and the spec of {spec.project} wants four "
            "eyes; somebody else must decide"
        )
    return ""


def _read(record: bytes, thing: Thing) -> Claim:
    try:
        found = json.loads(record)
        claim = Claim(**{name: found[name] for name in Claim.__dataclass_fields__})
        return Claim(**{**vars(claim), "segments": tuple(claim.segments)})
    except (ValueError, KeyError, TypeError) as error:
        path = f"{thing.folder}/{DECIDED}.json"
        raise DamagedThing(
            f"{path} cannot be read: {error!r}. Restore it from a backup, or remove it and decide again"
        ) from error


def _refuse_unknown_segments(aggregate: Thing, segments: Sequence[str], send_back_to: str) -> None:
    known = sorted(aggregate.parameters.get("models", {}))
    if segments and (not send_back_to or send_back_to == AGGREGATE):
        raise BadDecision(
            "segments are named to say which are sent back; give --send-back-to with a step that has segments"
        )
    for name in segments:
        if name not in known:
            raise BadDecision(
                f"{aggregate.partition.key} has no segment {name!r}; {close_matches(name, known)}"
            )


def _refuse_other_version(
    store: Store, spec: ProjectSpec, version: str, aggregate: Thing, before: _Decided
) -> None:
    """Refuse a decision on what is not the newest version, or was decided on since it was looked at.

    Raises:
        BadDecision: If it is no version of this project that can be decided on.
        NotTheNewest: If there is a newer one.
        AlreadyDecided: If a person has decided on it since.
    """
    thing = store.get(version)
    if thing.step not in (AGGREGATE, REVIEW) or thing.partition != aggregate.partition:
        raise BadDecision(
            f"--version {version} is {thing}; give the id of an aggregate or a review of {spec.project}"
        )
    of = store.get(thing.parameters["aggregate"]) if thing.step == REVIEW else thing
    if of.data_version != aggregate.data_version:
        raise NotTheNewest(
            f"{thing} is not the newest version of {spec.project} any more: {aggregate} was made at "
            f"{aggregate.created_at:%Y-%m-%d %H:%M} UTC. Nothing was decided; look at its evidence, then decide with "
            f"--version {aggregate.id}"
        )
    seen = thing.parameters.get("claim", "") if thing.step == REVIEW else ""
    if before.claims and before.claims[-1].token != seen:
        newest = before.reviews[0].id if before.follows is not None and before.reviews else ""
        raise AlreadyDecided(_already(spec, before.claims[-1], newest))


def _already(spec: ProjectSpec, claim: Claim, review: str = "") -> str:
    word = "approved" if claim.decision == "approve" else "rejected"
    said = f" ({claim.comment[:_SHOWN]})" if claim.comment else ""
    return (
        f"{claim.reviewer} has {word} this version of {spec.project} at {claim.decided_at}{said}; nothing else was "
        "decided. "
        + (
            f"To decide otherwise on top of that: --version {review}"
            if review
            else "Another decision can follow once this one is committed; if it was interrupted, "
            f"`mlassets run {spec.project}` finishes it"
        )
    )
