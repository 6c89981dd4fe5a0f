import json
from collections.abc import Callable
from math import inf
from typing import Any

import httpx2
import pytest

from gateway.problems.calibration import (
    AnswerFailed,
    CalibrationError,
    CapReached,
    GivenAnswer,
    ModelUnusable,
)
from gateway.problems.gateway_asker import GatewayAsker, Price, Spending, read_prices
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.upstream import JSON, Answer, ScriptedUpstream

COST = {**JSON, "x-waypost-cost-usd": "0.002"}


def body(text: str | None) -> bytes:
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.fixture
def spent() -> list[float]:
    return []


@pytest.fixture
def ask_gateway(spent: list[float]) -> Callable[..., Any]:
    async def ask(
        *answers: Answer,
        cap_usd: float = inf,
    ) -> tuple[GivenAnswer | Exception, ScriptedUpstream, list[float]]:
        upstream, waits = ScriptedUpstream(*answers), list[float]()
        ticks = iter(range(1000))

        async def wait(seconds: float) -> None:
            waits.append(seconds)

        async with (
            serve(upstream) as url,
            httpx2.AsyncClient(base_url=f"{url}/v1/", timeout=PATIENCE_S) as http,
        ):
            spending = Spending(cap_usd)
            clock = lambda: float(next(ticks))  # noqa: E731
            asker = GatewayAsker(http, clock, {"small": Price(1.0, 100.0)}, spending, wait)
            try:
                return await asker.ask("small", "hello"), upstream, waits
            except (AnswerFailed, CalibrationError, ModelUnusable, CapReached) as error:
                return error, upstream, waits
            finally:
                spent.append(spending.spent_usd)

    return ask


async def test_takes_tokens_and_cost_from_the_gateway(ask_gateway: Any) -> None:
    answer, gateway, _ = await ask_gateway(Answer([body("hi")], headers=COST))
    assert answer == GivenAnswer("hi", 9, 3, 0.002, 1.0)
    assert gateway.last.path == "/v1/chat/completions"
    assert gateway.last.body == {
        "model": "small",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 1024,
    }


async def test_an_answer_without_text_is_an_empty_one(ask_gateway: Any) -> None:
    answer, _, _ = await ask_gateway(Answer([body(None)], headers=COST))
    assert answer.text == ""


async def test_what_a_fallback_answered_is_not_taken_for_the_model_s(
    ask_gateway: Any, spent: list[float]
) -> None:
    headers = {**COST, "x-waypost-fallback-from": "small"}
    error, _, _ = await ask_gateway(Answer([body("hi")], headers=headers))
    assert isinstance(error, AnswerFailed)
    assert spent == [0.002]


async def test_waits_as_long_as_the_gateway_asks_and_tries_again(ask_gateway: Any) -> None:
    busy = Answer([b"{}"], status=429, headers={**JSON, "retry-after": "7"})
    answer, _, waits = await ask_gateway(busy, Answer([body("hi")], headers=COST))
    assert answer.text == "hi"
    assert waits == [7.0]


async def test_gives_up_after_three_attempts(ask_gateway: Any) -> None:
    problem, gateway, waits = await ask_gateway(Answer([b"gone"], status=503, headers=JSON))
    assert isinstance(problem, AnswerFailed)
    assert str(problem) == "503: gone"
    assert len(gateway.requests) == 3
    assert waits == [1.0, 2.0, 4.0]


async def test_a_cut_connection_is_tried_again(ask_gateway: Any) -> None:
    cut = Answer([b"{"], headers=JSON, announced_length=100, cuts_off=True)
    answer, _, _ = await ask_gateway(cut, Answer([body("hi")], headers=COST))
    assert answer.text == "hi"


async def test_a_prompt_that_is_refused_is_not_sent_again(ask_gateway: Any) -> None:
    refusal = json.dumps({"error": {"message": "too long"}}).encode()
    problem, gateway, _ = await ask_gateway(Answer([refusal], status=400, headers=JSON))
    assert isinstance(problem, AnswerFailed)
    assert "400: too long" in str(problem)
    assert len(gateway.requests) == 1


async def test_a_refused_key_ends_the_calibration(ask_gateway: Any) -> None:
    problem, _, _ = await ask_gateway(Answer([b"{}"], status=401, headers=JSON))
    assert isinstance(problem, CalibrationError)
    assert "small: the gateway refused the request: 401" in str(problem)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_model_that_is_not_served_is_left_alone(ask_gateway: Any, status: int) -> None:
    problem, gateway, _ = await ask_gateway(Answer([b"{}"], status=status, headers=JSON))
    assert isinstance(problem, ModelUnusable)
    assert len(gateway.requests) == 1


async def test_a_call_whose_worst_case_exceeds_the_cap_is_not_made(ask_gateway: Any) -> None:
    problem, gateway, _ = await ask_gateway(Answer([body("hi")], headers=COST), cap_usd=0.1)
    assert isinstance(problem, CapReached)
    assert gateway.requests == []


async def test_what_was_cut_off_counts_as_spent(ask_gateway: Any, spent: list[float]) -> None:
    cut = Answer([b"{"], headers=JSON, announced_length=100, cuts_off=True)
    problem, gateway, _ = await ask_gateway(cut, cap_usd=0.25)
    assert isinstance(problem, CapReached)
    assert len(gateway.requests) == 2
    assert 0.2 < spent[0] <= 0.25


async def test_a_model_that_keeps_to_no_limit_is_left(ask_gateway: Any) -> None:
    dear = {**JSON, "x-waypost-cost-usd": "0.9"}
    problem, _, _ = await ask_gateway(Answer([body("hi")], headers=dear), cap_usd=1.0)
    assert isinstance(problem, ModelUnusable)
    assert "was the worst case" in str(problem)


async def test_a_model_without_a_known_price_is_not_asked_under_a_cap() -> None:
    asker = GatewayAsker(httpx2.AsyncClient(), lambda: 0.0, {}, Spending(1.0))
    with pytest.raises(ModelUnusable, match="its price is not known"):
        await asker.ask("small", "hello")


async def test_only_a_waypost_gateway_tells_the_cost(ask_gateway: Any) -> None:
    problem, _, _ = await ask_gateway(Answer([body("hi")], headers=JSON))
    assert isinstance(problem, CalibrationError)
    assert "must be a Waypost gateway's /v1" in str(problem)


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"no json", b'{"choices": []}'])
async def test_what_is_not_a_chat_completion_is_a_failure(ask_gateway: Any, answer: bytes) -> None:
    problem, _, _ = await ask_gateway(Answer([answer], headers=COST))
    assert isinstance(problem, AnswerFailed)
    assert "not a chat completion" in str(problem)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer([b"{}"], status=401, headers=JSON), "refused the request: 401"),
        (Answer([b"[]"], headers=JSON), "is no Waypost gateway"),
    ],
)
async def test_a_gateway_that_does_not_say_its_models_is_a_clear_error(
    answer: Answer, message: str
) -> None:
    async with (
        serve(ScriptedUpstream(answer)) as url,
        httpx2.AsyncClient(base_url=f"{url}/v1/", timeout=PATIENCE_S) as http,
    ):
        with pytest.raises(CalibrationError, match=message):
            await read_prices(http)
