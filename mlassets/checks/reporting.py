"""From verdicts to Dagster: declared from the table of checks, recorded in the store, reported as evaluations."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from mlassets.home import Home
from mlassets.quality.checks import Suite, checks_of
from mlassets.sources import SourceSpec
from mlassets.steps import LIMITS, SOURCES, limits_hash, source_limits_hash
from resources.things import Thing, new_id
from resources.verdicts import Verdict

if TYPE_CHECKING:
    from mlassets.quality.suites import Judgement

NO_VERDICT_BLOCKS = "no_verdict_blocks"


def declare(step: str, suite: Suite, partitions_def: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """Return the check specs of a suite on the asset of a step.

    A project may move any check's severity, and Dagster's declarative automation does not tell a failed WARN from
    a failed ERROR. So the checks themselves do not block; `no_verdict_blocks`, which fails when any of them
    failed with ERROR, does.
    """
    described = {
        entry.claim: f"{entry.description} By default {entry.limit} ({entry.severity})."
        for entry in checks_of(suite)
    }
    described[NO_VERDICT_BLOCKS] = (
        "No check of this version failed with severity ERROR. What is downstream runs only then."
    )
    with warnings.catch_warnings():
        # Partitions on check specs are in preview in Dagster 1.13, and it would say so once for every check.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                claim,
                asset=step,
                description=description,
                blocking=claim == NO_VERDICT_BLOCKS,
                partitions_def=partitions_def,
            )
            for claim, description in described.items()
        ]


def report(
    home: Home, thing: Thing, found: "Judgement | Sequence[Verdict]", run_id: str
) -> Iterator[dg.AssetCheckResult]:
    """Record the verdicts on a Thing with their report, then report each of them to Dagster.

    The lake knows before Dagster does: a kill in between leaves verdicts that everybody can read.

    Args:
        home: The home.
        thing: What was judged.
        found: The verdicts.
        run_id: Dagster's run in which they were found.
    """
    from mlassets.quality.report import render_report
    from mlassets.quality.suites import Judgement

    limits = _limits_of(home, thing)
    verdicts = [
        replace(verdict, details={**verdict.details, **limits})
        for verdict in (found.verdicts if isinstance(found, Judgement) else found)
    ]
    page = render_report(
        found,
        title=f"{thing.step} of {thing.partition.key}",
        rows=[
            ("Thing", thing.id),
            ("Step", thing.step),
            ("Partition", thing.partition.key),
            ("Created", f"{thing.created_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("Rows", "none" if thing.rows is None else f"{thing.rows:,}"),
            ("Code version", thing.code_version or "unknown"),
        ],
        pictures={name: thing.artifact(name) for name in thing.artifacts if name.endswith(".png")},
    )
    home.store.record_verdicts(thing.id, new_id(), verdicts, page, run_id=run_id)
    links: dict[str, dg.MetadataValue] = {
        "thing": dg.MetadataValue.text(thing.id),
        "report": dg.MetadataValue.path(home.store.report_path(thing.id) or ""),
    }
    if home.settings.reports_url:
        links["report page"] = dg.MetadataValue.url(f"{home.settings.reports_url}/{thing.id}")
    for verdict in verdicts:
        yield dg.AssetCheckResult(
            check_name=verdict.claim,
            passed=verdict.passed,
            severity=_SEVERITIES[verdict.severity],
            description=verdict.message,
            metadata={
                "status": verdict.status,
                "n": verdict.n,
                "limit": verdict.limit or "none",
                **({} if verdict.observed is None else {"observed": float(verdict.observed)}),
                **links,
            },
        )
    blocking = [verdict.claim for verdict in verdicts if verdict.blocks]
    yield dg.AssetCheckResult(
        check_name=NO_VERDICT_BLOCKS,
        passed=not blocking,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Blocked by {', '.join(blocking)}." if blocking else "Nothing blocks.",
        metadata={
            "passed": sum(verdict.status == "passed" for verdict in verdicts),
            "failed": sum(not verdict.passed for verdict in verdicts),
            "not applicable": sum(verdict.status == "not_applicable" for verdict in verdicts),
            **links,
        },
    )


_SEVERITIES = {"ERROR": dg.AssetCheckSeverity.ERROR, "WARN": dg.AssetCheckSeverity.WARN}


def _limits_of(home: Home, thing: Thing) -> dict[str, str]:
    """Return what tells later whether a verdict was found under the limits that the spec has then."""
    if thing.step == SOURCES:
        source = home.load_sources(landed=False).specs.get(thing.partition["source"], SourceSpec())
        return {LIMITS: source_limits_hash(source)}
    spec = home.projects().specs.get(thing.partition.get("project") or "")
    return {LIMITS: limits_hash(spec, thing.step)} if spec else {}
