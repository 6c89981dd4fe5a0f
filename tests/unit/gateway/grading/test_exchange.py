"""Reading what was answered, in one piece or as a stream, of either wire."""

import orjson
import pytest

from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.grading.exchange import MAX_TEXT_CHARS, GivenAnswer, ToolCall, answer_in

CALL = ToolCall("weather", '{"city": "Rome"}')


def streamed(*events: object, max_bytes: int = 10_000) -> GivenAnswer:
    forwarded = ForwardedEvents(max_bytes)
    for event in events:
        forwarded.add(b"data: " + orjson.dumps(event) + b"\n\n")
    return answer_in(forwarded, "stop")


def delta(**said: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": said}]}


def test_a_whole_answer():
    function = {"name": CALL.name, "arguments": CALL.arguments}
    message = {"content": "Let me see.", "tool_calls": [{"id": "1", "function": function}]}

    answer = answer_in({"choices": [{"index": 0, "message": message}]}, "tool_calls")

    assert answer == GivenAnswer("Let me see.", (CALL,), "tool_calls")


def test_a_stream_in_openai_s_form():
    answer = streamed(
        delta(role="assistant", content="Let me "),
        delta(content="see.", reasoning_content="Rome is a city."),
        delta(tool_calls=[{"index": 0, "id": "1", "function": {"name": "weather"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '"Rome"}'}}]),
    )

    assert answer == GivenAnswer("Let me see.", (CALL,), "stop")


def test_a_stream_in_anthropic_s_form():
    answer = streamed(
        {"type": "message_start", "message": {"id": "msg_1"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hm."}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "1", "name": "weather", "input": {}},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": part},
            }
            for part in ('{"city": ', '"Rome"}')
        ),
    )

    assert answer == GivenAnswer("Hm.", (CALL,), "stop")


def test_what_was_not_kept_whole_says_so():
    assert not streamed(*[delta(content="word ")] * 99, max_bytes=500).is_whole
    assert streamed(delta(content="x" * MAX_TEXT_CHARS), max_bytes=10**6).is_whole
    long = answer_in({"choices": [{"message": {"content": "x" * (MAX_TEXT_CHARS + 1)}}]}, "stop")
    assert not long.is_whole
    two = [{"index": n, "message": {"content": "yes"}} for n in range(2)]
    assert answer_in({"choices": two}, "stop") == GivenAnswer("yes", (), "stop", is_whole=False)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": None},
        {"choices": ["x", {"message": "x"}, {"delta": {"content": 7, "tool_calls": [1, {}]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": {"name": 1, "arguments": {}}}]}}]},
        {"type": "content_block_delta", "index": "0", "delta": {"partial_json": "x"}},
        {"type": "content_block_start", "index": 0, "content_block": "x"},
    ],
)
def test_a_malformed_answer_says_nothing(body):
    assert answer_in(body, None) == GivenAnswer("")
