"""One caller's abuse pauses no model for others: what it can provoke opens no circuit breaker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from tests.fakes.gateway import CLAUDE, LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    Answer,
    anthropic_event,
    anthropic_message,
    chunk,
    completion,
    error_answer,
    event,
    json_answer,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 9}
FAILURES = 5
SERVED = {SMALL: "alpha", CLAUDE: "gamma"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("breakers")
    async with running_gateway(folder, limits={"breaker_failures": FAILURES}) as gateway:
        for team in ("neighbour", "limited", "other"):
            KeyStore(gateway.engine).create_team(team)
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.upstreams.reset()
    return running


@asynccontextmanager
async def caller_of(gateway: RunningGateway, team: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Be a caller of a team."""
    key = KeyStore(gateway.engine).create_key(team, "n").secret.get_secret_value()
    async with gateway.caller() as http:
        http.headers["authorization"] = f"Bearer {key}"
        yield http


@pytest_asyncio.fixture(loop_scope="session")
async def neighbour(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller_of(gateway, "neighbour") as http:
        yield http


def within(**error: Any) -> tuple[Answer, ...]:
    """Report an error within an answer of status 200: whole, at once, and amid a stream."""
    told = event({"error": error})
    whole = json_answer({"error": error})
    return whole, Answer((told,)), Answer((chunk({"content": "Hel"}), told))


PROVOKED: dict[str, tuple[Answer, ...]] = {
    "a moderation's code": within(message="no", code="content_policy_violation"),
    "a moderation's type": within(message="no", type="content_filter", code=None),
    "a code that nobody knows": within(message="no", code="prohibited_by_house_rules"),
    "a type that nobody knows": within(message="no", type="FlaggedByPolicy"),
    "no code at all": (*within(message="no"), json_answer({"error": "no"})),
    "403 within": within(message="flagged", code=403),
    "402 within": within(message="too long an answer", code=402),
    "429 within": within(message="slow down", code=429),
    "a moderation's code and 500": within(message="no", code=500, type="content_filter"),
    "403 without metadata": (error_answer(403, "Your input was flagged"),),
    "403 of a moderation": (error_answer(403, "no", code="content_policy_violation"),),
    "403 of a filter before the host": (Answer((b"<html>Blocked</html>",), 403),),
    "402 for a long answer": (error_answer(402, "You can only afford 100 tokens"),),
    "a code that nobody knows and 400": (error_answer(400, "no", code="house_rules"),),
    "408": (error_answer(408, "no"),),
    "409": (error_answer(409, "no"),),
    "429": (error_answer(429, "slow down"),),
    "429 with a time": (error_answer(429, "slow down", headers={"retry-after": "30"}),),
    "500 that names the request": (error_answer(500, "no", type="invalid_request_error"),),
}


async def abuse(gateway: RunningGateway, model: str, answers: tuple[Answer, ...]) -> list[int]:
    """Ask until as many calls failed as open a breaker."""
    statuses, upstream = [], gateway.upstreams.by_name[SERVED[model]]
    async with gateway.caller() as http:
        for _, answer in zip(range(FAILURES), cycle(answers), strict=False):
            upstream.answers = [answer]
            is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
            body = {"model": model, "stream": is_stream, **ASKED}
            statuses.append((await http.post(CHAT, json=body)).status_code)
    assert len(upstream.requests) == FAILURES
    return statuses


@pytest.mark.parametrize("kind", PROVOKED)
async def test_what_a_caller_provokes_pauses_no_model_for_others(gateway, neighbour, kind) -> None:
    for answer in PROVOKED[kind]:
        gateway.alpha.requests.clear()
        await abuse(gateway, SMALL, (answer,))
        gateway.alpha.answers = [json_answer(completion())]
        assert (await neighbour.post(CHAT, json={"model": SMALL, **ASKED})).status_code == 200


@pytest.mark.parametrize("kind", ["flagged_by_policy", "rate_limit_error"])
async def test_nor_what_one_provokes_in_anthropics_form(gateway, neighbour, kind) -> None:
    told = anthropic_event("error", error={"type": kind, "message": "no"})
    await abuse(gateway, CLAUDE, (Answer((told,)),))
    gateway.upstreams.by_name["gamma"].answers = [json_answer(anthropic_message())]
    assert (await neighbour.post(CHAT, json={"model": CLAUDE, **ASKED})).status_code == 200


OWN: dict[str, tuple[Answer, ...]] = {
    "500": (error_answer(500, "boom"),),
    "a named failure within": within(message="no", type="server_error"),
    "a status within": within(message="no", code=502),
    "an account without money": (error_answer(429, "no", code="insufficient_quota"),),
    "a key that is refused": (error_answer(401, "no"),),
}


@pytest.mark.parametrize("kind", OWN)
async def test_a_fault_of_the_provider_or_operator_pauses_the_model(tmp_path, kind) -> None:
    limits = {"breaker_failures": FAILURES}
    async with running_gateway(tmp_path, limits=limits) as gateway, gateway.caller() as http:
        await abuse(gateway, SMALL, OWN[kind])
        gateway.alpha.answers = [json_answer(completion())]
        assert (await http.post(CHAT, json={"model": SMALL, **ASKED})).status_code == 503


async def test_a_model_that_is_limited_rests_for_the_team_that_was_told_so(gateway) -> None:
    limited = error_answer(429, "slow down", headers={"retry-after": "30"})
    gateway.beta.answers = [json_answer(completion("From beta"))]
    auto = {"model": "auto", **ASKED}
    async with caller_of(gateway, "limited") as http, caller_of(gateway, "other") as other:
        gateway.alpha.answers = [limited]
        served = [(await http.post(CHAT, json=auto)).json()["waypost"]["model"] for _ in range(3)]
        asked = len(gateway.alpha.requests)
        gateway.alpha.answers = [json_answer(completion())]
        named = await http.post(CHAT, json={**auto, "model": SMALL})
        others = await other.post(CHAT, json=auto)

    assert served == [LARGE, LARGE, LARGE]
    assert asked == 1
    assert named.status_code == 200
    assert others.json()["waypost"]["model"] == SMALL
