"""Chunks of chat completions become events of Messages, in Anthropic's order."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderCutOff
from gateway.types import Usage
from gateway.wires.messages_answer import Wanted
from gateway.wires.messages_stream import MessagesWriter
from tests.fakes.messages import events_of
from tests.fakes.providers import FakeStream
from tests.fakes.upstream import chunk

THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
USAGE = Usage(9, 3)


def written(*pieces: bytes, **body: Any) -> list[dict[str, Any]]:
    return events_of(wire(*pieces, **body))


def wire(*pieces: bytes, **body: Any) -> bytes:
    writer = MessagesWriter(Wanted(body))
    assert writer.translate is not None
    passed = b"".join(writer.translate(piece) for piece in pieces)
    return passed + writer.end(USAGE, FakeStream((), None), lambda: {"request_id": "req_0"})


def part(index: Any, arguments: Any = "", name: str | None = None, **fields: Any) -> bytes:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return chunk({"tool_calls": [{"index": index, "function": function, **fields}]})


def message_in(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put a message together as Anthropic's SDKs do; every event must fit what came before."""
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append({**event["content_block"], "json": ""})
            is_open = True
            continue
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            continue
        delta, block = event["delta"], blocks[-1]
        kind = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}
        assert delta["type"] == kind[block["type"]]
        name = "partial_json" if block["type"] == "tool_use" else block["type"]
        block["json" if name == "partial_json" else name] += delta[name]
    assert not is_open
    return blocks


def test_thoughts_come_before_the_text_in_a_block_of_their_own() -> None:
    thought = [chunk({"reasoning_content": text}) for text in ("Let ", "me see.")]

    blocks = message_in(written(*thought, chunk({"content": "4."}), chunk({}, "stop"), **THINKING))

    assert [(block["type"], block[block["type"]]) for block in blocks] == [
        ("thinking", "Let me see."),
        ("text", "4."),
    ]


def test_thoughts_that_were_not_asked_for_are_left_out() -> None:
    events = written(chunk({"reasoning": "Hm."}), chunk({"content": "4."}), chunk({}, "stop"))

    assert [block["type"] for block in message_in(events)] == ["text"]


def test_comments_become_pings_once_the_message_has_begun() -> None:
    keepalive = b": still here\n\n"

    received = wire(keepalive, chunk({"content": "4."}), keepalive, chunk({}, "stop"))

    assert received.startswith(keepalive + b"event: message_start\n")
    assert received.count(b'event: ping\ndata: {"type":"ping"}\n\n') == 1


def test_an_answer_without_a_chunk_is_an_empty_message() -> None:
    assert message_in(written()) == []


def test_calls_in_a_row_are_streamed_as_they_come() -> None:
    writer = MessagesWriter(Wanted({}))
    assert writer.translate is not None
    writer.translate(part(0, '{"a":', "f", id="c0"))
    assert b'"partial_json":"1}"' in writer.translate(part(0, "1}"))
    later = writer.translate(part(1, '{"b":2}', "g", id="c1"))

    assert b'"name":"g"' in later
    assert b"content_block_stop" in later


def test_text_amid_the_arguments_of_a_call_follows_it() -> None:
    blocks = message_in(
        written(
            part(0, '{"a":', "f", id="c0"),
            chunk({"content": "Meanwhile"}),
            part(0, "1}"),
            chunk({}, "tool_calls"),
        )
    )

    assert [block["type"] for block in blocks] == ["tool_use", "text"]
    assert blocks[0]["json"] == '{"a":1}'
    assert blocks[1]["text"] == "Meanwhile"


def test_a_last_event_may_lack_its_blank_line() -> None:
    assert message_in(written(chunk({"content": "4."})[:-1], chunk({}, "stop")[:-1]))


@pytest.mark.parametrize(
    "piece",
    [
        b"data: 5\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"choices":[5]}\n\n',
        chunk({"tool_calls": [5]}),
        chunk({"tool_calls": [{"index": "x", "function": 5}]}),
        b'data: {"choices":[{"delta":5}]}\n\n',
        b"event: strange\n\n",
    ],
)
def test_strange_chunks_do_not_break_a_stream(piece) -> None:
    message_in([e for e in written(piece, chunk({}, "stop")) if e["type"] != "ping"])


@pytest.mark.parametrize(
    ("reason", "fields", "stop"),
    [
        ("length", {}, {"stop_reason": "max_tokens", "stop_sequence": None}),
        ("stop", {"stop_reason": "END"}, {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
    ],
)
def test_says_why_it_stopped_and_what_is_charged(reason, fields, stop) -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": reason, **fields}
    last = b"data: " + orjson.dumps({"id": "c", "choices": [choice]}) + b"\n\n"

    *_, delta, ended = written(chunk({"content": "4."}), last, stop_sequences=["END"])

    assert delta["delta"] == stop
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (9, 3)
    assert ended["waypost"] == {"request_id": "req_0"}


def test_a_refusal_is_a_reason_to_stop() -> None:
    *_, delta, _ = written(chunk({"refusal": "No."}), chunk({}, "stop"))

    assert delta["delta"]["stop_reason"] == "refusal"


def test_an_answer_that_fails_ends_in_an_error() -> None:
    failed = events_of(MessagesWriter(Wanted({})).fail(ProviderCutOff("it broke"), "req_0"))

    assert [event["type"] for event in failed] == ["error"]
    assert failed[0]["error"]["type"] == "api_error"
    assert failed[0]["error"]["message"] == "it broke"
    assert failed[0]["request_id"] == "req_0"


@st.composite
def mixed(draw: st.DrawFn) -> list[tuple[Any, str]]:
    """Text, thoughts, and the arguments of several calls in pieces, all mixed."""
    texts = st.lists(st.text(max_size=3), max_size=3)
    kinds = ("text", "thought")
    sent: list[list[tuple[Any, str]]] = [[(kind, text) for text in draw(texts)] for kind in kinds]
    for index in range(draw(st.integers(0, 3))):
        words = st.text(st.sampled_from('a"\\{}[]'), max_size=3)
        given = draw(st.dictionaries(words, st.lists(words, max_size=2), max_size=2))
        text = orjson.dumps(given).decode()
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        ends = zip([0, *cuts], [*cuts, len(text)], strict=True)
        sent.append([(index, text[start:end]) for start, end in ends])
    order = draw(st.permutations([i for i, some in enumerate(sent) for _ in some]))
    return [sent[i].pop(0) for i in order]


@given(mixed())
def test_whatever_comes_mixed_nothing_is_lost_and_blocks_follow_each_other(sent) -> None:
    said: dict[Any, str] = {"text": "", "thought": ""}
    fields = {"text": "content", "thought": "reasoning_content"}
    chunks = []
    for kind, text in sent:
        name = None if kind in said else "f"
        said[kind] = said.get(kind, "") + text
        is_call = kind not in fields
        chunks.append(
            part(kind, text, name, id=f"c{kind}") if is_call else chunk({fields[kind]: text})
        )

    blocks = message_in(written(*chunks, chunk({}, "stop"), **THINKING))

    found = {block["id"]: block["json"] for block in blocks if block["type"] == "tool_use"}
    assert found == {f"c{kind}": text for kind, text in said.items() if kind not in fields}
    assert "".join(b["text"] for b in blocks if b["type"] == "text") == said["text"]
    assert "".join(b["thinking"] for b in blocks if b["type"] == "thinking") == said["thought"]
