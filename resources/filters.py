"""What `find` is asked, as a tree of conditions: made from a mapping, or from one line of text.

    {"labels.ticket": "AB-123", "metrics.roc_auc": {"$gt": 0.7}, "step": "model"}
    labels.ticket=AB-123 metrics.roc_auc>0.7 step=model

Both forms mean the same and become the same tree. What they mean: values compare only within their type (numbers
with numbers, texts with texts, truth values with truth values, times with times); `$ne`, `$nin` and `$not` are the
complement of what they negate, so that they match Things that lack the field; NaN equals NaN and is in no order.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from resources.errors import MlassetsError, did_you_mean

Kind = Literal["column", "label", "parameter", "metric", "provenance", "verdict", "file", "hash"]
Operator = Literal["eq", "gt", "gte", "lt", "lte", "in", "regex", "exists"]

TIMES = ("created_at", "retired_at", "removed_at")
NUMBERS = ("size", "rows")
TEXTS = (
    *("id", "step", "partition", "project", "segment", "source", "name", "user", "host"),
    *("data_version", "code_version", "spec_hash", "run_id"),
)
COLUMNS = (*TEXTS, *TIMES, *NUMBERS)
ROOTS: dict[str, Kind] = {
    "labels": "label",
    "parameters": "parameter",
    "metrics": "metric",
    "provenance": "provenance",
    "verdicts": "verdict",
}
_PARTS: dict[str, Kind] = {"file": "file", "hash": "hash"}
# Times, although the manifest has them as text.
_PROVENANCE_TIMES = ("started_at", "ended_at")
_ORDERED = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_OPERATORS = ("$eq", "$ne", *_ORDERED, "$in", "$nin", "$regex", "$exists", "$not")
_JOINS = ("$and", "$or", "$not")
_DEEPEST = 40
_MOST_CONDITIONS = 200
_MOST_VALUES = 10_000
_LONGEST_PATTERN = 1000
_LONGEST_TEXT = 100_000


class BadQuery(MlassetsError):
    """What `find` was asked cannot be understood."""


@dataclass(frozen=True)
class Field:
    """What a condition is about: a column, an attribute, a claim, or the names or hashes of files."""

    kind: Kind
    name: str

    @property
    def type(self) -> str | None:
        """The type that all of its values have; None if each Thing's may have its own."""
        if self.kind == "column":
            return "time" if self.name in TIMES else "number" if self.name in NUMBERS else "text"
        if self.kind == "provenance" and self.name in _PROVENANCE_TIMES:
            return "time"
        return "text" if self.kind in ("verdict", "file", "hash") else None

    def __str__(self) -> str:
        root = next((root for root, kind in ROOTS.items() if kind == self.kind), "")
        return f"{root}.{self.name}" if root else self.name


@dataclass(frozen=True)
class Value:
    """A value and its type: null, truth, number, nan, text or time."""

    type: str
    value: Any


@dataclass(frozen=True)
class Condition:
    """What one field must be: `values` has one value, any number for `in`, and a truth value for `exists`."""

    field: Field
    operator: Operator
    values: tuple[Value, ...]


@dataclass(frozen=True)
class AllOf:
    """Every one of `parts` holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class AnyOf:
    """One of `parts` holds, or more."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Not:
    """`part` does not hold."""

    part: "Node"


Node = AllOf | AnyOf | Not | Condition
EVERYTHING = AllOf(())


def parse(query: Mapping[str, Any] | str | None, now: datetime | None = None) -> Node:
    """Return the tree of a query in either form; None and nothing mean everything.

    Args:
        query: A mapping, or a line of text.
        now: What durations are counted back from; by default the time.

    Raises:
        BadQuery: If it cannot be understood.
    """
    if query is None:
        return EVERYTHING
    if isinstance(query, str):
        tree = _Reader(query, now or datetime.now(UTC)).read()
    elif isinstance(query, Mapping):
        tree = _of_mapping(query, 0)
    else:
        raise BadQuery(f"a query is a mapping or a text, not a {type(query).__name__}")
    if sum(1 for _ in conditions(tree)) > _MOST_CONDITIONS:
        raise BadQuery(
            f"a query has {_MOST_CONDITIONS} conditions at most; use $in for many values of one field"
        )
    return tree


def conditions(tree: Node) -> Iterator[Condition]:
    """Yield all conditions of a tree."""
    if isinstance(tree, Condition):
        yield tree
    elif isinstance(tree, Not):
        yield from conditions(tree.part)
    else:
        for part in tree.parts:
            yield from conditions(part)


def parse_field(name: str) -> Field:
    """Return the field of a name: `step`, `labels.ticket`, `verdicts.no_conflicting_labels`, `file`.

    Raises:
        BadQuery: If there is no such field.
    """
    if not isinstance(name, str):
        raise BadQuery(f"{name!r} is no field: the names of fields are text")
    if name in COLUMNS:
        return Field("column", name)
    if name in _PARTS:
        return Field(_PARTS[name], name)
    root, dot, rest = name.partition(".")
    if root in ROOTS and rest:
        if root == "provenance" and rest in ("user", "host"):
            return Field("column", rest)
        return Field(ROOTS[root], rest)
    if root in ROOTS:
        raise BadQuery(f"{name!r} is no field; say which one: {root}.<name>")
    known = [*COLUMNS, *_PARTS, *ROOTS]
    near = (
        did_you_mean(root, known)
        or f". There is {', '.join(known[:-5])}, {', '.join(f'{one}.*' for one in ROOTS)}"
    )
    more = f"; a label's field is labels.{name}" if not dot else ""
    raise BadQuery(f"there is no field {name!r}{near}{more}")


def value_of(value: object, field: Field) -> Value:
    """Return a value with its type, as a field can be compared with it.

    Raises:
        BadQuery: If it is of no type that can be found by, or of another than the field's values.
    """
    found = _typed(value, field)
    if field.type == "time" and found.type == "text":
        return Value("time", _time(found.value, field))
    if field.type not in (None, found.type) and found.type != "null":
        advice = f"give it as text, {str(value)!r}" if field.type == "text" else f"give a {field.type}"
        raise BadQuery(f"{field} is a {field.type}, and {value!r} is a {found.type}; {advice}")
    return found


def _typed(value: Any, field: Field) -> Value:
    if hasattr(value, "item") and type(value).__module__ == "numpy":
        value = value.item()
    if value is None:
        return Value("null", None)
    if isinstance(value, bool):
        return Value("truth", value)
    if isinstance(value, (int, float)):
        return Value("number", value) if value == value else Value("nan", None)
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise BadQuery(
                f"{field} is compared with a text of {len(value)} characters; {_LONGEST_TEXT} is the most"
            )
        return Value("text", str(value))
    if isinstance(value, datetime):
        return Value("time", _aware(value, field))
    if isinstance(value, date):
        raise BadQuery(
            f"{field}: {value!r} is a date without a time; give a datetime with a zone, as {_example(value)}"
        )
    raise BadQuery(
        f"{field} cannot be compared with {value!r}, a {type(value).__name__}: values are numbers, texts, truth "
        "values, times and null. For one of several, use $in"
    )


def _example(day: date) -> str:
    return f"datetime({day.year}, {day.month}, {day.day}, tzinfo=UTC)"


def _aware(time: datetime, field: Field) -> datetime:
    if time.utcoffset() is None:
        raise BadQuery(
            f"{field}: {time!r} has no time zone, so that it is no instant; write "
            f"{time.isoformat()}+00:00, or use .replace(tzinfo=UTC) or .astimezone()"
        )
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise BadQuery(f"{field}: {time!r} is beyond the years 1 to 9999 in UTC") from None


def _time(text: str, field: Field) -> datetime:
    """Return an instant from ISO text; a date is its first moment in UTC."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.fromisoformat(f"{text}T00:00:00+00:00")
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(
            f"{field} is a time, and {text!r} is none; write 2026-01-31T12:00:00+00:00 or 2026-01-31"
        ) from None
    return _aware(time, field)


def compare(field: Field, operator: Operator, value: object) -> Condition:
    """Return a condition on one value.

    Raises:
        BadQuery: If the field cannot be compared so.
    """
    if operator == "regex":
        return Condition(field, "regex", (_pattern(value, field),))
    found = value_of(value, field)
    if operator != "eq" and found.type == "null":
        raise BadQuery(f"{field}: nothing is greater or less than null; use $eq or $exists")
    return Condition(field, operator, (found,))


def _pattern(value: object, field: Field) -> Value:
    if not isinstance(value, str):
        raise BadQuery(f"{field}: a regular expression is a text, not {value!r}")
    if field.type not in (None, "text"):
        raise BadQuery(f"{field} is a {field.type}, which no regular expression matches; use $gt, $lt or $eq")
    if len(value) > _LONGEST_PATTERN:
        raise BadQuery(
            f"{field}: the regular expression has {len(value)} characters; {_LONGEST_PATTERN} is the most"
        )
    compiled(value, field)
    return Value("text", value)


def compiled(pattern: str, field: Field) -> Any:
    """Return a regular expression of RE2, which takes no longer for any text than in proportion to it.

    Raises:
        BadQuery: If it is none.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        told = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise BadQuery(
            f"{field}: {pattern!r} is no regular expression of RE2: {told}. It knows no backreferences and no "
            "look-around; a character that has a meaning of its own is escaped with a backslash"
        ) from None


def one_of(field: Field, values: object) -> Condition:
    """Return a condition that a field is one of several values.

    Raises:
        BadQuery: If they are no list, too many, or the field cannot be compared with one of them.
    """
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Sequence, set, frozenset)):
        raise BadQuery(f"{field}: $in and $nin take a list of values, not {values!r}")
    if len(values) > _MOST_VALUES:
        raise BadQuery(f"{field}: $in has {len(values)} values; {_MOST_VALUES} is the most")
    return Condition(field, "in", tuple(dict.fromkeys(value_of(one, field) for one in values)))


def exists(field: Field, there: object = True) -> Node:
    """Return a condition that a Thing has a field, or that it has not.

    Raises:
        BadQuery: If `there` is neither true nor false.
    """
    if not isinstance(there, bool):
        raise BadQuery(f"{field}: $exists is true or false, not {there!r}")
    found = Condition(field, "exists", ())
    return found if there else Not(found)


def joined(parts: Sequence[Node]) -> Node:
    """Return a tree in which all of `parts` hold."""
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _of_mapping(query: Mapping[str, Any], depth: int) -> Node:
    if depth > _DEEPEST:
        raise BadQuery(f"the query is nested more than {_DEEPEST} deep; write it flatter")
    parts: list[Node] = []
    for key, value in query.items():
        if isinstance(key, str) and key.startswith("$"):
            parts.append(_join(key, value, depth))
        else:
            parts += _of_field(parse_field(key), value, depth)
    return joined(parts)


def _join(key: str, value: object, depth: int) -> Node:
    if key not in _JOINS:
        if key in _OPERATORS:
            raise BadQuery(f"{key} stands within a field: {{'metrics.roc_auc': {{{key!r}: …}}}}")
        raise BadQuery(f"there is no operator {key!r}{did_you_mean(key, [*_JOINS, *_OPERATORS])}")
    if key == "$not":
        if not isinstance(value, Mapping):
            raise BadQuery(f"$not takes a query, a mapping, not {value!r}")
        return Not(_of_mapping(value, depth + 1))
    if not isinstance(value, (list, tuple)) or not value:
        raise BadQuery(f"{key} takes a list of queries with at least one, not {value!r}")
    for one in value:
        if not isinstance(one, Mapping):
            raise BadQuery(f"{key} takes a list of queries, which are mappings, not {one!r}")
    parts = tuple(_of_mapping(one, depth + 1) for one in value)
    return joined(parts) if key == "$and" else parts[0] if len(parts) == 1 else AnyOf(parts)


def _of_field(field: Field, value: object, depth: int) -> list[Node]:
    if not isinstance(value, Mapping):
        return [compare(field, "eq", value)]
    if not value:
        raise BadQuery(f"{field}: {{}} says nothing; use an operator: {', '.join(_OPERATORS)}")
    if depth > _DEEPEST:
        raise BadQuery(f"the query is nested more than {_DEEPEST} deep; write it flatter")
    return [_operated(field, operator, operand, depth) for operator, operand in value.items()]


def _operated(field: Field, operator: object, operand: object, depth: int) -> Node:
    if operator in _ORDERED:
        return compare(field, _ORDERED[str(operator)], operand)  # type: ignore[arg-type]
    simple: dict[object, Callable[[], Node]] = {
        "$eq": lambda: compare(field, "eq", operand),
        "$ne": lambda: Not(compare(field, "eq", operand)),
        "$in": lambda: one_of(field, operand),
        "$nin": lambda: Not(one_of(field, operand)),
        "$regex": lambda: compare(field, "regex", operand),
        "$exists": lambda: exists(field, operand),
    }
    if operator in simple:
        return simple[operator]()
    if operator == "$not":
        if not isinstance(operand, Mapping):
            raise BadQuery(
                f"{field}: $not takes operators, as {{'$not': {{'$gt': 5}}}}, not {operand!r}; or use $ne"
            )
        return Not(joined(_of_field(field, operand, depth + 1)))
    if isinstance(operator, str) and operator.startswith("$"):
        raise BadQuery(f"{field}: there is no operator {operator!r}{did_you_mean(operator, _OPERATORS)}")
    raise BadQuery(
        f"{field}: {operator!r} is no operator. A nested name is written with dots: {field}.{operator}"
    )


_BARE_FIELD = re.compile(r'[^\s()=!<>~?",]+')
_OPERATOR = re.compile(r"!=|>=|<=|=|>|<|~|\?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d+")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WORDS: dict[str, object] = {
    "true": True,
    "false": False,
    "null": None,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
}
_COMPARED: dict[str, Operator] = {
    "=": "eq",
    "!=": "eq",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
    "~": "regex",
}
_SINCE: dict[str, Operator] = {"since": "gte", "until": "lte"}
CREATED_AT = Field("column", "created_at")


@dataclass(frozen=True)
class _Word:
    """A value as it was written; one in quotes is text, whatever it looks like."""

    text: str
    quoted: bool


class _Reader:
    """Reads one line of the text language, from left to right."""

    def __init__(self, text: str, now: datetime) -> None:
        if len(text) > _LONGEST_TEXT:
            raise BadQuery(f"the query has {len(text)} characters; {_LONGEST_TEXT} is the most")
        self._text, self._at, self._now = text, 0, now

    def read(self) -> Node:
        """Return the tree of the whole line."""
        self._space()
        if self._at == len(self._text):
            return EVERYTHING
        tree = self._either(0)
        if self._at < len(self._text):
            raise self._failed("there is a `)` too many; quote it if it belongs to a value")
        return tree

    def _failed(self, problem: str) -> BadQuery:
        before, after = self._text[max(0, self._at - 30) : self._at], self._text[self._at : self._at + 30]
        return BadQuery(f"the query cannot be read: {problem} (at {before!r} ▸ {after!r})")

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _next(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _keyword(self, *words: str) -> bool:
        """Take a word such as `or`, if it is next and stands by itself."""
        for word in words:
            end = self._at + len(word)
            after = self._text[end : end + 1]
            if self._text[self._at : end].lower() == word and (not after or after.isspace() or after in '("'):
                self._at = end
                self._space()
                return True
        return False

    def _either(self, depth: int) -> Node:
        parts = [self._both(depth)]
        while self._keyword("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _both(self, depth: int) -> Node:
        parts = [self._term(depth)]
        while self._at < len(self._text) and self._text[self._at] != ")":
            before = self._at
            if self._keyword("or"):
                self._at = before
                break
            self._keyword("and")
            parts.append(self._term(depth))
        return joined(parts)

    def _term(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise BadQuery(f"the query is nested more than {_DEEPEST} deep; write it flatter")
        if self._keyword("not"):
            return Not(self._term(depth + 1))
        if self._text[self._at : self._at + 1] == "(":
            self._at += 1
            self._space()
            inner = self._either(depth + 1)
            if self._text[self._at : self._at + 1] != ")":
                raise self._failed("a `(` is not closed")
            self._at += 1
        else:
            inner = self._condition()
        self._space()
        return inner

    def _condition(self) -> Node:
        start = self._at
        name = self._name()
        if not name:
            raise self._failed("here should be a condition, such as step=model")
        spaced = self._at
        self._space()
        if self._listing():
            return one_of(parse_field(name), self._values(parse_field(name)))
        operator = self._next(_OPERATOR)
        if not operator:
            self._at = spaced
            word = self._text[start:spaced]
            raise self._failed(
                f"{word!r} is no condition; write <field>=<value>, such as name={word} or labels.{word}?"
            )
        if name in _SINCE:
            return self._since(name, operator)
        field = parse_field(name)
        if operator == "?":
            return exists(field)
        self._space()
        if operator in ("=", "!=") and self._listing():
            found: Node = one_of(field, self._values(field))
        else:
            written = self._word("")
            value = written.text if operator == "~" else self._meant(written, field)
            found = compare(field, _COMPARED[operator], value)
        return Not(found) if operator == "!=" else found

    def _name(self) -> str:
        """Take the name of a field: any part of it may be in quotes."""
        parts = []
        while part := (
            self._quoted() if self._text[self._at : self._at + 1] == '"' else self._next(_BARE_FIELD)
        ):
            parts.append(part)
        return "".join(parts)

    def _listing(self) -> bool:
        if self._text[self._at : self._at + 3].lower() == "in(":
            self._at += 3
            return True
        return False

    def _values(self, field: Field) -> list[object]:
        values: list[object] = []
        while True:
            self._space()
            if self._text[self._at : self._at + 1] == ")" and not values:
                break
            values.append(self._meant(self._word(","), field))
            self._space()
            if self._text[self._at : self._at + 1] != ",":
                break
            self._at += 1
        if self._text[self._at : self._at + 1] != ")":
            raise self._failed("the list of `in(` is not closed; values are parted by commas")
        self._at += 1
        return values

    def _quoted(self) -> str:
        r"""Take a text in quotes; within it, `\"` is a quote and `\\` a backslash."""
        self._at += 1
        taken = []
        while self._at < len(self._text):
            two = self._text[self._at : self._at + 2]
            if two in ('\\"', "\\\\"):
                taken.append(two[1])
                self._at += 2
            elif two[0] == '"':
                self._at += 1
                return "".join(taken)
            else:
                taken.append(two[0])
                self._at += 1
        raise self._failed('a `"` is not closed')

    def _word(self, ends: str) -> _Word:
        """Take a value: in quotes, or all up to a space, with whatever is in brackets of its own."""
        if self._text[self._at : self._at + 1] == '"':
            text = self._quoted()
            after = self._text[self._at : self._at + 1]
            if after and not after.isspace() and after not in "),":
                raise self._failed("after a text in quotes there must be a space")
            return _Word(text, True)
        start, depth = self._at, 0
        while self._at < len(self._text):
            one = self._text[self._at]
            if one.isspace() or (depth == 0 and one in f"){ends}"):
                break
            depth += (one == "(") - (one == ")")
            self._at += 1
        if start == self._at:
            raise self._failed('here should be a value; the empty text is ""')
        return _Word(self._text[start : self._at], False)

    def _meant(self, word: _Word, field: Field) -> object:
        """Return the value that was meant by a word."""
        text = word.text
        if word.quoted or (field.type == "text" and text != "null"):
            return text
        if field.type == "time" and _DURATION.fullmatch(text):
            return self._ago(text)
        if text.lower() in _WORDS and (text.islower() or text == "NaN"):
            return _WORDS[text.lower()]
        if _INTEGER.fullmatch(text):
            if len(text) > 1000:
                raise self._failed("a number has too many digits; put it in quotes if it is a text")
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
        if _INSTANT.fullmatch(text):
            return _time(text, field)
        return text

    def _since(self, name: str, operator: str) -> Node:
        if operator != "=":
            raise self._failed(f"{name} is written {name}=7d or {name}=2026-01-31")
        self._space()
        text = self._word("").text
        if _DURATION.fullmatch(text):
            return compare(CREATED_AT, _SINCE[name], self._ago(text))
        if not re.match(r"\d{4}-", text):
            raise self._failed(f"{name} takes a duration such as 7d or 12h, or a time such as 2026-01-31")
        return compare(CREATED_AT, _SINCE[name], text)

    def _ago(self, text: str) -> datetime:
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
        try:
            return self._now - timedelta(**_summed(parts))
        except OverflowError:
            raise self._failed(f"{text} is too long ago") from None


def _summed(parts: Sequence[tuple[str, str]]) -> dict[str, float]:
    summed: dict[str, float] = {}
    for amount, unit in parts:
        summed[_UNITS[unit]] = summed.get(_UNITS[unit], 0.0) + float(amount)
    return summed
