"""Keep what the learner did, and which process may learn."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add the two tables."""
    op.create_table(
        "learning_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("router_version", sa.String),
        sa.Column("former_version", sa.String),
        sa.Column("figures", JSON, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_table(
        "learning_lease",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("expires_unix_s", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop both, and what they hold."""
    op.drop_table("learning_lease")
    op.drop_table("learning_events")
