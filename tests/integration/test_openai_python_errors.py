"""What goes wrong reaches a caller as the exception that OpenAI's SDK has for it."""

from typing import Any

import openai
import pytest

from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.upstream import Answer, error_answer, event, stream_chunks

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]


async def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"

    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=HELLO)
    assert caught.value.param == "model"


async def test_a_wrong_key_is_an_authentication_error(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.with_options(api_key="sk-foreign").chat.completions.create(
            model="auto", messages=HELLO
        )

    assert caught.value.code == "invalid_api_key"


async def test_a_malformed_request_is_a_bad_request_that_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="auto", messages=[])

    assert caught.value.param == "messages"
    assert caught.value.type == "invalid_request_error"


async def test_a_refusal_of_the_provider_keeps_its_status_and_words(gateway, client):
    gateway.alpha.answers = [
        error_answer(422, "temperature is too high", param="temperature", code="too_high")
    ]

    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await client.chat.completions.create(model=SMALL, messages=HELLO, temperature=9)

    assert "temperature is too high" in caught.value.message
    assert caught.value.param == "temperature"
    assert caught.value.code == "too_high"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (error_answer(529, "slow down", headers={"retry-after": "7"}), 503, "provider_unavailable"),
        (error_answer(500, "oh no"), 503, "provider_unavailable"),
        (error_answer(401, "bad key sk-alpha-secret"), 502, "provider_misconfigured"),
        (Answer((b'{"half',), announced_length=100, cuts_off=True), 502, "provider_cut_off"),
        (Answer((b"<html>",)), 503, "provider_unavailable"),
    ],
    ids=["overloaded", "failing", "misconfigured", "cut_off", "no_json"],
)
async def test_a_failing_provider_is_an_internal_server_error(
    gateway, client, answer, status, code
):
    gateway.alpha.answers = [answer]

    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=SMALL, messages=HELLO)

    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.type == "provider_error"
    assert caught.value.request_id is not None
    assert "secret" not in caught.value.response.text


async def test_says_when_to_try_an_overloaded_provider_again(gateway, client):
    gateway.alpha.answers = [error_answer(429, "slow down", headers={"retry-after": "7"})]

    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model=SMALL, messages=HELLO)

    assert caught.value.response.headers["retry-after"] == "7"


async def test_a_stream_that_is_cut_off_ends_in_an_api_error(gateway, client):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:3]), cuts_off=True)]
    stream = await client.chat.completions.create(model=SMALL, messages=HELLO, stream=True)
    received = [(await anext(stream)).choices[0].delta.content for _ in range(3)]

    with pytest.raises(openai.APIError) as caught:
        await anext(stream)

    assert received == ["", "H", "e"]
    assert caught.value.code == "provider_cut_off"


async def test_an_error_event_of_the_provider_ends_the_stream_in_an_api_error(gateway, client):
    failure = event({"error": {"message": "overloaded", "type": "overloaded_error"}})
    gateway.alpha.answers = [Answer((*stream_chunks("Hello!")[:3], failure))]
    stream = await client.chat.completions.create(model=SMALL, messages=HELLO, stream=True)
    received = [await anext(stream) for _ in range(3)]

    with pytest.raises(openai.APIError) as caught:
        await anext(stream)

    assert len(received) == 3

    assert caught.value.code == "provider_unavailable"


async def test_a_stream_that_never_begins_is_an_ordinary_error(gateway, client):
    gateway.alpha.answers = [error_answer(500, "oh no")]

    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model=SMALL, messages=HELLO, stream=True)


async def test_a_short_header_of_the_provider_is_not_taken_for_a_secret(tmp_path):
    limits = {"headers": {"x-tier": "e", "x-token": "long-enough"}}
    async with running_gateway(tmp_path, limits=limits) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [error_answer(422, "the temperature of long-enough is wrong")]
        body = {"model": SMALL, "messages": HELLO}
        response = await http.post("/v1/chat/completions", json=body)

    assert response.json()["error"]["message"] == "the temperature of [redacted] is wrong"
