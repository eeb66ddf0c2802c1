"""Text of fixed width: values stand at the same characters of every line."""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.ingestion.delimited import DelimitedText, Layout, OtherEncoding, names_of, read_rows
from mlassets.ingestion.errors import EmptyFile, UnreadableFile
from mlassets.ingestion.formats import Tables
from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.text_streams import TextFile, is_gzip, text_file
from mlassets.ingestion.text_types import Column, Reading

_SAMPLE_LINES = 1_000


def read_fixed_width(source: Path, name: str, options: ReadOptions, tables: Tables) -> Mapping[str, Any]:
    """Read a file of fixed width: one table.

    The widths are given, or those between characters that are blank in all of the first lines.

    Raises:
        UnreadableFile: One of its subclasses.
    """
    compressed, encoding = is_gzip(source), options.encoding
    while True:
        lenient = options.on_bad_rows == "skip"
        file, head = text_file(source, name, compressed, encoding, lenient=lenient)
        try:
            with tables.table() as sink:
                read_rows(FixedWidthText(file, _layout(file, head, options), options), sink, tables)
            return {}
        except OtherEncoding as found:
            encoding = found.encoding


def _layout(file: TextFile, head: bytes, options: ReadOptions) -> Layout:
    whole = len(head) < 2**20
    text = (head if whole else head[: head.rfind(b"\n") + 1]).decode("utf-8", "replace")
    lines = list(islice(StringIO(text, newline=""), options.skip_rows + _SAMPLE_LINES))
    skipped = lines[: options.skip_rows]
    filled = [line.rstrip("\r\n") for line in lines[options.skip_rows :] if line.strip()]
    if not filled:
        raise EmptyFile(
            file.name, "the file holds nothing but blanks", "Land it again when it is written completely"
        )
    widths = options.widths or _widths(filled)
    if not widths or min(widths) < 1:
        raise UnreadableFile(
            file.name, f"{widths} are no widths of columns", "Give the characters of each with `widths:`"
        )
    rows = [[cell.strip() for cell in _cells(line, widths)] for line in filled]
    names, renamed, header = names_of(file.name, rows, options)
    if header and whole and len(filled) == 1:
        raise EmptyFile(
            file.name,
            "the file names columns but holds no row",
            "Land a file with at least one row, or say `header: false` if its first row is one",
        )
    before = len(skipped)
    if header:
        before += 1 + next(at for at, line in enumerate(lines[options.skip_rows :]) if line.strip())
    start = sum(len(line.encode()) for line in lines[:before])
    return Layout(names, renamed, header, start, before + 1, "", "", tuple(widths))


def _cells(line: str, widths: Sequence[int]) -> Iterator[str]:
    for end, width in zip(accumulate(widths), widths, strict=True):
        yield line[end - width : end]


def _widths(lines: Sequence[str]) -> tuple[int, ...]:
    """Return the characters from each beginning of a value to the next; the last goes to the end of a line."""
    longest = max(len(line) for line in lines)
    filled = np.zeros(longest + 1, bool)
    for line in lines:
        characters = np.frombuffer(line.encode("utf-32-le"), np.uint32)
        filled[: len(characters)] |= (characters != ord(" ")) & (characters != ord("\t"))
    starts = np.flatnonzero(filled & ~np.concatenate([[False], filled[:-1]]))
    starts[0] = 0
    return tuple(int(width) for width in np.diff([*starts, longest]))


class FixedWidthText(DelimitedText):
    """Parses blocks of lines of fixed width."""

    remedy = "Correct the line, or `widths:`; `on_bad_rows: skip` takes the others"

    def arrays(
        self, data: bytes, columns: Sequence[Column], readings: Sequence[Reading] | None
    ) -> tuple[list[pa.Array], list[int]]:
        """Return the values by column as text, and all places: each is to be looked at.

        Raises:
            ArrowInvalid: If a line is too long, or is not UTF-8.
        """
        newline = b"\n" if b"\n" in data else b"\r"
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == newline[0]) + 1
        if not len(ends) or ends[-1] != len(data):
            ends = np.append(ends, len(data))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data))
        lines.validate(full=True)
        lines = pc.utf8_rtrim(lines, "\r\n")
        lines = lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))
        total = sum(self.layout.widths)
        over = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(lines, total))
        if pc.any(pc.not_equal(over, "")).as_py():
            raise pa.ArrowInvalid("a line is too long")
        arrays = []
        for end, width in zip(accumulate(self.layout.widths), self.layout.widths, strict=True):
            text = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(lines, end - width, end))
            null = pc.is_in(text, value_set=pa.array(self.nulls, pa.string()))
            arrays.append(pc.if_else(null, pa.scalar(None, pa.string()), text))
        return arrays, list(range(len(arrays)))

    def rows(self, data: bytes, line: int) -> Iterator[tuple[int, bytes, str | None]]:
        """Give out line, bytes and fault of each line that is not blank."""
        total = sum(self.layout.widths)
        # One character for each byte, so that what is no UTF-8 can be cut, too.
        for number, one in enumerate(StringIO(data.decode("latin-1"), newline=""), line):
            raw = one.encode("latin-1")
            text = raw.decode("utf-8", "replace").rstrip()
            if text:
                reason = f"this line has {len(text):,} characters, the widths are {total:,} together"
                yield number, raw, reason if len(text) > total else None
