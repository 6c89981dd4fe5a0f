"""A caller that sends bytes as it likes: it may stop sending, stop reading, or leave."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 30.0
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Target:
    """The gateway under attack, as one caller sees it."""

    port: int
    key: str


@dataclass
class Tally:
    """What attacks were answered with.

    Attributes:
        statuses: How often each status came; 0 where no answer came.
        answered: Ids of the chat requests with status 200.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)


def request(
    target: Target, path: str, body: bytes = b"", *headers: str, method: str = "POST"
) -> bytes:
    """Write a request after whose answer the connection is closed."""
    lines = (f"{method} {path} HTTP/1.1", "host: gateway", "connection: close")
    key = f"authorization: Bearer {target.key}"
    about = ("content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join((*lines, key, *about, *headers, "", "")).encode() + body


def chat(target: Target, model: str, text: str = "Say hello.", **fields: Any) -> bytes:
    """Write a chat request."""
    messages = [{"role": "user", "content": text}]
    body = {"model": model, "messages": messages, "max_tokens": 300, **fields}
    return request(target, CHAT, json.dumps(body).encode())


async def exchange(
    target: Target,
    raw: bytes,
    tally: Tally,
    *,
    leaves_at: bytes | None = None,
    leaves_after_s: float = PATIENCE_S,
) -> int:
    """Send `raw` and read the answer; return its status, 0 where none came.

    Args:
        leaves_at: Close the connection once these bytes have come.
        leaves_after_s: Close the connection after so long, whatever has come.
    """
    received = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(leaves_after_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            try:
                writer.write(raw)
                while data := await reader.read(65_536):
                    received = (received + data) if len(received) < 100_000 else received
                    if leaves_at is not None and leaves_at in received:
                        break
            finally:
                writer.transport.abort()
    return note(received, tally)


def note(received: bytes, tally: Tally) -> int:
    """Note what came back; return its status."""
    head = received.partition(b"\r\n\r\n")[0].lower()
    status = int(head[9:12]) if head.startswith(b"http/1.1 ") else 0
    tally.statuses[status] += 1
    if status == 200 and b"\r\nx-waypost-model:" in head:
        tally.answered.append(
            head.partition(b"\r\nx-request-id: ")[2].partition(b"\r\n")[0].decode()
        )
    return status
