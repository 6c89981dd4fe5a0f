"""Join stored responses in conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

INDEX = "ix_stored_responses_conversation"


def upgrade() -> None:
    """Add the table, and the column; no response is part of a conversation."""
    op.create_table(
        "conversations",
        sa.Column("team_id", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("metadata", sa.Text, nullable=False),
    )
    op.add_column("stored_responses", sa.Column("conversation_id", sa.String))
    op.create_index(INDEX, "stored_responses", ["team_id", "conversation_id", "created_at"])


def downgrade() -> None:
    """Drop both; what was said stays in responses that nothing joins."""
    op.drop_index(INDEX, "stored_responses")
    with op.batch_alter_table("stored_responses") as responses:
        responses.drop_column("conversation_id")
    op.drop_table("conversations")
