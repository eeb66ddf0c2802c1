"""What differs between two Things is found and told, for people and as JSON."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlassets.differences import Change, CodeChanges, NotComparable, changes, diff
from mlassets.remaking import remake
from mlassets.steps import SEGMENT_STEPS
from mlassets_tests.resources.test_provenance import git
from mlassets_tests.small_homes import departures, land, make_all, mlassets, new_home, store_of, write_spec
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing

EWR = Partition.segment("late", "EWR")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run, then run again on another month and with another spec."""
    folder = new_home(tmp_path_factory.mktemp("home") / "h", departures(["EWR"]))
    make_all(folder, SEGMENT_STEPS)
    land(folder, "flights/2013-02.csv", departures(["EWR"], rows=60, seed=1, first_id=1000))
    write_spec(folder, split={"by": "random", "test": 0.3}, seed=4)
    make_all(folder, SEGMENT_STEPS)
    return folder


def two(home: Path, step: str, partition: Partition = EWR) -> tuple[Thing, Thing]:
    newest, *_, oldest = store_of(home).history(step, partition)
    return oldest, newest


def test_a_draw_is_compared_row_by_row_and_with_its_sources(home: Path) -> None:
    old, new = two(home, "draw_data")
    found = diff(store_of(home), old, new)
    assert found.rows.key == ("id",)
    assert (found.rows.before, found.rows.after, found.rows.added, found.rows.removed) == (130, 190, 60, 0)
    assert found.rows.examples["added"][0]["id"] == 1000
    assert [one.name for one in found.inputs] == ["sources of flights"]
    assert {one.name: (one.before, one.after) for one in found.spec}["seed"] == (3, 4)
    assert found.metrics[0].change == 60
    assert (found.columns, found.packages, found.same_content) == ((), (), False)


def test_metrics_come_with_their_intervals_and_never_twice(home: Path) -> None:
    old, new = two(home, "model")
    found = diff(store_of(home), old, new)
    auc = next(one for one in found.metrics if one.name == "test.roc_auc")
    assert auc.before_interval == (old.metrics["test.roc_auc.low"], old.metrics["test.roc_auc.high"])
    assert auc.change == new.metrics["test.roc_auc"] - old.metrics["test.roc_auc"]
    assert not [one.name for one in found.metrics if one.name.endswith((".low", ".high"))]
    assert found.paired is None
    assert "not tested on the same rows" in " ".join(found.notes)


def test_two_models_of_the_same_rows_are_compared_in_pairs(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    before = store_of(copy).require("model", EWR)
    write_spec(
        copy,
        split={"by": "random", "test": 0.3},
        seed=4,
        model={"candidates": ["baseline"], "metric": "roc_auc"},
    )
    remake(str(copy), "model", EWR.key, {"project": ["late"], "segment": ["EWR"]})
    store = store_of(copy)
    found = diff(store, before, store.require("model", EWR))
    assert found.paired is not None
    assert (found.paired.metric, found.paired.rows) == ("roc_auc", before.rows)
    assert found.paired.gain < 0
    assert found.paired.interval is not None
    assert found.paired.interval[0] <= found.paired.gain <= found.paired.interval[1]
    assert [one.name for one in found.spec if one.name == "model.candidates"]


def test_the_command_tells_all_of_it_to_people_and_to_programs(home: Path) -> None:
    old, new = two(home, "model")
    told = mlassets(home, "diff", old.id, new.id)
    assert told.exit_code == 0, told.output
    for part in ("seed", "test.roc_auc", "Rows by row_key", "Spec", "Metrics"):
        assert part in told.output
    record = json.loads(mlassets(home, "diff", old.id, new.id, "--json").stdout)
    assert record["before"]["id"] == old.id
    assert record["rows"]["key"] == ["row_key"]
    assert [one["name"] for one in record["spec"]]
    same = json.loads(mlassets(home, "diff", new.id, new.id, "--json").stdout)
    assert same["same_content"]
    assert not any(same[name] for name in ("parameters", "metrics", "columns", "spec", "packages", "inputs"))


def test_an_unknown_key_column_is_refused_with_those_that_there_are(home: Path) -> None:
    old, new = two(home, "draw_data")
    told = mlassets(home, "diff", old.id, new.id, "--key", "flight")
    assert told.exit_code == 2
    assert "'flight' is not in the dataset" in " ".join(told.output.split())
    with pytest.raises(NotComparable, match="carrier, id, late, wind"):
        diff(store_of(home), old, new, key=["flight"])


def test_values_that_are_hard_to_compare(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))

    def commit(parameters: Mapping[str, Any], metrics: Mapping[str, Any], **more: Any) -> Thing:
        return store.commit("model", EWR, Draft(parameters=parameters, metrics=metrics, **more))

    nan = float("nan")
    one = commit(
        {"a": None, "b": {"c": nan, "d.e": 1}, "t": 1}, {"x": nan, "y": 1.0}, dataset=pa.table({"v": [1]})
    )
    two = commit({"b": {"c": nan, "d.e": 2}, "t": True, "\x1b[31m": "x"}, {"x": nan, "z": float("inf")})
    found = diff(store, one.id, two.id)
    assert {change.name: change.kind for change in found.parameters} == {
        "a": "removed", "b.d.e": "changed", "t": "changed", "\x1b[31m": "added",
    }  # fmt: skip
    assert [(one.name, one.change) for one in found.metrics] == [("y", None), ("z", None)]
    assert found.rows.note == f"{two} has no dataset"
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_damaged_dataset_does_not_hide_the_other_differences(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    first = store.commit("model", EWR, Draft(dataset=pa.table({"v": [1]}), parameters={"a": 1}))
    second = store.commit("model", EWR, Draft(dataset=pa.table({"v": [2]}), parameters={"a": 2}))
    Path(store.lake.location(first.components[0].path)).write_bytes(b"x" * first.components[0].size)
    found = diff(store, first, second)
    assert found.parameters == (Change("a", "changed", 1, 2),)
    assert "cannot be compared" in found.rows.note


def test_changes_tell_a_truth_value_from_a_number() -> None:
    assert changes({"a": 1, "b": [True]}, {"a": True, "b": [1]}) == [
        Change("a", "changed", 1, True),
        Change("b", "changed", [True], [1]),
    ]


def test_the_commits_between_two_things_are_told_where_the_checkout_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(Settings(home=tmp_path / "home"))
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    commits = []
    for number in range(3):
        (folder / f"{number}.py").write_text("A = 1\n")
        git(folder, "add", ".")
        git(
            folder, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", f"number {number}"
        )
        commits.append(git(folder, "rev-parse", "HEAD"))

    def made_at(commit: str) -> Thing:
        thing = store.commit("model", EWR, Draft(code_version="1"))
        about = {"git": {"commit": commit, "dirty": None}, "code": None}
        return Thing({**thing.manifest, "provenance": {**thing.provenance, **about}}, store.lake)

    monkeypatch.chdir(folder)
    found = diff(store, made_at(commits[0]), made_at(commits[2])).code
    assert found.range == f"{commits[0][:12]}..{commits[2][:12]}"
    assert [line.split(" ", 1)[1] for line in found.commits] == ["number 2", "number 1"]
    assert found.files == ("A 1.py", "A 2.py")
    assert found.values == (Change("commit", "changed", commits[0], commits[2]),)
    assert diff(store, made_at(commits[0]), made_at(commits[0])).code == CodeChanges()
    for other in ("0" * 40, "--output=stolen"):
        found = diff(store, made_at(commits[0]), made_at(other)).code
        assert found.note
        assert found.commits == ()
    assert not (folder / "stolen").exists()
