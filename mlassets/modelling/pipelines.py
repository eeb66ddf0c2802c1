"""The candidates: how each prepares its features, what it searches, how it is fitted. Imports scikit-learn."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from mlassets.modelling.metrics import Task
from resources.roles import Kind

MISSING = "(missing)"
FOREST_THREADS = 2
"""Threads that grow a forest. Everything else is fitted on one: OpenMP threads wait by spinning, so that two runs
that share the cores slow each other down tenfold, and the last bits of a sum can depend on how it was divided."""

Range = tuple[str, float, float]
"""How a hyper-parameter is searched: `log`, `float` or `int`, `log_int`, then both ends."""

SEARCH_SPACE: Mapping[str, Mapping[Task | str, Mapping[str, Range]]] = {
    "linear": {
        "classification": {"C": ("log", 1e-3, 1e2)},
        "regression": {"alpha": ("log", 1e-2, 1e3)},
    },
    "gradient_boosting": {
        "any": {
            "learning_rate": ("log", 0.03, 0.3),
            "max_leaf_nodes": ("log_int", 7, 63),
            "min_samples_leaf": ("log_int", 10, 100),
            "l2_regularization": ("log", 1e-3, 10.0),
        }
    },
    "random_forest": {"any": {"max_features": ("float", 0.2, 0.8), "min_samples_leaf": ("log_int", 2, 50)}},
}

DEFAULTS: Mapping[str, float] = {
    "C": 1.0,
    "alpha": 1.0,
    "learning_rate": 0.1,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.1,
    "max_features": 0.5,
}
"""What each hyper-parameter is tried at first."""

_STAGE = 25
_STAGES = {"gradient_boosting": 12, "random_forest": 4}
_SIZE = {"gradient_boosting": "max_iter", "random_forest": "n_estimators"}


def as_frame(table: pa.Table, features: Mapping[str, Kind]) -> pd.DataFrame:
    """Return features as the frame that pipelines are fitted on.

    Numeric and boolean features are float64 with NaN, categorical ones Python strings with NaN. A feature that the
    table lacks is missing in every row.
    """
    columns: dict[str, Any] = {}
    for name, kind in features.items():
        if name not in table.column_names:
            empty: Any = np.full(table.num_rows, np.nan)
            columns[name] = empty.astype(object) if kind == "categorical" else empty
        elif kind == "categorical":
            text = table[name].to_numpy(zero_copy_only=False).astype(object)
            text[pd.isna(text)] = np.nan
            columns[name] = pd.Series(text, dtype=object)
        else:
            numbers = table[name].cast(pa.int8()) if pa.types.is_boolean(table[name].type) else table[name]
            columns[name] = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def preparation(candidate: str, kinds: Mapping[str, Kind]) -> ColumnTransformer:
    """Return the unfitted preparation of a candidate: imputation, encoding and, for `linear`, scaling.

    `linear` gets one-hot categories and scaled, imputed numbers with an indicator of what was missing;
    `gradient_boosting` keeps missing numbers, which it handles itself; both forests get categories as numbers. No
    native categorical features are used: explanations of those are silently wrong.
    """
    by_kind = {
        kind: [name for name, of in kinds.items() if of == kind]
        for kind in ("numeric", "categorical", "boolean")
    }
    linear = candidate == "linear"
    numeric: Any = "passthrough"
    if linear:
        numeric = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
        )
    elif candidate == "random_forest":
        numeric = SimpleImputer(strategy="median", keep_empty_features=True)
    limits = {"max_categories": 50 if linear else 200, "min_frequency": 10}
    encoder = (
        OneHotEncoder(handle_unknown="infrequent_if_exist", **limits)
        if linear
        else OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **limits)
    )
    # Two imputers, because NaN and None both stand for a missing text, depending on who built the frame.
    categorical = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=MISSING, keep_empty_features=True),
        SimpleImputer(missing_values=None, strategy="constant", fill_value=MISSING, keep_empty_features=True),
        encoder,
    )
    booleans = [[0.0, 1.0]] * len(by_kind["boolean"])
    boolean = make_pipeline(
        OrdinalEncoder(categories=booleans, handle_unknown="use_encoded_value", unknown_value=np.nan),
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
    )
    steps = {"numeric": numeric, "categorical": categorical, "boolean": boolean}
    return ColumnTransformer(
        [(kind, step, by_kind[kind]) for kind, step in steps.items() if by_kind[kind]],
        remainder="drop",
        verbose_feature_names_out=False,
    )


def space(candidate: str, task: Task) -> Mapping[str, Range]:
    """Return what is searched for a candidate, by hyper-parameter."""
    spaces = SEARCH_SPACE[candidate]
    return spaces.get("any") or spaces["regression" if task == "regression" else "classification"]


def unfitted(candidate: str, task: Task, metric: str, values: Mapping[str, Any], seed: int) -> Any:
    """Return the estimator of a candidate with the given hyper-parameters."""
    regression = task == "regression"
    if candidate == "baseline":
        if regression:
            return DummyRegressor(
                strategy="median" if metric in ("mae", "median_absolute_error", "mape") else "mean"
            )
        return DummyClassifier(strategy="prior")
    if candidate == "linear":
        return Ridge(**values) if regression else LogisticRegression(max_iter=500, **values)
    if candidate == "gradient_boosting":
        boosting = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return boosting(max_iter=_STAGE, early_stopping=False, warm_start=True, random_state=seed, **values)
    forest = RandomForestRegressor if regression else RandomForestClassifier
    return forest(n_estimators=_STAGE, warm_start=True, n_jobs=FOREST_THREADS, random_state=seed, **values)


def grow(candidate: str, estimator: Any, x: Any, y: npt.NDArray[Any]) -> Iterator[int]:
    """Fit an estimator, stage by stage where it is built of trees; yields the stage after each."""
    stages = _STAGES.get(candidate, 1)
    for stage in range(1, stages + 1):
        if stages > 1:
            estimator.set_params(**size_at(candidate, stage))
        estimator.fit(x, y)
        if candidate == "random_forest":
            # Threads add up the trees' votes in any order, and the last bit of a float sum depends on it.
            estimator.n_jobs = None
        yield stage
        if candidate == "random_forest":
            estimator.n_jobs = FOREST_THREADS


def size_at(candidate: str, stage: int) -> dict[str, int]:
    """Return how many trees an estimator has after a stage; empty for one without trees."""
    return {_SIZE[candidate]: stage * _STAGE} if candidate in _SIZE else {}


def assemble(prepared: ColumnTransformer | str, estimator: Any) -> Pipeline:
    """Join a fitted preparation and a fitted estimator into one pipeline."""
    return Pipeline([("prepare", prepared), ("estimate", estimator)])


def settled(candidate: str, pipeline: Pipeline, stage: int, x: Any, y: npt.NDArray[Any]) -> Pipeline:
    """Bring a pipeline to an earlier stage if it has grown past it, and reset what served the staged fit."""
    estimator = pipeline.named_steps["estimate"]
    if "warm_start" not in estimator.get_params() or candidate not in _SIZE:
        return pipeline
    estimator.set_params(warm_start=False)
    if estimator.get_params()[_SIZE[candidate]] != stage * _STAGE:
        estimator.set_params(**size_at(candidate, stage)).fit(x, y)
    if candidate == "random_forest":
        estimator.set_params(n_jobs=None)
    return pipeline


def kinds_of(pipeline: Pipeline) -> dict[str, Kind]:
    """Return the features that a fitted pipeline reads, with their kinds."""
    prepared = pipeline.named_steps["prepare"]
    if not isinstance(prepared, ColumnTransformer):
        return {}
    return {name: kind for kind, _, names in prepared.transformers_ if kind != "remainder" for name in names}


def with_threshold(
    pipeline: Pipeline, threshold: float, frame: pd.DataFrame, actual: npt.NDArray[Any]
) -> Pipeline:
    """Return a binary pipeline whose `predict` says 1 from `threshold` on; nothing is fitted again."""
    prepared, estimator = pipeline.named_steps["prepare"], pipeline.named_steps["estimate"]
    rows = [int(np.argmax(actual == value)) for value in np.unique(actual)]
    x = frame.iloc[rows] if prepared == "passthrough" else prepared.transform(frame.iloc[rows])
    fixed = FixedThresholdClassifier(FrozenEstimator(estimator), threshold=threshold, pos_label=1)
    return Pipeline([("prepare", prepared), ("estimate", fixed.fit(x, actual[rows]))])


def outputs(
    pipeline: Pipeline, frame: pd.DataFrame, task: Task
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None]:
    """Return predictions and, for a classification, probabilities (rows x `classes_`)."""
    x = frame
    for _, step in pipeline.steps[:-1]:
        x = x if step == "passthrough" else step.transform(x)
    return _last(pipeline.steps[-1][1], x, task)


def _last(estimator: Any, x: Any, task: Task) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None]:
    if task == "regression":
        return np.asarray(estimator.predict(x), dtype=np.float64), None
    probability = np.asarray(estimator.predict_proba(x), dtype=np.float64)
    if isinstance(estimator, FixedThresholdClassifier) and len(estimator.classes_) == 2:
        return estimator.classes_[(probability[:, 1] >= estimator.threshold).astype(int)], probability
    return estimator.classes_[probability.argmax(axis=1)], probability
