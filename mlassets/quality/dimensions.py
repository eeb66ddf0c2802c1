"""The six dimensions of data quality, measured on every row in a few passes of DuckDB over Parquet.

Accuracy: what is written is true, as far as rules and reference tables can tell. Completeness: what must be known is
known. Consistency: columns agree with each other, and with other tables. Validity: values have the type, the range,
the form that they must have. Uniqueness: no key is there twice. Timeliness: data comes when it is due.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from mlassets.expectations import Expectations, ExpectedColumn, ExpectedRule
from mlassets.quality.all_rows import only_broken, share
from mlassets.quality.displays import Table
from mlassets.quality.judging import DoesNotApply, Observation
from mlassets.quality.rows import Rows, View, family_of, opened
from mlassets.sections import close_matches, duration, shown
from resources.errors import MlassetsError
from resources.query import BadCondition, Condition, sql_text

Dimension = Literal["accuracy", "completeness", "consistency", "validity", "uniqueness", "timeliness"]

EXAMPLES = 3
MOST_LOOKED_UP = 20
_SAME_SUM = 1e-9


class CannotBeJudged(MlassetsError):
    """What is expected of some rows cannot be held against them, because one of the two has to be changed."""


@dataclass(frozen=True)
class Arrived:
    """When rows came, as far as somebody knows.

    Attributes:
        at: When the newest of them landed.
        before: When those that were there before landed; None if there were none.
        earlier: The rows that were there before; None if there were none.
        every_row_now: All rows came at once at `at` (a draw), so that only the age of the newest can be told.
    """

    at: datetime
    before: datetime | None = None
    earlier: Rows | None = None
    every_row_now: bool = False


@dataclass(frozen=True)
class _Expected:
    """One thing that is expected of a column, or of a row.

    Attributes:
        dimension: What it belongs to.
        name: The column, or the rule.
        says: What is expected, after "should" (`be from 0 to 10`).
        broken: SQL that is true for a row which breaks it.
        columns: The columns whose values tell why.
        known: Only rows that know the column's value count.
        most: Share of the rows that may break it.
        costly: To tell takes long for each value: it is asked once for each that is different.
    """

    dimension: Dimension
    name: str
    says: str
    broken: str
    columns: tuple[str, ...]
    known: bool = True
    most: float = 0.0
    costly: bool = False


@dataclass(frozen=True)
class _Found:
    """How many rows break what was expected, out of how many, with examples; or by how much a total is off."""

    expected: _Expected
    broken: int
    among: int
    examples: tuple[str, ...] = ()
    off: float | None = None

    @property
    def share(self) -> float:
        """Share of the rows that break it, beyond the share that may; of a total, the share that it is off by."""
        if self.off is not None:
            return self.off
        over = share(self.broken, self.among) - self.expected.most
        return over if over > 1e-12 else 0.0


class Dimensions:
    """Exact observations of how rows keep what is expected of them; within the block that `opened` is used in.

    Args:
        view: The rows.
        expected: What is expected of them.
        others: The tables of other sources that are compared with, by source.
        unknown: Why a source that is compared with has no table, by source.
        arrived: When the rows came; None where nobody knows.
        earlier: The rows that were there before, opened.
    """

    def __init__(
        self,
        view: View,
        expected: Expectations,
        others: Mapping[str, View] | None = None,
        unknown: Mapping[str, str] | None = None,
        arrived: Arrived | None = None,
        earlier: View | None = None,
    ) -> None:
        self._view, self._expected = view, expected
        self._others, self._unknown = others or {}, unknown or {}
        self._arrived, self._earlier = arrived, earlier
        self.n = view.n

    def accuracy(self) -> Observation:
        """Measure, rule by rule and reference by reference, the share of rows that are not true."""
        rules = [one for one in self._expected.rules if one.dimension == "accuracy"]
        found = [*self._rules(rules), *self._references()]
        return self._seen(found, "no rule of `dimension: accuracy` and no `reference` is declared")

    def completeness(self) -> Observation:
        """Measure, column by column, the share of missing values beyond what may be missing."""
        missing = [
            _Found(
                _Expected(
                    "completeness", name, f"be there; {close_matches(name, self._view.columns)}", "", ()
                ),
                max(self.n, 1),
                max(self.n, 1),
            )
            for name in self._named
            if name not in self._view.columns
        ]
        return self._seen(
            [*missing, *self._of("completeness")],
            "nothing says which values must be there (`key`, `columns`)",
        )

    def consistency(self) -> Observation:
        """Measure, rule by rule and table by table, the share of rows that contradict something else."""
        rules = [one for one in self._expected.rules if one.dimension == "consistency"]
        return self._seen(
            [*self._rules(rules), *self._same_in()], "no rule between columns, and no `same_in`, is declared"
        )

    def validity(self) -> Observation:
        """Measure, column by column, the share of values without the type, range, length or form they must have."""
        return self._seen(
            self._of("validity"), "no type, range, pattern, length or list of values is declared for a column"
        )

    def uniqueness(self) -> Observation:
        """Measure the share of rows whose key, or value of a unique column, stood in an earlier row."""
        keys = [tuple(self._expected.key)] if self._expected.key else []
        keys += [
            (name,) for name, one in self._expected.columns.items() if one.unique and (name,) not in keys
        ]
        if not keys:
            raise DoesNotApply("no key and no unique column is declared", self.n)
        self._need_rows()
        return self._seen([self._twice(key) for key in keys], "")

    def timeliness(self) -> Observation:
        """Measure how late the newest row is, as a share of the time that it may take."""
        due = self._expected.arrives
        if due is None:
            raise DoesNotApply("nothing says when data is due (`arrives`)", self.n)
        if self._arrived is None:
            raise DoesNotApply("nobody knows when these rows came", self.n)
        self._need_rows()
        every, within = ((duration(one) if one else None) for one in (due.every, due.within))
        at = self._arrived.at
        newest = _newest(self._view, due.column) if due.column else at
        if newest is None:
            raise CannotBeJudged(
                f"`{due.column}` holds no date or time, so nothing says how new the rows are"
            )
        late: list[tuple[float, str]] = []
        if self._arrived.every_row_now:
            allowed = (every or timedelta(0)) + (within or timedelta(0))
            late.append(_late(at - newest, allowed, f"the newest row ({newest:%Y-%m-%d %H:%M}) is {{}} old"))
        else:
            if within:
                words = f"the newest row ({newest:%Y-%m-%d %H:%M}) landed {{}} after its time"
                late.append(_late(at - newest, within, words))
            before = self._arrived.before if due.column is None else None
            if due.column and self._earlier is not None:
                before = _newest(self._earlier, due.column)
            if every and before is not None:
                words = f"{{}} lie between the newest row ({newest:%Y-%m-%d %H:%M}) and the newest of before"
                late.append(_late(newest - before, every, words))
        if not late:
            raise DoesNotApply("this is the first delivery", self.n)
        value, found = max(late)
        return Observation(
            value, self.n, f"{found[0].upper()}{found[1:]}.", {"newest": f"{newest:%Y-%m-%dT%H:%M:%S}"}
        )

    def observe(self, dimension: Dimension) -> Observation:
        """Return what was observed of one dimension.

        Raises:
            DoesNotApply: If nothing of it is declared.
            MlassetsError: If what is declared cannot be held against these rows.
        """
        observed: Observation = getattr(self, dimension)()
        return observed

    @property
    def _named(self) -> tuple[str, ...]:
        """All columns that must be there, rules apart."""
        same = [name for one in self._expected.same_in.values() for name in (*one.keys, *one.sums)]
        due = self._expected.arrives
        dated = [due.column] if due and due.column else []
        return tuple(dict.fromkeys([*self._expected.key, *self._expected.columns, *same, *dated]))

    def _need_rows(self) -> None:
        if not self.n:
            raise DoesNotApply("there are no rows")

    def _of(self, dimension: Dimension) -> list[_Found]:
        return [found for found in self._counted if found.expected.dimension == dimension]

    @cached_property
    def _counted(self) -> list[_Found]:
        """What one pass over the rows tells: all that is expected of a single value."""
        expected: list[_Expected] = []
        columns = {name: one for name, one in self._expected.columns.items() if name in self._view.columns}
        for name in self._expected.key:
            if name in self._view.columns and name not in columns:
                columns[name] = ExpectedColumn()
        for number, (name, one) in enumerate(columns.items()):
            most = 0.0 if name in self._expected.key else one.nulls
            if most is not None:
                says = f"be missing in {most:.2%} at most" if most else "never be missing"
                sql = f"{self._view.columns[name]} IS NULL"
                expected.append(_Expected("completeness", name, says, sql, (name,), known=False, most=most))
            expected += _of_values(self._view, name, one, f"values_{number}")
        return self._count(expected)

    def _count(self, expected: Sequence[_Expected]) -> list[_Found]:
        if not expected:
            return []
        costly = [one for one in expected if one.costly]
        expected = [one for one in expected if not one.costly]
        columns = sorted({one.columns[0] for one in expected if one.known or one.dimension == "completeness"})
        counts = [f"count({self._view.columns[name]})" for name in columns]
        # What is missing is what the count of known values leaves.
        broken = [
            f"count(*) - count({self._view.columns[one.columns[0]]})"
            if one.dimension == "completeness"
            else f"count_if({one.broken})"
            for one in expected
        ]
        seen = self._view.ask(f"SELECT {', '.join([*counts, *broken])} FROM {self._view.name}")
        known = dict(zip(columns, seen, strict=False))
        found = [
            _Found(one, int(count or 0), int(known[one.columns[0]]) if one.known and one.columns else self.n)
            for one, count in zip(expected, seen[len(counts) :], strict=True)
        ]
        return self._with_examples([*found, *map(self._count_once_each, costly)])

    def _count_once_each(self, expected: _Expected) -> _Found:
        (name,) = expected.columns
        among, count = self._view.ask(
            f"SELECT sum(n) FILTER ({self._view.columns[name]} IS NOT NULL), sum(n) FILTER ({expected.broken}) "
            f"FROM {self._view.counted(name)}"
        )
        return _Found(expected, int(count or 0), int(among or 0))

    def _with_examples(self, found: list[_Found]) -> list[_Found]:
        """Look up where the worst are, which costs a look at the columns concerned."""
        worst = sorted((one for one in found if one.share), key=lambda one: -one.share)[:MOST_LOOKED_UP]
        return [
            _Found(
                one.expected,
                one.broken,
                one.among,
                self._view.examples(one.expected.broken, one.expected.columns),
            )
            if one in worst
            else one
            for one in found
        ]

    def _rules(self, rules: Sequence[ExpectedRule]) -> list[_Found]:
        expected = []
        for rule in rules:
            condition = Condition.parse(rule.sql)
            try:
                broken = f"NOT ({condition.over(self._view.columns)})"
            except BadCondition as error:
                raise CannotBeJudged(f"the rule {shown(rule.says)}: {error}") from None
            by_lower = {name.lower(): name for name in self._view.columns}
            columns = tuple(sorted({by_lower[name.lower()] for name in condition.columns}))
            says = "hold" if rule.name is None else f"hold: {' '.join(rule.sql.split())}"
            expected.append(_Expected(rule.dimension, rule.says, says, broken, columns, known=False))
        try:
            return self._count(expected)
        except BadCondition:
            raise
        except MlassetsError as error:
            # One of several fails on the data: which one it is, is told by asking each by itself.
            for one in expected:
                try:
                    self._count([one])
                except MlassetsError as its_own:
                    raise CannotBeJudged(
                        f"the rule {shown(one.name)} cannot be evaluated: {its_own}"
                    ) from error
            raise

    def _references(self) -> list[_Found]:
        found = []
        for name, one in self._expected.columns.items():
            if one.reference is None or name not in self._view.columns:
                continue
            source, _, column = one.reference.partition(".")
            other = self._other(source)
            found.append(self._not_in("accuracy", source, other, {name: column}))
        return found

    def _same_in(self) -> list[_Found]:
        found = []
        for source, also in self._expected.same_in.items():
            other = self._other(source)
            if also.keys:
                found.append(self._not_in("consistency", source, other, also.keys))
            for ours, theirs in also.sums.items():
                mine, its = (
                    view.ask(f"SELECT sum(CAST({view.column(name)} AS DOUBLE)) FROM {view.name}")[0] or 0.0
                    for view, name in ((self._view, ours), (other, theirs))
                )
                larger = max(abs(mine), abs(its))
                apart = abs(mine - its) / larger if larger else 0.0
                expected = _Expected(
                    "consistency", ours, f"add up to {its:,.6g}, as `{theirs}` of {source} does", "", (ours,)
                )
                off = apart if apart > _SAME_SUM else 0.0
                found.append(_Found(expected, 0, self.n, (f"it adds up to {mine:,.6g}",), off))
        return found

    def _not_in(self, dimension: Dimension, source: str, other: View, columns: Mapping[str, str]) -> _Found:
        """Count the rows whose values are not found together in another table; those with a null are left out."""
        names = tuple(columns)
        pairs = []
        for ours, theirs in columns.items():
            kinds = family_of(self._view.type(ours)), family_of(other.type(theirs))
            if (
                len(set(kinds)) > 1
                and not set(kinds) <= {"integer", "number"}
                and not set(kinds) <= {"date", "timestamp"}
            ):
                raise CannotBeJudged(
                    f"`{ours}` ({kinds[0]}) cannot be compared with `{theirs}` of {source} ({kinds[1]}); "
                    "read both with one type (`types` of a source)"
                )
            pairs.append((self._view.column(ours), other.column(theirs)))
        known = " AND ".join(f"{mine} IS NOT NULL" for mine, _ in pairs)
        if len(pairs) == 1:
            mine, its = pairs[0]
            absent = f"{mine} NOT IN (SELECT {its} FROM {other.name} WHERE {its} IS NOT NULL)"
        else:
            same = " AND ".join(f"o.{its} = {self._view.name}.{mine}" for mine, its in pairs)
            absent = f"NOT EXISTS (SELECT 1 FROM {other.name} o WHERE {same})"
        wanted = ", ".join(f"`{theirs}`" for theirs in columns.values())
        broken = f"({known}) AND {absent}"
        expected = _Expected(dimension, ", ".join(names), f"be found in {wanted} of {source}", broken, names)
        if len(names) == 1:
            return self._with_examples([self._count_once_each(expected)])[0]
        among, count = (
            self._view.ask(f"SELECT count(*) FROM {self._view.name} WHERE {where}")[0]
            for where in (known, broken)
        )
        return self._with_examples([_Found(expected, int(count), int(among))])[0]

    def _other(self, source: str) -> View:
        if source not in self._others:
            reason = self._unknown.get(source, "it has no version yet")
            raise CannotBeJudged(f"the source {source}, which is compared with, cannot be read: {reason}")
        return self._others[source]

    def _twice(self, key: tuple[str, ...]) -> _Found:
        name = ", ".join(key)
        expected = _Expected("uniqueness", name, "be there once", "", key)
        absent = [one for one in key if one not in self._view.columns]
        if absent:
            raise CannotBeJudged(
                f"the key column {shown(absent[0])} is not there; {close_matches(absent[0], self._view.columns)}"
            )
        among, distinct = self._view.distinct(key)
        examples: tuple[str, ...] = ()
        if among > distinct:
            columns = [self._view.columns[one] for one in key]
            listed, known = ", ".join(columns), " AND ".join(f"{one} IS NOT NULL" for one in columns)
            repeated = self._view.rows(
                f"SELECT count(*), {', '.join(f'left(CAST({one} AS VARCHAR), 80)' for one in columns)} "
                f"FROM {self._view.name} WHERE {known} GROUP BY {listed} HAVING count(*) > 1 "
                f"ORDER BY ALL DESC LIMIT {EXAMPLES}"
            )
            examples = tuple(
                f"{', '.join(map(shown, values))} in {count:,} rows" for count, *values in repeated
            )
        return _Found(expected, int(among - distinct), int(among), examples)

    def _seen(self, found: Sequence[_Found], without: str) -> Observation:
        if not found:
            raise DoesNotApply(without, self.n)
        if not self.n and all(one.expected.broken for one in found):
            raise DoesNotApply("there are no rows")
        worst = max(found, key=lambda one: one.share)
        broken = [one for one in found if one.share]
        if not broken:
            text = f"All {len(found):,} expectations hold." if len(found) > 1 else "What is expected holds."
        else:
            text = f"{shown(worst.expected.name)} should {worst.expected.says}"
            if worst.off is not None:
                text += f"; {worst.examples[0]}."
            elif not worst.expected.columns:
                text += "."
            else:
                text += f": {worst.broken:,} of {worst.among:,} do not"
                text += f", for example {worst.examples[0]}." if worst.examples else "."
            if len(broken) > 1:
                text += f" {len(broken) - 1:,} more of {len(found):,} expectations are broken."
        ordered = sorted(found, key=lambda one: -one.share)
        table = Table(
            ("what", "should", "broken", "of", "share", "examples"),
            tuple(
                (
                    one.expected.name[:200],
                    one.expected.says[:300],
                    "" if one.off is not None else f"{one.broken:,}",
                    "" if one.off is not None else f"{one.among:,}",
                    f"{share(one.broken, one.among) if one.off is None else one.off:.4%}",
                    "; ".join(one.examples),
                )
                for one in ordered[:200]
            ),
        )
        columns: dict[str, float] = {}
        for one in found:
            columns[one.expected.name] = max(columns.get(one.expected.name, 0.0), one.share)
        details = {"expectations": len(found), "columns": only_broken(columns)}
        return Observation(worst.share, self.n, text, details, displays=(table,))


def judged_dimensions(
    rows: Rows,
    expected: Expectations,
    others: Mapping[str, Rows] | None = None,
    *,
    unknown: Mapping[str, str] | None = None,
    arrived: Arrived | None = None,
    memory: str = "1GB",
    threads: int | None = None,
) -> dict[Dimension, Observation | Exception]:
    """Observe all six dimensions.

    Args:
        rows: The rows to judge.
        expected: What is expected of them.
        others: The rows of other sources that are compared with, by source.
        unknown: Why a source that is compared with cannot be read, by source.
        arrived: When the rows came; None where nobody knows.
        memory: Limit of the memory that is used before rows spill to the disk.
        threads: How many threads to use; one for each core by default.

    Returns:
        By dimension what was observed, or why it was not: an answer that `judge` makes a verdict of.
    """
    others = others or {}
    tables = {"": rows, **{f"source {name}": other for name, other in others.items()}}
    if arrived is not None and arrived.earlier is not None:
        tables["earlier"] = arrived.earlier
    found: dict[Dimension, Observation | Exception] = {}
    with opened(tables, memory=memory, threads=threads) as views:
        dimensions = Dimensions(
            views[""],
            expected,
            {name: views[f"source {name}"] for name in others},
            unknown,
            arrived,
            views.get("earlier"),
        )
        for dimension in CLAIMS:
            try:
                found[dimension] = dimensions.observe(dimension)
            except Exception as error:  # noqa: BLE001  # whatever breaks is the verdict of its own dimension
                found[dimension] = error
    return found


CLAIMS: Mapping[Dimension, str] = {
    "accuracy": "values_are_accurate",
    "completeness": "values_are_complete",
    "consistency": "columns_are_consistent",
    "validity": "values_are_valid",
    "uniqueness": "keys_are_unique",
    "timeliness": "data_is_timely",
}


def _of_values(view: View, name: str, one: ExpectedColumn, place: str) -> list[_Expected]:
    """Return what is expected of the single values of a column, as SQL."""
    column, kind = view.columns[name], family_of(view.type(name))
    found: list[tuple[str, str]] = []
    if one.type is not None:
        found.append((f"be of type {one.type}", _not_of_type(column, kind, one.type)))
    if one.range is not None:
        low, high = one.range
        words = (
            f"be from {low} to {high}"
            if low is not None and high is not None
            else f"be {low} or more"
            if low is not None
            else f"be {high} or less"
        )
        found.append((words, _outside(column, kind, one.range)))
    if one.values is not None:
        listed = ", ".join(shown(value, 30) for value in one.values[:8])
        more = ", …" if len(one.values) > 8 else ""
        found.append((f"be one of {listed}{more}", _not_among(view, column, kind, one.values, place)))
    if one.length is not None:
        low, high = one.length
        bounds = [f"length(CAST({column} AS VARCHAR)) < {low}"] * (low is not None)
        bounds += [f"length(CAST({column} AS VARCHAR)) > {high}"] * (high is not None)
        ends = f"{low or 0} to {high}" if high is not None else f"at least {low}"
        found.append((f"have {ends} characters", " OR ".join(bounds)))
    plain = [_Expected("validity", name, says, broken, (name,)) for says, broken in found]
    if one.pattern is None:
        return plain
    text = column if kind == "text" else f"CAST({column} AS VARCHAR)"
    broken = f"NOT regexp_full_match({text}, {sql_text(one.pattern)})"
    return [*plain, _Expected("validity", name, f"match {one.pattern}", broken, (name,), costly=True)]


def _not_of_type(column: str, kind: str, wanted: str) -> str:
    """Return SQL that is true where a value is not, and cannot be read as, one of a type."""
    everything = f"{column} IS NOT NULL"
    target = {
        "integer": "HUGEINT",
        "number": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP",
    }
    fits = {"integer": {"integer"}, "number": {"integer", "number"}, "boolean": {"boolean"}}
    fits |= {"text": {"text"}, "date": {"date"}, "timestamp": {"timestamp", "date"}}
    if kind in fits.get(wanted, ()):
        return "false"
    if kind == "text" and wanted == "integer":
        return f"{column} IS NOT NULL AND NOT regexp_full_match({column}, '\\s*[+-]?[0-9]+\\s*')"
    if kind == "text":
        return f"{column} IS NOT NULL AND TRY_CAST({column} AS {target.get(wanted, wanted.upper())}) IS NULL"
    if wanted == "integer" and kind == "number":
        return f"NOT isfinite(CAST({column} AS DOUBLE)) OR {column} <> floor({column})"
    if wanted.startswith("decimal") and kind in ("integer", "number"):
        # A number of the scale comes back from it; what is too large for the precision is no number of it.
        cast = f"TRY_CAST({column} AS {wanted.upper()})"
        return (
            f"{column} IS NOT NULL AND ({cast} IS NULL OR CAST({cast} AS DOUBLE) <> CAST({column} AS DOUBLE))"
        )
    if wanted == "date" and kind == "timestamp":
        return f"epoch_us({column}) % 86400000000 <> 0"
    return everything


def _outside(column: str, kind: str, ends: tuple[Any, Any]) -> str:
    """Return SQL that is true where a value lies outside of a range, or cannot be compared with its ends."""
    dated = any(isinstance(end, str) for end in ends)
    if dated:
        value = moment(column, kind)
        plain = [None if end is None else str(_epoch_us(end)) for end in ends]
        comparable = kind in ("date", "timestamp", "text")
    else:
        value = f"TRY_CAST({column} AS DOUBLE)" if kind == "text" else column
        plain = [None if end is None else repr(end) for end in ends]
        comparable = kind in ("integer", "number", "text")
    if not comparable:
        return f"{column} IS NOT NULL"
    bounds = [f"{value} {op} {end}" for op, end in zip("<>", plain, strict=True) if end is not None]
    if kind == "text":
        bounds.append(f"({value} IS NULL AND {column} IS NOT NULL)")
    if kind == "number" and ends[1] is None:
        # Not a number, which DuckDB takes for the largest of all.
        bounds.append(f"isnan(CAST({value} AS DOUBLE))")
    return " OR ".join(bounds)


def _not_among(view: View, column: str, kind: str, values: Sequence[Any], place: str) -> str:
    """Return SQL that is true where a value is none of those listed, which stand in a table of their own."""
    if kind in ("integer", "number"):
        numbers = [float(value) for value in values if _is_number(value)]
        listed = view.register(place, [one for one in numbers if math.isfinite(one)])
        return f"CAST({column} AS DOUBLE) NOT IN (SELECT v FROM {listed})"
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    listed = view.register(place, texts)
    return f"CAST({column} AS VARCHAR) NOT IN (SELECT v FROM {listed})"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return not isinstance(value, bool)


def moment(column: str, kind: str) -> str:
    """Return SQL for a date or time as microseconds since 1970, in UTC where nothing names a zone."""
    if kind == "text":
        return f"epoch_us(TRY_CAST({column} AS TIMESTAMP))"
    return f"epoch_us(CAST({column} AS TIMESTAMP))" if kind == "date" else f"epoch_us({column})"


def _epoch_us(text: str) -> int:
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _newest(view: View, column: str) -> datetime | None:
    kind = family_of(view.type(column))
    if kind not in ("date", "timestamp", "text"):
        raise CannotBeJudged(f"`{column}` is of type {kind}, and dates no row")
    (newest,) = view.ask(f"SELECT max({moment(view.column(column), kind)}) FROM {view.name}")
    return None if newest is None else datetime.fromtimestamp(newest / 1_000_000, UTC)


def _late(took: timedelta, allowed: timedelta, words: str) -> tuple[float, str]:
    found = f"{words.format(_length(took))}, where {_length(allowed)} are allowed"
    return max(took / allowed, 0.0), found


def _length(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if abs(hours) >= 48 else f"{hours:.1f} hours"
