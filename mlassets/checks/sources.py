"""Verdicts on a source: is every landed file taken, has it the columns relied on, is it what is expected?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from mlassets.checks.expecting import rows_of_sources
from mlassets.checks.reporting import declare, report
from mlassets.checks.texts import text_rows
from mlassets.home import Home
from mlassets.partitions import sources as by_source
from mlassets.quality.steps import landed_files_are_taken, schema_contract
from mlassets.sources import SourceSpec
from mlassets.steps import SOURCES
from resources.things import Thing

if TYPE_CHECKING:
    from mlassets.quality.suites import Judgement


def verdicts_on(home: Home, source: Thing) -> "Judgement":
    """Whether a source can be relied on, before anything is drawn from it."""
    from mlassets.quality.dimensions import Arrived
    from mlassets.quality.rows import rows_of
    from mlassets.quality.sources import judge_source

    spec = home.load_sources(landed=False).specs.get(source.partition["source"], SourceSpec())
    newest = home.store.history(SOURCES, source.partition, limit=2)
    previous = next((one for one in newest if one.id < source.id), None)
    refused = {one["name"]: one["reason"] for one in source.parameters["quarantined"]}
    limits = spec.checks.limits
    ready = [
        landed_files_are_taken(refused, n=len(source.parameters["files"]), limits=limits),
        schema_contract(
            previous.schema if previous else None, source.schema, n=source.rows or 0, limits=limits
        ),
    ]
    known = {one.hash for one in previous.files.values()} if previous else set()
    new = [name for name, one in source.files.items() if one.hash not in known]
    others, unknown = rows_of_sources(home, spec.expect.sources)
    return judge_source(
        rows_of(source, called=_landed_names(source)) if source.files else None,
        spec.expect,
        ready=ready,
        new=rows_of(source, new) if new else None,
        arrived=Arrived(
            at=_landed(source, new) or source.created_at,
            before=_landed(previous) if previous else None,
            earlier=rows_of(previous) if previous and previous.files else None,
        ),
        others=others,
        unknown=unknown,
        texts=text_rows(source, spec.expect.texts, lambda: previous, new=new).observations()
        if source.files
        else None,
        limits=limits,
    )


@dg.multi_asset_check(name="sources_checks", specs=declare(SOURCES, "sources", by_source))
def sources_checks(
    context: dg.AssetCheckExecutionContext, sources: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Whether a source can be relied on, before anything is drawn from it."""
    yield from report(home, sources, verdicts_on(home, sources), context.run.run_id)


def _landed_names(source: Thing) -> dict[str, str]:
    """Return under which name each file of a source landed, and which table of it that is."""
    records = (one for one in source.parameters["files"] if "component" in one)
    return {
        one["component"]: f"{one['name']}, {one['table']}" if one.get("table") else one["name"]
        for one in records
    }


def _landed(source: Thing, files: list[str] | None = None) -> datetime | None:
    """Return when the newest of a source's files landed, or of some of them, by what the landing zone said."""
    times = [
        one["mtime_ns"]
        for one in source.parameters["files"]
        if (files is None or one.get("component") in files) and one["mtime_ns"]
    ]
    return datetime.fromtimestamp(max(times) / 1e9, UTC) if times else None
