"""An upstream that sends the chunks of a stream one by one, as a model does.

Usage: python paced.py PORT PAUSE_S. GET /requests says how many streams it has begun.
"""

import asyncio
import sys
from typing import cast

import uvloop
from answers import stream_events

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b"%x\r\n%b\r\n" % (len(event), event) for event in stream_events()]
END = b"0\r\n\r\n"


class Paced(asyncio.Protocol):
    """Serves one connection; requests come one after the other and fit in memory."""

    begun = 0

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._buffer = b""
        assert self._transport is not None
        if head.startswith(b"GET"):
            count = str(Paced.begun).encode()
            length = str(len(count)).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: " + length + b"\r\n\r\n")
            self._transport.write(count)
            return
        Paced.begun += 1
        self._transport.write(HEAD)
        self._send(0)

    def _send(self, number: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if number < len(EVENTS) - 1:
            self._transport.write(EVENTS[number])
            loop = asyncio.get_running_loop()
            loop.call_later(self._pause_s, self._send, number + 1)
        else:
            self._transport.write(EVENTS[number] + END)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(port: int, pause_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Paced(pause_s), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
