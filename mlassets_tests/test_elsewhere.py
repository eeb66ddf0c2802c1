"""A project with its lake and landing zone on S3 and its catalog in PostgreSQL: nothing else changes."""

import json
import shutil
from pathlib import Path

import boto3
import pytest

from mlassets_tests.small_homes import (
    departures,
    mlassets,
    new_home,
    newest,
    run_all,
    status_but_for_ages,
    store_of,
)

SMALL = {"segments": {"column": "origin"}, "review": {"mode": "auto", "rules": ["roc_auc >= 0.1"]}}


@pytest.fixture
def elsewhere(tmp_path: Path, bucket: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of which nothing but settings tells that its parts lie elsewhere."""
    monkeypatch.setenv("MLASSETS_LAKE", f"s3://{bucket}/lake")
    monkeypatch.setenv("MLASSETS_LANDING", f"s3://{bucket}/landing zone")
    monkeypatch.setenv("MLASSETS_CATALOG", database)
    home = new_home(tmp_path / "elsewhere", departures(["EWR"]), **SMALL)
    boto3.client("s3").upload_file(
        str(home / "landing/flights/2013-01.csv"), bucket, "landing zone/flights/2013-01.csv"
    )
    (home / "landing/flights/2013-01.csv").unlink()
    return home


def test_a_project_runs_elsewhere_as_it_does_in_a_folder(
    elsewhere: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_all(elsewhere)
    assert {one.state for one in ran} == {"done"}, ran
    there = newest(elsewhere)
    status = mlassets(elsewhere, "status", "--json")
    assert status.exit_code == 0
    assert json.loads(status.stdout)["projects"][0]["release"]
    before = status_but_for_ages(elsewhere)
    assert not (elsewhere / "lake").exists()
    assert not (elsewhere / "catalog.db").exists()

    model = there["model", "late|EWR"]
    report = mlassets(elsewhere, "report", model.id)
    assert report.stdout.startswith(f"s3://{bucket}/lake/verdicts/")
    assert mlassets(elsewhere, "run").exit_code == 0
    assert newest(elsewhere) == there

    # The lake alone suffices: without the Dagster instance, and with a catalog that knows nothing.
    history = store_of(elsewhere).history()
    lineage = [store_of(elsewhere).upstream(thing.id) for thing in history]
    shutil.rmtree(elsewhere / "dagster")
    monkeypatch.setenv("MLASSETS_CATALOG", str(tmp_path / "another.db"))
    assert not json.loads(mlassets(elsewhere, "status", "--json").stdout)["projects"][0]["release"]
    rebuilt = json.loads(mlassets(elsewhere, "catalog", "rebuild", "--json").stdout)
    assert (rebuilt["things"], rebuilt["damaged"]) == (len(history), [])
    assert status_but_for_ages(elsewhere) == before
    assert store_of(elsewhere).history() == history
    assert [store_of(elsewhere).upstream(thing.id) for thing in history] == lineage

    for name in ("MLASSETS_LAKE", "MLASSETS_LANDING", "MLASSETS_CATALOG"):
        monkeypatch.delenv(name)
    home = new_home(tmp_path / "here", departures(["EWR"]), **SMALL)
    run_all(home)
    here = newest(home)
    assert set(here) == set(there)
    same = [step for step in here if step[0] in ("draw_data", "model_ready", "model", "aggregate")]
    assert {step: here[step].data_version for step in same} == {
        step: there[step].data_version for step in same
    }
