"""The few ASGI moves that the hot path needs; a framework's request object costs more than routing.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Self

from budget.in_flight import Hold
from gateway.errors import BodyTooLarge, InvalidRequest, RenderedError, UnsupportedEncoding
from gateway.inflating import ENCODINGS, NAMED, InflatedTooLong, inflate
from gateway.long_work import LongWork
from gateway.settings.server import MEMORY_PER_BODY_BYTE
from gateway.wire import MAX_PIECES, refuse_excess

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The caller closed its connection before the answer was complete."""


async def read_body(
    headers: dict[bytes, bytes],
    receive: Receive,
    max_bytes: int,
    memory: Hold,
    long_work: LongWork,
    take: Callable[[bytearray], tuple[bytes, int]] | None = None,
) -> bytes:
    """Read the request's body.

    Args:
        memory: Grows by what serving the body will take, before it is read where it says so.
        long_work: Looks through long bodies.
        take: Takes the body out of its buffer; by default one that is JSON.

    Raises:
        BodyTooLarge: It is, or says it is, longer than `max_bytes`.
        BudgetError: There is no memory for it now.
        InvalidRequest: It has more pieces than any caller needs, or cannot be inflated.
        UnsupportedEncoding: It is compressed in an unknown way.
        ClientLeft: The caller left before sending all of it.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit():
        if int(declared) > max_bytes:
            raise BodyTooLarge(f"The body is longer than {max_bytes} bytes.")
        memory.grow(MEMORY_PER_BODY_BYTE * int(declared))
    body = bytearray()  # one buffer that grows: many small ones would leave holes in the heap
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise BodyTooLarge(f"The body is longer than {max_bytes} bytes.")
        memory.grow(MEMORY_PER_BODY_BYTE * len(body))
        if not message.get("more_body", False):
            break
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        body = await _inflated(body, encoding, max_bytes, long_work)
        memory.grow(MEMORY_PER_BODY_BYTE * len(body))
    whole, needed = await long_work.read(len(body), take or _whole, body)
    if needed > memory.limit:
        raise BodyTooLarge("The body has more values than there is memory for.")
    memory.grow(needed)
    return whole


async def _inflated(
    body: bytearray, encoding: bytes, max_bytes: int, long_work: LongWork
) -> bytearray:
    """Inflate a body, in a thread: a short one may stand for one of any length."""
    name = encoding.decode("latin-1")
    if name not in ENCODINGS:
        known = ", ".join(NAMED)
        refused = UnsupportedEncoding(f"Send the body as it is, or compressed by one of: {known}.")
        refused.headers = ((b"accept-encoding", known.encode()),)
        raise refused
    try:
        return bytearray(await long_work.aside(inflate, bytes(body), max_bytes, name))
    except InflatedTooLong as error:
        raise BodyTooLarge(f"The body is longer than {max_bytes} bytes.") from error
    except ValueError as error:
        raise InvalidRequest("The body is not compressed as its headers say.") from error


def _whole(body: bytearray) -> tuple[bytes, int]:
    """Take a body out of its buffer; returns it and what it takes in memory."""
    whole = bytes(body)
    body.clear()
    refuse_excess(whole)
    return whole, memory_of(whole)


def take_opaque(body: bytearray) -> tuple[bytes, int]:
    """Take a body that is no JSON out of its buffer; returns it and what it takes in memory."""
    whole = bytes(body)
    body.clear()
    return whole, MEMORY_PER_BODY_BYTE * len(whole)


def memory_of(body: bytes) -> int:
    """Estimate what a JSON body takes while it is served.

    Text takes up to `MEMORY_PER_BODY_BYTE` for each of its bytes. Beside it, parsed values take 64
    bytes each, objects and lists more: a megabyte of ``{"a":1},`` becomes 24. Commas and brackets
    within texts are counted too, up to as many as there may be outside.
    """
    values, objects, lists = (min(body.count(sign), MAX_PIECES) for sign in (b",", b"{", b"["))
    return MEMORY_PER_BODY_BYTE * len(body) + 64 * (values + 2 * objects + lists)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, JSON, length]}
    )
    await send({"type": "http.response.body", "body": body})


async def send_rendered(send: Send, rendered: RenderedError, headers: Headers = ()) -> None:
    """Send an error that is rendered already."""
    extra = [*headers, *(h for h in rendered.headers if h[0] != JSON[0])]
    await send_whole(send, rendered.status, extra, rendered.body)


def closing(send: Send) -> Send:
    """Wrap `send` so that the connection is closed after this answer."""

    async def closing_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing_send


class LeavingClient:
    """Cancels the task that serves a request when its caller leaves.

    A context manager: inside it nobody else may call `receive`. On the way out a cancellation that
    it caused becomes `ClientLeft`.

    Args:
        grace_s: How long the task may go on without its caller, so that its use becomes known.
        is_worth_it: Whether there is any use to become known.
    """

    def __init__(
        self, receive: Receive, grace_s: float = 0.0, is_worth_it: Callable[[], bool] = lambda: True
    ) -> None:
        self._receive = receive
        self._grace_s = grace_s
        self._is_worth_it = is_worth_it
        self._has_left = False
        self._serving: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._serving = asyncio.current_task()
        self._watch = asyncio.create_task(self._wait())
        return self

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._grace_s and self._is_worth_it():
            await asyncio.sleep(self._grace_s)
        self._has_left = True
        if self._serving is not None:
            self._serving.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            # A cancelled task keeps its traceback, which leads back here: forgotten, the task is
            # freed at once; kept, 21 objects of every request would wait for the collector.
            self._watch = None
        if self._has_left and kind is asyncio.CancelledError and self._serving is not None:
            self._serving.uncancel()
            raise ClientLeft from error
