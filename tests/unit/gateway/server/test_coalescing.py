import asyncio

import pytest

from gateway.server.coalescing import COALESCED_BYTES, CoalescingTransport


class Wire(asyncio.Transport):
    """Notes what reaches the socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent: list[bytes] = []
        self.is_closed = False
        self.reads = True

    def write(self, data) -> None:
        self.sent.append(bytes(data))

    def write_eof(self) -> None:
        self.sent.append(b"<end>")

    def abort(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 7

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def transport(wire) -> CoalescingTransport:
    return CoalescingTransport(wire, asyncio.get_running_loop())


async def test_head_and_body_leave_in_one_piece(wire, transport):
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    assert wire.sent == [b"head body"]


async def test_a_long_body_is_not_copied_to_join_its_head(wire, transport):
    body = b"x" * COALESCED_BYTES
    transport.write(b"head ")
    transport.write(body)
    await asyncio.sleep(0)
    assert wire.sent == [b"head ", body]


async def test_what_is_written_later_leaves_later(wire, transport):
    for data in (b"first", b"second"):
        transport.write(data)
        await asyncio.sleep(0)
    assert wire.sent == [b"first", b"second"]


async def test_closing_sends_what_waits_first(wire, transport):
    transport.write(b"last words")
    transport.close()
    assert (wire.sent, transport.is_closing()) == ([b"last words"], True)
    await asyncio.sleep(0)
    assert wire.sent == [b"last words"]


async def test_what_waits_is_sent_before_the_end(wire, transport):
    transport.write(b"last words")
    transport.write_eof()
    assert wire.sent == [b"last words", b"<end>"]


async def test_what_waits_is_lost_where_the_connection_is_dropped(wire, transport):
    transport.write(b"never read")
    transport.abort()
    await asyncio.sleep(0)
    assert (wire.sent, wire.is_closed) == ([], True)


async def test_nothing_is_written_to_a_connection_that_broke_meanwhile(wire, transport):
    transport.write(b"answer")
    wire.is_closed = True
    await asyncio.sleep(0)
    assert wire.sent == []


async def test_passes_on_what_uvicorn_asks_of_a_transport(wire, transport):
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)
    assert transport.get_write_buffer_size() == 7
    transport.pause_reading()
    assert not wire.reads
    transport.resume_reading()
    assert wire.reads


async def test_nothing_is_written_after_the_end(wire, transport):
    transport.write(b"refused")
    transport.write_eof()
    transport.write(b"an answer that came too late")
    await asyncio.sleep(0)
    assert wire.sent == [b"refused", b"<end>"]
