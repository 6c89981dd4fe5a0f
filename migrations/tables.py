"""The tables: teams, virtual keys, turns and their grades, budgets and their settlements.

A change here needs a new file in `versions/`; a test compares the two on SQLite and Postgres.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

HEAD_REVISION = "0004"
"""The newest revision in `versions/`, known without importing Alembic."""

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, also on SQLite, which stores no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes: nobody can say what they mean."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored; give it a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return `value` in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Collects the tables; `Base.metadata` is what the migrations must lead to."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        bool: Boolean,
        bytes: LargeBinary,
        datetime: UtcDateTime,
        float: Double,
        int: Integer,
        str: String,
    }


class Team(Base):
    """A tenant: owns keys, and nobody else reads its turns.

    Attributes:
        logs_text: It opted in to keeping the text of queries in its log.
        trains_reasoner: It opted in to keeping prompts, answers and verifiers, so that answers
            can be verified and a reasoning model learns from what they were verified by.
    """

    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(primary_key=True)
    logs_text: Mapped[bool]
    trains_reasoner: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime]


class Key(Base):
    """A virtual key; of its secret only the SHA-256 is kept."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    secret_sha256: Mapped[bytes]
    previous_secret_sha256: Mapped[bytes | None]
    previous_valid_until: Mapped[datetime | None]
    allowed_models: Mapped[list[str] | None] = mapped_column(Json)
    profile: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Turn(Base):
    """One answered or failed turn; the columns are those of `gateway.types.TurnRecord`.

    Team and key are plain text, not foreign keys: a row never waits for another to be written, and
    the log outlives what it mentions.
    """

    __tablename__ = "turns"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    decision_id: Mapped[str] = mapped_column(index=True)
    answer_id: Mapped[str | None] = mapped_column(index=True)
    started_at: Mapped[datetime]
    key_id: Mapped[str]
    team_id: Mapped[str]
    conversation_id: Mapped[str | None]
    turn_index: Mapped[int]
    requested_model: Mapped[str]
    chosen_model: Mapped[str | None]
    served_model: Mapped[str | None]
    provider: Mapped[str | None]
    encoder_id: Mapped[str | None]
    query_embedding: Mapped[bytes | None]
    query_text: Mapped[str | None] = mapped_column(Text)
    candidates: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    propensity: Mapped[float]
    route_reason: Mapped[str]
    router_version: Mapped[str | None]
    policy_version: Mapped[str | None]
    budget_tokens: Mapped[int | None]
    proposed_tokens: Mapped[int | None]
    allotted_tokens: Mapped[int | None]
    policy_propensity: Mapped[float | None]
    willingness_to_pay_usd: Mapped[float | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    cache_write_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]
    is_estimated: Mapped[bool | None]
    cost_nusd: Mapped[int | None] = mapped_column(BigInteger)
    latency_s: Mapped[float]
    first_byte_s: Mapped[float | None]
    gateway_s: Mapped[float | None]
    is_stream: Mapped[bool]
    finish_reason: Mapped[str | None]
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int]
    labels: Mapped[dict[str, str]] = mapped_column("metadata", Json)
    messages: Mapped[list[dict[str, str]] | None] = mapped_column(Json)
    answer: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("ix_turns_started_at", "started_at", "request_id"),
        Index("ix_turns_team_id", "team_id", "started_at"),
        Index("ix_turns_conversation_id", "conversation_id", "turn_index"),
    )


class Grade(Base):
    """What somebody thinks of an answer, 0 to 1.

    `answer_id` is the request, decision or answer id of the graded turn, without a foreign key: a
    grade may be written before its turn is. It counts only where `team_id` is the turn's.
    """

    __tablename__ = "grades"

    id: Mapped[str] = mapped_column(primary_key=True)
    answer_id: Mapped[str] = mapped_column(index=True)
    team_id: Mapped[str]
    grader: Mapped[str]
    source: Mapped[str]
    score: Mapped[float]
    comment: Mapped[str | None] = mapped_column(Text)
    verifier: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(index=True)


class Budget(Base):
    """A cap: what one scope, or every scope of a kind, may spend within each window.

    Attributes:
        id: Derived from all but the cap, so that no scope has two caps for the same thing.
        team_id: None for a default of all teams.
        scope_id: None for the team itself, and for a default of every scope of the kind.
        revision: Grows with every change of any row, so that gateways read only what changed.
        deleted_at: A deleted row stays, so that gateways learn of it.
    """

    __tablename__ = "budgets"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str | None] = mapped_column(ForeignKey("teams.id"), index=True)
    scope: Mapped[str]
    scope_id: Mapped[str | None]
    measure: Mapped[str]
    window: Mapped[str]
    cap: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(BigInteger, unique=True)


class Settlement(Base):
    """What became of one reservation: the journal that live counters are rebuilt from.

    End users and conversations are kept as digests: those that scopes have (`gateway.ledger`).

    Attributes:
        limits: Codes of the limits it was charged to, each between two spaces.
        outcome: ``answered``, an error's class, ``ClientLeft``, ``expired``, ``recovered`` or
            ``reset``.
        charged_tokens: Of prompt and completion; `charged_output_tokens` of the completion alone.
        charged_requests: 1; negative where an operator reset a counter.
    """

    __tablename__ = "settlements"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str]
    key_id: Mapped[str]
    user_digest: Mapped[str | None]
    conversation_digest: Mapped[str | None]
    model: Mapped[str | None]
    limits: Mapped[str]
    held_nusd: Mapped[int] = mapped_column(BigInteger)
    held_tokens: Mapped[int] = mapped_column(BigInteger)
    charged_nusd: Mapped[int] = mapped_column(BigInteger)
    charged_tokens: Mapped[int] = mapped_column(BigInteger)
    charged_output_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    charged_requests: Mapped[int] = mapped_column(BigInteger)
    is_estimated: Mapped[bool]
    outcome: Mapped[str]
    reserved_at: Mapped[datetime]
    settled_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_settlements_reserved_at", "reserved_at"),
        Index("ix_settlements_team_id", "team_id", "reserved_at"),
    )
