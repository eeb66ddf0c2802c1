"""What a look of the sensors costs with much to look at: `python -m mlassets_tests.benchmarks.bench_ticks`.

A home with 200 projects of 50 segments each, every step of which is made and judged, and 10,000 files that land in one
source. Each sensor looks as Dagster's daemon lets it look, on an instance of SQLite files: first in a process that has
seen nothing yet, then again, then with a new draw due for each of the 10,000 segments. Dagster's declarative tick is
measured on the same instance, and beside it, as the peer, the same graph with Dagster's own `eager()` on every step.

Building the home takes minutes, and telling Dagster of it takes longer. `--projects`, `--segments`, `--verdicts` and
`--files` make it smaller; `--told` tells Dagster of so many projects only: the others' partitions are there, but empty.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from mlassets.automation import sensors
from mlassets.definitions import definitions
from mlassets.home import Home
from mlassets.runs import instance_of
from mlassets.steps import AGGREGATE, CODE_VERSIONS, DRAW_DATA, SEGMENT_STEPS, SOURCES, STEPS, step_hash
from mlassets_tests.automation.made import SPEC, Made
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Verdict

SENSORS = (
    sensors.new_files_sensor,
    sensors.new_data_sensor,
    sensors.new_models_sensor,
    sensors.changed_spec_sensor,
    sensors.sent_back_sensor,
    sensors.left_work_sensor,
)


def main() -> None:
    """Build the home and print what each look takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("projects", 200),
        ("segments", 50),
        ("verdicts", 30),
        ("files", 10_000),
        ("told", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ticks-") as folder:
        home = Path(folder) / "home"
        started = time.perf_counter()
        made = build(home, asked.projects, asked.segments, asked.verdicts)
        things = len(made)
        print(
            f"{asked.projects} x {asked.segments}: {things:,} Things made in {seconds(started)}\n", flush=True
        )
        with instance_of(Made(home).settings) as instance:
            sensors.sync_partitions(instance, Home(home=str(home)))
            look_with_sensors(home, instance, asked.segments, asked.files)
            first = {f"p{number:03}" for number in range(asked.told or asked.projects)}
            tell(instance, [thing for thing in made if thing.partition["project"] in first])
            tick(home, instance)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\npeak memory of this process {peak:,} MB")


def build(home: Path, projects: int, segments: int, verdicts: int) -> list[Thing]:
    """Make and judge every step of every project, without modelling anything."""
    made = Made(home)
    names = [f"S{number:03}" for number in range(segments)]
    land_all(made, names, 1)
    keys = [f"p{number:03}" for number in range(projects)]
    for project in keys:
        text = SPEC.format(project=project).replace("[EWR, JFK]", "{column: origin}")
        (made.settings.projects / f"{project}.yaml").write_text(text)
    hashes = {
        (project, step): step_hash(spec, step) for project, spec in made.specs.items() for step in STEPS
    }
    flights = made.store.require(SOURCES, Partition.source("flights"))
    above = {(project, name): flights for project in keys for name in names}
    things: list[Thing] = []
    for step in SEGMENT_STEPS:
        drafts = [
            (step, Partition.segment(project, name), draft(step, hashes[project, step], [thing]))
            for (project, name), thing in above.items()
        ]
        above = dict(zip(above, made.store.commit_all(drafts), strict=True))
        things += above.values()
    for project in keys:
        models = {name: above[project, name] for name in names}
        upstream = list(models.values())
        for step in STEPS[len(SEGMENT_STEPS) :]:
            parameters = {
                "coverage": {"expected": names, "present": names},
                "models": {name: one.id for name, one in models.items()},
                "decision": "approve",
                "alias": "champion",
            }
            made_of = draft(step, hashes[project, step], upstream, parameters)
            upstream = [made.store.commit(step, Partition.project(project), made_of)]
            things += upstream
    found = [
        Verdict(f"claim_{number}", "passed", "WARN", 0.1, "<= 1", 1_000, "as found", {})
        for number in range(verdicts)
    ]
    for thing in things:
        made.store.record_verdicts(thing.id, new_id(), found, None)
    return things


def draft(step: str, spec_hash: str, on: list[Thing], parameters: dict[str, Any] | None = None) -> Draft:
    """Return a draft with as many metrics as a model has."""
    return Draft(
        parameters=parameters or {"candidate": "baseline"},
        metrics={f"metric_{number}": number / 7 for number in range(30)},
        based_on=[one.id for one in on],
        code_version=CODE_VERSIONS[step],
        spec_hash=spec_hash,
    )


def land_all(made: Made, names: list[str], times: int) -> None:
    """Give the source new content: other rows of every segment."""
    made.source("flights", {"origin": names * times, "late": [0, 1] * (len(names) * times // 2)})
    made.source("weather", {"temp": [1.0]})


def look_with_sensors(home: Path, instance: dg.DagsterInstance, segments: int, files: int) -> None:
    """Print what the looks of all sensors take."""
    made, cursors = Made(home), dict[str, str | None]()

    def look(sensor: dg.SensorDefinition) -> tuple[str, int]:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursors.get(sensor.name), resources={"home": Home(home=str(home))}
        )
        started = time.perf_counter()
        result: Any = sensor(context)
        cursors[sensor.name] = result.cursor
        return seconds(started), len(result.run_requests or [])

    print(f"{'a look of':22} {'first':>9} {'again':>9} {'all draws due':>15}")
    first = {one.name: look(one)[0] for one in SENSORS}
    again = {one.name: look(one)[0] for one in SENSORS}
    land_all(made, [f"S{number:03}" for number in range(segments)], 2)
    due = {one.name: look(one) for one in SENSORS}
    for name, (took, runs) in due.items():
        print(f"{name:22} {first[name]:>9} {again[name]:>9} {took:>15}  {runs} runs asked for")

    folder = Path(made.settings.landing) / "flights"
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"{number:05}.csv").write_text(f"origin,late\nS{number % segments:03},{number}\n")
    looks = [look(sensors.new_files_sensor) for _ in range(3)]
    size = len(cursors["new_files_sensor"] or "")
    print(
        f"\n{files:,} files land: looks of {', '.join(took for took, _ in looks)}, asking for "
        f"{', '.join(str(runs) for _, runs in looks)} runs; cursor {size / 1e6:.1f} MB until they are taken",
        flush=True,
    )


def tell(instance: dg.DagsterInstance, things: list[Thing]) -> None:
    """Tell Dagster of the newest version of every step and partition."""
    started = time.perf_counter()
    for thing in things:
        report(instance, thing)
    print(f"\n{len(things):,} materializations told to Dagster in {seconds(started)}", flush=True)


def report(instance: dg.DagsterInstance, thing: Thing) -> None:
    """Tell Dagster of one version."""
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            thing.step, partition=thing.partition.key, tags={"dagster/data_version": new_id()}
        )
    )


def tick(home: Path, instance: dg.DagsterInstance) -> None:
    """Print what declarative ticks take: ours, and the same graph under `eager()`."""
    ours = definitions(str(home))
    peer = dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(automation_condition=dg.AutomationCondition.eager()),
            [asset for asset in ours.assets or [] if isinstance(asset, dg.AssetsDefinition)],
        ),
        resources=ours.resources,
    )
    models = [Partition.segment(f"p{number:03}", "S000") for number in range(100)]
    models = [one for one in models if one.key in instance.get_materialized_partitions(dg.AssetKey("model"))]
    print(f"{'a declarative tick':22} {'first':>9} {'again':>9} {f'{len(models)} changed':>15}")
    for name, defs in (("ours", ours), ("eager()", peer)):
        cursor: Any = None
        took: list[str] = []
        asked_for = 0
        for round_ in range(3):
            if round_ == 2:
                for partition in models:
                    for step in (DRAW_DATA, AGGREGATE):
                        event = dg.AssetMaterialization(
                            step,
                            partition=partition.key if step == DRAW_DATA else partition["project"],
                            tags={"dagster/data_version": new_id()},
                        )
                        instance.report_runless_asset_event(event)
            started = time.perf_counter()
            result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
            took.append(seconds(started))
            cursor, asked_for = result.cursor, result.total_requested
        print(
            f"{name:22} {took[0]:>9} {took[1]:>9} {took[2]:>15}  {asked_for} partitions asked for", flush=True
        )


def seconds(started: float) -> str:
    """Return the seconds since a moment."""
    return f"{time.perf_counter() - started:.2f} s"


def _quiet(function: Callable[[], None]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function()


if __name__ == "__main__":
    _quiet(main)
