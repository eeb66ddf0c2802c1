"""One schema for all files of a source: columns may be added and types widened, and nothing is guessed."""

import pyarrow as pa
import pyarrow.types as pt

from mlassets.ingestion.errors import SchemaConflict

_UNITS = ("s", "ms", "us", "ns")


def reconcile(known: pa.Schema, new: pa.Schema, file: str = "the new file") -> pa.Schema:
    """Return the schema that holds both: the columns of `known`, then those only `new` has.

    A column that one side lacks is null there. Types widen without loss: null to anything, integers and floats to
    the wider one, integer with float to double, dates to timestamps, timestamps to the finer unit, decimals to
    the larger. Which side is called known makes no difference to the types, nor does the order of many files.

    Args:
        known: Schema of the source so far.
        new: Schema of the file that came in.
        file: Name of that file, for the error.

    Raises:
        SchemaConflict: If a column's two types have no common type, or two names differ only in case.
    """
    spelled = {name.casefold(): name for name in known.names}
    fields = {field.name: pa.field(field.name, field.type) for field in known}
    for field in new:
        name = spelled.setdefault(field.name.casefold(), field.name)
        if name != field.name:
            raise SchemaConflict(
                file,
                field.name,
                name,
                field.name,
                f"the source knows this column as {name}, and SQL does not tell upper from lower case",
                f"Name it {name} in the file",
            )
        if name not in fields:
            fields[name] = pa.field(name, field.type)
            continue
        widened = widen(fields[name].type, field.type)
        if widened is None:
            raise SchemaConflict(
                file,
                name,
                str(fields[name].type),
                str(field.type),
                f"it is {field.type} in this file and {fields[name].type} in the source so far",
                f"Land the file with {name} as {fields[name].type}, or give the column another name",
            )
        fields[name] = pa.field(name, widened)
    return pa.schema(list(fields.values()))


def widen(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds both, or None where only a guess could bring them together."""
    if one.equals(other) or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    if _is_number(one) and _is_number(other):
        return _wider_number(one, other)
    if pt.is_decimal(one) and pt.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(digits + scale, scale) if digits + scale <= 38 else None
    if _is_moment(one) and _is_moment(other):
        return _wider_moment(one, other)
    if _is_text(one) and _is_text(other):
        return pa.string()
    return None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pt.is_date(kind) or pt.is_timestamp(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _wider_number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pt.is_floating(one) and pt.is_floating(other):
        return one if one.bit_width >= other.bit_width else other
    if pt.is_floating(one) or pt.is_floating(other):
        return pa.float64()
    if pt.is_signed_integer(one) == pt.is_signed_integer(other):
        return one if one.bit_width >= other.bit_width else other
    signed, unsigned = (one, other) if pt.is_signed_integer(one) else (other, one)
    width = max(signed.bit_width, unsigned.bit_width * 2)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)


def _wider_moment(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pt.is_date(one) and pt.is_date(other):
        return pa.date64()
    if pt.is_date(one) or pt.is_date(other):
        stamp = other if pt.is_date(one) else one
        # A date has no zone: which instant it begins at would be a guess.
        return stamp if stamp.tz is None else None
    if one.tz != other.tz:
        return pa.timestamp(_finer(one, other), "UTC") if one.tz and other.tz else None
    return pa.timestamp(_finer(one, other), one.tz)


def _finer(one: pa.DataType, other: pa.DataType) -> str:
    return str(max(one.unit, other.unit, key=_UNITS.index))
