from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.schemas import SchemaConflict, reconcile, widen

KINDS = [
    pa.null(),
    pa.bool_(),
    pa.int8(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint32(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.date32(),
    pa.timestamp("ms"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.timestamp("ms", "Europe/Berlin"),
    pa.decimal128(5, 2),
    pa.decimal128(9, 4),
]
kinds = st.sampled_from(KINDS)
schemas = st.dictionaries(st.sampled_from("abcd"), kinds).map(lambda fields: pa.schema(list(fields.items())))


def schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema(list(fields.items()))


def as_set(found: pa.Schema | None) -> dict[str, str] | None:
    return None if found is None else {field.name: str(field.type) for field in found}


def together(*parts: pa.Schema) -> pa.Schema | None:
    result = parts[0]
    try:
        for part in parts[1:]:
            result = reconcile(result, part)
    except SchemaConflict:
        return None
    return result


@pytest.mark.parametrize(
    ("known", "new", "widened"),
    [
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint64(), pa.int64(), None),
        (pa.float32(), pa.int8(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
        (pa.date32(), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
        (pa.string(), pa.int64(), None),
        (pa.bool_(), pa.int64(), None),
        (pa.decimal128(5, 2), pa.decimal128(9, 4), pa.decimal128(9, 4)),
        (pa.list_(pa.int64()), pa.string(), None),
    ],
)
def test_types_widen_without_loss_or_not_at_all(
    known: pa.DataType, new: pa.DataType, widened: pa.DataType | None
) -> None:
    assert widen(known, new) == widened
    assert widen(new, known) == widened


def test_added_and_missing_columns_are_kept() -> None:
    found = reconcile(schema(a=pa.int64(), b=pa.string()), schema(c=pa.bool_(), a=pa.float64()))
    assert found == schema(a=pa.float64(), b=pa.string(), c=pa.bool_())


def test_a_conflict_names_column_types_file_and_remedy() -> None:
    with pytest.raises(SchemaConflict) as caught:
        reconcile(schema(delay=pa.int64()), schema(delay=pa.string()), "landing/flights/2013-04.csv")
    error = caught.value
    assert (error.column, error.known, error.new) == ("delay", "int64", "string")
    assert "landing/flights/2013-04.csv, column delay: it is string in this file and int64" in str(error)
    assert "Land the file with delay as int64" in str(error)


def test_names_that_differ_only_in_case_are_a_conflict() -> None:
    with pytest.raises(SchemaConflict, match="knows this column as origin"):
        reconcile(schema(origin=pa.string()), schema(Origin=pa.string()))


@given(schemas, schemas)
def test_which_side_is_known_makes_no_difference(one: pa.Schema, other: pa.Schema) -> None:
    assert as_set(together(one, other)) == as_set(together(other, one))


@given(schemas, schemas, schemas)
def test_the_order_of_files_makes_no_difference_where_they_agree(
    one: pa.Schema, two: pa.Schema, three: pa.Schema
) -> None:
    orders = [together(one, two, three), together(three, two, one), together(two, three, one)]
    found = [as_set(order) for order in orders if order is not None]
    assert all(result == found[0] for result in found)


@given(schemas)
def test_a_schema_agrees_with_itself(one: pa.Schema) -> None:
    assert reconcile(one, one) == one


VALUES = {"bool": True, "string": "x", "null": None}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds, kinds)
def test_files_of_both_schemas_are_read_as_one_table(
    tmp_path: Path, one: pa.DataType, other: pa.DataType
) -> None:
    def file(name: str, kind: pa.DataType, extra: str) -> pa.Schema:
        column = (
            pa.array([VALUES[str(kind)]], kind)
            if str(kind) in VALUES
            else pa.array(["7"]).cast(kind, safe=False)
            if (not (pa.types.is_temporal(kind)))
            else pa.array([0], pa.int64() if pa.types.is_timestamp(kind) else pa.int32()).cast(kind)
        )
        table = pa.table({"x": column, extra: [1]})
        pq.write_table(table, tmp_path / name)
        return table.schema

    schemas_found = [file("1.parquet", one, "a"), file("2.parquet", other, "b")]
    merged = together(*schemas_found)
    if merged is None:
        return
    table = ds.dataset([str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")], schema=merged).to_table()
    assert table.num_rows == 2
    assert table.schema == merged
    assert table["x"].null_count == [one, other].count(pa.null())
