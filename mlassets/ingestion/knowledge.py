"""Knowledge bases: the texts of a folder tree of documents and tables, each with where it is from.

A knowledge base is a Thing (an upload named `kb-<name>`), and so it has versions, lineage and hashes like all others.
Building it again reads the files that changed since, and no others. `mlassets.ingestion.knowledge_index` searches it.
"""

import errno
import heapq
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from blake3 import blake3

from mlassets.ingestion.archives import Ignored, is_archive, members
from mlassets.ingestion.documents import DOCUMENT
from mlassets.ingestion.errors import ChangedWhileRead, UnreadableFile
from mlassets.ingestion.formats import Converted, Progress, Sink, convert
from mlassets.ingestion.landing import reason_to_ignore
from mlassets.ingestion.options import ReadOptions
from resources.errors import MlassetsError, did_you_mean
from resources.references import UPLOADS
from resources.store import Store
from resources.things import NAME, Component, Draft, Partition, Thing, hash_file
from resources.values import encoded

READER = 1
"""Raised whenever the readers find other text in the same files: everything is then read again."""

KNOWLEDGE = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("folder", pa.string()),
        pa.field("subfolders", pa.string()),
        pa.field("file", pa.string()),
        pa.field("document", pa.string()),
        pa.field("member", pa.string()),
        pa.field("table", pa.string()),
        pa.field("page", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("part", pa.int32()),
        pa.field("heading", pa.string()),
        pa.field("text", pa.string()),
        pa.field("links", pa.list_(pa.string())),
        pa.field("hash", pa.string()),
    ]
)
"""One row for each text.

`folder` is where the tree starts, `document` the path of the file from there, `member` the path within it where it is
an archive, `hash` BLAKE3 of its bytes. A row of a table has `table` (its sheet, if it has a name) and `row`, a part of
a document `page`, `part` and `heading`.
"""

FILES = pa.schema(
    [
        pa.field("folder", pa.string()),
        pa.field("document", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("hash", pa.string()),
        pa.field("texts", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("notes", pa.list_(pa.string())),
    ]
)
"""One row for each file that was looked at; `reason` says why nothing of it is there."""

_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PREFIX = "kb-"
_LABEL = "knowledge_base"
_FILES = "files"
_SHARDS = 16
_SOURCES = "sources"
_WORKERS = 2
_BATCH = 8_192

Key = tuple[str, str]
"""Folder and document: what tells files apart."""


class BadKnowledgeBase(MlassetsError):
    """A knowledge base cannot be built as it was asked for."""


class UnknownKnowledgeBase(MlassetsError):
    """There is no knowledge base of this name."""


@dataclass(frozen=True)
class Refused:
    """A file, or a member of an archive, of which nothing is in the knowledge base."""

    folder: str
    document: str
    reason: str


@dataclass(frozen=True)
class Built:
    """What became of a knowledge base.

    Attributes:
        thing: Its newest version.
        is_new: Whether that was made now; not where nothing had changed.
        files: Number of files that it holds.
        texts: Number of texts.
        read: Number of files that were read now.
        removed: Number of files that were there before and are no more.
        refused: Files of which nothing is there, each with the reason.
        ignored: Reason by path for what is not meant to be read, such as hidden files.
    """

    thing: Thing
    is_new: bool
    files: int
    texts: int
    read: int
    removed: int
    refused: tuple[Refused, ...]
    ignored: Mapping[str, str]


@dataclass(frozen=True)
class _File:
    """A file to be in the knowledge base: on this machine's disk, or what a source keeps of one."""

    folder: str
    document: str
    size: int
    mtime_ns: int
    path: Path | None = None
    hash: str = ""
    kept: tuple[tuple[str, Component], ...] = ()
    source: Thing | None = None

    @property
    def key(self) -> Key:
        return self.folder, self.document


@dataclass
class _Read:
    """The tables of a file, as Parquet, in their order: path in an archive, name of the table, file."""

    tables: list[tuple[str, str, Path]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None
    hash: str = ""


def thing_name(name: str) -> str:
    """Return what the Thing of a knowledge base is called.

    Raises:
        BadKnowledgeBase: If it cannot be a name.
    """
    if not _NAMES.fullmatch(name):
        raise BadKnowledgeBase(
            f"{name!r} cannot be the name of a knowledge base; a name is up to 100 letters, digits, `.`, `_` and `-`, "
            "and starts with a letter or a digit"
        )
    return f"{_PREFIX}{name}"


def latest(store: Store, name: str) -> Thing | None:
    """Return the newest version of a knowledge base, None if there is none."""
    return store.latest(UPLOADS, Partition({NAME: thing_name(name)}))


def knowledge_base(store: Store, name: str) -> Thing:
    """Return the newest version of a knowledge base.

    Raises:
        UnknownKnowledgeBase: If there is none.
    """
    thing = latest(store, name)
    if thing is None:
        known = list(knowledge_bases(store))
        raise UnknownKnowledgeBase(
            f"there is no knowledge base {name!r}{did_you_mean(name, known)}; build it with "
            f"`mlassets kb build {name} FOLDER`"
        )
    return thing


def knowledge_bases(store: Store) -> dict[str, Thing]:
    """Return the newest version of every knowledge base, by name."""
    found: dict[str, Thing] = {}
    for thing in store.find(f"step={UPLOADS} labels.{_LABEL}?", sort="created_at"):
        found[str(thing.labels[_LABEL])] = thing
    return dict(sorted(found.items()))


def files_of(thing: Thing) -> list[dict[str, Any]]:
    """Return what is known of each file of a knowledge base, in order."""
    rows: list[dict[str, Any]] = thing.artifacts[_FILES].load().to_pylist()
    return rows


def shard_of(key: Key) -> str:
    """Return which file of the Thing holds the texts of a document; a changed document changes that one alone."""
    number = blake3("\0".join(key).encode()).digest()[0] % _SHARDS
    return f"texts-{number:02}.parquet"


def build(
    store: Store,
    name: str,
    folders: Sequence[Path] = (),
    sources: Sequence[str] = (),
    *,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Built:
    """Bring a knowledge base up to date with folders and sources; only files that changed are read.

    A file that cannot be read is noted with the reason, and the others go on. What is no more there is no more in the
    knowledge base; its earlier versions keep it.

    Args:
        store: Where it is kept.
        name: What it is called.
        folders: Where its files are; with `sources`, all that it is made of. None at all: those of last time.
        sources: Names of sources whose newest versions belong to it.
        options: How files are read, where that is not to be found out.
        progress: Called with "files", how many have been looked at, and how many there are.

    Raises:
        BadKnowledgeBase: If a folder or source is not there, or nothing is named at all.
    """
    before = latest(store, name)
    known = {(one["folder"], one["document"]): one for one in files_of(before)} if before else {}
    if not folders and not sources:
        if before is None:
            raise BadKnowledgeBase(
                f"there is no knowledge base {name!r} yet: name the folders that it is made of"
            )
        folders = [Path(one) for one in before.parameters["folders"]]
        sources = before.parameters[_SOURCES]
    roots = _roots(folders)
    options = options or (ReadOptions.from_dict(before.parameters["options"]) if before else ReadOptions())
    parameters: dict[str, Any] = {
        "folders": [one.as_posix() for one in roots],
        _SOURCES: list(dict.fromkeys(sources)),
        "reader": READER,
        "options": options.as_dict(),
    }
    again = before is None or any(before.parameters[one] != parameters[one] for one in ("reader", "options"))
    ignored: dict[str, str] = {}
    files = [one for root in roots for one in _files_below(root, ignored)]
    based_on = []
    for source in parameters[_SOURCES]:
        thing, own = _files_in(store, source)
        based_on.append(thing.id)
        files += own
    building = _Building(store, before, {} if again else known, options, progress, len(files))
    with tempfile.TemporaryDirectory(prefix="mlassets-knowledge-") as folder:
        building.build(files, Path(folder))
        records = sorted(building.records, key=lambda one: (one["folder"], one["document"]))
        removed = len(set(known) - {one.key for one in files})
        told: dict[str, Any] = {
            "files": sum(one["texts"] > 0 for one in records),
            "texts": sum(one["texts"] for one in records),
            "read": building.read,
            "removed": removed,
            "refused": tuple(_refusals(records)),
            "ignored": ignored,
        }
        same = [{**one, "mtime_ns": 0} for one in records] == [
            {**one, "mtime_ns": 0} for one in known.values()
        ]
        if before is not None and not again and same and _said(before) == parameters:
            return Built(thing=before, is_new=False, **told)
        draft = Draft(
            files=dict(sorted(building.files.items())),
            schema=KNOWLEDGE if building.files else None,
            parameters=parameters,
            metrics={
                "files": told["files"],
                "texts": told["texts"],
                "refused": len(told["refused"]),
                "bytes": sum(one["size"] for one in records),
            },
            labels={_LABEL: name},
            artifacts={_FILES: encoded(pa.Table.from_pylist(records, schema=FILES), "the files")},
            based_on=based_on,
        )
        made = store.commit(UPLOADS, Partition({NAME: thing_name(name)}), draft)
    store.announce([made])
    return Built(thing=made, is_new=True, **told)


def _said(thing: Thing) -> dict[str, Any]:
    return {one: thing.parameters[one] for one in ("folders", _SOURCES, "reader", "options")}


def _refusals(records: Iterable[Mapping[str, Any]]) -> Iterator[Refused]:
    for one in records:
        if one["reason"]:
            yield Refused(one["folder"], one["document"], one["reason"])


def _roots(folders: Sequence[Path]) -> list[Path]:
    roots = list(dict.fromkeys(one.expanduser().resolve() for one in folders))
    for root in roots:
        if not root.is_dir():
            raise BadKnowledgeBase(
                f"there is no folder {root}; name one that is there, with the files to be read in it"
            )
        if around := next((one for one in roots if one in root.parents), None):
            raise BadKnowledgeBase(
                f"{root} lies in {around}, and its files would be there twice; name one of them"
            )
    return roots


def _files_below(root: Path, ignored: dict[str, str]) -> Iterator[_File]:
    def failed(error: OSError) -> None:
        ignored[_printable(str(error.filename))] = f"the folder cannot be listed: {error.strerror}"

    for folder, below, names in os.walk(root, onerror=failed):
        below[:] = sorted(one for one in below if not _hides(root, Path(folder, one), ignored))
        for name in sorted(names):
            path = Path(folder, name)
            document = path.relative_to(root).as_posix()
            reason = reason_to_ignore(document) or ("a link" if path.is_symlink() else None)
            try:
                state = path.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if reason is None and not path.is_file():
                reason = "no file, but a pipe, a socket or the like"
            if reason:
                ignored[_printable(str(path))] = reason
            else:
                yield _File(root.as_posix(), document, state.st_size, state.st_mtime_ns, path)


def _hides(root: Path, folder: Path, ignored: dict[str, str]) -> bool:
    """Say whether a folder is passed over, and why."""
    reason = "a link" if folder.is_symlink() else "hidden" if folder.name.startswith(".") else None
    if reason:
        ignored[_printable(str(folder))] = reason
    return reason is not None


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _files_in(store: Store, source: str) -> tuple[Thing, list[_File]]:
    """Return the newest version of a source, and what it keeps of each file."""
    thing = store.latest("sources", Partition.source(source))
    if thing is None:
        raise BadKnowledgeBase(
            f"the source {source!r} holds nothing yet; `mlassets land FILE --source {source}` does"
        )
    files = []
    records = sorted(thing.parameters["files"], key=lambda one: str(one["name"]))
    for document, several in groupby(records, key=lambda one: str(one["name"])):
        tables = list(several)
        kept = tuple((str(one.get("table") or ""), thing.files[one["component"]]) for one in tables)
        hashed = blake3("\0".join(one.hash for _, one in kept).encode()).hexdigest()
        size, mtime_ns = tables[0]["size"], tables[0]["mtime_ns"]
        files.append(_File(f"source:{source}", document, size, mtime_ns, None, hashed, kept, thing))
    return thing, files


class _Building:
    """Puts the texts of all files into the files of the next version, a share of them at a time."""

    def __init__(
        self,
        store: Store,
        before: Thing | None,
        known: Mapping[Key, Mapping[str, Any]],
        options: ReadOptions,
        progress: Progress | None,
        total: int,
    ) -> None:
        self._store, self._before, self._known, self._options = store, before, known, options
        self._progress, self._total, self._done = progress, total, count(1)
        self.files: dict[str, Path | Component] = {}
        self.records: list[dict[str, Any]] = []
        self.read = 0

    def build(self, files: Sequence[_File], folder: Path) -> None:
        """Bring every share up to date."""
        shares: dict[str, list[_File]] = {shard_of(key): [] for key in self._known}
        for file in files:
            shares.setdefault(shard_of(file.key), []).append(file)
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="knowledge") as pool:
            for shard, own in sorted(shares.items()):
                self._build_share(shard, sorted(own, key=lambda one: one.key), folder, pool)

    def _build_share(self, shard: str, files: list[_File], folder: Path, pool: ThreadPoolExecutor) -> None:
        old = self._before.files.get(shard) if self._before and self._known else None
        inside = {key for key in self._known if shard_of(key) == shard}
        results = list(pool.map(lambda file: self._look(file, folder), files))
        fresh = {file.key: read for file, read in zip(files, results, strict=True) if read is not None}
        kept = {file.key for file in files} - set(fresh)
        self.read += len(fresh)
        path = folder / shard
        counts: dict[Key, int] = {}
        if old is not None and not fresh and kept == inside:
            self.files[shard] = old
        else:
            sink = Sink(path)
            sink.begin(KNOWLEDGE)
            for key, batch in heapq.merge(
                self._kept_texts(old, kept, folder), _fresh_texts(fresh), key=lambda one: one[0]
            ):
                counts[key] = counts.get(key, 0) + batch.num_rows
                sink.write(batch)
            sink.finish()
            if sink.rows:
                self.files[shard] = path
            else:
                path.unlink()
        for file in files:
            read = fresh.get(file.key)
            stamp = {"size": file.size, "mtime_ns": file.mtime_ns}
            if read is None:
                self.records.append({**self._known[file.key], **stamp})
                continue
            for _, _, used in read.tables:
                used.unlink()
            self.records.append(
                {
                    "folder": file.folder,
                    "document": file.document,
                    # What changed meanwhile is looked at again.
                    **({"size": -1, "mtime_ns": 0} if not read.hash else stamp),
                    "hash": read.hash,
                    "texts": counts.get(file.key, 0),
                    "reason": read.reason,
                    "notes": read.notes,
                }
            )

    def _look(self, file: _File, folder: Path) -> _Read | None:
        """Read a file; None if it is as it was."""
        record = self._known.get(file.key)
        try:
            if record and file.path and (record["size"], record["mtime_ns"]) == (file.size, file.mtime_ns):
                return None
            hashed = hash_file(file.path) if file.path else file.hash
            if record and record["hash"] == hashed:
                return None
            return self._read_file(file, hashed, folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Not the file's fault, and the next would end in the same way.
                raise BadKnowledgeBase(
                    f"the knowledge base was left as it was: there is no room in {tempfile.gettempdir()} to read "
                    f"{file.document}; make room there, or set TMPDIR to where there is"
                ) from error
            return _Read(reason=f"{file.document}: it cannot be read: {error.strerror or error}")
        finally:
            if self._progress is not None:
                self._progress("files", next(self._done), self._total)

    def _read_file(self, file: _File, hashed: str, folder: Path) -> _Read:
        read = _Read(hash=hashed)
        try:
            if file.source is not None:
                for number, (table, component) in enumerate(file.kept):
                    target = folder / f"{hashed}-{number}.parquet"
                    read.tables.append(("", table, file.source.fetch(component, target)))
            elif file.path is not None and is_archive(file.document):
                self._read_members(file, read, folder)
            elif file.path is not None:
                options = _as_document(file.document, self._options)
                _add(read, "", convert(file.path, file.document, folder, options))
            if file.path is not None:
                state = file.path.stat()
                if (state.st_size, state.st_mtime_ns) != (file.size, file.mtime_ns):
                    raise ChangedWhileRead(file.document)
        except (UnreadableFile, MemoryError) as error:
            for _, _, path in read.tables:
                path.unlink()
            reason = (
                str(error)
                if isinstance(error, UnreadableFile)
                else f"{file.document}: it does not fit in memory"
            )
            return _Read(reason=reason, hash="" if isinstance(error, ChangedWhileRead) else hashed)
        return read

    def _read_members(self, file: _File, read: _Read, folder: Path) -> None:
        """Read what is in an archive; a member that cannot be read is noted, and the others go on."""
        assert file.path is not None
        for member in members(file.path, file.document, self._options):
            if isinstance(member, Ignored):
                read.notes.append(f"{member.name} was left out: {member.reason}")
                continue
            try:
                options = _as_document(member.file, member.options(self._options))
                converted = convert(member.path, member.called(file.document), folder, options)
            except UnreadableFile as error:
                read.notes.append(str(error))
            else:
                _add(read, member.name, converted)
        if not read.tables:
            read.reason = "; ".join(read.notes) or f"{file.document}: nothing is in the archive"

    def _kept_texts(
        self, old: Component | None, kept: set[Key], folder: Path
    ) -> Iterator[tuple[Key, pa.RecordBatch]]:
        if old is None or not kept or self._before is None:
            return
        local = self._before.fetch(old, folder / "kept.parquet")
        with pq.ParquetFile(local) as file:
            for batch in file.iter_batches(_BATCH):
                yield from ((key, rows) for key, rows in _by_document(batch) if key in kept)
        local.unlink()


def _as_document(name: str, options: ReadOptions) -> ReadOptions:
    """Return how a file is read here: of a web page the text counts, in which its tables are."""
    return replace(options, format="xhtml") if name.lower().endswith((".html", ".htm")) else options


def _add(read: _Read, member: str, converted: Converted) -> None:
    for table in converted.tables:
        read.tables.append((member, table.name, table.path))
        if table.rejects is not None:
            table.rejects.unlink()
            where = " of ".join(one for one in (table.name, member) if one)
            read.notes.append(f"{table.rejected:,} rows{' of ' if where else ''}{where} could not be read")
    read.notes += converted.notes


def _by_document(batch: pa.RecordBatch) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """Cut a batch where the document changes."""
    start = 0
    for key, rows in groupby(zip(batch["folder"].to_pylist(), batch["document"].to_pylist(), strict=True)):
        height = sum(1 for _ in rows)
        yield key, batch.slice(start, height)
        start += height


def _fresh_texts(fresh: Mapping[Key, _Read]) -> Iterator[tuple[Key, pa.RecordBatch]]:
    for key, read in sorted(fresh.items()):
        for member, table, path in read.tables:
            with pq.ParquetFile(path) as file:
                done = 0
                for batch in file.iter_batches(_BATCH):
                    yield key, _texts(key, read.hash, member, table, batch, done)
                    done += batch.num_rows


def _texts(
    key: Key, hashed: str, member: str, table: str, batch: pa.RecordBatch, done: int
) -> pa.RecordBatch:
    """Return the rows of a table, or the parts of a document, as texts; `done` rows were before these."""
    folder, document = key
    subfolders, _, file = document.rpartition("/")
    height = batch.num_rows
    columns: dict[str, Any] = {}
    if batch.schema.names == DOCUMENT.names:
        columns = {one: batch[one] for one in ("page", "part", "heading", "text", "links")}
        places = [f"part {part}" for part in batch["part"].to_pylist()]
    else:
        numbers = range(done + 1, done + height + 1)
        columns = {"row": pa.array(numbers, pa.int64()), "text": _row_texts(batch)}
        places = [str(one) for one in numbers]
    for name, value in (
        ("folder", folder), ("subfolders", subfolders), ("file", file), ("document", document),
        ("member", member or None), ("table", table or None), ("hash", hashed),
    ):  # fmt: skip
        columns[name] = pa.array([value], pa.string()).take(pa.array([0] * height, pa.int32()))
    within = "\0".join((folder, document, member, table))
    columns["id"] = pa.array(
        blake3(f"{within}\0{place}\0{text}".encode()).hexdigest(16)
        for place, text in zip(places, columns["text"].to_pylist(), strict=True)
    )
    arrays = [columns.get(one.name, pa.nulls(height, one.type)) for one in KNOWLEDGE]
    return pa.RecordBatch.from_arrays(arrays, schema=KNOWLEDGE)


def _row_texts(batch: pa.RecordBatch) -> pa.Array:
    """Return each row as `name: value · name: value`, without what it does not have."""
    cells = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        texts = _as_text(column)
        cells.append(pc.if_else(pc.equal(texts, ""), None, pc.binary_join_element_wise(name, texts, ": ")))
    return pc.binary_join_element_wise(*cells, " · ", null_handling="skip")


def _as_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind):
        return pa.nulls(len(column), pa.string())
    if pt.is_nested(kind) or pt.is_dictionary(kind):
        return pa.array(
            [
                None if one is None else json.dumps(one, ensure_ascii=False, default=str)
                for one in column.to_pylist()
            ],
            pa.string(),
        )
    return column.cast(pa.string())
