"""One connection to an upstream, and one request and its answer at a time on it: HTTP/1.1.

httptools (llhttp) parses; asyncio's transports carry bytes, with TLS or without. A deadline sets no
timer of its own: each connection has at most one, which moves on when it rings too early.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.providers.exchange import MAX_WAITING_BYTES, HttpResponse

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of status and headers; also of what comes between two pieces of a body, such as trailers."""
_WITHOUT_BODY: Final = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """A connection to one origin.

    Args:
        free: Called when an answer is whole and the connection can take another request.
        ended: Called when it has ended.

    Attributes:
        proxy_lines: What each request says to the proxy that has to be told whole addresses; None
            where there is no such proxy.
        idle_since_s: When it was last used, on the event loop's clock.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        free: Callable[["Connection"], None],
        ended: Callable[["Connection"], None],
    ) -> None:
        self.loop = loop
        self.proxy_lines: str | None = None
        self.idle_since_s = 0.0
        self._free = free
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: HttpResponse | None = None
        self._status = 0
        self._is_headless = False
        self._is_until_close = False
        self._uncounted_bytes = 0
        self._is_paused = False
        self._waiter: asyncio.Future[bool] | None = None
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._rings_s = math.inf

    @property
    def is_usable(self) -> bool:
        """Whether a request can be sent on it, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes | None, *, wants_body: bool) -> HttpResponse:
        """Send a request.

        Args:
            wants_body: False for HEAD, whose answers have none.
        """
        assert self._transport is not None  # noqa: S101
        self._answer = answer = HttpResponse(self)
        self._is_headless, self._is_until_close = not wants_body, False
        self._status = self._uncounted_bytes = 0
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)
        return answer

    async def wait(self, deadline_s: float) -> bool:
        """Wait until something happened; False where it is `deadline_s` before."""
        waiter: asyncio.Future[bool] = self.loop.create_future()
        self._waiter = waiter
        self._deadline_s = deadline_s
        if deadline_s < self._rings_s:
            self._set_timer()
        try:
            return await waiter
        finally:
            if self._waiter is waiter:  # else another request has begun meanwhile
                self._waiter = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_s = self._deadline_s
        self._timer = self.loop.call_at(self._rings_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_s = None, math.inf
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self.loop.time() >= self._deadline_s:
            waiter.set_result(False)
        else:
            self._set_timer()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    def abort(self) -> None:
        """Drop it at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close it, where no answer is under way."""
        if self._transport is not None:
            self._transport.close()

    def resume(self) -> None:
        """Read from the upstream again."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._uncounted_bytes += len(data)
        if self._answer is None:
            self.abort()  # an answer to nothing
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._break("what the upstream sent is not HTTP/1.1")
        if self._uncounted_bytes > MAX_HEAD_BYTES:
            self._break("the upstream sent too long headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer that is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended(self)
        answer, self._answer = self._answer, None
        if answer is not None:
            if self._is_until_close and exc is None:
                answer.end()
            else:
                answer.fail("the connection ended before the answer did")
        self._wake()

    def _break(self, why: str) -> None:
        if self._answer is not None:
            self._answer.fail(why)
        self.abort()
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse an answer to nothing."""
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which says nothing here."""
        if not self._status and self._answer is not None:
            headers = self._answer.headers
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Let who waits for the head go on, unless it is that of an interim answer."""
        status, answer = self._parser.get_status_code(), self._answer
        if answer is None:
            return
        if status < 200:
            answer.headers.clear()
            return
        self._status = answer.status = status
        self._uncounted_bytes = 0
        headers = answer.headers
        has_end = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "")
        self._is_until_close = not has_end and status not in _WITHOUT_BODY
        self._wake()
        if self._is_headless:
            self._finish(is_reusable=False)

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._answer is None:
            return
        self._uncounted_bytes = 0
        is_much = self._answer.add(data) > MAX_WAITING_BYTES
        if is_much and not self._is_paused and self._transport is not None and self.is_usable:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """End the answer, and let the connection take another request."""
        if self._status:
            self._finish(is_reusable=self._parser.should_keep_alive())

    def _finish(self, *, is_reusable: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.end()
        transport = self._transport
        self.resume()
        self._wake()
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()  # the rest of the request is of no use to anybody
        elif is_reusable:
            self.idle_since_s = self.loop.time()
            self._free(self)
        else:
            transport.close()
