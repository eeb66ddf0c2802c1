"""Text files as blocks of whole records in UTF-8, whatever their encoding and line ends, in bounded memory.

A block ends where a record ends, which is not at every line end: a quoted value may hold some. Where every quote of a
block stands where quotes stand (at the ends of values, or doubled), whether a line end is inside a value is told by
counting quotes; elsewhere the csv module reads the block to tell.
"""

import codecs
import csv
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlassets.ingestion.errors import BadEncoding, RaggedRows, TruncatedFile, UnknownFormat

BLOCK = 2**20
LONGEST_RECORD = 2**28
_HEAD = 2**20
_SAMPLE = 2**16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF8 = ("utf-8", "utf8", "utf_8", "utf-8-sig", "ascii")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1a\x1b")) + b"\x7f"
_ENOUGH_LETTERS = 20
_FOREIGN = re.compile("Cyrillic|Greek|Hebrew|Arabic|Thai|CJK|Hiragana|Katakana|Hangul")
_SAVE_AS_UTF8 = "Save the whole file as UTF-8 and land it again, or name its encoding with `encoding:`"
_LAND_AGAIN = (
    "Land it again; if it was still being written, land it under another name and rename it when done"
)


@dataclass(frozen=True)
class TextFile:
    """A text file, and how its bytes become characters.

    Attributes:
        path: The file.
        name: The name it landed under, for errors.
        compressed: Whether it is gzipped.
        encoding: Its encoding, as Python knows it.
        bom: Bytes at its beginning that say so.
        given: Whether the encoding was given or said by the first bytes, so that no other is tried.
    """

    path: Path
    name: str
    compressed: bool
    encoding: str
    bom: int
    given: bool

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes need no transcoding."""
        return self.encoding in _UTF8

    @contextmanager
    def bytes(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Callable[[int], bytes]]:
        """Give a function that reads so many bytes of the text in UTF-8, fewer at its end only."""
        with opened(self.path, self.name, self.compressed, progress) as raw:
            raw(self.bom)
            yield raw if self.is_utf8 else _Transcoded(self, raw).read


def is_gzip(path: Path) -> bool:
    """Say whether a file is gzipped."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def opened(
    path: Path, name: str, compressed: bool, progress: Callable[[int, int], None] | None = None
) -> Iterator[Callable[[int], bytes]]:
    """Give a function that reads so many bytes of a file that may be gzipped, fewer at its end only.

    Raises:
        TruncatedFile: If the gzip data is damaged.
    """
    total = path.stat().st_size
    with pa.OSFile(str(path), "rb") as file:
        stream = pa.CompressedInputStream(file, "gzip") if compressed else file

        def read(size: int) -> bytes:
            parts: list[bytes] = []
            left = size
            while left:
                try:
                    part = stream.read(left)
                except OSError as error:
                    if not compressed:
                        raise
                    reason = f"the gzip data is cut off or damaged ({error})"
                    raise TruncatedFile(name, reason, _LAND_AGAIN) from error
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            if progress is not None:
                progress(min(file.tell(), total), total)
            return parts[0] if len(parts) == 1 else b"".join(parts)

        yield read


class _Transcoded:
    """Bytes of one encoding, given out as UTF-8."""

    def __init__(self, file: TextFile, raw: Callable[[int], bytes]) -> None:
        self._file, self._raw = file, raw
        self._decoder = codecs.getincrementaldecoder(file.encoding)("strict")
        self._ready = b""
        self._at = file.bom
        self._lines = 1
        self._ended = False

    def read(self, size: int) -> bytes:
        parts = [self._ready]
        held = len(self._ready)
        while held < size and not self._ended:
            raw = self._raw(BLOCK)
            self._ended = not raw
            try:
                text = self._decoder.decode(raw, final=self._ended).encode()
            except UnicodeError as error:
                start = getattr(error, "start", 0)
                raise BadEncoding(
                    self._file.name,
                    f"byte {self._at + start} and what follows is not {self._file.encoding}",
                    _SAVE_AS_UTF8,
                    line=self._lines,
                    byte=self._at + start,
                ) from error
            self._at += len(raw)
            self._lines += text.count(b"\n")
            parts.append(text)
            held += len(text)
        whole = b"".join(parts)
        self._ready = whole[size:]
        return whole[:size]


def text_file(
    path: Path, name: str, compressed: bool, encoding: str | None = None, *, lenient: bool = False
) -> tuple[TextFile, bytes]:
    """Find out a file's encoding; return it with its first mebibyte in UTF-8.

    A mark at the beginning decides, or zeros where UTF-16 has them; else it is UTF-8, unless bytes that are not speak
    for another encoding.

    Args:
        path: The file.
        name: The name it landed under.
        compressed: Whether it is gzipped.
        encoding: Its encoding, where that is given.
        lenient: Whether bytes that are not UTF-8 are left for others to find.

    Raises:
        BadEncoding: If it is UTF-8 in part.
        UnknownFormat: If it is no text.
    """
    with opened(path, name, compressed) as read:
        raw = read(_HEAD)
    mark = next((one for one in _BOMS if raw.startswith(one[0])), None)
    if encoding is not None:
        try:
            found = codecs.lookup(encoding).name
        except LookupError:
            raise BadEncoding(
                name, f"{encoding!r} is no encoding that is known", "Name one such as `latin-1` or `utf-16`"
            ) from None
        if found in ("utf-16", "utf-32") and not mark:
            found += "-le"
        if mark and found.removesuffix("-sig").startswith(mark[1][:5]):
            file = TextFile(path, name, compressed, mark[1], len(mark[0]), True)
        else:
            file = TextFile(path, name, compressed, found, 0, True)
    elif mark:
        file = TextFile(path, name, compressed, mark[1], len(mark[0]), True)
    else:
        zeros = _wide(raw)
        file = TextFile(path, name, compressed, zeros or "utf-8", 0, zeros is not None)
    if file.encoding == "utf-8" and not file.given:
        # The cut at the end may fall inside a character.
        text = raw if len(raw) < _HEAD else raw[: raw.rfind(b"\n") + 1] or raw[:-4]
        try:
            text.decode()
        except UnicodeDecodeError as error:
            _check_text(name, text, _CONTROL)
            other = other_encoding(text)
            if other is not None:
                file = TextFile(path, name, compressed, other, 0, False)
            elif not lenient:
                raise not_utf8(name, text, error, line=1, offset=0) from error
        else:
            _check_text(name, text, b"\0")
    with file.bytes() as read:
        return file, read(_HEAD)


def _check_text(name: str, raw: bytes, foreign: bytes) -> None:
    found = set(raw).intersection(foreign)
    if found:
        at = min(raw.index(byte) for byte in found)
        reason = f"byte 0x{raw[at]:02x} is of no text"
        fix = "Land it under the suffix of what it is, or name its encoding with `encoding:`"
        raise UnknownFormat(name, reason, fix, byte=at)


def _wide(raw: bytes) -> str | None:
    """Return the encoding whose zeros stand where those of this text do."""
    sample = np.frombuffer(raw[: len(raw[:_SAMPLE]) // 4 * 4], np.uint8)
    if len(sample) < 4:
        return None
    zero = [float(np.mean(sample[at::4] == 0)) for at in range(4)]
    shapes = {
        "utf-32-le": (0, 0, 1, 1),
        "utf-32-be": (1, 1, 0, 0),
        "utf-16-le": (0, 1, 0, 1),
        "utf-16-be": (1, 0, 1, 0),
    }
    for encoding, shape in shapes.items():
        if all(share > 0.6 if wanted else share < 0.1 for share, wanted in zip(zero, shape, strict=True)):
            return encoding
    return None


def other_encoding(text: bytes) -> str | None:
    """Return the encoding of text that is not UTF-8; None where it is so in part.

    charset-normalizer tells Cyrillic, Greek or Chinese where there is enough of it. Otherwise it is Windows' Western
    encoding, which holds Latin-1's letters at the same places.
    """
    # Bytes of other encodings are UTF-8 by chance, seldom.
    valid = [character for character in text.decode("utf-8", "ignore") if character > "\x7f"]
    foreign = sum(byte > 0x7F for byte in text) - len("".join(valid).encode())
    if foreign <= 2 * len(valid):
        return None
    lines = [line for line in text.splitlines() if not line.isascii()]
    found = _likely(b"\n".join(lines)[:_SAMPLE], text)
    if found is not None or valid:
        return found
    try:
        text.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _likely(sample: bytes, text: bytes) -> str | None:
    """Return the encoding of text in other letters than Latin ones."""
    if sum(byte > 0x7F for byte in sample) < _ENOUGH_LETTERS:
        return None
    from charset_normalizer import from_bytes

    best = from_bytes(sample, steps=5, chunk_size=512).best()
    if best is None or not any(_FOREIGN.search(alphabet) for alphabet in best.alphabets):
        return None
    try:
        text.decode(best.encoding)
    except UnicodeError:
        return None
    return str(best.encoding)


def not_utf8(name: str, text: bytes, error: UnicodeDecodeError, line: int, offset: int) -> BadEncoding:
    """Return the error for bytes that are not UTF-8, given the line and the offset at which they begin."""
    at = error.start
    return BadEncoding(
        name,
        f"byte 0x{text[at]:02x} is not UTF-8",
        _SAVE_AS_UTF8,
        line=line + (line_ends(text, at) if at else 0),
        byte=offset + at,
    )


@dataclass(frozen=True)
class Block:
    """Whole records of a file.

    Attributes:
        read: What was read: the records in UTF-8, with a line end after the last, and perhaps some of what follows.
        size: Bytes of the records.
        line: Line of the file that the first is in, from 1.
        offset: Where in the text the first begins, in bytes of UTF-8.
        ascii_before: Whether all before is ASCII.
        unclosed: Whether this is one line, whose last quote is never closed.
    """

    read: bytes
    size: int
    line: int
    offset: int
    ascii_before: bool
    unclosed: bool = False

    @property
    def data(self) -> bytes:
        """The records; cut out where they are used, and so on many cores."""
        return self.read[: self.size]


def blocks(
    read: Callable[[int], bytes],
    name: str,
    *,
    delimiter: str,
    quote: str,
    line: int = 1,
    size: int = BLOCK,
    first: int | None = None,
    skip_unclosed: bool = False,
) -> Iterator[Block]:
    """Cut a text into blocks of whole records.

    Args:
        read: Reads so many bytes.
        name: Name of the file, for errors.
        delimiter: What separates values.
        quote: What surrounds values; empty if nothing does.
        line: Line that the text begins in.
        size: Bytes of a block, more where a record is longer.
        first: Bytes of the first block.
        skip_unclosed: Whether a line whose quote is never closed is given out as a block of its own.

    Raises:
        RaggedRows: If a quote is never closed, or a record is too long.
    """
    rest = b""
    offset, ascii_before = 0, True
    want = first or size
    newline: bytes | None = None
    while True:
        more = read(max(want - len(rest), want))
        final = len(more) < want
        data = rest + more if rest else more
        if newline is None:
            # Files of old Macs end their lines by a carriage return alone.
            newline = b"\n" if b"\n" in data or b"\r" not in data else b"\r"
        while newline == b"\r" and data.endswith(newline) and (one := read(1)):
            # What looks like one line end may be the half of another.
            data += one
        while data:
            cut, unclosed = _cut(data, newline, delimiter.encode(), quote.encode(), final)
            if unclosed and not cut and final:
                # Rows before may end otherwise than most do.
                cut, unclosed = _cut_slowly(data, delimiter.encode(), quote.encode(), final)
            too_long = not cut and not unclosed and len(data) >= LONGEST_RECORD
            if (unclosed and not cut) or too_long:
                if not final and len(data) < LONGEST_RECORD:
                    break
                if not skip_unclosed or not quote:
                    raise _endless(name, line, bool(quote) and quote.encode() in data, final)
                end = next(iter(_line_lengths(data)))
                yield Block(data, end, line, offset, ascii_before, unclosed=True)
            elif not cut:
                break
            else:
                end = cut
                if data.endswith((b"\n", b"\r"), 0, cut):
                    yield Block(data, cut, line, offset, ascii_before)
                else:
                    yield Block(data[:cut] + b"\n", cut + 1, line, offset, ascii_before)
            line += line_ends(data, end)
            offset += end
            ascii_before = ascii_before and (data.isascii() or data[:end].isascii())
            data = data[end:]
            if not final:
                break
        rest = data
        if final:
            return
        want = size if len(rest) < size else len(rest)


def _endless(name: str, line: int, quoted: bool, final: bool) -> RaggedRows:
    if quoted:
        reason = "a quote is opened in this row and never closed, so the rest of the file would be one value"
        fix = 'Close the quote, or write a quote inside a value as ""'
    else:
        reason = f"this row is longer than {LONGEST_RECORD // 2**20} MB"
        fix = "Look whether its line end is missing"
    return RaggedRows(name, reason, fix, line=line)


def _cut(data: bytes, newline: bytes, delimiter: bytes, quote: bytes, final: bool) -> tuple[int, bool]:
    """Return where the last record that is whole ends, and whether a quote is open after it."""
    if not quote or quote not in data:
        return (len(data) if final else _after_last(data, newline, 0, len(data))), False
    characters = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(characters == quote[0])
    ends = np.frombuffer(b"\r\n" + delimiter + quote, np.uint8)
    opening, closing = at[0::2], at[1::2]
    before = characters[np.maximum(opening - 1, 0)]
    after = characters[np.minimum(closing + 1, len(data) - 1)]
    clean = bool(
        np.all((opening == 0) | np.isin(before, ends))
        and np.all((closing == len(data) - 1) | np.isin(after, ends))
    )
    if not clean:
        return _cut_slowly(data, delimiter, quote, final)
    is_open = len(at) % 2 == 1
    if final and not is_open:
        return len(data), False
    # Between values in quotes, from the last on.
    last = len(data)
    if is_open:
        last, at = int(at[-1]), at[:-1]
    for pair in range(len(at) - 2, -1, -2):
        if (cut := _after_last(data, newline, int(at[pair + 1]), last)) > 0:
            return cut, is_open
        last = int(at[pair])
    return _after_last(data, newline, 0, last), is_open


def _after_last(data: bytes, newline: bytes, start: int, stop: int) -> int:
    """Return where the last line end between two places ends; 0 if there is none."""
    cut = data.rfind(newline, start, stop) + 1
    return cut + 1 if cut and newline == b"\r" and data[cut : cut + 1] == b"\n" else cut


def line_ends(data: bytes, stop: int | None = None) -> int:
    r"""Return how many lines end before a place.

    >>> line_ends(b"a\r\nb\rc\nd")
    3
    """
    stop = len(data) if stop is None else stop
    ends = data.count(b"\n", 0, stop)
    if data.find(b"\r", 0, stop) >= 0:
        at = np.frombuffer(data, np.uint8)[:stop]
        ends += int(np.count_nonzero((at[:-1] == ord("\r")) & (at[1:] != ord("\n")))) + int(
            at[-1] == ord("\r")
        )
    return ends


def _cut_slowly(data: bytes, delimiter: bytes, quote: bytes, final: bool) -> tuple[int, bool]:
    last = cut = 0
    for start, end in _spans(data, delimiter, quote):
        last, cut = start, end
    if not final:
        # Whether the last record is whole, more of the file will tell.
        return last, False
    probe = data[last:] + b"\n\n"
    is_open = sum(1 for _ in _spans(probe + b"x\n", delimiter, quote)) == 1
    return (last, True) if is_open else (cut, False)


def _spans(data: bytes, delimiter: bytes, quote: bytes) -> Iterator[tuple[int, int]]:
    """Give out where each record begins and ends."""
    start = end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        # One character for each byte, so that lengths are those of the bytes.
        for line in StringIO(data.decode("latin-1"), newline=""):
            end += len(line)
            yield line

    with large_fields():
        for _ in csv.reader(
            lines(), delimiter=delimiter.decode("latin-1"), quotechar=quote.decode("latin-1")
        ):
            yield start, end
            start = end


def _line_lengths(data: bytes) -> Iterator[int]:
    """Give out the bytes of each line with its end."""
    for line in data.splitlines(keepends=True):
        yield len(line)


@contextmanager
def large_fields() -> Iterator[None]:
    """Let the csv module read values of any length."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
