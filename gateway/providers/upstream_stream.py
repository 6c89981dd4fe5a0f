"""A streamed answer of an upstream, on its way to the caller."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from gateway.errors import (
    ProviderCutOff,
    ProviderError,
    ProviderTimeout,
)
from gateway.long_work import LongWork
from gateway.providers.exchange import HttpFailure, HttpResponse, TimedOut
from gateway.providers.failures import (
    redacted,
)
from gateway.providers.redaction import clean_errors
from gateway.providers.sse import Tap, decode_object, events_in, fed, payload_of
from gateway.types import Usage


class UpstreamStream:
    """A streamed answer that has begun; see `gateway.providers.base.AnswerStream`.

    Args:
        begun: What came up to its first event.
        limit_s: How long it may take from now on, however much of it arrives.
        idle_s: How long nothing may come.
        ending_s: How long, once every choice has its reason to finish.
        provider: Its name.
        secrets: Strings that must not reach a caller.

    Attributes:
        is_overdue: It took longer. Its reader may have been the slow one, so it says nothing
            about the provider.
    """

    def __init__(
        self,
        response: HttpResponse,
        tap: Tap,
        begun: bytes,
        limit_s: float,
        *,
        idle_s: float,
        ending_s: float,
        clock: Callable[[], float],
        long_work: LongWork,
        provider: str,
        secrets: tuple[str, ...],
    ) -> None:
        self.is_overdue = False
        self.is_native = tap.is_native
        self.attempts = 1
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.usage_event: dict[str, Any] | None = None
        self.head: dict[str, Any] | None = None
        self.forwarded_events = 0
        self.is_complete = False
        self._response = response
        self._tap = tap
        self._begun = begun
        self._idle_s = idle_s
        self._ending_s = ending_s
        self._limit_s = limit_s
        self._clock = clock
        self._ends_s = self._clock() + limit_s
        self._long_work = long_work
        self._provider = provider
        self._secrets = secrets
        self._note()

    @property
    def is_over(self) -> bool:
        """The answer is complete or has failed; nothing more will come."""
        return self._tap.is_done or self._tap.error is not None

    @property
    def error(self) -> ProviderError | None:
        """Why the answer is not complete; None while it goes on and when it is."""
        return self._tap.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the events to forward, each run of bytes as soon as it is whole."""
        tap = self._tap
        if self._begun:
            yield self._clean(self._begun)
            self._begun = b""
        heard_s = self._clock()
        while not self.is_over:
            left_s = self._ends_s - self._clock()
            wait_s = min(self._patience_s(heard_s), left_s)
            try:
                if wait_s <= 0:
                    raise TimedOut("the stream took too long")
                data = await self._response.next_chunk(wait_s)
            except HttpFailure as failure:
                await fed(tap, b"", self._long_work)
                self._note()
                if not tap.is_done:  # whole, if its reason to finish had come
                    self.is_overdue = isinstance(failure, TimedOut) and left_s < self._idle_s
                    tap.error = self._cut_off(failure)
                break
            was_finished = tap.is_finished
            forward = await fed(tap, data, self._long_work)
            self._note()
            if not was_finished or b"data:" in forward:
                heard_s = self._clock()
            if forward:
                yield self._clean(forward)
        if tap.error:
            raise redacted(tap.error, self._secrets)

    def _patience_s(self, heard_s: float) -> float:
        """Say how long to wait: once the answer has its reason to finish, not for comments."""
        if not self._tap.is_finished:
            return self._idle_s
        return min(heard_s + self._ending_s - self._clock(), self._idle_s)

    async def leave(self) -> bytes:
        """End the upstream call at once; return the events that came and were not iterated over.

        The provider writes, and bills, until it is told. So it is told before anything else is
        done, and what it wrote meanwhile counts.
        """
        events, self._begun = self._begun, b""
        if not self.is_over and (arrived := await self._response.leave()):
            events += await fed(self._tap, arrived, self._long_work)
            self._note()
        return events

    async def aclose(self) -> None:
        """Give the connection back if the answer is complete; else drop it, which cancels."""
        try:
            if self._tap.is_done:
                await self._response.drain()
        finally:
            self._response.close()

    def _clean(self, events: bytes) -> bytes:
        """Cut secrets out of the errors that events tell of beside their answer."""
        if b'"error"' not in events:
            return events
        return b"".join(_clean_event(self._secrets, event) for event in events_in(events))

    def _note(self) -> None:
        tap = self._tap
        self.usage = tap.usage
        self.finish_reason = tap.finish_reason
        self.usage_event = tap.usage_event
        self.head = tap.head
        self.forwarded_events = tap.forwarded_events
        self.is_complete = tap.is_done

    def _cut_off(self, failure: HttpFailure) -> ProviderError:
        if isinstance(failure, TimedOut):
            told = f"stopped sending for {self._idle_s:g} s"
            if self.is_overdue:
                told = f"did not end its answer within {self._limit_s:g} s"
            return ProviderTimeout(f"provider {self._provider!r} {told}", provider=self._provider)
        return ProviderCutOff(
            f"provider {self._provider!r} broke off its answer", provider=self._provider
        )


def _clean_event(secrets: tuple[str, ...], event: bytes) -> bytes:
    chunk = decode_object(payload_of(event)) if b'"error"' in event else None
    if chunk is None or not clean_errors(secrets, chunk):
        return event
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
