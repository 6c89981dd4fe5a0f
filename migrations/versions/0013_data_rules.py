"""Hold teams and keys to data rules, and say in each turn to which."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = (("teams", "data_rule"), ("keys", "data_rule"), ("turns", "data_rules"))


def upgrade() -> None:
    """Add the columns; nothing is held to a rule."""
    for table, column in COLUMNS:
        op.add_column(table, sa.Column(column, sa.String))


def downgrade() -> None:
    """Drop them: nothing is held to a rule any more."""
    for table, column in COLUMNS:
        with op.batch_alter_table(table) as changed:
            changed.drop_column(column)
