"""Keep responses of the teams that want to go on from them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and the column; no team has opted in."""
    op.create_table(
        "stored_responses",
        sa.Column("team_id", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("previous_id", sa.String),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("n_bytes", sa.Integer, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
    )
    with op.batch_alter_table("teams") as teams:
        teams.add_column(
            sa.Column("stores_responses", sa.Boolean, nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    """Drop both, and what was kept."""
    with op.batch_alter_table("teams") as teams:
        teams.drop_column("stores_responses")
    op.drop_table("stored_responses")
