"""An upstream's answer over HTTP, as it comes in, and how it can fail."""

import asyncio
from typing import Final, Protocol

from budget.errors import BudgetError
from budget.in_flight import Hold
from gateway.inflating import ENCODINGS, Inflater, inflater_of
from gateway.settings.server import MEMORY_PER_BODY_BYTE

MAX_WAITING_BYTES: Final = 256 * 1024
"""Of a body that nobody has read yet; beyond it the upstream is not read from."""
DRAIN_S: Final = 0.25
"""How long a finished stream may take to end its transfer before its connection is given up."""
MAX_LOOKS: Final = 32
"""At what a connection that is dropped still brings, up to 256 KB each."""


class HttpFailure(Exception):
    """The exchange with the upstream failed below HTTP."""


class ConnectFailed(HttpFailure):
    """No connection was made, so the upstream has seen nothing."""


class NotTrusted(ConnectFailed):
    """The upstream has a certificate that is not trusted here."""


class ConnectionBroken(HttpFailure):
    """The connection ended, or what it carried was not HTTP."""


class TimedOut(HttpFailure):
    """The upstream was silent for too long."""


class BodyTooLong(HttpFailure):
    """The upstream's body is longer than the gateway accepts."""


class Carrier(Protocol):
    """The connection that an answer comes in on."""

    loop: asyncio.AbstractEventLoop

    async def wait(self, deadline_s: float) -> bool:
        """Wait until something happened; False where it is `deadline_s` before."""
        ...

    def abort(self) -> None:
        """Drop it at once."""
        ...

    def resume(self) -> None:
        """Read from the upstream again."""
        ...


class HttpResponse:
    """An answer to one request; made when the request is sent.

    Attributes:
        status: HTTP status code; 0 until the head is in.
        headers: By name in lower case; of headers of one name the first.
        encoding: In which the body is compressed; `next_chunk` inflates it, `read` does not.
    """

    __slots__ = (
        "_connection",
        "_failure",
        "_inflater",
        "_is_over",
        "_pieces",
        "_waiting_bytes",
        "encoding",
        "headers",
        "status",
    )

    def __init__(self, connection: Carrier) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.encoding: str | None = None
        self._connection = connection
        self._inflater: Inflater | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._is_over = False
        self._failure: str | None = None

    @property
    def is_json(self) -> bool:
        """The body says that it is JSON, so it is no stream."""
        return self.headers.get("content-type", "").startswith("application/json")

    async def head(self, deadline_s: float) -> None:
        """Wait for status and headers.

        Raises:
            ConnectionBroken: The connection ended before.
            TimedOut: They did not come by then, on the event loop's clock.
        """
        while not self.status:
            if self._failure is not None:
                raise ConnectionBroken(self._failure)
            if not await self._connection.wait(deadline_s):
                raise TimedOut("no answer in time")
        encoding = self.headers.get("content-encoding")
        if encoding is not None and (named := encoding.strip().lower()) in ENCODINGS:
            self.encoding, self._inflater = named, inflater_of(named)

    async def read(self, max_bytes: int, timeout_s: float, memory: Hold | None = None) -> bytes:
        """Read the rest of the body.

        Args:
            memory: Grows by what a body takes that did not come with its headers.

        Raises:
            BudgetError: There is no memory for it; the connection is closed.
            BodyTooLong: It is longer than `max_bytes`; the connection is closed.
            ConnectionBroken: It ended early.
            TimedOut: It took longer than `timeout_s`.
        """
        if self._is_over and not self._pieces:
            return b""
        if self._is_over and len(self._pieces) == 1:  # a short body comes with its headers
            self._refuse_longer(self._waiting_bytes, max_bytes)
            return self._take()
        body = bytearray()  # as in `gateway.endpoints.asgi.read_body`
        before = 0 if memory is None else memory.amount
        deadline_s = self._connection.loop.time() + timeout_s
        try:
            while chunk := await self._next(deadline_s):
                body += chunk
                self._refuse_longer(len(body), max_bytes)
                if memory is not None:
                    memory.grow(before + MEMORY_PER_BODY_BYTE * len(body))
        except (BudgetError, TimedOut):
            self.close()
            raise
        return bytes(body)

    def _refuse_longer(self, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            self.close()
            raise BodyTooLong(f"the body is longer than {max_bytes} bytes")

    async def next_chunk(self, timeout_s: float) -> bytes:
        """Return the bytes that have come in, waiting for some; empty at the end of the body.

        Raises:
            ConnectionBroken: The body ended before its declared end.
            TimedOut: Nothing came for `timeout_s`.
        """
        if self._pieces and self._inflater is None:
            return self._take()
        deadline_s = self._connection.loop.time() + timeout_s
        if self._inflater is None:
            return await self._next(deadline_s)
        while True:
            try:
                piece = self._inflater.take()
            except ValueError as error:
                raise ConnectionBroken("the body cannot be inflated") from error
            if piece:
                return piece
            data = await self._next(deadline_s)
            if not data:
                return b""
            self._inflater.give(data)

    async def leave(self) -> bytes:
        """Drop the connection; return what has come in and was not read."""
        arrived = b""
        for _ in range(MAX_LOOKS):
            # In one turn of the event loop it finds that there is something, in the next it reads.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not self._pieces:
                break
            arrived += self._take()
        self.close()
        return arrived

    async def drain(self) -> None:
        """Let a body whose content is complete end, so that its connection can be used again."""
        try:
            while await self.next_chunk(DRAIN_S):
                pass
        except HttpFailure:
            self.close()

    def close(self) -> None:
        """Drop the connection unless the body came to its end."""
        if not self._is_over:
            self.fail("the answer was given up")
            self._connection.abort()

    async def _next(self, deadline_s: float) -> bytes:
        while not self._pieces:
            if self._is_over:
                return b""
            if self._failure is not None:
                raise ConnectionBroken(self._failure)
            if not await self._connection.wait(deadline_s):
                raise TimedOut("nothing arrived in time")
        return self._take()

    def _take(self) -> bytes:
        pieces = self._pieces
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._waiting_bytes > MAX_WAITING_BYTES and not self._is_over:
            self._connection.resume()
        self._waiting_bytes = 0
        return taken

    def add(self, data: bytes) -> int:
        """Add a piece of the body; return how much of it waits to be read."""
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        return self._waiting_bytes

    def end(self) -> None:
        """Note that the body is whole."""
        self._is_over = True

    def fail(self, why: str) -> None:
        """Note that no more of it will come."""
        self._failure = self._failure or why
