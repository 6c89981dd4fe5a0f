"""The tables: teams, keys, turns and their grades, stored responses, budgets and settlements.

A change here needs a new file in `versions/`; a test compares the two on SQLite and Postgres. Plain
tables, without SQLAlchemy's object mapper: nothing uses it, and loading it took 7 MB.
"""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.types import TypeEngine

HEAD_REVISION = "0016"
"""The newest revision in `versions/`, known without importing Alembic."""


class Json(TypeDecorator[Any]):
    """JSON, on Postgres the binary form; None is NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the dialect's own type; Postgres' module is loaded where Postgres is used."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        jsonb = import_module("sqlalchemy.dialects.postgresql").JSONB
        return dialect.type_descriptor(jsonb(none_as_null=True))


class Columns(Json):
    """JSON of alike objects, which are stored by column: ``{"model": ["a"], "verdict": "ok"}``.

    So names of fields are stored once; a single value stands for one that all objects have. A list
    of objects, as older rows have it, is read as well.
    """

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the objects."""
        del dialect
        return objects_of(value) if isinstance(value, dict) else value


def objects_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that are stored by column; the first column is a list."""
    length = len(next(iter(columns.values()), ()))
    lists = [each if isinstance(each, list) else [each] * length for each in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


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


METADATA = MetaData()
"""Collects the tables; it is what the migrations must lead to."""

TEAMS = Table(
    "teams",
    METADATA,
    Column("id", String, primary_key=True),
    Column("logs_text", Boolean, nullable=False),
    Column("trains_reasoner", Boolean, nullable=False, server_default=false()),
    Column("is_judged", Boolean, nullable=False, server_default=false()),
    Column("stores_responses", Boolean, nullable=False, server_default=false()),
    Column("data_rule", String),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
"""A tenant: owns keys, and nobody else reads its turns.

Attributes:
    logs_text: It opted in to keeping the text of queries in its log.
    trains_reasoner: It opted in to keeping prompts, answers and verifiers, so that answers
        can be verified and a reasoning model learns from what they were verified by.
    is_judged: It opted in to having prompts and answers read by the models that judge, and to
        second answers; nothing more is kept for that.
    stores_responses: It opted in to keeping its responses (OpenAI's Responses) for a while, so
        that a request can go on from one by its id.
    data_rule: Name of the rule in the settings that its data is held to; NULL where to none.
    deleted_at: Since then it has no keys, and nobody can be given its id.
"""

KEYS = Table(
    "keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("team_id", String, ForeignKey("teams.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("previous_secret_sha256", LargeBinary),
    Column("previous_valid_until", UtcDateTime),
    Column("allowed_models", Json),
    Column("profile", String),
    Column("data_rule", String),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("version", BigInteger, nullable=False, server_default="0", index=True),
)
"""A virtual key; of its secret only the SHA-256 is kept.

Attributes:
    version: Of `KEY_CHANGES`, when what decides about the key's calls last changed: of itself or of
        its team. Triggers of the database write it.
"""

KEY_CHANGES = Table(
    "key_changes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("deletions", BigInteger, nullable=False),
)
"""How often keys or their teams changed, in the order of commits, and how often a key was deleted.

One row, or none before the first change. Triggers of the database write it.
"""

TURNS = Table(
    "turns",
    METADATA,
    Column("request_id", String, primary_key=True),
    Column("decision_id", String, nullable=False, index=True),
    Column("answer_id", String, index=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("key_id", String, nullable=False),
    Column("team_id", String, nullable=False),
    Column("user_digest", String),
    Column("conversation_id", String),
    Column("turn_index", Integer, nullable=False),
    Column("requested_model", String, nullable=False),
    Column("chosen_model", String),
    Column("served_model", String),
    Column("provider", String),
    Column("encoder_id", String),
    Column("query_embedding", LargeBinary),
    Column("query_text", Text),
    Column("candidates", Columns, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("route_reason", String, nullable=False),
    Column("router_version", String),
    Column("policy_version", String),
    Column("budget_tokens", Integer),
    Column("proposed_tokens", Integer),
    Column("allotted_tokens", Integer),
    Column("policy_propensity", Double),
    Column("willingness_to_pay_usd", Double),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("cache_write_1h_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("is_estimated", Boolean),
    Column("cost_nusd", BigInteger),
    Column("given_up_nusd", BigInteger),
    Column("data_rules", String),
    Column("latency_s", Double, nullable=False),
    Column("first_byte_s", Double),
    Column("gateway_s", Double),
    Column("is_stream", Boolean, nullable=False),
    Column("finish_reason", String),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("trace_id", String, index=True),
    Column("metadata", Json, nullable=False),
    Column("messages", Json),
    Column("answer", Text),
    Index("ix_turns_started_at", "started_at", "request_id"),
    Index("ix_turns_team_id", "team_id", "started_at"),
)
"""One answered or failed turn; each column is the field of that name of `gateway.types.TurnRecord`.

Team and key are plain text, not foreign keys: a row never waits for another to be written, and
the log outlives what it mentions.
"""

GRADES = Table(
    "grades",
    METADATA,
    Column("id", String, primary_key=True),
    Column("answer_id", String, nullable=False, index=True),
    Column("team_id", String, nullable=False),
    Column("grader", String, nullable=False),
    Column("source", String, nullable=False),
    Column("score", Double, nullable=False),
    Column("weight", Double, nullable=False, server_default="1"),
    Column("version", String),
    Column("comment", Text),
    Column("verifier", Json),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Index("ix_grades_source", "source", "created_at", "id"),
)
"""What somebody thinks of an answer, 0 to 1; `weight`, 0 to 1, is how much that says.

`answer_id` is the request, decision or answer id of the graded turn, without a foreign key: a
grade may be written before its turn is. It counts only where `team_id` is the turn's.
"""

STORED_RESPONSES = Table(
    "stored_responses",
    METADATA,
    Column("team_id", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("previous_id", String),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("n_bytes", Integer, nullable=False),
    Column("input", Text, nullable=False),
    Column("response", Text, nullable=False),
    Column("conversation_id", String),
    Index("ix_stored_responses_conversation", "team_id", "conversation_id", "created_at"),
)
"""A response of a team that opted in; nobody else can name it, since `team_id` is in its key.

Attributes:
    previous_id: The response that it goes on from, whose conversation comes before its own input.
    n_bytes: Of `input` and `response`.
    input: The request's own items, as JSON; text, because it comes back byte for byte.
    response: Empty where callers added items to a conversation and no model answered.
    conversation_id: The conversation that it is a part of, after all that came earlier.
"""

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("team_id", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    Column("metadata", Text, nullable=False),
)
"""A conversation (OpenAI's) of a team that stores its responses; they are what it consists of.

Attributes:
    metadata: As JSON.
"""

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("id", String, primary_key=True),
    Column("team_id", String, ForeignKey("teams.id"), index=True),
    Column("scope", String, nullable=False),
    Column("scope_id", String),
    Column("measure", String, nullable=False),
    Column("window", String, nullable=False),
    Column("cap", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("revision", BigInteger, nullable=False, unique=True),
)
"""A cap: what one scope, or every scope of a kind, may spend within each window.

Attributes:
    id: Derived from all but the cap, so that no scope has two caps for the same thing.
    team_id: None for a default of all teams.
    scope_id: None for the team itself, and for a default of every scope of the kind.
    revision: Grows with every change of any row, so that gateways read only what changed.
    deleted_at: A deleted row stays, so that gateways learn of it.
"""

SETTLEMENTS = Table(
    "settlements",
    METADATA,
    Column("request_id", String, primary_key=True),
    Column("team_id", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("user_digest", String),
    Column("conversation_digest", String),
    Column("model", String),
    Column("limits", String, nullable=False),
    Column("held_nusd", BigInteger, nullable=False),
    Column("held_tokens", BigInteger, nullable=False),
    Column("charged_nusd", BigInteger, nullable=False),
    Column("charged_tokens", BigInteger, nullable=False),
    Column("charged_output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("charged_requests", BigInteger, nullable=False),
    Column("is_estimated", Boolean, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reserved_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime, nullable=False),
    Index("ix_settlements_reserved_at", "reserved_at"),
    Index("ix_settlements_team_id", "team_id", "reserved_at"),
)
"""What became of one reservation: the journal that live counters are rebuilt from.

End users and conversations are kept as digests: those that scopes have (`gateway.ledger`).

Attributes:
    limits: Codes of the limits it was charged to, each between two spaces.
    outcome: ``answered``, an error's class, ``ClientLeft``, ``expired``, ``recovered`` or
        ``reset``.
    charged_tokens: Of prompt and completion; `charged_output_tokens` of the completion alone.
    charged_requests: 1; negative where an operator reset a counter.
"""

LEARNING_EVENTS = Table(
    "learning_events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("router_version", String),
    Column("former_version", String),
    Column("figures", Json, nullable=False),
    Column("why", Text, nullable=False),
)
"""A step of the learner, in the order in which they were taken; rows are only added.

Attributes:
    who: ``learner``, or the operator.
    what: One of `gateway.learning.events.What`.
    router_version: Of the router that it is about.
    former_version: Of the router that served before, where another one began to serve.
    figures: What the step rests on.
    why: A sentence for an operator.
"""

LEASES = Table(
    "learning_lease",
    METADATA,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("expires_unix_s", Double, nullable=False),
)
"""Which process does what only one may, and until when, by the clock of the database.

The name is from when only learners had a lease.
"""

BUDGET_NOTICES = Table(
    "budget_notices",
    METADATA,
    Column("budget_id", String, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("cap", BigInteger, primary_key=True),
    Column("percent", Integer, primary_key=True),
)
"""What was told of a budget in a window, so that one of several gateways tells it, once.

Attributes:
    window_start: Unix seconds; 0 where the window does not end.
    cap: As it was: a raised budget is told of anew.
"""
