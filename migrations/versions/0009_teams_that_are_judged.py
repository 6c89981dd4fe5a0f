"""Note which teams let models judge their answers."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no team has opted in."""
    with op.batch_alter_table("teams") as teams:
        teams.add_column(
            sa.Column("is_judged", sa.Boolean, nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("teams") as teams:
        teams.drop_column("is_judged")
