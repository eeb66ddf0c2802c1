"""A first project spec from a data file: types, task, split, and which columns look like ids or leaks."""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from mlassets.ingestion.formats import convert_one
from mlassets.modelling.metrics import DEFAULT_METRIC
from mlassets.projects import TaskName
from mlassets.sections import SLUG, SLUG_LENGTH, close_matches, shown, slugify
from resources.errors import MlassetsError

ROWS_LOOKED_AT = 500_000
LEAK_SAMPLE = 20_000
MOST_CLASSES = 50
MOST_SEGMENTS = 1_000

# Avoided share of a constant guess's errors, or R², from which a single column is too good to be true.
_LEAK: dict[TaskName, float] = {"binary": 0.95, "multiclass": 0.95, "regression": 0.99}
_POSITIVE = ("true", "1", "yes", "y", "t", "positive", "pos")
_ID_NAME = re.compile(
    r"(^|[_\W])(id|ids|uuid|guid|key|index|idx|rowid|nr|no)$|^column_\d+$|^unnamed|[a-z]Id$|ID$", re.I
)


class CannotInfer(MlassetsError):
    """No spec can be made from what was given; the message names the column and what to do."""


@dataclass(frozen=True)
class InferredSpec:
    """A spec to start from.

    Attributes:
        text: Commented YAML, which `projects.load_project` accepts as it is.
        source: Name of its one source; the file belongs into `landing/<source>/`.
        notes: What was decided and why, a sentence each, for a person to check.
    """

    text: str
    source: str
    notes: tuple[str, ...]


def infer_spec(file: Path, project: str, target: str, segment: str | None = None) -> InferredSpec:
    """Look at a data file and write down a project spec for it.

    Args:
        file: Any file that can be landed.
        project: Name of the project, a slug.
        target: Column to predict.
        segment: Column whose values get a draw and a model each; None for one model of everything.

    Raises:
        CannotInfer: If a column is not there, the target cannot be predicted, or the name is no slug.
        UnreadableFile: If the file could not be landed either.
    """
    if not SLUG.fullmatch(project) or len(project) > SLUG_LENGTH:
        raise CannotInfer(
            f"{shown(project)} cannot name a project: lower-case letters, digits and single hyphens, at most "
            f"{SLUG_LENGTH}. Use {slugify(project)}."
        )
    table, rows = _read(file)
    for column, role in ((target, "target"), (segment, "segment")):
        if column is not None and column not in table.column_names:
            hint = close_matches(column, table.column_names)
            raise CannotInfer(f"{file.name} has no column {shown(column)} for the {role}; {hint}")
        if column is not None and not _nameable(column):
            raise CannotInfer(f"{shown(column)} in {file.name} holds a control character; rename the column.")
    if target == segment:
        raise CannotInfer(
            f"{shown(target)} cannot be target and segment at once; choose another segment column."
        )
    notes = [f"{file.name}: {rows:,} rows, {table.num_columns} columns"]
    if rows > table.num_rows:
        notes.append(f"looked at the first {table.num_rows:,} rows only")
    task, positive = _task(table[target], target, notes)
    table = table.filter(pc.is_valid(table[target]))
    split_column = _split_column(table, {target, segment}, notes)
    if segment is not None:
        _check_segments(table[segment], segment, notes)
    drop = _drops(table, target, task, {target, segment, split_column}, notes)
    notes += [f"{shown(column)} is dropped: {reason}" for column, reason in drop.items() if _nameable(column)]
    notes += [f"{shown(name)} cannot be dropped by name" for name in drop if not _nameable(name)]
    drop = {column: reason for column, reason in drop.items() if _nameable(column)}
    if segment is not None:
        drop[segment] = "the same in all rows of a segment"
    source = project.replace("-", "_")
    text = _spec_text(file, project, source, table, target, task, positive, segment, split_column, drop)
    return InferredSpec(text, source, tuple(notes))


def _read(file: Path) -> tuple[pa.Table, int]:
    with tempfile.TemporaryDirectory() as folder:
        sink = Path(folder) / "data.parquet"
        rows = convert_one(file, file.name, sink).rows
        parts = []
        count = 0
        with pq.ParquetFile(sink) as parquet:
            for batch in parquet.iter_batches():
                parts.append(batch)
                count += batch.num_rows
                if count >= ROWS_LOOKED_AT:
                    break
        return pa.Table.from_batches(parts), rows


def _task(column: pa.ChunkedArray, target: str, notes: list[str]) -> tuple[TaskName, Any]:
    """Return the task that a target's values suggest, and the positive class of a binary one."""
    known = column.drop_null()
    if column.null_count:
        notes.append(f"{column.null_count:,} rows have no {shown(target)}; they are left out of training")
    if pt.is_floating(known.type):
        known = known.filter(pc.is_finite(known))
    if not len(known):
        raise CannotInfer(
            f"{shown(target)} holds no value, so there is nothing to predict; choose another column."
        )
    if not (pt.is_boolean(known.type) or pt.is_string(known.type) or _is_number(known.type)):
        raise CannotInfer(f"{shown(target)} is {known.type}; a target is a number, true/false or a category.")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(known).to_pylist()}
    if len(counts) == 1:
        only = shown(next(iter(counts)))
        raise CannotInfer(f"{shown(target)} is {only} in every row, so there is nothing to predict.")
    if len(counts) == 2:
        classes = sorted(counts, key=lambda value: (counts[value], str(value)))
        named = [value for value in classes if str(value).strip().lower() in _POSITIVE or value == 1]
        positive = named[0] if named else classes[0]
        why = "by its name" if named else "the rarer one"
        notes.append(
            f"{shown(target)} takes two values: binary; the positive class is {shown(positive)}, {why}"
        )
        return "binary", positive
    few_whole_numbers = pt.is_integer(known.type) and len(counts) <= 10 and len(known) >= 20 * len(counts)
    if pt.is_string(known.type) or few_whole_numbers:
        if len(counts) > MOST_CLASSES:
            raise CannotInfer(
                f"{shown(target)} is text with {len(counts):,} different values; more than {MOST_CLASSES} cannot "
                "be told apart. Group them, or choose another column."
            )
        notes.append(f"{shown(target)} takes {len(counts)} values: multiclass")
        return "multiclass", None
    notes.append(f"{shown(target)} is a number with {len(counts):,} values: regression")
    return "regression", None


def _split_column(table: pa.Table, taken: set[str | None], notes: list[str]) -> str | None:
    """Return the time column to split by: the one with the fewest nulls, the first of equals."""
    found = [
        (table[name].null_count, position, name)
        for position, name in enumerate(table.column_names)
        if name not in taken
        and _nameable(name)
        and (pt.is_date(table[name].type) or pt.is_timestamp(table[name].type))
        and table[name].null_count <= 0.01 * table.num_rows
        and pc.count_distinct(table[name]).as_py() >= 10
    ]
    if not found:
        notes.append("no usable time column: split at random")
        return None
    column = str(min(found)[2])
    others = [name for _, _, name in found if name != column]
    also = f" ({', '.join(shown(name) for name in others[:5])} would do as well)" if others else ""
    notes.append(f"split by time on {shown(column)}{also}")
    return column


def _check_segments(column: pa.ChunkedArray, segment: str, notes: list[str]) -> None:
    kind = column.type
    if not (pt.is_string(kind) or pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_date(kind)):
        raise CannotInfer(
            f"{shown(segment)} is {kind}; segments are named by text, whole numbers, true/false or days."
        )
    counts = pc.value_counts(column.drop_null()).to_pylist()
    if not counts or len(counts) > MOST_SEGMENTS:
        raise CannotInfer(
            f"{shown(segment)} has {len(counts):,} different values; a segment column has 1 to {MOST_SEGMENTS:,}."
        )
    small = sum(entry["counts"] < 100 for entry in counts)
    tail = f", {small} of them with fewer than 100 rows" if small else ""
    notes.append(f"{len(counts)} segments by {shown(segment)}{tail}")
    if column.null_count:
        notes.append(f"{column.null_count:,} rows have no {shown(segment)} and belong to no segment")


def _drops(
    table: pa.Table, target: str, task: TaskName, taken: set[str | None], notes: list[str]
) -> dict[str, str]:
    """Return the columns that should not be features, each with the reason."""
    reasons: dict[str, str] = {}
    for name in table.column_names:
        if name in taken:
            continue
        if reason := _id_reason(table[name], name):
            reasons[name] = reason
    sample = _sample(table)
    for name in table.column_names:
        if name in taken or name in reasons:
            continue
        share = _told_by(sample[name], sample[target], task)
        if share >= _LEAK[task]:
            reasons[name] = (
                f"suspected leak: it alone tells {share:.1%} of the target; keep it only if it is known in time"
            )
        elif share >= 0.6:
            notes.append(
                f"{shown(name)} alone tells {share:.0%} of the target: drop it unless it is known in time"
            )
    return reasons


def _id_reason(column: pa.ChunkedArray, name: str) -> str | None:
    present = len(column) - column.null_count
    if not present:
        return "holds no value"
    if not (pt.is_string(column.type) or pt.is_integer(column.type)):
        return None
    distinct = pc.count_distinct(column).as_py()
    if pt.is_integer(column.type):
        if distinct < present or present < 20:
            return None
        steps = pc.pairwise_diff(column.combine_chunks().drop_null())
        ordered = bool(pc.all(pc.greater(steps, 0)).as_py()) or bool(pc.all(pc.less(steps, 0)).as_py())
        return "an id: a different whole number in every row" if ordered or _ID_NAME.search(name) else None
    if distinct == present >= 20:
        return "an id: a different text in every row"
    if (pc.mean(pc.utf8_length(column)).as_py() or 0) > 60:
        return "free text"
    if distinct > 1_000 and distinct > 0.5 * present:
        return f"{distinct:,} different texts in {present:,} rows: nothing to learn from most of them"
    return None


def _sample(table: pa.Table) -> pa.Table:
    import numpy as np

    if table.num_rows > LEAK_SAMPLE:
        chosen = np.random.default_rng(0).choice(table.num_rows, LEAK_SAMPLE, replace=False)
    else:
        chosen = np.random.default_rng(0).permutation(table.num_rows)
    return table.take(pa.array(chosen))


def _told_by(column: pa.ChunkedArray, target: pa.ChunkedArray, task: TaskName) -> float:
    """Return the share of the target's uncertainty that one column removes, on rows it was not learnt from.

    For classes: the share of a constant guess's errors that are avoided. For numbers: R².
    """
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    half = len(column) // 2
    if half < 10:
        return 0.0
    values = _as_numbers(column, target, half, task)
    if values is None:
        return 0.0
    features = values.reshape(-1, 1)
    if task == "regression":
        truth = target.to_numpy().astype(float)
        spread = float(np.var(truth[half:]))
        tree = DecisionTreeRegressor(max_leaf_nodes=256, random_state=0).fit(features[:half], truth[:half])
        left = float(np.mean((tree.predict(features[half:]) - truth[half:]) ** 2))
        return 1 - left / spread if spread else 0.0
    _, truth = np.unique(np.array([str(value) for value in target.to_pylist()]), return_inverse=True)
    guess = np.bincount(truth[:half]).argmax()
    errors = float(np.mean(truth[half:] != guess))
    tree = DecisionTreeClassifier(max_leaf_nodes=256, random_state=0).fit(features[:half], truth[:half])
    left = float(np.mean(tree.predict(features[half:]) != truth[half:]))
    return 1 - left / errors if errors else 0.0


def _as_numbers(column: pa.ChunkedArray, target: pa.ChunkedArray, half: int, task: TaskName) -> Any:
    """Return a column as numbers that a tree can cut: null below all others, categories by their usual target."""
    import numpy as np

    kind = column.type
    if pt.is_null(kind) or pt.is_nested(kind) or pt.is_binary(kind):
        return None
    if _is_number(kind) or pt.is_boolean(kind) or pt.is_decimal(kind):
        values = column.cast(pa.float64()).to_numpy()
    elif pt.is_date(kind) or pt.is_timestamp(kind):
        micros = column.cast(pa.timestamp("us", getattr(kind, "tz", None))).cast(pa.int64())
        values = micros.cast(pa.float64(), safe=False).to_numpy()
    elif pt.is_string(kind):
        texts = column.to_pylist()
        truth = target.to_pylist()
        if task != "regression":
            order = {value: position for position, value in enumerate(sorted(set(truth), key=str))}
            truth = [order[value] for value in truth]
        seen: dict[str | None, list[float]] = {}
        for text, value in zip(texts[:half], truth[:half], strict=True):
            seen.setdefault(text, []).append(float(value))
        means = {text: float(np.mean(found)) for text, found in seen.items()}
        values = np.array([means.get(text, np.nan) for text in texts])
    else:
        return None
    # Trees compute with 32 bits, in which neighbouring times and large amounts are equal: their ranks are not.
    finite = np.isfinite(values)
    ranks = np.full(len(values), -1.0)
    ranks[finite] = np.unique(values[finite], return_inverse=True)[1]
    return ranks


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def _nameable(column: str) -> bool:
    return bool(column.strip()) and not any(
        character in column for character in map(chr, [*range(32), *range(127, 160)])
    )


def yaml_text(text: str) -> str:
    """Return `text` as a YAML scalar that reads back as the same text: bare where it can be, else quoted."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text)
    if plain and text.lower() not in ("true", "false", "null", "yes", "no", "on", "off", "y", "n"):
        return text
    characters = []
    for character in text:
        if character in '"\\':
            characters.append("\\" + character)
        elif character.isprintable():
            characters.append(character)
        else:
            characters.append(f"\\U{ord(character):08x}")
    return f'"{"".join(characters)}"'


def sql_name(name: str) -> str:
    """Return `name` quoted for SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _spec_text(
    file: Path,
    project: str,
    source: str,
    table: pa.Table,
    target: str,
    task: TaskName,
    positive: Any,
    segment: str | None,
    split_column: str | None,
    drop: dict[str, str],
) -> str:
    sql = f"SELECT * FROM {sql_name(source)}"  # noqa: S608  # names are quoted
    if segment is not None:
        column = sql_name(segment)
        text = column if pt.is_string(table[segment].type) else f"CAST({column} AS VARCHAR)"
        sql += f" WHERE {text} = $segment"
    shown_sql = ["  sql: |", f"    {sql}"] if sql.isprintable() else [f"  sql: {yaml_text(sql)}"]
    target_line = f"target: {{column: {yaml_text(target)}, task: {task}"
    if task == "binary":
        value = positive if not isinstance(positive, str) else yaml_text(positive)
        target_line += f", positive: {str(value).lower() if isinstance(value, bool) else value}"
    lines = [
        f"# Inferred from {_comment(file.name)}. Read it through: what was guessed is marked with a reason.",
        f"project: {project}",
        f"description: {yaml_text(f'Predict {_comment(target)[:80]}.')}",
        "# owners: [team:your-team]",
        "",
        f"sources: {{{source}: {yaml_text(f'landing/{source}/*')}}}",
    ]
    if segment is not None:
        lines += [
            "",
            "# One draw and one model for each value.",
            f"segments: {{column: {yaml_text(segment)}}}",
        ]
    lines += ["", "draw:", *shown_sql, "", f"{target_line}}}  # binary | multiclass | regression"]
    lines += ["# key: [columns that name a row]", "", "features:", *_drop_lines(drop.items())]
    if split_column is not None:
        lines += [
            "",
            "# The newest rows are the test, as a model meets days that come after those it has seen.",
            f"split: {{by: time, column: {yaml_text(split_column)}, test: 0.25, validation: 0.2}}",
        ]
    else:
        lines += ["", "split: {by: random, test: 0.25, validation: 0.2}  # random | time | group"]
    lines += [
        "",
        "model:",
        "  candidates: [baseline, linear, gradient_boosting]",
        f"  metric: {DEFAULT_METRIC[task]}",
        "  tune: {trials: 20, seconds: 60}",
        "",
        "# A release waits for a person. For `mode: auto` it is approved when every rule holds.",
        "review: {mode: manual}",
        "retrain: {on: new_data}",
        "",
    ]
    return "\n".join(lines)


def _drop_lines(drop: Iterable[tuple[str, str]]) -> list[str]:
    entries = [f"    - {yaml_text(column)}  # {_comment(reason)}" for column, reason in drop]
    if not entries:
        return ["  drop: []  # every column but the target is a feature"]
    return ["  # Take a line out to use the column after all.", "  drop:", *entries]
