"""Manifests of schema 1 are read for ever, keep fields that nobody here knows, and obey their JSON schema."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.lake import open_lake
from resources.settings import Settings
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, Thing
from resources.verifying import against_schema

GOLDEN = Path(__file__).parent / "golden/schema-1"
EWR = Partition.segment("late-flights", "EWR")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def manifest_of(store: Store, thing: Thing) -> Path:
    return Path(store.lake.location(f"{thing.folder}/thing.json"))


def test_the_golden_lake_of_schema_1_reads_as_it_was_written(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path, lake=str(GOLDEN)))
    assert (store.rebuild().things, store.sync().things) == (4, 0)
    assert store.verify_all().damaged == ()
    again, drawn = store.history("draw_data", EWR)
    assert drawn.table().to_pydict() == again.table().to_pydict() == {"delay": [1, 2]}
    assert drawn.artifact("note.txt") == again.artifact("note.txt") == b"hello"
    assert drawn.parameters == {"sql": "SELECT 1", "none": None, "deep": {"a": [1, 2.5], "$b": True}}
    assert math.isnan(drawn.metrics["nan"])
    assert drawn.metrics["inf"] == -math.inf
    assert (drawn.labels, drawn.run_id, drawn.code_version, drawn.spec_hash) == (
        {"alias": "first"}, "run-1", "2", "abc",
    )  # fmt: skip
    (source,) = store.history("sources")
    assert drawn.based_on == again.based_on == (source.id,)
    assert source.table().to_pydict() == {"carrier": ["AA", "UA", None], "delay": [1, 2, 3]}
    assert source.packages() == {"pyarrow": "26.0.0", "mlassets": "0.1.0"}
    assert [(one.claim, one.status) for one in store.verdicts(drawn.id)] == [("a", "passed"), ("b", "passed")]
    assert store.report(drawn.id) == b"<p>report"
    assert store.partitions("review") == [Partition.segment("a/b", "é|%7C")]


names = st.text(min_size=1, max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


def is_text(text: str) -> bool:
    return text.isprintable()


@given(
    parameters=st.dictionaries(names.filter(is_text), values, max_size=3),
    metrics=st.dictionaries(names.filter(is_text), st.integers() | st.floats(), max_size=3),
    artifacts=st.dictionaries(names.filter(is_text), st.binary(max_size=5), max_size=2),
    with_data=st.booleans(),
)
def test_every_manifest_that_a_commit_writes_obeys_the_schema(
    tmp_path_factory: pytest.TempPathFactory,
    parameters: dict[str, Any],
    metrics: dict[str, Any],
    artifacts: dict[str, bytes],
    with_data: bool,
) -> None:
    store = _shared(tmp_path_factory)
    table = pa.table({"a": np.arange(3), "b": ["x", None, "z"]})
    first = store.commit("draw_data", EWR, Draft(dataset=table))
    draft = Draft(
        dataset=table if with_data else None,
        parameters=parameters,
        metrics={name: value for name, value in metrics.items() if abs(value) < 1e300 or value != value},
        artifacts=artifacts,
        based_on=[first.id],
    )
    made = store.commit("model", EWR, draft, run_id="run")
    text = store.lake.read_bytes(f"{made.folder}/thing.json")
    assert against_schema(json.loads(text)) is None
    assert Thing.from_json(text, store.lake) == made


_stores: list[Store] = []


def _shared(factory: pytest.TempPathFactory) -> Store:
    if not _stores:
        _stores.append(Store.open(Settings(home=factory.mktemp("manifests"))))
    return _stores[0]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": "1"}, "$.id"),
        ({"created_at": "yesterday"}, "$.created_at"),
        ({"partition": {}}, "$.partition"),
        ({"metrics": {"auc": "high"}}, "$.metrics.auc"),
        ({"components": [{"kind": "dataset"}]}, "$.components[0]"),
        ({"based_on": ["x"]}, "$.based_on[0]"),
        ({"provenance": {}}, "$.provenance"),
        ({"data_version": None}, "$.data_version"),
    ],
)
def test_what_breaks_the_schema_is_named_by_its_place(
    store: Store, change: dict[str, Any], place: str
) -> None:
    made = store.commit("model", EWR, Draft(artifacts={"a": b"1"}))
    told = against_schema({**made.manifest, **change})
    assert told is not None
    assert told.startswith(f"{place}:")


def test_unknown_fields_survive_sync_rebuild_and_get(store: Store, tmp_path: Path) -> None:
    made = store.commit("model", EWR, Draft(artifacts={"a": b"1"}))
    path = manifest_of(store, made)
    record = json.loads(path.read_text())
    record["embedding"] = [1, 2]
    record["components"][0]["encryption"] = {"key": "k"}
    path.write_text(json.dumps(record))
    assert against_schema(record) is None
    store.rebuild()
    assert store.get(made.id).manifest == record
    fresh = Store.open(Settings(home=tmp_path, catalog=str(tmp_path / "fresh.db")))
    assert fresh.sync().things == 1
    found = fresh.latest("model", EWR)
    assert found is not None
    assert found.manifest == record
    assert found.artifact("a") == b"1"
    assert fresh.verify_all().damaged == ()


def test_a_manifest_of_a_newer_schema_is_refused_with_what_to_do(store: Store, tmp_path: Path) -> None:
    made = store.commit("model", EWR, Draft())
    text = manifest_of(store, made).read_text().replace('"schema": 1', '"schema": 2', 1)
    with pytest.raises(DamagedThing, match="upgrade mlassets"):
        Thing.from_json(text, store.lake)


def test_reading_the_golden_lake_changes_nothing_in_it(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "lake")
    before = {path: path.read_bytes() for path in (tmp_path / "lake").rglob("*") if path.is_file()}
    store = Store.open(Settings(home=tmp_path))
    store.sync()
    store.rebuild()
    store.verify_all(tmp_path / "verify.jsonl")
    store.commit("draw_data", EWR, Draft(dataset=pa.table({"delay": [1, 2]})))
    assert {path: path.read_bytes() for path in before} == before
    assert open_lake(str(tmp_path / "lake")).exists(
        "environments/" + next(iter(GOLDEN.glob("environments/*"))).name
    )
