"""How the pages of the catalog are put together: one style, one script, and a policy that allows no other."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from mlassets.quality.report import style as report_style

if TYPE_CHECKING:
    import jinja2


@cache
def style() -> str:
    """Return the style of these pages: the reports', and what they have beyond those."""
    return report_style() + _file("pages.css")


@cache
def script() -> str:
    """Return the script of the graph; everything else on these pages does without one."""
    return _file("graph.js")


@cache
def policy(served: bool) -> str:
    """Return the policy of a page: its own style and script, by their hashes, and nothing from elsewhere.

    Args:
        served: Whether it comes from our server, so that it has pictures and a search form, or is a file by itself.
    """
    own = "'self'" if served else "'none'"
    parts = {
        "default-src": "'none'",
        "script-src": _hash(script()),
        "style-src": _hash(style()),
        "img-src": "'self' data:" if served else "data:",
        "frame-src": own,
        "form-action": own,
        "base-uri": "'none'",
    }
    if served:
        # A policy within a file cannot say it.
        parts["frame-ancestors"] = "'none'"
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def render(template: str, *, served: bool = True, **values: Any) -> str:
    """Return a page from one of the templates, with every text escaped."""
    import markupsafe

    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            served=served,
            policy="" if served else policy(served=False),
            style=markupsafe.Markup(style()),  # noqa: S704 - a file of ours
            script=markupsafe.Markup(script()),  # noqa: S704 - a file of ours
        )
    )


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_file),
    )
    environment.filters |= {"shown": shown, "size": size, "time": time, "count": "{:,}".format, "many": many}
    return environment


@cache
def _file(name: str) -> str:
    return (resources.files("mlassets.pages") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def shown(value: object) -> str:
    """Return a value as a person reads it: no text of more digits than matter, nothing as nothing.

    >>> shown(0.123456789), shown(12.0), shown(True), shown([1, "a"]), shown(float("nan"))
    ('0.123457', '12', 'true', '[1, "a"]', 'nan')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) < 1e15 and value == round(value) else f"{value:.6g}"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | Sequence):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def size(count: float) -> str:
    """Return a number of bytes as a person reads it.

    >>> size(0), size(1_500), size(95_000_000)
    ('0 bytes', '1.5 kB', '95 MB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} TB"


def many(count: int, what: str) -> str:
    """Return a number of things in words.

    >>> many(1, "row"), many(1_000, "row")
    ('1 row', '1,000 rows')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def time(moment: object) -> str:
    """Return a time as these pages show it: UTC, to the second.

    >>> time("2026-11-22T09:30:00.123456+00:00")
    '2026-11-22 09:30:00'
    """
    return "" if moment is None else str(moment)[:19].replace("T", " ")
