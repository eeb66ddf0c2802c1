"""Columns of a table that is read in pieces: types that hold for all of it, names, and what the options say.

A reader hands over one piece after another. The types are those of the pieces, joined; texts may turn out to be dates
or numbers, if every one of them is. The rows are written at once; only if a later piece widens a type does the reader
have to read once more, and then with all types known.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mlassets.ingestion.errors import UnreadableFile, WrongType
from mlassets.ingestion.formats import Sink, distinct_names
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.text_types import KINDS, WIDER, Column, Reading, TextTypes, cleaned, described, parse

JSON = pa.json_()
"""Values of no one type, which are kept as texts of JSON."""

# Texts of formats that have numbers and booleans, but no dates: only the latter are looked for.
MOMENTS = tuple(kind for kind in KINDS if pt.is_temporal(kind))
_GIVEN = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


class Columns:
    """The columns of one table.

    Args:
        sink: Where the table goes.
        options: Names, types and nulls that were given.
        file: Name of the file, for errors.
        texts: Types that a column of texts may turn out to have.
    """

    def __init__(
        self, sink: Sink, options: ReadOptions, file: str, texts: tuple[pa.DataType, ...] = MOMENTS
    ) -> None:
        self._sink, self._options, self._file, self._texts = sink, options, file, texts
        self._kinds: dict[str, pa.DataType] = {}
        self._written: pa.Schema | None = None
        self._again = self._stale = False
        self._nulls = pa.array(options.nulls, pa.string()) if options.nulls is not None else None

    def passes(self) -> Iterator[int]:
        """Yield before each reading of the file that is needed: once, or twice."""
        yield 1
        if self._stale:
            self._again, self._stale = True, False
            self._sink.begin(self._schema())
            yield 2
        if self._sink.schema is None and self._kinds:
            self._sink.begin(self._schema())

    def write(self, table: pa.Table, *, plain: frozenset[str] = frozenset()) -> None:
        """Take the next rows.

        Args:
            table: The rows; columns may be missing that others have.
            plain: Columns whose texts are texts, whatever they look like.
        """
        table, wrong = self._with_given_types(self._without_nulls(table))
        self._write(table, plain)
        for row, reason in wrong:
            fix = "Give the column another type with `types:`, or mend the value"
            self._sink.reject(row, reason, fix=fix, error=WrongType)

    def _write(self, table: pa.Table, plain: frozenset[str]) -> None:
        if self._again:
            self._write_as(table, self._schema())
            return
        columns: dict[str, pa.Array] = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            columns[name] = self._typed(name, _whole(column), plain)
        for name in self._kinds.keys() - columns.keys():
            columns[name] = pa.nulls(table.num_rows, self._kinds[name])
        if self._stale or not self._kinds:
            return
        schema = self._schema()
        if self._written is None:
            self._written = schema
            self._sink.begin(schema)
        if not schema.equals(self._written):
            self._stale = True
            self._sink.discard()
            return
        self._sink.write(pa.RecordBatch.from_arrays([columns[name] for name in self._kinds], schema=schema))

    def _typed(self, name: str, column: pa.Array, plain: frozenset[str]) -> pa.Array:
        known = self._kinds.get(name, pa.null())
        if name in self._options.types:
            self._kinds[name] = column.type
            return column
        if not pt.is_string(column.type):
            if pt.is_null(column.type):
                self._kinds[name] = known
                return pa.nulls(len(column), known)
            # Readers join types themselves: a type that differs is wider.
            self._kinds[name] = column.type
            return column
        if name in plain or (name in self._kinds and not (pt.is_null(known) or known in self._texts)):
            self._kinds[name] = pa.string()
            return column
        self._kinds[name], values = typed(column, known, self._texts)
        return values

    def _write_as(self, table: pa.Table, schema: pa.Schema) -> None:
        columns = []
        there = set(table.column_names)
        for name, kind in self._kinds.items():
            if name not in there:
                columns.append(pa.nulls(table.num_rows, kind))
                continue
            column = _whole(table[name])
            if pt.is_string(column.type) and not pt.is_string(kind):
                column = typed(column, kind, self._texts)[1]
            columns.append(column if column.type.equals(kind) else column.cast(kind))
        self._sink.write(pa.RecordBatch.from_arrays(columns, schema=schema))

    def _schema(self) -> pa.Schema:
        names: list[str | None] = list(self._kinds)
        if given := self._options.columns:
            check_count(self._file, given, len(names))
            names = list(given)
        distinct, renamed = distinct_names(names)
        if renamed:
            self._sink.found["named"] = renamed
        return pa.schema(
            [pa.field(name, kind) for name, kind in zip(distinct, self._kinds.values(), strict=True)]
        )

    def _without_nulls(self, table: pa.Table) -> pa.Table:
        if self._nulls is None:
            return table
        for position, column in enumerate(table.columns):
            if pt.is_string(column.type):
                kept = pc.if_else(
                    pc.is_in(column, value_set=self._nulls), pa.scalar(None, pa.string()), column
                )
                table = table.set_column(position, table.column_names[position], kept)
        return table

    def _with_given_types(self, table: pa.Table) -> tuple[pa.Table, list[tuple[dict[str, Any], str]]]:
        wrong: list[tuple[dict[str, Any], str]] = []
        for name, spec in self._options.types.items():
            if name not in table.column_names:
                continue
            column = _whole(table[name])
            kind = given_type(spec)
            values = _read_as(column, kind, self._options.date_format)
            lost = pc.and_(pc.is_valid(column), pc.is_null(values))
            if pc.any(lost).as_py():
                wrong += [
                    (row, f"{row[name]!r} in column {name} is not of the given type {spec}")
                    for row in table.filter(lost).to_pylist()
                ]
                kept = pc.invert(lost)
                table, values = table.filter(kept), values.filter(kept)
            table = table.set_column(table.column_names.index(name), name, values)
        return table, wrong


class TextColumns:
    """The columns of a table whose file has nothing but texts; it is read twice, first to find their types.

    Args:
        sink: Where the table goes.
        options: Names, types, nulls, and how numbers and dates are written, where that is given.
        file: Name of the file, for errors.
    """

    def __init__(self, sink: Sink, options: ReadOptions, file: str) -> None:
        self._sink, self._options, self._file = sink, options, file
        self._types = TextTypes(options)
        self._looks: dict[str, Column] = {}
        self._names: dict[str, str] = {}
        self._readings: dict[str, Reading] = {}
        self._given: dict[str, Reading | None] = {}
        self._kinds: dict[str, pa.DataType] = {}

    def look(self, columns: Mapping[str, pa.Array]) -> None:
        """Take note of some rows; columns may be missing."""
        for name, strings in columns.items():
            self._looks[name] = self._types.look(strings, self._looks.get(name, Column()))

    def drop_within(self, names: Collection[str]) -> None:
        """Forget columns `parent.child` of these parents."""
        for one in [one for one in self._looks if any(one.startswith(f"{name}.") for name in names)]:
            del self._looks[one]

    def begin(self) -> None:
        """Settle names and types, now that all rows were looked at."""
        given = self._options.columns
        if given is not None:
            check_count(self._file, given, len(self._looks))
        names, renamed = distinct_names([*(given or self._looks)])
        if renamed:
            self._sink.found["named"] = renamed
        self._names = dict(zip(self._looks, names, strict=True))
        self._readings = dict(zip(self._looks, self._types.resolve([*self._looks.values()]), strict=True))
        self._given = {one: self._types.forced(name) for one, name in self._names.items()}
        about = {
            self._names[one]: found
            for one, reading in self._readings.items()
            if self._given[one] is None and (found := described(self._looks[one], reading, self._types))
        }
        if about:
            self._sink.found["columns"] = about
        self._kinds = {one: (self._given[one] or reading).kind for one, reading in self._readings.items()}
        if self._kinds:
            self._sink.begin(self._schema())

    def write(self, columns: Mapping[str, pa.Array], rows: int) -> None:
        """Write some rows."""
        arrays: list[pa.Array] = []
        wrong: dict[int, str] = {}
        for one, kind in self._kinds.items():
            strings = columns.get(one)
            if strings is None:
                arrays.append(pa.nulls(rows, kind))
            elif self._given[one] is not None:
                values, bad = self._types.as_given(strings, kind)
                arrays.append(values)
                spec = self._options.types[self._names[one]]
                for row in bad:
                    wrong.setdefault(
                        row,
                        f"{strings[row].as_py()!r} in column {self._names[one]} is not of the given type {spec}",
                    )
            else:
                values = self._types.values(strings, self._readings[one])
                arrays.append(strings if values is None else values)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema())
        if wrong:
            for row, reason in sorted(wrong.items()):
                texts = {self._names[one]: strings[row].as_py() for one, strings in columns.items()}
                fix = "Give the column another type with `types:`, or mend the value"
                self._sink.reject(texts, reason, fix=fix, error=WrongType)
            batch = batch.filter(pa.array([row not in wrong for row in range(rows)]))
        self._sink.write(batch)

    def _schema(self) -> pa.Schema:
        return pa.schema([pa.field(self._names[one], kind) for one, kind in self._kinds.items()])


def check_count(file: str, given: Sequence[str], count: int) -> None:
    """Refuse names that are more or fewer than the columns.

    Raises:
        UnreadableFile: With both numbers.
    """
    if len(given) != count:
        reason = f"{len(given):,} names are given with `columns`, but the table has {count:,} columns"
        raise UnreadableFile(file, reason, "Name every column, in order")


def given_type(spec: str) -> pa.DataType:
    """Return the type that an option names: text, integer, number, boolean, date, timestamp or decimal(p,s)."""
    if decimal := re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", spec):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    return _GIVEN[spec]


def typed(
    strings: pa.Array, known: pa.DataType, kinds: tuple[pa.DataType, ...]
) -> tuple[pa.DataType, pa.Array]:
    """Return the narrowest of `kinds` that holds these texts and `known`, and the values as that type."""
    if pt.is_string(known):
        return known, strings
    if strings.null_count == len(strings):
        return known, pa.nulls(len(strings), known)
    if not pt.is_null(known) and (values := parse(strings, known)) is not None:
        return known, values
    sample = cleaned(strings.drop_null().slice(0, 64))
    for kind in kinds:
        if sample.null_count < len(sample) and parse(sample, kind) is None:
            continue
        if (values := parse(strings, kind)) is None:
            continue
        if values.null_count > strings.null_count:
            # A blank or NA is text in a format that has nulls of its own.
            continue
        wider = kind if pt.is_null(known) else WIDER.get(frozenset({kind, known}), pa.string())
        return (wider, strings) if pt.is_string(wider) else (wider, parse(strings, wider))
    return pa.string(), strings


def _read_as(column: pa.Array, kind: pa.DataType, date_format: str | None) -> pa.Array:
    """Return the values as `kind`, null where a value is not of it."""
    if pt.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        if date_format is not None and pt.is_temporal(kind):
            column = pc.strptime(column, date_format, "us", error_is_null=True)
    try:
        return pc.cast(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    values = []
    for value in column:
        try:
            values.append(value.cast(kind).as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values.append(None)
    return pa.array(values, kind)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def stored(kind: pa.DataType) -> pa.DataType:
    """Return the type that values are stored as: text for JSON, however deep it lies."""
    if kind.equals(JSON):
        return pa.string()
    if pt.is_map(kind):
        return pa.map_(pa.string(), stored(kind.item_type))
    if pt.is_list(kind):
        return pa.list_(stored(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(field.name, stored(field.type)) for field in kind])
    return kind
