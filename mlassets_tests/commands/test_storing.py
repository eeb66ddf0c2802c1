"""`log`, `upload`, `get`, `copy` and `point` do what the store does, and say what came of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlassets_tests.small_homes import mlassets, store_of


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a table and some files."""
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "rows.csv").write_text("amount,who\n1,a\n2,b\n")
    (folder / "deep" / "weights.pt").write_bytes(b"\x00weights")
    return folder


def answer(home: Path, *words: str) -> Any:
    told = mlassets(home, *words, "--json")
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def test_a_table_of_any_kind_is_logged_with_what_is_said_of_it(tmp_path: Path, files: Path) -> None:
    home = tmp_path / "home"
    said = ("--label", "ticket=AB-1", "--label", "done=true", "--label", 'version="7"', "--label", "note=a=b")
    more = (
        "--metric",
        "auc=0.75",
        "--parameter",
        "depth=3",
        "--artifact",
        f"net={files / 'deep' / 'weights.pt'}",
    )
    first = answer(home, "log", str(files / "rows.csv"), "--name", "split", *said, *more)
    assert (first["name"], first["rows"], first["files"]) == ("split", 2, ["rows.parquet", "net"])
    thing = store_of(home).get(first["id"])
    assert thing.address == first["address"]
    assert thing.labels == {"ticket": "AB-1", "done": True, "version": "7", "note": "a=b"}
    assert (thing.metrics, thing.parameters) == ({"auc": 0.75}, {"depth": 3})
    assert thing.dataset.to_arrow().to_pydict() == {"amount": [1, 2], "who": ["a", "b"]}
    second = answer(home, "log", str(files / "rows.csv"), "--name", "split", *more, "--based-on", "split")
    assert second["shared"] == ["rows.parquet", "net"]
    assert store_of(home).get("split").based_on == (first["id"],)
    told = mlassets(home, "log", "--metric", "auc=0.5")
    assert told.exit_code == 0
    assert "0 files" in told.stdout


def test_files_are_uploaded_and_downloaded_as_they_are(tmp_path: Path, files: Path) -> None:
    home = tmp_path / "home"
    made = answer(home, "upload", str(files), "--name", "all of it", "--label", "by=hand")
    assert made["files"] == ["deep/weights.pt", "rows.csv"]
    to = tmp_path / "to"
    assert answer(home, "get", "all of it", "--to", str(to))["files"] == [
        str(to / "deep" / "weights.pt"),
        str(to / "rows.csv"),
    ]
    assert (to / "deep" / "weights.pt").read_bytes() == b"\x00weights"
    for reference in (f"{made['address']}#rows.csv", "all of it#rows.csv", f"{made['id'][-12:]}#rows.csv"):
        told = mlassets(home, "get", reference, "--to", str(tmp_path / "one.csv"))
        assert told.exit_code == 0, told.output
        assert "one.csv" in told.stdout
        assert (tmp_path / "one.csv").read_text() == (files / "rows.csv").read_text()
    told = mlassets(home, "get", "all of it#row.csv")
    assert told.exit_code == 2
    assert "Did you mean rows.csv?" in told.stderr


def test_a_thing_is_copied_pointed_at_and_read_across_lakes(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    monkeypatch.setenv("MLASSETS_LAKES", json.dumps({"team": str(theirs / "lake")}))
    made = answer(ours, "upload", str(files), "--name", "weights")
    copied = answer(ours, "copy", "weights", "--to", "team", "--with-lineage")
    assert (copied["things"], copied["new"], copied["bytes"]) == ([made["id"]], [made["id"]], made["size"])
    assert "1 Things are in" in mlassets(ours, "copy", "weights", "--to", "team").stdout
    assert json.loads(mlassets(theirs, "catalog", "sync", "--json").stdout)["things"] == 1
    assert answer(theirs, "get", "weights", "--to", str(tmp_path / "to"))["id"] == made["id"]
    third = tmp_path / "third"
    assert answer(third, "point", f"mlassets://team/{made['id']}")["shared"] == []
    assert answer(third, "get", "weights#rows.csv", "--to", str(tmp_path / "pointed.csv"))["id"] == made["id"]
    assert (tmp_path / "pointed.csv").read_text() == (files / "rows.csv").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["log", "--label", "ticket"], "--label 'ticket' is no NAME=VALUE"),
        (["log", "--metric", "auc=high"], "metrics['auc'] is 'high'"),
        (["upload", "/nowhere/x"], "there is no file /nowhere/x"),
        (["log", "--name", "a@1"], "'a@1' cannot be the name of an upload"),
        (["get", "nobody"], "nobody"),
        (["copy", "nobody", "--to", "x"], "nobody"),
        (["point", "mlassets://nobody/01a20000-0000-7000-8000-000000000000"], "MLASSETS_LAKES"),
        (["point", "nonsense"], "is no address"),
    ],
)
def test_what_is_wrong_is_told_in_words_and_with_2(tmp_path: Path, words: list[str], told: str) -> None:
    done = mlassets(tmp_path / "home", *words)
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
