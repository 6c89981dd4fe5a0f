"""One turn while it is being served: what happens is written into the record that the log keeps."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge
from gateway.budgets.conversation import end_user
from gateway.budgets.enforcement import own_limit
from gateway.budgets.reservation import Reservation, budget_headers, budget_summary
from gateway.chat.usage import SentCall
from gateway.evaluation_log.exchange import ForwardedEvents, prompt_of
from gateway.grading.desk import GradingDesk
from gateway.providers.base import Transit
from gateway.routing.caches import PromptCaches
from gateway.routing.plan import NAMED, RoutePlan
from gateway.telemetry.tracing import TurnTrace, Untraced
from gateway.types import CLIENT_LEFT, Caller, HostedModel, TurnRecord, Usage
from gateway.wire import ChatRequest

_log = logging.getLogger(__name__)

MAX_LOGGED_CHARS = 32_768
"""The log's queue is bounded in rows, so a row must be bounded too."""


@dataclass(slots=True)
class Turn:
    """The state of one turn; one request owns it, nothing else sees it.

    Attributes:
        started_s: On the monotonic `clock`.
        record: What the log keeps of the turn, as far as it is known.
        plan: Whom to call; None until the turn is planned.
        served: The model that was called last; None until one was.
        sent: That call; `dropped` are the caller's fields that it had not.
        settled: What earlier reservations of this turn were charged.
        transit: Where that call is.
        said: What was sent to the caller, as graders read it; None where there is no answer.
    """

    request: ChatRequest
    caller: Caller
    started_s: float
    record: TurnRecord
    plan: RoutePlan | None = None
    reservation: Reservation | None = None
    served: HostedModel | None = None
    sent: SentCall | None = None
    dropped: set[str] = field(default_factory=set)
    settled: Charge | None = None
    transit: Transit = field(default_factory=Transit)
    trace: TurnTrace = field(default_factory=Untraced)
    said: Mapping[str, Any] | ForwardedEvents | None = None
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def begin(
        cls,
        request: ChatRequest,
        caller: Caller,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> "Turn":
        """Start a turn, with ids that sort by time.

        Args:
            clock: Seconds of a monotonic clock.
        """
        turn_id = new_id(rng)
        record = TurnRecord(
            request_id=f"req_{turn_id}",
            decision_id=f"dec_{turn_id}",
            started_at_unix_s=time.time(),
            key_id=caller.key_id,
            team_id=caller.team_id,
            requested_model=request.model,
            turn_index=request.turn_index,
            is_stream=request.is_stream,
            conversation_id=request.options.conversation_id,
            data_rules=",".join(caller.data_rules) or None,
            user_digest=end_user(request, caller),
            query_text=request.query[:MAX_LOGGED_CHARS] if caller.logs_text else None,
            metadata=_metadata(request),
            messages=prompt_of(request) if caller.trains_reasoner else None,
        )
        return cls(request, caller, clock(), record, clock=clock)

    @property
    def completion_tokens(self) -> int | None:
        """Output limit that the budgets grant each choice; None where they set none."""
        return None if self.reservation is None else self.reservation.completion_tokens

    @property
    def was_cut_off(self) -> bool:
        """Whether the answer stopped at what was granted, not at a limit of caller or model."""
        granted, served = self.completion_tokens, self.served
        if self.record.finish_reason != "length" or granted is None or served is None:
            return False
        return granted <= (own_limit(served) or granted)

    @property
    def charge(self) -> Charge | None:
        """What the ledger charges; None while the usage is not known."""
        usage = self.record.usage
        if usage is None:
            return None
        output = usage.completion_tokens
        return Charge(self.record.cost_nusd, usage.prompt_tokens + output, output)

    def follow(self, plan: RoutePlan) -> None:
        """Go by `plan` from here on."""
        self.plan, record = plan, self.record
        record.chosen_model = plan.models[0].name
        record.encoder_id = plan.encoder_id
        record.query_embedding = plan.embedding
        record.candidates = plan.candidates
        record.propensity = plan.propensity
        record.route_reason = plan.reason
        record.router_version = plan.router_version
        record.willingness_to_pay_usd = plan.willingness_to_pay_usd
        allotment = plan.allotment
        if allotment is not None:
            record.budget_tokens = allotment.budget_tokens
            record.proposed_tokens = allotment.proposal.proposed_tokens
            record.allotted_tokens = allotment.cap.tokens
            record.policy_version = allotment.proposal.policy_version
            record.policy_propensity = allotment.proposal.propensity

    def call(self, model: HostedModel, body: Mapping[str, Any], now_s: float) -> None:
        """Note that `model` is called now, with `body`."""
        self.served, record = model, self.record
        self.sent = SentCall(model, body, self.reservation, self.caller.team_id, now_s)
        record.served_model, record.provider = model.name, model.provider
        if record.gateway_s is None:
            record.gateway_s = now_s - self.started_s

    def charge_for(self, usage: Usage) -> None:
        """Note what the served model used, and price it."""
        self.record.usage = usage
        self.record.cost_nusd = 0 if self.served is None else self.served.price.cost_nusd(usage)

    def give_up(self, usage: Usage, cost_nusd: int) -> Charge:
        """Note that the reservation was charged for a call that nobody waits for any more.

        Returns:
            What all such calls of this turn were charged.
        """
        self.record.given_up_nusd += cost_nusd
        before, output = self.settled or Charge(0, 0), usage.completion_tokens
        tokens = before.tokens + usage.prompt_tokens + output
        self.settled = Charge(self.record.given_up_nusd, tokens, before.output + output)
        self.reservation = None
        return self.settled

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Say how the turn was routed, in response headers."""
        record, plan, served = self.record, self.plan, self.served
        headers = [(b"x-request-id", record.request_id.encode())]
        if plan is None:
            return headers
        headers.append((b"x-waypost-decision-id", record.decision_id.encode()))
        headers.append((b"x-waypost-route-reason", plan.reason.encode()))
        headers.append((b"x-waypost-propensity", f"{plan.propensity:.6g}".encode()))
        if plan.router_version is not None:
            headers.append((b"x-waypost-router-version", plan.router_version.encode()))
        if served is not None:
            headers.append((b"x-waypost-model", served.name.encode("utf-8")))
            headers.append((b"x-waypost-provider", served.provider.encode("utf-8")))
            if served.name != (chosen := plan.models[0].name):
                headers.append((b"x-waypost-fallback-from", chosen.encode("utf-8")))
        if self.dropped:
            headers.append((b"x-waypost-dropped", ", ".join(sorted(self.dropped)).encode()))
        if plan.allotment is not None:
            headers.extend(plan.allotment.headers())
        if self.reservation is not None and self.reservation.is_limited:
            headers.extend(budget_headers(self.reservation, self.charge))
        return headers

    def summary(self) -> dict[str, Any]:
        """Say the same, and the cost, as the `waypost` object of an answer."""
        record, plan = self.record, self.plan
        summary: dict[str, Any] = {
            "request_id": record.request_id,
            "decision_id": record.decision_id,
            "model": record.served_model,
            "provider": record.provider,
            "router_version": record.router_version,
            "reason": None if plan is None else plan.reason,
            "propensity": None if plan is None else plan.propensity,
            "cost_usd": (record.cost_nusd + record.given_up_nusd) / NUSD_PER_USD,
            "usage_is_estimated": record.usage is not None and record.usage.is_estimated,
        }
        if plan is not None and plan.allotment is not None:
            summary["turn_budget"] = plan.allotment.summary()
        if self.reservation is not None and self.reservation.is_limited:
            summary["budget"] = budget_summary(self.reservation, self.charge)
        return summary

    def fail(self, error: BaseException) -> None:
        """Note what ended the turn; a cancelled turn is one whose caller left."""
        self.record.error = type(error).__name__ if isinstance(error, Exception) else CLIENT_LEFT

    def end(self, now_s: float) -> TurnRecord:
        """Complete the record; nothing may change it afterwards."""
        record = self.record
        record.latency_s = now_s - self.started_s
        if record.error is not None:
            record.answer = None
        return record

    def about(self) -> dict[str, Any]:
        """Say on a log line whose it is."""
        return {"fields": {"request_id": self.record.request_id}}

    def remember_in(self, caches: PromptCaches) -> None:
        """Have the prompt remembered as what the model that answered has read."""
        record, plan, sent = self.record, self.plan, self.sent
        if plan is None or plan.reason == NAMED or sent is None or record.error is not None:
            return
        usage = record.usage
        if usage is not None and not usage.is_estimated:
            seen = self.request, self.caller.team_id, plan.conversation, sent.model
            caches.remember(*seen, usage, sent.sent_s)

    def warn(self, message: str, *told: object) -> None:
        """Log what an operator should see of this turn; `message` begins with its request id."""
        _log.warning(message, self.record.request_id, *told, extra=self.about())

    def offer_to(self, desk: GradingDesk) -> None:
        """Have the answer graded, where it was given whole."""
        if self.said is not None and self.record.error is None:
            memory = self.transit.memory
            n_bytes = 0 if memory is None else memory.amount
            desk.offer(self.record, self.request, self.caller, self.said, n_bytes)


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
