"""The six dimensions of data quality on 10,000,000 x 20 rows, beside pandas on as many as fit.

    python -m mlassets_tests.benchmarks.bench_dimensions [--json] [--quick] [--rows N]

Everything that can be expected of data is: a key, types, ranges, lists, patterns, lengths, nulls, rules between
columns, a reference table, keys of another source, arrival. Every measurement runs in a process of its own, so that
peak memory is its own too. The peer counts the same things with pandas, on a tenth of the rows.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, FILES = 10_000_000, 10
BUDGET_SECONDS = 10.0
NUMBERS, COUNTS, WORDS = 7, 3, 5
CODE = "[A-C][X-Z]-[0-9]{4}"

EXPECTED = {
    "key": ["id"],
    "columns": {
        **{f"number_{i}": {"type": "number", "range": [-9, 9], "nulls": 0.01} for i in range(NUMBERS)},
        **{f"count_{i}": {"type": "integer", "range": [0, 999], "nulls": 0} for i in range(COUNTS)},
        **{
            f"word_{i}": {"values": [f"value {k}" for k in range(5 + 10 * i)], "length": [1, 20], "nulls": 0}
            for i in range(WORDS)
        },
        "code": {"pattern": CODE, "length": [7, 7], "reference": "codes.code"},
        "flag": {"type": "boolean"},
        "start": {"type": "timestamp", "range": ["2020-01-01", "2040-01-01"]},
    },
    "rules": [
        {"name": "ends after it starts", "sql": '"end" >= start'},
        {"name": "at most three hours", "sql": '"end" - start <= INTERVAL 3 HOURS', "dimension": "accuracy"},
        {"sql": "count_0 + count_1 < 2000"},
    ],
    "same_in": {"codes": {"keys": ["code"]}},
    "arrives": {"column": "start", "every": "35d", "within": "2d"},
}


def codes() -> list[str]:
    """Return all codes that there are."""
    return [f"{a}{b}-{n:04d}" for a in "ABC" for b in "XYZ" for n in range(10_000)]


def part(number: int, rows: int) -> pa.Table:
    """Return one file's rows: 20 columns."""
    rng = np.random.default_rng(number)
    columns: dict[str, Any] = {"id": np.arange(number * rows, (number + 1) * rows)}
    columns |= {f"number_{i}": rng.normal(size=rows).round(3) for i in range(NUMBERS)}
    columns |= {f"count_{i}": rng.integers(0, 1000, rows) for i in range(COUNTS)}
    for i in range(WORDS):
        words = pa.array([f"value {k}" for k in range(5 + 10 * i)])
        columns[f"word_{i}"] = words.take(pa.array(rng.integers(0, len(words), rows)))
    known = pa.array(codes())
    columns["code"] = known.take(pa.array(rng.integers(0, len(known), rows)))
    columns["flag"] = rng.random(rows) < 0.5
    start = np.datetime64("2024-01-01", "us") + (np.arange(rows) + number * rows) * np.timedelta64(1, "s")
    return pa.table({**columns, "start": start, "end": start + np.timedelta64(3600, "s")})


def write(folder: Path, rows: int) -> list[Path]:
    """Write the rows as files of a lake."""
    files = [folder / f"{number}.parquet" for number in range(FILES)]
    for number, file in enumerate(files):
        pq.write_table(part(number, rows // FILES), file, compression="zstd")
    return files


def ours(folder: Path) -> dict[str, Any]:
    """Measure in this process."""
    from mlassets.expectations import Expectations
    from mlassets.quality.dimensions import Arrived, judged_dimensions
    from mlassets.quality.judging import Observation
    from mlassets.quality.rows import Rows

    files = tuple(sorted(folder.glob("*.parquet")))
    start = time.perf_counter()
    found = judged_dimensions(
        Rows(files),
        Expectations.model_validate(EXPECTED),
        {"codes": Rows(data=pa.table({"code": codes()}))},
        arrived=Arrived(datetime(2024, 5, 1, tzinfo=UTC), earlier=Rows(files[:-1])),
    )
    seconds = time.perf_counter() - start
    wrong = {name: str(one) for name, one in found.items() if not isinstance(one, Observation)}
    if wrong:
        raise RuntimeError(f"not measured: {wrong}")
    return {"seconds": seconds}


def pandas(folder: Path) -> dict[str, Any]:
    """Count the same with pandas."""
    import pandas as pd

    start = time.perf_counter()
    frame = pd.read_parquet(sorted(folder.glob("*.parquet")))
    broken = {"key": frame["id"].duplicated().sum()}
    for name, one in EXPECTED["columns"].items():  # type: ignore[attr-defined]
        values = frame[name]
        broken[f"{name} nulls"] = values.isna().sum()
        if "range" in one:
            low, high = (pd.Timestamp(end) if isinstance(end, str) else end for end in one["range"])
            broken[f"{name} range"] = (~values.between(low, high)).sum()
        if "values" in one:
            broken[f"{name} values"] = (~values.isin(one["values"])).sum()
        if "length" in one:
            broken[f"{name} length"] = (~values.str.len().between(*one["length"])).sum()
        if "pattern" in one:
            broken[f"{name} pattern"] = (~values.str.fullmatch(one["pattern"])).sum()
    for _ in range(2):  # as a reference, and as keys of another source
        broken["reference"] = (~frame["code"].isin(codes())).sum()
    broken["ends"] = (frame["end"] < frame["start"]).sum()
    broken["hours"] = (frame["end"] - frame["start"] > pd.Timedelta(hours=3)).sum()
    broken["counts"] = (frame["count_0"] + frame["count_1"] >= 2000).sum()
    frame["start"].max()
    return {"seconds": time.perf_counter() - start}


def measure(who: str, folder: Path) -> dict[str, Any]:
    """Return one measurement, made in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--one", who, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = {"ours": ours, "pandas": pandas}[options.one[0]](Path(options.one[1]))
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    rows = options.rows // 10 if options.quick else options.rows
    results = []
    for who, count in (("ours", rows), ("ours", rows // 10), ("pandas", rows // 10)):
        with tempfile.TemporaryDirectory(prefix="mlassets-bench-") as folder:
            write(Path(folder), count)
            found = {"who": who, "rows": count, **measure(who, Path(folder))}
        results.append(found)
        budget = f"  (budget {BUDGET_SECONDS:.0f} s)" if (who, count) == ("ours", ROWS) else ""
        if not options.json:
            print(
                f"{count:>11,} x 20  {who:<7} {found['seconds']:6.2f} s  {found['peak_mb']:6,.0f} MB{budget}",
                flush=True,
            )
    if options.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
