"""What each column of a model-ready table is for, written into its Arrow schema.

The role travels with the data (Parquet keeps field metadata), so that a step which reads a model-ready table
needs nothing else to know its features, target, key and split.
"""

from collections.abc import Mapping
from typing import Literal, cast

import pyarrow as pa

Role = Literal["feature", "target", "key", "split"]
Kind = Literal["numeric", "categorical", "boolean"]

ROW_KEY = "row_key"
SPLIT = "split"

_ROLE = b"mlassets.role"
_KIND = b"mlassets.kind"


def with_role(field: pa.Field, role: Role, kind: Kind | None = None) -> pa.Field:
    """Return `field` marked with its role and, for a feature, its kind."""
    metadata = {_ROLE: role.encode()} | ({_KIND: kind.encode()} if kind else {})
    return field.with_metadata({**(field.metadata or {}), **metadata})


def role_of(field: pa.Field) -> Role | None:
    """Return the role that `field` was marked with, if any."""
    value = (field.metadata or {}).get(_ROLE)
    return cast("Role", value.decode()) if value else None


def features_of(schema: pa.Schema) -> Mapping[str, Kind]:
    """Return the features of a model-ready schema, in column order, with their kinds."""
    return {
        field.name: cast("Kind", field.metadata[_KIND].decode())
        for field in schema
        if role_of(field) == "feature"
    }


def target_of(schema: pa.Schema) -> str:
    """Return the name of the target column.

    Raises:
        ValueError: If the schema marks no target or several.
    """
    names = [field.name for field in schema if role_of(field) == "target"]
    if len(names) != 1:
        raise ValueError(f"a model-ready table has exactly one target column, this one has {names}")
    return str(names[0])
