"""Values go in and come out again in the form that the reader's annotation asks for."""

import base64
import gc
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression

from resources import io_managers
from resources.io_managers import (
    MissingThing,
    PartlyCommitted,
    ThingIOManager,
    Upstream,
    WrongOutput,
    to_partition,
)
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, new_id
from resources.values import UnstorableValue, WrongForm, plain_type

TABLE = pa.table({"k": ["a", "b", None], "v": [1, 2, 3]})
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
days = dg.StaticPartitionsDefinition(["1", "2", "3"])
EWR, JFK = Partition.segment("late", "EWR"), Partition.segment("late", "JFK")
by_segment = dg.MultiPartitionsDefinition(
    {
        "project": dg.StaticPartitionsDefinition(["late", "other"]),
        "segment": dg.StaticPartitionsDefinition(["EWR", "JFK"]),
    }
)
by_project = dg.StaticPartitionsDefinition(["late", "other"])
of_project = dg.MultiToSingleDimensionPartitionMapping("project")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def run(tmp_path: Path, instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materialize assets with the manager under `io_manager`, and another one for the same home under `second`."""

    def materialize(
        *assets: Any, partition_key: str | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        managers = {
            "io_manager": ThingIOManager(home=str(tmp_path)),
            "second": ThingIOManager(home=str(tmp_path)),
        }
        return dg.materialize(
            list(assets), partition_key=partition_key, instance=instance, resources=managers, **options
        )

    return materialize


@dg.asset(partitions_def=by_segment)
def model(context: dg.AssetExecutionContext) -> Draft:
    return Draft(dataset=TABLE, metrics={"rows": 3}, labels={"of": context.partition_key})


Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.mark.parametrize(
    ("wanted", "read"),
    [
        (pa.Table, lambda given: given.equals(TABLE)),
        (ds.Dataset, lambda given: given.to_table().equals(TABLE)),
        (pd.DataFrame, lambda given: given.equals(TABLE.to_pandas())),
        (Thing, lambda given: given.table().equals(TABLE)),
        (None, lambda given: given.table().equals(TABLE)),
    ],
)
def test_an_input_comes_in_the_form_of_its_annotation(
    run: Run, store: Store, wanted: type | None, read: Callable[[Any], bool]
) -> None:
    got: list[Any] = []

    def body(model) -> Draft:  # type: ignore[no-untyped-def]
        got.append(model)
        return Draft()

    body.__annotations__ |= {} if wanted is None else {"model": wanted}
    reader = dg.asset(name="reader", partitions_def=by_segment)(body)
    run(model, reader, partition_key="late|EWR")
    (given,) = got
    assert wanted is None or isinstance(given, wanted)
    assert read(given)
    assert store.require("reader", EWR).based_on == (store.require("model", EWR).id,)


@pytest.mark.parametrize("wanted", [pa.Table, pd.DataFrame])
def test_only_the_columns_that_the_input_names_are_read(run: Run, wanted: type) -> None:
    got: list[Any] = []

    def body(model) -> Draft:  # type: ignore[no-untyped-def]
        got.append(model)
        return Draft()

    body.__annotations__["model"] = wanted
    reader = dg.asset(partitions_def=by_segment, ins={"model": dg.AssetIn(metadata={"columns": ["v"]})})(body)
    run(model, reader, partition_key="late|EWR")
    assert (got[0].column_names if wanted is pa.Table else list(got[0].columns)) == ["v"]


def test_a_partition_of_many_reads_only_those_it_maps_to_and_that_exist(run: Run, store: Store) -> None:
    seen: dict[str, Any] = {}

    @dg.asset(partitions_def=by_project, ins={"model": dg.AssetIn(partition_mapping=of_project)})
    def aggregate(model: Upstream) -> Draft:
        seen["keys"], seen["absent"] = list(model), "late|LGA" in model
        seen["table"] = model["late|EWR"].table()
        return Draft()

    run(model, partition_key="late|EWR")
    run(model, partition_key="late|JFK")
    run(model, partition_key="other|EWR")
    run(model, aggregate, partition_key="late", selection=[aggregate])
    assert (seen["keys"], seen["absent"]) == (["late|EWR", "late|JFK"], False)
    assert seen["table"].equals(TABLE)
    assert store.require("aggregate", Partition.project("late")).based_on == (store.require("model", EWR).id,)


@pytest.mark.parametrize("wanted", [Upstream, Mapping[str, Thing], dict[str, Thing]])
def test_a_mapping_is_handed_over_also_where_there_is_but_one_or_none(
    run: Run, store: Store, wanted: Any
) -> None:
    got: list[Any] = []

    def body(model) -> Draft:  # type: ignore[no-untyped-def]
        got.append(dict(model))
        return Draft()

    body.__annotations__["model"] = wanted
    allowed = dg.AssetIn(partition_mapping=of_project, metadata={"allow_missing_partitions": True})
    reader = dg.asset(name="reader", partitions_def=by_project, ins={"model": allowed})(body)
    run(model, reader, partition_key="late", selection=[reader])
    run(model, partition_key="late|JFK")
    run(model, reader, partition_key="late", selection=[reader])
    assert [list(one) for one in got] == [[], ["late|JFK"]]
    newest = store.require("reader", Partition.project("late"))
    assert newest.based_on == (store.require("model", JFK).id,)


def test_a_missing_upstream_is_named_with_what_to_do(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=by_segment)
    def reader(model: pa.Table) -> Draft:
        return Draft()

    with pytest.raises(
        MissingThing, match=r"late\|EWR has no model yet. Materialize model for this partition first"
    ):
        run(model, reader, partition_key="late|EWR", selection=[reader])
    assert store.latest("reader", EWR) is None


def test_a_run_for_several_partitions_commits_each_of_them_by_itself(run: Run, store: Store) -> None:
    single = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=days, backfill_policy=single)
    def drawn(context: dg.AssetExecutionContext) -> dict[str, Draft]:
        return {key: Draft(dataset=pa.table({"day": [key]})) for key in context.partition_keys}

    @dg.asset(partitions_def=days, backfill_policy=single)
    def counted(context: dg.AssetExecutionContext, drawn: Upstream) -> dict[str, Draft]:
        return {key: Draft(metrics={"rows": drawn[key].rows}) for key in context.partition_keys}

    tags = {"dagster/asset_partition_range_start": "1", "dagster/asset_partition_range_end": "3"}
    result = run(drawn, counted, tags=tags)
    assert result.success
    partitions = [to_partition(key, days) for key in days.get_partition_keys()]
    things = [store.require("drawn", partition) for partition in partitions]
    assert [thing.table().to_pylist() for thing in things] == [[{"day": key}] for key in ("1", "2", "3")]
    assert len({thing.data_version for thing in things}) == len({thing.folder for thing in things}) == 3
    assert {thing.run_id for thing in things} == {result.run_id}
    for partition in partitions:
        assert set(store.require("counted", partition).based_on) == {thing.id for thing in things}
    materialized = [event.partition for event in result.get_asset_materialization_events()]
    assert sorted(str(key) for key in materialized) == ["1", "1", "2", "2", "3", "3"]


@pytest.mark.parametrize(
    "returned",
    [{"late|JFK": Draft()}, {"late|EWR": Draft(), "late|JFK": Draft()}, {"late|EWR": 1}],
)
def test_a_mapping_for_other_partitions_and_one_that_may_be_a_value_are_refused(
    run: Run, store: Store, returned: Any
) -> None:
    @dg.asset(partitions_def=by_segment)
    def step() -> Any:
        return returned

    with pytest.raises(WrongOutput, match=r"The step `step` returned a dict .*partition.* late\|EWR"):
        run(step, partition_key="late|EWR")
    assert store.history("step") == []


@pytest.mark.parametrize("returned", [Draft(), TABLE, None, {"1": Draft()}, {"1": 1, "2": 2, "3": 3}])
def test_what_is_not_one_value_for_each_of_several_partitions_is_refused(
    run: Run, store: Store, returned: Any
) -> None:
    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def step() -> Any:
        return returned

    tags = {"dagster/asset_partition_range_start": "1", "dagster/asset_partition_range_end": "2"}
    with pytest.raises(WrongOutput, match=r"returned a \w+.* for 2 partitions \(1, 2\)"):
        run(step, tags=tags)
    assert store.history("step") == []


def test_lineage_crosses_managers_and_holds_what_the_step_read_by_itself(
    run: Run, store: Store, tmp_path: Path
) -> None:
    flights = store.commit("sources", Partition.source("flights"), Draft(dataset=TABLE))

    @dg.asset(partitions_def=by_segment)
    def first() -> Draft:
        return Draft(dataset=TABLE)

    @dg.asset(partitions_def=by_segment, io_manager_key="second")
    def other() -> Draft:
        return Draft(dataset=TABLE)

    @dg.asset(partitions_def=by_segment, io_manager_key="second")
    def reader(first: pa.Table, other: Thing) -> Draft:
        return Draft(based_on=[flights.id])

    run(first, other, reader, partition_key="late|EWR")
    thing = store.require("reader", EWR)
    assert set(thing.based_on) == {
        flights.id,
        store.require("first", EWR).id,
        store.require("other", EWR).id,
    }
    assert store.require("first", EWR).based_on == ()


def test_a_failed_step_leaves_no_lineage_to_the_next_run(run: Run, store: Store) -> None:
    fails = [True, False]

    @dg.asset(partitions_def=by_segment)
    def reader(model: pa.Table) -> Draft:
        if fails.pop(0):
            raise ValueError("no")
        return Draft()

    assert not run(model, reader, partition_key="late|EWR", raise_on_error=False).success
    run(model, reader, partition_key="late|EWR")
    assert store.require("reader", EWR).based_on == (store.require("model", EWR).id,)
    assert len(store.history("reader")) == 1


def test_dagster_s_data_version_is_that_of_the_content(
    run: Run, store: Store, instance: dg.DagsterInstance
) -> None:
    content = ["a", "a", "b"]

    @dg.asset(partitions_def=by_segment)
    def step() -> Draft:
        return Draft(dataset=pa.table({"k": [content.pop(0)]}))

    versions = []
    for _ in range(3):
        (event,) = run(step, partition_key="late|EWR").get_asset_materialization_events()
        tags = event.materialization.tags or {}
        versions.append(tags["dagster/data_version"])
        assert versions[-1] == store.require("step", EWR).data_version
    assert versions[0] == versions[1] != versions[2]


def test_the_metadata_are_what_a_person_wants_to_see(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=by_segment)
    def step() -> Draft:
        return Draft(
            dataset=pa.table({"k": ["a", None], "t": pa.array([0, 1], pa.timestamp("us"))}),
            parameters={"seed": 3},
            metrics={
                **{f"train.m{number}": float(number) for number in range(60)},
                "test.auc": 0.5,
                "test.auc.low": 0.4,
                "test.auc.high": 0.6,
                "test.bad": float("nan"),
                "slice.carrier=AA.auc": 0.25,
            },
            artifacts={"curve.png": PNG, "model.skops": b"x", **{f"{n}.png": PNG for n in range(9)}},
        )

    (event,) = run(step, partition_key="late|EWR").get_asset_materialization_events()
    metadata = event.materialization.metadata
    thing = store.require("step", EWR)
    assert metadata["thing"].value == thing.id
    assert metadata["dagster/row_count"].value == 2
    assert metadata["test.auc"] == dg.FloatMetadataValue(0.5)
    assert metadata["test.bad"].value == "nan"
    assert metadata["parameters"].value == {"seed": 3}
    (interval,) = metadata["intervals"].records  # type: ignore[union-attr]
    assert interval.data == {"metric": "test.auc", "value": 0.5, "from": 0.4, "to": 0.6}
    assert "slice.carrier=AA.auc" not in metadata
    assert len(metadata) < 70
    columns = metadata["dagster/column_schema"].value.columns  # type: ignore[union-attr]
    assert [(one.name, one.type) for one in columns] == [("k", "string"), ("t", "timestamp[us]")]
    pictures = [value for value in metadata.values() if "data:image/png;base64" in str(value.value)]
    assert 1 <= len(pictures) <= 4
    assert base64.b64encode(PNG).decode() in str(pictures[0].value)


@pytest.mark.parametrize(
    "draft", [Draft(), Draft(dataset=TABLE.slice(0, 0)), Draft(artifacts={"a.txt": b""})]
)
def test_a_thing_without_rows_has_metadata_too(run: Run, draft: Draft) -> None:
    @dg.asset(partitions_def=by_segment)
    def step() -> Draft:
        return draft

    (event,) = run(step, partition_key="late|EWR").get_asset_materialization_events()
    assert "thing" in event.materialization.metadata


def test_a_thing_knows_its_run_and_when_it_started(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=by_segment)
    def reader(model: pa.Table) -> Draft:
        return Draft()

    result = run(model, reader, partition_key="late|EWR")
    thing = store.require("reader", EWR)
    assert thing.run_id == result.run_id
    assert thing.provenance["started_at"] <= thing.provenance["ended_at"]


@pytest.mark.parametrize(
    ("key", "definition", "partition"),
    [
        ("late|EWR", by_segment, EWR),
        ("late", dg.DynamicPartitionsDefinition(name="project"), Partition.project("late")),
        ("flights", dg.DynamicPartitionsDefinition(name="source"), Partition.source("flights")),
        ("1", days, Partition({"partition": "1"})),
        ("late|a%7Cb", by_segment, Partition.segment("late", "a|b")),
    ],
)
def test_a_key_of_any_definition_is_a_partition_with_its_dimensions(
    key: str, definition: dg.PartitionsDefinition, partition: Partition
) -> None:
    assert to_partition(key, definition) == partition


FRAME = pd.DataFrame({"k": ["a", "b", None], "v": [1, 2, 3]}, index=pd.Index([7, 8, 9], name="id"))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (FRAME, pd.DataFrame),
        (FRAME["v"], pd.Series),
        (TABLE, pa.Table),
        (TABLE, pa.RecordBatchReader),
        (TABLE, ds.Dataset),
        (pl.DataFrame(TABLE), pl.DataFrame),
        (pl.LazyFrame({"k": [1]}), pl.LazyFrame),
        (np.eye(2), np.ndarray),
        (LinearRegression().fit([[1.0], [2.0]], [1, 2]), LinearRegression),
        ({"a": [1, None]}, dict),
        ([1, 2], list),
        ([1, 2], list[int]),
        ("text", str),
        (b"bytes", bytes),
        (3, int),
        (3, float),
        (True, bool),
        (None, None),
        ({"a": 1}, dict[str, int]),
        (FRAME, Thing),
        (FRAME, pd.DataFrame | None),
    ],
    ids=str,
)
def test_a_step_without_partitions_hands_its_value_to_the_next(
    run: Run, store: Store, value: Any, wanted: Any
) -> None:
    got: list[Any] = []

    @dg.asset(key=["raw", "made"])
    def made() -> Any:
        return value

    def body(made) -> int:  # type: ignore[no-untyped-def]
        got.append(made)
        return 1

    body.__annotations__ |= {"made": wanted} if wanted is not None else {}
    reader = dg.asset(name="reader", ins={"made": dg.AssetIn(key=["raw", "made"])})(body)
    run(made, reader)
    whole = Partition({"partition": "all"})
    assert wanted is None or isinstance(got[0], plain_type(wanted))
    assert store.require("reader", whole).based_on == (store.require("raw/made", whole).id,)


def test_assets_of_one_name_under_different_prefixes_do_not_meet(run: Run, store: Store) -> None:
    @dg.asset(key=["raw", "orders"])
    def raw() -> str:
        return "raw"

    @dg.asset(key=["clean", "orders"], ins={"orders": dg.AssetIn(key=["raw", "orders"])})
    def clean(orders: str) -> str:
        return orders + " and clean"

    run(raw, clean)
    run(raw, clean)
    whole = Partition({"partition": "all"})
    assert json.loads(store.require("raw/orders", whole).artifact("value.json")) == "raw"
    assert json.loads(store.require("clean/orders", whole).artifact("value.json")) == "raw and clean"


def test_every_output_of_a_step_is_based_on_what_the_step_has_read(run: Run, store: Store) -> None:
    @dg.asset
    def source() -> int:
        return 1

    @dg.multi_asset(outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both(source: int) -> tuple[int, int]:
        return source, source

    run(source, both)
    whole = Partition({"partition": "all"})
    read = (store.require("source", whole).id,)
    assert store.require("left", whole).based_on == store.require("right", whole).based_on == read


@pytest.mark.parametrize("wanted", [dict[str, pd.DataFrame], Mapping[str, pd.DataFrame]])
def test_several_partitions_come_each_in_the_form_that_is_asked_for(
    run: Run, store: Store, wanted: Any
) -> None:
    got: list[Any] = []

    def body(model) -> int:  # type: ignore[no-untyped-def]
        got.append(model)
        return 1

    body.__annotations__["model"] = wanted
    narrow = dg.AssetIn(partition_mapping=of_project, metadata={"columns": ["v"], "filter": [("v", ">", 1)]})
    reader = dg.asset(name="reader", partitions_def=by_project, ins={"model": narrow})(body)
    run(model, partition_key="late|EWR")
    run(model, partition_key="late|JFK")
    run(model, reader, partition_key="late", selection=[reader])
    assert list(got[0]) == ["late|EWR", "late|JFK"]
    for frame in got[0].values():
        assert (frame["v"].tolist(), list(frame)) == ([2, 3], ["v"])
    models = {store.require("model", one).id for one in (EWR, JFK)}
    assert set(store.require("reader", Partition.project("late")).based_on) == models


def test_several_partitions_as_one_value_are_refused_with_the_annotation_to_use(run: Run) -> None:
    @dg.asset(partitions_def=by_project, ins={"model": dg.AssetIn(partition_mapping=of_project)})
    def reader(model: pd.DataFrame) -> int:
        return 1

    run(model, partition_key="late|EWR")
    run(model, partition_key="late|JFK")
    with pytest.raises(
        WrongForm, match=r"The step `reader` asks for 2 partitions of `model` as one .*dict\[str"
    ):
        run(model, reader, partition_key="late", selection=[reader])


def test_all_missing_partitions_are_named_with_what_to_do(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=by_project, ins={"model": dg.AssetIn(partition_mapping=of_project)})
    def reader(model: Upstream) -> int:
        return 1

    with pytest.raises(
        MissingThing, match=r"2 of 2 partitions have no model yet: late\|EWR, late\|JFK. Mater.*allow"
    ):
        run(model, reader, partition_key="late", selection=[reader])
    run(model, partition_key="late|EWR")
    with pytest.raises(
        MissingThing, match=r"1 of 2 partitions have no model yet: late\|JFK. Materialize model for"
    ):
        run(model, reader, partition_key="late", selection=[reader])
    assert store.history("reader") == []


def test_a_missing_value_is_none_where_the_step_says_that_it_may_be(run: Run) -> None:
    got: list[Any] = []

    @dg.asset(ins={"made": dg.AssetIn(metadata={"allow_missing_partitions": True})})
    def reader(made: pd.DataFrame | None) -> int:
        got.append(made)
        return 1

    @dg.asset
    def made() -> pd.DataFrame:
        return FRAME

    run(made, reader, selection=[reader])
    run(made, reader)
    assert got[0] is None
    pd.testing.assert_frame_equal(got[1], FRAME)


def test_a_range_run_hands_over_and_commits_values_of_each_partition_with_their_metadata(
    run: Run, store: Store
) -> None:
    single = dg.BackfillPolicy.single_run()
    tags = {"dagster/asset_partition_range_start": "1", "dagster/asset_partition_range_end": "3"}
    content = [1]

    @dg.asset(partitions_def=days, backfill_policy=single)
    def drawn(context: dg.AssetExecutionContext) -> dict[str, pd.DataFrame]:
        return {key: pd.DataFrame({"n": range(int(key) * content[0])}) for key in context.partition_keys}

    @dg.asset(partitions_def=days, backfill_policy=single)
    def counted(drawn: dict[str, pd.DataFrame]) -> dict[str, int]:
        return {key: len(frame) for key, frame in drawn.items()}

    def versions() -> set[str]:
        events = run(drawn, counted, tags=tags).get_asset_materialization_events()
        drawn_events = [event.materialization for event in events if event.asset_key == drawn.key]
        rows = {one.partition: one.metadata["dagster/row_count"].value for one in drawn_events}
        assert rows == {str(key): key * content[0] for key in (1, 2, 3)}
        return {(one.tags or {})["dagster/data_version"] for one in drawn_events}

    first, again = versions(), versions()
    content[0] = 2
    assert first == again != versions()
    assert store.require("counted", to_partition("3", days)).artifact("value.json") == b"6"


def test_a_partition_that_fails_leaves_the_others_and_the_error_says_which(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def step() -> Any:
        return {"1": FRAME, "2": pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)}), "3": FRAME}

    tags = {"dagster/asset_partition_range_start": "1", "dagster/asset_partition_range_end": "3"}
    with pytest.raises(
        PartlyCommitted,
        match=r"the partition 2: .*column 'x' mixes int, str.* 1 committed and kept; run it again for 2, 3",
    ):
        run(step, tags=tags)
    assert [thing.partition.key for thing in store.history("step")] == ["1"]


def test_a_value_that_cannot_be_stored_fails_the_step_in_words(run: Run, store: Store) -> None:
    @dg.asset(partitions_def=by_segment)
    def step() -> Any:
        return {"when": {1, 2}}

    with pytest.raises(
        UnstorableValue, match=r"The step `step`, partition late\|EWR, returned a dict .*builtins.set"
    ):
        run(step, partition_key="late|EWR")
    assert store.history("step") == []


def test_an_asset_is_loaded_outside_of_a_run(run: Run, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @dg.asset
    def made() -> pd.DataFrame:
        return FRAME

    run(made)
    defs = dg.Definitions([made, model], resources={"io_manager": ThingIOManager(home=str(tmp_path))})
    loaded = defs.load_asset_value("made", python_type=pd.DataFrame, instance=instance)
    pd.testing.assert_frame_equal(loaded, FRAME)
    with pytest.raises(MissingThing, match=r"late\|EWR has no model yet"):
        defs.load_asset_value("model", partition_key="late|EWR", instance=instance)


def test_an_op_is_told_that_it_needs_another_manager(tmp_path: Path) -> None:
    @dg.op
    def number() -> int:
        return 1

    @dg.job(resource_defs={"io_manager": ThingIOManager(home=str(tmp_path))})
    def job() -> None:
        number()

    with pytest.raises(WrongOutput, match="belongs to an op and not to an asset"):
        job.execute_in_process()


def test_nothing_is_kept_of_steps_that_failed_or_handed_nothing_over(run: Run) -> None:
    @dg.asset(partitions_def=by_segment)
    def fails(model: pa.Table) -> int:
        raise ValueError("no")

    @dg.asset(partitions_def=by_segment, output_required=False)
    def silent(model: pa.Table) -> Iterator[dg.Output[int]]:
        yield from ()

    run(model, partition_key="late|EWR")
    gc.collect()
    before = len(io_managers._readings)
    run(model, fails, partition_key="late|EWR", selection=[fails], raise_on_error=False)
    run(model, silent, partition_key="late|EWR", selection=[silent])
    gc.collect()
    assert len(io_managers._readings) == before


def test_what_a_thing_is_based_on_is_shown_also_where_the_catalog_does_not_know_it(
    run: Run, store: Store
) -> None:
    unknown = new_id()

    @dg.asset
    def step() -> Draft:
        return Draft(based_on=[unknown])

    (event,) = run(step).get_asset_materialization_events()
    (row,) = event.materialization.metadata["based on"].records  # type: ignore[union-attr]
    assert row.data == {"step": None, "partition": None, "version": unknown}


def test_a_type_that_is_trusted_by_the_manager_goes_in_and_comes_out(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    got: list[Any] = []

    @dg.asset
    def fitted() -> Any:
        return Doubling()

    @dg.asset
    def reader(fitted: BaseEstimator) -> int:
        got.append(fitted)
        return 1

    trusting = ThingIOManager(home=str(tmp_path), trusted_types=[f"{__name__}.Doubling"])
    assert dg.materialize([fitted, reader], instance=instance, resources={"io_manager": trusting}).success
    assert isinstance(got[0], Doubling)


class Doubling(BaseEstimator):
    pass


HOW_TO = Path(__file__).parents[2] / "docs/how-to/use-the-io-managers.md"


def test_the_examples_of_the_how_to_run_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.S | re.M)
    with dg.DagsterInstance.ephemeral() as instance:
        shown: dict[str, Any] = {}
        exec(compile(first, str(HOW_TO), "exec"), shown)
        job = shown["defs"].get_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance).success
        loaded = shown["defs"].load_asset_value("long_trips", python_type=dict, instance=instance)
        assert loaded == {"rows": 2, "columns": ["city", "km"]}
        shown = {}
        exec(compile(second, str(HOW_TO), "exec"), shown)
        resources = {"io_manager": ThingIOManager(home=".things")}
        tags = {"dagster/asset_partition_range_start": "mon", "dagster/asset_partition_range_end": "tue"}
        assert dg.materialize([shown["sales"]], tags=tags, instance=instance, resources=resources).success
        both = [shown["sales"], shown["total"]]
        assert dg.materialize(
            both, selection=[shown["total"]], instance=instance, resources=resources
        ).success
        assert shown["defs"].load_asset_value("total", python_type=int, instance=instance) == 2
