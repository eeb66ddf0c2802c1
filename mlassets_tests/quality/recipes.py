"""Seeded tables for the quality tests: mixed features, nulls, dates and keys, for each task."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.quality import frames
from mlassets.quality.checks import Task
from resources.roles import ROW_KEY, SPLIT, features_of, target_of, with_role

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def draw(task: Task, rows: int = 1_500, seed: int = 0) -> pa.Table:
    """Return drawn rows with numbers, categories, booleans, text, nulls, a date and a key."""
    rng = np.random.default_rng(seed)

    def holed(values: Any, part: float, kind: pa.DataType | None = None) -> pa.Array:
        return pa.array(values, kind, mask=rng.random(rows) < part)

    size = rng.normal(size=rows)
    colour = rng.choice(["red", "green", "blue", "Blue"], rows, p=[0.4, 0.3, 0.2, 0.1])
    words = rng.integers(1, 9, rows)
    score = size + (colour == "red") + 0.5 * rng.normal(size=rows)
    target = {
        "binary": lambda: pa.array((score > 0.3).astype("int64")),
        "multiclass": lambda: pa.array(
            np.array(["low", "middle", "top"])[np.digitize(score, [0.0, 1.0])].tolist()
        ),
        "regression": lambda: pa.array(score),
    }[task]()
    return pa.table(
        {
            "key": pa.array([f"row-{seed}-{i}" for i in range(rows)]),
            "when": pa.array(np.datetime64("2026-01-01T00", "us") + np.arange(rows) * np.timedelta64(1, "h")),
            "size": pa.array(size),
            "weight": holed(rng.gamma(2.0, size=rows), 0.1),
            "pieces": pa.array(rng.integers(0, 50, rows)),
            "price": holed(np.round(rng.random(rows) * 100, 2), 0.05),
            "colour": holed(colour.tolist(), 0.1),
            "flag": pa.array(rng.random(rows) < 0.5),
            "maybe": holed((rng.random(rows) < 0.2).tolist(), 0.2, pa.bool_()),
            "note": pa.array([f"lot {i} " + "very " * int(n) for i, n in enumerate(words)]),
            "nothing": pa.nulls(rows, pa.float64()),
            "same": pa.array(["always"] * rows),
            "target": target,
        }
    )


def model_ready(task: Task, rows: int = 1_500, seed: int = 0) -> pa.Table:
    """Return the same rows as a model-ready table: roles, a row key, and the last third to test on."""
    drawn = draw(task, rows, seed)
    kinds = {
        "size": "numeric",
        "weight": "numeric",
        "pieces": "numeric",
        "price": "numeric",
        "colour": "categorical",
        "flag": "boolean",
    }
    split = np.where(
        np.arange(rows) < rows * 0.5, "train", np.where(np.arange(rows) < rows * 0.6, "validation", "test")
    )
    columns = [
        (with_role(drawn.schema.field(name), "feature", kind), drawn[name]) for name, kind in kinds.items()
    ]  # type: ignore[arg-type]
    columns += [
        (with_role(pa.field("target", drawn["target"].type), "target"), drawn["target"]),
        (with_role(pa.field(ROW_KEY, pa.string()), "key"), drawn["key"]),
        (with_role(pa.field(SPLIT, pa.string()), "split"), pa.chunked_array([split.tolist()])),
    ]
    return pa.table([values for _, values in columns], pa.schema([field for field, _ in columns]))


def fitted(table: pa.Table, task: Task) -> Any:
    """Return a boosted pipeline fitted on the training split, whose iterations deepchecks can cut short."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    kinds = features_of(table.schema)
    train = frames.model_frame(
        table.filter(pc.equal(table[SPLIT], "train")), kinds, [target_of(table.schema)]
    )
    model = (GradientBoostingRegressor if task == "regression" else GradientBoostingClassifier)(
        n_estimators=12, random_state=0
    )
    prepare = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore"),
            [name for name, kind in kinds.items() if kind == "categorical"],
        ),
        (SimpleImputer(), [name for name, kind in kinds.items() if kind != "categorical"]),
    )
    return make_pipeline(prepare, model).fit(train[list(kinds)], train[target_of(table.schema)])


METRICS = {
    "test.roc_auc": 0.9,
    "gain_over_baseline.roc_auc": 0.4,
    "gain_over_baseline.roc_auc.low": 0.35,
    "gain_over_baseline.roc_auc.high": 0.45,
}


def spoilt(rows: int = 1_200, seed: int = 7) -> pa.Table:
    """Return rows with something for every check to find, and a target for each task (`target_<task>`)."""
    rng = np.random.default_rng(seed)
    table = draw("regression", rows, seed).drop_columns(["maybe", "nothing", "target"])
    late = np.arange(rows) >= rows * 0.6
    size = np.round(table["size"].to_numpy() + 0.6 * late, 6)
    colour = table["colour"].to_pylist()
    colour = ["violet" if late[i] and i % 9 == 0 else value for i, value in enumerate(colour)]
    code = rng.choice(
        ["A7", "B2", "c-3", "12", "!!", "null", "None"], rows, p=[0.4, 0.3, 0.2, 0.04, 0.02, 0.03, 0.01]
    )
    noise = 0.5 * rng.normal(size=rows)
    score = np.round(size + np.array([value == "red" for value in colour]) + noise, 6)
    table = (
        table.set_column(table.column_names.index("size"), "size", pa.array(size))
        .set_column(table.column_names.index("colour"), "colour", pa.array(colour))
        .append_column("code", pa.array(code.tolist()))
        .append_column("twin", pa.array(np.round(size * 2 + 0.01 * rng.normal(size=rows), 6)))
        .append_column("target_binary", pa.array((score > 0.3).astype("int64")))
        .append_column(
            "target_multiclass",
            pa.array(np.array(["low", "middle", "top"])[np.digitize(score, [0.0, 1.0])].tolist()),
        )
        .append_column("target_regression", pa.array(score))
    )
    # The second fiftieth of the rows repeats the first, the third does so with other targets.
    part = rows // 50
    first = table.slice(0, part)
    targets = [first[f"target_{task}"] for task in TASKS]
    turned: list[Any] = [
        pc.subtract(1, targets[0]),
        pa.chunked_array([["top"] * part]),
        pc.add(targets[2], 3.0),
    ]
    other = first
    for task, values in zip(TASKS, turned, strict=True):
        other = other.set_column(other.column_names.index(f"target_{task}"), f"target_{task}", values)
    return pa.concat_tables([first, first, other, table.slice(3 * part)]).combine_chunks()
