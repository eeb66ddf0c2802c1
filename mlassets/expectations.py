"""What is expected of data, as a spec declares it under `expect`: of a source's tables, or of a project's draws.

Nothing here looks at data; `mlassets.quality.dimensions` holds the rows against it.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, field_validator, model_validator

from mlassets.sections import SOURCE_NAME, Column, Columns, Duration, Section, WrongError, shown

TYPES = ("text", "integer", "number", "boolean", "date", "timestamp", "decimal(p,s)")

# What a right value looks like, by field; a field deep below has the example of its name.
EXAMPLES = {
    "expect": "expect: {key: [flight, day], columns: {delay: {type: number, range: [-120, 3000]}}}",
    "expect.key": "key: [carrier, flight, time_hour]",
    "expect.columns": "columns: {carrier: {values: [AA, UA]}, dep_delay: {type: number, range: [-120, 3000]}}",
    "expect.type": "type: integer",
    "expect.range": "range: [0, 100]   or   range: [2020-01-01, null]",
    "expect.values": "values: [AA, UA]",
    "expect.pattern": 'pattern: "[A-Z]{2}[0-9]{1,4}"',
    "expect.length": "length: [2, 40]",
    "expect.nulls": "nulls: 0.05",
    "expect.unique": "unique: true",
    "expect.reference": "reference: carriers.code",
    "expect.rules": 'rules: [{name: lands after it departs, sql: "arr_time >= dep_time"}]',
    "expect.sql": 'sql: "arr_time >= dep_time"',
    "expect.dimension": "dimension: accuracy",
    "expect.same_in": "same_in: {payments: {keys: [order_id], sums: [amount]}}",
    "expect.arrives": "arrives: {column: time_hour, every: 35d, within: 2d}",
    "expect.texts": "texts: {columns: [comment], embedding: wordllama}",
    "expect.embedding": "embedding: wordllama",
    "expect.every": "every: 35d",
    "expect.within": "within: 2d",
}

_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")


def _type(given: str) -> str:
    match = _DECIMAL.fullmatch(given)
    if given in TYPES[:-1] or (match and 1 <= int(match[1]) <= 38 and int(match[2]) <= int(match[1])):
        return given
    raise ValueError(f"{shown(given)} is no type; there is {', '.join(TYPES)}")


def _end(given: Any) -> Any:
    """Return one end of a range: a number, a moment, or None where it is open."""
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    if isinstance(given, date):  # YAML reads dates by itself
        return given.isoformat()
    if isinstance(given, str):
        try:
            datetime.fromisoformat(given)
        except ValueError:
            pass
        else:
            return given
    raise ValueError(f"{shown(given)} is neither a number nor a date such as 2024-01-31")


def _pattern(given: str) -> str:
    import re2

    try:
        re2.compile(given)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{shown(given)} is no regular expression of RE2: {reason}") from None
    return given


def _value(given: Any) -> Any:
    if isinstance(given, date):
        return given.isoformat()
    if not isinstance(given, str | int | float | bool):
        raise ValueError(f"{shown(given)} is not one value (text, number, true/false)")
    return given


def _condition(given: str) -> str:
    from resources.query import BadCondition, Condition

    try:
        Condition.parse(given)
    except BadCondition as error:
        raise ValueError(str(error).removeprefix("the condition ")) from None
    return given


def _reference(given: str) -> str:
    source, dot, column = given.partition(".")
    if not dot or not column.strip() or not SOURCE_NAME.fullmatch(source):
        raise ValueError(f"{shown(given)} names no column of a source; write source.column")
    return given


class ExpectedColumn(Section):
    """What is expected of the values of one column. Nulls break nothing but `nulls`.

    Attributes:
        type: What every value is or, in a column of text, can be read as.
        range: Lowest and highest value, both included; null where an end is open.
        values: All the values that there are.
        pattern: Regular expression (RE2) that every value matches as a whole.
        length: Fewest and most characters; null where an end is open.
        nulls: Largest share of rows in which the value may be missing; None where any share may.
        unique: No value occurs twice.
        reference: Column of a source, as `source.column`, in which every value is found.
    """

    type: Annotated[str, AfterValidator(_type)] | None = None
    range: tuple[Any, Any] | None = None
    values: tuple[Any, ...] | None = None
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    length: tuple[StrictInt | None, StrictInt | None] | None = None
    nulls: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    unique: StrictBool = False
    reference: Annotated[str, AfterValidator(_reference)] | None = None

    @field_validator("range", mode="after")
    @classmethod
    def _of_one_kind(cls, given: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
        if given is None:
            return None
        low, high = map(_end, given)
        if low is None and high is None:
            raise ValueError("is open at both ends, and so says nothing")
        if low is not None and high is not None:
            if isinstance(low, str) != isinstance(high, str):
                raise ValueError(f"{shown(low)} and {shown(high)} are not of one kind")
            if low > high:
                raise ValueError(f"{shown(low)} is more than {shown(high)}; write the lowest value first")
        return low, high

    @field_validator("values", mode="after")
    @classmethod
    def _plain_values(cls, given: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if given is not None and not given:
            raise ValueError("lists no value")
        return None if given is None else tuple(map(_value, given))

    @field_validator("length", mode="after")
    @classmethod
    def _a_length(cls, given: tuple[int | None, int | None] | None) -> tuple[int | None, int | None] | None:
        if given is not None and (given == (None, None) or min(one or 0 for one in given) < 0):
            raise ValueError(f"{shown(list(given))} is no length; write fewest and most characters: [2, 40]")
        if given is not None and None not in given and given[0] > given[1]:  # type: ignore[operator]
            raise ValueError(f"{given[0]} is more than {given[1]}; write the fewest first")
        return given


class ExpectedRule(Section):
    """Something that must hold for every row. A rule whose answer is null, as one of its columns is, is not broken.

    Attributes:
        sql: One boolean expression over the columns of a row.
        name: What it says, for people; its SQL by default.
        dimension: `consistency` of columns with each other, or `accuracy`: what is written is true.
    """

    sql: Annotated[str, AfterValidator(_condition)]
    name: Column | None = None
    dimension: Literal["consistency", "accuracy"] = "consistency"

    @property
    def says(self) -> str:
        """The name, or the SQL on one line."""
        return self.name or " ".join(self.sql.split())


class AlsoIn(Section):
    """What another source holds as well.

    Attributes:
        keys: Columns whose values, row by row, are found together in the other source; by our name, theirs.
        sums: Columns that add up to the same there, to nine digits; by our name, theirs.
    """

    keys: Mapping[Column, Column] = {}
    sums: Mapping[Column, Column] = {}

    @field_validator("keys", "sums", mode="before")
    @classmethod
    def _same_names(cls, given: Any) -> Any:
        return {name: name for name in given} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _says_something(self) -> "AlsoIn":
        if not self.keys and not self.sums:
            raise WrongError(((), "names neither `keys` nor `sums`"))
        return self


class Arrival(Section):
    """When new data is due.

    Attributes:
        column: Column that says when a row happened; without one, the time at which its file landed counts.
        every: Longest time from the newest row of one delivery to the newest row of the next.
        within: Longest time from the newest row to its landing.
    """

    column: Column | None = None
    every: Duration | None = None
    within: Duration | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Arrival":
        if self.every is None and self.within is None:
            raise WrongError(((), "says neither how often data comes (`every`) nor how soon (`within`)"))
        if self.within and not self.column:
            raise WrongError((("within",), "needs `column`, which says when a row happened"))
        return self


EmbeddingName = Literal["lsa", "wordllama"]
"""How texts become vectors: by their own words (latent semantic analysis), or by the packaged model of English."""


class ExpectedTexts(Section):
    """How columns of texts are looked at.

    Attributes:
        columns: The columns that hold texts; by default they are told by looking at the first rows.
        embedding: How texts become vectors.
    """

    columns: Columns | None = None
    embedding: EmbeddingName = "lsa"


class Expectations(Section):
    """What is expected of the rows of a source, or of a draw.

    Attributes:
        key: Columns that identify a row: never null, and never twice the same.
        columns: What is expected of a column, which must be there.
        rules: What must hold for every row.
        same_in: What another source holds as well, by its name.
        arrives: When new data is due.
        texts: How columns of texts are looked at.
    """

    key: Columns = ()
    columns: Mapping[Column, ExpectedColumn] = {}
    rules: tuple[ExpectedRule, ...] = ()
    same_in: Mapping[str, AlsoIn] = {}
    arrives: Arrival | None = None
    texts: ExpectedTexts = ExpectedTexts()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that rows are compared with."""
        references = [one.reference.partition(".")[0] for one in self.columns.values() if one.reference]
        return tuple(dict.fromkeys([*references, *self.same_in]))
