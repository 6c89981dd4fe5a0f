"""Whatever a caller sends to the Responses endpoint, it gets an answer or an error of its making.

It never gets a dearer answer than is charged for.
"""

import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.gateway import CLAUDE, SMALL, running_gateway
from tests.fakes.responses import AGENT, HELLO
from tests.fakes.upstream import completion, json_answer
from tests.integration.test_attacks_on_money import CAP_TOKENS, capped_gateway
from tests.integration.test_fuzz_chat import (
    FUZZ,
    anything,
    assert_fair,
    places,
    with_changed,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESPONSES = "/v1/responses"


@FUZZ
@given(
    model=st.sampled_from(["auto", CLAUDE]),
    is_stream=st.booleans(),
    place=st.sampled_from(list(places(AGENT))),
    value=anything,
)
async def test_no_value_at_any_place_makes_the_gateway_fail(
    accommodating, model, is_stream, place, value
):
    body = with_changed(AGENT, place, value) | {"model": model, "stream": is_stream}
    transport = httpx2.ASGITransport(accommodating.app.public)
    headers = {"authorization": f"Bearer {accommodating.key}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.post(RESPONSES, content=orjson.dumps(body), headers=headers)

    assert_fair(response)
    assert b"internal_error" not in response.content


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("place", list(places(AGENT))[1::7], ids=str)
async def test_deep_nesting_is_refused_wherever_it_is(accommodating, http, place):
    for levels in (150, 185, 195, 199, 254, 600, 1_023):
        for model in (SMALL, CLAUDE):
            body = orjson.dumps(with_changed(AGENT, place, "MARK") | {"model": model})
            raw = body.replace(b'"MARK"', nested(levels))
            answer = await http.post(RESPONSES, content=raw)
            expected = {400} if levels > 200 else {200, 400}
            assert answer.status_code in expected, (levels, model, answer.text)


@pytest.mark.parametrize(
    "dear",
    [
        {"service_tier": "priority"},
        {"models": ["dear/model"]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://a.example"}]},
        {"tools": [{"type": "image_generation"}]},
        {"context_management": [{"type": "compaction"}]},
        {"moderation": {"model": "omni-moderation-latest"}},
        {"n": 8},
        {"max_tokens": 100_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["auto", SMALL])
async def test_a_field_that_may_change_model_or_price_is_refused(strict_gateway, model, dear):
    async with strict_gateway.caller() as http:
        answer = await http.post(RESPONSES, json=HELLO | {"model": model} | dear)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == next(iter(dear))
    assert strict_gateway.alpha.requests == strict_gateway.gamma.requests == []


async def test_the_operator_can_allow_a_tool_that_a_host_runs(tmp_path):
    async with running_gateway(tmp_path, limits={"extra_fields": ["tools.web_search"]}) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        asked = HELLO | {"model": SMALL, "tools": [{"type": "web_search"}]}
        async with gateway.caller() as http:
            answer = await http.post(RESPONSES, json=asked)

        assert answer.status_code == 200, answer.text
        assert gateway.alpha.last.body["tools"] == [{"type": "web_search"}]


@pytest.mark.parametrize(
    "given",
    [
        [{"role": "user", "content": "word " * CAP_TOKENS}],
        [*AGENT["input"], {"type": "reasoning", "encrypted_content": "x" * 6 * CAP_TOKENS}],
        [*AGENT["input"], {"type": "shell_call_output", "output": "x" * 6 * CAP_TOKENS}],
    ],
    ids=["text", "encrypted thoughts", "results of a host's tools"],
)
async def test_a_long_input_needs_room_in_a_budget(tmp_path, given):
    async with capped_gateway(tmp_path) as gateway, gateway.caller() as http:
        response = await http.post(RESPONSES, json=HELLO | {"model": SMALL, "input": given})

        assert response.status_code == 429, response.text
        assert response.json()["error"]["code"] == "insufficient_quota"
        assert gateway.alpha.requests == []


async def test_an_output_limit_is_held_and_sent(tmp_path):
    async with capped_gateway(tmp_path) as gateway, gateway.caller() as http:
        asked = HELLO | {"model": SMALL, "max_output_tokens": 2 * CAP_TOKENS}
        response = await http.post(RESPONSES, json=asked)

        assert response.status_code == 429
        assert gateway.alpha.requests == []
