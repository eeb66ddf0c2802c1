"""What many Things share is stored once: packages, the whole spec, what differs from a commit."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from mlassets_tests.resources.test_provenance import git
from resources import provenance
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, shared_paths

EWR = Partition.segment("late-flights", "EWR")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(Settings(home=tmp_path))


def stored(store: Store, folder: str) -> list[str]:
    return sorted(one.path for one in store.lake.files(folder))


def test_a_spec_is_stored_once_for_all_that_is_made_under_it(store: Store) -> None:
    text = json.dumps({"project": "late-flights", "seed": 3})
    made = [store.commit("model", EWR, Draft(spec=text)) for _ in range(3)]
    other = store.commit("model", EWR, Draft(spec=json.dumps({"project": "late-flights", "seed": 4})))
    without = store.commit("model", EWR, Draft())
    assert len(stored(store, "specs")) == 2
    assert [one.spec() for one in made] == [{"project": "late-flights", "seed": 3}] * 3
    assert other.spec() == {"project": "late-flights", "seed": 4}
    assert (without.spec(), without.manifest["spec"]) == (None, None)


def test_what_differs_from_the_commit_is_stored_and_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git(checkout, "init", "-q")
    (checkout / "app.py").write_text("A = 1\n")
    git(checkout, "add", "app.py")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    (checkout / "app.py").write_text("A = 2\nPASSWORD = 'tiger'\n")
    monkeypatch.chdir(checkout)
    provenance.forget_git()
    try:
        thing = store.commit("model", EWR, Draft())
    finally:
        provenance.forget_git()
    patch = thing.patch("git")
    assert patch is not None
    assert b"+A = 2" in patch
    assert b"tiger" not in patch
    assert store.verify_all().damaged == ()


def test_rebuild_and_sweep_leave_what_is_shared(store: Store, tmp_path: Path) -> None:
    thing = store.commit("model", EWR, Draft(spec="{}"))
    before = [path for folder in ("environments", "specs", "diffs") for path in stored(store, folder)]
    assert set(shared_paths(thing.manifest)) <= set(before)
    store.sweep(timedelta(0))
    store.rebuild()
    assert [path for folder in ("environments", "specs", "diffs") for path in stored(store, folder)] == before
    assert store.get(thing.id).spec() == {}


def test_verify_names_what_is_missing_or_changed_of_it(store: Store) -> None:
    thing = store.commit("model", EWR, Draft(spec="{}"))
    environment, spec = shared_paths(thing.manifest)[0], shared_paths(thing.manifest)[-1]
    Path(store.lake.location(spec)).unlink()
    Path(store.lake.location(environment)).write_text("{}")
    found = {one.path: (one.things, one.what) for one in store.verify_all().damaged}
    assert set(found) == {spec, environment}
    assert found[spec][0] == (thing.id,)
    assert "is missing" in found[spec][1]
    assert "do not match its name" in found[environment][1]
