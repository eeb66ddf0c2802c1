import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlassets.modelling.aggregation import pool_predictions
from mlassets.modelling.evaluation import score_predictions


def predictions(actual: list[int], probability: list[float], name: str = "") -> pa.Table:
    return pa.table(
        {
            "row_key": [f"{name}{k}" for k in range(len(actual))],
            "actual": pa.array(actual, pa.int64()),
            "prediction": pa.array([int(one >= 0.5) for one in probability], pa.int64()),
            "probability": pa.array(probability, pa.float64()),
        }
    )


GOOD = predictions([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "g")
BAD = predictions([0, 1], [0.9, 0.1], "b")


def measured(table: pa.Table) -> dict[str, float]:
    return {f"test.{name}": value for name, value in score_predictions(table, "binary").items()}


def pooled(tables: dict[str, pa.Table], method: str = "weighted", **changes: object):
    options: dict = {"task": "binary", "metric": "accuracy", "seed": 0} | changes
    return pool_predictions(
        tables, {name: measured(table) for name, table in tables.items()}, method=method, **options
    )


def test_the_pooled_table_holds_every_prediction_with_its_segment() -> None:
    found = pooled({"LGA": BAD, "EWR": GOOD}).predictions
    assert found.column_names == ["segment", *GOOD.column_names]
    assert found["segment"].to_pylist() == ["EWR"] * 4 + ["LGA"] * 2
    assert found.filter(pc.equal(found["segment"], "LGA")).drop_columns("segment").equals(BAD)


def test_weighted_metrics_count_every_row_the_same() -> None:
    found = pooled({"EWR": GOOD, "LGA": BAD})
    assert found.metrics["test.accuracy"] == pytest.approx(4 / 6)
    assert found.metrics["test.accuracy.low"] <= 4 / 6 <= found.metrics["test.accuracy.high"]
    assert found.parameters == {
        "method": "weighted",
        "weights": {"EWR": pytest.approx(4 / 6), "LGA": pytest.approx(2 / 6)},
    }


def test_unweighted_metrics_count_every_segment_the_same() -> None:
    found = pooled({"EWR": GOOD, "LGA": BAD}, "unweighted")
    assert found.metrics["test.accuracy"] == pytest.approx(1 / 2)
    assert "test.accuracy.low" not in found.metrics
    assert found.parameters["weights"] == {"EWR": 0.5, "LGA": 0.5}


def test_the_segments_stand_beside_each_other() -> None:
    metrics = pooled({"EWR": GOOD, "LGA": BAD}, bytes_in=10_000).metrics
    assert (metrics["segment.EWR.accuracy"], metrics["segment.LGA.accuracy"]) == (1, 0)
    assert metrics["spread.accuracy"] == 1
    assert metrics["worst_segment.accuracy"] == 0
    # For a metric where less is better, the worst segment has the largest value.
    assert metrics["worst_segment.brier"] == metrics["segment.LGA.brier"] > metrics["segment.EWR.brier"]
    assert (metrics["rows"], metrics["segments"]) == (6, 2)
    assert metrics["compression_ratio"] > 1


def test_a_picture_compares_the_segments() -> None:
    found = pooled({"EWR": GOOD, "$x_{1}$ <b>": BAD})
    assert found.artifacts["segments.png"].startswith(b"\x89PNG")
    assert pooled({"EWR": GOOD, "$x_{1}$ <b>": BAD}).artifacts == found.artifacts


def test_a_segment_without_test_rows_takes_part_without_a_metric() -> None:
    found = pool_predictions(
        {"EWR": GOOD, "LGA": GOOD.slice(0, 0)},
        {"EWR": measured(GOOD), "LGA": {}},
        task="binary",
        metric="accuracy",
        method="weighted",
        seed=0,
    )
    assert found.metrics["segments"] == 2
    assert found.metrics["test.accuracy"] == 1
    assert "segment.LGA.accuracy" not in found.metrics


@pytest.mark.parametrize("method", ["weighted", "unweighted"])
def test_no_segment_with_test_rows_gives_no_metric_and_no_picture(method: str) -> None:
    empty = GOOD.slice(0, 0)
    found = pool_predictions(
        {"EWR": empty}, {"EWR": {}}, task="binary", metric="accuracy", method=method, seed=0
    )
    assert found.metrics == {"rows": 0, "segments": 1}
    assert found.artifacts == {}


def test_a_class_that_one_segment_never_saw_has_no_probability_there() -> None:
    both = pa.table(
        {
            "row_key": ["a", "b"],
            "actual": ["x", "y"],
            "prediction": ["x", "y"],
            "probability_x": [0.9, 0.2],
            "probability_y": [0.1, 0.8],
        }
    )
    one = pa.table({"row_key": ["c"], "actual": ["x"], "prediction": ["x"], "probability_x": [1.0]})
    found = pool_predictions(
        {"EWR": both, "LGA": one},
        {"EWR": {"test.accuracy": 1.0}, "LGA": {"test.accuracy": 1.0}},
        task="multiclass",
        metric="accuracy",
        method="weighted",
        seed=0,
    )
    assert found.predictions["probability_y"].to_pylist() == [0.1, 0.8, None]
    assert found.metrics["test.accuracy"] == 1


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 5), min_size=1, max_size=4))
def test_weights_are_shares_of_the_rows(rows: dict[str, int]) -> None:
    tables = {name: GOOD.slice(0, min(count, 4)) for name, count in rows.items()}
    found = pool_predictions(
        tables,
        {name: {} for name in tables},
        task="binary",
        metric="accuracy",
        method="weighted",
        seed=0,
    )
    assert sum(found.parameters["weights"].values()) == pytest.approx(1)
    assert found.predictions.num_rows == sum(table.num_rows for table in tables.values())
    assert set(found.predictions["segment"].to_pylist()) == set(rows)
