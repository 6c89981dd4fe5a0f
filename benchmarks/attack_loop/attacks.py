"""The attacks: of callers and upstreams on availability, of callers on money."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.attack_loop.wire import CHAT, Tally, Target, chat, exchange, note, request

HELD_S = 3.0
"""How long connections and readers that do nothing are held."""
BODY_MB = 19
HEADER_MB = 100

Attack = Callable[[Target, Tally], Awaitable[None]]


@dataclass(frozen=True)
class Named:
    """An attack."""

    name: str
    attack: Attack


def one(raw: Callable[[Target], bytes], times: int = 1) -> Attack:
    """Make an attack of requests that are sent one after the other."""

    async def attack(target: Target, tally: Tally) -> None:
        for _ in range(times):
            await exchange(target, raw(target), tally)

    return attack


def together(raws: Callable[[Target], list[bytes]]) -> Attack:
    """Make an attack of requests that are sent at once."""

    async def attack(target: Target, tally: Tally) -> None:
        await asyncio.gather(*(exchange(target, raw, tally) for raw in raws(target)))

    return attack


def _combining(target: Target) -> bytes:
    return chat(target, "auto", "a" + "\u0301" * 16_000 + "\u0323" * 16_000)


def _tiny_messages(target: Target) -> bytes:
    message = b'{"role":"user","content":"x"}'
    messages = b",".join([message] * 500_000)
    return request(target, CHAT, b'{"model":"honest","messages":[%b]}' % messages)


def _large_event(target: Target) -> bytes:
    return chat(target, "pieces", stream=True)


def _nested_schema(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"allOf": [schema, schema]}
    return schema


def _doubling_schema(levels: int) -> dict[str, Any]:
    """Write a schema whose work doubles at every level, in 2 KB."""
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**steps, f"s{levels}": {"type": "object"}}, "$ref": "#/$defs/s0"}


VERIFIERS: list[dict[str, Any]] = [
    {"kind": "json_schema", "schema": _doubling_schema(27)},
    {"kind": "json_schema", "schema": _nested_schema(9)},
    {"kind": "regex", "pattern": "(a+)+$"},
    {"kind": "regex", "pattern": "(((a{1,100}){1,100}){1,100}){1,100}"},
    {"kind": "math", "reference": "9^9^9^9^9"},
    {"kind": "choice", "reference": "0", "choices": [str(n) for n in range(20_000)]},
]


async def verifiers(target: Target, tally: Tally) -> None:
    """Have answers checked by what takes for ever."""
    for verifier in VERIFIERS:
        asked = Tally()
        is_schema = verifier["kind"] == "json_schema"
        await exchange(target, chat(target, "object" if is_schema else "honest"), asked)
        tally.answered += asked.answered
        for answer in asked.answered:
            body = json.dumps({"id": answer, "verifier": verifier}).encode()
            await exchange(target, request(target, "/v1/feedback", body), tally)


async def endless_header(target: Target, tally: Tally) -> None:
    """Send one line of a header that does not end."""
    await _trickle(target, tally, b"x: ", b"y" * 1_000_000, HEADER_MB)


async def endless_body(target: Target, tally: Tally) -> None:
    """Send a body of 600 MB to a route that takes little, without a key."""
    head = b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: 600000000\r\n\r\n"
    await _trickle(target, tally, head, b" " * 1_000_000, 600)


async def _trickle(target: Target, tally: Tally, head: bytes, piece: bytes, times: int) -> None:
    received = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            try:
                start = b"" if head.startswith(b"POST") else b"GET /health HTTP/1.1\r\n"
                writer.write(start + head)
                for _ in range(times):
                    writer.write(piece)
                    await writer.drain()
                received = await reader.read(65_536)
            finally:
                writer.transport.abort()
    note(received, tally)


@asynccontextmanager
async def _held(target: Target, tally: Tally) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Hold the connections that are listed, ask as an honest caller beside them, and drop them."""
    held: list[asyncio.StreamWriter] = []
    try:
        yield held
        await asyncio.sleep(HELD_S)
        await exchange(target, chat(target, "honest"), tally)
    finally:
        for writer in held:
            writer.transport.abort()


async def half_sent(target: Target, tally: Tally) -> None:
    """Hold 500 connections with half a head, and 200 that say nothing."""
    async with _held(target, tally) as held:
        for number in range(700):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    _, writer = await asyncio.open_connection("127.0.0.1", target.port)
                held.append(writer)
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost:" if number < 500 else b""
                )


def _large_bodies(target: Target) -> list[bytes]:
    return [chat(target, "honest", "word " * (BODY_MB * 200_000))] * 24


async def unread(target: Target, tally: Tally) -> None:
    """Ask for long streams and read nothing of them."""
    async with _held(target, tally) as held:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1_024)
            writer.write(chat(target, "pieces", stream=True))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            held.append(writer)


def _malformed(target: Target) -> list[bytes]:
    whole = chat(target, "honest")
    bodies = (b"{", b"[" * 20_000, b"\xff\xfe", b'{"model":"honest","messages":[1e999]}')
    return [
        whole.replace(b"connection:", b"transfer-encoding: chunked\r\nx:"),
        whole.replace(b"content-length: ", b"content-length: -"),
        whole.replace(b"content-length:", b"content-length : 5\r\ncontent-length:"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        os.urandom(5_000),
        *(request(target, CHAT, body) for body in bodies),
    ]


def _many_keys(target: Target) -> bytes:
    fields = b",".join(b'"k%d":0' % number for number in range(300_000))
    body = b'{"model":"honest","messages":[{"role":"user","content":"x"}],%b}' % fields
    return request(target, CHAT, body)


def _guesses(target: Target) -> list[bytes]:
    return [
        request(Target(target.port, f"wp-{number:012x}-guess"), CHAT, b"{}")
        for number in range(200)
    ]


def _invented(target: Target) -> list[bytes]:
    return [chat(target, f"invented-{os.urandom(4).hex()}") for _ in range(50)]


def _broken(target: Target) -> list[bytes]:
    return [chat(target, "broken", stream=bool(number % 2)) for number in range(24)]


AVAILABILITY = [
    Named("runs of combining marks", one(_combining)),
    Named("half a million tiny messages", one(_tiny_messages)),
    Named("a large event in small pieces", one(_large_event)),
    Named("verifiers that take for ever", verifiers),
    Named("a header without end", endless_header),
    Named("half-sent requests, held", half_sent),
    Named("24 bodies of 19 MB at once", together(_large_bodies)),
    Named("streams that nobody reads", unread),
    Named("a body without end or key", endless_body),
    Named("malformed HTTP and JSON", together(_malformed)),
    Named("300,000 keys", one(_many_keys)),
    Named("guessed keys", together(_guesses)),
    Named("invented models", together(_invented)),
    Named("an upstream that is broken", together(_broken)),
]


async def _drip(target: Target, tally: Tally) -> None:
    await exchange(target, chat(target, "dripping", stream=True), tally)


DRIPPING = Named("an upstream that drips", _drip)


def honest(target: Target, user: str, **fields: Any) -> bytes:
    """Write a request that the upstream bills to `user`."""
    return chat(target, fields.pop("model", "honest"), user=user, **fields)


Spending = Callable[[Target, str, Tally], Coroutine[Any, Any, int]]


def spend(raw: Callable[[Target, str], bytes], **leaving: Any) -> Spending:
    """Make an attack on a budget of one request; it returns the status."""

    async def attack(target: Target, user: str, tally: Tally) -> int:
        return await exchange(target, raw(target, user), tally, **leaving)

    return attack


async def at_once(target: Target, user: str, tally: Tally) -> int:
    """Ask 20 times at once; returns the lowest status."""
    raw = honest(target, user)
    return min(await asyncio.gather(*(exchange(target, raw, tally) for _ in range(20))))


MONEY: dict[str, Spending] = {
    "pays": spend(honest),
    "leaves a stream before its usage": spend(
        lambda t, u: honest(t, u, stream=True), leaves_at=b'"finish_reason": "stop"'
    ),
    "leaves a stream at once": spend(lambda t, u: honest(t, u, stream=True), leaves_at=b"word"),
    "leaves with line ends": spend(
        lambda t, u: honest(t, u, model="lines", text="\n" * 2_500, stream=True),
        leaves_at=b'"finish_reason": "stop"',
    ),
    "leaves a call": spend(honest, leaves_after_s=0.03),
    "has odd usage reported": spend(lambda t, u: honest(t, u, model="liar")),
    "has odd usage streamed": spend(lambda t, u: honest(t, u, model="liar", stream=True)),
    "has an upstream die": spend(lambda t, u: honest(t, u, model="dying", stream=True)),
    "sends line ends": spend(lambda t, u: honest(t, u, text="\n" * 6_000)),
    "asks 20 times at once": at_once,
    "names a dearer service": spend(lambda t, u: honest(t, u, service_tier="priority")),
    "names other models": spend(lambda t, u: honest(t, u, models=["dear"], route="fallback")),
}
