"""Calls that the gateway makes for itself, by the way of every other turn.

So they are routed, retried, priced, counted and settled like a caller's. They belong to a team of
their own that nobody can create, so no key and no budget of a caller has a part in them, and what
reads the log of a team never meets them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from budget.errors import BudgetExhausted
from budget.ledger.amounts import NUSD_PER_USD
from gateway.budgets.definitions import BudgetDefinition
from gateway.errors import GatewayError, RateLimited
from gateway.telemetry.series import Counts
from gateway.types import Caller, TurnRecord
from gateway.wire import ChatRequest
from router_models.errors import NoModelAvailable

JUDGE: Final = "judge"
SHADOW: Final = "shadow"
TEAM_OF: Final = {JUDGE: "@judge", SHADOW: "@shadow"}
"""No team can be created whose id begins so (`gateway.access.keys.TEAM_ID`)."""
MAX_REST_S: Final = 60.0
"""Over a cap, the next call is tried after so long at most: another gateway may give some back."""


class Answered(Protocol):
    """A whole answer; `gateway.chat.service.Answer` is one."""

    @property
    def body(self) -> bytes:
        """As chat completions."""
        ...


class Completes(Protocol):
    """Answers requests; `gateway.chat.service.ChatService` does."""

    async def complete(self, request: ChatRequest, caller: Caller) -> Answered:
        """Answer `request` with one JSON body."""
        ...


class RowLog(Protocol):
    """Takes the rows of finished turns; `gateway.evaluation_log.evaluation_log` has one."""

    def record(self, row: TurnRecord) -> None:
        """Keep `row`; never raises, never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered the gateway.

    Attributes:
        message: The first choice's.
    """

    request_id: str
    message: dict[str, Any]
    cost_usd: float


class BackgroundCounts:
    """Series of what is asked in the background, by purpose and model."""

    def __init__(self) -> None:
        self.calls = Counts(
            "waypost_background_calls",
            "Calls that the gateway made for itself, by purpose (judge, shadow), model and outcome "
            "(answered, over_cap, failed, busy).",
            ("purpose", "model", "outcome"),
        )
        self.cost = Counts(
            "waypost_background_cost_usd",
            "USD charged for these calls.",
            ("purpose", "model"),
        )
        self.verdicts = Counts(
            "waypost_judge_verdicts",
            "Replies of judges by outcome: score, first, second, tie, or unusable.",
            ("model", "outcome"),
        )
        self.families = (self.calls, self.cost, self.verdicts)


@dataclass(slots=True)
class BackgroundCalls:
    """Asks models for one purpose; for one event loop.

    Attributes:
        serving: Makes a service that settles, and gives its rows to a log. Its turns are never
            graded themselves.
        purpose: `JUDGE` or `SHADOW`.
        monotonic: Seconds that never go back.
    """

    serving: Callable[[RowLog], Completes]
    purpose: str
    counts: BackgroundCounts
    monotonic: Callable[[], float] = time.monotonic
    _rests_until_s: float = field(default=float("-inf"), init=False)

    @property
    def caller(self) -> Caller:
        """Whose the calls are."""
        team_id = TEAM_OF[self.purpose]
        return Caller(key_id=team_id, team_id=team_id)

    async def ask(self, request: ChatRequest, log: RowLog, asked_for: Caller) -> Reply | None:
        """Ask the model that `request` names; None where the cap has no room, or it failed.

        Args:
            asked_for: Whose data the request holds: the data rules of that caller hold for it.
            log: Gets the turn's row, also where the model failed.
        """
        count = self.counts.calls.add
        if self.monotonic() < self._rests_until_s:
            count((self.purpose, request.model, "over_cap"))
            return None
        try:
            caller = replace(
                self.caller,
                allowed_models=frozenset({request.model}),  # no fallback answers in its place
                requires=asked_for.requires,
                data_rules=asked_for.data_rules,
            )
            answer = await self.serving(log).complete(request, caller)
        except (BudgetExhausted, RateLimited) as refusal:
            rest_s = MAX_REST_S if refusal.retry_after_s is None else refusal.retry_after_s
            self._rests_until_s = self.monotonic() + min(rest_s, MAX_REST_S)
            count((self.purpose, request.model, "over_cap"))
            return None
        except (GatewayError, NoModelAvailable):
            count((self.purpose, request.model, "failed"))
            return None
        reply = _read(orjson.loads(answer.body))
        count((self.purpose, request.model, "answered"))
        self.counts.cost.add((self.purpose, request.model), reply.cost_usd)
        return reply


def cap_of(purpose: str, cap_usd: float) -> BudgetDefinition:
    """Cap what the calls of one purpose may cost per day; it is in no database."""
    team_id, never = TEAM_OF[purpose], datetime.fromtimestamp(0, UTC)
    cap_nusd = round(cap_usd * NUSD_PER_USD)
    return BudgetDefinition(
        f"bud_{team_id}", team_id, "team", None, "nusd", "day", cap_nusd, never, never
    )


def _read(body: dict[str, Any]) -> Reply:
    own = body["waypost"]
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    return Reply(
        own["request_id"], message if isinstance(message, dict) else {}, float(own["cost_usd"])
    )
