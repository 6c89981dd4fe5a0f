"""Create budgets and the journal of their settlements."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "budgets",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("team_id", sa.String, sa.ForeignKey("teams.id")),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("scope_id", sa.String),
        sa.Column("measure", sa.String, nullable=False),
        sa.Column("window", sa.String, nullable=False),
        sa.Column("cap", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.Column("revision", sa.BigInteger, nullable=False, unique=True),
    )
    op.create_index("ix_budgets_team_id", "budgets", ["team_id"])
    op.create_table(
        "settlements",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("user_digest", sa.String),
        sa.Column("conversation_digest", sa.String),
        sa.Column("model", sa.String),
        sa.Column("limits", sa.String, nullable=False),
        sa.Column("held_nusd", sa.BigInteger, nullable=False),
        sa.Column("held_tokens", sa.BigInteger, nullable=False),
        sa.Column("charged_nusd", sa.BigInteger, nullable=False),
        sa.Column("charged_tokens", sa.BigInteger, nullable=False),
        sa.Column("charged_requests", sa.BigInteger, nullable=False),
        sa.Column("is_estimated", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reserved_at", TIME, nullable=False),
        sa.Column("settled_at", TIME, nullable=False),
    )
    op.create_index("ix_settlements_reserved_at", "settlements", ["reserved_at"])
    op.create_index("ix_settlements_team_id", "settlements", ["team_id", "reserved_at"])


def downgrade() -> None:
    """Drop the tables with all they hold."""
    op.drop_table("settlements")
    op.drop_table("budgets")
