"""What networks and servers do to requests: short trouble is waited out, lasting trouble told, and nothing lost."""

import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlassets_tests.faulty_proxy import (
    CutRequest,
    CutResponse,
    Fault,
    FaultyProxy,
    LoseResponse,
    Refuse,
    Reply,
    Slow,
)
from mlassets_tests.resources.crowd import EWR, assert_whole, draft, numbers
from mlassets_tests.servers import S3Server
from mlassets_tests.small_homes import mlassets
from resources import s3
from resources.lake import LakeUnreachable, NameTaken
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Thing

PASSING: list[Fault] = [
    Slow(0.05),
    Reply(503, "SlowDown"),
    Reply(500, "InternalError"),
    CutRequest(100),
    CutResponse(50),
    LoseResponse(),
    Refuse(),
]
LASTING: list[Fault | str] = [
    Reply(503, "SlowDown"),
    CutRequest(10),
    Refuse(),
    LoseResponse(),
    Slow(600),
    "down",
]


@pytest.fixture
def proxy(bucket: str, s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.port).running() as running:
        yield running


@pytest.fixture
def settings(proxy: FaultyProxy, bucket: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, lake=f"s3://{bucket}/lake", s3_endpoint=proxy.endpoint, patience=5)


def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that gives up soon."""
    monkeypatch.setattr(s3, "READ_SECONDS", 0.3)
    return Store.open(settings.model_copy(update={"patience": 0.2}))


def reads(store: Store, thing: Thing) -> list[Callable[[], object]]:
    return [
        lambda: store.get(thing.id).artifact("note.txt"),
        lambda: store.get(thing.id).table(),
        lambda: store.verify(thing),
        lambda: store.sync(),
    ]


def test_a_fault_in_any_request_of_a_commit_is_waited_out(settings: Settings, proxy: FaultyProxy) -> None:
    store = Store.open(settings)
    store.commit("model", EWR, draft(0))
    proxy.forget()
    store.commit("model", EWR, draft(1))
    requests = len(proxy.passed)
    assert requests >= 3
    number = 1
    for fault in PASSING:
        for skip in range(requests):
            number += 1
            proxy.plan(fault, skip=skip)
            made = store.commit("model", EWR, draft(number))
            assert fault in [one.fault for one in proxy.passed]
            assert store.latest("model", EWR) == made
            assert_whole(store, [made])
            proxy.heal()
            proxy.forget()
    assert numbers(store) == list(range(number + 1))
    assert store.sync().things == 0
    assert store.sweep(timedelta(0)) == []


def test_a_fault_in_any_request_of_a_read_is_waited_out(settings: Settings, proxy: FaultyProxy) -> None:
    store = Store.open(settings)
    thing = store.commit("model", EWR, draft(1))
    expected = [read() for read in reads(store, thing)]
    for fault in (Reply(), CutResponse(50), LoseResponse(), Refuse()):
        for read, answer in zip(reads(store, thing), expected, strict=True):
            proxy.plan(fault)
            assert read() == answer
            proxy.heal()


@pytest.mark.parametrize("fault", LASTING, ids=str)
def test_lasting_trouble_is_told_and_the_same_commit_succeeds_later(
    settings: Settings, proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, fault: Fault | str
) -> None:
    store = hasty(settings, monkeypatch)
    made = store.commit("model", EWR, draft(1))
    for number, key in enumerate(("data.parquet", "thing.json"), start=2):
        if isinstance(fault, str):
            proxy.down()
        else:
            proxy.plan(fault, math.inf, method="PUT", containing=key)
        with pytest.raises(LakeUnreachable) as raised:
            store.commit("model", EWR, draft(number))
        text = str(raised.value)
        operation = "HeadObject" if isinstance(fault, str) else "PutObject"
        assert text.startswith(f"{operation} failed on s3://{bucket}/lake/things/model/")
        assert isinstance(fault, str) or key in text
        assert proxy.endpoint in text
        assert "server is up" in text
        if isinstance(fault, str):
            proxy.up()
        proxy.heal()
        assert store.latest("model", EWR) == made
        assert_whole(store, [made])
        # The server may have done what it was asked for and could not say so.
        done = fault == LoseResponse() and key == "thing.json"
        assert store.sync().things == done
        assert store.sync().damaged == ()
        made = store.commit("model", EWR, draft(number))
        assert_whole(store, [made])
    store.sweep(timedelta(0))
    assert_whole(store, store.history())


@pytest.mark.parametrize("fault", [one for one in LASTING if one != LoseResponse()], ids=str)
def test_lasting_trouble_while_reading_is_not_taken_for_damage(
    settings: Settings, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault | str
) -> None:
    store = hasty(settings, monkeypatch)
    thing = store.commit("model", EWR, draft(1))
    if isinstance(fault, str):
        proxy.down()
    else:
        proxy.plan(fault, math.inf)
    for read in reads(store, thing):
        with pytest.raises(LakeUnreachable, match=r"s3://.*What|s3://.*Check|s3://.*server"):
            read()
    if isinstance(fault, str):
        proxy.up()
    proxy.heal()
    assert_whole(store, [thing])


def test_large_objects_survive_faults_in_any_of_their_parts(settings: Settings, proxy: FaultyProxy) -> None:
    store = Store.open(settings)
    large = [np.random.default_rng(number).bytes(17 << 20) for number in range(2)]
    store.commit("model", EWR, Draft(artifacts={"large": large[0]}))
    parts = [one for one in proxy.passed if "uploadId=" in one.path or "uploads" in one.path]
    assert len(parts) == 4
    for fault, method, containing in (
        (LoseResponse(), "POST", "uploads"),
        (CutRequest(1 << 20), "PUT", "partNumber=1"),
        (LoseResponse(), "PUT", "partNumber=2"),
        (LoseResponse(), "POST", "uploadId="),
    ):
        proxy.plan(fault, method=method, containing=containing)
        proxy.forget()
        made = store.commit("model", EWR, Draft(artifacts={"large": large[1]}))
        assert fault in [one.fault for one in proxy.passed]
        assert made.artifact("large") == large[1]
        large.reverse()
    # An upload that began although nobody heard of it takes room, and no listing shows it.
    left = store.lake.unfinished(datetime.now(UTC) + timedelta(minutes=1))
    assert len(left) == 1
    assert store.lake.unfinished(datetime.now(UTC) + timedelta(minutes=1)) == []


def test_a_name_is_claimed_once_even_if_the_answer_is_lost(settings: Settings, proxy: FaultyProxy) -> None:
    lake = Store.open(settings).lake
    proxy.plan(LoseResponse(), 2, method="PUT", containing="mine")
    lake.put_bytes("tmp/mine", b"ours")
    assert lake.read_bytes("tmp/mine") == b"ours"
    proxy.plan(LoseResponse(), 2, method="PUT", containing="mine")
    with pytest.raises(NameTaken, match="tmp/mine"):
        lake.put_bytes("tmp/mine", b"theirs")
    assert lake.read_bytes("tmp/mine") == b"ours"

    won, taken = [], []

    def claim(number: int) -> None:
        try:
            Store.open(settings).lake.put_bytes("tmp/contested", str(number).encode())
            won.append(number)
        except NameTaken:
            taken.append(number)

    proxy.plan(LoseResponse(), 3, method="PUT", containing="contested")
    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(taken)) == (1, 5)
    assert lake.read_bytes("tmp/contested") == str(won[0]).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "AKIAANOTHERKEY000000"}, "InvalidAccessKeyId.*AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials.*AWS_ACCESS_KEY_ID"),
    ],
    ids=["wrong secret", "unknown key", "no keys"],
)
def test_keys_that_are_refused_are_told_with_what_to_do(
    bucket: str,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str | None],
    says: str,
) -> None:
    settings = Settings(home=tmp_path, lake=f"s3://{bucket}/lake", patience=5)
    with s3_server.checking_keys() as keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret)
        good = Store.open(settings)
        thing = good.commit("model", EWR, draft(1))
        for name, value in change.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
        refused = Store.open(settings)
        with pytest.raises(
            LakeUnreachable, match=rf"Object failed on s3://{bucket}/lake/things.*({says}|keys)"
        ):
            refused.commit("model", EWR, draft(2))
        with pytest.raises(
            LakeUnreachable, match=rf"ListObjectsV2 failed on s3://{bucket}/lake/things.*{says}"
        ):
            refused.sync()
        with pytest.raises(LakeUnreachable, match=rf"GetObject failed on s3://{bucket}/lake/.*{says}"):
            refused.get(thing.id).artifact("note.txt")
        with pytest.raises(LakeUnreachable, match=rf"s3://{bucket}/lake/.*(AWS_|keys)"):
            refused.get(thing.id).table()
        assert good.sync().things == 0
        assert good.commit("model", EWR, draft(2)) == good.latest("model", EWR)
        assert_whole(good, good.history())


def test_a_right_that_is_lacking_is_told(
    bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, lake=f"s3://{bucket}/lake", patience=5)
    thing = Store.open(settings).commit("model", EWR, draft(1))
    policy = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}}'
    with s3_server.checking_keys(policy) as keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret)
        store = Store.open(settings)
        with pytest.raises(
            LakeUnreachable, match=r"PutObject failed on s3://.*AccessDenied.*right on the bucket"
        ):
            store.commit("model", EWR, draft(2))
        assert store.history() == [thing]
        assert_whole(store, store.history())
        assert store.get(thing.id).table().num_rows == 100


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path, lake="s3://no-such-bucket-anywhere/lake", patience=5))
    with pytest.raises(
        LakeUnreachable, match=r"s3://no-such-bucket-anywhere/lake/.*NoSuchBucket.*Make the bucket"
    ):
        store.commit("model", EWR, draft(1))
    with pytest.raises(
        LakeUnreachable, match=r"s3://no-such-bucket-anywhere/lake.*NoSuchBucket.*Make the bucket"
    ):
        store.sync()
    assert store.history() == []


def test_commands_say_what_is_wrong_in_one_line(
    settings: Settings, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    for name in ("lake", "s3_endpoint", "catalog"):
        monkeypatch.setenv(f"MLASSETS_{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("MLASSETS_PATIENCE", "0.2")
    assert mlassets(settings.home, "catalog", "sync").exit_code == 0
    proxy.down()
    for words in (("catalog", "sync"), ("catalog", "rebuild"), ("catalog", "verify")):
        ended = mlassets(settings.home, *words)
        assert ended.exit_code == 2, ended.output
        assert isinstance(ended.exception, SystemExit)
        told = " ".join(ended.stderr.split())
        assert told.startswith("error:")
        assert f"s3://{bucket}/lake" in told
        assert proxy.endpoint in told
    proxy.up()
    assert mlassets(settings.home, "catalog", "verify").exit_code == 0


def test_what_a_killed_upload_left_on_this_machine_is_swept(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (folder / "mlassets-staged-dead").mkdir()
    (folder / "mlassets-staged-dead/file").write_bytes(b"1")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / f"mlassets-staged-{ended.pid}-dead").mkdir()
    alive = folder / f"mlassets-staged-{os.getpid()}-alive"
    alive.mkdir()
    store = Store.open(settings)
    store.sweep()
    assert len(list(folder.iterdir())) == 3
    store.sweep(timedelta(0))
    assert list(folder.iterdir()) == [alive]
