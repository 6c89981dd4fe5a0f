"""HTTP as the callers and upstreams of these benchmarks need it: at little cost, and no more."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import uvloop
from processes import free_port

LONGEST = 2**25
"""Of a body that is read: a stream may be one event of 15 MB."""
ANSWER = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
JSON, EVENTS = b"application/json", b"text/event-stream"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def post(body: bytes, key: str = "", path: str = "/v1/chat/completions") -> bytes:
    """Write a request."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Read an answer; returns its status and the id of its request."""
    head = await reader.readuntil(b"\r\n\r\n")
    if length := _LENGTH.search(head):
        await reader.readexactly(int(length[1]))
    else:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    said = head.decode().lower()
    return said.split()[1], said.partition("x-request-id: ")[2].split("\r\n")[0]


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    """Read a request; returns its path and its body.

    Raises:
        IncompleteReadError: There is none any more.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b"{}"
    return head.split(maxsplit=2)[1].decode(), json.loads(body)


def whole(kind: bytes, content: bytes) -> bytes:
    """Write a good answer that is sent at once."""
    return ANSWER % (b"200 OK", kind, len(content)) + content


def serve(answer: Callable[[str, Mapping[str, Any]], bytes]) -> int:
    """Answer requests in a thread; returns the port.

    Args:
        answer: Of a path and a body, what is sent.
    """
    port, is_up = free_port(), threading.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                asked = await read_request(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            writer.write(answer(*asked))

    async def run() -> None:
        server = await asyncio.start_server(converse, "127.0.0.1", port, limit=LONGEST)
        is_up.set()
        await server.serve_forever()

    threading.Thread(target=uvloop.run, args=(run(),), daemon=True).start()
    is_up.wait()
    return port
