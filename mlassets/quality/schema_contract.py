"""The schema that others rely on, held against a new one."""

import pyarrow as pa

from mlassets.quality.judging import Observation


def schema_changes(known: pa.Schema, new: pa.Schema, n: int = 0) -> Observation:
    """Count the columns of `known` that `new` lacks or holds with an incompatible type.

    A type that holds every value of the known one (a wider number, a timestamp for a date, another encoding
    of strings) keeps the contract; so does an added column. Both are noted in the details.

    Args:
        known: The schema that is relied on, such as the champion's.
        new: The schema to judge.
        n: Rows under the new schema.
    """
    added = [name for name in new.names if name not in known.names]
    removed = [name for name in known.names if name not in new.names]
    changed: dict[str, str] = {}
    widened: dict[str, str] = {}
    for name in known.names:
        if name in removed:
            continue
        before, after = _plain(known.field(name).type), _plain(new.field(name).type)
        if before != after:
            (widened if _holds(after, before) else changed)[name] = f"{before} -> {after}"
    words = [f"`{name}` is gone" for name in removed]
    words += [f"`{name}` changed ({how})" for name, how in changed.items()]
    found = "; ".join(words[:10]) + "." if words else f"All {len(known.names)} columns are as known."
    if added:
        found += f" Added: {', '.join(f'`{name}`' for name in added[:10])}."
    details = {"removed": removed, "changed": changed, "widened": widened, "added": added}
    return Observation(len(removed) + len(changed), n, found, details)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def _holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether every value of `narrow` can be written in `wide`; a column of nulls fits anywhere."""
    types = pa.types
    if types.is_null(narrow):
        return True
    if types.is_integer(narrow) and types.is_integer(wide):
        same_sign = types.is_signed_integer(wide) == types.is_signed_integer(narrow)
        return bool(wide.bit_width > narrow.bit_width and (same_sign or types.is_signed_integer(wide)))
    if types.is_floating(wide):
        return bool(
            types.is_integer(narrow) or (types.is_floating(narrow) and wide.bit_width > narrow.bit_width)
        )
    if types.is_timestamp(wide):
        return bool(types.is_date(narrow) or (types.is_timestamp(narrow) and wide.tz == narrow.tz))
    return False
