"""A knowledge base holds every text with where it is from, reads what changed, and answers any query."""

import csv
import errno
import json
import os
import shutil
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlassets.ingestion import knowledge
from mlassets.ingestion.knowledge import (
    KNOWLEDGE,
    BadKnowledgeBase,
    Built,
    UnknownKnowledgeBase,
    build,
    files_of,
    knowledge_base,
    knowledge_bases,
)
from mlassets.ingestion.knowledge_export import export_graph, export_texts
from mlassets.ingestion.knowledge_index import (
    Hit,
    IndexUnusable,
    NothingToFind,
    expression,
    following,
    search,
)
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing


class Base:
    """A store, a folder of documents, and the knowledge base of it."""

    def __init__(self, home: Path, lake: str = "") -> None:
        self.store = Store.open(Settings(home=home / "home", lake=lake))
        self.index = home / "home" / "knowledge" / "docs.db"
        self.folder = home / "tree"
        self.folder.mkdir(parents=True)

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def put_zip(self, name: str, **content: str) -> None:
        path = self.put(name, b"")
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in content.items():
                archive.writestr(zipfile.ZipInfo(member.replace("__", "/")), text)

    def build(self) -> Built:
        return build(self.store, "docs", [self.folder])

    def texts(self) -> list[tuple[str, str]]:
        rows = knowledge_base(self.store, "docs").table().to_pylist()
        return sorted(("/".join(filter(None, (row["document"], row["member"]))), row["text"]) for row in rows)

    def find(self, query: str, **how: Any) -> list[Hit]:
        return search(knowledge_base(self.store, "docs"), self.index, query, **how)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A tree of most kinds, which tests do not change."""
    base = Base(tmp_path_factory.mktemp("filled"))
    base.put(
        "a.md",
        "# Title\nHello [b](sub/b.csv), [gone](nope.md), [web](https://example.org/)\n\n## Two\naeroplanes",
    )
    base.put("sub/b.csv", "id,name,empty\n007,Bond,\n008,Müller,x\n")
    base.put("sub/deep/ünï 🛫.md", "über alles")
    base.put("sub/copy.md", "über alles")
    base.put("sub/like.md", "# Title\nHello there are aeroplanes in the title of this, too")
    base.put("sub/like too.md", "# Title\nHello there are aeroplanes in the title of this as well")
    base.put("nested.jsonl", '{"a": {"b": [1, 2]}, "when": "2024-01-31"}\n')
    base.put_zip(
        "z.zip",
        in__c="x,y\n1,2\n",
        **{"d.md": "zipped, see [e](e.md)", "e.md": "the other", "f.csv": "a\n1\n"},
    )
    base.put("bad.csv", "a,b\n1\n")
    base.put("empty.md", "")
    base.put("noise.bin", bytes(range(256)))
    base.put(".hidden.md", "secret")
    base.put("~lock.tmp", "secret")
    (base.folder / "link.md").symlink_to(base.folder / "a.md")
    base.build()
    return base


def test_every_text_says_where_it_is_from(filled: Base) -> None:
    rows = {
        (row["document"], row["member"], row["row"] or row["part"]): row
        for row in knowledge_base(filled.store, "docs").table().to_pylist()
    }
    one = rows["sub/b.csv", None, 2]
    assert {**one, "id": ""} == {
        "id": "",
        "folder": filled.folder.as_posix(),
        "subfolders": "sub",
        "file": "b.csv",
        "document": "sub/b.csv",
        "member": None,
        "table": None,
        "page": None,
        "row": 2,
        "part": None,
        "heading": None,
        "text": "id: 008 · name: Müller · empty: x",
        "links": None,
        "hash": next(
            one["hash"]
            for one in files_of(knowledge_base(filled.store, "docs"))
            if one["document"] == "sub/b.csv"
        ),
    }
    assert rows["sub/b.csv", None, 1]["text"] == "id: 007 · name: Bond"
    assert rows["nested.jsonl", None, 1]["text"] == 'a: {"b": [1, 2]} · when: 2024-01-31'
    assert rows["a.md", None, 2]["heading"] == "Two"
    assert rows["a.md", None, 1]["links"] == ["sub/b.csv", "nope.md", "https://example.org/"]
    assert rows["z.zip", "d.md", 1]["text"] == "zipped, see [e](e.md)"
    assert rows["z.zip", "f.csv", 1]["text"] == "a: 1"
    assert rows["sub/deep/ünï 🛫.md", None, 1]["subfolders"] == "sub/deep"
    assert len({row["id"] for row in rows.values()}) == len(rows)


def test_a_file_that_cannot_be_read_is_noted_and_the_others_go_on(filled: Base) -> None:
    records = {one["document"]: one for one in files_of(knowledge_base(filled.store, "docs"))}
    assert records["bad.csv"]["reason"].startswith("bad.csv, line 2: ")
    assert records["empty.md"]["reason"].startswith("empty.md: the file has 0 bytes")
    assert records["noise.bin"]["reason"].startswith("noise.bin: ")
    assert records["bad.csv"]["texts"] == 0
    assert records["a.md"] | {"size": 0, "mtime_ns": 0, "hash": ""} == {
        "folder": filled.folder.as_posix(), "document": "a.md", "size": 0, "mtime_ns": 0, "hash": "",
        "texts": 2, "reason": None, "notes": [],
    }  # fmt: skip
    assert {"sub/copy.md", "sub/deep/ünï 🛫.md"} <= set(records)
    built = filled.build()
    assert {one.document for one in built.refused} == {"bad.csv", "empty.md", "noise.bin"}
    assert {Path(one).name for one in built.ignored} == {".hidden.md", "~lock.tmp", "link.md"}


def test_members_that_cannot_be_read_are_noted_and_the_others_are_there(base: Base) -> None:
    base.put_zip("a.zip", **{"good.md": "good", "bad.csv": "a,b\n1\n", ".x": "hidden"})
    base.put_zip("b.zip", **{"bad.csv": "a,b\n1\n"})
    built = base.build()
    assert base.texts() == [("a.zip/good.md", "good")]
    first, second = files_of(built.thing)
    assert any("a.zip/bad.csv, line 2" in note for note in first["notes"])
    assert "b.zip/bad.csv, line 2" in second["reason"]


def test_of_a_web_page_and_a_workbook_everything_is_there(base: Base) -> None:
    page = "<h1>Fares</h1><p>From May on<table><tr><th>to<th>fare<tr><td>Oslo<td>99</table>"
    base.put("a.html", page)
    base.put_zip("z.zip", **{"b.htm": page})
    with pd.ExcelWriter(base.folder / "c.xlsx") as book:
        for sheet in ("one", "two"):
            pd.DataFrame({"of": [sheet]}).to_excel(book, sheet_name=sheet, index=False)
    built = base.build()
    text = "From May on\n\nto | fare\nOslo | 99"
    assert base.texts() == [
        ("a.html", text),
        ("c.xlsx", "of: one"),
        ("c.xlsx", "of: two"),
        ("z.zip/b.htm", text),
    ]
    assert places(base.find("two")) == ["c.xlsx, sheet two, row 1"]
    assert built.refused == ()


def test_an_archive_that_would_do_harm_is_not_read_at_all(base: Base) -> None:
    base.put_zip("a.zip", **{"good.md": "good", "..__bad.md": "bad"})
    (refused,) = base.build().refused
    assert "leads out of the archive" in refused.reason


def test_nothing_changed_makes_no_version_and_reads_nothing(base: Base) -> None:
    base.put("a.md", "one")
    first = base.build()
    again = base.build()
    assert (again.is_new, again.read, again.thing.id) == (False, 0, first.thing.id)
    assert (again.files, again.texts) == (1, 1)


def test_a_file_touched_but_not_changed_is_not_read(base: Base) -> None:
    path = base.put("a.md", "one")
    base.build()
    os.utime(path, ns=(1, 1))
    assert (base.build().is_new, base.build().read) == (False, 0)


def test_only_what_changed_is_read_and_what_is_gone_goes(base: Base) -> None:
    for number in range(40):
        base.put(f"{number}.md", f"text {number}")
    first = base.build()
    base.put("7.md", "changed")
    base.put("new.csv", "a\n1\n")
    (base.folder / "8.md").unlink()
    second = base.build()
    assert (second.read, second.removed, second.files) == (2, 1, 40)
    texts = dict(base.texts())
    assert texts["7.md"] == "changed"
    assert texts["new.csv"] == "a: 1"
    assert "8.md" not in texts
    paths = {one.path for one in first.thing.files.values()}
    shared = [one for one in second.thing.files.values() if one.path in paths]
    assert len(shared) >= len(second.thing.files) - 3


def test_a_knowledge_base_may_lie_on_s3(tmp_path: Path, bucket: str) -> None:
    base = Base(tmp_path, f"s3://{bucket}/lake")
    for number in range(5):
        base.put(f"{number}.md", f"text {number}")
    base.build()
    base.put("3.md", "changed")
    assert base.build().read == 1
    assert places(base.find("changed")) == ["3.md"]
    assert len(base.find("text")) == 4
    assert export_texts(knowledge_base(base.store, "docs"), tmp_path / "kb.parquet", "parquet") == 5


def test_the_same_files_give_the_same_bytes_however_they_came_to_be_there(tmp_path: Path) -> None:
    hashes = []
    tree = tmp_path / "tree"
    for order in (range(30), reversed(range(30))):
        home = tmp_path / f"home{len(hashes)}"
        store = Store.open(Settings(home=home))
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        for number in order:
            (tree / f"{number}.csv").write_text("a,b\n" + f"{number},x\n" * 50)
            if number % 10 == 0:
                build(store, "docs", [tree])
        hashes.append({name: one.hash for name, one in build(store, "docs", [tree]).thing.files.items()})
    assert hashes[0] == hashes[1]


def test_a_file_that_becomes_unreadable_leaves_and_comes_back(base: Base) -> None:
    base.put("a.csv", "a,b\n1,2\n")
    base.put("b.md", "stays")
    base.build()
    base.put("a.csv", "a,b\n1\n")
    built = base.build()
    assert [one.document for one in built.refused] == ["a.csv"]
    assert base.texts() == [("b.md", "stays")]
    # What was refused is not tried again as long as it is the same.
    assert base.build().read == 0
    base.put("a.csv", "a,b\n3,4\n")
    assert base.build().refused == ()
    assert base.texts()[0] == ("a.csv", "a: 3 · b: 4")


def test_a_file_that_grows_while_it_is_read_is_looked_at_again(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base.put("a.md", "one")
    convert = knowledge.convert

    def growing(*args: Any) -> Any:
        converted = convert(*args)
        path.write_text("one and more")
        return converted

    monkeypatch.setattr(knowledge, "convert", growing)
    (refused,) = base.build().refused
    assert "changed while it was being read" in refused.reason
    monkeypatch.undo()
    assert base.build().read == 1
    assert base.texts() == [("a.md", "one and more")]


def test_a_full_disk_ends_the_build_and_leaves_what_was_there(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.put("a.md", "one")
    base.build()
    base.put("b.md", "two")

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(knowledge, "convert", full)
    with pytest.raises(BadKnowledgeBase, match="no room"):
        base.build()
    monkeypatch.undo()
    assert base.texts() == [("a.md", "one")]
    assert base.build().read == 1


def test_two_folders_may_have_files_of_one_name_and_neither_replaces_the_other(tmp_path: Path) -> None:
    base = Base(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    base.put("a.md", "one")
    (other / "a.md").write_text("two")
    built = build(base.store, "docs", [base.folder, other])
    assert [text for _, text in base.texts()] == ["one", "two"]
    assert len({row["id"] for row in built.thing.table().to_pylist()}) == 2
    again = build(base.store, "docs")
    assert (again.is_new, again.files) == (False, 2)
    assert build(base.store, "docs", [other]).removed == 1
    with pytest.raises(BadKnowledgeBase, match="twice"):
        build(base.store, "docs", [tmp_path, other])


def test_names_of_any_unicode_and_case_are_told_apart(base: Base) -> None:
    names = ["A.md", "a.md", "caf\u00e9.md", "cafe\u0301.md", "日本.md", "a b'\"%;.md", "..x.md", "n\nl.md"]
    for name in names:
        base.put(name, f"text of {name}")
    built = base.build()
    assert (built.files, built.refused) == (len(names) - 1, ())
    assert any("..x.md" in one for one in built.ignored)


def test_a_name_that_is_not_utf_8_is_passed_over_with_the_reason(base: Base) -> None:
    base.put("a.md", "one")
    (base.folder / os.fsdecode(b"caf\xe9.md")).write_text("x")
    (reason,) = base.build().ignored.values()
    assert "UTF-8" in reason


def test_what_a_source_holds_can_be_part_of_it(base: Base, tmp_path: Path) -> None:
    files, records = {}, []
    for name, table in (
        ("landing/notes/a.csv", ""),
        ("landing/notes/b.xlsx", "Sheet 1"),
        ("landing/notes/b.xlsx", "Sheet 2"),
    ):
        component = f"{len(files)}.parquet"
        files[component] = tmp_path / component
        pq.write_table(pa.table({"n": [len(files)], "when": [f"of {table or name}"]}), files[component])
        records.append(
            {
                "name": name,
                "table": table,
                "size": 1,
                "mtime_ns": 1,
                "hash": "x",
                "component": component,
                "rows": 1,
            }
        )
    draft = Draft(files=files, parameters={"files": records, "quarantined": []})
    thing = base.store.commit("sources", Partition.source("notes"), draft)
    built = build(base.store, "docs", sources=["notes"])
    rows = built.thing.table().to_pylist()
    assert {(row["folder"], row["document"], row["table"], row["row"], row["text"]) for row in rows} == {
        ("source:notes", "landing/notes/a.csv", None, 1, "n: 1 · when: of landing/notes/a.csv"),
        ("source:notes", "landing/notes/b.xlsx", "Sheet 1", 1, "n: 2 · when: of Sheet 1"),
        ("source:notes", "landing/notes/b.xlsx", "Sheet 2", 1, "n: 3 · when: of Sheet 2"),
    }
    assert built.thing.based_on == (thing.id,)
    assert build(base.store, "docs").read == 0
    with pytest.raises(BadKnowledgeBase, match="nothing yet"):
        build(base.store, "docs", sources=["missing"])


def test_what_cannot_be_built_is_told(base: Base) -> None:
    with pytest.raises(BadKnowledgeBase, match="no knowledge base 'docs' yet"):
        build(base.store, "docs")
    with pytest.raises(BadKnowledgeBase, match="there is no folder"):
        build(base.store, "docs", [base.folder / "missing"])
    for name in ("", "../x", "a/b", "-x", "x" * 101):
        with pytest.raises(BadKnowledgeBase, match="cannot be the name"):
            build(base.store, name, [base.folder])
    base.build()
    with pytest.raises(UnknownKnowledgeBase, match="Did you mean docs"):
        knowledge_base(base.store, "doc")


def test_an_empty_folder_is_a_knowledge_base_that_grows(base: Base) -> None:
    assert base.build().texts == 0
    assert base.find("anything") == []
    base.put("a.md", "anything")
    assert base.build().texts == 1
    assert len(base.find("anything")) == 1
    (base.folder / "a.md").unlink()
    assert base.build().removed == 1
    assert base.find("anything") == []
    assert list(knowledge_bases(base.store)) == ["docs"]


def test_everything_is_read_again_when_the_readers_find_more(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.put("a.md", "one")
    base.build()
    monkeypatch.setattr(knowledge, "READER", knowledge.READER + 1)
    built = base.build()
    assert (built.is_new, built.read) == (True, 1)


def places(hits: list[Hit]) -> list[str]:
    return [one.place for one in hits]


def test_texts_are_found_the_best_first(filled: Base) -> None:
    assert places(filled.find("bond")) == ["sub/b.csv, row 1"]
    assert places(filled.find("uber")) == ["sub/copy.md", "sub/deep/ünï 🛫.md"]
    assert places(filled.find("zipped")) == ["z.zip/d.md"]
    assert places(filled.find("f.csv")) == ["z.zip/f.csv, row 1"]
    assert places(filled.find("MULL*")) == ["sub/b.csv, row 2"]
    assert places(filled.find('"the title of"', limit=1)) == ["sub/like.md"]
    assert places(filled.find("aeroplanes -title")) == ["a.md"]
    assert places(filled.find("title", under="sub/")) == ["sub/like.md", "sub/like too.md"]
    assert filled.find("bond zipped") == []
    assert set(places(filled.find("bond zipped", any_word=True))) == {"sub/b.csv, row 1", "z.zip/d.md"}
    (hit,) = filled.find("two")
    assert (hit.heading, hit.part, hit.document) == ("Two", 2, "a.md")
    assert filled.find("bond")[0].snippet == "id: 007 · name: [Bond]"
    assert filled.find("title")[0].score >= filled.find("title")[-1].score > 0


def test_words_of_scripts_without_spaces_are_found_anywhere(base: Base) -> None:
    base.put("東京/メモ.md", "今日は東京へ行きます。")
    base.put("ไทย.md", "สวัสดีชาวโลก")
    base.put("other.md", "京東")
    base.build()
    (hit,) = base.find("東京へ")
    assert (hit.document, hit.text) == ("東京/メモ.md", "今日は東京へ行きます。")
    assert hit.snippet == "今日は[東京へ]行きます。"
    assert places(base.find("東京", under="東京/")) == ["東京/メモ.md"]
    assert base.find("東京", under="東方/") == []
    assert places(base.find("ชาวโลก")) == ["ไทย.md"]
    assert places(base.find("行き* 東京")) == ["東京/メモ.md"]


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            [
                '"',
                "*",
                "-",
                "NEAR(",
                ")",
                "AND",
                "OR",
                "NOT",
                "a",
                ":",
                "^",
                "{",
                "+",
                "\0",
                "é",
                "日本",
                "text:",
                "''",
                ";--",
            ]
        )
    ).map(" ".join)
)
@example('"')
@example('text : "a')
@example("a" * 100_000)
@example(" ".join(f"w{number}" for number in range(2_000)))
@example("\ud800 bond")
def test_no_query_is_an_error_of_grammar(filled: Base, query: str) -> None:
    for any_word in (True, False):
        try:
            asked = expression(query, any_word=any_word)
        except NothingToFind:
            continue
        assert asked
        filled.find(query, any_word=any_word)


def test_the_index_follows_the_knowledge_base(base: Base) -> None:
    base.put("a.md", "first words")
    base.put("b.md", "others")
    base.build()
    assert places(base.find("first")) == ["a.md"]
    base.put("a.md", "second words")
    base.put("c.md", "first again")
    (base.folder / "b.md").unlink()
    older = knowledge_base(base.store, "docs")
    base.build()
    assert places(base.find("first")) == ["c.md"]
    assert base.find("others") == []
    assert places(search(older, base.index, "others")) == ["b.md"]
    assert places(base.find("second")) == ["a.md"]


@pytest.mark.parametrize("damage", ["gone", "garbage", "other layout", "torn"])
def test_an_index_that_is_damaged_is_made_anew(base: Base, damage: str) -> None:
    base.put("a.md", "some words " * 2_000)
    base.build()
    assert base.find("words")
    if damage == "gone":
        base.index.unlink()
    elif damage == "garbage":
        base.index.write_bytes(b"garbage" * 5_000)
    elif damage == "other layout":
        with sqlite3.connect(base.index) as database:
            database.execute("PRAGMA user_version = 99")
            database.execute("DROP TABLE documents")
    else:
        content = base.index.read_bytes()
        base.index.write_bytes(content[: len(content) // 2])
    assert base.find("words")


def test_an_index_that_cannot_be_written_is_told(base: Base, tmp_path: Path) -> None:
    base.put("a.md", "words")
    base.build()
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexUnusable, match="file"):
        search(knowledge_base(base.store, "docs"), tmp_path / "file" / "x.db", "words")


def test_many_may_search_while_the_index_is_brought_up_to_date(base: Base) -> None:
    for number in range(30):
        base.put(f"{number}.md", f"words {number}")
    base.build()
    thing = knowledge_base(base.store, "docs")
    found: list[int] = []

    def look() -> None:
        found.append(len(search(thing, base.index, "words", limit=100)))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [30] * 6


def test_the_index_of_one_version_is_kept_by_the_next(base: Base) -> None:
    for number in range(20):
        base.put(f"{number}.md", f"words {number}")
    base.build()
    before = rows_in_index(base)
    base.put("0.md", "other")
    base.build()
    after = rows_in_index(base)
    assert after.pop("0.md") > max(before.values())
    assert before.pop("0.md") > 0
    assert after == before


def rows_in_index(base: Base) -> dict[str, int]:
    with following(knowledge_base(base.store, "docs"), base.index) as database:
        return dict(database.execute("SELECT document, first FROM documents"))


def test_a_knowledge_base_is_exported_whole(filled: Base, tmp_path: Path) -> None:
    thing = knowledge_base(filled.store, "docs")
    count = export_texts(thing, tmp_path / "kb.parquet", "parquet")
    table = pq.read_table(tmp_path / "kb.parquet")
    assert table.num_rows == count == thing.rows
    assert table.schema.equals(KNOWLEDGE)
    assert export_texts(thing, tmp_path / "kb.jsonl", "jsonl") == count
    lines = (tmp_path / "kb.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == table.to_pylist()


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def test_the_graph_joins_what_contains_links_and_resembles(filled: Base, tmp_path: Path) -> None:
    told = export_graph(knowledge_base(filled.store, "docs"), tmp_path / "graph")
    nodes = {one["id"]: one for one in read_csv(tmp_path / "graph" / "nodes.csv")}
    edges = list(read_csv(tmp_path / "graph" / "edges.csv"))
    assert all({one["source"], one["target"]} <= set(nodes) for one in edges)
    named = {
        kind: {
            (nodes[one["source"]]["label"], nodes[one["target"]]["label"])
            for one in edges
            if one["kind"] == kind
        }
        for kind in ("contains", "links", "same_bytes", "alike")
    }
    assert {("tree", "a.md"), ("tree", "sub"), ("sub", "b.csv"), ("a.md", "Two"), ("z.zip", "d.md")} <= named[
        "contains"
    ]
    assert named["links"] == {
        ("Title", "b.csv"), ("Title", "nope.md"), ("Title", "https://example.org/"), ("zipped, see [e](e.md)", "e.md")
    }  # fmt: skip
    assert named["same_bytes"] == {("copy.md", "ünï 🛫.md")}
    assert {frozenset(one) for one in named["alike"]} == {
        frozenset(("like.md", "like too.md")), frozenset(("copy.md", "ünï 🛫.md"))
    }  # fmt: skip
    kinds = {nodes[one["target"]]["kind"] for one in edges if one["kind"] == "links"}
    assert kinds == {"file", "missing", "address", "member"}
    assert told["edges"]["links"] == 4
    inside = [one["target"] for one in edges if one["kind"] == "contains"]
    roots = {one for one, node in nodes.items() if node["kind"] == "folder" and not node["document"]}
    assert set(inside) | roots == {
        one for one, node in nodes.items() if node["kind"] not in ("missing", "address")
    }


def test_no_name_in_the_graph_is_a_formula_to_a_spreadsheet(base: Base, tmp_path: Path) -> None:
    base.put("=cmd|' /C calc'!A0.md", "# @SUM(1)\ntext")
    export_graph(base.build().thing, tmp_path, alike=None)
    cells = [cell for row in read_csv(tmp_path / "nodes.csv") for cell in row.values()]
    assert not any(cell.startswith(("=", "@")) for cell in cells)
    assert "'@SUM(1)" in cells


def test_documents_without_a_word_are_alike_to_nothing(base: Base, tmp_path: Path) -> None:
    base.put("a.md", "!")
    base.put("b.md", "?")
    assert "alike" not in export_graph(base.build().thing, tmp_path)["edges"]


def test_a_hit_says_its_place_in_one_line() -> None:
    hit = Hit(1.0, "", "", None, "/f", "a.zip", "b.xlsx", "Sheet 1", None, 7, None, "", "")
    assert hit.place == "a.zip/b.xlsx, sheet Sheet 1, row 7"
    assert replace(hit, member=None, table=None, row=None, page=3).place == "a.zip, page 3"


def test_a_knowledge_base_is_a_thing_like_any_other(filled: Base) -> None:
    thing: Thing = filled.store.get("kb-docs")
    assert thing.id == knowledge_base(filled.store, "docs").id
    assert thing.labels["knowledge_base"] == "docs"
    assert thing.metrics["refused"] == 3
    assert thing.dataset.to_pandas(columns=["text"]).shape[0] == thing.metrics["texts"]
