"""The catalog opens safely, refuses what it does not know, and indexes any value."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from resources import database
from resources.catalog import ATTRIBUTES, COMPONENTS, EDGES, THINGS, VERDICTS, Catalog, CatalogError
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition
from resources.verdicts import Verdict


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
    assert rows["long"][2] == "y" * 9000
    assert rows["text"][2] == "a\ufffdb?"


def test_statements_need_nothing_that_only_sqlite_has() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    for table in (THINGS, EDGES, ATTRIBUTES, COMPONENTS, VERDICTS):
        assert "DOUBLE PRECISION" in str(CreateTable(ATTRIBUTES).compile(dialect=postgresql.dialect()))
        assert str(sa.select(table).compile(dialect=postgresql.dialect()))


EWR = Partition.segment("late-flights", "EWR")


def assert_told(store: Store, remedy: str, *, writing: bool = True) -> None:
    with pytest.raises(CatalogError, match=remedy) as caught:
        store.commit("model", EWR, Draft()) if writing else store.history()
    assert "catalog.db" in str(caught.value)


def test_a_catalog_that_stays_locked_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    store = Store.open(Settings(home=tmp_path))
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert_told(store, "held it locked for too long")
    other.close()
    assert store.history() == []
    assert store.sync().things == 1


def with_pragma(store: Store, pragma: str) -> None:
    """Set something on every connection that the catalog makes from now on."""
    engine = store.catalog._database._engine
    sa.event.listen(engine, "connect", lambda connection, _record: connection.execute(pragma))
    store.catalog.close()


def test_an_interrupt_while_a_connection_is_closed_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")

    def interrupted(_self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sqlalchemy.engine.base.RootTransaction._do_close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalog.ids()
    assert catalog.ids() == set()


def test_a_full_disk_under_the_catalog_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    with_pragma(store, "PRAGMA max_page_count=1")
    many = [("model", EWR, Draft(parameters={"text": "x" * 5000})) for _ in range(100)]
    with pytest.raises(CatalogError, match="its disk is full"):
        store.commit_all(many)
    again = Store.open(Settings(home=tmp_path))
    assert again.history() == []
    assert again.rebuild().things == len(again.history()) == 100


def test_a_catalog_that_cannot_be_written_to_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    with_pragma(store, "PRAGMA query_only=ON")
    assert_told(store, "cannot be written to; check their permissions")


def test_a_malformed_catalog_is_told_and_a_new_one_made_from_the_lake(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    made = [store.commit("model", EWR, Draft(parameters={"text": "x" * 3000})) for _ in range(20)]
    store.catalog.close()
    path = tmp_path / "catalog.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(CatalogError, match="mlassets catalog rebuild"):
        Store.open(Settings(home=tmp_path)).history()
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    fresh = Store.open(Settings(home=tmp_path))
    assert fresh.rebuild().things == 20
    assert fresh.history() == made[::-1]


def test_postgresql_knows_who_asks_and_never_waits_for_ever(database: str) -> None:
    catalog = Catalog(database)
    asked = "application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"

    def settings(connection: sa.Connection) -> list[str]:
        return [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in asked]

    assert catalog._database.read(settings) == ["mlassets", "2min", "1min", "2min"]
    catalog.close()
    mine = Catalog(f"{database}?application_name=mine&connect_timeout=3")
    assert mine._database.read(settings)[0] == "mine"
    mine.close()


def test_a_refused_user_is_told_at_once(database: str) -> None:
    with pytest.raises(CatalogError, match="does not exist"):
        Catalog(f"{database}_that_is_not_there", patience=60)


def test_a_forked_child_and_its_parent_do_not_share_connections(tmp_path: Path, catalog_url: str) -> None:
    store = Store.open(Settings(home=tmp_path, catalog=catalog_url))
    made = store.commit("model", EWR, Draft())
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if store.history() == [made] and store.get(made.id) == made else 1)
        assert store.history() == [made]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.latest("model", EWR) == made


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is asked of the catalog in this block."""
    engine = store.catalog._database._engine
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, values: Any, *_rest: Any) -> None:
        if text.startswith(("SELECT", "WITH")):
            asked.append((text, values))

    sa.event.listen(engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(engine, "before_cursor_execute", note)


def test_what_is_asked_most_is_looked_up_in_an_index(tmp_path: Path, catalog_url: str) -> None:
    store = Store.open(Settings(home=tmp_path, catalog=catalog_url))
    made = store.commit_all(
        [
            ("model", Partition.segment("p", str(number % 10)), Draft(metrics={"auc": number / 100}))
            for number in range(100)
        ]
    )
    store.record_verdicts(made[0].id, "run", [Verdict("a", "passed", "ERROR", 0.5, "<= 1", 10, "fine", {})])
    one = made[0].partition
    top = (
        sa.select(ATTRIBUTES.c.thing_id)
        .where(ATTRIBUTES.c.kind == "metric", ATTRIBUTES.c.name == "auc", ATTRIBUTES.c.number.is_not(None))
        .order_by(ATTRIBUTES.c.number.desc())
        .limit(10)
    )
    with statements(store) as asked:
        assert store.latest("model", one) == made[90]
        assert len(store.history("model", one)) == len(store.history(project="p", limit=10)) == 10
        assert len(store.history("model", limit=5)) == 5
        assert len(store.latest_of("model")) == 10
        assert store.get(made[0].id) == made[0]
        assert len(store.verdicts(made[0].id)) == 1
        assert store.upstream(made[0].id) == store.downstream(made[0].id) == []
        store.commit("model", one, Draft())
        best = store.catalog._database.read(lambda connection: list(connection.execute(top).scalars()))
    assert best == [thing.id for thing in made[:-11:-1]]
    assert len(asked) >= 10
    for text, values in asked:
        told = store.catalog._database.read(lambda connection: explained(connection, text, values))  # noqa: B023
        assert "SEQ SCAN" not in told, f"{text}\n{told}"
        assert not any(
            line.startswith("SCAN") and "each" not in line.lower() and "CONSTANT" not in line
            for line in told.splitlines()
        ), f"{text}\n{told}"


def explained(connection: sa.Connection, text: str, values: Any) -> str:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
        return "\n".join(str(row[3]).upper() for row in rows)
    # With so few rows a scan would be right.
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return "\n".join(str(row[0]).upper() for row in connection.exec_driver_sql(f"EXPLAIN {text}", values))
