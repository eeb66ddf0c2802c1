"""Where bytes live: one interface for a local folder and an S3 prefix, through `pyarrow.fs`.

A file is written once, under a name that no other writer has, and hashed while it is written. Only `put_bytes`
is atomic, which is what makes a manifest a commit; what the `write_` methods leave behind after a crash has no
manifest and is therefore not visible.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import quote
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from blake3 import blake3

from resources.errors import MlassetsError

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ROWS_PER_GROUP = 1 << 20
_CHUNK = 1 << 20
_LONGEST_NAME = 200
_HASH_LENGTH = 16


class LakeError(MlassetsError):
    """Something in the lake is missing, damaged, or cannot be written."""


def _let_pass(_point: str) -> None:
    """Do nothing."""


on_reached: Callable[[str], None] = _let_pass


def reached(point: str) -> None:
    """Mark a point in a commit, for tests that set `on_reached` in order to kill the process there."""
    on_reached(point)


@dataclass(frozen=True)
class Written:
    """What was just written: its path in the lake, its size in bytes and the BLAKE3 hash of its bytes."""

    path: str
    size: int
    hash: str
    rows: int | None = None


@dataclass(frozen=True)
class Entry:
    """One file of the lake: its path, its size in bytes, and when it was last written (UTC)."""

    path: str
    size: int
    modified: datetime


def encode_name(name: str) -> str:
    """Return a file name for any text: percent-encoded, never special to a file system, at most 200 bytes.

    Longer names are cut and end in `~` and a hash of the whole; the true name is in the manifest.

    >>> encode_name("a/b c")
    'a%2Fb%20c'
    >>> encode_name("..")
    '%2E.'
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= _LONGEST_NAME:
        return encoded
    start = re.sub(r"%.?$", "", encoded[: _LONGEST_NAME - _HASH_LENGTH - 1])
    return f"{start}~{blake3(name.encode()).hexdigest()[:_HASH_LENGTH]}"


def hash_bytes(data: bytes) -> str:
    """Return the BLAKE3 hash of `data` in hexadecimal."""
    return blake3(data).hexdigest()


class _Sink(Protocol):
    def write(self, data: Any, /) -> Any: ...


class _HashingFile:
    """A writable file that hashes what passes through it, so that nothing is read a second time."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._hasher = blake3()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._hasher.update(data)
        self._sink.write(data)
        self.size += size
        return size

    def flush(self) -> None:
        """Leave flushing to the end: Parquet never reads back what it wrote."""

    def close(self) -> None:
        self.closed = True

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


class Lake:
    """A local folder or an object-store prefix that holds everything a Thing is made of.

    Paths are relative to the lake, with `/` between their parts. A path that would leave the lake is refused.
    """

    def __init__(self, uri: str) -> None:
        """Open the lake at `uri`, an absolute local folder or a URI such as `s3://bucket/prefix`.

        Raises:
            LakeError: If the URI is of no kind that pyarrow knows.
        """
        self.uri = uri
        try:
            self.fs, root = pafs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LakeError(
                f"the lake {uri!r} cannot be opened: {error}. "
                "Set MLASSETS_LAKE to an absolute folder or to a URI such as s3://bucket/prefix"
            ) from error
        self.root = root.rstrip("/")
        self.local = isinstance(self.fs, pafs.LocalFileSystem)

    def full(self, path: str) -> str:
        """Return `path` as the file system knows it.

        Raises:
            LakeError: If `path` is absolute or climbs out of the lake.
        """
        if not path or path.startswith("/") or "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise LakeError(
                f"{path!r} is no path inside the lake {self.uri}; the manifest that names it is damaged"
            )
        return f"{self.root}/{path}"

    @contextmanager
    def _writing(self, path: str, *, sync: bool) -> Iterator[_HashingFile]:
        """Open a new file for writing; on disk it survives a power cut once the block has ended."""
        full = self.full(path)
        try:
            if not self.local:
                with self.fs.open_output_stream(full) as stream:
                    yield _HashingFile(stream)
                return
            self._make_folder(full)
            with open(full, "xb", buffering=0) as raw:  # noqa: PTH123
                reached("file created")
                yield _HashingFile(raw)
                reached("file written")
                if sync:
                    os.fsync(raw.fileno())
                    reached("file synced")
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: str, error: OSError) -> LakeError:
        return LakeError(
            f"{path} cannot be written to the lake {self.uri}: {error.strerror or error}. "
            "Check the free space and the permissions there"
        )

    def _make_folder(self, full: str) -> None:
        folder = full.rpartition("/")[0]
        made = []
        while not os.path.isdir(folder):  # noqa: PTH112
            made.append(folder)
            folder = folder.rpartition("/")[0]
        for new in reversed(made):
            Path(new).mkdir(exist_ok=True)
            _sync_folder(new.rpartition("/")[0] or "/")

    def put_bytes(self, path: str, data: bytes) -> Written:
        """Write `data` to `path` so that it is there whole or not at all, also after a power cut."""
        if not self.local:
            with self._writing(path, sync=False) as sink:
                sink.write(data)
            return Written(path, len(data), hash_bytes(data))
        staged = f"tmp/{uuid4().hex}"
        with self._writing(staged, sync=True) as sink:
            sink.write(data)
        self._promote(staged, path)
        return Written(path, sink.size, sink.hexdigest())

    def write_bytes(self, path: str, data: bytes) -> Written:
        """Write `data` to `path`; a crash may leave a part of it, so a manifest may name it only afterwards."""
        with self._writing(path, sync=True) as sink:
            sink.write(data)
        return Written(path, sink.size, sink.hexdigest())

    def write_file(self, path: str, source: Path) -> Written:
        """Copy a local file to `path`, hashing it on the way; a crash may leave a part of it.

        Raises:
            LakeError: If `source` cannot be read.
        """
        try:
            raw = source.open("rb", buffering=0)
        except OSError as error:
            raise LakeError(f"{source} cannot be read: {error.strerror}") from error
        with raw, self._writing(path, sync=True) as sink:
            while chunk := raw.read(_CHUNK):
                sink.write(chunk)
        return Written(path, sink.size, sink.hexdigest())

    def _promote(self, staged: str, path: str) -> None:
        full = self.full(path)
        try:
            self._make_folder(full)
            reached("before rename")
            os.replace(self.full(staged), full)  # noqa: PTH105
            reached("after rename")
            _sync_folder(full.rpartition("/")[0])
        except OSError as error:
            raise self._unwritable(path, error) from error

    def write_table(
        self, path: str, data: pa.Table | pa.RecordBatchReader, *, unless: str | None = None
    ) -> Written | None:
        """Write a table, or a stream of batches, as one Parquet file: zstd, equal bytes for equal content.

        Row groups have a fixed number of rows whatever the batches are, so that the bytes depend on the
        content alone, and a stream of any length needs the memory of one row group.

        Args:
            path: Where to write.
            data: The rows.
            unless: If the bytes turn out to have this hash, they are discarded and None is returned.

        Raises:
            LakeError: If a column cannot be stored as Parquet.
        """
        doubles = sorted(name for name, count in Counter(data.schema.names).items() if count > 1)
        if doubles:
            raise LakeError(f"{path}: columns {doubles} occur twice; give each column a name of its own")
        rows = 0
        same = False
        try:
            with self._writing(path, sync=False) as sink:
                with pq.ParquetWriter(sink, data.schema, compression="zstd") as writer:
                    for group in _row_groups(data):
                        writer.write_table(group, row_group_size=ROWS_PER_GROUP)
                        rows += group.num_rows
                same = sink.hexdigest() == unless
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise LakeError(f"{path} cannot be written as Parquet: {error}") from error
        if same:
            self.delete(path)
            return None
        self._sync(path)
        return Written(path, sink.size, sink.hexdigest(), rows)

    def _sync(self, path: str) -> None:
        if self.local:
            with open(self.full(path), "rb") as raw:  # noqa: PTH123
                os.fsync(raw.fileno())
            reached("file synced")

    def sync_folder(self, folder: str) -> None:
        """Make the names in `folder` survive a power cut, where the storage does not see to that itself."""
        if self.local:
            _sync_folder(self.full(folder))

    @contextmanager
    def open_input(self, path: str) -> Iterator[BinaryIO]:
        """Open `path` for reading.

        Raises:
            LakeError: If it is not there.
        """
        try:
            with self.fs.open_input_file(self.full(path)) as stream:
                yield cast("BinaryIO", stream)
        except FileNotFoundError as error:
            raise LakeError(
                f"{path} is missing from the lake {self.uri}; restore it from a backup"
            ) from error

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes at `path`.

        Raises:
            LakeError: If it is not there.
        """
        with self.open_input(path) as stream:
            return stream.read()

    def hash_of(self, path: str) -> str:
        """Read `path` whole and return the BLAKE3 hash of its bytes."""
        hasher = blake3()
        with self.open_input(path) as stream:
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
        return hasher.hexdigest()

    def size_of(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such file."""
        info = self.fs.get_file_info(self.full(path))
        return cast("int", info.size) if info.type == pafs.FileType.File else None

    def exists(self, path: str) -> bool:
        """Say whether there is a file at `path`."""
        return self.size_of(path) is not None

    def files(self, folder: str) -> Iterator[Entry]:
        """Yield every file below `folder`, in no particular order; nothing if there is no such folder."""
        selector = pafs.FileSelector(self.full(folder), recursive=True, allow_not_found=True)
        start = len(self.root) + 1
        for info in self.fs.get_file_info(selector):
            if info.type == pafs.FileType.File:
                yield Entry(info.path[start:], info.size, info.mtime)

    def delete(self, path: str) -> None:
        """Delete the file at `path`, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.delete_file(self.full(path))

    def delete_folder(self, folder: str) -> None:
        """Delete everything below `folder`, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.delete_dir(self.full(folder))

    def location(self, path: str) -> str:
        """Return where `path` is for the world outside: an absolute local path or a URI."""
        return self.full(path) if self.local else f"{self.uri.partition('?')[0].rstrip('/')}/{path}"

    def dataset(self, paths: list[str], schema: pa.Schema | None = None) -> "ds.Dataset":
        """Return Parquet files of the lake as one lazily scanned dataset under `schema`."""
        # It imports pandas, which takes longer than all else that the store needs.
        import pyarrow.dataset as ds

        return ds.dataset(
            [self.full(path) for path in paths], schema=schema, format="parquet", filesystem=self.fs
        )


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _row_groups(data: pa.Table | pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Cut rows into groups of equal size, each in one piece: Parquet bytes depend on how columns are cut."""
    if isinstance(data, pa.Table):
        for start in range(0, data.num_rows, ROWS_PER_GROUP):
            yield data.slice(start, ROWS_PER_GROUP).combine_chunks()
        return
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in data:
        rest = batch
        while count + rest.num_rows >= ROWS_PER_GROUP:
            taken = ROWS_PER_GROUP - count
            waiting.append(rest.slice(0, taken))
            yield pa.Table.from_batches(waiting, data.schema).combine_chunks()
            waiting, count, rest = [], 0, rest.slice(taken)
        if rest.num_rows:
            waiting.append(rest)
            count += rest.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting, data.schema).combine_chunks()
