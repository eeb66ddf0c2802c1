"""One object says where everything is."""

from pathlib import Path

import pytest

from resources.settings import BadSettings, Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MLASSETS_{name.upper()}", raising=False)


def test_everything_follows_from_the_home(tmp_path: Path) -> None:
    settings = Settings.load()
    home = tmp_path / ".mlassets"
    assert settings.home == home
    assert settings.lake == str(home / "lake")
    assert settings.catalog == f"sqlite:///{home}/catalog.db"
    assert settings.landing == str(home / "landing")
    assert settings.projects == home / "projects"
    assert settings.dagster_home == home / "dagster"
    assert hash(settings) == hash(Settings.load())


def test_each_part_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLASSETS_HOME", "there")
    monkeypatch.setenv("MLASSETS_LAKE", "s3://bucket/prefix/")
    monkeypatch.setenv("MLASSETS_CATALOG", "postgresql://ann:tiger@host/db")
    monkeypatch.setenv("MLASSETS_PROJECTS", "specs")
    settings = Settings.load()
    assert settings.lake == "s3://bucket/prefix"
    assert settings.catalog == "postgresql+psycopg2://ann:tiger@host/db"
    assert settings.projects == tmp_path / "specs"
    assert settings.quarantine == tmp_path / "there" / "quarantine"
    assert "tiger" not in repr(settings)
    assert Settings.load(home=tmp_path / "x").home == tmp_path / "x"


def test_a_bad_value_is_refused_by_the_name_of_its_variable() -> None:
    with pytest.raises(BadSettings, match="MLASSETS_HOME"):
        Settings.load(home=7)
    with pytest.raises(BadSettings, match="MLASSETS_LAEK"):
        Settings.load(laek="x")


def test_a_list_that_is_no_json_is_told_without_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLASSETS_ALERTS", "https://example.org/s3cret")
    with pytest.raises(BadSettings, match="MLASSETS_ALERTS cannot be used: it is no JSON list") as told:
        Settings.load()
    assert "s3cret" not in str(told.value)
    monkeypatch.setenv("MLASSETS_ALERTS", '{"url": "https://example.org/s3cret"}')
    with pytest.raises(BadSettings, match="MLASSETS_ALERTS") as told:
        Settings.load()
    assert "s3cret" not in str(told.value)


def test_channels_of_alerts_are_not_shown() -> None:
    assert "s3cret" not in repr(Settings(alerts=("https://example.org/s3cret",)))


def test_looks_without_a_pause_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLASSETS_SECONDS_BETWEEN_LOOKS", "0")
    with pytest.raises(BadSettings, match="MLASSETS_SECONDS_BETWEEN_LOOKS cannot be used"):
        Settings.load()
