from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.modelling.split import SplitUnusable, UnknownColumn, assign_split

shares = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.4])


def split(table: pa.Table, by: str = "random", column: str | None = None, **changes: object) -> np.ndarray:
    rule: dict = {"test": 0.25, "validation": 0.2, "target": "y", "task": "binary", "seed": 0} | changes
    return assign_split(table, by=by, column=column, **rule)[0]


@given(
    y=st.lists(st.integers(0, 3), min_size=3, max_size=300),
    test=shares,
    validation=shares,
    seed=st.integers(0, 99),
)
def test_a_random_split_has_exact_totals_and_each_class_in_proportion(y, test, validation, seed):
    labels = split(pa.table({"y": y}), test=test, validation=validation, seed=seed)

    assert (labels == "test").sum() == (max(1, round(test * len(y))) if test else 0)
    assert (labels == "validation").sum() == (max(1, round(validation * len(y))) if validation else 0)
    for value in set(y):
        of_class = np.array(y) == value
        assert abs((labels[of_class] == "test").sum() - test * of_class.sum()) <= 2


@given(rows=st.integers(3, 200), seed=st.integers(0, 9))
def test_the_same_seed_gives_the_same_split(rows, seed):
    table = pa.table({"y": np.arange(rows) % 2})

    assert (split(table, seed=seed) == split(table, seed=seed)).all()


def test_another_seed_gives_another_split():
    table = pa.table({"y": np.arange(200) % 2})

    assert (split(table, seed=1) != split(table, seed=2)).any()


@given(times=st.lists(st.integers(0, 40), min_size=3, max_size=200), test=shares, validation=shares)
def test_a_time_split_is_ordered_and_no_time_straddles_a_border(times, test, validation):
    if len(set(times)) < 2:
        return
    table = pa.table({"t": times, "y": [0] * len(times)})

    labels = split(table, "time", "t", test=test, validation=validation)

    parts = [np.array(times)[labels == name] for name in ("train", "validation", "test")]
    parts = [part for part in parts if len(part)]
    assert (labels == "train").any()
    assert (labels == "test").any() == (test > 0)
    assert all(older.max() < newer.min() for older, newer in pairwise(parts))


def test_a_time_split_takes_the_newest_rows_whatever_their_order():
    times = [
        datetime(2020, 1, 1) + timedelta(hours=int(h)) for h in np.random.default_rng(0).permutation(100)
    ]
    labels = split(pa.table({"t": times, "y": [0, 1] * 50}), "time", "t", test=0.25, validation=0.2)

    newest = np.argsort(np.array(times, dtype="datetime64[us]"))[::-1]
    assert set(labels[newest[:25]]) == {"test"}
    assert set(labels[newest[25:45]]) == {"validation"}
    assert set(labels[newest[45:]]) == {"train"}


def test_text_times_are_read_as_timestamps_and_not_in_alphabetical_order():
    rule = {"test": 0.3, "validation": 0.3, "target": "y", "task": "binary", "seed": 0}
    table = pa.table({"t": ["2020-01-01", "2021-05-05", "2019-12-31"], "y": [0, 1, 0]})

    labels, told = assign_split(table, by="time", column="t", **rule)

    assert list(labels) == ["validation", "test", "train"]
    assert told["test_from"].startswith("2021-05-05")


@given(
    groups=st.lists(st.integers(0, 30), min_size=6, max_size=200),
    test=shares,
    validation=shares,
    seed=st.integers(0, 9),
)
def test_a_group_is_never_divided_and_no_split_is_left_empty(groups, test, validation, seed):
    if len(set(groups)) < 3:
        return
    labels = split(
        pa.table({"g": groups, "y": [0] * len(groups)}),
        "group",
        "g",
        test=test,
        validation=validation,
        seed=seed,
    )

    for group in set(groups):
        assert len(set(labels[np.array(groups) == group])) == 1
    wanted = {"train"} | ({"test"} if test else set()) | ({"validation"} if validation else set())
    assert set(labels) == wanted


@settings(max_examples=30)
@given(seed=st.integers(0, 50))
def test_many_small_groups_come_close_to_the_shares(seed):
    groups = np.random.default_rng(seed).integers(0, 300, 3000)
    labels = split(pa.table({"g": groups, "y": groups % 2}), "group", "g", seed=seed)

    assert abs((labels == "test").mean() - 0.25) < 0.03
    assert abs((labels == "validation").mean() - 0.2) < 0.03


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_fewer_than_three_rows_are_all_training(rows):
    table = pa.table({"y": pa.array([1] * rows, pa.int64()), "t": pa.array([1] * rows, pa.int64())})

    assert set(split(table)) <= {"train"}
    assert set(split(table, "time", "t")) <= {"train"}


@pytest.mark.parametrize(
    ("by", "column", "values", "says"),
    [
        ("time", "t", [1, 1, 1, 1], "single value"),
        ("time", "t", [1, None, 3, 4], "null in 1 of 4 rows"),
        ("time", "t", ["x", "y", "z", "w"], "cannot be read as timestamps"),
        ("time", "t", [True, False, True, False], "no order in time"),
        ("group", "t", [1, 1, 2, 2], "2 distinct values"),
        ("time", None, [1, 2, 3, 4], "needs a column"),
        ("lottery", None, [1, 2, 3, 4], "unknown"),
    ],
)
def test_an_unusable_rule_says_what_is_wrong(by, column, values, says):
    with pytest.raises(SplitUnusable, match=says):
        split(pa.table({"t": values, "y": [0, 1, 0, 1]}), by, column)


def test_a_missing_split_column_is_named_with_its_neighbours():
    with pytest.raises(UnknownColumn, match=r"time_huor.*did you mean 'time_hour'"):
        split(pa.table({"time_hour": [1, 2, 3], "y": [0, 1, 0]}), "time", "time_huor")


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(SplitUnusable, match="below 1"):
        split(pa.table({"y": [0, 1, 0]}), test=0.6, validation=0.4)
