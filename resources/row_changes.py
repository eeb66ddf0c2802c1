"""How the rows of two datasets differ: by a key, in DuckDB, which spills to disk what does not fit its memory."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds

_MEMORY = "1GB"
_THREADS = 2


@dataclass(frozen=True)
class RowChanges:
    """How the rows of two datasets differ.

    Attributes:
        key: The columns that tell which row is which; empty if whole rows were compared.
        before: Rows of the first.
        after: Rows of the second.
        added: Rows that only the second has.
        removed: Rows that only the first has.
        changed: Rows of both with another value in a column that both have.
        columns: In how many rows each such column differs.
        examples: Some rows of each kind; of changed ones the key, and before and after of what differs.
        note: Why rows were not compared, or not by a key; empty if they were.
    """

    key: tuple[str, ...] = ()
    before: int = 0
    after: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether the rows are known to be the same, whatever their order."""
        return not (
            self.added or self.removed or self.changed or (self.note and not (self.before or self.after))
        )


def compare_rows(
    before: "ds.Dataset", after: "ds.Dataset", key: tuple[str, ...] = (), *, examples: int = 5
) -> RowChanges:
    """Compare the rows of two datasets.

    Args:
        before: The first.
        after: The second.
        key: Columns of both that tell which row is which; whole rows are compared if they do not, or there are none.
        examples: How many rows of each kind are shown.

    Raises:
        duckdb.Error: If the rows cannot be read or compared.
    """
    with _connected() as connection:
        connection.register("a", before)
        connection.register("b", after)
        return _Rows(connection, before.schema, after.schema, examples).compare(key)


def same_value(one: Any, other: Any) -> bool:
    """Say whether two values are the same; NaN is the same as NaN, and a number is no truth value."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


@contextmanager
def _connected() -> Iterator["duckdb.DuckDBPyConnection"]:
    import duckdb

    with tempfile.TemporaryDirectory(prefix="mlassets-diff-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": False,
            "python_enable_replacements": False,
            "preserve_insertion_order": False,
            "temp_directory": spill,
            "memory_limit": _MEMORY,
            "threads": _THREADS,
        }
        connection = duckdb.connect(":memory:", config=config)
        # It would be drawn over what a terminal shows.
        connection.execute("SET enable_progress_bar = false")
        try:
            yield connection
        finally:
            connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Rows:
    """Compares the tables `a` and `b` of a connection; only quoted names of columns reach SQL."""

    def __init__(
        self, connection: "duckdb.DuckDBPyConnection", before: "pa.Schema", after: "pa.Schema", examples: int
    ) -> None:
        self._connection, self._before, self._after = connection, before, after
        self._both = [name for name in before.names if name in after.names]
        self._examples = int(examples)
        self._count_a, self._count_b = (self._one(f"SELECT count(*) FROM {table}")[0] for table in "ab")

    def compare(self, key: tuple[str, ...]) -> RowChanges:
        """Compare by key, or whole rows where there is none that tells the rows of each apart."""
        if not key:
            return self._whole_rows(
                "no key tells which row is which, so whole rows were compared; `--key` names one"
            )
        named = ", ".join(_quoted(name) for name in key)
        doubles = [
            self._one(
                f"SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {table} GROUP BY {named})"
            )[0]
            for table in "ab"
        ]
        if any(doubles):
            told = " and ".join(f"{int(count):,}" for count in doubles)
            return self._whole_rows(
                f"{', '.join(key)} occurs more than once ({told} times too often), so whole rows were "
                "compared; `--key` names another"
            )
        return self._by_key(key)

    def _one(self, sql: str) -> tuple[Any, ...]:
        row = self._connection.execute(sql).fetchone()
        assert row is not None, "an aggregate has one row"
        return tuple(row)

    def _value(self, table: str, name: str) -> str:
        """Return a column as it is compared: as text where its type has changed."""
        column = f"{table}.{_quoted(name)}"
        same = self._before.field(name).type == self._after.field(name).type
        return column if same else f"CAST({column} AS VARCHAR)"

    def _by_key(self, key: tuple[str, ...]) -> RowChanges:
        on = " AND ".join(
            f"{self._value('a', name)} IS NOT DISTINCT FROM {self._value('b', name)}" for name in key
        )
        values = [name for name in self._both if name not in key]
        differs = {
            name: f"{self._value('a', name)} IS DISTINCT FROM {self._value('b', name)}" for name in values
        }
        changed = " OR ".join(differs.values()) or "FALSE"
        # One inner join tells everything: what it leaves out of either side is only there.
        counts = ", ".join(f"count(*) FILTER ({one})" for one in (changed, *differs.values()))
        joined = f"FROM a JOIN b ON {on}"
        both, different, *by_column = self._one(f"SELECT count(*), {counts} {joined}")
        columns = {name: count for name, count in zip(values, by_column, strict=True) if count}
        examples = {
            "added": self._only("b", "a", on, key) if both < self._count_b else [],
            "removed": self._only("a", "b", on, key) if both < self._count_a else [],
            "changed": self._changed(key, list(columns), f"{joined} WHERE {changed}") if different else [],
        }
        return RowChanges(
            key,
            self._count_a,
            self._count_b,
            self._count_b - both,
            self._count_a - both,
            different,
            columns,
            examples,
        )

    def _only(self, table: str, other: str, on: str, key: tuple[str, ...]) -> list[dict[str, Any]]:
        order = ", ".join(f"{table}.{_quoted(name)}" for name in key)
        sql = (
            f"SELECT {table}.* FROM {table} ANTI JOIN {other} ON {on} ORDER BY {order} LIMIT {self._examples}"
        )
        return self._rows(sql)

    def _changed(self, key: tuple[str, ...], columns: list[str], of: str) -> list[dict[str, Any]]:
        sides = [f"{table}.{_quoted(name)}" for name in columns for table in "ab"]
        keys = [f"b.{_quoted(name)}" for name in key]
        sql = f"SELECT {', '.join(keys + sides)} {of} ORDER BY {', '.join(keys)} LIMIT {self._examples}"
        found = []
        for row in self._connection.execute(sql).fetchall():
            pairs = dict(
                zip(columns, zip(row[len(key) :: 2], row[len(key) + 1 :: 2], strict=True), strict=True)
            )
            found.append(
                {
                    "key": dict(zip(key, row[: len(key)], strict=True)),
                    "values": {name: list(pair) for name, pair in pairs.items() if not same_value(*pair)},
                }
            )
        return found

    def _whole_rows(self, note: str) -> RowChanges:
        if not self._both:
            return RowChanges(
                (), self._count_a, self._count_b, self._count_b, self._count_a, note="no common column"
            )
        hashes = {
            table: f"hash(row({', '.join(self._value(table, name) for name in self._both)}))"
            for table in "ab"
        }
        self._connection.execute(
            "CREATE TEMP TABLE counted AS SELECT h, sum(a)::BIGINT AS a, sum(b)::BIGINT AS b FROM ("
            f"SELECT {hashes['a']} AS h, 1 AS a, 0 AS b FROM a UNION ALL SELECT {hashes['b']}, 0, 1 FROM b"
            ") GROUP BY h HAVING sum(a) <> sum(b)"
        )
        added, removed = self._one(
            "SELECT coalesce(sum(greatest(b - a, 0)), 0), coalesce(sum(greatest(a - b, 0)), 0) FROM counted"
        )
        names = ", ".join(_quoted(name) for name in self._both)

        def some(table: str, more: str) -> list[dict[str, Any]]:
            return self._rows(
                f"SELECT {names} FROM {table} WHERE {hashes[table]} IN (SELECT h FROM counted WHERE {more}) "
                f"ORDER BY ALL LIMIT {self._examples}"
            )

        return RowChanges(
            (),
            self._count_a,
            self._count_b,
            int(added),
            int(removed),
            examples={
                "added": some("b", "b > a") if added else [],
                "removed": some("a", "a > b") if removed else [],
            },
            note=note,
        )

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        found = self._connection.execute(sql)
        names = [one[0] for one in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
