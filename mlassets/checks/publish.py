"""Verdicts on a release: does what was stored predict what was published?"""

from collections.abc import Iterator

import dagster as dg

from mlassets.checks.reporting import declare, report
from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.quality.steps import release_round_trips
from mlassets.releasing.release import round_trip_error
from mlassets.steps import PUBLISH
from resources.things import Thing
from resources.verdicts import Verdict
from resources.warehouse import consumption_is_current, rebuild_consumption


def verdicts_on(home: Home, publish: Thing) -> list[Verdict]:
    """The bundle, read back from the lake, makes the released predictions again.

    A kill may have come between the release and the consumption database, which is then brought up to date.
    """
    database = home.settings.consumption
    if not consumption_is_current(home.store, database, PUBLISH):
        rebuild_consumption(home.store, database, PUBLISH)
    released = publish.table()
    models = {name: home.store.get(one) for name, one in publish.parameters["models"].items()}
    error = round_trip_error(home.store, publish.artifact("bundle.zip"), models, released)
    limits = home.project(publish.partition.key).checks.limits
    return [release_round_trips(error, released.num_rows, limits)]


@dg.multi_asset_check(name="publish_checks", specs=declare(PUBLISH, "publish", projects))
def publish_checks(
    context: dg.AssetCheckExecutionContext, publish: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """The bundle, read back from the lake, makes the released predictions again."""
    yield from report(home, publish, verdicts_on(home, publish), context.run.run_id)
