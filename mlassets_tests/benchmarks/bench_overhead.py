"""The six steps' own overhead per partition: `python -m mlassets_tests.benchmarks.bench_overhead`.

A small project runs again and again on a SQLite instance, with its checks and without. From each run's wall-clock
time we take away what was spent inside the functions that model and judge; what remains is Dagster, storage,
provenance and ours. The peer is a trivial asset in the same instance: what one of Dagster's in-process runs costs
with nothing in it. With checks, the difference is what Dagster takes to plan and record one evaluation for each.
"""

import contextlib
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from mlassets.definitions import definitions
from mlassets.home import Home
from mlassets.quality.checks import Suite, checks_of
from mlassets.runs import Runner, instance_of, lay_out
from mlassets.steps import PROJECT_STEPS, SEGMENT_STEPS

REPEATS = 7
ROWS = 1_000
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SUITES: tuple[Suite, ...] = ("integrity", "train_test", "evaluation", "aggregate", "review", "publish")

# Where the work itself is done: by the module that calls it, because that is where the name is looked up.
WORK = (
    ("mlassets.assets.draw_data", "run_draw"),
    ("mlassets.assets.model_ready", "make_model_ready"),
    ("mlassets.assets.model", "train"),
    ("mlassets.assets.aggregate", "pool_predictions"),
    ("mlassets.assets.review", "evidence_page"),
    ("mlassets.assets.publish", "published"),
    ("mlassets.checks.publish", "round_trip_error"),
    ("mlassets.modelling.persistence", "load_estimator"),
    ("mlassets.quality.suites", "judge_draw"),
    ("mlassets.quality.suites", "judge_model_ready"),
    ("mlassets.quality.suites", "judge_model"),
    ("mlassets.quality.report", "render_report"),
)

SPEC = """\
project: bench
sources: {rows: "landing/rows/*"}
segments: [a, b]
draw: {sql: SELECT * FROM rows WHERE segment = $segment}
target: {column: target, task: binary}
features: {drop: [segment]}
model: {candidates: [baseline, linear], metric: roc_auc, tune: {trials: 1, seconds: 60}}
review: {mode: auto, rules: ["roc_auc >= 0.5"]}
"""


class _Clock:
    """Adds up the time that is spent inside wrapped functions, counting nested ones once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - started

        return timed


@contextlib.contextmanager
def _timed(clock: _Clock) -> Iterator[None]:
    originals = [(importlib.import_module(module), name) for module, name in WORK]
    kept = [getattr(module, name) for module, name in originals]
    try:
        for (module, name), function in zip(originals, kept, strict=True):
            setattr(module, name, clock.wrap(function))
        yield
    finally:
        for (module, name), function in zip(originals, kept, strict=True):
            setattr(module, name, function)


def _landing(home: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 4))
    columns: dict[str, Any] = {f"x{number}": x[:, number] for number in range(4)}
    columns["segment"] = np.array(["a", "b"])[np.arange(ROWS) % 2]
    columns["target"] = (x[:, 0] + random.normal(size=ROWS) > 0).astype(int)
    folder = home / "landing" / "rows"
    folder.mkdir(parents=True)
    pyarrow.csv.write_csv(pa.table(columns), folder / "rows.csv")


def _trivial(instance: dg.DagsterInstance) -> float:
    @dg.asset
    def trivial() -> None:
        pass

    job = dg.Definitions(assets=[trivial]).resolve_implicit_global_asset_job_def()
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        job.execute_in_process(instance=instance, run_config=QUIET)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _without_checks(home: Home, instance: dg.DagsterInstance) -> Callable[[tuple[str, ...], str], None]:
    jobs = {
        steps: dg.define_asset_job(
            f"bare_{steps[0]}", selection=dg.AssetSelection.assets(*steps).without_checks()
        )
        for steps in (SEGMENT_STEPS, PROJECT_STEPS)
    }
    merged = dg.Definitions.merge(definitions(home.home), dg.Definitions(jobs=list(jobs.values())))
    resolved = {steps: merged.resolve_job_def(job.name) for steps, job in jobs.items()}

    def run(steps: tuple[str, ...], partition: str) -> None:
        resolved[steps].execute_in_process(instance=instance, partition_key=partition, run_config=QUIET)

    return run


def _overhead(run: Callable[[tuple[str, ...], str], object]) -> dict[tuple[str, ...], tuple[float, float]]:
    """Return the median seconds of each run of three steps, whole and beyond the work."""
    clock = _Clock()
    taken: dict[tuple[str, ...], list[tuple[float, float]]] = {SEGMENT_STEPS: [], PROJECT_STEPS: []}
    with _timed(clock):
        for _ in range(REPEATS):
            for steps, partition in ((SEGMENT_STEPS, "bench|a"), (PROJECT_STEPS, "bench")):
                worked, started = clock.seconds, time.perf_counter()
                run(steps, partition)
                whole = time.perf_counter() - started
                taken[steps].append((whole, whole - (clock.seconds - worked)))
    return {
        steps: (statistics.median(one[0] for one in rows), statistics.median(one[1] for one in rows))
        for steps, rows in taken.items()
    }


def main() -> None:
    """Print the overhead of the segment's three steps and of the project's three."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(home=folder)
        lay_out(home.settings)
        _landing(Path(folder))
        (home.settings.projects / "bench.yaml").write_text(SPEC)
        with instance_of(home.settings) as instance:
            trivial = _trivial(instance)
            runner = Runner(home, instance)
            runner.take_landed_files()
            runner.run_due()

            def judged(steps: tuple[str, ...], partition: str) -> None:
                outcome = runner.run(steps, partition, "benchmark")
                assert outcome.state == "done", outcome.error

            figures = {
                "without checks": _overhead(_without_checks(home, instance)),
                "with checks": _overhead(judged),
            }
    print(f"a trivial asset, one in-process run on SQLite: {trivial:.2f} s")
    for how, of_steps in figures.items():
        for steps, (whole, overhead) in of_steps.items():
            print(f"{how}: {' + '.join(steps)}, one run: {whole:.2f} s, of which overhead {overhead:.2f} s")
        total = sum(overhead for _, overhead in of_steps.values())
        print(
            f"{how}: the six steps' overhead {total:.2f} s (budget 1.0 s), "
            f"{total / (2 * trivial):.2f} of two trivial runs"
        )
    checks = sum(len(checks_of(suite)) + 1 for suite in SUITES)
    more = sum(one[1] for one in figures["with checks"].values()) - sum(
        one[1] for one in figures["without checks"].values()
    )
    print(
        f"the {checks} checks of the six steps: {more / checks * 1000:.0f} ms each for Dagster to plan and record"
    )


if __name__ == "__main__":
    main()
