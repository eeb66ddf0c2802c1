"""Arrow tables as the pandas frames that deepchecks and scikit-learn expect, on a seeded sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resources.roles import Kind


def sample(table: pa.Table, rows: int, seed: int) -> pa.Table:
    """Return at most `rows` rows of `table`, drawn without replacement, in their order."""
    if table.num_rows <= rows:
        return table
    drawn = np.random.default_rng(seed).choice(table.num_rows, size=rows, replace=False)
    drawn.sort()
    return table.take(pa.array(drawn))


def frame(table: pa.Table, dates: Sequence[str] = ()) -> Any:
    """Return `table` as a pandas frame of plain numpy types.

    Strings become `object` with None for null, as deepchecks knows them from before pandas 3; so do booleans with
    nulls. Decimals become floats, `dates` naive timestamps in UTC.
    """
    import pandas as pd

    for i, column in enumerate(table.schema):
        kind = column.type
        values = table.column(i)
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type)
        elif pa.types.is_decimal(kind):
            values = values.cast(pa.float64())
        elif column.name in dates:
            values = pc.cast(values, pa.timestamp("us", getattr(kind, "tz", None)))
            values = pc.cast(values, pa.timestamp("us"))
        else:
            continue
        table = table.set_column(i, column.name, values)
    pandas = table.to_pandas()
    for column in table.schema:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            # A bare array of strings would be taken for pandas 3's `str`.
            pandas[column.name] = pd.Series(table[column.name].to_pylist(), pandas.index, dtype=object)
    return pandas


def model_frame(table: pa.Table, kinds: Mapping[str, Kind], others: Sequence[str] = ()) -> Any:
    """Return model-ready columns as the frame that a model takes, with `others` after the features.

    Numeric and boolean features are float64 with NaN for null, categorical ones objects with NaN for null.
    """
    pandas = frame(table.select([*kinds, *others]))
    for name, kind in kinds.items():
        if kind == "categorical":
            values = pandas[name].astype(object)
            pandas[name] = values.where(values.notna(), np.nan)
        else:
            numbers = table[name].cast(pa.int8()) if pa.types.is_boolean(table[name].type) else table[name]
            pandas[name] = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    return pandas


def is_date(kind: pa.DataType) -> bool:
    """Whether a column of this type dates a row."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_plain(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a feature: a number, a boolean, a string or categories of them."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_plain(kind.value_type)
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
        or is_text(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
