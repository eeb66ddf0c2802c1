"""XML records and HTML tables to typed columns.

Nothing is fetched, and no entity is expanded: a file that declares one is refused, for data needs none, and nine of
them suffice to fill all memory. XML is read in pieces by expat, whose events cost no tree.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pyarrow as pa

from mlassets.ingestion.columns import TextColumns
from mlassets.ingestion.errors import BadEncoding, EmptyFile, NotRecords, TooLarge, TruncatedFile, UnsafeXml
from mlassets.ingestion.formats import Tables, distinct_names
from mlassets.ingestion.options import ReadOptions

_BLOCK = 2**20
_ROWS = 16_384
_DEEPEST = 200
_LONGEST_RECORD = 2**27
_MOST_COLUMNS = 20_000
_MOST_PATHS = 100_000
_MOST_SPANNED = 1_000
_NIL = "http://www.w3.org/2001/XMLSchema-instance nil"
_LOST = "Land it again; if it was still being written, land it under another name and rename it when done"

Path_ = tuple[str, ...]


def read_xml(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read an XML document whose records are elements of one name beside each other.

    The outermost elements that are there more than once, and have attributes or children, are the records, unless
    `records` says where they are. A record's attributes and children are its columns, those of children within
    `parent.child`; a child that a record has several of becomes JSON text.
    """
    if options.records is not None:
        paths = [tuple(options.records.split("."))]
        counts = _count(source, name, options)
        if paths[0] not in counts.elements:
            there = ", ".join(".".join(path) for path in list(counts.elements)[:20])
            raise NotRecords(
                name,
                f"there is no element {options.records!r}; there are {there}",
                "Say with `records:` where the records are, names joined by dots, from the outermost on",
            )
    else:
        paths = _records_of(_count(source, name, options))
    if not paths:
        raise EmptyFile(name, "the document holds no values", "Land a file with at least one record")
    for path in paths:
        table = ".".join(path[1:]) if len(paths) > 1 else ""
        with tables.table(table, found={"records": ".".join(path)}) as sink:
            if not sink.wanted:
                continue
            columns = TextColumns(sink, options, name)
            repeated: set[str] = set()
            for rows in _rows(source, name, options, path, repeated):
                columns.look(_arrays(rows, name))
            columns.drop_within(repeated)
            columns.begin()
            for rows in _rows(source, name, options, path, repeated):
                columns.write(_arrays(rows, name), len(rows))
            if repeated:
                sink.found["json"] = sorted(repeated)[:100]
    return {}


@dataclass
class _Counts:
    """What elements a document has, by the names from the outermost to them."""

    # Whether there are several within one parent, and whether they have attributes or children.
    elements: dict[Path_, list[bool]] = field(default_factory=dict)


def _pieces(
    source: Path,
    name: str,
    options: ReadOptions,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    text: Callable[[str], None] | None = None,
) -> Iterator[int]:
    """Read a document and call back for what is in it; yield after each piece of it."""

    def entity(entity: str, *_: Any) -> None:
        raise UnsafeXml(
            name,
            f"it declares the entity {entity!r}",
            "Write what the entity stands for in its place, without a declaration",
            line=parser.CurrentLineNumber,
        )

    def outside(_: str, system: str | None, public: str | None, __: int) -> None:
        if system is not None or public is not None:
            raise UnsafeXml(
                name,
                f"it asks for a document type to be fetched ({system or public})",
                "Remove the DOCTYPE; nothing is ever fetched",
                line=parser.CurrentLineNumber,
            )

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.EntityDeclHandler, parser.StartDoctypeDeclHandler = entity, outside
    if text is not None:
        parser.CharacterDataHandler = text
    encoding = options.encoding or _declared(source)
    try:
        decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
        with source.open("rb") as file:
            while block := file.read(_BLOCK):
                parser.Parse(decoder.decode(block) if decoder else block, False)
                yield len(block)
        parser.Parse("" if decoder else b"", True)
    except expat.ExpatError as error:
        line, byte = error.lineno, max(0, parser.ErrorByteIndex)
        reason = expat.errors.messages.get(error.code, str(error))
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]:
            raise TruncatedFile(
                name, "the document ends before its elements do", _LOST, line=line, byte=byte
            ) from None
        if "encoding" in reason or ("invalid token" in reason and _is_not_utf_8(source)):
            raise BadEncoding(
                name,
                f"it is not in the encoding it says ({reason})",
                "Say its `encoding:`",
                line=line,
                byte=byte,
            ) from None
        raise TruncatedFile(
            name, f"it is no well-formed XML ({reason})", _LOST, line=line, byte=byte
        ) from None
    except (UnicodeError, LookupError, ValueError) as error:
        raise BadEncoding(
            name, f"it is not in the encoding it says ({error})", "Say its `encoding:`"
        ) from None


_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{1,100}encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")


def _declared(source: Path) -> str | None:
    """Return the encoding that a document says it is in, if it is one that Python has to read for expat."""
    with source.open("rb") as file:
        found = _DECLARED.match(file.read(256))
    try:
        encoding = codecs.lookup(found[1].decode()).name if found else None
    except LookupError:
        return None
    return None if encoding in (None, "utf-8", "utf-16", "ascii", "iso8859-1") else encoding


def _is_not_utf_8(source: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with source.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                decoder.decode(block)
        except UnicodeDecodeError:
            return True
    return False


def _local(element: str) -> str:
    """Return a name without its namespace."""
    return element.rpartition(" ")[2]


def _count(source: Path, name: str, options: ReadOptions) -> _Counts:
    counts = _Counts()
    path: list[str] = []
    # Names of the children seen so far, for every open element.
    seen: list[set[str]] = [set()]

    def start(element: str, attributes: dict[str, str]) -> None:
        local = _local(element)
        path.append(local)
        if len(path) > _DEEPEST:
            raise NotRecords(name, f"its elements are more than {_DEEPEST} deep", "Land flatter records")
        about = counts.elements.setdefault(tuple(path), [False, False])
        if local in seen[-1]:
            about[0] = True
        seen[-1].add(local)
        if attributes:
            about[1] = True
        if len(path) > 1 and (parent := counts.elements.get(tuple(path[:-1]))) is not None:
            parent[1] = True
        if len(counts.elements) > _MOST_PATHS:
            raise NotRecords(name, "its elements have too many different names", "Name records alike")
        seen.append(set())

    def end(_: str) -> None:
        path.pop()
        seen.pop()

    for _ in _pieces(source, name, options, start, end):
        pass
    return counts


def _records_of(counts: _Counts) -> list[Path_]:
    """Return where the records are: the outermost elements that are repeated and hold more than a text."""
    repeated = [path for path, (several, holds) in counts.elements.items() if several and holds]
    if repeated:
        depth = min(map(len, repeated))
        return [path for path in repeated if len(path) == depth]
    # A single record: within whatever is only wrapped around it.
    path = next(iter(counts.elements), None)
    while path is not None:
        children = [one for one in counts.elements if len(one) == len(path) + 1 and one[: len(path)] == path]
        inner = [one for one in children if counts.elements[one][1]]
        if len(children) != 1 or not inner:
            return [path] if counts.elements[path][1] else []
        path = inner[0]
    return []


class _Element:
    """An open element of a record."""

    __slots__ = ("members", "nil", "texts")

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.nil = attributes.get(_NIL) in ("true", "1")
        self.members: dict[str, list[Any]] = {
            f"@{_local(key)}": [value] for key, value in attributes.items() if key != _NIL
        }
        self.texts: list[str] = []

    def value(self) -> Any:
        text = "".join(self.texts).strip()
        if self.nil:
            return None
        if not self.members:
            return text or None
        return {**self.members, "#text": [text]} if text else self.members


def _rows(
    source: Path, name: str, options: ReadOptions, path: Path_, repeated: set[str]
) -> Iterator[list[dict[str, str | None]]]:
    """Yield the records at a path, some at a time; what is there several times in one is added to `repeated`."""
    names: list[str] = []
    open_: list[_Element] = []
    held: list[dict[str, str | None]] = []
    depth = len(path)
    size = 0

    def start(element: str, attributes: dict[str, str]) -> None:
        nonlocal size
        names.append(_local(element))
        if open_ or (len(names) == depth and tuple(names) == path):
            if not open_:
                size = 0
            open_.append(_Element(attributes))

    def text(content: str) -> None:
        nonlocal size
        if open_:
            size += len(content)
            if size > _LONGEST_RECORD:
                raise TooLarge(
                    name, f"a record holds more than {_LONGEST_RECORD:,} characters", "Land smaller records"
                )
            open_[-1].texts.append(content)

    def end(element: str) -> None:
        names.pop()
        if not open_:
            return
        value = open_.pop().value()
        if open_:
            open_[-1].members.setdefault(_local(element), []).append(value)
            return
        row: dict[str, str | None] = {}
        _flatten(value if isinstance(value, dict) else {"#text": [value]}, "", row, repeated)
        held.append(row)

    # expat calls back while it reads, so that what it found so far is handed on between two pieces of the file.
    for _ in _pieces(source, name, options, start, end, text):
        if len(held) >= _ROWS:
            yield held[:]
            held.clear()
    if held:
        yield held


def _flatten(
    members: Mapping[str, list[Any]], prefix: str, row: dict[str, str | None], repeated: set[str]
) -> None:
    for key, values in members.items():
        if key == "#text":
            column = prefix.removesuffix(".") or "text"
        else:
            # An attribute has its name to itself unless a child has the same one.
            column = prefix + (key[1:] if key.startswith("@") and key[1:] not in members else key)
        if len(values) > 1 or column in repeated:
            repeated.add(column)
            row[column] = json.dumps([_plain(one) for one in values], ensure_ascii=False)
        elif isinstance(values[0], dict):
            _flatten(values[0], f"{column}.", row, repeated)
        else:
            row[column] = values[0]


def _plain(value: Any) -> Any:
    """Return an element as JSON has it: lists only where there are several."""
    if not isinstance(value, dict):
        return value
    return {
        key.removeprefix("@"): _plain(values[0]) if len(values) == 1 else [_plain(one) for one in values]
        for key, values in value.items()
    }


def _arrays(rows: list[dict[str, str | None]], name: str) -> dict[str, pa.Array]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if len(columns) > _MOST_COLUMNS:
        raise NotRecords(
            name, f"the records have more than {_MOST_COLUMNS:,} different children", "Name them alike"
        )
    return {column: pa.array([row.get(column) for row in rows], pa.string()) for column in columns}


def read_html(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read the tables of a web page; a page without tables is a document.

    Cells that span rows or columns are repeated in each. Tables that only lay out others are no tables.
    """
    from mlassets.ingestion.documents import page_of, read_web_page

    root, encoding = page_of(source, name, options, tables)
    found = [
        (_name_of(table), rows)
        for table in root.iter("table")
        if next(table.iterdescendants("table"), None) is None and (rows := _cells(table))
    ]
    if not found:
        return read_web_page(source, name, options, tables)
    for number, (named, (header, body)) in enumerate(found, 1):
        with tables.table((named or f"table_{number}") if len(found) > 1 else "") as sink:
            if not sink.wanted or not body:
                continue
            width = max(map(len, [*header, *body]))
            padded = [[*row, *[None] * (width - len(row))] for row in body]
            if options.header is not False and not header and not _is_data(padded):
                header, padded = padded[:1], padded[1:]
            elif options.header is False:
                header, padded = [], [[*row, *[None] * (width - len(row))] for row in header] + padded
            names, renamed = distinct_names(_joined(header, width))
            if renamed and options.columns is None:
                sink.found["named"] = renamed
            arrays = {one: pa.array([row[at] for row in padded], pa.string()) for at, one in enumerate(names)}
            columns = TextColumns(sink, options, name)
            columns.look(arrays)
            columns.begin()
            columns.write(arrays, len(padded))
    return {"encoding": encoding}


_Row = list[str | None]


def _name_of(table: Any) -> str:
    """Return the caption of a table, or what its page calls it."""
    caption = next(table.iter("caption"), None)
    text = " ".join("".join(caption.itertext()).split()) if caption is not None else ""
    return text or str(table.get("id") or "").strip()


def _cells(table: Any) -> tuple[list[_Row], list[_Row]] | None:
    """Return the rows of the header and of the body of a table; None if it has no cells."""
    header: list[_Row] = []
    body: list[_Row] = []
    # Cells that reach down from the rows above: by column, their text and how many rows are left.
    above: dict[int, tuple[str | None, int]] = {}
    for line in table.iter("tr"):
        row: _Row = []
        named = True
        cells = [cell for cell in line if cell.tag in ("td", "th")]
        if not cells and not above:
            continue
        for cell in cells:
            while len(row) in above:
                row.append(_reaching(above, len(row)))
            text = " ".join(_text_of(cell).split()) or None
            named = named and cell.tag == "th"
            down = _span(cell, "rowspan")
            for _ in range(_span(cell, "colspan")):
                if down > 1:
                    above[len(row)] = (text, down - 1)
                row.append(text)
        while len(row) in above:
            row.append(_reaching(above, len(row)))
        in_head = line.getparent() is not None and line.getparent().tag == "thead"
        (header if (in_head or (named and cells)) and not body else body).append(row)
    return (header, body) if header or body else None


def _reaching(above: dict[int, tuple[str | None, int]], column: int) -> str | None:
    text, left = above.pop(column)
    if left > 1:
        above[column] = (text, left - 1)
    return text


def _span(cell: Any, which: str) -> int:
    given = str(cell.get(which) or "1").strip()
    return min(max(1, int(given)), _MOST_SPANNED) if given.isdecimal() and len(given) < 9 else 1


def _text_of(cell: Any) -> str:
    """Return the text of a cell, without what no browser shows."""
    texts = [cell.text or ""]
    for child in cell:
        if isinstance(child.tag, str) and child.tag not in ("script", "style", "template"):
            texts.append(" " if child.tag in ("br", "p", "div", "li") else "")
            texts.append(_text_of(child))
        texts.append(child.tail or "")
    return "".join(texts)


def _joined(header: list[_Row], width: int) -> list[str | None]:
    """Return one name for each column, where several rows of a header stand above one another."""
    names: list[str | None] = []
    for at in range(width):
        parts = [row[at] for row in header if at < len(row) and row[at]]
        names.append(" ".join(dict.fromkeys(part for part in parts if part)))
    return names


def _is_data(rows: list[_Row]) -> bool:
    """Say whether the first row is one of numbers, as that below it."""
    return all(
        cell is not None and any(letter.isdigit() for letter in cell) and not any(map(str.isalpha, cell))
        for cell in rows[0]
    )
