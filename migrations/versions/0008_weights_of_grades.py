"""Keep how much each grade says and which version of its grader gave it; order them by source."""

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
    op.create_index("ix_grades_source", "grades", ["source", "created_at", "id"])


def downgrade() -> None:
    """Drop them, and what they hold."""
    op.drop_index("ix_grades_source", "grades")
    with op.batch_alter_table("grades") as grades:
        grades.drop_column("version")
        grades.drop_column("weight")
