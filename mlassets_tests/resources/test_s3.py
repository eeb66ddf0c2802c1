"""A lake on S3: its places and keys, pages of listings, claims, and uploads that nobody finished."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from blake3 import blake3

from mlassets_tests.faulty_proxy import CutResponse, FaultyProxy
from mlassets_tests.servers import Keys, S3Server
from resources.lake import LakeError, LakeUnreachable, NameTaken, NotInLake
from resources.s3 import PART_BYTES, Bucket


@pytest.fixture
def lake(bucket: str) -> Bucket:
    return Bucket(f"s3://{bucket}/some/prefix", patience=5)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.port).running() as proxy:
        yield proxy


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///prefix", "s3://bucket/x?endpoint_override=y", "s3://key:secret@bucket/x"]
)
def test_what_is_no_bucket_and_prefix_is_refused_with_what_to_write(uri: str) -> None:
    with pytest.raises(LakeError, match="write s3://bucket/prefix") as told:
        Bucket(uri)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("prefix", ["", "/", "/a b/ü%2F=x"])
def test_objects_are_written_listed_read_and_deleted_below_any_prefix(bucket: str, prefix: str) -> None:
    lake = Bucket(f"s3://{bucket}{prefix}")
    written = lake.write_bytes("a/b=c%2F d", b"123")
    assert (written.size, written.hash) == (3, blake3(b"123").hexdigest())
    lake.put_bytes("a/e", b"45")
    assert sorted((entry.path, entry.size) for entry in lake.files("a")) == [("a/b=c%2F d", 3), ("a/e", 2)]
    assert lake.read_bytes("a/b=c%2F d") == b"123"
    assert lake.sizes_of(["a/e", "a/f", "a/b=c%2F d"]) == [2, None, 3]
    assert lake.location("a/e") == f"s3://{bucket}{prefix.rstrip('/')}/a/e"
    lake.delete("a/e")
    lake.delete("a/e")
    lake.delete_folder("a")
    assert list(lake.files("a")) == []
    with pytest.raises(NotInLake, match="restore it"):
        lake.hash_of("a/e")


def test_a_listing_goes_over_all_pages_and_a_folder_of_any_size_is_deleted(lake: Bucket) -> None:
    written = lake.put_all({f"many/{number:04}": b"x" for number in range(1005)})
    assert len(written) == len(list(lake.files("many"))) == 1005
    lake.delete_folder("many")
    assert list(lake.files("many")) == []


def test_a_name_is_given_to_one_of_several_writers(lake: Bucket) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(6)

    def claim(number: int) -> None:
        start.wait()
        try:
            lake.put_bytes("name", f"writer {number}".encode())
            outcomes.append(f"writer {number}")
        except NameTaken:
            outcomes.append("taken")

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome != "taken"]
    assert len(outcomes) == 6
    assert lake.read_bytes("name") == winner.encode()


def test_a_large_object_goes_in_parts_and_comes_back_whole(lake: Bucket, tmp_path: Path) -> None:
    content = os.urandom(2 * PART_BYTES + 5)
    (tmp_path / "large").write_bytes(content)
    written = lake.write_file("large", tmp_path / "large")
    assert (written.size, written.hash) == (len(content), blake3(content).hexdigest())
    assert lake.hash_of("large") == lake.fetch("large", tmp_path / "copy") == written.hash
    assert (tmp_path / "copy").read_bytes() == content


def test_an_answer_that_is_cut_short_is_asked_for_again(bucket: str, proxy: FaultyProxy) -> None:
    content = os.urandom(300_000)
    lake = Bucket(f"s3://{bucket}/x", endpoint=proxy.endpoint, patience=5)
    lake.write_bytes("a", content)
    proxy.plan(CutResponse(100_000), method="GET")
    assert lake.read_bytes("a") == content
    proxy.plan(CutResponse(100_000), method="GET")
    assert lake.hash_of("a") == blake3(content).hexdigest()


def test_a_dataset_that_equals_the_one_before_is_never_sent(bucket: str, proxy: FaultyProxy) -> None:
    lake = Bucket(f"s3://{bucket}/x", endpoint=proxy.endpoint)
    table = pa.table({"a": [os.urandom(16).hex() for _ in range(20_000)]})
    first = lake.write_table("one", table)
    assert first is not None
    proxy.forget()
    assert lake.write_table("two", table, unless=first.hash) is None
    assert proxy.bytes_up == 0
    assert not lake.exists("two")


def test_uploads_that_nobody_finished_are_given_up_once_they_are_old(
    lake: Bucket, s3_server: S3Server, bucket: str
) -> None:
    client = s3_server.client()
    client.create_multipart_upload(Bucket=bucket, Key="some/prefix/things/left")
    client.create_multipart_upload(Bucket=bucket, Key="another/prefix")
    # This server says of every upload that it was begun in 2010.
    assert lake.unfinished(datetime(2010, 1, 1, tzinfo=UTC)) == []
    assert lake.unfinished(datetime.now(UTC)) == ["things/left"]
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["another/prefix"]


def test_scans_and_requests_take_their_keys_from_the_same_profile(
    bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name)
    keys = Keys()
    (tmp_path / "credentials").write_text(
        f"[lake]\naws_access_key_id = {keys.access}\naws_secret_access_key = {keys.secret}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile lake]\nregion = eu-west-1\nendpoint_url = {s3_server.endpoint}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lake")
    lake = Bucket(f"s3://{bucket}/x")
    assert lake.endpoint == s3_server.endpoint
    lake.write_table("t", pa.table({"a": [1, 2]}))
    assert lake.dataset(["t"]).to_table().to_pydict() == {"a": [1, 2]}


def test_an_unknown_profile_and_missing_keys_are_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(LakeUnreachable, match="Set AWS_ACCESS_KEY_ID"):
        Bucket(f"s3://{bucket}/x").write_bytes("a", b"1")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(LakeError, match="nobody"):
        Bucket(f"s3://{bucket}/x")


def test_a_staging_disk_without_room_is_named(lake: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(LakeError, match=r"staged in /proc.*TMPDIR"):
        lake.write_table("t", pa.table({"a": [1]}))


def test_a_local_disk_that_fails_is_not_taken_for_a_server_that_is_down(lake: Bucket) -> None:
    lake.write_bytes("a", b"x" * 1000)
    with pytest.raises(LakeError, match=r"a cannot be staged .*No space left on device") as told:
        lake.fetch("a", Path("/dev/full"))
    assert not isinstance(told.value, LakeUnreachable)


def test_a_forked_child_has_connections_of_its_own(lake: Bucket) -> None:
    lake.write_bytes("parent", b"1")
    child = os.fork()
    if child == 0:
        # Nothing of pytest's may run here.
        try:
            lake.write_bytes("child", lake.read_bytes("parent") * 2)
        finally:
            os._exit(0)
    for _ in range(20):
        assert lake.read_bytes("parent") == b"1"
    os.waitpid(child, 0)
    assert lake.read_bytes("child") == b"11"
