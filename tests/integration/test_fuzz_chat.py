"""Whatever a caller sends to the chat endpoint, it gets an answer or an error of its own making."""

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fakes.gateway import CLAUDE, RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
FUZZ = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_weather", "description": "Weather.", "parameters": SCHEMA, "strict": True}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
VALID: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a"},
                },
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
    ],
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "n": 1,
    "max_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["\n"],
    "metadata": {"user_id": "u"},
    "reasoning_effort": "low",
    "modalities": ["text"],
    "user": "u",
}


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Name every place within `value` by the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def with_changed(valid: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """Copy the valid body with another value at one place."""
    body: Any = orjson.loads(orjson.dumps(valid))
    at = body
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return {**body}


async def send(gateway: RunningGateway, raw: bytes) -> httpx2.Response:
    """Send `raw` to the application itself, which no server has parsed before."""
    transport = httpx2.ASGITransport(gateway.app.public)
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post(CHAT, content=raw, headers=headers)


def assert_fair(response: httpx2.Response) -> None:
    """Check that the gateway itself did not fail, and that an error has OpenAI's shape."""
    assert response.status_code != 500, response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert isinstance(error["message"], str)


@pytest.mark.parametrize("model", ["auto", CLAUDE])
async def test_the_body_that_is_varied_is_valid(accommodating, model):
    response = await send(accommodating, orjson.dumps(VALID | {"model": model}))

    assert response.status_code == 200


@FUZZ
@given(
    model=st.sampled_from(["auto", CLAUDE]),
    is_stream=st.booleans(),
    place=st.sampled_from(list(places(VALID))),
    value=anything,
)
async def test_no_value_at_any_place_makes_the_gateway_fail(
    accommodating, model, is_stream, place, value
):
    body = {**with_changed(VALID, place, value), "model": model, "stream": is_stream}

    assert_fair(await send(accommodating, orjson.dumps(body)))


@FUZZ
@given(body=st.dictionaries(st.sampled_from(["model", "messages", "stream", "waypost"]), anything))
async def test_no_field_of_another_type_makes_the_gateway_fail(accommodating, body):
    assert_fair(await send(accommodating, orjson.dumps(body)))


@FUZZ
@given(raw=st.binary(max_size=200))
@example(raw=b'{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}')
@example(raw=b'{"model":"auto","messages":[{"role":"user","content":"\\u0000"}]}')
async def test_no_bytes_make_the_gateway_fail(accommodating, raw):
    assert_fair(await send(accommodating, raw))
