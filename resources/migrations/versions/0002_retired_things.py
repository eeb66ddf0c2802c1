"""When a Thing was retired, and an index for the versions of a step in order of time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the index."""
    op.add_column("things", sa.Column("retired_at", sa.String(32)))
    op.create_index("things_by_step", "things", ["step", "id"])
