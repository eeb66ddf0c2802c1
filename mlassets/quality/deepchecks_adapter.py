"""Runs deepchecks' checks on a seeded sample and reduces each result to one effect size.

deepchecks is imported when a check runs, not before (5-7 s), through `deepchecks_compat`. Frames come in as pandas;
`frames.py` makes them from Arrow.
"""

import html
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mlassets.quality import deepchecks_compat
from mlassets.quality.checks import CheckEntry, Task
from mlassets.quality.displays import Display, Figure, Table, Text
from mlassets.quality.judging import DoesNotApply, Observation

_NEEDS_LABEL = frozenset(
    ("FeatureLabelCorrelation", "FeatureLabelCorrelationChange", "IdentifierLabelCorrelation", "LabelDrift")
)
_NEEDS_DATE = frozenset(("DateTrainTestLeakageDuplicates", "DateTrainTestLeakageOverlap"))
_NEEDS_CATEGORIES = frozenset(("NewCategoryTrainTest",))
_NEEDS_TWO_FEATURES = frozenset(("FeatureFeatureCorrelation", "WeakSegmentsPerformance", "UnusedFeatures"))
# The boosting models whose iterations deepchecks can cut short; scikit-learn's histogram boosting is not one.
_CUTTABLE = frozenset(
    (
        "AdaBoostClassifier", "GradientBoostingClassifier", "AdaBoostRegressor", "GradientBoostingRegressor",
        "LGBMClassifier", "LGBMRegressor", "XGBClassifier", "XGBRegressor", "CatBoostClassifier",
        "CatBoostRegressor",
    )
)  # fmt: skip
# LoOP takes the square of the rows: 2 s at 2,500, 30 s at 10,000.
_MOST_ROWS = {"OutlierSampleDetection": 2_500, "WeakSegmentsPerformance": 5_000, "UnusedFeatures": 5_000}
# Predictive power scores cross-validate a tree per feature; weak segments grow trees for every pair of features.
_OPTIONS: dict[str, dict[str, Any]] = {
    "OutlierSampleDetection": {"timeout": 0},
    "FeatureLabelCorrelation": {"ppscore_params": {"sample": 2_500}},
    "FeatureLabelCorrelationChange": {"ppscore_params": {"sample": 2_500}},
    "IdentifierLabelCorrelation": {"ppscore_params": {"sample": 2_500}},
    "WeakSegmentsPerformance": {"n_top_features": 6},
}
_MOST_ROWS_FOR_IMPORTANCE = 1_000
_MOST_PREDICTIONS_FOR_IMPORTANCE = 60_000
# These look inside the model, or time it; all others ask for predictions, which are made once.
_NEEDS_THE_MODEL_ITSELF = frozenset(("BoostingOverfit", "ModelInferenceTime"))


@dataclass(frozen=True)
class Judged:
    """What deepchecks is given: one or two frames, and perhaps a model.

    Attributes:
        train: The only frame, or the one trained on.
        test: The frame to compare with, or None.
        target: Name of the target column.
        task: What the target is.
        features: Columns that count as features, in the model's order.
        categorical: Those of them that are categories.
        key: Column that identifies a row, if any.
        date: Column that dates a row, if any.
        estimator: Fitted scikit-learn estimator that takes a frame of the features.
        seed: Seed of every sample and of every check that draws at random.
        drawn_from: Rows that the frames were sampled from.
        names: What figures call the frames.
    """

    train: Any
    test: Any
    target: str
    task: Task
    features: Sequence[str]
    categorical: Sequence[str]
    key: str | None = None
    date: str | None = None
    estimator: Any = None
    seed: int = 0
    drawn_from: int = 0
    names: tuple[str, str] = ("Train", "Test")

    @property
    def n(self) -> int:
        """Rows in the frames."""
        return len(self.train) + (len(self.test) if self.test is not None else 0)

    @property
    def compared(self) -> float:
        """Rows on each side: the harmonic mean of two frames, the rows of one."""
        if self.test is None:
            return len(self.train)
        return 2 * len(self.train) * len(self.test) / self.n if self.n else 0


@dataclass
class Deepchecks:
    """One context of deepchecks, shared by the checks of a suite.

    Attributes:
        judged: The frames and the model.
        with_display: Whether to keep what deepchecks would show.
    """

    judged: Judged
    with_display: bool = True
    _importance: list[Any] = field(default_factory=list)

    def observe(self, entry: CheckEntry) -> Observation:
        """Run the deepchecks class of `entry` and reduce its result to one figure.

        Raises:
            DoesNotApply: If the check has nothing to say about this data or model.
            Exception: Whatever a broken check raises; the caller makes it a failed verdict.
        """
        name = entry.deepchecks
        if name is None:
            raise ValueError(f"{entry.claim} has no deepchecks class")
        judged = self.judged
        self._refuse(name, entry)
        with quiet_and_seeded(judged.seed):
            result, errors = self._run(name)
        if errors is not None:
            raise DoesNotApply(errors, judged.n)
        value, found, details = OBSERVE[name](result.value)
        size = f"a seeded sample of {judged.n:,} of {judged.drawn_from:,} rows"
        details |= {"rows": judged.n, "drawn_from": judged.drawn_from, "seed": judged.seed}
        if name in _MOST_ROWS:
            details["at_most_rows"] = _MOST_ROWS[name]
        shown = tuple(displays_of(result.display)) if self.with_display else ()
        sampled = f" Seen on {size}." if judged.drawn_from > judged.n else ""
        return Observation(value, judged.n, found + sampled, details, judged.compared, shown)

    def _refuse(self, name: str, entry: CheckEntry) -> None:
        judged = self.judged
        reasons = {
            "there are no rows": not len(judged.train) or (judged.test is not None and not len(judged.test)),
            "there is no feature": not judged.features,
            f"it needs one of: {', '.join(entry.tasks)}": judged.task not in entry.tasks,
            "neither a key nor a date is known": name == "IdentifierLabelCorrelation"
            and not (judged.key or judged.date),
            "no key is known": name == "IndexTrainTestLeakage" and not judged.key,
            "no date is known": name in _NEEDS_DATE and not judged.date,
            "there is no categorical feature": name in _NEEDS_CATEGORIES and not judged.categorical,
            "it needs two features": name in _NEEDS_TWO_FEATURES and len(judged.features) < 2,
            "the model is not boosted step by step in a way that can be cut short": name == "BoostingOverfit"
            and _last_step(judged.estimator) not in _CUTTABLE,
        }
        for reason, holds in reasons.items():
            if holds:
                raise DoesNotApply(reason, judged.n)
        if (name in _NEEDS_LABEL or entry.suite == "evaluation") and not self._target_varies:
            raise DoesNotApply("the target does not take two values", judged.n)
        if judged.compared < entry.needs_rows:
            needs = f"{entry.needs_rows:,} are needed"
            raise DoesNotApply(f"too few rows to tell: {judged.compared:,.0f}, where {needs}", judged.n)

    @cached_property
    def _target_varies(self) -> bool:
        frames = [frame for frame in (self.judged.train, self.judged.test) if frame is not None]
        return all(frame[self.judged.target].nunique() > 1 for frame in frames)

    def _run(self, name: str) -> tuple[Any, str | None]:
        tabular = deepchecks_compat.load()
        from deepchecks.core import DatasetKind, errors
        from deepchecks.tabular import checks

        options = {"random_state": self.judged.seed} | _OPTIONS.get(name, {})
        if name in _MOST_ROWS:
            options["n_samples"] = _MOST_ROWS[name]
        check = getattr(checks, name)(**options)
        context = self._model_context if name in _NEEDS_THE_MODEL_ITSELF else self._context
        try:
            if name == "FeatureDrift" and self.with_display:
                return _drawing_the_worst(check, context), None
            if not isinstance(check, tabular.SingleDatasetCheck):
                return check.run_logic(context), None
            kind = DatasetKind.TRAIN if self.judged.test is None else DatasetKind.TEST
            return check.run_logic(context, dataset_kind=kind), None
        except (errors.NotEnoughSamplesError, errors.DeepchecksNotSupportedError) as error:
            return None, str(error).rstrip(".")
        except errors.DeepchecksProcessError as error:
            if "unable to train an error model" not in str(error):
                raise
            return None, "no segment could be told from the rest"

    @cached_property
    def _context(self) -> Any:
        estimator = self.judged.estimator
        if estimator is None:
            return self._context_with(None)
        return self._context_with(_Remembering(estimator, [frame[self._names] for frame in self._frames]))

    @cached_property
    def _model_context(self) -> Any:
        return self._context_with(self.judged.estimator)

    @property
    def _names(self) -> list[str]:
        return list(self.judged.features)

    @cached_property
    def _frames(self) -> list[Any]:
        """The frames under one running index, by which predictions are remembered."""
        import pandas as pd

        frames, start = [], 0
        for frame in (self.judged.train, self.judged.test):
            if frame is not None:
                frames.append(frame.set_axis(pd.RangeIndex(start, start + len(frame)), axis="index"))
                start += len(frame)
        return frames

    @cached_property
    def _datasets(self) -> list[Any]:
        tabular = deepchecks_compat.load()
        judged = self.judged
        return [
            tabular.Dataset(
                frame,
                # A label that no row knows would leave the checks that drop unlabelled rows with nothing.
                label=judged.target if frame[judged.target].notna().any() else None,
                features=self._names,
                cat_features=list(judged.categorical),
                index_name=judged.key,
                datetime_name=judged.date,
                label_type=judged.task,
                dataset_name=name,
            )
            for frame, name in zip(self._frames, judged.names, strict=False)
        ]

    def _context_with(self, model: Any) -> Any:
        tabular = deepchecks_compat.load()
        datasets = self._datasets
        # A timeout of 0 keeps deepchecks from permuting 30 times over; importances come from us, once.
        return tabular.Context(
            datasets[0],
            datasets[1] if len(datasets) > 1 else None,
            model,
            feature_importance=None if model is None else self._importances,
            feature_importance_timeout=0,
            with_display=self.with_display,
        )

    @cached_property
    def _importances(self) -> Any:
        """Permutation importances as shares of their sum.

        Three permutations of at most 1,000 test rows per feature, predicted in one batch: many small calls cost
        a boosted model far more than one large one.
        """
        import numpy as np
        import pandas as pd

        judged, names = self.judged, self._names
        most = max(100, _MOST_PREDICTIONS_FOR_IMPORTANCE // (3 * len(names)))
        known = judged.test.dropna(subset=[judged.target])
        rows = known.sample(min(len(known), most, _MOST_ROWS_FOR_IMPORTANCE), random_state=judged.seed)
        truth, rng = rows[judged.target].to_numpy(), np.random.default_rng(judged.seed)
        copies = [rows[names]]
        for name in names:
            for _ in range(3):
                values = rows[name].to_numpy()[rng.permutation(len(rows))]
                copies.append(rows[names].assign(**{name: pd.Series(values, rows.index, rows[name].dtype)}))
        predicted = np.asarray(judged.estimator.predict(pd.concat(copies, ignore_index=True)))
        predicted = predicted.reshape(len(copies), len(rows))
        wrong = (predicted - truth) ** 2 if judged.task == "regression" else predicted != truth
        losses = wrong.mean(axis=1)
        gains = (losses[1:].reshape(len(names), 3).mean(axis=1) - losses[0]).clip(min=0)
        total = gains.sum()
        return pd.Series(gains / total if total else 1 / len(names), index=names)


class _Remembering:
    """A model that predicts the rows it will be asked about once, and afterwards looks them up by their index.

    Only for checks that pass rows on as they are; one that altered rows would be given the old predictions.
    """

    def __init__(self, estimator: Any, frames: Sequence[Any]) -> None:
        import numpy as np
        import pandas as pd

        self._estimator = estimator
        rows = pd.concat(frames)
        self._predicted = np.asarray(estimator.predict(rows))
        if hasattr(estimator, "classes_"):
            self.classes_ = estimator.classes_
        if hasattr(estimator, "predict_proba"):
            probabilities = np.asarray(estimator.predict_proba(rows))
            self.predict_proba = lambda asked: probabilities[asked.index.to_numpy()]

    def predict(self, asked: Any) -> Any:
        return self._predicted[asked.index.to_numpy()]

    def fit(self, *_: Any) -> "_Remembering":
        """Part of what scikit-learn takes for a model; never called."""
        raise NotImplementedError("a model under judgement is never fitted again")

    def __sklearn_tags__(self) -> Any:
        return self._estimator.__sklearn_tags__()


def _drawing_the_worst(check: Any, context: Any, most: int = 3) -> Any:
    """Measure the drift of all features, and draw those that drift most; drawing is nine tenths of the cost."""
    context._with_display = False
    try:
        result = check.run_logic(context)
    finally:
        context._with_display = True
    drifts = {name: drift["Drift score"] or 0.0 for name, drift in result.value.items()}
    check.columns = sorted(drifts, key=lambda name: -drifts[name])[:most]
    result.display = check.run_logic(context).display
    return result


def _last_step(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__


@contextmanager
def quiet_and_seeded(seed: int) -> Iterator[None]:
    """Silence deepchecks, and make its use of numpy's global generator repeatable without leaving a trace."""
    import numpy as np

    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)


# --- one figure per check ---------------------------------------------------------------------------------------

Reduced = tuple[float, str, dict[str, Any]]


def _largest(shares: Mapping[Any, float], what: str, none: str) -> Reduced:
    """Reduce a figure per column to the largest; NaN figures could not be computed and say nothing."""
    known = {
        str(name): float(value) for name, value in shares.items() if value is not None and value == value
    }
    if not known:
        raise DoesNotApply("no column could be measured")
    name = max(known, key=lambda column: known[column])
    top = dict(sorted(known.items(), key=lambda item: -item[1])[:20])
    found = what.format(name=name, value=known[name]) if known[name] > 0 else none
    return known[name], found, {"columns": top}


def _single_value(value: dict[str, int]) -> Reduced:
    single = [str(name) for name, count in value.items() if count == 1]
    return len(single), f"{len(single)} columns hold one value.", {"columns": single[:20]}


def _special_characters(value: dict[str, float]) -> Reduced:
    return _largest(
        value, "In `{name}` {value:.2%} of the values are special characters only.", "No value is."
    )


def _null_spellings(value: dict[str, Any]) -> Reduced:
    ways = {name: list(spellings) for name, spellings in value["columns"].items()}
    most, _, _ = _largest({name: len(way) for name, way in ways.items()} or {"": 0}, "", "")
    mixed = {name: way for name, way in ways.items() if len(way) > 1}
    found = "; ".join(f"`{name}` writes null as {', '.join(way)}" for name, way in list(mixed.items())[:5])
    return most, (found or "Each column writes null in one way at most") + ".", {"columns": mixed}


def _mixed_types(value: dict[str, Any]) -> Reduced:
    rarer = {name: min(mix["strings"], mix["numbers"]) for name, mix in value.items() if mix}
    mixed = {name: part for name, part in rarer.items() if part < 0.1}
    return _largest(
        mixed or {"": 0.0}, "`{name}` mixes types: {value:.2%} are of the rarer.", "No column mixes."
    )


def _spellings(value: dict[str, Any]) -> Reduced:
    several = {name: len(forms) for name, forms in value["columns"].items()}
    return _largest(
        several or {"": 0},
        "Values of `{name}` in several spellings: {value:.0f}.",
        "Every value is spelled one way.",
    )


def _share(what: str, none: str) -> Callable[[float], Reduced]:
    def reduce(value: float) -> Reduced:
        return float(value), what.format(value=value) if value else none, {}

    return reduce


def _string_lengths(value: dict[str, Any]) -> Reduced:
    unusual = {
        name: sum(outlier["n_samples"] for outlier in seen["outliers"]) / seen.get("n_samples", 1)
        for name, seen in value.items()
    }
    return _largest(
        unusual or {"": 0.0},
        "In `{name}` {value:.2%} of the strings are unusually long or short.",
        "None is.",
    )


def _conflicting(value: dict[str, Any]) -> Reduced:
    conflicting = float(value["percent_of_conflicting_samples"])
    return conflicting, f"{conflicting:.2%} of the rows disagree with equal ones.", {}


def _outliers(value: Any) -> Reduced:
    above = float((value > 0.7).mean())
    return above, f"{above:.1%} of the rows are outliers with a probability above 0.7.", {}


def _pps(value: dict[str, float]) -> Reduced:
    return _largest(
        value, "`{name}` alone has a predictive power score of {value:.2f}.", "None has any power."
    )


def _feature_correlation(value: Any) -> Reduced:
    names = list(value.columns)
    pairs = {
        f"{a} ~ {b}": abs(float(value.loc[a, b]))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if value.loc[a, b] == value.loc[a, b]
    }
    return _largest(pairs, "`{name}` correlate with {value:.2f}.", "No two features correlate.")


def _size(value: dict[str, int]) -> Reduced:
    return (
        value["Test"] / value["Train"],
        f"{value['Train']:,} rows to train on, {value['Test']:,} to test.",
        {},
    )


def _new_labels(value: dict[str, Any]) -> Reduced:
    part = value["n_new_labels_samples"] / value["n_samples"]
    return part, f"{part:.2%} of the test rows are of a new class.", {}


def _new_categories(value: Any) -> Reduced:
    return _largest(
        value["Ratio of New Categories"].to_dict(),
        "`{name}` is new in {value:.2%} of the test rows.",
        "None.",
    )


def _new_spellings(value: dict[str, Any]) -> Reduced:
    shares = {
        name: sum(form["percent_variants_only_in_test"] for form in forms.values())
        for name, forms in value.items()
    }
    return _largest(
        shares or {"": 0.0}, "`{name}` has new spellings in {value:.2%} of the test rows.", "No new spelling."
    )


def _pps_change(value: dict[str, Any]) -> Reduced:
    changes = {name: abs(change) for name, change in value["train-test difference"].items()}
    return _largest(
        changes,
        "The predictive power score of `{name}` changes by {value:.2f}.",
        "No feature's power changes.",
    )


def _feature_drift(value: dict[str, Any]) -> Reduced:
    drifts = {name: drift["Drift score"] for name, drift in value.items()}
    reduced = _largest(drifts, "`{name}` drifts most, by {value:.3f}.", "No feature drifts.")
    methods = {name: drift["Method"] for name, drift in value.items() if name in reduced[2]["columns"]}
    return reduced[0], reduced[1], reduced[2] | {"methods": methods}


def _drift(value: dict[str, Any]) -> Reduced:
    score = value["Drift score"]
    per_class = score if isinstance(score, dict) else {"": score}
    amount, _, _ = _largest(per_class, "", "")
    return amount, f"Drift of {amount:.3f} ({value['Method']}).", {"method": value["Method"]}


def _multivariate(value: dict[str, Any]) -> Reduced:
    score, auc = float(value["domain_classifier_drift_score"]), float(value["domain_classifier_auc"])
    return score, f"A classifier tells test from train with an AUC of {auc:.3f}.", {"auc": auc}


def _degradation(value: Any) -> Reduced:
    losses = {}
    for (metric, label), rows in value.fillna({"Class": ""}).groupby(["Metric", "Class"], sort=True):
        by_set = rows.set_index("Dataset")["Value"]
        if {"Train", "Test"} <= set(by_set.index) and by_set["Train"]:
            name = f"{metric} of class {label}" if label != "" else str(metric)
            losses[name] = (by_set["Train"] - by_set["Test"]) / abs(by_set["Train"])
    return _largest(losses, "{name} loses {value:.1%} from train to test.", "No score is worse on test.")


def _roc(value: dict[Any, float]) -> Reduced:
    known = {str(name): float(auc) for name, auc in value.items() if auc == auc}
    if not known:
        raise DoesNotApply("no class of the model occurs in test together with another")
    name = min(known, key=lambda label: known[label])
    return known[name], f"Class `{name}` has the lowest ROC AUC: {known[name]:.3f}.", {"classes": known}


def _class_recall(value: Any) -> Reduced:
    recalls = {
        str(name): float(value.loc[name, name] / value.loc[name].sum())
        for name in value.index
        if value.loc[name].sum()
    }
    name = min(recalls, key=lambda label: recalls[label])
    found = f"Of class `{name}` {recalls[name]:.1%} of the test rows are found, the fewest."
    return recalls[name], found, {"classes": recalls}


def _simple_model(value: dict[str, Any]) -> Reduced:
    from deepchecks.utils.metrics import get_gain

    gains: dict[str, float] = {}
    for metric, scores in value["scores"].items():
        perfect = value["scorers_perfect"][metric]
        flat = {"": scores} if "Origin" in scores else scores
        for label, score in flat.items():
            name = f"{metric} of class {label}" if label != "" else metric
            gains[name] = float(get_gain(score["Simple"], score["Origin"], perfect, 50))
    if not gains:
        raise DoesNotApply("no score could be compared")
    name = min(gains, key=lambda score: gains[score])
    return gains[name], f"{name} gains {gains[name]:.1%} of what a perfect model would.", {"gains": gains}


def _weak_segments(value: dict[str, Any]) -> Reduced:
    average, segments = float(value["avg_score"]), value["weak_segments_list"]
    weakest = segments.iloc[0]
    loss = (average - float(weakest.iloc[0])) / abs(average) if average else 0.0
    where = f"`{weakest['Feature1']}` in {_bounds(weakest['Feature1 Range'])}"
    if weakest["Feature2"]:
        where += f" and `{weakest['Feature2']}` in {_bounds(weakest['Feature2 Range'])}"
    score = f"{segments.columns[0]} {float(weakest.iloc[0]):.3g} against {average:.3g} on average"
    return loss, f"Weakest where {where}: {score}.", {"share_of_rows": float(weakest["% of Data"]) / 100}


def _bounds(bounds: Any) -> str:
    return ", ".join(f"{end:.4g}" if isinstance(end, float) else str(end) for end in bounds)[:120]


def _brier(value: dict[Any, float]) -> Reduced:
    return _largest(value, "The highest Brier score is {value:.3f}.", "Every probability is right.")


def _systematic_error(value: dict[str, float]) -> Reduced:
    rmse = float(value["RMSE"])
    ratio = abs(float(value["Mean Prediction Error"])) / rmse if rmse else 0.0
    details = {
        "mean_error": float(value["Mean Prediction Error"]),
        "kurtosis": float(value["Kurtosis Value"]),
    }
    return ratio, f"The mean error is {ratio:.1%} of the root mean squared error.", details


def _unused_features(value: dict[str, Any]) -> Reduced:
    unused = [str(name) for name in value["unused features"]["high variance"]]
    found = (
        f"Unused: {', '.join(f'`{name}`' for name in unused[:10])}." if unused else "Every feature is used."
    )
    return len(unused), found, {"columns": unused[:20]}


def _boosting_decline(value: dict[str, list[float]]) -> Reduced:
    best, last = max(value["test"]), value["test"][-1]
    decline = (best - last) / abs(best) if best else 0.0
    return float(decline), f"The last iteration scores {last:.3f}, the best {best:.3f}.", {}


def _seconds(value: float) -> Reduced:
    return float(value), f"{value * 1e6:.1f} microseconds a row.", {}


OBSERVE: dict[str, Callable[[Any], Reduced]] = {
    "IsSingleValue": _single_value,
    "SpecialCharacters": _special_characters,
    "MixedNulls": _null_spellings,
    "MixedDataTypes": _mixed_types,
    "StringMismatch": _spellings,
    "DataDuplicates": _share("{value:.2%} of the rows equal another.", "No row equals another."),
    "StringLengthOutOfBounds": _string_lengths,
    "ConflictingLabels": _conflicting,
    "OutlierSampleDetection": _outliers,
    "FeatureLabelCorrelation": _pps,
    "FeatureFeatureCorrelation": _feature_correlation,
    "IdentifierLabelCorrelation": _pps,
    "DatasetsSizeComparison": _size,
    "NewLabelTrainTest": _new_labels,
    "NewCategoryTrainTest": _new_categories,
    "StringMismatchComparison": _new_spellings,
    "DateTrainTestLeakageDuplicates": _share("{value:.2%} of the test dates are in train.", "None is."),
    "DateTrainTestLeakageOverlap": _share("{value:.2%} of test lies before the end of train.", "None does."),
    "IndexTrainTestLeakage": _share("{value:.2%} of the test keys are in train.", "None is."),
    "TrainTestSamplesMix": lambda value: (float(value["ratio"]), f"{value['ratio']:.2%} are in train.", {}),
    "FeatureLabelCorrelationChange": _pps_change,
    "FeatureDrift": _feature_drift,
    "LabelDrift": _drift,
    "MultivariateDrift": _multivariate,
    "TrainTestPerformance": _degradation,
    "RocReport": _roc,
    "ConfusionMatrixReport": _class_recall,
    "PredictionDrift": _drift,
    "SimpleModelComparison": _simple_model,
    "WeakSegmentsPerformance": _weak_segments,
    "CalibrationScore": _brier,
    "RegressionErrorDistribution": _systematic_error,
    "UnusedFeatures": _unused_features,
    "BoostingOverfit": _boosting_decline,
    "ModelInferenceTime": _seconds,
}
"""How each deepchecks result becomes one figure, a sentence, and details."""


# --- what deepchecks would show ---------------------------------------------------------------------------------

_MOST_TABLE_ROWS = 25
_MOST_FIGURE_BYTES = 150_000


def displays_of(items: Any) -> Iterator[Display]:
    """Convert deepchecks' display items; markup in its texts is dropped, oversized figures are left out."""
    import pandas as pd
    from plotly.basedatatypes import BaseFigure

    for item in items or ():
        if isinstance(item, str):
            text = _plain(item)
            # Advice on deepchecks' own parameters, which nobody who reads a report can set.
            if text and "you can change it" not in text:
                yield Text(text)
        elif isinstance(item, pd.DataFrame):
            if len(item):
                yield _table(item)
        elif isinstance(item, dict):
            for name, inner in item.items():
                yield Text(_plain(str(name)))
                yield from displays_of(inner)
        elif isinstance(item, BaseFigure):
            shown = item.to_json()
            if len(shown) <= _MOST_FIGURE_BYTES:
                yield Figure(json.loads(shown))
            else:
                yield Text(f"A figure of {len(shown) / 1e6:.1f} MB was left out.")


def _plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", text)).split())


def _table(frame: Any) -> Table:
    named = any(name is not None for name in frame.index.names) or frame.index.dtype == object
    flat = frame.head(_MOST_TABLE_ROWS).reset_index() if named else frame.head(_MOST_TABLE_ROWS)
    header = ["" if str(name) == "index" else str(name) for name in flat.columns]
    rows = [[_cell(value) for value in row] for row in flat.itertuples(index=False, name=None)]
    return Table(tuple(header), tuple(tuple(row) for row in rows))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:120]
