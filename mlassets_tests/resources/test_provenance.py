"""Provenance tells who, when and with what, and no secrets."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resources import provenance


@pytest.mark.parametrize(
    "argv",
    [
        ["--password", "tiger"],
        ["--db-password=tiger"],
        ["-token", "tiger"],
        ["--api-key", "tiger"],
        ["s3://user:tiger@host/x"],
        ["--url=postgresql+psycopg2://ann:tiger@host:5432/db?sslmode=require"],
        ["AWS_SECRET_ACCESS_KEY=tiger"],
        ["https://host/?a=1&token=tiger&b=2"],
        ["--header", "Authorization: tiger"],
        ["key=tiger"],
        ["ghp_tigertigertigertigertiger0123"],
    ],
)
def test_secrets_in_arguments_are_hidden(argv: list[str]) -> None:
    assert "tiger" not in " ".join(provenance.scrub(["run", *argv]))


def test_plain_arguments_are_kept() -> None:
    argv = [
        "mlassets",
        "run",
        "late-flights",
        "--step",
        "model",
        "--segment",
        "E W",
        "--keyboard",
        "x",
        "-n",
        "3",
    ]
    assert provenance.scrub(argv) == argv


def test_no_environment_variable_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "hunter2hunter2")
    record = provenance.capture(None, datetime.now(UTC))
    assert "hunter2" not in str(record)
    assert record["pid"] == os.getpid()
    assert record["peak_memory_bytes"] > 10_000_000
    assert record["argv"] == provenance.scrub(sys.argv)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one commit of `app.py`."""
    git(tmp_path, "init", "-q")
    (tmp_path / "app.py").write_text("A = 1\nB = 2\n")
    git(tmp_path, "add", "app.py")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    provenance.forget_git()
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def state_of(folder: Path) -> provenance.GitState:
    provenance.forget_git()
    state = provenance.git_state(str(folder))
    assert state is not None
    return state


def test_a_folder_outside_of_git_has_no_state(tmp_path: Path) -> None:
    assert provenance.git_state(str(tmp_path)) is None


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert state_of(checkout).as_record() == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": None}


def test_what_differs_from_the_commit_can_be_applied_to_it_again(checkout: Path, tmp_path: Path) -> None:
    (checkout / "app.py").write_text("A = 1\nB = 3")
    (checkout / "deep").mkdir()
    (checkout / "deep/new.py").write_text("C = 4\n")
    (checkout / "deep/empty.py").write_text("")
    (checkout / "deep/open.sql").write_text("SELECT 1")
    (checkout / "rows.csv").write_text("1,2\n")
    for folder in (checkout, checkout / "deep"):
        state = state_of(folder)
        assert state.dirty
        assert state.patch
        assert state.as_record()["diff"] == provenance.content_name(state.patch)
        tree = tmp_path / f"tree-{folder.name}"
        git(checkout, "worktree", "add", "-q", "--detach", str(tree), state.commit)
        subprocess.run(["git", "apply", "-"], cwd=tree, input=state.patch, check=True)
        for name in ("app.py", "deep/new.py", "deep/empty.py", "deep/open.sql"):
            assert (tree / name).read_bytes() == (checkout / name).read_bytes()
        assert not (tree / "rows.csv").exists()
    assert git(checkout, "count-objects").startswith("3 ")  # looking has written nothing


def test_a_very_long_difference_is_cut_and_says_so(checkout: Path) -> None:
    (checkout / "app.py").write_text("x = 1\n" * 300_000)
    patch = state_of(checkout).patch
    assert patch
    assert patch.startswith(provenance.CUT.encode())
    assert len(patch) < 1_001_000


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("app.py", "PASSWORD = 'tiger'"),
        ("app.py", 'db_password: str = "tiger"'),
        ("app.py", 'os.environ["API_KEY"] = "tiger"'),
        ("app.py", "connect(token=r'ti\\'tiger')"),
        ("app.py", "url = 'postgresql://ann:tiger@host/db'"),
        ("app.py", "x = 'ghp_tigertigertigertigertiger0123'"),
        (".env", "AWS_SECRET_ACCESS_KEY=tiger"),
        ("settings.yaml", "password: tiger"),
        ("settings.json", '  "token": "tiger",'),
        ("settings.toml", "api-key = 'tiger'"),
        ("key.pem", "-----BEGIN RSA PRIVATE KEY-----\ntiger\ntiger\n-----END RSA PRIVATE KEY-----"),
    ],
)
def test_secrets_in_a_difference_are_hidden(checkout: Path, name: str, line: str) -> None:
    (checkout / name).write_text(f"{line}\nkept = 1\n")
    git(checkout, "add", name)
    patch = state_of(checkout).patch
    assert patch
    assert b"tiger" not in patch
    assert b"+kept = 1" in patch
    assert patch.startswith(b"# ")


@pytest.mark.parametrize(
    "line",
    [
        "token = next(tokens)",
        "sorted(rows, key=lambda row: row['key'])",
        "password = getpass()",
        'if token == "": ...',
        'raise ValueError("the token is wrong")',
    ],
)
def test_program_text_that_gives_nothing_away_stays(line: str) -> None:
    patch = f"+++ b/app.py\n+{line}"
    assert provenance.scrub_patch(patch) == (patch, 0)


def test_the_code_is_known_when_it_runs_from_a_checkout() -> None:
    state = provenance.code_state()
    if state is not None:
        assert state.commit == git(Path(provenance.__file__).parent, "rev-parse", "HEAD")
    assert provenance.capture(None, datetime.now(UTC))["code"] == (state.as_record() if state else None)


@pytest.mark.parametrize(
    "line",
    [
        "_-" * 150_000,
        "a." * 150_000,
        "token=" * 50_000,
        "token:" * 50_000,
        "eyJ-" * 75_000,
        "'\\" * 150_000,
        "key-" * 75_000,
    ],
)
def test_lines_that_would_take_a_search_for_secrets_for_ever_take_a_moment(line: str) -> None:
    text, _ = provenance.scrub_patch(f"+++ b/a.yaml\n+{line}\n+++ b/a.py\n+{line}")
    assert text.count("\n") == 3
    assert len(provenance.scrub([line])) == 1
