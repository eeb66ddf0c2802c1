import pyarrow as pa
import pytest

from mlassets.quality.schema_contract import schema_changes
from mlassets.quality.steps import release_round_trips, schema_contract, segments_are_covered


def test_a_missing_segment_is_named() -> None:
    verdict = segments_are_covered(["EWR", "JFK", "LGA"], ["JFK", "EWR"])
    assert verdict.status == "failed"
    assert verdict.observed == pytest.approx(2 / 3)
    assert "`LGA`" in verdict.message
    assert segments_are_covered(["EWR"], ["EWR", "old"]).passed


def test_a_release_must_round_trip_without_any_error() -> None:
    assert release_round_trips(0.0, 100).passed
    assert release_round_trips(1e-12, 100).blocks
    assert release_round_trips(float("nan"), 100).blocks


KNOWN = pa.schema([("a", pa.int32()), ("b", pa.string()), ("day", pa.date32()), ("empty", pa.null())])


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({"a": pa.int64()}, True),
        ({"a": pa.float64()}, True),
        ({"a": pa.int16()}, False),
        ({"a": pa.string()}, False),
        ({"b": pa.dictionary(pa.int32(), pa.string())}, True),
        ({"b": pa.large_string()}, True),
        ({"day": pa.timestamp("us")}, True),
        ({"empty": pa.float64()}, True),
        ({"new": pa.string()}, True),
        ({"b": None}, False),
    ],
)
def test_a_schema_keeps_its_contract_when_it_holds_every_known_value(
    change: dict[str, pa.DataType | None], holds: bool
) -> None:
    fields = {field.name: field.type for field in KNOWN} | change
    new = pa.schema([(name, kind) for name, kind in fields.items() if kind is not None])
    verdict = schema_contract(KNOWN, new, 10)
    assert verdict.passed is holds
    assert verdict.blocks is not holds
    if not holds:
        assert f"`{next(iter(change))}`" in verdict.message


def test_added_columns_are_noted() -> None:
    assert schema_changes(KNOWN, KNOWN.append(pa.field("new", pa.string()))).details["added"] == ["new"]
