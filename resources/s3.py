"""A lake, or a landing zone, on S3 or whatever speaks its protocol.

Requests go through boto3, but for scans, which go through pyarrow's own S3 file system: it reads the columns and row
groups that are asked for and nothing else. Keys, region and endpoint come from the standard AWS chain for both.

Every request may be sent again without harm, so each is: an object is written under a name of its own, or under one
that is claimed with `If-None-Match`, where an answer that got lost is told from another writer's by what is there.
The rules are in docs/decisions/014-s3-consistency.md.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from blake3 import blake3

from resources.lake import (
    Entry,
    HashingFile,
    Lake,
    LakeError,
    LakeUnreachable,
    NameTaken,
    NotInLake,
    Retention,
    Written,
    hash_bytes,
    reached,
)

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
# Parts of this size: memory stays small, and 10,000 of them, the most that S3 takes, hold 160 GB.
PART_BYTES = 16 << 20
_AT_ONCE = 8
_CHUNK = 1 << 20
_KEYS_PER_DELETE = 1000
_STAGED = "mlassets-staged-"

_GONE = ("404", "NoSuchKey", "NotFound")
_CLAIMED = ("412", "PreconditionFailed")
_CANNOT_LOCK = ("InvalidRequest", "ObjectLockConfigurationNotFoundError")
_UNLOCKED = (*_CANNOT_LOCK, "NoSuchObjectLockConfiguration")
_TRANSIENT = (
    "409",  # ConditionalRequestConflict: another writer of the same name is at it at this moment
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)
_REFUSED = {
    "AccessDenied": "Give the key that right on the bucket",
    "403": "Check the keys, and that they have the right to do so on the bucket",
    "ExpiredToken": "Renew the session's credentials",
    "InvalidAccessKeyId": "Check AWS_ACCESS_KEY_ID, or the profile that AWS_PROFILE names",
    "SignatureDoesNotMatch": "Check AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "Check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "Set this machine's clock",
    "NoSuchBucket": "Make the bucket, or name another one in the URI",
    "PermanentRedirect": "Set AWS_REGION to the bucket's region",
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the bucket's region",
    "IllegalLocationConstraintException": "Set AWS_REGION to the bucket's region",
}
_Result = TypeVar("_Result")


def _mode(retention: Retention) -> str:
    return "COMPLIANCE" if retention.compliance else "GOVERNANCE"


class Bucket(Lake):
    """A lake in an S3 bucket, below a prefix."""

    def __init__(self, uri: str, *, endpoint: str | None = None, patience: float = 30.0) -> None:
        """Open the lake at `s3://bucket/prefix`; no request is sent yet.

        Args:
            uri: Where it is.
            endpoint: Address of a server other than Amazon's; by default as the AWS variables say.
            patience: Seconds for which a server that does not answer is asked again.

        Raises:
            LakeError: If the URI names no bucket, or the AWS configuration cannot be read.
        """
        parts = urlsplit(uri)
        self.bucket, self._prefix = parts.netloc, parts.path.strip("/")
        if not self.bucket or parts.query or parts.fragment or "@" in self.bucket:
            shown = re.sub("//[^/@]*@", "//***@", uri)
            raise LakeError(
                f"{shown!r} is no place on S3: write s3://bucket/prefix; the endpoint goes into MLASSETS_S3_ENDPOINT "
                "or AWS_ENDPOINT_URL, keys and region into the AWS variables or profiles"
            )
        self.patience = patience
        self._chosen = endpoint
        self._process = os.getpid()
        self._connection, fs = _connect(uri, endpoint)
        super().__init__(
            uri.rstrip("/"), fs, f"{self.bucket}/{self._prefix}" if self._prefix else self.bucket
        )

    @property
    def local(self) -> bool:
        """Objects are not reached by path."""
        return False

    @property
    def endpoint(self) -> str:
        """Address of the server."""
        return str(self._client.meta.endpoint_url)

    @property
    def _client(self) -> Any:
        if self._process != os.getpid():
            # A forked child must not speak over its parent's connections.
            self._process = os.getpid()
            self._connection, self.fs = _connect(self.uri, self._chosen)
        return self._connection

    def _key(self, path: str) -> str:
        return self.full(path).removeprefix(f"{self.bucket}/")

    def _ask(self, operation: str, path: str, work: Callable[[], _Result]) -> _Result:
        """Send requests that may be repeated, with growing pauses, until they are answered or patience ends.

        Raises:
            NotInLake: If there is no such object.
            LakeUnreachable: If there was no answer, or a refusal.
            LakeError: If this machine's disk fails meanwhile.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

        again = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_delay(self.patience),
            wait=wait_exponential_jitter(multiplier=0.1, max=5.0),
            reraise=True,
        )
        try:
            return again(work)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _GONE and path:
                raise self._missing(path) from error
            remedy = (
                _REFUSED["NoSuchBucket" if code in _GONE else code] if code in (*_GONE, *_REFUSED) else None
            )
            raise self._unreachable(operation, path, _reason(error), remedy) from error
        except (BotoCoreError, ConnectionError, TimeoutError, *_transfer_errors()) as error:
            raise self._unreachable(operation, path, str(error), _remedy(error)) from error
        except OSError as error:
            # What is left is this machine's disk, where objects stand on their way.
            raise _unstaged(path, error) from error

    def _unreachable(
        self, operation: str, path: str, reason: str, remedy: str | None = None
    ) -> LakeUnreachable:
        where = "/".join(part for part in (self.bucket, self._prefix, path) if part)
        return LakeUnreachable(
            f"{operation} failed on s3://{where} at {self.endpoint}: {reason.rstrip('.')}. "
            + (remedy or "Check that the server is up and can be reached from here, then run the step again")
        )

    @contextmanager
    def _new_file(self, path: str) -> Iterator[HashingFile]:
        """Stage on this machine's disk: what proves to be there already is never sent, and no half is."""
        key = self._key(path)
        try:
            folder = tempfile.mkdtemp(prefix=f"{_STAGED}{os.getpid()}-")
        except OSError as error:
            raise _unstaged(path, error) from error
        try:
            staged = Path(folder, "file")
            try:
                with staged.open("xb", buffering=_CHUNK) as raw:
                    reached("file created")
                    sink = HashingFile(raw)
                    yield sink
            except OSError as error:
                raise _unstaged(path, error) from error
            reached("file written")
            if not sink.discarded:
                self._ask("PutObject", path, lambda: self._upload(staged, key))
                reached("file uploaded")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _upload(self, staged: Path, key: str) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=_AT_ONCE
        )
        self._client.upload_file(str(staged), self.bucket, key, Config=config)

    def write_bytes(self, path: str, data: bytes) -> Written:
        """Write `data` to `path` in one request."""
        if len(data) > PART_BYTES:
            return super().write_bytes(path, data)
        key = self._key(path)
        self._ask("PutObject", path, lambda: self._client.put_object(Bucket=self.bucket, Key=key, Body=data))
        reached("file uploaded")
        return Written(path, len(data), hash_bytes(data))

    def put_all(self, items: Mapping[str, bytes], retention: Retention | None = None) -> list[Written]:
        """Claim every name with a conditional request of its own, several side by side."""
        reached("before rename")
        locked: dict[str, Any] = {}
        if retention is not None:
            locked = {"ObjectLockMode": _mode(retention), "ObjectLockRetainUntilDate": retention.until}
        if len(items) == 1:
            written = [self._claim(path, data, locked) for path, data in items.items()]
        else:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                written = list(pool.map(lambda one: self._claim(one[0], one[1], locked), items.items()))
        reached("after rename")
        return written

    def lock(self, paths: Collection[str], retention: Retention) -> None:
        """Set a retention on the newest version of every object."""
        for path in paths:
            key = self._key(path)
            self._ask("PutObjectRetention", path, lambda: self._retain(key, retention))  # noqa: B023

    def _retain(self, key: str, retention: Retention) -> None:
        from botocore.exceptions import ClientError

        where = {"Bucket": self.bucket, "Key": key}
        wanted = {"Mode": _mode(retention), "RetainUntilDate": retention.until}
        now = self._client.head_object(**where)
        mode, until = now.get("ObjectLockMode"), now.get("ObjectLockRetainUntilDate")
        # No lock can be made shorter, or weaker.
        if until is not None and until >= retention.until and mode in (wanted["Mode"], "COMPLIANCE"):
            return
        try:
            self._client.put_object_retention(**where, Retention=wanted)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _CANNOT_LOCK:
                raise
            raise LakeError(
                f"s3://{self.bucket} has no Object Lock, so releases cannot be locked. Turn it on, or unset "
                "MLASSETS_LOCK_RELEASES"
            ) from error

    def locks(self) -> bool:
        """Say whether the bucket has Object Lock.

        Raises:
            LakeUnreachable: If there was no answer, or a refusal.
        """
        from botocore.exceptions import ClientError

        def ask() -> bool:
            try:
                answer = self._client.get_object_lock_configuration(Bucket=self.bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _UNLOCKED:
                    raise
                return False
            return bool(answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")

        return self._ask("GetObjectLockConfiguration", "", ask)

    def _claim(self, path: str, data: bytes, locked: Mapping[str, Any]) -> Written:
        from botocore.exceptions import ClientError

        key = self._key(path)

        def put() -> None:
            try:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*", **locked)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _CLAIMED:
                    raise
                # Ours, if an answer got lost and the request was sent again.
                if self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read() != data:
                    raise NameTaken(
                        f"{path} is taken in the lake {self.uri}, and what is there differs"
                    ) from None

        self._ask("PutObject", path, put)
        return Written(path, len(data), hash_bytes(data))

    def keep(self, path: str) -> None:
        """An object that is there is there for good."""

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes at `path`."""
        key = self._key(path)
        return self._ask(
            "GetObject",
            path,
            lambda: bytes(self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()),
        )

    def fetch(self, path: str, target: Path) -> str:
        """Copy the object at `path` to a local file and return the BLAKE3 hash of its bytes.

        Raises:
            NotInLake: If it is not there.
            LakeError: If it cannot be read, or the file cannot be written.
        """
        key = self._key(path)

        def copy() -> str:
            body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
            with target.open("wb", buffering=_CHUNK) as raw:
                sink = HashingFile(raw)
                for chunk in body.iter_chunks(_CHUNK):
                    sink.write(chunk)
            return sink.hexdigest()

        return self._ask("GetObject", path, copy)

    def hash_of(self, path: str) -> str:
        """Read `path` whole and return the BLAKE3 hash of its bytes."""
        key = self._key(path)

        def read() -> str:
            hasher = blake3()
            for chunk in self._client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(_CHUNK):
                hasher.update(chunk)
            return hasher.hexdigest()

        return self._ask("GetObject", path, read)

    def size_of(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such object."""
        key = self._key(path)
        try:
            head = self._ask(
                "HeadObject", path, lambda: self._client.head_object(Bucket=self.bucket, Key=key)
            )
        except NotInLake:
            return None
        return int(head["ContentLength"])

    def sizes_of(self, paths: Sequence[str]) -> list[int | None]:
        """Return the size of every path, asking for several at once."""
        if len(paths) < 2:
            return super().sizes_of(paths)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.size_of, paths))

    def files(self, folder: str) -> Iterator[Entry]:
        """Yield every object below `folder`, in the order of their names."""
        prefix = f"{self._key(folder)}/"
        start = len(self._prefix) + 1 if self._prefix else 0
        token: dict[str, str] = {}
        while True:
            page = self._ask(
                "ListObjectsV2",
                folder,
                lambda: self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **token),  # noqa: B023
            )
            for one in page.get("Contents", ()):
                if not one["Key"].endswith("/"):
                    yield Entry(one["Key"][start:], int(one["Size"]), one["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, path: str) -> None:
        """Delete the object at `path`, if it is there."""
        key = self._key(path)
        self._ask("DeleteObject", path, lambda: self._client.delete_object(Bucket=self.bucket, Key=key))

    def delete_folder(self, folder: str) -> None:
        """Delete everything below `folder`, if it is there."""
        keys = [{"Key": self._key(entry.path)} for entry in self.files(folder)]
        for start in range(0, len(keys), _KEYS_PER_DELETE):
            some = {"Objects": keys[start : start + _KEYS_PER_DELETE], "Quiet": True}
            answer = self._ask(
                "DeleteObjects",
                folder,
                lambda: self._client.delete_objects(Bucket=self.bucket, Delete=some),  # noqa: B023
            )
            for error in answer.get("Errors", ())[:1]:
                raise self._unreachable("DeleteObjects", folder, f"{error['Key']}: {error.get('Message')}")

    def unfinished(self, before: datetime) -> list[str]:
        """Give up multipart uploads that were begun before a time: they take room, and no listing shows them.

        What killed processes of this machine were about to send, and staged before then, goes, too.
        """
        for staged in Path(tempfile.gettempdir()).glob(f"{_STAGED}*"):
            with suppress(OSError):
                if datetime.fromtimestamp(staged.stat().st_mtime, UTC) < before and not _is_in_use(staged):
                    shutil.rmtree(staged)
        prefix = f"{self._prefix}/" if self._prefix else ""
        found = self._ask(
            "ListMultipartUploads",
            "",
            lambda: self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix),
        )
        given_up = []
        for upload in found.get("Uploads", ()):
            if upload["Initiated"] < before:
                self._ask(
                    "AbortMultipartUpload",
                    upload["Key"],
                    lambda: self._client.abort_multipart_upload(
                        Bucket=self.bucket,
                        Key=upload["Key"],  # noqa: B023
                        UploadId=upload["UploadId"],  # noqa: B023
                    ),
                )
                given_up.append(upload["Key"].removeprefix(prefix))
        return given_up

    def clock_skew(self) -> float:
        """Return by how many seconds the server's clock is ahead of this machine's, to about a second.

        Raises:
            LakeUnreachable: If there was no answer, or a refusal.
        """
        answer = self._ask("HeadBucket", "", lambda: self._client.head_bucket(Bucket=self.bucket))
        said = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return (said - datetime.now(UTC)).total_seconds()

    def location(self, path: str) -> str:
        """Return the URI of an object."""
        return f"s3://{self.full(path)}"

    @contextmanager
    def scanning(self, what: str) -> Iterator[None]:
        """Tell trouble with the server from trouble with the bytes."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._missing(what) from error
        except OSError as error:
            # pyarrow knows these by their text alone.
            text = str(error)
            if "AWS Error" not in text:
                raise
            remedy = next((fix for code, fix in _SDK_REFUSED.items() if code in text), None)
            raise self._unreachable("GetObject", what, " ".join(text.split()), remedy) from error


_SDK_REFUSED = {
    "ACCESS_DENIED": _REFUSED["AccessDenied"],
    "INVALID_ACCESS_KEY_ID": _REFUSED["InvalidAccessKeyId"],
    "SIGNATURE_DOES_NOT_MATCH": _REFUSED["SignatureDoesNotMatch"],
    "REQUEST_TIME_TOO_SKEWED": _REFUSED["RequestTimeTooSkewed"],
    "NO_SUCH_BUCKET": _REFUSED["NoSuchBucket"],
}


@cache
def _service_models() -> Any:
    """Return what reads botocore's description of S3: a megabyte of JSON, parsed once and not for every client."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _session() -> Any:
    """Return a session that reads the AWS variables and profiles anew."""
    import boto3
    import botocore.session

    models = _service_models()
    plain = botocore.session.Session()
    plain.register_component("data_loader", models)
    paths = list(models.search_paths)
    session = boto3.session.Session(botocore_session=plain)
    # Each session adds where boto3's resources are, of which we use none.
    models.search_paths[:] = paths
    return session


def _connect(uri: str, endpoint: str | None) -> tuple[Any, pafs.FileSystem]:
    """Return a boto3 client and pyarrow's file system that reach the same server with the same keys."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        session = _session()
        client = session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=session.region_name or os.environ.get("AWS_REGION") or "us-east-1",
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                # One short round here, so that `_ask` alone decides how long to go on.
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=2 * _AT_ONCE,
                tcp_keepalive=True,
            ),
        )
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise LakeError(
            f"{uri} cannot be opened: {error}. Check the AWS variables and profiles, and MLASSETS_S3_ENDPOINT"
        ) from error
    options: dict[str, Any] = {
        "region": client.meta.region_name,
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": READ_SECONDS,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=5),
    }
    custom = endpoint or not str(client.meta.endpoint_url).rstrip("/").endswith(".amazonaws.com")
    if custom:
        address = urlsplit(client.meta.endpoint_url)
        options |= {"scheme": address.scheme, "endpoint_override": address.netloc + address.path.rstrip("/")}
    # Keys that expire are left to pyarrow, which looks in the same places and renews them.
    if credentials is not None and getattr(credentials, "refresh_needed", None) is None:
        options |= {
            "access_key": credentials.access_key,
            "secret_key": credentials.secret_key,
            "session_token": credentials.token,
        }
    return client, pafs.S3FileSystem(**options)


def _transfer_errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import S3UploadFailedError

    return (S3UploadFailedError,)


def _is_transient(error: BaseException) -> bool:
    """Say whether the same request may succeed a moment later."""
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
        ResponseStreamingError,
    )

    cause = error.__context__ if isinstance(error, _transfer_errors()) else error
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return cause.response.get("Error", {}).get("Code") in _TRANSIENT or status >= 500
    return isinstance(cause, (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError))


def _reason(error: Any) -> str:
    found = error.response.get("Error", {})
    return f"{found.get('Code')}: {found.get('Message')}"


def _remedy(error: BaseException) -> str | None:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE"
    cause = error.__context__
    if isinstance(error, _transfer_errors()) and cause is not None and hasattr(cause, "response"):
        return _REFUSED.get(cause.response.get("Error", {}).get("Code", ""))
    return None


def _unstaged(path: str, error: OSError) -> LakeError:
    where = error.filename or tempfile.gettempdir()
    return LakeError(
        f"{path} cannot be staged in {where} on its way between here and S3: {error.strerror or error}. "
        "Make room there, or set TMPDIR to a folder that has it"
    )


def _is_in_use(staged: Path) -> bool:
    """Say whether the process that made a staging folder, and named it by its number, is still there."""
    number = staged.name.removeprefix(_STAGED).partition("-")[0]
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
