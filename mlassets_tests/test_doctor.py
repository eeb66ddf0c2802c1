"""The doctor says that all is well only where it is, and else what is wrong and how to mend it."""

import json
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from mlassets.doctor import Finding, examine
from mlassets.runs import instance_of, lay_out
from mlassets_tests.alerting.receivers import hook, mail_server
from mlassets_tests.small_homes import land, mlassets, write_spec
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition

EWR = Partition.segment("late", "EWR")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is in order and in use."""
    home = tmp_path / "home"
    settings = Settings(home=home)
    with instance_of(settings):
        write_spec(home)
    store = Store.open(settings)
    for number in range(2):
        store.commit("model", EWR, Draft(dataset=pa.table({"n": [number]}), artifacts={"a": b"1"}))
    duckdb.connect(str(settings.consumption)).close()
    return home


def findings(home: Path, **changes: object) -> list[Finding]:
    return list(examine(Settings(home=home, **changes)))  # type: ignore[arg-type]


def troubles(home: Path, **changes: object) -> list[Finding]:
    return [one for one in findings(home, **changes) if one.state != "ok"]


def test_a_home_in_order_is_said_to_be_and_nothing_is_left_behind(home: Path) -> None:
    before = sorted(path for path in home.rglob("*") if "dagster" not in path.parts and path.is_file())
    found = findings(home)
    assert {one.state for one in found} == {"ok"}, found
    assert {one.area for one in found} >= {"settings", "versions", "folders", "lake", "catalog", "commits"}
    after = sorted(path for path in home.rglob("*") if "dagster" not in path.parts and path.is_file())
    assert [one for one in after if not one.name.endswith(("-wal", "-shm"))] == [
        one for one in before if not one.name.endswith(("-wal", "-shm"))
    ]


def test_the_command_prints_findings_and_ends_with_1_where_something_is_wrong(home: Path) -> None:
    assert mlassets(home, "doctor").exit_code == 0
    (home / "projects" / "late.yaml").write_text("project: [")
    told = mlassets(home, "doctor", "--json")
    assert told.exit_code == 1
    (wrong,) = [one for one in json.loads(told.stdout)["findings"] if one["state"] == "wrong"]
    assert wrong["area"] == "specs"
    assert "late.yaml" in wrong["message"]
    assert "wrong" in mlassets(home, "doctor").stdout


def test_a_mistyped_setting_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLASSETS_CATALOGUE", "x")
    (found,) = troubles(home)
    assert (found.state, found.remedy) == ("warn", "Did you mean MLASSETS_CATALOG?")


def test_a_folder_that_cannot_be_used_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = troubles(home, quarantine=tmp_path / "file" / "quarantine")
    assert any(one.area == "folders" and str(tmp_path / "file") in one.message for one in found)


def test_an_older_catalog_is_to_be_migrated_and_a_newer_one_asks_for_an_upgrade(home: Path) -> None:
    for revision, remedy in (
        ("0001", "mlassets catalog migrate"),
        ("9999", "upgrade mlassets"),
        ("29a8e9d74220", "a database of its own"),
    ):
        with sqlite3.connect(home / "catalog.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        wrong = [one for one in troubles(home) if one.state == "wrong"]
        assert [one.area for one in wrong] == ["catalog"]
        assert remedy in wrong[0].message


def test_a_damaged_catalog_is_told_with_the_way_to_make_it_anew(home: Path) -> None:
    with sqlite3.connect(home / "catalog.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (home / "catalog.db").read_bytes()
    (home / "catalog.db").write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    wrong = [one for one in troubles(home) if one.area == "catalog"]
    assert wrong
    assert "mlassets catalog rebuild" in f"{wrong[0].message} {wrong[0].remedy}"


def test_commits_that_were_cut_short_are_told_apart(home: Path) -> None:
    store = Store.open(Settings(home=home))
    newest, oldest = store.history("model", EWR)
    with sqlite3.connect(home / "catalog.db") as connection:
        connection.execute("DELETE FROM things WHERE id = ?", [newest.id])
    (home / "lake" / oldest.folder / "thing.json").unlink()
    (home / "lake" / "tmp" / "left").write_bytes(b"x" * 100)
    old = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    for path in (home / "lake").rglob("*"):
        os.utime(path, (old, old))
    found = {one.remedy.split("`")[1]: one for one in troubles(home) if one.area == "commits"}
    assert set(found) == {"mlassets catalog sync", "mlassets catalog rebuild", "mlassets catalog sweep"}
    assert newest.id in found["mlassets catalog sync"].message
    assert oldest.id in found["mlassets catalog rebuild"].message
    for command in ("sync", "rebuild", "sweep"):
        assert mlassets(home, "catalog", command).exit_code == 0
    assert [one for one in troubles(home) if one.area == "commits"] == []


def test_refused_files_and_a_database_that_does_not_open_are_told(home: Path) -> None:
    (home / "consumption.duckdb").write_bytes(b"no database")
    land(home, "flights/2013-01.csv", "")
    mlassets(home, "run")
    found = {one.area: one for one in troubles(home)}
    assert found["consumption"].state == "wrong"
    assert "flights/2013-01.csv" in found["quarantine"].message


def test_other_lakes_that_cannot_be_read_are_told(home: Path, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    lakes = {"team": "s3://no-such-bucket/x", "new": f"s3://{bucket}/x", "old": str(tmp_path / "nowhere")}
    found = [
        one
        for one in troubles(home, lakes=lakes | {"fine": str(tmp_path / "there")})
        if one.area == "other lakes"
    ]
    assert {one.message.split()[0].strip(":"): one.state for one in found} == {"team": "wrong", "old": "warn"}
    assert all("MLASSETS_LAKES" in one.remedy for one in found)


def test_s3_and_postgresql_are_examined_too(home: Path, bucket: str, database: str) -> None:
    elsewhere = {"lake": f"s3://{bucket}/lake", "landing": f"s3://{bucket}/landing", "catalog": database}
    assert [one.area for one in troubles(home, **elsewhere)] == ["commits"]
    Store.open(Settings(home=home, **elsewhere)).commit("model", EWR, Draft(parameters={"a": 1}))  # type: ignore[arg-type]
    assert troubles(home, **elsewhere) == []


def test_a_missing_bucket_and_a_server_that_is_down_are_told(home: Path, bucket: str) -> None:
    found = {one.area: one for one in troubles(home, lake="s3://nowhere/x", patience=0.1)}
    assert "NoSuchBucket" in found["lake"].message
    assert "s3://nowhere/x" in found["lake"].message
    found = {
        one.area: one
        for one in troubles(home, landing=f"s3://{bucket}/x", s3_endpoint="http://127.0.0.1:9", patience=0.1)
    }
    assert "http://127.0.0.1:9" in found["landing zone"].message
    down = "postgresql+psycopg2://somebody:secret@127.0.0.1:9/none"
    found = {one.area: one for one in troubles(home, catalog=down, patience=0.1)}
    assert "pg_isready" in found["catalog"].message
    assert "secret" not in str(found)


def test_alert_channels_are_tried_without_sending_anything(home: Path, tmp_path: Path) -> None:
    with hook() as taken, mail_server() as mail:
        addresses = "from=a@example.org&to=b@example.org"
        fine = (f"file://{tmp_path}/alerts.jsonl", taken.url, f"smtp://127.0.0.1:{mail.port}?{addresses}")
        found = [one for one in findings(home, alerts=fine) if one.area == "alerts"]
        assert [one.state for one in found] == ["ok"] * 3
        assert (taken.asked, mail.mails, (tmp_path / "alerts.jsonl").read_bytes()) == (0, [], b"")
    wrong = [one for one in findings(home, alerts=fine) if one.state == "wrong"]
    assert len(wrong) == 2
    assert "the connection was refused" in wrong[0].message
    (refused,) = troubles(home, alerts=("gopher://s3cret",))
    assert "alert channel 1 of MLASSETS_ALERTS" in refused.message
    assert "secret" not in str([*wrong, refused])


def test_an_instance_that_would_not_find_dead_runs_is_told(home: Path) -> None:
    (home / "dagster" / "dagster.yaml").write_text("concurrency: {pools: {default_limit: 1}}\n")
    (found,) = troubles(home)
    assert "count as started for ever" in found.message
    (home / "dagster" / "dagster.yaml").unlink()
    lay_out(Settings(home=home))
    assert troubles(home) == []
