"""The three suites: one verdict for each entry of the table, always.

What needs every row is counted on all of them; deepchecks sees a seeded sample of each side (`sample` rows).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.expectations import Expectations
from mlassets.quality import frames
from mlassets.quality.all_rows import DrawRows, SplitRows
from mlassets.quality.champion_drift import champion_drift
from mlassets.quality.checks import Suite, Task, checks_of
from mlassets.quality.deepchecks_adapter import Deepchecks, Judged
from mlassets.quality.dimensions import CLAIMS, Arrived, Dimension, judged_dimensions
from mlassets.quality.displays import Display
from mlassets.quality.judging import DoesNotApply, Observation, judge
from mlassets.quality.model_metrics import ModelMetrics, metrics_verdict
from mlassets.quality.rows import Rows
from mlassets.quality.schema_contract import schema_changes
from mlassets.quality.text_verdicts import LOOKED_AT_FIRST, TextRows
from resources.errors import MlassetsError
from resources.roles import ROW_KEY, SPLIT, features_of, target_of
from resources.verdicts import Limit, Verdict

SAMPLE = 10_000


class NotJudgeable(MlassetsError):
    """The table lacks what a suite is about, such as the target."""


@dataclass(frozen=True)
class Judgement:
    """The verdicts of one suite on one Thing, and what its report shows.

    Attributes:
        verdicts: One per entry of the suite, in the table's order.
        displays: By claim: texts, tables, figures and pictures.
    """

    verdicts: tuple[Verdict, ...]
    displays: Mapping[str, tuple[Display, ...]]


def judge_draw(
    table: pa.Table,
    *,
    target: str,
    task: Task,
    limits: Mapping[str, Limit],
    key: Sequence[str] = (),
    drop: Sequence[str] = (),
    date: str | None = None,
    known_schema: pa.Schema | None = None,
    champion: pa.Table | None = None,
    expected: Expectations | None = None,
    others: Mapping[str, Rows] | None = None,
    unknown: Mapping[str, str] | None = None,
    drawn_at: datetime | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    with_display: bool = True,
    texts: TextRows | None = None,
) -> Judgement:
    """Judge the rows of a draw: the integrity suite.

    Args:
        table: The drawn rows.
        target: Name of the target column.
        task: What the target is.
        limits: Limits that the spec moves, by claim or measure.
        key: Columns that identify a row.
        drop: Columns that no model learns from; they are judged for duplicates only.
        date: Column that dates a row; by default the only date or timestamp column, if there is one.
        known_schema: Schema that is relied on, such as that of the draw the champion was trained on.
        champion: The rows that the champion was trained on, its features marked with roles (`resources.roles`).
        expected: What is expected of the rows.
        others: The rows of sources that they are compared with, by source.
        unknown: Why a source that they are compared with cannot be read, by source.
        drawn_at: When they were drawn, by which the age of the newest is told.
        sample: Rows that deepchecks sees.
        seed: Seed of the sample.
        with_display: Whether to keep tables and figures for the report.
        texts: What observes the columns that hold texts; by default they are compared with no earlier ones.

    Raises:
        NotJudgeable: If the table has no column `target`.
    """
    if target not in table.column_names:
        columns = ", ".join(table.column_names[:20])
        raise NotJudgeable(f"the draw has no target column `{target}`; it has {columns}")
    dates = [field.name for field in table.schema if frames.is_date(field.type) and field.name != target]
    date = date or (dates[0] if len(dates) == 1 else None)
    aside = {target, *key, *drop, *([date] if date else [])}
    usable = [
        field.name
        for field in table.schema
        if field.name not in aside and (frames.is_plain(field.type) or field.name in dates)
    ]
    rows = DrawRows(table, target=target, features=usable, key=key)
    index = key[0] if len(key) == 1 else None

    def judged() -> Judged:
        seen = frames.sample(table, sample, seed)
        features = [name for name in usable if name not in dates and seen[name].null_count < seen.num_rows]
        columns = [name for name in table.column_names if name in {*features, target, index, date}]
        return Judged(
            train=frames.frame(seen.select(columns), [date] if date else []),
            test=None,
            target=target,
            task=task,
            features=features,
            categorical=[name for name in features if _is_categorical(seen, name)],
            key=index,
            date=date,
            seed=seed,
            drawn_from=table.num_rows,
        )

    def contract() -> Observation:
        if known_schema is None:
            raise DoesNotApply("no earlier schema is known", table.num_rows)
        return schema_changes(known_schema, table.schema, table.num_rows)

    def drift() -> Observation:
        if champion is None:
            raise DoesNotApply("the segment has no champion", table.num_rows)
        return champion_drift(
            champion, table, task=task, aside=[*aside, *dates], sample=sample, seed=seed, show=with_display
        )

    own: dict[str, Callable[[], Observation]] = {
        "draw_holds_rows": rows.rows,
        "schema_keeps_its_contract": contract,
        "target_takes_several_values": rows.target_values,
        "target_is_known": rows.target_nulls,
        "keys_are_unique": rows.key_duplicates,
        **_expectations(table, expected or Expectations(), key, others, unknown, drawn_at),
        "columns_are_filled": rows.nulls,
        "numbers_are_finite": rows.non_finite,
        "no_single_value_columns": rows.single_value_columns,
        "no_duplicate_rows": rows.duplicates,
        "no_conflicting_labels": rows.conflicting_labels,
        "data_is_like_the_champions": drift,
        **(texts or _texts_of(table, target, sample, seed, with_display)).observations(),
    }
    return _judge("integrity", task, limits, own, judged, with_display)


def judge_model_ready(
    table: pa.Table,
    *,
    task: Task,
    limits: Mapping[str, Limit],
    dates: pa.ChunkedArray | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    with_display: bool = True,
) -> Judgement:
    """Judge the splits of a model-ready table against each other: the train-test suite.

    Args:
        table: Model-ready rows, marked with roles (`resources.roles`).
        task: What the target is.
        limits: Limits that the spec moves, by claim or measure.
        dates: The date of each row, aligned with `table`; by default its only date column, if there is one.
        sample: Rows of each split that deepchecks sees.
        seed: Seed of the samples.
        with_display: Whether to keep tables and figures for the report.

    Raises:
        ValueError: If the schema marks no target.
    """
    found = [field.name for field in table.schema if frames.is_date(field.type)]
    if dates is None and len(found) == 1:
        dates = table[found[0]]
    rows = SplitRows(table, dates)
    own: dict[str, Callable[[], Observation]] = {
        "every_split_holds_rows": rows.split_rows,
        "no_key_in_both_splits": rows.index_leakage,
        "no_row_in_both_splits": rows.train_test_overlap,
        "no_new_labels": rows.new_labels,
        "no_new_categories": rows.new_categories,
        "test_values_stay_in_range": rows.out_of_range,
        "test_is_large_enough": rows.test_train_ratio,
        "no_date_in_both_splits": rows.date_duplicates,
        "test_comes_after_train": rows.date_overlap,
    }
    return _judge(
        "train_test", task, limits, own, lambda: _splits(table, task, sample, seed, None), with_display
    )


def judge_model(
    table: pa.Table,
    estimator: Any,
    *,
    task: Task,
    metrics: Mapping[str, float],
    limits: Mapping[str, Limit],
    fallback: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    with_display: bool = True,
) -> Judgement:
    """Judge a model: the evaluation suite.

    Args:
        table: The model-ready rows it was trained on and tested with, marked with roles.
        estimator: The fitted scikit-learn estimator, which takes a pandas frame of the features in the table's
            column order: numbers and booleans as float64, categories as objects, NaN for null.
        task: What the target is.
        metrics: The model's flat metrics (`test.roc_auc`, `gain_over_baseline.roc_auc.low`).
        limits: Limits that the spec moves, by claim or measure, or sets on a metric.
        fallback: Why the baseline was kept in place of a trained model, if it was.
        sample: Rows of each split that deepchecks sees.
        seed: Seed of the samples.
        with_display: Whether to keep tables and figures for the report.

    Raises:
        ValueError: If the schema marks no target.
    """
    counts = {split: pc.sum(pc.equal(table[SPLIT], split)).as_py() or 0 for split in ("train", "test")}
    held = ModelMetrics(metrics, train_rows=counts["train"], test_rows=counts["test"], fallback=fallback)
    own: dict[str, Callable[[], Observation]] = {
        "segment_is_large_enough": held.training_rows,
        "beats_the_baseline": held.gain_over_baseline,
        "not_worse_than_champion": held.gain_over_champion,
        "probabilities_are_calibrated": held.calibration_error,
        "predictions_are_robust": held.robustness_loss,
    }
    return _judge(
        "evaluation",
        task,
        limits,
        own,
        lambda: _splits(table, task, sample, seed, estimator),
        with_display,
        ready={
            "metrics_keep_their_limits": metrics_verdict(
                "metrics_keep_their_limits", metrics, limits, counts["test"]
            )
        },
    )


def _splits(table: pa.Table, task: Task, sample: int, seed: int, estimator: Any) -> Judged:
    kinds, target = features_of(table.schema), target_of(table.schema)
    key = ROW_KEY if ROW_KEY in table.column_names else None
    others = [target] + [ROW_KEY] * (key is not None)
    drawn = {
        split: frames.model_frame(
            frames.sample(table.filter(pc.equal(table[SPLIT], split)), sample, seed), kinds, others
        )
        for split in ("train", "test")
    }
    total = pc.sum(pc.is_in(table[SPLIT], value_set=pa.array(["train", "test"]))).as_py() or 0
    return Judged(
        train=drawn["train"],
        test=drawn["test"],
        target=target,
        task=task,
        features=list(kinds),
        categorical=[name for name, kind in kinds.items() if kind != "numeric"],
        key=key,
        estimator=estimator,
        seed=seed,
        drawn_from=total,
    )


def _expectations(
    table: pa.Table,
    expected: Expectations,
    key: Sequence[str],
    others: Mapping[str, Rows] | None,
    unknown: Mapping[str, str] | None,
    drawn_at: datetime | None,
) -> dict[str, Callable[[], Observation]]:
    """Return what observes each dimension of a draw's quality, all of them at the first that is asked for."""
    found: dict[Dimension, Observation | Exception] = {}

    def observe(dimension: Dimension) -> Observation:
        if expected == Expectations():
            raise DoesNotApply("nothing is declared under `expect`", table.num_rows)
        if not found:
            keyed = expected if expected.key else expected.model_copy(update={"key": tuple(key)})
            arrived = Arrived(drawn_at, every_row_now=True) if drawn_at else None
            found.update(judged_dimensions(Rows(data=table), keyed, others, unknown=unknown, arrived=arrived))
        one = found[dimension]
        if isinstance(one, Exception):
            raise one
        return one

    observed: dict[str, Callable[[], Observation]] = {
        claim: partial(observe, dimension) for dimension, claim in CLAIMS.items()
    }
    if not expected.key and not any(one.unique for one in expected.columns.values()):
        del observed["keys_are_unique"]
    return observed


def _texts_of(table: pa.Table, target: str, sample: int, seed: int, show: bool) -> TextRows:
    def rows() -> Any:
        import pyarrow.dataset as ds

        return ds.dataset(table)

    return TextRows(
        rows,
        table.num_rows,
        lambda: table[:LOOKED_AT_FIRST],
        label=target,
        sample=sample,
        seed=seed,
        show=show,
    )


def _is_categorical(table: pa.Table, column: str) -> bool:
    """Whether a drawn column's values are categories, and not numbers or free text."""
    kind = table.schema.field(column).type
    if pa.types.is_boolean(kind):
        return True
    if not frames.is_text(kind):
        return False
    return bool(pc.count_distinct(table[column]).as_py() <= max(30, 0.05 * table.num_rows))


def _judge(
    suite: Suite,
    task: Task,
    limits: Mapping[str, Limit],
    own: Mapping[str, Callable[[], Observation]],
    judged: Callable[[], Judged],
    with_display: bool,
    ready: Mapping[str, Verdict] | None = None,
) -> Judgement:
    verdicts: list[Verdict] = []
    displays: dict[str, tuple[Display, ...]] = {}
    context: list[Deepchecks] = []

    def theirs() -> Deepchecks:
        if not context:
            context.append(Deepchecks(judged(), with_display))
        return context[0]

    for entry in checks_of(suite):
        if ready and entry.claim in ready:
            verdicts.append(ready[entry.claim])
            continue

        def observe(entry: Any = entry) -> Observation:
            if task not in entry.tasks:
                raise DoesNotApply(f"it judges {' and '.join(entry.tasks)} tasks")
            return own[entry.claim]() if entry.own else theirs().observe(entry)

        verdict, shown = judge(entry, limits, observe)
        verdicts.append(verdict)
        if shown:
            displays[entry.claim] = shown
    return Judgement(tuple(verdicts), displays)
