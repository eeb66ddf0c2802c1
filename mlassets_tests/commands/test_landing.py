"""`mlassets land`, `sources`, `convert` and `quarantine`, from files to what is told of them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest

from mlassets.home import Home
from mlassets.ingestion.errors import RaggedRows
from mlassets.ingestion.landing import LandedFile, write_note
from mlassets_tests.ingestion.web import Answer, Web
from mlassets_tests.small_homes import mlassets, newest, runner_of
from resources.settings import Settings


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().running() as running:
        yield running


def told(home: Path | None, *words: str, code: int = 0) -> dict[str, object]:
    result = mlassets(home, *words, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a file, a workbook, a bad and a partly bad file were landed."""
    folder = tmp_path_factory.mktemp("landed")
    given = folder / "given"
    given.mkdir()
    (given / "Flights 2013.csv").write_text("carrier;delay\nUA;1,5\nAA;2,5\n")
    (given / "partly.csv").write_text("k,v\na,1\nb,2,3\n")
    (given / "bad.csv").write_text("k,v\na,1\nb,2,3\n")
    book = openpyxl.Workbook()
    book.worksheets[0].title = "Sales 2024"
    for row in (["k", "amount"], ["a", 1.5]):
        book.worksheets[0].append(row)
    for row in (["city", "people"], ["Ulm", 7]):
        book.create_sheet("Cities").append(row) if "Cities" not in book.sheetnames else book["Cities"].append(
            row
        )
    book.save(given / "book.xlsx")
    home = folder / "home"
    for words in (("Flights 2013.csv",), ("book.xlsx",), ("partly.csv", "--on-bad-rows", "skip")):
        assert mlassets(home, "land", str(given / words[0]), *words[1:], "--no-take").exit_code == 0
    (given / "worse.parquet").write_bytes(b"PAR1 and no more")
    bad = mlassets(home, "land", str(given / "bad.csv"), str(given / "worse.parquet"), "--source", "bad")
    assert bad.exit_code == 1
    assert "line 3" in bad.output or "3 values" in bad.output
    with runner_of(home) as runner:
        assert {one.state for one in runner.take_landed_files()} == {"done"}
    return home


def test_what_has_landed_is_a_source_with_all_that_was_found_out(home: Path) -> None:
    found = told(home, "sources", "flights_2013")
    assert (found["rows"], found["files"], found["schema"]) == (
        2,
        1,
        {"carrier": "string", "delay": "double"},
    )
    (content,) = found["contents"]  # type: ignore[misc]
    assert (content["found"]["delimiter"], content["format"]) == (";", "csv")
    assert (found["landed_bytes"], bool(found["stored_bytes"])) == (28, True)
    assert newest(home)["sources", "flights_2013"].table().to_pylist() == [
        {"carrier": "UA", "delay": 1.5},
        {"carrier": "AA", "delay": 2.5},
    ]
    text = mlassets(home, "sources", "flights_2013").output
    assert "delimiter ;" in text
    assert "delay: double" in text


def test_a_folder_lands_with_its_folders_and_without_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "months" / "2013").mkdir(parents=True)
    for name in ("1.csv", "2013/2.csv", ".hidden.csv"):
        (tmp_path / "months" / name).write_text("k\n1\n")
    done = told(tmp_path / "home", "land", str(tmp_path / "months"), "--no-take")
    assert done["landed"] == {"months": ["months/1.csv", "months/2013/2.csv"]}
    assert [".hidden.csv" in note for note in done["notes"]] == [True]  # type: ignore[attr-defined]
    assert done["taken"] == []
    assert (tmp_path / "home" / "landing" / "months" / "2013" / "2.csv").read_text() == "k\n1\n"


def test_a_workbook_of_different_tables_becomes_a_source_of_each(home: Path) -> None:
    rows = {one["source"]: one for one in told(home, "sources")["sources"]}  # type: ignore[attr-defined]
    assert set(rows) == {"bad", "book_cities", "book_sales_2024", "flights_2013", "partly"}
    assert newest(home)["sources", "book_cities"].table().to_pylist() == [{"city": "Ulm", "people": 7}]
    assert newest(home)["sources", "book_sales_2024"].table().to_pylist() == [{"k": "a", "amount": 1.5}]
    assert "tables:\n- Cities" in (home / "sources" / "book_cities.yaml").read_text()
    assert rows["bad"]["quarantined"] == 2
    assert rows["partly"]["rejected"] == 1
    assert "quarantine" in mlassets(home, "sources").output


def test_options_are_kept_in_a_spec_and_not_changed_by_the_way(home: Path, tmp_path: Path) -> None:
    assert (home / "sources" / "partly.yaml").read_text().endswith("on_bad_rows: skip\n")
    (tmp_path / "more.csv").write_text("k,v\nc,3\n")
    refused = mlassets(
        home, "land", str(tmp_path / "more.csv"), "--source", "partly", "--read", "delimiter=;"
    )
    assert refused.exit_code == 2
    assert "is described otherwise" in " ".join(refused.output.split())
    wrong = mlassets(home, "land", str(tmp_path / "more.csv"), "--read", "delimeter=;")
    assert wrong.exit_code == 2
    assert "delimeter" in wrong.output


def test_the_quarantine_is_listed_tried_again_and_dropped(home: Path) -> None:
    listed: list[dict[str, object]] = told(home, "quarantine", "list")  # type: ignore[assignment]
    assert {(one["name"], one["kind"], one["rejected"]) for one in listed} == {
        ("bad/bad.csv", "RaggedRows", 0),
        ("bad/worse.parquet", "TruncatedFile", 0),
        ("partly/partly.csv", "RejectedRows", 1),
    }
    assert "line 3" in mlassets(home, "quarantine", "list", "--source", "bad").output
    assert mlassets(home, "quarantine", "retry", "nothing.csv").exit_code == 2
    assert mlassets(home, "quarantine", "drop").exit_code == 2
    (home / "sources" / "bad.yaml").write_text("on_bad_rows: skip\n")
    tried = told(home, "quarantine", "retry", "bad.csv", code=1)
    assert [one["rejected"] for one in tried["left"]] == [1], "its other rows were taken"  # type: ignore[attr-defined]
    assert newest(home)["sources", "bad"].table().to_pylist() == [{"k": "a", "v": 1}]
    dropped = told(home, "quarantine", "drop", "worse.parquet")
    moved = Path(dropped["moved"]["bad/worse.parquet"])  # type: ignore[index]
    assert moved.read_bytes() == b"PAR1 and no more"
    assert moved.is_relative_to(Settings(home=home).quarantine)
    assert not (home / "landing" / "bad" / "worse.parquet").exists()
    assert newest(home)["sources", "bad"].parameters["quarantined"] == []
    listed = told(home, "quarantine", "list")  # type: ignore[assignment]
    assert [one["name"] for one in listed] == ["bad/bad.csv", "partly/partly.csv"]


def test_what_cannot_land_is_refused_before_anything_does(home: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("k\n1\n")
    for words, told_of in (
        ((str(tmp_path / "none.csv"),), "no such file"),
        ((str(tmp_path / "x.csv"), str(tmp_path / "x.csv")), "--source"),
        ((str(tmp_path / "x.csv"), "--source", "Not a name"), "not_a_name"),
        (("--source", "flights_2013"), "where its files come from"),
        (("--query", "SELECT 1", str(tmp_path / "x.csv")), "--source"),
        ((), "--source"),
    ):
        result = mlassets(home, "land", *words)
        assert result.exit_code == 2, result.output
        assert told_of in " ".join(result.output.split())


def test_a_source_whose_spec_is_wrong_is_told_of_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "rows.yaml").write_text("delimeter: ';'\n")
    (tmp_path / "landing" / "rows").mkdir(parents=True)
    (tmp_path / "rows.csv").write_text("k\n1\n")
    for words in (("run",), ("sources",), ("sources", "rows"), ("land", str(tmp_path / "rows.csv"))):
        result = mlassets(tmp_path, *words)
        assert result.exit_code == 2, (words, result.output)
        assert "did you mean delimiter" in " ".join(result.output.split())


def test_a_file_that_is_still_written_to_does_not_land(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "grows.csv"
    given.write_text("k\n1\n")
    copy = shutil.copyfile

    def copy_and_grow(source: Path, target: Path) -> None:
        copy(source, target)
        with given.open("a") as file:
            file.write("2\n")

    monkeypatch.setattr("mlassets.ingestion.taking.shutil.copyfile", copy_and_grow)
    result = mlassets(tmp_path / "home", "land", str(given), "--no-take")
    assert result.exit_code == 2
    assert "changed while it was being read" in " ".join(result.output.split())
    assert [path for path in (tmp_path / "home" / "landing").rglob("*") if path.is_file()] == []


def test_no_name_of_a_file_is_obeyed_by_a_terminal(tmp_path: Path) -> None:
    home, name = tmp_path / "home", "a\x1b[31m[bold]b.csv"
    error = RaggedRows(f"rows/{name}", "\x1b[2Jthree values", "Mend it", line=2)
    write_note(home / "quarantine", "rows", LandedFile(f"rows/{name}", 1, 1), error, excerpt="\x1b]0;x\x07")
    (tmp_path / name).write_text("k\n1\n")
    given = str(tmp_path / name)
    for words in (("quarantine", "list"), ("land", given, "--source", "rows", "--no-take")):
        result = mlassets(home, *words)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
    assert "[bold]b.csv" in mlassets(home, "quarantine", "list").output


def test_an_address_lands_and_is_fetched_again_as_often_as_is_said(tmp_path: Path, web: Web) -> None:
    web.answers["/export/rows.csv"] = Answer(b"k\n1\n", headers={"ETag": '"1"'})
    url = f"{web.url}/export/rows.csv"
    done = told(tmp_path, "land", url, "--source", "remote", "--every", "6h", "--no-take")
    assert done["landed"] == {"remote": ["remote/rows.csv"]}
    assert Home(home=str(tmp_path)).source("remote").fetch is not None
    web.answers["/export/rows.csv"] = Answer(b"k\n1\n2\n", headers={"ETag": '"2"'})
    told(tmp_path, "land", "--source", "remote")
    assert newest(tmp_path)["sources", "remote"].table()["k"].to_pylist() == [1, 2]
    web.answers["/export/rows.csv"] = Answer(status=404)
    result = mlassets(tmp_path, "land", "--source", "remote")
    assert result.exit_code == 2
    assert "404" in result.output


def test_the_rows_of_a_query_land(tmp_path: Path, database: str) -> None:
    address = database.replace("+psycopg2", "")
    query = "SELECT 9007199254740993 AS big, '007' AS code"
    told(tmp_path, "land", "--source", "queried", "--database", address, "--query", query, "--no-take")
    landed = pq.read_table(tmp_path / "landing" / "queried" / "queried.parquet")
    assert landed.to_pylist() == [{"big": 2**53 + 1, "code": "007"}]


def test_no_home_is_needed_to_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("k;v\n007;=1+1\n")
    result = mlassets(None, "convert", "in.csv", "out.parquet")
    assert result.exit_code == 0, result.output
    assert pq.read_table("out.parquet").to_pylist() == [{"k": "007", "v": "=1+1"}]
    assert mlassets(None, "convert", "in.csv", "out.csv", "--read", "types={k: text}").exit_code == 0
    assert (tmp_path / "out.csv").read_text() == '"k","v"\n"007","\'=1+1"\n'
    assert mlassets(None, "convert", "in.csv", "out.csv").exit_code == 2
    assert mlassets(None, "convert", "in.csv", "folder").exit_code == 0
    assert pq.read_table(tmp_path / "folder" / "in.parquet").num_rows == 1
    assert not (tmp_path / ".mlassets").exists()
