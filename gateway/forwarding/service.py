"""One call that is no turn, start to finish: reserve, forward, settle, count."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge
from gateway.budgets.metered import MeteredLedger
from gateway.budgets.prompt_tokens import PromptCounter
from gateway.budgets.reservation import Reservation, budget_headers
from gateway.errors import GatewayError, error_body
from gateway.evaluation_log.exchange import MAX_COUNTED_BYTES, ForwardedEvents
from gateway.exact_json import dumps
from gateway.forwarding.call import NOTHING, Call, Charged
from gateway.long_work import LongWork
from gateway.providers.base import Transit
from gateway.providers.forwarding import Forwarded, Forwarding, forwarding
from gateway.providers.upstream import HttpProvider
from gateway.providers.upstream_stream import UpstreamStream
from gateway.settings.server import ServerSettings
from gateway.telemetry.metrics import Metrics
from gateway.types import ANSWERED, CLIENT_LEFT, Caller, Usage

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class ForwardedAnswer:
    """An answer for the wire: a whole body, or pieces of one that has begun."""

    status: int
    content_type: str
    headers: list[tuple[bytes, bytes]]
    whole: bytes | None = None
    pieces: AsyncIterator[bytes] | None = None


@dataclass(slots=True)
class _State:
    """What is known of one call.

    Attributes:
        charged: None until that is known.
    """

    call: Call
    request_id: str
    started_s: float
    transit: Transit
    held: Reservation | None = None
    charged: Charged | None = None
    error: str | None = None
    kept: ForwardedEvents = field(default_factory=lambda: ForwardedEvents(MAX_COUNTED_BYTES))


@dataclass(frozen=True, slots=True)
class ForwardService:
    """Makes calls, each with a worst case held for it and a row of the journal.

    Attributes:
        clock: Monotonic seconds.
        new_id: Names a request.
    """

    providers: Mapping[str, HttpProvider]
    ledger: MeteredLedger
    metrics: Metrics
    counter: PromptCounter
    long_work: LongWork
    server: ServerSettings
    clock: Callable[[], float]
    new_id: Callable[[], str]

    @asynccontextmanager
    async def answer(
        self, call: Call, caller: Caller, transit: Transit
    ) -> AsyncIterator[ForwardedAnswer]:
        """Make `call`; leaving the context cancels what has not come of its answer, and settles.

        Raises:
            GatewayError: What the caller is told; once a stream has begun, it says so itself.
        """
        state = _State(call, self.new_id(), self.clock(), transit)
        try:
            state.held = await self.ledger.reserve_call(
                state.request_id, caller, call.scopes, call.tariff.need
            )
            async with forwarding(
                self.providers[call.provider], self._sent(state, caller)
            ) as begun:
                try:
                    yield self._begun(state, begun)
                finally:
                    if begun.events is not None:
                        await self._charge_events(state, begun.events)
        except BaseException as error:
            state.error = type(error).__name__ if isinstance(error, Exception) else CLIENT_LEFT
            if isinstance(error, GatewayError):
                error.headers = (*error.headers, *_headers(state))
            raise
        finally:
            await self._settle(state)

    def _sent(self, state: _State, caller: Caller) -> Forwarded:
        call = state.call
        return Forwarded(
            method=call.method,
            path=call.path,
            upstream_name=call.upstream_name,
            name=call.name,
            request_id=state.request_id,
            body=call.body,
            content_type=call.content_type,
            deadline_s=state.started_s + self.server.request_deadline_s,
            stream_limit_s=self.server.stream_deadline_s,
            form=call.form,
            is_read=call.tariff.is_read,
            n_choices=call.n_choices,
            takes_usage=call.takes_usage,
            transit=state.transit,
            team_id=caller.team_id,
        )

    def _begun(self, state: _State, begun: Forwarding) -> ForwardedAnswer:
        """Charge what is known to be due, and say what to send."""
        if begun.events is not None:
            pieces = self._events(state, begun.events)
            kind = "text/event-stream; charset=utf-8"
            return ForwardedAnswer(begun.status, kind, _headers(state), pieces=pieces)
        state.charged = state.call.tariff.of_answer(begun.decoded)
        cost = f"{state.charged.nusd / NUSD_PER_USD:.9f}".encode()
        headers = [*_headers(state), (b"x-waypost-cost-usd", cost)]
        if begun.whole is None:
            return ForwardedAnswer(begun.status, begun.content_type, headers, pieces=begun.pieces)
        if state.call.form == "events":
            return ForwardedAnswer(
                begun.status,
                "text/event-stream; charset=utf-8",
                headers,
                pieces=_as_events(begun.decoded),
            )
        return ForwardedAnswer(begun.status, begun.content_type, headers, whole=begun.whole)

    async def _events(self, state: _State, events: UpstreamStream) -> AsyncIterator[bytes]:
        """Forward events; end as OpenAI does, or with an error event."""
        try:
            async for some in events:
                state.kept.add(some)
                yield some
        except GatewayError as error:
            state.error = type(error).__name__
            yield b"data: " + error_body(error) + b"\n\n"
            return
        if state.call.takes_usage and events.usage_event is not None:
            yield b"data: " + dumps(events.usage_event) + b"\n\n"
        yield DONE

    async def _charge_events(self, state: _State, events: UpstreamStream) -> None:
        """Charge what a stream reported at its end; else what was forwarded, counted."""
        tariff = state.call.tariff
        state.kept.add(await events.leave())
        if events.is_complete and events.usage is not None:
            state.charged = tariff.of_usage(events.usage)
            return
        text, unread = await self.long_work.aside(state.kept.output)
        counted = await self.counter.bound_text(text, state.call.upstream_name or "") + unread
        reported = events.usage or NOTHING
        prompt = reported.prompt_tokens or tariff.need.prompt_tokens
        completion = max(reported.completion_tokens, counted)
        state.charged = tariff.of_usage(Usage(prompt, completion, is_estimated=True))

    async def _settle(self, state: _State) -> None:
        """Charge what was used; a call that reached no provider gives everything back."""
        charged = state.charged
        if charged is None:
            # Its caller left, time ran out or the connection broke: the provider may bill it all.
            may_cost = state.transit.is_upstream and state.held is not None
            charged = state.call.tariff.of_usage(None) if may_cost else Charged(0)
        try:
            if state.held is not None:
                await self.ledger.settle(
                    state.held,
                    charged.usage,
                    charged.nusd,
                    model=state.call.name,
                    outcome=state.error or ANSWERED,
                )
        finally:
            self._count(state, charged)

    def _count(self, state: _State, charged: Charged) -> None:
        if state.held is None:
            self.metrics.refused(state.error or "")
            return
        names = state.call.operation, state.call.provider, state.call.name
        latency_s = self.clock() - state.started_s
        usage = None if charged.usage is NOTHING else charged.usage
        self.metrics.forwarded(names, state.error, latency_s, usage, charged.nusd)


async def _as_events(answer: object) -> AsyncIterator[bytes]:
    """Write a whole answer that came instead of a stream."""
    yield b"data: " + dumps(answer) + b"\n\n"
    yield DONE


def _headers(state: _State) -> list[tuple[bytes, bytes]]:
    call, charged = state.call, state.charged
    headers = [
        (b"x-request-id", state.request_id.encode()),
        (b"x-waypost-model", call.name.encode()),
        (b"x-waypost-provider", call.provider.encode()),
    ]
    if state.held is None or not state.held.limits:
        return headers
    charge = None
    if charged is not None:
        output = charged.usage.completion_tokens
        charge = Charge(charged.nusd, charged.usage.prompt_tokens + output, output)
    return [*headers, *budget_headers(state.held, charge)]
