"""The page of one Thing: all that is known about it, with its first rows, pictures, verdicts and lineage."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from mlassets.pages.lineage import NEARBY, around, graph
from mlassets.pages.rendering import render, shown, time
from mlassets.quality.report import describe_verdicts
from mlassets.summaries import counted
from resources.catalog import flat
from resources.errors import MlassetsError
from resources.lake import LakeError
from resources.store import Store
from resources.things import MANIFEST, RETIRED, Component, Thing, pack
from resources.verdicts import Verdict

ROWS_SHOWN = 20
COLUMNS_SHOWN = 50
VALUES_SHOWN = 1_000
VERSIONS_SHOWN = 30
LONG = 160
LONGEST = 20_000
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_PAGES = (".html", ".htm")
_FORMS = {"matplotlib.Figure": "picture", "plotly.BaseFigure": "figure", "text": "text", "json": "text"}
LARGEST = 30_000_000
"""An artifact beyond so many bytes is not shown: it would have to be held in memory to be checked."""
_TEXTS = (".json", ".txt", ".md", ".yaml", ".yml", ".sql", ".csv", ".log", ".py", ".toml", ".patch")
_TEXT_BYTES = 100_000
_TEXTS_SHOWN = 20


@dataclass(frozen=True)
class Places:
    """Where these pages lead to, beyond themselves.

    Attributes:
        dagster: Address of Dagster's UI, if it is known.
    """

    dagster: str | None = None

    def thing(self, thing_id: str) -> str:
        """Return where a Thing is shown."""
        return f"/things/{thing_id}"

    def artifact(self, thing_id: str, name: str) -> str:
        """Return where an artifact is served."""
        return f"/things/{thing_id}/artifacts/{quote(name, safe='')}"

    def run(self, run_id: str | None) -> str:
        """Return where Dagster shows a run, if it does."""
        return f"{self.dagster.rstrip('/')}/runs/{quote(run_id, safe='')}" if self.dagster and run_id else ""


def as_json(store: Store, thing: Thing) -> dict[str, Any]:
    """Return all that is known about a Thing as plain values: the JSON twin of its page.

    What JSON cannot say, as a metric that is not a number, is written as in the Thing's `thing.json`.
    """
    return {
        **{name: value for name, value in thing.manifest.items() if name != "dataset_schema"},
        "schema": (thing.manifest.get("dataset_schema") or {}).get("fields"),
        "rows": thing.rows,
        "size": thing.size,
        "address": thing.address,
        "retired": _retired(store, thing),
        "removed": _removed(thing),
        "verdicts": [pack(one.as_dict(), one.claim) for one in store.verdicts(thing.id)],
        "versions": [one.id for one in _versions(store, thing)],
    }


def thing_page(store: Store, thing: Thing, places: Places) -> str:
    """Return the page of a Thing; what of it cannot be read says why, in its place."""
    verdicts = store.verdicts(thing.id)
    lineage, whole = around(store, thing.id)
    versions = _versions(store, thing)
    away = _away(store, thing)
    removed = None if away else _removed(thing)
    artifacts = [] if removed or away else list(thing.artifacts.values())
    return render(
        "thing.html",
        title=f"{thing.step} of {thing.partition.key}",
        thing=thing,
        away=away,
        retired=_retired(store, thing, away),
        removed=removed,
        run=places.run(thing.run_id),
        preview=_preview(thing, away),
        parameters=_values(thing.parameters),
        labels=_values(thing.labels),
        metrics=_metrics(thing.metrics),
        pictures=[
            {"name": one.name, "href": places.artifact(thing.id, one.name)}
            for one in artifacts
            if kind_of(one) == "picture"
        ],
        pages=[
            {"name": one.name, "href": places.artifact(thing.id, one.name)}
            for one in artifacts
            if kind_of(one) in ("page", "figure")
        ],
        texts=[] if away else [*_texts(thing, artifacts), *_surroundings(thing)],
        verdicts=describe_verdicts(verdicts),
        counts=counted(verdicts),
        report=store.report_path(thing.id) is not None,
        graph=graph(lineage, places.thing, partial(verdict_counts, store), drawn=NEARBY, listed=NEARBY),
        whole=whole,
        files=[{"file": one, "own": one.path.startswith(f"{thing.folder}/")} for one in thing.components],
        provenance=list(_provenance(thing)),
        packages=_packages(thing, away),
        versions=[
            {"thing": one, "same": one.data_version == thing.data_version, "rows": one.rows}
            for one in versions
        ],
        more_versions=len(versions) == VERSIONS_SHOWN,
        commands=list(_commands(thing, versions)),
        python=_python(thing),
    )


def kind_of(component: Component) -> str:
    """Say how an artifact can be shown: as a `picture`, a `page`, a `figure`, a `text`, or not at all."""
    if component.kind != "artifact" or component.size > LARGEST:
        return ""
    ending = PurePosixPath(component.name).suffix.lower()
    of_name = (
        "picture"
        if ending in PICTURES
        else "page"
        if ending in _PAGES
        else "text"
        if ending in _TEXTS
        else ""
    )
    kind = _FORMS.get(component.form or "", of_name)
    return "" if kind == "text" and component.size > _TEXT_BYTES else kind


def media_of(picture: Component) -> str:
    """Return the media type of an artifact that is a picture."""
    return PICTURES.get(PurePosixPath(picture.name).suffix.lower(), "image/png")


def figure_page(thing: Thing, name: str) -> bytes:
    """Return an artifact that is a plotly figure as a page of its own.

    Raises:
        DamagedThing: If its bytes are not those that were committed.
    """
    from mlassets.quality.report import render_figure

    figure = json.loads(thing.artifact(name))
    return render_figure(figure if isinstance(figure, dict) else {}, title=name)


def verdict_counts(store: Store, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many of the newest verdicts on each of some Things passed, warn, block, and do not apply."""
    newest: dict[str, dict[str, Verdict]] = {}
    for row in store.catalog.verdicts(ids):
        brief = Verdict(row["claim"], row["status"], row["severity"], None, None, 0, "", {})
        newest.setdefault(row["thing_id"], {})[row["claim"]] = brief
    return {one: counted(verdicts.values()) for one, verdicts in newest.items()}


def _away(store: Store, thing: Thing) -> str:
    """Say why the lake does not answer, if it does not: asked once, and then not for everything in turn."""
    try:
        store.lake.size_of(f"{thing.folder}/{MANIFEST}")
    except LakeError as error:
        return str(error)
    return ""


def _retired(store: Store, thing: Thing, away: str = "") -> dict[str, Any] | None:
    """Return when a Thing was retired, by whom and why."""
    if thing.retired_at is None:
        return None
    known = {"retired_at": thing.retired_at.isoformat(), "user": None, "reason": None}
    if away:
        return known
    try:
        mark = json.loads(store.lake.read_bytes(f"{thing.folder}/{RETIRED}"))
    except (MlassetsError, ValueError):
        return known
    return {name: mark.get(name, known[name]) for name in known}


def _removed(thing: Thing) -> dict[str, Any] | None:
    """Return when the bytes of a Thing were removed, by whom and why."""
    try:
        return thing.removed if thing.retired_at is not None else None
    except (MlassetsError, ValueError):
        return None


def _versions(store: Store, thing: Thing) -> list[Thing]:
    """Return the newest versions of the same step and partition, retired ones too."""
    query = {"step": thing.step, "partition": thing.partition.key}
    return store.find(query, limit=VERSIONS_SHOWN, retired=True).things()


def _preview(thing: Thing, away: str) -> dict[str, Any] | None:
    """Return the first rows of the dataset; None if there is none."""
    if thing.schema is None:
        return None
    fields = list(thing.schema)
    left_out = max(0, len(fields) - COLUMNS_SHOWN)
    found: dict[str, Any] = {"columns": fields, "shown": fields[:COLUMNS_SHOWN], "left_out": left_out}
    if away:
        return {**found, "rows": [], "wrong": away}
    try:
        table = thing.first_rows(ROWS_SHOWN, [one.name for one in found["shown"]])
    except MlassetsError as error:
        return {**found, "rows": [], "wrong": str(error)}
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    return {**found, "rows": list(zip(*columns, strict=True)), "wrong": ""}


def _cell(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = shown(value)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    rows = list(flat(values))
    return {"rows": [_value(name, value) for name, value in rows[:VALUES_SHOWN]], "left": _left(rows)}


def _left(rows: Sequence[object]) -> int:
    return max(0, len(rows) - VALUES_SHOWN)


def _value(name: str, value: object) -> dict[str, Any]:
    text = shown(value)
    cut = len(text) - LONGEST
    return {
        "name": name,
        "text": text[:LONGEST],
        "first": text[:LONG],
        "long": len(text) > LONG or "\n" in text,
        "cut": max(0, cut),
    }


def _metrics(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return each metric with its interval, where it has one."""
    ends = {f"{name}.{end}" for name in metrics for end in ("low", "high")} & metrics.keys()
    rows = [
        {
            "name": name,
            "value": shown(value),
            "low": shown(metrics[f"{name}.low"]) if f"{name}.low" in ends else "",
            "high": shown(metrics[f"{name}.high"]) if f"{name}.high" in ends else "",
        }
        for name, value in metrics.items()
        if name not in ends
    ]
    # What was measured on rows that nothing was fitted to comes first.
    rows.sort(key=lambda row: not row["name"].startswith("test."))
    return {"rows": rows[:VALUES_SHOWN], "left": _left(rows), "intervals": bool(ends)}


def _texts(thing: Thing, artifacts: Sequence[Component]) -> Iterator[dict[str, str]]:
    """Yield the small artifacts that are text."""
    for one in [one for one in artifacts if kind_of(one) == "text"][:_TEXTS_SHOWN]:
        yield from _document(one.name, lambda one=one: thing.artifact(one.name))  # type: ignore[misc]


def _surroundings(thing: Thing) -> Iterator[dict[str, str]]:
    """Yield the texts that the lake keeps of where a Thing was made."""

    def spec() -> bytes:
        found = thing.spec()
        return json.dumps(found, indent=1, ensure_ascii=False).encode() if found else b""

    def folder() -> bytes:
        own = thing.patch("git")
        return b"" if own is None or own == thing.patch("code") else own

    yield from _document("The spec that it was made under", spec)
    yield from _document("What the code had beyond its commit", lambda: thing.patch("code") or b"")
    yield from _document("What the folder that it was made in had beyond its commit", folder)


def _document(name: str, read: Callable[[], bytes]) -> Iterator[dict[str, str]]:
    """Yield a text, or why it cannot be read; nothing if there is none."""
    try:
        text = read().decode("utf-8", "replace")
    except (MlassetsError, ValueError) as error:
        text = str(error)
    if text:
        yield {"name": name, "text": text[:LONGEST] + ("…" if len(text) > LONGEST else "")}


def _provenance(thing: Thing) -> Iterator[tuple[str, str]]:
    known = dict(thing.manifest["provenance"])
    git = known.get("git") or {}
    commit = git.get("commit")
    yield "User", shown(known.get("user") or "unknown")
    yield (
        "Machine",
        ", ".join(
            str(one)
            for one in (
                known.get("host"),
                known.get("machine"),
                f"{known['cpus']} processors" if known.get("cpus") else None,
            )
            if one
        ),
    )
    yield "Command", shlex.join(known.get("argv") or [])
    yield "Python", shown(known.get("python") or "")
    yield "Git commit", f"{commit}{', with changes' if git.get('dirty') else ''}" if commit else "not in git"
    yield "Started (UTC)", time(known.get("started_at"))
    yield "Ended (UTC)", time(known.get("ended_at"))
    yield "Code version", thing.code_version or ""
    yield "Spec", thing.spec_hash or ""
    yield "Data version", thing.data_version
    yield "Environment", shown(known.get("environment") or "")


def _packages(thing: Thing, away: str) -> dict[str, Any]:
    if away:
        return {"rows": [], "wrong": away}
    try:
        return {"rows": sorted(thing.packages().items()), "wrong": ""}
    except (MlassetsError, KeyError, ValueError) as error:
        return {"rows": [], "wrong": str(error)}


def _commands(thing: Thing, versions: Sequence[Thing]) -> Iterator[str]:
    yield f"mlassets show {thing.id}"
    yield f"mlassets get {thing.id} --to here"
    yield f"mlassets lineage {thing.id}"
    yield f"mlassets used {thing.id}"
    before = next((one.id for one in versions if one.id < thing.id), None)
    if before:
        yield f"mlassets diff {before} {thing.id}"
    yield f"mlassets reproduce {thing.id}"


def _python(thing: Thing) -> str:
    lines = ["import mlassets", "", f'thing = mlassets.open_store().get("{thing.id}")']
    if thing.schema is not None:
        lines.append("frame = thing.dataset.to_pandas()")
    artifact = next(iter(thing.artifacts), None)
    if artifact is not None:
        lines.append(f"content = thing.artifacts[{artifact!r}].read()")
    return "\n".join(lines)
