"""Verdicts on a source: could every landed file be taken, and does it still have the columns relied on?"""

from collections.abc import Iterator

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import sources as by_source
from mlassets.quality.steps import landed_files_are_taken, schema_contract
from mlassets.steps import SOURCES
from resources.things import Thing


@dg.multi_asset_check(name="sources_checks", specs=declare(SOURCES, "sources", by_source))
def sources_checks(
    context: dg.AssetCheckExecutionContext, sources: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """What landed was taken or is quarantined with a reason; no column was lost."""
    before = home.store.history(SOURCES, sources.partition, limit=2)[1:]
    refused = {one["name"]: one["reason"] for one in sources.parameters["quarantined"]}
    verdicts = [
        landed_files_are_taken(refused, n=len(sources.parameters["files"])),
        schema_contract(before[0].schema if before else None, sources.schema, n=sources.rows or 0),
    ]
    yield from report(home, sources, verdicts, context.run.run_id)
