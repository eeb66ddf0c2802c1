"""The store keeps what it was given, whole, unchanged and findable, whatever the names and values are."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.settings import Settings
from resources.store import Store
from resources.things import BadDraft, Draft, Partition, new_id
from resources.verdicts import Verdict

EWR = Partition.segment("late-flights", "EWR")
FLIGHTS = Partition.source("flights")
TABLE = pa.table({"carrier": ["AA", "UA", None], "delay": [1, 2, 3]})
HOSTILE = [
    "a/b",
    "..",
    ".",
    "../../etc",
    "a b",
    'it\'s "q"',
    "a|b",
    "%7C",
    "é漢字",
    "x" * 300,
    "~",
    "a\nb",
    "con",
    "...",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def verdict(claim: str, status: str = "passed", observed: float | None = 0.5) -> Verdict:
    return Verdict(claim, status, "ERROR", observed, "<= 1", 10, "fine", {"at": float("inf")})  # type: ignore[arg-type]


def test_versions_stay_in_order_when_the_clock_jumps_back() -> None:
    future = "ffffff00-0000-7000-8000-000000000000"
    after = new_id(after=future)
    assert after > future
    assert new_id(after=after) > after


def test_a_stream_and_a_table_of_the_same_rows_give_the_same_bytes(store: Store) -> None:
    numbers = np.arange(1_200_000)
    table = pa.table({"a": numbers, "s": pa.array(numbers % 97).cast(pa.string())})
    whole = store.commit("model", EWR, Draft(dataset=table))
    for size in (100_000, 1 << 20, 1_199_999):
        stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size))
        assert store.commit("model", EWR, Draft(dataset=stream)).data_version == whole.data_version


def test_schema_metadata_and_dictionary_columns_survive(store: Store) -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    field = pa.field("c", kind, nullable=False).with_metadata({b"mlassets.role": b"feature"})
    table = pa.table({"c": pa.array(["x", "y", "x"]).cast(kind)}, schema=pa.schema([field], {b"k": b"v"}))
    thing = store.get(store.commit("model", EWR, Draft(dataset=table)).id)
    assert thing.table().schema.equals(table.schema, check_metadata=True)
    assert thing.table().to_pydict() == table.to_pydict()


@given(
    st.lists(st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text), min_size=1, max_size=2)
)
def test_partition_keys_tell_any_values_apart(values: list[str]) -> None:
    try:
        partition = Partition(zip(("project", "segment"), values, strict=False))
    except BadDraft:
        return
    assert Partition.parse(partition.key) == partition
    assert partition.key.count("|") == len(values) - 1


@pytest.mark.parametrize(
    ("draft", "names"),
    [
        (
            Draft(parameters={"when": {"at": [datetime(2026, 1, 1)]}}),
            r"parameters\['when'\]\['at'\]\[0\]",
        ),
        (Draft(parameters={"p": {1: 2}}), "keys must be text"),
        (Draft(metrics={"auc": "high"}), r"metrics\['auc'\]"),
        (Draft(metrics={"auc": None}), "use nan"),
        (Draft(based_on=["nonsense"]), "nonsense"),
        (Draft(dataset=TABLE, files={"x": Path("x")}), "not both"),
        (Draft(files={"x": Path("/nowhere/x.parquet")}), "/nowhere/x.parquet"),
    ],
)
def test_a_draft_that_cannot_be_stored_is_refused_by_name_and_leaves_nothing(
    store: Store, draft: Draft, names: str
) -> None:
    with pytest.raises(BadDraft, match=names):
        store.commit("model", EWR, draft)
    assert store.history() == []
    assert list(store.lake.files("things")) == []


def test_unknown_fields_of_a_manifest_survive(store: Store) -> None:
    thing = store.commit("model", EWR, Draft())
    manifest = Path(store.lake.location(f"{thing.folder}/thing.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "embedding": [1, 2]}))
    store.rebuild()
    assert store.get(thing.id).manifest["embedding"] == [1, 2]
