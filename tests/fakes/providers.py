"""A provider that plays a script and keeps the calls it got."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from gateway.errors import ProviderCutOff, ProviderTimeout
from gateway.providers.base import Completion, Condition, UpstreamCall
from gateway.types import Usage

USAGE = Usage(prompt_tokens=10, completion_tokens=5)
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "upstream",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


def event(text: str) -> bytes:
    """One content chunk as bytes."""
    return b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode()


class FakeStream:
    """Yields the scripted events; an exception among them is raised there, HANG waits for ever."""

    HANG = object()

    def __init__(
        self, script: tuple[Any, ...], usage: Usage | None, early: Usage | None = None
    ) -> None:
        self._script = script
        self._usage = usage
        self.usage = early
        self.finish_reason: str | None = None
        self.usage_event: dict[str, Any] | None = None
        self.head: dict[str, Any] | None = {"id": "chatcmpl-1", "created": 1, "model": "upstream"}
        self.forwarded_events = 0
        self.is_complete = False
        self.attempts = 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for item in self._script:
            if isinstance(item, Exception):
                raise item
            if item is FakeStream.HANG:
                await asyncio.Event().wait()
            self.forwarded_events += 1
            yield item
        self.finish_reason = "stop"
        self.is_complete = True
        self.usage = self._usage
        if self._usage is not None:
            self.usage_event = {"id": "chatcmpl-1", "choices": [], "usage": BODY["usage"]}

    async def leave(self) -> bytes:
        return b""


class FakeProvider:
    """Answers each call with the next item of its script; the last one repeats."""

    def __init__(
        self,
        *script: Any,
        usage: Usage | None = USAGE,
        early: Usage | None = None,
        finish_reason: str = "stop",
    ) -> None:
        self.name = "fake"
        self.calls: list[UpstreamCall] = []
        self.closed_streams = 0
        self._script = list(script)
        self._usage = usage
        self._early = early
        self._finish_reason = finish_reason

    def _next(self, call: UpstreamCall) -> Any:
        self.calls.append(call)
        call.transit.is_upstream = True
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, Exception):
            call.transit.is_upstream = isinstance(item, ProviderTimeout | ProviderCutOff)
            raise item
        return item

    async def complete(self, call: UpstreamCall) -> Completion:
        body = self._next(call)
        if body is FakeStream.HANG:
            await asyncio.Event().wait()
        return Completion(dict(body), self._usage, self._finish_reason)

    @asynccontextmanager
    async def stream(self, call: UpstreamCall) -> AsyncIterator[FakeStream]:
        script = self._next(call)
        try:
            yield FakeStream(script, self._usage, self._early)
        finally:
            self.closed_streams += 1

    def paused(self) -> Collection[str]:
        return ()

    def condition(self) -> Condition:
        return Condition(in_flight=0, waiting=0, limit=1, retries=0, breakers={})

    async def aclose(self) -> None:
        pass
