"""Copies are whole or not there, keep their ids, and go on where they ended; pointers are checked when read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlassets_tests.places import Place
from mlassets_tests.resources.crowd import in_child, kill_copies_at_every_point
from mlassets_tests.servers import Keys, S3Server
from resources.copying import Copied, CopyConflict
from resources.lake import LakeError, UnknownLake
from resources.settings import Settings
from resources.store import Store
from resources.things import BadDraft, DamagedThing, Partition, Thing, UnknownThing
from resources.verdicts import Verdict

TABLE = pa.table({"amount": [1, 2, 3]})
EWR = Partition.segment("late-flights", "EWR")
FINE = Verdict("fine", "passed", "ERROR", 1.0, "<= 1", 1, "", {})


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path / "here", lakes={"team": str(tmp_path / "there" / "lake")}))


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path / "there"))


def made(store: Store) -> Thing:
    """A model with everything that a Thing can have, the second of its name, based on another."""
    below = store.log(TABLE, name="split")
    given: dict[str, Any] = {
        "dataset": TABLE,
        "artifacts": {"model": b"weights"},
        "labels": {"ticket": "AB-1"},
        "based_on": [below],
        "embedding": [1.0, 2.0],
    }
    store.log(name="net", **given)
    thing = store.log(name="net", **given, metrics={"auc": 0.5})
    store.record_verdicts(thing.id, "run", [FINE], b"<p>report")
    store.claim(thing.id, "decided", b"{}")
    return thing


def files(store: Store) -> dict[str, bytes]:
    return {
        entry.path: store.lake.read_bytes(entry.path)
        for top in ("things", "verdicts", "tmp")
        for entry in store.lake.files(top)
    }


def file(store: Store, path: str) -> Path:
    return Path(store.lake.location(path))


def test_a_copy_is_the_same_thing_in_another_lake_of_any_kind(
    place: Place, there: Store, tmp_path: Path
) -> None:
    store = place.open()
    thing = made(store)
    for source, target in ((store, there), (there, Store.open(Settings(home=tmp_path / "third")))):
        copied = source.copy(thing.id, target)
        assert (copied.things, copied.new, copied.missing) == ((thing.id,), (thing.id,), ())
        assert copied.bytes == thing.size
        found = target.get(thing.id)
        assert found == thing
        assert found.artifacts["model"].read() == b"weights"
        assert found.dataset.to_arrow() == TABLE
        assert found.provenance.packages == thing.provenance.packages
        assert target.verdicts(thing.id) == [FINE]
        assert target.report(thing.id) == b"<p>report"
        assert target.claimed(thing.id, "decided") == b"{}"
        assert [one.labels for one in target.find({"labels.ticket": "AB-1"}).things()] == [thing.labels]
        assert target.verify_all().damaged == ()
        before = target.history()
        target.rebuild()
        assert target.history() == before == [thing]
        manifest = f"{thing.folder}/thing.json"
        assert source.lake.read_bytes(manifest) == target.lake.read_bytes(manifest)


def test_a_copy_to_a_folder_is_adopted_by_the_catalog_there(here: Store, tmp_path: Path) -> None:
    thing = made(here)
    here.retire(thing.id, "just so")
    assert here.copy("net@1", "team").new == (here.get("net@1").id,)
    here.copy(thing, str(tmp_path / "there" / "lake"))
    there = Store.open(Settings(home=tmp_path / "there"))
    assert there.history() == []
    report = there.sync()
    assert (report.things, report.check_runs, report.damaged) == (2, 1, ())
    assert there.history() == [here.get("net@1")]
    assert there.get(thing.id).retired_at == here.get(thing.id).retired_at
    assert there.garbage() == []


def test_a_second_copy_writes_nothing_but_what_was_said_since(here: Store, there: Store) -> None:
    thing = made(here)
    here.copy(thing, there)
    before = files(there)
    assert here.copy(thing, there) == Copied(there.lake.uri, (thing.id,), (), 0, ())
    assert files(there) == before
    here.record_verdicts(thing.id, "again", [FINE])
    here.retire(thing.id, "old")
    here.copy(thing, there)
    assert there.get(thing.id).retired_at is not None
    assert len(there.catalog.verdicts([thing.id])) == 2


def test_a_copy_with_its_lineage_brings_all_that_it_was_made_of_first(here: Store, there: Store) -> None:
    thing = made(here)
    top = here.log(based_on=[thing, "01a20000-0000-7000-8000-000000000000"])
    copied = here.copy(top, there, with_lineage=True)
    assert copied.things == (here.get("split").id, thing.id, top.id)
    assert copied.missing == ("01a20000-0000-7000-8000-000000000000",)
    sizes = {one.path: one.size for each in (here.get("split"), thing) for one in each.components}
    assert copied.bytes == sum(sizes.values())
    assert {one.thing_id for one in there.upstream(top.id)} == {one.thing_id for one in here.upstream(top.id)}
    told: list[tuple[str, int, int]] = []
    here.copy(top, there, with_lineage=True, progress=lambda *one: told.append(one))
    assert told[-1] == ("bytes", copied.bytes, copied.bytes)


def test_a_damaged_thing_is_not_copied(here: Store, there: Store) -> None:
    thing = made(here)
    path = thing.artifacts["model"].path
    for content in (b"weightz", None):
        file(here, path).unlink() if content is None else file(here, path).write_bytes(content)
        with pytest.raises(DamagedThing, match=f"{path} of {thing.step}"):
            here.copy(thing, there)
        assert there.sync().things == 0
        assert path not in files(there)


def test_what_is_there_and_differs_is_not_replaced(here: Store, there: Store) -> None:
    thing = made(here)
    here.copy(thing, there)
    manifest = file(there, f"{thing.folder}/thing.json")
    manifest.write_text(json.dumps({**thing.manifest, "labels": {}}))
    with pytest.raises(CopyConflict, match=thing.id):
        here.copy(thing, there)
    manifest.unlink()
    first = here.get("net@1")
    here.copy(first, there)
    file(there, thing.artifacts["model"].path).write_bytes(b"other")
    with pytest.raises(CopyConflict, match="another file"):
        here.copy(thing, there)
    with pytest.raises(BadDraft, match=r"in .* already"):
        here.copy(thing, here)


def test_a_manifest_cannot_make_a_copy_overwrite_what_is_no_component(here: Store, there: Store) -> None:
    thing = made(here)
    path = f"{thing.folder}/thing.json"
    for evil in ("../../outside", "environments/x.json", f"{here.get('split').folder}/thing.json"):
        manifest = json.loads(here.lake.read_bytes(path))
        manifest["components"][0]["path"] = evil
        forged = Thing(manifest, here.lake)
        with pytest.raises((DamagedThing, LakeError)):
            here.copy(forged, there)
    assert files(there) == {}


def test_a_copy_that_is_killed_anywhere_is_complete_or_invisible_and_goes_on(
    here: Store, tmp_path: Path
) -> None:
    thing = made(here)
    place = Place(Settings(home=tmp_path / "here"))
    assert in_child(kill_copies_at_every_point, place, thing.id, str(tmp_path / "copies"), 1) >= 20


def test_a_copy_to_s3_that_is_killed_is_complete_or_invisible_and_goes_on(
    here: Store, tmp_path: Path, bucket: str, s3_server: S3Server
) -> None:
    thing = made(here)
    place = Place(Settings(home=tmp_path / "here"), Keys().environment(s3_server.endpoint))
    assert in_child(kill_copies_at_every_point, place, thing.id, f"s3://{bucket}/copies", 3) >= 10


def test_an_address_names_a_thing_of_another_lake(here: Store, there: Store) -> None:
    thing = made(there)
    address = f"mlassets://team/{thing.id}"
    found = here.get(address)
    assert found == thing
    assert found.address == address
    assert found.artifacts["model"].read() == b"weights"
    assert here.get(here.log(name="x").address) == here.get("x")
    for lake in ("other", "%2Fetc", "..", "s3%3A%2F%2Fbucket"):
        with pytest.raises(UnknownLake, match="MLASSETS_LAKES"):
            here.get(f"mlassets://{lake}/{thing.id}")
    assert here.copy(address, here, with_lineage=True).things == (there.get("split").id, thing.id)
    assert here.get(thing.id).dataset.to_arrow() == TABLE
    with pytest.raises(UnknownThing, match="has no Thing"):
        here.get("mlassets://team/01a20000-0000-7000-8000-000000000000")


def test_a_pointer_is_a_thing_whose_files_stay_where_they_are(
    here: Store, there: Store, tmp_path: Path
) -> None:
    thing = made(there)
    pointer = here.point(f"mlassets://team/{thing.id}")
    assert {one.lake for one in pointer.components} == {"team"}
    assert (pointer.id, pointer.labels, pointer.based_on) == (thing.id, thing.labels, thing.based_on)
    assert pointer.dataset.to_arrow() == TABLE
    assert pointer.dataset.to_pandas(filter=[("amount", ">", 2)])["amount"].tolist() == [3]
    assert pointer.artifacts["model"].read() == b"weights"
    assert pointer.artifacts["model"].download(tmp_path / "copy").read_bytes() == b"weights"
    assert pointer.embedding is not None
    assert here.verdicts(thing.id) == [FINE]
    assert here.point(f"mlassets://team/{thing.id}") == pointer
    assert [one for one in files(here) if one.startswith("things/") and not one.endswith(".json")] == []
    assert here.verify(pointer) == here.verify_all().damaged == ()
    here.rebuild()
    assert here.get(thing.id) == pointer
    whole = Store.open(Settings(home=tmp_path / "third"))
    here.copy(thing.id, whole)
    assert whole.get(thing.id) == thing
    assert whole.verify_all().damaged == ()
    file(there, thing.artifacts["model"].path).write_bytes(b"weightz")
    rows = file(there, thing.files["data.parquet"].path)
    rows.write_bytes(rows.read_bytes()[::-1])
    for attempt in (pointer.artifacts["model"].read, pointer.dataset.to_arrow):
        with pytest.raises(DamagedThing, match="do not match their hash"):
            attempt()


def test_a_pointer_into_a_lake_that_is_no_longer_named_reads_nothing(
    here: Store, there: Store, tmp_path: Path
) -> None:
    thing = made(there)
    here.point(f"mlassets://team/{thing.id}")
    alone = Store.open(Settings(home=tmp_path / "here"))
    pointer = alone.get(thing.id)
    assert pointer.labels == {"ticket": "AB-1"}
    for attempt in (pointer.artifacts["model"].read, lambda: pointer.dataset.to_arrow()):
        with pytest.raises(UnknownLake, match="'team' is no lake"):
            attempt()


def test_a_new_version_of_a_pointer_keeps_its_own_files_here(here: Store, there: Store) -> None:
    thing = made(there)
    pointer = here.point(f"mlassets://team/{thing.id}")
    changed = here.update(pointer, labels={"ticket": "AB-2"})
    assert changed.components == pointer.components
    logged = here.log(TABLE, name="net", artifacts={"model": b"weights"})
    assert logged.artifacts["model"].read() == b"weights"
    assert here.verify_all().damaged == ()
