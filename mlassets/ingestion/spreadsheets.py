"""Workbooks (xlsx, xls, ods) to typed tables, one for each sheet.

calamine reads a sheet into memory as one rectangle, from its first to its last cell. A cell at the far corner of an
otherwise empty sheet asks for half a terabyte, and the process ends; so where the cells of a sheet are is looked up
before calamine sees it.
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mlassets.ingestion.columns import Columns, check_count
from mlassets.ingestion.errors import (
    Protected,
    TooLarge,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
    UnsafeXml,
)
from mlassets.ingestion.formats import ROW_GROUP_ROWS, Sink, Tables, distinct_names
from mlassets.ingestion.options import ReadOptions

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Of a cell, calamine keeps 32 bytes, and the text if it is one.
_MOST_CELLS = 64_000_000
_MOST_UNPACKED = 4 * 2**30
_MOST_TEXTS = 2**29
_SHEET_ROWS = 1_048_576
_SHEET_COLUMNS = 16_384
_BLOCK = 2**20
# What a child may take that reads an old workbook; the format holds at most 255 sheets of 65,536 x 256 cells.
_CHILD_BYTES = 4 * 2**30
_CHILD_SECONDS = 120
_HEAD = 50
# Beyond this many columns fastexcel takes minutes to tell equal names apart.
_NARROW = 256
_LARGEST_WHOLE = 2.0**53
# A cell in a column beyond Z, as in `r="AA1"`, or a row beyond a million: others make no sheet too large. Two patterns
# that begin with plain text are searched faster than one.
_FAR = tuple(re.compile(quote + b"(?:[A-Za-z]{2,}[0-9]|[A-Za-z]?[0-9]{7})") for quote in (b'r="', b"r='"))
_CELL = re.compile(rb"r=[\"']([A-Za-z]{0,9})([0-9]{1,20})[\"']")
_DAMAGED = "Open it in a spreadsheet program and save it again"


def read_workbook(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read the sheets of a workbook: a table each.

    The first row that is about as full as the fullest ones is the header; what is above it (a title) is told, not
    taken. A column of whole numbers is one of integers, one of dates without times is one of dates. Cells with an
    error are null and counted. Where cells of a column were merged, each row has the value. Hidden sheets are taken
    only if they are named.
    """
    with source.open("rb") as file:
        head = file.read(8)
    if head == _OLE and _is_encrypted_package(source):
        raise Protected(
            name, "it is protected by a password", "Save it without one (Save as, Tools, General options)"
        )
    if head[:2] != b"PK":
        return _read_in_child(source, name, options, tables)
    simple = _check_extent(source, name, options)
    sheets = _sheets(source, name)
    wanted = deque(one.name for one in sheets if one.cells and tables.wants(one.name, optional=one.hidden))
    readers = deque(_Workbook(source, name, options, simple=simple) for _ in range(min(2, len(wanted))))
    done, total = 0, len(wanted)
    # A sheet is read while the one before it is written; more at a time would cost memory.
    with ThreadPoolExecutor(2, thread_name_prefix="sheets") as pool:
        pending: deque[tuple[_Workbook, Future[_Sheet]]] = deque()

        def next_sheet(_: str) -> _Sheet:
            nonlocal done
            while wanted and readers:
                reader = readers.popleft()
                pending.append((reader, pool.submit(reader.sheet, wanted.popleft())))
            reader, future = pending.popleft()
            readers.append(reader)
            done += 1
            tables.progress(done, total)
            return future.result()

        _take(sheets, next_sheet, name, options, tables)
    return {}


@dataclass(frozen=True)
class _Listed:
    """A sheet as the workbook lists it."""

    name: str
    hidden: bool
    cells: bool


def _sheets(source: Path, name: str) -> list[_Listed]:
    with _calamine(name):
        import python_calamine as calamine

        with calamine.load_workbook(str(source)) as workbook:
            listed = workbook.sheets_metadata
    visible, cells = calamine.SheetVisibleEnum.Visible, calamine.SheetTypeEnum.WorkSheet
    return [_Listed(one.name, one.visible != visible, one.typ == cells) for one in listed]


def _take(
    sheets: Sequence[_Listed],
    read: Callable[[str], "_Sheet"],
    name: str,
    options: ReadOptions,
    tables: Tables,
) -> None:
    """Write the sheets that are wanted, and tell which were left out."""
    for one in sheets:
        if not one.cells:
            tables.note(f"{one.name} was left out: it is a chart or a macro, not a sheet of cells")
            continue
        with tables.table(one.name, optional=one.hidden) as sink:
            if sink.wanted:
                _write(read(one.name), sink, options, name)
            elif one.hidden and options.tables is None:
                tables.note(f"{one.name} was left out: it is hidden; it is taken if `tables:` names it")


def _read_in_child(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read an old workbook in a process of its own, with limits.

    A few wrong bytes in such a file make calamine take all memory there is, and the process with it.
    """
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        asked = json.dumps({"skip_rows": options.skip_rows, "header": options.header})
        command = [sys.executable, "-m", "mlassets.ingestion.spreadsheets", str(source), name, folder, asked]
        child = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        try:
            told = json.loads((Path(folder) / "told.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            ended = child.returncode
            reason = f"the workbook is damaged: reading it ended the process that tried (exit code {ended})"
            raise TruncatedFile(name, reason, _DAMAGED) from None
        if "error" in told:
            raise _ERRORS_OF_CHILD[told["error"]](name, told["reason"], told["fix"])
        found = {one["name"]: one for one in told["sheets"]}

        def read(sheet: str) -> _Sheet:
            about = found[sheet]
            with pa.OSFile(str(Path(folder) / about["file"]), "rb") as file, pa.ipc.open_file(file) as held:
                columns = [column.combine_chunks() for column in held.read_all().columns]
            return _Sheet(columns, about["names"], about["rows"], about["found"])

        listed = [_Listed(one["name"], one["hidden"], one["cells"]) for one in told["sheets"]]
        _take(listed, read, name, options, tables)
    return {}


_ERRORS_OF_CHILD = {one.__name__: one for one in (Protected, TooLarge, TruncatedFile, UnknownFormat)}


def _as_child(source: Path, name: str, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Read all sheets of a workbook into files in a folder, and tell about them."""
    resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CHILD_SECONDS, _CHILD_SECONDS))
    try:
        workbook = _Workbook(source, name, ReadOptions(**asked), simple=False)
        told = []
        for number, one in enumerate(_sheets(source, name)):
            sheet = workbook.sheet(one.name) if one.cells else _Sheet([], [], 0)
            file = f"{number}.arrow"
            table = pa.Table.from_arrays(sheet.columns, names=[str(at) for at in range(len(sheet.columns))])
            with pa.OSFile(str(folder / file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
                writer.write_table(table)
            about = {"file": file, "names": sheet.names, "rows": sheet.rows, "found": sheet.found}
            told.append({"name": one.name, "hidden": one.hidden, "cells": one.cells, **about})
        return {"sheets": told}
    except UnreadableFile as error:
        return {"error": type(error).__name__, "reason": error.reason, "fix": error.fix}


def _is_encrypted_package(source: Path) -> bool:
    """Say whether this OLE file wraps an encrypted workbook, as the names in its directory tell."""
    wrapped = "EncryptedPackage".encode("utf-16-le")
    with source.open("rb") as file:
        before = b""
        while block := file.read(_BLOCK):
            if wrapped in before + block:
                return True
            before = block[-len(wrapped) :]
    return False


@contextmanager
def _calamine(name: str) -> Iterator[None]:
    """Turn what calamine raises into errors that say what to do."""
    try:
        yield
    except (UnreadableFile, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # Errors of Rust, among them panics, which are no `Exception`.
        if type(error).__module__.split(".")[0] in ("builtins", "mlassets", "resources") and not isinstance(
            error, ValueError
        ):
            raise
        text = " ".join(str(error).split("Context:")[0].split())[:200]
        if "assword" in text or "ncrypt" in text:
            raise Protected(name, "it is protected by a password", "Save it without one") from error
        raise TruncatedFile(name, f"the workbook is cut off, damaged, or none ({text})", _DAMAGED) from error


def _check_extent(source: Path, name: str, options: ReadOptions) -> bool:
    """Refuse a workbook that would not fit into memory; return whether it is narrow and has no merged cells.

    Raises:
        TooLarge: If it would not.
        Protected: If it is encrypted.
        TruncatedFile: If it is no whole ZIP archive.
    """
    simple = True
    most = min(options.unpacked, _MOST_UNPACKED)
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if sum(one.file_size for one in members) > most:
                raise _too_large(name, f"it unpacks to more than {most:,} bytes")
            names = {one.filename for one in members}
            if "content.xml" in names:
                manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in names else b""
                if b"encryption-data" in manifest:
                    raise Protected(name, "it is protected by a password", "Save it without one")
                with archive.open("content.xml") as content:
                    return _check_open_document(content, name) <= _NARROW
            if not any(one.endswith(("workbook.xml", "workbook.bin")) for one in names):
                raise UnknownFormat(
                    name, "this ZIP archive is not a workbook", "Land it under its right suffix"
                )
            for member in members:
                if "sharedstrings" in member.filename.lower() and member.file_size > _MOST_TEXTS:
                    raise _too_large(name, f"its texts are more than {_MOST_TEXTS:,} bytes")
                simple &= _check_sheet(archive, member, name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise TruncatedFile(name, f"the workbook is cut off or damaged ({error})", _DAMAGED) from error
    except Exception as error:
        # zlib's, lzma's and expat's errors have no class in common.
        if isinstance(error, UnreadableFile):
            raise
        raise TruncatedFile(name, f"the workbook is cut off or damaged ({error})", _DAMAGED) from error
    return simple


def _too_large(name: str, reason: str) -> TooLarge:
    return TooLarge(name, reason, "Delete cells far away from the table, or export the sheet as CSV")


def _check_sheet(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bool:
    """Check where the cells of a sheet (or of whatever this member is) are; return whether it is simple."""
    far = merged = False
    with archive.open(member) as file:
        before = b""
        while block := file.read(_BLOCK):
            text = before + block
            far = far or any(one.search(text) is not None for one in _FAR)
            merged = merged or b"mergeCell " in text
            before = text[-32:]
    if not far:
        # 26 columns of as many rows as there can be are not too many.
        return not merged
    width = height = 0
    with archive.open(member) as file:
        before = b""
        while block := file.read(_BLOCK):
            cells = _CELL.findall(before + block)
            before = block[-32:]
            if cells:
                height = max(height, max(int(row) for _, row in cells))
                width = max(width, max(map(_number_of, {column for column, _ in cells})))
    if height * max(1, width) > _MOST_CELLS or width > _SHEET_COLUMNS:
        raise _too_large(
            name, f"a sheet reaches to column {width:,} and row {height:,}, which is {height * width:,} cells"
        )
    return not merged and width <= _NARROW


def _number_of(column: bytes) -> int:
    number = 0
    for letter in column.upper():
        number = number * 26 + letter - 64
    return number


def _check_open_document(content: Any, name: str) -> int:
    """Check how many cells a sheet has, where a cell or a row can say that it is repeated; return the widest."""
    extent = {"rows": 0, "row": 0, "columns": 0, "column": 0, "height": 0, "width": 0}
    filled = {"row": False}
    widest = 0

    def start(element: str, attributes: dict[str, str]) -> None:
        kind = element.rpartition(" ")[2]
        if kind == "table":
            extent.update(rows=0, height=0, width=0)
        elif kind == "table-row":
            extent.update(row=_repeated(attributes, "rows"), column=0)
            filled["row"] = False
        elif kind in ("table-cell", "covered-table-cell"):
            extent["column"] += _repeated(attributes, "columns")
            if any(key.endswith("value-type") for key in attributes):
                occupied()
        elif kind == "p":
            occupied()

    def occupied() -> None:
        nonlocal widest
        filled["row"] = True
        widest = max(widest, extent["column"])
        extent["width"] = max(extent["width"], extent["column"])

    def end(element: str) -> None:
        if element.rpartition(" ")[2] == "table-row":
            extent["rows"] += extent["row"]
            if filled["row"]:
                extent["height"] = extent["rows"]
            if min(extent["height"], _SHEET_ROWS) * min(extent["width"], _SHEET_COLUMNS) > _MOST_CELLS:
                raise _too_large(name, f"a sheet has {extent['height']:,} rows of {extent['width']:,} cells")

    def entity(*_: Any) -> None:
        raise UnsafeXml(name, "it declares an entity, which no spreadsheet does", _DAMAGED)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.EntityDeclHandler = entity
    while block := content.read(_BLOCK):
        parser.Parse(block, False)
    parser.Parse(b"", True)
    return widest


def _repeated(attributes: Mapping[str, str], what: str) -> int:
    for key, value in attributes.items():
        if key.endswith(f"number-{what}-repeated") and value.isdecimal():
            return int(value)
    return 1


@dataclass
class _Sheet:
    """What a sheet holds: its columns, not yet made what they are, and what was found out about it."""

    columns: list[pa.Array]
    names: list[str]
    rows: int
    found: dict[str, Any] = field(default_factory=dict)


class _Workbook:
    """Reads the sheets of a workbook, one after the other."""

    def __init__(self, source: Path, name: str, options: ReadOptions, *, simple: bool) -> None:
        self._source, self._name, self._options, self._simple = source, name, options, simple
        self._reader: Any = None

    def sheet(self, sheet: str) -> _Sheet:
        """Read a sheet."""
        with _calamine(self._name):
            import fastexcel

            if self._reader is None:
                self._reader = fastexcel.read_excel(str(self._source))
            if self._simple and self._options.header is not False:
                header = self._options.skip_rows
                read = self._reader.load_sheet(sheet, header_row=header, schema_sample_rows=None)
                columns = read.available_columns()
                names = [one.name for one in columns]
                if _is_plain_header(names, columns):
                    return self._loaded({"header_row": header}, sheet, read, names, (), {})
            rows, merges, start, width = self._look(sheet)
            if not width:
                return _Sheet([], [], 0)
            first, names, above = _header(rows, merges, start, width, self._options)
            found = {"above": above} if above else {}
            # With names of their own for the columns, so that none is there twice.
            how = {"column_names": [str(number) for number in range(width)], "skip_rows": first}
            read = self._reader.load_sheet(sheet, schema_sample_rows=None, **how)
            return self._loaded(how, sheet, read, names, merges, found)

    def _look(
        self, sheet: str
    ) -> tuple[list[list[Any]], Sequence[tuple[tuple[int, int], tuple[int, int]]], tuple[int, int], int]:
        """Return the first rows of a sheet, cell by cell, its merged cells, and where its rectangle is."""
        import python_calamine

        with python_calamine.load_workbook(str(self._source)) as workbook:
            opened = workbook.get_sheet_by_name(sheet)
            start = opened.start or (0, 0)
            rows = opened.to_python(skip_empty_area=True, nrows=self._options.skip_rows + _HEAD)
            return rows, opened.merged_cell_ranges or (), start, opened.width

    def _loaded(
        self,
        how: Mapping[str, Any],
        sheet: str,
        read: Any,
        names: list[str],
        merges: Sequence[tuple[tuple[int, int], tuple[int, int]]],
        found: dict[str, Any],
    ) -> _Sheet:
        batch, errors = read.to_arrow_with_errors()
        wrong = errors.errors if errors is not None else []
        lost = {one.offset_position[1] for one in wrong if "got 'Error(" not in one.detail}
        if lost:
            # What the types that were guessed for these columns would have made null.
            read = self._reader.load_sheet(
                sheet,
                schema_sample_rows=None,
                dtypes=dict.fromkeys(sorted(lost), "string"),
            )
            batch, errors = read.to_arrow_with_errors()
            wrong = errors.errors if errors is not None else []
        columns = list(batch.columns)
        absolute = [one.absolute_index for one in read.selected_columns]
        if wrong:
            first = wrong[0]
            kind = re.search(r"Error\((\w+)\)", first.detail)
            found["errors"] = {
                "cells": len(wrong),
                "first": f"column {names[first.offset_position[1]]}",
                "what": _ERRORS.get(kind[1], kind[1]) if kind else first.detail,
            }
        below = how.get("skip_rows", 0)
        filled = 0
        for (top, left), (bottom, _) in merges:
            if bottom <= top or left not in absolute:
                continue
            position = absolute.index(left)
            start, end = max(0, top - below), min(batch.num_rows - 1, bottom - below)
            if top < below or start >= end:
                continue
            take = np.arange(batch.num_rows)
            take[start : end + 1] = start
            columns[position] = columns[position].take(pa.array(take))
            filled += 1
        if filled:
            found["merged"] = filled
        return _Sheet(columns, names, batch.num_rows, found)


_ERRORS = {
    "Div0": "#DIV/0!",
    "NA": "#N/A",
    "Name": "#NAME?",
    "Null": "#NULL!",
    "Num": "#NUM!",
    "Ref": "#REF!",
    "Value": "#VALUE!",
    "GettingData": "#GETTING_DATA",
}


def _is_plain_header(names: list[str], columns: Sequence[Any]) -> bool:
    """Say whether a row is certainly the header: all its cells have texts, and none of them is a number."""
    if not names or any(one.column_name_from != "looked_up" for one in columns):
        return False
    folded = [name.strip().casefold() for name in names]
    # A name that is there twice has got a number by now.
    numbered = any(re.fullmatch(r".*_\d+", name) for name in folded)
    return not numbered and len(set(folded)) == len(folded) and not any(_is_number(name) for name in names)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?[\d.,:/\s-]+\s*", text) is not None


def _header(
    rows: list[list[Any]],
    merges: Sequence[tuple[tuple[int, int], tuple[int, int]]],
    start: tuple[int, int],
    width: int,
    options: ReadOptions,
) -> tuple[int, list[str], list[str]]:
    """Return in which row of the sheet the values begin, the names of the columns, and what is above them."""
    skipped = max(0, options.skip_rows - start[0])
    counts = [sum(cell != "" for cell in row) for row in rows]
    fullest = max(counts[skipped:], default=0)
    at = next((n for n in range(skipped, len(rows)) if _is_full(rows[n], counts[n], fullest)), None)
    if options.header is False or at is None or (options.header is None and _is_data(rows, at)):
        return start[0] + skipped, [""] * width, []
    cells: list[Any] = list(rows[at])
    for (top, left), (bottom, right) in merges:
        # A name that spans several columns names each of them.
        if top <= start[0] + at <= bottom and 0 <= left - start[1] < width:
            above = rows[top - start[0]][left - start[1]] if top >= start[0] else ""
            for column in range(left - start[1], min(right - start[1] + 1, width)):
                cells[column] = cells[column] if cells[column] != "" else above
    above_ = [" ".join(str(cell) for cell in row if cell != "") for row in rows[skipped:at]]
    return start[0] + at + 1, [_text(cell) for cell in cells], [line for line in above_ if line][:10]


def _is_full(row: list[Any], count: int, fullest: int) -> bool:
    """Say whether a row can be the header, rather than a title above it; a column of row names may have none."""
    return count >= max(1.0, 0.6 * fullest) or (count == fullest - 1 and count > 0 and row[0] == "")


def _is_data(rows: list[list[Any]], at: int) -> bool:
    """Say whether a row is of the rows below it rather than their header: numbers and dates, as they are."""
    row = [cell for cell in rows[at] if cell != ""]
    below = rows[at + 1] if at + 1 < len(rows) else None
    if any(isinstance(cell, str) for cell in row) or below is None:
        return False
    return all(
        type(cell) is type(other)
        or (isinstance(cell, date | datetime) and isinstance(other, date | datetime))
        for cell, other in zip(rows[at], below, strict=True)
        if cell != "" and other != ""
    )


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _write(sheet: _Sheet, sink: Sink, options: ReadOptions, name: str) -> None:
    """Make the columns of a sheet what they are, and write the rows that are not blank."""
    if not sheet.rows or not sheet.columns:
        return
    sink.found.update(sheet.found)
    columns = [_refined(column) for column in sheet.columns]
    blank = np.ones(sheet.rows, bool)
    for column in columns:
        blank &= column.is_null().to_numpy(zero_copy_only=False)
    # A column without name or value was only formatted.
    kept = [
        at
        for at, column in enumerate(columns)
        if sheet.names[at].strip() or not pt.is_null(column.type) or options.columns is not None
    ]
    names, renamed = distinct_names([sheet.names[at] for at in kept])
    if options.columns is not None:
        check_count(name, options.columns, len(names))
        names, renamed = list(options.columns), {}
    if renamed:
        sink.found["named"] = renamed
    table = pa.Table.from_arrays([columns[at] for at in kept], names=names)
    if blank.any():
        inside = int(blank[: int(np.flatnonzero(~blank)[-1])].sum()) if not blank.all() else 0
        if inside:
            sink.found["blank_rows"] = inside
        table = table.filter(pa.array(~blank))
    typed = Columns(sink, replace(options, columns=None), name, texts=())
    for _ in typed.passes():
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            typed.write(table.slice(start, ROW_GROUP_ROWS).combine_chunks())


def _refined(column: pa.Array) -> pa.Array:
    """Return a column as what its values are: numbers as integers if all are whole, moments as dates or times."""
    if column.null_count == len(column):
        return pa.nulls(len(column))
    if pt.is_floating(column.type):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less_equal(pc.abs(column), _LARGEST_WHOLE))
        return pc.cast(column, pa.int64()) if pc.all(whole).as_py() else column
    if pt.is_timestamp(column.type):
        stamps = column.cast(pa.timestamp("us"))
        midnights = pc.floor_temporal(stamps, unit="day")
        days = midnights.cast(pa.date32())
        if pc.all(pc.equal(midnights, stamps)).as_py():
            return days
        # A time of day is a moment of the day with which these calendars begin.
        if pc.all(
            pc.is_in(days.drop_null(), value_set=pa.array([date(1899, 12, 30), date(1899, 12, 31)]))
        ).as_py():
            return stamps.cast(pa.time64("us"))
        return stamps
    if pt.is_duration(column.type):
        return column.cast(pa.duration("us"))
    return column


if __name__ == "__main__":
    _source, _name, _folder, _asked = sys.argv[1:]
    _told = _as_child(Path(_source), _name, Path(_folder), json.loads(_asked))
    (Path(_folder) / "told.json").write_text(json.dumps(_told), encoding="utf-8")
