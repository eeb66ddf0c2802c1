"""Whatever a Thing says is found by index: typed attributes, provenance, names; manifests in a table of their own."""

import json
from typing import Any, cast

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 1000
_HEAD = "substr(text, 1, 300)"
# Bytes decide the order, as in SQLite, whatever the database's language.
_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
_TIME = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables anew and fill them from the manifests."""
    # As SQLite cannot change a table, all but the verdicts' are laid out anew on both databases.
    for index in ("things_by_partition", "things_by_project", "things_by_step"):
        op.drop_index(index, table_name="things")
    op.rename_table("things", "earlier")
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER INDEX things_pkey RENAME TO earlier_pkey")
    for name in ("edges", "attributes", "components"):
        op.drop_table(name)
    tables = _tables()
    _fill(tables)
    op.drop_table("earlier")
    _index()


def _tables() -> dict[str, sa.Table]:
    things = op.create_table(
        "things",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("step", _WORDS, nullable=False),
        sa.Column("partition", _WORDS, nullable=False),
        *(sa.Column(name, _WORDS) for name in ("project", "segment", "source", "name", "user", "host")),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("data_version", _WORDS, nullable=False),
        *(sa.Column(name, _WORDS) for name in ("code_version", "spec_hash", "run_id")),
        sa.Column("origin", _ID),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger),
        *(sa.Column(name, _TIME) for name in ("retired_at", "removed_at")),
    )
    manifests = op.create_table(
        "manifests",
        sa.Column("thing_id", _ID, primary_key=True),
        sa.Column("manifest", sa.Text, nullable=False),
    )
    # Without row ids, SQLite keeps such rows once, in the order of their keys, and not in an index besides.
    edges = op.create_table(
        "edges",
        sa.Column("thing_id", _ID, primary_key=True),
        sa.Column("based_on", _ID, primary_key=True),
        sqlite_with_rowid=False,
    )
    attributes = op.create_table(
        "attributes",
        sa.Column("thing_id", _ID, primary_key=True),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("name", _WORDS, primary_key=True),
        sa.Column("type", sa.String(7), nullable=False),
        sa.Column("number", sa.Double),
        sa.Column("integer", sa.BigInteger),
        sa.Column("text", _WORDS),
        sqlite_with_rowid=False,
    )
    components = op.create_table(
        "components",
        sa.Column("thing_id", _ID, primary_key=True),
        sa.Column("kind", sa.String(9), primary_key=True),
        sa.Column("name", _WORDS, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger),
        sa.Column("lake", sa.Text),
        sqlite_with_rowid=False,
    )
    made = (things, manifests, edges, attributes, components)
    return {table.name: table for table in made}


def _fill(tables: dict[str, sa.Table]) -> None:
    """Derive all rows from the manifests that the catalog holds."""
    from resources.things import Thing, rows_of

    connection = op.get_bind()
    earlier = sa.table("earlier", *(sa.column(name, sa.String) for name in ("id", "manifest", "retired_at")))
    origins: set[str] = set()
    last = ""
    while True:
        query = sa.select(earlier).where(earlier.c.id > last).order_by(earlier.c.id).limit(_BATCH)
        batch = connection.execute(query).all()
        if not batch:
            return
        last = batch[-1].id
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
        for row in batch:
            # Nothing is read through it, so that it needs no lake.
            made = rows_of(Thing(json.loads(row.manifest), cast("Any", None)), row.manifest)
            rows["things"].append({**made.thing, "retired_at": row.retired_at})
            rows["manifests"].append({"thing_id": row.id, "manifest": row.manifest})
            rows["edges"] += made.edges
            rows["attributes"] += made.attributes
            rows["components"] += made.components
            if made.thing["origin"] not in origins:
                origins.add(made.thing["origin"])
                rows["attributes"] += made.origin
        for name, table in tables.items():
            if rows[name]:
                columns = [column.name for column in table.columns]
                connection.execute(table.insert(), [{one: row[one] for one in columns} for row in rows[name]])


def _index() -> None:
    columns: list[Any]
    for name, *columns in (
        ("things_by_partition", "step", "partition", "id"),
        ("things_by_project", "project", "id"),
        ("things_by_step", "step", "id"),
        ("things_by_time", "created_at", "id"),
        ("things_by_data_version", "data_version"),
        ("things_by_origin", "origin", "id"),
        ("things_by_user", "user", "id"),
        ("things_by_key", "partition", "id"),
    ):
        op.create_index(name, "things", columns)
    op.create_index("things_by_short_id", "things", [sa.text("substr(id, 25)")])
    for column in ("name", "segment", "source", "run_id", "spec_hash", "retired_at", "removed_at"):
        there = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"things_by_{column}", "things", [column, "id"], sqlite_where=there, postgresql_where=there
        )
    op.create_index("edges_by_based_on", "edges", ["based_on", "thing_id"])
    # Every attribute is in one of these three.
    having = {"number": "number IS NOT NULL", "text": "text IS NOT NULL AND number IS NULL"}
    values = {"number": [sa.text("number")], "text": [sa.text(_HEAD)]}
    for name in ("number", "text", "nothing"):
        where = sa.text(having.get(name, "text IS NULL AND number IS NULL"))
        columns = ["kind", "name", "type", *values.get(name, []), "thing_id"]
        op.create_index(
            f"attributes_by_{name}", "attributes", columns, sqlite_where=where, postgresql_where=where
        )
    op.create_index("components_by_hash", "components", ["hash"])
    op.create_index("components_by_name", "components", ["name", "thing_id"])
