"""Which releases of a project are its champion and its challenger, told from the releases alone.

A release carries its alias as a label and never changes. Another version becomes the champion by a newer release, which
may hold what an older one holds: so the newest release with an alias is the one that has it.
"""

from resources.store import Store
from resources.things import Partition, Thing

STEP = "publish"
ALIAS = "alias"
CHAMPION = "champion"
CHALLENGER = "challenger"
RELEASE_OF = "release_of"
"""Under this parameter a release that was rolled back to, or promoted, names the one whose content it holds."""


def alias_of(release: Thing) -> str:
    """Return under which alias a release was published."""
    return str(release.labels.get(ALIAS, CHAMPION))


def root_of(release: Thing) -> str:
    """Return the id of the release that first held this content."""
    return str(release.parameters.get(RELEASE_OF, release.id))


def champions(store: Store, step: str) -> dict[Partition, Thing]:
    """Return the champion of every project that has one."""
    newest = store.latest_of(step)
    found = {partition: thing for partition, thing in newest.items() if alias_of(thing) == CHAMPION}
    for partition in newest.keys() - found.keys():
        if (thing := _newest(store, step, partition, CHAMPION)) is not None:
            found[partition] = thing
    return found


def champion(store: Store, step: str, partition: Partition) -> Thing | None:
    """Return the newest release of a project that is a champion, if there is one."""
    newest = store.latest(step, partition)
    if newest is None or alias_of(newest) == CHAMPION:
        return newest
    return _newest(store, step, partition, CHAMPION)


def challenger(store: Store, step: str, partition: Partition) -> Thing | None:
    """Return the newest release of a project that is a challenger, unless it has become the champion since."""
    found = _newest(store, step, partition, CHALLENGER)
    if found is None:
        return None
    return None if found.id in _promoted(store, step, partition, after=found.id) else found


def challengers(store: Store, step: str) -> dict[Partition, Thing]:
    """Return the challenger of every project that has one."""
    partitions = store.labelled(step, ALIAS, CHALLENGER)
    found = {partition: challenger(store, step, partition) for partition in partitions}
    return {partition: thing for partition, thing in found.items() if thing is not None}


def _newest(store: Store, step: str, partition: Partition, alias: str) -> Thing | None:
    return store.labelled(step, ALIAS, alias, partition).get(partition)


def _promoted(store: Store, step: str, partition: Partition, after: str) -> set[str]:
    """Return which releases' content champions hold that are newer than `after`."""
    history = store.history(step, partition)
    return {root_of(one) for one in history if one.id > after and alias_of(one) == CHAMPION}
