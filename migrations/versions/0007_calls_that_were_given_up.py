"""Keep what calls may have cost that were given up before another one answered."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of older rows it is not known."""
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("given_up_nusd", sa.BigInteger))


def downgrade() -> None:
    """Drop it, and what it holds."""
    with op.batch_alter_table("turns") as turns:
        turns.drop_column("given_up_nusd")
