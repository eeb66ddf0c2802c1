"""Archives and compressed files: what is in them is read as what it is, one member at a time.

Nothing is ever written under a name that an archive gives: a member is unpacked to a file of ours, read, and removed
before the next. What it costs is bounded before it is paid: how much is unpacked, how many times the size of the
archive that is, how many members there are, how deep archives lie in archives.
"""

import bz2
import errno
import gzip
import lzma
import re
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Protocol, Self, cast
from uuid import uuid4

import pyarrow as pa

from mlassets.ingestion.errors import EmptyFile, TruncatedFile, UnknownFormat, UnreadableFile, UnsafeArchive
from mlassets.ingestion.formats import Tables, read, suffix_of
from mlassets.ingestion.landing import reason_to_ignore
from mlassets.ingestion.options import ReadOptions

DEEPEST = 3
"""Archives may lie in archives that lie in an archive; compressing a file counts as one."""

MOST_MEMBERS = 100_000
LARGEST_RATIO = 1_000
"""What unpacks to more than this many times its size is made to do harm, once it is as large as `RATIO_FROM`."""

RATIO_FROM = 100 * 2**20
LARGEST_DIRECTORY = 64 * 2**20
"""Bytes of a ZIP's list of members, which is held in memory."""

LARGEST_HEADER = 2**20
"""Bytes of a long name, or of other things said of a member, in a TAR."""

_CHUNK = 2**20
_LAND_AGAIN = (
    "Land it again; if it was still being written, land it under another name and rename it when done"
)
_COMPRESSED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TAR_NAMES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
_NAMES = (".zip", *_TAR_NAMES, ".gz", ".bz2", ".xz", ".zst")
_NOT_MEANT = ("__macosx", "thumbs.db", "desktop.ini")
_TAR_HEADER = 512
_LOCAL_HEADER = 30
_LONGEST_END = 2**16 + 22 + 20
_ENCRYPTED = 0x1
_UTF8 = 0x800


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Member:
    """A file in an archive, unpacked for as long as it is looked at.

    Attributes:
        name: Its path in the archive, through the archives within; empty for the one file that was compressed.
        file: The name by which its format is known: that of what was compressed, without `.gz` and the like.
        path: Where it is unpacked.
    """

    name: str
    file: str
    path: Path

    def called(self, archive: str) -> str:
        """Return what errors call it; its suffix decides only where its own name has none that is known."""
        full = f"{archive}/{self.name}" if self.name else archive
        if suffix_of(self.file) is not None:
            return full
        return self.file if not self.name else f"{archive}/{self.file}"

    def options(self, given: ReadOptions) -> ReadOptions:
        """Return how it is to be read, if its archive is to be read in this way."""
        suffix = suffix_of(self.file)
        return replace(given, format=suffix.removeprefix(".") if suffix else None)


@dataclass(frozen=True)
class Ignored:
    """A member that is not meant to be read, such as the hidden files that some systems add."""

    name: str
    reason: str


def read_archive(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read every member by its own format; a single one that cannot be read makes the archive unreadable."""
    taken = 0
    ignored: list[Ignored] = []
    for member in members(source, name, options):
        if isinstance(member, Ignored):
            ignored.append(member)
            continue
        where = tables.under(member.name) if member.name else tables
        if options.tables is not None and suffix_of(member.file) is None and not where.wants():
            continue
        try:
            read(member.path, member.called(name), member.options(options), where)
        except EmptyFile as error:
            tables.note(f"{member.name or member.file} was left out: {error.reason}")
            continue
        except UnknownFormat as error:
            fix = f"{error.fix}; or name what is to be taken of the archive with `tables`"
            raise UnknownFormat(error.file, error.reason, fix) from error
        taken += 1
    if ignored:
        shown = ", ".join(f"{one.name} ({one.reason})" for one in ignored[:5])
        more = f" and {len(ignored) - 5:,} more" if len(ignored) > 5 else ""
        tables.note(f"not meant to be read: {shown}{more}")
    if not taken:
        raise EmptyFile(name, "the archive holds no file that is meant to be read", _LAND_AGAIN)
    return {"members": taken}


def is_archive(name: str) -> bool:
    """Say whether a name is that of an archive or of a compressed file."""
    return name.lower().endswith(_NAMES)


def members(source: Path, name: str, options: ReadOptions | None = None) -> Iterator[Member | Ignored]:
    """Unpack the files of an archive one after the other, those of archives within it too.

    Args:
        source: The archive.
        name: The name it landed under, for errors.
        options: Says how much it may unpack to.

    Yields:
        Each member, whose file is gone when the next is asked for.

    Raises:
        UnsafeArchive: If it would do harm: unpack to too much, or reach out of where it is unpacked.
        UnreadableFile: If it is cut off, damaged, or protected by a password.
    """
    budget = _Budget(name, source.stat().st_size, (options or ReadOptions()).unpacked)
    with tempfile.TemporaryDirectory(prefix="mlassets-archive-") as folder:
        yield from _members(source, "", 1, budget, Path(folder))


class _Budget:
    """How much may still be unpacked of a landed file, through all archives within it."""

    def __init__(self, name: str, size: int, most: int) -> None:
        self.name, self.size, self.most = name, size, most
        self.spent = self.members = 0
        self.names: dict[str, str] = {}

    def check(self, unpacked: int) -> None:
        """Refuse an archive that unpacks to so many bytes."""
        if unpacked > self.most:
            fix = "If it is what it should be, say how much it may unpack to with `unpacked`, or land it in parts"
            raise UnsafeArchive(self.name, f"it unpacks to more than {self.most:,} bytes", fix)
        if unpacked > RATIO_FROM and unpacked > self.size * LARGEST_RATIO:
            reason = f"its {self.size:,} bytes unpack to more than {LARGEST_RATIO:,} times as many"
            raise UnsafeArchive(self.name, reason, "If it is what it should be, land it unpacked")

    def spend(self, count: int) -> None:
        """Count bytes that were unpacked."""
        self.spent += count
        self.check(self.spent)

    def meet(self, member: str) -> None:
        """Count a member, and refuse a second one of the same name: on some disks one would replace the other."""
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise UnsafeArchive(self.name, f"it has more than {MOST_MEMBERS:,} members", "Land it in parts")
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", member).casefold())
        first = self.names.setdefault(key, member)
        if len(self.names) < self.members:
            pair = f"two members are named {first}"
            if first != member:
                pair = f"two members, {first} and {member}, have one name where case and accents are not told apart"
            raise UnsafeArchive(self.name, pair, "Give every member a name of its own")


class _Counted(RawIOBase):
    """A stream that pays for what is read from it, and tells of damage in words."""

    def __init__(self, stream: _Readable, name: str, budget: _Budget) -> None:
        self._stream, self._name, self._budget = stream, name, budget

    def read(self, size: int = -1) -> bytes:
        with _told(self._name):
            content = bytes(self._stream.read(size))
        self._budget.spend(len(content))
        return content

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()


def _members(
    source: Path, within: str, depth: int, budget: _Budget, folder: Path
) -> Iterator[Member | Ignored]:
    """Unpack what is in an archive; `within` is where that lies in the landed one, empty if it is that."""
    name = f"{budget.name}/{within}" if within else budget.name
    for inner, unpack in _entries(source, name, budget):
        # A file that was compressed alone has the name that it was compressed to.
        label = within if inner is None else f"{within}/{inner}" if within else inner
        file = label if inner is not None else _without_suffix(within or Path(budget.name).name)
        if inner is not None:
            budget.meet(label)
            if reason := _reason_to_ignore(label):
                yield Ignored(label, reason)
                continue
        target = folder / uuid4().hex
        try:
            with (
                _told(f"{name}/{inner}" if inner else name),
                unpack() as stream,
                target.open("xb") as unpacked,
            ):
                while chunk := stream.read(_CHUNK):
                    unpacked.write(chunk)
            if not _is_archive(target, file):
                yield Member(label, file, target)
            elif depth < DEEPEST:
                yield from _members(target, label, depth + 1, budget, folder)
            else:
                reason = f"archives lie in it more than {DEEPEST} deep: {label or file} is another one"
                raise UnsafeArchive(budget.name, reason, "Unpack it, and land what is in it")
        finally:
            target.unlink(missing_ok=True)


_Entries = Iterator[tuple[str | None, Callable[[], IO[bytes]]]]
"""Path of each member, None for the one file that was compressed alone, and how to read it."""


def _entries(source: Path, name: str, budget: _Budget) -> _Entries:
    with source.open("rb") as file:
        head = file.read(_TAR_HEADER)
    lower = name.lower()
    if head.startswith(_ZIP) or lower.endswith(".zip"):
        yield from _in_zip(source, name, budget)
        return
    compression = next((how for magic, how in _COMPRESSED.items() if head.startswith(magic)), None)
    if compression:
        with _opened(source, name, compression, budget) as stream:
            head = stream.read(_TAR_HEADER)
    if head[257:262] == b"ustar" or lower.endswith(_TAR_NAMES) or _without_suffix(lower).endswith(".tar"):
        yield from _in_tar(source, name, compression, budget)
    elif compression:
        yield None, lambda: _opened(source, name, compression, budget)
    else:
        raise UnknownFormat(
            name, "its name is that of an archive, its first bytes are of none that is known", _LAND_AGAIN
        )


def _is_archive(path: Path, file: str) -> bool:
    """Say whether a member is an archive: by its name, or by its bytes where that tells nothing."""
    if is_archive(file):
        return True
    if suffix_of(file) is not None:
        return False
    with path.open("rb") as stream:
        head = stream.read(_TAR_HEADER)
    return head.startswith((*_ZIP, *_COMPRESSED)) or head[257:262] == b"ustar"


def _opened(source: Path, name: str, compression: str, budget: _Budget) -> IO[bytes]:
    with _told(name):
        if compression == "gz":
            stream: _Readable = gzip.GzipFile(source)
        elif compression == "bz2":
            stream = bz2.BZ2File(source)
        elif compression == "xz":
            stream = lzma.LZMAFile(source)  # noqa: SIM115  (it is closed by what counts it)
        else:
            stream = pa.CompressedInputStream(pa.OSFile(str(source), "rb"), "zstd")
    return cast("IO[bytes]", _Counted(stream, name, budget))


def _in_zip(source: Path, name: str, budget: _Budget) -> _Entries:
    with open_zip(source, name) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        budget.check(budget.spent + sum(info.file_size for info in infos))
        for info in infos:
            inner = _inner_name(_zip_name(info), budget.name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise _unsafe(budget.name, inner, "is a link")
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(budget.name, inner, "is a device or the like, not a file")

            def unpack(info: zipfile.ZipInfo = info, inner: str = inner) -> IO[bytes]:
                with _told(f"{name}/{inner}"):
                    stream = archive.open(info)
                return cast("IO[bytes]", _Counted(stream, f"{name}/{inner}", budget))

            yield inner, unpack


def _in_tar(source: Path, name: str, compression: str | None, budget: _Budget) -> _Entries:
    with ExitStack() as opened:
        if compression:
            stream = opened.enter_context(_opened(source, name, compression, budget))
        else:
            stream = cast("IO[bytes]", _Counted(opened.enter_context(source.open("rb")), name, budget))
        with _told(name):
            archive = opened.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header))
        while True:
            with _told(name):
                info = archive.next()
            if info is None:
                # What is compressed ends with a sum of all that was: only now is it known to be whole.
                while stream.read(_CHUNK):
                    pass
                return
            # It remembers every member otherwise.
            cast("Any", archive).members = []
            inner = _inner_name(info.name, budget.name)
            if info.isdir():
                continue
            if info.issym() or info.islnk():
                raise _unsafe(budget.name, inner, "is a link")
            if not info.isreg():
                raise _unsafe(budget.name, inner, "is a device or the like, not a file")
            if info.issparse():
                # Its holes are in no stream that is counted.
                budget.spend(info.size)

            def unpack(info: tarfile.TarInfo = info, inner: str = inner) -> IO[bytes]:
                with _told(f"{name}/{inner}"):
                    return cast("IO[bytes]", archive.extractfile(info))

            yield inner, unpack


class _Header(tarfile.TarInfo):
    """A header that tells where a TAR is cut off or damaged, which else looks like its end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf) and len(buf) == tarfile.BLOCKSIZE:
                raise
            raise tarfile.ReadError(f"{error} where the next member or the end should be") from error
        if header.type in _SAYINGS and not 0 <= header.size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"{header.size:,} bytes are said of one member")
        return header


_SAYINGS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip


@contextmanager
def open_zip(source: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP, unless its list of members is not to be trusted.

    Raises:
        UnsafeArchive: If members overlap, or the list is as long as no honest one.
        UnreadableFile: If it is cut off, damaged, or protected by a password.
    """
    with ExitStack() as opened:
        with _told(name):
            _check_directory(source, name)
            archive = opened.enter_context(zipfile.ZipFile(source))
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        end = 0
        for info in infos:
            if info.header_offset < end:
                reason = (
                    f"its member {_shown(info.filename)} lies within another, as in what is made to do harm"
                )
                raise UnsafeArchive(name, reason, "Pack the files again, and land that")
            end = info.header_offset + _LOCAL_HEADER + len(info.orig_filename) + info.compress_size
        for info in infos:
            if info.flag_bits & _ENCRYPTED:
                reason = f"its member {_shown(info.filename)} is protected by a password"
                raise UnreadableFile(name, reason, "Pack it without a password and land it again")
        yield archive


def check_office(source: Path, name: str, *, largest: int, total: int = 2**30) -> None:
    """Refuse an Office document (docx, xlsx, ods: a ZIP) that a library would not read in bounded memory.

    Args:
        source: The document.
        name: The name it landed under.
        largest: Most bytes that a single part of it may have.
        total: Most bytes that all parts may have.

    Raises:
        UnsafeArchive: If there is more in it, or it is a ZIP that is not to be trusted.
        UnreadableFile: If it is cut off, damaged, or protected by a password.
    """
    with source.open("rb") as file:
        if file.read(len(_OLE)) == _OLE:
            reason = "it is protected by a password, or of a format older than its name says"
            raise UnreadableFile(name, reason, "Open it, save it without a password, and land that")
    with open_zip(source, name) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    part = max(sizes, key=lambda one: sizes[one], default="")
    if part and (sizes[part] > largest or sum(sizes.values()) > total):
        reason = f"it unpacks to {sum(sizes.values()):,} bytes, of which {_shown(part)} has {sizes[part]:,}"
        fix = f"Land it in parts of at most {largest:,} bytes each"
        raise UnsafeArchive(name, f"{reason}, and is held in memory", fix)


def _check_directory(source: Path, name: str) -> None:
    """Refuse a ZIP whose list of members would fill the memory; `zipfile` reads it whole."""
    size = source.stat().st_size
    with source.open("rb") as file:
        file.seek(max(0, size - _LONGEST_END))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            return
        (directory,) = struct.unpack_from("<I", tail, at + 12)
        locator = tail.rfind(b"PK\x06\x07", 0, at)
        if directory == 0xFFFFFFFF and locator >= 0 and len(tail) >= locator + 20:
            (end,) = struct.unpack_from("<Q", tail, locator + 8)
            if end + 56 <= size:
                file.seek(end)
                (directory,) = struct.unpack_from("<Q", file.read(56), 40)
    if directory > LARGEST_DIRECTORY and directory <= size:
        reason = f"the list of its members alone has {directory:,} bytes"
        raise UnsafeArchive(name, reason, "Land it in parts")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member; some programs write UTF-8 without saying so."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.orig_filename


def _inner_name(given: str, archive: str) -> str:
    """Return the path of a member within its archive; refuse one that leads out of it."""
    path = given.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise _unsafe(archive, _shown(given), "has an absolute path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _unsafe(archive, _shown(given), "has a path that leads out of the archive")
    return _shown("/".join(parts))


def _shown(name: str) -> str:
    """Return a name that can be printed and kept: control characters and what is no text as numbers."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(one if one.isprintable() or one == " " else ascii(one)[1:-1] for one in text)


def _unsafe(archive: str, member: str, what: str) -> UnsafeArchive:
    fix = "Pack the files themselves, under plain names, and land the archive again"
    return UnsafeArchive(archive, f"its member {member} {what}", fix)


def _reason_to_ignore(label: str) -> str | None:
    if any(part.casefold() in _NOT_MEANT for part in label.split("/")):
        return "a file of the system's own"
    return reason_to_ignore(label)


def _without_suffix(name: str) -> str:
    return name.rsplit(".", 1)[0] if name.lower().endswith(_NAMES) else name


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in words what the libraries raise for bytes that are damaged."""
    try:
        yield
    except UnreadableFile:
        raise
    except NotImplementedError as error:
        fix = "Pack it with an ordinary method (deflate), and land it again"
        raise UnreadableFile(name, f"it is packed in a way that cannot be read ({error})", fix) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            # The disk's fault, not the file's.
            raise
        text = " ".join(str(error).split())[:200]
        raise TruncatedFile(name, f"the archive is cut off or damaged ({text})", _LAND_AGAIN) from error


_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, pa.ArrowException, struct.error, EOFError,
    OSError, ValueError, OverflowError, IndexError, KeyError, TypeError, RuntimeError,
)  # fmt: skip
