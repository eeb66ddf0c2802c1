"""Which origins of sources are to be fetched now: as often as their specs say, unless a server says nothing is new."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlassets.ingestion.fetching import Origin
from mlassets.sections import duration
from mlassets.sources import SourceSpec
from resources.errors import MlassetsError


@dataclass(frozen=True)
class FetchPlan:
    """What a look at all origins found.

    Attributes:
        requests: By source that is to be fetched: a key, equal only for the same content.
        cursor: What to remember for the next look.
        notes: For a person: which origin does not answer, and why.
    """

    requests: Mapping[str, str]
    cursor: str
    notes: tuple[str, ...]


def plan_fetches(
    cursor: str | None,
    sources: Mapping[str, SourceSpec],
    ask: Callable[[SourceSpec], Origin],
    failed: Callable[[str], bool],
    now: datetime,
    seconds: float = math.inf,
) -> FetchPlan:
    """Say which origins are due and may have changed.

    Args:
        cursor: What the previous look returned; None at the first.
        sources: What is known about the sources.
        ask: Says what can be known about an origin without fetching it.
        failed: Says whether the run has failed that a key asked for, so that it is asked for again.
        now: The time, aware.
        seconds: For how long origins are asked at one look, one at least; the next goes on from there.
    """
    until = time.monotonic() + seconds
    before: dict[str, dict[str, Any]] = json.loads(cursor) if cursor else {}
    after: dict[str, dict[str, Any]] = {}
    requests: dict[str, str] = {}
    notes: list[str] = []
    asked = 0
    # Those that were asked longest ago come first.
    for name in sorted(sources, key=lambda one: str(before.get(one, {}).get("at", ""))):
        spec, noted = sources[name], before.get(name, {})
        if spec.fetch is None or spec.fetch.every is None:
            continue
        # Another origin is new, whatever the one before it said.
        origin = spec.fetch.model_dump_json(exclude={"every"})
        noted = noted if noted.get("origin") == origin else {}
        waited = not noted or now - datetime.fromisoformat(noted["at"]) >= duration(spec.fetch.every)
        if not waited or (asked and time.monotonic() >= until):
            if noted:
                after[name] = noted
            continue
        asked += 1
        at = now.isoformat()
        try:
            mark = ask(spec).mark
        except MlassetsError as error:
            notes.append(f"{name}: {error}")
            after[name] = {**noted, "origin": origin, "at": at}
            continue
        key = noted.get("key")
        if mark is not None and mark == noted.get("mark") and key and not failed(key):
            after[name] = {**noted, "at": at}
            continue
        key = f"fetch|{name}|{at}"
        requests[name] = key
        after[name] = {"origin": origin, "at": at, "mark": mark, "key": key}
    return FetchPlan(requests, json.dumps(after), tuple(notes))
