"""The one HTTP client of the request path: raw bytes over kept connections, and nothing clever.

No cookies, no redirects (an upstream must not choose where the gateway connects), no proxies unless
asked for, no compression asked for, TLS verified. Why it is our own: docs/decisions/http-client.md.
"""

import asyncio
import base64
import math
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohappyeyeballs import start_connection

from gateway.providers.connection import Connection
from gateway.providers.exchange import (
    ConnectFailed,
    ConnectionBroken,
    HttpResponse,
    NotTrusted,
    TimedOut,
)

KEPT_S: Final = 30.0
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Sent again where a kept connection breaks before the answer, as it does if the upstream closes it
at that moment. A POST is not: the upstream may have begun with it, and bill both."""
ADDRESSES_KEPT_S: Final = 60.0
SECOND_ADDRESS_S: Final = 0.25
"""After which a second address is tried beside the first (RFC 8305)."""
TURNS_TO_CLOSE: Final = 4
"""Of the event loop, in which dropped connections are closed."""
MAX_PROXY_HEAD_BYTES: Final = 16 * 1024
_SAFE: Final = "/%:=&?~#+!$,;'@()*[]"
"""What a target may hold as it is; what else is not a letter or digit is percent-encoded."""


class Origin(NamedTuple):
    """Who is connected to."""

    is_secure: bool
    host: str
    port: int


class Target(NamedTuple):
    """A URL, as far as a request needs it.

    Attributes:
        lines: What follows the target in the head, up to the caller's own headers.
        whole: As a proxy has to be told; `path` as anybody else.
    """

    origin: Origin
    path: str
    whole: str
    lines: str


class HttpClient:
    """Connections to all providers, kept for a while after each request.

    Args:
        trust_env: Go through the proxies that the environment names.
        keepalive_s: How long an idle connection is kept.
    """

    def __init__(self, *, trust_env: bool = False, keepalive_s: float = KEPT_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._trust_env = trust_env
        self._keepalive_s = keepalive_s
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._addresses: dict[Origin, tuple[float, asyncio.Future[Any]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @classmethod
    def open(cls, *, trust_env: bool = False, keepalive_s: float = KEPT_S) -> Self:
        """Make the pool; must be called inside a running event loop."""
        return cls(trust_env=trust_env, keepalive_s=keepalive_s)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> HttpResponse:
        """Send a request and wait for the status and headers of the answer.

        `timeout_s` is for all of it, connecting included.

        Raises:
            ConnectFailed: No connection could be made in `connect_timeout_s`.
            ConnectionBroken: The connection ended before an answer.
            TimedOut: No answer in `timeout_s`.
        """
        deadline_s = self._loop.time() + timeout_s
        target = _target(url)
        while True:
            kept = self._kept(target.origin)
            connection = kept or await self._connect(target.origin, connect_timeout_s, timeout_s)
            head = _head(method, target, headers, body, connection.proxy_lines)
            answer = connection.send(head, body, wants_body=method != "HEAD")
            try:
                await answer.head(deadline_s)
            except ConnectionBroken:
                answer.close()
                if kept is None or method not in REPEATABLE:
                    raise
            except BaseException:
                answer.close()
                raise
            else:
                return answer

    @property
    def connections(self) -> tuple[int, int]:
        """How many are open, and how many of them are idle."""
        return len(self._open), sum(map(len, self._idle.values()))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        for _ in range(TURNS_TO_CLOSE):
            await asyncio.sleep(0)

    def _kept(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, which the upstream is least likely to close."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    def _keep(self, origin: Origin, connection: Connection) -> None:
        self._idle.setdefault(origin, []).append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_old)

    def _close_old(self) -> None:
        """Close what was idle for long; look again where something is left."""
        before_s = self._loop.time() - self._keepalive_s
        for origin, idle in list(self._idle.items()):
            left = [one for one in idle if one.is_usable and one.idle_since_s > before_s]
            for old in idle:
                if old.idle_since_s <= before_s:
                    old.close()
            if left:
                self._idle[origin] = left
            else:
                del self._idle[origin]
        again = self._keepalive_s / 2
        self._sweep = self._loop.call_later(again, self._close_old) if self._idle else None

    async def _connect(
        self, origin: Origin, connect_timeout_s: float, timeout_s: float
    ) -> Connection:
        """Open a connection, through a proxy where there is one."""
        patience_s = min(connect_timeout_s, timeout_s)
        try:
            async with asyncio.timeout(None if patience_s == math.inf else patience_s):
                proxy = _proxy_for(origin) if self._trust_env else None
                connection = await (
                    self._direct(origin) if proxy is None else self._through(proxy, origin)
                )
        except TimeoutError as error:
            self._addresses.pop(origin, None)
            if timeout_s < connect_timeout_s:
                raise TimedOut("no answer in time") from error
            raise ConnectFailed("no connection could be made") from error
        except ssl.SSLError as error:
            raise NotTrusted(str(error)) from error
        except (OSError, UnicodeError) as error:
            self._addresses.pop(origin, None)
            raise ConnectFailed("no connection could be made") from error
        return connection

    def _new(self, origin: Origin) -> Connection:
        def ended(connection: Connection) -> None:
            self._open.discard(connection)

        def free(connection: Connection) -> None:
            self._keep(origin, connection)

        connection = Connection(self._loop, free, ended)
        self._open.add(connection)
        return connection

    async def _direct(self, origin: Origin) -> Connection:
        _, connection = await self._loop.create_connection(
            lambda: self._new(origin),
            sock=await self._socket(origin),
            ssl=self._tls if origin.is_secure else None,
            server_hostname=origin.host if origin.is_secure else None,
        )
        return connection

    async def _through(self, proxy: "Proxy", origin: Origin) -> Connection:
        """Connect by way of a proxy: TLS within a tunnel, anything else by whole addresses."""
        sock = await self._socket(proxy.origin)
        if not origin.is_secure:
            _, connection = await self._loop.create_connection(lambda: self._new(origin), sock=sock)
            connection.proxy_lines = proxy.lines
            return connection
        transport, tunnel = await self._loop.create_connection(Tunnel, sock=sock)
        try:
            host = f"{_in_brackets(origin.host)}:{origin.port}"
            ask = f"CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n{proxy.lines}\r\n"
            transport.write(ask.encode())
            await tunnel.opened
            connection = self._new(origin)
            secured = await self._loop.start_tls(
                transport, connection, self._tls, server_hostname=origin.host
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:
            raise ConnectionResetError("the proxy ended the connection")
        connection.connection_made(secured)
        return connection

    async def _socket(self, origin: Origin) -> socket.socket:
        sock = await start_connection(
            await self._resolved(origin), happy_eyeballs_delay=SECOND_ADDRESS_S, interleave=1
        )
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock

    async def _resolved(self, origin: Origin) -> Any:
        """Look addresses up, once for all who ask at the same time, and remember them a while."""
        until_s, lookup = self._addresses.get(origin, (0.0, None))
        if lookup is None or until_s <= self._loop.time():
            lookup = asyncio.ensure_future(
                self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            )
            self._addresses[origin] = self._loop.time() + ADDRESSES_KEPT_S, lookup
        return await asyncio.shield(lookup)


class Proxy(NamedTuple):
    """A proxy, and the lines of a head that sign in to it."""

    origin: Origin
    lines: str


class Tunnel(asyncio.Protocol):
    """Waits for what a proxy says to CONNECT.

    Attributes:
        opened: Done once it said yes.
    """

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said = b""

    def data_received(self, data: bytes) -> None:
        """Read up to the end of the head; nothing can follow it before TLS begins."""
        self._said += data
        if self.opened.done() or not (
            b"\r\n\r\n" in self._said or len(self._said) > MAX_PROXY_HEAD_BYTES
        ):
            return
        parts = self._said.split(None, 2)
        if len(parts) > 1 and parts[0].startswith(b"HTTP/1.") and parts[1] == b"200":
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ConnectionRefusedError("the proxy refused the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait."""
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("the proxy hung up"))


def _proxy_for(origin: Origin) -> Proxy | None:
    """Return the environment's proxy for an origin, as curl reads it (``NO_PROXY`` too).

    Raises:
        ConnectionRefusedError: The proxy is of a kind that is not spoken here.
    """
    named = getproxies().get("https" if origin.is_secure else "http")
    if not named or proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConnectionRefusedError("only proxies at http:// addresses can be used")
    lines = ""
    if parts.username is not None:
        lines = f"proxy-authorization: {_basic(parts.username, parts.password)}\r\n"
    return Proxy(Origin(is_secure=False, host=parts.hostname, port=parts.port or 80), lines)


@lru_cache(maxsize=1024)
def _target(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ConnectFailed: It names no host that can be connected to.
    """
    refusal = ConnectFailed("the address of the upstream is not one of HTTP")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise refusal from error
    if parts.scheme not in ("http", "https") or not host:
        raise refusal
    is_secure = parts.scheme == "https"
    usual = 443 if is_secure else 80
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE)
    place = _in_brackets(host) + ("" if port in (None, usual) else f":{port}")
    lines = f" HTTP/1.1\r\nhost: {place}\r\n"
    if parts.username is not None:
        lines += f"authorization: {_basic(parts.username, parts.password)}\r\n"
    origin = Origin(is_secure, host, port or usual)
    return Target(origin, path, f"{parts.scheme}://{place}{path}", lines)


def _head(
    method: str,
    target: Target,
    headers: Mapping[str, str],
    body: bytes | None,
    proxy_lines: str | None = None,
) -> bytes:
    """Write the head of a request.

    Args:
        proxy_lines: What a proxy is told that needs the whole address; None where there is none.

    Raises:
        ValueError: A header has a line end in it.
    """
    head = f"{method} {target.path}{target.lines}"
    if proxy_lines is not None:
        head = f"{method} {target.whole}{target.lines}{proxy_lines}"
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    if "accept-encoding" not in headers:
        lines.append("accept-encoding: identity\r\n")
    if body is not None:
        lines.append(f"content-length: {len(body)}\r\n")
    told = "".join(lines)
    if told.count("\n") != len(lines) or told.count("\r") != len(lines) or "\0" in told:
        raise ValueError("a header has a line end in it")
    return f"{head}{told}\r\n".encode()


def _basic(user: str, password: str | None) -> str:
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host
