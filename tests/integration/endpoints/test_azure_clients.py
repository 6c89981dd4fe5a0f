"""OpenAI's own clients of Azure drive the gateway: another address and key, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from openai import AsyncAzureOpenAI, AzureOpenAI

from tests.fakes.endpoints import EMBEDDER
from tests.fakes.gateway import LARGE, SMALL, RunningGateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import completion, error_answer, json_answer, stream_answer
from tests.fakes.weather import CALL, TOOL

pytestmark = pytest.mark.asyncio(loop_scope="session")

VERSION = "2024-10-21"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]


@pytest_asyncio.fixture(loop_scope="session")
async def azure(gateway: RunningGateway) -> AsyncIterator[AsyncAzureOpenAI]:
    async with AsyncAzureOpenAI(
        azure_endpoint=gateway.url,
        api_key=gateway.key,
        api_version=VERSION,
        max_retries=0,
        timeout=PATIENCE_S,
    ) as client:
        yield client


async def test_a_deployment_is_a_model_or_auto(gateway, azure) -> None:
    gateway.alpha.answers = [json_answer(completion("Hello!"))]

    for name in (SMALL, "auto"):
        answer = await azure.chat.completions.create(model=name, messages=HELLO)
        assert answer.choices[0].message.content == "Hello!"
        assert gateway.alpha.last.body["model"] == "alpha-small"


async def test_the_deployment_counts_and_not_the_model_of_the_body(gateway) -> None:
    gateway.beta.answers = [json_answer(completion())]

    async with AsyncAzureOpenAI(
        azure_endpoint=gateway.url,
        azure_deployment=LARGE,
        api_key=gateway.key,
        api_version=VERSION,
        max_retries=0,
    ) as client:
        await client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert gateway.beta.last.body["model"] == "beta-large"


async def test_the_client_without_async_and_with_a_token_for_a_key(gateway) -> None:
    gateway.alpha.answers = [json_answer(completion("Hello!")), stream_answer("Hello!")]

    def ask() -> str:
        client = AzureOpenAI(
            azure_endpoint=gateway.url,
            azure_ad_token=gateway.key,
            api_version=VERSION,
            max_retries=0,
        )
        with client:
            whole = client.chat.completions.create(model=SMALL, messages=HELLO)
            parts = client.chat.completions.create(model=SMALL, messages=HELLO, stream=True)
            said = "".join(part.choices[0].delta.content or "" for part in parts)
            return f"{whole.choices[0].message.content} {said}"

    assert await asyncio.to_thread(ask) == "Hello! Hello!"


async def test_streams_and_tools_pass(gateway, azure) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    called = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    gateway.alpha.answers = [stream_answer("Hello!"), json_answer(completion(choices=[called]))]

    stream = await azure.chat.completions.create(
        model=SMALL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    parts = [part async for part in stream]
    answer = await azure.chat.completions.create(model=SMALL, messages=HELLO, tools=[TOOL])

    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == "Hello!"
    assert parts[-1].usage.total_tokens == 12
    assert answer.choices[0].message.tool_calls[0].id == CALL["id"]
    assert gateway.alpha.last.body["tools"] == [TOOL]


async def test_vectors_and_texts_have_deployments_too(gateway, azure) -> None:
    vectors = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}}
    text = completion(choices=[{"index": 0, "text": "Hi", "finish_reason": "stop"}])
    gateway.alpha.answers = [json_answer(vectors), json_answer(text)]

    embedded = await azure.embeddings.create(model=EMBEDDER, input="x", encoding_format="float")
    completed = await azure.completions.create(model=SMALL, prompt="Say hi.")

    assert embedded.data[0].embedding == [0.5]
    assert completed.choices[0].text == "Hi"


async def test_the_path_without_deployments_is_the_gateways_own(gateway) -> None:
    gateway.alpha.answers = [json_answer(completion("Hello!"))]

    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/openai/v1/", api_key=gateway.key, max_retries=0
    ) as client:
        listed = [model.id async for model in client.models.list()]
        answer = await client.chat.completions.create(model="auto", messages=HELLO)
        response = await client.responses.create(model=SMALL, input="Say hello.")

    assert SMALL in listed
    assert answer.choices[0].message.content == "Hello!"
    assert response.output_text == "Hello!"


async def test_errors_are_those_of_the_other_paths(gateway, azure) -> None:
    gateway.alpha.answers = [error_answer(400, "no such thing", type="invalid_request_error")]

    with pytest.raises(openai.BadRequestError) as refused:
        await azure.chat.completions.create(model=SMALL, messages=HELLO)
    with pytest.raises(openai.NotFoundError) as unknown:
        await azure.chat.completions.create(model="gpt-99", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        await azure.with_options(api_key="wp-000000000000-wrong").chat.completions.create(
            model=SMALL, messages=HELLO
        )

    assert "no such thing" in refused.value.message
    assert unknown.value.code == "model_not_found"


@pytest.mark.parametrize(
    "path",
    [
        f"/openai/deployments/{SMALL}/images/generations",
        "/openai/deployments//chat/completions",
        "/openai/deployments/chat/completions",
        "/openai/v2/chat/completions",
        "/openai/v1",
        "/openai/v1/openai/v1/chat/completions",
    ],
)
async def test_what_stands_for_no_path_of_the_gateway_is_not_found(gateway, http, path) -> None:
    answer = await http.post(path, json={"messages": HELLO, "model": SMALL})

    assert answer.status_code == 404
    assert gateway.alpha.requests == []


async def test_a_deployment_is_asked_by_post_alone(http) -> None:
    answer = await http.get(f"/openai/deployments/{SMALL}/chat/completions")

    assert answer.status_code == 404


async def test_a_deployments_requests_are_counted_as_those_of_the_endpoint(gateway, azure) -> None:
    gateway.alpha.answers = [json_answer(completion())]
    before = _chats(gateway)

    await azure.chat.completions.create(model=SMALL, messages=HELLO)

    assert _chats(gateway) == before + 1


async def test_a_path_of_azure_needs_a_key(gateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as nobody:
        for path in (f"/openai/deployments/{SMALL}/chat/completions", "/openai/v1/models"):
            answer = await nobody.request("GET" if "models" in path else "POST", path)
            assert answer.status_code == 401


def _chats(gateway: RunningGateway) -> float:
    return gateway.app.public.access.requests.values["chat", "200"]
