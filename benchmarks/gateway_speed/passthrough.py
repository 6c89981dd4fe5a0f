"""The floor of the Python stack: plain ASGI and Waypost's HTTP client, bytes in, bytes out.

Usage: python passthrough.py PORT NAME=BASE_URL... ; /NAME/v1/... goes to BASE_URL/...
"""

import sys
from typing import Any

import uvicorn

from gateway.providers.http import HttpClient

KEPT = (b"content-type", b"authorization")
TIMES = {"connect_timeout_s": 60.0, "timeout_s": 60.0}
MOST_BYTES = 10_000_000


class PassThrough:
    """Forwards the body, and streams the answer back as it comes."""

    def __init__(self, targets: dict[str, str]) -> None:
        self._targets = targets
        self._http: HttpClient | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/health":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        if self._http is None:
            self._http = HttpClient.open()
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        _, name, path = scope["path"].split("/", 2)
        url = self._targets[name] + path.removeprefix("v1")
        headers = {k.decode(): v.decode() for k, v in scope["headers"] if k in KEPT}
        answer = await self._http.request("POST", url, headers=headers, body=body, **TIMES)
        kind = answer.headers["content-type"]
        head = [(b"content-type", kind.encode())]
        start = {"type": "http.response.start", "status": answer.status, "headers": head}
        if answer.is_json:
            whole = await answer.read(MOST_BYTES, 60.0)
            head.append((b"content-length", b"%d" % len(whole)))
            await send(start)
            await send({"type": "http.response.body", "body": whole})
        else:
            await send(start)
            while chunk := await answer.next_chunk(60.0):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        answer.close()


if __name__ == "__main__":
    port, *pairs = sys.argv[1:]
    app = PassThrough(dict(pair.split("=", 1) for pair in pairs))
    uvicorn.run(app, port=int(port), access_log=False, log_level="warning", lifespan="off")
