"""How the rows of two datasets differ, against an oracle in Python."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.row_changes import RowChanges, compare_rows, same_value

VALUES = st.sampled_from([None, 0.0, 1.5, float("nan"), float("inf")])
TEXTS = st.sampled_from([None, "", "a", "quote \" and '", "é"])
ROWS = st.lists(st.fixed_dictionaries({"k": st.integers(0, 6), "x": VALUES, "a b": TEXTS}), max_size=8)
SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.float64()), ("a b", pa.string())])


def dataset(rows: list[dict[str, Any]]) -> ds.Dataset:
    return ds.dataset(pa.Table.from_pylist(rows, schema=SCHEMA))


def by_key(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {row["k"]: row for row in rows}


@settings(max_examples=60, deadline=None)
@given(before=ROWS, after=ROWS)
def test_rows_by_key_are_those_of_the_oracle(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    old, new = by_key(before), by_key(after)
    found = compare_rows(dataset(list(old.values())), dataset(list(new.values())), ("k",))
    changed = [key for key in old.keys() & new.keys() if not same_value(old[key], new[key])]
    assert (found.before, found.after) == (len(old), len(new))
    assert (found.added, found.removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()))
    assert found.changed == len(changed)
    for name in ("x", "a b"):
        differs = sum(not same_value(old[key][name], new[key][name]) for key in changed)
        assert found.columns.get(name, 0) == differs
    assert found.note == ""
    assert found.same == (not found.added and not found.removed and not changed)
    shown = {one["key"]["k"]: one["values"] for one in found.examples["changed"]}
    assert sorted(changed)[:5] == list(shown)
    for key, values in shown.items():
        for name, pair in values.items():
            assert same_value(pair, [old[key][name], new[key][name]])


@settings(max_examples=60, deadline=None)
@given(before=ROWS, after=ROWS)
def test_whole_rows_are_counted_as_often_as_they_occur(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    found = compare_rows(dataset(before), dataset(after))
    old, new = (Counter(repr(sorted(row.items())) for row in rows) for rows in (before, after))
    assert (found.added, found.removed) == ((new - old).total(), (old - new).total())
    assert "no key" in found.note


def test_a_key_that_occurs_twice_is_told_of_and_whole_rows_are_compared() -> None:
    before = dataset([{"k": 1, "x": 1.0, "a b": "a"}, {"k": 1, "x": 2.0, "a b": "a"}])
    after = dataset([{"k": 1, "x": 1.0, "a b": "a"}])
    found = compare_rows(before, after, ("k",))
    assert (found.key, found.added, found.removed) == ((), 0, 1)
    assert "k occurs more than once (1 and 0 times too often)" in found.note
    assert found.examples["removed"] == [{"k": 1, "x": 2.0, "a b": "a"}]


def test_a_column_of_another_type_is_compared_as_text() -> None:
    before = ds.dataset(pa.table({"k": [1, 2], "x": [1, 2]}))
    after = ds.dataset(pa.table({"k": [1, 2], "x": ["1", "3"], "new": [0, 0]}))
    found = compare_rows(before, after, ("k",))
    assert (found.changed, found.columns) == (1, {"x": 1})


def test_nothing_in_common_is_all_removed_and_all_added() -> None:
    found = compare_rows(ds.dataset(pa.table({"a": [1]})), ds.dataset(pa.table({"b": [1, 2]})))
    assert found == RowChanges((), 1, 2, 2, 1, note="no common column")
