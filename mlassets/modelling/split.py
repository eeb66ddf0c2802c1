"""Which rows train, validate and test; decided once, before anything is fitted."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.modelling.metrics import Task
from resources.errors import MlassetsError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
RULES = ("random", "group", "time")

_MIN_ROWS_TO_SPLIT = 3


class UnknownColumn(MlassetsError):
    """A column that the spec names is not in the drawn table."""

    def __init__(self, column: str, where: str, columns: Sequence[str]) -> None:
        close = get_close_matches(column, columns, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(columns)}."
        super().__init__(f"{where} names the column {column!r}, which the drawn table does not have; {hint}")


class SplitUnusable(MlassetsError):
    """The split rule cannot be carried out on this table."""


def assign_split(
    table: pa.Table,
    *,
    by: str,
    column: str | None,
    test: float,
    validation: float,
    target: str,
    task: Task,
    seed: int,
) -> tuple[npt.NDArray[np.str_], dict[str, Any]]:
    """Assign every row to train, validation or test.

    `random` stratifies by the target on classification; `group` never divides a group; `time` takes the newest
    rows for the test and the newest of the rest for validation, and equal timestamps never straddle a border.
    A split with a share above 0 gets at least one row, but a table of fewer than three rows is all training.

    Args:
        table: The rows, in a reproducible order.
        by: `random`, `group` or `time`.
        column: What `group` groups by and `time` orders by.
        test: Share of all rows for the test split, in [0, 1).
        validation: Share of all rows for the validation split, in [0, 1).
        target: Target column, for stratification.
        task: Task of the target.
        seed: Seed of every random choice.

    Returns:
        One of `train`, `validation`, `test` per row, and the rule as JSON-serialisable values.

    Raises:
        SplitUnusable: If the shares, the rule or the values of the column cannot give a split.
        UnknownColumn: If the table lacks the column.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise SplitUnusable(
            f"the split asks for test={test:g} and validation={validation:g}; each is a share of all rows, "
            "at least 0, and together they must be below 1, for example test: 0.2, validation: 0.2."
        )
    if by not in RULES:
        raise SplitUnusable(f"the split rule {by!r} is unknown; choose one of {', '.join(RULES)}.")
    if by != "random":
        if column is None:
            raise SplitUnusable(
                f"a split by {by} needs a column, for example split: {{by: {by}, column: ...}}."
            )
        if column not in table.column_names:
            raise UnknownColumn(column, "the split", table.column_names)
    rule: dict[str, Any] = {"by": by, "column": column, "test": test, "validation": validation, "seed": seed}
    rows = table.num_rows
    if rows < _MIN_ROWS_TO_SPLIT:
        return np.full(rows, TRAIN, dtype="<U10"), {
            **rule,
            "note": f"{rows} rows cannot be divided; all train",
        }
    wanted = tuple(max(1, round(share * rows)) if share else 0 for share in (test, validation))
    if by == "random":
        stratified = task != "regression" and target in table.column_names
        rule["stratified"] = stratified
        classes = _codes(table[target]) if stratified else np.zeros(rows, dtype=np.int64)
        return _random(classes, wanted, seed), rule
    assert column is not None
    if by == "group":
        labels = _grouped(_codes(table[column]), wanted, seed, column)
        return labels, rule
    return _by_time(table[column], wanted, column, rule)


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Number the distinct values of a column in the order of their first row; null is a value."""
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    indices = encoded.indices if isinstance(encoded, pa.DictionaryArray) else encoded.chunk(0).indices
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _random(classes: npt.NDArray[np.int64], wanted: Sequence[int], seed: int) -> npt.NDArray[np.str_]:
    """Spread every class evenly over (0, 1) in a random order and cut at the two shares.

    A class of `c` rows has them at 0.5/c, 1.5/c, ...: each cut takes its share of each class to within one row, and
    the totals are exact.
    """
    rows = len(classes)
    shuffled = np.random.default_rng(seed).permutation(rows)
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    counts = np.bincount(classes)
    starts = np.cumsum(counts) - counts
    ordered = classes[by_class]
    position = (np.arange(rows) - starts[ordered] + 0.5) / counts[ordered]
    order = by_class[np.argsort(position, kind="stable")]
    labels = np.full(rows, TRAIN, dtype="<U10")
    labels[order[: wanted[0]]] = TEST
    labels[order[wanted[0] : wanted[0] + wanted[1]]] = VALIDATION
    return labels


def _grouped(
    groups: npt.NDArray[np.int64], wanted: Sequence[int], seed: int, column: str
) -> npt.NDArray[np.str_]:
    sizes = np.bincount(groups)
    needed = [TRAIN, *([TEST] if wanted[0] else []), *([VALIDATION] if wanted[1] else [])]
    if len(sizes) < len(needed):
        raise SplitUnusable(
            f"the split groups by {column!r}, which has {len(sizes)} distinct values; {', '.join(needed)} need "
            f"at least {len(needed)}. Group by a column with more values, or split at random."
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    of_group = np.full(len(sizes), TRAIN, dtype="<U10")
    of_group[order[middle < wanted[0] + wanted[1]]] = VALIDATION
    of_group[order[middle < wanted[0]]] = TEST
    of_group[order[middle >= wanted[0] + wanted[1]]] = TRAIN
    for split in needed:
        # A few large groups can leave a split without any; it then gets the smallest group that can be spared.
        if not (of_group == split).any():
            spare = [g for g in order if (of_group == of_group[g]).sum() > 1]
            of_group[min(spare, key=lambda g: sizes[g])] = split
    return of_group[groups]


def _by_time(
    column: pa.ChunkedArray, wanted: Sequence[int], name: str, rule: dict[str, Any]
) -> tuple[npt.NDArray[np.str_], dict[str, Any]]:
    if column.null_count:
        raise SplitUnusable(
            f"the split orders by {name!r}, which is null in {column.null_count} of {len(column)} rows; "
            f"a row without a time can be in no split. Add WHERE {name} IS NOT NULL to the draw."
        )
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            column = pc.cast(column, pa.timestamp("us"))
        except pa.ArrowInvalid as error:
            raise SplitUnusable(
                f"the split orders by {name!r}, whose text cannot be read as timestamps ({error}); "
                "convert it in the draw, for example strptime(...)."
            ) from error
    elif not (pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise SplitUnusable(f"the split orders by {name!r}, whose type {kind} has no order in time.")
    rank = pc.rank(column.combine_chunks(), tiebreaker="dense").to_numpy().astype(np.int64) - 1
    sizes = np.bincount(rank)
    if len(sizes) < 2:
        raise SplitUnusable(
            f"the split orders by {name!r}, which has a single value in all {len(column)} rows; nothing is newer "
            "than anything else. Choose another column, or split at random."
        )
    before = np.cumsum(sizes) - sizes
    rows = len(column)
    test_from = _border(before, rows - wanted[0], rows) if wanted[0] else len(sizes)
    end = before[test_from] if test_from < len(sizes) else rows
    validation_from = _border(before[:test_from], end - wanted[1], end) if wanted[1] else test_from
    labels = np.full(rows, TRAIN, dtype="<U10")
    labels[rank >= validation_from] = VALIDATION
    labels[rank >= test_from] = TEST
    first_row = {int(k): i for k, i in zip(*np.unique(rank, return_index=True), strict=True)}
    borders = {
        f"{split}_from": str(column[int(first_row[start])].as_py())
        for split, start in ((VALIDATION, validation_from), (TEST, test_from))
        if start < len(sizes) and (split == TEST or validation_from < test_from)
    }
    return labels, {**rule, **borders}


def _border(before: npt.NDArray[np.int64], wanted: int, rows: int) -> int:
    """Return the index of the distinct time that starts the newer part, nearest to `wanted` older rows.

    The oldest time always stays on the older side; with no other time left, the newer part is empty.
    """
    if len(before) < 2:
        return len(before)
    return int(np.argmin(np.abs(before[1:] - wanted))) + 1
