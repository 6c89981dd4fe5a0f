"""What goes from one wire to the inner form and out to another keeps text, tools, ids and order."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.anthropic_wire import from_anthropic, to_anthropic
from gateway.providers.usage import usage_of as openai_usage_of
from gateway.wires.messages_answer import Wanted, message_of, usage_of
from gateway.wires.messages_request import parse_messages_request
from tests.fakes.messages import WEATHER

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1
)
inputs = st.dictionaries(words, words | st.integers(0, 9) | st.lists(words, max_size=2), max_size=2)
THINKING = Wanted({"thinking": {"type": "adaptive"}})


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of user and model, some with calls of tools, whose results follow at once."""
    turns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        texts = [
            {"type": "text", "text": text} for text in draw(st.lists(words, min_size=1, max_size=2))
        ]
        turns.append({"role": "user", "content": texts})
        calls = [
            {"type": "tool_use", "id": f"toolu_{number}_{i}", "name": "get_weather", "input": given}
            for i, given in enumerate(draw(st.lists(inputs, max_size=2)))
        ]
        said = [{"type": "text", "text": text} for text in draw(st.lists(words, max_size=1))]
        if not calls and not said:
            continue
        turns.append({"role": "assistant", "content": said + calls})
        if calls:
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": draw(words)}
                for call in calls
            ]
            turns.append({"role": "user", "content": results})
    return turns


def joined(turns: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """List blocks in order with their roles; neighbours of one role are one turn."""
    return [(turn["role"], block) for turn in turns for block in turn["content"]]


@given(turns=conversations(), system=words)
def test_a_conversation_through_the_inner_form_is_the_same_conversation(turns, system) -> None:
    asked = {
        "model": "auto",
        "max_tokens": 9,
        "system": system,
        "messages": turns,
        "tools": [WEATHER],
    }

    body = parse_messages_request(orjson.dumps(asked), {}).body
    back = to_anthropic(body, "claude-sonnet-4-5", None)

    assert joined(back["messages"]) == joined(turns)
    assert back["system"] == [{"type": "text", "text": system}]
    assert back["tools"] == [WEATHER]
    assert back["max_tokens"] == 9


@given(
    thoughts=st.lists(words, max_size=1),
    texts=st.lists(words, max_size=1),
    given_inputs=st.lists(inputs, max_size=3),
    counts=st.tuples(*[st.integers(1, 999)] * 4),
)
def test_an_answer_through_the_inner_form_is_the_same_answer(
    thoughts, texts, given_inputs, counts
) -> None:
    content: list[dict[str, Any]] = [
        *({"type": "thinking", "thinking": text, "signature": ""} for text in thoughts),
        *({"type": "text", "text": text} for text in texts),
        *(
            {"type": "tool_use", "id": f"toolu_{i}", "name": "f", "input": given}
            for i, given in enumerate(given_inputs)
        ),
    ]
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    usage = dict(zip((*names, "cache_creation_input_tokens"), counts, strict=True))
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": "tool_use" if given_inputs else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }

    inner = from_anthropic(message, 0)
    back = message_of(inner, THINKING) | {"usage": usage_of(openai_usage_of(inner["usage"]))}

    assert back == message
