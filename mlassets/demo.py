"""The demonstration: three months of real flights, then the fourth, and what that sets in motion."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape

from mlassets.automation.sensors import new_data_sensor, new_files_sensor, sync_partitions
from mlassets.cli import print_status, showing_progress
from mlassets.home import Home
from mlassets.ingestion.taking import land
from mlassets.projects import ProjectSpec
from mlassets.runs import Outcome, Runner, instance_of
from mlassets.steps import DRAW_DATA, SOURCES
from mlassets.summaries import described, status_of
from resources.errors import MlassetsError
from resources.settings import Settings
from resources.things import Partition

EXAMPLE = Path(__file__).parent / "examples" / "late_flights"
PROJECT = "late-flights"
FIRST_MONTHS = ("2013-01", "2013-02", "2013-03")
NEXT_MONTH = "2013-04"


class HomeNotEmpty(MlassetsError):
    """The demo lays out a home of its own and does not touch one that is in use."""


def run_demo(folder: Path, console: Console) -> dict[str, Any]:
    """Run the demonstration in a new home.

    Args:
        folder: The home; it must not exist, or be empty.
        console: Where to show what happens.

    Returns:
        What happened: the status after each round, what ran, what was left alone and why, and an exit code.

    Raises:
        HomeNotEmpty: If the folder, or a place elsewhere that the settings name, holds anything.
    """
    started = time.perf_counter()
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise HomeNotEmpty(f"{folder} is not empty; remove it, or name another folder with --home")
    home = Home(home=str(folder))
    settings = home.settings
    # Parts of it may be elsewhere, where others work.
    if (settings.projects / f"{PROJECT}.yaml").exists() or home.store.history(limit=1):
        raise HomeNotEmpty(
            f"the specs in {settings.projects} or the catalog {home.store.catalog.shown} are in use; unset the "
            "variables that place them there (MLASSETS_PROJECTS, MLASSETS_CATALOG, MLASSETS_LAKE), or use empty ones"
        )
    with instance_of(settings) as instance, showing_progress(console) as (on_start, on_end):
        console.rule(f"A new home in {escape(str(folder))}; January to March 2013 land")
        shutil.copyfile(EXAMPLE / f"{PROJECT}.yaml", settings.projects / f"{PROJECT}.yaml")
        land_months(settings, FIRST_MONTHS)
        land(EXAMPLE / "landing/planes/planes.csv.gz", settings, "planes/planes.csv.gz")
        runner = Runner(home, instance, on_start, on_end)
        first = [*runner.take_landed_files(), *runner.run_due()]
        spec = home.projects().specs[PROJECT]
        before = status_of(spec, home.store)
        print_status(console, before)

        console.rule("April 2013 lands; the sensors look")
        land_months(settings, (NEXT_MONTH,))
        second = [*_follow_sensors(runner, home, instance), *runner.run_due()]
        after = status_of(spec, home.store)
        print_status(console, after)
        alone = _left_alone(runner, home, spec, second)
        console.print("Left alone:", highlight=False)
        for one in alone:
            console.print(
                f"  {one['step']} of {escape(one['partition'])}: {escape(one['reason'])}", highlight=False
            )

        console.rule("The same April lands again; the sensors look")
        land_months(settings, (NEXT_MONTH,))
        third = _follow_sensors(runner, home, instance)
        console.print(
            "Nothing was asked for: the same bytes are nothing new."
            if not third
            else "[red]Work was asked for.[/red]"
        )
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s. To see all of it in Dagster:")
    console.print(f"  [bold]{ui_command(folder)}[/bold]", highlight=False, soft_wrap=True)
    failed = [one for one in (*first, *second) if one.state != "done"]
    return {
        "home": str(folder),
        "first": {"runs": [vars(one) for one in first], "status": before},
        "second": {"runs": [vars(one) for one in second], "status": after, "left_alone": alone},
        "third": {"runs": [vars(one) for one in third]},
        "seconds": time.perf_counter() - started,
        "exit_code": 1 if failed or third or not after["release"] else 0,
    }


def _left_alone(
    runner: Runner, home: Home, spec: ProjectSpec, outcomes: Sequence[Outcome]
) -> list[dict[str, str]]:
    """Return what the second round did not do again, and why."""
    ran = {(step, outcome.partition) for outcome in outcomes for step in outcome.steps}
    alone = []
    for name in sorted(spec.sources):
        thing = home.store.require(SOURCES, Partition.source(name))
        if (SOURCES, name) not in ran:
            reason = "nothing new landed"
        else:
            kept = sum(not one.path.startswith(thing.folder) for one in thing.files.values())
            reason = (
                f"{kept} of its {len(thing.files)} files were there already: pointed at, not converted again"
            )
        alone.append({"step": SOURCES, "partition": name, "reason": reason})
    return alone + [
        {key: one[key] for key in ("step", "partition", "reason")}
        for one in map(described, runner.decisions())
        if one["state"] != "due" and (one["step"], one["partition"]) not in ran
    ]


def ui_command(folder: Path) -> str:
    """Return the command that opens Dagster on a home."""
    return f"{Path(sys.executable).parent / 'mlassets'} ui --home {folder}"


def land_months(settings: Settings, months: tuple[str, ...]) -> None:
    """Land the bundled files of some months."""
    for month in months:
        for source in ("flights", "weather"):
            (file,) = (EXAMPLE / "landing" / source).glob(f"{month}.*")
            land(file, settings, f"{source}/{file.name}")


def _follow_sensors(runner: Runner, home: Home, instance: dg.DagsterInstance) -> list[Outcome]:
    """Let the real sensors look, twice for settled files, and run in this process what they ask for."""
    outcomes: list[Outcome] = []
    cursor: str | None = None
    for _ in range(2):
        found = _look(new_files_sensor, home, instance, cursor)
        cursor = found.cursor
        outcomes += _run_requests(runner, found, (SOURCES,))
    sync_partitions(instance, home)
    return outcomes + _run_requests(runner, _look(new_data_sensor, home, instance), (DRAW_DATA,))


def _look(
    sensor: dg.SensorDefinition, home: Home, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"home": home})
    found = sensor(context)
    assert isinstance(found, dg.SensorResult), "our sensors return results"
    return found


def _run_requests(runner: Runner, found: dg.SensorResult, steps: tuple[str, ...]) -> list[Outcome]:
    return [
        runner.run(
            steps, request.partition_key or "", request.tags.get("mlassets/reason", "new files landed")
        )
        for request in found.run_requests or ()
    ]
