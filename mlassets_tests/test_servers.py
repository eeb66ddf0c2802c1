"""The tests' own servers do what the tests rely on."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import boto3
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

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
from mlassets_tests.processes import wait_until
from mlassets_tests.servers import Keys, PostgresServer, S3Server

BODY = os.urandom(100_000)
ONE_TRY = Config(retries={"total_max_attempts": 1}, read_timeout=0.5)


def test_of_many_conditional_writers_of_one_name_exactly_one_succeeds(
    bucket: str, s3_server: S3Server
) -> None:
    client = s3_server.client()
    won: list[int] = []

    def write(number: int) -> None:
        with suppress(ClientError):
            client.put_object(Bucket=bucket, Key="name", Body=str(number).encode(), IfNoneMatch="*")
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.get_object(Bucket=bucket, Key="name")["Body"].read().decode()] == [str(one) for one in won]


def test_keys_are_checked_when_a_test_wants_that(bucket: str, s3_server: S3Server) -> None:
    def codes(keys: Keys) -> str:
        try:
            s3_server.client(keys=keys).put_object(Bucket=bucket, Key="a", Body=b"1")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "fine"

    with s3_server.checking_keys() as keys:
        assert codes(keys) == "fine"
        assert codes(Keys(keys.access, "another secret")) == "SignatureDoesNotMatch"
        assert codes(Keys()) == "InvalidAccessKeyId"
    s3_server.forget()
    with s3_server.checking_keys(policy=None) as keys:
        assert codes(keys) == "AccessDenied"


@pytest.mark.parametrize(
    ("fault", "reaches_the_server"),
    [
        (Slow(1), True),
        (Reply(), False),
        (CutRequest(50_000), False),
        (CutRequest(0), False),
        (LoseResponse(), True),
        (Refuse(), False),
    ],
)
def test_a_fault_happens_once_and_to_what_it_was_planned_for(
    bucket: str, s3_server: S3Server, fault: Fault, reaches_the_server: bool
) -> None:
    with FaultyProxy(s3_server.port).running() as proxy:
        client = boto3.client("s3", endpoint_url=proxy.endpoint, config=ONE_TRY)
        proxy.plan(fault, method="PUT", containing="/victim")
        client.put_object(Bucket=bucket, Key="bystander", Body=BODY)
        with pytest.raises((BotoCoreError, ClientError)):
            client.put_object(Bucket=bucket, Key="victim", Body=BODY)
        wait_until(lambda: len(proxy.passed) == 2, "the server has answered", 10, every=0.02)
        there = {one["Key"] for one in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]}
        assert ("victim" in there) == reaches_the_server
        client.put_object(Bucket=bucket, Key="victim", Body=BODY)
        assert client.get_object(Bucket=bucket, Key="victim")["Body"].read() == BODY
        assert [one.fault for one in proxy.passed] == [None, fault, None, None]


def test_a_response_is_cut_where_it_was_planned_and_bytes_are_counted(
    bucket: str, s3_server: S3Server
) -> None:
    with FaultyProxy(s3_server.port).running() as proxy:
        client = boto3.client("s3", endpoint_url=proxy.endpoint, config=ONE_TRY)
        client.put_object(Bucket=bucket, Key="a", Body=BODY)
        assert proxy.bytes_up == len(BODY)
        proxy.forget()
        proxy.plan(CutResponse(1000), method="GET")
        with pytest.raises((BotoCoreError, ClientError)):
            client.get_object(Bucket=bucket, Key="a")["Body"].read()
        assert client.get_object(Bucket=bucket, Key="a", Range="bytes=10-19")["Body"].read() == BODY[10:20]
        assert sorted(one.down for one in proxy.passed) == [10, 1000]
        proxy.down()
        with pytest.raises(BotoCoreError):
            client.get_object(Bucket=bucket, Key="a")
        proxy.up()
        assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == BODY


def test_postgresql_keeps_what_was_committed_through_a_sudden_end(
    database: str, postgres_server: PostgresServer
) -> None:
    name = database.rpartition("/")[2]
    settled = psycopg2.connect(dbname=name, host="127.0.0.1", port=postgres_server.port, user="tests")
    with settled, settled.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 1 AS number")
    postgres_server.stop_at_once()
    with pytest.raises(psycopg2.OperationalError):
        postgres_server.run("SELECT 1")
    postgres_server.start()
    again = psycopg2.connect(dbname=name, host="127.0.0.1", port=postgres_server.port, user="tests")
    with again, again.cursor() as cursor:
        cursor.execute("SELECT number FROM kept")
        assert cursor.fetchall() == [(1,)]
    again.close()


def test_servers_and_their_folders_are_gone_when_the_tests_are_killed(tmp_path: Path) -> None:
    program = (
        "import time; from mlassets_tests.servers import *; s3 = S3Server(); postgres = PostgresServer()\n"
        "print(s3._child.pid, postgres._child.pid, postgres._folder, flush=True); time.sleep(600)"
    )
    tests = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    s3, postgres, folder = tests.stdout.readline().split()
    assert Path(folder).is_dir()
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    wait_until(
        lambda: not any(Path(path).exists() for path in (f"/proc/{s3}", f"/proc/{postgres}", folder)),
        "the servers and the folder are gone",
        30,
    )
