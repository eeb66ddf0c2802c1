"""How a landed file is to be read, where detection is not to decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is known about a file beforehand; None means that it is found out by looking at the file.

    Attributes:
        format: Suffix of the format without the leading dot, as in `csv`; else by name, then by first bytes.
        encoding: Encoding of the text, as in `latin-1`.
        delimiter: What separates values.
        quote: What surrounds values that hold the delimiter; nothing at all if it is empty.
        header: Whether the first row names the columns.
        columns: Names of the columns, in place of those that the file gives.
        skip_rows: Lines to pass over before the header.
        decimal: Decimal mark.
        thousands: What groups digits, as in `1,234`.
        date_format: How dates and times are written, in strptime's words.
        nulls: Texts that stand for null, in place of those that are known.
        types: Type by column: text, integer, number, boolean, date, timestamp or decimal(p,s).
        widths: Characters of each column of a file of fixed width.
        tables: Names (or patterns) of the tables to take; `*` is every one.
        records: Where the records are in JSON or XML, names joined by dots.
        on_bad_rows: Whether rows that cannot be read make the file unreadable or are kept beside it.
        unpacked: Most bytes that an archive may unpack to.
    """

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] | None = None
    skip_rows: int = 0
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    date_format: str | None = None
    nulls: tuple[str, ...] | None = None
    types: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    widths: tuple[int, ...] | None = None
    tables: tuple[str, ...] | None = None
    records: str | None = None
    on_bad_rows: Literal["fail", "skip"] = "fail"
    unpacked: int = 20 * 10**9

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, JSON-serialisable, in one order.

        >>> ReadOptions(delimiter=";", tables=("a", "b")).as_dict()
        {'delimiter': ';', 'tables': ['a', 'b']}
        """
        given: dict[str, Any] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if value != getattr(_DEFAULTS, option.name):
                given[option.name] = (
                    list(value)
                    if isinstance(value, tuple)
                    else dict(sorted(value.items()))
                    if isinstance(value, Mapping)
                    else value
                )
        return given

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "ReadOptions":
        """Return the options that `as_dict` gave.

        >>> ReadOptions.from_dict({"tables": ["a"]}).tables
        ('a',)
        """
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**options)


_DEFAULTS = ReadOptions()
