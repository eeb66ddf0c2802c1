"""The page on logging and sharing is true: its Python runs as shown."""

import linecache
from pathlib import Path
from typing import Any

import pytest

from mlassets_tests.test_readme import ROOT, blocks
from resources.settings import Settings
from resources.store import Store


def test_the_python_for_logging_and_getting_runs_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLASSETS_HOME", raising=False)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(ROOT / "docs/how-to/log-and-share.md", "python")):
        # As a notebook does: so that the source of a function can be found.
        cell = f"<log-and-share.md {number}>"
        linecache.cache[cell] = len(block), None, block.splitlines(keepends=True), cell
        exec(compile(block, cell, "exec"), names)  # our own page
    store = Store.open(Settings(home=tmp_path / ".mlassets"))
    assert {one.partition["name"] for one in store.history()} == {
        "churn split",
        "churn model",
        "notes",
        "net",
        "busy",
    }
    assert names["busiest"].dataset.to_pandas()["calls"].tolist() == [7, 9]
    assert store.get("churn model").based_on == (store.get("churn split@1").id,)
    assert names["copy"] == Path("notes/notes.txt")
    assert "mlassets://" in capfd.readouterr().out
