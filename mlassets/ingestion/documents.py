"""Documents become tables of their text: PDF, Word, Markdown, web pages and plain text.

A document is cut where its author cut it (pages, headings), and again where such a part is long, so that a part is
about as much as a person reads at once. The tables inside of a document are taken only where the options name them.
"""

import codecs
import mmap
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import byref, c_int, create_string_buffer
from dataclasses import dataclass, replace
from io import IncrementalNewlineDecoder
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlassets.ingestion.errors import EmptyFile, TruncatedFile, UnreadableFile, UnsafeArchive
from mlassets.ingestion.formats import Tables, distinct_names
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.text_streams import TextFile, not_utf8, text_file

DOCUMENT = pa.schema(
    [
        pa.field("document", pa.string()),
        pa.field("page", pa.int32()),
        pa.field("part", pa.int32()),
        pa.field("heading", pa.string()),
        pa.field("text", pa.string()),
        pa.field("links", pa.list_(pa.string())),
    ]
)
"""The landed name, the page from 1 where there are pages, the part from 1, the heading above it, its text, and what
it links to."""

PART_CHARACTERS = 2_000
"""A part that is longer is cut again, between paragraphs if it can be."""

LARGEST_MARKUP = 64 * 2**20
"""Markdown, web pages and the body of a Word document are held in memory while they are read."""

LARGEST_STREAM = 128 * 2**20
"""A page of a PDF, or a font, that unpacks to more is made to fill the memory."""

LARGEST_RATIO = 100
"""So is a PDF that unpacks to more than so many times its size and more than a stream may."""

_PARTS_AT_ONCE = 1_000
_MOST_COLUMNS = 1_000
_LINES_OF_A_TABLE = 4
_DEFLATED = 2**16
_MOST_FILTERS = 4
_CHUNK = 2**20
_PDFIUM = threading.Lock()
"""PDFium may be called by one thread at a time."""

_LAND_AGAIN = (
    "Land it again; if it was still being written, land it under another name and rename it when done"
)
_PROTECTED = "it is protected by a password"
_UNPROTECT = "Save it without a password and land it again"


@dataclass(frozen=True)
class Passage:
    """A piece of a document's text, in the order of reading.

    Attributes:
        text: The text; it may be empty below a heading.
        heading: The heading that it stands under.
        page: The page, from 1.
        links: What it links to, as written: addresses, or paths relative to the document.
    """

    text: str
    heading: str | None = None
    page: int | None = None
    links: tuple[str, ...] = ()


def read_text(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read plain text, whatever its size, a part at a time."""
    file, _ = text_file(source, name, False, options.encoding)

    def passages() -> Iterator[Passage]:
        held = ""
        for piece in _decoded(file, tables):
            *complete, held = _cut(held + piece) or [""]
            yield from (Passage(text) for text in complete)
        yield Passage(held)

    _write(tables, name, passages())
    return {"encoding": file.encoding}


def read_markdown(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read Markdown: a part for each heading, its text as it was written."""
    if source.stat().st_size > LARGEST_MARKUP:
        tables.note(f"{name} is read as plain text: it is larger than {LARGEST_MARKUP:,} bytes")
        return read_text(source, name, options, tables)
    file, _ = text_file(source, name, False, options.encoding)
    _write(tables, name, _markdown("".join(_decoded(file, tables))))
    return {"encoding": file.encoding}


def _markdown(text: str) -> Iterator[Passage]:
    from markdown_it import MarkdownIt

    lines = text.split("\n")
    heading: str | None = None
    start = 0
    links: list[str] = []
    above = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "heading_open" and token.level == 0 and token.map:
            yield Passage("\n".join(lines[start : token.map[0]]), heading, links=tuple(links))
            start, links, above = token.map[1], [], True
        elif token.type == "inline":
            children = token.children or []
            if above:
                heading, above = "".join(one.content for one in children).strip() or None, False
            links += [str(one.attrs["href"]) for one in children if one.type == "link_open"]
            links += [str(one.attrs["src"]) for one in children if one.type == "image"]
    yield Passage("\n".join(lines[start:]), heading, links=tuple(links))


def read_web_page(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read the text of a web page: a part for each heading, without what no browser shows."""
    root, encoding = page_of(source, name, options, tables)
    _write(tables, name, _web_page(root))
    return {"encoding": encoding}


def page_of(source: Path, name: str, options: ReadOptions, tables: Tables) -> tuple[Any, str]:
    """Return the outermost element of a web page, and the encoding the page is in.

    Raises:
        UnreadableFile: If it is too large, holds nothing, or is in another encoding than it says.
    """
    from lxml import etree

    _check_size(source, name, "the page")
    file, _ = text_file(source, name, False, options.encoding or _declared_encoding(source))
    text = "".join(_decoded(file, tables))
    if not text.strip():
        raise EmptyFile(name, "the page holds nothing but blanks", _LAND_AGAIN)
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    if root is None:
        raise UnreadableFile(name, "the page holds no element", "Save it from the browser again")
    return root, file.encoding


_HIDDEN = frozenset(("head", "script", "style", "template", "noscript", "svg", "math", "iframe", "object"))
_INLINE = frozenset(
    (
        "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd",
        "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
        "wbr", "html", "body",
    )
)  # fmt: skip
_LINES = frozenset(("br", "tr", "li", "dt", "dd"))
_CELLS = frozenset(("td", "th"))
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))


def _web_page(root: Any) -> Iterator[Passage]:
    from lxml import etree

    title = root.findtext(".//title")
    heading = _one_line(title or "") or None
    texts: list[str] = []
    links: list[str] = []
    hidden = 0
    preformatted = 0

    def added(text: str | None) -> None:
        if text and not hidden:
            texts.append(text if preformatted else re.sub(r"\s+", " ", text))

    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag
        if event == "start":
            if tag in _HEADINGS and not hidden:
                yield Passage(_tidied("".join(texts)), heading, links=tuple(links))
                texts, links = [], []
            hidden += tag in _HIDDEN
            preformatted += tag == "pre"
            if tag not in _INLINE and tag not in _CELLS and not hidden:
                texts.append("\n" if tag in _LINES else "\n\n")
            if tag == "a" and not hidden and (target := (element.get("href") or "").strip()):
                links.append(target)
            added(element.text)
            continue
        if tag in _HEADINGS and not hidden:
            heading, texts = _one_line("".join(texts)) or None, []
        preformatted -= tag == "pre"
        hidden -= tag in _HIDDEN
        if tag not in _INLINE and tag not in _LINES and not hidden:
            texts.append(" | " if tag in _CELLS else "\n\n")
        added(element.tail)
    yield Passage(_tidied("".join(texts)), heading, links=tuple(links))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tidied(text: str) -> str:
    text = re.sub(r"(?: \|)? *\n *", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def read_pdf(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a PDF: a part for each page, headed by its bookmark, and, where they are named, the tables on its pages."""
    import pypdfium2 as pdfium

    _check_streams(source, name)
    with _PDFIUM:
        try:
            document = pdfium.PdfDocument(source)
        except pdfium.PdfiumError as error:
            if "password" in str(error).lower():
                raise UnreadableFile(name, _PROTECTED, _UNPROTECT) from error
            raise TruncatedFile(name, f"the PDF is cut off or damaged ({error})", _LAND_AGAIN) from error
    try:
        pages = _pages_of(document, name)
        blank: list[int] = []
        ruled: list[int] = []
        _write(tables, name, _pdf(document, name, pages, blank, ruled, tables))
    finally:
        with _PDFIUM:
            document.close()
    if len(blank) == pages and options.tables is None:
        reason = (
            f"none of its {pages:,} pages holds text: they may be pictures of it, such as a scanner makes"
        )
        raise EmptyFile(name, reason, "Have the text recognised (OCR), and land the PDF that comes of it")
    if blank:
        tables.note(f"pages without text were left out: {_shortened(blank)}")
    if ruled and options.tables is None:
        told = f"pages {_shortened(ruled)} are ruled as tables are"
        tables.note(f"{told}: `tables: page*` takes the tables, apart from the text")
    if options.tables is not None:
        _pdf_tables(source, name, options, tables)
    return {"pages": pages}


_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_SAID_OF_A_STREAM = 1_000
_INFLATED = re.compile(rb"/Fl(?:ateDecode)?\b")


def _check_streams(source: Path, name: str) -> None:
    """Refuse a PDF of which a part unpacks to what no page holds: PDFium would unpack it in memory.

    Pictures are passed over, which reading text does not unpack.
    """
    total = 0
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for stream in _STREAM.finditer(content):
            said = content[max(0, stream.start() - _SAID_OF_A_STREAM) : stream.start()].rpartition(b"obj")[2]
            if b"/Image" in said:
                continue
            filters = min(len(_INFLATED.findall(said)), _MOST_FILTERS)
            if not filters:
                continue
            size = 0
            for chunk in _unpacked(content, stream.end(), filters):
                size += len(chunk)
                total += len(chunk)
                if size > LARGEST_STREAM or total > max(LARGEST_STREAM, LARGEST_RATIO * len(content)):
                    reason = f"what begins at byte {stream.end():,} unpacks to more than any page holds"
                    raise UnsafeArchive(name, reason, "Print it to a new PDF, and land that")


def _unpacked(content: mmap.mmap, start: int, filters: int) -> Iterator[bytes]:
    """Return what is packed from `start` on, so many times, piece by piece."""
    chunks: Iterator[bytes] = (content[at : at + _DEFLATED] for at in range(start, len(content), _DEFLATED))
    for _ in range(filters):
        chunks = _inflated(chunks)
    return chunks


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack what zlib packed, a bounded piece at a time, as far as it is whole."""
    inflate = zlib.decompressobj()
    with suppress(zlib.error):
        for chunk in chunks:
            while chunk and not inflate.eof:
                if piece := inflate.decompress(chunk, _CHUNK):
                    yield piece
                chunk = inflate.unconsumed_tail
            if inflate.eof:
                return


def _pages_of(document: Any, name: str) -> int:
    import pypdfium2 as pdfium

    with _PDFIUM:
        try:
            pages = len(document)
        except pdfium.PdfiumError as error:
            raise TruncatedFile(name, f"the PDF is cut off or damaged ({error})", _LAND_AGAIN) from error
    if not pages:
        raise EmptyFile(name, "the PDF has no pages", _LAND_AGAIN)
    return pages


def _pdf(
    document: Any, name: str, pages: int, blank: list[int], ruled: list[int], tables: Tables
) -> Iterator[Passage]:
    import pypdfium2 as pdfium
    from pypdfium2 import raw

    headings = _bookmarks(document)
    heading: str | None = None
    for number in range(1, pages + 1):
        heading = headings.get(number, heading)
        with _PDFIUM:
            try:
                page = document[number - 1]
            except pdfium.PdfiumError as error:
                reason = f"page {number} is cut off or damaged ({error})"
                raise TruncatedFile(name, reason, _LAND_AGAIN) from error
            try:
                written = page.get_textpage()
                text = written.get_text_range()
                links = tuple(_pdf_links(document, page))
                lines = page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=1)
                if sum(1 for _ in islice(lines, _LINES_OF_A_TABLE)) == _LINES_OF_A_TABLE:
                    ruled.append(number)
                written.close()
            except pdfium.PdfiumError as error:
                reason = f"the text of page {number} cannot be read ({error})"
                raise TruncatedFile(name, reason, _LAND_AGAIN) from error
            finally:
                page.close()
        # PDFium writes the hyphen at which a word was broken as one of these.
        text = re.sub(r"[\ufffe\x02]\s*", "", text.replace("\r\n", "\n")).strip()
        tables.progress(number, pages)
        if text:
            yield Passage(text, heading, number, links)
        else:
            blank.append(number)


def _bookmarks(document: Any) -> dict[int, str]:
    """Return the first bookmark of each page that has one."""
    import pypdfium2 as pdfium

    found: dict[int, str] = {}
    with _PDFIUM:
        try:
            for one in islice(document.get_toc(), 100_000):
                target = one.get_dest()
                page = target.get_index() if target else None
                if page is not None and (title := _one_line(one.get_title())):
                    found.setdefault(page + 1, title)
        except (pdfium.PdfiumError, UnicodeError, ValueError):
            # Bookmarks are no more than a help; the text is read in any case.
            return found
    return found


def _pdf_links(document: Any, page: Any) -> Iterator[str]:
    from pypdfium2 import raw

    position, link = c_int(0), raw.FPDF_LINK()
    while raw.FPDFLink_Enumerate(page, byref(position), byref(link)):
        action = raw.FPDFLink_GetAction(link)
        if not action or raw.FPDFAction_GetType(action) != raw.PDFACTION_URI:
            continue
        size = raw.FPDFAction_GetURIPath(document, action, None, 0)
        buffer = create_string_buffer(size)
        raw.FPDFAction_GetURIPath(document, action, buffer, size)
        if target := buffer.value.decode("utf-8", "replace"):
            yield target


def _pdf_tables(source: Path, name: str, options: ReadOptions, tables: Tables) -> None:
    import pdfplumber
    from pdfminer.pdfexceptions import PDFException

    try:
        with pdfplumber.open(source) as document:
            for page in document.pages:
                for number, rows in enumerate(page.extract_tables(), 1):
                    _write_table(
                        tables, f"page {page.page_number} table {number}", _as_texts(rows), name, options
                    )
                page.close()
    except UnreadableFile:
        raise
    except (
        PDFException,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = f"the tables of the PDF cannot be found ({type(error).__name__}: {error})"
        raise TruncatedFile(name, reason[:300], "Take its text alone: leave out `tables`") from error


def read_word(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a Word document: a part for each heading, and, where they are named, its tables."""
    from zipfile import BadZipFile

    import docx
    from docx.opc.exceptions import OpcError
    from lxml import etree

    from mlassets.ingestion.archives import check_office

    check_office(source, name, largest=LARGEST_MARKUP)
    try:
        document = docx.Document(str(source))
        passages = list(_word(document))
        inner = [[_spread(_word_cells(row)) for row in one.rows] for one in document.tables]
    except (*_WORD_FAULTS, OpcError, etree.XMLSyntaxError, BadZipFile) as error:
        text = " ".join(str(error).split())[:200]
        raise TruncatedFile(name, f"the Word document is cut off or damaged ({text})", _LAND_AGAIN) from error
    _write(tables, name, iter(passages))
    for number, rows in enumerate(inner, 1):
        if tables.wants(f"table {number}", optional=True):
            _write_table(tables, f"table {number}", _as_texts(rows), name, options)
    return {"tables": [f"table {number}" for number in range(1, len(inner) + 1)]} if inner else {}


_WORD_FAULTS = (
    KeyError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError, RecursionError, EOFError,
    zlib.error,
)  # fmt: skip


def _word(document: Any) -> Iterator[Passage]:
    from docx.text.paragraph import Paragraph

    heading: str | None = None
    texts: list[str] = []
    links: list[str] = []
    for block in document.iter_inner_content():
        if not isinstance(block, Paragraph):
            rows = ("\t".join(_one_line(text) for text, _ in _word_cells(row)) for row in block.rows)
            texts.append("\n".join(rows))
            continue
        if _is_heading(block) and block.text.strip():
            yield Passage("\n\n".join(texts), heading, links=tuple(links))
            heading, texts, links = _one_line(block.text), [], []
        elif block.text.strip():
            texts.append(block.text)
        links += [one.url for one in block.hyperlinks if one.url]
    yield Passage("\n\n".join(texts), heading, links=tuple(links))


def _word_cells(row: Any) -> Iterator[tuple[str, int]]:
    """Yield the text of each cell of a row, and how many columns it spans."""
    from docx.table import _Cell

    # `row.cells` would repeat a cell for each column, of which a document may claim a thousand million.
    for cell in row._tr.tc_lst:
        yield _Cell(cell, row).text, cell.grid_span


def _spread(cells: Iterable[tuple[str, int]]) -> list[str | None]:
    """Return the texts of a row by column; a cell that spans several is followed by nothing."""
    texts: list[str | None] = []
    for text, columns in cells:
        texts += [text, *[None] * (min(columns, _MOST_COLUMNS) - 1)]
    return texts[:_MOST_COLUMNS]


def _is_heading(paragraph: Any) -> bool:
    style = paragraph.style
    if style is not None and (style.name or "").startswith(("Heading", "Title")):
        return True
    # Styles of other languages and of one's own say it by their level.
    own = [paragraph._p.pPr] + ([style.element.pPr] if style is not None else [])
    return any(one is not None and one.xpath("./w:outlineLvl[number(@w:val) < 9]") for one in own)


def _write(tables: Tables, name: str, passages: Iterator[Passage]) -> None:
    """Write the parts of a document as its one table that is always there."""
    with tables.table() as sink:
        if not sink.wanted:
            return
        sink.begin(DOCUMENT)
        numbered = enumerate((one for passage in passages for one in _parts(passage)), 1)
        while held := list(islice(numbered, _PARTS_AT_ONCE)):
            rows = [
                {
                    "document": name,
                    "page": one.page,
                    "part": number,
                    "heading": one.heading,
                    "text": one.text,
                    "links": list(dict.fromkeys(one.links)),
                }
                for number, one in held
            ]
            sink.write(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT))


def _parts(passage: Passage) -> Iterator[Passage]:
    """Cut a passage into parts; the links are those of its first."""
    heading = _clean(passage.heading) if passage.heading else None
    links = tuple(_clean(one) for one in passage.links)
    if not (text := _clean(passage.text)).strip():
        if heading or links:
            yield replace(passage, text="", heading=heading, links=links)
        return
    for part in _cut(text):
        if part.strip():
            yield Passage(part.strip("\n"), heading, passage.page, links)
            links = ()


def _clean(text: str) -> str:
    """Return what UTF-8 can say, without NUL, which no database keeps."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?…。]\s"), re.compile(r"\s"))


def _cut(text: str) -> list[str]:
    """Cut a text into parts that are not too long, where a person would.

    >>> [len(part) for part in _cut("word " * 1000)]
    [2000, 2000, 1000]
    """
    parts = []
    start = 0
    while len(text) - start > PART_CHARACTERS:
        window = text[start : start + PART_CHARACTERS]
        end = PART_CHARACTERS
        for mark in _BREAKS:
            # Not so early that the parts get small.
            if found := [one.end() for one in mark.finditer(window, PART_CHARACTERS // 2)]:
                end = found[-1]
                break
        parts.append(text[start : start + end])
        start += end
    if start < len(text):
        parts.append(text[start:])
    return parts


def _as_texts(rows: Iterable[Iterable[Any]]) -> list[list[str | None]]:
    return [
        [_clean(_one_line(str(cell))) or None if cell is not None else None for cell in row] for row in rows
    ]


def _write_table(
    tables: Tables, table: str, rows: Sequence[Sequence[str | None]], name: str, options: ReadOptions
) -> None:
    """Write a table found in a document; its first row names the columns unless the options say otherwise."""
    from mlassets.ingestion.text_types import typed

    with tables.table(table, optional=True) as sink:
        if not sink.wanted or not rows:
            return
        width = max(len(row) for row in rows)
        padded = [[*row, *[None] * (width - len(row))] for row in rows]
        first, body = ([None] * width, padded) if options.header is False else (padded[0], padded[1:])
        given = list(options.columns or ())
        names, renamed = distinct_names([*given, *first[len(given) :]][:width])
        if renamed:
            sink.found["named"] = renamed
        columns = [
            typed(pa.array([row[position] for row in body], pa.string()), options, column)[0]
            for position, column in enumerate(names)
        ]
        batch = pa.RecordBatch.from_arrays(columns, names=names)
        sink.begin(batch.schema)
        sink.write(batch)


def _shortened(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(one) for one in numbers[:10])
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10:,} more"


def _check_size(source: Path, name: str, what: str) -> None:
    size = source.stat().st_size
    if size > LARGEST_MARKUP:
        reason = f"{what} has {size:,} bytes, and is read up to {LARGEST_MARKUP:,}"
        raise UnreadableFile(name, reason, "Cut it into several files")


_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.I)


def _declared_encoding(source: Path) -> str | None:
    """Return the encoding that a web page says it is of; none if its first bytes say it better."""
    with source.open("rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    try:
        return codecs.lookup(found[1].decode()).name if (found := _DECLARED.search(head)) else None
    except LookupError:
        return None


def _decoded(file: TextFile, tables: Tables) -> Iterator[str]:
    """Yield the text in pieces, with one way to end lines."""
    decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    done, lines = file.bom, 1
    with file.bytes(tables.progress) as read:
        while True:
            raw = read(_CHUNK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                at = done + len(raw) - len(error.object)
                raise not_utf8(file.name, bytes(error.object), error, lines, at) from error
            if text:
                yield text
            if not raw:
                return
            done += len(raw)
            lines += text.count("\n")
