"""A second answer to a routed request, by a model that was drawn for what it teaches.

The caller never sees it and pays nothing. Its row is one of the caller's team, with the reason
`shadow`: routers learn from it as from any other. Estimates of what a router is worth leave it out
(`router_models.evaluation.log_rows.DRAWN`): its model was drawn to be learned from, not to serve.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from gateway.candidate_records import Candidates
from gateway.errors import GatewayError
from gateway.grading.exchange import Exchange
from gateway.judging.background import SHADOW, BackgroundCalls, Reply, RowLog
from gateway.routing.plan import Prediction
from gateway.settings.judging import ShadowSettings
from gateway.types import Caller, HostedModel, TurnRecord
from gateway.wire import NO_OPTIONS, ChatRequest
from router_models.errors import NoModelAvailable

NOT_ASKED_AGAIN: Final = frozenset(
    {"stream", "stream_options", "n", "store", "metadata", "web_search_options", "plugins"}
)
"""Fields of a request that its second answer is asked without; see also `may_be_asked_twice`."""
RUN_BY_PROVIDERS: Final = frozenset({"web_search_options", "plugins", "mcp_servers", "container"})
SERVED: Final = "served"
"""Verdict on the model that the caller was answered by."""

_log = logging.getLogger(__name__)


class Predicts(Protocol):
    """Says which models can answer; `gateway.routing.routing.Routing` is one."""

    async def predict(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> Prediction:
        """Find the models that can answer, and what is expected of each."""
        ...


@dataclass(frozen=True, slots=True)
class Draw:
    """The model that was drawn, and the odds of each."""

    model: str
    odds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ShadowLog:
    """Writes the turn of a second answer as a row of the team that was answered first."""

    log: RowLog
    first: TurnRecord
    candidates: Candidates
    propensity: float
    router_version: str | None

    def record(self, row: TurnRecord) -> None:
        """Keep `row`; never raises, never waits.

        No conversation is named: the second answer is not a part of it.
        """
        first = self.first
        self.log.record(
            replace(
                row,
                team_id=first.team_id,
                requested_model=first.requested_model,
                turn_index=first.turn_index,
                conversation_id=None,
                user_digest=None,
                encoder_id=first.encoder_id,
                query_embedding=first.query_embedding,
                query_text=first.query_text,
                candidates=self.candidates,
                propensity=self.propensity,
                route_reason=SHADOW,
                router_version=self.router_version,
                willingness_to_pay_usd=first.willingness_to_pay_usd,
                metadata=first.metadata,
            )
        )


@dataclass(frozen=True, slots=True)
class Shadow:
    """Asks second models.

    Attributes:
        models: Those that are served, by name.
    """

    calls: BackgroundCalls
    log: RowLog
    routing: Predicts
    models: Mapping[str, HostedModel]
    settings: ShadowSettings
    rng: random.Random

    async def answer(self, exchange: Exchange) -> tuple[str, Reply] | None:
        """Ask a second model; returns its name and answer, or None where there is none."""
        if not may_be_asked_twice(exchange):
            return None
        try:
            prediction = await self.routing.predict(
                exchange.request, exchange.caller, with_stderr=True
            )
        except (GatewayError, NoModelAvailable) as error:
            _log.debug("no second answer: %s", error)
            return None
        drawn = draw(prediction, exchange.record, self.settings.uniform_share, self.rng)
        if drawn is None:
            return None
        log = ShadowLog(
            self.log,
            exchange.record,
            _candidates(prediction, exchange.record, drawn.odds),
            drawn.odds[drawn.model],
            prediction.router_version,
        )
        asked = second_request(exchange.request, drawn.model)
        reply = await self.calls.ask(asked, log, exchange.caller)
        return None if reply is None else (drawn.model, reply)


def may_be_asked_twice(exchange: Exchange) -> bool:
    """Whether a second answer can be compared with the first one, and does nothing but answer.

    Only routed turns are: who names a model wants no other. Tools that a provider runs by itself
    would be run twice, and an allotment of tokens bound the first answer alone.
    """
    record, body = exchange.record, exchange.request.body
    tools = body.get("tools")
    kinds = [tool.get("type") for tool in tools or () if isinstance(tool, dict)]
    return (
        bool(record.candidates)
        and record.allotted_tokens is None
        and not RUN_BY_PROVIDERS & body.keys()
        and all(kind == "function" for kind in kinds)
    )


def draw(
    prediction: Prediction, first: TurnRecord, uniform_share: float, rng: random.Random
) -> Draw | None:
    """Draw a model that can answer and is not the one that did; None where there is no other."""
    scores = prediction.scores
    eligible = [
        (place, name)
        for place, (name, verdict) in enumerate(
            zip(prediction.pool.names, prediction.verdicts, strict=True)
        )
        if verdict.is_eligible and name != first.served_model
    ]
    if not eligible:
        return None
    names = [name for _, name in eligible]
    quality = None if scores is None else scores.quality
    stderr = None if scores is None else scores.quality_stderr
    uncertainty = [
        None if quality is None or stderr is None or quality[place] is None else stderr[place]
        for place, _ in eligible
    ]
    odds = odds_of(names, uncertainty, uniform_share)
    (model,) = rng.choices(names, list(odds.values()))
    return Draw(model, odds)


def odds_of(
    names: Sequence[str], stderr: Sequence[float | None], uniform_share: float
) -> dict[str, float]:
    """Give every model odds that grow with what is not known of it; they add up to 1.

    Args:
        stderr: Standard errors of predicted quality; None is taken for the largest.
        uniform_share: Part of the odds that all get alike.
    """
    known = [value for value in stderr if value is not None]
    largest = max(known, default=1.0)
    weights = [largest if value is None else value for value in stderr]
    total = sum(weights)
    if total <= 0:
        weights, total = [1.0] * len(names), float(len(names))
    floor = uniform_share / len(names)
    return {
        name: floor + (1.0 - uniform_share) * weight / total
        for name, weight in zip(names, weights, strict=True)
    }


def second_request(request: ChatRequest, model: str) -> ChatRequest:
    """Ask `model` the same, as one whole answer that belongs to no conversation or budget."""
    body: dict[str, Any] = {
        name: value for name, value in request.body.items() if name not in NOT_ASKED_AGAIN
    }
    return replace(
        request,
        model=model,
        body={**body, "model": model},
        is_stream=False,
        wants_usage=False,
        options=NO_OPTIONS,
        trace_headers={},
        native=None,
    )


def _candidates(prediction: Prediction, first: TurnRecord, odds: Mapping[str, float]) -> Candidates:
    pool, scores = prediction.pool, prediction.scores
    nothing = (None,) * len(pool.names)
    return Candidates(
        pool.names,
        nothing if scores is None else scores.quality,
        nothing if scores is None else scores.cost_usd,
        nothing,
        [odds.get(name, 0.0) for name in pool.names],
        [name in odds for name in pool.names],
        [
            SERVED if name == first.served_model else verdict.reason
            for name, verdict in zip(pool.names, prediction.verdicts, strict=True)
        ],
    )
