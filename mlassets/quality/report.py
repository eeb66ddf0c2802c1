"""One self-contained HTML page per judged Thing: readable offline, with every text escaped."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from mlassets.quality.checks import CHECKS
from mlassets.quality.displays import Code, Display, Figure, Picture, Table, Text
from mlassets.quality.suites import Judgement
from resources.verdicts import Verdict

MAX_BYTES = 6_000_000
_DESCRIPTIONS = {entry.claim: entry.description for entry in CHECKS}
_RANK = {"crashed": 0, "failed": 1, "passed": 2, "not_applicable": 3}
_WORDS = {
    "passed": "passed",
    "failed": "failed",
    "crashed": "crashed",
    "not_applicable": "does not apply",
}


def render_report(
    judgement: Judgement | Iterable[Verdict],
    *,
    title: str,
    rows: Sequence[tuple[str, str]] = (),
    pictures: Mapping[str, bytes] | None = None,
    sections: Sequence[tuple[str, Sequence[Display]]] = (),
) -> bytes:
    """Return the report on one judged Thing as a UTF-8 HTML page of less than 6 MB.

    Failed verdicts stand first, blocking ones before others. The page loads nothing: plotly.js is inlined once,
    and only where there is a figure to draw; pictures are data URIs. Figures and pictures that would make the
    page larger than 6 MB are left out, with a note in their place.

    Args:
        judgement: A suite's judgement, or any verdicts; a page without any tells of none.
        title: What was judged (`late-flights|EWR model`).
        rows: Identity of the Thing: label and value (id, partition, created).
        pictures: PNG pictures by name.
        sections: What stands before the verdicts: headings, each with what is shown below it.
    """
    import jinja2

    displays: Mapping[str, tuple[Display, ...]] = {}
    if isinstance(judgement, Judgement):
        displays, verdicts = judgement.displays, list(judgement.verdicts)
    else:
        verdicts = list(judgement)
    verdicts.sort(key=lambda v: (_RANK[v.status], v.severity != "ERROR"))
    room = MAX_BYTES - 100_000 - sum(len(json.dumps(v.as_dict(), default=str)) * 3 for v in verdicts)
    listed = (*displays.values(), *(items for _, items in sections))
    figures = any(isinstance(item, Figure) for items in listed for item in items)
    script = _plotly() if figures else ""
    page = _Page(room - len(script.encode()))
    entries = [page.entry(verdict, displays.get(verdict.claim, ())) for verdict in verdicts]
    seen: Counter[str] = Counter()
    for entry in entries:
        # One page may judge several Things, and so hold one claim several times.
        claim = entry["verdict"].claim
        seen[claim] += 1
        entry["anchor"] = claim if seen[claim] == 1 else f"{claim}_{seen[claim]}"
    shown = [page.item(Picture(name, png)) for name, png in (pictures or {}).items()]
    draw = _template("draw.js") if figures else ""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(_template("report.html")).render(
        title=title,
        rows=rows,
        entries=entries,
        counts=_counts(verdicts),
        sections=[(heading, [page.item(one) for one in items]) for heading, items in sections],
        pictures=shown,
        style=_safe(style()),
        scripts=[_safe(script), _safe(draw)] if figures else [],
        policy=_policy([script, draw] if figures else []),
    )
    return html.encode()


def render_figure(figure: Mapping[str, Any], *, title: str) -> bytes:
    """Return one plotly figure as a page of its own, which loads nothing."""
    import jinja2

    scripts = [_plotly(), _template("draw.js")]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    html = environment.from_string(_template("figure.html")).render(
        title=title,
        json=_safe(_figure(figure)),
        style=_safe(style()),
        scripts=[_safe(script) for script in scripts],
        policy=_policy(scripts),
    )
    return html.encode()


def describe_verdicts(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as a page lists them, those that block first: each with its words and figures as text."""
    page = _Page(0)
    ordered = sorted(verdicts, key=lambda v: (_RANK[v.status], v.severity != "ERROR"))
    return [page.entry(verdict, ()) for verdict in ordered]


def style() -> str:
    """Return the style of our pages, as CSS."""
    return _template("report.css")


class _Page:
    """Turns displays into what the template prints, within the bytes that are left."""

    def __init__(self, room: int) -> None:
        self._room = room

    def entry(self, verdict: Verdict, displays: Iterable[Display]) -> dict[str, Any]:
        """Return one verdict as the template wants it."""
        return {
            "verdict": verdict,
            "word": _WORDS[verdict.status],
            "claim": verdict.claim.replace("_", " "),
            "description": _DESCRIPTIONS.get(verdict.claim, ""),
            "observed": "" if verdict.observed is None else _number(verdict.observed),
            "details": [
                (name, _detail(value))
                for name, value in verdict.details.items()
                if value not in ({}, [], None)
            ],
            "displays": [self.item(display) for display in displays],
        }

    def item(self, display: Display) -> dict[str, Any]:
        """Return one display as the template wants it, or a note that it was too large."""
        if isinstance(display, Text):
            return {"kind": "text", "text": display.text}
        if isinstance(display, Code):
            return {"kind": "code", "text": display.text}
        if isinstance(display, Table):
            return {"kind": "table", "header": display.header, "rows": display.rows}
        if isinstance(display, Figure):
            figure = _figure(display.figure)
            return self._fit(figure, {"kind": "figure", "json": _safe(figure)}, "A figure")
        data = base64.b64encode(display.png).decode()
        return self._fit(data, {"kind": "picture", "name": display.name, "data": data}, f"`{display.name}`")

    def _fit(self, text: str, item: dict[str, Any], what: str) -> dict[str, Any]:
        size = len(text.encode())
        if size > self._room:
            return {"kind": "text", "text": f"{what} of {size / 1e6:.1f} MB did not fit into this page."}
        self._room -= size
        return item


def _figure(figure: Mapping[str, Any]) -> str:
    """Return a figure as JSON that cannot end the script element it stands in, and follows the page's colours."""
    layout = {**figure.get("layout", {})}
    layout.pop("template", None)
    layout.pop("width", None)
    layout |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "autosize": True}
    # deepchecks draws the training data in a blue that vanishes on dark paper.
    text = json.dumps({"data": figure.get("data", []), "layout": layout}).replace('"darkblue"', '"#4c7fd6"')
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy under which only our own scripts run and nothing is loaded from anywhere."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        f"script-src {hashes or chr(39) + 'none' + chr(39)}; base-uri 'none'; form-action 'none'"
    )


def _counts(verdicts: Sequence[Verdict]) -> list[tuple[str, str, int]]:
    kinds = (
        ("blocks", "block", lambda v: v.blocks),
        ("failed", "warn", lambda v: not v.passed and not v.blocks),
        ("passed", "passed", lambda v: v.status == "passed"),
        ("not_applicable", "do not apply", lambda v: v.status == "not_applicable"),
    )
    return [(kind, word, sum(map(counts, verdicts))) for kind, word, counts in kinds]


def _number(value: float) -> str:
    whole = abs(value) < 1e15 and value == round(value)
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def _detail(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_detail(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_detail(inner) for inner in value)
    return str(value)


def _safe(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704  # our own style and scripts, and JSON without markup


@cache
def _template(name: str) -> str:
    return (resources.files("mlassets.quality") / "templates" / name).read_text("utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    # An inline script ends at the first "</script", wherever it stands.
    return script.replace("</script", "<\\/script")
