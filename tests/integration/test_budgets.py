"""Budgets over real sockets, met by OpenAI's own SDK."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from sqlalchemy import select

from gateway.budgets.definitions import BudgetDefinitions
from gateway.routing.encoders import load_encoder
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import NOON_UNIX_S, budget
from tests.fakes.clocks import ManualClock
from tests.fakes.gateway import LARGE, PRICE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer, stream_answer

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
TALK = {"X-Waypost-Conversation-Id": "talk"}
TEAM = "default"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, budgets={"definitions_poll_s": 0.01}) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as sdk:
        yield sdk


async def cap(gateway: RunningGateway, amount: int, **changes: Any) -> None:
    """Define a budget and wait until the gateway knows it."""
    budget(gateway.engine, amount, team_id=TEAM, **changes)
    book = gateway.app.budgets.book
    newest = BudgetDefinitions(gateway.engine).changes(0, 1000)[-1].revision
    await until(lambda: book.revision >= newest)


async def test_a_spent_budget_is_a_rate_limit_error_that_names_its_scope(gateway, client):
    await cap(gateway, 100, scope="conversation")

    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model=SMALL, messages=HELLO, extra_headers=TALK)

    assert refused.value.code == "insufficient_quota"
    body: Any = refused.value.body
    assert body["limit_source"] == "conversation"
    assert gateway.alpha.requests == []


async def test_too_many_requests_are_told_when_to_come_again(gateway, client, monkeypatch):
    # It stays noon: no day ends between the two requests.
    monkeypatch.setattr(gateway.app.budgets.desk.store, "_clock", ManualClock(NOON_UNIX_S))
    await cap(gateway, 1, scope="key", measure="requests", window="day")
    gateway.alpha.answers = [json_answer(completion())]
    await client.chat.completions.create(model=SMALL, messages=HELLO)

    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model=SMALL, messages=HELLO)

    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) == 12 * 3600


async def test_what_is_left_is_told_and_the_budget_sets_the_output_limit(gateway, client):
    await cap(gateway, 10**9, scope="conversation")
    gateway.alpha.answers = [json_answer(completion())]

    raw = await client.chat.completions.with_raw_response.create(
        model=SMALL, messages=HELLO, extra_headers=TALK
    )

    answer = raw.parse()
    cost = answer.model_extra["waypost"]["cost_usd"]
    left = float(raw.headers["x-waypost-budget-conversation-remaining-usd"])
    assert left == pytest.approx(1 - cost)
    summary = answer.model_extra["waypost"]["budget"]
    assert summary["conversation"]["remaining_usd"] == pytest.approx(1 - cost)
    sent = gateway.alpha.last.body["max_tokens"]
    assert str(sent) == raw.headers["x-waypost-budget-completion-tokens"]


async def test_a_stream_says_what_is_left_in_its_final_chunk_and_is_journaled(gateway, client):
    await cap(gateway, 10**9, scope="key")
    gateway.alpha.answers = [stream_answer()]

    events = [
        event
        async for event in await client.chat.completions.create(
            model=SMALL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    ]

    told = events[-1].model_extra["waypost"]
    assert told["budget"]["key"]["remaining_usd"] == pytest.approx(1 - told["cost_usd"])
    await until(lambda: len(journal(gateway)) == 1)
    (row,) = journal(gateway)
    assert (row.outcome, row.model) == ("answered", SMALL)
    assert row.charged_nusd == round(told["cost_usd"] * 1e9)


def journal(gateway: RunningGateway) -> list[Any]:
    with gateway.engine.connect() as connection:
        return list(connection.execute(select(SETTLEMENTS)))


@pytest.fixture
async def dear(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway whose router prefers `LARGE`, which costs a thousand times as much as `SMALL`."""
    models = {
        SMALL: {"provider": "alpha", "price": PRICE},
        LARGE: {"provider": "beta", "price": {name: 1000 * usd for name, usd in PRICE.items()}},
    }
    polls = {"definitions_poll_s": 0.01}
    router = router_for(load_encoder("static"), best=LARGE)
    async with running_gateway(tmp_path, router=router, models=models, budgets=polls) as running:
        running.alpha.answers = running.beta.answers = [json_answer(completion())]
        yield running


async def ask(gateway: RunningGateway, model: str = "auto") -> httpx2.Response:
    async with gateway.caller() as http:
        body = {"model": model, "messages": HELLO, "max_tokens": 100}
        return await http.post("/v1/chat/completions", json=body)


async def test_auto_keeps_to_a_model_that_what_is_left_pays_for(dear):
    assert (await ask(dear)).headers["x-waypost-model"] == LARGE
    await cap(dear, 10_000_000, scope="key")
    answer = await ask(dear)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-waypost-model"] == SMALL
    row = await dear.turn(answer.headers["x-request-id"])
    assert row.chosen_model == SMALL
    assert {one["model"]: one["verdict"] for one in row.candidates}[LARGE] == "over_budget"
    assert {one["model"]: one["propensity"] for one in row.candidates} == {SMALL: 1.0, LARGE: 0.0}


async def test_a_model_that_is_named_is_refused_where_it_is_too_dear(dear):
    await cap(dear, 10_000_000, scope="key")
    assert (await ask(dear, LARGE)).status_code == 429


async def test_where_money_is_left_for_no_model_auto_is_refused(dear):
    await cap(dear, 10, scope="key")
    answer = await ask(dear)
    assert answer.status_code == 429
    assert not dear.alpha.requests
    assert not dear.beta.requests


async def test_a_budget_of_tokens_is_the_same_for_every_model(dear):
    await cap(dear, 1, scope="key", measure="tokens")
    answer = await ask(dear)
    assert answer.status_code == 429
    assert (await dear.turn(answer.headers["x-request-id"])).chosen_model == LARGE
