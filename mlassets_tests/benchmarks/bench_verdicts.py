"""The verdicts of one segment beside plain deepchecks suites, on the same rows.

    python -m mlassets_tests.benchmarks.bench_verdicts [--json] [--full] [--rows N ...]

All three suites on 20 columns. deepchecks' own suites run on all rows, as they do by default, without displays; at
1,000,000 rows only with `--full`: its integrity suite alone took 125 s and 2.7 GB there. Every measurement runs in
a process of its own, so that peak memory is its own too; the import of deepchecks is not counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

from resources.roles import ROW_KEY, SPLIT, with_role

ROWS = (10_000, 100_000, 1_000_000)
BUDGET_SECONDS = {100_000: 15.0, 1_000_000: 25.0}
NUMERIC, CATEGORICAL = 13, 5


def segment(rows: int) -> tuple[pa.Table, pa.Table]:
    """Return a draw of 20 columns (features, date, target; and its key) and the same rows model-ready."""
    rng = np.random.default_rng(0)
    numbers = {f"number_{i}": rng.normal(size=rows) for i in range(NUMERIC)}
    words = {}
    for i in range(CATEGORICAL):
        values = np.array([f"value {k}" for k in range(5 + 5 * i)])
        words[f"word_{i}"] = pa.array(values[rng.integers(0, len(values), rows)].tolist())
    score = numbers["number_0"] + numbers["number_1"] + rng.normal(size=rows)
    target = pa.array((score > 0).astype("int64"))
    key = pa.array([str(i) for i in range(rows)])
    when = pa.array(np.datetime64("2020-01-01", "us") + np.arange(rows) * np.timedelta64(60, "s"))
    drawn = pa.table({**numbers, **words, "when": when, "key": key, "target": target})
    split = pa.array(np.where(np.arange(rows) < 0.6 * rows, "train", "test").tolist())
    fields = [with_role(pa.field(name, pa.float64()), "feature", "numeric") for name in numbers]
    fields += [with_role(pa.field(name, pa.string()), "feature", "categorical") for name in words]
    fields += [with_role(pa.field("target", pa.int64()), "target"), pa.field(ROW_KEY, pa.string())]
    fields += [pa.field(SPLIT, pa.string())]
    columns = [*(pa.array(values) for values in numbers.values()), *words.values(), target, key, split]
    return drawn, pa.table(columns, pa.schema(fields))


def model_of(ready: pa.Table) -> Any:
    """Return a boosted pipeline fitted on the first rows."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    from mlassets.quality import frames
    from resources.roles import features_of

    kinds = features_of(ready.schema)
    rows = frames.model_frame(ready.slice(0, 20_000), kinds, ["target"])
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    words = [name for name, kind in kinds.items() if kind == "categorical"]
    prepare = make_column_transformer((encoder, words), remainder="passthrough")
    model = make_pipeline(prepare, HistGradientBoostingClassifier(random_state=0))
    return model.fit(rows[list(kinds)], rows["target"])


def ours(rows: int) -> tuple[dict[str, float], float]:
    """Return seconds per suite and for the reports, and the processor seconds of them all."""
    from mlassets.quality.report import render_report
    from mlassets.quality.suites import judge_draw, judge_model, judge_model_ready
    from resources.roles import features_of

    drawn, ready = segment(rows)
    model, seconds, judged = model_of(ready), {}, []
    # The champion was trained on what is about the older half of a draw that grows.
    champion = ready.select(list(features_of(ready.schema))).slice(0, rows // 2)
    cpu = time.process_time()
    suites = {
        "integrity": lambda: judge_draw(
            drawn, target="target", task="binary", limits={}, key=["key"], champion=champion
        ),
        "train_test": lambda: judge_model_ready(ready, task="binary", limits={}, dates=drawn["when"]),
        "evaluation": lambda: judge_model(ready, model, task="binary", metrics={}, limits={}),
    }
    for suite, judge in suites.items():
        start = time.perf_counter()
        judged.append(judge())
        seconds[suite] = time.perf_counter() - start
    start = time.perf_counter()
    for judgement in judged:
        render_report(judgement, title="benchmark")
    seconds["reports"] = time.perf_counter() - start
    cpu = time.process_time() - cpu
    crashed = [
        verdict.message
        for judgement in judged
        for verdict in judgement.verdicts
        if verdict.status == "crashed"
    ]
    if crashed:
        raise RuntimeError(f"a check crashed while measured: {crashed}")
    return seconds, cpu


def theirs(rows: int) -> tuple[dict[str, float], float]:
    """Return the same for plain deepchecks, on all rows, displays and long importances left out."""
    import pyarrow.compute as pc
    from deepchecks.tabular import Dataset, suites

    from mlassets.quality import frames
    from resources.roles import features_of

    drawn, ready = segment(rows)
    model, kinds = model_of(ready), features_of(ready.schema)
    words = [name for name, kind in kinds.items() if kind == "categorical"]
    when = frames.frame(drawn.select(["when"]))["when"].to_numpy()

    def dataset(split: str | None) -> Any:
        kept = np.ones(rows, bool) if split is None else pc.equal(ready[SPLIT], split).to_numpy()
        frame = frames.model_frame(ready.filter(pa.array(kept)), kinds, ["target", ROW_KEY])
        frame["when"] = when[kept]
        return Dataset(
            frame,
            label="target",
            features=list(kinds),
            cat_features=words,
            index_name=ROW_KEY,
            datetime_name="when",
            label_type="binary",
        )

    seconds, cpu = {}, time.process_time()
    whole, train, test = dataset(None), dataset("train"), dataset("test")
    runs = {
        "integrity": lambda: suites.data_integrity().run(whole, with_display=False),
        "train_test": lambda: suites.train_test_validation().run(train, test, with_display=False),
        "evaluation": lambda: suites.model_evaluation().run(
            train, test, model, with_display=False, feature_importance_timeout=0
        ),
    }
    for suite, run in runs.items():
        start = time.perf_counter()
        run()
        seconds[suite] = time.perf_counter() - start
    return seconds, time.process_time() - cpu


def measure(who: str, rows: int) -> dict[str, Any]:
    """Return one measurement, made in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--one", who, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(who: str, rows: int) -> dict[str, Any]:
    """Measure in this process."""
    from mlassets.quality import deepchecks_compat

    start = time.perf_counter()
    deepchecks_compat.load()
    imported = time.perf_counter() - start
    suites, cpu = {"ours": ours, "deepchecks": theirs}[who](rows)
    return {
        "who": who,
        "rows": rows,
        "import_seconds": imported,
        "suites": suites,
        "seconds": sum(suites.values()),
        "cpu_seconds": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--full", action="store_true", help="run plain deepchecks at 1,000,000 rows too")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--one", nargs=2, metavar=("WHO", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], int(options.one[1]))))
        return
    results = []
    for rows in options.rows:
        mine = measure("ours", rows)
        mine["budget_seconds"] = BUDGET_SECONDS.get(rows)
        peer = measure("deepchecks", rows) if rows < 1_000_000 or options.full else None
        mine["ratio"] = peer["seconds"] / mine["seconds"] if peer else None
        results += [mine] + ([peer] if peer else [])
        if not options.json:
            _print(mine, peer)
    if options.json:
        print(json.dumps(results, indent=1))


def _print(mine: dict[str, Any], peer: dict[str, Any] | None) -> None:
    for found in (mine, peer):
        if found:
            parts = ", ".join(f"{suite} {seconds:.1f}" for suite, seconds in found["suites"].items())
            print(
                f"{found['rows']:>9,} x 20  {found['who']:<10} {found['seconds']:7.1f} s  "
                f"{found['cpu_seconds']:7.1f} s CPU  "
                f"{found['peak_mb']:6,.0f} MB  ({parts})",
                flush=True,
            )
    budget = f", budget {mine['budget_seconds']:.0f} s" if mine["budget_seconds"] else ""
    beside = (
        f"deepchecks takes {mine['ratio']:.1f} times as long"
        if peer
        else "deepchecks left out: minutes and gigabytes; see --full"
    )
    print(f"{'':>15}{beside}{budget}", flush=True)


if __name__ == "__main__":
    main()
