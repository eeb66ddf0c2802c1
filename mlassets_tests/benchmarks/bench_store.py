"""The store against pyarrow, the hash and the disk alone: `python -m mlassets_tests.benchmarks.bench_store`.

`--things 100000` says how many Things the growth is measured to; the default takes about two minutes.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from mlassets_tests.servers import Keys, PostgresServer, S3Server
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing

ROWS = 1_000_000
REPEATS = 5
SMALL = 2_000
MANIFESTS = 20_000
BIG_FILES, BIG_BYTES = 8, 256 << 20
THREADS = 4
ONE = Partition.segment("bench", "all")


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


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that one call of `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    """Return the median time of several calls of `work`, each with its own number."""
    return statistics.median([timed(lambda: work(number)) for number in range(repeats)])  # noqa: B023


def small_draft(number: int, table: pa.Table | None = None) -> Draft:
    """Return a Thing of five parameters and five metrics, with data or without."""
    named = {f"value{place}": number + place for place in range(5)}
    return Draft(dataset=table, parameters=named, metrics=named)


@contextmanager
def catalogs() -> Iterator[dict[str, str]]:
    """The catalogs to measure: SQLite in the home, and a PostgreSQL that is started for it."""
    server = PostgresServer()
    try:
        yield {"SQLite": "", "PostgreSQL": server.url(server.make_database())}
    finally:
        server.stop()


@contextmanager
def on_s3() -> Iterator[str]:
    """An empty lake on an S3 server that is started for it: moto, in memory, slower than most that are real."""
    server = S3Server()
    os.environ.update(Keys().environment(server.endpoint))
    try:
        yield f"s3://{server.make_bucket()}/lake"
    finally:
        server.stop()


def logging(store: Store, name: str, table: pa.Table) -> None:
    """Print what it takes to commit small Things, one by one and many at once."""

    def log(number: int) -> None:
        store.commit("small", ONE, small_draft(number, table.slice(number % 9, 10)))

    log(0)
    print(
        f"{name:10}  log one small Thing         {seconds(log, 200) * 1000:8.2f} ms      (budget 4)",
        flush=True,
    )
    for what, data in (("with 10 rows of data", table.slice(0, 10)), ("parameters and metrics", None)):
        many = [("bulk", ONE, small_draft(number, data)) for number in range(SMALL)]
        each = timed(lambda: store.commit_all(many)) / SMALL  # noqa: B023
        print(f"{name:10}  {SMALL:,} at once, {what:23} {each * 1000:6.3f} ms each (budget 0.2)", flush=True)


def growth(folder: Path, things: int) -> None:
    """Print what one commit takes in a store of one Thing and in a store of many, turn by turn."""
    first, full = (Store.open(Settings(home=folder / name)) for name in ("first", "full"))
    for store, count in ((first, 1), (full, things)):
        store.commit_all(("small", ONE, small_draft(number)) for number in range(count))
    taken: dict[int, list[float]] = {1: [], things: []}
    for number in range(300):
        for store, count in ((first, 1), (full, things)):
            taken[count].append(timed(lambda: store.commit("small", ONE, small_draft(number))))  # noqa: B023
    small, large = (statistics.median(one) * 1000 for one in taken.values())
    print(
        f"log one among 1 / {things:,}    {small:6.2f} / {large:.2f} ms   ratio {large / small:5.2f} (budget 1.2)"
    )


def rebuilding(folder: Path, url: str, name: str) -> None:
    """Print how many manifests a second a rebuild takes in, into an empty catalog and over a full one."""
    lake = Store.open(Settings(home=folder / "rebuilt"))
    if not lake.history(limit=1):
        lake.commit_all(
            ("small", Partition.segment("bench", str(number % 100)), small_draft(number))
            for number in range(MANIFESTS)
        )
    chosen = {"catalog": url or str(folder / "fresh.db")}
    store = Store.open(Settings(home=folder / "rebuilt", **chosen))  # type: ignore[arg-type]
    for what in ("empty", "full"):
        speed = MANIFESTS / timed(store.rebuild)
        print(
            f"{name:10}  rebuild, {what:5} catalog      {speed:8,.0f} manifests/s (budget 2,000)", flush=True
        )


def forget(paths: list[Path]) -> None:
    """Have the next read of these files come from the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path, hasher: object | None = None) -> None:
    """Read a file, in pieces, and hash it if a hasher is given."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            if hasher is not None:
                hasher.update(piece)  # type: ignore[attr-defined]


def verifying(folder: Path) -> None:
    """Print how fast verify reads, beside the disk alone and the hash alone with as many threads."""
    store = Store.open(Settings(home=folder / "verified"))
    random = np.random.default_rng(0)

    def add(number: int) -> Thing:
        return store.commit("large", Partition.segment("bench", str(number)), Draft(artifacts={"x": data()}))

    def data() -> bytes:
        return random.bytes(BIG_BYTES)

    paths = [Path(add(number).artifact_path("x")) for number in range(BIG_FILES)]
    size = BIG_FILES * BIG_BYTES
    piece = random.bytes(1 << 20)

    def hash_alone(_path: Path) -> None:
        hasher = blake3()
        for _ in range(BIG_BYTES >> 20):
            hasher.update(piece)

    def at_once(work: Callable[[Path], None]) -> float:
        with ThreadPoolExecutor(THREADS) as pool:
            return timed(lambda: list(pool.map(work, paths)))

    speeds: dict[str, list[float]] = {
        "hash": [],
        "disk": [],
        "from disk": [],
        "memory": [],
        "from memory": [],
    }
    for _ in range(3):
        speeds["hash"].append(size / at_once(hash_alone))
        forget(paths)
        speeds["disk"].append(size / at_once(read))
        forget(paths)
        speeds["from disk"].append(size / timed(store.verify_all))
        at_once(read)
        speeds["memory"].append(size / at_once(read))
        speeds["from memory"].append(size / timed(store.verify_all))
    best = {name: statistics.median(found) / 1e6 for name, found in speeds.items()}
    for source in ("disk", "memory"):
        floor = min(best["hash"], best[source])
        ours = best[f"from {source}"]
        print(
            f"verify {size / 1e9:.1f} GB from {source:6}   {ours:6,.0f} MB/s   hash alone {best['hash']:,.0f}, "
            f"{source} alone {best[source]:,.0f}   ratio {ours / floor:4.2f} (budget 0.8)",
            flush=True,
        )


def large_tables(store: Store, table: pa.Table, folder: Path) -> None:
    """Print what a large table takes beside pyarrow alone."""
    plain = folder / "plain.parquet"
    pq.write_table(table, plain, compression="zstd")
    kept = store.commit("large", ONE, Draft(dataset=table))

    def plain_write(number: int) -> None:
        pq.write_table(table, folder / f"plain{number}.parquet", compression="zstd")

    def our_write(number: int) -> None:
        store.commit("large", Partition.segment("bench", str(number)), Draft(dataset=table))

    # Turn by turn, each to a file of its own that is gone before the next: a disk that is behind with one would
    # else slow the other down.
    taken: dict[str, list[float]] = {"pyarrow": [], "store": []}
    for number in range(2 * REPEATS):
        taken["pyarrow"].append(timed(lambda: plain_write(number)))  # noqa: B023
        (folder / f"plain{number}.parquet").unlink()
        taken["store"].append(timed(lambda: our_write(number)))  # noqa: B023
        store.lake.delete_folder(store.require("large", Partition.segment("bench", str(number))).folder)
        os.sync()
    read = {
        "pyarrow": seconds(lambda _: pq.read_table(plain), 2 * REPEATS),
        "store": seconds(lambda _: kept.table(), 2 * REPEATS),
    }
    for what, found in (
        ("write", {name: statistics.median(times) for name, times in taken.items()}),
        ("read", read),
    ):
        print(
            f"{what:5} 1,000,000 x 20  pyarrow {found['pyarrow']:6.3f} s  store {found['store']:6.3f} s  "
            f"ratio {found['store'] / found['pyarrow']:5.2f} (budget 1.15)",
            flush=True,
        )


def main() -> None:
    """Print what the store takes beside what is below it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name, catalogs() as urls:
        folder = Path(name)
        table = mixed_table(ROWS)
        for kind, url in urls.items():
            store = Store.open(Settings(home=folder / kind, catalog=url))
            logging(store, kind, table)
            if kind == "SQLite":
                large_tables(store, table, folder)
        with on_s3() as uri:
            url = urls["PostgreSQL"]
            logging(Store.open(Settings(home=folder / "S3", lake=uri, catalog=url)), "S3+Postgr.", table)
        growth(folder, options.things)
        for kind, url in urls.items():
            rebuilding(folder, url, kind)
        verifying(folder)


if __name__ == "__main__":
    main()
