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


def test_the_commit_and_what_differs_from_it_are_known(tmp_path: Path) -> None:
    assert provenance.git_state(str(tmp_path)) is None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    provenance.git_state.cache_clear()
    assert provenance.git_state(str(tmp_path)) == {"commit": git("rev-parse", "HEAD"), "dirty": None}
    (tmp_path / "file").write_text("2")
    provenance.git_state.cache_clear()
    state = provenance.git_state(str(tmp_path))
    assert state is not None
    assert state["dirty"]
