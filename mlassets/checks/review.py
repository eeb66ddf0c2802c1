"""Verdicts on a review: are its rules met?"""

from collections.abc import Iterator

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.quality.steps import review_rules_are_met
from mlassets.steps import REVIEW
from resources.things import Thing
from resources.verdicts import Verdict


def verdicts_on(home: Home, review: Thing) -> list[Verdict]:
    """A person may approve against the rules; the verdict says so for ever."""
    limits = home.project(review.partition.key).checks.limits
    verdict = review_rules_are_met(
        {rule["rule"]: rule["met"] for rule in review.parameters["rules"]}, limits=limits
    )
    return [verdict]


@dg.multi_asset_check(name="review_checks", specs=declare(REVIEW, "review", projects))
def review_checks(
    context: dg.AssetCheckExecutionContext, review: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """A person may approve against the rules; the verdict says so for ever."""
    yield from report(home, review, verdicts_on(home, review), context.run.run_id)
