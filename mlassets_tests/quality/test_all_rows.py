from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlassets.quality.all_rows import DrawRows

ROWS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, None]), st.sampled_from(["x", "y", None]), st.integers(0, 1)),
    min_size=1,
)


def rows_of(found: list[tuple[float | None, str | None, int]], **options: list[str]) -> DrawRows:
    columns = list(zip(*found, strict=True))
    table = pa.table(
        {
            "a": pa.array(columns[0], pa.float64()),
            "b": pa.array(columns[1], pa.string()),
            "y": pa.array(columns[2], pa.int64()),
        }
    )
    return DrawRows(table, target="y", features=["a", "b"], **options)


@given(ROWS)
def test_duplicates_and_conflicts_are_those_that_python_counts(found: list[tuple[float, str, int]]) -> None:
    rows = rows_of(found)
    assert rows.duplicates().value == pytest.approx(1 - len(set(found)) / len(found))
    labels: dict[tuple[object, object], set[int]] = {}
    for a, b, y in found:
        labels.setdefault((a, b), set()).add(y)
    conflicting = sum(n for (a, b, _), n in Counter(found).items() if len(labels[a, b]) > 1)
    assert rows.conflicting_labels().value == pytest.approx(conflicting / len(found))


@given(ROWS)
def test_single_values_and_nulls_are_those_that_python_counts(found: list[tuple[float, str, int]]) -> None:
    rows = rows_of(found)
    known = [{row[i] for row in found if row[i] is not None} for i in (0, 1)]
    assert rows.single_value_columns().value == sum(len(values) < 2 for values in known)
    nulls = [sum(row[i] is None for row in found) / len(found) for i in (0, 1)]
    assert rows.nulls().value == pytest.approx(max(nulls))


def test_keys_and_infinities_are_seen() -> None:
    table = pa.table({"k": [1, 1, 2, 3], "v": [0.5, float("inf"), -4.0, None], "y": [0, 1, 0, 1]})
    rows = DrawRows(table, target="y", features=["v"], key=["k"])
    assert rows.key_duplicates().value == 0.25
    assert rows.non_finite().value == 0.25
