"""Predict rows with a stored model, in the form in which `train` left its test predictions."""

from typing import Any

import numpy as np
import pyarrow as pa

from mlassets.modelling.evaluation import PREDICTION, PROBABILITY, probability_column
from mlassets.modelling.metrics import Task
from resources.roles import ROW_KEY


def predict_rows(pipeline: Any, rows: pa.Table, task: Task) -> pa.Table:
    """Return one prediction for each row.

    Args:
        pipeline: As loaded by `load_estimator`.
        rows: Model-ready rows; a feature that they lack is missing in every row.
        task: What the target is.

    Returns:
        `row_key`, `prediction`, and for a binary target `probability` (that of class 1), for a multiclass one
        `probability_<class>` for each class that the model knows.
    """
    from threadpoolctl import threadpool_limits

    from mlassets.modelling.pipelines import as_frame, kinds_of, outputs

    if not rows.num_rows:
        # scikit-learn refuses to look at no rows; the columns are those of any row.
        return predict_rows(pipeline, pa.Table.from_pylist([{}], schema=rows.schema), task).slice(0, 0)
    # As in training: with several threads a matrix product may differ in its last bit.
    with threadpool_limits(limits=1, user_api="blas"):
        predicted, probability = outputs(pipeline, as_frame(rows, kinds_of(pipeline)), task)
    columns: dict[str, Any] = {ROW_KEY: rows[ROW_KEY].cast(pa.string())}
    if task == "regression":
        columns[PREDICTION] = pa.array(predicted, type=pa.float64())
        return pa.table(columns)
    assert probability is not None, "classifiers give probabilities"
    known = pipeline.steps[-1][1].classes_
    if task == "binary":
        of_one = np.flatnonzero(np.asarray(known) == 1)
        share = probability[:, of_one[0]] if len(of_one) else np.zeros(rows.num_rows)
        columns[PREDICTION] = pa.array(predicted.astype(np.int64))
        columns[PROBABILITY] = pa.array(share, type=pa.float64())
        return pa.table(columns)
    columns[PREDICTION] = pa.array([str(name) for name in predicted], type=pa.string())
    for k, name in enumerate(known):
        columns[probability_column(str(name))] = pa.array(probability[:, k], type=pa.float64())
    return pa.table(columns)
