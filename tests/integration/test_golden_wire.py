"""Streams byte by byte, as hosts send them and as callers get them: ``tests/golden/gateway``."""

import re
from pathlib import Path

import pytest

from tests.fakes.gateway import SMALL
from tests.fakes.upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "gateway"
# How many of the host's events are forwarded; usage, errors and [DONE] are the gateway's to write.
CASES = {"plain": 4, "usage": 5, "tool_calls": 8, "error_event": 2, "cut_off": 2}
MESSAGES = [{"role": "user", "content": "Grüße mich."}]
STREAM = {"model": SMALL, "messages": MESSAGES, "stream": True}
DONE = b"data: [DONE]\n\n"


def timeless(wire: bytes) -> bytes:
    """Put a fixed number in place of those that every request gets anew."""
    return re.sub(rb"(req|dec)_[0-9a-f]{32}", rb"\1_0", wire)


def pieces(wire: bytes, size: int) -> Answer:
    """Send `wire` in pieces that respect no event's end."""
    parts = [wire[start : start + size] for start in range(0, len(wire), size)]
    return Answer(tuple(parts), cuts_off=DONE.split()[1] not in wire)


@pytest.mark.parametrize("size", [17, 100_000])
@pytest.mark.parametrize("case", CASES)
async def test_a_caller_gets_the_golden_bytes(gateway, http, case, size, pytestconfig):
    upstream = (GOLDEN / f"{case}.upstream.sse").read_bytes()
    gateway.alpha.answers = [pieces(upstream, size)]
    golden = GOLDEN / f"{case}.caller.sse"
    asked = STREAM | ({"stream_options": {"include_usage": True}} if case == "usage" else {})

    response = await http.post("/v1/chat/completions", json=asked)

    received = timeless(response.content)
    if pytestconfig.getoption("update_golden", default=False):
        golden.write_bytes(received)
    assert received == golden.read_bytes()


@pytest.mark.parametrize("case", CASES)
async def test_what_is_forwarded_is_what_the_host_sent_byte_for_byte(case):
    upstream = (GOLDEN / f"{case}.upstream.sse").read_bytes()
    received = (GOLDEN / f"{case}.caller.sse").read_bytes()

    forwarded = b"".join(re.findall(rb".*?(?:\n\n|\r\n\r\n)", upstream, re.DOTALL)[: CASES[case]])
    own = received.removeprefix(forwarded)

    assert received.startswith(forwarded)
    assert own.count(b"data: ") == (2 if case == "usage" else 1)


@pytest.mark.parametrize("case", ["error_event", "cut_off"])
async def test_a_stream_that_failed_never_looks_complete(case):
    received = (GOLDEN / f"{case}.caller.sse").read_bytes()

    assert b"[DONE]" not in received
    assert b'data: {"error":{' in received
    assert b"10.0.0.7" not in received
