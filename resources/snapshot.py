"""The newest version of everything, as it is at one moment: read in a few statements, however much there is.

Who decides on ten thousand partitions at each look cannot ask for each of them. A snapshot holds what the catalog's own
columns say of the newest versions, and reads a whole manifest only where more is asked for.
"""

import json
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.store import Store
from resources.things import Partition, Thing, unpack
from resources.verdicts import Verdict

_COLUMNS = ("id", "created_at", "data_version", "code_version", "spec_hash")
_OLDER_KEPT = 1000
_FAILED = ("failed", "crashed")
_DIMENSIONS = ("project", "segment", "source")


@dataclass(frozen=True)
class Judged:
    """What the verdicts on one version come to.

    Attributes:
        blocking: The verdicts that stop what is downstream.
        marks: What the check runs that still count have noted in common on each of their verdicts, as details.
        rows: How many verdicts were ever recorded; more than before tells that it was judged again.
    """

    blocking: tuple[Verdict, ...]
    marks: tuple[Mapping[str, Any], ...]
    rows: int


class Snapshot:
    """The newest versions of some steps at one moment; see `snapshot_of`.

    What never changes is taken over from the snapshot before it. Retired versions are left out.

    Attributes:
        begun: When reading began, by the clock that never jumps.
        steps: The steps that were read.
    """

    def __init__(self, store: Store, steps: Iterable[str], before: "Snapshot | None" = None) -> None:
        """Read the newest versions.

        Args:
            store: The store.
            steps: The steps to read.
            before: An earlier snapshot of the same store.
        """
        self.begun, self.steps = time.monotonic(), tuple(steps)
        self._store = store
        self._steps: dict[str, dict[str, Thing]] = {}
        self._known: dict[str, Thing] = {}
        self._times: dict[tuple[str, str], list[datetime]] = {}
        self._older: dict[str, Thing] = {}
        if before and len(before._older) < len(before._known) + _OLDER_KEPT:
            self._older |= before._older
        rows = [row for step in self.steps for row in store.catalog.newest_of(step)]
        taken_over = before._known if before else {}
        fresh = [row["id"] for row in rows if row["id"] not in taken_over]
        based_on: dict[str, list[str]] = defaultdict(list)
        for thing_id, other in store.catalog.edges(fresh, downstream=False):
            based_on[thing_id].append(other)
        for row in rows:
            thing = taken_over.get(row["id"]) or Thing(
                _Listed(store, row, tuple(based_on[row["id"]])), store.lake
            )
            self._known[thing.id] = thing
            self._steps.setdefault(thing.step, {})[row["partition"]] = thing
        self._judged: dict[str, Judged] = self._read_verdicts(before._judged if before else {})

    def latest(self, step: str, partition: Partition) -> Thing | None:
        """Return the newest version of a step and partition, or None if there is none."""
        return self._steps.get(step, {}).get(partition.key)

    def get(self, thing_id: str) -> Thing:
        """Return any Thing by its id.

        Raises:
            UnknownThing: If there is none.
        """
        if thing_id in self._known:
            return self._known[thing_id]
        if thing_id not in self._older:
            self._older[thing_id] = self._store.get(thing_id)
        return self._older[thing_id]

    def made_since(self, step: str, partition: Partition, time: datetime) -> list[datetime]:
        """Return when versions of a step and partition were made after a time, oldest first."""
        key = (step, partition.key)
        if key not in self._times:
            self._times[key] = [datetime.fromisoformat(at) for at in self._store.catalog.times(*key)]
        return self._times[key][bisect_right(self._times[key], time) :]

    def verdicts(self, thing_id: str) -> list[Verdict]:
        """Return the newest verdict of every claim on a Thing, as the store has them now."""
        return self._store.verdicts(thing_id)

    def judged(self, thing_id: str) -> Judged | None:
        """Return what the verdicts on a newest version come to; None if it was never judged."""
        return self._judged.get(thing_id)

    def blocking(self, thing_id: str) -> tuple[Verdict, ...]:
        """Return the verdicts on a newest version that stop what is downstream."""
        judged = self.judged(thing_id)
        return judged.blocking if judged else ()

    def _read_verdicts(self, before: Mapping[str, Judged]) -> dict[str, Judged]:
        catalog = self._store.catalog
        counts = catalog.verdict_counts(list(self._known))
        found = {
            one: before[one]
            for one, (rows, _) in counts.items()
            if one in before and before[one].rows == rows
        }
        changed = [one for one in counts if one not in found]
        once = [one for one in changed if counts[one][1] == 1]
        # Where checks ran again, a verdict that failed may stand no more.
        again = [one for one in changed if counts[one][1] > 1]
        newest: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        first: dict[tuple[str, str], str] = {}
        for row in (*catalog.failed_verdicts(once), *catalog.verdicts(again)):
            newest[row["thing_id"]][row["claim"]] = row
            if row["position"] == 0:
                first[row["thing_id"], row["check_run"]] = row["verdict"]
        for one, claims in newest.items():
            failed = [_verdict(row["verdict"]) for row in claims.values() if row["status"] in _FAILED]
            runs = {row["check_run"] for row in claims.values()}
            marks = tuple(_verdict(first[one, run]).details for run in sorted(runs))
            found[one] = Judged(tuple(v for v in failed if v.blocks), marks, counts[one][0])
        return found


_taking = threading.Lock()


def snapshot_of(store: Store, steps: Iterable[str]) -> Snapshot:
    """Take a snapshot; what cannot have changed is taken over from the store's last one in this process.

    Threads that ask at the same time take one after the other, and one that was taken meanwhile serves all who wait.
    """
    asked, wanted = time.monotonic(), tuple(steps)
    with _taking:
        last = store.snapshot
        if last is None or last.begun < asked or last.steps != wanted:
            last = store.snapshot = Snapshot(store, wanted, last)
        return last


def _verdict(text: str) -> Verdict:
    record: Any = unpack(json.loads(text))
    return Verdict.from_dict(record)


class _Listed(Mapping[str, Any]):
    """A manifest of which the catalog's columns are at hand; the rest is read when it is asked for."""

    def __init__(self, store: Store, row: Mapping[str, Any], based_on: tuple[str, ...]) -> None:
        self._store = store
        self._here: dict[str, Any] = {name: row[name] for name in _COLUMNS}
        self._here |= {
            "step": row["step"],
            "partition": {name: row[name] for name in _DIMENSIONS if row[name] is not None},
            "based_on": based_on,
        }
        self._full: Mapping[str, Any] | None = None

    def _whole(self) -> Mapping[str, Any]:
        if self._full is None:
            self._full = self._store.get(self._here["id"]).manifest
        return self._full

    def __getitem__(self, name: str) -> Any:
        return self._here[name] if self._full is None and name in self._here else self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())
