"""Files of other formats to Parquet, beside pandas, polars, pyarrow and DuckDB.

`python -m mlassets_tests.benchmarks.bench_ingestion [--quick] [--case csv] [--gigabytes 5]`. Every figure comes from a
fresh child process, libraries imported before the clock starts; the cases' peers take turns. All write zstd. A peer
counts where its Parquet file has the types that the data was made of; the ratio is to the fastest of those.
`--gigabytes` makes one large CSV file and shows the most memory that reading it takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPEATS = 5


@dataclass(frozen=True)
class Case:
    """A kind of file.

    Attributes:
        name: The file's name, whose suffix says its format.
        make: Writes it with so many rows.
        rows: Number of rows; `quick` of them with `--quick`.
        quick: See `rows`.
        peers: Name and function of those who convert it, besides mlassets.
    """

    name: str
    make: Callable[[Path, int], None]
    rows: int
    quick: int
    peers: Mapping[str, Callable[[Path, Path], Callable[[], object]]]


def mlassets(source: Path, out: Path) -> Callable[[], object]:
    """Read with this package."""
    from mlassets.ingestion.formats import FORMATS, convert, suffix_of

    import_reader(FORMATS[suffix_of(source.name) or ""].reader)
    out.mkdir()
    return lambda: convert(source, source.name, out)


def import_reader(reader: str) -> None:
    """Import a reader, and what it imports when it is first used."""
    from importlib import import_module

    import_module(reader.partition(":")[0])


def pandas_csv(source: Path, out: Path) -> Callable[[], object]:
    """Read CSV with pandas, by its fast engine."""
    import pandas as pd

    return lambda: pd.read_csv(source, engine="pyarrow").to_parquet(out, compression="zstd")


def polars_csv(source: Path, out: Path) -> Callable[[], object]:
    """Read CSV with polars, in memory."""
    import polars as pl

    return lambda: pl.read_csv(source, try_parse_dates=True).write_parquet(out, compression="zstd")


def polars_sink_csv(source: Path, out: Path) -> Callable[[], object]:
    """Read CSV with polars, streamed."""
    import polars as pl

    return lambda: pl.scan_csv(source, try_parse_dates=True).sink_parquet(out, compression="zstd")


def pyarrow_csv(source: Path, out: Path) -> Callable[[], object]:
    """Read CSV with pyarrow, in memory."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    return lambda: pq.write_table(csv.read_csv(source), out, compression="zstd")


def duckdb_csv(source: Path, out: Path) -> Callable[[], object]:
    """Read CSV with DuckDB."""
    import duckdb

    return lambda: duckdb.sql(
        f"COPY (FROM read_csv('{source}')) TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
    )


CSV = {
    "pandas": pandas_csv,
    "polars": polars_csv,
    "polars, streamed": polars_sink_csv,
    "pyarrow": pyarrow_csv,
    "DuckDB": duckdb_csv,
}


def pandas_jsonl(source: Path, out: Path) -> Callable[[], object]:
    """Read JSON lines with pandas."""
    import pandas as pd

    return lambda: pd.read_json(source, lines=True).to_parquet(out, compression="zstd")


def polars_jsonl(source: Path, out: Path) -> Callable[[], object]:
    """Read JSON lines with polars, in memory."""
    import polars as pl

    return lambda: pl.read_ndjson(source).write_parquet(out, compression="zstd")


def pyarrow_jsonl(source: Path, out: Path) -> Callable[[], object]:
    """Read JSON lines with pyarrow, in memory."""
    import pyarrow.json as arrow_json
    import pyarrow.parquet as pq

    return lambda: pq.write_table(arrow_json.read_json(source), out, compression="zstd")


def duckdb_jsonl(source: Path, out: Path) -> Callable[[], object]:
    """Read JSON lines with DuckDB."""
    import duckdb

    return lambda: duckdb.sql(
        f"COPY (FROM read_ndjson('{source}')) TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
    )


JSONL = {"pandas": pandas_jsonl, "polars": polars_jsonl, "pyarrow": pyarrow_jsonl, "DuckDB": duckdb_jsonl}


def pandas_xlsx(source: Path, out: Path) -> Callable[[], object]:
    """Read every sheet with pandas, by calamine."""
    import pandas as pd
    import python_calamine  # noqa: F401

    out.mkdir()

    def work() -> None:
        for sheet, frame in pd.read_excel(source, sheet_name=None, engine="calamine").items():
            frame.to_parquet(out / f"{sheet}.parquet", compression="zstd")

    return work


def polars_xlsx(source: Path, out: Path) -> Callable[[], object]:
    """Read every sheet with polars, by calamine; types hold for all rows, as they do here."""
    import fastexcel  # noqa: F401
    import polars as pl

    out.mkdir()

    def work() -> None:
        for sheet, frame in pl.read_excel(source, sheet_id=0, infer_schema_length=None).items():
            frame.write_parquet(out / f"{sheet}.parquet", compression="zstd")

    return work


XLSX = {"pandas, calamine": pandas_xlsx, "polars, calamine": polars_xlsx}


def flights(rows: int) -> Any:
    """Return ten columns of usual types, made anew from the same seed."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    seconds = random.integers(0, 365 * 86_400, rows).astype("timedelta64[s]")
    moments = (np.datetime64("2013-01-01") + seconds).astype("datetime64[us]")
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "carrier": random.choice(["AA", "UA", "DL", "B6", "EV"], rows),
            "tail": [f"N{number}" for number in random.integers(10_000, 99_999, rows)],
            "dep_delay": random.integers(-20, 400, rows),
            "distance": np.round(random.gamma(2, 500, rows), 1),
            "temp": random.normal(15, 8, rows).round(3),
            "lon": random.uniform(-180, 180, rows),
            "day": moments.astype("datetime64[D]"),
            "time_hour": moments,
            "cancelled": random.random(rows) < 0.02,
        }
    )


def make_csv(path: Path, rows: int) -> None:
    """Write flights as CSV."""
    flights(rows).write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S")


def make_quoted_csv(path: Path, rows: int) -> None:
    """Write flights as CSV with every text in quotes."""
    flights(rows).write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S", quote_style="non_numeric")


def make_wide_csv(path: Path, rows: int) -> None:
    """Write a CSV file of 1,000 columns of numbers."""
    import numpy as np
    import polars as pl

    values = np.random.default_rng(0).normal(0, 100, (rows, 1_000)).round(2)
    pl.DataFrame(values, schema=[f"c{at}" for at in range(1_000)]).write_csv(path)


def make_jsonl(path: Path, rows: int) -> None:
    """Write flights as JSON lines."""
    flights(rows).write_ndjson(path)


def make_xlsx(path: Path, rows: int) -> None:
    """Write flights to each of two sheets."""
    import xlsxwriter

    frame = flights(rows)
    with xlsxwriter.Workbook(path) as book:
        for sheet in ("one", "two"):
            frame.write_excel(book, worksheet=sheet)


CASES = {
    "csv": Case("flights.csv", make_csv, 1_000_000, 100_000, CSV),
    "quoted csv": Case("quoted.csv", make_quoted_csv, 1_000_000, 100_000, CSV),
    "wide csv": Case("wide.csv", make_wide_csv, 10_000, 1_000, CSV),
    "jsonl": Case("flights.jsonl", make_jsonl, 1_000_000, 100_000, JSONL),
    "xlsx, two sheets": Case("flights.xlsx", make_xlsx, 100_000, 5_000, XLSX),
}


def child(case: str, peer: str, source: str, out: str) -> None:
    """Convert a file once; print the seconds, the peak of memory and the types that came out, as JSON."""
    import pyarrow.parquet as pq

    convert = mlassets if peer == "mlassets" else CASES[case].peers[peer]
    work = convert(Path(source), Path(out))
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM") - before
    files = sorted(Path(out).glob("*.parquet")) if Path(out).is_dir() else [Path(out)]
    types = [_family(str(field.type)) for file in files for field in pq.read_schema(file)]
    print(json.dumps({"seconds": seconds, "peak": peak, "types": types}))


def _family(kind: str) -> str:
    """Return a type without what only its writer chose."""
    return kind.removeprefix("large_").replace("string_view", "string").split("[")[0]


def _memory(which: str) -> float:
    """Return a figure of this process's memory in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith(which))


def _run(case: str, peer: str, source: Path, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [
            sys.executable,
            "-m",
            __spec__.name,
            "--child",
            case,
            peer,
            str(source),
            f"{out}/out.parquet",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(name: str, case: Case, rows: int, folder: Path) -> None:
    """Print a line for each of those who convert a file."""
    source = folder / case.name
    case.make(source, rows)
    print(f"{name}: {rows:,} rows, {source.stat().st_size / 1e6:.0f} MB")
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(REPEATS):
        for peer in ("mlassets", *case.peers):
            runs.setdefault(peer, []).append(_run(name, peer, source, folder))
    source.unlink()
    wanted = runs["mlassets"][0].get("types")
    seconds: dict[str, float] = {}
    for peer, results in runs.items():
        if failed := next((one["failed"] for one in results if "failed" in one), None):
            print(f"  {peer:<18} failed: {failed[:90]}")
            continue
        seconds[peer] = statistics.median(one["seconds"] for one in results)
        least = min(one["seconds"] for one in results)
        peak = max(one["peak"] for one in results)
        right = results[0]["types"] == wanted
        note = "" if right else f"  other types: {', '.join(sorted(set(results[0]['types'])))}"
        print(f"  {peer:<18} {seconds[peer]:6.2f} s (least {least:.2f})  {peak:6.0f} MB{note}")
        if not right:
            del seconds[peer]
    ours = seconds.pop("mlassets", None)
    if ours is not None and seconds:
        fastest = min(seconds, key=lambda one: seconds[one])
        print(f"  mlassets takes {ours / seconds[fastest]:.2f} x the time of {fastest}\n")


def large(gigabytes: float, folder: Path) -> None:
    """Print how much memory a large CSV file takes."""
    part, source = folder / "part.csv", folder / "large.csv"
    make_csv(part, 1_000_000)
    head, _, body = part.read_bytes().partition(b"\n")
    part.unlink()
    with source.open("wb") as file:
        file.write(head + b"\n")
        while file.tell() < gigabytes * 1e9:
            file.write(body)
    result = _run("csv", "mlassets", source, folder)
    size = source.stat().st_size / 1e9
    source.unlink()
    print(f"csv of {size:.1f} GB: {result['seconds']:.1f} s, {result['peak']:.0f} MB at most\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to see that everything runs")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one")
    parser.add_argument("--gigabytes", type=float, help="size of the large CSV file; none by default")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(*given.child)
        return
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; median of {REPEATS} processes each"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            if given.case is None or name in given.case:
                compare(name, case, case.quick if given.quick else case.rows, Path(folder))
        if given.gigabytes:
            large(given.gigabytes, Path(folder))


if __name__ == "__main__":
    main()
