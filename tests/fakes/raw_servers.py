"""Servers of plain bytes on real sockets, and a client that asks them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from gateway.providers.exchange import HttpResponse
from gateway.providers.http import HttpClient
from tests.fakes.patience import PATIENCE_S

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a server of plain bytes; yield its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()


def answering(*answers: bytes, then: str = "waits") -> Serve:
    """Give these answers, one for each request; then wait, or end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        if then == "waits":
            await reader.read()

    return serve


async def get(
    http: HttpClient,
    url: str,
    method: str = "GET",
    timeout_s: float = PATIENCE_S,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> HttpResponse:
    times = {"connect_timeout_s": PATIENCE_S, "timeout_s": timeout_s}
    return await http.request(method, url, headers=headers, body=None, **times)


async def whole(http: HttpClient, port: int, **headers: str) -> bytes:
    answer = await get(http, f"http://127.0.0.1:{port}/", headers=headers)
    return await answer.read(10_000_000, PATIENCE_S)
