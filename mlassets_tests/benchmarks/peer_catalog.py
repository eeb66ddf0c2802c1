"""The same questions to MLflow and elliptio, run by an interpreter that has them: `PYTHON peer_catalog.py 2000`.

Neither installs beside mlassets: make an environment of their own (`pip install mlflow elliptio`). One that is not
there is left out and named.
"""

import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ESTIMATORS = ("linear", "forest", "gradient_boosting", "baseline", "neighbours")


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median of several calls."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def told(name: str, what: str, taken: float) -> None:
    print(f"{name:10}  {what:32} {taken:9.2f} ms", flush=True)


def mlflow(things: int, folder: Path) -> None:
    """Runs with two tags, four parameters and four metrics each, in SQLite."""
    import mlflow as peer
    from mlflow.entities import Metric, Param, RunTag

    peer.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = peer.MlflowClient()
    experiment = client.create_experiment("bench", artifact_location=str(folder / "artifacts"))
    chance = random.Random(0)

    def log(number: int) -> None:
        run = client.create_run(experiment).info.run_id
        names = ("log_loss", "rmse", "roc_auc", "seconds")
        metrics = [Metric(name, chance.random(), 0, 0) for name in names]
        values = {
            "depth": number % 16,
            "estimator": ESTIMATORS[number % 5],
            "rate": chance.random(),
            "seed": number,
        }
        params = [Param(name, str(value)) for name, value in values.items()]
        tags = [RunTag("team", f"team{number % 5}"), RunTag("ticket", f"AB-{number // 10}")]
        client.log_batch(run, metrics=metrics, params=params, tags=tags)
        client.set_terminated(run)

    start = time.perf_counter()
    for number in range(things):
        log(number)
    told("MLflow", f"log one of {things:,}", (time.perf_counter() - start) * 1000 / things)

    def search(text: str, **more: Any) -> Any:
        return client.search_runs([experiment], text, **more)

    ticket = f"tags.ticket = 'AB-{things // 30}'"
    told("MLflow", "find by a label that 10 have", milliseconds(lambda: search(ticket), 9))
    top = {"order_by": ["metrics.roc_auc DESC"], "max_results": 10}
    told("MLflow", "top 10 by a metric", milliseconds(lambda: search("", **top), 5))
    frame = milliseconds(lambda: peer.search_runs([experiment], max_results=things), 3)
    told("MLflow", f"frame of {things:,}", frame)


def elliptio(things: int, folder: Path) -> None:
    """Files of one word with a ticket; it has no parameters and no metrics."""
    import elliptio as peer

    handler = peer.get_handler(dirpath=folder)

    def log(number: int) -> None:
        about = peer.ManualMetadata(ticket=f"AB-{number // 10}", project=f"project{number % 53}")
        with handler.create("note.txt", manual_metadata=about) as file:
            file.write_text("hello")

    start = time.perf_counter()
    for number in range(things):
        log(number)
    told("elliptio", f"log one of {things:,}", (time.perf_counter() - start) * 1000 / things)
    ticket = {"ticket": f"AB-{things // 30}"}
    told("elliptio", "find by a label that 10 have", milliseconds(lambda: handler.query(ticket), 9))
    told("elliptio", f"frame of {things:,}", milliseconds(lambda: handler.query(), 3))


def main() -> None:
    """Print what each of the peers takes."""
    logging.disable(logging.WARNING)
    things = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    for peer in (mlflow, elliptio):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            try:
                peer(things, Path(folder))
            except ImportError as missing:
                print(f"{peer.__name__:10}  is not there: {missing}")


if __name__ == "__main__":
    main()
