"""What is logged shows in Dagster, and is in the store even where Dagster cannot be told."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

import mlassets
from mlassets.definitions import definitions
from mlassets.runs import instance_of
from resources.settings import Settings
from resources.things import Partition

UNTIL = datetime(2026, 12, 31, tzinfo=UTC)
TABLE = pa.table({"amount": [1, 2, 3]})


def test_dagster_shows_what_is_logged_with_its_metadata_data_version_and_partition(tmp_path: Path) -> None:
    store = mlassets.open_store(tmp_path)
    first = store.log(
        TABLE, name="churn | split", metrics={"auc": 0.5}, labels={"ticket": "AB-1", "until": UNTIL}
    )
    second = store.update(first, labels={"ticket": "AB-2"})
    unnamed = store.log(artifacts={"a": 1})
    key = dg.AssetKey("uploads")
    with instance_of(Settings(home=tmp_path)) as instance:
        names = instance.get_dynamic_partitions("name")
        assert names == [first.partition.key, unnamed.partition.key]
        records = instance.fetch_materializations(key, limit=10).records
        events = {one.asset_materialization.metadata["thing"].value: one for one in records}
        assert set(events) == {one.id for one in (first, second, unnamed)}
        told = events[first.id].asset_materialization
        assert told.partition == Partition({"name": "churn | split"}).key
        assert told.metadata["auc"].value == 0.5
        assert told.metadata["dagster/row_count"].value == 3
        assert told.metadata["labels"].value == {"ticket": "AB-1", "until": "2026-12-31 00:00:00+00:00"}
        assert told.tags["dagster/data_version"] == first.data_version
        loaded = definitions(str(tmp_path)).load_asset_value(
            key, python_type=pa.Table, instance=instance, partition_key=first.partition.key
        )
    assert loaded == TABLE


def test_of_many_that_are_logged_at_once_dagster_is_told_of_the_newest_under_each_name(
    tmp_path: Path,
) -> None:
    store = mlassets.open_store(tmp_path)
    made = store.log_many({"name": f"n{number % 2}", "metrics": {"number": number}} for number in range(6))
    with instance_of(Settings(home=tmp_path)) as instance:
        records = instance.fetch_materializations(dg.AssetKey("uploads"), limit=10).records
    told = {one.asset_materialization.metadata["thing"].value for one in records}
    assert told == {one.id for one in made[-2:]}


def test_what_was_logged_is_in_the_store_although_dagster_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "dagster").write_text("in the way")
    store = mlassets.open_store(tmp_path)
    with pytest.warns(UserWarning, match="in the store, but Dagster at .* could not be told"):
        thing = store.log(TABLE, name="x")
    assert store.get(thing.id) == thing


def test_opening_and_reading_the_store_does_not_wait_for_dagster(tmp_path: Path) -> None:
    program = (
        "import sys, mlassets; mlassets.open_store(sys.argv[1]).history(); print('dagster' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
