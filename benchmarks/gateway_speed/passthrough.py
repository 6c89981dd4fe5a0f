"""The floor of the Python stack: plain ASGI and aiohttp, bytes in, bytes out, nothing else.

Usage: python passthrough.py PORT NAME=BASE_URL... ; /NAME/v1/... goes to BASE_URL/...
"""

import sys
from typing import Any

import aiohttp
import uvicorn

KEPT = (b"content-type", b"authorization")


class PassThrough:
    """Forwards the body, and streams the answer back as it comes."""

    def __init__(self, targets: dict[str, str]) -> None:
        self._targets = targets
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/health":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept"),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        _, name, path = scope["path"].split("/", 2)
        url = self._targets[name] + path.removeprefix("v1")
        headers = {k.decode(): v.decode() for k, v in scope["headers"] if k in KEPT}
        async with self._session.post(url, data=body, headers=headers) as answer:
            head = [(b"content-type", answer.content_type.encode())]
            if answer.content_length is not None:
                head.append((b"content-length", b"%d" % answer.content_length))
            start = {"type": "http.response.start", "status": answer.status, "headers": head}
            await send(start)
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    port, *pairs = sys.argv[1:]
    app = PassThrough(dict(pair.split("=", 1) for pair in pairs))
    uvicorn.run(app, port=int(port), access_log=False, log_level="warning", lifespan="off")
