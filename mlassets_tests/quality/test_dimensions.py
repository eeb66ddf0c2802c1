"""Six dimensions, each held against what Python counts on the same rows; and names and values that mean harm."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.expectations import Expectations
from mlassets.quality.dimensions import Arrived, Dimension, judged_dimensions
from mlassets.quality.judging import DoesNotApply, Observation
from mlassets.quality.rows import Rows

UTC = dt.UTC


def all_seen(
    expected: Mapping[str, Any],
    table: "pa.Table | Rows",
    others: Mapping[str, pa.Table] | None = None,
    **more: Any,
) -> dict[Dimension, Any]:
    rows = table if isinstance(table, Rows) else Rows(data=table)
    given_others = {name: Rows(data=other) for name, other in (others or {}).items()}
    return judged_dimensions(rows, Expectations.model_validate(expected), given_others, threads=1, **more)


def seen(dimension: Dimension, *given: Any, **more: Any) -> Observation:
    found = all_seen(*given, **more)[dimension]
    if isinstance(found, Exception):
        raise found
    return found  # type: ignore[no-any-return]


def shares(found: Observation) -> dict[tuple[str, str], str]:
    """By column and expectation: how many rows break it, of how many."""
    return {(row[0], row[1]): f"{row[2]} of {row[3]}" for row in found.displays[0].rows}


VALUES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-20, 20)),
        st.one_of(st.none(), st.floats(-20, 20), st.just(float("nan"))),
        st.one_of(st.none(), st.sampled_from(["AB-1", "CD-22", "ab", "", " 7 ", "7", "x" * 9, "é'"])),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_what_is_counted_in_sql_is_what_python_counts(rows: list[tuple[Any, Any, Any]]) -> None:
    table = pa.table(
        {
            "whole": pa.array([one[0] for one in rows], pa.int64()),
            "part": pa.array([one[1] for one in rows], pa.float64()),
            "word": pa.array([one[2] for one in rows], pa.string()),
        }
    )
    expected = {
        "columns": {
            "whole": {"range": [-5, 10], "values": list(range(-5, 8)), "nulls": 0.1, "unique": True},
            "part": {"type": "integer", "range": [None, 3.5], "nulls": 0},
            "word": {
                "type": "integer",
                "pattern": "[A-Z]{2}-[0-9]+",
                "length": [1, 5],
                "values": ["AB-1", "7", "é'"],
            },
        },
        "rules": [{"sql": "whole <= part"}],
    }
    counted: Counter[tuple[str, str]] = Counter()
    for whole, part, word in rows:
        if whole is not None:
            counted["whole", "be from -5 to 10"] += not -5 <= whole <= 10
            counted["whole", "be one of -5, -4, -3, -2, -1, 0, 1, 2, …"] += whole not in range(-5, 8)
        if part is not None:
            counted["part", "be of type integer"] += part != part or part != int(part)
            counted["part", "be 3.5 or less"] += not part <= 3.5
        if word is not None:
            counted["word", "be of type integer"] += not re.fullmatch(r"\s*[+-]?\d+\s*", word)
            counted["word", "match [A-Z]{2}-[0-9]+"] += not re.fullmatch("[A-Z]{2}-[0-9]+", word)
            counted["word", "have 1 to 5 characters"] += not 1 <= len(word) <= 5
            counted["word", 'be one of "AB-1", "7", "é\'"'] += word not in ("AB-1", "7", "é'")
    found = all_seen(expected, table)
    validity = shares(found["validity"])
    assert {what: int(text.split(" of ")[0]) for what, text in validity.items() if what in counted} == counted
    known = [one[0] for one in rows if one[0] is not None]
    assert found["uniqueness"].value == pytest.approx(1 - len(set(known)) / len(known) if known else 0)
    nulls = [sum(one[at] is None for one in rows) / len(rows) for at in (0, 1)]
    assert found["completeness"].value == pytest.approx(max(nulls[0] - 0.1, nulls[1], 0))
    # DuckDB, as every database that sorts, takes not-a-number for the largest of numbers.
    broken = [one for one in rows if None not in one[:2] and one[1] == one[1] and one[0] > one[1]]
    assert found["consistency"].value == pytest.approx(len(broken) / len(rows))


HOSTILE = [
    '"; DROP TABLE t0; --',
    "c0",
    "t0",
    "'",
    "<script>alert(1)</script>",
    "select",
    "a.b",
    "$1",
    "ü\u202e",
]


def test_names_and_values_that_mean_harm_are_data() -> None:
    table = pa.table({name: pa.array([name, "x", None]) for name in HOSTILE})
    expected = {
        "key": HOSTILE,
        "columns": {
            name: {
                "values": [name],
                "pattern": re.escape(name),
                "nulls": 0.1,
                "unique": True,
                "length": [1, 9],
            }
            for name in HOSTILE
        },
        "rules": [{"sql": " AND ".join('"' + name.replace('"', '""') + '" IS NOT NULL' for name in HOSTILE)}],
    }
    found = all_seen(expected, table)
    for name in HOSTILE:
        assert shares(found["validity"])[name, f"match {re.escape(name)}"] == "1 of 2"
    assert found["uniqueness"].value == 0
    assert found["consistency"].value == pytest.approx(1 / 3)
    assert found["completeness"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("kind", "values", "broken"),
    [
        ("integer", ["1", " -2 ", "+3", "4.0", "x"], 2),
        ("number", ["1", "1e3", "inf", "x"], 1),
        ("boolean", ["true", "FALSE", "maybe"], 1),
        ("date", ["2024-02-29", "2023-02-29"], 1),
        ("timestamp", ["2024-02-29 10:00:00", "10 o'clock"], 1),
        ("decimal(4,1)", ["123.4", "12345", "x"], 2),
        ("text", ["anything"], 0),
        ("integer", [1.0, 2.5, float("inf")], 2),
        ("number", [1, 2], 0),
        ("decimal(4,1)", [1.5, 1.25, 1e9], 2),
        ("text", [1, 2], 2),
        ("date", [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 5)], 1),
        ("timestamp", [dt.date(2024, 1, 1)], 0),
        ("boolean", [True], 0),
        ("number", [True], 1),
    ],
)
def test_a_type_is_what_values_are_or_can_be_read_as(kind: str, values: list[Any], broken: int) -> None:
    found = seen("validity", {"columns": {"v": {"type": kind}}}, pa.table({"v": values}))
    assert shares(found)["v", f"be of type {kind}"] == f"{broken} of {len(values)}"


def test_a_range_of_dates_holds_dates_times_zones_and_text() -> None:
    noon = dt.datetime(2024, 1, 31, 12)
    table = pa.table(
        {
            "date": [noon.date(), dt.date(2024, 2, 1)],
            "time": [noon, noon + dt.timedelta(days=1)],
            "zone": pa.array([noon, noon + dt.timedelta(days=1)], pa.timestamp("ms", "Asia/Tokyo")),
            "text": ["2024-01-31", "soon"],
            "number": [1, 2],
        }
    )
    ends = {"range": ["2024-01-01", "2024-01-31T13:00:00"]}
    found = shares(seen("validity", {"columns": dict.fromkeys(table.column_names, ends)}, table))
    assert list(found.values()) == ["2 of 2", "1 of 2", "1 of 2", "1 of 2", "1 of 2"]


@pytest.fixture
def landed(tmp_path: Path) -> Rows:
    """Two files of one source, of which the second has a column more and one less, in a folder with an odd name."""
    folder = tmp_path / "odd [x]*'"
    folder.mkdir()
    day = dt.datetime(2024, 1, 1)
    first = pa.table({"id": [1, 2, 3], "amount": [1, 2, 3], "at": [day, day, day], "gone": ["a", "b", "c"]})
    second = pa.table(
        {"id": [3, 4], "amount": [0.5, -1.5], "at": [day + dt.timedelta(days=40)] * 2, "code": ["x", "y"]}
    )
    paths = (folder / "one?.parquet", folder / "two.parquet")
    for table, path in zip((first, second), paths, strict=True):
        pq.write_table(table, path)
    return Rows(paths, names={paths[0]: "one.csv", paths[1]: "two.csv"})


def test_it_is_told_where_a_broken_value_stands(landed: Rows) -> None:
    expected = {"key": ["id"], "columns": {"amount": {"range": [0, None]}, "code": {"nulls": 0}}}
    assert "-1.5" in seen("validity", expected, landed).found
    assert "in row 2 of two.csv" in seen("validity", expected, landed).found
    complete = seen("completeness", expected, landed)
    assert complete.value == pytest.approx(3 / 5)
    assert "null in row 1 of one.csv" in complete.found
    assert '"3" in 2 rows' in seen("uniqueness", expected, landed).found


def test_rows_that_are_nowhere_near_are_judged_as_a_dataset(landed: Rows) -> None:
    schema = pa.unify_schemas([pq.read_schema(path) for path in landed.files], promote_options="permissive")
    far = Rows(data=ds.dataset(landed.files, schema=schema, format="parquet"))
    expected = {
        "key": ["id"],
        "columns": {"amount": {"range": [0, None]}, "code": {"nulls": 0, "pattern": "x"}},
    }
    here, there = all_seen(expected, landed), all_seen(expected, far)
    assert {name: getattr(one, "value", str(one)) for name, one in here.items()} == {
        name: getattr(one, "value", str(one)) for name, one in there.items()
    }


def test_a_column_that_is_not_there_is_missing_altogether(landed: Rows) -> None:
    expected = {"columns": {"cod": {"pattern": "x", "reference": "codes.code"}}}
    found = seen("completeness", expected, landed)
    assert found.value == 1
    assert "did you mean code?" in found.found
    with pytest.raises(DoesNotApply):
        seen("validity", expected, landed)


def test_references_and_other_tables_are_looked_into(landed: Rows) -> None:
    expected = {
        "columns": {"code": {"reference": "codes.name"}},
        "same_in": {"codes": {"keys": {"id": "number"}, "sums": {"amount": "total"}}},
        "rules": [{"sql": "amount < 3", "dimension": "accuracy", "name": "small"}],
    }
    codes = pa.table(
        {"name": ["x", None, "z"], "number": pa.array([1, 2, 3], pa.int32()), "total": [2.0, 2.0, 1.0]}
    )
    accuracy = shares(seen("accuracy", expected, landed, {"codes": codes}))
    assert accuracy["code", "be found in `name` of codes"] == "1 of 2"
    assert accuracy["small", "hold: amount < 3"] == "1 of 5"
    consistency = seen("consistency", expected, landed, {"codes": codes})
    assert shares(consistency)["id", "be found in `number` of codes"] == "1 of 5"
    assert consistency.value == pytest.approx(1 / 5)
    together = {"same_in": {"codes": {"keys": {"id": "number", "code": "name"}}}}
    assert (
        shares(seen("consistency", together, landed, {"codes": codes}))[
            "id, code", "be found in `number`, `name` of codes"
        ]
        == "2 of 2"
    )
    sums = {"same_in": {"codes": {"sums": {"amount": "number"}}}}
    apart = seen("consistency", sums, landed, {"codes": codes})
    assert apart.value == pytest.approx(1 / 6)
    assert apart.found == '"amount" should add up to 6, as `number` of codes does; it adds up to 5.'


def test_what_cannot_be_compared_is_no_silent_pass(landed: Rows) -> None:
    expected = {"columns": {"code": {"reference": "codes.number"}}}
    with pytest.raises(Exception, match="`code` \\(text\\) cannot be compared with `number` of codes"):
        seen("accuracy", expected, landed, {"codes": pa.table({"number": [1]})})
    with pytest.raises(Exception, match="codes, which is compared with, cannot be read: nothing landed"):
        seen("accuracy", expected, landed, unknown={"codes": "nothing landed"})
    with pytest.raises(Exception, match="did you mean number"):
        seen(
            "accuracy",
            {"columns": {"id": {"reference": "codes.nmber"}}},
            landed,
            {"codes": pa.table({"number": [1]})},
        )


def test_a_rule_that_fails_on_the_data_is_named(landed: Rows) -> None:
    rules = [{"sql": "amount > -9"}, {"sql": "CAST(code AS INTEGER) > 0", "name": "numeric"}]
    with pytest.raises(Exception, match='the rule "numeric" cannot be evaluated'):
        seen("consistency", {"rules": rules}, landed)
    with pytest.raises(Exception, match=r"reads the column 'amont'.*Did you mean amount"):
        seen("consistency", {"rules": [{"sql": "amont > 0"}]}, landed)


def test_rules_read_columns_in_any_case_and_null_breaks_none(landed: Rows) -> None:
    found = seen("consistency", {"rules": [{"sql": "CODE = 'x' -- and nothing more"}]}, landed)
    assert found.value == pytest.approx(1 / 5)


def test_lateness_is_a_share_of_the_time_allowed(landed: Rows) -> None:
    at = dt.datetime(
        2024, 2, 12, tzinfo=UTC
    )  # 40 days after the first file's rows comes the second's, 2 days before
    earlier = Rows(landed.files[:1])
    due = {"arrives": {"column": "at", "every": "20d", "within": "4d"}}
    late = seen("timeliness", due, landed, arrived=Arrived(at, earlier=earlier))
    assert late.value == pytest.approx(2.0)
    assert "40.0 days lie between" in late.found
    soon = {"arrives": {"column": "at", "within": "4d"}}
    assert seen("timeliness", soon, landed, arrived=Arrived(at, earlier=earlier)).value == pytest.approx(0.5)
    drawn = seen("timeliness", due, landed, arrived=Arrived(at, every_row_now=True))
    assert drawn.value == pytest.approx(2 / 24)
    by_landing = {"arrives": {"every": "1d"}}
    before = Arrived(at, before=at - dt.timedelta(days=3))
    assert seen("timeliness", by_landing, landed, arrived=before).value == pytest.approx(3)
    with pytest.raises(DoesNotApply, match="first delivery"):
        seen("timeliness", by_landing, landed, arrived=Arrived(at))
    with pytest.raises(Exception, match="`amount` is of type number, and dates no row"):
        seen("timeliness", {"arrives": {"column": "amount", "within": "1d"}}, landed, arrived=Arrived(at))


@pytest.mark.parametrize(
    "dimension", ["accuracy", "completeness", "consistency", "validity", "uniqueness", "timeliness"]
)
def test_nothing_is_claimed_of_no_rows_or_of_what_nobody_declared(dimension: Dimension) -> None:
    with pytest.raises(DoesNotApply):
        seen(dimension, {}, pa.table({"v": [1]}))
    full = {
        "key": ["v"],
        "columns": {"v": {"range": [0, 1]}},
        "rules": [{"sql": "v > 0"}, {"sql": "v > 0", "dimension": "accuracy"}],
        "arrives": {"every": "1d"},
    }
    with pytest.raises(DoesNotApply):
        seen(
            dimension, full, pa.table({"v": pa.array([], pa.int64())}), arrived=Arrived(dt.datetime.now(UTC))
        )
