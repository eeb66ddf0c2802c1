"""`mlassets profile` tells people, programs and specs the same; and the page on expectations is true."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.sources import load_source
from mlassets_tests.small_homes import mlassets, store_of
from resources.things import Draft, Partition

PAGE = (Path(__file__).parents[2] / "docs/how-to/expect-of-data.md").read_text(encoding="utf-8")
ODD = "[red]na<b>me"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of one file."""
    folder = tmp_path_factory.mktemp("home")
    pq.write_table(pa.table({"id": range(40), ODD: ["[bold]a", "b"] * 20}), folder / "rows.parquet")
    draft = Draft(
        files={"rows.parquet": folder / "rows.parquet"}, schema=pq.read_schema(folder / "rows.parquet")
    )
    store_of(folder).commit("sources", Partition.source("flights"), draft)
    return folder


def test_a_source_is_profiled_for_people_programs_and_specs(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told = mlassets(home, "profile", "flights", "--html", str(page))
    assert told.exit_code == 0, told.output
    assert "40 rows, 2 columns. Identify a row: id." in told.stdout
    assert "[bold]a" in told.stdout
    assert b"Proposed expectations" in page.read_bytes()
    found = json.loads(mlassets(home, "profile", "flights", "--json").stdout)
    assert (found["rows"], found["keys"]) == (40, [["id"]])
    proposed = tmp_path / "flights.yaml"
    proposed.write_text(mlassets(home, "profile", "flights", "--propose").stdout)
    assert load_source(proposed).expect.columns[ODD].values == ("[bold]a", "b")


def test_a_file_is_profiled_without_a_home(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id;share\n" + "".join(f"{i};0,{i}\n" for i in range(1, 30)))
    found = json.loads(mlassets(tmp_path, "profile", str(file), "--json").stdout)
    assert [(one["name"], one["type"]) for one in found["columns"]] == [
        ("id", "integer"),
        ("share", "number"),
    ]
    assert not (tmp_path / "catalog.db").exists()


def test_what_is_not_there_is_told_in_words(home: Path, tmp_path: Path) -> None:
    assert mlassets(home, "profile", "nosuch").exit_code == 2
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    told = mlassets(home, "profile", str(empty))
    assert told.exit_code == 2
    assert "empty.csv" in told.output


def test_the_page_on_expectations_shows_what_works(tmp_path: Path) -> None:
    (spec,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.S | re.M)
    (tmp_path / "flights.yaml").write_text(spec)
    loaded = load_source(tmp_path / "flights.yaml")
    assert loaded.expect.sources == ("carriers", "bookings")
    assert set(loaded.checks.limits) == {"values_are_valid", "file_drift"}
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    exec(compile(code, "expect-of-data.md", "exec"), {})
