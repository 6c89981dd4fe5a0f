"""A conversation, and an answer, keep text, tools, ids, order and usage from any wire to any."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.anthropic_wire import from_anthropic, to_anthropic
from gateway.providers.responses_native import native_completion
from gateway.providers.usage import usage_of as chat_usage_of
from gateway.types import Usage
from gateway.wire import ChatRequest, parse_chat_request
from gateway.wires import messages_answer, responses_answer
from gateway.wires.messages_request import parse_messages_request
from gateway.wires.responses_request import parse_responses_request
from tests.fakes import messages as anthropic_fakes
from tests.fakes import responses as responses_fakes

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
)
inputs = st.dictionaries(words, words | st.integers(0, 9), max_size=2)
Turn = tuple[str, str, list[tuple[str, dict[str, Any], str]]]
"""What a user says, what a model says, and its calls: id, input and result of each."""


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Turns; the last one has no answer yet."""
    turns: list[Turn] = []
    for n in range(draw(st.integers(0, 3))):
        calls = [
            (f"call_{n}_{i}", given_input, draw(words))
            for i, given_input in enumerate(draw(st.lists(inputs, max_size=2)))
        ]
        turns.append((draw(words), draw(words), calls))
    return [*turns, (draw(words), "", [])]


def as_chat(turns: list[Turn], system: str) -> ChatRequest:
    sent: list[dict[str, Any]] = [{"role": "system", "content": system}]
    for asked, said, calls in turns:
        sent.append({"role": "user", "content": asked})
        made = [
            {
                "id": name,
                "type": "function",
                "function": {"name": "get_weather", "arguments": orjson.dumps(value).decode()},
            }
            for name, value, _ in calls
        ]
        if said:
            message = {"role": "assistant", "content": said}
            sent.append(message | {"tool_calls": made} if made else message)
        sent += [{"role": "tool", "tool_call_id": name, "content": got} for name, _, got in calls]
    return parse_chat_request(orjson.dumps({"model": "auto", "messages": sent}), {})


def as_messages(turns: list[Turn], system: str) -> ChatRequest:
    sent: list[dict[str, Any]] = []
    for asked, said, calls in turns:
        text = {"type": "text", "text": asked}
        if sent and sent[-1]["role"] == "user":
            sent[-1]["content"].append(text)
        else:
            sent.append({"role": "user", "content": [text]})
        uses = [
            {"type": "tool_use", "id": name, "name": "get_weather", "input": value}
            for name, value, _ in calls
        ]
        if said:
            blocks = [{"type": "text", "text": said}, *uses]
            sent.append({"role": "assistant", "content": blocks})
        if calls:
            results = [
                {"type": "tool_result", "tool_use_id": name, "content": got}
                for name, _, got in calls
            ]
            sent.append({"role": "user", "content": results})
    body = anthropic_fakes.HELLO | {"system": system, "messages": sent}
    return parse_messages_request(orjson.dumps(body), {})


def as_responses(turns: list[Turn], system: str) -> ChatRequest:
    sent: list[dict[str, Any]] = []
    for asked, said, calls in turns:
        sent.append({"role": "user", "content": [{"type": "input_text", "text": asked}]})
        if said:
            text = [{"type": "output_text", "text": said}]
            sent.append({"role": "assistant", "content": text})
        for name, value, _ in calls:
            arguments = orjson.dumps(value).decode()
            called = {"call_id": name, "name": "get_weather", "arguments": arguments}
            sent.append({"type": "function_call", **called})
        sent += [
            {"type": "function_call_output", "call_id": name, "output": got}
            for name, _, got in calls
        ]
    body = responses_fakes.HELLO | {"instructions": system, "input": sent}
    return parse_responses_request(orjson.dumps(body), {})


@given(turns=conversations(), system=words)
def test_a_conversation_is_the_same_one_on_every_wire(turns, system) -> None:
    wires = [build(turns, system) for build in (as_chat, as_messages, as_responses)]

    chat, *others = ((one.body["messages"], one.query, one.turn_index) for one in wires)
    for other in others:
        assert other == chat
    upstream = [to_anthropic(one.body | {"max_tokens": 9}, "claude", None) for one in wires]
    assert upstream[0]["messages"] == upstream[1]["messages"] == upstream[2]["messages"]


ANSWERS = st.tuples(
    st.just("") | words, st.lists(inputs, max_size=3), st.tuples(*[st.integers(1, 9)] * 3)
)


def chat_answer(text: str, calls: list[dict[str, Any]], counts: tuple[int, ...]) -> dict[str, Any]:
    """Write an answer in chat's form; cached and reasoning tokens are parts of the others."""
    prompt, completion, part = counts
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": "f", "arguments": orjson.dumps(value).decode()},
            }
            for i, value in enumerate(calls)
        ]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": min(part, prompt)},
        "completion_tokens_details": {"reasoning_tokens": min(part, completion)},
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "a1", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def gist(answer: dict[str, Any], usage: Usage | None) -> Any:
    """Say what an answer in chat's form says."""
    message = answer["choices"][0]["message"]
    calls = [(one["id"], one["function"]) for one in message.get("tool_calls") or ()]
    return answer["id"], answer["model"], message["content"] or "", calls, usage


@pytest.mark.parametrize("wire", ["messages", "responses"])
@given(answer=ANSWERS)
def test_an_answer_is_the_same_one_on_every_wire(wire, answer) -> None:
    inner = chat_answer(*answer)
    usage = chat_usage_of(inner["usage"])
    assert usage is not None

    if wire == "messages":
        wants = messages_answer.Wanted({})
        written = messages_answer.message_of(inner, wants)
        back = from_anthropic(written | {"usage": messages_answer.usage_of(usage)}, 0)
        again = chat_usage_of(back["usage"])
    else:
        response = responses_answer.response_of(inner, responses_answer.Wanted({}), usage)
        completion = native_completion(response)
        back, again = completion.body, completion.usage

    assert gist(back, again) == gist(inner, usage)
