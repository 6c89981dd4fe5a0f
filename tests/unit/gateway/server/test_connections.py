import asyncio
import gc
import resource
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.server.connections import (
    ConnectionLimits,
    Connections,
    LimitedHttpProtocol,
    Phase,
    network_of,
)
from gateway.settings.config import ServerSettings
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
    ],
)
def test_one_caller_is_one_network(one, other) -> None:
    assert network_of(one) == network_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.7", "192.0.2.8"), ("2001:db8:0:1::1", "2001:db8:0:2::1")],
)
def test_others_are_other_networks(one, other) -> None:
    assert network_of(one) != network_of(other)


@pytest.mark.parametrize(
    ("files", "most"), [(1000, 500), (20_000, 4096), (resource.RLIM_INFINITY, 4096)]
)
def test_connections_take_at_most_their_share_of_the_descriptors(monkeypatch, files, most) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    limits = ConnectionLimits.of(ServerSettings(), 4096, 1 / 2)
    assert limits.max_connections == most


def test_every_phase_has_its_patience() -> None:
    limits = ConnectionLimits.of(ServerSettings(), 10, 1 / 2)
    assert set(limits.patience_s) == set(Phase)
    assert limits.patience_s[Phase.SERVING] == inf


def test_while_the_process_stood_still_nobody_was_kept_waiting() -> None:
    connections = Connections(ConnectionLimits.of(ServerSettings(), 10, 1 / 2))
    for clock_s in (100.0, 101.0, 3700.0):
        connections.sweep(clock_s)
    assert connections.now_s == 3.0


async def greet(scope: Any, receive: Any, send: Any) -> None:
    """Answer once all has come; wait for the caller to leave where the path asks for it."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/waits":
        await receive()
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def protocols_on_a_port() -> AsyncIterator[tuple[int, list[weakref.ref[Any]]]]:
    """Serve `greet`; yields the port, and what is known of each connection."""
    connections = Connections(ConnectionLimits.of(ServerSettings(), 10, 1 / 2))
    idle_s = round(2 * PATIENCE_S)
    config = uvicorn.Config(
        greet, ws="none", lifespan="off", log_config=None, timeout_keep_alive=idle_s
    )
    state, known = ServerState(), []

    def protocol() -> LimitedHttpProtocol:
        made = LimitedHttpProtocol(connections, config=config, server_state=state, app_state={})
        known.append(weakref.ref(made))
        return made

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], known
    server.close()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nhost:", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b"204"),
        (b"GET / HTTP/1.1\r\n\r\n" * 3, b"204"),
        (b"GET /waits HTTP/1.1\r\n\r\n", b""),
        (b"GET /slow HTTP/1.1\r\n\r\n" * 3, b""),
        (b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf", b""),
        (b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", b"204"),
        (b"\x00 no HTTP\r\n\r\n", b"400"),
    ],
)
async def test_a_connection_is_freed_when_it_is_over(
    without_collector, sent, answer, is_reset
) -> None:
    async with protocols_on_a_port() as (port, known):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if answer:
            assert answer in await reader.readline()
        await until(lambda: bool(known))
        writer.transport.abort() if is_reset else writer.close()
        await until(lambda: known[0]() is None)
