"""The steps by name, and the part of a project's spec that each of them depends on.

A change to `review:` concerns review alone; nothing before it runs again.
"""

import json

from blake3 import blake3

from mlassets.expectations import Expectations
from mlassets.projects import ProjectSpec
from mlassets.sources import SourceSpec
from resources.query import tables_of
from resources.snapshot import Snapshot, snapshot_of
from resources.store import Store

SOURCES = "sources"
DRAW_DATA = "draw_data"
MODEL_READY = "model_ready"
MODEL = "model"
AGGREGATE = "aggregate"
REVIEW = "review"
PUBLISH = "publish"

SEGMENT_STEPS = (DRAW_DATA, MODEL_READY, MODEL)
PROJECT_STEPS = (AGGREGATE, REVIEW, PUBLISH)
STEPS = (*SEGMENT_STEPS, *PROJECT_STEPS)

# Raised when a step's code would make something else of the same inputs; the step and what depends on it then
# run again.
CODE_VERSIONS = {
    SOURCES: "1",
    DRAW_DATA: "1",
    MODEL_READY: "1",
    MODEL: "1",
    AGGREGATE: "1",
    REVIEW: "2",
    PUBLISH: "2",
}

# Under this name every verdict says by which limits it was found.
LIMITS = "limits"

_CONCERNS = {
    DRAW_DATA: ("sources", "draw"),
    MODEL_READY: ("target", "key", "features", "split", "seed"),
    MODEL: ("target", "model", "seed"),
    AGGREGATE: ("target", "aggregate", "seed"),
    REVIEW: ("review",),
    PUBLISH: ("description", "owners"),
}


def look_at(store: Store) -> Snapshot:
    """Return the newest version of every step and source, as it is now; it serves any number of projects."""
    return snapshot_of(store, (SOURCES, *STEPS))


def step_hash(spec: ProjectSpec, step: str) -> str:
    """Return the hash of the sections of `spec` that concern `step`.

    Raises:
        KeyError: If there is no such step.
    """
    concerns = _CONCERNS[step]
    if step == REVIEW and spec.review.mode == "auto":
        # Rules decide on verdicts, so they decide again when a limit moves; a person's word stands.
        concerns = (*concerns, "checks")
    if step == DRAW_DATA:
        # However the files are read, a draw depends on what came of it: the version of the source.
        bare = {name: source.only_files for name, source in spec.sources.items()}
        spec = spec.model_copy(update={"sources": bare})
    return spec.hash_of(*concerns)


def limits_hash(spec: ProjectSpec, step: str) -> str:
    """Return the hash of what a step's versions are judged by: they are judged again when it moves."""
    expects = step == DRAW_DATA and spec.expect != Expectations()
    return spec.hash_of("checks", *(["expect"] if expects else []))


def source_limits_hash(spec: SourceSpec) -> str:
    """Return the hash of what a source's versions are judged by: the newest is judged again when it moves."""
    judged_by = [spec.expect.model_dump(mode="json"), spec.checks.model_dump(mode="json")]
    return str(blake3(json.dumps(judged_by, sort_keys=True).encode()).hexdigest())


def draw_reads(spec: ProjectSpec) -> list[str]:
    """Return the sources of the spec that its draw's SQL reads, sorted."""
    read = {name.lower() for name in tables_of(spec.draw.sql)}
    return sorted(name for name in spec.sources if name in read)
