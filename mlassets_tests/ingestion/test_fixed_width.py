from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.errors import EmptyFile, RaggedRows, UnreadableFile
from mlassets_tests.ingestion.test_delimited import blocks_of, converted, refused, rows


def test_values_are_cut_at_the_widths_that_are_given_whatever_the_suffix(tmp_path: Path) -> None:
    content = "id name  born\n07Zoë   2001-02-03\n12\n  NA    2001-02-04\n"
    for name in ("l.txt", "l.fwf"):
        assert rows(tmp_path, content, name, widths=(2, 6, 10), skip_rows=1, header=False) == [
            {"column_1": "07", "column_2": "Zoë", "column_3": date(2001, 2, 3)},
            {"column_1": "12", "column_2": None, "column_3": None},
            {"column_1": None, "column_2": None, "column_3": date(2001, 2, 4)},
        ]


def test_widths_are_those_between_blanks_that_all_lines_have(tmp_path: Path) -> None:
    result, table = converted(tmp_path, "id   name   n\n1    anna   3.5\n22   bo     4\n", "l.fwf")
    assert table.to_pydict() == {"id": [1, 22], "name": ["anna", "bo"], "n": [3.5, 4.0]}
    assert result.found["widths"] == [5, 7, 3]


def test_a_line_that_is_too_long_is_refused_or_kept_apart(tmp_path: Path) -> None:
    content = "1anna 3\n\n2bo   4 zzz\r\n3cy   5\n"
    given_options: dict[str, Any] = {"widths": (1, 5, 1), "header": False}
    error = refused(tmp_path, content, "l.txt", **given_options)
    assert isinstance(error, RaggedRows)
    assert error.line == 3
    assert "11 characters" in error.reason
    result, table = converted(tmp_path, content, "l.txt", on_bad_rows="skip", **given_options)
    assert table["column_3"].to_pylist() == [3, 5]
    assert result.rejects is not None
    assert '"line": 3' in result.rejects.read_text()


def test_other_encodings_are_found_and_their_characters_counted(tmp_path: Path) -> None:
    content = "é1ü2\nà3ö4\n"
    for encoding in ("utf-8", "latin-1", "utf-16"):
        result = rows(tmp_path, content.encode(encoding), "l.txt", widths=(1, 1, 1, 1), header=False)
        assert result[1] == {"column_1": "à", "column_2": 3, "column_3": "ö", "column_4": 4}


@pytest.mark.parametrize("content", ["", "\n \n", "id  n\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    assert isinstance(refused(tmp_path, content, "l.fwf"), EmptyFile)


def test_widths_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "widths" in refused(tmp_path, "ab\n", "l.fwf", widths=(1, 0)).reason


cell = st.integers(-(10**6), 10**6) | st.none()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cell, st.text("aé 漢", max_size=5), st.dates() | st.none()), min_size=1, max_size=9),
    st.integers(24, 90),
)
def test_what_is_written_by_width_comes_back_however_it_is_cut_into_blocks(
    tmp_path: Path, body: list[tuple[Any, ...]], size: int
) -> None:
    lines = [f"{'' if i is None else i:>8}{s:<5}{'' if d is None else d.isoformat():<10}" for i, s, d in body]
    wanted = [
        (i, s.strip() or None, d) for i, s, d in body if not (i is None and not s.strip() and d is None)
    ]
    content = "\n".join(["     idxnamexdate      ", *lines])
    with blocks_of(size):
        try:
            _, table = converted(tmp_path, content, "l.fwf", widths=(8, 5, 10), header=True)
        except UnreadableFile:
            assert not wanted
            return
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == wanted
