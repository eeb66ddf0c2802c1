"""Verdicts on an aggregate: does it speak for the whole project?"""

from collections.abc import Iterator

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.quality.steps import segments_are_covered
from mlassets.steps import AGGREGATE
from resources.things import Thing
from resources.verdicts import Verdict


def verdicts_on(home: Home, aggregate: Thing) -> list[Verdict]:
    """Every segment that the project has today takes part."""
    coverage = aggregate.parameters["coverage"]
    limits = home.project(aggregate.partition.key).checks.limits
    verdict = segments_are_covered(coverage["expected"], coverage["present"], limits)
    return [verdict]


@dg.multi_asset_check(name="aggregate_checks", specs=declare(AGGREGATE, "aggregate", projects))
def aggregate_checks(
    context: dg.AssetCheckExecutionContext, aggregate: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Every segment that the project has today takes part."""
    yield from report(home, aggregate, verdicts_on(home, aggregate), context.run.run_id)
