"""A scripted provider: an ASGI application that answers in three dialects what a prompt says."""

import base64
import json
import struct
from pathlib import Path
from typing import Any, Final

from benchmarks.clients.conversation import INPUT_TOKENS, Refused, reply_to
from benchmarks.clients.dialects import DIALECTS, Dialect, Json, openai_error

REASONING: Final = "gpt-5-mini"
"""It refuses what OpenAI's reasoning models do."""
REFUSED_BY_REASONING: Final = ("max_tokens", "temperature", "top_p", "presence_penalty", "stop")
VECTOR: Final = (0.25, -0.5, 0.125, 1.0)


class ScriptedProvider:
    """Serves; every request and its answer's status is appended to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        path, body = scope["path"], json.loads(raw or b"{}")
        status, kind, chunks = answer(path, body)
        self._log.write(json.dumps({"path": path, "status": status, "body": body}) + "\n")
        self._log.flush()
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def answer(path: str, body: Json) -> tuple[int, bytes, list[bytes]]:
    """Return status, type and pieces of the answer to a request."""
    dialect = next((d for end, d in DIALECTS.items() if path.endswith(end)), None)
    if path.endswith("/embeddings"):
        return _json(200, _embeddings(body))
    if dialect is None:
        return _json(404, openai_error(f"no such path: {path}", "not_found"))
    if refused := _refused_field(body):
        told = f"Unsupported parameter: '{refused}' is not supported with this model."
        return _json(400, dialect.error(told, "unsupported_parameter"))
    try:
        return _answer(dialect, body)
    except Refused as error:
        return _json(400, dialect.error(str(error), "too_tired"))


def _answer(dialect: Dialect, body: Json) -> tuple[int, bytes, list[bytes]]:
    reply = reply_to(dialect.read(body))
    if body.get("stream"):
        return 200, b"text/event-stream", list(dialect.events(reply))
    return _json(200, dialect.whole(reply))


def _json(status: int, body: Json) -> tuple[int, bytes, list[bytes]]:
    return status, b"application/json", [json.dumps(body).encode()]


def _refused_field(body: Json) -> str | None:
    if body.get("model") != REASONING:
        return None
    return next((name for name in REFUSED_BY_REASONING if name in body), None)


def _embeddings(body: Json) -> Json:
    given = body["input"]
    many = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vector: Any = list(VECTOR)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    return {
        "object": "list",
        "model": "scripted",
        "data": [
            {"object": "embedding", "index": n, "embedding": vector} for n in range(len(many))
        ],
        "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS},
    }
