from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from mlassets.modelling.features import (
    ReservedColumn,
    SegmentEmpty,
    TargetAllNull,
    TargetHasOneClass,
    TargetMissing,
    TargetUnusable,
    UnknownColumn,
    UnusableColumn,
    make_model_ready,
)
from mlassets_tests.modelling.drawn import departures
from resources.roles import features_of, role_of, target_of


def ready(columns: dict, **changes: object):
    table = pa.table(columns)
    if "y" not in columns and "target" not in changes:
        table = table.append_column("y", pa.array([i % 2 for i in range(table.num_rows)]))
    return make_model_ready(table, **({"target": "y", "task": "binary"} | changes))


def many(value_of) -> list:
    return [value_of(i) for i in range(120)]


def test_columns_are_typed_and_the_schema_says_what_each_is_for():
    made = make_model_ready(departures(300), target="late", task="binary", drop=["delay", "cause"])

    assert features_of(made.table.schema) == {
        "wind": "numeric",
        "other": "numeric",
        "hour": "numeric",
        "carrier": "categorical",
        "rain": "boolean",
        "time.day": "numeric",
        "time.weekday": "numeric",
        "time.hour": "numeric",
    }
    assert target_of(made.table.schema) == "late"
    assert made.table.column_names[0] == "row_key"
    assert role_of(made.table.schema.field("row_key")) == "key"
    assert role_of(made.table.schema.field("split")) == "split"
    assert made.table.schema.field("late").type == pa.int64()


def test_useless_columns_are_left_out_with_their_reasons():
    made = ready(
        {
            "constant": many(lambda i: 7),
            "empty": pa.array([None] * 120, pa.float64()),
            "nothing": pa.nulls(120),
            "nan": many(lambda i: float("nan")),
            "flight_id": many(lambda i: i * 17),
            "row": many(lambda i: i),
            "code": many(lambda i: f"N{i:05d}"),
            "remark": many(lambda i: f"the passenger of seat {i} said the coffee was cold and the crew kind"),
            "list": many(lambda i: [i]),
            "year_only": many(lambda i: date(1900 + i, 1, 1)).copy(),
            "unwanted": many(lambda i: i % 3),
            "wind": many(lambda i: i % 5),
        },
        drop=["unwanted"],
        kinds={},
    )

    reasons = made.parameters["dropped"]
    assert list(features_of(made.table.schema)) == ["year_only.weekday", "wind"]
    for column, says in {
        "constant": "constant",
        "empty": "all null",
        "nothing": "all null",
        "nan": "all null",
        "flight_id": "identifier",
        "row": "identifier",
        "code": "identifier",
        "remark": "text",
        "list": "not usable",
        "unwanted": "by the spec",
    }.items():
        assert says in reasons[column], column
    assert any("remark" in note for note in made.parameters["notes"])


def test_the_user_can_say_what_a_column_is():
    made = ready(
        {
            "zip": many(lambda i: 10000 + i),
            "price": many(lambda i: str(i / 2)),
            "when": many(lambda i: f"2020-01-{i % 28 + 1:02d} 0{i % 9}:00:00"),
            "flag": many(lambda i: i % 2),
            "note": many(lambda i: "short"),
        },
        kinds={
            "zip": "categorical",
            "price": "numeric",
            "when": "datetime",
            "flag": "boolean",
            "note": "text",
        },
    )

    kinds = features_of(made.table.schema)
    assert (kinds["zip"], kinds["price"], kinds["flag"], kinds["when.hour"]) == (
        "categorical",
        "numeric",
        "boolean",
        "numeric",
    )
    assert "note" in made.parameters["dropped"]
    assert made.table["price"][3].as_py() == 1.5


def test_unusual_types_become_numbers():
    made = ready(
        {
            "money": many(lambda i: Decimal(i) / 4),
            "wait": many(lambda i: timedelta(seconds=i)),
            "clock": many(lambda i: time(i % 24, i % 60)),
            "wild": many(lambda i: float("inf") if i == 3 else i / 7),
            "kind": pa.array(many(lambda i: "ab"[i % 2])).dictionary_encode(),
        }
    )

    row = made.table.slice(5, 1).to_pylist()[0]
    assert (row["money"], row["wait"], row["clock.hour"], row["kind"]) == (1.25, 5.0, 5.0, "b")
    assert made.table["wild"][3].as_py() is None


def test_a_row_key_is_made_from_the_key_columns_or_the_position():
    columns = {"day": ["mon", None, "wed"], "no": [1, 2, 3], "y": [1, None, 0]}

    assert ready(columns, key=["day", "no"]).table["row_key"].to_pylist() == ["mon|1", "wed|3"]
    assert ready(columns).table["row_key"].to_pylist() == ["0", "2"]


def test_rows_without_a_target_are_left_out_and_counted():
    made = ready({"x": [1, 2, 3, 4], "y": [0, None, 1, None]})

    assert made.table.num_rows == 2
    assert made.metrics["rows_without_target"] == 2
    assert any("2 of 4 rows have no target" in note for note in made.parameters["notes"])


@pytest.mark.parametrize(
    ("values", "positive", "ones"),
    [
        ([True, False, True], None, [1, 0, 1]),
        ([1.0, 0.0, 1.0], None, [1, 0, 1]),
        (["no", "Yes", "no"], None, [0, 1, 0]),
        (["bad", "good", "bad"], "bad", [1, 0, 1]),
        (["bad", "good", "bad"], None, [0, 1, 0]),
        ([1, 2, 1], 1, [1, 0, 1]),
        (["yes", "no", "yes"], True, None),
    ],
)
def test_a_binary_target_becomes_zero_and_one(values, positive, ones):
    if ones is None:
        with pytest.raises(TargetUnusable, match="none of its values"):
            ready({"x": [1, 2, 3], "y": values}, positive=positive)
        return
    assert ready({"x": [1, 2, 3], "y": values}, positive=positive).table["y"].to_pylist() == ones


def test_a_guessed_positive_value_is_told():
    made = ready({"x": [1, 2, 3], "y": ["ham", "spam", "ham"]})

    assert made.parameters["positive"] == "spam"
    assert any("target.positive" in note for note in made.parameters["notes"])


def test_targets_of_other_tasks_have_their_own_types():
    table = departures(100)

    assert make_model_ready(table, target="cause", task="multiclass").table["cause"].type == pa.string()
    assert make_model_ready(table, target="delay", task="regression").table["delay"].type == pa.float64()
    assert make_model_ready(table, target="hour", task="multiclass").table["hour"].type == pa.string()


def test_a_target_that_cannot_be_used_is_refused_with_a_way_out():
    with pytest.raises(TargetMissing, match=r"'lat'.*did you mean 'late'"):
        make_model_ready(departures(10), target="lat", task="binary")
    with pytest.raises(TargetAllNull, match="all 3 rows"):
        ready({"x": [1, 2, 3], "y": pa.nulls(3, pa.int64())})
    with pytest.raises(TargetHasOneClass, match="all 120 rows"):
        ready({"x": many(lambda i: i), "y": many(lambda i: 0)})
    with pytest.raises(TargetHasOneClass, match="'a' in all 120 rows"):
        ready({"x": many(lambda i: i), "y": many(lambda i: "a")}, task="multiclass")
    with pytest.raises(TargetUnusable, match="3 values"):
        ready({"x": [1, 2, 3], "y": [0, 1, 2]})
    with pytest.raises(TargetUnusable, match="cannot be read as numbers"):
        ready({"x": [1, 2, 3], "y": ["a", "b", "c"]}, task="regression")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"drop": ["wnd"]}, "features.drop"),
        ({"key": ["wnd"]}, "key"),
        ({"kinds": {"wnd": "numeric"}}, "features.kinds"),
    ],
)
def test_an_unknown_column_is_named_with_the_nearest_known(changes, says):
    with pytest.raises(UnknownColumn, match=f"{says}.*'wnd'.*did you mean 'wind'"):
        ready({"wind": [1, 2, 3]}, **changes)


def test_reserved_and_doubled_names_are_refused():
    with pytest.raises(ReservedColumn, match="'split'"):
        ready({"split": [1, 2, 3]})
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["y", "y"])
    with pytest.raises(ReservedColumn, match="twice"):
        make_model_ready(twice, target="y", task="binary")
    ready({"split": [1, 2, 3]}, drop=["split"])


def test_a_column_that_is_not_what_the_user_says_is_named():
    with pytest.raises(UnusableColumn, match=r"'x'.*numeric"):
        ready({"x": ["a", "b", "c"]}, kinds={"x": "numeric"})
    with pytest.raises(UnusableColumn, match="choose one of"):
        ready({"x": ["a", "b", "c"]}, kinds={"x": "number"})


def test_no_rows_is_an_error_and_one_row_or_twelve_are_not():
    with pytest.raises(SegmentEmpty, match="0 rows"):
        make_model_ready(departures(10).slice(0, 0), target="late", task="binary")
    assert make_model_ready(departures(10).slice(0, 1), target="late", task="binary").table.num_rows == 1
    twelve = make_model_ready(departures(12), target="late", task="binary")
    assert (
        twelve.metrics["rows.train"] + twelve.metrics["rows.validation"] + twelve.metrics["rows.test"] == 12
    )


def test_a_split_column_does_not_give_away_the_split():
    table = departures(200).append_column("crew", pa.array([i // 10 for i in range(200)]))

    grouped = make_model_ready(table, target="late", task="binary", by="group", split_column="crew")
    timed = make_model_ready(table, target="late", task="binary", by="time", split_column="crew")

    assert "crew" in grouped.parameters["dropped"]
    assert "crew" in timed.parameters["dropped"]


def test_the_metrics_tell_rows_balance_and_gaps():
    table = departures(400)
    made = make_model_ready(table, target="late", task="binary", test=0.25, validation=0.2)

    assert (made.metrics["rows.train"], made.metrics["rows.validation"], made.metrics["rows.test"]) == (
        220,
        80,
        100,
    )
    assert made.metrics["positive_share"] == pytest.approx(np.mean(table["late"].to_pylist()))
    assert made.metrics["missing_share.wind"] == table["wind"].null_count / 400


def test_every_value_depends_on_its_own_row_only():
    table = departures(400)
    made = make_model_ready(table, target="late", task="binary").table
    half = make_model_ready(table.slice(0, 200), target="late", task="binary").table

    for name in half.column_names:
        if name != "split":
            assert half[name].to_pylist() == made[name].slice(0, 200).to_pylist()


def test_dates_with_a_zone_are_read_in_it():
    stamps = pa.array(
        [datetime(2020, 1, 1, h, 0) for h in range(20)], pa.timestamp("us", tz="America/New_York")
    )

    assert ready({"at": stamps}).table["at.hour"][5].as_py() == 0.0
