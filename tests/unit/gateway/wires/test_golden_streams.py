"""Streams of Messages and of Responses, event for event: ``tests/golden/streams``.

Each is made of the chunks of ``chat_<case>.upstream.sse``, as hosts send them. Same-wire streams
pass byte for byte, which their own tests show.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.errors import ProviderCutOff
from gateway.types import Usage
from gateway.wires.base import StreamWriter
from gateway.wires.messages_answer import Wanted as WantedMessage
from gateway.wires.messages_stream import MessagesWriter
from gateway.wires.responses_answer import Wanted as WantedResponse
from gateway.wires.responses_stream import ResponsesWriter
from tests.fakes import messages, responses
from tests.fakes.providers import FakeStream

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "streams"
WHOLE = ("plain", "tools", "parallel", "refusal", "incomplete", "filtered")
BROKEN = "broken"
WRITERS: dict[str, tuple[Callable[[], StreamWriter], Usage]] = {
    "messages": (
        lambda: MessagesWriter(
            WantedMessage({"thinking": {"type": "enabled", "budget_tokens": 1024}})
        ),
        Usage(9, 3),
    ),
    "responses": (
        lambda: ResponsesWriter(
            WantedResponse({"reasoning": {"effort": "low", "summary": "auto"}})
        ),
        Usage(9, 3, cached_tokens=4, reasoning_tokens=2),
    ),
}
ENDS = {
    "messages": {"plain": "end_turn", "tools": "tool_use", "parallel": "tool_use"}
    | {"refusal": "refusal", "incomplete": "max_tokens", "filtered": "refusal"},
    "responses": dict.fromkeys(("plain", "tools", "parallel", "refusal"), "completed")
    | {"incomplete": "incomplete", "filtered": "incomplete"},
}


def begun(wire: str, case: str, size: int) -> tuple[StreamWriter, bytes]:
    """Translate the chunks of a case, so many at once."""
    chunks = (GOLDEN / f"chat_{case}.upstream.sse").read_bytes().split(b"\n\n")[:-1]
    whole = [event + b"\n\n" for event in chunks]
    pieces = [b"".join(whole[start : start + size]) for start in range(0, len(whole), size)]
    writer = WRITERS[wire][0]()
    assert writer.translate is not None
    return writer, b"".join(map(writer.translate, pieces))


def golden(wire: str, case: str) -> Path:
    return GOLDEN / f"{wire}_{case}.forwarded.sse"


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("wire", WRITERS)
def test_a_caller_gets_the_golden_events(wire, case, size, pytestconfig) -> None:
    writer, passed = begun(wire, case, size)
    summary: Callable[[], dict[str, Any]] = lambda: {"request_id": "req_0"}  # noqa: E731

    received = passed + writer.end(WRITERS[wire][1], FakeStream((), None), summary)

    if pytestconfig.getoption("update_golden", default=False):
        golden(wire, case).write_bytes(received)
    assert received == golden(wire, case).read_bytes()


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("wire", WRITERS)
def test_a_caller_of_a_stream_that_breaks_gets_the_golden_events(wire, size, pytestconfig) -> None:
    writer, passed = begun(wire, BROKEN, size)

    received = passed + writer.fail(ProviderCutOff("The answer broke off."), "req_0")

    if pytestconfig.getoption("update_golden", default=False):
        golden(wire, BROKEN).write_bytes(received)
    assert received == golden(wire, BROKEN).read_bytes()


@pytest.mark.parametrize("case", [*WHOLE, BROKEN])
def test_the_golden_events_of_responses_are_of_openais_types(case) -> None:
    """Its published types, checked strictly; `waypost` is a field more."""
    event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

    for event in responses.events_of(golden("responses", case).read_bytes()):
        event_type.validate_python(event)


@pytest.mark.parametrize("case", [*WHOLE, BROKEN])
def test_the_golden_events_of_messages_are_of_anthropics_types(case) -> None:
    """Its published types, checked strictly, beside the two that its SDKs read without a type."""
    event_type: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)

    for event in messages.events_of(golden("messages", case).read_bytes()):
        assert event["type"] in ("error", "ping") or event_type.validate_python(event)


def test_every_event_that_a_translated_stream_can_have_is_in_a_golden_one() -> None:
    kinds = {
        wire: {
            line.removeprefix("event: ")
            for case in (*WHOLE, BROKEN)
            for line in golden(wire, case).read_text().splitlines()
            if line.startswith("event: ")
        }
        for wire in WRITERS
    }
    blocks = {f"content_block_{part}" for part in ("start", "delta", "stop")}
    ends = {"message_start", "message_delta", "message_stop"}
    assert kinds["messages"] == blocks | ends | {"ping", "error"}
    assert kinds["responses"] == {"error"} | {
        f"response.{name}"
        for name in (
            *("created", "in_progress", "completed", "incomplete", "failed"),
            *("output_item.added", "output_item.done"),
            *("content_part.added", "content_part.done"),
            *("output_text.delta", "output_text.done"),
            *("refusal.delta", "refusal.done"),
            *("function_call_arguments.delta", "function_call_arguments.done"),
            *("reasoning_summary_part.added", "reasoning_summary_part.done"),
            *("reasoning_summary_text.delta", "reasoning_summary_text.done"),
        )
    }


@pytest.mark.parametrize("case", WHOLE)
def test_the_golden_streams_end_as_their_vendors_say(case) -> None:
    *_, delta, _ = messages.events_of(golden("messages", case).read_bytes())
    *_, last = responses.events_of(golden("responses", case).read_bytes())

    assert delta["delta"]["stop_reason"] == ENDS["messages"][case]
    assert last["response"]["status"] == ENDS["responses"][case]
