"""One turn, start to finish: predict, allot, choose, reserve, call, settle, record.

READ THIS FIRST. Everything a request does happens here in order; everything else is a collaborator.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from budget.errors import BudgetExhausted
from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge
from gateway.budgets.base import Ledger
from gateway.budgets.enforcement import with_reasoning
from gateway.budgets.reservation import Reservation
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.budgets.worst_case import with_output_limit
from gateway.chat.charging import (
    charge_abandoned,
    charge_answer,
    charge_given_up,
    charge_stream,
    id_of,
)
from gateway.chat.turn import Turn, together
from gateway.chat.usage import TokenCounter
from gateway.errors import (
    GatewayError,
    ProviderCutOff,
    ProviderError,
    ProviderMisconfigured,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnsupported,
    error_body,
)
from gateway.evaluation_log.exchange import (
    MAX_COUNTED_BYTES,
    MAX_KEPT_BYTES,
    ForwardedEvents,
    answer_of,
)
from gateway.exact_json import dumps
from gateway.long_work import LongWork
from gateway.providers.base import AnswerStream, Completion, Provider, Transit, UpstreamCall
from gateway.providers.lacks import made_fit
from gateway.providers.refusals import Refusals
from gateway.routing.plan import RoutePlan
from gateway.routing.routing import Routing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracing
from gateway.types import ANSWERED, Caller, HostedModel, TurnRecord, Usage
from gateway.wire import ChatRequest

_log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
ANOTHER_MODEL_MAY_ANSWER = (
    ProviderTimeout,
    ProviderUnavailable,
    ProviderMisconfigured,
    ProviderCutOff,
    ProviderUnsupported,
)


class TurnLog(Protocol):
    """Takes finished turns without blocking."""

    def record(self, row: TurnRecord) -> None:
        """Keep `row`; never raises, never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, ready for the wire."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer that has begun; iterate for the SSE events to send."""

    headers: list[tuple[bytes, bytes]]
    events: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class ChatService:
    """Serves chat turns.

    Attributes:
        counter: Counts what a provider did not.
        refusals: What models refused lately.
        deadline_s: Seconds for all attempts and fallbacks of one turn together.
        stream_limit_s: Seconds that a stream may take once it has begun.
        long_work: Reads what is long, in a thread.
        clock: Monotonic seconds. Not the event loop's time: uvloop counts in milliseconds.
        rng: Makes ids; seeded apart in every process.
    """

    routing: Routing
    turn_budgets: TurnBudgets
    providers: Mapping[str, Provider]
    ledger: Ledger
    log: TurnLog
    metrics: Metrics
    tracing: Tracing
    counter: TokenCounter
    refusals: Refusals
    deadline_s: float
    stream_limit_s: float
    long_work: LongWork
    clock: Callable[[], float]
    rng: random.Random

    async def plan(self, request: ChatRequest, caller: Caller) -> RoutePlan:
        """Say how `request` is to be routed, and what it is allotted, without serving it."""
        prediction = await self.routing.predict(request, caller)
        allotment = await self.turn_budgets.allot(request, caller, prediction)
        return self.routing.choose(prediction, allotment)

    async def complete(
        self, request: ChatRequest, caller: Caller, transit: Transit | None = None
    ) -> Answer:
        """Answer `request` with one JSON body.

        Args:
            transit: Told where the call is.

        Raises:
            GatewayError: What the caller is told.
            NoModelAvailable: No model can take the request.
        """
        async with self._turn(request, caller, transit) as turn:
            completion = await self._complete(turn)
            record = turn.record
            record.finish_reason = completion.finish_reason
            record.attempts += completion.attempts
            record.answer_id = id_of(completion.body)
            await charge_answer(turn, completion, self.counter)
            await self._charge_given_up(turn)
            if caller.trains_reasoner:
                record.answer = answer_of(completion.body)
            body = dumps({**completion.body, "waypost": turn.summary()})
            charged_nusd = record.cost_nusd + record.given_up_nusd
            cost = f"{charged_nusd / NUSD_PER_USD:.9f}".encode()
            return Answer([*turn.headers(), (b"x-waypost-cost-usd", cost)], body)

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, caller: Caller, transit: Transit | None = None
    ) -> AsyncIterator[StreamedAnswer]:
        """Answer `request` as a stream; leaving the context cancels the upstream call.

        Args:
            transit: Told where the call is.

        Raises:
            GatewayError: Before the first event; after it, errors are events of the stream.
            NoModelAvailable: No model can take the request.
        """
        async with self._turn(request, caller, transit) as turn, AsyncExitStack() as stack:
            upstream = await self._open(turn, stack)
            await self._charge_given_up(turn)
            turn.record.first_byte_s = self.clock() - turn.started_s
            kept = MAX_KEPT_BYTES if caller.trains_reasoner else MAX_COUNTED_BYTES
            forwarded = ForwardedEvents(kept)
            try:
                yield StreamedAnswer(turn.headers(), self._forward(turn, upstream, forwarded))
            finally:
                if turn.record.usage is None:
                    await charge_stream(turn, upstream, forwarded, self.counter, self.long_work)

    @asynccontextmanager
    async def _turn(
        self, request: ChatRequest, caller: Caller, transit: Transit | None
    ) -> AsyncIterator[Turn]:
        """Plan and reserve on the way in; settle and record on every way out."""
        turn = Turn.begin(request, caller, self.clock, self.rng)
        turn.transit = transit or turn.transit
        turn.trace = trace = self.tracing.begin(request, caller)
        try:
            with trace.step("route"):
                plan = await self.plan(request, caller)
            turn.follow(plan)
            self.metrics.decided(plan)
            with trace.step("reserve"):
                turn.reservation = await self._reserve(turn, turn.record.request_id, plan.models)
            yield turn
        except BaseException as error:
            turn.fail(error)
            await charge_abandoned(turn, self.counter)
            await self._charge_given_up(turn)
            if isinstance(error, GatewayError | BudgetExhausted):
                error.headers = (*error.headers, *turn.headers())
            raise
        finally:
            try:
                await self._settle(turn, turn.record.error or ANSWERED)
            finally:
                self._record(turn)

    async def _reserve(
        self,
        turn: Turn,
        name: str,
        models: Sequence[HostedModel],
        charged: Charge | None = None,
    ) -> Reservation:
        """Hold the worst case of an answer by any of `models`."""
        allotment = None if turn.plan is None else turn.plan.allotment
        cap = None if allotment is None else allotment.cap
        return await self.ledger.reserve(
            name, turn.caller, turn.request, models, cap, charged=charged
        )

    async def _complete(self, turn: Turn) -> Completion:
        for model, is_last in self._candidates(turn):
            try:
                return await self.providers[model.provider].complete(self._call(turn, model))
            except ANOTHER_MODEL_MAY_ANSWER as error:
                await self._fall_back_or_raise(turn, model, error, is_last=is_last)
        raise AssertionError("a plan has at least one model")

    async def _open(self, turn: Turn, stack: AsyncExitStack) -> AnswerStream:
        """Open the first stream that begins; after its first event there is no other model."""
        for model, is_last in self._candidates(turn):
            provider = self.providers[model.provider]
            try:
                upstream = await stack.enter_async_context(provider.stream(self._call(turn, model)))
            except ANOTHER_MODEL_MAY_ANSWER as error:
                await self._fall_back_or_raise(turn, model, error, is_last=is_last)
            else:
                turn.record.attempts += upstream.attempts
                return upstream
        raise AssertionError("a plan has at least one model")

    def _candidates(self, turn: Turn) -> Iterator[tuple[HostedModel, bool]]:
        """Go through the plan's models; one that is to be sent less comes once more."""
        models = turn.plan.models if turn.plan is not None else ()
        for model in models:
            yield model, model is models[-1]
            while turn.is_to_be_sent_less:
                turn.is_to_be_sent_less = False
                yield model, model is models[-1]

    def _call(self, turn: Turn, model: HostedModel) -> UpstreamCall:
        turn.call(model, self.clock())
        body = with_output_limit(turn.request.body, model, turn.completion_tokens)
        if turn.plan is not None and turn.plan.allotment is not None:
            body = with_reasoning(body, model)
        learned = self.refusals.of_team(turn.caller.team_id).get(model.name, ())
        body, turn.dropped = made_fit(body, model, learned)
        turn.sent = body
        turn.transit.is_upstream, turn.transit.given_up = False, 0
        return UpstreamCall(
            model=model,
            body=body,
            deadline_s=turn.started_s + self.deadline_s,
            request_id=turn.record.request_id,
            stream_limit_s=self.stream_limit_s,
            trace_headers=turn.trace.begin_call(model),
            transit=turn.transit,
            dropped=turn.dropped,
        )

    async def _fall_back_or_raise(
        self, turn: Turn, model: HostedModel, error: ProviderError, *, is_last: bool
    ) -> None:
        turn.record.attempts += error.attempts
        is_late = self.clock() >= turn.started_s + self.deadline_s
        refusal = error if isinstance(error, ProviderUnsupported) and not is_late else None
        learn, team_id = self.refusals.learn, turn.caller.team_id
        if refusal is not None and learn(team_id, model.name, refusal, turn.sent):
            turn.is_to_be_sent_less = True
            turn.trace.fail_call(type(error).__name__)
            return
        if is_last or is_late:
            raise error
        self.metrics.fell_back(model, type(error).__name__)
        turn.trace.fail_call(type(error).__name__)
        _log.warning(
            "%s: %s failed, trying the next model: %s",
            *(turn.record.request_id, model.name, error),
            extra=_about(turn),
        )
        transit = turn.transit
        transit.given_up += transit.is_upstream
        transit.is_upstream = False
        if transit.given_up:
            await self._charge_given_up(turn)
            await self._hold_again(turn, model, error)

    async def _hold_again(self, turn: Turn, model: HostedModel, error: ProviderError) -> None:
        """Settle what the calls of `model` may have cost, and hold a worst case for the next.

        Raises:
            ProviderError: `error`, where the budget has no room for another call.
        """
        await self._settle(turn, type(error).__name__)
        first, charged = turn.reservation, turn.settle_given_up()
        models = turn.plan.models if turn.plan is not None else ()
        name = f"{turn.record.request_id}-{turn.record.attempts}"
        try:
            others = models[models.index(model) + 1 :]
            held = await self._reserve(turn, name, others, charged)
        except (BudgetExhausted, GatewayError) as refusal:
            raise error from refusal
        turn.reservation = held if first is None else held.after(first)

    async def _forward(
        self, turn: Turn, upstream: AnswerStream, forwarded: ForwardedEvents
    ) -> AsyncIterator[bytes]:
        """Forward events; end with usage and [DONE], or with an error event and no [DONE]."""
        clock, time_chunk = self.clock, self.metrics.time_chunks(turn.served)
        before_s: float | None = None
        try:
            async for events in upstream:
                now_s = clock()
                if before_s is not None:
                    time_chunk(now_s - before_s)
                before_s = now_s
                forwarded.add(events)
                yield events
        except GatewayError as error:
            turn.fail(error)
            yield b"data: " + error_body(error) + b"\n\n"
            return
        except Exception as error:  # noqa: BLE001 (a begun stream must end with an error event)
            turn.fail(error)
            _log.exception("%s: the stream failed", turn.record.request_id, extra=_about(turn))
            yield b"data: " + error_body(error) + b"\n\n"
            return
        await charge_stream(turn, upstream, forwarded, self.counter, self.long_work)
        if turn.caller.trains_reasoner:
            turn.record.answer = forwarded.text
        if turn.request.wants_usage:
            yield b"data: " + dumps(_usage_event(turn, upstream)) + b"\n\n"
        yield DONE

    async def _charge_given_up(self, turn: Turn) -> None:
        """Charge the calls before the last one that their provider may bill."""
        cost_nusd = await charge_given_up(turn, self.counter)
        if cost_nusd and turn.served is not None:
            self.metrics.gave_up(turn.served, cost_nusd)

    async def _settle(self, turn: Turn, outcome: str) -> None:
        """Charge what was used; a turn that reached no model gives everything back."""
        record = turn.record
        if turn.reservation is not None:
            await self.ledger.settle(
                turn.reservation,
                together(record.usage, turn.given_up),
                record.cost_nusd + turn.given_up_nusd,
                model=record.served_model,
                outcome=outcome,
                answer_id=record.answer_id,
            )

    def _record(self, turn: Turn) -> None:
        record = turn.end(self.clock())
        self.log.record(record)
        turn.trace.end(record)
        if turn.served is None:
            self.metrics.refused(record.error or "")
            return
        if turn.plan is not None and turn.plan.allotment is not None:
            used = 0 if record.usage is None else record.usage.completion_tokens
            self.turn_budgets.note_outcome(turn.plan.allotment, used, was_cut_off=turn.was_cut_off)
        self.metrics.answered(record)


def _about(turn: Turn) -> dict[str, Any]:
    """Say on a log line whose it is."""
    return {"fields": {"request_id": turn.record.request_id}}


def _usage_event(turn: Turn, upstream: AnswerStream) -> dict[str, Any]:
    """Complete the provider's usage chunk; write one where its counts are not those charged."""
    event, usage = upstream.usage_event, turn.record.usage
    if event is None or usage is None or usage.is_estimated:
        usage = usage or Usage(0, 0)
        event = {
            **(upstream.head or {}),
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }
    return {**event, "waypost": turn.summary()}
