"""The table of checks: what each one claims, what it measures, and the limit it is held against by default.

One entry stands for one named check. The checks of deepchecks' three tabular suites (`data_integrity`,
`train_test_validation`, `model_evaluation`) are all here, beside those that mlassets adds. Where every row
must be seen (duplicates, keys, overlap), the measurement is ours and takes the place of deepchecks' own; such
an entry names the deepchecks class that it stands in for. The module is light, so that specs can be validated
and asset checks declared without importing deepchecks.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from resources.verdicts import Limit, Severity

Task = Literal["binary", "multiclass", "regression"]
Suite = Literal["integrity", "train_test", "evaluation", "aggregate", "review", "publish", "sources"]

ALL_TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
CLASSES: tuple[Task, ...] = ("binary", "multiclass")


@dataclass(frozen=True)
class CheckEntry:
    """One named check.

    Attributes:
        claim: What should be true; the name of the asset check.
        measure: Short name of the observed figure, as a project spec writes it (`feature_drift`).
        suite: The group the check is run with; the first three judge draw_data, model_ready and model.
        tasks: Tasks that the check applies to; for others its verdict is `not_applicable`.
        description: What is observed, with its unit.
        limit: Default bound and severity, which a spec may move.
        deepchecks: Class in `deepchecks.tabular.checks` that measures this, or that `own` stands in for.
        own: Whether mlassets measures it itself, on all rows.
        needs_rows: Rows in the smaller of the compared sets below which a verdict would be noise.
        noisy: Whether chance alone moves the figure, by an amount that shrinks with the rows (`noise`).
    """

    claim: str
    measure: str
    suite: Suite
    tasks: tuple[Task, ...]
    description: str
    limit: Limit
    deepchecks: str | None = None
    own: bool = False
    needs_rows: int = 0
    noisy: bool = False

    @property
    def severity(self) -> Severity:
        """What breaking the default limit means."""
        return self.limit.severity

    def noise(self, rows: float) -> float:
        """Return the size that the figure reaches by chance alone with `rows` rows on each side.

        For two samples of `n` rows from one distribution the Kolmogorov-Smirnov distance exceeds
        `c * sqrt(2 / n)` with probability `2 * exp(-2 * c ** 2)` at most (Smirnov 1948); c = 2.4 makes that
        2e-5, small enough to be asked of hundreds of columns. Cramer's V behaves alike, and the mean of
        standardised errors stays below it too.
        """
        return 2.4 * math.sqrt(2 / rows) if self.noisy and rows else 0.0


def _at_most(value: float, severity: Severity = "WARN") -> Limit:
    return Limit("<=", value, severity)


def _at_least(value: float, severity: Severity = "WARN") -> Limit:
    return Limit(">=", value, severity)


def _dimensions(suite: Suite) -> tuple[CheckEntry, ...]:
    """The dimensions of data quality, of which uniqueness is `keys_are_unique`."""
    return (
        CheckEntry(
            "values_are_accurate",
            "inaccurate_values",
            suite,
            ALL_TASKS,
            "Accuracy: largest share, over declared rules and reference tables, of rows that are not true.",
            _at_most(0),
            own=True,
        ),
        CheckEntry(
            "values_are_complete",
            "missing_values",
            suite,
            ALL_TASKS,
            "Completeness: largest share, in a column, of missing values beyond those that may be missing.",
            _at_most(0),
            own=True,
        ),
        CheckEntry(
            "columns_are_consistent",
            "inconsistent_rows",
            suite,
            ALL_TASKS,
            "Consistency: largest share, over declared rules, of rows that contradict themselves or another source; "
            "for a sum, how far it is apart.",
            _at_most(0),
            own=True,
        ),
        CheckEntry(
            "values_are_valid",
            "invalid_values",
            suite,
            ALL_TASKS,
            "Validity: largest share, in a column, of values without the type, range, length or pattern they must "
            "have, or not among those listed.",
            _at_most(0),
            own=True,
        ),
        CheckEntry(
            "data_is_timely",
            "lateness",
            suite,
            ALL_TASKS,
            "Timeliness: what time the newest row took to come, as a share of what it may take.",
            _at_most(1),
            own=True,
        ),
    )


_KEYS = CheckEntry(
    "keys_are_unique",
    "key_duplicates",
    "integrity",
    ALL_TASKS,
    "Uniqueness: largest share, over the key and unique columns, of rows beyond the first with the same value.",
    _at_most(0, "ERROR"),
    own=True,
)

_INTEGRITY = (
    CheckEntry(
        "draw_holds_rows",
        "rows",
        "integrity",
        ALL_TASKS,
        "Rows drawn.",
        _at_least(1, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "schema_keeps_its_contract",
        "schema_changes",
        "integrity",
        ALL_TASKS,
        "Columns removed or changed in type against the schema that is relied on; added columns are noted.",
        _at_most(0, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "target_takes_several_values",
        "target_values",
        "integrity",
        ALL_TASKS,
        "Distinct values of the target, nulls apart.",
        _at_least(2, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "target_is_known",
        "target_nulls",
        "integrity",
        ALL_TASKS,
        "Share of rows whose target is null.",
        _at_most(0.05),
        own=True,
    ),
    _KEYS,
    *_dimensions("integrity"),
    CheckEntry(
        "columns_are_filled",
        "nulls",
        "integrity",
        ALL_TASKS,
        "Largest share of nulls in a feature.",
        _at_most(0.5),
        own=True,
    ),
    CheckEntry(
        "numbers_are_finite",
        "non_finite",
        "integrity",
        ALL_TASKS,
        "Largest share of infinite or not-a-number values in a numeric feature.",
        _at_most(0),
        own=True,
    ),
    CheckEntry(
        "no_single_value_columns",
        "single_value_columns",
        "integrity",
        ALL_TASKS,
        "Features that hold one value only, or nothing but nulls.",
        _at_most(0),
        "IsSingleValue",
        own=True,
    ),
    CheckEntry(
        "no_duplicate_rows",
        "duplicates",
        "integrity",
        ALL_TASKS,
        "Share of rows beyond the first of their kind.",
        _at_most(0.05),
        "DataDuplicates",
        own=True,
    ),
    CheckEntry(
        "no_conflicting_labels",
        "conflicting_labels",
        "integrity",
        CLASSES,
        "Share of rows whose features occur with several values of the target.",
        _at_most(0.05),
        "ConflictingLabels",
        own=True,
    ),
    CheckEntry(
        "values_hold_more_than_special_characters",
        "special_characters",
        "integrity",
        ALL_TASKS,
        "Largest share, in a column, of values made of special characters only.",
        _at_most(0.001),
        "SpecialCharacters",
    ),
    CheckEntry(
        "nulls_are_written_one_way",
        "null_spellings",
        "integrity",
        ALL_TASKS,
        "Most ways in which one column writes null ('null', 'None', '', a real null).",
        _at_most(1),
        "MixedNulls",
    ),
    CheckEntry(
        "columns_hold_one_type",
        "mixed_types",
        "integrity",
        ALL_TASKS,
        "Largest share of the rarer type in a column that mixes numbers with strings; "
        "from a tenth on, the mix is taken for intended.",
        _at_most(0.01),
        "MixedDataTypes",
    ),
    CheckEntry(
        "strings_are_spelled_one_way",
        "spellings",
        "integrity",
        ALL_TASKS,
        "Most values of one column that occur in several spellings (case, punctuation).",
        _at_most(0),
        "StringMismatch",
    ),
    CheckEntry(
        "string_lengths_are_usual",
        "string_length_outliers",
        "integrity",
        ALL_TASKS,
        "Largest share, in a column, of strings of unusual length.",
        _at_most(0.001),
        "StringLengthOutOfBounds",
    ),
    CheckEntry(
        "no_outlier_rows",
        "outliers",
        "integrity",
        ALL_TASKS,
        "Share of rows with an outlier probability (LoOP) above 0.7.",
        _at_most(0.005),
        "OutlierSampleDetection",
        needs_rows=100,
    ),
    CheckEntry(
        "no_feature_gives_the_target_away",
        "feature_label_correlation",
        "integrity",
        ALL_TASKS,
        "Highest predictive power score of one feature alone.",
        Limit("<", 0.8),
        "FeatureLabelCorrelation",
        needs_rows=50,
    ),
    CheckEntry(
        "features_are_not_copies",
        "feature_correlation",
        "integrity",
        ALL_TASKS,
        "Highest correlation between two features.",
        _at_most(0.9),
        "FeatureFeatureCorrelation",
        needs_rows=50,
    ),
    CheckEntry(
        "identifiers_do_not_give_the_target_away",
        "identifier_label_correlation",
        "integrity",
        ALL_TASKS,
        "Highest predictive power score of the key or the date alone.",
        _at_most(0.8, "ERROR"),
        "IdentifierLabelCorrelation",
        needs_rows=50,
    ),
    CheckEntry(
        "data_is_like_the_champions",
        "champion_drift",
        "integrity",
        ALL_TASKS,
        "Largest drift of a feature from the draw that the champion was trained on (Kolmogorov-Smirnov or Cramer's V, "
        "as deepchecks measures them, 0 to 1).",
        _at_most(0.2),
        own=True,
        needs_rows=10,
        noisy=True,
    ),
)


def _texts(suite: Suite) -> tuple[CheckEntry, ...]:
    """Return the entries on columns of texts, which sources and draws have alike."""
    return (
        CheckEntry(
            "texts_are_usual",
            "text_outliers",
            suite,
            ALL_TASKS,
            "Largest share, in a column of texts, unusual in one property (length, words, kinds of characters, "
            "script), as deepchecks' NLP check measures it on a sample; or that hold unreadable characters.",
            _at_most(0.1),
            own=True,
        ),
        CheckEntry(
            "texts_are_not_repeated",
            "text_repeats",
            suite,
            ALL_TASKS,
            "Largest share, in a column of texts, of texts beyond the first that say the same: to the letter, on all "
            "rows, or nearly so (four fifths of their runs of five characters), on a sample.",
            _at_most(0.1),
            own=True,
        ),
        CheckEntry(
            "texts_keep_their_properties",
            "text_property_drift",
            suite,
            ALL_TASKS,
            "Largest drift of a property of new texts from earlier ones (Kolmogorov-Smirnov or Cramer's V, as "
            "deepchecks' NLP check measures them, 0 to 1).",
            Limit("<", 0.2),
            own=True,
            needs_rows=10,
            noisy=True,
        ),
        CheckEntry(
            "texts_keep_their_meaning",
            "text_embedding_drift",
            suite,
            ALL_TASKS,
            "How well a classifier tells new texts from earlier ones by their embeddings: 2 x AUC - 1, not below 0.",
            Limit("<", 0.25),
            own=True,
            needs_rows=50,
            noisy=True,
        ),
    )


_LABELLED_TEXTS = (
    CheckEntry(
        "like_texts_share_a_label",
        "text_conflicting_labels",
        "integrity",
        CLASSES,
        "Largest share, in a column of texts, of texts that occur with several values of the target, case and "
        "punctuation apart (deepchecks' NLP check, on a sample).",
        _at_most(0.05),
        own=True,
    ),
)

_TRAIN_TEST = (
    CheckEntry(
        "every_split_holds_rows",
        "split_rows",
        "train_test",
        ALL_TASKS,
        "Rows in the smaller of train and test.",
        _at_least(1, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "no_key_in_both_splits",
        "index_leakage",
        "train_test",
        ALL_TASKS,
        "Share of test rows whose key is in train.",
        _at_most(0, "ERROR"),
        "IndexTrainTestLeakage",
        own=True,
    ),
    CheckEntry(
        "no_row_in_both_splits",
        "train_test_overlap",
        "train_test",
        ALL_TASKS,
        "Share of test rows whose features and target are in train.",
        _at_most(0.5, "ERROR"),
        "TrainTestSamplesMix",
        own=True,
    ),
    CheckEntry(
        "no_new_labels",
        "new_labels",
        "train_test",
        CLASSES,
        "Share of test rows whose class is not in train.",
        _at_most(0),
        "NewLabelTrainTest",
        own=True,
    ),
    CheckEntry(
        "no_new_categories",
        "new_categories",
        "train_test",
        ALL_TASKS,
        "Largest share, in a feature, of test rows with a category that is not in train.",
        _at_most(0.05),
        "NewCategoryTrainTest",
        own=True,
    ),
    CheckEntry(
        "test_values_stay_in_range",
        "out_of_range",
        "train_test",
        ALL_TASKS,
        "Largest share, in a numeric feature, of test rows outside the range seen in train.",
        _at_most(0.05),
        own=True,
        needs_rows=50,
    ),
    CheckEntry(
        "test_is_large_enough",
        "test_train_ratio",
        "train_test",
        ALL_TASKS,
        "Test rows per train row.",
        Limit(">", 0.01),
        "DatasetsSizeComparison",
        own=True,
    ),
    CheckEntry(
        "no_date_in_both_splits",
        "date_duplicates",
        "train_test",
        ALL_TASKS,
        "Share of test rows whose date is in train.",
        _at_most(0.05),
        "DateTrainTestLeakageDuplicates",
        own=True,
    ),
    CheckEntry(
        "test_comes_after_train",
        "date_overlap",
        "train_test",
        ALL_TASKS,
        "Share of test rows before the last date of train.",
        _at_most(0),
        "DateTrainTestLeakageOverlap",
        own=True,
    ),
    CheckEntry(
        "no_new_spellings",
        "new_spellings",
        "train_test",
        ALL_TASKS,
        "Largest share, in a column, of test rows with a new spelling of a value known from train.",
        _at_most(0.001),
        "StringMismatchComparison",
    ),
    CheckEntry(
        "features_explain_the_target_alike",
        "feature_label_correlation_change",
        "train_test",
        ALL_TASKS,
        "Largest change, between train and test, of a feature's predictive power score.",
        Limit("<", 0.2),
        "FeatureLabelCorrelationChange",
        needs_rows=300,
    ),
    CheckEntry(
        "features_do_not_drift",
        "feature_drift",
        "train_test",
        ALL_TASKS,
        "Largest drift of a feature between train and test (Kolmogorov-Smirnov or Cramer's V, 0 to 1).",
        Limit("<", 0.2),
        "FeatureDrift",
        needs_rows=10,
        noisy=True,
    ),
    CheckEntry(
        "target_does_not_drift",
        "target_drift",
        "train_test",
        ALL_TASKS,
        "Drift of the target between train and test (Kolmogorov-Smirnov or Cramer's V, 0 to 1).",
        Limit("<", 0.15),
        "LabelDrift",
        needs_rows=10,
        noisy=True,
    ),
    CheckEntry(
        "population_does_not_drift",
        "multivariate_drift",
        "train_test",
        ALL_TASKS,
        "How well a classifier tells test from train: 2 x AUC - 1, not below 0.",
        Limit("<", 0.25),
        "MultivariateDrift",
        needs_rows=500,
    ),
)

_EVALUATION = (
    CheckEntry(
        "segment_is_large_enough",
        "training_rows",
        "evaluation",
        ALL_TASKS,
        "Training rows; a fallback to the baseline fails the claim whatever their number.",
        _at_least(50),
        own=True,
    ),
    CheckEntry(
        "beats_the_baseline",
        "gain_over_baseline",
        "evaluation",
        ALL_TASKS,
        "Lower end of the interval of the gain over the trivial baseline on the same test rows.",
        Limit(">", 0),
        own=True,
    ),
    CheckEntry(
        "not_worse_than_champion",
        "gain_over_champion",
        "evaluation",
        ALL_TASKS,
        "Upper end of the interval of the gain over the current champion on the same test rows.",
        _at_least(0),
        own=True,
    ),
    CheckEntry(
        "metrics_keep_their_limits",
        "metrics_within_limits",
        "evaluation",
        ALL_TASKS,
        "Limits on metrics, as the spec states them, that are broken.",
        _at_most(0, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "probabilities_are_calibrated",
        "calibration_error",
        "evaluation",
        CLASSES,
        "Expected calibration error on the test split.",
        _at_most(0.1),
        own=True,
        needs_rows=300,
    ),
    CheckEntry(
        "predictions_are_robust",
        "robustness_loss",
        "evaluation",
        ALL_TASKS,
        "Largest relative loss of the metric when inputs are perturbed.",
        _at_most(0.5),
        own=True,
    ),
    CheckEntry(
        "performance_holds_on_test",
        "train_test_degradation",
        "evaluation",
        ALL_TASKS,
        "Largest relative loss of a score from train to test, over scores and classes.",
        Limit("<", 0.1),
        "TrainTestPerformance",
        needs_rows=100,
    ),
    CheckEntry(
        "every_class_is_told_apart",
        "class_roc_auc",
        "evaluation",
        CLASSES,
        "Lowest ROC AUC of a class against the rest.",
        Limit(">", 0.7),
        "RocReport",
        needs_rows=50,
    ),
    CheckEntry(
        "no_class_is_lost",
        "class_recall",
        "evaluation",
        CLASSES,
        "Lowest share of a class's test rows that are predicted as that class.",
        Limit(">", 0),
        "ConfusionMatrixReport",
        needs_rows=50,
    ),
    CheckEntry(
        "predictions_do_not_drift",
        "prediction_drift",
        "evaluation",
        ALL_TASKS,
        "Drift of the predictions between train and test (Kolmogorov-Smirnov or Cramer's V, 0 to 1).",
        Limit("<", 0.15),
        "PredictionDrift",
        needs_rows=10,
        noisy=True,
    ),
    CheckEntry(
        "beats_a_constant_guess",
        "simple_model_gain",
        "evaluation",
        ALL_TASKS,
        "Lowest gain over the most frequent class or the mean, as a share of a perfect model's gain.",
        Limit(">", 0.1),
        "SimpleModelComparison",
        needs_rows=50,
    ),
    CheckEntry(
        "no_weak_segments",
        "weak_segment_loss",
        "evaluation",
        ALL_TASKS,
        "Relative loss of the score in the weakest segment of two features against the average.",
        Limit("<", 0.2),
        "WeakSegmentsPerformance",
        needs_rows=300,
    ),
    CheckEntry(
        "probabilities_are_sharp",
        "brier_score",
        "evaluation",
        CLASSES,
        "Highest Brier score of a class; 0.25 is what a coin toss reaches.",
        _at_most(0.25),
        "CalibrationScore",
        needs_rows=50,
    ),
    CheckEntry(
        "errors_are_centred",
        "systematic_error",
        "evaluation",
        ("regression",),
        "Mean error as a share of the root mean squared error.",
        Limit("<", 0.1),
        "RegressionErrorDistribution",
        needs_rows=30,
        noisy=True,
    ),
    CheckEntry(
        "features_are_used",
        "unused_features",
        "evaluation",
        ALL_TASKS,
        "Features of high variance that the model makes no use of.",
        _at_most(5),
        "UnusedFeatures",
        needs_rows=50,
    ),
    CheckEntry(
        "boosting_stops_in_time",
        "boosting_decline",
        "evaluation",
        ALL_TASKS,
        "Relative decline of the test score from the best boosting iteration to the last.",
        Limit("<", 0.05),
        "BoostingOverfit",
        needs_rows=100,
    ),
    CheckEntry(
        "predictions_are_fast",
        "seconds_per_row",
        "evaluation",
        ALL_TASKS,
        "Seconds to predict one row, in a batch of 1,000; the one figure that differs from run to run.",
        Limit("<", 0.001),
        "ModelInferenceTime",
    ),
)

_STEPS = (
    CheckEntry(
        "segments_are_covered",
        "coverage",
        "aggregate",
        ALL_TASKS,
        "Share of the project's segments that have a model.",
        _at_least(1),
        own=True,
    ),
    CheckEntry(
        "review_rules_are_met",
        "rules_met",
        "review",
        ALL_TASKS,
        "Share of the review's rules that are met.",
        _at_least(1),
        own=True,
    ),
    CheckEntry(
        "release_round_trips",
        "round_trip_error",
        "publish",
        ALL_TASKS,
        "Largest difference between the released predictions and those the released model makes again.",
        Limit("==", 0, "ERROR"),
        own=True,
    ),
    CheckEntry(
        "landed_files_are_taken",
        "quarantined_files",
        "sources",
        ALL_TASKS,
        "Landed files that could not be read, or whose columns do not fit the source's.",
        _at_most(0),
        own=True,
    ),
    CheckEntry(
        "source_schema_keeps_its_contract",
        "source_schema_changes",
        "sources",
        ALL_TASKS,
        "Columns of a source that were removed, or changed to a type which cannot be reconciled.",
        _at_most(0, "ERROR"),
        own=True,
    ),
    replace(_KEYS, suite="sources"),
    *_dimensions("sources"),
    CheckEntry(
        "files_are_like_the_ones_before",
        "file_drift",
        "sources",
        ALL_TASKS,
        "Largest drift of a column from the files that were there before to the new ones (Kolmogorov-Smirnov, or "
        "Cramer's V with both sides weighted alike; 0 to 1).",
        _at_most(0.2),
        own=True,
        needs_rows=10,
        noisy=True,
    ),
    CheckEntry(
        "no_new_values",
        "new_values",
        "sources",
        ALL_TASKS,
        "Largest share, in a column of few values, of new rows with a value that was never there before.",
        _at_most(0.05),
        own=True,
        needs_rows=10,
    ),
)

CHECKS: tuple[CheckEntry, ...] = (
    *_INTEGRITY,
    *_texts("integrity"),
    *_LABELLED_TEXTS,
    *_TRAIN_TEST,
    *_EVALUATION,
    *_STEPS,
    *_texts("sources"),
)


def checks_of(suite: Suite) -> tuple[CheckEntry, ...]:
    """Return the entries of one suite, in the order of their verdicts."""
    return tuple(entry for entry in CHECKS if entry.suite == suite)


def entry_of(claim: str) -> CheckEntry:
    """Return the entry of one claim.

    Raises:
        KeyError: If no check makes the claim.
    """
    return _BY_CLAIM[claim]


_BY_CLAIM = {entry.claim: entry for entry in CHECKS}


def limit_of(entry: CheckEntry, limits: Mapping[str, Limit]) -> Limit:
    """Return the limit for `entry`: the spec's, under its claim or its measure, or its default."""
    return limits.get(entry.claim, limits.get(entry.measure, entry.limit))


def unknown_limits(
    limits: Iterable[str], task: Task, metrics: Iterable[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the names in `limits` that no check of `task` and no metric answers to, each with likely names.

    Args:
        limits: Names as a spec gives them: a claim, a measure, or a metric (`roc_auc`, `test.roc_auc`).
        task: The project's task; a check that does not apply to it is unknown here.
        metrics: The metrics known for the task.
    """
    known = {name for e in CHECKS if task in e.tasks for name in (e.claim, e.measure)} | set(metrics)
    return {
        name: tuple(difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5))
        for name in limits
        if name not in known and metric_of(name) not in known
    }


def metric_of(name: str) -> str:
    """Return the bare metric in a flat metric name: `f1` for `test.f1.low` or `slice.origin=EWR.f1`."""
    parts = name.removesuffix(".low").removesuffix(".high").split(".")
    return parts[-1] if parts[0] in _METRIC_SCOPES else name


_METRIC_SCOPES = frozenset(
    (
        "train",
        "validation",
        "test",
        "baseline",
        "champion",
        "slice",
        "gain_over_baseline",
        "gain_over_champion",
    )
)
