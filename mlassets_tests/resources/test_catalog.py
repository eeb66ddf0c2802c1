"""The catalog opens safely, refuses what it does not know, and indexes any value."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.catalog import ATTRIBUTES, COMPONENTS, EDGES, THINGS, VERDICTS, Catalog, CatalogError
from resources.settings import Settings
from resources.things import Draft, Partition, Store


def test_the_migrated_tables_are_those_that_the_code_names(tmp_path: Path) -> None:
    Catalog(f"sqlite:///{tmp_path}/c.db").close()
    found = sa.inspect(sa.create_engine(f"sqlite:///{tmp_path}/c.db"))
    for table in (THINGS, EDGES, ATTRIBUTES, COMPONENTS, VERDICTS):
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())


def test_opening_an_existing_catalog_does_not_load_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    Catalog(url).close()
    code = f"import sys; from resources.catalog import Catalog; Catalog({url!r}); print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_catalog_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="MLASSETS_CATALOG"):
        Catalog("nonsense")
    (tmp_path / "file").write_text("x" * 5000)
    with pytest.raises(CatalogError, match="not a database"):
        Catalog(f"sqlite:///{tmp_path}/file")
    with pytest.raises(CatalogError) as caught:
        Catalog("postgresql+psycopg2://ann:tiger@127.0.0.1:1/db", patience=0)
    assert "tiger" not in str(caught.value)


def test_attributes_are_typed_flat_and_survive_any_text(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    store.commit(
        "model",
        Partition.project("p"),
        Draft(
            parameters={
                "deep": {"rate": 0.5},
                "on": True,
                "none": None,
                "text": "a\0b\ud800",
                "long": "y" * 9000,
            },
            metrics={"auc": 0.9, "nan": float("nan"), "huge": 1e308, "inf": float("inf")},
        ),
    )
    with sa.create_engine(f"sqlite:///{tmp_path}/catalog.db").connect() as connection:
        rows = {
            row.name: (row.kind, row.number, row.text) for row in connection.execute(sa.select(ATTRIBUTES))
        }
    assert rows["deep.rate"] == ("parameter", 0.5, None)
    assert rows["on"] == ("parameter", 1.0, None)
    assert rows["none"] == ("parameter", None, None)
    assert rows["auc"] == ("metric", 0.9, None)
    assert rows["nan"][1] is None
    assert rows["huge"][1] is not None
    assert len(rows["long"][2]) == 300
    assert rows["text"][2] == "a\ufffdb?"


def test_statements_need_nothing_that_only_sqlite_has() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    for table in (THINGS, EDGES, ATTRIBUTES, COMPONENTS, VERDICTS):
        assert "DOUBLE PRECISION" in str(CreateTable(ATTRIBUTES).compile(dialect=postgresql.dialect()))
        assert str(sa.select(table).compile(dialect=postgresql.dialect()))
