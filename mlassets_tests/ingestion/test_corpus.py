"""Every file of the corpus becomes the table it holds, or is refused with the reason; nothing else happens."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlassets.ingestion.errors import ReaderFailed, UnreadableFile
from mlassets.ingestion.formats import FORMATS, convert, suffix_of
from mlassets.ingestion.options import ReadOptions
from mlassets_tests.ingestion.corpus import Case, Refused, cases

CASES = cases()


def landed(folder: Path, case: Case) -> Path:
    """Put a file of the corpus where files are landed; its name may be one that no disk takes."""
    source = folder / f"landed{suffix_of(case.name) or ''}"
    source.write_bytes(case.content)
    return source


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_becomes_its_tables_or_is_refused_with_a_reason(tmp_path: Path, case: Case) -> None:
    source = landed(tmp_path, case)
    made = tmp_path / "made"
    made.mkdir()
    options = ReadOptions(**case.options)
    if isinstance(case.becomes, Refused):
        with pytest.raises(case.becomes.error) as caught:
            convert(source, case.name, made, options)
        assert not isinstance(caught.value, ReaderFailed)
        assert case.becomes.words in str(caught.value)
        assert str(caught.value).startswith(case.name)
        assert caught.value.fix
        assert list(made.iterdir()) == []
    else:
        converted = convert(source, case.name, made, options)
        assert {one.name for one in converted.tables} == set(case.becomes)
        for one in converted.tables:
            expected = case.becomes[one.name]
            read = pq.read_table(one.path)
            assert [(field.name, str(field.type)) for field in read.schema] == list(expected.columns)
            assert [tuple(row.values()) for row in read.to_pylist()] == list(expected.rows)
            assert one.rows == len(expected.rows)
            assert one.rejected == expected.rejected
            assert (one.rejects is not None) == bool(expected.rejected)
        assert case.notes in " ".join(converted.notes)
    assert source.read_bytes() == case.content


def test_the_corpus_has_every_format_taken_and_refused_and_many_files() -> None:
    assert len(CASES) >= 150
    assert {suffix_of(case.name) for case in CASES if not isinstance(case.becomes, Refused)} >= set(FORMATS)
    assert len({str(case) for case in CASES}) == len(CASES)


FIRST = {
    suffix_of(case.name): case
    for case in reversed(CASES)
    # Each damaged old workbook costs a process.
    if not isinstance(case.becomes, Refused) and not case.name.endswith(".xls")
}


@pytest.mark.parametrize("suffix", sorted(suffix for suffix in FIRST if suffix))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    case = FIRST[suffix]
    chance = random.Random(suffix)
    for _ in range(8):
        content = bytearray(case.content)
        if chance.random() < 0.4:
            content = content[: chance.randrange(1, len(content))]
        else:
            content[chance.randrange(len(content))] = chance.randrange(256)
        source = tmp_path / f"landed{suffix}"
        source.write_bytes(content)
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        try:
            converted = convert(source, case.name, made, ReadOptions(**case.options))
        except UnreadableFile:
            assert list(made.iterdir()) == []
        else:
            for one in converted.tables:
                assert pq.read_metadata(one.path).num_rows == one.rows
                one.path.unlink()
                if one.rejects is not None:
                    one.rejects.unlink()
