"""One turn while it is being served: what happens is noted here, then becomes a log row."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge
from gateway.budgets.enforcement import own_limit
from gateway.budgets.reservation import Reservation, budget_headers, budget_summary
from gateway.evaluation_log.exchange import prompt_of
from gateway.routing.routing import RoutePlan
from gateway.telemetry.tracing import TurnTrace, Untraced
from gateway.types import CLIENT_LEFT, Caller, HostedModel, TurnRecord, Usage
from gateway.wire import ChatRequest, text_of

MAX_LOGGED_CHARS = 32_768
"""The log's queue is bounded in rows, so a row must be bounded too."""
CHARS_PER_TOKEN = 4
"""A rough English average; used only where a provider reports no usage, and marked so."""


@dataclass(slots=True)
class Turn:
    """The state of one turn; one request owns it, nothing else sees it.

    Attributes:
        clock: Seconds of a monotonic clock.
        error: Class name of what ended the turn, None if it was answered whole.
        answer: Its text, gathered only where the team lets a reasoner learn from it.
    """

    request: ChatRequest
    caller: Caller
    clock: Callable[[], float]
    started_s: float
    started_at_unix_s: float
    request_id: str
    decision_id: str
    plan: RoutePlan | None = None
    reservation: Reservation | None = None
    served: HostedModel | None = None
    upstream_started_s: float | None = None
    first_byte_s: float | None = None
    usage: Usage | None = None
    answer_id: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    answer: str | None = None
    attempts: int = 0
    trace: TurnTrace = field(default_factory=Untraced)
    _priced: tuple[Usage, int] | None = None

    @classmethod
    def begin(
        cls,
        request: ChatRequest,
        caller: Caller,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> "Turn":
        """Start a turn, with ids that sort by time."""
        request_id = new_id(rng)
        return cls(
            request=request,
            caller=caller,
            clock=clock,
            started_s=clock(),
            started_at_unix_s=time.time(),
            request_id=f"req_{request_id}",
            decision_id=f"dec_{request_id}",
        )

    @property
    def cost_nusd(self) -> int:
        """Charged cost so far; 0 until usage is known."""
        if self.served is None or self.usage is None:
            return 0
        if self._priced is None or self._priced[0] is not self.usage:
            self._priced = self.usage, self.served.price.cost_nusd(self.usage)
        return self._priced[1]

    @property
    def completion_tokens(self) -> int | None:
        """Output limit that the budgets grant each choice; None where they set none."""
        return None if self.reservation is None else self.reservation.completion_tokens

    @property
    def was_cut_off(self) -> bool:
        """Whether the answer stopped at what was granted, not at a limit of caller or model."""
        granted, served = self.completion_tokens, self.served
        if self.finish_reason != "length" or granted is None or served is None:
            return False
        return granted <= (own_limit(served) or granted)

    @property
    def charge(self) -> Charge | None:
        """What the ledger will be told; None while the usage is not known."""
        usage = self.usage
        if usage is None:
            return None
        output = usage.completion_tokens
        return Charge(self.cost_nusd, usage.prompt_tokens + output, output)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Say how the turn was routed, in response headers."""
        headers = [(b"x-request-id", self.request_id.encode())]
        plan, served = self.plan, self.served
        if plan is None:
            return headers
        headers.append((b"x-waypost-decision-id", self.decision_id.encode()))
        headers.append((b"x-waypost-route-reason", plan.reason.encode()))
        headers.append((b"x-waypost-propensity", f"{plan.propensity:.6g}".encode()))
        if plan.router_version is not None:
            headers.append((b"x-waypost-router-version", plan.router_version.encode()))
        if served is not None:
            headers.append((b"x-waypost-model", served.name.encode("utf-8")))
            headers.append((b"x-waypost-provider", served.provider.encode("utf-8")))
        if plan.allotment is not None:
            headers.extend(plan.allotment.headers())
        if self.reservation is not None and self.reservation.is_limited:
            headers.extend(budget_headers(self.reservation, self.charge))
        return headers

    def summary(self) -> dict[str, Any]:
        """Say the same, and the cost, as the `waypost` object of an answer."""
        plan, served = self.plan, self.served
        summary: dict[str, Any] = {
            "request_id": self.request_id,
            "decision_id": self.decision_id,
            "model": None if served is None else served.name,
            "provider": None if served is None else served.provider,
            "router_version": None if plan is None else plan.router_version,
            "reason": None if plan is None else plan.reason,
            "propensity": None if plan is None else plan.propensity,
            "cost_usd": self.cost_nusd / NUSD_PER_USD,
            "usage_is_estimated": self.usage is not None and self.usage.is_estimated,
        }
        if plan is not None and plan.allotment is not None:
            summary["turn_budget"] = plan.allotment.summary()
        if self.reservation is not None and self.reservation.is_limited:
            summary["budget"] = budget_summary(self.reservation, self.charge)
        return summary

    def fail(self, error: BaseException) -> None:
        """Note what ended the turn; a cancelled turn is one whose caller left."""
        self.error = type(error).__name__ if isinstance(error, Exception) else CLIENT_LEFT

    def estimate_usage(self, completion_tokens: int) -> Usage:
        """Estimate usage where the provider reported none; marked, and charged all the same."""
        messages = self.request.body["messages"]
        prompt_chars = sum(len(text_of(message.get("content"))) for message in messages)
        return Usage(
            prompt_tokens=-(-prompt_chars // CHARS_PER_TOKEN),
            completion_tokens=completion_tokens,
            is_estimated=True,
        )

    def record(self) -> TurnRecord:
        """Freeze the turn into its log row."""
        plan, served, request = self.plan, self.served, self.request
        upstream = self.upstream_started_s
        allotted = None if plan is None else plan.allotment
        made = None if allotted is None else allotted.allotment
        return TurnRecord(
            request_id=self.request_id,
            decision_id=self.decision_id,
            answer_id=self.answer_id,
            started_at_unix_s=self.started_at_unix_s,
            key_id=self.caller.key_id,
            team_id=self.caller.team_id,
            conversation_id=request.options.conversation_id,
            turn_index=request.turn_index,
            requested_model=request.model,
            chosen_model=None if plan is None else plan.models[0].name,
            served_model=None if served is None else served.name,
            provider=None if served is None else served.provider,
            encoder_id=None if plan is None else plan.encoder_id,
            query_embedding=None if plan is None else plan.embedding,
            query_text=request.query[:MAX_LOGGED_CHARS] if self.caller.logs_text else None,
            candidates=() if plan is None else plan.candidates,
            propensity=1.0 if plan is None else plan.propensity,
            route_reason="refused" if plan is None else plan.reason,
            router_version=None if plan is None else plan.router_version,
            policy_version=None if made is None else made.policy_version,
            willingness_to_pay_usd=None if plan is None else plan.willingness_to_pay_usd,
            usage=self.usage,
            cost_nusd=self.cost_nusd,
            latency_s=self.clock() - self.started_s,
            first_byte_s=self.first_byte_s,
            gateway_s=None if upstream is None else upstream - self.started_s,
            is_stream=request.is_stream,
            finish_reason=self.finish_reason,
            error=self.error,
            attempts=self.attempts,
            metadata=_metadata(request),
            budget_tokens=None if allotted is None else allotted.budget_tokens,
            proposed_tokens=None if made is None else made.proposed_tokens,
            allotted_tokens=None if allotted is None else allotted.cap.tokens,
            policy_propensity=None if made is None else made.propensity,
            messages=prompt_of(request) if self.caller.trains_reasoner else None,
            answer=self.answer if self.error is None else None,
        )


def new_id(rng: random.Random) -> str:
    """Make an id of 32 hexadecimal digits that sorts by time (as RFC 9562's version 7 does).

    Ids must differ, not be secret: asking the kernel for ten random bytes took 77 µs, a third of
    the gateway's own work.
    """
    return f"{time.time_ns() // 1_000_000:012x}{rng.getrandbits(80):020x}"


def _metadata(request: ChatRequest) -> dict[str, str]:
    """Keep the caller's `metadata` strings and task label: they name rows in its own log."""
    given = request.body.get("metadata")
    kept = {} if request.options.task is None else {"task": request.options.task}
    if isinstance(given, dict):
        for key, value in list(given.items())[:16]:
            if isinstance(value, str):
                kept.setdefault(key[:64], value[:512])
    return kept
