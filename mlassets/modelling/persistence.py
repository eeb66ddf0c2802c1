"""Models as bytes: skops with an allow-list, in a form that depends on nothing but the model."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from resources.errors import MlassetsError

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

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class UntrustedModel(MlassetsError):
    """A model file holds something that is not on the allow-list, or is damaged."""


def dump_estimator(estimator: Any) -> bytes:
    """Return a fitted estimator as the bytes of a skops file.

    skops names objects by their address in memory and stamps the time; both are replaced, so that equal models give
    equal bytes in any process.

    Raises:
        UntrustedModel: If the estimator holds a type that `load_estimator` would refuse.
    """
    import skops.io

    source = skops.io.dumps(estimator)
    with zipfile.ZipFile(io.BytesIO(source)) as archive:
        schema = json.loads(archive.read("schema.json"))
        _refuse_untrusted(schema)
        members = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    numbers: dict[str, int] = {}
    _renumber(schema, numbers)
    renamed = {_renamed(name, numbers): content for name, content in members.items()}
    renamed["schema.json"] = json.dumps(schema, separators=(",", ":"), sort_keys=False).encode()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in sorted(renamed):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3
            archive.writestr(entry, renamed[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)
    return sink.getvalue()


def load_estimator(data: bytes) -> Any:
    """Return the estimator of a skops file, if it holds nothing but types on the allow-list.

    The caller has compared the bytes with the hash in the manifest; this looks at what is in them.

    Raises:
        UntrustedModel: If the file is damaged, holds any other type, or holds a tree that points outside itself.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError) as error:
        raise UntrustedModel(
            f"the model file cannot be read as a skops file ({error}); fetch it again or train the model anew."
        ) from error
    _refuse_untrusted(schema)
    try:
        estimator = skops.io.loads(data, trusted=sorted(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise UntrustedModel(_refusal([str(error)])) from error
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UntrustedModel(
            f"the model file is damaged ({type(error).__name__}: {error}); fetch it again or train the model anew."
        ) from error
    _check_trees(estimator)
    return estimator


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, parents first, in the order of the file."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(reversed(item.values()))
        elif isinstance(item, list):
            waiting.extend(reversed(item))


def _refuse_untrusted(schema: Any) -> None:
    found = {f"{node['__module__']}.{node['__class__']}" for node in _nodes(schema) if "__class__" in node}
    if unknown := sorted(found - TRUSTED):
        raise UntrustedModel(_refusal(unknown))


def _refusal(types: list[str]) -> str:
    return (
        f"the model file holds types that are not on the allow-list: {', '.join(types)}. It was not loaded. "
        "Only models trained by mlassets can be loaded; if this is one, it was changed after its commit."
    )


def _renumber(schema: Any, numbers: dict[str, int]) -> None:
    for node in _nodes(schema):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(str(node["__id__"]), len(numbers) + 1)
        if isinstance(node.get("file"), str):
            node["file"] = _renamed(node["file"], numbers)


def _renamed(name: str, numbers: dict[str, int]) -> str:
    stem, _, suffix = name.partition(".")
    return f"{numbers.setdefault(stem, len(numbers) + 1)}.{suffix}"


def _check_trees(estimator: Any) -> None:
    """Refuse trees whose nodes point outside the tree or its features.

    scikit-learn follows these numbers without looking (https://github.com/scikit-learn/scikit-learn/pull/34558), so a
    forged file could make a prediction read foreign memory.
    """
    final = getattr(estimator, "steps", [(None, estimator)])[-1][1]
    final = getattr(final, "estimator_", final)
    final = getattr(final, "estimator", final)
    features = getattr(final, "n_features_in_", 0)
    for predictors in getattr(final, "_predictors", ()):
        for predictor in predictors:
            nodes = predictor.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            _check_tree(
                np.concatenate([inner["left"], inner["right"]]), inner["feature_idx"], len(nodes), features
            )
            if nodes["is_categorical"].any():
                raise UntrustedModel(
                    "the model file holds a categorical tree split, which mlassets never makes."
                )
    for tree in getattr(final, "estimators_", ()):
        structure = tree.tree_
        inner = structure.children_left != -1
        children = np.concatenate([structure.children_left[inner], structure.children_right[inner]])
        _check_tree(children, structure.feature[inner], structure.node_count, features)


def _check_tree(children: Any, used: Any, nodes: int, features: int) -> None:
    inside = (children > 0) & (children < nodes)
    if nodes == 0 or not inside.all() or not ((used >= 0) & (used < features)).all():
        raise UntrustedModel(
            "the model file holds a decision tree that points outside itself; it was changed after it was written. "
            "It was not loaded."
        )
