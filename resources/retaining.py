"""How long versions are kept, and the removal of the bytes of those that were retired: what `mlassets gc` does.

To retire a version hides it; a policy does so by age and number. Long after, its bytes are removed: first marks are
written for all that goes, then files are deleted that no other Thing needs, then the rows say so. The manifests
stay, so that lineage, provenance and hashes are there for ever. What was interrupted is finished by doing it again.

Ages are told by the clock that makes a Thing youngest: a host whose clock is ahead removes nothing too early.
"""

import difflib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from resources import provenance, releases
from resources.catalog import COMPONENTS, THINGS, Catalog
from resources.errors import MlassetsError
from resources.keeping import Progress, in_batches, owner_of, readers, silent
from resources.lake import Lake, LakeError, LakeUnreachable, NameTaken, NotInLake, reached
from resources.lineage import upstream_of
from resources.store import Store
from resources.things import MANIFEST_SCHEMA, REMOVED, RETIRED, Thing

GRACE = timedelta(days=30)

_BATCH = 500
_KEPT_NAMED = 1000
_SECONDS_OF_DOUBT = 2.0
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FIELDS = ("keep_last", "keep_for")


class BadRetention(MlassetsError):
    """How long versions are to be kept cannot be understood."""


class CannotRemove(MlassetsError):
    """Nothing can be removed, because it is not known what is needed."""


@dataclass(frozen=True)
class Policy:
    """Which versions of a step are kept: the newest few of each partition, and those that are young.

    Attributes:
        keep_last: How many of the newest versions of a partition are kept, whatever their age.
        keep_for: How long every version is kept; None keeps only the newest few.
    """

    keep_last: int = 1
    keep_for: timedelta | None = None


@dataclass(frozen=True)
class Expired:
    """A version that a policy does not keep."""

    id: str
    step: str
    partition: str
    created_at: str
    size: int
    reason: str


@dataclass(frozen=True)
class Expiry:
    """What policies say of a store.

    Attributes:
        going: The versions that nothing keeps, oldest first.
        needed: How many more no policy keeps, but what was made from them does.
    """

    going: tuple[Expired, ...]
    needed: int


class Removal(NamedTuple):
    """A retired Thing whose bytes may go.

    Attributes:
        id: Its id.
        step: Its step.
        partition: Key of its partition.
        retired_at: When it was retired.
        files: How many of its files no other Thing needs.
        size: Their bytes; a file of several Things that go is counted with one of them.
    """

    id: str
    step: str
    partition: str
    retired_at: str
    files: int
    size: int


@dataclass(frozen=True)
class Plan:
    """What a removal would do.

    Attributes:
        grace: For how long a Thing must have been retired.
        removals: What would go, oldest first.
        kept: Why retired Things stay: how many for each reason.
        named: Those that stay although their time is over, each with the reason; some of them if there are many.
    """

    grace: timedelta
    removals: tuple[Removal, ...]
    kept: Mapping[str, int]
    named: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that would go."""
        return sum(one.size for one in self.removals)

    @property
    def files(self) -> int:
        """Files that would go."""
        return sum(one.files for one in self.removals)


@dataclass(frozen=True)
class Collected:
    """What a removal did.

    Attributes:
        things: Ids of the Things whose bytes were removed.
        files: Files that were deleted.
        size: Their bytes.
        young: Ids of Things that stay for now: by the lake's own clock they were retired too short a time ago.
        problems: What could not be removed, and why.
    """

    things: tuple[str, ...]
    files: int
    size: int
    young: tuple[str, ...]
    problems: tuple[str, ...]


def load_policies(path: Path, known: Collection[str]) -> dict[str, Policy]:
    """Read the policies of a deployment; there are none if the file does not exist.

    Args:
        path: A YAML file: for each step `keep_last`, a number, and `keep_for`, a duration such as `90d`.
        known: The steps there are.

    Raises:
        BadRetention: If it cannot be understood.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, YAMLError, ValueError) as error:
        raise BadRetention(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(document, dict) or not all(isinstance(one, dict) for one in document.values()):
        raise BadRetention(
            f"{path} does not say for each step what is kept; write for instance `draw_data: {{keep_last: 3, keep_for: "
            "90d}`"
        )
    return {str(step): _policy(path, str(step), given, known) for step, given in document.items()}


def _policy(path: Path, step: str, given: Mapping[Any, Any], known: Collection[str]) -> Policy:
    if step not in known:
        raise BadRetention(f"{path} names the step {step!r}, which is none{_near(step, known)}")
    for name in given:
        if name not in _FIELDS:
            raise BadRetention(f"{path}: {step} has the field {str(name)!r}{_near(str(name), _FIELDS)}")
    if not given:
        raise BadRetention(f"{path}: {step} says nothing; give {' or '.join(_FIELDS)}")
    last, age = given.get("keep_last", 1), given.get("keep_for")
    if not isinstance(last, int) or isinstance(last, bool) or last < 0:
        raise BadRetention(f"{path}: keep_last of {step} is {last!r}; it is a number of versions, 0 or more")
    if last == 0 and age is None:
        raise BadRetention(f"{path}: {step} would keep nothing; give keep_for, or a keep_last of 1 or more")
    try:
        return Policy(last, duration(str(age)) if age is not None else None)
    except ValueError as error:
        raise BadRetention(f"{path}: keep_for of {step}: {error}") from None


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there is {', '.join(sorted(known))}"


def duration(text: str) -> timedelta:
    """Return a duration such as `90d`, `12h` or `2 w`.

    Raises:
        ValueError: If it is no number with a unit.
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*(min|h|d|w)", text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a duration; write a number and one of {', '.join(_UNITS)}")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def expired(store: Store, policies: Mapping[str, Policy], now: datetime | None = None) -> Expiry:
    """Return the versions that no policy keeps and nothing needs.

    What a release in use or the newest version of anything was made from stays, and so do the champion and the
    challenger of every project.

    Args:
        store: The store.
        policies: By step; of other steps everything stays.
        now: The time; by default that of the clock that is behind.
    """
    moment = now or earliest_now(store, asking_the_lake=False)
    found: list[Expired] = []
    for step, policy in policies.items():
        found += _past(store.catalog, step, policy, moment)
    going = {one.id for one in found}
    in_use = _releases_in_use(store, policies)
    # Of a step whose newest version may go, too, the newest is not what keeps others.
    whole = [step for step in store.catalog.steps() if step not in policies or policies[step].keep_last]

    def needed(connection: sa.Connection) -> set[str]:
        released = set(connection.scalars(_unretired_releases())) - (going - in_use)
        newest = {row for step in whole for row in connection.scalars(store.catalog.newest_ids(step)) if row}
        return set(upstream_of(connection, sorted((released | newest | in_use) - (going - in_use))))

    kept = store.catalog.read(needed) if found else set()
    gone = sorted((one for one in found if one.id not in kept), key=lambda one: one.id)
    return Expiry(tuple(gone), len(found) - len(gone))


def _past(catalog: Catalog, step: str, policy: Policy, now: datetime) -> list[Expired]:
    query = (
        sa.select(THINGS.c.id, THINGS.c.partition, THINGS.c.created_at, THINGS.c.size)
        .where(THINGS.c.step == step, THINGS.c.retired_at.is_(None))
        .order_by(THINGS.c.partition, THINGS.c.id.desc())
    )
    limit = (now - policy.keep_for).isoformat(timespec="microseconds") if policy.keep_for else None
    words = f"older than {_words(policy.keep_for)}" if policy.keep_for else "not kept by age"

    def work(connection: sa.Connection) -> list[Expired]:
        found: list[Expired] = []
        seen: Counter[str] = Counter()
        for row in connection.execute(query):
            seen[row.partition] += 1
            if seen[row.partition] > policy.keep_last and (limit is None or row.created_at < limit):
                reason = f"{words}, and not among the newest {policy.keep_last} of {row.partition}"
                found.append(Expired(row.id, step, row.partition, row.created_at, row.size, reason))
        return found

    return catalog.read(work)


def _words(age: timedelta | None) -> str:
    if age is None:
        return ""
    days = age / timedelta(days=1)
    return f"{days:g} days" if days >= 1 else f"{age / timedelta(hours=1):g} hours"


def _unretired_releases() -> sa.Select[Any]:
    return sa.select(THINGS.c.id).where(THINGS.c.step == releases.STEP, THINGS.c.retired_at.is_(None))


def _releases_in_use(store: Store, policies: Mapping[str, Policy]) -> set[str]:
    """Return the champions and challengers, which no policy retires."""
    if releases.STEP not in policies:
        return set()
    both = (releases.champions(store, releases.STEP), releases.challengers(store, releases.STEP))
    return {thing.id for found in both for thing in found.values()}


def earliest_now(store: Store, *, asking_the_lake: bool) -> datetime:
    """Return the time by the clock that is furthest behind: this host's, the database's or, if asked, the lake's.

    A lake in a folder is asked by writing to it, which what changes nothing must not do.
    """
    behind = min(store.catalog.clock_skew(), store.lake.clock_skew() if asking_the_lake else 0.0)
    # Less than that cannot be told apart from the time that asking takes.
    return datetime.now(UTC) + timedelta(seconds=behind if behind < -_SECONDS_OF_DOUBT else 0.0)


def plan(store: Store, grace: timedelta = GRACE, now: datetime | None = None) -> Plan:
    """Say which retired Things' bytes may go, told from the catalog alone; nothing is changed.

    Args:
        store: The store.
        grace: For how long a Thing must have been retired.
        now: The time; by default that of the clock that is behind.

    Raises:
        BadRetention: If the grace period is negative.
    """
    if grace < timedelta(0):
        raise BadRetention("the grace period cannot be negative; give 0 or more")
    limit = ((now or earliest_now(store, asking_the_lake=False)) - grace).isoformat(timespec="microseconds")
    query = (
        sa.select(THINGS.c.id, THINGS.c.step, THINGS.c.partition, THINGS.c.retired_at)
        .where(THINGS.c.retired_at.is_not(None), THINGS.c.removed_at.is_(None))
        .order_by(THINGS.c.id)
    )
    candidates = store.catalog.read(lambda connection: _plain_rows(connection, query))
    kept: Counter[str] = Counter()
    named: dict[str, str] = {}
    needed = _needed_by_releases(store.catalog) if candidates else set()
    going = []
    for row in candidates:
        thing_id, _, _, retired_at = row
        if thing_id in needed:
            reason = "a release that is not retired was made from it"
            if len(named) < _KEPT_NAMED:
                named[thing_id] = reason
        elif retired_at > limit:
            reason = f"retired less than {_words(grace)} ago"
        else:
            going.append(row)
            continue
        kept[reason] += 1
    files, sizes = _sizes(store.catalog, {row[0] for row in going})
    removals = [
        Removal(one, step, partition, at, files[one], sizes[one]) for one, step, partition, at in going
    ]
    return Plan(grace, tuple(removals), dict(kept), named)


def _plain_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """Return rows as the driver gives them: where there are a million, each step counts."""
    cursor: Any = connection.execute(query).cursor
    return list(cursor.fetchall())


def _needed_by_releases(catalog: Catalog) -> set[str]:
    """Return the ids of what releases that are not retired were made from, these included."""

    def work(connection: sa.Connection) -> set[str]:
        return set(upstream_of(connection, _unretired_releases()))

    return catalog.read(work)


def _sizes(catalog: Catalog, doomed: set[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many files of each Thing would go, and their bytes."""
    other = COMPONENTS.alias()
    shared = sa.exists().where(
        other.c.hash == COMPONENTS.c.hash,
        other.c.path == COMPONENTS.c.path,
        other.c.thing_id != COMPONENTS.c.thing_id,
    )
    columns = (COMPONENTS.c.thing_id, COMPONENTS.c.path, COMPONENTS.c.hash, COMPONENTS.c.size)
    query = (
        sa.select(*columns, shared.label("shared"))
        .join(THINGS, THINGS.c.id == COMPONENTS.c.thing_id)
        .where(THINGS.c.retired_at.is_not(None), THINGS.c.removed_at.is_(None), COMPONENTS.c.lake.is_(None))
    )
    files: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    several: dict[str, tuple[str, str, int]] = {}
    for thing_id, path, content, size, is_shared in catalog.read(
        lambda connection: _plain_rows(connection, query)
    ):
        if thing_id not in doomed:
            continue
        if is_shared:
            several[path] = (thing_id, content, size)
        else:
            files[thing_id] += 1
            sizes[thing_id] += size
    for path in _free(catalog, {path: content for path, (_, content, _) in several.items()}, doomed):
        thing_id, _, size = several[path]
        files[thing_id] += 1
        sizes[thing_id] += size
    return files, sizes


def _free(catalog: Catalog, files: Mapping[str, str], doomed: set[str]) -> list[str]:
    """Return those of some files, given with their hashes, that only Things need that go."""
    users = catalog.users(files)
    found = [path for path in files if users.get(path, set()) <= doomed]
    # A file goes with the Thing in whose folder it lies, or after it. A manifest that names another's file wrongly,
    # be it by damage or on purpose, has no say.
    others = {owner for path in found if (owner := owner_of(path)) not in doomed}
    there = catalog.with_bytes(sorted(others))
    return [path for path in found if owner_of(path) not in there]


def collect(store: Store, grace: timedelta = GRACE, progress: Progress = silent) -> Collected:
    """Remove the bytes of Things that were retired long enough ago and that nothing needs.

    Args:
        store: The store.
        grace: For how long a Thing must have been retired. No commit and no reading may take longer.
        progress: Called with what is being done, how much of it is, and how much there is.

    Raises:
        CannotRemove: If manifests in the lake cannot be read: nobody knows what they need.
        BadRetention: If the grace period is negative.
        LakeUnreachable: If the lake does not answer.
    """
    # What has no row yet needs files, too.
    report = store.sync(progress)
    if report.damaged:
        raise CannotRemove(
            f"nothing was removed, for {len(report.damaged):,} files of the lake cannot be read, and it is not known "
            f"what they need: {report.damaged[0]}. `mlassets catalog verify` names all of them"
        )
    now = earliest_now(store, asking_the_lake=True)
    return _Removal(store, plan(store, grace, now), now, progress).run()


@dataclass
class _Removal:
    """One removal: what goes, and what has become of it."""

    store: Store
    plan: Plan
    now: datetime
    progress: Progress
    young: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self) -> Collected:
        with ThreadPoolExecutor(readers(self.store.lake)) as pool:
            self._pool = pool
            marked = self._mark()
            reached("all marked")
            files, size = self._delete(marked)
        return Collected(tuple(marked), files, size, tuple(self.young), tuple(self.problems))

    def _mark(self) -> dict[str, str]:
        """Write marks for all that goes, before the first file does; return when each was removed."""
        marked: dict[str, str] = {}
        for batch in in_batches([one.id for one in self.plan.removals], _BATCH):
            texts = self.store.catalog.manifests_of(batch)
            things = [Thing.from_json(texts[one], self.store.lake) for one in batch if one in texts]
            for thing, at in zip(things, self._pool.map(self._marked, things), strict=True):
                if at is not None:
                    marked[thing.id] = at
            self.progress("marks", len(marked), len(self.plan.removals))
        return marked

    def _marked(self, thing: Thing) -> str | None:
        """Mark one Thing as removed and return since when it is; None if it stays."""
        lake, path = self.store.lake, f"{thing.folder}/{REMOVED}"
        try:
            mark, since = _retired(lake, thing)
        except (NotInLake, ValueError, KeyError, TypeError) as error:
            self.problems.append(f"{thing} stays, as its mark of retirement cannot be read: {error}")
            return None
        if since > self.now - self.plan.grace:
            self.young.append(thing.id)
            return None
        record = {
            "schema": MANIFEST_SCHEMA,
            "thing_id": thing.id,
            "removed_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "retired_at": mark["retired_at"],
            "reason": mark["reason"],
            "user": provenance.user(),
        }
        if not lake.exists(path):
            # Whoever was a moment faster has marked it.
            with suppress(NameTaken):
                lake.put_bytes(path, json.dumps(record).encode())
        reached("removal marked")
        return str(json.loads(lake.read_bytes(path))["removed_at"])

    def _delete(self, marked: Mapping[str, str]) -> tuple[int, int]:
        count = size = done = 0
        doomed = set(marked)
        for batch in in_batches(marked, _BATCH):
            files = self._files(batch)
            # Asked once more: another Thing may have come to need a file since.
            free = _free(self.store.catalog, {path: content for path, (content, _) in files.items()}, doomed)
            for path, problem in zip(free, self._pool.map(self._delete_one, free), strict=True):
                if problem:
                    self.problems.append(problem)
                    continue
                count += 1
                size += files[path][1]
            reached("files deleted")
            self.store.catalog.remove({one: marked[one] for one in batch})
            done += len(batch)
            self.progress("Things", done, len(marked))
        return count, size

    def _files(self, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the hash and size of every file of some Things that lies in this lake, by path."""
        texts = self.store.catalog.manifests_of(ids)
        things = [Thing.from_json(text, self.store.lake) for text in texts.values()]
        return {
            one.path: (one.hash, one.size) for thing in things for one in thing.components if one.lake is None
        }

    def _delete_one(self, path: str) -> str | None:
        try:
            self.store.lake.delete(path)
        except LakeUnreachable:
            raise
        except (LakeError, OSError) as error:
            return f"{path} cannot be deleted: {error}"
        reached("file deleted")
        return None


def _retired(lake: Lake, thing: Thing) -> tuple[dict[str, Any], datetime]:
    """Return the mark of a retired Thing, and since when it is retired by the clock that makes it shortest."""
    path = f"{thing.folder}/{RETIRED}"
    mark = json.loads(lake.read_bytes(path))
    said = datetime.fromisoformat(mark["retired_at"])
    written: Iterator[datetime] = (one.modified for one in lake.files(thing.folder) if one.path == path)
    return mark, max([said, *written])
