"""Lineage, SQL over the catalog, the plan of a removal: `python -m mlassets_tests.benchmarks.bench_keeping`.

`--things 1000000` says how many; `--databases SQLite` leaves the other one out. The graph has 25 layers, as a project's
history has that is based on its own past: each Thing is based on one of the layer before, every tenth on two.
"""

import argparse
import io
import os
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from mlassets_tests.benchmarks.bench_catalog import fill, milliseconds, stores
from resources.catalog import COMPONENTS, EDGES, THINGS
from resources.store import Store

LAYERS = 25
RETIRED_AT = "2026-02-01T00:00:00.000000+00:00"


def lineage(name: str, store: Store) -> None:
    """Print what the lineage of one Thing takes, in a graph of as many edges as there are Things."""
    ids = _layered(store)
    layer = len(ids) // LAYERS
    middle = layer // 20 * 10
    for what, start, options in (
        ("upstream, depth 20", ids[-layer + middle], {"downstream": False, "depth": 20}),
        ("downstream, depth 20", ids[middle], {"upstream": False, "depth": 20}),
        ("all of it, both ways", ids[layer * 12 + middle], {}),
    ):
        size = len(store.lineage(start, **options).nodes)
        _, median, core = milliseconds(partial(store.lineage, start, **options))
        print(
            f"{name:10}  lineage {what:22} {median:9.2f} ms   core {core:6.2f}, {size} Things (budget 50)",
            flush=True,
        )


def _layered(store: Store) -> list[str]:
    """Lay the edges of a catalog anew, in layers, and return the ids, layer by layer."""
    engine = store.catalog._database._engine
    with engine.begin() as connection:
        ids = list(connection.scalars(sa.select(THINGS.c.id).order_by(THINGS.c.id)))
        connection.execute(sa.delete(EDGES))
    layer = len(ids) // LAYERS
    rows = []
    for number in range(layer, layer * LAYERS):
        rows.append((ids[number], ids[number - layer]))
        if number % 10 == 0:
            rows.append((ids[number], ids[number - layer + 1]))
    raw = engine.raw_connection()
    cursor = raw.cursor()
    if engine.dialect.name == "sqlite":
        cursor.execute("BEGIN")
        cursor.executemany("INSERT INTO edges VALUES (?, ?)", rows)
        cursor.execute("COMMIT")
    else:
        cursor.copy_expert(
            "COPY edges FROM STDIN", io.StringIO("".join(f"{one}\t{two}\n" for one, two in rows))
        )
        raw.commit()
        raw.driver_connection.autocommit = True
        cursor.execute("VACUUM ANALYZE edges")
        raw.driver_connection.autocommit = False
    raw.close()
    return ids[: layer * LAYERS]


def removal(name: str, store: Store, things: int) -> None:
    """Print what the plan of a removal takes, with half of all Things retired, and a tenth sharing their file."""
    with store.catalog._database._engine.begin() as connection:
        if store.catalog._database.sqlite is False:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        half = THINGS.c.step.in_(("draw_data", "model_ready", "model"))
        connection.execute(sa.update(THINGS).where(half).values(retired_at=RETIRED_AT))
        shared = COMPONENTS.c.rows % 10 == 3
        values = {"path": "things/shared/data.parquet", "hash": "0" * 64}
        connection.execute(sa.update(COMPONENTS).where(shared, COMPONENTS.c.rows < 20).values(**values))
    start, core = time.perf_counter(), time.process_time()
    plan = store.removable(timedelta(days=30))
    taken, core = time.perf_counter() - start, time.process_time() - core
    counts = f"{len(plan.removals):,} of {things:,} go, {sum(plan.kept.values()):,} stay"
    print(
        f"{name:10}  plan of a removal {taken:17.2f} s    core {core:6.2f}, {counts} (budget 10)", flush=True
    )


def views(name: str, store: Store) -> None:
    """Print what SQL over the catalog's own tables takes."""
    for query in (
        "SELECT step, count(*) FROM things GROUP BY ALL",
        "SELECT name, avg(value) FROM metrics GROUP BY ALL",
    ):
        start = time.perf_counter()
        store.sql(query)
        print(f"{name:10}  {query:50} {time.perf_counter() - start:6.2f} s", flush=True)


def main() -> None:
    """Print what keeping many Things takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=10_000)
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder,
        stores(Path(folder), options.databases) as opened,
    ):
        for name, store in opened.items():
            fill(store, options.things)
            lineage(name, store)
            views(name, store)
            removal(name, store, options.things)
            store.catalog.close()


if __name__ == "__main__":
    main()
