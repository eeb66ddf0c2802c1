"""`mlassets texts` shows what the texts of a file or a source are about."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.steps import SOURCES
from mlassets_tests.quality.written import HOSTILE, notes
from mlassets_tests.small_homes import mlassets, store_of
from resources.things import Draft, Partition


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "logbook.parquet"
    pq.write_table(pa.table({"id": range(212), "note": [*notes(200), *HOSTILE]}), path)
    return path


def test_a_file_is_looked_at_without_a_home(tmp_path: Path, file: Path) -> None:
    told = mlassets(tmp_path / "home", "texts", str(file), "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["of"], found["column"], found["texts"]) == ("logbook.parquet", "note", 212)
    assert sum(one["texts"] for one in found["clusters"]) == 212
    assert len(found["clusters"]) > 1
    assert "nearest" not in found
    assert not (tmp_path / "home").exists()


def test_people_are_shown_tables_in_which_no_text_does_anything(tmp_path: Path, file: Path) -> None:
    told = mlassets(tmp_path, "texts", str(file), "--sample", "100", "--seed", "5")
    assert told.exit_code == 0, told.output
    assert "100 texts, a seeded sample of 212 rows" in told.stdout
    near = mlassets(tmp_path, "texts", str(file), "--like", "zerowidth [red] and escape")
    assert near.exit_code == 0, near.output
    assert not set(told.stdout + near.stdout) & set("\x00\x1b\u202e\u200b")


def test_a_source_is_looked_at_by_its_newest_version(tmp_path: Path) -> None:
    rows = pa.table({"note": notes(60), "answer": notes(60, seed=1)})
    store_of(tmp_path).commit(SOURCES, Partition.source("logbook"), Draft(dataset=rows))
    page = tmp_path / "texts.html"
    told = mlassets(
        tmp_path, "texts", "logbook", "--column", "answer", "--like", "the radio hears static",
        "--embedding", "wordllama", "--html", str(page), "--json",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert "static" in found["nearest"][0]["text"].lower() or "radio" in found["nearest"][0]["text"].lower()
    assert "wordllama" in found["embedding"]
    assert b"Texts of logbook" in page.read_bytes()


def test_documents_are_looked_at_by_their_text(tmp_path: Path) -> None:
    parts = "\n\n".join(f"# Part {i}\n\n{one}" for i, one in enumerate(notes(12)))
    (tmp_path / "manual.md").write_text(parts)
    told = mlassets(tmp_path, "texts", str(tmp_path / "manual.md"), "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["column"] == "text"
    rows = pa.table({"document": ["a"] * 9, "heading": notes(9), "text": notes(9, seed=1)})
    store_of(tmp_path).log(rows, name="kb-manuals")
    told = mlassets(tmp_path, "texts", "kb-manuals", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["column"] == "text"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere",), "nowhere"),
        (("logbook.parquet", "--column", "nota"), "has no column `nota`; it has id, note"),
        (("logbook.parquet", "--column", "id"), "no column of strings named `id`; there is `note`"),
        (("pixels.csv",), "no column holds texts"),
        (("broken.csv",), "broken.csv"),
    ],
)
def test_what_cannot_be_looked_at_is_said(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logbook.parquet").symlink_to(file)
    Path("pixels.csv").write_text("a,b\n1,2\n3,4\n")
    Path("broken.csv").write_bytes(b"a,b\n\x00\x01\x02\xff\n")
    told = mlassets(tmp_path / "home", "texts", *words)
    assert told.exit_code == 2, told.output
    assert says in " ".join(told.output.split())
    assert "Traceback" not in told.output
