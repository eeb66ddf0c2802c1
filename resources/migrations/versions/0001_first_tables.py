"""Things, the edges between them, their attributes and components, and the verdicts on them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "things",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
        sa.Column("segment", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("data_version", sa.Text, nullable=False),
        sa.Column("code_version", sa.Text),
        sa.Column("spec_hash", sa.Text),
        sa.Column("run_id", sa.Text),
        sa.Column("manifest", sa.Text, nullable=False),
    )
    op.create_index("things_by_partition", "things", ["step", "partition", "id"])
    op.create_index("things_by_project", "things", ["project", "id"])
    op.create_table(
        "edges",
        sa.Column("thing_id", sa.String(36), primary_key=True),
        sa.Column("based_on", sa.String(36), primary_key=True),
    )
    op.create_index("edges_by_based_on", "edges", ["based_on", "thing_id"])
    op.create_table(
        "attributes",
        sa.Column("thing_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(9), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.Double),
        sa.Column("text", sa.Text),
    )
    op.create_index("attributes_by_number", "attributes", ["kind", "name", "number", "thing_id"])
    op.create_index("attributes_by_text", "attributes", ["kind", "name", "text", "thing_id"])
    op.create_table(
        "components",
        sa.Column("thing_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger),
    )
    op.create_index("components_by_hash", "components", ["hash"])
    op.create_table(
        "verdicts",
        sa.Column("thing_id", sa.String(36), primary_key=True),
        sa.Column("check_run", sa.Text, primary_key=True),
        sa.Column("claim", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("report", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("observed", sa.Double),
        sa.Column("verdict", sa.Text, nullable=False),
    )
    op.create_index("verdicts_by_claim", "verdicts", ["claim", "status"])
