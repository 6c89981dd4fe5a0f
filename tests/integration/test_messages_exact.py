"""Integers of any length survive the way through Messages."""

import orjson
import pytest

from tests.fakes.gateway import CLAUDE, SMALL
from tests.fakes.messages import HELLO, VERSION
from tests.fakes.upstream import JSON, Answer, anthropic_message, completion

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = b"123456789012345678901234567890"


@pytest.mark.parametrize("model", [SMALL, CLAUDE])
async def test_long_integers_in_the_input_of_a_tool_survive_both_ways(gateway, http, model):
    function = {"name": "f", "arguments": '{"n":7777}'}
    call = {"id": "c1", "type": "function", "function": function}
    use = {"type": "tool_use", "id": "c1", "name": "f", "input": {"n": 7777}}
    choice = {"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    answer = completion(choices=[choice]) if model == SMALL else anthropic_message(content=[use])
    raw = orjson.dumps(answer).replace(b"7777", LONG)
    gateway.alpha.answers = gateway.gamma.answers = [Answer((raw,), headers=JSON)]
    turns = [*HELLO["messages"], {"role": "assistant", "content": [use]}]
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "4"}
    turns.append({"role": "user", "content": [result]})
    body = orjson.dumps(HELLO | {"model": model, "messages": turns}).replace(b"7777", LONG)

    response = await http.post("/v1/messages", content=body, headers=VERSION)

    assert response.status_code == 200, response.text
    assert LONG in response.content
    upstream = gateway.alpha if model == SMALL else gateway.gamma
    assert LONG in upstream.last.raw
