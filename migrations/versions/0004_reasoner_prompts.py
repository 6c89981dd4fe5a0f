"""Keep prompts, answers and verifiers of teams that let a reasoner learn from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add the columns; no team has opted in."""
    with op.batch_alter_table("teams") as teams:
        teams.add_column(
            sa.Column("trains_reasoner", sa.Boolean, nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("messages", Json))
        turns.add_column(sa.Column("answer", sa.Text))
    with op.batch_alter_table("grades") as grades:
        grades.add_column(sa.Column("verifier", Json))


def downgrade() -> None:
    """Drop them, and what they hold."""
    with op.batch_alter_table("grades") as grades:
        grades.drop_column("verifier")
    with op.batch_alter_table("turns") as turns:
        turns.drop_column("answer")
        turns.drop_column("messages")
    with op.batch_alter_table("teams") as teams:
        teams.drop_column("trains_reasoner")
