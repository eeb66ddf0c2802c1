"""Everything deepchecks 0.19.1 needs to run on numpy 2, pandas 3 and scikit-learn 1.9, in one place.

deepchecks 0.19.1 is its last release and predates all three. Each entry below names what upstream removed and
where deepchecks still uses it. Nothing here changes what a check computes. Global libraries are left as they
are, but for `DataFrame.applymap`, which nothing else defines: names that deepchecks looks up while it is
being imported are lent for that moment only, and names it looks up later are given to its own modules.

`load()` is the one way into deepchecks, `load_nlp()` the one to its checks of texts; call them before any other
deepchecks import.
"""

import importlib
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from resources.imports import GRAMMAR_OF_IRIS, without


@cache
def load() -> types.ModuleType:
    """Import deepchecks, silent and offline, with every patch applied; returns `deepchecks.tabular`."""
    # Read once at import: without it deepchecks calls home and writes a user id into site-packages.
    os.environ["DISABLE_DEEPCHECKS_ANONYMOUS_TELEMETRY"] = "True"
    # Through ipykernel and nbformat it imports jsonschema.
    with _lent_while_importing(), without(GRAMMAR_OF_IRIS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("deepchecks.tabular.checks")
    for patch in (
        _give_numpy_its_old_names,
        _give_frames_applymap,
        _let_mean_squared_error_take_the_root,
        _ask_scorers_for_probabilities_by_response_method,
        _give_models_sklearn_tags,
        _let_weak_segments_write_in_place,
    ):
        patch()
    # Progress and "showing only the top 10" chatter at WARNING level, once per check and run.
    logging.getLogger("deepchecks").setLevel(logging.ERROR)
    return sys.modules["deepchecks.tabular"]


@cache
def load_nlp() -> types.ModuleType:
    """Import deepchecks' checks of texts, silent and offline, on top of `load()`; returns `deepchecks.nlp`."""
    load()
    with _absent_libraries_stood_in_for(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("deepchecks.nlp.checks")
    _give_numpy_its_old_names()
    return sys.modules["deepchecks.nlp"]


# What `deepchecks.nlp` imports at its top. All of these but seqeval, numba and umap are there to fetch models and
# corpora from the internet, which no check of ours does; seqeval scores token classifiers, numba lends the class of
# a warning, umap draws pictures. Half a gigabyte is not installed for names that nobody calls.
_STOOD_IN_FOR = (
    *("textblob", "nltk", "nltk.corpus", "nltk.tokenize", "torch", "torch.cuda"),
    *("transformers", "transformers.utils", "transformers.utils.logging"),
    *("seqeval", "seqeval.metrics", "seqeval.metrics.sequence_labeling", "seqeval.scheme", "numba", "umap"),
)


class _StandIn(types.ModuleType):
    """A module whose every name is a class that refuses to be made, a `Warning`, so that it can be filtered by."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        where = f"{self.__name__}.{name}"

        def refuse(*_: Any, **__: Any) -> None:
            raise ImportError(f"deepchecks asks for `{where}`, which mlassets does without")

        return type(name, (Warning,), {"__new__": refuse})


@contextmanager
def _absent_libraries_stood_in_for() -> Iterator[None]:
    """Stand in, while deepchecks is imported, for those libraries that nobody else has imported.

    Even where one is installed it is not imported: torch alone takes seconds and hundreds of megabytes.
    """
    absent = [name for name in _STOOD_IN_FOR if name.split(".")[0] not in sys.modules]
    sys.modules.update({name: _StandIn(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def _lent_while_importing() -> Iterator[None]:
    """Lend names that deepchecks looks up at import time.

    Numpy 2.0 removed `np.Inf` (a default argument in `performance_bias`); scikit-learn 1.8 removed the scorer
    name `max_error` for `neg_max_error` (`metric_utils.scorers`).
    """
    import numpy as np
    from sklearn.metrics import _scorer

    lent_inf = not hasattr(np, "Inf")
    lent_scorer = "max_error" not in _scorer._SCORERS
    if lent_inf:
        np.Inf = np.inf  # type: ignore[attr-defined]
    if lent_scorer:
        _scorer._SCORERS["max_error"] = _scorer._SCORERS["neg_max_error"]
    try:
        yield
    finally:
        if lent_inf:
            del np.Inf  # type: ignore[attr-defined]
        if lent_scorer:
            del _scorer._SCORERS["max_error"]


def _deepchecks_modules() -> list[types.ModuleType]:
    return [
        module for name, module in list(sys.modules.items()) if name.split(".")[0] == "deepchecks" and module
    ]


def _give_numpy_its_old_names() -> None:
    """Let deepchecks' modules see a numpy with `NaN`, `Inf`, `NINF` and `quantile(interpolation=)`.

    numpy 2.0 removed the three spellings (`feature_feature_correlation`, `weak_segment_abstract`,
    `partition`); numpy 2.4 removed the argument `interpolation=` for `method=` (`outlier_sample_detection`,
    `string_length_out_of_bounds`).
    """
    import numpy as np

    if hasattr(np, "NaN"):
        return

    def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, interpolation: str | None = None, **kwargs: Any) -> Any:
            return function(*args, **kwargs, **({"method": interpolation} if interpolation else {}))

        return call

    class OldNumpy(types.ModuleType):
        NaN, Inf, NINF = np.nan, np.inf, -np.inf
        quantile, percentile = staticmethod(renamed(np.quantile)), staticmethod(renamed(np.percentile))

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    old = OldNumpy("numpy")
    for module in _deepchecks_modules():
        if module.__dict__.get("np") is np:
            module.__dict__["np"] = old


def _give_frames_applymap() -> None:
    """Pandas 3.0 removed `DataFrame.applymap` for `DataFrame.map` (`train_test_samples_mix`)."""
    import pandas as pd

    if not hasattr(pd.DataFrame, "applymap"):
        pd.DataFrame.applymap = pd.DataFrame.map


def _let_mean_squared_error_take_the_root() -> None:
    """scikit-learn 1.6 removed `mean_squared_error(squared=)` for `root_mean_squared_error`.

    Used by `regression_error_distribution`, `regression_systematic_error` and the scorers `mse` and `rmse`.
    """
    from sklearn.metrics import make_scorer, mean_squared_error, root_mean_squared_error

    def with_squared(*args: Any, squared: bool = True, **kwargs: Any) -> Any:
        return (mean_squared_error if squared else root_mean_squared_error)(*args, **kwargs)

    for module in _deepchecks_modules():
        if module.__dict__.get("mean_squared_error") is mean_squared_error:
            module.__dict__["mean_squared_error"] = with_squared
    from deepchecks.tabular.metric_utils import scorers

    for names, function in (
        (("mean_squared_error", "mse"), mean_squared_error),
        (("root_mean_squared_error", "rmse"), root_mean_squared_error),
    ):
        for name in names:
            _replace_scorer(scorers, name, make_scorer(function))


def _ask_scorers_for_probabilities_by_response_method() -> None:
    """scikit-learn 1.6 removed `make_scorer(needs_proba=True)`, which now reaches the metric as an argument.

    Used by the scorers `neg_log_loss` and `roc_auc_per_class`.
    """
    from deepchecks.tabular.metric_utils import scorers
    from sklearn.metrics import log_loss, make_scorer

    _replace_scorer(
        scorers,
        "neg_log_loss",
        make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1]),
    )
    _replace_scorer(
        scorers, "roc_auc_per_class", make_scorer(scorers.roc_auc_per_class, response_method="predict_proba")
    )


def _replace_scorer(scorers: types.ModuleType, name: str, scorer: Any) -> None:
    for table in (
        scorers.regression_scorers_lower_is_better_dict,
        scorers.binary_scorers_dict,
        scorers.multiclass_scorers_dict,
        scorers._str_to_scorer_dict,
    ):
        if name in table:
            table[name] = scorer


def _give_models_sklearn_tags() -> None:
    """scikit-learn 1.7 asks every scored model for `__sklearn_tags__`, which duck-typed models lack.

    Concerns deepchecks' inner `MyModelWrapper`, `PerfectModel`, the random and uniform models, `_DummyModel`
    and `PartialBoostingModel`.
    """
    import deepchecks.tabular.checks.model_evaluation.boosting_overfit as boosting
    import sklearn.utils
    from deepchecks.tabular import context
    from deepchecks.tabular.metric_utils.scorers import DeepcheckScorer
    from deepchecks.utils import simple_models

    if not hasattr(sklearn.utils, "Tags"):
        return

    def tags(self: Any) -> Any:
        kind = getattr(self, "_estimator_type", "regressor")
        return sklearn.utils.Tags(
            estimator_type=kind,
            target_tags=sklearn.utils.TargetTags(required=True),
            classifier_tags=sklearn.utils.ClassifierTags() if kind == "classifier" else None,
            regressor_tags=sklearn.utils.RegressorTags() if kind == "regressor" else None,
        )

    for model in (
        simple_models.PerfectModel,
        simple_models.RandomModel,
        simple_models.ClassificationUniformModel,
        simple_models.RegressionUniformModel,
        context._DummyModel,
        boosting.PartialBoostingModel,
    ):
        model.__sklearn_tags__ = tags

    wrap = DeepcheckScorer._wrap_classification_model

    def wrap_with_tags(self: Any, model: Any, data: Any) -> Any:
        wrapped = wrap(self, model, data)
        type(wrapped).__sklearn_tags__ = tags
        return wrapped

    DeepcheckScorer._wrap_classification_model = wrap_with_tags


def _let_weak_segments_write_in_place() -> None:
    """Pandas 3.0 made chained assignment a no-op, leaving codes for names (`weak_segment_abstract`)."""
    from deepchecks.utils.abstracts.weak_segment_abstract import WeakSegmentAbstract

    def value(self: Any, weak_segments_df: Any, cat_features: list[str], avg_score: float) -> dict[str, Any]:
        output = weak_segments_df.copy()
        for side in ("Feature1", "Feature2"):
            column = f"{side} Range"
            output[column] = [
                self._format_partition_vec_for_display(bounds, feature, None)[0]
                if feature in cat_features
                else bounds
                for feature, bounds in zip(weak_segments_df[side], weak_segments_df[column], strict=True)
            ]
        return {"weak_segments_list": output, "avg_score": avg_score}

    WeakSegmentAbstract._generate_check_result_value = value
