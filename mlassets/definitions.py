"""The one object that Dagster loads: every asset, check, sensor and resource of mlassets."""

import warnings

import dagster as dg

from mlassets.assets.aggregate import aggregate
from mlassets.assets.draw_data import draw_data
from mlassets.assets.model import model
from mlassets.assets.model_ready import model_ready
from mlassets.assets.publish import publish
from mlassets.assets.review import review
from mlassets.assets.sources import sources
from mlassets.assets.uploads import uploads
from mlassets.automation.alerts import alerts_sensor
from mlassets.automation.sensors import (
    SECONDS_BETWEEN_LOOKS,
    changed_origin_sensor,
    changed_spec_sensor,
    left_work_sensor,
    new_data_sensor,
    new_files_sensor,
    new_models_sensor,
    sent_back_sensor,
)
from mlassets.checks.again import judge_again
from mlassets.checks.aggregate import aggregate_checks
from mlassets.checks.draw_data import draw_data_checks
from mlassets.checks.model import model_checks
from mlassets.checks.model_ready import model_ready_checks
from mlassets.checks.publish import publish_checks
from mlassets.checks.review import review_checks
from mlassets.checks.sources import sources_checks
from mlassets.home import Home
from resources.io_managers import ThingIOManager, settings_of
from resources.warehouse import ReleaseIOManager

# Dagster 1.13 hands every sensor that is bound to resources a beta argument of its own, and warns us of it.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

new_input_sensor = dg.AutomationConditionSensorDefinition(
    "new_input_sensor",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    description="Runs what is downstream of new content: Dagster's declarative automation, on by default.",
)


def definitions(home: str | None = None) -> dg.Definitions:
    """Return everything, bound to a home.

    Args:
        home: Folder of the deployment; None takes `MLASSETS_HOME` when a run starts.
    """
    owners = settings_of(home).owners
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        sources,
        draw_data,
        model_ready,
        model,
        aggregate,
        review,
        publish,
        uploads,
    ]
    return dg.Definitions(
        assets=dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), assets)
        if owners
        else assets,
        asset_checks=[
            sources_checks,
            draw_data_checks,
            model_ready_checks,
            model_checks,
            aggregate_checks,
            review_checks,
            publish_checks,
        ],
        jobs=[judge_again],
        sensors=[
            changed_origin_sensor,
            new_files_sensor,
            new_data_sensor,
            new_models_sensor,
            changed_spec_sensor,
            sent_back_sensor,
            left_work_sensor,
            new_input_sensor,
            alerts_sensor,
        ],
        resources={
            "home": Home(home=home),
            "things": ThingIOManager(home=home),
            "releases": ReleaseIOManager(home=home),
        },
        executor=dg.in_process_executor,
    )


defs = definitions()
