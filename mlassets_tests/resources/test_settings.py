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
