"""What a connection may cost before anybody knows whose it is: its headers, its time, its place.

uvicorn waits for ever for headers, bodies and slow readers, and reads headers of any length. Why
this and not another server: docs/decisions/connections.md.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from ipaddress import IPv6Address
from math import inf
from typing import Any, Final

from gateway.server.coalescing import CoalescingHttpProtocol
from gateway.settings.config import ServerSettings
from gateway.telemetry.connection_counts import ConnectionCounts

MAX_HEADERS: Final = 200
MIN_BODY_BYTES_PER_S: Final = 500
SWEEP_S: Final = 1.0
MAX_LOOKS: Final = 16
"""How often all connections are looked at between two sweeps, to find an idle one."""
LINGER_S: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024
"""What is still read from a refused caller: who closes earlier may not get its answer across."""
ANSWER: Final = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n%s\r\n"
HEADERS_TOO_LARGE: Final = b"431 Request Header Fields Too Large"
RETRY: Final = b"retry-after: 1\r\n"


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    SERVING = auto()
    WRITING = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long each may wait for its peer."""

    max_connections: int
    max_per_address: int | None
    max_header_bytes: int
    patience_s: dict[Phase, float]

    @classmethod
    def of(
        cls, server: ServerSettings, max_connections: int, max_share_of_files: float
    ) -> "ConnectionLimits":
        """Read them from the settings, and from how many files this process may open."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        share = max_connections if files == resource.RLIM_INFINITY else files * max_share_of_files
        return cls(
            min(max_connections, int(share)),
            server.max_connections_per_address,
            server.max_header_bytes,
            {
                Phase.IDLE: server.idle_timeout_s,
                Phase.HEAD: server.header_timeout_s,
                Phase.BODY: server.body_timeout_s,
                Phase.SERVING: inf,
                Phase.WRITING: server.write_timeout_s,
                Phase.REFUSED: LINGER_S,
            },
        )


@dataclass(slots=True)
class Connections:
    """The open connections of one port.

    Attributes:
        now_s: A clock that stands still while this process does: what has arrived meanwhile is not
            read yet, and that is not the callers' fault.
    """

    limits: ConnectionLimits
    counts: ConnectionCounts = field(default_factory=ConnectionCounts)
    now_s: float = 0.0
    _open: set["LimitedHttpProtocol"] = field(default_factory=set)
    _by_address: Counter[str | bytes] = field(default_factory=Counter)
    _idle: "list[LimitedHttpProtocol]" = field(default_factory=list)
    _looks_left: int = MAX_LOOKS
    _swept_s: float | None = None

    def count_in(self, counts: ConnectionCounts) -> None:
        """Keep the counts where others see them."""
        counts.limit = self.limits.max_connections
        self.counts = counts

    def sweep(self, clock_s: float) -> None:
        """Hang up on whoever has kept us waiting; to be called about every `SWEEP_S`."""
        if self._swept_s is not None:
            self.now_s += min(clock_s - self._swept_s, 2 * SWEEP_S)
        self._swept_s = clock_s
        self._idle, self._looks_left = [], MAX_LOOKS
        for connection in list(self._open):
            connection.check()

    def admit(self, connection: "LimitedHttpProtocol") -> bytes | None:
        """Count a new connection; returns the status to turn it away with, if it is."""
        most = self.limits.max_per_address
        if most is not None and self._by_address[connection.address] >= most:
            refusal = b"429 Too Many Requests"
        elif len(self._open) >= self.limits.max_connections and not self._close_idlest():
            refusal = b"503 Service Unavailable"
        else:
            refusal = None
        if refusal is not None:
            self.counts.refuse(refusal)
        self._open.add(connection)
        self.counts.open = len(self._open)
        self._by_address[connection.address] += 1
        return refusal

    def forget(self, connection: "LimitedHttpProtocol") -> None:
        """Note that a connection is closed."""
        self._open.discard(connection)
        self.counts.open = len(self._open)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def _close_idlest(self) -> bool:
        """Close the connection that has been idle longest; False if none is.

        One look at all of them serves many newcomers.
        """
        while self._idle or self._looks_left:
            if not self._idle:
                self._looks_left -= 1
                idle = (each for each in self._open if each.is_idle)
                self._idle = sorted(idle, key=lambda each: each.since_s, reverse=True)
                if not self._idle:
                    return False
            connection = self._idle.pop()
            if connection.is_idle:
                connection.transport.close()
                return True
        return False


class LimitedHttpProtocol(CoalescingHttpProtocol):
    """uvicorn's HTTP protocol within limits.

    A request costs it a few additions; time is looked at by the sweep alone. What the connection
    waits for is compared with what it waited for at the sweep before: where that differs, it moves.
    """

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.address: str | bytes = ""
        self.since_s = connections.now_s
        self._connections = connections
        self._limits = connections.limits
        self._requests = 0
        self._body_bytes = 0
        self._other_bytes = 0
        self._is_refused = False
        self._seen: tuple[Phase, int, int] = (Phase.IDLE, 0, 0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a connection, or turn it away."""
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else ""
        refusal = self._connections.admit(self)
        if refusal is not None:
            self._answer(refusal, RETRY)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and what leads back to it, so that it is freed at once."""
        self._connections.forget(self)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the connection was reset
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Read on, unless there are too many bytes that are no body: headers, trailers, chunks."""
        self._other_bytes += len(data)
        if self._is_refused:
            if self._other_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        if self._other_bytes > self._limits.max_header_bytes and not self.transport.is_closing():
            self._refuse(HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Serve the request, if its headers are within the limits."""
        self._requests += 1
        is_long = self._other_bytes > self._limits.max_header_bytes and (
            _length(self.url, self.headers) > self._limits.max_header_bytes
        )
        self._other_bytes = 0
        if is_long or len(self.headers) > MAX_HEADERS:
            if self.app is not _refuse_headers:  # once, however many requests came together
                self._connections.counts.refuse(HEADERS_TOO_LARGE)
            self.app = _refuse_headers
        app = self.app
        if self.expect_100_continue:
            self.app = partial(_serve_expecting, app)
        super().on_headers_complete()
        self.app = app

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._other_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    @property
    def is_idle(self) -> bool:
        """No request is being read or served."""
        return self._state()[0] in {Phase.IDLE, Phase.HEAD} and not self.transport.is_closing()

    def check(self) -> None:
        """Hang up if nothing has moved for too long."""
        state = self._state()
        if state != self._seen:
            self._seen, self.since_s = state, self._connections.now_s
        elif self._connections.now_s - self.since_s >= self._limits.patience_s[state[0]]:
            self._give_up(state[0])

    def _state(self) -> tuple[Phase, int, int]:
        """Say what is waited for, with numbers that change whenever it moves."""
        if self._is_refused:
            return Phase.REFUSED, 0, 0
        if self.flow.write_paused or self.transport.is_closing():
            return Phase.WRITING, self._requests, self.transport.get_write_buffer_size()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body or self.flow.read_paused:
                return Phase.SERVING, self._requests, 0
            quota = MIN_BODY_BYTES_PER_S * self._limits.patience_s[Phase.BODY]
            return Phase.BODY, self._requests, int(self._body_bytes // quota)
        has_begun = self.scope is not None and "method" not in self.scope
        return (Phase.HEAD if has_begun else Phase.IDLE), self._requests, 0

    def _give_up(self, phase: Phase) -> None:
        if phase in {Phase.WRITING, Phase.REFUSED}:
            self.transport.abort()
        elif phase is Phase.IDLE:
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout")

    @property
    def _is_answering(self) -> bool:
        """What is written now would be taken for the answer to an earlier request, or its part."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return bool(self.pipeline) or cycle.response_started or not cycle.more_body

    def _refuse(self, status: bytes) -> None:
        self._connections.counts.refuse(status)
        if self._is_answering:
            self.transport.abort()
            return
        self._is_refused = True
        self._answer(status)
        self.transport.write_eof()

    def _answer(self, status: bytes, headers: bytes = b"") -> None:
        self.transport.write(ANSWER % (status, headers))


def network_of(address: str) -> str | bytes:
    """Return what stands for one caller: an IPv4 address, or the first half of an IPv6 address."""
    if ":" not in address:
        return address
    six = IPv6Address(address)
    return six.packed[:8] if six.ipv4_mapped is None else str(six.ipv4_mapped)


def _length(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


async def _serve_expecting(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Close after an answer without "100 Continue": whether the body follows nobody can tell."""
    is_asked_for = False

    async def ask() -> Any:
        nonlocal is_asked_for
        is_asked_for = True
        return await receive()

    async def answer(message: Any) -> None:
        if message["type"] == "http.response.start" and not is_asked_for:
            headers = [*message.get("headers", ()), (b"connection", b"close")]
            message = {**message, "headers": headers}
        await send(message)

    await app(scope, ask, answer)


async def _refuse_headers(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    closing = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 431, "headers": closing})
    await send({"type": "http.response.body", "body": b""})
