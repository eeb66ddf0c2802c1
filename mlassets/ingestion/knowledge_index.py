"""Full-text search in a knowledge base: an index in SQLite (FTS5) beside the home's other files.

The index holds nothing of its own: where it is missing, damaged or of another version than the knowledge base, it is
brought up to date from that before it answers, and what has not changed since stays as it is.
"""

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlassets.ingestion.knowledge import Key, files_of, shard_of
from resources.errors import MlassetsError
from resources.things import Thing

_VERSION = 2
_PATIENCE = 60.0
_MOST_WORDS = 64
_BATCH = 8_192
_KEPT = ("id", "folder", "table", "page", "row", "part", "hash")
_COLUMNS = ("text", "heading", "document", "member", *_KEPT)
_INDEXED = 4
# A word in a heading says more than one in the text, and one in the path a little more.
_RANK = "bm25(1.0, 4.0, 2.0, 2.0)"
_LAYOUT = f"""
CREATE VIRTUAL TABLE texts USING fts5(
    text, heading, document, member, {", ".join(f'"{one}" UNINDEXED' for one in _KEPT)},
    tokenize = "unicode61 remove_diacritics 2"
);
CREATE TABLE documents (
    folder TEXT, document TEXT, hash TEXT, first INTEGER, last INTEGER, PRIMARY KEY (folder, document)
);
CREATE TABLE of (thing TEXT);
PRAGMA user_version = {_VERSION};
"""  # only names of columns of ours
_NAMED = ", ".join(f'"{one}"' for one in _COLUMNS)
_FOLDER, _DOCUMENT, _HASH = (_COLUMNS.index(one) for one in ("folder", "document", "hash"))
# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)
_INVISIBLE = "\u2063"
_WORDS = re.compile(r'-?"[^"]*"\*?|\S+')


class NothingToFind(MlassetsError):
    """A query has no word in it that could be looked for."""


class IndexUnusable(MlassetsError):
    """The index can be neither read nor made anew."""


@dataclass(frozen=True)
class Hit:
    """A text that was found.

    Attributes:
        score: How well it fits, by BM25; the larger the better.
        snippet: What is around the words that were found, with these in brackets.
        text: The whole text.
        heading: The heading above it.
        folder: Where the tree of its file starts.
        document: The file's path from there.
        member: The path within it, where it is an archive.
        table: The sheet, or other table, that it is a row of.
        page: The page, from 1.
        row: The row, from 1.
        part: The part of the document, from 1.
        id: Its id in the knowledge base.
        hash: BLAKE3 of the file's bytes.
    """

    score: float
    snippet: str
    text: str
    heading: str | None
    folder: str
    document: str
    member: str | None
    table: str | None
    page: int | None
    row: int | None
    part: int | None
    id: str
    hash: str

    @property
    def place(self) -> str:
        """Where it is, in one line for people."""
        path = f"{self.document}/{self.member}" if self.member else self.document
        told = [("sheet", self.table), ("page", self.page), ("row", self.row)]
        return ", ".join([path, *(f"{word} {value}" for word, value in told if value is not None)])


def expression(query: str, *, any_word: bool = False) -> str:
    """Return a query in the language of FTS5, in which nothing of a person's query is an operator by accident.

    Every word must be there; `"several words"` stand together, `word*` is a beginning, `-word` must not be there.

    Args:
        query: What a person wrote.
        any_word: Whether one of the words suffices.

    Raises:
        NothingToFind: If it has no word that must be there.

    >>> expression('late "de Gaulle" plan* -cargo')
    '("late" AND "de Gaulle" AND "plan"*) NOT "cargo"'
    """
    wanted: list[str] = []
    unwanted: list[str] = []
    text = query.replace("\0", " ").encode("utf-8", "replace").decode()
    for word in list(dict.fromkeys(_WORDS.findall(text)))[:_MOST_WORDS]:
        excluded = word.startswith("-")
        phrase = word.removeprefix("-").removesuffix("*").strip('"')
        if not any(one.isalnum() for one in phrase):
            continue
        quoted = '"' + _spaced(phrase).replace('"', '""') + '"' + ("*" if word.endswith("*") else "")
        (unwanted if excluded else wanted).append(quoted)
    if not wanted:
        raise NothingToFind(f"{query!r} has no word to look for; name at least one, without - before it")
    found = f"({(' OR ' if any_word else ' AND ').join(wanted)})"
    return "".join([found, *(f" NOT {one}" for one in unwanted)])


def search(
    thing: Thing,
    index: Path,
    query: str,
    *,
    limit: int = 10,
    under: str = "",
    any_word: bool = False,
) -> list[Hit]:
    """Find texts of a knowledge base, the best first.

    Args:
        thing: A version of the knowledge base.
        index: The file of its index, brought up to date if need be.
        query: Words; see `expression`.
        limit: How many at most.
        under: The beginning of the documents' paths, such as a subfolder.
        any_word: Whether one of the words suffices.

    Raises:
        NothingToFind: If there is no word in the query.
        IndexUnusable: If the index cannot be written.
    """
    asked = expression(query, any_word=any_word)
    # By its own rank FTS5 sorts numbers of rows alone, and looks up what is shown of the best: a common word may be in
    # a million texts.
    inside = ("AND substr(document, 1, ?) = ?", (len(_spaced(under)), _spaced(under))) if under else ("", ())
    statement = (
        f"SELECT -rank AS score, snippet(texts, 0, '[', ']', '…', 24) AS snippet, {_NAMED} "  # noqa: S608
        f"FROM texts WHERE texts MATCH ? AND rank MATCH '{_RANK}' {inside[0]} ORDER BY rank LIMIT ?"
    )
    with following(thing, index) as database:
        rows = database.execute(statement, (asked, *inside[1], limit))
        names = [one[0] for one in rows.description]
        return [
            Hit(**{name: _as_written(value) for name, value in zip(names, row, strict=True)}) for row in rows
        ]


def _spaced(text: Any) -> Any:
    """Return a text in which each character that is a word is one to FTS5, too; nobody sees the difference."""
    return _UNSPACED.sub(rf"\1{_INVISIBLE}", text) if text and not text.isascii() else text


def _as_written(value: Any) -> Any:
    return value.replace(_INVISIBLE, "") if isinstance(value, str) else value


@contextmanager
def following(thing: Thing, index: Path) -> Iterator[sqlite3.Connection]:
    """Open the index of a knowledge base, holding what this version of it holds.

    Raises:
        IndexUnusable: If it cannot be written.
    """
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = _followed(thing, index)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise
            # No database any more; everything in it can be had from the Thing.
            for one in (index, Path(f"{index}-wal"), Path(f"{index}-shm")):
                one.unlink(missing_ok=True)
            database = _followed(thing, index)
        with closing(database):
            yield database
    except (OSError, sqlite3.Error) as error:
        raise IndexUnusable(
            f"the index {index} cannot be used ({error}); delete it if it is yours, and look that its folder can be "
            "written to"
        ) from error


def _followed(thing: Thing, index: Path) -> sqlite3.Connection:
    database = sqlite3.connect(index, timeout=_PATIENCE, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if _holds(database) != thing.id:
            database.execute("BEGIN IMMEDIATE")
            if (held := _holds(database)) != thing.id:
                if held is None:
                    _lay_out(database)
                _bring_up(database, thing)
            database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _holds(database: sqlite3.Connection) -> str | None:
    """Return the id of the version that the index holds; None if it holds none, or is laid out in another way."""
    if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        return None
    found = database.execute("SELECT thing FROM of").fetchone()
    return str(found[0]) if found else ""


def _lay_out(database: sqlite3.Connection) -> None:
    for name in ("texts", "documents", "of"):
        database.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in _LAYOUT.split(";\n"):
        database.execute(statement)


def _bring_up(database: sqlite3.Connection, thing: Thing) -> None:
    """Take out what is not in this version, and put in what is new in it."""
    wanted: dict[Key, str] = {
        (one["folder"], one["document"]): one["hash"] for one in files_of(thing) if one["texts"]
    }
    there = database.execute("SELECT folder, document, hash, first, last FROM documents").fetchall()
    same = {
        (folder, document)
        for folder, document, known, _, _ in there
        if wanted.get((folder, document)) == known
    }
    for folder, document, _, first, last in there:
        if (folder, document) not in same:
            database.execute("DELETE FROM texts WHERE rowid BETWEEN ? AND ?", (first, last))
            database.execute("DELETE FROM documents WHERE folder = ? AND document = ?", (folder, document))
    missing = set(wanted) - same
    (last,) = database.execute("SELECT coalesce(max(last), 0) FROM documents").fetchone()
    insert = f"INSERT INTO texts (rowid, {_NAMED}) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"  # noqa: S608
    with tempfile.TemporaryDirectory(prefix="mlassets-index-") as folder:
        for shard in sorted({shard_of(key) for key in missing}):
            spans: dict[Key, tuple[str, int, int]] = {}
            with pq.ParquetFile(thing.fetch(thing.files[shard], Path(folder, shard))) as file:
                for batch in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
                    rows = []
                    for row in zip(*(batch[one].to_pylist() for one in _COLUMNS), strict=True):
                        key = row[_FOLDER], row[_DOCUMENT]
                        if key in missing:
                            last += 1
                            rows.append((last, *map(_spaced, row[:_INDEXED]), *row[_INDEXED:]))
                            spans[key] = (row[_HASH], spans.get(key, ("", last))[1], last)
                    database.executemany(insert, rows)
            database.executemany(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?)", ((*key, *span) for key, span in spans.items())
            )
            Path(folder, shard).unlink()
    database.execute("DELETE FROM of")
    database.execute("INSERT INTO of VALUES (?)", (thing.id,))
