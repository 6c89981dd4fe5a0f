"""An upstream that answers whatever it is asked."""

from typing import Any

import orjson

from tests.fakes.upstream import anthropic_message, completion, json_answer, stream_chunks


async def agreeable(scope: Any, receive: Any, send: Any) -> None:
    """Answer whatever is asked, in the dialect and the form that are expected."""
    raw = b""
    more = True
    while more:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    whole = completion() if "gamma" not in scope["path"] else anthropic_message()
    answer = json_answer(whole)
    chunks = stream_chunks() if orjson.loads(raw).get("stream") else answer.chunks
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"".join(chunks)})
