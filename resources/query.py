"""A user's SQL over registered tables: exactly one SELECT, locked in, limited, in a deterministic order.

DuckDB reads the tables as Arrow datasets, with filters and projections pushed down to Parquet on any lake, without
an extension.
"""

import atexit
import difflib
import json
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from resources.errors import MlassetsError

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

_FIRST_WORDS = ("select", "with", "from")
_MOST_NAMED = 30
_ASK_AGAIN_SECONDS = 0.05
# What an expression over the columns of one row is made of, as DuckDB's parser calls it; no subquery, window or star.
_PLAIN_CLASSES = frozenset(
    ("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT")
) | {"FUNCTION", "OPERATOR", "TYPE"}


class BadQuery(MlassetsError):
    """A query's SQL cannot be run as it is."""


class BadDraw(BadQuery):
    """A draw's SQL cannot be run as it is."""


class BadCondition(BadQuery):
    """A condition on the columns of a row cannot be evaluated as it is."""


@dataclass(frozen=True)
class Purpose:
    """What a statement is for: what errors call it, and of which class they are."""

    name: str
    error: type[BadQuery]

    def wrong(self, words: str) -> BadQuery:
        """Return the error that says something of the statement."""
        return self.error(f"the {self.name} {words}")


DRAW = Purpose("draw", BadDraw)
QUERY = Purpose("query", BadQuery)
CONDITION = Purpose("condition", BadCondition)


@dataclass(frozen=True)
class Draw:
    """One SELECT statement that has been looked at, but not run.

    Attributes:
        sql: The statement.
        parameters: Names of the values that it binds (`$segment`).
        tables: Names of the tables that it reads, without its own common table expressions.
    """

    sql: str
    parameters: frozenset[str]
    tables: frozenset[str]

    @classmethod
    def parse(cls, sql: str, purpose: Purpose = DRAW) -> "Draw":
        """Look at a statement.

        Raises:
            BadQuery: If it is no SQL, more or less than one statement, anything but a SELECT, binds values by
                position, or names a file.
        """
        import duckdb

        try:
            statements = duckdb.extract_statements(sql)
            tokens = duckdb.tokenize(sql)
        except duckdb.Error as error:
            raise purpose.wrong(f"is no valid SQL: {_plain(error)}") from None
        if len(statements) != 1:
            raise purpose.wrong(f"has {len(statements)} statements; it must be exactly one SELECT")
        raw = sql.encode()
        starts = [start for start, kind in tokens if kind != duckdb.token_type.comment]
        word = raw[starts[0] :].decode().partition("(")[0].split()[:1]
        if statements[0].type != duckdb.StatementType.SELECT or (
            word and word[0].lower() not in _FIRST_WORDS
        ):
            kind = word[0].upper() if word else statements[0].type.name
            raise purpose.wrong(f"is a {kind} statement; it must be exactly one SELECT, for it can only read")
        if any(name.isdigit() for name in statements[0].named_parameters):
            raise purpose.wrong("binds values by position; bind them by name: `WHERE origin = $segment`")
        end = next((start for start in starts if raw[start : start + 1] == b";"), len(raw))
        select = raw[:end].decode()
        with _locked("64MB", 1, purpose) as connection:
            # DuckDB's own get_table_names also binds the statement, and so fails on columns of unknown tables.
            (text,) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": select}).fetchone() or (
                "",
            )
        tree = json.loads(text)
        if tree["error"]:
            raise purpose.wrong(f"cannot be run: {tree['error_message']}")
        return cls(select, frozenset(statements[0].named_parameters), frozenset(_tables(tree, frozenset())))


@dataclass(frozen=True)
class Condition:
    """One boolean expression over the columns of a row: looked at, but not evaluated.

    Attributes:
        sql: The expression, as it was written.
        columns: Names of the columns that it reads, as it spells them.
    """

    sql: str
    columns: frozenset[str]

    @classmethod
    def parse(cls, sql: str) -> "Condition":
        """Look at an expression.

        Raises:
            BadCondition: If it is no SQL, or anything but one expression over the columns of one row: it has a
                subquery, an aggregate, a window, a parameter, a function whose value changes from call to call.
        """
        tree = _tree_of(sql)
        found: set[str] = set()
        for node in _expressions(tree):
            kind = node["class"]
            if kind not in _PLAIN_CLASSES:
                raise CONDITION.wrong(f"holds a {kind.lower()}; it may use the columns of one row only")
            if kind == "COLUMN_REF":
                found.add(node["column_names"][0])
            if kind == "FUNCTION" and not node["is_operator"]:
                name = node["function_name"].lower()
                if name not in _row_functions():
                    raise CONDITION.wrong(
                        f"calls {name}(), which is no function of one row's values alone"
                        f"{instead(name, _row_functions()).split(' There is ')[0]}"
                    )
        return cls(sql, frozenset(found))

    def over(self, columns: Mapping[str, str]) -> str:
        """Return the expression as DuckDB prints it, over columns that go by other names.

        Args:
            columns: The name of every column in the SQL that is returned, by its own name; upper and lower case are
                one, as in all SQL.

        Raises:
            BadCondition: If it reads a column that is not there.
        """
        by_name = {name.lower(): identifier for name, identifier in columns.items()}
        tree = _tree_of(self.sql)
        for node in _expressions(tree):
            if node["class"] == "COLUMN_REF":
                first, *fields = node["column_names"]
                if first.lower() not in by_name:
                    raise CONDITION.wrong(
                        f"reads the column {first!r}, which is not there{instead(first, columns)}"
                    )
                node["column_names"] = [by_name[first.lower()], *fields]
        statement = json.loads(_parsed_condition("true"))
        statement["statements"][0]["node"]["select_list"] = [tree]
        (text,) = _asked_parser("SELECT json_deserialize_sql($it)", {"it": json.dumps(statement)})[0]
        return str(text).removeprefix("SELECT ").removesuffix(_AROUND[1])


# What an expression is put into to be parsed; the line break ends a comment that it may end with.
_AROUND = ("SELECT (", ' AS holds FROM "rows"')


@lru_cache(maxsize=1024)
def _parsed_condition(sql: str) -> str:
    statement = f"{_AROUND[0]}{sql}\n){_AROUND[1]}"
    return str(_asked_parser("SELECT json_serialize_sql($it)", {"it": statement})[0][0])


_asking_parser = threading.Lock()


def _asked_parser(query: str, values: Mapping[str, str] | None = None) -> list[tuple[Any, ...]]:
    """Ask the database that only parses, which is opened once in a process: a spec may hold hundreds of conditions."""
    with _asking_parser:
        return _parser(os.getpid()).execute(query, values or {}).fetchall()


@lru_cache(maxsize=1)
def _parser(_process: int) -> "duckdb.DuckDBPyConnection":
    opened = ExitStack()
    connection = opened.enter_context(_locked("64MB", 1, CONDITION))
    atexit.register(opened.close)
    return connection


def _tree_of(sql: str) -> Any:
    """Return an expression as DuckDB's parser serialises it."""
    if not sql.strip():
        raise CONDITION.wrong("holds no SQL")
    tree = json.loads(_parsed_condition(sql))
    if tree["error"]:
        raise CONDITION.wrong(f"is no valid SQL: {_plain(Exception(tree['error_message']))}")
    nodes = [one["node"] for one in tree["statements"]]
    # Whoever closes the bracket that we opened writes more than an expression.
    if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or len(nodes[0]["select_list"]) != 1:
        raise CONDITION.wrong("is more than one expression; write what must hold for a row, such as `a <= b`")
    return nodes[0]["select_list"][0]


def _expressions(tree: object) -> Iterator[dict[str, Any]]:
    """Yield an expression and every one within it."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if "class" in node:
                yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


@lru_cache(maxsize=1)
def _row_functions() -> frozenset[str]:
    """Names of the functions that make one value of one row's values, always the same of the same."""
    found = _asked_parser(
        "SELECT lower(function_name) FROM duckdb_functions() GROUP BY ALL HAVING "
        "bool_and(function_type IN ('scalar', 'macro')) AND NOT bool_or(coalesce(stability, '') = 'VOLATILE')"
    )
    return frozenset(name for (name,) in found)


def _tables(node: object, own: frozenset[str]) -> Iterator[str]:
    """Yield the tables that a serialised statement reads; `own` are the common table expressions in scope."""
    if isinstance(node, list):
        for part in node:
            yield from _tables(part, own)
    if not isinstance(node, dict):
        return
    if node.get("type") == "BASE_TABLE" and (node["schema_name"] or node["table_name"].lower() not in own):
        yield node["table_name"]
    for expression in node.get("cte_map", {}).get("map", ()):
        name = expression["key"].lower()
        query = expression["value"]["query_node"]
        # An expression sees itself only if it is recursive; else its name within it means a table outside.
        yield from _tables(query, own | {name} if query["type"] == "RECURSIVE_CTE_NODE" else own)
        own |= {name}
    for field, part in node.items():
        if field != "cte_map":
            yield from _tables(part, own)


@lru_cache(maxsize=1024)
def tables_of(sql: str) -> frozenset[str]:
    """Return the names of the tables that one SELECT reads, without running it.

    Raises:
        BadDraw: If `sql` is not exactly one SELECT.
    """
    return Draw.parse(sql).tables


def run_draw(
    sql: str,
    tables: Mapping[str, "ds.Dataset | pa.Table"],
    parameters: Mapping[str, object],
    *,
    memory: str = "1GB",
    seconds: float = 300.0,
    threads: int = 1,
) -> pa.Table:
    """Run one SELECT over `tables` and return its rows, ordered by all columns from left to right.

    The statement reaches nothing but `tables`: no file, no network, no setting, no variable of this process. It
    may spill to a folder of its own, which is gone afterwards.

    Args:
        sql: The statement; an `ORDER BY` in it decides what a `LIMIT` keeps, not the order of the result.
        tables: What it may read, by name.
        parameters: What it may bind, by name; values that it does not bind are left out.
        memory: Limit of DuckDB's memory, as in `2GB`.
        seconds: Limit of its time.
        threads: How many threads to use; with more than one, floating-point sums may differ in the last digit.

    Raises:
        BadDraw: If the SQL is not one SELECT, names a table or column that is not there, needs a value that is
            not given, fails on the data, returns two columns of one name, or passes a limit.
    """
    import duckdb

    with running(sql, tables, parameters, DRAW, memory=memory, seconds=seconds, threads=threads) as relation:
        return relation.sort(*(duckdb.ColumnExpression(name) for name in relation.columns)).to_arrow_table()


@contextmanager
def running(
    sql: str,
    tables: Mapping[str, "ds.Dataset | pa.Table"],
    parameters: Mapping[str, object],
    purpose: Purpose = QUERY,
    *,
    memory: str,
    seconds: float,
    threads: int,
) -> Iterator["duckdb.DuckDBPyRelation"]:
    """Give what one SELECT over `tables` returns, to be read within the block: its limits hold until the end of it.

    The arguments are those of `run_draw`, and `purpose` is what errors call the statement.

    Raises:
        BadQuery: As `run_draw` says, also for what goes wrong while the block reads.
    """
    import duckdb

    draw = Draw.parse(sql, purpose)
    by_name = {name.lower(): table for name, table in tables.items()}
    for name in sorted(draw.tables):
        if name.lower() not in by_name:
            raise purpose.wrong(f"reads the table {name!r}, which is not there{instead(name, tables)}")
    for name in sorted(draw.parameters - set(parameters)):
        raise purpose.wrong(f"binds ${name}, which has no value here{instead(name, parameters)}")
    values = {name: parameters[name] for name in sorted(draw.parameters)}
    with _locked(memory, threads, purpose) as connection, _interrupting(connection, seconds) as expired:
        for name in draw.tables:
            connection.register(name, by_name[name.lower()])
        try:
            relation = connection.sql(draw.sql, params=values)
            doubles = sorted(name for name, count in Counter(relation.columns).items() if count > 1)
            if doubles:
                raise purpose.wrong(
                    f"returns the columns {doubles} twice; rename one with AS, or use EXCLUDE"
                )
            yield relation
        except duckdb.OutOfMemoryException:
            raise purpose.wrong(
                f"needs more memory than its limit of {memory}; select fewer columns or rows, or raise the limit"
            ) from None
        except duckdb.Error as error:
            if expired.is_set():
                raise purpose.wrong(
                    f"took longer than its limit of {seconds:g} s and was stopped; narrow it with a WHERE, or raise "
                    "the limit"
                ) from None
            column = re.search(r'(?:column named|Referenced column) "([^"]+)"', str(error))
            if column:
                known = {one for name in draw.tables for one in by_name[name.lower()].schema.names}
                raise purpose.wrong(
                    f"reads the column {column[1]!r}, which is not there{instead(column[1], known)}"
                ) from None
            raise purpose.wrong(f"failed: {_plain(error)}") from None


def in_batches(relation: "duckdb.DuckDBPyRelation", rows: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema of what a relation gives, and its rows, some at a time, within the block of `running`."""
    import duckdb

    reader = relation.to_arrow_reader(rows)

    def each() -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (OSError, pa.ArrowException) as error:
                # What goes wrong in DuckDB comes out of Arrow's reader as an error of Arrow's.
                memory = "Out of Memory" in str(error)
                raise (duckdb.OutOfMemoryException if memory else duckdb.Error)(str(error)) from error
            yield batch

    return reader.schema, each()


def instead(name: str, known: Iterable[str]) -> str:
    """Say what there is instead of `name`: what comes near to it, or all of it."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), [one.lower() for one in names], n=3)
    similar = [one for one in names if one.lower() in near]
    hint = f". Did you mean {' or '.join(similar)}?" if similar else "."
    return f"{hint} There is {', '.join(names[:_MOST_NAMED]) or 'nothing'}" + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )


def _plain(error: Exception) -> str:
    """Return a DuckDB message without its drawing of the line."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


@contextmanager
def reading_files(
    paths: Iterable[Path], *, memory: str, seconds: float, threads: int, purpose: Purpose = QUERY
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Give an empty database in memory that can read these files, and reaches nothing else outside of itself.

    It may spill to a folder of its own, which is gone afterwards.

    Args:
        paths: The files, as they will be named in its SQL.
        memory: Limit of DuckDB's memory, as in `2GB`.
        seconds: Limit of the time that the block takes.
        threads: How many threads to use.
        purpose: What the queries are for.

    Raises:
        BadQuery: If a limit is passed.
    """
    import duckdb

    with (
        _locked(memory, threads, purpose, [str(path) for path in paths]) as connection,
        _interrupting(connection, seconds) as expired,
    ):
        try:
            yield connection
        except duckdb.OutOfMemoryException:
            raise purpose.wrong(f"needs more memory than its limit of {memory}") from None
        except duckdb.InterruptException:
            if not expired.is_set():
                raise
            raise purpose.wrong(f"took longer than its limit of {seconds:g} s and was stopped") from None


def sql_text(value: str) -> str:
    """Return text as a literal in DuckDB's SQL.

    >>> sql_text("it's")
    "'it''s'"
    """
    quoted = value.replace("'", "''")
    # A null byte would end the statement.
    return "'" + quoted.replace("\0", "' || chr(0) || '") + "'"


@contextmanager
def _locked(
    memory: str, threads: int, purpose: Purpose, files: Iterable[str] = ()
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open an empty database in memory that reaches nothing outside of itself but some files, and cannot be made to."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="mlassets-query-") as spill:
        try:
            connection = duckdb.connect(
                ":memory:",
                config={
                    "python_enable_replacements": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "temp_directory": spill,
                    "memory_limit": memory,
                    "threads": threads,
                },
            )
            if allowed := ", ".join(map(sql_text, files)):
                connection.execute(f"SET allowed_paths = [{allowed}]")
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        except duckdb.Error as error:
            raise purpose.error(f"the limits of the {purpose.name} cannot be used: {_plain(error)}") from None
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def _interrupting(connection: "duckdb.DuckDBPyConnection", seconds: float) -> Iterator[threading.Event]:
    """Interrupt whatever the connection does once the time is over; the event says whether it was."""
    done, expired = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        expired.set()
        # An interrupt between two statements is lost, so it is repeated until the block has ended.
        while True:
            connection.interrupt()
            if done.wait(_ASK_AGAIN_SECONDS):
                return

    watcher = threading.Thread(target=watch, name="draw-time-limit", daemon=True)
    watcher.start()
    try:
        yield expired
    finally:
        done.set()
        watcher.join()
