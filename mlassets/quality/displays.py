"""What a report can show beside a verdict: texts, tables, plotly figures and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A small table of plain text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A plotly figure, as plain JSON values."""

    figure: Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """A PNG picture."""

    name: str
    png: bytes


@dataclass(frozen=True)
class Code:
    """Lines to be typed or read as they are."""

    text: str


Display = Text | Table | Figure | Picture | Code
