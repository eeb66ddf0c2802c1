"""What can be said of a text in any language: its length, its words, the kinds of its characters, its script.

Nothing is looked up in a dictionary or a model. The characters of many texts are one array of code points, on which
each figure is counted for all texts at once.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.quality.frames import is_text

LONGEST = 20_000
"""Characters of a text that are looked at."""

_BATCH = 1_000_000
_TOLD_BY = 300
_CODE_POINTS = 0x110000
_SPACE, _LETTER, _CAPITAL, _MARK, _DIGIT, _PUNCTUATION, _SYMBOL, _UNREADABLE = range(8)
_CLASSES = {"L": _LETTER, "M": _MARK, "N": _DIGIT, "P": _PUNCTUATION, "S": _SYMBOL, "Z": _SPACE}
_WHITE = "\t\n\v\f\r\x85"

PROPERTIES: dict[str, str] = {
    "characters": "Length in characters",
    "words": "Runs of characters between white space",
    "lines": "Lines",
    "word_length": "Characters in a word, on average",
    "longest_word": "Characters in the longest word",
    "letters": "Share of the characters, white space apart, that are letters",
    "capitals": "Share of the letters that are capitals",
    "digits": "Share of the characters, white space apart, that are digits",
    "punctuation": "Share of the characters, white space apart, that are punctuation",
    "symbols": "Share of the characters, white space apart, that are symbols: signs of currency, arithmetic, emoji",
    "unreadable": "Share of the characters that are control characters, unassigned, or stand for a byte that was lost",
    "links": "Web addresses",
    "script": "The script that most of its letters are of",
}
"""Each property with what it is; all are numbers but the script."""

NUMERIC = tuple(name for name in PROPERTIES if name != "script")


def properties_of(texts: pa.ChunkedArray | pa.Array) -> pa.Table:
    """Return the properties of texts as a table, a row for each text; those of null are null.

    Of a text longer than 20,000 characters all but its length is told from as many at its start.

    Args:
        texts: Strings.
    """
    whole = pa.chunked_array([texts]) if isinstance(texts, pa.Array) else texts
    rows: list[pa.Table] = [_of_batch(part) for part in _batches(whole)]
    return pa.concat_tables(rows) if rows else _of_batch(pa.array([], pa.string()))


def text_columns(rows: pa.Table) -> list[str]:
    """Return the columns of strings whose values are texts, and not names, categories, keys or addresses.

    A text has several words (or is written without spaces between them), and is rarely the same as another.

    Args:
        rows: Some rows, such as the first thousand.
    """
    return [field.name for field in rows.schema if _holds_texts(rows[field.name])]


def _holds_texts(values: pa.ChunkedArray) -> bool:
    if not is_text(values.type) or pa.types.is_dictionary(values.type):
        return False
    known = pc.cast(values, pa.large_string()).drop_null()
    # Most columns of strings hold names or codes, and are passed over at the cost of a look at their lengths.
    if len(known) == 0 or pc.mean(pc.utf8_length(known)).as_py() < 8:
        return False
    distinct = pc.count_distinct(known).as_py()
    if distinct < min(len(known), 5) or distinct < 0.2 * len(known):
        return False
    known = known[:_TOLD_BY]
    seen = properties_of(pc.utf8_slice_codeunits(known, 0, 500))
    long, words = (np.median(seen[name].to_numpy()) for name in ("characters", "words"))
    # Where no spaces stand between words, letters stand for words.
    unspaced = pc.mean(pc.is_in(seen["script"], value_set=pa.array(_WITHOUT_SPACES))).as_py() or 0.0
    letters = np.median(seen["letters"].to_numpy())
    return bool(letters > 0.5 and ((words >= 4 and long >= 20) or (unspaced > 0.5 and long >= 10)))


_WITHOUT_SPACES = ["cjk", "hiragana", "katakana", "thai", "lao", "khmer", "myanmar", "tibetan"]


def _batches(texts: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Cut texts into parts that have about a million characters each."""
    for chunk in texts.chunks:
        chunk = pc.cast(chunk, pa.string()) if chunk.type != pa.string() else chunk
        lengths = np.minimum(pc.fill_null(pc.utf8_length(chunk), 0).to_numpy(zero_copy_only=False), LONGEST)
        part = np.cumsum(lengths, dtype=np.int64) // _BATCH
        cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(chunk)]
        for start, stop in pairwise(cuts):
            yield chunk.slice(start, stop - start)


def _of_batch(texts: pa.Array) -> pa.Table:
    count = len(texts)
    full = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
    seen = pc.utf8_slice_codeunits(pc.fill_null(texts, ""), 0, LONGEST)
    codes, lengths = code_points(seen)
    owner = np.repeat(np.arange(count), lengths)
    kinds = _kinds()[codes]
    by_kind = np.bincount(owner * 8 + kinds, minlength=count * 8).reshape(count, 8)
    white = kinds == _SPACE
    ends_here = np.cumsum(lengths)
    starts_here = ends_here - lengths
    first = np.zeros(len(codes), dtype=bool)
    first[starts_here[lengths > 0]] = True
    begins = ~white & (first | np.r_[True, white[:-1]][: len(codes)])
    last = np.zeros(len(codes), dtype=bool)
    last[ends_here[lengths > 0] - 1] = True
    ends = ~white & (last | np.r_[white[1:], True][: len(codes)])
    word_starts, word_ends = np.flatnonzero(begins), np.flatnonzero(ends)
    longest = np.zeros(count, dtype=np.int64)
    np.maximum.at(longest, owner[word_starts], word_ends - word_starts + 1)
    words = np.bincount(owner[word_starts], minlength=count)
    ink = lengths - by_kind[:, _SPACE]
    letters = by_kind[:, _LETTER] + by_kind[:, _CAPITAL]
    lines = np.bincount(owner[codes == 10], minlength=count) + (lengths > 0)
    figures = {
        "characters": full,
        "words": words,
        "lines": lines,
        "word_length": _ratio(ink, words),
        "longest_word": longest,
        "letters": _ratio(letters, ink),
        "capitals": _ratio(by_kind[:, _CAPITAL], letters),
        "digits": _ratio(by_kind[:, _DIGIT], ink),
        "punctuation": _ratio(by_kind[:, _PUNCTUATION], ink),
        "symbols": _ratio(by_kind[:, _SYMBOL], ink),
        "unreadable": _ratio(by_kind[:, _UNREADABLE], lengths),
        "links": pc.count_substring_regex(seen, r"(?i)\b(https?://|www\.)").to_numpy(zero_copy_only=False),
    }
    null = pc.is_null(texts).to_numpy(zero_copy_only=False)
    columns = [pa.array(np.asarray(figures[name], dtype=np.float64), mask=null) for name in NUMERIC]
    script = pa.array(_scripts(codes, owner, kinds, count), pa.string(), mask=null)
    return pa.table([*columns, script], names=list(PROPERTIES))


def code_points(texts: pa.Array | pa.ChunkedArray) -> tuple[Any, Any]:
    """Return the characters of all texts one after the other, as code points, and how many each text has.

    Args:
        texts: Strings, none of them null.
    """
    joined = "".join(texts.to_pylist()).encode("utf-32-le", "surrogatepass")
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.frombuffer(joined, dtype=np.uint32), lengths


def _ratio(part: Any, of: Any) -> Any:
    return np.divide(part, of, out=np.zeros(len(part), dtype=np.float64), where=of > 0)


@cache
def _kinds() -> Any:
    """The kind of every code point."""
    kinds = np.full(_CODE_POINTS, _UNREADABLE, dtype=np.uint8)
    for code in range(_CODE_POINTS):
        category = unicodedata.category(chr(code))
        if category == "Lu":
            kinds[code] = _CAPITAL
        elif category == "Cf":  # joiners and marks of direction, which belong to words of many languages
            kinds[code] = _MARK
        elif category[0] in _CLASSES:
            kinds[code] = _CLASSES[category[0]]
    kinds[[ord(one) for one in _WHITE]] = _SPACE
    kinds[0xFFFD] = _UNREADABLE
    return kinds


def _scripts(codes: Any, owner: Any, kinds: Any, count: int) -> list[str | None]:
    """Return the script that most letters of each text are of: the first word of a letter's name in Unicode."""
    letter = (kinds == _LETTER) | (kinds == _CAPITAL)
    letters = codes[letter]
    present = np.flatnonzero(np.bincount(letters, minlength=1))
    named = [unicodedata.name(chr(code), "unnamed").split(" ")[0].split("-")[0].lower() for code in present]
    scripts = sorted(set(named))
    if not scripts:
        return [None] * count
    number = np.zeros(int(present[-1]) + 1, dtype=np.int64)
    number[present] = [scripts.index(name) for name in named]
    counts: Any = np.bincount(owner[letter] * len(scripts) + number[letters], minlength=count * len(scripts))
    counts = counts.reshape(count, len(scripts))
    most, some = counts.argmax(axis=1).tolist(), counts.any(axis=1).tolist()
    return [scripts[one] if known else None for one, known in zip(most, some, strict=True)]
