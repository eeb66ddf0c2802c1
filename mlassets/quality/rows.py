"""Rows of any table in DuckDB, under positional names, so that no name that a person gave reaches SQL."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from mlassets.sections import close_matches, shown
from resources.errors import MlassetsError
from resources.query import BadQuery, Purpose, reading_files, sql_text
from resources.things import Thing

if TYPE_CHECKING:
    import duckdb

SECONDS = 900.0
EXAMPLES = 3
_SORTED_ROWS = 30_000_000
_MOST_VALUES = 1_000_000
_COUNTED_AT_ONCE = 50
_WIDE = 200

_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)


class NotMeasured(BadQuery):
    """A look at all rows failed, or passed a limit."""


LOOK = Purpose("look at all rows", NotMeasured)


class NoSuchColumn(MlassetsError):
    """A table lacks a column that something is expected of."""


@dataclass(frozen=True)
class Rows:
    """The rows of one table: Parquet files on this machine, or an Arrow table or dataset.

    Attributes:
        files: The files, which are read together: a column that one of them lacks is null there.
        data: An Arrow table or dataset, where there are no files.
        names: What people call the files, by path.
    """

    files: tuple[Path, ...] = ()
    data: Any = None
    names: Mapping[Path, str] = field(default_factory=dict)


def rows_of(
    thing: Thing, files: Collection[str] | None = None, called: Mapping[str, str] | None = None
) -> Rows:
    """Return the rows of a Thing's dataset, to be read where they are if that is this machine.

    Args:
        thing: The Thing.
        files: Only those files of it, by name; all of them by default.
        called: What people call a file, by name, where that is something else.

    Raises:
        UnknownThing: If it has no dataset.
        DamagedThing: If a file is missing or of another size than was committed.
    """
    whole = thing.scan()
    chosen = [one for one in thing.files.values() if files is None or one.name in files]
    places = [(thing.lake_of(one), one) for one in chosen]
    if all(lake.local for lake, _ in places):
        names = called or {}
        paths = {Path(lake.full(one.path)): names.get(one.name, one.name) for lake, one in places}
        return Rows(tuple(paths), names=paths)
    if files is None:
        return Rows(data=whole)
    import pyarrow.dataset as ds

    parts = [lake.dataset([one.path], thing.schema) for lake, one in places]
    return Rows(data=ds.dataset(parts))


class View:
    """One table in an open DuckDB.

    Attributes:
        name: Its name in SQL.
        columns: The name of every column in SQL, by its own name.
        types: DuckDB's type of every column, by its own name.
        n: How many rows it has.
    """

    def __init__(self, connection: "duckdb.DuckDBPyConnection", name: str, rows: Rows) -> None:
        self._connection, self.name, self._rows = connection, name, rows
        self._few: dict[str, bool] = {}
        if rows.files:
            listed = ", ".join(sql_text(str(path)) for path in rows.files)
            source = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        else:
            source = f"{name}_data"
            connection.register(source, rows.data)
        described = self.rows(f"DESCRIBE SELECT * FROM {source}")
        names = [str(row[0]) for row in described] if rows.files else rows.data.schema.names
        self.columns = {one: f"c{i}" for i, one in enumerate(names)}
        self.types = {one: str(row[1]) for one, row in zip(names, described, strict=True)}
        self._source = f"{source} AS {name}({', '.join(self.columns.values())})"
        connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {self._source}")
        self.n = int(self.ask(f"SELECT count(*) FROM {name}")[0])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query's answer.

        Raises:
            NotMeasured: If the query fails.
        """
        return cast("list[tuple[Any, ...]]", self._asked(lambda: self._connection.execute(query).fetchall()))

    def arrow(self, query: str) -> pa.Table:
        """Return the rows of a query's answer as a table.

        Raises:
            NotMeasured: If the query fails.
        """
        return self._asked(lambda: self._connection.sql(query).to_arrow_table())

    def frequencies(self, expressions: Mapping[str, str], most: int = 100_000) -> dict[str, dict[str, int]]:
        """Return how often each value of some SQL expressions is there, by name, the most frequent first; not null.

        In wide tables several are counted in one pass: to name ten thousand columns takes longer than to read one.

        Args:
            expressions: SQL by name.
            most: Values of all expressions of one pass that are kept, the most frequent ones.
        """
        found: dict[str, dict[str, int]] = {name: {} for name in expressions}
        names, together = list(expressions), 1 if len(self.columns) < _WIDE else _COUNTED_AT_ONCE
        for start in range(0, len(names), together):
            some = names[start : start + together]
            places = [f"e{i}" for i in range(len(some))]
            listed = ", ".join(f"{expressions[name]} AS {at}" for name, at in zip(some, places, strict=True))
            counted = self.rows(
                f"SELECT {', '.join(f'CAST({at} AS VARCHAR)' for at in places)}, count(*) AS n "
                f"FROM (SELECT {listed} FROM {self.name}) "
                f"GROUP BY GROUPING SETS ({', '.join(f'({at})' for at in places)}) ORDER BY n DESC LIMIT {most}"
            )
            for *values, count in counted:
                for name, value in zip(some, values, strict=True):
                    if value is not None:
                        found[name][value] = found[name].get(value, 0) + count
        return {
            name: dict(sorted(one.items(), key=lambda pair: (-pair[1], pair[0])))
            for name, one in found.items()
        }

    def counted(self, name: str) -> str:
        """Return SQL for a table of a column's values, under its own name there, with the rows `n` that hold each.

        Where almost every row has a value of its own, that table would be no smaller: then it is the rows themselves.
        """
        column = self.column(name)
        if column not in self._few:
            (distinct,) = self.ask(f"SELECT approx_count_distinct({column}) FROM {self.name}")
            self._few[column] = distinct <= min(_MOST_VALUES, self.n / 10)
        if self._few[column]:
            return f"(SELECT {column}, count(*) AS n FROM {self.name} GROUP BY {column})"
        return f"(SELECT {column}, 1 AS n FROM {self.name})"

    def distinct(self, names: Sequence[str]) -> tuple[int, int]:
        """Count the rows that know all of some columns, and how many different values these have there together.

        Values are told apart by a hash of 64 bits: among ten million rows the chance that two different ones share it
        is 3e-6.

        Raises:
            NoSuchColumn: If there is no column of one of the names.
        """
        columns = [self.column(name) for name in names]
        marks, known = f"hash({', '.join(columns)})", " AND ".join(f"{one} IS NOT NULL" for one in columns)
        if self.n > _SORTED_ROWS:
            count, distinct = self.ask(
                f"SELECT count(*), count(DISTINCT {marks}) FROM {self.name} WHERE {known}"
            )
            return int(count), int(distinct)
        import numpy as np

        # Six times as fast as a table of them, and in an eighth of its memory.
        found = np.sort(self.arrow(f"SELECT {marks} FROM {self.name} WHERE {known}").column(0).to_numpy())
        return len(found), int(np.count_nonzero(found[1:] != found[:-1])) + (len(found) > 0)

    def sample(self, expressions: Sequence[str], rows: int) -> pa.Table:
        """Return what some SQL says of about `rows` rows, or of all if they are fewer: always the same ones.

        Rows are chosen by where they stand, and not by what they hold: of rows that are all alike some are taken, too.
        """
        every = max(1, self.n // rows)
        listed = ", ".join(f"{one} AS s{i}" for i, one in enumerate(expressions))
        source, place = self._source, f"{self.name}.file_row_number"
        if not self._rows.files:
            source, place = f"(SELECT *, row_number() OVER () AS place FROM {self.name})", "place"
        chosen = f" WHERE hash({place}) % {every} = 0" if every > 1 else ""
        return self.arrow(f"SELECT {listed} FROM {source}{chosen} LIMIT {3 * rows}")

    def _asked(self, ask: Callable[[], Any]) -> Any:
        import duckdb

        try:
            return ask()
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            raise LOOK.wrong(f"failed: {' '.join(str(error).split(chr(10) * 2)[0].split())[:300]}") from None

    def ask(self, query: str) -> tuple[Any, ...]:
        """Return the only row of a query's answer."""
        return self.rows(query)[0]

    def column(self, name: str) -> str:
        """Return the name of a column in SQL.

        Raises:
            NoSuchColumn: If there is none of that name.
        """
        if name not in self.columns:
            raise NoSuchColumn(f"there is no column {shown(name)}; {close_matches(name, self.columns)}")
        return self.columns[name]

    def type(self, name: str) -> str:
        """Return DuckDB's type of a column.

        Raises:
            NoSuchColumn: If there is none of that name.
        """
        self.column(name)
        return self.types[name]

    def register(self, name: str, values: Sequence[Any]) -> str:
        """Make values a table of one column `v`, and return its name in SQL."""
        place = f"{self.name}_{name}"
        self._connection.register(place, pa.table({"v": pa.array(values)}))
        return place

    def examples(self, broken: str, columns: Sequence[str]) -> tuple[str, ...]:
        """Return some rows for which `broken` is true: the values of some columns and, where it is known, the place."""
        told = [f"left(CAST({self.columns[name]} AS VARCHAR), 80)" for name in columns]
        told += [f"{self.name}.filename", f"{self.name}.file_row_number"] if self._rows.files else []
        found = self.rows(
            f"SELECT {', '.join(told) or 'NULL'} FROM {self._source} WHERE {broken} LIMIT {EXAMPLES}"
        )
        return tuple(self._example(columns, row) for row in found)

    def _example(self, columns: Sequence[str], row: tuple[Any, ...]) -> str:
        values = row[: len(columns)]
        text = (
            _value(values[0])
            if len(columns) == 1
            else ", ".join(f"{name} {_value(value)}" for name, value in zip(columns, values, strict=True))
        )
        if self._rows.files:
            path, number = row[-2:]
            text += f" in row {number + 1:,} of {self._rows.names.get(Path(path), Path(path).name)}"
        return text


def _value(value: Any) -> str:
    return "null" if value is None else shown(value, 80)


def family_of(kind: str) -> str:
    """Return what a DuckDB type is: text, integer, number, boolean, date, timestamp, or its own name.

    >>> family_of("DECIMAL(10,2)"), family_of("TIMESTAMP WITH TIME ZONE"), family_of("BIGINT[]")
    ('number', 'timestamp', 'bigint[]')
    """
    if kind.endswith("]"):
        return kind.lower()
    if kind in _INTEGERS:
        return "integer"
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        return "number"
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        return "text"
    if kind.startswith("TIMESTAMP"):
        return "timestamp"
    return kind.lower().strip('"')


@contextmanager
def opened(
    tables: Mapping[str, Rows], *, memory: str = "1GB", threads: int | None = None
) -> Iterator[dict[str, View]]:
    """Give tables in one DuckDB that reaches nothing else, by name, to be looked at within the block.

    Args:
        tables: The rows, by any name.
        memory: Limit of the memory that is used before rows spill to the disk.
        threads: How many threads to use; one for each core by default.
    """
    files = [path for rows in tables.values() for path in rows.files]
    cores = threads or os.cpu_count() or 1
    with reading_files(files, memory=memory, seconds=SECONDS, threads=cores, purpose=LOOK) as connection:
        yield {
            name: View(connection, f"t{number}", rows) for number, (name, rows) in enumerate(tables.items())
        }
