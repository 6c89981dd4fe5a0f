"""What taps have in common that read each event of a stream: those of other wires than chat."""

from abc import ABC, abstractmethod
from typing import Any

from gateway.errors import ProviderError
from gateway.providers.sse import EventCutter, ended_early, event_too_long
from gateway.types import Usage


class EventTap(ABC):
    """A tap (`gateway.providers.sse.Tap`) that looks at each event.

    A subclass says what is forwarded of one (`_forwarded`), and ends the answer (`_end`).
    """

    is_native = False

    def __init__(self, provider: str) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.usage_event: dict[str, Any] | None = None
        self.head: dict[str, Any] | None = None
        self.forwarded_events = 0
        self.is_done = False
        self.error: ProviderError | None = None
        self._provider = provider
        self._events = EventCutter()

    @property
    def is_finished(self) -> bool:
        """The answer has its reason to finish."""
        return self.finish_reason is not None

    def due(self, data: bytes) -> int:
        """Count the bytes of the events that `data` may complete; empty where nothing follows."""
        return self._events.due(data)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what is forwarded of the whole events in it."""
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        if self.is_done or self.error:
            return b""
        whole, ends = self._events.feed(data)
        written: list[bytes] = []
        start = 0
        for end in ends:
            chunk = self._forwarded(whole[start:end])
            start = end
            if chunk:
                written.append(chunk)
            if self.is_done or self.error:
                break
        if self._events.is_too_long and not self.error:
            self.error = event_too_long(self._provider)
        self.forwarded_events += len(written)
        return b"".join(written)

    def finish(self) -> bytes:
        """Take the end of the upstream; without a stop reason the answer was not complete."""
        if self.is_done or self.error:
            return b""
        rest = self._events.rest()
        forward = self._take(rest + b"\n\n") if rest.strip() else b""
        if not self.is_done and not self.error:
            if self.finish_reason is None:
                self.error = ended_early(self._provider)
            else:
                self._end()
        return forward

    @abstractmethod
    def _forwarded(self, event: bytes) -> bytes:
        """Return what is forwarded of `event`."""

    def _end(self) -> None:
        """Note that the answer is complete."""
        self.is_done = True
