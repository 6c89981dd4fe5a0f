"""Chunks of chat completions become events of Responses, in OpenAI's order."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderCutOff, ProviderRateLimited
from gateway.types import Usage
from gateway.wires.responses_answer import Wanted, response_of
from gateway.wires.responses_stream import ResponsesWriter
from tests.fakes.providers import FakeStream
from tests.fakes.responses import FILES, PATCH, WEATHER, events_of
from tests.fakes.upstream import chunk

USAGE = Usage(9, 3, cached_tokens=4, reasoning_tokens=2)
SUMMARY = {"reasoning": {"effort": "low", "summary": "auto"}}


def wire(*pieces: bytes, **body: Any) -> bytes:
    writer = ResponsesWriter(Wanted(body))
    assert writer.translate is not None
    passed = b"".join(writer.translate(piece) for piece in pieces)
    return passed + writer.end(USAGE, FakeStream((), None), lambda: {"request_id": "req_0"})


def written(*pieces: bytes, **body: Any) -> list[dict[str, Any]]:
    return events_of(wire(*pieces, **body))


def part(index: Any, arguments: Any = "", name: str | None = None, **fields: Any) -> bytes:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return chunk({"tool_calls": [{"index": index, "function": function, **fields}]})


def output_in(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put items together from their deltas; every event must fit what came before."""
    items: list[dict[str, Any]] = []
    done: set[int] = set()
    for event in events:
        kind = event["type"]
        if "output_index" not in event:
            continue
        index = event["output_index"]
        assert index not in done
        if kind == "response.output_item.added":
            assert index == len(items)
            items.append({"id": event["item"]["id"], "text": ""})
            continue
        assert event.get("item_id", items[index]["id"]) == items[index]["id"]
        if kind.endswith(".delta"):
            items[index]["text"] += event["delta"]
        elif kind == "response.output_item.done":
            done.add(index)
            items[index]["item"] = event["item"]
    assert len(done) == len(items)
    assert [item["item"] for item in items] == events[-1]["response"]["output"]
    return items


def test_thoughts_are_a_summary_where_one_is_asked_for() -> None:
    chunks = [chunk({"reasoning_content": "Hm"}), chunk({"content": "4."}), chunk({}, "stop")]

    summary, text = written(*chunks, **SUMMARY), written(*chunks)

    kinds = [event["type"] for event in summary]
    assert kinds[2:8] == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    ]
    assert output_in(summary)[0]["item"]["summary"][0]["text"] == "Hm"
    assert [event["type"] for event in text][3:7] == [
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
    ]
    assert output_in(text)[0]["item"]["content"] == [{"type": "reasoning_text", "text": "Hm"}]


def test_calls_whose_arguments_come_mixed_keep_apart() -> None:
    events = written(
        part(0, "", "f", id="c0"),
        part(1, "", "g", id="c1"),
        part(0, '{"a":'),
        part(1, '{"b":1}'),
        part(0, "1}"),
        chunk({}, "tool_calls"),
    )

    first, second = output_in(events)
    assert (first["text"], second["text"]) == ('{"a":1}', '{"b":1}')
    assert (first["item"]["call_id"], second["item"]["call_id"]) == ("c0", "c1")


def test_a_call_that_is_whole_is_done_before_the_next_item_begins() -> None:
    events = written(
        part(0, '{"a":1}', "f", id="c0"), part(1, "{}", "g", id="c1"), chunk({}, "tool_calls")
    )

    kinds = [event["type"].removeprefix("response.") for event in events]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    assert kinds[2:-1] == [*call, "output_item.done", *call, "output_item.done"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    (call,) = output_in(written(part(0, "", "f", id="c0"), chunk({}, "tool_calls")))

    assert call["text"] == call["item"]["arguments"] == "{}"


def test_calls_of_custom_tools_and_of_namespaces_get_their_names_back() -> None:
    events = written(
        part(0, '{"input":', "apply_patch", id="c0"),
        part(0, '"+ a"}'),
        part(1, "{}", "mcp__files__read", id="c1"),
        chunk({}, "tool_calls"),
        tools=[WEATHER, PATCH, FILES],
    )

    custom, named = output_in(events)
    assert custom["text"] == custom["item"]["input"] == "+ a"
    assert custom["item"]["type"] == "custom_tool_call"
    kinds = [event["type"] for event in events]
    assert "response.custom_tool_call_input.done" in kinds
    assert (named["item"]["namespace"], named["item"]["name"]) == ("mcp__files", "read")


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = written(chunk({"content": "Well."}), chunk({"refusal": "No."}), chunk({}, "stop"))

    (said,) = output_in(events)
    assert [one["type"] for one in said["item"]["content"]] == ["output_text", "refusal"]
    assert {"response.refusal.delta", "response.refusal.done"} <= {e["type"] for e in events}


def test_a_refusal_of_a_whole_answer_is_a_part_too() -> None:
    message = {"content": None, "refusal": "No."}
    answer = {"id": "a", "choices": [{"message": message, "finish_reason": "stop"}]}

    (said,) = response_of(answer, Wanted({}), USAGE)["output"]

    assert said["content"] == [{"type": "refusal", "refusal": "No."}]


def test_a_last_event_without_an_empty_line_is_read() -> None:
    assert output_in(written(chunk({"content": "4"}).rstrip()))[0]["text"] == "4"


def test_log_probabilities_and_citations_come_with_the_text() -> None:
    logprobs = {"content": [{"token": "4", "logprob": -0.5, "bytes": [52], "top_logprobs": []}]}
    cited = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    choice = {"index": 0, "delta": {"content": "4", "annotations": [cited]}, "logprobs": logprobs}

    events = written(
        chunk({}, choices=[choice]), chunk({}, "stop"), include=["message.output_text.logprobs"]
    )

    (said,) = output_in(events)
    text = said["item"]["content"][0]
    assert text["logprobs"] == logprobs["content"]
    assert text["annotations"] == [
        {"type": "url_citation", "url": "https://a.example", "title": "A"}
    ]
    kinds = [event["type"] for event in events]
    assert "response.output_text.annotation.added" in kinds


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete(reason, why) -> None:
    last = written(chunk({"content": "4"}), chunk({}, reason))[-1]

    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": why}
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_usage_has_its_details() -> None:
    usage = written(chunk({"content": "4"}), chunk({}, "stop"))[-1]["response"]["usage"]

    assert usage["input_tokens_details"]["cached_tokens"] == 4
    assert usage["output_tokens_details"] == {"reasoning_tokens": 2}


def test_comments_pass_and_an_answer_without_a_chunk_is_an_empty_response() -> None:
    received = wire(b": still here\n\n", chunk({}, choices=[]), b"data: nonsense\n\n")

    assert received.startswith(b": still here\n\nevent: response.created\n")
    assert events_of(received)[-1]["response"]["output"] == []


def test_parts_of_calls_without_a_name_or_of_no_form_are_left_out() -> None:
    events = written(
        part(0, "{}"),
        chunk({"tool_calls": ["x", {"function": "y"}]}),
        chunk({}, choices=[{"delta": "z"}]),
        chunk({}, choices=["w"]),
        part(None, "{}", "f"),
        chunk({}, "tool_calls"),
    )

    (call,) = output_in(events)
    assert call["item"]["call_id"] == "call_resp_chatcmpl-1_0"


def test_arguments_after_a_call_was_done_are_left_out() -> None:
    events = written(part(0, "{}", "f", id="c"), chunk({"content": "x"}), part(0, "{}"))

    assert [item["text"] for item in output_in(events)] == ["{}", "x"]


@pytest.mark.parametrize(
    ("error", "code", "inner"),
    [
        (ProviderCutOff("cut"), "provider_cut_off", "server_error"),
        (ProviderRateLimited("slow"), "rate_limit_exceeded", "rate_limit_exceeded"),
    ],
)
def test_a_stream_that_fails_says_so_in_a_response_and_in_an_error(error, code, inner) -> None:
    writer = ResponsesWriter(Wanted({}))
    assert writer.translate is not None
    begun = writer.translate(chunk({"content": "4"}))

    events = events_of(begun + writer.fail(error, "req_0"))

    failed, told = events[-2:]
    assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", inner)
    assert (told["type"], told["code"], told["error"]["code"]) == ("error", code, code)


def test_a_stream_that_fails_before_it_began_is_an_error_alone() -> None:
    events = events_of(ResponsesWriter(Wanted({})).fail(ProviderCutOff("cut"), "req_0"))

    assert [event["type"] for event in events] == ["error"]


deltas = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=5)),
    st.builds(lambda text: {"reasoning_content": text}, st.text(max_size=5)),
    st.builds(lambda text: {"refusal": text}, st.text(min_size=1, max_size=5)),
    st.builds(
        lambda index, name, arguments: {
            "tool_calls": [
                {
                    "index": index,
                    "id": f"c{index}",
                    "function": {"name": name, "arguments": arguments},
                }
            ]
        },
        st.integers(0, 2),
        st.sampled_from(["f", "apply_patch", ""]),
        st.sampled_from(["", "{", "}", "{}", '{"input":"', '"}', "1"]),
    ),
)


@given(parts=st.lists(deltas, max_size=12))
def test_whatever_comes_in_whatever_order_its_events_fit_together(parts) -> None:
    events = written(*map(chunk, parts), chunk({}, "stop"), tools=[PATCH])

    texts = [item for item in output_in(events) if "content" in item["item"]]
    said = "".join(
        one.get("text", one.get("refusal"))
        for item in texts
        if item["item"]["type"] == "message"
        for one in item["item"]["content"]
    )
    expected = "".join(part.get("content", "") + part.get("refusal", "") for part in parts)
    assert said == expected


@given(thoughts=st.text(max_size=5), content=st.text(max_size=5), arguments=st.lists(st.text("ab")))
def test_a_stream_says_what_the_whole_answer_says(thoughts, content, arguments) -> None:
    calls = [
        {"id": f"c{i}", "function": {"name": "f", "arguments": orjson.dumps({"a": a}).decode()}}
        for i, a in enumerate(arguments)
    ]
    message = {"reasoning_content": thoughts, "content": content, "tool_calls": calls}
    head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "upstream-model"}
    answer = {**head, "choices": [{"message": message, "finish_reason": "stop"}]}

    whole = response_of(answer, Wanted({}), USAGE)
    delta = message | {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]}
    streamed = written(chunk(delta), chunk({}, "stop"))[-1]["response"]

    del streamed["waypost"]
    assert streamed == whole
