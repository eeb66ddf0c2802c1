import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.modelling import evaluation
from mlassets.modelling.evaluation import Scored
from mlassets.modelling.metrics import METRICS


def binary(rows: int, seed: int, digits: int = 2) -> Scored:
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 2, rows)
    actual[:2] = [0, 1]
    probability = np.round(np.clip(0.3 * actual + rng.random(rows) * 0.7, 0, 1), digits)
    return Scored("binary", actual, (probability >= 0.5).astype(int), probability)


def multiclass(rows: int, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 3, rows)
    actual[:3] = [0, 1, 2]
    probability = rng.random((rows, 3)) + np.eye(3)[actual] * 0.4
    probability /= probability.sum(axis=1, keepdims=True)
    return Scored("multiclass", actual, probability.argmax(axis=1), probability, ("a", "b", "c"))


def regression(rows: int, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    actual = rng.normal(100, 5, rows)
    return Scored("regression", actual, actual + rng.normal(size=rows))


@settings(max_examples=40)
@given(rows=st.integers(4, 80), seed=st.integers(0, 10_000), digits=st.integers(1, 6))
def test_binary_metrics_are_those_of_scikit_learn(rows, seed, digits):
    scored = binary(rows, seed, digits)
    y, p, s = scored.actual, scored.predicted, scored.probability
    inside = np.clip(s, np.finfo(float).eps, 1 - np.finfo(float).eps)

    found = evaluation.point_metrics(scored)

    assert found == pytest.approx(
        {
            "roc_auc": reference.roc_auc_score(y, s),
            "average_precision": reference.average_precision_score(y, s),
            "log_loss": reference.log_loss(y, inside),
            "brier": reference.brier_score_loss(y, s),
            "f1": reference.f1_score(y, p, zero_division=0),
            "precision": reference.precision_score(y, p, zero_division=0),
            "recall": reference.recall_score(y, p),
            "accuracy": reference.accuracy_score(y, p),
            "balanced_accuracy": reference.balanced_accuracy_score(y, p),
        }
    )


@settings(max_examples=25)
@given(rows=st.integers(5, 80), seed=st.integers(0, 10_000))
def test_multiclass_and_regression_metrics_are_those_of_scikit_learn(rows, seed):
    many = multiclass(rows, seed)
    y, p, s = many.actual, many.predicted, many.probability
    assert evaluation.point_metrics(many) == pytest.approx(
        {
            "accuracy": reference.accuracy_score(y, p),
            "balanced_accuracy": reference.balanced_accuracy_score(y, p),
            "f1_macro": reference.f1_score(y, p, average="macro"),
            "log_loss": reference.log_loss(y, s),
            "roc_auc_ovr": reference.roc_auc_score(y, s, multi_class="ovr"),
        }
    )
    number = regression(rows, seed)
    y, p = number.actual, number.predicted
    assert evaluation.point_metrics(number) == pytest.approx(
        {
            "rmse": reference.root_mean_squared_error(y, p),
            "mae": reference.mean_absolute_error(y, p),
            "r2": reference.r2_score(y, p),
            "median_absolute_error": reference.median_absolute_error(y, p),
            "mape": reference.mean_absolute_percentage_error(y, p),
        }
    )


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(4, 60), seed=st.integers(0, 1000), make=st.sampled_from([binary, multiclass, regression])
)
def test_every_interval_contains_its_metric(rows, seed, make):
    scored = make(rows, seed)
    resampled = evaluation.resample({"model": scored}, seed)

    for metric, value in resampled.points["model"].items():
        ends = resampled.interval("model", metric)
        assert ends is None or ends[0] <= value <= ends[1]


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    truth, hits = 0.7, 0
    for seed in range(150):
        actual = np.ones(200, dtype=int)
        predicted = (np.random.default_rng(seed).random(200) < truth).astype(int)
        scored = Scored("binary", actual, predicted, predicted.astype(float))
        low, high = evaluation.resample({"m": scored}, seed).interval("m", "accuracy")
        hits += low <= truth <= high

    assert 0.88 <= hits / 150 <= 0.99


def test_capping_the_rows_of_a_resample_keeps_the_width_of_the_interval(monkeypatch):
    scored = binary(4000, 1)
    full = evaluation.resample({"m": scored}, 3, resamples=400).interval("m", "roc_auc")
    monkeypatch.setattr(evaluation, "ROWS_PER_RESAMPLE", 500)
    capped = evaluation.resample({"m": scored}, 3, resamples=400).interval("m", "roc_auc")

    assert (capped[1] - capped[0]) == pytest.approx(full[1] - full[0], rel=0.25)


def test_a_paired_gain_is_narrower_than_two_separate_intervals_and_positive_when_better():
    good = binary(500, 2)
    worse = Scored("binary", good.actual, good.predicted, np.clip(good.probability * 0.9 + 0.1, 0, 1))
    both = evaluation.resample({"good": good, "worse": worse}, 0)

    gain, (low, high) = both.gain("good", "worse", "brier", "binary")
    alone = both.interval("good", "brier")

    assert 0 < low < gain < high
    assert high - low < alone[1] - alone[0]


def test_metrics_that_need_an_absent_class_are_absent_and_never_nan():
    scored = Scored("binary", np.zeros(5, dtype=int), np.zeros(5, dtype=int), np.full(5, 0.2))

    found = evaluation.point_metrics(scored)

    assert set(found) == {"log_loss", "brier", "accuracy"}
    assert evaluation.point_metrics(scored.rows(np.zeros(5, dtype=bool))) == {}


@settings(max_examples=30)
@given(
    rows=st.integers(4, 60),
    seed=st.integers(0, 1000),
    metric=st.sampled_from(["f1", "accuracy", "balanced_accuracy"]),
)
def test_the_chosen_threshold_is_the_best_of_all_that_matter(rows, seed, metric):
    scored = binary(rows, seed)

    def at(threshold: float) -> float:
        predicted = (scored.probability >= threshold).astype(int)
        return evaluation.one_metric(Scored("binary", scored.actual, predicted, scored.probability), metric)

    threshold, criterion = evaluation.best_threshold(scored.actual, scored.probability, metric)

    assert criterion == metric
    assert at(threshold) == pytest.approx(max(at(t) for t in np.linspace(-0.005, 1.005, 102)))


def test_a_calibrated_model_has_a_small_expected_error_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    share = rng.random(20_000) * 0.8
    actual = (rng.random(20_000) < share).astype(int)

    honest = evaluation.calibration(Scored("binary", actual, actual, share))
    boasting = evaluation.calibration(Scored("binary", actual, actual, share + 0.2))

    assert honest.metrics["expected_error"] < 0.02
    assert boasting.metrics["expected_error"] == pytest.approx(0.2, abs=0.02)
    assert boasting.metrics["bias"] == pytest.approx(0.2, abs=0.02)


def test_the_worst_slice_comes_first_and_tiny_ones_are_left_out():
    scored = binary(600, 5)
    place = np.array(["good"] * 300 + ["bad"] * 290 + ["tiny"] * 10)
    scored.probability[300:] = 0.5

    slices = evaluation.worst_slices(scored, {"place": pa.chunked_array([place])}, "roc_auc")

    assert [s["value"] for s in slices.kept] == ["bad", "good"]
    assert slices.kept[0]["roc_auc"] == 0.5


@pytest.mark.parametrize("make", [binary, multiclass, regression])
def test_predictions_survive_the_way_through_their_table(make):
    scored = make(60, 1)
    table = evaluation.predictions_table(pa.chunked_array([np.arange(60)]), scored)

    assert table.column_names[:3] == ["row_key", "actual", "prediction"]
    found = evaluation.score_predictions(table, scored.task)
    assert {name for name in found if "." not in name} <= set(METRICS[scored.task])
    assert evaluation.score_predictions(table, scored.task, intervals=False) == pytest.approx(
        evaluation.point_metrics(scored)
    )


def test_odd_class_names_make_safe_columns_and_come_back():
    names = ("", "a b/c|d", "é'\";--", "probability_x", "..")
    probability = np.full((5, 5), 0.2)
    scored = Scored("multiclass", np.arange(5), np.arange(5), probability, tuple(sorted(names)))
    table = evaluation.predictions_table(pa.chunked_array([np.arange(5)]), scored)

    assert all(c.isascii() and not set(c) & set(" /|'\";") for c in table.column_names)
    assert evaluation.scored_from(table, "multiclass").classes == tuple(sorted(names))


def test_segments_with_different_classes_are_pooled():
    first = multiclass(50, 1)
    second = Scored("multiclass", first.actual, first.predicted, first.probability, ("a", "b", "d"))
    tables = [evaluation.predictions_table(pa.chunked_array([np.arange(50)]), s) for s in (first, second)]

    pooled = evaluation.scored_from(pa.concat_tables(tables, promote_options="default"), "multiclass")

    assert pooled.classes == ("a", "b", "c", "d")
    assert np.allclose(pooled.probability.sum(axis=1), 1.0)


def test_predictions_without_a_probability_are_refused_by_name():
    with pytest.raises(evaluation.NotScorable, match="lack probability"):
        evaluation.score_predictions(pa.table({"row_key": ["0"], "actual": [1], "prediction": [1]}), "binary")
