"""Where bytes live: one interface for a local folder (here) and an S3 prefix (`resources.s3`).

A file is written once, under a name that no other writer has, and hashed while it is written. Only `put_bytes`
and `put_all` are atomic, which is what makes a manifest a commit; what the `write_` methods leave behind after a
crash has no manifest and is therefore not visible.
"""

import json
import os
import re
import shutil
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, unquote
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
_SYNCS_AT_ONCE = 16
_SYNCS_IN_TURN = 8
_LONGEST_NAME = 200
_HASH_LENGTH = 16


class LakeError(MlassetsError):
    """Something in the lake cannot be read or written."""


class NotInLake(LakeError):
    """There is no such file in the lake."""


class NameTaken(LakeError):
    """A name that is claimed once holds other bytes already."""


class UnknownLake(LakeError):
    """The settings name no lake of this name."""


class LakeUnreachable(LakeError):
    """The storage does not answer, or refuses us; what is stored there is not in question."""


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
class Retention:
    """Until when nobody may delete or replace a file; without exception if it is a matter of compliance."""

    until: datetime
    compliance: bool = False


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


def is_inside(path: str) -> bool:
    """Say whether a relative path stays below where it begins."""
    return bool(path) and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))


def hash_bytes(data: bytes) -> str:
    """Return the BLAKE3 hash of `data` in hexadecimal."""
    return blake3(data).hexdigest()


class _Sink(Protocol):
    def write(self, data: Any, /) -> Any: ...


def not_given_back(type_: pa.DataType, *, inside: bool = False) -> str | None:
    """Return what Parquet cannot give back in a type, however deep it lies, and what to do; None if it can."""
    if pa.types.is_dictionary(type_) and not is_text(type_.value_type):
        return (
            f"a dictionary of {type_.value_type}, and Parquet gives back dictionaries of text only; decode it with "
            "`dictionary_decode`"
        )
    if inside and (pa.types.is_string_view(type_) or pa.types.is_binary_view(type_)):
        return f"{type_} within another type, which Parquet cannot write; cast it to string or binary"
    if isinstance(type_, pa.BaseExtensionType):
        return not_given_back(type_.storage_type, inside=inside)
    inner = [type_.key_type, type_.item_type] if pa.types.is_map(type_) else []
    inner = inner or [type_.field(number).type for number in range(type_.num_fields)]
    return next((trouble for one in inner if (trouble := not_given_back(one, inside=True))), None)


def is_text(type_: pa.DataType) -> bool:
    """Say whether a type is one of text, whatever its offsets are."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


class HashingFile:
    """A writable file that hashes what passes through it, so that nothing is read a second time."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._hasher = blake3()
        self.size = 0
        self.closed = False
        self.discarded = False

    def write(self, data: Any) -> int:
        """Pass bytes on."""
        size = memoryview(data).nbytes
        self._hasher.update(data)
        self._sink.write(data)
        self.size += size
        return size

    def flush(self) -> None:
        """Leave flushing to the end: Parquet never reads back what it wrote."""

    def close(self) -> None:
        """Count as closed; whoever opened the sink closes it."""
        self.closed = True

    def hexdigest(self) -> str:
        """Return the hash of what has passed so far."""
        return self._hasher.hexdigest()


class Lake(ABC):
    """A local folder or an object-store prefix that holds everything a Thing is made of; `open_lake` opens one.

    Paths are relative to the lake, with `/` between their parts. A path that would leave the lake is refused.

    Attributes:
        uri: Where it is, as the settings name it.
        fs: The file system that scans go through.
        root: The lake's own path within `fs`.
        names: Where the lakes are that the settings name: no other one is ever opened from here.
    """

    def __init__(self, uri: str, fs: pafs.FileSystem, root: str) -> None:
        self.uri = uri
        self.fs = fs
        self.root = root.rstrip("/")
        self.names: Mapping[str, str] = {}
        self._open_other: Callable[[str], Lake] = open_lake
        self._others: dict[str, Lake] = {}

    @property
    def name(self) -> str:
        """What addresses call it: its name in the settings, else where it is, percent-encoded."""
        named = next((name for name, uri in self.names.items() if uri == self.uri), None)
        return named or quote(self.uri, safe="")

    def named(self, name: str) -> "Lake":
        """Return another lake by its name in the settings, or by where the settings say that one is.

        Raises:
            UnknownLake: If the settings name no such lake.
        """
        if name in (self.name, self.uri):
            return self
        known = {**self.names, **{uri: uri for uri in self.names.values()}}
        if name not in known:
            raise UnknownLake(
                f"{name!r} is no lake that the settings name; they name {', '.join(self.names) or 'none'}. Put it into "
                f'MLASSETS_LAKES, a JSON object of names and locations: {{{json.dumps(name)}: "s3://bucket/prefix"}}'
            )
        return self.at(known[name])

    def at(self, uri: str) -> "Lake":
        """Return the lake at any location, opened as this one was.

        Raises:
            LakeError: If it is of no kind that is supported.
        """
        if uri not in self._others:
            self._others[uri] = self._open_other(uri)
        return self._others[uri]

    def full(self, path: str) -> str:
        """Return `path` as the file system knows it.

        Raises:
            LakeError: If `path` is absolute or climbs out of the lake.
        """
        if not is_inside(path):
            raise LakeError(
                f"{path!r} is no path inside the lake {self.uri}; the manifest that names it is damaged"
            )
        return f"{self.root}/{path}"

    @property
    @abstractmethod
    def local(self) -> bool:
        """Whether other programs on this machine reach the files by path."""

    @abstractmethod
    def _new_file(self, path: str) -> AbstractContextManager[HashingFile]:
        """Open a new file for writing; it is at `path` once the block has ended, unless it was discarded."""

    def put_bytes(self, path: str, data: bytes) -> Written:
        """Write `data` to `path` so that it is there whole or not at all, also after a power cut.

        Whatever this thread has written before survives a power cut, too, once the name is there. A name is
        claimed once: equal bytes under it are fine.

        Raises:
            NameTaken: If the name holds other bytes already.
            LakeError: If it cannot be written.
        """
        return self.put_all({path: data})[0]

    @abstractmethod
    def put_all(self, items: Mapping[str, bytes], retention: Retention | None = None) -> list[Written]:
        """Do as `put_bytes` for many names at once: each is there whole or not at all.

        Args:
            items: The bytes by path.
            retention: Locks each of them in the same breath, in a lake that can.

        Raises:
            NameTaken: If a name holds other bytes already; the others may have been written.
            LakeError: If one cannot be written; others may have been.
        """

    def write_bytes(self, path: str, data: bytes) -> Written:
        """Write `data` to `path`; a crash may leave a part of it, so a manifest may name it only afterwards."""
        with self._new_file(path) as sink:
            sink.write(data)
        return Written(path, sink.size, sink.hexdigest())

    def write_file(self, path: str, source: Path) -> Written:
        """Copy a local file to `path`, hashing it on the way; a crash may leave a part of it.

        Raises:
            LakeError: If `source` cannot be read.
        """
        with self._reading_local(source) as raw, self._new_file(path) as sink:
            while chunk := raw.read(_CHUNK):
                sink.write(chunk)
        return Written(path, sink.size, sink.hexdigest())

    @staticmethod
    def _reading_local(source: Path) -> IO[bytes]:
        try:
            return source.open("rb", buffering=0)
        except OSError as error:
            raise LakeError(f"{source} cannot be read: {error.strerror}") from error

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
        if isinstance(data, pa.Table) and data.num_rows and not data.num_columns and not data.schema.metadata:
            raise LakeError(f"{path}: {data.num_rows:,} rows and no columns; Parquet counts rows by column")
        for one in data.schema:
            if trouble := not_given_back(one.type):
                raise LakeError(f"{path}: column {one.name!r} holds {trouble}")
        rows = 0
        try:
            with self._new_file(path) as sink:
                with (
                    _gathered(sink, data) as target,
                    pq.ParquetWriter(target, data.schema, compression="zstd") as writer,
                ):
                    for group in _row_groups(data):
                        writer.write_table(group, row_group_size=ROWS_PER_GROUP)
                        rows += group.num_rows
                sink.discarded = sink.hexdigest() == unless
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise LakeError(f"{path} cannot be written as Parquet: {error}") from error
        return None if sink.discarded else Written(path, sink.size, sink.hexdigest(), rows)

    def copy_in(self, path: str, source: Path, content: str) -> bool:
        """Copy a local file to `path`, whole or not at all, if its hash is `content`, and say whether it is.

        What is at `path` is replaced, which nobody notices who reads what has this hash.

        Raises:
            LakeError: If `source` cannot be read, or `path` not be written.
        """
        with self._reading_local(source) as raw, self._new_file(path) as sink:
            while chunk := raw.read(_CHUNK):
                sink.write(chunk)
            sink.discarded = sink.hexdigest() != content
        return not sink.discarded

    @abstractmethod
    def lock(self, paths: Collection[str], retention: Retention) -> None:
        """Let nobody delete or replace what is at some paths now; what is locked for longer stays so.

        Raises:
            NotInLake: If there is nothing at one of them.
            LakeError: If this lake cannot lock.
        """

    @abstractmethod
    def keep(self, path: str) -> None:
        """Let a file that is there already survive a power cut, too, once the next name is claimed."""

    @abstractmethod
    def read_bytes(self, path: str) -> bytes:
        """Return the bytes at `path`.

        Raises:
            NotInLake: If it is not there.
            LakeError: If it cannot be read.
        """

    @abstractmethod
    def hash_of(self, path: str) -> str:
        """Read `path` whole and return the BLAKE3 hash of its bytes.

        Raises:
            NotInLake: If it is not there.
            LakeError: If it cannot be read.
        """

    @abstractmethod
    def fetch(self, path: str, target: Path) -> str:
        """Copy the file at `path` to one on this machine's disk and return the BLAKE3 hash of its bytes.

        Raises:
            NotInLake: If it is not there.
            LakeError: If it cannot be read, or the copy cannot be written.
        """

    @abstractmethod
    def size_of(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such file."""

    def sizes_of(self, paths: Sequence[str]) -> list[int | None]:
        """Return the size of every path as `size_of` does."""
        return [self.size_of(path) for path in paths]

    def exists(self, path: str) -> bool:
        """Say whether there is a file at `path`."""
        return self.size_of(path) is not None

    @abstractmethod
    def files(self, folder: str) -> Iterator[Entry]:
        """Yield every file below `folder`, in no particular order; nothing if there is no such folder."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete the file at `path`, if it is there."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Delete everything below `folder`, if it is there."""

    def unfinished(self, before: datetime) -> list[str]:
        """Give up uploads that were begun before a time and never finished, and return their names."""
        return []

    def clock_skew(self) -> float:
        """Return by how many seconds the storage's clock is ahead of this machine's; 0 where it is the same."""
        return 0.0

    @abstractmethod
    def location(self, path: str) -> str:
        """Return where `path` is for the world outside: an absolute local path or a URI."""

    def dataset(self, paths: list[str], schema: pa.Schema | None = None) -> "ds.Dataset":
        """Return Parquet files of the lake as one lazily scanned dataset under `schema`.

        Raises:
            LakeError: If the schema has to be read from a file, and it cannot be read.
        """
        # It imports pandas, which takes longer than all else that the store needs.
        import pyarrow.dataset as ds

        full = [self.full(path) for path in paths]
        with self.scanning(", ".join(paths)):
            return ds.dataset(full, schema=schema, format="parquet", filesystem=self.fs)

    @contextmanager
    def scanning(self, what: str) -> Iterator[None]:
        """Turn what a scan raises about the storage itself, as opposed to the bytes there, into a LakeError.

        Raises:
            NotInLake: If a file is not there.
            LakeUnreachable: If the storage does not answer, or not to us.
        """
        try:
            yield
        except FileNotFoundError as error:
            raise self._missing(what) from error

    def _missing(self, path: str) -> "NotInLake":
        return NotInLake(f"{path} is missing from the lake {self.uri}; restore it from a backup")


def open_lake(
    uri: str,
    *,
    endpoint: str | None = None,
    patience: float = 30.0,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Lake:
    """Open the lake at an absolute local folder, or at a URI such as `s3://bucket/prefix`.

    Args:
        uri: Where it is.
        endpoint: Address of an S3 server other than Amazon's; by default as the AWS variables say.
        patience: Seconds for which a server that does not answer is asked again.
        names: Where other lakes are that may be read from this one, by name.

    Raises:
        LakeError: If the URI is of no kind that is supported.
    """
    lake = _opened(uri, endpoint, patience)
    lake.names = names
    lake._open_other = partial(open_lake, endpoint=endpoint, patience=patience, names=names)
    return lake


def _opened(uri: str, endpoint: str | None, patience: float) -> Lake:
    scheme, found, rest = uri.partition("://")
    if found and scheme == "s3":
        from resources.s3 import Bucket

        return Bucket(uri, endpoint=endpoint, patience=patience)
    path = (unquote(rest) if scheme == "file" else "") if found else uri
    if not path.startswith("/"):
        raise LakeError(
            f"the lake {uri!r} cannot be opened: it is neither an absolute folder nor s3://bucket/prefix. "
            "Set MLASSETS_LAKE to one of these"
        )
    return Folder(path)


class Folder(Lake):
    """A lake in a local folder."""

    def __init__(self, path: str) -> None:
        """Open the lake in a folder, which need not exist yet."""
        super().__init__(path, pafs.LocalFileSystem(), path)
        # What a thread has written and not yet brought safely to the disk. A commit happens in one thread.
        self._thread = threading.local()

    @property
    def local(self) -> bool:
        """A folder is reached by path."""
        return True

    @property
    def _pending(self) -> "_Unsynced":
        if not hasattr(self._thread, "unsynced"):
            self._thread.unsynced = _Unsynced()
        return cast("_Unsynced", self._thread.unsynced)

    @contextmanager
    def _new_file(self, path: str, shown: str | None = None) -> Iterator[HashingFile]:
        full = self.full(path)
        with self._writing(shown or path):
            self._make_folder(full)
            self._pending.files.add(full)
            self._pending.folders.add(_folder_of(full))
            with open(full, "xb", buffering=_CHUNK) as raw:  # noqa: PTH123
                reached("file created")
                sink = HashingFile(raw)
                yield sink
            reached("file written")
            if sink.discarded:
                self.delete(path)

    @contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LakeError(
                f"{path} cannot be written to the lake {self.uri}: {error.strerror or error}. "
                "Check the free space and the permissions there"
            ) from error

    def _make_folder(self, full: str) -> None:
        folder = _folder_of(full)
        made = []
        while not os.path.isdir(folder):  # noqa: PTH112
            made.append(folder)
            folder = _folder_of(folder)
        for new in reversed(made):
            Path(new).mkdir(exist_ok=True)
            self._pending.folders.add(_folder_of(new))

    def lock(self, paths: Collection[str], retention: Retention) -> None:
        """Refuse: a folder's owner may delete whatever is in it."""
        raise LakeError(
            f"{self.uri} is a folder, and files in a folder cannot be locked. Unset MLASSETS_LOCK_RELEASES, or keep "
            "the lake in an S3 bucket that has Object Lock"
        )

    def put_all(self, items: Mapping[str, bytes], retention: Retention | None = None) -> list[Written]:
        """Stage all, bring everything safely to the disk at once, and only then give the names."""
        staged: dict[str, str] = {}
        written = []
        try:
            for path, data in items.items():
                self.full(path)
                staged[path] = f"tmp/{uuid4().hex}"
                with self._new_file(staged[path], path) as sink:
                    sink.write(data)
                written.append(Written(path, sink.size, sink.hexdigest()))
            for path in items:
                with self._writing(path):
                    self._make_folder(self.full(path))
            # These hold the new names: they are brought to the disk once they do. What is staged needs no name there.
            holding = {_folder_of(self.full(path)) for path in items}
            folders = self._pending.folders - {self.full("tmp")}
            within = {one for one in folders - holding if _is_below(one, holding)}
            reached("before sync")
            with self._writing(", ".join(items)):
                _sync_all(self._pending.files | within)
            reached("files synced")
            for path, temporary in staged.items():
                with self._writing(path):
                    self._claim(self.full(temporary), path)
            reached("after rename")
            with self._writing(", ".join(items)):
                _sync_all((folders - within) | holding)
            self._pending.clear()
        except BaseException:
            for temporary in staged.values():
                self.delete(temporary)
            # What was to be named with these will not be.
            self._pending.clear()
            raise
        return written

    def copy_in(self, path: str, source: Path, content: str) -> bool:
        """Stage the copy, and give it its name once it is whole."""
        staged = f"tmp/{uuid4().hex}"
        try:
            if not super().copy_in(staged, source, content):
                return False
            with self._writing(path):
                self._make_folder(self.full(path))
                os.replace(self.full(staged), self.full(path))  # noqa: PTH105
        except BaseException:
            self.delete(staged)
            raise
        self._pending.files.discard(self.full(staged))
        self.keep(path)
        return True

    def keep(self, path: str) -> None:
        """Bring it safely to the disk with the next name."""
        self._pending.files.add(self.full(path))
        self._pending.folders.add(_folder_of(self.full(path)))

    def _claim(self, staged: str, path: str) -> None:
        """Give a staged file its name, unless other bytes have it."""
        full = self.full(path)
        reached("before rename")
        try:
            os.link(staged, full)
        except FileExistsError:
            if Path(full).read_bytes() != Path(staged).read_bytes():
                raise NameTaken(
                    f"{path} is taken in the lake {self.uri}, and what is there differs"
                ) from None
        except OSError:
            # Some file systems have no hard links; there, the last of two writers at the same moment wins.
            if os.path.exists(full):  # noqa: PTH110
                raise
            os.replace(staged, full)  # noqa: PTH105
            return
        reached("linked")
        os.unlink(staged)  # noqa: PTH108

    @contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        full = self.full(path)
        with self._reading(path), open(full, "rb", buffering=0) as raw:  # noqa: PTH123
            yield raw

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._missing(path) from error
        except OSError as error:
            raise LakeError(
                f"{path} cannot be read from the lake {self.uri}: {error.strerror or error}. "
                "Check the permissions and the disk there"
            ) from error

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes at `path`."""
        with self._open(path) as raw:
            return raw.read()

    def hash_of(self, path: str) -> str:
        """Read `path` whole and return the BLAKE3 hash of its bytes."""
        hasher = blake3()
        with self._open(path) as raw:
            while chunk := raw.read(_CHUNK):
                hasher.update(chunk)
        return hasher.hexdigest()

    def fetch(self, path: str, target: Path) -> str:
        """Copy the file at `path` to one on this machine's disk and return the BLAKE3 hash of its bytes."""
        with self._open(path) as raw, target.open("wb", buffering=_CHUNK) as copy:
            sink = HashingFile(copy)
            while chunk := raw.read(_CHUNK):
                sink.write(chunk)
        return sink.hexdigest()

    def size_of(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such file."""
        try:
            state = os.stat(self.full(path))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def files(self, folder: str) -> Iterator[Entry]:
        """Yield every file below `folder`; what another process deletes meanwhile is left out."""
        start = len(self.root) + 1
        waiting = [self.full(folder)]
        while waiting:
            path = waiting.pop()
            found = []
            with suppress(NotInLake), self._reading(path[start:]):
                for entry in list(os.scandir(path)):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    with suppress(FileNotFoundError):
                        state = entry.stat()
                        changed = datetime.fromtimestamp(state.st_mtime, UTC)
                        found.append(Entry(entry.path[start:], state.st_size, changed))
            yield from found

    def delete(self, path: str) -> None:
        """Delete the file at `path`, if it is there."""
        full = self.full(path)
        self._pending.files.discard(full)
        with suppress(FileNotFoundError):
            os.unlink(full)  # noqa: PTH108

    def delete_folder(self, folder: str) -> None:
        """Delete everything below `folder`, if it is there."""
        full = self.full(folder)
        self._pending.forget(full)
        with suppress(FileNotFoundError):
            shutil.rmtree(full)

    def clock_skew(self) -> float:
        """Return by how many seconds the clock of what holds the folder is ahead, which may be a file server's."""
        probe = f"tmp/{uuid4().hex}"
        with self._writing(probe):
            self._make_folder(self.full(probe))
            Path(self.full(probe)).touch()
        try:
            return os.stat(self.full(probe)).st_mtime - time.time()  # noqa: PTH116
        finally:
            self.delete(probe)

    def location(self, path: str) -> str:
        """Return the absolute path of a file."""
        return self.full(path)


@dataclass
class _Unsynced:
    """Files and folders that are not safely on the disk yet."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def forget(self, folder: str) -> None:
        """Leave out what is in a folder, and the folder itself."""
        for paths in (self.files, self.folders):
            paths.difference_update([one for one in paths if f"{one}/".startswith(f"{folder}/")])

    def clear(self) -> None:
        self.files.clear()
        self.folders.clear()


def _folder_of(full: str) -> str:
    return full.rpartition("/")[0] or "/"


def _is_below(full: str, folders: Collection[str]) -> bool:
    while (full := _folder_of(full)) != "/":
        if full in folders:
            return True
    return False


def _sync(path: str) -> None:
    """Bring one file or folder safely to the disk; what is gone again needs no more."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_all(paths: Collection[str]) -> None:
    """Bring files and folders safely to the disk; many of them side by side, to share writes of the journal."""
    if len(paths) <= _SYNCS_IN_TURN:
        for path in sorted(paths):
            _sync(path)
        return
    # To the end, also if one fails: no thread may still be at a file that is then deleted.
    outcomes = [_syncing_threads(os.getpid()).submit(_sync, path) for path in paths]
    for outcome in wait(outcomes).done:
        outcome.result()


@lru_cache(maxsize=1)
def _syncing_threads(_process: int) -> ThreadPoolExecutor:
    """Return the threads that bring files to the disk; a forked child needs its own."""
    return ThreadPoolExecutor(_SYNCS_AT_ONCE, thread_name_prefix="mlassets-sync")


@contextmanager
def _gathered(sink: HashingFile, data: pa.Table | pa.RecordBatchReader) -> Iterator[Any]:
    """Give what Parquet is written to; a small table passes as one piece, as each piece costs a call into Python."""
    if not isinstance(data, pa.Table) or data.nbytes > _CHUNK:
        yield sink
        return
    gathered = pa.BufferOutputStream()
    yield gathered
    sink.write(gathered.getvalue())


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
