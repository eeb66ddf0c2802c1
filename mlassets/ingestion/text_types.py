"""Types of text: every column gets the narrowest type that holds all its values, and nothing is guessed.

Arrow would read `007` as 7, and take the type of the first rows for that of all. Here a column's type is what is left
when every chunk of it was looked at. What a chunk shows is a `Column`; two of them join to what both show together,
in any order, so that the type depends on the set of values only, not on how they are cut into chunks.

Besides the plain reading (`1.5`, `true`, ISO dates) a column may be written in one of the others: numbers with a
decimal comma or grouped digits, dates by day, month and year in some order. It is read so only where exactly one of
them fits all its values: `03/04/2024` means different days to different people and stays text, unless a `31/04/2024`
among them tells.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mlassets.ingestion.options import ReadOptions

NULLS = ("", "NA")
# Texts that stand for null where all else in a column is of a type.
MARKERS = ("N/A", "n/a", "null", "NULL", "None", "nan", "NaN", "#N/A", "\\N", "-", "?")

PLAIN = ""
GIVEN = "the given format"
COMMA = "decimal comma"
POINT = "grouped by commas"

_STAMP = pa.timestamp("us")
_INSTANT = pa.timestamp("us", "UTC")
# Narrow before wide: the first that holds all values is taken, text if none does.
KINDS = (pa.int64(), pa.float64(), pa.bool_(), pa.date32(), _STAMP, _INSTANT)
WIDER = {
    frozenset({pa.int64(), pa.float64()}): pa.float64(),
    frozenset({pa.date32(), _STAMP}): _STAMP,
}
_NAN = frozenset({"nan", "NaN"})
_IN_NUMBER = np.isin(np.arange(256), np.frombuffer(b"0123456789xX", np.uint8))
_BOOLEANS = pa.array(["true", "false"])
_SAMPLE = 64
# No number or date has so many bytes.
_LONGEST_VALUE = 1_000
_TIME = r"([ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?$"
_DATES = {
    "%d/%m/%Y": (r"^(\d{1,2})/(\d{1,2})/(\d{4})", r"\3-0\2-0\1"),
    "%m/%d/%Y": (r"^(\d{1,2})/(\d{1,2})/(\d{4})", r"\3-0\1-0\2"),
    "%d.%m.%Y": (r"^(\d{1,2})\.(\d{1,2})\.(\d{4})", r"\3-0\2-0\1"),
    "%m.%d.%Y": (r"^(\d{1,2})\.(\d{1,2})\.(\d{4})", r"\3-0\1-0\2"),
    "%d-%m-%Y": (r"^(\d{1,2})-(\d{1,2})-(\d{4})", r"\3-0\2-0\1"),
    "%m-%d-%Y": (r"^(\d{1,2})-(\d{1,2})-(\d{4})", r"\3-0\1-0\2"),
    "%Y/%m/%d": (r"^(\d{4})/(\d{1,2})/(\d{1,2})", r"\1-0\2-0\3"),
    "%Y.%m.%d": (r"^(\d{4})\.(\d{1,2})\.(\d{1,2})", r"\1-0\2-0\3"),
}
_TIMED = re.compile(r"%[HIMSTRXcpf]")


@dataclass(frozen=True)
class Column:
    """What the values of a column that were seen so far show.

    Attributes:
        plain: Type of the plain reading; null if no value was seen, text if that reading does not fit.
        others: Type by other reading that fits; None if no value was seen that tells.
        markers: Texts among them that may stand for null.
        unsure: Whether values were taken for plain fractions without a look at whether the others fit them.
    """

    plain: pa.DataType = field(default_factory=pa.null)
    others: Mapping[str, pa.DataType] | None = None
    markers: frozenset[str] = frozenset()
    unsure: bool = False

    @property
    def wants_another_look(self) -> bool:
        """Whether it has to be looked at once more, now that the plain reading is out."""
        return self.unsure and bool(pt.is_string(self.plain)) and bool(self.others)

    @property
    def is_text(self) -> bool:
        """Whether no further value can change that this is text."""
        return bool(pt.is_string(self.plain)) and self.others == {}

    def join(self, other: "Column") -> "Column":
        """Return what both show together."""
        if self == other:
            return self
        plain = _join(self.plain, other.plain)
        others: Mapping[str, pa.DataType] | None
        if self.others is None or other.others is None:
            others = other.others if self.others is None else self.others
        else:
            joined = {
                name: _join(kind, other.others[name])
                for name, kind in self.others.items()
                if name in other.others
            }
            others = {name: kind for name, kind in joined.items() if not pt.is_string(kind)}
        return Column(plain, others, self.markers | other.markers, self.unsure or other.unsure)


@dataclass(frozen=True)
class Reading:
    """How the values of a column are read, and the type they get."""

    kind: pa.DataType
    how: str = PLAIN


TEXT = Reading(pa.string())


def _join(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one.equals(other) or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    return WIDER.get(frozenset({one, other}), pa.string())


class TextTypes:
    """Finds types of text and reads text as them, by what the options leave open."""

    def __init__(self, options: ReadOptions, decimal: Literal[".", ","] | None = None) -> None:
        """Take the options.

        Args:
            options: How the file is to be read.
            decimal: The decimal mark, where columns of the file have proved it.
        """
        self.options = options
        self.proved = decimal
        self.nulls = NULLS if options.nulls is None else tuple(dict.fromkeys(("", *options.nulls)))
        self._null_texts = pa.array(self.nulls, pa.string())
        self.markers = pa.array(() if options.nulls is not None else MARKERS, pa.string())
        given = options.decimal or options.thousands
        # What is given holds for every column: `1.5` is not a number where the decimal mark is a comma.
        self._only_given = bool(given)
        mark = options.decimal or ("," if options.thousands == "." else ".")
        groups = options.thousands or ("." if mark == "," else ",")
        self._numbers = (
            {GIVEN: _Number(mark, groups)} if given else {COMMA: _Number(",", "."), POINT: _Number(".", ",")}
        )
        self._points_are_decimal = not given or mark == "."

    def look(self, strings: pa.Array, known: Column) -> Column:
        """Return what the strings and `known` show together."""
        if known.is_text or strings.null_count == len(strings):
            return known
        if strings.nbytes > _LONGEST_VALUE and pc.max(pc.binary_length(strings)).as_py() > _LONGEST_VALUE:
            return Column(pa.string(), {}, known.markers)
        quick = self._quick(strings, known.plain)
        markers: frozenset[str] = frozenset()
        if quick is not None:
            joined, others = _join(known.plain, quick), known.others
            text = None
        else:
            text = _Text(strings, self._null_texts, self.markers)
            joined, others = _join(known.plain, self._plain(text, known.plain)), known.others
            markers = text.markers_in
        if pt.is_string(joined) or (self.proved == "," and pt.is_floating(joined)):
            text = text or _Text(strings, self._null_texts, self.markers)
            others = self._others(text, known)
        elif _is_number(joined):
            # Whole numbers are so in other readings, too. Whether fractions are, matters only if not all are plain.
            others = dict.fromkeys(self._numbers, pa.int64() if pt.is_integer(joined) else pa.null())
        elif not pt.is_null(joined):
            others = {}
        unsure = known.unsure or (bool(pt.is_floating(joined)) and self.proved is None)
        return Column(joined, others, known.markers | markers, unsure)

    def _quick(self, strings: pa.Array, known: pa.DataType) -> pa.DataType | None:
        """Return the type of numbers that are written as they usually are; None where one has to look closer."""
        if not (pt.is_null(known) or _is_number(known)) or self.options.nulls is not None:
            return None
        if not pt.is_floating(known) and _parse(strings, pa.int64()) is not None:
            return pa.int64()
        if self._points_are_decimal and (numbers := _parse(strings, pa.float64())) is not None:
            # Whether `nan` is a number or stands for null, the other values tell.
            return None if _any(pc.is_nan(numbers)) else pa.float64()
        return None

    def resolve(self, columns: Sequence[Column]) -> list[Reading]:
        """Return how each column is read, given what all of them show."""
        alone = {
            next(iter(column.others))
            for column in columns
            if pt.is_string(column.plain) and column.others is not None and len(column.others) == 1
        }
        mark = next(iter(alone & self._numbers.keys())) if len(alone & self._numbers.keys()) == 1 else None
        return [self._resolved(column, mark) for column in columns]

    def _resolved(self, column: Column, mark: str | None) -> Reading:
        others = column.others or {}
        if pt.is_null(column.plain):
            # Only markers: which type they would be null of, nobody knows.
            if not column.markers:
                return Reading(pa.null())
            return Reading(pa.float64()) if column.markers <= _NAN else TEXT
        if pt.is_floating(column.plain) and self.proved == "," and COMMA in others:
            return Reading(others[COMMA], COMMA)
        if not pt.is_string(column.plain):
            return Reading(column.plain)
        if column.wants_another_look:
            return TEXT
        if len(others) == 1:
            how, kind = next(iter(others.items()))
            return TEXT if pt.is_null(kind) else Reading(kind, how)
        if mark is not None and mark in others and others.keys() <= self._numbers.keys():
            return Reading(others[mark], mark)
        return TEXT

    def values(self, strings: pa.Array, reading: Reading) -> pa.Array | None:
        """Return the strings as they are read, or None if a single one is not so."""
        if pt.is_string(reading.kind):
            return strings
        text = _Text(strings, self._null_texts, self.markers)
        return self._as(text, reading)

    def forced(self, name: str) -> Reading | None:
        """Return how a column is read whose type is given, or None."""
        wanted = self.options.types.get(name)
        if wanted is None:
            return None
        if wanted.startswith("decimal"):
            digits, scale = (int(part) for part in re.findall(r"\d+", wanted))
            return Reading(pa.decimal128(digits, scale), "given")
        kinds = {
            "text": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "timestamp": _STAMP,
        }
        return Reading(kinds[wanted], "given")

    def as_given(self, strings: pa.Array, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
        """Return the strings as a type that was given, null where they cannot be, and the places where that is so."""
        if pt.is_string(kind):
            return strings, []
        readings = [Reading(kind), *(Reading(kind, how) for how in (*self._numbers, *self._date_readings))]
        if self._only_given and not self._points_are_decimal and not pt.is_temporal(kind):
            readings = [Reading(kind, how) for how in self._numbers]
        if pt.is_temporal(kind) and self.options.date_format is None:
            readings = [Reading(kind), Reading(kind, "%Y/%m/%d"), Reading(kind, "%Y.%m.%d")]
        if not pt.is_temporal(kind) and not self._only_given:
            readings = [Reading(kind)]

        def read(part: pa.Array) -> pa.Array | None:
            text = _Text(part, self._null_texts, self.markers)
            return next(
                (values for reading in readings if (values := self._as(text, reading)) is not None), None
            )

        bad: list[int] = []

        def divide(start: int, part: pa.Array) -> list[pa.Array]:
            values = read(part)
            if values is not None:
                return [values]
            if len(part) == 1:
                bad.append(start)
                return [pa.nulls(1, kind)]
            half = len(part) // 2
            return divide(start, part.slice(0, half)) + divide(start + half, part.slice(half))

        chunks = divide(0, strings)
        return pa.concat_arrays(chunks), bad

    @property
    def _date_readings(self) -> tuple[str, ...]:
        return (GIVEN + " of dates",) if self.options.date_format else tuple(_DATES)

    def _plain(self, text: "_Text", known: pa.DataType) -> pa.DataType:
        """Return the type of the chunk in the plain reading."""
        if not text.is_evidence:
            return pa.null()
        if pt.is_string(known) or (not pt.is_null(known) and self._as(text, Reading(known)) is not None):
            return known
        for kind in KINDS:
            if pt.is_floating(kind) and not self._points_are_decimal:
                continue
            if _parse(text.sample, kind) is not None and self._as(text, Reading(kind)) is not None:
                return kind
        return pa.string()

    def _others(self, text: "_Text", known: Column) -> Mapping[str, pa.DataType] | None:
        if not text.is_evidence:
            return known.others
        found: dict[str, pa.DataType] = {}
        candidates: Iterable[str] = (
            (*self._numbers, *self._date_readings) if known.others is None else known.others
        )
        for how in candidates:
            kinds = (pa.int64(), pa.float64()) if how in self._numbers else (pa.date32(), _STAMP, _INSTANT)
            for kind in kinds:
                if self._transformed(text.sample, how) is None:
                    break
                if self._as(text, Reading(kind, how)) is not None:
                    before = pa.null() if known.others is None else known.others[how]
                    joined = _join(before, kind)
                    if not pt.is_string(joined):
                        found[how] = joined
                    break
        return found

    def _as(self, text: "_Text", reading: Reading) -> pa.Array | None:
        """Return the text as it is read, or None if a single value of it is not so."""
        if reading.how == PLAIN:
            tries: tuple[Callable[[], pa.Array], ...] = (
                lambda: text.raw,
                lambda: text.cleaned,
                lambda: text.marked if not pt.is_floating(reading.kind) else text.marked_but_nan,
            )
            for strings in tries:
                if (values := _parse(strings(), reading.kind)) is not None:
                    return values
            return None
        if reading.how == GIVEN + " of dates":
            return _by_format(text.marked, self.options.date_format or "", reading.kind)
        iso = self._transformed(text.marked, reading.how)
        if iso is None:
            return None
        return _parse(iso, reading.kind)

    def _transformed(self, strings: pa.Array, how: str) -> pa.Array | None:
        """Return strings of another reading in plain writing, or None if one of them is not of that reading."""
        if how in self._numbers:
            return self._numbers[how].plain(strings)
        if how in _DATES:
            return _iso(strings, *_DATES[how])
        return strings


class _Text:
    """The strings of a chunk, step by step with more of them taken for null."""

    def __init__(self, strings: pa.Array, nulls: pa.Array, markers: pa.Array) -> None:
        self.raw, self._nulls, self._markers = strings, nulls, markers

    @cached_property
    def _trimmed(self) -> pa.Array:
        return pc.utf8_trim_whitespace(self.raw)

    @cached_property
    def cleaned(self) -> pa.Array:
        """Without surrounding blanks, and null for what stands for null."""
        return _without(self._trimmed, self._nulls)

    @cached_property
    def markers_in(self) -> frozenset[str]:
        """The markers among the values: also what stands for null in quotes, which is text if all else is."""
        quoted = pc.and_(pc.is_null(self.cleaned), pc.not_equal(self._trimmed, ""))
        at = pc.or_kleene(pc.is_in(self.cleaned, value_set=self._markers), pc.fill_null(quoted, False))
        return frozenset(self._trimmed.filter(at).unique().to_pylist()) if _any(at) else frozenset()

    @cached_property
    def marked(self) -> pa.Array:
        """Cleaned, and null for markers."""
        return _without(self.cleaned, pa.array(sorted(self.markers_in), pa.string()))

    @cached_property
    def marked_but_nan(self) -> pa.Array:
        """Cleaned, and null for markers but for those that doubles have a value for."""
        return _without(self.cleaned, pa.array(sorted(self.markers_in - _NAN), pa.string()))

    @cached_property
    def sample(self) -> pa.Array:
        """The first values that are of some type."""
        return self.marked.drop_null().slice(0, _SAMPLE)

    @property
    def is_evidence(self) -> bool:
        """Whether there is a value that shows a type."""
        return bool(self.marked.null_count < len(self.marked))


def _without(strings: pa.Array, nulls: pa.Array) -> pa.Array:
    if not len(nulls):
        return strings
    return pc.if_else(pc.is_in(strings, value_set=nulls), pa.scalar(None, pa.string()), strings)


class _Number:
    """Numbers with this decimal mark and these marks between groups of three digits."""

    def __init__(self, decimal: str, thousands: str) -> None:
        mark, group = re.escape(decimal), re.escape(thousands)
        self._decimal, self._thousands = decimal, thousands
        self._regex = (
            rf"^-?(?:0|[1-9][0-9]*|[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+)"
            rf"(?:{mark}[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
        )

    def plain(self, strings: pa.Array) -> pa.Array | None:
        """Return the numbers as everybody reads them, or None if one is not written so."""
        if not _all(pc.match_substring_regex(strings, self._regex)):
            return None
        bare = pc.replace_substring(strings, self._thousands, "")
        return bare if self._decimal == "." else pc.replace_substring(bare, self._decimal, ".")


def _iso(strings: pa.Array, pattern: str, order: str) -> pa.Array | None:
    """Return dates (and times) in ISO form, or None if one is not written by that pattern."""
    if not _all(pc.match_substring_regex(strings, pattern + _TIME)):
        return None
    padded = pc.replace_substring_regex(strings, pattern, order)
    padded = pc.replace_substring_regex(padded, r"-0(\d\d)", r"-\1")
    return pc.replace_substring_regex(padded, r"([ T])(\d):", r"\10\2:")


def _by_format(strings: pa.Array, wanted: str, kind: pa.DataType) -> pa.Array | None:
    """Return dates or times that are written in strptime's words, or None if one is not."""
    if pt.is_date(kind) == bool(_TIMED.search(wanted)) or not pt.is_temporal(kind):
        return None
    if pt.is_timestamp(kind) and (kind.tz is not None) != ("%z" in wanted):
        return None
    unique = strings.dictionary_encode()
    parsed: list[datetime | None] = []
    try:
        for value in unique.dictionary.to_pylist():
            moment = datetime.strptime(value, wanted)
            parsed.append(moment.astimezone(UTC) if moment.tzinfo else moment)
    except (ValueError, re.error):
        return None
    values = pa.array(parsed, _INSTANT if "%z" in wanted else _STAMP)
    return pc.take(values, unique.indices).cast(kind)


def parse(strings: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the strings as `kind`, with or without blanks around them, or None if a single one is not exactly that."""
    values = _parse(strings, kind)
    return _parse(cleaned(strings), kind) if values is None else values


def cleaned(strings: pa.Array) -> pa.Array:
    """Return the strings without surrounding blanks, and null for those that stand for null."""
    return _without(pc.utf8_trim_whitespace(strings), pa.array(NULLS, pa.string()))


def _parse(strings: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the strings as `kind`, or None if a single one is not exactly that."""
    if pt.is_null(kind):
        return pa.nulls(len(strings)) if strings.null_count == len(strings) else None
    try:
        parsed = pc.cast(strings, kind)
    except pa.ArrowInvalid:
        return None
    return parsed if _faithful(strings, parsed) else None


def _faithful(strings: pa.Array, parsed: pa.Array) -> bool:
    """Say whether nothing was lost that the casts of Arrow let pass."""
    kind = parsed.type
    if pt.is_boolean(kind):
        # Arrow takes 0 and 1 for booleans too.
        return not _any(pc.invert(pc.is_in(pc.utf8_lower(strings.drop_null()), value_set=_BOOLEANS)))
    if not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)):
        return True
    if len(strings) == strings.null_count:
        return True
    length, first, second, third = _first_characters(strings)
    # Codes such as 007, and hexadecimal numbers.
    negative = first == ord("-")
    lead, after = np.where(negative, second, first), np.where(negative, third, second)
    if bool(np.any((length > 1 + negative) & (lead == ord("0")) & _IN_NUMBER[after])):
        return False
    if pt.is_integer(kind):
        return True
    if bool(np.any((length > 0) & (first == ord("+")))):
        return False
    if pt.is_decimal(kind):
        return True
    # Whole numbers beyond 64 bits would be rounded, and numbers beyond a double's range be infinite.
    large = pc.greater_equal(pc.abs(parsed), 1e18)
    texts, numbers = strings.filter(large), parsed.filter(large)
    if not len(texts):
        return True
    whole = texts.filter(pc.match_substring_regex(texts, r"^-?[0-9]+$"))
    try:
        pc.cast(whole, pa.int64())
    except pa.ArrowInvalid:
        return False
    return not _any(pc.and_(pc.is_inf(numbers), pc.match_substring_regex(texts, r"[0-9]")))


def _first_characters(strings: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the length of each string in bytes and its first three bytes (anything where it has fewer)."""
    _, offsets, content = strings.buffers()
    ends = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1]
    characters = np.frombuffer(content, np.uint8)
    start, last = ends[:-1], len(characters) - 1
    at = [characters[np.minimum(start + position, last)] for position in range(3)]
    return np.diff(ends), at[0], at[1], at[2]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def _any(flags: pa.Array) -> bool:
    return bool(pc.any(flags).as_py())


def _all(flags: pa.Array) -> bool:
    return pc.all(flags).as_py() is not False


def typed(strings: pa.Array, options: ReadOptions, name: str = "") -> tuple[pa.Array, Mapping[str, Any]]:
    """Return a whole column of text as the narrowest type that holds it, and what was found out.

    >>> typed(pa.array(["1", "N/A"]), ReadOptions())[0].to_pylist()
    [1, None]
    """
    types = TextTypes(options)
    if given := types.forced(name):
        values, bad = types.as_given(strings, given.kind)
        return (strings, {}) if bad else (values, {})
    column = types.look(strings, Column())
    reading = types.resolve([column])[0]
    values = types.values(strings, reading)
    return (strings, {}) if values is None else (values, described(column, reading, types))


def described(column: Column, reading: Reading, types: TextTypes) -> dict[str, Any]:
    """Return what was found out about how a column is written, JSON-serialisable; empty where it is usual."""
    found: dict[str, Any] = {}
    if pt.is_string(reading.kind) or pt.is_null(reading.kind):
        return found
    markers = (
        column.markers - _NAN if pt.is_floating(reading.kind) and reading.how == PLAIN else column.markers
    )
    if markers:
        found["nulls"] = sorted(markers)
    if reading.how in _DATES:
        found["date_format"] = reading.how
    if reading.how in (COMMA, POINT):
        found["decimal"] = "," if reading.how == COMMA else "."
    return found
