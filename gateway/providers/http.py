"""The one HTTP client of the request path: raw bytes over pooled connections, and nothing clever.

No cookies, no redirects (an upstream must not choose where the gateway connects), no proxies from
the environment, no compression asked for, TLS verified. Why this library:
docs/decisions/http-client.md.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import aiohttp
from aiohttp.hdrs import ACCEPT_ENCODING

from budget.errors import BudgetError
from budget.in_flight import Hold
from gateway.inflating import ENCODINGS, Inflater, inflater_of
from gateway.settings.server import MEMORY_PER_BODY_BYTE

MAX_HEADER_BYTES = 32 * 1024
DRAIN_S = 0.25
"""How long a finished stream may take to end its transfer before its connection is given up."""

MAX_LOOKS = 32
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


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer whose status and headers are in, and whose body is still on its way."""

    _response: aiohttp.ClientResponse
    encoding: str | None = None
    """In which the body is compressed; `next_chunk` inflates it, `read` does not."""
    _inflater: Inflater | None = None

    @property
    def is_json(self) -> bool:
        """The body says that it is JSON, so it is no stream."""
        return self._response.headers.get("content-type", "").startswith("application/json")

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, by case-insensitive name."""
        return self._response.headers

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
        content = self._response.content
        body = bytearray()  # as in `gateway.endpoints.asgi.read_body`
        before = 0 if memory is None else memory.amount
        try:
            if content.is_eof():
                # A short body comes with its headers: a timer for nothing would cost 10 µs.
                short = content.read_nowait()
                self._refuse_longer(len(short), max_bytes)
                return short
            async with asyncio.timeout(timeout_s):
                while chunk := await content.readany():
                    body += chunk
                    self._refuse_longer(len(body), max_bytes)
                    if memory is not None:
                        memory.grow(before + MEMORY_PER_BODY_BYTE * len(body))
        except BudgetError:
            self._response.close()
            raise
        except TimeoutError as error:
            self._response.close()
            raise TimedOut("the body did not arrive in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken("the body ended early") from error
        return bytes(body)

    def _refuse_longer(self, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            self._response.close()
            raise BodyTooLong(f"the body is longer than {max_bytes} bytes")

    async def next_chunk(self, timeout_s: float) -> bytes:
        """Return the bytes that have come in, waiting for some; empty at the end of the body.

        Raises:
            ConnectionBroken: The body ended before its declared end.
            TimedOut: Nothing came for `timeout_s`.
        """
        content, inflater = self._response.content, self._inflater
        try:
            if inflater is not None:
                async with asyncio.timeout(timeout_s):
                    return await self._inflated(inflater)
            if waiting := content.read_nowait():
                return waiting
            async with asyncio.timeout(timeout_s):
                return await content.readany()
        except TimeoutError as error:
            raise TimedOut("nothing arrived in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken("the body ended early") from error

    async def leave(self) -> bytes:
        """Drop the connection; return what has come in and was not read."""
        content, arrived = self._response.content, b""
        try:
            for _ in range(MAX_LOOKS):
                # One turn of the event loop reads what the system holds for this connection.
                await asyncio.sleep(0)
                more = content.read_nowait()
                arrived += more
                if not more:
                    break
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            self._response.close()
        return arrived

    async def _inflated(self, inflater: Inflater) -> bytes:
        while True:
            try:
                piece = inflater.take()
            except ValueError as error:
                raise ConnectionBroken("the body cannot be inflated") from error
            if piece:
                return piece
            data = await self._response.content.readany()
            if not data:
                return b""
            inflater.give(data)

    async def drain(self) -> None:
        """Let a body whose content is complete end, so that its connection can be used again."""
        try:
            while await self.next_chunk(DRAIN_S):
                pass
        except HttpFailure:
            self._response.close()

    def close(self) -> None:
        """Drop the connection unless the body was read to its end."""
        self._response.close()


@dataclass(frozen=True, slots=True)
class HttpClient:
    """A connection pool shared by all providers."""

    _session: aiohttp.ClientSession

    @classmethod
    def open(cls, *, trust_env: bool = False, keepalive_s: float = 30.0) -> Self:
        """Make the pool; must be called inside a running event loop.

        Args:
            trust_env: Go through the proxies that the environment names.
            keepalive_s: How long an idle connection is kept.
        """
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s, ttl_dns_cache=60)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=trust_env,
            request_class=_Request,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return cls(session)

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
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=_to_connect(connect_timeout_s),
                )
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise NotTrusted(str(error)) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ConnectFailed("no connection could be made") from error
        except TimeoutError as error:
            raise TimedOut("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionBroken("the connection ended before an answer") from error
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            return HttpResponse(response)
        return HttpResponse(response, encoding, inflater_of(encoding))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Request(aiohttp.ClientRequest):
    """A request whose headers are ours: aiohttp looks them through twice to add none of its own."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Say which encodings are understood, unless the headers do."""
        del skip_auto_headers
        self.headers.setdefault(ACCEPT_ENCODING, self.DEFAULT_HEADERS[ACCEPT_ENCODING])


@lru_cache
def _to_connect(timeout_s: float) -> aiohttp.ClientTimeout:
    """Limit nothing but connecting; a few settings' worth of these serve all requests."""
    return aiohttp.ClientTimeout(total=None, connect=timeout_s)
