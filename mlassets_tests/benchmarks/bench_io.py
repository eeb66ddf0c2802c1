"""The IO manager inside of Dagster runs, beside pyarrow alone and the stock IO managers.

`python -m mlassets_tests.benchmarks.bench_io`. Every figure comes from a fresh child process. Two stock managers do
not fit the versions that mlassets needs (pandas 3, polars 2); they run from an environment of their own, which is made
in `build/peers` the first time.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PEERS = ROOT / "build" / "peers"
PEER_PACKAGES = ("dagster>=1.13,<1.14", "dagster-duckdb-pandas", "dagster-polars", "pandas<3", "polars<2")
SIZES = {1_000_000: 5, 1_000: 30}
ROW_GROUP = 1 << 20

# Manager, form of the frame, whether it runs from the peers' environment.
FLOORS = {"arrow": "pyarrow", "pandas": "pyarrow"}
CASES = (
    ("pyarrow", "arrow", False),
    ("pyarrow and fsync", "arrow", False),
    ("mlassets", "arrow", False),
    ("pyarrow", "pandas", False),
    ("mlassets", "pandas", False),
    ("pickle", "pandas", False),
    ("duckdb", "pandas", True),
    ("polars", "polars", True),
)


def child(manager: str, form: str, action: str, source: str, folder: str, repeats: str, columns: str) -> None:
    """Write or read a frame some times and print the seconds of each, the peak (MB) and the bytes of the first."""
    import pyarrow as pa

    with pa.ipc.open_file(source) as file:
        table = file.read_all()
    convert = {"arrow": lambda one: one, "pandas": lambda one: one.to_pandas(), "polars": _to_polars}[form]
    small, frame = convert(table.slice(0, 10)), convert(table)
    if action == "read":
        frame = None
    del table
    work = _plain if manager.startswith("pyarrow") else _in_dagster
    write, read = work(manager, form, Path(folder), columns.split(",") if columns else None)
    if action == "write":
        write("warm", small)
    read("warm")
    Path("/proc/self/clear_refs").write_text("5")
    before, taken, seconds = _memory("VmRSS"), _bytes_read(), []
    for number in range(int(repeats)):
        os.sync()  # what was written before is not to slow down what is written now
        seconds.append(write(f"p{number}", frame) if action == "write" else read("p0"))
        if number == 0:
            peak, size = _memory("VmHWM") - before, _bytes_read() - taken
    print(json.dumps([seconds, peak, size]))


def _to_polars(table: Any) -> Any:
    import polars as pl

    return pl.from_arrow(table)


def _memory(name: str) -> float:
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) / 1024


def _bytes_read() -> int:
    (line,) = (one for one in Path("/proc/self/io").read_text().splitlines() if one.startswith("rchar"))
    return int(line.split()[1])


Write = Callable[[str, Any], float]
Read = Callable[[str], float]


def _plain(manager: str, form: str, folder: Path, columns: list[str] | None) -> tuple[Write, Read]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(name: str, frame: Any) -> float:
        start = time.perf_counter()
        table = pa.Table.from_pandas(frame) if form == "pandas" else frame
        with (folder / name).open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
            if "fsync" in manager:
                file.flush()
                os.fsync(file.fileno())
        return time.perf_counter() - start

    def read(name: str) -> float:
        start = time.perf_counter()
        table = pq.read_table(folder / name, columns=columns)
        held = table.to_pandas() if form == "pandas" else table
        return time.perf_counter() - start if held is not None else 0.0

    return write, read


def _in_dagster(manager: str, form: str, folder: Path, columns: list[str] | None) -> tuple[Write, Read]:
    """Return what materializes an asset, or one that reads it, and takes the time within the IO manager alone."""
    import dagster as dg

    handed: list[Any] = []
    taken: list[float] = []
    # A frame of its own each time, as no manager is to find what it has written already. The DuckDB manager can only
    # do so by a column of the frame; it replaces its table.
    keys = dg.StaticPartitionsDefinition(["warm", *(f"p{number}" for number in range(100))])
    partitions = None if manager == "duckdb" else keys
    wanted = {"arrow": _arrow, "pandas": _pandas, "polars": _polars}[form]()

    def body(context: dg.AssetExecutionContext, made) -> None:  # type: ignore[no-untyped-def]
        assert len(made)

    body.__annotations__["made"] = wanted
    made = dg.asset(name="made", partitions_def=partitions, io_manager_key="measured")(lambda: handed[-1])
    declared = {"made": dg.AssetIn(metadata={"columns": columns} if columns else {})}
    reader = dg.asset(name="reader", partitions_def=partitions, ins=declared)(body)
    resources = {"measured": _timed(_manager(manager), taken)(**_options(manager, folder))}
    instance = dg.DagsterInstance.ephemeral()

    def run(asset: Any, name: str) -> float:
        dg.materialize(
            [made, reader],
            selection=[asset],
            partition_key=name if partitions else None,
            instance=instance,
            resources=resources,
        )
        return taken[-1]

    def write(name: str, frame: Any) -> float:
        handed[:] = [frame]
        return run(made, name)

    return write, lambda name: run(reader, name)


def _timed(manager: Any, taken: list[float]) -> Any:
    """Return the IO manager's class, or its factory, so that the time of each call is noted."""

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(self: Any, *arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(self, *arguments)
            finally:
                taken.append(time.perf_counter() - start)

        return measured

    if "create_io_manager" in dir(manager) and not hasattr(manager, "handle_output"):

        def create(self: Any, context: Any) -> Any:
            inner = super(measured_class, self).create_io_manager(context)
            kind = type(inner)
            inner.__class__ = type(
                kind.__name__,
                (kind,),
                {name: timed(getattr(kind, name)) for name in ("handle_output", "load_input")},
            )
            return inner

        measured_class = type(manager.__name__, (manager,), {"create_io_manager": create})
        return measured_class
    members = {name: timed(getattr(manager, name)) for name in ("handle_output", "load_input")}
    return type(manager.__name__, (manager,), members)


def _manager(name: str) -> Any:
    if name == "pickle":
        from dagster import FilesystemIOManager

        return FilesystemIOManager
    if name == "duckdb":
        from dagster_duckdb_pandas import DuckDBPandasIOManager

        return DuckDBPandasIOManager
    if name == "polars":
        from dagster_polars import PolarsParquetIOManager

        return PolarsParquetIOManager
    from resources.io_managers import ThingIOManager

    return ThingIOManager


def _options(name: str, folder: Path) -> dict[str, str]:
    if name == "duckdb":
        return {"database": str(folder / "peer.duckdb"), "schema": "public"}
    return {"home" if name == "mlassets" else "base_dir": str(folder)}


def _arrow() -> Any:
    import pyarrow as pa

    return pa.Table


def _pandas() -> Any:
    import pandas as pd

    return pd.DataFrame


def _polars() -> Any:
    import polars as pl

    return pl.DataFrame


class _Failed(Exception):
    pass


def measured(
    case: tuple[str, str, bool], action: str, source: Path, folder: Path, repeats: int, columns: str = ""
) -> tuple[float, float, int]:
    """Return the median seconds, the peak memory (MB) and the bytes read of a case, from a process of its own."""
    manager, form, peer = case
    python = PEERS / "bin" / "python" if peer else Path(sys.executable)
    # As a file and not as a module: the peers' environment has nothing of ours.
    command = [str(python), "-W", "ignore", str(Path(__file__)), "--child", manager, form, action]
    command += [str(source), str(folder), str(repeats), columns]
    environment = {**os.environ, "PYTHONPATH": "" if peer else str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise _Failed((done.stderr.strip().splitlines() or ["no output"])[-1][:150])
    seconds, peak, size = json.loads(done.stdout.splitlines()[-1])
    return statistics.median(seconds), peak, size


def make_peers() -> str | None:
    """Make the environment of the peers if it is not there; return why it could not be made."""
    if (PEERS / ".complete").exists():
        return None
    for command in (
        [sys.executable, "-m", "venv", str(PEERS)],
        [str(PEERS / "bin/python"), "-m", "pip", "install", "--quiet", *PEER_PACKAGES],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no output"])[-1]
    (PEERS / ".complete").touch()
    return None


def compare(rows: int, repeats: int, source: Path, folder: Path, peers: str | None) -> None:
    """Print what every case takes to write and to read, and by how much more than pyarrow alone."""
    print(f"{rows:,} x 20: manager, frame        write s   ratio    MB  ratio    read s   ratio    MB  ratio")
    floors: dict[str, list[float]] = {}
    for case in CASES:
        manager, form, peer = case
        title = f"  {manager}, {form}"
        if peer and peers:
            print(f"{title:32} not measured: {peers}")
            continue
        place = folder / f"{manager}-{form}-{rows}".replace(" ", "-")
        place.mkdir()
        try:
            write, read = (
                measured(case, action, source, place, count)
                for action, count in (("write", repeats), ("read", repeats))
            )
        except _Failed as error:
            print(f"{title:32} not measured: {error}")
            continue
        figures = [write[0], write[1], read[0], read[1]]
        floor = floors.setdefault(form if form in FLOORS else "arrow", figures)
        ratios = [ours / max(least, 1e-9) for ours, least in zip(figures, floor, strict=True)]
        cells = [
            f"{figures[0]:9.4f} {ratios[0]:7.2f} {figures[1]:5.0f} {ratios[1]:6.2f}",
            f"{figures[2]:9.4f} {ratios[2]:7.2f} {figures[3]:5.0f} {ratios[3]:6.2f}",
        ]
        print(f"{title:32}{' '.join(cells)}", flush=True)


def one_column(source: Path, folder: Path) -> None:
    """Print how many bytes are read for one column of twenty, beside those of all."""
    ours = ("mlassets", "arrow", False)
    place = folder / "columns"
    place.mkdir()
    measured(ours, "write", source, place, 1)
    every, one = (measured(ours, "read", source, place, 1, columns)[2] for columns in ("", "float0"))
    print(
        f"one of twenty columns, local disk: {one / 1e6:.2f} of {every / 1e6:.2f} MB, {one / every:.3f} (0.2)"
    )


def one_column_on_s3(source: Path, folder: Path) -> None:
    """Print the same for a lake on S3, counted on the wire."""
    sys.path.insert(0, str(ROOT))
    from mlassets_tests.servers import Keys, S3Server

    ours = ("mlassets", "arrow", False)
    place = folder / "columns-s3"
    place.mkdir()
    server = S3Server()
    try:
        with counting(server.port) as (port, counted):
            os.environ |= Keys().environment(f"http://127.0.0.1:{port}")
            os.environ["MLASSETS_LAKE"] = f"s3://{server.make_bucket()}/lake"
            measured(ours, "write", source, place, 1)
            sizes = []
            for columns in ("", "float0"):
                before = counted[0]
                measured(ours, "read", source, place, 1, columns)
                sizes.append(counted[0] - before)
    finally:
        os.environ.pop("MLASSETS_LAKE", None)
        server.stop()
    every, one = sizes
    print(
        f"one of twenty columns, S3:         {one / 1e6:.2f} of {every / 1e6:.2f} MB, {one / every:.3f} (0.2)"
    )


@contextlib.contextmanager
def counting(port: int) -> Iterator[tuple[int, list[int]]]:
    """Listen on a port of its own, pass everything on to `port`, and count the bytes that come back."""
    counted = [0]

    def pump(source: socket.socket, sink: socket.socket, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if back:
                    counted[0] += len(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for source, sink, back in ((near, far, False), (far, near, True)):
                    threading.Thread(
                        target=pump, args=(source, sink), kwargs={"back": back}, daemon=True
                    ).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], counted


def main() -> None:
    """Print the comparison with pyarrow and the stock managers, then the bytes that one column takes."""
    import pyarrow as pa

    from mlassets_tests.benchmarks.bench_store import mixed_table

    peers = make_peers()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        folder = Path(name)
        for rows, repeats in SIZES.items():
            source = folder / f"{rows}.arrow"
            table = mixed_table(rows)
            with pa.ipc.new_file(source, table.schema) as file:
                file.write_table(table)
            compare(rows, repeats, source, folder, peers)
        source = folder / f"{max(SIZES)}.arrow"
        one_column(source, folder)
        one_column_on_s3(source, folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
