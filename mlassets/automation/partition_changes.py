"""Partitions follow the specs: added with a project, segment or source, retired when it goes.

Retiring takes a partition out of Dagster's lists. No Thing and no history is deleted, and a partition that comes
back finds its versions again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlassets.partitions import PROJECT, SEGMENT, SOURCE
from mlassets.projects import LoadedProjects
from mlassets.segments import segments_of
from mlassets.sources import LoadedSources
from resources.errors import MlassetsError
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition


@dataclass(frozen=True)
class PartitionChanges:
    """Keys to add to and to retire from each dimension.

    Attributes:
        added: New keys by dimension, sorted.
        retired: Keys that no spec names any more, by dimension, sorted.
    """

    added: Mapping[str, list[str]]
    retired: Mapping[str, list[str]]

    def __bool__(self) -> bool:
        return any(self.added.values()) or any(self.retired.values())


def plan_partitions(
    loaded: LoadedProjects,
    sources: LoadedSources | None,
    seen: Store | Snapshot,
    present: Mapping[str, set[str]],
) -> PartitionChanges:
    """Compare the keys that the specs name with those that are there.

    While any spec cannot be read, or a project's segments are not known yet, nothing is retired that it may name.

    Args:
        loaded: The projects.
        sources: The sources; None leaves their partitions as they are.
        seen: The store, or a look at it, which knows the segments that the data names.
        present: The keys that Dagster has, by dimension.
    """
    wanted: dict[str, set[str]] = {PROJECT: set(loaded.specs), SEGMENT: set(), SOURCE: set()}
    wanted[SOURCE] = present[SOURCE] if sources is None else set(sources.specs)
    all_known = not loaded.errors
    for spec in loaded.specs.values():
        try:
            names = segments_of(spec, seen)
            wanted[SEGMENT] |= {segment_key(name) for name in names or ()}
        except MlassetsError:
            names = None
        all_known = all_known and names is not None
    return PartitionChanges(
        added={name: sorted(keys - present[name]) for name, keys in wanted.items()},
        retired={
            name: sorted(present[name] - keys)
            if (all_known or (name != SEGMENT and not loaded.errors))
            and not (name == SOURCE and sources and sources.errors)
            else []
            for name, keys in wanted.items()
        },
    )


def segment_key(name: str) -> str:
    """Return a segment's key within its dimension."""
    return Partition((("segment", name),)).key
