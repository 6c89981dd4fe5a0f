"""Callers that leave streams early: what the provider bills is paid."""

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from gateway.endpoints.access import CHAT_PATH
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import budget
from tests.fakes.gateway import PRICE, RunningGateway, SteppedUpstream, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, chunk

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WORD = chunk({"content": "word "})
WORDS = 8_000


class WritesOn(threading.Thread):
    """A provider that writes a word, and all others at once when it is told to; a thread."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.may_go_on = threading.Event()
        self.has_written = threading.Event()

    def run(self) -> None:
        connection, _ = self._listening.accept()
        with self._listening, connection:
            connection.recv(65_536)
            connection.sendall(HEAD + WORD)
            self.may_go_on.wait(PATIENCE_S)
            connection.sendall(WORD * WORDS)
            self.has_written.set()
            connection.recv(1)


async def begin_stream(gateway: RunningGateway, model: str) -> asyncio.StreamWriter:
    """Ask for a stream and read its first word."""
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    messages = [{"role": "user", "content": "Say hello."}]
    asked = {"model": model, "messages": messages, "max_tokens": 90_000, "stream": True}
    body = orjson.dumps(asked)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n"
    length = f"content-length: {len(body)}\r\n\r\n"
    writer.write(head.format(gateway.key).encode() + length.encode() + body)
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"word")
    return writer


def charged(gateway: RunningGateway) -> int | None:
    with gateway.engine.connect() as connection:
        return connection.scalar(select(SETTLEMENTS.c.charged_tokens))


async def capped(gateway: RunningGateway, cap: int = 10**6) -> None:
    budget(gateway.engine, cap, team_id="default", scope="key", measure="tokens")
    book, before = gateway.app.budgets.book, gateway.app.budgets.book.revision
    await until(lambda: book.revision > before)


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"budgets": {"definitions_poll_s": 0.01}}


async def test_what_a_provider_wrote_while_the_gateway_was_held_up_is_charged(
    tmp_path: Path, settings
) -> None:
    upstream = WritesOn()
    upstream.start()
    settings["providers"] = {"raw": {"base_url": f"http://127.0.0.1:{upstream.port}/v1"}}
    settings["models"] = {"raw": {"provider": "raw", "price": PRICE}}
    async with running_gateway(tmp_path, profiles={}, **settings) as gateway:
        await capped(gateway)
        caller = await begin_stream(gateway, "raw")
        caller.transport.abort()
        upstream.may_go_on.set()
        # The gateway's event loop is this one: it stands still until all is written.
        assert upstream.has_written.wait(PATIENCE_S)
        await until(lambda: charged(gateway) is not None)
        assert (charged(gateway) or 0) >= WORDS


async def test_a_provider_is_told_that_its_caller_left_before_anything_is_counted(
    tmp_path: Path, settings
) -> None:
    async with running_gateway(tmp_path, **settings) as gateway:
        await capped(gateway)
        upstream = gateway.upstreams.by_name["alpha"] = SteppedUpstream()
        upstream.send(WORD)
        async with gateway.app.public.turns[CHAT_PATH].service.long_work._turn:
            caller = await begin_stream(gateway, "small")
            caller.transport.abort()
            await asyncio.wait_for(upstream.client_has_left.wait(), PATIENCE_S)
            assert charged(gateway) is None
        await until(lambda: charged(gateway) is not None)


LINE_ENDS = 3_000
MERGED = [("\n", "\n"), ("Say it.", "\n"), ("\n", "word "), (" ", "."), (".", " ")]


@pytest.mark.parametrize(("asked", "answered"), MERGED)
async def test_leaving_early_passes_no_cap_whatever_tokenizer_the_provider_has(
    tmp_path: Path, settings, asked, answered
) -> None:
    """The provider's makes a token of each byte; the gateway's merges a whole line of them."""
    cap = 60_000
    begun = Answer([chunk({"content": answered * LINE_ENDS})], stalls=True)
    messages = [{"role": "user", "content": asked * LINE_ENDS}]
    body = {"model": "small", "messages": messages, "max_tokens": 20_000, "stream": True}
    billed = 0
    async with running_gateway(tmp_path, **settings) as gateway, gateway.caller() as http:
        await capped(gateway, cap)
        gateway.alpha.answers = [begun]
        for _ in range(40):
            async with http.stream("POST", CHAT_PATH, json=body) as response:
                if response.status_code != 200:
                    break
                await anext(response.aiter_raw())
            billed += len(asked + answered) * LINE_ENDS
            await until(lambda: gateway.app.budgets.ledger.running == 0)
        else:
            pytest.fail("nothing stopped the caller")
    assert 0 < billed <= cap
