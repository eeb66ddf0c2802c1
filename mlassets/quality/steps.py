"""Verdicts of the steps that have no suite: sources, aggregate and publish."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from mlassets.quality.checks import entry_of
from mlassets.quality.judging import DoesNotApply, Observation, judge
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


def landed_files_are_taken(
    refused: Mapping[str, str], n: int, limits: Mapping[str, Limit] | None = None
) -> Verdict:
    """Judge whether every file that landed for a source is part of it.

    Args:
        refused: Reason by name of the files in quarantine.
        n: Files of the source.
        limits: Limits that the spec moves.
    """
    first = next(iter(refused.values()), "")
    found = f"{len(refused)} in quarantine: {first}" if refused else f"All {n:,} files are taken."
    seen = Observation(len(refused), n, found, {"quarantined": dict(refused)})
    return judge(entry_of("landed_files_are_taken"), limits or {}, lambda: seen)[0]


def review_rules_are_met(rules: Mapping[str, bool], limits: Mapping[str, Limit] | None = None) -> Verdict:
    """Judge what share of a review's rules is met.

    Args:
        rules: Whether each rule is met, by its text.
        limits: Limits that the spec moves.
    """
    unmet = [rule for rule, met in rules.items() if not met]
    met = 1 - len(unmet) / len(rules) if rules else 1.0
    found = f"Not met: {'; '.join(unmet)}." if unmet else f"All {len(rules)} rules are met."
    return judge(entry_of("review_rules_are_met"), limits or {}, lambda: Observation(met, len(rules), found))[
        0
    ]


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
    known: pa.Schema | None, new: pa.Schema | None, n: int = 0, limits: Mapping[str, Limit] | None = None
) -> Verdict:
    """Judge a source's new schema against the one that is relied on.

    Args:
        known: The schema so far; None if there is none.
        new: The schema with the newly landed file; None if no file could be taken.
        n: Rows under the new schema.
        limits: Limits that the spec moves.
    """

    def changes() -> Observation:
        if known is None or new is None:
            raise DoesNotApply("no earlier version has a schema", n)
        return schema_changes(known, new, n)

    return judge(entry_of("source_schema_keeps_its_contract"), limits or {}, changes)[0]
