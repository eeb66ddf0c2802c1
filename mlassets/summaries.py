"""What a person or a script asks of a home: how projects stand, and what was judged. Read-only, from the store."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from mlassets.automation.planners import Decision, decide
from mlassets.projects import ProjectSpec
from mlassets.segments import segments_of
from mlassets.steps import AGGREGATE, MODEL, MODEL_READY, PUBLISH, REVIEW, SEGMENT_STEPS
from resources.things import Partition, Store, Thing
from resources.verdicts import Verdict


def status_of(spec: ProjectSpec, store: Store) -> dict[str, Any]:
    """Return how a project stands: its segments, its release, and what is due, waiting or blocked.

    Returns:
        Plain JSON-serialisable values; a figure that is not known is None.
    """
    decisions = list(decide({spec.project: spec}, store))
    review = store.latest(REVIEW, Partition.project(spec.project))
    release = store.latest(PUBLISH, Partition.project(spec.project))
    aggregate = store.latest(AGGREGATE, Partition.project(spec.project))
    return {
        "project": spec.project,
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
            "id": release.id,
            "created_at": release.created_at.isoformat(),
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
