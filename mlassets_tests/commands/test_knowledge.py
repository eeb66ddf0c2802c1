"""`mlassets kb` builds, searches, lists and exports knowledge bases, and says what came of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mlassets.cli import app
from mlassets_tests.test_readme import ROOT, blocks


def run(*words: str | Path, home: Path) -> Result:
    return CliRunner().invoke(app, ["kb", *map(str, words), "--home", str(home)])


def told(*words: str | Path, home: Path) -> Any:
    done = run(*words, "--json", home=home)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Delays\n\nSnow [closes] runways.\n")
    (folder / "sub" / "b.csv").write_text("id,name\n007,Bond\n")
    (folder / "bad.csv").write_text("a,b\n1\n")
    (folder / ".hidden").write_text("")
    return folder


def test_a_knowledge_base_is_built_searched_listed_and_exported(tmp_path: Path, tree: Path) -> None:
    home = tmp_path / "home"
    assert "no knowledge base yet" in run("list", home=home).output
    built = told("build", "docs", tree, home=home)
    assert (built["new"], built["files"], built["texts"], built["read"]) == (True, 2, 2, 3)
    assert built["refused"][0]["document"] == "bad.csv"
    assert list(built["ignored"].values()) == ["hidden: its name, or its folder's, starts with a dot"]
    done = run("build", "docs", home=home)
    assert done.exit_code == 0
    assert "nothing has changed" in done.output
    assert "bad.csv, line 2" in done.output
    assert "1 hidden or temporary" in done.output

    (hit,) = told("search", "docs", "runways", home=home)
    assert (hit["place"], hit["heading"], hit["snippet"]) == ("a.md", "Delays", "Snow [closes] [runways].")
    done = run("search", "docs", "snow", home=home)
    assert "[Snow] [closes] runways." in done.output
    assert told("search", "docs", "bond", "--under", "sub/", home=home)[0]["row"] == 1
    assert told("search", "docs", "bond", "snow", "--any", "--limit", "1", home=home) != []
    assert "--any" in run("search", "docs", "bond", "snow", home=home).output

    done = run("search", "docs", "***", home=home)
    assert done.exit_code == 2
    assert "has no word to look for" in done.output

    (one,) = told("list", home=home)
    assert (one["name"], one["texts"], one["refused"]) == ("docs", 2, 1)
    assert "docs" in run("list", home=home).output

    assert told("export", "docs", tmp_path / "out.jsonl", home=home)["texts"] == 2
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 2
    assert run("export", "docs", tmp_path / "out.parquet", home=home).exit_code == 0
    assert told("export", "docs", tmp_path / "graph", "--as", "graph", home=home)["nodes"]["file"] == 3
    done = run("export", "docs", tmp_path / "graph", "--as", "graph", "--alike", "1", home=home)
    assert "3 file" in done.output
    assert (tmp_path / "graph" / "edges.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "docs", "x"), "there is no knowledge base 'docs'"),
        (("export", "docs", "out.jsonl"), "there is no knowledge base 'docs'"),
        (("export", "docs", "out.pdf"), "does not say what to export"),
        (("build", "docs"), "name the folders"),
        (("build", "docs", "missing"), "there is no folder"),
        (("build", "../docs", "."), "cannot be the name"),
        (("search", "../docs", "x"), "cannot be the name"),
    ],
)
def test_a_mistake_is_told_without_a_trace(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run(*words, home=tmp_path / "home")
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_the_python_of_the_page_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLASSETS_HOME", str(tmp_path / "home"))
    for block in blocks(ROOT / "docs/how-to/knowledge-base.md", "python"):
        exec(compile(block, "knowledge-base.md", "exec"), {})  # our own page
