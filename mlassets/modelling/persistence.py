"""Which types a model of ours may hold; `resources.estimators` makes bytes of it and back."""

from typing import Any, Final

from resources import estimators
from resources.estimators import UntrustedModel

__all__ = ["TRUSTED", "UntrustedModel", "dump_estimator", "load_estimator"]

_SKLEARN: Final = {
    "_loss._loss": ("CyHalfBinomialLoss", "CyHalfMultinomialLoss", "CyHalfSquaredError"),
    "_loss.link": ("IdentityLink", "Interval", "LogitLink", "MultinomialLogit"),
    "_loss.loss": ("HalfBinomialLoss", "HalfMultinomialLoss", "HalfSquaredError"),
    "compose._column_transformer": ("ColumnTransformer",),
    "dummy": ("DummyClassifier", "DummyRegressor"),
    "ensemble._forest": ("RandomForestClassifier", "RandomForestRegressor"),
    "ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    ),
    "ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "frozen._frozen": ("FrozenEstimator",),
    "impute._base": ("MissingIndicator", "SimpleImputer"),
    "linear_model._logistic": ("LogisticRegression",),
    "linear_model._ridge": ("Ridge",),
    "model_selection._classification_threshold": ("FixedThresholdClassifier",),
    "pipeline": ("Pipeline",),
    "preprocessing._data": ("StandardScaler",),
    "preprocessing._encoders": ("OneHotEncoder", "OrdinalEncoder"),
    # What ColumnTransformer makes of "passthrough"; a function inside one would be an entry of its own, and refused.
    "preprocessing._function_transformer": ("FunctionTransformer",),
    "preprocessing._label": ("LabelEncoder",),
    "tree._classes": ("DecisionTreeClassifier", "DecisionTreeRegressor"),
    "tree._tree": ("Tree",),
}

TRUSTED: Final = frozenset(
    [
        *(f"sklearn.{module}.{name}" for module, names in _SKLEARN.items() for name in names),
        *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "slice", "str", "tuple")),
        *(f"numpy.{name}" for name in ("bool", "dtype", "float64", "int32", "int64", "ndarray", "uint64")),
        "numpy.random._generator.Generator",
    ]
)
"""Every type that a model file may hold: those of our own pipelines and no others."""

_REMEDY: Final = (
    "It was not loaded. Only models trained by mlassets can be loaded; if this is one, it was changed after its "
    "commit."
)


def dump_estimator(estimator: Any) -> bytes:
    """Return a fitted estimator as the bytes of a skops file: equal bytes for equal models.

    Raises:
        UntrustedModel: If the estimator holds a type that `load_estimator` would refuse.
    """
    return estimators.dump_estimator(estimator, TRUSTED, only=True, remedy=_REMEDY)


def load_estimator(data: bytes) -> Any:
    """Return the estimator of a skops file, if it holds nothing but types on the allow-list.

    Raises:
        UntrustedModel: If the file is damaged, holds any other type, or holds a tree that points outside itself.
    """
    return estimators.load_estimator(data, TRUSTED, only=True, remedy=_REMEDY)
