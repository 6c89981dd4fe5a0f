"""One turn, start to finish: predict, allot, choose, reserve, call, settle, record.

READ THIS FIRST. Everything a request does happens here in order; everything else is a collaborator.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from budget.errors import BudgetExhausted
from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge
from gateway.budgets.base import Ledger
from gateway.budgets.enforcement import asked_of, with_reasoning
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.chat.charging import charge_abandoned, charge_answer, charge_stream, id_of, most_used
from gateway.chat.deployments import Deployments
from gateway.chat.reserving import afford, reserve
from gateway.chat.turn import Turn
from gateway.chat.usage import SentCall, TokenCounter
from gateway.errors import (
    GatewayError,
    ProviderCutOff,
    ProviderError,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnsupported,
    drop_tracebacks,
)
from gateway.evaluation_log.exchange import (
    MAX_COUNTED_BYTES,
    MAX_KEPT_BYTES,
    ForwardedEvents,
    answer_of,
)
from gateway.grading.desk import GradingDesk
from gateway.long_work import LongWork
from gateway.providers.base import AnswerStream, Completion, Provider, Transit, UpstreamCall
from gateway.providers.lacks import THOUGHTS, made_fit
from gateway.providers.refusals import Refusals
from gateway.routing.plan import Prediction, RoutePlan
from gateway.routing.routing import Routing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracing, trace_of
from gateway.types import ANSWERED, Caller, HostedModel, TurnRecord, Usage
from gateway.wire import ChatRequest
from gateway.wires.base import StreamWriter, Wire
from gateway.wires.chat import CHAT

_log = logging.getLogger(__name__)

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
        grading: Has answers graded once they are given; None where nothing grades.
        deployments: Orders the places of models that have several; None where no model has.
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
    grading: GradingDesk | None = None
    deployments: Deployments | None = None

    async def plan(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> RoutePlan:
        """Say how `request` is to be routed, and what it is allotted, without serving it."""
        return (await self._plan(request, caller, with_stderr=with_stderr))[0]

    async def _plan(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> tuple[RoutePlan, Prediction]:
        prediction = await self.routing.predict(request, caller, with_stderr=with_stderr)
        allotment = await self.turn_budgets.allot(request, caller, prediction)
        return self.routing.choose(prediction, allotment), prediction

    async def complete(
        self,
        request: ChatRequest,
        caller: Caller,
        transit: Transit | None = None,
        wire: Wire = CHAT,
    ) -> Answer:
        """Answer `request` with one JSON body.

        Args:
            transit: Told where the call is.
            wire: Writes the answer.

        Raises:
            GatewayError: What the caller is told.
            NoModelAvailable: No model can take the request.
        """
        async with self._turn(request, caller, transit) as turn:
            completion = await self._complete(turn)
            record, turn.said = turn.record, completion.body
            record.finish_reason = completion.finish_reason
            record.attempts += completion.attempts
            is_native = completion.native is not None
            record.answer_id = id_of(request, completion.body, is_native=is_native)
            await charge_answer(turn, completion, self.counter)
            if caller.trains_reasoner:
                record.answer = answer_of(completion.body)
            body = wire.whole(request, completion, record.usage, turn.summary())
            charged_nusd = record.cost_nusd + record.given_up_nusd
            cost = f"{charged_nusd / NUSD_PER_USD:.9f}".encode()
            return Answer([*turn.headers(), (b"x-waypost-cost-usd", cost)], body)

    @asynccontextmanager
    async def stream(
        self,
        request: ChatRequest,
        caller: Caller,
        transit: Transit | None = None,
        wire: Wire = CHAT,
    ) -> AsyncIterator[StreamedAnswer]:
        """Answer `request` as a stream; leaving the context cancels the upstream call.

        Args:
            transit: Told where the call is.
            wire: Writes the answer.

        Raises:
            GatewayError: Before the first event; after it, errors are events of the stream.
            NoModelAvailable: No model can take the request.
        """
        async with self._turn(request, caller, transit) as turn, AsyncExitStack() as stack:
            upstream = await self._open(turn, stack)
            turn.record.first_byte_s = self.clock() - turn.started_s
            kept = MAX_KEPT_BYTES if caller.trains_reasoner else MAX_COUNTED_BYTES
            turn.said = forwarded = ForwardedEvents(kept)
            writer = wire.writer(request, upstream)
            try:
                events = self._forward(turn, upstream, forwarded, writer)
                yield StreamedAnswer(turn.headers(), events)
            finally:
                if turn.record.usage is None:
                    forwarded.add(await upstream.leave())
                    await charge_stream(turn, upstream, forwarded, self.counter, self.long_work)

    @asynccontextmanager
    async def _turn(
        self, request: ChatRequest, caller: Caller, transit: Transit | None
    ) -> AsyncIterator[Turn]:
        """Plan and reserve on the way in; settle and record on every way out."""
        turn = Turn.begin(request, caller, self.clock, self.rng)
        turn.transit = transit or turn.transit
        turn.transit.turn = turn.record
        turn.trace = trace = self.tracing.begin(request, caller)
        turn.record.trace_id = trace.trace_id or trace_of(request.trace_headers)
        try:
            with trace.step("route"):
                plan, prediction = await self._plan(request, caller)
                self.routing.follow(plan)
            turn.follow(plan)
            try:
                with trace.step("reserve"):
                    await afford(self.ledger, self.routing, turn, prediction, self.deployments)
            finally:
                self.metrics.decided(turn.plan or plan)
            yield turn
        except BaseException as error:
            turn.fail(error)
            await charge_abandoned(turn, self.counter)
            if isinstance(error, GatewayError | BudgetExhausted):
                error.headers = (*error.headers, *turn.headers())
            raise
        finally:
            try:
                record = turn.record
                await self._settle(turn, record.error or ANSWERED, record.usage, record.cost_nusd)
            finally:
                self._record(turn)

    async def _complete(self, turn: Turn) -> Completion:
        left = self._candidates(turn)
        while True:
            model = left.pop(0)
            try:
                return await self.providers[model.provider].complete(self._call(turn, model, left))
            except ANOTHER_MODEL_MAY_ANSWER as error:
                await self._fall_back_or_raise(turn, model, left, error)
                drop_tracebacks(error)

    async def _open(self, turn: Turn, stack: AsyncExitStack) -> AnswerStream:
        """Open the first stream that begins; after its first event there is no other model."""
        left = self._candidates(turn)
        while True:
            model = left.pop(0)
            provider = self.providers[model.provider]
            try:
                call = self._call(turn, model, left)
                upstream = await stack.enter_async_context(provider.stream(call))
            except ANOTHER_MODEL_MAY_ANSWER as error:
                await self._fall_back_or_raise(turn, model, left, error)
                drop_tracebacks(error)
            else:
                turn.record.attempts += upstream.attempts
                return upstream

    def _candidates(self, turn: Turn) -> list[HostedModel]:
        models = list(turn.plan.models) if turn.plan is not None else []
        if (spread := self.deployments) is None:
            return models
        return spread.in_order(models, turn.caller.team_id, is_stream=turn.request.is_stream)

    def _call(self, turn: Turn, model: HostedModel, left: Sequence[HostedModel]) -> UpstreamCall:
        body = asked_of(model, turn.request, turn.completion_tokens)
        if turn.plan is not None and turn.plan.allotment is not None:
            body = with_reasoning(body, model)
        refused = self.refusals.of_model(turn.caller.team_id, model.name).fields
        body, turn.dropped = made_fit(body, model, refused)
        turn.call(model, body, self.clock())
        turn.transit.is_upstream = False
        return UpstreamCall(
            model=model,
            body=body,
            deadline_s=turn.started_s + self.deadline_s,
            request_id=turn.record.request_id,
            stream_limit_s=self.stream_limit_s,
            trace_headers=turn.trace.begin_call(model),
            transit=turn.transit,
            native=turn.request.native,
            dropped=turn.dropped,
            refused=refused,
            is_chosen=model.name != turn.request.model,
            team_id=turn.caller.team_id,
            is_elsewhere=bool(left) and left[0].name == model.name,
            is_last=not left,
        )

    async def _fall_back_or_raise(
        self, turn: Turn, model: HostedModel, left: list[HostedModel], error: ProviderError
    ) -> None:
        """Go on with the models that are `left`, with `model` again first where it may answer."""
        turn.record.attempts += error.attempts
        turn.transit.attempts = error.repeatable_after
        is_late = self.clock() >= turn.started_s + self.deadline_s
        sent = {*(turn.sent.body if turn.sent else ()), THOUGHTS} - turn.dropped
        about = (turn.caller.team_id, model.name, error, sent, turn.request.prompt_tokens)
        if not is_late and self.refusals.learn(*about):
            turn.trace.fail_call(type(error).__name__)
            left.insert(0, model)  # which is sent less
            return
        if isinstance(error, ProviderRateLimited):
            self.refusals.rest(turn.caller.team_id, model.place, error.retry_after_s or 0.0)
        if error.repeatable_after:
            left.insert(0, model)
        if not left or is_late:
            turn.warn("%s: %s failed, and no other is asked: %s", model.name, error)
            raise error
        if not error.repeatable_after:
            self.metrics.fell_back(model, type(error).__name__)
        turn.trace.fail_call(type(error).__name__)
        place = "/".join(left[0].place)
        turn.warn("%s: %s failed, trying %s: %s", model.name, place, error)
        if turn.sent is not None and turn.transit.is_upstream:
            turn.transit.is_upstream = False
            await self._hold_again(turn, turn.sent, left, error)

    async def _hold_again(
        self, turn: Turn, call: SentCall, left: Sequence[HostedModel], error: ProviderError
    ) -> None:
        """Settle what `call` may have cost, and hold a worst case of the models that are `left`.

        Raises:
            ProviderError: `error`, where the budget has no room for another call.
        """
        first, charged = turn.reservation, await self._give_up(turn, call, type(error).__name__)
        name = f"{turn.record.request_id}-{turn.record.attempts}"
        try:
            held = await reserve(self.ledger, turn, name, left, charged)
        except (BudgetExhausted, GatewayError) as refusal:
            raise error from refusal
        turn.reservation = held if first is None else held.after(first)

    async def _forward(
        self, turn: Turn, upstream: AnswerStream, forwarded: ForwardedEvents, writer: StreamWriter
    ) -> AsyncIterator[bytes]:
        """Forward events; end as the wire ends an answer, or with its error event."""
        clock, time_chunk = self.clock, self.metrics.time_chunks(turn.served)
        translate, before_s = writer.translate, None
        try:
            async for events in upstream:
                now_s = clock()
                if before_s is not None:
                    time_chunk(now_s - before_s)
                before_s = now_s
                forwarded.add(events)
                if translate is None:
                    yield events
                else:
                    yield await self.long_work.read(len(events), translate, events)
        except Exception as error:  # noqa: BLE001 (a begun stream must end with an error event)
            turn.fail(error)
            if not isinstance(error, GatewayError):
                _log.exception("%s: the stream failed", turn.record.request_id, extra=turn.about())
            drop_tracebacks(error)
            yield writer.fail(error, turn.record.request_id)
            return
        await charge_stream(turn, upstream, forwarded, self.counter, self.long_work)
        if turn.caller.trains_reasoner:
            turn.record.answer = forwarded.text
        yield writer.end(turn.record.usage, upstream, turn.summary)

    async def _give_up(self, turn: Turn, call: SentCall, outcome: str) -> Charge:
        """Charge `call` for the most that its provider may bill; return all such charges."""
        usage = await most_used(turn, call, self.counter)
        cost_nusd = call.model.price.cost_nusd(usage)
        self.metrics.gave_up(call.model, cost_nusd)
        await self._settle(turn, outcome, usage, cost_nusd)
        return turn.give_up(usage, cost_nusd)

    async def _settle(self, turn: Turn, outcome: str, usage: Usage | None, cost_nusd: int) -> None:
        """Charge what was used; a turn that reached no model gives everything back."""
        record = turn.record
        if turn.reservation is not None:
            await self.ledger.settle(
                turn.reservation,
                usage,
                cost_nusd,
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
        if self.routing.caches is not None:
            turn.remember_in(self.routing.caches)
        if self.grading is not None:
            turn.offer_to(self.grading)
