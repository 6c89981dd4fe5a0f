"""Frames of AWS become server-sent events, however their bytes arrive."""

from binascii import crc32
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.aws_frames import MAX_FRAME_BYTES, FrameReader
from tests.fakes.clouds import frame, framed, framed_exception
from tests.fakes.upstream import anthropic_stream_chunks

EVENTS = [event for event in anthropic_stream_chunks("Hé!") if b"ping" not in event]
FRAMES = b"".join(framed(EVENTS))


def read(*pieces: bytes) -> bytes:
    reader = FrameReader()
    return b"".join(reader.feed(piece) for piece in pieces)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(places)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(st.integers(0, len(FRAMES)), max_size=20))
def test_pieces_of_any_size_give_the_same_events(places: list[int]) -> None:
    assert read(*cut(FRAMES, places)) == b"".join(EVENTS)


def test_half_a_frame_waits_for_the_other_half() -> None:
    reader = FrameReader()

    assert reader.feed(FRAMES[:100]) == b""
    assert reader.waiting == 100


def test_an_exception_is_an_error_event_with_its_status() -> None:
    event = read(framed_exception("throttlingException", "Slow down."))

    said = orjson.loads(event.partition(b"data: ")[2])
    assert event.startswith(b"event: error\n")
    assert said["error"] == {"type": "throttlingException", "code": 429, "message": "Slow down."}


def test_an_error_that_no_service_modelled_is_one_too() -> None:
    event = read(frame(b"", message_type="error", error_code="Boom", error_message="It broke."))

    assert orjson.loads(event.partition(b"data: ")[2])["error"]["message"] == "It broke."


def test_an_exception_that_says_nothing_readable_is_one_all_the_same() -> None:
    event = read(frame(b'"no"', exception_type="newException", message_type="exception"))

    said = orjson.loads(event.partition(b"data: ")[2])["error"]
    assert said == {"type": "newException", "code": 500, "message": ""}


def test_headers_of_every_kind_are_stepped_over() -> None:
    payload = b'{"bytes":"eyJ0eXBlIjoicGluZyJ9"}'
    others = b"\x01a\x00" + b"\x01b\x04\x00\x00\x00\x01" + b"\x01c\x06\x00\x02xy"
    plain = frame(payload, event_type="chunk", message_type="event")
    named = plain[12 : -4 - len(payload)]

    assert read(_frame_of(others + named, payload)) == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_events_of_another_kind_say_nothing() -> None:
    assert read(frame(b"{}", event_type="initial-response", message_type="event")) == b""


def test_line_ends_between_values_do_not_cut_an_event_in_two() -> None:
    payload = b'{"bytes":"eyJ0eXBlIjoKCiJwaW5nIn0="}'  # {"type":\n\n"ping"}

    event = read(frame(payload, event_type="chunk", message_type="event"))

    assert event == b'event: ping\ndata: {"type":  "ping"}\n\n'


def test_a_name_that_is_none_cannot_add_lines() -> None:
    payload = b'{"bytes":"eyJ0eXBlIjoiYVxuYiJ9"}'  # {"type":"a\nb"}

    event = read(frame(payload, event_type="chunk", message_type="event"))

    assert event.startswith(b"event: message\n")


@pytest.mark.parametrize(
    "damaged",
    [
        b"data: {}\n\ndata: [DONE]\n\n",
        FRAMES[:4] + b"\x01" + FRAMES[5:],
        FRAMES[:20] + b"\xff" + FRAMES[21:],
        frame(b"no JSON", event_type="chunk", message_type="event"),
        frame(b'{"bytes":"*"}', event_type="chunk", message_type="event"),
        frame(b"{}", event_type="chunk", message_type="event"),
        frame(b'{"bytes":"W10="}', event_type="chunk", message_type="event"),
    ],
)
def test_what_is_no_frame_ends_the_stream_with_one_error(damaged: bytes) -> None:
    events = read(damaged, FRAMES)

    assert events.count(b"event: error") == 1
    assert events.count(b"broken_stream") == 1
    assert b"message_start" not in events.partition(b"event: error")[2]


def test_a_frame_longer_than_aws_sends_is_not_waited_for() -> None:
    assert b"broken_stream" in read(_prelude(MAX_FRAME_BYTES + 1) + b"\x00" * 16)


def _prelude(size: int) -> bytes:
    sizes = size.to_bytes(4, "big") + b"\x00\x00\x00\x00"
    return sizes + crc32(sizes).to_bytes(4, "big")


def _frame_of(headers: bytes, payload: bytes) -> bytes:
    size = len(headers) + len(payload) + 16
    sizes = size.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    whole = sizes + crc32(sizes).to_bytes(4, "big") + headers + payload
    return whole + crc32(whole).to_bytes(4, "big")
