from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderCutOff, ProviderUnavailable
from gateway.providers import sse
from gateway.providers.anthropic_stream import AnthropicTap
from gateway.types import Usage
from tests.fakes.upstream import anthropic_event, anthropic_message, anthropic_stream_chunks

START = anthropic_event(
    "message_start",
    message=anthropic_message(
        content=[],
        usage={"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 100},
    ),
)
STOP = anthropic_event("message_stop")


def delta(index: int, **fields: Any) -> bytes:
    return anthropic_event("content_block_delta", index=index, delta=fields)


def block(index: int, **fields: Any) -> bytes:
    return anthropic_event("content_block_start", index=index, content_block=fields)


def end(stop_reason: str | None = "end_turn", **usage: int) -> bytes:
    return anthropic_event(
        "message_delta", delta={"stop_reason": stop_reason}, usage={"output_tokens": 3, **usage}
    )


def played(*pieces: bytes) -> tuple[AnthropicTap, bytes]:
    tap = AnthropicTap("acme", 17)
    forwarded = b"".join([tap.feed(piece) for piece in pieces])
    return tap, forwarded + tap.finish()


def deltas(forwarded: bytes) -> list[Any]:
    events = [e for e in forwarded.split(b"\n\n") if e.startswith(b"data: ")]
    return [orjson.loads(e[6:])["choices"][0]["delta"] for e in events]


def test_translates_a_stream_of_text() -> None:
    tap, forwarded = played(*anthropic_stream_chunks("Hi"))
    assert deltas(forwarded) == [
        {"role": "assistant", "content": ""},
        {"content": "H"},
        {"content": "i"},
        {},
    ]
    assert b": ping\n\n" in forwarded
    assert tap.head == {"id": "msg_1", "created": 17, "model": "claude-up"}
    assert tap.usage == Usage(9, 3)
    assert tap.finish_reason == "stop"
    assert tap.is_done
    assert tap.error is None
    assert tap.forwarded_events == 5


def test_each_chunk_is_whole_in_openais_form() -> None:
    _, forwarded = played(START)
    assert orjson.loads(forwarded.split(b"\n\n")[0][6:]) == {
        "id": "msg_1",
        "object": "chat.completion.chunk",
        "created": 17,
        "model": "claude-up",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }


def test_a_later_report_of_no_prompt_does_not_take_back_the_first() -> None:
    tap, _ = played(START, end(input_tokens=0), STOP)
    assert tap.usage == Usage(109, 3, cached_tokens=100)


def test_withholds_usage_and_keeps_it_as_a_chunk() -> None:
    tap, forwarded = played(START, end(cache_creation_input_tokens=5), STOP)
    assert b'"usage"' not in forwarded
    assert tap.usage == Usage(114, 3, cached_tokens=100, cache_write_tokens=5)
    assert tap.usage_event is not None
    assert tap.usage_event["choices"] == []
    assert tap.usage_event["id"] == "msg_1"
    assert tap.usage_event["usage"]["prompt_tokens"] == 114


@pytest.mark.parametrize("later", [{}, {"cache_creation": {}}, {"cache_creation": 0}])
def test_no_later_report_takes_back_what_the_cache_keeps_for_an_hour(later: dict[str, Any]) -> None:
    start = anthropic_event(
        "message_start",
        message=anthropic_message(
            content=[],
            usage={
                "input_tokens": 9,
                "output_tokens": 1,
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_1h_input_tokens": 7},
            },
        ),
    )
    tap, _ = played(start, end(**later), STOP)
    assert tap.usage == Usage(16, 3, cache_write_tokens=7, cache_write_1h_tokens=7)


def test_translates_tool_calls_piece_by_piece() -> None:
    tap, forwarded = played(
        START,
        block(0, type="text", text="Let me see."),
        block(1, type="tool_use", id="t1", name="weather", input={}),
        delta(1, type="input_json_delta", partial_json=""),
        delta(1, type="input_json_delta", partial_json='{"city":'),
        delta(1, type="input_json_delta", partial_json='"Oslo"}'),
        anthropic_event("content_block_stop", index=1),
        block(2, type="tool_use", id="t2", name="now", input={}),
        anthropic_event("content_block_stop", index=2),
        end("tool_use"),
        STOP,
    )
    assert deltas(forwarded)[1:-1] == [
        {"content": "Let me see."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "t2",
                    "type": "function",
                    "function": {"name": "now", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]
    assert tap.finish_reason == "tool_calls"


def test_passes_thoughts_on_and_drops_signatures_and_unknown_events() -> None:
    _, forwarded = played(
        START,
        block(0, type="thinking", thinking=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="thinking_delta", thinking=""),
        delta(0, type="signature_delta", signature="x"),
        delta(5, type="input_json_delta", partial_json="{"),
        anthropic_event("something_new", x=1),
        b": a comment\n\n",
        end(None),
        end(),
        STOP,
    )
    assert deltas(forwarded)[1:-1] == [{"reasoning_content": "Hm."}]


WHOLE = b"".join(anthropic_stream_chunks("Hello!"))


@given(st.lists(st.integers(0, len(WHOLE)), max_size=30))
def test_any_split_of_the_stream_forwards_the_same_bytes(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(WHOLE)]
    assert played(*[WHOLE[a:b] for a, b in pairwise(marks)])[1] == played(WHOLE)[1]


@given(st.binary(max_size=200))
def test_takes_any_bytes_without_failing(junk: bytes) -> None:
    tap, _ = played(junk)
    assert tap.error is not None


def test_an_end_without_a_stop_reason_is_cut_off() -> None:
    tap, _ = played(START, delta(0, type="text_delta", text="a"))
    assert isinstance(tap.error, ProviderCutOff)


def test_a_stop_reason_is_enough() -> None:
    tap, _ = played(START, end())
    assert tap.error is None
    assert tap.is_done
    assert tap.usage_event is not None


def test_the_last_event_may_lack_its_blank_line() -> None:
    tap, _ = played(START, end(), STOP.rstrip())
    assert tap.is_done
    assert tap.error is None


def test_an_error_event_ends_the_stream_after_what_came_before() -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    tap, forwarded = played(
        START + delta(0, type="text_delta", text="a") + anthropic_event("error", error=error),
        delta(0, type="text_delta", text="b"),
    )
    assert deltas(forwarded) == [{"role": "assistant", "content": ""}, {"content": "a"}]
    assert isinstance(tap.error, ProviderUnavailable)
    assert tap.error.upstream_status == 529


@pytest.mark.parametrize(
    "broken",
    [
        anthropic_event("content_block_delta", index=0),
        anthropic_event("content_block_delta", index=0, delta={"type": "text_delta"}),
        anthropic_event("message_start", message=None),
        block(0, type="tool_use"),
    ],
)
def test_a_malformed_event_is_the_providers_failure(broken: bytes) -> None:
    tap, _ = played(START, broken)
    assert isinstance(tap.error, ProviderUnavailable)


def test_an_endless_event_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    tap = AnthropicTap("acme", 17)
    tap.feed(b"data: " + b"x" * 200)
    assert isinstance(tap.error, ProviderCutOff)


def test_without_any_usage_there_is_no_usage_chunk() -> None:
    bare = {"id": "m", "model": "c"}
    finished = anthropic_event("message_delta", delta={"stop_reason": "end_turn"})
    tap, _ = played(anthropic_event("message_start", message=bare), finished, STOP)
    assert tap.usage is None
    assert tap.usage_event is None


def test_a_stream_without_its_opening_has_no_identity() -> None:
    tap, _ = played(end(), STOP)
    assert tap.usage_event is not None
    assert tap.usage_event["id"] is None


@pytest.mark.parametrize("odd", ["9", [9], 9.5, None])
def test_a_count_that_is_no_number_leaves_the_known_one(odd) -> None:
    tap, _ = played(START, end(input_tokens=odd), STOP)
    assert tap.usage == Usage(109, 3, cached_tokens=100)
