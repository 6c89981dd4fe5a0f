"""Create teams, keys, turns and grades."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    _create_keys()
    _create_turns()
    _create_grades()


def downgrade() -> None:
    """Drop the tables with all they hold."""
    for table in ("grades", "turns", "keys", "teams"):
        op.drop_table(table)


def _create_keys() -> None:
    op.create_table(
        "teams",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("logs_text", sa.Boolean, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("team_id", sa.String, sa.ForeignKey("teams.id"), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("previous_secret_sha256", sa.LargeBinary),
        sa.Column("previous_valid_until", TIME),
        sa.Column("allowed_models", JSON),
        sa.Column("profile", sa.String),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
    )
    op.create_index("ix_keys_team_id", "keys", ["team_id"])


def _create_turns() -> None:
    op.create_table(
        "turns",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("decision_id", sa.String, nullable=False),
        sa.Column("answer_id", sa.String),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("conversation_id", sa.String),
        sa.Column("turn_index", sa.Integer, nullable=False),
        sa.Column("requested_model", sa.String, nullable=False),
        sa.Column("chosen_model", sa.String),
        sa.Column("served_model", sa.String),
        sa.Column("provider", sa.String),
        sa.Column("encoder_id", sa.String),
        sa.Column("query_embedding", sa.LargeBinary),
        sa.Column("query_text", sa.Text),
        sa.Column("candidates", JSON, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("route_reason", sa.String, nullable=False),
        sa.Column("router_version", sa.String),
        sa.Column("policy_version", sa.String),
        sa.Column("willingness_to_pay_usd", sa.Double),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("cache_write_tokens", sa.Integer),
        sa.Column("reasoning_tokens", sa.Integer),
        sa.Column("is_estimated", sa.Boolean),
        sa.Column("cost_nusd", sa.BigInteger),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("first_byte_s", sa.Double),
        sa.Column("gateway_s", sa.Double),
        sa.Column("is_stream", sa.Boolean, nullable=False),
        sa.Column("finish_reason", sa.String),
        sa.Column("error", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
    )
    op.create_index("ix_turns_decision_id", "turns", ["decision_id"])
    op.create_index("ix_turns_answer_id", "turns", ["answer_id"])
    op.create_index("ix_turns_started_at", "turns", ["started_at", "request_id"])
    op.create_index("ix_turns_team_id", "turns", ["team_id", "started_at"])
    op.create_index("ix_turns_conversation_id", "turns", ["conversation_id", "turn_index"])


def _create_grades() -> None:
    op.create_table(
        "grades",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("answer_id", sa.String, nullable=False),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("grader", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
    )
    op.create_index("ix_grades_answer_id", "grades", ["answer_id"])
    op.create_index("ix_grades_created_at", "grades", ["created_at"])
