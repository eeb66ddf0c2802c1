"""The suite of a source: whether its files were taken, keep their contract, are what is expected, and are as before."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from mlassets.expectations import Expectations
from mlassets.quality.checks import checks_of
from mlassets.quality.dimensions import CLAIMS, Arrived, Dimensions
from mlassets.quality.displays import Display
from mlassets.quality.file_drift import FileDrift
from mlassets.quality.judging import DoesNotApply, Observation, judge
from mlassets.quality.rows import Rows, opened
from mlassets.quality.suites import Judgement
from resources.verdicts import Limit, Verdict


def judge_source(
    rows: Rows | None,
    expected: Expectations,
    *,
    ready: Collection[Verdict] = (),
    new: Rows | None = None,
    arrived: Arrived | None = None,
    others: Mapping[str, Rows] | None = None,
    unknown: Mapping[str, str] | None = None,
    texts: Mapping[str, Callable[[], Observation]] | None = None,
    limits: Mapping[str, Limit] | None = None,
    memory: str = "1GB",
    threads: int | None = None,
) -> Judgement:
    """Judge a version of a source.

    Args:
        rows: All its rows; None if it has none.
        expected: What is expected of them.
        ready: Verdicts of this suite that are known already.
        new: The rows of its new files; None if it has none.
        arrived: When the new files came, and what was there before.
        others: The rows of other sources that are compared with, by source.
        unknown: Why a source that is compared with cannot be read, by source.
        texts: What observes each claim about columns of texts.
        limits: Limits that the spec moves.
        memory: Limit of the memory that is used before rows spill to the disk.
        threads: How many threads to use; one for each core by default.
    """
    others = others or {}
    earlier = arrived.earlier if arrived else None
    tables = {"all": rows, "new": new, "earlier": earlier}
    tables |= {f"source {name}": other for name, other in others.items()}
    verdicts = {verdict.claim: verdict for verdict in ready}
    displays: dict[str, tuple[Display, ...]] = {}
    there = {name: one for name, one in tables.items() if one is not None}
    with opened(there, memory=memory, threads=threads) as views:
        own: dict[str, Callable[[], Observation]] = dict(texts or {})
        if "all" in views:
            dimensions = Dimensions(
                views["all"],
                expected,
                {name: views[f"source {name}"] for name in others},
                unknown,
                arrived,
                views.get("earlier"),
            )
            own |= {claim: _observing(dimensions, dimension) for dimension, claim in CLAIMS.items()}
        if "new" in views and "earlier" in views:
            unique = [name for name, one in expected.columns.items() if one.unique]
            drift = FileDrift(views["new"], views["earlier"], aside=[*expected.key, *unique])
            own |= {"files_are_like_the_ones_before": drift.drift, "no_new_values": drift.new_values}
        for entry in checks_of("sources"):
            if entry.claim in verdicts:
                continue
            verdict, shown = judge(entry, limits or {}, own.get(entry.claim, _nothing if rows else _no_rows))
            verdicts[entry.claim] = verdict
            if shown:
                displays[entry.claim] = shown
    ordered = [verdicts[entry.claim] for entry in checks_of("sources") if entry.claim in verdicts]
    return Judgement(tuple(ordered), displays)


def _observing(dimensions: Dimensions, dimension: Any) -> Callable[[], Observation]:
    return lambda: dimensions.observe(dimension)


def _no_rows() -> Observation:
    raise DoesNotApply("there are no rows")


def _nothing() -> Observation:
    raise DoesNotApply("there are no new files, or none to compare them with")
