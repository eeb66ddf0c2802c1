import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion import json_records
from mlassets.ingestion.errors import BadRow
from mlassets.ingestion.formats import Converted, convert
from mlassets.ingestion.options import ReadOptions


def read(
    folder: Path, content: bytes | str, name: str = "a.jsonl", **options: Any
) -> tuple[Converted, pa.Table]:
    source = folder / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    converted = convert(source, name, folder, ReadOptions(**options))
    return converted, pq.read_table(converted.tables[0].path)


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8).map("~{}".format)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries({"k": st.integers(0, 9)}, optional={"v": values}), min_size=1, max_size=12
    ),
    st.integers(20, 200),
    st.sampled_from(["a.jsonl", "a.json"]),
)
def test_records_mean_the_same_however_they_are_cut_and_whoever_reads_them(
    tmp_path: Path, records: list[dict[str, Any]], size: int, name: str
) -> None:
    content = lines(records) if name == "a.jsonl" else json.dumps(records, indent=1, ensure_ascii=False)
    _, whole = read(tmp_path, content, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_FIRST", size)
        patch.setattr(json_records, "_BLOCK", size)
        _, pieces = read(tmp_path, content, name)
        patch.setattr(json_records, "_by_arrow", lambda *_: None)
        _, slowly = read(tmp_path, content, name)
    assert pieces.equals(whole)
    assert slowly.equals(whole)
    assert whole["k"].to_pylist() == [record["k"] for record in records]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_frames_that_pandas_wrote_come_back_with_values_and_types(
    tmp_path: Path, data: st.DataObject
) -> None:
    kinds = {
        "int64": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "bool": st.booleans(),
        "string": texts,
    }
    kind = data.draw(st.sampled_from(sorted(kinds)))
    column = data.draw(st.lists(kinds[kind], min_size=1, max_size=20))
    frame = pd.DataFrame({"k": range(len(column)), "v": column})
    frame.to_json(tmp_path / "written", orient="records", lines=True, double_precision=15)
    _, table = read(tmp_path, (tmp_path / "written").read_bytes())
    if kind == "double":
        # pandas writes 15 digits, and whole numbers as such.
        assert table["v"].cast(pa.float64()).to_pylist() == pytest.approx(column, rel=1e-13, abs=1e-14)
    else:
        assert table["v"].to_pylist() == column
        assert str(table["v"].type) == kind


@pytest.mark.parametrize("late", ['"x"', "2.5", "9223372036854775808", "null", '{"b":1}', "[1]"])
def test_a_type_that_changes_far_down_holds_for_all_rows(tmp_path: Path, late: str) -> None:
    rows = 150_000
    _, table = read(tmp_path, '{"a":1}\n' * rows + f'{{"a":{late}}}\n' + '{"a":7}\n')
    read_ = table["a"].to_pylist()
    expected: dict[str, list[Any]] = {
        '"x"': ["1", "x", "7"],
        "2.5": [1.0, 2.5, 7.0],
        "9223372036854775808": ["1", "9223372036854775808", "7"],
        "null": [1, None, 7],
        '{"b":1}': ["1", '{"b":1}', "7"],
        "[1]": ["1", "[1]", "7"],
    }
    assert [read_[0], *read_[-2:]] == expected[late]
    assert len(read_) == rows + 2


def test_a_record_longer_than_a_block_is_read(tmp_path: Path) -> None:
    _, table = read(tmp_path, lines([{"a": "x" * 3_000_000}, {"a": "y"}]))
    assert [len(value) for value in table["a"].to_pylist()] == [3_000_000, 1]


def test_rejected_rows_are_kept_with_their_lines_also_when_the_file_is_read_twice(tmp_path: Path) -> None:
    content = '{"a":1}\n{"a":}\n' + '{"a":1}\n' * 60_000 + '{"a":"x"}\n{"a"\n'
    converted, table = read(tmp_path, content, on_bad_rows="skip")
    rejects = converted.tables[0].rejects
    assert rejects is not None
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(row["line"], row["row"]) for row in kept] == [(2, '{"a":}'), (60_004, '{"a"')]
    assert table.num_rows == 60_002


def test_a_wrong_record_of_a_document_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match="line 5"):
        read(tmp_path, '[\n{"a":1},\n{\n"a":2},\n{"a":x}\n]', "a.json")


def test_what_became_of_columns_is_told(tmp_path: Path) -> None:
    converted, _ = read(tmp_path, '{"d":[{"a":1,"j":{}},{"a":"x","A":2}],"n":5}', "a.json")
    assert converted.tables[0].found == {
        "records": "d",
        "beside": ["n"],
        "mixed": ["a"],
        "json": ["j"],
        "named": {"A_2": "A"},
    }
