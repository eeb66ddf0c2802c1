"""What a person does to a project, from the command line or from Python: decide, roll back, promote.

Everything that is done here is in the store before Dagster is told of it, and is finished by the next run if a kill
comes in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlassets.announcing import materialization
from mlassets.automation.sensors import sync_partitions
from mlassets.home import Home
from mlassets.releasing import aliases
from mlassets.releasing.deciding import Claim, NotTheNewest, claim_decision
from mlassets.runs import Outcome, Runner, instance_of
from mlassets.steps import PUBLISH, REVIEW
from resources.provenance import user
from resources.store import Store
from resources.things import Partition, Thing
from resources.warehouse import rebuild_consumption


@dataclass(frozen=True)
class Decided:
    """A decision that was made.

    Attributes:
        claim: Who, what, why, when, on which version.
        review: Id of the review that it became.
        release: Id of the release that an approval made; None if nothing was published.
        outcome: What became of the run.
    """

    claim: Claim
    review: str
    release: str | None
    outcome: Outcome


def decide_on(
    home: "Home | str | Path | None",
    project: str,
    decision: str,
    *,
    comment: str,
    reviewer: str | None = None,
    send_back_to: str = "",
    segments: Sequence[str] = (),
    version: str = "",
    on_start: Callable[[tuple[str, ...], str, str], None] = lambda steps, partition, reason: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> Decided:
    """Decide on the newest version of a project; an approval publishes it.

    Args:
        home: The home, or its folder; None takes that of the environment.
        project: The project.
        decision: `approve` or `reject`.
        comment: Why.
        reviewer: Who decides; None is the user of this process.
        send_back_to: The step that a rejection sends the work back to.
        segments: The segments that are sent back; empty means all.
        version: Id of the aggregate or the review that the reviewer looked at. Empty takes what is newest now.
        on_start: Called when the run starts: its steps, partition and reason.
        on_end: Called with the run's outcome.

    Raises:
        UnknownProject: If no spec names the project.
        BadDecision: If the decision is none, or names a step, segment or version that is not there.
        MayNotDecide: If the spec does not let this reviewer decide.
        NotTheNewest: If there is a newer version than the one that was looked at.
        AlreadyDecided: If somebody was faster.
    """
    where = _home(home)
    spec = where.project(Partition.project(project).key)
    claim = claim_decision(
        where.store,
        spec,
        decision,
        reviewer=reviewer or user(),
        comment=comment,
        send_back_to=send_back_to,
        segments=segments,
        version=version,
    )
    partition = Partition.project(spec.project)
    before = where.store.latest(PUBLISH, partition)
    with instance_of(where.settings) as instance:
        # The instance may be younger than the project.
        sync_partitions(instance, where)
        runner = Runner(where, instance, on_start, on_end)
        outcome = runner.run((REVIEW, PUBLISH), partition.key, f"{decision} by {claim.reviewer}")
    review, release = where.store.latest(REVIEW, partition), where.store.latest(PUBLISH, partition)
    if outcome.state == "done" and (review is None or review.parameters.get("claim") != claim.token):
        raise NotTheNewest(
            f"a newer version of {spec.project} was made while this decision was: it counts for {claim.aggregate} "
            "only. Look at the newest version and decide on that"
        )
    made = None if release is None or (before is not None and before.id == release.id) else release.id
    return Decided(claim, review.id if review else "", made, outcome)


def roll_back(
    home: "Home | str | Path | None", project: str, to: str = "", *, comment: str = "", by: str | None = None
) -> Thing:
    """Make an earlier release of a project its champion again, at once.

    Args:
        home: The home, or its folder; None takes that of the environment.
        project: The project.
        to: Id of a release; empty takes the champion before the present one.
        comment: Why.
        by: Who does it; None is the user of this process.

    Raises:
        UnknownProject: If no spec names the project.
        NothingToRelease: If there is nothing to go back to.
        UnknownRelease: If `to` is no release of this project.
        AlreadyChampion: If it is the champion already.
    """
    where = _home(home)
    spec = where.project(Partition.project(project).key)
    try:
        release = aliases.roll_back(where.store, spec, to, by=by or user(), comment=comment)
    except aliases.AlreadyChampion:
        # A kill may have come between the release and what follows it.
        rebuild_consumption(where.store, where.settings.consumption, PUBLISH)
        raise
    _tell(where, release)
    return release


def promote(
    home: "Home | str | Path | None", project: str, *, comment: str = "", by: str | None = None
) -> Thing:
    """Make the challenger of a project its champion, at once.

    Args:
        home: The home, or its folder; None takes that of the environment.
        project: The project.
        comment: Why.
        by: Who does it; None is the user of this process.

    Raises:
        UnknownProject: If no spec names the project.
        NothingToRelease: If there is no challenger.
    """
    where = _home(home)
    spec = where.project(Partition.project(project).key)
    release = aliases.promote(where.store, spec, by=by or user(), comment=comment)
    _tell(where, release)
    return release


def _home(home: "Home | str | Path | None") -> Home:
    return home if isinstance(home, Home) else Home(home=str(home) if home else None)


def _tell(home: Home, release: Thing) -> None:
    """Tell the consumption database and Dagster of a release that no run has made."""
    store: Store = home.store
    rebuild_consumption(store, home.settings.consumption, PUBLISH)
    with instance_of(home.settings) as instance:
        told = f"{release.parameters['action']} by {release.parameters['by']}"
        instance.report_runless_asset_event(materialization(release, store, home.settings, told))
