"""Requests to plan, and models to choose among."""

from typing import Any

import numpy as np
import orjson

from gateway.budgets.turn_budgets import TurnBudgets
from gateway.routing.plan import RoutePlan
from gateway.routing.routing import Routing
from gateway.types import Caller, Capabilities, HostedModel, ModelPrice
from gateway.wire import ChatRequest, parse_chat_request
from tests.fakes.artifacts import ENCODER

CALLER = Caller(key_id="k", team_id="t")
PRICE = ModelPrice(1, 1)


class Embedder:
    encoder_id = ENCODER.id

    async def embed(self, text: str, team_id: str) -> np.ndarray:
        return np.full(ENCODER.dimension, float(len(text)), np.float32)


def hosted(name: str, **capabilities: Any) -> HostedModel:
    return HostedModel(name, "p", name, PRICE, Capabilities(**capabilities))


def request(model: str = "auto", **fields: Any) -> ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    return parse_chat_request(orjson.dumps(body), {})


async def planned(
    routing: Routing,
    asked: ChatRequest,
    caller: Caller = CALLER,
    budgets: TurnBudgets | None = None,
) -> RoutePlan:
    prediction = await routing.predict(asked, caller)
    allotment = None if budgets is None else await budgets.allot(asked, caller, prediction)
    return routing.choose(prediction, allotment)
