"""What leaves a knowledge base: its texts as one file, and its structure as nodes and edges for graph tools."""

import csv
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mlassets.ingestion.knowledge import KNOWLEDGE, files_of
from resources.things import Thing

LIKE_AT_MOST = 5_000
"""Documents are compared with each other up to so many of them."""

_BATCH = 8_192
_LABEL_CHARACTERS = 80
_READ_CHARACTERS = 20_000
_MOST_ALIKE = 5
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_NODE_FIELDS = (
    "id",
    "kind",
    "label",
    "folder",
    "document",
    "member",
    "table",
    "page",
    "part",
    "texts",
    "hash",
)
_EDGE_FIELDS = ("source", "target", "kind", "weight")


def export_texts(thing: Thing, to: Path, form: Literal["parquet", "jsonl"]) -> int:
    """Write all texts of a knowledge base to one file; it is there whole or not at all.

    Returns:
        How many there are.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{to.name}.part")
    count = 0
    try:
        if form == "parquet":
            with pq.ParquetWriter(part, KNOWLEDGE, compression="zstd") as writer:
                for batch in _batches(thing):
                    writer.write_batch(batch)
                    count += batch.num_rows
        else:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for batch in _batches(thing):
                    for row in batch.to_pylist():
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += batch.num_rows
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    return count


def _batches(thing: Thing) -> Iterator[pa.RecordBatch]:
    if thing.schema is None:
        return
    thing.check_files()
    yield from thing.scan().to_batches(batch_size=_BATCH)


def export_graph(thing: Thing, folder: Path, *, alike: float | None = 0.5) -> dict[str, Any]:
    """Write `nodes.csv` and `edges.csv`: what contains what, what links to what, which files are the same or alike.

    Nodes are folders, files, members of archives, tables, parts of documents, addresses on the web, and what a link
    leads to that is not there. Edges are `contains`, `links`, `same_bytes` and `alike` (with a weight, the cosine of
    the documents' TF-IDF vectors).

    Args:
        thing: A version of a knowledge base.
        folder: Where to write.
        alike: From which weight on documents are said to be alike; None if they are not compared.

    Returns:
        Numbers of nodes and edges by kind, and notes for people.
    """
    graph = _Graph()
    texts: dict[int, str] = {}
    links: list[tuple[int, str, str, str, str]] = []
    for record in files_of(thing):
        graph.file(record["folder"], record["document"], hash=record["hash"], texts=record["texts"])
    for batch in _batches(thing):
        for row in batch.to_pylist():
            where = (row["folder"], row["document"], row["member"] or "")
            document = graph.member(*where) if row["member"] else graph.file(*where[:2])
            held = texts.get(document, "")
            if len(held) < _READ_CHARACTERS:
                texts[document] = f"{held}\n{row['heading'] or ''}\n{row['text']}"[:_READ_CHARACTERS]
            if row["row"] is not None:
                if row["table"]:
                    table = graph.node("table", (*where, row["table"]), row["table"], table=row["table"])
                    graph.edge(document, table, "contains")
                    graph.nodes[table]["texts"] = (graph.nodes[table].get("texts") or 0) + 1
                continue
            label = row["heading"] or " ".join(row["text"].split())[:_LABEL_CHARACTERS]
            section = graph.node("section", row["id"], label, page=row["page"], part=row["part"])
            graph.edge(document, section, "contains")
            links += [(section, *where, target) for target in row["links"] or ()]
    for section, in_folder, in_document, in_member, target in links:
        if (reached := graph.reached(in_folder, in_document, in_member, target)) is not None:
            graph.edge(section, reached, "links")
    graph.join_same()
    notes = []
    if alike is not None and len(texts) > LIKE_AT_MOST:
        notes.append(f"documents were not compared with each other: they are more than {LIKE_AT_MOST:,}")
    elif alike is not None:
        for one, other, weight in _alike(texts, alike):
            graph.edge(one, other, "alike", weight)
    graph.write(folder)
    return {**graph.counts(), "notes": notes}


class _Graph:
    """Nodes by what they stand for, and the edges between them; ids are numbers, in the order of reading."""

    def __init__(self) -> None:
        self.nodes: dict[int, dict[str, Any]] = {}
        self._ids: dict[tuple[str, Any], int] = {}
        self._edges: dict[tuple[int, int, str], float | None] = {}

    def node(self, kind: str, key: Any, label: str, **said: Any) -> int:
        number = self._ids.setdefault((kind, key), len(self._ids) + 1)
        self.nodes.setdefault(number, {"id": number, "kind": kind, "label": label, **said})
        return number

    def edge(self, source: int, target: int, kind: str, weight: float | None = None) -> None:
        self._edges.setdefault((source, target, kind), weight)

    def folder(self, root: str, path: str) -> int:
        if not path:
            return self.node("folder", (root, ""), root.rpartition("/")[2] or root, folder=root)
        above, _, name = path.rpartition("/")
        number = self.node("folder", (root, path), name, folder=root, document=path)
        self.edge(self.folder(root, above), number, "contains")
        return number

    def file(self, root: str, path: str, **said: Any) -> int:
        if number := self._ids.get(("file", (root, path))):
            return number
        above, _, name = path.rpartition("/")
        number = self.node("file", (root, path), name, folder=root, document=path, **said)
        self.edge(self.folder(root, above), number, "contains")
        return number

    def member(self, root: str, path: str, member: str) -> int:
        number = self.node("member", (root, path, member), member, folder=root, document=path, member=member)
        self.edge(self.file(root, path), number, "contains")
        return number

    def reached(self, root: str, path: str, member: str, target: str) -> int | None:
        """Return what a link leads to: an address, a file, or a path where nothing is; None for the document itself."""
        if _ADDRESS.match(target) or target.startswith("//"):
            return self.node("address", target, target)
        relative = unquote(re.split(r"[?#]", target, maxsplit=1)[0])
        if not relative:
            return None
        # A path that starts with a slash starts at the tree, or at the archive.
        base = "" if relative.startswith("/") else posixpath.dirname(member or path)
        found = posixpath.normpath(posixpath.join(base, relative.lstrip("/")))
        key: Any = (root, path, found) if member else (root, found)
        for kind in ("member",) if member else ("file", "folder"):
            if number := self._ids.get((kind, key)):
                return number
        return self.node("missing", key, target, folder=root, document=path if member else found)

    def join_same(self) -> None:
        first: dict[str, int] = {}
        for number, node in list(self.nodes.items()):
            if node["kind"] == "file" and (known := first.setdefault(node["hash"], number)) != number:
                self.edge(known, number, "same_bytes")

    def counts(self) -> dict[str, dict[str, int]]:
        nodes: dict[str, int] = {}
        edges: dict[str, int] = {}
        for node in self.nodes.values():
            nodes[node["kind"]] = nodes.get(node["kind"], 0) + 1
        for _, _, kind in self._edges:
            edges[kind] = edges.get(kind, 0) + 1
        return {"nodes": nodes, "edges": edges}

    def write(self, folder: Path) -> None:
        edges = (
            {"source": source, "target": target, "kind": kind, "weight": weight}
            for (source, target, kind), weight in self._edges.items()
        )
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(folder / "nodes.csv", _NODE_FIELDS, self.nodes.values())
        _write_csv(folder / "edges.csv", _EDGE_FIELDS, edges)


def _write_csv(path: Path, fields: Sequence[str], rows: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(fields)
            for row in rows:
                writer.writerow([_harmless(row.get(one)) for one in fields])
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _harmless(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _alike(texts: Mapping[int, str], least: float) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of documents that say much the same, each with its nearest few."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    numbers = list(texts)
    if len(numbers) < 2:
        return
    try:
        vectors = TfidfVectorizer(sublinear_tf=True, max_features=100_000).fit_transform(texts.values())
    except ValueError:
        # None of them has a word.
        return
    for start in range(0, len(numbers), 500):
        near = (vectors[start : start + 500] @ vectors.T).toarray()
        for offset, row in enumerate(near):
            own = start + offset
            # Each pair once; the first documents look ahead.
            row[: own + 1] = 0
            for other in np.argsort(-row, kind="stable")[:_MOST_ALIKE]:
                if row[other] >= least:
                    yield numbers[own], numbers[int(other)], round(float(row[other]), 4)
