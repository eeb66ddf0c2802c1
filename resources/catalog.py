"""The SQL index of all Things, their edges, attributes, components and verdicts.

It holds nothing that the lake does not: it can be thrown away and built again from the manifests.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from blake3 import blake3

from resources.database import HEAD, PATIENCE, CatalogError, CatalogOutdated, Database

__all__ = [
    "ATTRIBUTES",
    "COMPONENTS",
    "EDGES",
    "HEAD",
    "MANIFESTS",
    "THINGS",
    "VERDICTS",
    "Catalog",
    "CatalogError",
    "CatalogOutdated",
    "ThingRows",
    "attribute_rows",
    "origin_rows",
]

LONGEST_INDEXED = 300
EXACT = 1 << 53
LARGEST_INTEGER = (1 << 63) - 1
# What of a Thing's provenance is its own; the rest is the same for all that one process makes.
OWN_PROVENANCE = ("started_at", "ended_at", "peak_memory_bytes")
_PROVENANCE_TIMES = ("started_at", "ended_at")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = sys.float_info.max
_IDS_PER_QUERY = 500

_metadata = sa.MetaData()
THINGS = sa.Table(
    "things",
    _metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("step", "partition", "project", "segment", "source")),
    *(sa.Column(name, sa.Text) for name in ("name", "user", "host")),
    sa.Column("created_at", sa.String(32)),
    *(sa.Column(name, sa.Text) for name in ("data_version", "code_version", "spec_hash", "run_id")),
    sa.Column("origin", sa.String(36)),
    *(sa.Column(name, sa.BigInteger) for name in ("size", "rows")),
    *(sa.Column(name, sa.String(32)) for name in ("retired_at", "removed_at")),
)
# Apart from the rest, so that looking through all Things does not read them.
MANIFESTS = sa.Table(
    "manifests",
    _metadata,
    sa.Column("thing_id", sa.String(36), primary_key=True),
    sa.Column("manifest", sa.Text),
)
EDGES = sa.Table("edges", _metadata, *(sa.Column(name, sa.String(36)) for name in ("thing_id", "based_on")))
# Rows of kind `origin` have the id of an origin, which many Things share, in place of a Thing's.
ATTRIBUTES = sa.Table(
    "attributes",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    sa.Column("kind", sa.String(10)),
    sa.Column("name", sa.Text),
    sa.Column("type", sa.String(7)),
    sa.Column("number", sa.Double),
    sa.Column("integer", sa.BigInteger),
    sa.Column("text", sa.Text),
)
COMPONENTS = sa.Table(
    "components",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    *(sa.Column(name, sa.Text) for name in ("kind", "name", "path")),
    sa.Column("size", sa.BigInteger),
    sa.Column("hash", sa.String(64)),
    sa.Column("rows", sa.BigInteger),
    sa.Column("lake", sa.Text),
)
VERDICTS = sa.Table(
    "verdicts",
    _metadata,
    sa.Column("thing_id", sa.String(36)),
    *(sa.Column(name, sa.Text) for name in ("check_run", "claim")),
    sa.Column("position", sa.Integer),
    *(sa.Column(name, sa.Text) for name in ("created_at", "run_id", "report", "status", "severity")),
    sa.Column("observed", sa.Double),
    sa.Column("verdict", sa.Text),
)
_PARTS = (MANIFESTS, EDGES, ATTRIBUTES, COMPONENTS)
# What a rebuild does not know of a Thing: the catalog alone was told.
_MARKS = ("retired_at", "removed_at")

_Row = dict[str, Any]
_Result = TypeVar("_Result")


@dataclass
class ThingRows:
    """The rows that index one Thing: one of `things`, and those of the other tables that belong to it.

    Attributes:
        thing: Its row of `things`.
        manifest: Its manifest, as JSON text.
        edges: What it is based on.
        attributes: Its parameters, metrics and labels, and what of its provenance is its own.
        components: Its files.
        origin: The rest of its provenance.
    """

    thing: _Row
    manifest: str = ""
    edges: list[_Row] = field(default_factory=list)
    attributes: list[_Row] = field(default_factory=list)
    components: list[_Row] = field(default_factory=list)
    origin: list[_Row] = field(default_factory=list)


def attribute_rows(thing_id: str, kind: str, values: Mapping[str, Any]) -> list[_Row]:
    """Return one row per value of `values`, each with its type; nested mappings become dotted names."""
    found: dict[str, _Row] = {}
    for name, value in flat(values):
        key = index_name(name)
        kind_of, number, integer, text = typed(value)
        found[key] = {
            "thing_id": thing_id,
            "kind": kind,
            "name": key,
            "type": kind_of,
            "number": number,
            "integer": integer,
            "text": text,
        }
    return list(found.values())


def origin_rows(provenance: Mapping[str, Any]) -> tuple[str, list[_Row]]:
    """Return what is the same for all that a process makes, as an id, equal for equal content, and its rows."""
    shared = {name: value for name, value in searchable(provenance).items() if name not in OWN_PROVENANCE}
    return _origin_rows(json.dumps(shared, sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _origin_rows(text: str) -> tuple[str, list[_Row]]:
    origin = blake3(text.encode("utf-8", "replace")).hexdigest(16)
    return origin, attribute_rows(origin, "origin", json.loads(text))


def searchable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return provenance as it is searched: the command as one text, times as times."""
    found = dict(provenance)
    if isinstance(found.get("argv"), list):
        found["argv"] = " ".join(map(str, found["argv"]))
    for name in _PROVENANCE_TIMES:
        try:
            time = datetime.fromisoformat(found[name])
        except (KeyError, ValueError, TypeError):
            continue
        found[name] = time if time.tzinfo else found[name]
    return found


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted name, however it was nested."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def typed(value: Any) -> tuple[str, float | None, int | None, str | None]:
    """Return the type of a value, and the value as a number, an exact integer where a double is none, and a text."""
    if isinstance(value, bool):
        return "truth", float(value), None, None
    if isinstance(value, float):
        return ("number", value, None, None) if value == value else ("nan", None, None, None)
    if isinstance(value, str):
        return "text", None, None, storable(value)
    if isinstance(value, int):
        return "number", *_of_integer(value), None
    if value is None:
        return "null", None, None, None
    if isinstance(value, datetime):
        utc = value.astimezone(UTC)
        return "time", *_of_integer(microseconds(utc)), utc.isoformat(timespec="microseconds")
    kind = "mapping" if isinstance(value, dict) else "list"
    return kind, None, None, storable(json.dumps(value, ensure_ascii=False, default=str))


def _of_integer(value: int) -> tuple[float, int | None]:
    if -EXACT <= value <= EXACT:
        return float(value), None
    if abs(value) > _LARGEST:
        return float("inf") if value > 0 else float("-inf"), None
    return float(value), value if -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER else None


def microseconds(time: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def storable(text: str) -> str:
    """Return `text` as an index can hold it: no NUL (PostgreSQL), no lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


@lru_cache(maxsize=4096)
def index_name(name: str) -> str:
    """Return a name as an index can hold it: one that is too long ends in the hash of the whole."""
    kept = storable(name)
    if len(kept) <= LONGEST_INDEXED:
        return kept
    return kept[: LONGEST_INDEXED - 32] + blake3(kept.encode()).hexdigest(16)


class Catalog:
    """The index, on SQLite or PostgreSQL; laid out when an empty database is opened."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Open the catalog at a SQLAlchemy URL.

        Args:
            url: Where the database is.
            patience: Seconds for which a PostgreSQL that has gone away is tried again.

        Raises:
            CatalogOutdated: If it has to be migrated first.
            CatalogError: If it cannot be reached, or was written by a newer version of mlassets.
        """
        self._database = Database(url, patience)
        self._database.lay_out()
        # Kept, so that each is turned into SQL once.
        self._adding = {
            name: self._database.insert(table).on_conflict_do_nothing()
            for name, table in _metadata.tables.items()
        }

    @staticmethod
    def revision(url: str, patience: float = PATIENCE) -> str | None:
        """Return the revision of the tables at `url`, None if there are none; nothing is laid out or changed.

        Raises:
            CatalogError: If the database cannot be read.
        """
        database = Database(url, patience)
        try:
            return database.revision()
        finally:
            database.close()

    @staticmethod
    def migrate(url: str, patience: float = PATIENCE) -> str | None:
        """Bring the tables at `url` to `HEAD`, in one transaction, and return the revision they had before.

        Raises:
            CatalogError: If the database cannot be changed, or a newer version of mlassets made the tables.
        """
        database = Database(url, patience)
        try:
            return database.migrate()
        finally:
            database.close()

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self._database.shown

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def read(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        """Return what `work` reads; if the connection is lost, it is called again with another one.

        Raises:
            CatalogError: If the catalog cannot be read.
        """
        return self._database.read(work)

    def _add(self, connection: sa.Connection, table: sa.Table, rows: Sequence[_Row]) -> None:
        """Insert rows; those that are there already are left, as what they index never changes."""
        self._database.execute_many(connection, self._adding[table.name], rows)

    def add_things(self, things: Sequence[ThingRows]) -> None:
        """Add the rows of Things in one transaction; those that are there already are left as they are."""
        # In order of their ids, so that two transactions that add the same Things never wait for each other.
        ordered = sorted(things, key=_thing_id)

        def work(connection: sa.Connection) -> None:
            self._add(connection, THINGS, [each.thing for each in ordered])
            self._add_parts(connection, ordered)

        self._database.write(work)

    def _add_parts(self, connection: sa.Connection, things: Sequence[ThingRows]) -> None:
        origins = {each.thing["origin"]: each.origin for each in things if each.origin}
        manifests = [{"thing_id": each.thing["id"], "manifest": each.manifest} for each in things]
        self._add(connection, MANIFESTS, manifests)
        self._add(connection, ATTRIBUTES, [row for origin in sorted(origins) for row in origins[origin]])
        self._add(connection, EDGES, [row for each in things for row in each.edges])
        self._add(connection, ATTRIBUTES, [row for each in things for row in each.attributes])
        self._add(connection, COMPONENTS, [row for each in things for row in each.components])

    def replace_things(self, things: Sequence[ThingRows]) -> None:
        """Put the rows of Things in place of those that are there, in one transaction.

        A Thing that is retired or removed stays so.
        """
        ordered = sorted(things, key=_thing_id)
        ids = [each.thing["id"] for each in ordered]

        def work(connection: sa.Connection) -> None:
            insert = self._database.insert(THINGS)
            changed: dict[str, Any] = {
                column.name: insert.excluded[column.name] for column in THINGS.columns if column.name != "id"
            }
            # Not deleted and inserted anew: whoever retires it at this moment waits for this very row.
            for mark in _MARKS:
                changed[mark] = sa.func.coalesce(insert.excluded[mark], THINGS.c[mark])
            upsert = insert.on_conflict_do_update(index_elements=["id"], set_=changed)
            self._database.execute_many(connection, upsert, [each.thing for each in ordered])
            for table in _PARTS:
                _delete(connection, table, table.c.thing_id, ids)
            self._add_parts(connection, ordered)

        self._database.write(work)

    def remove_things(self, ids: Sequence[str]) -> None:
        """Remove the rows of Things, in one transaction."""
        ordered = sorted(ids)

        def work(connection: sa.Connection) -> None:
            _delete(connection, THINGS, THINGS.c.id, ordered)
            for table in _PARTS:
                _delete(connection, table, table.c.thing_id, ordered)

        self._database.write(work)

    def strays(self) -> set[str]:
        """Return the ids of Things that have edges, attributes or components, but no row of their own."""

        def work(connection: sa.Connection) -> set[str]:
            found: set[str] = set()
            for table in _PARTS:
                owned = sa.exists().where(THINGS.c.id == table.c.thing_id)
                query = sa.select(table.c.thing_id).where(~owned).distinct()
                if table is ATTRIBUTES:
                    query = query.where(ATTRIBUTES.c.kind != "origin")
                found.update(connection.execute(query).scalars())
            return found

        return self._database.read(work)

    def add_verdicts(self, rows: Sequence[_Row]) -> None:
        """Add verdict rows in one transaction; those that are there already are left as they are."""
        ordered = sorted(rows, key=_verdict_key)
        self._database.write(lambda connection: self._add(connection, VERDICTS, ordered))

    def replace_verdicts(self, check_runs: Iterable[tuple[str, str]], rows: Sequence[_Row]) -> None:
        """Put `rows` in place of all rows of some (Thing, check run), in one transaction."""
        whole = sorted(check_runs)
        ordered = sorted(rows, key=_verdict_key)

        def work(connection: sa.Connection) -> None:
            _delete(connection, VERDICTS, sa.tuple_(VERDICTS.c.thing_id, VERDICTS.c.check_run), whole)
            self._add(connection, VERDICTS, ordered)

        self._database.write(work)

    def retire(self, retired: Mapping[str, str | None]) -> None:
        """Set when Things were retired, by id; None if they were not."""
        self._mark("retired_at", retired)

    def remove(self, removed: Mapping[str, str | None]) -> None:
        """Set when the bytes of Things were removed, by id; None if they were not."""
        self._mark("removed_at", removed)

    def _mark(self, column: str, times: Mapping[str, str | None]) -> None:
        bound = [{"one": thing_id, "at": times[thing_id]} for thing_id in sorted(times)]
        change = (
            sa.update(THINGS).where(THINGS.c.id == sa.bindparam("one")).values({column: sa.bindparam("at")})
        )
        if bound:
            self._database.write(lambda connection: self._database.execute_many(connection, change, bound))

    def retired(self) -> set[str]:
        """Return the ids of all Things that are retired."""
        return self._marked(THINGS.c.retired_at)

    def removed(self) -> set[str]:
        """Return the ids of all Things whose bytes were removed."""
        return self._marked(THINGS.c.removed_at)

    def _marked(self, column: sa.Column[Any]) -> set[str]:
        query = sa.select(THINGS.c.id).where(column.is_not(None))
        return self._database.read(lambda connection: set(connection.execute(query).scalars()))

    def clock_skew(self) -> float:
        """Return by how many seconds the database's clock is ahead of this machine's; 0 for SQLite."""
        return self._database.clock_skew()

    def ids(self) -> set[str]:
        """Return the ids of all Things."""
        return self._database.read(
            lambda connection: set(connection.execute(sa.select(THINGS.c.id)).scalars())
        )

    def manifest(self, thing_id: str) -> tuple[str, str | None] | None:
        """Return the manifest of a Thing as JSON text and when it was retired, or None if there is no such Thing."""
        query = _with_manifest(THINGS.c.retired_at).where(THINGS.c.id == thing_id)

        def work(connection: sa.Connection) -> tuple[str, str | None] | None:
            row = connection.execute(query).first()
            return (row.manifest, row.retired_at) if row else None

        return self._database.read(work)

    def manifests_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the manifests of those of `ids` that are in the catalog."""
        columns = (MANIFESTS.c.thing_id, MANIFESTS.c.manifest)

        def work(connection: sa.Connection) -> dict[str, str]:
            return {row.thing_id: row.manifest for row in _rows_of(connection, columns, columns[0], ids)}

        return self._database.read(work)

    def newest(self, step: str, partition: str) -> tuple[str, str | None] | None:
        """Return the newest version's manifest, retired or not, and when it was retired; None if there is none."""
        query = (
            _with_manifest(THINGS.c.retired_at)
            .where(THINGS.c.step == step, THINGS.c.partition == partition)
            .order_by(THINGS.c.id.desc())
            .limit(1)
        )

        def work(connection: sa.Connection) -> tuple[str, str | None] | None:
            row = connection.execute(query).first()
            return (row.manifest, row.retired_at) if row else None

        return self._database.read(work)

    def manifests(
        self,
        *,
        step: str | None = None,
        partition: str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the manifests of the versions that match all that is given and are not retired, newest first."""
        query = (
            _with_manifest().where(THINGS.c.retired_at.is_(None)).order_by(THINGS.c.id.desc()).limit(limit)
        )
        for column, value in (
            (THINGS.c.step, step),
            (THINGS.c.partition, partition),
            (THINGS.c.project, project),
        ):
            if value is not None:
                query = query.where(column == value)
        return self._database.read(lambda connection: list(connection.execute(query).scalars()))

    def latest_of(self, step: str) -> list[str]:
        """Return the manifest of the newest version of every partition of `step`, retired ones left out."""
        query = sa.select(MANIFESTS.c.manifest).where(MANIFESTS.c.thing_id.in_(_newest_ids(step)))
        return self._database.read(lambda connection: list(connection.execute(query).scalars()))

    def labelled(self, step: str, name: str, text: str, partition: str | None = None) -> list[str]:
        """Return the manifest of the newest version with a label, retired ones left out, of every partition of `step`.

        Args:
            step: The step.
            name: Name of the label.
            text: Its value.
            partition: Only this partition; None means all.
        """
        newest = (
            sa.select(sa.func.max(THINGS.c.id))
            .join(ATTRIBUTES, ATTRIBUTES.c.thing_id == THINGS.c.id)
            .where(
                ATTRIBUTES.c.kind == "label",
                ATTRIBUTES.c.name == index_name(name),
                *text_is(storable(text)),
                THINGS.c.step == step,
                THINGS.c.retired_at.is_(None),
            )
            .group_by(THINGS.c.partition)
        )
        if partition is not None:
            newest = newest.where(THINGS.c.partition == partition)
        query = sa.select(MANIFESTS.c.manifest).where(MANIFESTS.c.thing_id.in_(newest))
        return self._database.read(lambda connection: list(connection.execute(query).scalars()))

    def newest_of(self, step: str) -> list[_Row]:
        """Return the row of the newest version of every partition of `step`, without its manifest."""
        columns = [column for column in THINGS.columns if column.name not in _MARKS]
        query = sa.select(*columns).where(THINGS.c.id.in_(_newest_ids(step)))
        return self._database.read(
            lambda connection: [dict(row._mapping) for row in connection.execute(query)]
        )

    def times(self, step: str, partition: str) -> list[str]:
        """Return when the versions of a step and partition were made, oldest first."""
        query = (
            sa.select(THINGS.c.created_at)
            .where(THINGS.c.step == step, THINGS.c.partition == partition)
            .order_by(THINGS.c.created_at)
        )
        return self._database.read(lambda connection: list(connection.execute(query).scalars()))

    def used(self, paths: Sequence[str]) -> set[str]:
        """Return those of `paths` that are components of some Thing."""

        def work(connection: sa.Connection) -> set[str]:
            return {row.path for row in _rows_of(connection, (COMPONENTS.c.path,), COMPONENTS.c.path, paths)}

        return self._database.read(work)

    def users(self, files: Mapping[str, str]) -> dict[str, set[str]]:
        """Return, by path, the ids of the Things that still have their bytes and have it as a component.

        Args:
            files: The hash of each file, by its path.
        """
        found: dict[str, set[str]] = {}
        key = COMPONENTS.c.hash
        columns = (COMPONENTS.c.path, COMPONENTS.c.thing_id)
        here = COMPONENTS.c.lake.is_(None) & ~sa.exists().where(
            THINGS.c.id == COMPONENTS.c.thing_id, THINGS.c.removed_at.is_not(None)
        )

        def work(connection: sa.Connection) -> None:
            for row in _rows_of(connection, columns, key, sorted(set(files.values())), also=here):
                if row.path in files:
                    found.setdefault(row.path, set()).add(row.thing_id)

        self._database.read(work)
        return found

    def file_with(self, content: str) -> str | None:
        """Return the path of a file of some Thing that is in use, by the hash of its bytes; None if there is none."""
        query = (
            sa.select(COMPONENTS.c.path)
            .join(THINGS, THINGS.c.id == COMPONENTS.c.thing_id)
            .where(COMPONENTS.c.hash == content, COMPONENTS.c.lake.is_(None), THINGS.c.retired_at.is_(None))
            .limit(1)
        )
        return self._database.read(lambda connection: connection.execute(query).scalar())

    def with_bytes(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are Things and still have their bytes."""
        kept = THINGS.c.removed_at.is_(None)

        def work(connection: sa.Connection) -> set[str]:
            return {row.id for row in _rows_of(connection, (THINGS.c.id,), THINGS.c.id, ids, also=kept)}

        return self._database.read(work)

    def steps(self) -> list[str]:
        """Return the steps of which there are Things, sorted."""
        step = THINGS.c.step
        each = sa.select(sa.func.min(step).label("step")).cte("each", recursive=True)
        # From one step to the next within the index, however many Things each has.
        after = sa.select(sa.func.min(step)).where(step > each.c.step).correlate(each).scalar_subquery()
        each = each.union_all(sa.select(after).where(each.c.step.is_not(None)))
        found = self._database.read(lambda connection: connection.scalars(sa.select(each)).all())
        return sorted(one for one in found if one is not None)

    @staticmethod
    def newest_ids(step: str) -> sa.Select[Any]:
        """Return a query for the id of the newest version of every partition of `step`, retired ones left out."""
        return _newest_ids(step)

    def check_runs(self) -> set[tuple[str, str]]:
        """Return every (Thing, check run) that has verdicts."""
        query = sa.select(VERDICTS.c.thing_id, VERDICTS.c.check_run).distinct()
        return self._database.read(
            lambda connection: {(row.thing_id, row.check_run) for row in connection.execute(query)}
        )

    def verdicts(self, thing_ids: Sequence[str]) -> list[_Row]:
        """Return all verdict rows on some Things, oldest check run first, in the order they were given."""
        order = (VERDICTS.c.created_at, VERDICTS.c.check_run, VERDICTS.c.position)

        def work(connection: sa.Connection) -> list[_Row]:
            found = _rows_of(connection, tuple(VERDICTS.columns), VERDICTS.c.thing_id, thing_ids, order)
            return [dict(row._mapping) for row in found]

        return self._database.read(work)

    def verdict_counts(self, thing_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return how many verdicts there are on each of some Things that have any, and of how many check runs."""
        key, run = VERDICTS.c.thing_id, VERDICTS.c.check_run
        columns = (key, sa.func.count().label("rows"), sa.func.count(run.distinct()).label("runs"))

        def work(connection: sa.Connection) -> dict[str, tuple[int, int]]:
            found: dict[str, tuple[int, int]] = {}
            for start in range(0, len(thing_ids), _IDS_PER_QUERY):
                some = thing_ids[start : start + _IDS_PER_QUERY]
                query = sa.select(*columns).where(key.in_(some)).group_by(key)
                found |= {row.thing_id: (row.rows, row.runs) for row in connection.execute(query)}
            return found

        return self._database.read(work)

    def failed_verdicts(self, thing_ids: Sequence[str]) -> list[_Row]:
        """Return the verdict rows on some Things that failed or crashed, and the first of each check run.

        Oldest check run first, in the order they were given.
        """
        matters = (VERDICTS.c.position == 0) | VERDICTS.c.status.in_(("failed", "crashed"))
        order = (VERDICTS.c.created_at, VERDICTS.c.check_run, VERDICTS.c.position)

        def work(connection: sa.Connection) -> list[_Row]:
            key, columns = VERDICTS.c.thing_id, tuple(VERDICTS.columns)
            found = _rows_of(connection, columns, key, thing_ids, order, also=matters)
            return [dict(row._mapping) for row in found]

        return self._database.read(work)

    def edges(self, ids: Sequence[str], *, downstream: bool) -> list[tuple[str, str]]:
        """Return the edges (Thing, what it is based on) next to `ids`, upstream or downstream of them."""
        here = EDGES.c.based_on if downstream else EDGES.c.thing_id
        order = (EDGES.c.thing_id, EDGES.c.based_on)

        def work(connection: sa.Connection) -> list[tuple[str, str]]:
            found = _rows_of(connection, tuple(EDGES.columns), here, ids, order)
            return [(row.thing_id, row.based_on) for row in found]

        return self._database.read(work)


def text_is(text: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return conditions that an attribute is a text, in a form that its index serves."""
    head = sa.func.substr(ATTRIBUTES.c.text, sa.literal_column("1"), sa.literal_column(str(LONGEST_INDEXED)))
    whole = () if len(text) < LONGEST_INDEXED else (ATTRIBUTES.c.text == text,)
    return (
        ATTRIBUTES.c.type == "text",
        ATTRIBUTES.c.text.is_not(None),
        ATTRIBUTES.c.number.is_(None),
        head == text[:LONGEST_INDEXED],
        *whole,
    )


def _with_manifest(*columns: sa.Column[Any]) -> sa.Select[Any]:
    """Return a query for manifests and columns of `things`."""
    return sa.select(MANIFESTS.c.manifest, *columns).join(THINGS, THINGS.c.id == MANIFESTS.c.thing_id)


def _newest_ids(step: str) -> sa.Select[Any]:
    """Return a query for the id of the newest version of every partition of `step`, retired ones left out."""
    # From one partition to the next within the index, however many versions each has.
    of_step = THINGS.c.step == step
    first = sa.select(sa.func.min(THINGS.c.partition).label("partition")).where(of_step)
    each = first.cte("each", recursive=True)
    after = sa.select(sa.func.min(THINGS.c.partition)).where(of_step, THINGS.c.partition > each.c.partition)
    each = each.union_all(
        sa.select(after.correlate(each).scalar_subquery()).where(each.c.partition.is_not(None))
    )
    version = THINGS.alias()
    newest = (
        sa.select(version.c.id)
        .where(
            version.c.step == step,
            version.c.partition == each.c.partition,
            version.c.retired_at.is_(None),
        )
        .order_by(version.c.id.desc())
        .limit(1)
        .correlate(each)
        .scalar_subquery()
    )
    return sa.select(newest).select_from(each)


def _thing_id(rows: ThingRows) -> str:
    return str(rows.thing["id"])


def _verdict_key(row: _Row) -> tuple[str, str, str]:
    return row["thing_id"], row["check_run"], row["claim"]


def _delete(connection: sa.Connection, table: sa.Table, key: Any, wanted: Sequence[Any]) -> None:
    """Delete the rows that have one of some values in an indexed column, or in a tuple of columns."""
    for start in range(0, len(wanted), _IDS_PER_QUERY):
        connection.execute(sa.delete(table).where(key.in_(wanted[start : start + _IDS_PER_QUERY])))


def _rows_of(
    connection: sa.Connection,
    columns: tuple[sa.Column[Any], ...],
    key: sa.Column[Any],
    wanted: Sequence[str],
    order: tuple[sa.Column[Any], ...] = (),
    also: sa.ColumnElement[bool] | None = None,
) -> Iterator[sa.Row[Any]]:
    """Yield rows by the values of an indexed column, a bounded number of them in one statement."""
    for start in range(0, len(wanted), _IDS_PER_QUERY):
        some = wanted[start : start + _IDS_PER_QUERY]
        query = sa.select(*columns).where(key.in_(some), *([] if also is None else [also]))
        yield from connection.execute(query.order_by(*order))
