"""From a drawn table to a model-ready one: row-wise transformations, the target, the row key and the split.

Nothing here is fitted. Whole columns are looked at only to decide their kind and whether they can be of any use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.metrics import MIN_TRAINING_ROWS, Task
from mlassets.modelling.split import SPLITS, UnknownColumn, assign_split
from resources.errors import MlassetsError
from resources.roles import ROW_KEY, SPLIT, Kind, with_role

KINDS: Final = ("numeric", "categorical", "boolean", "datetime", "text")
_POSITIVE_WORDS = {"true", "t", "yes", "y", "1", "positive", "pos"}
_NEGATIVE_WORDS = {"false", "f", "no", "n", "0", "negative", "neg"}
_MAX_CLASSES = 200
_MANY_VALUES = 50
_LONG_TEXT = 40.0
_DATETIME_PARTS = {
    "month": pc.month,
    "day": pc.day,
    "weekday": pc.day_of_week,
    "hour": pc.hour,
    "minute": pc.minute,
}


class SegmentEmpty(MlassetsError):
    """The draw returned no rows."""


class TargetMissing(UnknownColumn):
    """The drawn table lacks the target column."""


class TargetAllNull(MlassetsError):
    """No row has a target."""


class TargetHasOneClass(MlassetsError):
    """Every row has the same target, and there are too many rows for this to be chance."""


class TargetUnusable(MlassetsError):
    """The target's values do not fit its task."""


class ReservedColumn(MlassetsError):
    """A column has a name that model-ready tables use themselves."""


class UnusableColumn(MlassetsError):
    """A column cannot be read as the kind that the spec gives it."""


@dataclass(frozen=True)
class ModelReady:
    """A model-ready table with what was done to make it.

    Attributes:
        table: `row_key`, the features, the target, `split`; roles and kinds in the field metadata.
        parameters: Transformations, dropped columns with reasons, split rule and seed, JSON-serialisable.
        metrics: Rows per split, class balance, missing shares.
    """

    table: pa.Table
    parameters: dict[str, Any]
    metrics: dict[str, float]


def make_model_ready(
    table: pa.Table,
    *,
    target: str,
    task: Task,
    positive: object | None = None,
    key: Sequence[str] = (),
    drop: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
    by: str = "random",
    split_column: str | None = None,
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
) -> ModelReady:
    """Type the features, read the target, name the rows and split them.

    Args:
        table: Drawn rows, in a reproducible order, which is kept.
        target: Target column. Rows without a target are left out and counted.
        task: What the target is.
        positive: The binary target's positive value; without it `1`, `true`, `yes`, ... or the greater of the two.
        key: Columns that name a row, joined by `|`; without any the row's position in the draw.
        drop: Columns that are no features.
        kinds: Kind per column (`numeric`, `categorical`, `boolean`, `datetime`, `text`) where the automatic one is
            wrong; a column named here is kept even if it looks useless.
        by: Split rule, see `assign_split`.
        split_column: Column of the split rule.
        test: Share of all rows for the test.
        validation: Share of all rows for validation.
        seed: Seed of the split.

    Raises:
        SegmentEmpty: If the table has no rows.
        UnknownColumn: If `target`, `key`, `drop`, `kinds` or the split name a column that is not there.
        ReservedColumn: If a column is named `row_key` or `split`.
        TargetAllNull: If no row has a target.
        TargetHasOneClass: If at least 50 rows share one class; in fewer rows that is chance, and the model step
            keeps the baseline.
        TargetUnusable: If the target does not fit the task.
        UnusableColumn: If a column cannot be read as the kind in `kinds`.
        SplitUnusable: If the split rule cannot be carried out.
    """
    kinds = dict(kinds or {})
    _check_names(table, target, key, drop, kinds, by, split_column)
    if table.num_rows == 0:
        raise SegmentEmpty(
            "the draw returned 0 rows; there is nothing to learn from. Check the draw's WHERE clause and the segment's "
            "value, or retire the segment."
        )
    keys = _row_keys(table, key)
    values, facts = _target_values(table[target], target, task, positive)
    rows_drawn = table.num_rows
    present = values.is_valid()
    if values.null_count:
        table, keys, values = table.filter(present), keys.filter(present), values.filter(present)
    table = table.set_column(table.column_names.index(target), target, values)

    dropped: dict[str, str] = {}
    transformations: dict[str, dict[str, str]] = {}
    notes: list[str] = list(facts.pop("notes"))
    columns: list[tuple[pa.Field, pa.ChunkedArray]] = []
    for name in table.column_names:
        reason = _given_reason(
            name, target, key, drop, by, split_column, table.schema.field(name).type, kinds
        )
        if reason is not None:
            if name != target:
                dropped[name] = reason
            continue
        kind, reason = _kind_of(name, table[name], kinds.get(name))
        if reason is not None:
            dropped[name] = reason
            if reason.startswith("text"):
                notes.append(f"{name!r} was left out: {reason}.")
            continue
        made, reason = _encode(name, table[name], kind, keep=name in kinds)
        if reason is not None:
            dropped[name] = reason
        for feature, values_made, feature_kind, how in made:
            transformations[feature] = {"from": name, "kind": feature_kind, "how": how}
            field = with_role(pa.field(feature, values_made.type), "feature", feature_kind)
            columns.append((field, values_made))
    _check_made_names([field.name for field, _ in columns], target)

    labels, rule = assign_split(
        table,
        by=by,
        column=split_column,
        test=test,
        validation=validation,
        target=target,
        task=task,
        seed=seed,
    )
    fields = [
        with_role(pa.field(ROW_KEY, pa.string()), "key"),
        *(field for field, _ in columns),
        with_role(pa.field(target, values.type), "target"),
        with_role(pa.field(SPLIT, pa.string()), "split"),
    ]
    arrays = [keys, *(array for _, array in columns), values, pa.array(labels, type=pa.string())]
    ready = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    if not columns:
        notes.append("no column is left to learn from; only the baseline can be fitted.")
    lost = rows_drawn - ready.num_rows
    if lost:
        notes.append(f"{lost} of {rows_drawn} rows have no target and were left out.")
    parameters = {
        "target": target,
        "task": task,
        **facts,
        "key": list(key),
        "features": len(columns),
        "transformations": transformations,
        "dropped": dropped,
        "split": rule,
        "seed": seed,
        "notes": notes,
    }
    return ModelReady(ready, parameters, _metrics(ready, target, task, labels, lost))


def prepare_rows(
    table: pa.Table, *, transformations: Mapping[str, Mapping[str, str]], key: Sequence[str] = ()
) -> pa.Table:
    """Turn rows into features as they were turned when a model-ready table was made, value for value.

    Args:
        table: Rows with the columns that are read, of the types that they had in the draw.
        transformations: As the parameters of a model-ready table have them.
        key: Columns that name a row; without any the row's number.

    Returns:
        `row_key` and the features, with roles and kinds in the field metadata.

    Raises:
        UnknownColumn: If a column is missing.
        UnusableColumn: If a column cannot be read as its kind, or a transformation is none of ours.
    """
    keys = _row_keys(table, key) if table.num_rows else pa.chunked_array([pa.array([], pa.string())])
    fields, arrays = [with_role(pa.field(ROW_KEY, pa.string()), "key")], [keys]
    made: dict[str, dict[str, tuple[pa.ChunkedArray, Kind]]] = {}
    for feature, how in transformations.items():
        name = how["from"]
        if name not in table.column_names:
            raise UnknownColumn(name, f"the feature {feature!r}", table.column_names)
        if name not in made:
            # A feature that is a part of a date has a name of its own, any other that of its column.
            kind = how["kind"] if feature == name else "datetime"
            encoded, _ = _encode(name, table[name], kind, keep=True)
            made[name] = {one: (values, of) for one, values, of, _ in encoded}
        if feature not in made[name]:
            raise UnusableColumn(f"the feature {feature!r} cannot be made of the column {name!r}")
        values, of = made[name][feature]
        fields.append(with_role(pa.field(feature, values.type), "feature", of))
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def with_target(table: pa.Table, *, target: str, task: Task, positive: object | None = None) -> pa.Table:
    """Return the drawn rows that have a target: those that are in the model-ready table, in its order.

    Raises:
        TargetUnusable: If the target does not fit the task.
    """
    values, _ = _target_values(table[target], target, task, positive)
    return table.filter(values.is_valid()) if values.null_count else table


def _check_names(
    table: pa.Table,
    target: str,
    key: Sequence[str],
    drop: Sequence[str],
    kinds: Mapping[str, str],
    by: str,
    split_column: str | None,
) -> None:
    names = table.column_names
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ReservedColumn(
            f"the drawn table has the column {twice[0]!r} twice; give one another name in the draw."
        )
    if target not in names:
        raise TargetMissing(target, "the target", names)
    for where, wanted in (("key", key), ("features.drop", drop), ("features.kinds", kinds)):
        for column in wanted:
            if column not in names:
                raise UnknownColumn(column, where, names)
    if by != "random" and split_column is not None and split_column not in names:
        raise UnknownColumn(split_column, "the split", names)
    for column in (ROW_KEY, SPLIT):
        if column in names and (column not in drop or column == target):
            raise ReservedColumn(
                f"the drawn table has a column named {column!r}, a name that model-ready tables use themselves; "
                f"rename it in the draw (SELECT {column} AS {column}_drawn) or list it under features.drop."
            )
    if target in key or target in drop:
        raise TargetUnusable(
            f"the target {target!r} is also listed under key or features.drop; take it out there."
        )
    for column, kind in kinds.items():
        if kind not in KINDS:
            raise UnusableColumn(
                f"features.kinds gives {column!r} the kind {kind!r}; choose one of {', '.join(KINDS)}."
            )


def _check_made_names(features: Sequence[str], target: str) -> None:
    taken = [target, ROW_KEY, SPLIT]
    for name in features:
        if name in taken:
            raise ReservedColumn(
                f"the feature {name!r} made from a datetime column has the name of another column; "
                "rename one in the draw."
            )
        taken.append(name)


def _row_keys(table: pa.Table, key: Sequence[str]) -> pa.ChunkedArray:
    if not key:
        return pc.cast(pa.chunked_array([np.arange(table.num_rows)]), pa.string())
    parts = [pc.fill_null(_as_text(table[column]), "") for column in key]
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "|")
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    return pc.cast(column, pa.string())


def _target_values(
    column: pa.ChunkedArray, target: str, task: Task, positive: object | None
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_floating(column.type):
        column = _finite(column)
    valid = len(column) - column.null_count
    if valid == 0:
        raise TargetAllNull(
            f"the target {target!r} is null in all {len(column)} rows; check the column and the joins of the draw."
        )
    if task == "regression":
        return _regression_target(column, target), {"notes": []}
    if task == "multiclass":
        return _multiclass_target(column, target, valid)
    return _binary_target(column, target, valid, positive)


def _regression_target(column: pa.ChunkedArray, target: str) -> pa.ChunkedArray:
    try:
        return _finite(pc.cast(column, pa.float64(), safe=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TargetUnusable(
            f"the target {target!r} of a regression has the type {column.type} and cannot be read as numbers "
            f"({error}); convert it in the draw, or choose the task multiclass."
        ) from error


def _multiclass_target(
    column: pa.ChunkedArray, target: str, valid: int
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    text = _as_text(column)
    classes = sorted(pc.unique(text.drop_null()).to_pylist())
    if len(classes) > _MAX_CLASSES:
        raise TargetUnusable(
            f"the target {target!r} has {len(classes)} classes, more than {_MAX_CLASSES}; "
            "group the rare ones in the draw, or choose the task regression."
        )
    _refuse_one_class(classes, target, valid)
    return text, {"classes": classes, "notes": []}


def _refuse_one_class(classes: Sequence[object], target: str, valid: int) -> None:
    if len(classes) < 2 and valid >= MIN_TRAINING_ROWS:
        raise TargetHasOneClass(
            f"the target {target!r} is {classes[0]!r} in all {valid} rows; with one class there is nothing to learn. "
            "Widen the draw, or check how the target is computed."
        )


def _binary_target(
    column: pa.ChunkedArray, target: str, valid: int, positive: object | None
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    values = sorted(pc.unique(column.drop_null()).to_pylist())
    if len(values) > 2:
        shown = ", ".join(map(repr, values[:5]))
        raise TargetUnusable(
            f"the binary target {target!r} has {len(values)} values ({shown}{', ...' if len(values) > 5 else ''}); it "
            "needs exactly two. Compute it in the draw (for example: arr_delay >= 15 AS late), or choose another task."
        )
    notes: list[str] = []
    chosen = _positive_value(values, target, positive, notes)
    _refuse_one_class(values, target, valid)
    encoded = pc.cast(pc.equal(column, pa.scalar(chosen, column.type)), pa.int64())
    return encoded, {"positive": _plain(chosen), "classes": [_plain(v) for v in values], "notes": notes}


def _positive_value(values: list[Any], target: str, positive: object | None, notes: list[str]) -> Any:
    if positive is not None:
        # YAML reads yes, no and 1 as something other than the text in the data.
        for value in values:
            if value == positive or _word(value) == _word(positive):
                return value
        if len(values) == 1:
            return positive if isinstance(positive, type(values[0])) else type(values[0])(positive)
        raise TargetUnusable(
            f"the positive value {positive!r} of the target {target!r} is none of its values "
            f"({', '.join(map(repr, values))}); give target.positive one of these."
        )
    words = {_word(value): value for value in values}
    known = [value for word, value in words.items() if word in _POSITIVE_WORDS]
    if len(known) == 1:
        return known[0]
    if set(words) <= _NEGATIVE_WORDS and len(words) == 1:
        only = values[0]
        return not only if isinstance(only, bool) else (1 if isinstance(only, int | float) else "yes")
    chosen = values[-1]
    notes.append(f"{chosen!r} was taken as the positive value of {target!r}; set target.positive to choose.")
    return chosen


def _word(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower()


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))


def _given_reason(
    name: str,
    target: str,
    key: Sequence[str],
    drop: Sequence[str],
    by: str,
    split_column: str | None,
    kind: pa.DataType,
    kinds: Mapping[str, str],
) -> str | None:
    if name == target:
        return "the target"
    if name in drop:
        return "dropped by the spec"
    if name in kinds:
        return None
    if name in key:
        return "part of the row key"
    if name == split_column and by == "group":
        return "groups the split: its values are never seen again"
    if name == split_column and by == "time" and not _has_parts(kind):
        return "orders the split: its values always lie ahead"
    return None


def _has_parts(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _kind_of(name: str, column: pa.ChunkedArray, given: str | None) -> tuple[str, str | None]:
    """Return the kind of a column and, if it is to be left out, the reason."""
    if given is not None:
        return given, "text: left out by the spec" if given == "text" else None
    kind = column.type
    if column.null_count == len(column):
        return "null", "all null"
    if pa.types.is_boolean(kind):
        return "boolean", None
    if _has_parts(kind) or pa.types.is_time(kind):
        return "datetime", None
    if pa.types.is_integer(kind):
        return "numeric", _identifier_reason(name, column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_duration(kind):
        return "numeric", None
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "categorical", _text_reason(column)
    return str(kind), f"values of type {kind} are not usable as features"


def _identifier_reason(name: str, column: pa.ChunkedArray) -> str | None:
    valid = len(column) - column.null_count
    if valid < _MANY_VALUES or pc.count_distinct(column, mode="only_valid").as_py() < valid:
        return None
    ends = pc.min_max(column).as_py()
    named = name.lower() in ("id", "key", "index") or name.lower().endswith(("_id", "_key", "_no", "_nr"))
    if named or ends["max"] - ends["min"] + 1 == valid:
        return "an identifier: a different whole number in every row"
    return None


def _text_reason(column: pa.ChunkedArray) -> str | None:
    valid = len(column) - column.null_count
    distinct = pc.count_distinct(column, mode="only_valid").as_py()
    if distinct <= _MANY_VALUES:
        return None
    length = pc.mean(pc.utf8_length(column)).as_py()
    if length >= _LONG_TEXT and distinct > valid / 5:
        return f"text: {distinct} different values of {length:.0f} characters on average"
    if distinct > valid / 2:
        spaced = pc.mean(pc.cast(pc.match_substring(column, " "), pa.float64())).as_py()
        return f"{'text' if spaced > 0.5 else 'an identifier'}: {distinct} different values in {valid} rows"
    return None


def _encode(
    name: str, column: pa.ChunkedArray, kind: str, *, keep: bool
) -> tuple[list[tuple[str, pa.ChunkedArray, Kind, str]], str | None]:
    """Turn a column into features, each with its name, values, kind and how it was made; or say why not."""
    try:
        if kind == "datetime":
            return _datetime_parts(name, column, keep=keep)
        if kind == "boolean":
            made, how = _as_boolean(column), "as it is"
        elif kind == "categorical":
            made, how = (
                _as_text(column),
                "as it is" if pa.types.is_string(column.type) else f"{column.type} as text",
            )
        else:
            made, how = (
                _as_number(column),
                "infinite and NaN to null" if pa.types.is_floating(column.type) else "as a number",
            )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnusableColumn(
            f"the column {name!r} of type {column.type} cannot be read as {kind} ({error}); "
            "change features.kinds or convert it in the draw."
        ) from error
    if not keep:
        if made.null_count == len(made):
            return [], "all null"
        if made.null_count == 0 and pc.count_distinct(made).as_py() == 1:
            return [], f"constant: {made[0].as_py()!r} in every row"
    feature_kind: Kind = (
        "boolean" if kind == "boolean" else "categorical" if kind == "categorical" else "numeric"
    )
    return [(name, made, feature_kind, how)], None


def _as_boolean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.int64())
    return pc.cast(column, pa.bool_())


def _as_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_duration(column.type):
        per_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
        return pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64(), safe=False), per_second)
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int64())
    return _finite(pc.cast(column, pa.float64(), safe=False))


def _datetime_parts(
    name: str, column: pa.ChunkedArray, *, keep: bool
) -> tuple[list[tuple[str, pa.ChunkedArray, Kind, str]], str | None]:
    if pa.types.is_time(column.type):
        parts: Iterable[str] = ("hour", "minute")
    else:
        if not _has_parts(column.type):
            column = pc.cast(column, pa.timestamp("us"))
        # The year is left out: next year's rows would lie outside everything that was learnt.
        parts = ("month", "day", "weekday") if pa.types.is_date(column.type) else _DATETIME_PARTS
    made: list[tuple[str, pa.ChunkedArray, Kind, str]] = []
    for part in parts:
        values = pc.cast(_DATETIME_PARTS[part](column), pa.float64())
        if keep or pc.count_distinct(values, mode="only_valid").as_py() > 1:
            made.append((f"{name}.{part}", values, "numeric", f"the {part}"))
    return made, None if made else "constant: no part of the date but the year varies"


def _metrics(
    table: pa.Table, target: str, task: Task, labels: np.ndarray[Any, Any], lost: int
) -> dict[str, float]:
    rows = table.num_rows
    features = table.column_names[1:-2]
    metrics: dict[str, float] = {
        "rows": float(rows),
        "rows_without_target": float(lost),
        "features": float(len(features)),
    }
    metrics |= {f"rows.{split}": float((labels == split).sum()) for split in SPLITS}
    cells = rows * len(features)
    missing = {name: table[name].null_count for name in features}
    metrics["missing_share"] = sum(missing.values()) / cells if cells else 0.0
    metrics |= {f"missing_share.{name}": count / rows for name, count in missing.items() if count}
    if task == "regression":
        metrics["target.mean"] = float(pc.mean(table[target]).as_py())
        metrics["target.std"] = float(pc.stddev(table[target]).as_py())
        return metrics
    if task == "binary":
        positive = table[target].to_numpy()
        metrics["positive_share"] = float(positive.mean())
        for split in SPLITS:
            of_split = positive[labels == split]
            if len(of_split):
                metrics[f"positive_share.{split}"] = float(of_split.mean())
        return metrics
    for count in sorted(pc.value_counts(table[target]).to_pylist(), key=lambda c: str(c["values"])):
        metrics[f"class_share.{count['values']}"] = count["counts"] / rows
    return metrics
