"""An S3 server and a PostgreSQL of the tests' own, on loopback, gone when the tests are, however those end."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen
from uuid import uuid4

import psycopg2

from mlassets_tests.processes import free_port, wait_until

REGION = "us-east-1"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_EVERYTHING_ON_S3 = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}'


def dies_with_us(how: signal.Signals) -> Callable[[], None]:
    """Return what a child runs before its program, so that it gets a signal when this process is gone."""

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, how)

    return ask


@dataclass(frozen=True)
class Keys:
    """What signs requests to S3."""

    access: str = "tests"
    secret: str = "only for tests"

    def environment(self, endpoint: str) -> dict[str, str]:
        """Return the standard variables that make every AWS client use these keys, this server, and no other."""
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


class S3Server:
    """moto in a child process. What it holds is in memory, and `forget` empties it."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mlassets_tests.s3_process"],
            stdout=subprocess.PIPE,
            env={**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 30), "PYTHONWARNINGS": "ignore"},
            process_group=0,
            preexec_fn=dies_with_us(signal.SIGKILL),
        )
        line = _stdout(self._child).readline()
        assert line, f"the S3 server ended with {self._child.wait()} before it had a port"
        self.port = int(line)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str = "s3", keys: Keys = Keys()) -> Any:
        """Return a boto3 client of the server, past every proxy."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=keys.access,
            aws_secret_access_key=keys.secret,
        )

    def make_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"tests-{uuid4().hex}"
        self._send(f"/{name}", method="PUT")
        return name

    def forget(self) -> None:
        """Forget all buckets and users."""
        self._send("/moto-api/reset")

    @contextmanager
    def checking_keys(self, policy: str | None = _EVERYTHING_ON_S3) -> Iterator[Keys]:
        """Refuse, in this block, all requests that are not signed with the keys it gives.

        Args:
            policy: What the keys permit, as a policy document; None permits nothing.
        """
        iam = self.client("iam")
        iam.create_user(UserName="tests")
        if policy is not None:
            iam.put_user_policy(UserName="tests", PolicyName="tests", PolicyDocument=policy)
        made = iam.create_access_key(UserName="tests")["AccessKey"]
        self._send("/moto-api/reset-auth", b"0")
        try:
            yield Keys(made["AccessKeyId"], made["SecretAccessKey"])
        finally:
            self._send("/moto-api/reset-auth", b"inf")

    def _send(self, path: str, data: bytes = b"", method: str = "POST") -> None:
        # Without a type of its own the body would be taken for a form.
        request = Request(f"{self.endpoint}{path}", data, {"Content-Type": "text/plain"}, method=method)
        with urlopen(request, timeout=60) as reply:
            reply.read()

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        _stdout(self._child).close()


class PostgresServer:
    """PostgreSQL from the machine's binaries, in a folder of its own, as an unprivileged user.

    A power cut would lose what it holds; its own end, however sudden, does not.
    """

    def __init__(self) -> None:
        self._programs = _postgres_programs()
        # Not below pytest's folders, which no other user may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="mlassets-postgres-"))
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'cat; until rm -rf "$1"; do sleep 1; done', "guard", str(self._folder)],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            known = {entry.pw_name for entry in pwd.getpwall()}
            entry = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self._log = self._folder / "log"
        made = subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self._folder / "data", "--username", "tests"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"),
                *("--no-sync", "--no-instructions"),
            ],
            capture_output=True,
            text=True,
            cwd="/",
            **self._user,
        )
        assert made.returncode == 0, f"initdb failed: {made.stderr}"
        self.port = free_port()
        self.start()

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg2://tests@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it again after `stop_at_once`, on the same port, and wait until it answers."""
        with self._folder.joinpath("starting").open("ab") as log:
            self._child = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port)),
                    *(
                        "-k",
                        str(self._folder),
                        "-h",
                        "127.0.0.1",
                        "-c",
                        "fsync=off",
                        "-c",
                        "full_page_writes=off",
                    ),
                    *("-c", "max_connections=60", "-c", "shared_buffers=32MB", "-c", "autovacuum=off"),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                process_group=0,
                preexec_fn=dies_with_us(signal.SIGQUIT),
                **self._user,
            )
        wait_until(
            lambda: self.answers() or self._child.poll() is not None, "PostgreSQL answers", 60, every=0.05
        )
        assert self._child.poll() is None, f"PostgreSQL ended: {(self._folder / 'starting').read_text()}"

    def answers(self) -> bool:
        """Say whether it can be reached."""
        try:
            self.run("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def run(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="tests", dbname="postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def make_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"tests_{uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def stop_at_once(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: no transaction ends well, no connection is closed politely."""
        self._child.send_signal(signal.SIGQUIT)
        self._child.wait()

    def stop(self) -> None:
        self.stop_at_once()
        self._guard.communicate()


def _postgres_programs() -> Path:
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[::-1]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AssertionError(
        "these tests start a PostgreSQL of their own, and this machine has none: `initdb` is neither on PATH nor in "
        "/usr/lib/postgresql. On Debian and Ubuntu: apt-get install postgresql"
    )


def _stdout(child: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert child.stdout is not None
    return child.stdout
