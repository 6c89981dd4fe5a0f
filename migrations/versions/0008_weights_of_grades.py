"""Keep how much each grade says, and which version of its grader gave it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; older grades have the whole weight."""
    with op.batch_alter_table("grades") as grades:
        grades.add_column(sa.Column("weight", sa.Double, nullable=False, server_default="1"))
        grades.add_column(sa.Column("version", sa.String))


def downgrade() -> None:
    """Drop them, and what they hold."""
    with op.batch_alter_table("grades") as grades:
        grades.drop_column("version")
        grades.drop_column("weight")
