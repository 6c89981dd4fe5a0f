"""Note of each turn its end user and its trace, and of each budget who was told that it is used."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEX = "ix_turns_trace_id"


def upgrade() -> None:
    """Add columns, index and table."""
    op.add_column("turns", sa.Column("user_digest", sa.String))
    op.add_column("turns", sa.Column("trace_id", sa.String))
    op.create_index(INDEX, "turns", ["trace_id"])
    op.create_table(
        "budget_notices",
        sa.Column("budget_id", sa.String, primary_key=True),
        sa.Column("window_start", sa.BigInteger, primary_key=True),
        sa.Column("cap", sa.BigInteger, primary_key=True),
        sa.Column("percent", sa.Integer, primary_key=True),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("budget_notices")
    op.drop_index(INDEX, "turns")
    with op.batch_alter_table("turns") as changed:
        changed.drop_column("trace_id")
        changed.drop_column("user_digest")
