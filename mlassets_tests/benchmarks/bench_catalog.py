"""The catalog of many Things, on SQLite and PostgreSQL: `python -m mlassets_tests.benchmarks.bench_catalog`.

`--things 1000000` says how many; `--databases SQLite` leaves the other one out. The Things are made as rows, without a
lake: what is measured is the catalog. `--peers PYTHON` measures MLflow and elliptio too, with an interpreter that has
them.
"""

import argparse
import csv
import io
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlassets_tests.benchmarks.bench_store import small_draft
from mlassets_tests.servers import PostgresServer
from resources.catalog import ATTRIBUTES, COMPONENTS, EDGES, MANIFESTS, THINGS, typed
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition

STEPS = ("draw_data", "model_ready", "model", "aggregate", "review", "publish")
ESTIMATORS = ("linear", "forest", "gradient_boosting", "baseline", "neighbours")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 20_000
REPEATS = 15
TABLES = (THINGS, MANIFESTS, EDGES, ATTRIBUTES, COMPONENTS)

MANIFEST = (
    '{{"schema": 1, "id": "{id}", "step": "{step}", "partition": {{"project": "{project}", "segment": "{segment}"}}, '
    '"created_at": "{at}", "run_id": null, "code_version": "1", "spec_hash": "{spec}", "data_version": "{hash}", '
    '"parameters": {parameters}, "metrics": {metrics}, "labels": {labels}, "based_on": [{based_on}], '
    '"components": [{{"kind": "dataset", "name": "data.parquet", "path": "things/{id}/data.parquet", "size": {size}, '
    '"hash": "{hash}", "rows": {rows}}}], "dataset_schema": null, "provenance": {{"user": "{user}", "host": "bench", '
    '"machine": "x86_64", "cpus": 2, "python": "3.11", "pid": {pid}, "argv": ["bench"], "git": null, '
    '"environment": "none", "started_at": "{at}", "ended_at": "{at}", "peak_memory_bytes": {peak}}}}}'
)


def made(things: int) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    """Yield the rows of Things, by table, in batches: 10 labels, parameters and metrics each, and 1 or 2 edges."""
    chance = random.Random(0)
    ids: list[str] = []
    for start in range(0, things, BATCH):
        batch: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in TABLES}
        for number in range(start, min(things, start + BATCH)):
            _add(batch, number, ids, chance)
        yield batch
    yield {"attributes": [row for origin in range(20) for row in _origin(origin)]}


def _origin(number: int) -> Iterator[tuple[Any, ...]]:
    for name, value in (("argv", "bench"), ("cpus", 2), ("pid", number), ("python", "3.11")):
        yield (f"{number:032x}", "origin", name, *typed(value))


def _add(batch: dict[str, list[tuple[Any, ...]]], number: int, ids: list[str], chance: random.Random) -> None:
    at = BEGIN + timedelta(seconds=30 * number)
    bits = f"{chance.getrandbits(74):019x}"
    thing_id = f"{int(at.timestamp() * 1000):012x}"
    thing_id = f"{thing_id[:8]}-{thing_id[8:]}-7{bits[:3]}-8{bits[3:6]}-{bits[6:18]}"
    step, project, segment = STEPS[number % 6], f"project{number % 53}", f"segment{number % 19}"
    user, written, hash_of = f"user{number % 20}", at.isoformat(timespec="microseconds"), f"{number:064x}"
    size, rows, peak = 1000 + number, number % 10_000, float(1 << 27)
    labels = {"team": f"team{number % 5}", "ticket": f"AB-{number // 10}"}
    metrics = {
        "log_loss": chance.random(),
        "rmse": chance.random() * 100,
        "roc_auc": chance.random(),
        "seconds": float(number % 600),
    }
    parameters = {
        "depth": number % 16,
        "estimator": ESTIMATORS[number % 5],
        "rate": chance.random(),
        "seed": number,
    }
    based_on = sorted({ids[-1], ids[chance.randrange(len(ids))]}) if ids else []
    ids.append(thing_id)
    key = f"{project}|{segment}"
    own = (thing_id, step, key, project, segment, None, None, user, "bench", written, hash_of, "1")
    batch["things"].append((*own, f"{number % 50:032x}", None, f"{number % 20:032x}", size, rows, None, None))
    text = MANIFEST.format(
        **{"id": thing_id, "step": step, "project": project, "segment": segment, "at": written, "user": user},
        **{"spec": f"{number % 50:032x}", "hash": hash_of, "size": size, "rows": rows, "pid": number % 20},
        **{"parameters": _json(parameters), "metrics": _json(metrics), "labels": _json(labels), "peak": peak},
        based_on=", ".join(f'"{one}"' for one in based_on),
    )
    batch["manifests"].append((thing_id, text))
    batch["edges"] += [(thing_id, other) for other in based_on]
    for kind, values in (("label", labels), ("metric", metrics), ("parameter", parameters)):
        batch["attributes"] += [(thing_id, kind, name, *typed(value)) for name, value in values.items()]
    about = {"ended_at": at, "peak_memory_bytes": peak, "started_at": at}
    batch["attributes"] += [(thing_id, "provenance", name, *typed(value)) for name, value in about.items()]
    batch["components"].append(
        (thing_id, "dataset", "data.parquet", f"things/{thing_id}/data.parquet", size, hash_of, rows, None)
    )


def _json(values: dict[str, Any]) -> str:
    parts = (
        f'"{name}": "{value}"' if isinstance(value, str) else f'"{name}": {value}'
        for name, value in values.items()
    )
    return "{" + ", ".join(parts) + "}"


def fill(store: Store, things: int) -> None:
    """Put Things into an empty catalog as fast as the database takes them: the indexes are made afterwards."""
    engine = store.catalog._database._engine
    connection = engine.raw_connection()
    cursor = connection.cursor()
    sqlite = engine.dialect.name == "sqlite"
    if sqlite:
        cursor.execute("BEGIN")
    else:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET maintenance_work_mem = '1GB'")
    listing = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if sqlite
        else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%pkey' "
        "AND tablename <> 'alembic_version'"
    )
    cursor.execute(listing)
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    for batch in made(things):
        for name, rows in batch.items():
            if sqlite:
                cursor.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            elif rows:
                text = io.StringIO()
                csv.writer(text).writerows(rows)
                text.seek(0)
                cursor.copy_expert(f"COPY {name} FROM STDIN WITH (FORMAT csv)", text)
    for _, sql in indexes:
        cursor.execute(sql)
    if sqlite:
        cursor.execute("COMMIT")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        connection.commit()
        connection.driver_connection.autocommit = True
        cursor.execute("VACUUM ANALYZE")
        connection.driver_connection.autocommit = False
    connection.close()


def bytes_of(store: Store) -> int:
    """Return how large a catalog is."""
    url = store.catalog._database.url
    if url.get_backend_name() == "sqlite":
        return Path(str(url.database)).stat().st_size
    size = sa.select(sa.func.pg_database_size(sa.func.current_database()))
    return int(store.catalog.read(lambda connection: connection.execute(size).scalar_one()))


def milliseconds(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float, float]:
    """Return what the first call takes, the median of the others, and the median of their time on this process's core.

    Where other programs have the cores, the last says what SQLite needs; what PostgreSQL needs is not in it.
    """
    taken, on_core = [], []
    for _ in range(repeats):
        start, core = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - start) * 1000)
        on_core.append((time.process_time() - core) * 1000)
    return taken[0], statistics.median(taken[1:]), statistics.median(on_core[1:])


def finding(name: str, store: Store, things: int) -> None:
    """Print what it takes to find, beside the budgets of 10,000 and 1,000,000 Things."""
    few, large = things <= 10_000, things > 10_000
    find, top = ("3" if few else "20"), ("5" if few else "20")
    ticket = f"labels.ticket=AB-{things // 30}"
    asked: Sequence[tuple[str, Callable[[], Any], str]] = (
        ("find by a label that 10 have", lambda: store.find(ticket).things(), find),
        (
            "find by label, metric and step",
            lambda: store.find(f"{ticket} metrics.roc_auc>0.1 step=model").things(),
            find,
        ),
        (
            "find by two that many have",
            lambda: store.find("metrics.roc_auc>0.7 step=model", limit=10).things(),
            find,
        ),
        ("find by one in 10,000, ten", lambda: store.find("metrics.roc_auc>0.9999", limit=10).things(), find),
        ("find by an older time, ten", lambda: store.find(_old(things), limit=10).things(), find),
        (
            "find by user and not a team",
            lambda: store.find("user=user3 not labels.team=team1", limit=10).things(),
            find,
        ),
        ("find by provenance, ten", lambda: store.find("provenance.pid=7", limit=10).things(), find),
        ("find what nothing matches", lambda: store.find("labels.ticket=nosuch step=model").things(), find),
        ("find by a text and two, none", lambda: store.find(_none(), limit=10).things(), find),
        ("top 10 by a metric", lambda: store.find(sort="-metrics.roc_auc", limit=10).things(), top),
        (
            "top 10 of one step",
            lambda: store.find("step=model", sort="-metrics.roc_auc", limit=10).things(),
            top,
        ),
        ("browse a page of 50", lambda: store.browse(limit=50).things(), find),
        ("browse page 100", lambda: store.browse(limit=50, offset=min(things, 5000) - 50).things(), find),
        ("count by a label", lambda: store.find(ticket).count(), find),
        ("count all", lambda: store.browse().count(), "none"),
        ("count a metric's upper third", lambda: store.find("metrics.roc_auc>0.7").count(), "none"),
        ("frame of 10,000", lambda: store.browse(limit=10_000).to_arrow(), "100"),
        ("get by short id", lambda: store.get(_short_id(store)), find),
    )
    for what, work, budget in asked:
        first, median, core = milliseconds(
            work, 5 if "frame" in what or (large and "count" in what) else REPEATS
        )
        print(
            f"{name:10}  {what:32} {median:9.2f} ms   on the core {core:8.2f}   first {first:9.2f}   (budget {budget})",
            flush=True,
        )


_shorts: dict[int, str] = {}


def _short_id(store: Store) -> str:
    if id(store) not in _shorts:
        _shorts[id(store)] = str(store.browse(limit=1, offset=77).ids()[0])[-12:-4]
    return _shorts[id(store)]


def _old(things: int) -> dict[str, Any]:
    return {"created_at": {"$lt": BEGIN + timedelta(seconds=30 * (things // 100))}}


def _none() -> str:
    # Each of the two holds for a fifth, and never both.
    return "step=model parameters.estimator=forest labels.team=team2"


def logging(name: str, store: Store, things: int) -> None:
    """Print what it takes to log into a catalog that is full."""
    one = Partition.segment("bench", "all")

    def log(number: int) -> None:
        store.commit("small", one, small_draft(number))

    log(0)
    taken = []
    for number in range(100):
        start = time.perf_counter()
        log(number)
        taken.append((time.perf_counter() - start) * 1000)
    print(
        f"{name:10}  log one among {things:<18,} {statistics.median(taken):9.2f} ms   (budget 4)", flush=True
    )
    many = [("bulk", one, small_draft(number)) for number in range(2000)]
    start = time.perf_counter()
    store.commit_all(many)
    each = (time.perf_counter() - start) * 1000 / len(many)
    print(f"{name:10}  log 2,000 at once {'':14} {each:9.3f} ms each (budget 0.2)", flush=True)


@contextmanager
def stores(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Store]]:
    """An empty store on each of the databases."""
    server = PostgresServer() if "PostgreSQL" in names else None
    try:
        urls = {"SQLite": "", "PostgreSQL": server.url(server.make_database()) if server else ""}
        chosen = {name: {"catalog": urls[name]} if urls[name] else {} for name in names}
        yield {name: Store.open(Settings(home=folder / name, **chosen[name])) for name in names}  # type: ignore[arg-type]
    finally:
        if server:
            server.stop()


def main() -> None:
    """Print what the catalog of many Things takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=10_000)
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"])
    parser.add_argument(
        "--peers", help="A Python interpreter that has MLflow and elliptio; see peer_catalog."
    )
    parser.add_argument("--peer-things", type=int, default=2_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder,
        stores(Path(folder), options.databases) as opened,
    ):
        for name, store in opened.items():
            start = time.perf_counter()
            fill(store, options.things)
            print(
                f"{name:10}  {options.things:,} Things made in {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            each = bytes_of(store) / options.things
            print(f"{name:10}  {each:,.0f} bytes of the catalog per Thing", flush=True)
            finding(name, store, options.things)
            logging(name, store, options.things)
            store.catalog.close()
    if options.peers:
        peer = [options.peers, "-W", "ignore", str(Path(__file__).with_name("peer_catalog.py"))]
        subprocess.run([*peer, str(options.peer_things)], check=True)


if __name__ == "__main__":
    main()
