"""What a person or a script asks of a home: how projects stand, and what was judged. Read-only, from the store."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlassets.alerting.alerts import length
from mlassets.alerting.watching import newest_of, reviewers_of, stale_sources, waiting_review
from mlassets.automation.planners import Decision, decide, run_together
from mlassets.automation.retraining import Held
from mlassets.projects import ProjectSpec
from mlassets.releasing.release import challenger_of, champion_of
from mlassets.sections import close_matches
from mlassets.segments import segments_of
from mlassets.steps import AGGREGATE, MODEL, MODEL_READY, PUBLISH, REVIEW, SEGMENT_STEPS, SOURCES, look_at
from resources.errors import MlassetsError
from resources.releases import alias_of
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition, Thing
from resources.verdicts import Verdict


def overviews_of(
    specs: Iterable[ProjectSpec], store: Store, now: datetime | None = None, seen: Snapshot | None = None
) -> list[dict[str, Any]]:
    """Return how each project stands at a glance; one that cannot be looked at says why, and hides no other.

    Args:
        specs: The projects.
        store: The store.
        now: The time; by default that of the clock.
        seen: A look at the store, where there is one already.

    Returns:
        For each project its `releases` (alias, version, age), a `state`, and under `says` that state in words, each
        time with what, whom or which verdict it is about. The first of these states that holds is the project's:
        `unreadable`, `blocked` by a verdict, `person`: a review waits for one, `due`, `stale`: a source gets no files,
        `waiting` for data or for another review, `current`.
    """
    now, seen = now or datetime.now(UTC), seen or look_at(store)
    found = []
    for spec in specs:
        row: dict[str, Any] = {"project": spec.project, "releases": [], "state": "", "says": []}
        try:
            row["releases"] = [_released(one, now) for one in _releases(spec, store)]
            said = list(_standing(spec, seen, list(decide({spec.project: spec}, seen, now)), now))
        except MlassetsError as error:
            said = [("unreadable", str(error))]
        row["says"] = [text for _, text in said]
        row["state"] = min((state for state, _ in said), key=_STATES.index)
        found.append(row)
    return found


_STATES = ("unreadable", "blocked", "person", "due", "stale", "waiting", "current")


def _standing(
    spec: ProjectSpec, seen: Snapshot, decisions: Sequence[Decision], now: datetime
) -> Iterator[tuple[str, str]]:
    blocked = [(thing, verdict) for thing in newest_of(spec, seen) for verdict in seen.blocking(thing.id)]
    if blocked:
        texts = [f"{verdict.claim} of {thing.step} of {thing.partition.key}" for thing, verdict in blocked]
        yield "blocked", f"blocked by {_first_of(texts)}"
    review = waiting_review(spec, seen)
    if review is not None:
        yield "person", f"waits for {reviewers_of(spec)} to review, for {length(now - review.created_at)}"
    due = [f"{one.step} of {one.partition.key} ({one.reason})" for one in decisions if one.state == "due"]
    if due:
        yield "due", f"due: {_first_of(due)}"
    for name, thing in stale_sources(spec, seen, now):
        yield "stale", f"nothing has landed for {name} for {length(now - thing.created_at)}"
    if not blocked and review is None and not due:
        waiting = [one for one in decisions if one.state == "waiting"]
        yield ("waiting", f"waits: {waiting[0].reason}") if waiting else ("current", "all is current")


def _first_of(texts: Sequence[str]) -> str:
    return texts[0] + (f", and {len(texts) - 1:,} more" if len(texts) > 1 else "")


def _releases(spec: ProjectSpec, store: Store) -> list[Thing]:
    found = (champion_of(store, spec.project), challenger_of(store, spec.project))
    return [one for one in found if one is not None]


def _released(release: Thing, now: datetime) -> dict[str, Any]:
    age = now - release.created_at
    return {
        "id": release.id,
        "alias": alias_of(release),
        "created_at": release.created_at.isoformat(),
        "age_seconds": max(0.0, age.total_seconds()),
        "age": length(age),
    }


def status_of(
    spec: ProjectSpec, store: Store, now: datetime | None = None, seen: Snapshot | None = None
) -> dict[str, Any]:
    """Return how a project stands: its segments, its release, and what is due, waiting or blocked.

    Args:
        spec: The project.
        store: The store.
        now: The time; by default that of the clock.
        seen: A look at the store, where there is one already.

    Returns:
        What `overviews_of` says of it and more, as plain JSON-serialisable values; a figure that is not known is None.
    """
    seen = seen or look_at(store)
    (overview,) = overviews_of([spec], store, now, seen)
    decisions = list(decide({spec.project: spec}, seen, now))
    review = store.latest(REVIEW, Partition.project(spec.project))
    release = store.latest(PUBLISH, Partition.project(spec.project))
    aggregate = store.latest(AGGREGATE, Partition.project(spec.project))
    return {
        **overview,
        "description": spec.description,
        "metric": spec.model.metric,
        "segments": [segment_of(spec, store, name) for name in segments_of(spec, store) or []],
        "pooled": _measured(aggregate, spec.model.metric),
        "review": None
        if review is None
        else {
            "id": review.id,
            "decision": review.parameters["decision"],
            "comment": review.parameters["comment"],
        },
        "release": None
        if release is None
        else {
            **_released(release, now or datetime.now(UTC)),
            "rows": release.rows,
            "round_trip_error": release.metrics["round_trip_error"],
        },
        "verdicts": counted(
            verdict
            for thing in (aggregate, review, release)
            if thing is not None
            for verdict in store.verdicts(thing.id)
        ),
        "work": [described(one) for one in decisions if one.state != "current"],
    }


def segment_of(spec: ProjectSpec, store: Store, name: str) -> dict[str, Any]:
    """Return how one segment stands: rows, metric with interval, baseline, verdicts."""
    partition = Partition.segment(spec.project, name)
    things = [thing for step in SEGMENT_STEPS if (thing := store.latest(step, partition)) is not None]
    by_step = {thing.step: thing for thing in things}
    model, ready = by_step.get(MODEL), by_step.get(MODEL_READY)
    return {
        "segment": name,
        "partition": partition.key,
        "rows": ready.rows if ready else None,
        "model": model.id if model else None,
        "candidate": model.parameters["candidate"] if model else None,
        **_measured(model, spec.model.metric),
        "baseline": model.metrics.get(f"baseline.test.{spec.model.metric}") if model else None,
        "notes": model.parameters["notes"] if model else [],
        "verdicts": counted(verdict for thing in things for verdict in store.verdicts(thing.id)),
    }


def _measured(thing: Thing | None, metric: str) -> dict[str, float | None]:
    metrics = thing.metrics if thing else {}
    name = f"test.{metric}"
    return {
        "value": metrics.get(name),
        "low": metrics.get(f"{name}.low"),
        "high": metrics.get(f"{name}.high"),
    }


def counted(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many verdicts passed, warn, block, and do not apply."""
    counts = Counter(
        "not_applicable"
        if verdict.status == "not_applicable"
        else "passed"
        if verdict.passed
        else "blocking"
        if verdict.blocks
        else "warning"
        for verdict in verdicts
    )
    return {word: counts[word] for word in ("passed", "warning", "blocking", "not_applicable")}


def why_of(
    spec: ProjectSpec,
    store: Store,
    segment: str | None = None,
    now: datetime | None = None,
    landed: Iterable[str] = (),
) -> dict[str, Any]:
    """Return what would run for a project now, what would not, and what says so; nothing is run or written.

    Args:
        spec: The project's spec.
        store: The store.
        segment: Only this segment's steps, and nothing of the project as a whole.
        now: The time to decide at; by default that of the clock.
        landed: Sources with landed files that were not taken yet; what reads them is decided on when they are.

    Returns:
        Plain JSON-serialisable values. In `steps` the segments about which the same is said share an entry.

    Raises:
        UnknownPartition: If the project has no such segment.
    """
    now = now or datetime.now(UTC)
    names = segments_of(spec, store) or []
    if segment is not None and segment not in names:
        from mlassets.runs import UnknownPartition

        raise UnknownPartition(f"{spec.project} has no segment {segment!r}; {close_matches(segment, names)}")
    decisions = [
        one
        for one in decide({spec.project: spec}, store, now)
        if segment is None or one.partition.get("segment") == segment
    ]
    together = {(one.step, one.partition): run_together(one) for one in decisions if one.state == "due"}
    follow = {(step, partition) for (_, partition), steps in together.items() for step in steps[1:]}
    entries: list[dict[str, Any]] = [
        {
            "state": "due",
            "steps": [SOURCES],
            "source": name,
            "segments": None,
            "reason": "files have landed that were not taken yet",
            "cause": "missing" if store.latest(SOURCES, Partition.source(name)) is None else "input",
            "asks_next_at": None,
            "rule": None,
        }
        for name in sorted(landed)
    ]
    alike: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in decisions:
        if (one.step, one.partition) in follow:
            continue
        steps = together.get((one.step, one.partition), (one.step,))
        reason = one.reason
        if one.rule and one.rule.next_at and one.rule.text not in reason:
            reason = f"{reason}; {one.rule.text}"
        name = one.partition.get("segment")
        entry = alike.setdefault(
            (one.state, steps, name is None, reason),
            {
                "state": one.state,
                "steps": list(steps),
                "source": None,
                "segments": None if name is None else [],
                "reason": reason,
                "cause": one.cause or None,
                "asks_next_at": _time(one.rule.next_at if one.rule else None),
                "rule": _explained(one.rule) if one.rule else None,
            },
        )
        if name is not None:
            entry["segments"].append(name)
    order = {step: number for number, step in enumerate((*SEGMENT_STEPS, AGGREGATE, REVIEW, PUBLISH))}
    states = ("due", "blocked", "waiting", "current")
    entries += sorted(
        alike.values(), key=lambda entry: (states.index(entry["state"]), order[entry["steps"][0]])
    )
    return {
        "project": spec.project,
        "segment": segment,
        "at": _time(now),
        "retrain": spec.retrain.model_dump(mode="json"),
        "segments": names,
        "steps": entries,
    }


def at_a_glance(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of `why_of`, those in one whose rule says the same but for its figures.

    A figure that differs from segment to segment becomes the smallest and the largest: `0.01 to 0.17`.
    """
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(steps):
        alone = entry["rule"] is None or entry["segments"] is None
        key = (number,) if alone else (entry["state"], *entry["steps"], _FIGURE.sub("#", entry["reason"]))
        alike.setdefault(key, []).append(entry)
    merged = []
    for entries in alike.values():
        columns = zip(*(_FIGURE.findall(entry["reason"]) for entry in entries), strict=True)
        figures = iter([sorted(set(column), key=_size) for column in columns])

        def spread(_: re.Match[str], figures: Iterator[list[str]] = figures) -> str:
            found = next(figures)
            return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"

        first = entries[0]
        names = first["segments"] and sorted(name for entry in entries for name in entry["segments"])
        merged.append({**first, "segments": names, "reason": _FIGURE.sub(spread, first["reason"])})
    return merged


_FIGURE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d+(?:,\d{3})*(?:\.\d+)?")


def _size(figure: str) -> tuple[float, str]:
    return (0.0, figure) if ":" in figure else (float(figure.replace(",", "")), figure)


def _explained(rule: Held) -> dict[str, Any]:
    return {
        "holds": rule.holds,
        "text": rule.text,
        "next_at": _time(rule.next_at),
        "scheduled_at": _time(rule.scheduled_at),
        "parts": [_explained(part) for part in rule.parts],
    }


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None


def described(decision: Decision) -> dict[str, str]:
    """Return a decision as plain values."""
    return {
        "step": decision.step,
        "partition": decision.partition.key,
        "state": decision.state,
        "reason": decision.reason,
    }


def verdicts_of(spec: ProjectSpec, store: Store) -> list[dict[str, Any]]:
    """Return every verdict on the newest version of every step of a project, blocking ones first."""
    partitions = [
        *(Partition.segment(spec.project, name) for name in segments_of(spec, store) or []),
        Partition.project(spec.project),
    ]
    rows = [
        {"thing": thing.id, "step": step, "partition": partition.key, "blocks": verdict.blocks}
        | {name: value for name, value in verdict.as_dict().items() if name != "details"}
        for partition in partitions
        for step in (*SEGMENT_STEPS, AGGREGATE, REVIEW, PUBLISH)
        if (thing := store.latest(step, partition)) is not None
        for verdict in store.verdicts(thing.id)
    ]
    order = {"failed": 0, "crashed": 0, "passed": 1, "not_applicable": 2}
    return sorted(rows, key=lambda row: (not row["blocks"], order[row["status"]]))
