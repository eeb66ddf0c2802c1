"""How far a draw has moved away from the one that the champion was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.quality import frames
from mlassets.quality.checks import Task, entry_of
from mlassets.quality.deepchecks_adapter import Deepchecks, Judged
from mlassets.quality.displays import Figure
from mlassets.quality.judging import DoesNotApply, Observation
from resources.roles import Kind, features_of

_NO_LABEL = "\0label"


def champion_drift(
    champion: pa.Table,
    draw: pa.Table,
    *,
    task: Task,
    aside: Sequence[str],
    sample: int,
    seed: int,
    show: bool,
) -> Observation:
    """Measure, feature by feature, how far a draw has drifted, and return the drift of the feature that did most.

    deepchecks measures each feature: Kolmogorov-Smirnov for numbers, Cramer's V for categories. A figure that chance
    could have made in the rows which know the feature comes after those that it could not.

    Args:
        champion: The rows that the champion was trained on, its features marked with their kinds (`resources.roles`).
        draw: The rows to judge. Features that they lack, or have with another type, are left to the schema's contract.
        task: What the target is.
        aside: Columns that are no features any more.
        sample: Rows of each that are looked at.
        seed: Seed of the samples.
        show: Whether to keep figures for the report.

    Raises:
        DoesNotApply: If there are no rows, or no feature in both.
    """
    kinds = {
        name: kind
        for name, kind in features_of(champion.schema).items()
        if name in draw.column_names
        and name not in aside
        and _comparable(kind, champion.schema.field(name).type, draw.schema.field(name).type)
    }
    if not kinds:
        raise DoesNotApply("no feature of the champion's is in the draw", draw.num_rows)
    then, now = (
        _frame(frames.sample(table.select(list(kinds)), sample, seed), kinds) for table in (champion, draw)
    )
    seen = Deepchecks(
        Judged(
            train=then,
            test=now,
            target=_NO_LABEL,
            task=task,
            features=list(kinds),
            categorical=[name for name, kind in kinds.items() if kind != "numeric"],
            seed=seed,
            drawn_from=champion.num_rows + draw.num_rows,
            names=("the champion's draw", "this draw"),
        ),
        show,
    ).observe(entry_of("features_do_not_drift"))
    drifts: Mapping[str, float] = seen.details["columns"]
    known = {name: _harmonic(then[name].notna().sum(), now[name].notna().sum()) for name in drifts}
    entry = entry_of("data_is_like_the_champions")
    told = {name: drift for name, drift in drifts.items() if drift >= entry.noise(known[name])} or drifts
    worst = max(told, key=lambda name: told[name])
    found = (
        f"`{worst}` drifted most from what the champion was trained on, by {told[worst]:.3f}."
        if told[worst]
        else "No feature has drifted from what the champion was trained on."
    )
    return replace(
        seen,
        value=told[worst],
        found=f"{found} Seen on a seeded sample of {len(now):,} rows of {draw.num_rows:,}."
        if len(now) < draw.num_rows
        else found,
        compared=known[worst],
        details={**seen.details, "chance": entry.noise(known[worst])},
        displays=tuple(shown for shown in seen.displays if isinstance(shown, Figure)),
    )


def _comparable(kind: Kind, then: pa.DataType, now: pa.DataType) -> bool:
    """Whether values of two types can be told apart by what they are, and not by how they are written."""
    families = {_family(then), _family(now)}
    if kind == "numeric":
        return families <= {"whole number", "number", "boolean"}
    return len(families) == 1 and None not in families


def _family(kind: pa.DataType) -> str | None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not frames.is_plain(kind):
        return None
    if frames.is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "whole number" if pa.types.is_integer(kind) else "number"


def _frame(table: pa.Table, kinds: Mapping[str, Kind]) -> Any:
    """Return numbers as float64 and categories as text, with NaN for what is null or infinite."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, kind in kinds.items():
        values = table[name].combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if kind == "numeric":
            numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            columns[name] = np.where(np.isfinite(numbers), numbers, np.nan)
        else:
            columns[name] = pd.Series(pc.cast(values, pa.string()).to_pylist(), dtype=object)
    # deepchecks asks for a label; drift makes no use of it.
    return pd.DataFrame(columns).assign(**{_NO_LABEL: None})


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one and other else 0.0
