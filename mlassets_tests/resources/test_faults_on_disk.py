"""Full, read-only and forbidden disks: an error that says what to do, and nothing lost or half-visible."""

import errno
import os
import re
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from mlassets_tests.places import Place
from mlassets_tests.resources.crowd import (
    EWR,
    assert_nothing_left_over,
    assert_whole,
    draft,
    in_child,
    numbers,
)
from mlassets_tests.small_disk import on_small_disk, only_left, read_only
from resources import lake
from resources.catalog import CatalogError
from resources.errors import MlassetsError
from resources.lake import LakeError
from resources.settings import Settings
from resources.store import Store


def fill_up_at_any_write(disk: Path) -> dict[str, int]:
    """Leave one page more at every try, until commits succeed; count what was raised."""
    store = Store.open(Settings(home=disk))
    store.commit("model", EWR, draft(0))
    raised = {"lake": 0, "catalog": 0}
    successes = 0
    number = 0
    for pages in range(100):
        before = store.history()
        number += 1
        error = None
        try:
            with only_left(disk, pages):
                store.commit("model", EWR, draft(number))
        except MlassetsError as caught:
            error = caught
        if isinstance(error, LakeError):
            raised["lake"] += 1
            assert re.search(r"(things|environments)/\S+ cannot be written to the lake", str(error))
            assert "No space left on device" in str(error)
            assert "free space" in str(error)
            assert list(store.lake.files("tmp")) == []
            assert store.history() == before
            assert store.sync().things == 0
        elif isinstance(error, CatalogError):
            raised["catalog"] += 1
            assert f"{disk}/catalog.db" in str(error)
            assert "disk is full" in str(error)
            # The lake has it, whole.
            assert store.history() == before
            assert store.sync().things == 1
            assert numbers(store)[-1] == number
        else:
            assert error is None
            successes += 1
        number += 1
        store.commit("model", EWR, draft(number))
        assert numbers(store)[-1] == number
        assert_whole(store, store.history(limit=2))
        if successes == 3:
            break
    store.sweep(timedelta(0))
    assert_whole(store, store.history())
    assert numbers(store) == sorted(set(numbers(store)))
    return raised


def test_a_disk_that_is_full_at_any_write_loses_nothing(tmp_path: Path) -> None:
    raised = on_small_disk(32, fill_up_at_any_write, tmp_path / "disk")
    assert raised["lake"] >= 3
    assert raised["catalog"] >= 1


def read_from_full(disk: Path) -> None:
    store = Store.open(Settings(home=disk))
    made = store.commit("model", EWR, draft(1))
    with only_left(disk, 0):
        assert store.latest("model", EWR) == made
        assert made.table().num_rows == 100
        assert_whole(store, [made])


def test_a_full_disk_can_still_be_read(tmp_path: Path) -> None:
    on_small_disk(4, read_from_full, tmp_path / "disk")


def stage_on_full(disk: Path, place: Place) -> None:
    import tempfile

    store = place.open()
    made = store.commit("model", EWR, draft(1))
    tempfile.tempdir = str(disk)
    with only_left(disk, 0), pytest.raises(LakeError) as raised:
        store.commit("model", EWR, draft(2))
    assert str(disk) in str(raised.value)
    assert "TMPDIR" in str(raised.value)
    assert store.history() == [made]
    assert list(disk.iterdir()) == []
    assert store.commit("model", EWR, draft(2)) == store.latest("model", EWR)


@pytest.mark.parametrize("lake_uri", ["S3"], indirect=True)
@pytest.mark.parametrize("catalog_url", ["SQLite"], indirect=True)
def test_a_full_disk_on_the_way_to_s3_is_named(place: Place, tmp_path: Path) -> None:
    on_small_disk(1, stage_on_full, tmp_path / "disk", place)


def write_to_read_only(disk: Path, elsewhere: Path) -> None:
    store = Store.open(Settings(home=elsewhere, lake=str(disk / "lake")))
    made = store.commit("model", EWR, draft(1))
    with read_only(disk):
        with pytest.raises(LakeError, match=r"things/model/\S+ cannot be written .*Read-only.*permissions"):
            store.commit("model", EWR, draft(2))
        assert store.history() == [made]
        assert store.sync().damaged == ()
        assert_whole(store, [made])
    assert store.commit("model", EWR, draft(2)) == store.latest("model", EWR)


def test_a_read_only_lake_is_read_and_named_when_written_to(tmp_path: Path) -> None:
    on_small_disk(4, write_to_read_only, tmp_path / "disk", tmp_path)


def catalog_read_only(disk: Path, elsewhere: Path) -> None:
    store = Store.open(Settings(home=elsewhere, catalog=str(disk / "catalog.db")))
    made = store.commit("model", EWR, draft(1))
    store.catalog.close()
    with read_only(disk):
        with pytest.raises(CatalogError, match=rf"{disk}/catalog\.db cannot be .*can be written to"):
            store.commit("model", EWR, draft(2))
        store.catalog.close()
    assert store.sync().things == 0
    assert store.history() == [made]
    store.commit("model", EWR, draft(2))
    assert numbers(store) == [1, 2]


def test_a_catalog_that_became_read_only_is_named(tmp_path: Path) -> None:
    on_small_disk(4, catalog_read_only, tmp_path / "disk", tmp_path)


def lose_permission(home: Path, uid: int) -> None:
    # Another user may not be able to read where this Python lives: what is imported late is imported now.
    first = Store.open(Settings(home=home / "first"))
    made = first.commit("model", EWR, draft(1))
    assert first.sync().things == 0
    assert_whole(first, [made])
    made.table()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    store = Store.open(Settings(home=home))
    made = store.commit("model", EWR, draft(1))
    versions = home / "lake" / Path(made.folder).parent
    for number, (folder, point) in enumerate(
        [(versions, "file created"), (home / "lake" / "tmp", "components written")]
    ):

        def forbid(at: str, folder: Path = folder, point: str = point) -> None:
            if at == point:
                folder.chmod(stat.S_IRUSR | stat.S_IXUSR)

        if number == 0:
            versions.chmod(stat.S_IRUSR | stat.S_IXUSR)
        lake.on_reached = forbid
        with pytest.raises(LakeError, match=r"cannot be written .*Permission denied.*permissions"):
            store.commit("model", EWR, draft(10 + number))
        lake.on_reached = lambda _point: None
        folder.chmod(stat.S_IRWXU)
        assert store.sync().things == 0
        assert store.latest("model", EWR) == made
        assert_whole(store, [made])
        made = store.commit("model", EWR, draft(20 + number))
    Path(store.lake.location(made.files["data.parquet"].path)).chmod(0)
    with pytest.raises(MlassetsError, match=r"data\.parquet.*Permission denied"):
        made.table()


def test_permissions_lost_half_way_are_told_and_nothing_is_half_visible(tmp_path: Path) -> None:
    # Below a folder that another user may enter.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mlassets-tests-") as name:
        home = Path(name)
        home.chmod(0o777)
        in_child(lose_permission, home, 65534)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_the_disk_tells_only_when_it_is_synced_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = Store.open(Settings(home=tmp_path))
    made = store.commit("model", EWR, draft(1))
    real, calls = os.fsync, 0
    for failing in range(100):
        calls = 0

        def fail(handle: int, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == failing + 1:
                raise OSError(number, os.strerror(number))
            real(handle)

        monkeypatch.setattr(os, "fsync", fail)
        told = ""
        try:
            store.commit("model", EWR, draft(2))
            break
        except LakeError as error:
            told = str(error)
        finally:
            monkeypatch.setattr(os, "fsync", real)
        assert os.strerror(number) in told
        assert store.latest("model", EWR) == made
        assert store.sync().damaged == ()
        # If only the name's own folder was not synced, it may be there, and then it is whole.
        assert set(numbers(store)) <= {1, 2}
        assert_whole(store, store.history())
        made = store.require("model", EWR)
    assert failing >= 3
    assert numbers(store)[-1] == 2


@pytest.mark.parametrize(
    "broken", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize("catalog_url", ["SQLite"], indirect=True)
def test_a_commit_that_fails_at_any_point_cleans_up_after_itself(
    place: Place, monkeypatch: pytest.MonkeyPatch, broken: BaseException
) -> None:
    store = place.open()
    before = store.commit("model", EWR, draft(0))
    points: list[str] = []
    monkeypatch.setattr(lake, "on_reached", points.append)
    before = store.commit("model", EWR, draft(1))
    total = len(points)
    for failing in range(total):
        points.clear()

        def fail(here: str, failing: int = failing) -> None:
            points.append(here)
            if len(points) == failing + 1:
                raise broken

        monkeypatch.setattr(lake, "on_reached", fail)
        number = 10 * (failing + 1)
        with pytest.raises((MlassetsError, type(broken))):
            store.commit("model", EWR, draft(number))
        monkeypatch.setattr(lake, "on_reached", lambda _point: None)
        visible = store.latest("model", EWR)
        assert visible == before or points[-1] == "row written"
        assert store.sync().damaged == ()
        assert_whole(store, store.history(limit=2))
        if place.on_s3:
            # A request that was given up may still be carried out: what it needs is left to the sweep.
            store.sweep(timedelta(0))
        assert_nothing_left_over(store)
        before = store.commit("model", EWR, draft(number + 1))
        assert store.latest("model", EWR) == before
    assert total >= (8 if place.on_s3 else 14)
    assert numbers(store) == sorted(set(numbers(store)))
