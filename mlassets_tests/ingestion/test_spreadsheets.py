import contextlib
import datetime as dt
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xlwt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.errors import TruncatedFile, UnreadableFile
from mlassets.ingestion.formats import Converted, convert
from mlassets.ingestion.options import ReadOptions

kinds = {
    "int64": st.integers(-(2**53), 2**53),
    "double": st.floats(-1e300, 1e300, allow_subnormal=False).map(
        lambda value: value + 0.5 if value.is_integer() else value
    ),
    "bool": st.booleans(),
    "date32[day]": st.dates(dt.date(1901, 1, 1), dt.date(9999, 12, 31)),
    "string": st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=8).map(
        "~{}".format
    ),
}


def read(folder: Path, content: bytes, name: str, **options: Any) -> Converted:
    source = folder / name
    source.write_bytes(content)
    return convert(source, name, folder, ReadOptions(**options))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["openpyxl", "xlsxwriter"]))
def test_frames_that_pandas_wrote_come_back_with_values_and_types(
    tmp_path: Path, data: st.DataObject, engine: Any
) -> None:
    sheets = {}
    for sheet in ("one", "two"):
        kind = data.draw(st.sampled_from(sorted(kinds)))
        sheets[sheet] = kind, data.draw(st.lists(kinds[kind], min_size=1, max_size=10))
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine=engine) as writer:
        for sheet, (_, values) in sheets.items():
            frame = pd.DataFrame({"k": range(len(values)), "v": values}, dtype=object)
            frame.to_excel(writer, sheet_name=sheet, index=False)
    converted = read(tmp_path, buffer.getvalue(), "a.xlsx")
    assert [one.name for one in converted.tables] == ["one", "two"]
    for one in converted.tables:
        kind, values = sheets[one.name]
        table = pq.read_table(one.path)
        assert str(table["v"].type) == kind or (kind == "double" and str(table["v"].type) == "int64")
        expected = pytest.approx(values, rel=1e-14) if kind == "double" else values
        assert table["v"].to_pylist() == expected


def test_what_was_found_is_told(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in [["Sales", None], [], ["a", "b"], ["x", 1], [None, "#N/A"], [], ["y", 2]]:
        sheet.append(row)
    sheet.merge_cells("A4:A5")
    buffer = io.BytesIO()
    book.save(buffer)
    table = read(tmp_path, buffer.getvalue(), "a.xlsx").tables[0]
    assert table.found == {
        "above": ["Sales"],
        "errors": {"cells": 1, "first": "column b", "what": "#N/A"},
        "merged": 1,
        "blank_rows": 1,
    }
    assert pq.read_table(table.path).to_pylist() == [
        {"a": "x", "b": 1},
        {"a": "x", "b": None},
        {"a": "y", "b": 2},
    ]


def test_ten_thousand_columns_of_which_many_have_one_name(tmp_path: Path) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("S")
    sheet.append([f"c{n % 5000}" for n in range(10_000)])
    sheet.append(list(range(10_000)))
    buffer = io.BytesIO()
    book.save(buffer)
    table = read(tmp_path, buffer.getvalue(), "a.xlsx").tables[0]
    names = table.schema.names
    assert [names[0], names[5000], names[9999]] == ["c0", "c0_2", "c4999_2"]


def test_a_damaged_old_workbook_ends_the_process_that_reads_it_and_no_other(tmp_path: Path) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("S")
    for row in range(20):
        for column, value in enumerate(("a", "b") if row == 0 else (row, f"x{row}")):
            sheet.write(row, column, value)
    buffer = io.BytesIO()
    book.save(buffer)
    content = bytearray(buffer.getvalue())
    # Found by trying: these bytes make calamine ask for more memory for ever.
    for at, value in {1245: 0x9B, 1389: 0xF8, 2124: 0xEC, 2218: 0x17, 4180: 0xEF}.items():
        content[at] = value
    with pytest.raises(TruncatedFile, match="damaged"):
        read(tmp_path, bytes(content), "a.xls")


def test_any_change_to_what_a_workbook_holds_is_read_or_refused(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [["a", "b"], [1, "x"], [2.5, dt.date(2024, 1, 2)]]:
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chance = random.Random(6)
    for _ in range(60):
        name = chance.choice(
            ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml"]
        )
        content = bytearray(members[name])
        at = chance.randrange(len(content))
        content[at : at + chance.randrange(3)] = chance.choice([b"99999999", b"<", b'"', b"XFD1", b"-1", b""])
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as archive:
            for one, kept in members.items():
                archive.writestr(one, bytes(content) if one == name else kept)
        with contextlib.suppress(UnreadableFile):
            assert read(tmp_path, changed.getvalue(), "a.xlsx").tables
