"""Verdicts of the steps that have no suite: sources, aggregate and publish."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from mlassets.quality.checks import entry_of
from mlassets.quality.judging import Observation, judge
from mlassets.quality.schema_contract import schema_changes
from resources.verdicts import Limit, Verdict


def segments_are_covered(
    expected: Iterable[str], present: Iterable[str], limits: Mapping[str, Limit] | None = None
) -> Verdict:
    """Judge which of a project's segments have a model.

    Args:
        expected: Segments that the project's spec names.
        present: Segments that have a model.
        limits: Limits that the spec moves.
    """
    wanted = list(dict.fromkeys(expected))
    there = set(present)
    missing = [segment for segment in wanted if segment not in there]
    found = (
        f"No model for {', '.join(f'`{segment}`' for segment in missing[:10])}."
        if missing
        else f"All {len(wanted)} segments have a model."
    )
    covered = (len(wanted) - len(missing)) / len(wanted) if wanted else 0.0
    seen = Observation(covered, len(wanted), found, {"missing": missing})
    return judge(entry_of("segments_are_covered"), limits or {}, lambda: seen)[0]


def release_round_trips(error: float, n: int, limits: Mapping[str, Limit] | None = None) -> Verdict:
    """Judge whether the released model makes the released predictions again.

    Args:
        error: Largest absolute difference between the two, in the unit of the prediction.
        n: Predictions compared.
        limits: Limits that the spec moves.
    """
    found = f"The largest difference is {error:g} over {n:,} predictions."
    return judge(entry_of("release_round_trips"), limits or {}, lambda: Observation(error, n, found))[0]


def schema_contract(
    known: pa.Schema, new: pa.Schema, n: int = 0, limits: Mapping[str, Limit] | None = None
) -> Verdict:
    """Judge a source's new schema against the one that is relied on.

    Args:
        known: The schema so far.
        new: The schema with the newly landed file.
        n: Rows under the new schema.
        limits: Limits that the spec moves.
    """
    entry = entry_of("source_schema_keeps_its_contract")
    return judge(entry, limits or {}, lambda: schema_changes(known, new, n))[0]
