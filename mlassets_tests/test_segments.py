"""A column of any sensible type names segments; each of them draws its own rows, whatever its name is."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from mlassets.assets.draw_data import draw_data
from mlassets.automation.partition_changes import segment_key
from mlassets.automation.sensors import sync_partitions
from mlassets.home import Home
from mlassets.segments import (
    MOST_SEGMENTS,
    BadSegmentColumn,
    TooManySegments,
    UnknownSegmentColumn,
    segments_of,
)
from mlassets_tests.automation.made import Made
from resources.io_managers import ThingIOManager
from resources.things import Partition

BY_COLUMN = {"segments: [EWR, JFK]": "segments: {column: origin}"}
ODD = [
    "a/b",
    "..",
    ".",
    "../../etc/passwd",
    " spaces around ",
    'it\'s "quoted"',
    "a|b",
    "...",
    "....",
    "100%",
    "%7C",
    "é漢字",
    "e\u0301",
    "x" * 300,
    "a\nb",
    "~",
    "*",
    "-rf",
    "'; DROP TABLE flights; --",
    "${HOME}",
    "<b>bold</b>",
]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def draw(made: Made, segment: str) -> list[dict[str, Any]]:
    """Materialize draw_data of one segment in Dagster and return the rows of the Thing."""
    with dg.DagsterInstance.ephemeral() as instance:
        sync_partitions(instance, Home(home=str(made.home)))
        partition = Partition.segment("late", segment)
        result = dg.materialize(
            [draw_data],
            partition_key=partition.key,
            instance=instance,
            resources={"home": Home(home=str(made.home)), "things": ThingIOManager(home=str(made.home))},
        )
        assert result.success
    thing = made.store.require("draw_data", partition)
    assert thing.partition["segment"] == segment
    rows: list[dict[str, Any]] = thing.table().to_pylist()
    return rows


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, None, 9], ["10", "9"]),
        ([dt.date(2024, 2, 1), None, dt.date(2024, 1, 31)], ["2024-01-31", "2024-02-01"]),
        ([dt.datetime(2024, 1, 1, 2, 3, 4, 5)], ["2024-01-01 02:03:04.000005"]),
        ([True, False, None], ["false", "true"]),
        ([0.1, 1e20, 2.0], ["0.1", "1e+20", "2"]),
        ([Decimal("1.50"), Decimal("0.05")], ["0.05", "1.50"]),
        (["", "EWR", None], ["EWR"]),
    ],
)
def test_every_value_of_a_column_is_a_segment_and_draws_its_own_rows(
    made: Made, values: list[Any], names: list[str]
) -> None:
    made.source("flights", {"origin": values, "late": list(range(len(values)))})
    assert segments_of(made.spec(changes=BY_COLUMN), made.store) == names
    drawn = {name: {row["origin"] for row in draw(made, name)} for name in names}
    assert [len(own) for own in drawn.values()] == [1] * len(names)
    assert set.union(*drawn.values()) == set(values) - {None, ""}


@pytest.mark.parametrize("name", ODD)
def test_a_segment_of_any_name_draws_its_rows_and_stays_in_its_folder(made: Made, name: str) -> None:
    made.source("flights", {"origin": [name, "other"], "late": [1, 0]})
    spec = made.spec(changes=BY_COLUMN)
    assert segments_of(spec, made.store) == sorted([name, "other"])
    assert draw(made, name) == [{"origin": name, "late": 1}]
    thing = made.store.require("draw_data", Partition.segment("late", name))
    root = made.home / "lake" / "things" / "draw_data" / "project=late"
    (folder,) = root.iterdir()
    assert folder.name.startswith("segment=")
    assert folder.name.isascii()
    assert not set(folder.name.removeprefix("segment=")) & set("/|\"'<>\n *")
    assert [path.parent for path in root.rglob("thing.json")] == [folder / thing.id]
    assert Partition.parse(Partition.segment("late", name).key)["segment"] == name
    assert Partition.parse(segment_key(name), ("segment",))["segment"] == name


def test_odd_names_listed_in_the_spec_are_segments_as_they_are(made: Made) -> None:
    spec = made.spec(changes={"[EWR, JFK]": "['a|b', 'c/d', \"it's\", 7]"})
    assert segments_of(spec, made.store) == sorted(["a|b", "c/d", "it's", "7"])


def test_segments_of_a_listed_number_draw_from_a_column_of_numbers(made: Made) -> None:
    made.source("flights", {"origin": [1, 2, 10], "late": [0, 1, 2]})
    made.spec(changes={"[EWR, JFK]": "[1, 10]"})
    assert draw(made, "1") == [{"origin": 1, "late": 0}]
    assert draw(made, "10") == [{"origin": 10, "late": 2}]


def test_segments_are_unknown_until_data_lands_and_follow_it(made: Made) -> None:
    spec = made.spec(changes=BY_COLUMN)
    assert segments_of(spec, made.store) is None
    made.source("weather", {"temp": [1.0]})
    assert segments_of(spec, made.store) is None
    made.source("flights", {"origin": ["EWR"]})
    assert segments_of(spec, made.store) == ["EWR"]
    made.source("flights", {"origin": ["EWR", "LGA"]})
    assert segments_of(spec, made.store) == ["EWR", "LGA"]


def test_the_named_source_is_the_one_that_is_looked_in(made: Made) -> None:
    made.source("flights", {"origin": ["EWR"]})
    made.source("weather", {"origin": ["LGA"]})
    spec = made.spec(changes={"[EWR, JFK]": "{column: origin, source: weather}"})
    assert segments_of(spec, made.store) == ["LGA"]


def test_an_unknown_column_is_refused_with_the_columns_that_are_there(made: Made) -> None:
    spec = made.spec(changes={"[EWR, JFK]": "{column: orign}"})
    made.source("flights")
    made.source("weather", {"temp": [1.0]})
    with pytest.raises(UnknownSegmentColumn, match=r"late: .*`orign`; the columns are late, origin, temp"):
        segments_of(spec, made.store)


def test_too_many_segments_are_refused_with_the_number(made: Made) -> None:
    spec = made.spec(changes=BY_COLUMN)
    made.source("flights", {"origin": list(range(MOST_SEGMENTS))})
    assert len(segments_of(spec, made.store) or []) == MOST_SEGMENTS
    made.source("flights", {"origin": list(range(MOST_SEGMENTS + 1))})
    with pytest.raises(TooManySegments, match=r"`origin` has 10,001 values; a project may have 10,000"):
        segments_of(spec, made.store)


@pytest.mark.parametrize("values", [[["a"], ["b"]], [{"a": 1}], [b"\xff"]])
def test_a_column_that_cannot_name_segments_is_refused(made: Made, values: list[Any]) -> None:
    spec = made.spec(changes=BY_COLUMN)
    made.source("flights", {"origin": values})
    with pytest.raises(BadSegmentColumn, match=r"late: the column `origin` cannot name segments: it holds"):
        segments_of(spec, made.store)


def test_a_dictionary_encoded_column_names_segments_too(made: Made) -> None:
    table = {"origin": pa.array(["EWR", "JFK", "EWR"]).dictionary_encode()}
    made.source("flights", table)  # type: ignore[arg-type]
    assert segments_of(made.spec(changes=BY_COLUMN), made.store) == ["EWR", "JFK"]
