"""Note when a team was deleted: its turns stay, so its id is not given to another one."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("teams", sa.Column("deleted_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Drop it, without the table being made anew: triggers count its changes."""
    op.drop_column("teams", "deleted_at")
