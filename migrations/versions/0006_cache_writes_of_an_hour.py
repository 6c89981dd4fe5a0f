"""Count cache writes that a provider keeps for an hour: they cost more than others."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of older rows it is not known."""
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("cache_write_1h_tokens", sa.Integer))


def downgrade() -> None:
    """Drop it, and what it holds."""
    with op.batch_alter_table("turns") as turns:
        turns.drop_column("cache_write_1h_tokens")
