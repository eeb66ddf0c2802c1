"""Anything can be logged, comes back as it went in, and makes versions that share what did not change."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mlassets_tests.places import Place
from resources.errors import MlassetsError
from resources.settings import Settings
from resources.store import Store
from resources.things import BadDraft, DamagedThing, Draft, Partition, Thing, UnknownThing
from resources.uploads import UPLOADS
from resources.values import UnstorableValue, WrongForm

FRAME = pd.DataFrame(
    {"amount": [1.5, 2.5, None], "who": ["a", "b", "ü"]}, index=pd.Index([3, 1, 2], name="row")
)
TABLE = pa.table({"amount": [1, 2, 3]})
MODEL = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
PERSON = "ann"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def picture() -> matplotlib.figure.Figure:
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2, 3])
    return figure


def on_disk(store: Store) -> list[str]:
    return sorted(entry.path for entry in store.lake.files("things"))


def test_what_is_logged_is_a_thing_like_any_other_wherever_the_store_lives(place: Place) -> None:
    store = place.open()
    made = store.log(
        FRAME,
        name="churn split",
        parameters={"seed": 7},
        metrics={"rows": 3, "nothing": math.nan},
        labels={"ticket": "AB-1"},
        artifacts={"model": MODEL, "notes": "two lines\nof text"},
        embedding=[0.5, 1],
    )
    found = store.get(made.id)
    assert found == made
    assert (found.step, found.partition) == (UPLOADS, Partition({"name": "churn split"}))
    pd.testing.assert_frame_equal(found.dataset.to_pandas(), FRAME)
    assert found.artifacts["model"].load().coef_ == MODEL.coef_
    assert found.artifacts["notes"].load() == "two lines\nof text"
    assert found.embedding is not None
    assert found.embedding.tolist() == [0.5, 1.0]
    assert found.labels == {"ticket": "AB-1"}
    assert found.provenance.packages["pandas"] == pd.__version__
    assert found.size == sum(one.size for one in found.components) > 0
    assert store.verify_all().damaged == ()
    store.rebuild()
    assert store.history() == [made]


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (FRAME, lambda back: back.equals(FRAME) and back.index.name == "row"),
        (pd.Series([1, 2], name="x"), lambda back: back.name == "x" and back.tolist() == [1, 2]),
        (pd.Series([1, 2]), lambda back: back.name is None),
        (TABLE, TABLE.equals),
        (pl.DataFrame({"a": [1, None]}), lambda back: back.equals(pl.DataFrame({"a": [1, None]}))),
        (pl.LazyFrame({"a": [1]}), lambda back: back.equals(pl.DataFrame({"a": [1]}))),
        (np.arange(6.0).reshape(2, 3), lambda back: back.tolist() == [[0, 1, 2], [3, 4, 5]]),
        (MODEL, lambda back: back.predict([[1.0]]).tolist() == [1]),
        ({"a": [1, None, math.inf], "b": {"c": True}}, {"a": [1, None, math.inf], "b": {"c": True}}.__eq__),
        ([1, "two"], [1, "two"].__eq__),
        (3, (3).__eq__),
        ("ünï\0", "ünï\0".__eq__),
        (b"\x00\xff", b"\x00\xff".__eq__),
        (picture(), lambda back: back.startswith(b"\x89PNG")),
        (go.Figure(go.Scatter(y=[1, 2])), lambda back: back == go.Figure(go.Scatter(y=[1, 2]))),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_value_comes_back_as_what_it_was_and_is_stored_once(store: Store, value: Any, same: Any) -> None:
    first = store.log(name="x", artifacts={"value": value})
    assert same(first.artifacts["value"].load())
    second = store.log(name="x", artifacts={"value": value})
    assert second.components == first.components
    assert len(on_disk(store)) == 3


def test_a_file_that_was_given_as_a_path_is_read_by_its_suffix(store: Store, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    np.save(tmp_path / "array.npy", np.arange(3))
    (tmp_path / "notes.md").write_text("# ü", encoding="utf-8")
    (tmp_path / "weights.pt").write_bytes(b"\x80")
    (tmp_path / "broken.json").write_bytes(b"{")
    thing = store.upload(tmp_path.glob("*.*"), name="files")  # type: ignore[arg-type]
    assert thing.artifacts["rows.parquet"].load() == TABLE
    assert thing.artifacts["array.npy"].load().tolist() == [0, 1, 2]
    assert thing.artifacts["notes.md"].load() == "# ü"
    assert thing.artifacts["weights.pt"].load() == b"\x80"
    with pytest.raises(WrongForm, match=r"broken\.json of uploads of files"):
        thing.artifacts["broken.json"].load()
    with thing.artifacts["notes.md"].open() as file:
        assert file.readline() == "# ü".encode()


def test_logging_under_a_name_makes_the_next_version_and_shares_what_is_equal(store: Store) -> None:
    first = store.log(TABLE, name="split", artifacts={"a": "one", "b": "two"})
    second = store.log(TABLE, name="split", artifacts={"a": "one", "b": "three"}, embedding=[1.0])
    assert second.files == first.files
    assert second.artifacts["a"] == first.artifacts["a"]
    assert second.artifacts["b"] != first.artifacts["b"]
    assert [path.rpartition("/")[2] for path in on_disk(store) if second.id in path] == [
        "b",
        "embedding.npy",
        "thing.json",
    ]
    assert store.history(UPLOADS, Partition({"name": "split"})) == [second, first]
    assert second.data_version != first.data_version


def test_what_has_no_name_becomes_a_thing_of_its_own(store: Store) -> None:
    made = [store.log(metrics={"auc": 0.5}) for _ in range(3)]
    assert [one.partition for one in made] == [Partition({"name": one.id.split("-")[-1]}) for one in made]
    assert set(store.history(UPLOADS)) == set(made)


def test_many_are_logged_at_once(store: Store) -> None:
    made = store.log_many({"name": f"n{number % 2}", "metrics": {"number": number}} for number in range(6))
    assert [one.metrics["number"] for one in made] == list(range(6))
    assert store.history(UPLOADS, Partition({"name": "n1"})) == [made[5], made[3], made[1]]
    with pytest.raises(BadDraft, match="item 1 has metric; it may have"):
        store.log_many([{"metrics": {"a": 1}}, {"metric": {"a": 1}}])
    assert len(store.history(UPLOADS)) == 6


def test_files_and_folders_are_uploaded_with_their_names(store: Store, tmp_path: Path) -> None:
    deep = tmp_path / "given" / "deep"
    deep.mkdir(parents=True)
    (deep / "a b.txt").write_text("one")
    (tmp_path / "given" / "x.bin").write_bytes(b"two")
    other = tmp_path / "other.txt"
    other.write_text("three")
    thing = store.upload([tmp_path / "given", str(other)], labels={"by": "hand"})
    assert sorted(thing.artifacts) == ["deep/a b.txt", "other.txt", "x.bin"]
    assert thing.artifacts["deep/a b.txt"].load() == "one"
    out = tmp_path / "out"
    out.mkdir()
    assert thing.artifacts["deep/a b.txt"].download(out) == out / "deep" / "a b.txt"
    assert thing.artifacts["x.bin"].download(out / "new" / "y").read_bytes() == b"two"
    hostile = store.log(artifacts={"../../x": b"x"})
    assert hostile.artifacts["../../x"].download(out).parent == out
    with pytest.raises(BadDraft, match=r"two files are called other\.txt"):
        store.upload([other, str(other)])
    with pytest.raises(BadDraft, match=r"no file .*missing\.bin"):
        store.upload([other, tmp_path / "missing.bin"])


def test_parquet_files_may_become_the_dataset(store: Store, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    pq.write_table(pa.table({"amount": [4], "b": ["x"]}), tmp_path / "b.parquet")
    (tmp_path / "readme.md").write_text("hello")
    given = [*sorted(tmp_path.glob("*.parquet")), tmp_path / "readme.md"]
    thing = store.upload(given, as_dataset=True)
    assert thing.rows == thing.dataset.rows == 4
    assert thing.dataset.to_arrow(columns=["amount"]).to_pydict() == {"amount": [1, 2, 3, 4]}
    assert thing.dataset.to_polars()["b"].to_list() == [None, None, None, "x"]
    assert list(thing.artifacts) == ["readme.md"]
    folder = thing.dataset.download(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["a.parquet", "b.parquet"]
    with pytest.raises(BadDraft, match=r"no \.parquet file"):
        store.upload(tmp_path / "readme.md", as_dataset=True)


def test_a_new_thing_is_made_of_what_its_block_wrote_and_based_on_what_it_read(store: Store) -> None:
    source = store.log(TABLE, name="split")
    with store.new(["model.pt", "logs/train.txt"], name="net", labels={"a": 1}) as new:
        new["model.pt"].write_bytes(b"weights")
        new.paths[1].write_text(str(store.read(source.id).dataset.rows))
        new.metrics["loss"] = 0.25
        new.labels["b"] = 2
    assert new.thing is not None
    made = store.get(new.thing.id)
    assert made.artifacts["model.pt"].read() == b"weights"
    assert made.artifacts["logs/train.txt"].load() == "3"
    assert (made.labels, made.metrics, made.based_on) == ({"a": 1, "b": 2}, {"loss": 0.25}, (source.id,))
    assert not new.folder.exists()


def test_a_new_thing_whose_block_failed_or_wrote_too_little_is_not_made(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.new(["model.pt"]) as new:
        new["model.pt"].write_bytes(Path("/nowhere").read_bytes())
    with pytest.raises(BadDraft, match=r"b\.pt was not written"), store.new(["a.pt", "b.pt"]) as new:
        new["a.pt"].write_bytes(b"x")
    with pytest.raises(BadDraft, match=r"\.\./evil"), store.new(["../evil"]):
        pass
    assert store.history() == []
    assert on_disk(store) == []


def test_an_update_changes_what_is_said_and_shares_every_file(store: Store) -> None:
    old = store.log(
        TABLE, name="split", labels={"ticket": "AB-1", "draft": True}, artifacts={"m": MODEL}, embedding=[1.0]
    )
    new = store.update(old.id, labels={"ticket": "AB-2"}, metrics={"auc": 0.5}, without=["labels.draft"])
    assert new.components == old.components
    assert (new.labels, new.metrics, new.schema) == ({"ticket": "AB-2"}, {"auc": 0.5}, old.schema)
    assert new.data_version == old.data_version
    assert new.based_on == (old.id,)
    assert store.latest(UPLOADS, old.partition) == new
    assert new.artifacts["m"].load().coef_ == MODEL.coef_
    with pytest.raises(BadDraft, match=r"no 'labels\.nope'"):
        store.update(new, without=["labels.nope"])
    step = store.commit("model", Partition.segment("p", "s"), Draft())
    with pytest.raises(BadDraft, match="was made by a step"):
        store.update(step, labels={"a": 1})


def test_a_thing_is_based_on_what_is_named_in_any_way(store: Store) -> None:
    one, two = store.log(TABLE, name="one"), store.log(TABLE, name="two")
    made = store.log(based_on=[one, two.id])
    assert made.based_on == (one.id, two.id)
    assert store.log(based_on="one").based_on == (one.id,)
    with pytest.raises(MlassetsError):
        store.log(based_on=["nobody"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": ""}, "'' cannot be a name"),
        ({"name": "a@2"}, "names a version"),
        ({"name": "mlassets://x/y"}, "cannot be the name"),
        ({"name": " a"}, "without spaces"),
        ({"dataset": {"a": [1]}}, "`dataset` is a builtins.dict, which is no table"),
        ({"dataset": pd.DataFrame({1: [1]})}, "`dataset` cannot be stored"),
        ({"artifacts": {"f": lambda: 0}}, r"artifacts\['f'\] cannot be stored"),
        ({"artifacts": {"": b"1"}}, "is no name"),
        ({"artifacts": {"x": Path("/nowhere/x")}}, "/nowhere/x cannot be read"),
        ({"embedding": [[1.0]]}, "one vector of numbers"),
        ({"embedding": ["a"]}, "one vector of numbers"),
        ({"labels": {"at": datetime(2026, 1, 1)}}, r"labels\['at'\].*without a time zone"),
        ({"labels": {"at": np.datetime64("2026-01-01")}}, "with its zone"),
        ({"labels": {"at": pd.NaT}}, r"labels\['at'\]"),
        ({"metrics": {"auc": "high"}}, r"metrics\['auc'\]"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name_and_leaves_nothing(
    store: Store, given: Any, told: str
) -> None:
    with pytest.raises(MlassetsError, match=told):
        store.log(**given)
    assert on_disk(store) == []
    assert store.history() == []


def test_a_model_of_an_unknown_type_is_refused_until_it_is_trusted(store: Store) -> None:
    class Mine(LogisticRegression):
        pass

    Mine.__qualname__ = "Mine"
    with pytest.raises(UnstorableValue, match="name them in `trusted_types`"):
        store.log(artifacts={"m": Mine()})


def test_times_keep_their_zone(store: Store) -> None:
    when = datetime(2026, 7, 1, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=5.5)))
    thing = store.get(store.log(labels={"at": when, "all": [when]}, parameters={"in": {"at": when}}).id)
    assert (thing.labels, thing.parameters) == ({"at": when, "all": [when]}, {"in": {"at": when}})
    assert thing.labels["at"].utcoffset() == timedelta(hours=5.5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda one: one.isprintable()),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text()
            | st.datetimes(timezones=st.just(UTC)),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_labels_of_any_kind_come_back(store: Store, labels: dict[str, Any]) -> None:
    assert store.get(store.log(labels=labels).id).labels == labels


def test_a_damaged_file_is_not_used_and_the_last_good_version_is_named(store: Store, tmp_path: Path) -> None:
    good = store.log(TABLE, name="x", artifacts={"a": b"11"})
    bad = store.log(TABLE.slice(1), name="x", artifacts={"a": b"22"})
    Path(store.lake.location(bad.artifacts["a"].path)).write_bytes(b"33")
    Path(store.lake.location(bad.files["data.parquet"].path)).unlink()
    attempts = [
        lambda: bad.artifacts["a"].read(),
        lambda: bad.artifacts["a"].load(),
        lambda: bad.artifacts["a"].download(tmp_path / "copy"),
        lambda: bad.dataset.to_pandas(),
        lambda: bad.dataset.download(tmp_path / "copy"),
    ]
    for attempt in attempts:
        with pytest.raises(DamagedThing, match=f"{bad.id}.*{good.id}"):
            attempt()
    assert not (tmp_path / "copy").exists()
    assert list(tmp_path.glob(".*.part")) == []


def test_an_artifact_of_another_thing_is_shared(store: Store, tmp_path: Path) -> None:
    first = store.log(artifacts={"model": MODEL})
    second = store.log(artifacts={"best": first.artifacts["model"]}, based_on=first)
    assert second.artifacts["best"].path == first.artifacts["model"].path
    assert second.artifacts["best"].load().coef_ == MODEL.coef_
    other = Store.open(Settings(home=tmp_path / "other"))
    with pytest.raises(BadDraft, match="of another lake"):
        other.log(artifacts={"best": first.artifacts["model"]})
    with pytest.raises(BadDraft, match="in another lake"):
        other.update(first, labels={"a": 1})


def test_a_large_file_is_stored_once_whatever_it_is_called(store: Store, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(2 << 20)
    (tmp_path / "weights.pt").write_bytes(content)
    first = store.log(name="a", artifacts={"x": content})
    second = store.upload(tmp_path / "weights.pt", name="b")
    path = second.artifacts["weights.pt"].path
    assert path == first.artifacts["x"].path
    assert second.artifacts["weights.pt"].read() == content
    store.retire(first.id, "old")
    third = store.log(artifacts={"y": tmp_path / "weights.pt"})
    assert third.artifacts["y"].path == path
    store.retire(second.id, "old")
    store.retire(third.id, "old")
    assert store.log(artifacts={"z": content}).artifacts["z"].path != path
    assert store.verify_all().damaged == ()


def test_a_thing_without_a_dataset_says_so(store: Store) -> None:
    with pytest.raises(UnknownThing, match=r"has no dataset, only \['a'\]"):
        _ = store.log(artifacts={"a": 1}).dataset
    assert store.log().embedding is None


def test_whoever_asks_is_told_of_what_is_logged_and_of_nothing_else(store: Store, tmp_path: Path) -> None:
    told: list[Thing] = []
    store.on_logged = told.extend
    store.commit("model", Partition.segment("p", "s"), Draft())
    one = store.log(name="a")
    (tmp_path / "f").write_text("x")
    with store.new(["x"]) as new:
        new["x"].write_text("x")
    made = [one, new.thing, store.upload(tmp_path / "f"), store.update(one, labels={"a": 1})]
    assert told == [*made, *store.log_many([{}, {}])]
