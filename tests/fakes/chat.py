"""A chat service in front of providers that play a script, with all that it tells in reach."""

import random
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from gateway.budgets.prompt_tokens import PromptCounter
from gateway.budgets.turn_budgets import TurnAllotment
from gateway.candidate_records import NO_CANDIDATES
from gateway.chat.service import ChatService
from gateway.long_work import LongWork
from gateway.providers.refusals import Refusals
from gateway.routing.caches import PromptCaches
from gateway.routing.plan import RoutePlan
from gateway.routing.routing import Routing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Untraced
from gateway.types import Caller, HostedModel, ModelPrice, TurnRecord
from gateway.wire import ChatRequest, parse_chat_request
from tests.fakes.providers import BODY, FakeProvider, event
from tests.fakes.settled import Log, Settled
from tests.fakes.turn_budgets import Prediction, make_turn_budgets

CALLER = Caller(key_id="k", team_id="t")
PRICE = ModelPrice(input_nusd_per_mtok=1_000_000_000, output_nusd_per_mtok=2_000_000_000)
FIRST = HostedModel("first", "one", "one-upstream", PRICE)
SECOND = HostedModel("second", "two", "two-upstream", PRICE)
HI = (event("h"), event("i"))


@dataclass
class Planned:
    """Routing that always plans the same models."""

    models: tuple[HostedModel, ...] = (FIRST, SECOND)
    error: Exception | None = None
    followed: list[RoutePlan] = field(default_factory=list)
    caches: PromptCaches | None = None

    async def predict(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> Prediction:
        del request, caller
        if self.error is not None:
            raise self.error
        return Prediction()

    def choose(self, prediction: Prediction, allotment: TurnAllotment | None) -> RoutePlan:
        return RoutePlan(
            models=self.models if allotment is None else allotment.instruct(self.models),
            candidates=NO_CANDIDATES,
            propensity=0.5,
            reason="router",
            profile="balanced",
            willingness_to_pay_usd=1.0,
            router_version="v1",
            familiarity=1.0,
            encoder_id="e",
            embedding=prediction.embedding,
            allotment=allotment,
        )

    def follow(self, plan: RoutePlan) -> None:
        self.followed.append(plan)


@dataclass
class Bench:
    """A service and what it told ledger and log."""

    service: ChatService
    log: Log
    ledger: Settled
    time_s: list[float]

    @property
    def row(self) -> TurnRecord:
        (row,) = self.log.rows
        return row


def make_bench(
    one: FakeProvider,
    two: FakeProvider | None = None,
    budgets: dict[str, Any] | None = None,
    **planned: Any,
) -> Bench:
    """Put a service in front of up to two providers."""
    log, ledger, time_s = Log(), Settled(), [0.0]
    service = ChatService(
        routing=cast("Routing", Planned(**planned)),
        turn_budgets=make_turn_budgets(ledger, **(budgets or {})),
        providers={"one": one, "two": two or FakeProvider(BODY)},
        ledger=ledger,
        log=log,
        metrics=Metrics(),
        tracing=Untraced(),
        counter=PromptCounter(),
        refusals=Refusals(lambda: time_s[0]),
        deadline_s=60.0,
        stream_limit_s=3600.0,
        long_work=LongWork(),
        clock=lambda: time_s[0],
        rng=random.Random(0),
    )
    return Bench(service, log, ledger, time_s)


def request(**fields: Any) -> ChatRequest:
    """Parse a request for an answer to "hello"."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **fields}
    return parse_chat_request(orjson.dumps(body), {})


async def streamed(bench: Bench, **fields: Any) -> bytes:
    """Read a whole stream."""
    async with bench.service.stream(request(stream=True, **fields), CALLER) as answer:
        return b"".join([events async for events in answer.events])
