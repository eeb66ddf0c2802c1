"""What is written for other programs says the same, and runs nothing when a spreadsheet opens it."""

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.ingestion.converting import convert_file
from mlassets.ingestion.errors import SeveralTables
from mlassets.ingestion.exporting import CannotExport, export
from mlassets.ingestion.formats import convert_one
from mlassets.ingestion.options import ReadOptions

TABLE = pa.table(
    {
        "text": ["plain", "NA", "", None, 'a"b\nc,d', "007"],
        "whole": pa.array([1, 2**60, -3, None, 5, 6], pa.int64()),
        "number": [1.5, float("nan"), float("inf"), None, -2.25, 0.0],
        "flag": [True, False, None, True, False, True],
        "day": [dt.date(2024, 1, 2)] * 6,
        "at": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 678)] * 6, pa.timestamp("us")),
        "instant": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 678)] * 6, pa.timestamp("us", "UTC")),
        "price": [Decimal("1.50")] * 6,
        "list": [[1, 2]] * 6,
        "raw": [b"\x00\xff"] * 6,
    }
)


def parquet(folder: Path, table: pa.Table) -> Path:
    path = folder / "given.parquet"
    pq.write_table(table, path)
    return path


def test_a_csv_file_gives_back_what_it_can_say(tmp_path: Path) -> None:
    for suffix in ("csv", "tsv"):
        target = tmp_path / f"out.{suffix}"
        export(parquet(tmp_path, TABLE), target)
        options = ReadOptions(types={"text": "text", "raw": "text"})
        convert_one(target, target.name, tmp_path / "read.parquet", options)
        read = pq.read_table(tmp_path / "read.parquet")
        for name in ("text", "whole", "flag", "day", "at", "instant"):
            assert read[name].to_pylist() == TABLE[name].to_pylist(), name
        assert read["number"].to_pylist()[3:] == [None, -2.25, 0.0]
        assert json.loads(read["list"][0].as_py()) == [1, 2]
        assert read["raw"][0].as_py() == "00FF"


def test_json_lines_and_feather_give_back_types_and_values(tmp_path: Path) -> None:
    given = parquet(tmp_path, TABLE)
    export(given, tmp_path / "out.feather")
    read = feather.read_table(tmp_path / "out.feather")
    # Not a number is not equal to itself.
    assert (read.schema, repr(read.to_pylist())) == (TABLE.schema, repr(TABLE.to_pylist()))
    export(given, tmp_path / "out.jsonl")
    rows = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ]
    assert [row["text"] for row in rows] == TABLE["text"].to_pylist()
    assert [row["whole"] for row in rows] == TABLE["whole"].to_pylist()
    assert [row["number"] for row in rows] == [1.5, None, None, None, -2.25, 0.0]
    assert rows[0]["list"] == [1, 2]


EVIL = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    '=HYPERLINK("http://x")',
    "\uff1d1",
    "=cmd|' /C calc'!A0",
]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_no_cell_of_a_csv_file_starts_a_formula(tmp_path: Path, suffix: str) -> None:
    table = pa.table({"=name": EVIL, "number": list(range(-5, 5)), "plain": ["a=1"] * len(EVIL)})
    export(parquet(tmp_path, table), tmp_path / f"out.{suffix}")
    with (tmp_path / f"out.{suffix}").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t" if suffix == "tsv" else ",")
    assert header == ["'=name", "number", "plain"]
    assert [row[0] for row in rows] == [f"'{text}" for text in EVIL]
    assert [row[1] for row in rows] == [str(number) for number in range(-5, 5)], (
        "a negative number is no formula"
    )
    assert {row[2] for row in rows} == {"a=1"}
    export(parquet(tmp_path, table), tmp_path / f"as-it-is.{suffix}", formulas=True)
    convert_one(tmp_path / f"as-it-is.{suffix}", f"x.{suffix}", tmp_path / "y.parquet")
    assert pq.read_table(tmp_path / "y.parquet")["=name"].to_pylist() == EVIL


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), min_size=1, max_size=8
    )
)
@settings(max_examples=25, deadline=None)
def test_whatever_text_is_exported_no_cell_starts_a_formula(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("out")
    export(parquet(folder, pa.table({"text": texts, "k": [1] * len(texts)})), folder / "out.csv")
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    assert len(rows) == len(texts)
    for (cell, _), text in zip(rows, texts, strict=True):
        assert cell in (text, f"'{text}")
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_file_appears_when_it_is_complete_and_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    given = tmp_path / "in.csv"
    given.write_text("k\n1\n")
    target = tmp_path / "out.parquet"
    target.write_text("mine")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(CannotExport, match="--overwrite"):
        convert_file(given, target, work, ReadOptions())
    assert target.read_text() == "mine"
    with pytest.raises(CannotExport, match=r"ends in \.parquet, .* or \.arrow"):
        convert_file(given, tmp_path / "out.doc", work, ReadOptions())
    convert_file(given, target, work, ReadOptions(), overwrite=True)
    assert pq.read_table(target).to_pylist() == [{"k": 1}]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_of_several_tables_becomes_a_folder_of_files(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.worksheets[0].title = "a b"
    book.worksheets[0].append(["k"])
    book.worksheets[0].append([1])
    second = book.create_sheet("ü=1")
    second.append(["x", "y"])
    second.append([2, "z"])
    book.save(tmp_path / "in.xlsx")
    (tmp_path / "work").mkdir()
    with pytest.raises(SeveralTables):
        convert_file(tmp_path / "in.xlsx", tmp_path / "out.parquet", tmp_path / "work", ReadOptions())
    done = convert_file(tmp_path / "in.xlsx", tmp_path / "out", tmp_path / "work", ReadOptions())
    assert [(one["tables"], one["rows"]) for one in done["tables"]] == [(["a b"], 1), (["ü=1"], 1)]
    assert [pq.read_table(one["path"]).to_pylist() for one in done["tables"]] == [
        [{"k": 1}],
        [{"x": 2, "y": "z"}],
    ]


def test_tables_with_the_same_columns_become_one_file(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    first, second = book.worksheets[0], book.create_sheet("b")
    for sheet, row in ((first, ["k", "v"]), (first, [1, "a"]), (second, ["v", "k"]), (second, ["b", 2.5])):
        sheet.append(row)
    book.save(tmp_path / "in.xlsx")
    (tmp_path / "work").mkdir()
    convert_file(tmp_path / "in.xlsx", tmp_path / "out.parquet", tmp_path / "work", ReadOptions())
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [{"k": 1.0, "v": "a"}, {"k": 2.5, "v": "b"}]
