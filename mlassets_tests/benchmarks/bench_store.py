"""The store against pyarrow alone: `python -m mlassets_tests.benchmarks.bench_store`."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from resources.settings import Settings
from resources.things import Draft, Partition, Store

ROWS = 1_000_000
REPEATS = 5


def mixed_table(rows: int, seed: int = 0) -> pa.Table:
    """Return 20 columns: 8 floats, 6 integers, 3 low-cardinality texts, 1 key, 1 boolean, 1 time."""
    random = np.random.default_rng(seed)
    columns: dict[str, object] = {f"float{number}": random.normal(size=rows) for number in range(8)}
    columns |= {f"int{number}": random.integers(0, 10**number + 1, rows) for number in range(6)}
    levels = np.array([f"level {number}" for number in range(50)])
    columns |= {f"text{number}": levels[random.integers(0, 50, rows)] for number in range(3)}
    columns |= {
        "key": np.char.add("row ", np.arange(rows).astype(str)),
        "flag": random.random(rows) < 0.5,
        "time": np.datetime64("2026-01-01", "s") + random.integers(0, 10**7, rows),
    }
    return pa.table(columns)


def seconds(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    """Return the median time of several calls of `work`, each with its own number."""
    taken = []
    for number in range(repeats):
        start = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Print what the store takes beside what pyarrow takes."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        store = Store.open(Settings(home=Path(folder)))
        table = mixed_table(ROWS)
        small = table.slice(0, 10)
        partition = Partition.segment("bench", "all")

        def log(number: int) -> None:
            named = {f"value{place}": number + place for place in range(5)}
            store.commit(
                "small", partition, Draft(dataset=small.slice(number % 9), parameters=named, metrics=named)
            )

        log(0)
        print(f"log one small Thing          {seconds(log, 200) * 1000:8.2f} ms   (budget 4)")

        plain = Path(folder) / "plain.parquet"

        def plain_write(_number: int) -> None:
            pq.write_table(table, plain, compression="zstd")

        def our_write(number: int) -> None:
            store.commit("large", Partition.segment("bench", str(number)), Draft(dataset=table))

        thing = store.commit("large", partition, Draft(dataset=table))
        plain_write(0)
        for what, floor, ours in (
            ("write", plain_write, our_write),
            ("read", lambda _: pq.read_table(plain), lambda _: thing.table()),
        ):
            peer, own = seconds(floor), seconds(ours)
            print(
                f"{what:5} 1,000,000 x 20  pyarrow {peer:6.3f} s  store {own:6.3f} s  ratio {own / peer:5.2f}"
            )


if __name__ == "__main__":
    main()
