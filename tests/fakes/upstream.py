"""A provider on a real socket that plays a script and remembers what it was asked."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass(frozen=True)
class Answer:
    """What to answer to one request.

    Attributes:
        chunks: Body, written piece by piece; an empty tuple is an empty body.
        cuts_off: Close the connection after the chunks, without ending the body.
        stalls: Say nothing more after the chunks, until the client leaves.
        stalls_at_once: Not even send the status, until the client leaves.
        announced_length: A content-length that may be a lie.
    """

    chunks: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: EVENTS)
    cuts_off: bool = False
    stalls: bool = False
    stalls_at_once: bool = False
    announced_length: int | None = None
    pause_s: float = 0.0


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes
    has_disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


class ScriptedUpstream:
    """An ASGI application that gives `answers` in turn, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Received] = []
        self._arrivals: asyncio.Queue[Received] = asyncio.Queue()

    async def next_request(self) -> Received:
        """Wait until a request has arrived that was not returned before."""
        return await self._arrivals.get()

    @property
    def last(self) -> Received:
        return self.requests[-1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        received = await _received(scope, receive)
        self.requests.append(received)
        self._arrivals.put_nowait(received)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        watching = asyncio.create_task(_watch(receive, received))
        try:
            await self._play(answer, received, scope, send)
        finally:
            watching.cancel()

    async def _play(self, answer: Answer, received: Received, scope: Any, send: Any) -> None:
        if answer.stalls_at_once:
            await received.has_disconnected.wait()
            return
        headers = [(k.encode(), v.encode()) for k, v in answer.headers.items()]
        if answer.announced_length is not None:
            headers.append((b"content-length", str(answer.announced_length).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for chunk in answer.chunks:
            await asyncio.sleep(answer.pause_s)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if answer.stalls:
            await received.has_disconnected.wait()
            return
        if answer.cuts_off:
            # Returning without the last message makes uvicorn close the connection.
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _received(scope: Any, receive: Any) -> Received:
    raw = b""
    more = True
    while more:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    path = scope.get("raw_path", scope["path"].encode()).decode()
    return Received(scope["method"], path, scope["query_string"].decode(), headers, raw)


async def _watch(receive: Any, received: Received) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    received.has_disconnected.set()


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with one JSON body."""
    return Answer((orjson.dumps(body),), status, {**JSON, **(headers or {})})


def error_answer(status: int, message: str, **fields: Any) -> Answer:
    """Answer with an error in OpenAI's shape; `headers` are sent as such."""
    headers = fields.pop("headers", {})
    error = {"message": message, "type": "error", "param": None, "code": None, **fields}
    return json_answer({"error": error}, status, headers)


def completion(text: str = "Hello!", **fields: Any) -> dict[str, Any]:
    """Build a whole answer in OpenAI's form."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "upstream-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        **fields,
    }


def event(payload: Any) -> bytes:
    """Write one server-sent event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None, **fields: Any) -> bytes:
    """Write one chunk event in OpenAI's form."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "upstream-model",
            "choices": [choice],
            **fields,
        }
    )


def usage_chunk(prompt_tokens: int = 9, completion_tokens: int = 3) -> bytes:
    """Write the event that carries usage and no choices."""
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return chunk({}, usage=usage, choices=[])


def stream_chunks(text: str = "Hello!") -> list[bytes]:
    """Write a whole stream, one piece per letter of `text`, with usage and ``[DONE]``."""
    letters = [chunk({"content": letter}) for letter in text]
    return [
        chunk({"role": "assistant", "content": ""}),
        *letters,
        chunk({}, "stop"),
        usage_chunk(),
        b"data: [DONE]\n\n",
    ]


def stream_answer(text: str = "Hello!", **options: Any) -> Answer:
    """Answer with a whole stream."""
    return Answer(tuple(stream_chunks(text)), **options)


def anthropic_event(kind: str, **fields: Any) -> bytes:
    """Write one event of Anthropic's stream."""
    payload = orjson.dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + payload + b"\n\n"


def anthropic_message(text: str = "Hello!", **fields: Any) -> dict[str, Any]:
    """Build a whole answer in Anthropic's form."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-up",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 3},
        **fields,
    }


def anthropic_stream_chunks(text: str = "Hello!") -> list[bytes]:
    """Write a whole stream of Anthropic's, one piece per letter of `text`."""
    opening = anthropic_message(
        content=[], stop_reason=None, usage={"input_tokens": 9, "output_tokens": 1}
    )
    letters = [
        anthropic_event(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": letter}
        )
        for letter in text
    ]
    return [
        anthropic_event("message_start", message=opening),
        anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic_event("ping"),
        *letters,
        anthropic_event("content_block_stop", index=0),
        anthropic_event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 3},
        ),
        anthropic_event("message_stop"),
    ]


def anthropic_error(status: int, message: str, kind: str) -> Answer:
    """Answer with an error in Anthropic's shape."""
    return json_answer({"type": "error", "error": {"type": kind, "message": message}}, status)
