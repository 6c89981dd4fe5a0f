"""Questions to a gateway over plain HTTP, and streams of it decoded."""

from typing import Any

import httpx2
import orjson

from tests.fakes.gateway import SMALL

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]


async def ask(http: httpx2.AsyncClient, model: str = SMALL, **body: Any) -> httpx2.Response:
    return await http.post(CHAT, json={"model": model, "messages": HELLO, **body})


async def stream(http: httpx2.AsyncClient, model: str = SMALL, **body: Any) -> list[Any]:
    """Return the decoded events of a stream; ``[DONE]`` as a string."""
    options = {"include_usage": True}
    answer = await ask(http, model, stream=True, stream_options=options, **body)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
        200,
        "text/event-stream",
    )
    payloads = [e[6:] for e in answer.content.split(b"\n\n") if e.startswith(b"data: ")]
    return ["[DONE]" if one == b"[DONE]" else orjson.loads(one) for one in payloads]


def text_of(events: list[Any]) -> str:
    chunks = [one for one in events if isinstance(one, dict) and one.get("choices")]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
