"""What lies in the landing zone, which of it may be taken, and notes on what could not be.

Everything that decides is a pure function of listings, so that a sensor only fetches and remembers. A landing zone
is a `pyarrow.fs.FileSystem` and a base path in it: a local folder, or a bucket with a prefix.
"""

import contextlib
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from uuid import uuid4

import pyarrow.fs as pafs
from blake3 import blake3

from mlassets.ingestion.errors import UnreadableFile

UNFINISHED_SUFFIXES = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")
_CHUNK = 4 * 2**20
_EXCERPT = 300
# A place further into a file than this is told by its number alone.
_LOOKED_THROUGH = 2**30


@dataclass(frozen=True, order=True)
class LandedFile:
    """A file in the landing zone.

    Attributes:
        name: Path under the base, with `/` between folders, whatever characters it has.
        size: Size in bytes.
        mtime_ns: Time of the last change, nanoseconds since 1970; 0 where the file system keeps none.
    """

    name: str
    size: int
    mtime_ns: int

    @property
    def stamp(self) -> str:
        """Size and time of change in one word: equal as long as nobody wrote to the file."""
        return f"{self.size}-{self.mtime_ns}"


@dataclass(frozen=True)
class Listing:
    """What a glob finds.

    Attributes:
        files: Files to consider, by name.
        ignored: Reason by name for those that are not meant to be taken.
    """

    files: tuple[LandedFile, ...]
    ignored: Mapping[str, str]


@dataclass(frozen=True)
class Settled:
    """A listing, divided by whether files may be taken.

    Attributes:
        ready: Files that nobody writes to any more.
        waiting: Files that may still be written to; look again.
    """

    ready: tuple[LandedFile, ...]
    waiting: tuple[LandedFile, ...]


def list_landing(glob: str, filesystem: pafs.FileSystem, base: str) -> Listing:
    """List the files under `base` that a source's glob matches.

    `*` and `?` stand for characters within one name, `**` for any number of folders. A missing folder holds nothing.

    Args:
        glob: Pattern relative to `base`, for instance `landing/flights/*`.
        filesystem: Where to look.
        base: The home: a folder, or a bucket with a prefix.
    """
    pattern = [part for part in glob.split("/") if part not in ("", ".")]
    fixed = 0
    while fixed < len(pattern) - 1 and not any(character in pattern[fixed] for character in "*?["):
        fixed += 1
    folder = "/".join([base.rstrip("/"), *pattern[:fixed]])
    deep = len(pattern) - fixed > 1 or "**" in pattern
    files: list[LandedFile] = []
    ignored: dict[str, str] = {}
    for path, size, mtime_ns, trouble in _walk(filesystem, folder, deep):
        name = path.removeprefix(base.rstrip("/") + "/")
        if not matches(name.split("/"), pattern) and not trouble:
            continue
        if reason := reason_to_ignore(name) or trouble:
            ignored[name.encode("utf-8", "backslashreplace").decode()] = reason
        else:
            files.append(LandedFile(name, size, mtime_ns))
    return Listing(tuple(sorted(files)), dict(sorted(ignored.items())))


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Say whether a path matches a glob, both cut at their slashes; upper and lower case differ."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def reason_to_ignore(name: str) -> str | None:
    """Return why a file is not meant to be taken (hidden, temporary), or None if it is."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden: its name, or its folder's, starts with a dot"
    if parts[-1].startswith("_"):
        return "a marker: its name starts with an underscore"
    for suffix in UNFINISHED_SUFFIXES:
        if parts[-1].lower().endswith(suffix):
            return f"temporary: its name ends with {suffix}; rename it when it is complete"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return None


def settled(
    previous: Iterable[LandedFile], listing: Listing, *, now_ns: int, quiet_seconds: float = 10
) -> Settled:
    """Divide a listing into files that may be taken and files that may still be written to.

    A file is ready when it is as it was at the last look, or when it has not changed for `quiet_seconds`. Without a
    time of change, only the first counts.

    Args:
        previous: Files of the last look.
        listing: What is there now.
        now_ns: The time now, nanoseconds since 1970.
        quiet_seconds: Seconds without a change after which a file counts as complete.
    """
    before = set(previous)

    def is_ready(file: LandedFile) -> bool:
        quiet = file.mtime_ns > 0 and now_ns - file.mtime_ns >= quiet_seconds * 1e9
        return quiet or file in before

    return Settled(
        tuple(file for file in listing.files if is_ready(file)),
        tuple(file for file in listing.files if not is_ready(file)),
    )


def fingerprint(filesystem: pafs.FileSystem, path: str) -> str:
    """Return the BLAKE3 hash of a file's bytes, in hexadecimal: equal bytes landed again are nothing new."""
    hasher = blake3()
    # Without this, Arrow would unpack a .gz as it reads, and raise where one is cut short.
    with filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return str(hasher.hexdigest())


# Path, size, time of change, and why it cannot be looked at.
_Seen = tuple[str, int, int, str | None]


def _walk(filesystem: pafs.FileSystem, folder: str, deep: bool) -> Iterable[_Seen]:
    if isinstance(filesystem, pafs.LocalFileSystem):
        # Arrow cannot list a folder in which a single name is not UTF-8.
        yield from _walk_local(folder, deep)
        return
    selector = pafs.FileSelector(folder, allow_not_found=True, recursive=deep)
    for info in filesystem.get_file_info(selector):
        if info.type == pafs.FileType.File:
            yield info.path, int(info.size), int(info.mtime_ns or 0), None


def _walk_local(folder: str, deep: bool) -> Iterable[_Seen]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield folder, 0, 0, f"the folder cannot be listed: {error.strerror}"
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        try:
            if entry.is_dir():
                # A link to a folder above would be walked for ever.
                if deep and not entry.is_symlink():
                    yield from _walk_local(path, deep)
            elif entry.is_file():
                state = entry.stat()
                yield path, state.st_size, state.st_mtime_ns, None
            elif entry.is_symlink():
                yield path, 0, 0, "it is a link to nothing"
            elif os.path.lexists(path):
                yield path, 0, 0, "it is no file: a pipe, a socket or a device"
        except FileNotFoundError:
            # It went between the listing and the look at it.
            continue
        except OSError as error:
            yield path, 0, 0, f"it cannot be looked at: {error.strerror}"


@dataclass(frozen=True)
class QuarantineNote:
    """Why a landed file was not taken, or not all of it; the file itself stays where it is.

    Attributes:
        source: The source whose glob found it.
        file: The file as it was when it was refused: a changed file is tried again.
        kind: Name of the error.
        reason: What is wrong.
        fix: What to do.
        noted_at: When it was refused (UTC, ISO 8601).
        details: Line, byte and column, where known.
        excerpt: What the file looks like there.
        rejected: Rows that could not be taken, if the others were.
    """

    source: str
    file: LandedFile
    kind: str
    reason: str
    fix: str
    noted_at: str
    details: Mapping[str, Any]
    excerpt: str = ""
    rejected: int = 0

    @property
    def text(self) -> str:
        """The note for people."""
        verb = f"was taken but for {self.rejected:,} of its rows" if self.rejected else "was not taken"
        places = ", ".join(f"{word} {value}" for word, value in self.details.items() if word != "rejected")
        lines = [f"{self.file.name} of {self.source} {verb}.", "", f"What:  {self.reason}"]
        lines += [f"Where: {places}"] if places else []
        lines += [f"       {line}" for line in self.excerpt.splitlines()]
        lines += [f"Fix:   {self.fix}.", f"Since: {self.noted_at}"]
        if self.rejected:
            lines.append("Rows:  beside this note, one JSON object a line, each with its line and the reason")
        # Whatever stands in the file must not reach a terminal as more than text.
        return "".join(visible(line) + "\n" for line in lines)


def visible(text: str) -> str:
    """Return text of others as it may be shown: what a terminal would obey is written out."""
    return text.translate(_WRITTEN_OUT)


_WRITTEN_OUT = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def quarantine_path(folder: Path, source: str, name: str) -> Path:
    """Return where the note on a file is kept; no name can lead out of the source's folder."""
    encoded = quote(name, safe="")
    if len(encoded) > 200:
        # File systems end names at 255 bytes; the hash keeps long ones apart.
        encoded = f"{encoded[:160]}~{blake3(name.encode()).hexdigest()[:32]}"
    return folder / quote(source, safe="") / f"{encoded}.json"


def rejected_path(folder: Path, source: str, name: str) -> Path:
    """Return where the rows of a file are kept that could not be taken."""
    return quarantine_path(folder, source, name).with_suffix(".rejected.jsonl")


def dropped_path(folder: Path, source: str, name: str) -> Path:
    """Return where a file goes that is taken out of the landing zone; none goes over another."""
    encoded = quarantine_path(folder, source, name)
    return encoded.parent / "dropped" / f"{uuid4().hex[:8]}-{encoded.name.removesuffix('.json')}"


def write_note(
    folder: Path, source: str, file: LandedFile, error: UnreadableFile, *, excerpt: str | None = None
) -> Path:
    """Note why a file was refused, replacing an older note on it; a crash leaves the older one, or none.

    Beside the note for programs lies one for people.

    Args:
        folder: The quarantine.
        source: The source whose glob found the file.
        file: The file.
        error: What is wrong with it.
        excerpt: What it looks like there.

    Returns:
        Where the note is.
    """
    details = {"line": error.line, "byte": error.byte, "column": error.column}
    known = {key: value for key, value in details.items() if value is not None}
    rejected_path(folder, source, file.name).unlink(missing_ok=True)
    kind = type(error).__name__
    return _write(
        folder, QuarantineNote(source, file, kind, error.reason, error.fix, _now(), known, excerpt or "")
    )


def note_rejected(folder: Path, source: str, file: LandedFile, rejects: Sequence[Path], rows: int) -> Path:
    """Keep the rows of a file that could not be taken, and note that there are some.

    Args:
        folder: The quarantine.
        source: The source.
        file: The file, whose other rows were taken.
        rejects: The rows as JSON lines, for each of its tables.
        rows: How many rows were taken.

    Returns:
        Where the note is.
    """
    kept = rejected_path(folder, source, file.name)
    count, first = 0, ""
    with _replacing(kept) as target:
        for path in rejects:
            with path.open("rb") as lines:
                for line in lines:
                    count += 1
                    first = first or line.decode("utf-8", "backslashreplace").strip()
                    target.write(line)
    one = json.loads(first) if first else {}
    details = {"line": one["line"]} if one.get("line") else {}
    fix = f"Mend the rows in {kept.name} and land the file again; the others stay as they are until then"
    reason = f"{count:,} of {count + rows:,} rows could not be taken; the first: {one.get('reason', '')}"
    row = one.get("row", "")
    excerpt = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False))[:_EXCERPT]
    note = QuarantineNote(source, file, "RejectedRows", reason, fix, _now(), details, excerpt, rejected=count)
    return _write(folder, note)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, note: QuarantineNote) -> Path:
    path = quarantine_path(folder, note.source, note.file.name)
    file = {"name": note.file.name, "size": note.file.size, "mtime_ns": note.file.mtime_ns}
    rest = {
        name: getattr(note, name)
        for name in ("kind", "reason", "fix", "noted_at", "details", "excerpt", "rejected")
    }
    for target, text in (
        (path.with_suffix(".txt"), note.text),
        (path, json.dumps({"source": note.source, **file, **rest}, ensure_ascii=False, indent=1)),
    ):
        with _replacing(target) as sink:
            sink.write(text.encode("utf-8", "backslashreplace"))
    return path


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".note-")
    try:
        with os.fdopen(handle, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_note(folder: Path, source: str, name: str) -> bool:
    """Remove what is noted on a file that has been taken after all; say whether there was anything."""
    path = quarantine_path(folder, source, name)
    path.with_suffix(".txt").unlink(missing_ok=True)
    rejected_path(folder, source, name).unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def excerpt_of(path: Path, error: UnreadableFile) -> str:
    """Return the line of a file at which it is wrong, as it may be shown; nothing where no line is known.

    Args:
        path: The file; a gzipped one is looked into.
        error: What is wrong with it.
    """
    if error.line is None:
        return ""
    passed = 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            number = 1
            while number < error.line:
                part = file.readline(_CHUNK)
                passed += len(part)
                if not part or passed > _LOOKED_THROUGH:
                    return ""
                number += part.endswith(b"\n")
            line = file.readline(_EXCERPT + 1)
    except (OSError, EOFError, zlib.error):
        return ""
    if b"\0" in line:
        return ""
    cut = "…" if len(line) > _EXCERPT else ""
    return f"{error.line} | {line[:_EXCERPT].decode('utf-8', 'backslashreplace').rstrip()}{cut}"


def read_notes(folder: Path, source: str | None = None) -> list[QuarantineNote]:
    """Return the notes on one source's files, or on all, by source and name."""
    pattern = f"{quote(source, safe='')}/*.json" if source is not None else "*/*.json"
    notes = []
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else ():
        # Another process may have removed it since the listing; and what others put there is no note.
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            note = json.loads(path.read_text(encoding="utf-8"))
            file = LandedFile(note["name"], note["size"], note["mtime_ns"])
            rest = (note[key] for key in ("kind", "reason", "fix", "noted_at", "details"))
            more = {key: note[key] for key in ("excerpt", "rejected") if key in note}
            notes.append(QuarantineNote(note["source"], file, *rest, **more))
    return notes
