"""Documents become tables of their text by page and heading; what is damaged or locked is refused in words."""

import io
import random
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docx
import pyarrow.parquet as pq
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reportlab.lib import colors, pdfencrypt
from reportlab.pdfgen import canvas
from reportlab.platypus import PageBreak, SimpleDocTemplate, Table, TableStyle

from mlassets.ingestion import documents
from mlassets.ingestion.documents import DOCUMENT, PART_CHARACTERS
from mlassets.ingestion.errors import (
    BadEncoding,
    EmptyFile,
    MissingTable,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
)
from mlassets.ingestion.formats import Converted, convert
from mlassets.ingestion.options import ReadOptions


def read(folder: Path, content: bytes, name: str, **options: Any) -> tuple[Converted, list[dict[str, Any]]]:
    source, target = folder / "landed", folder / "converted"
    source.write_bytes(content)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    converted = convert(source, name, target, ReadOptions(**options))
    first = converted.tables[0]
    assert first.name or first.schema.equals(DOCUMENT)
    return converted, pq.read_table(first.path).to_pylist()


def refused(folder: Path, content: bytes, name: str, **options: Any) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        read(folder, content, name, **options)
    assert str(caught.value).startswith(name)
    assert list((folder / "converted").iterdir()) == []
    return caught.value


def pdf(pages: Sequence[Sequence[str]], *, bookmarks: bool = False, password: str | None = None) -> bytes:
    held = io.BytesIO()
    encrypt = pdfencrypt.StandardEncryption(password) if password else None
    drawing = canvas.Canvas(held, encrypt=encrypt, invariant=True)
    for number, lines in enumerate(pages, 1):
        if bookmarks and lines:
            drawing.bookmarkPage(str(number))
            drawing.addOutlineEntry(f"Chapter {number}", str(number))
        for position, line in enumerate(lines):
            drawing.drawString(72, 800 - 14 * position, line)
        if number == 1:
            drawing.linkURL("https://example.org/x", (72, 700, 200, 720))
        drawing.showPage()
    drawing.save()
    return held.getvalue()


@pytest.fixture(scope="module")
def pdf_with_tables() -> bytes:
    held = io.BytesIO()
    grid = TableStyle([("GRID", (0, 0), (-1, -1), 1, colors.black)])
    one = Table([["id", "name", "price"], ["007", "Änne", "1.5"], ["008", "Bob", "2"]], style=grid)
    other = Table([["id", "id"], ["1", "x"]], style=grid)
    SimpleDocTemplate(held).build([one, PageBreak(), other])
    return held.getvalue()


@pytest.fixture(scope="module")
def word() -> bytes:
    document = docx.Document()
    document.add_paragraph("before")
    document.add_heading("First", 1)
    document.add_paragraph("ünï 🛫")
    table = document.add_table(2, 2)
    for row, cells in enumerate((("code", "n"), ("007", "1"))):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    own = document.add_paragraph("Of my own style")
    level = OxmlElement("w:outlineLvl")
    level.set(qn("w:val"), "1")
    own._p.get_or_add_pPr().append(level)
    document.add_paragraph("after")
    held = io.BytesIO()
    document.save(held)
    return held.getvalue()


def test_a_pdf_has_a_part_for_each_page_under_its_bookmark(tmp_path: Path) -> None:
    converted, rows = read(tmp_path, pdf([["Hello", "world"], [], ["Third"]], bookmarks=True), "a.pdf")
    assert rows == [
        {
            "document": "a.pdf",
            "page": 1,
            "part": 1,
            "heading": "Chapter 1",
            "text": "Hello\nworld",
            "links": ["https://example.org/x"],
        },
        {"document": "a.pdf", "page": 3, "part": 2, "heading": "Chapter 3", "text": "Third", "links": []},
    ]
    assert converted.found == {"pages": 3}
    assert "pages without text were left out: 2" in converted.notes


def test_pdfs_may_be_read_by_several_threads(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(12)]

    def text(folder: Path) -> str:
        folder.mkdir()
        return str(read(folder, pdf([[f"page {page} of {folder.name}"] for page in range(9)]), "a.pdf")[1])

    with ThreadPoolExecutor(4) as pool:
        for folder, found in zip(folders, pool.map(text, folders), strict=True):
            assert all(f"page {page} of {folder.name}" in found for page in range(9))


def test_a_pdf_without_text_is_refused_with_what_would_help(tmp_path: Path) -> None:
    error = refused(tmp_path, pdf([[], []]), "scan.pdf")
    assert isinstance(error, EmptyFile)
    assert "OCR" in error.fix


def test_a_pdf_that_is_locked_says_so(tmp_path: Path) -> None:
    assert "password" in refused(tmp_path, pdf([["x"]], password="secret"), "a.pdf").reason


def packed_pdf(content: bytes, filters: str) -> bytes:
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter%s>>stream\n%s\nendstream" % (len(content), filters.encode(), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    whole = b"%PDF-1.4\n"
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(whole)
    return whole + b"xref\n0 6\n0000000000 65535 f \n" + table + end


def test_a_pdf_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = b"BT /F 9 Tf (small) Tj ET " + b" " * 3_000_000
    once, twice = zlib.compress(page), zlib.compress(zlib.compress(page))
    _, rows = read(tmp_path, packed_pdf(once, "/FlateDecode"), "a.pdf")
    assert rows[0]["text"] == "small"
    # As at 128 MiB, only that making such a file takes a second.
    monkeypatch.setattr(documents, "LARGEST_STREAM", 2_000_000)
    for content, filters in ((once, "/FlateDecode"), (twice, "[/FlateDecode/FlateDecode]"), (once, "[/Fl]")):
        error = refused(tmp_path, packed_pdf(content, filters), "a.pdf")
        assert isinstance(error, UnsafeArchive), filters


def test_tables_of_a_pdf_are_taken_where_they_are_named_and_typed(
    tmp_path: Path, pdf_with_tables: bytes
) -> None:
    converted, rows = read(tmp_path, pdf_with_tables, "a.pdf", tables=("page*",))
    assert [one.name for one in converted.tables] == ["page 1 table 1", "page 2 table 1"]
    assert rows == [{"id": "007", "name": "Änne", "price": 1.5}, {"id": "008", "name": "Bob", "price": 2.0}]
    second = converted.tables[1]
    assert second.schema.names == ["id", "id_2"]
    assert second.found["named"] == {"id_2": "id"}
    converted, rows = read(tmp_path, pdf_with_tables, "a.pdf")
    assert [one.name for one in converted.tables] == [""]
    assert rows[0]["text"] == "id name price\n007 Änne 1.5\n008 Bob 2"
    assert converted.notes == (
        "pages 1, 2 are ruled as tables are: `tables: page*` takes the tables, apart from the text",
    )


def test_a_table_that_a_pdf_does_not_have_is_told_with_those_it_has(
    tmp_path: Path, pdf_with_tables: bytes
) -> None:
    error = refused(tmp_path, pdf_with_tables, "a.pdf", tables=("page 7 table 1",))
    assert isinstance(error, MissingTable)
    assert "page 1 table 1" in str(error)


def test_a_table_without_a_header_gets_the_names_that_are_given(
    tmp_path: Path, pdf_with_tables: bytes
) -> None:
    options = {"tables": ("page 2*",), "header": False, "columns": ("a", "b")}
    _, rows = read(tmp_path, pdf_with_tables, "a.pdf", **options)
    assert rows == [{"a": "id", "b": "id"}, {"a": "1", "b": "x"}]


def test_a_word_document_has_a_part_for_each_heading(tmp_path: Path, word: bytes) -> None:
    converted, rows = read(tmp_path, word, "a.docx")
    assert [(row["heading"], row["text"]) for row in rows] == [
        (None, "before"),
        ("First", "ünï 🛫\n\ncode\tn\n007\t1"),
        ("Of my own style", "after"),
    ]
    assert converted.found == {"tables": ["table 1"]}
    _, rows = read(tmp_path, word, "a.docx", tables=("table 1",))
    assert rows == [{"code": "007", "n": 1}]


def test_a_word_document_that_is_locked_old_or_of_another_kind_says_so(tmp_path: Path) -> None:
    assert "password" in refused(tmp_path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a.docx").reason
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.txt", "no document")
    assert isinstance(refused(tmp_path, held.getvalue(), "a.docx"), TruncatedFile)


def test_a_word_document_that_would_fill_the_memory_is_refused(
    tmp_path: Path, word: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LARGEST_MARKUP", 1_000)
    assert isinstance(refused(tmp_path, word, "a.docx"), UnsafeArchive)


def test_a_cell_as_wide_as_no_honest_table_fills_no_memory(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(1, 3)
    for position, cell in enumerate(table.rows[0].cells):
        cell.text = f"cell {position}"
    for element in table.rows[0]._tr.tc_lst:
        span = OxmlElement("w:gridSpan")
        span.set(qn("w:val"), str(10**9))
        element.get_or_add_tcPr().append(span)
    held = io.BytesIO()
    document.save(held)
    _, rows = read(tmp_path, held.getvalue(), "a.docx")
    assert rows[0]["text"] == "cell 0\tcell 1\tcell 2"


def test_entities_in_a_word_document_are_not_followed(tmp_path: Path, word: bytes) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(word)) as given_, zipfile.ZipFile(held, "w") as made:
        for info in given_.infolist():
            content = given_.read(info)
            if info.filename == "word/document.xml":
                body = content.split(b"?>", 1)[1].replace(b"before", b"&x;")
                content = b'<!DOCTYPE d [<!ENTITY x SYSTEM "file://%s">]>' % str(secret).encode() + body
            made.writestr(info, content)
    try:
        _, rows = read(tmp_path, held.getvalue(), "a.docx")
    except UnreadableFile:
        return
    assert not any("the secret" in str(row) for row in rows)


MARKDOWN = """intro [x](y.md)
# One *two*

para

## Sub ##
- a ![i](p.png)
```
# no heading
```

Setext
===
> # quoted
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_markdown_has_a_part_for_each_heading_as_it_was_written(tmp_path: Path, newline: str) -> None:
    _, rows = read(tmp_path, MARKDOWN.replace("\n", newline).encode(), "a.md")
    assert [(row["heading"], row["text"], row["links"]) for row in rows] == [
        (None, "intro [x](y.md)", ["y.md"]),
        ("One two", "para", []),
        ("Sub", "- a ![i](p.png)\n```\n# no heading\n```", ["p.png"]),
        ("Setext", "> # quoted", []),
    ]
    assert [row["part"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("cp1252", b"")],
)
def test_text_of_other_encodings_is_read_and_the_encoding_told(
    tmp_path: Path, encoding: str, bom: bytes
) -> None:
    converted, rows = read(tmp_path, bom + "# Größe\n\ndéjà vu".encode(encoding), "a.md")
    assert (rows[0]["heading"], rows[0]["text"]) == ("Größe", "déjà vu")
    assert converted.found["encoding"] == encoding


def test_an_encoding_that_is_given_holds(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "Привет".encode("koi8-r"), "a.md", encoding="koi8-r")
    assert rows[0]["text"] == "Привет"
    assert isinstance(refused(tmp_path, b"x", "a.md", encoding="klingon"), BadEncoding)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, b"abc\0def", "a.md"), UnknownFormat)
    error = refused(tmp_path, b"a" * 2**21 + b"\nb\n\xff\xfe", "a.md")
    assert isinstance(error, BadEncoding)
    assert (error.line, error.byte) == (3, 2**21 + 3)


def test_plain_text_of_any_size_is_cut_where_a_person_would(tmp_path: Path) -> None:
    paragraphs = [f"{number} " + "lorem ipsum dolor " * (number % 90) for number in range(500)]
    _, rows = read(tmp_path, "\n\n".join(paragraphs).encode(), "a.txt")
    texts = [row["text"] for row in rows]
    assert all(0 < len(text) <= PART_CHARACTERS for text in texts)
    assert max(len(text) for text in texts) > PART_CHARACTERS / 2
    assert "".join("".join(texts).split()) == "".join("".join(paragraphs).split())
    starts = sum(text.split(" ", 1)[0].isdigit() for text in texts)
    assert starts > 0.9 * len(texts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=5_000), st.integers(1, 40))
def test_no_character_of_a_text_is_lost_or_moved(tmp_path: Path, text: str, times: int) -> None:
    text = text.replace("\r", "\n") * times
    parts = documents._cut(text)
    assert "".join(parts) == text
    assert all(0 < len(part) <= PART_CHARACTERS for part in parts)


PAGE = """<html><head><title>My &amp; title</title><style>x{}</style></head><body>pre
<p>a <a href='x.html'>link</a>   b<script>evil()</script></p><!-- not this -->
<h1>Head <i>1</i></h1><ul><li>one<li>two</ul><dl><dt>1<dd>2</dl></body>"""


def web_page(folder: Path, content: bytes) -> list[dict[str, Any]]:
    return read(folder, content, "a.html")[1]


def test_a_web_page_has_a_part_for_each_heading_without_what_no_browser_shows(tmp_path: Path) -> None:
    rows = web_page(tmp_path, PAGE.encode())
    assert [(row["heading"], row["text"], row["links"]) for row in rows] == [
        ("My & title", "pre\n\na link b", ["x.html"]),
        ("Head 1", "one\ntwo\n\n1\n2", []),
    ]


def test_a_web_page_is_read_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="windows-1251"><p>Привет, мир'.encode("cp1251")
    assert web_page(tmp_path, page)[0]["text"] == "Привет, мир"


def test_parts_of_a_web_page_cannot_be_read_from_the_disk(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret")
    page = f'<!DOCTYPE html [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><p>text &x;'
    assert "the secret" not in str(web_page(tmp_path, page.encode()))


def test_any_bytes_of_a_document_are_read_or_refused(
    tmp_path: Path, word: bytes, pdf_with_tables: bytes
) -> None:
    dice = random.Random(6)
    for name, whole, times in (
        ("a.docx", word, 60),
        ("a.pdf", pdf_with_tables, 60),
        ("a.md", MARKDOWN.encode(), 30),
    ):
        for number in range(times):
            damaged = bytearray(whole)
            for _ in range(dice.choice((1, 5, 60))):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            if number % 3 == 0:
                del damaged[dice.randrange(1, len(damaged)) :]
            try:
                read(tmp_path, bytes(damaged), name, tables=("*",) if number % 2 else None)
            except UnreadableFile as error:
                assert str(error).startswith(name)  # noqa: PT017
