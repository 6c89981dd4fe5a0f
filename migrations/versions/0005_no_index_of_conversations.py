"""Drop the index of turns by conversation: only learning from the whole log asks for those.

Their ids come in no order, so that each row changed a page of the index of its own.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop it."""
    op.drop_index("ix_turns_conversation_id", "turns")


def downgrade() -> None:
    """Build it anew."""
    op.create_index("ix_turns_conversation_id", "turns", ["conversation_id", "turn_index"])
