"""Keep what turns are allotted, and what of a charge was output."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ALLOTMENT = (
    ("budget_tokens", sa.Integer),
    ("proposed_tokens", sa.Integer),
    ("allotted_tokens", sa.Integer),
    ("policy_propensity", sa.Double),
)


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("turns") as turns:
        for name, kind in ALLOTMENT:
            turns.add_column(sa.Column(name, kind))
    with op.batch_alter_table("settlements") as settlements:
        settlements.add_column(
            sa.Column("charged_output_tokens", sa.BigInteger, nullable=False, server_default="0")
        )


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("settlements") as settlements:
        settlements.drop_column("charged_output_tokens")
    with op.batch_alter_table("turns") as turns:
        for name, _ in reversed(ALLOTMENT):
            turns.drop_column(name)
