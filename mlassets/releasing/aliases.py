"""Who is champion, who is challenger, and what a person changes about it: roll back, promote.

Both are releases of their own. They point at the files of the release that they bring back, so that nothing is copied
or made anew, and say who did it and why; history is only ever added to.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlassets.projects import ProjectSpec
from mlassets.releasing.release import Release, challenger_of, champion_of, make_release
from mlassets.steps import CODE_VERSIONS, PUBLISH, REVIEW, step_hash
from resources.errors import MlassetsError
from resources.releases import ALIAS, CHAMPION, RELEASE_OF, alias_of, root_of
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, Thing

PUBLISHED, PROMOTED, ROLLED_BACK = "published", "promoted", "rolled_back"
BY_HAND = (PROMOTED, ROLLED_BACK)


class NothingToRelease(MlassetsError):
    """late-flights has no release to go back to, or no challenger to promote."""


class UnknownRelease(MlassetsError):
    """No release of late-flights has this id."""


class AlreadyChampion(MlassetsError):
    """The release that is asked for is the champion already."""


def history_of(store: Store, project: str) -> list[dict[str, Any]]:
    """Return all releases of a project, newest first: what was done, by whom, why, and what stands today."""
    champion, challenger = champion_of(store, project), challenger_of(store, project)
    standing = {one.id: word for one, word in ((champion, CHAMPION), (challenger, "challenger")) if one}
    return [
        {
            "id": one.id,
            "created_at": one.created_at.isoformat(),
            "alias": alias_of(one),
            "standing": standing.get(one.id, ""),
            "action": one.parameters.get("action", PUBLISHED),
            "by": one.parameters.get("by", ""),
            "comment": one.parameters.get("comment", ""),
            "release": one.parameters.get("release", ""),
            "release_of": root_of(one),
            "from": one.parameters.get("from"),
            "rows": one.rows,
            "round_trip_error": one.metrics.get("round_trip_error"),
        }
        for one in store.history(PUBLISH, Partition.project(project))
    ]


def roll_back(store: Store, spec: ProjectSpec, to: str = "", *, by: str, comment: str = "") -> Thing:
    """Make an earlier release the champion again, at once and without copying anything.

    Args:
        store: The store.
        spec: The project.
        to: Id of a release of this project; empty means the champion before the present one.
        by: Who does it.
        comment: Why.

    Raises:
        NothingToRelease: If there is no champion, or none before it.
        UnknownRelease: If `to` is no release of this project.
        AlreadyChampion: If it is the champion already.
        DamagedThing: If its bytes are not what was published.
    """
    champion = champion_of(store, spec.project)
    if champion is None:
        raise NothingToRelease(f"{spec.project} has no champion yet, so there is nothing to roll back")
    target = _named(store, spec, to) if to else _before(store, spec, champion)
    if root_of(target) == root_of(champion):
        raise AlreadyChampion(
            f"{target} is the champion of {spec.project} already"
            + ("" if target.id == champion.id else f", as {champion.id}")
        )
    return _again(store, spec, target, champion, ROLLED_BACK, by, comment)


def promote(store: Store, spec: ProjectSpec, *, by: str, comment: str = "") -> Thing:
    """Make the challenger the champion, at once and without copying anything.

    Raises:
        NothingToRelease: If there is no challenger.
        DamagedThing: If its bytes are not what was published.
    """
    challenger = challenger_of(store, spec.project)
    if challenger is None:
        raise NothingToRelease(
            f"{spec.project} has no challenger; `review: {{release_as: challenger}}` publishes the next approved "
            "version as one"
        )
    return _again(store, spec, challenger, champion_of(store, spec.project), PROMOTED, by, comment)


def published(store: Store, review: Thing, spec: ProjectSpec) -> Release:
    """Return what publish commits for an approved review: its version, or what a person has put in its place since.

    Raises:
        RoundTripFailed: If the bundle predicts anything else than was approved.
    """
    kept = kept_by_hand(store, review)
    if kept is None:
        made = make_release(store, review, spec, alias=spec.review.release_as)
        decided = review.parameters
        about = {
            "action": PUBLISHED,
            "by": decided.get("decided_by", ""),
            "comment": decided.get("comment", ""),
            "from": getattr(champion_of(store, spec.project), "id", None),
        }
    else:
        store.read(kept)
        made = make_release(store, store.get(kept.parameters["review"]), spec)
        about = {name: kept.parameters.get(name) for name in ("action", "by", "comment", "from", RELEASE_OF)}
        about["over"] = review.id
    return replace(made, parameters={**made.parameters, **about})


def kept_by_hand(store: Store, review: Thing) -> Thing | None:
    """Return the release that a person has put in the place of what a review approves, if that still stands.

    A new spec or new code publishes the same review again, and rules may approve the same version again. Neither must
    undo what a person did after that; a person's new approval does.
    """
    newest = store.latest(PUBLISH, review.partition)
    if newest is None or newest.parameters.get("action") not in BY_HAND:
        return None
    over = newest.parameters.get("over")
    if over is None:
        return None
    before = store.get(over).parameters
    same = [before.get(name) == review.parameters.get(name) for name in ("aggregate", "claim")]
    return newest if all(same) else None


def _named(store: Store, spec: ProjectSpec, to: str) -> Thing:
    project = Partition.project(spec.project)
    releases = store.history(PUBLISH, project)
    found = next((one for one in releases if one.id == to), None)
    if found is not None:
        return found
    about = f"{to!r} is no release of {spec.project}"
    try:
        thing = store.get(to)
    except MlassetsError:
        pass
    else:
        about = f"{thing} is no release of {spec.project}"
        if thing.retired_at is not None and thing.step == PUBLISH and thing.partition == project:
            about = f"{thing} was retired and is not released again"
    known = ", ".join(one.id for one in releases[:5])
    raise UnknownRelease(f"{about}; `mlassets release {spec.project} history` lists them (newest: {known})")


def _before(store: Store, spec: ProjectSpec, champion: Thing) -> Thing:
    """Return the champion that the present one has followed; going back once more goes one further back."""
    line: list[Thing] = []
    for one in reversed(store.history(PUBLISH, Partition.project(spec.project))):
        if alias_of(one) != CHAMPION:
            continue
        roots = [root_of(other) for other in line]
        if root_of(one) in roots:
            del line[roots.index(root_of(one)) :]
        line.append(one)
    roots = [root_of(one) for one in line]
    place = roots.index(root_of(champion))
    if place == 0:
        raise NothingToRelease(
            f"{spec.project} has no champion before {champion}; `--to` names any of its releases"
        )
    return line[place - 1]


def _again(
    store: Store,
    spec: ProjectSpec,
    release: Thing,
    champion: Thing | None,
    action: str,
    by: str,
    comment: str,
) -> Thing:
    problems = store.verify(release)
    if problems:
        raise DamagedThing(
            f"{release} cannot become the champion: {problems[0]}. Restore it from a backup, or choose another release"
        )
    project = Partition.project(spec.project)
    review = _standing_review(store, project)
    based_on = dict.fromkeys(
        [release.id, *([champion.id] if champion else []), *([review.id] if review else [])]
    )
    return store.commit(
        PUBLISH,
        project,
        Draft(
            files=dict(release.files),
            schema=release.schema,
            artifacts=dict(release.artifacts),
            parameters={
                **{name: release.parameters[name] for name in _CONTENT if name in release.parameters},
                "alias": CHAMPION,
                "action": action,
                "by": by,
                "comment": comment,
                "from": champion.id if champion else None,
                "over": review.id if review else None,
                RELEASE_OF: root_of(release),
            },
            metrics=dict(release.metrics),
            labels={ALIAS: CHAMPION},
            based_on=based_on,
            code_version=CODE_VERSIONS[PUBLISH],
            spec_hash=step_hash(spec, PUBLISH),
            spec=spec.text(),
        ),
    )


def _standing_review(store: Store, project: Partition) -> Thing | None:
    """Return the newest review, but for an approval that was not published yet: that one is still to come."""
    review, newest = store.latest(REVIEW, project), store.latest(PUBLISH, project)
    if review is None or newest is None or review.parameters["decision"] != "approve":
        return review
    if review.id in newest.based_on:
        return review
    before = newest.parameters.get("over") or newest.parameters.get("review")
    return store.get(before) if before else None


_CONTENT: Sequence[str] = ("release", "review", "aggregate", "models")
