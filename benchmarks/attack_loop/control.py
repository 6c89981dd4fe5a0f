"""Answers as `/health` does and does nothing else: how fast can any process answer on this machine?

Usage: python -m benchmarks.attack_loop.control; tells its port, and serves until its input ends.
"""

import asyncio
import sys
from typing import cast

from benchmarks.attack_loop.probe import OK
from gateway.server.serving import loop_factory

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(OK), OK)


class Control(asyncio.Protocol):
    """Answers whatever arrives; a question is short enough to arrive in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where answers go."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        del data
        self._transport.write(ANSWER)


async def main() -> None:
    """Serve until the input ends; tell the port first."""
    server = await asyncio.get_running_loop().create_server(Control, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
