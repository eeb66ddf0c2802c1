"""Releases in a bucket with Object Lock cannot be deleted before their time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from mlassets.doctor import examine
from mlassets_tests.servers import S3Server
from resources.lake import LakeError
from resources.settings import BadSettings, Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing

PROJECT = Partition.project("late-flights")
DRAFT = Draft(dataset=pa.table({"prediction": [1, 2]}), artifacts={"bundle.zip": b"x"})


@pytest.fixture
def locking(bucket: str, s3_server: S3Server) -> str:
    """The name of an empty bucket with Object Lock, in which doctor finds what it needs."""
    s3_server.client().create_bucket(Bucket=f"{bucket}-locked", ObjectLockEnabledForBucket=True)
    return f"{bucket}-locked"


def store_in(bucket: str, folder: Path, lock: str | None = "365d") -> Store:
    return Store.open(Settings(home=folder, lake=f"s3://{bucket}/lake", lock_releases=lock))


def paths_of(thing: Thing) -> list[str]:
    named = [one.path for one in thing.components]
    return [*named, f"{thing.folder}/thing.json", f"environments/{thing.provenance['environment']}.json"]


def retention(client: Any, bucket: str, path: str) -> tuple[str | None, datetime | None]:
    head = client.head_object(Bucket=bucket, Key=f"lake/{path}")
    return head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")


@pytest.mark.parametrize(("lock", "mode"), [("365d", "GOVERNANCE"), ("30d compliance", "COMPLIANCE")])
def test_every_file_of_a_release_is_locked_and_no_other(
    locking: str, s3_server: S3Server, tmp_path: Path, lock: str, mode: str
) -> None:
    store, client = store_in(locking, tmp_path, lock), s3_server.client()
    model = store.commit("model", Partition.segment("late-flights", "EWR"), DRAFT)
    release = store.commit("publish", PROJECT, DRAFT)
    until = datetime.now(UTC) + timedelta(days=int(lock.split("d")[0]))
    for path in paths_of(release):
        found, locked_until = retention(client, locking, path)
        assert found == mode, path
        assert locked_until is not None
        assert abs(locked_until - until) < timedelta(minutes=2)
    assert retention(client, locking, f"{model.folder}/thing.json") == (None, None)
    version = client.list_object_versions(
        Bucket=locking, Prefix=f"lake/{release.artifacts['bundle.zip'].path}"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(
            Bucket=locking,
            Key=f"lake/{release.artifacts['bundle.zip'].path}",
            VersionId=version["Versions"][0]["VersionId"],
        )
    again = store.commit("publish", PROJECT, DRAFT)
    assert again.components == release.components
    assert all(retention(client, locking, path)[0] == mode for path in paths_of(again))
    assert store.verify_all().damaged == ()


def test_no_lock_is_made_shorter(locking: str, s3_server: S3Server, tmp_path: Path) -> None:
    release = store_in(locking, tmp_path, "365d").commit("publish", PROJECT, DRAFT)
    before = retention(s3_server.client(), locking, release.artifacts["bundle.zip"].path)
    assert (
        store_in(locking, tmp_path, "7d").commit("publish", PROJECT, DRAFT).components == release.components
    )
    assert retention(s3_server.client(), locking, release.artifacts["bundle.zip"].path) == before


def test_a_release_that_cannot_be_locked_is_not_published(bucket: str, tmp_path: Path) -> None:
    for store in (store_in(bucket, tmp_path), Store.open(Settings(home=tmp_path / "f", lock_releases="1d"))):
        with pytest.raises(LakeError, match="MLASSETS_LOCK_RELEASES"):
            store.commit("publish", PROJECT, DRAFT)
        assert store.history() == []
        assert store.commit("model", PROJECT, DRAFT).rows == 2


def test_the_doctor_says_whether_the_lake_can_lock(locking: str, bucket: str, tmp_path: Path) -> None:
    for lake, state in ((f"s3://{locking}/lake", "ok"), (f"s3://{bucket}/lake", "wrong")):
        settings = Settings(home=tmp_path, lake=lake, lock_releases="365d")
        told = [one for one in examine(settings) if one.area == "lake" and "locked for 365d" in one.message]
        assert [one.state for one in told] == [state]


def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("a year", "365", "-1d", "0d"):
        monkeypatch.setenv("MLASSETS_LOCK_RELEASES", wrong)
        with pytest.raises(BadSettings, match=r"MLASSETS_LOCK_RELEASES cannot be used.*365d"):
            Settings.load()
