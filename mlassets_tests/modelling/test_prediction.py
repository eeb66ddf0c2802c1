import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.modelling.features import make_model_ready
from mlassets.modelling.persistence import load_estimator
from mlassets.modelling.prediction import predict_rows
from mlassets.modelling.training import Trained, train
from mlassets_tests.modelling.drawn import departures

TARGETS = {
    "binary": ("late", "roc_auc", ["delay", "cause"]),
    "multiclass": ("cause", "balanced_accuracy", ["late", "delay"]),
    "regression": ("delay", "rmse", ["late", "cause"]),
}


@pytest.fixture(scope="module", params=list(TARGETS))
def trained(request: pytest.FixtureRequest) -> tuple[str, pa.Table, Trained]:
    target, metric, drop = TARGETS[request.param]
    table = make_model_ready(
        departures(300), target=target, task=request.param, drop=drop, by="random", test=0.25, validation=0.25
    ).table
    found = train(
        table,
        task=request.param,
        candidates=["baseline", "linear"],
        metric=metric,
        trials=1,
        seconds=60,
        seed=0,
    )
    return request.param, table, found


def test_a_stored_model_makes_its_test_predictions_again_exactly(trained) -> None:
    task, table, found = trained
    rows = table.filter(pc.equal(table["split"], "test"))
    again = predict_rows(load_estimator(found.artifacts["model.skops"]), rows, task)
    before = found.predictions.drop_columns("actual")
    assert set(again.column_names) == set(before.column_names)
    assert (
        again.sort_by("row_key").to_pydict()
        == before.select(again.column_names).sort_by("row_key").to_pydict()
    )


def test_predictions_do_not_depend_on_the_other_rows_or_their_order(trained) -> None:
    task, table, found = trained
    model = load_estimator(found.artifacts["model.skops"])
    rows = table.slice(0, 20)
    turned = predict_rows(model, rows.take(list(range(19, -1, -1))), task).sort_by("row_key")
    alone = pa.concat_tables([predict_rows(model, rows.slice(k, 1), task) for k in range(20)]).sort_by(
        "row_key"
    )
    together = predict_rows(model, rows, task).sort_by("row_key")
    assert together.select(["row_key", "prediction"]).equals(turned.select(["row_key", "prediction"]))
    for name in together.column_names:
        if pa.types.is_floating(together[name].type):
            np.testing.assert_allclose(alone[name], together[name], rtol=1e-9)


def test_a_feature_that_is_not_there_counts_as_missing(trained) -> None:
    task, table, found = trained
    model = load_estimator(found.artifacts["model.skops"])
    gone = table.drop_columns("carrier")
    empty = table.set_column(
        table.column_names.index("carrier"),
        table.schema.field("carrier"),
        pa.nulls(table.num_rows, table.schema.field("carrier").type),
    )
    assert predict_rows(model, gone, task).equals(predict_rows(model, empty, task))


def test_a_category_never_seen_in_training_is_predicted(trained) -> None:
    task, table, found = trained
    at = table.column_names.index("carrier")
    strange = table.set_column(at, table.schema.field("carrier"), pa.array(["never seen"] * table.num_rows))
    predicted = predict_rows(load_estimator(found.artifacts["model.skops"]), strange, task)
    assert predicted["prediction"].null_count == 0
    for name in predicted.column_names:
        if pa.types.is_floating(predicted[name].type):
            assert np.isfinite(predicted[name].to_numpy()).all()


def test_no_rows_give_no_predictions_of_the_same_types(trained) -> None:
    task, table, found = trained
    model = load_estimator(found.artifacts["model.skops"])
    assert predict_rows(model, table.slice(0, 0), task).schema == predict_rows(model, table, task).schema
