import re
from typing import Any

import pytest

from gateway.types import Usage
from gateway.wires.messages_answer import Wanted, message_of, tool_id, usage_of
from tests.fakes.upstream import completion

ANY = Wanted({"thinking": {"type": "adaptive"}, "stop_sequences": ["END"]})


def answered(finish_reason: str = "stop", **said: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish_reason}
    return message_of(completion(choices=[choice]), ANY)


def call(**fields: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": '{"a":1}'} | fields.pop("function", {})
    return {"id": "call_1", "type": "function", "function": function, **fields}


@pytest.mark.parametrize(
    ("reason", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
    ],
)
def test_reasons_to_stop_are_translated(reason, stop_reason) -> None:
    assert answered(reason, content="Hi")["stop_reason"] == stop_reason


def test_a_stop_sequence_is_named_where_the_host_names_it() -> None:
    choice = {"message": {"content": "Hi"}, "finish_reason": "stop", "stop_reason": "END"}

    message = message_of(completion(choices=[choice]), ANY)

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_calls_end_a_turn_in_their_use_whatever_the_host_says() -> None:
    message = answered("stop", content=None, tool_calls=[call()])

    assert message["stop_reason"] == "tool_use"
    assert message["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}
    ]


def test_thoughts_text_and_calls_keep_their_order() -> None:
    message = answered(reasoning_content="Hm.", content="Hi", tool_calls=[call()])

    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]


def test_a_refusal_is_text_and_a_reason_to_stop() -> None:
    message = answered(content=None, refusal="No.")

    assert message["content"] == [{"type": "text", "text": "No."}]
    assert message["stop_reason"] == "refusal"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ('{"a":', {"arguments": '{"a":'}),
    ],
)
def test_arguments_are_an_object_whatever_a_host_sends(arguments, given) -> None:
    message = answered(tool_calls=[call(function={"arguments": arguments})])

    assert message["content"][0]["input"] == given


@pytest.mark.parametrize("choices", [[], [{}], [5], [{"message": 5}], 5])
def test_an_answer_without_a_message_is_empty(choices) -> None:
    assert message_of(completion(choices=choices), ANY)["content"] == []


@pytest.mark.parametrize("given", ["functions.f:0", "", None, 5, "x" * 100, "ü"])
def test_ids_of_calls_have_the_letters_that_anthropic_admits(given) -> None:
    made = tool_id(given, "answer", 0)

    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", made)
    assert made == tool_id(given, "answer", 0)


def test_ids_of_calls_stay_apart() -> None:
    assert tool_id("f.a", "answer", 0) != tool_id("f:a", "answer", 0)
    assert tool_id(None, "answer", 0) != tool_id(None, "answer", 1)
    assert tool_id("call_1", "answer", 0) == "call_1"


def test_input_excludes_what_the_cache_held() -> None:
    usage = Usage(100, 9, cached_tokens=60, cache_write_tokens=30, reasoning_tokens=4)

    assert usage_of(usage) == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
