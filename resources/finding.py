"""What `Store.find` finds: the tree of a query as SQL, and what it comes to as Things, ids or a frame.

What is asked is looked up in an index where any of the conditions that must hold is rare; else the Things are gone
through in the order that was asked for, until there are enough.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import sqlalchemy as sa

from resources import filters
from resources.catalog import (
    ATTRIBUTES,
    COMPONENTS,
    EXACT,
    LARGEST_INTEGER,
    LONGEST_INDEXED,
    MANIFESTS,
    OWN_PROVENANCE,
    THINGS,
    VERDICTS,
    Catalog,
    index_name,
    microseconds,
    storable,
)
from resources.filters import AllOf, AnyOf, BadQuery, Condition, Field, Node, Not, Operator
from resources.lake import Lake

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from resources.things import Thing

COLUMNS = (
    *("id", "step", "partition", "project", "segment", "name", "created_at", "user", "size", "rows"),
    "retired_at",
)
# Columns by which Things are looked up in an index of their own.
_INDEXED = (
    *("id", "partition", "project", "segment", "source", "name", "user"),
    *("data_version", "spec_hash", "run_id"),
)
_RARE = 1000
_FAR = 20_000
_AT_ONCE = 500
_KINDS = {"label": "labels", "parameter": "parameters", "metric": "metrics"}
_ENDS = ("label", "parameter")
_RANK = {"number": 0, "truth": 1, "time": 2, "text": 3}
_Clause = sa.ColumnElement[bool]


@dataclass(frozen=True)
class Order:
    """One of the fields by which what is found is sorted; Things without a value come last either way."""

    field: Field
    descending: bool


class Found:
    """What a query finds; nothing is looked up until it is asked for, and then as the catalog is at that moment.

    Attributes:
        query: The query, as a tree.
        orders: What it is sorted by.
    """

    def __init__(
        self,
        catalog: Catalog,
        lake: Lake,
        query: Mapping[str, Any] | str | None = None,
        *,
        sort: str | Sequence[str] = "-created_at",
        limit: int | None = None,
        offset: int = 0,
        retired: bool = False,
    ) -> None:
        """Understand a query; `Store.find` does it.

        Raises:
            BadQuery: If it cannot be understood.
        """
        self._catalog, self._lake = catalog, lake
        self.query = filters.parse(query)
        self.orders = parse_sort(sort)
        for name, number in (("limit", limit), ("offset", offset)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
                raise BadQuery(f"{name} is a whole number from 0, not {number!r}")
        self._limit, self._offset = limit, offset
        asked = {str(condition.field) for condition in filters.conditions(self.query)}
        # Whoever asks when Things were retired wants to see them.
        self._retired = retired or bool(asked & {"retired_at", "removed_at"})

    def count(self) -> int:
        """Return how many Things there are in all, whatever limit and offset."""
        return self._catalog.read(lambda connection: _Search(connection, self).count())

    def ids(self) -> list[str]:
        """Return their ids, in order."""
        return self._catalog.read(lambda connection: _Search(connection, self).ids())

    def things(self) -> "list[Thing]":
        """Return them, in order."""
        from resources.things import Thing

        found = []
        for text, retired_at in self._catalog.read(lambda connection: _Search(connection, self).manifests()):
            thing = Thing.from_json(text, self._lake)
            thing.retired_at = datetime.fromisoformat(retired_at) if retired_at else None
            found.append(thing)
        return found

    def __iter__(self) -> "Iterator[Thing]":
        return iter(self.things())

    def first(self) -> "Thing | None":
        """Return the first of them; None if there is none."""
        one = Found.__new__(Found)
        one.__dict__.update(self.__dict__)
        one._limit = 1 if self._limit is None else min(1, self._limit)
        return next(iter(one.things()), None)

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row for each, in order.

        A column whose values are of several types has them as text; lists are JSON.

        Args:
            columns: Fields to return: columns of the Thing, `labels.*` and the like for all that there are, or single
                ones, such as `metrics.roc_auc`. By default the most important columns and all labels, parameters
                and metrics.

        Raises:
            BadQuery: If there is no such column.
        """
        return self._catalog.read(lambda connection: _Search(connection, self).frame(columns))

    def to_pandas(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return one row for each as pandas has it; see `to_arrow`."""
        return cast("pd.DataFrame", self.to_arrow(columns).to_pandas())

    def to_polars(self, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        """Return one row for each as polars has it; see `to_arrow`."""
        import polars as pl

        return cast("pl.DataFrame", pl.from_arrow(self.to_arrow(columns)))

    def __repr__(self) -> str:
        return f"<Found {self.count()} Things>"


def parse_sort(sort: str | Sequence[str]) -> tuple[Order, ...]:
    """Return the fields to sort by: `-` before a name means from the largest.

    Raises:
        BadQuery: If there is no such field, or it cannot be sorted by.
    """
    names = [sort] if isinstance(sort, str) else list(sort)
    orders = []
    for name in names:
        if not isinstance(name, str) or not name.strip("+-"):
            raise BadQuery(f"sort takes names of fields, such as -metrics.roc_auc, not {name!r}")
        field = filters.parse_field(name.removeprefix("-").removeprefix("+"))
        if field.kind in ("file", "hash"):
            raise BadQuery(f"nothing can be sorted by {field}, as a Thing has several")
        orders.append(Order(field, name.startswith("-")))
    return tuple(orders)


def names_of(catalog: Catalog, kind: str) -> list[str]:
    """Return the names of all labels, parameters or metrics that there are: `kind` is the singular."""

    def work(connection: sa.Connection) -> list[str]:
        found: set[str] = set()
        for having in _HAVING.values():
            last = ""
            # From one name to the next within the index, however many Things have each.
            query = (
                sa.select(ATTRIBUTES.c.name)
                .where(ATTRIBUTES.c.kind == kind, having, ATTRIBUTES.c.name > sa.bindparam("last"))
                .order_by(ATTRIBUTES.c.name)
                .limit(1)
            )
            while (name := connection.execute(query, {"last": last}).scalar()) is not None:
                found.add(name)
                last = name
        return sorted(found)

    return catalog.read(work)


def unknown_names(catalog: Catalog, query: Node) -> list[str]:
    """Say of each label, parameter and metric that a query asks for and no Thing has, what comes near to it."""
    from resources.errors import did_you_mean

    told = []
    for field in dict.fromkeys(condition.field for condition in filters.conditions(query)):
        if field.kind in _KINDS:
            known = names_of(catalog, field.kind)
            if index_name(field.name) not in known:
                told.append(f"no Thing has a {field.kind} {field.name!r}{did_you_mean(field.name, known)}")
    return told


# Which of the three indexes of the attributes has a row; the conditions are those of the indexes, word for word.
_HAVING = {
    "number": ATTRIBUTES.c.number.is_not(None),
    "text": ATTRIBUTES.c.text.is_not(None) & ATTRIBUTES.c.number.is_(None),
    "nothing": ATTRIBUTES.c.text.is_(None) & ATTRIBUTES.c.number.is_(None),
}


class _Search:
    """One look into the catalog, on one connection.

    There are three ways to look, which differ in how long they take and not in what they find. Where one of the
    conditions that must hold is rare, the few Things that it holds for are looked up and the others tried on them.
    Else, if only some are wanted, the first Things in the order that was asked for are gone through. Else, or if those
    were not enough, all that one condition holds for are looked up.
    """

    def __init__(self, connection: sa.Connection, found: Found) -> None:
        self._connection, self._found = connection, found
        self._sqlite = connection.dialect.name == "sqlite"
        # Whether the condition that decides where to look holds for few, and one that has an index at all.
        self._rare = False
        self._usual: sa.Select[Any] | None = None
        self._driving: Node | None = None
        self._walking = False
        self._regex_found: dict[Condition, list[str]] = {}

    def count(self) -> int:
        query = sa.select(sa.func.count()).select_from(THINGS)
        if self._found.query == filters.EVERYTHING and not self._found._retired:
            # Both are counted in an index: nearly all are not retired, and would have to be looked at one by one.
            retired = query.where(THINGS.c.retired_at.is_not(None))
            return self._counted(query) - self._counted(retired)
        return self._counted(query.where(*self._where(self._drive())))

    def _counted(self, query: sa.Select[Any]) -> int:
        return int(self._connection.execute(query).scalar_one())

    def ids(self) -> list[str]:
        return [thing_id for (thing_id,) in self._page(THINGS.c.id)]

    def manifests(self) -> list[tuple[str, str | None]]:
        rows = self._page(THINGS.c.id, THINGS.c.retired_at)
        texts: dict[str, str] = {}
        for start in range(0, len(rows), _AT_ONCE):
            some = [thing_id for thing_id, _ in rows[start : start + _AT_ONCE]]
            query = sa.select(MANIFESTS).where(MANIFESTS.c.thing_id.in_(some))
            texts.update(cast("list[tuple[str, str]]", self._rows(query)))
        return [(texts[thing_id], retired_at) for thing_id, retired_at in rows if thing_id in texts]

    def _page(self, *columns: sa.ColumnElement[Any]) -> list[tuple[Any, ...]]:
        """Return columns of the Things that are wanted, in order."""
        limit, offset = self._found._limit, self._found._offset
        if limit == 0:
            return []
        driver = self._drive()
        if not self._rare and limit is not None:
            found = self._walk(columns, limit, offset)
            if found is not None:
                return found
        orders = self._found.orders
        query = sa.select(*columns).select_from(THINGS).where(*self._where(driver))
        for number, order in enumerate(orders):
            query = self._ordered(query, order, number)
        if not any(order.field == Field("column", "id") for order in orders):
            from_oldest = orders[:1] == (Order(filters.CREATED_AT, False),)
            query = query.order_by(THINGS.c.id.asc() if from_oldest else THINGS.c.id.desc())
        return self._rows(self._cut(query, limit, offset))

    def _walk(
        self, columns: Sequence[sa.ColumnElement[Any]], limit: int, offset: int
    ) -> list[tuple[Any, ...]] | None:
        """Return the wanted of those that come first in the order; None if that does not tell."""
        order = self._found.orders[0] if len(self._found.orders) == 1 else None
        if order is None or not (order.field == filters.CREATED_AT or order.field.kind in _KINDS):
            return None
        self._walking = True
        try:
            # Where no condition has an index, there is no other way than through all.
            far = None if self._usual is None else max(_FAR, 50 * (limit + offset))
            if order.field.kind in _KINDS:
                return self._ranked(columns, order, limit, offset, far)
            where = self._where(None)
            direction = sa.desc if order.descending else sa.asc
            time, thing_id = direction(THINGS.c.created_at), direction(THINGS.c.id)
            if far is not None:
                end = self._connection.execute(
                    sa.select(THINGS.c.created_at).order_by(time).limit(1).offset(far)
                ).scalar()
                if end is None:
                    far = None
                else:
                    where.append(
                        THINGS.c.created_at >= end if order.descending else THINGS.c.created_at <= end
                    )
            query = sa.select(*columns).select_from(THINGS).where(*where).order_by(time, thing_id)
            rows = self._rows(self._cut(query, limit, offset))
            return rows if far is None or len(rows) == limit else None
        finally:
            self._walking = False

    def _cut(self, query: sa.Select[Any], limit: int | None, offset: int) -> sa.Select[Any]:
        if limit is not None:
            query = query.limit(limit)
        elif offset and self._sqlite:
            query = query.limit(-1)
        return query.offset(offset) if offset else query

    def _ranked(
        self, columns: Sequence[sa.ColumnElement[Any]], order: Order, limit: int, offset: int, far: int | None
    ) -> list[tuple[Any, ...]] | None:
        """Return the first by an attribute: one type after the other in its index, then those without a value.

        None if there are not enough among the first `far` numbers.
        """
        found: list[tuple[Any, ...]] = []
        where = self._where(None)
        kind, key = _attribute_key(order.field)
        named = (ATTRIBUTES.c.kind == kind, ATTRIBUTES.c.name == index_name(order.field.name))
        joined = ATTRIBUTES.join(THINGS, THINGS.c.id == ATTRIBUTES.c.thing_id)
        for kind_of in (*_RANK, None):
            if kind_of is None:
                ranked = sa.exists().where(
                    ATTRIBUTES.c.thing_id == key, *named, ATTRIBUTES.c.type.in_(list(_RANK))
                )
                query = sa.select(*columns).select_from(THINGS).where(~ranked, *where)
                query = query.order_by(THINGS.c.id.desc())
            else:
                text = kind_of == "text"
                keys = (_head(), ATTRIBUTES.c.text) if text else (ATTRIBUTES.c.number,)
                exact = (ATTRIBUTES.c.text,) if kind_of == "time" else ()
                ordering = [each.desc() if order.descending else each.asc() for each in (*keys, *exact)]
                of_type = [*named, ATTRIBUTES.c.type == kind_of, _HAVING["text" if text else "number"]]
                if far is not None and kind_of == "number":
                    last = sa.select(ATTRIBUTES.c.number).where(*of_type).order_by(*ordering)
                    end = self._connection.execute(last.limit(1).offset(far)).scalar()
                    number = ATTRIBUTES.c.number
                    of_type += [] if end is None else [number >= end if order.descending else number <= end]
                    far = None if end is None else far
                query = sa.select(*columns).select_from(joined).where(*of_type, *where)
                query = query.order_by(*ordering, ATTRIBUTES.c.thing_id.desc())
            rows = self._rows(query.limit(limit - len(found) + offset))
            found += rows[offset:]
            offset = max(0, offset - len(rows))
            if len(found) >= limit:
                break
            if far is not None:
                return None
        return found

    def _ordered(self, query: sa.Select[Any], order: Order, number: int) -> sa.Select[Any]:
        """Return the query sorted by a field."""
        field = order.field

        def directed(key: Any) -> Any:
            return key.desc() if order.descending else key.asc()

        if field.kind == "column":
            column = THINGS.c[field.name]
            never_null = field.name in ("id", "step", "partition", "created_at", "data_version", "size")
            return query.order_by(*(() if never_null else (column.is_(None),)), directed(column))
        if field.kind == "verdict":
            status = self._verdict_status(field)
            return query.order_by(status.is_(None), directed(status))
        one = ATTRIBUTES.alias(f"sorting{number}")
        kind, key = _attribute_key(field)
        query = query.outerjoin(
            one, (one.c.thing_id == key) & (one.c.kind == kind) & (one.c.name == index_name(field.name))
        )
        rank = sa.case(_RANK, value=one.c.type, else_=None)
        text = sa.case((one.c.type.in_(("time", "text")), one.c.text), else_=None)
        return query.order_by(rank.is_(None), rank, directed(one.c.number), directed(text))

    # Which of the conditions decides where to look.

    def _drive(self) -> sa.Select[Any] | None:
        """Return a query for the ids among which all that is wanted is; None to look through all Things."""
        query = self._found.query
        self._usual = None
        for part in sorted(query.parts if isinstance(query, AllOf) else (query,), key=_selective):
            ids = self._ids_of(part)
            if ids is None:
                continue
            if self._connection.execute(ids.limit(1).offset(_RARE)).first() is None:
                self._rare, self._driving = True, part
                return ids
            if self._usual is None:
                self._usual, self._driving = ids, part
        return self._usual

    def _ids_of(self, node: Node) -> sa.Select[Any] | None:
        """Return a query for the ids of all Things that a tree may hold for, from indexes; None if there is none."""
        if isinstance(node, AllOf):
            each = map(self._ids_of, sorted(node.parts, key=_selective))
            return next((ids for ids in each if ids is not None), None)
        if isinstance(node, AnyOf):
            either = [self._ids_of(part) for part in node.parts]
            if any(ids is None for ids in either):
                return None
            together = sa.union_all(*cast("list[sa.Select[Any]]", either)).subquery()
            return sa.select(together.c[0])
        if isinstance(node, Not):
            return None
        field = node.field
        if field.kind == "column":
            looked_up = node.operator in ("eq", "in") and not any(
                value.type == "null" for value in node.values
            )
            if field.name not in _INDEXED or not looked_up:
                return None
            return sa.select(THINGS.c.id).where(self._of_column(node, plain=False))
        if field.kind in ("file", "hash"):
            return sa.select(COMPONENTS.c.thing_id).where(*self._of_components(node)) if node.values else None
        if field.kind == "verdict":
            return sa.select(VERDICTS.c.thing_id).where(VERDICTS.c.claim == storable(field.name))
        kind, _ = _attribute_key(field)
        named = (ATTRIBUTES.c.kind == kind, ATTRIBUTES.c.name == index_name(field.name))
        if node.operator == "exists":
            parts = [sa.select(ATTRIBUTES.c.thing_id).where(*named, having) for having in _HAVING.values()]
            ids = sa.select(sa.union_all(*parts).subquery().c.thing_id)
        else:
            ids = sa.select(ATTRIBUTES.c.thing_id).where(*named, *self._of_attribute(node))
        return sa.select(THINGS.c.id).where(THINGS.c.origin.in_(ids)) if kind == "origin" else ids

    def _where(self, driver: sa.Select[Any] | None) -> list[_Clause]:
        where: list[_Clause] = []
        if driver is not None:
            # PostgreSQL takes an array first, and a subquery when it likes, after trying all else on every Thing.
            array = sa.any_(sa.func.array(driver.scalar_subquery()))
            where.append(THINGS.c.id.in_(driver) if self._sqlite else THINGS.c.id == array)
        if not self._found._retired:
            where.append(THINGS.c.retired_at.is_(None))
        query = self._found.query
        for part in query.parts if isinstance(query, AllOf) else (query,):
            # What the ids were looked up by holds for them all; a verdict may have been followed by another.
            looked_up = driver is not None and part is self._driving and isinstance(part, Condition)
            if not looked_up or cast("Condition", part).field.kind == "verdict":
                where.append(self._clause(part))
        return where

    def _plain(self, column: Any) -> Any:
        """Return a column of `things` so that SQLite uses no index for it: another way to look was chosen."""
        if self._sqlite and (self._walking or self._rare) and column.name not in ("created_at", "id"):
            plus: Any = sa.sql.operators.custom_op("+")
            return sa.sql.elements.UnaryExpression(column, operator=plus, type_=column.type)
        return column

    def _exists(self, *where: _Clause) -> _Clause:
        found: sa.Select[Any] = sa.select(sa.literal_column("1")).where(*where).correlate(THINGS)
        if not self._sqlite:
            # PostgreSQL would join all that it holds for, whose number it cannot guess: for each Thing is quick enough.
            found = found.offset(sa.literal_column("0"))
        return sa.exists(found)

    def _verdict_status(self, field: Field) -> sa.ScalarSelect[Any]:
        return (
            sa.select(VERDICTS.c.status)
            .where(VERDICTS.c.thing_id == THINGS.c.id, VERDICTS.c.claim == storable(field.name))
            .order_by(VERDICTS.c.created_at.desc(), VERDICTS.c.check_run.desc())
            .limit(1)
            .correlate(THINGS)
            .scalar_subquery()
        )

    # What a tree means, as conditions that are true or false and never null, so that they can be negated.

    def _clause(self, node: Node) -> _Clause:
        if isinstance(node, AllOf):
            return sa.and_(*(self._clause(part) for part in node.parts))
        if isinstance(node, AnyOf):
            return sa.or_(*(self._clause(part) for part in node.parts))
        if isinstance(node, Not):
            return sa.not_(self._clause(node.part))
        field = node.field
        if field.kind == "column":
            return self._of_column(node)
        if field.kind == "verdict":
            status = self._verdict_status(field)
            if node.operator == "exists":
                return status.is_not(None)
            return sa.func.coalesce(self._of_text(status, node), sa.false())
        if field.kind in ("file", "hash"):
            return self._exists(COMPONENTS.c.thing_id == THINGS.c.id, *self._of_components(node))
        kind, key = _attribute_key(field)
        name = ATTRIBUTES.c.name == index_name(field.name)
        return self._exists(
            ATTRIBUTES.c.thing_id == key, ATTRIBUTES.c.kind == kind, name, *self._of_attribute(node)
        )

    def _of_column(self, node: Condition, *, plain: bool = True) -> _Clause:
        own = THINGS.c[node.field.name]
        column = self._plain(own) if plain else own
        if node.operator == "exists":
            return column.is_not(None)
        nulls = [value for value in node.values if value.type == "null"]
        if nulls and len(nulls) == len(node.values):
            return column.is_(None)
        if node.field.type == "text":
            held = self._of_text(column, node)
        elif node.field.type == "time":
            times = [
                value.value.isoformat(timespec="microseconds") for value in node.values if value not in nulls
            ]
            held = _compared(column, node.operator, times)
        else:
            held = sa.or_(
                sa.false(),
                *(
                    _number(column, None, node.operator, value.value)
                    for value in node.values
                    if value not in nulls
                ),
            )
        known = sa.and_(column.is_not(None), held)
        return sa.or_(column.is_(None), known) if nulls else known

    def _of_components(self, node: Condition) -> list[_Clause]:
        if node.operator == "exists":
            return []
        return [self._of_text(COMPONENTS.c.name if node.field.kind == "file" else COMPONENTS.c.hash, node)]

    def _of_text(self, column: Any, node: Condition) -> Any:
        """Return a condition on a column of texts that are all indexed whole."""
        if node.operator == "regex":
            texts = self._matching(column, node, [])
        else:
            texts = [storable(value.value) for value in node.values if value.type == "text"]
            if node.field.kind == "file":
                texts = [index_name(text) for text in texts]
        return (
            self._among(column, texts)
            if node.operator in ("in", "regex")
            else _compared(column, node.operator, texts)
        )

    def _of_attribute(self, node: Condition) -> list[_Clause]:
        """Return conditions on the value of an attribute."""
        if node.operator == "exists":
            return []
        if node.operator == "regex":
            text = [ATTRIBUTES.c.type == "text", _HAVING["text"]]
            kind, _ = _attribute_key(node.field)
            name = [ATTRIBUTES.c.kind == kind, ATTRIBUTES.c.name == index_name(node.field.name)]
            found = self._matching(ATTRIBUTES.c.text, node, [*name, *text])
            return [*text, self._texts(found)]
        by_type: dict[str, list[Any]] = {}
        for value in node.values:
            by_type.setdefault(value.type, []).append(value.value)
        parts: list[_Clause] = []
        for kind, values in by_type.items():
            is_type = ATTRIBUTES.c.type == kind
            if kind in ("null", "nan"):
                # In no order, and equal to nothing but itself.
                parts.append(is_type & _HAVING["nothing"] if node.operator in ("eq", "in") else sa.false())
            elif kind == "text":
                parts.append(
                    sa.and_(
                        is_type, _HAVING["text"], self._text(node.operator, [storable(v) for v in values])
                    )
                )
            else:
                plain = [microseconds(value) if kind == "time" else value for value in values]
                parts.append(sa.and_(is_type, _HAVING["number"], self._numbers(node.operator, plain)))
        return [sa.or_(*parts)] if parts else [sa.false()]

    def _numbers(self, operator: Operator, values: Sequence[Any]) -> _Clause:
        number, integer = ATTRIBUTES.c.number, ATTRIBUTES.c.integer
        if operator != "in":
            return _number(number, integer, operator, values[0])
        plain = [float(value) for value in values if abs(value) < EXACT]
        large = [value for value in values if abs(value) >= EXACT]
        return sa.or_(number.in_(plain), *(_number(number, integer, "eq", value) for value in large))

    def _text(self, operator: Operator, values: Sequence[str]) -> _Clause:
        if operator == "in":
            return self._texts(values)
        head, value = _head(), values[0]
        cut = value[:LONGEST_INDEXED]
        if operator == "eq":
            whole = () if len(value) < LONGEST_INDEXED else (ATTRIBUTES.c.text == value,)
            return sa.and_(head == cut, *whole)
        # The beginning, which is in the index, is never out of order with the whole.
        near = head >= cut if operator in ("gt", "gte") else head <= cut
        return sa.and_(near, _compared(ATTRIBUTES.c.text, operator, values))

    def _texts(self, values: Sequence[str]) -> _Clause:
        long = [value for value in values if len(value) >= LONGEST_INDEXED]
        short = self._among(_head(), [value for value in values if len(value) < LONGEST_INDEXED])
        return (
            short
            | (
                self._among(_head(), list({v[:LONGEST_INDEXED] for v in long}))
                & self._among(ATTRIBUTES.c.text, long)
            )
            if long
            else short
        )

    def _among(self, column: Any, values: Sequence[str]) -> _Clause:
        """Return a condition that a column has one of any number of texts."""
        if len(values) <= _AT_ONCE:
            return cast("_Clause", column.in_(values))
        if self._sqlite:
            listed = sa.func.json_each(json.dumps(values)).table_valued("value")
            return cast("_Clause", column.in_(sa.select(listed.c.value)))
        return cast("_Clause", column == sa.any_(sa.literal(list(values), sa.ARRAY(sa.Text))))

    def _matching(self, column: Any, node: Condition, where: Sequence[Any]) -> list[str]:
        """Return the different texts that a regular expression is found in: neither database knows RE2."""
        if node not in self._regex_found:
            expression = filters.compiled(node.values[0].value, node.field)
            if node.field.kind == "verdict":
                column, where = VERDICTS.c.status, [VERDICTS.c.claim == storable(node.field.name)]
            query = sa.select(column).where(column.is_not(None), *where).distinct()
            texts = self._connection.execute(query).scalars()
            self._regex_found[node] = [text for text in texts if expression.search(text)]
        return self._regex_found[node]

    # What is found, as a frame.

    def frame(self, columns: Sequence[str] | None) -> pa.Table:
        own, chosen, every = _chosen(columns)
        named = list(dict.fromkeys(("id", *(name for name in own if name in THINGS.c), "origin")))
        rows = self._page(*(THINGS.c[name] for name in named))
        by_name = dict(zip(named, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(named, ())
        values = self._attributes(by_name["id"], chosen, every) if rows else {}
        found: dict[str, pa.Array] = {}
        for name in own:
            if name in THINGS.c:
                found[name] = _column(name, by_name[name])
            elif name.endswith(".*"):
                kind = filters.ROOTS[name[:-2]]
                for one in sorted((one for one in values if one.kind == kind), key=lambda one: one.name):
                    found[str(one)] = values[one]
            else:
                field = filters.parse_field(name)
                indexed = Field(field.kind, index_name(field.name))
                found[name] = values.get(indexed, pa.nulls(len(rows), pa.float64()))
        return pa.table(found)

    def _attributes(
        self, ids: Sequence[str], chosen: Sequence[Field], every: Sequence[str]
    ) -> dict[Field, pa.Array]:
        """Return the values of attributes, one for each id; None where a Thing has none."""
        wanted: list[_Clause] = [
            (ATTRIBUTES.c.kind == field.kind) & (ATTRIBUTES.c.name == index_name(field.name))
            for field in chosen
        ]
        if every:
            # One range of the index; rows of no other kind that a Thing has are within it.
            whole = len(every) == len(_KINDS)
            wanted.append(ATTRIBUTES.c.kind.between(*_ENDS) if whole else ATTRIBUTES.c.kind.in_(list(every)))
        if not wanted:
            return {}
        place, thing_id = self._numbered(ids)
        # Most are numbers or texts, whose type need not be looked at.
        unusual = sa.case((ATTRIBUTES.c.type.in_(("number", "text")), None), else_=ATTRIBUTES.c.type)
        values = (ATTRIBUTES.c.number, ATTRIBUTES.c.integer, ATTRIBUTES.c.text)
        query = sa.select(place, ATTRIBUTES.c.kind, ATTRIBUTES.c.name, unusual, *values)
        held: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [None] * len(ids))
        for row, kind, name, kind_of, number, exact, text in self._rows(
            query.where(ATTRIBUTES.c.thing_id == thing_id, sa.or_(*wanted))
        ):
            if kind_of is not None:
                held[kind, name][row] = _value(kind_of, number, text)
            else:
                held[kind, name][row] = text if number is None else number if exact is None else exact
        return {
            Field(cast("filters.Kind", kind), name): _array(column) for (kind, name), column in held.items()
        }

    def _numbered(self, ids: Sequence[str]) -> tuple[Any, Any]:
        """Return ids as a table of two columns: their places, from 0, and they themselves."""
        if self._sqlite:
            listed = sa.func.json_each(json.dumps(ids)).table_valued("key", "value")
            return listed.c.key, listed.c.value
        array = sa.literal(list(ids), sa.ARRAY(sa.Text))
        numbered = sa.func.unnest(array).table_valued("value", with_ordinality="place").render_derived()
        return numbered.c.place - 1, numbered.c.value

    def _rows(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """Return rows as the driver gives them: where there are a hundred thousand, each step counts."""
        return list(self._connection.execute(query).cursor.fetchall())


def _attribute_key(field: Field) -> tuple[str, sa.Column[Any]]:
    """Return the kind of an attribute's rows, and the column of `things` that has the id that they are under."""
    if field.kind != "provenance":
        return field.kind, THINGS.c.id
    own = field.name.partition(".")[0] in OWN_PROVENANCE
    return ("provenance", THINGS.c.id) if own else ("origin", THINGS.c.origin)


def _selective(node: Node) -> int:
    """Return a guess of how many a tree holds for: smaller for fewer."""
    if not isinstance(node, Condition):
        return 5
    exact = node.operator in ("eq", "in")
    if node.field.kind == "column":
        return (0 if node.field.name in ("id", "name", "run_id", "data_version") else 3) if exact else 9
    return 1 if exact else 4


def _head() -> Any:
    return sa.func.substr(ATTRIBUTES.c.text, sa.literal_column("1"), sa.literal_column(str(LONGEST_INDEXED)))


def _compared(column: Any, operator: Operator, values: Sequence[Any]) -> _Clause:
    if not values:
        return sa.false()
    if operator == "in":
        return cast("_Clause", column.in_(values))
    value = values[0]
    compared = {
        "eq": column == value,
        "gt": column > value,
        "gte": column >= value,
        "lt": column < value,
        "lte": column <= value,
    }
    return cast("_Clause", compared[operator])


def _number(number: Any, integer: Any, operator: Operator, value: int | float) -> _Clause:
    """Return how numbers compare: as doubles, and exactly where integers are beyond those that a double can hold.

    Args:
        number: The column of doubles, or of integers if there is no other.
        integer: The column of those integers that are no doubles; None if there is none.
        operator: The comparison.
        value: What to compare with.
    """
    if isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        value = _double(value)
    if integer is None:
        if isinstance(value, float) and math.isinf(value):
            return sa.literal(_holds(0, operator, value)) == sa.true()
        return _compared(number, "eq" if operator == "in" else operator, [value])
    double = float(value)
    if abs(double) < EXACT or math.isinf(double):
        return _compared(number, operator, [double])
    whole = int(value)
    inside = -LARGEST_INTEGER - 1 <= whole <= LARGEST_INTEGER
    # A double that was rounded down stands for an integer that may be greater than it is, and the other way round.
    exact = _compared(integer, operator, [whole]) if inside else _constant(_holds(0, operator, double))
    same = sa.or_(
        sa.and_(integer.is_(None), _constant(_holds(double, operator, value))),
        sa.and_(integer.is_not(None), exact),
    )
    tied = sa.and_(number == double, same)
    if operator == "eq":
        return tied
    return sa.or_(number > double if operator in ("gt", "gte") else number < double, tied)


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _constant(holds: bool) -> _Clause:
    return sa.true() if holds else sa.false()


def _holds(one: float, operator: Operator, other: float) -> bool:
    return {
        "eq": one == other,
        "gt": one > other,
        "gte": one >= other,
        "lt": one < other,
        "lte": one <= other,
    }["eq" if operator == "in" else operator]


def _chosen(columns: Sequence[str] | None) -> tuple[list[str], list[Field], list[str]]:
    """Return the columns of a frame, the single attributes among them, and the kinds of which all are wanted."""
    if columns is None:
        columns = [*COLUMNS, *(f"{root}.*" for root in _KINDS.values())]
    if isinstance(columns, str):
        raise BadQuery(f"columns is a list of fields, not {columns!r}")
    chosen: list[Field] = []
    every: list[str] = []
    for name in columns:
        if name in [f"{root}.*" for root in _KINDS.values()]:
            every.append(filters.ROOTS[name[:-2]])
            continue
        field = filters.parse_field(name)
        if field.kind in _KINDS:
            chosen.append(field)
        elif field.kind != "column":
            raise BadQuery(
                f"{name} is no column of a frame; those are columns, labels, parameters and metrics"
            )
    return list(dict.fromkeys(columns)), chosen, every


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    if name in filters.TIMES:
        return pa.array(values, pa.string()).cast(pa.timestamp("us", "UTC"))
    return pa.array(values, pa.int64() if name in filters.NUMBERS else pa.string())


def _value(kind: str, number: float | None, text: str | None) -> Any:
    """Return an attribute that is neither a number nor a text."""
    if kind == "truth":
        return bool(number)
    if kind == "time" and text is not None:
        return datetime.fromisoformat(text)
    return math.nan if kind == "nan" else text


def _array(values: Sequence[Any]) -> pa.Array:
    """Return attributes as the one type that they have, else as text."""
    types = set(map(type, values)) - {type(None)}
    if types <= {float}:
        return pa.array(values, pa.float64(), from_pandas=False)
    if types <= {float, int}:
        whole = all(
            isinstance(one, int) or one is None or (one.is_integer() and abs(one) <= EXACT) for one in values
        )
        kind, change = (pa.int64(), int) if whole else (pa.float64(), float)
        return pa.array([None if one is None else change(one) for one in values], kind, from_pandas=False)
    if types == {bool}:
        return pa.array(values, pa.bool_())
    if types == {datetime}:
        return pa.array(values, pa.timestamp("us", "UTC"))
    if types == {str}:
        return pa.array(values, pa.string())
    return pa.array([None if one is None else _as_text(one) for one in values], pa.string())


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) <= EXACT else str(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
