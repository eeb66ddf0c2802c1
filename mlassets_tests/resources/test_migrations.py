"""A catalog of any earlier version is brought up to date as a whole or not at all, and loses nothing."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import resources
from mlassets_tests.resources.crowd import CROWD
from resources import lake
from resources.catalog import (
    ATTRIBUTES,
    COMPONENTS,
    EDGES,
    MANIFESTS,
    THINGS,
    VERDICTS,
    Catalog,
    CatalogError,
    CatalogOutdated,
)
from resources.database import HEAD
from resources.lake import open_lake
from resources.store import Store
from resources.things import Partition

GOLDEN = Path(__file__).parent / "golden"
TABLES = (THINGS, MANIFESTS, EDGES, ATTRIBUTES, COMPONENTS, VERDICTS)
# Every revision that was ever released, with the rows that its version of mlassets wrote for the golden lake.
EARLIER = {"0001": "rows-0001.json", "0002": "rows-0002.json"}


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(resources.__file__).parent / "migrations"))
    return config


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def lay_out_as(revision: str, url: str) -> dict[str, list[dict[str, Any]]]:
    """Make the tables and the rows of an earlier version, and return the rows."""
    rows: dict[str, list[dict[str, Any]]] = json.loads((GOLDEN / EARLIER[revision]).read_text())
    with connected(url) as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for name, values in rows.items():
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            connection.execute(sa.insert(table), values)
    return rows


def layout(url: str) -> dict[str, Any]:
    """Every column, key and index there is."""
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    told = {}
    for name in sorted(found.get_table_names()):
        columns = [
            (one["name"], str(one["type"]), one["nullable"], one["default"])
            for one in found.get_columns(name)
        ]
        indexes = sorted(
            (str(one["name"]), one["column_names"], one["unique"]) for one in found.get_indexes(name)
        )
        told[name] = (sorted(columns), found.get_pk_constraint(name)["constrained_columns"], indexes)
    engine.dispose()
    return told


def rows_now(url: str) -> dict[str, list[dict[str, Any]]]:
    with connected(url) as connection:
        return {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in TABLES
        }


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.fixture
def other_url(catalog_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second empty catalog of the same kind."""
    if catalog_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path}/other.db"
        return
    server = request.getfixturevalue("postgres_server")
    name = server.make_database()
    yield server.url(name)
    server.drop_database(name)


def test_there_are_rows_of_every_earlier_revision() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert script.get_current_head() == HEAD
    assert {one.revision for one in script.walk_revisions()} == {*EARLIER, HEAD}


@pytest.mark.parametrize("revision", EARLIER)
def test_an_earlier_catalog_is_refused_by_name_then_migrated_with_all_its_rows(
    catalog_url: str, other_url: str, revision: str
) -> None:
    before = lay_out_as(revision, catalog_url)
    with pytest.raises(CatalogOutdated, match="mlassets catalog migrate"):
        Catalog(catalog_url)
    assert Catalog.revision(catalog_url) == revision
    assert Catalog.migrate(catalog_url) == revision
    assert Catalog.revision(catalog_url) == HEAD
    assert Catalog.migrate(catalog_url) == HEAD

    assert Catalog.revision(other_url) is None
    Catalog(other_url).close()
    assert layout(catalog_url) == layout(other_url)
    now = rows_now(catalog_url)
    manifests = {row["thing_id"]: row["manifest"] for row in now["manifests"]}
    assert manifests == {row["id"]: row["manifest"] for row in before["things"]}
    for name in ("things", "edges", "components", "verdicts"):
        same = [column for column in before[name][0] if column != "manifest"]
        kept, were = (
            [{column: row[column] for column in same} for row in rows] for rows in (now[name], before[name])
        )
        assert in_order(kept) == in_order(were)
    names = {(row["thing_id"], row["kind"], row["name"]) for row in before["attributes"]}
    assert names <= {(row["thing_id"], row["kind"], row["name"]) for row in now["attributes"]}

    store = Store(open_lake(str(GOLDEN / "schema-1")), Catalog(catalog_url))
    fresh = Store(store.lake, Catalog(other_url))
    assert fresh.rebuild().damaged == ()
    assert store.history() == fresh.history()
    judged = store.require("draw_data", Partition.segment("late-flights", "EWR")).id
    assert store.upstream(judged) == fresh.upstream(judged)
    for table, rows in rows_now(catalog_url).items():
        assert in_order(rows) == in_order(rows_now(other_url)[table])
    store.catalog.close()
    fresh.catalog.close()


def migrate_and_die(url: str) -> None:
    def die(point: str) -> None:
        if point == "before migration commit":
            os.kill(os.getpid(), signal.SIGKILL)

    lake.on_reached = die
    Catalog.migrate(url)


def migrate(url: str) -> None:
    Catalog.migrate(url)
    Catalog(url).close()


def test_a_killed_migration_leaves_the_old_catalog_and_many_at_once_are_one(catalog_url: str) -> None:
    before = lay_out_as("0001", catalog_url)
    old = layout(catalog_url)
    child = CROWD.Process(target=migrate_and_die, args=(catalog_url,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert layout(catalog_url) == old
    children = [CROWD.Process(target=migrate, args=(catalog_url,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert Catalog.revision(catalog_url) == HEAD
    assert len(rows_now(catalog_url)["things"]) == len(before["things"])


def test_what_was_retired_stays_so_when_the_catalog_is_migrated(catalog_url: str) -> None:
    lay_out_as("0002", catalog_url)
    with connected(catalog_url) as connection:
        connection.execute(sa.text("UPDATE things SET retired_at = '2026-01-01' WHERE step = 'review'"))
    Catalog.migrate(catalog_url)
    retired = {row["step"]: row["retired_at"] for row in rows_now(catalog_url)["things"]}
    assert retired == {"review": "2026-01-01", "draw_data": None, "sources": None}


def test_looking_for_the_revision_lays_nothing_out(catalog_url: str, tmp_path: Path) -> None:
    assert Catalog.revision(catalog_url) is None
    assert list(tmp_path.iterdir()) == []
    assert Catalog.revision(catalog_url) is None
    assert Catalog.migrate(catalog_url) is None
    assert Catalog.revision(catalog_url) == HEAD


def test_a_catalog_of_a_newer_version_is_refused(catalog_url: str) -> None:
    Catalog(catalog_url).close()
    with connected(catalog_url) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (Catalog, Catalog.migrate):
        with pytest.raises(CatalogError, match="upgrade mlassets"):
            use(catalog_url)
