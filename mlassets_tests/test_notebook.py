"""The story of two colleagues is true: the notebook runs, and prints what it says it prints."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from resources.settings import Settings

NOTEBOOK = Path(__file__).parent.parent / "docs/two-colleagues.ipynb"


def printed(notebook: Any) -> list[str]:
    """What each cell with code has printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output["text"] for output in cell.outputs) for cell in cells]


def test_the_notebook_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MLASSETS_{name.upper()}", raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = printed(notebook)
    assert any(shown)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    assert printed(notebook) == shown
