"""Verify names everything that is damaged, and nothing else; interrupted, it goes on where it was."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from resources.lake import Lake
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict
from resources.verifying import Damage

EWR = Partition.segment("late-flights", "EWR")
TABLE = pa.table({"delay": list(range(100))})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def file(store: Store, path: str) -> Path:
    return Path(store.lake.location(path))


def manifest(store: Store, thing: Thing) -> Path:
    return file(store, f"{thing.folder}/thing.json")


def data(store: Store, thing: Thing) -> Path:
    return file(store, thing.files["data.parquet"].path)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def judged(store: Store, thing: Thing) -> str:
    verdict = Verdict("a", "passed", "ERROR", 0.5, "<= 1", 10, "fine", {})
    store.record_verdicts(thing.id, "run", [verdict], b"<p>report")
    return f"verdicts/{thing.id}/run"


def test_a_whole_store_has_no_damage_and_every_file_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    judged(store, first)
    store.retire(first.id, "for the test")
    read: list[str] = []
    plain = type(store.lake).hash_of
    monkeypatch.setattr(
        type(store.lake), "hash_of", lambda lake, path: read.append(path) or plain(lake, path)
    )
    shown: list[tuple[str, int, int]] = []
    found = store.verify_all(progress=lambda *told: shown.append(told))
    assert found.damaged == ()
    assert (found.things, found.check_runs, found.files) == (2, 1, 3)
    assert sorted(read) == sorted(
        {*(one.path for one in first.components), f"verdicts/{first.id}/run/report.html"}
    )
    assert shown[-1] == ("bytes", found.bytes, found.bytes)


def missing(store: Store, thing: Thing) -> str:
    data(store, thing).unlink()
    return thing.files["data.parquet"].path


def truncated(store: Store, thing: Thing) -> str:
    path = data(store, thing)
    path.write_bytes(path.read_bytes()[:-1])
    return thing.files["data.parquet"].path


def flipped(store: Store, thing: Thing) -> str:
    path = data(store, thing)
    whole = path.read_bytes()
    path.write_bytes(bytes([*whole[:50], whole[50] ^ 1, *whole[51:]]))
    return thing.files["data.parquet"].path


def a_folder_in_its_place(store: Store, thing: Thing) -> str:
    data(store, thing).unlink()
    data(store, thing).mkdir()
    return thing.files["data.parquet"].path


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (missing, "is missing"),
        (truncated, "bytes long instead of"),
        (flipped, "does not match its hash"),
        (a_folder_in_its_place, "is missing"),
    ],
)
def test_a_damaged_file_is_named_with_all_things_that_share_it(
    store: Store, spoil: Callable[[Store, Thing], str], what: str
) -> None:
    first = store.commit("model", EWR, Draft(dataset=TABLE))
    second = store.commit("model", EWR, Draft(dataset=TABLE, artifacts={"a": b"1"}))
    other = store.commit("model", EWR, Draft(artifacts={"a": b"2"}))
    path = spoil(store, first)
    (damage,) = store.verify_all().damaged
    assert damage.path == path
    assert set(damage.things) == {first.id, second.id}
    assert what in damage.what
    assert other.id not in str(damage)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def pointing_outside(path: Path) -> None:
    rewrite(path, lambda record: record["components"][0].update(path="../../secret"))


def of_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("spoil", [cut_short, emptied, pointing_outside, of_no_text])
def test_a_damaged_manifest_is_named_and_its_files_are_looked_at_all_the_same(
    store: Store, tmp_path: Path, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    thing = store.commit("model", EWR, Draft(dataset=TABLE))
    later = store.commit("model", EWR, Draft(dataset=TABLE, parameters={"a": 1}))
    (tmp_path / "secret").write_text("not ours")
    spoil(manifest(store, thing))
    flipped(store, thing)
    read: list[str] = []
    plain = Lake.full
    monkeypatch.setattr(Lake, "full", lambda lake, path: read.append(path) or plain(lake, path))
    found = store.verify_all().damaged
    by_path: dict[str, list[Damage]] = {}
    for one in found:
        by_path.setdefault(one.path, []).append(one)
    assert set(by_path) == {f"{thing.folder}/thing.json", thing.files["data.parquet"].path}
    assert set(by_path[thing.files["data.parquet"].path][0].things) == {thing.id, later.id}
    assert any("cannot be read" in one.what for one in by_path[f"{thing.folder}/thing.json"])
    assert (tmp_path / "secret").read_text() == "not ours"


def test_a_manifest_that_says_something_else_than_the_catalog_is_named(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(metrics={"auc": 0.5}))
    rewrite(manifest(store, thing), lambda record: record["metrics"].update(auc=0.9))
    (damage,) = store.verify_all().damaged
    assert (damage.path, damage.things) == (f"{thing.folder}/thing.json", (thing.id,))
    assert "differs from the catalog's copy" in damage.what


def test_a_manifest_that_breaks_its_schema_is_named_by_the_place(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(metrics={"auc": 0.5}))
    rewrite(manifest(store, thing), lambda record: record.update(created_at="yesterday"))
    store.rebuild()
    (damage,) = store.verify_all().damaged
    assert "$.created_at" in damage.what


def test_what_only_the_catalog_knows_is_named(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(metrics={"auc": 0.5}))
    folder = judged(store, thing)
    manifest(store, thing).unlink()
    file(store, f"{folder}/verdicts.json").unlink()
    assert {one.path for one in store.verify_all().damaged} == {
        f"{thing.folder}/thing.json",
        f"{folder}/verdicts.json",
    }


def test_verdicts_reports_marks_and_environments_are_looked_at(store: Store) -> None:
    thing = store.commit("model", EWR, Draft())
    folder = judged(store, thing)
    store.retire(thing.id, "for the test")
    file(store, f"{folder}/report.html").write_text("<p>Report")
    file(store, f"{thing.folder}/retired.json").write_text("{")
    (environment,) = store.lake.files("environments")
    file(store, environment.path).write_text("{}")
    other = store.commit("model", EWR, Draft())
    record = file(store, f"{judged(store, other)}/verdicts.json")
    record.write_text(record.read_text()[:40])
    assert {one.path for one in store.verify_all().damaged} == {
        f"{folder}/report.html",
        f"{thing.folder}/retired.json",
        environment.path,
        f"verdicts/{other.id}/run/verdicts.json",
    }


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def interrupt_at_bytes(what: str, done: int, total: int) -> None:
    if what == "bytes" and done >= total // 2:
        raise Interrupted


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_verify_goes_on_where_it_was_and_forgets_when_it_is_done(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    from resources import verifying

    monkeypatch.setattr(verifying, "_PARCEL_FILES", 1)
    monkeypatch.setattr(verifying, "_HASHERS", 1)
    things = [store.commit("model", EWR, Draft(artifacts={"a": bytes([n]) * 100})) for n in range(10)]
    journal = tmp_path / "verify.jsonl"
    with pytest.raises(Interrupted):
        store.verify_all(journal, progress=interrupt_at_bytes)
    noted = journal.read_text()
    assert noted.count("\n") >= 5
    if torn:
        journal.write_text(noted[:-20])
    read: list[str] = []
    plain = type(store.lake).hash_of
    monkeypatch.setattr(
        type(store.lake), "hash_of", lambda lake, path: read.append(path) or plain(lake, path)
    )
    unread = next(thing for thing in things if thing.artifacts["a"].path not in noted)
    file(store, unread.artifacts["a"].path).write_bytes(b"x" * 100)
    found = store.verify_all(journal)
    assert len(read) in ((10 - (noted.count("\n") - 1)), (11 - (noted.count("\n") - 1)))
    assert found.files == 10
    assert [damage.things for damage in found.damaged] == [(unread.id,)]
    assert not journal.exists()
    read.clear()
    store.verify_all(journal)
    assert len(read) == 10


def test_a_journal_of_another_lake_an_old_one_or_one_that_is_not_wanted_is_not_gone_on_with(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing = store.commit("model", EWR, Draft(artifacts={"a": b"1"}))
    (component,) = thing.components
    passed = json.dumps([component.path, component.hash])
    file(store, component.path).write_bytes(b"2")
    journal = tmp_path / "verify.jsonl"
    journal.write_text(f"{json.dumps({'lake': store.lake.uri})}\n{passed}\n")
    assert store.verify_all(journal).damaged == ()
    journal.write_text(f"{json.dumps({'lake': '/elsewhere'})}\n{passed}\n")
    assert len(store.verify_all(journal).damaged) == 1
    journal.write_text(f"{json.dumps({'lake': store.lake.uri})}\n{passed}\n")
    assert len(store.verify_all(journal, fresh=True).damaged) == 1
    journal.write_text(f"{json.dumps({'lake': store.lake.uri})}\n{passed}\n")
    month = 30 * 24 * 3600
    os.utime(journal, (time.time() - month,) * 2)
    assert len(store.verify_all(journal).damaged) == 1
