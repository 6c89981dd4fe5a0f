"""Note of each turn its end user, as a digest, and the trace that it is a part of."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEX = "ix_turns_trace_id"


def upgrade() -> None:
    """Add the columns; of the trace's id only what there is is in the index."""
    op.add_column("turns", sa.Column("user_digest", sa.String))
    op.add_column("turns", sa.Column("trace_id", sa.String))
    known = sa.text("trace_id IS NOT NULL")
    op.create_index(INDEX, "turns", ["trace_id"], postgresql_where=known, sqlite_where=known)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(INDEX, "turns")
    with op.batch_alter_table("turns") as changed:
        changed.drop_column("trace_id")
        changed.drop_column("user_digest")
