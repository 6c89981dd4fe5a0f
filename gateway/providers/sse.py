"""Looks into a passing event stream without holding it up or writing it anew.

Events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import orjson

from gateway.errors import ProviderCutOff, ProviderError
from gateway.long_work import LongWork
from gateway.nesting import is_too_deep
from gateway.providers.failures import stream_error
from gateway.providers.usage import usage_of
from gateway.types import Usage

MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_CONTAINERS = 2_000_000
"""Objects and lists of an answer: 40,000 tokens with 20 alternatives each. Five million took 2 s to
decode, since Python's collector counts them over and over."""
FINISH_REASONS = frozenset(
    {
        *("stop", "length", "tool_calls", "content_filter", "function_call"),
        # Not OpenAI's, but of hosts that speak its dialect.
        *("end_turn", "eos", "eos_token", "max_tokens", "model_length", "stop_sequence"),
    }
)
"""What ends a choice; some hosts send an empty reason, or one of their own, all along."""
_HEAD_TRIES = 3
_LONGEST_BOUNDARY = 4

# A CR at the very end may be the first half of CRLF, so it ends nothing yet.
_LINE_END = rb"(?:\r\n|\n|\r(?![\n]|\Z))"
_BOUNDARY = re.compile(_LINE_END + _LINE_END)
_ERROR_EVENT = re.compile(rb"^event:[ ]?error\b", re.MULTILINE)


class Tap(Protocol):
    """Turns the bytes of an upstream stream into OpenAI's events, noting what passes by."""

    usage: Usage | None
    finish_reason: str | None
    usage_event: dict[str, Any] | None
    head: dict[str, Any] | None
    forwarded_events: int
    is_done: bool
    """The upstream said that its answer is complete."""
    error: ProviderError | None
    """What the upstream reported instead of the rest, or why it cannot be forwarded."""

    @property
    def is_finished(self) -> bool:
        """Every choice has its reason to finish: what may follow is usage and the formal end."""
        ...

    is_native: bool
    """What it forwards is on the wire of the call's `native` request, not in OpenAI's form."""

    def due(self, data: bytes) -> int:
        """Count the bytes of the events that `data` may complete; empty where nothing follows."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return the whole events that can be forwarded, maybe none."""
        ...

    def finish(self) -> bytes:
        """Take the end of the upstream; sets `is_done`, or else `error`."""
        ...


class EventCutter:
    """Cuts a stream into whole events, in time linear in its bytes however they arrive.

    What was searched is not searched again, but for its last bytes: a boundary may begin there.
    """

    __slots__ = ("_carry", "_has_begun")

    def __init__(self) -> None:
        self._carry = bytearray()
        self._has_begun = False

    @property
    def is_too_long(self) -> bool:
        """The event that has begun is longer than any may be."""
        return len(self._carry) > MAX_EVENT_BYTES

    def due(self, data: bytes) -> int:
        """Count the bytes of the events that `data` may complete; empty where nothing follows."""
        may_end = not data or b"\n" in data or b"\r" in data
        return len(self._carry) + len(data) if may_end else 0

    def feed(self, data: bytes) -> tuple[bytes, list[int]]:
        """Take what arrived; return the whole events, maybe none, and the offset after each.

        A byte order mark before the first one is left out: clients do not look for it.
        """
        whole, ends = self._cut(data)
        is_first, self._has_begun = not self._has_begun, self._has_begun or bool(ends)
        if ends and is_first and whole.startswith(BOM_UTF8):
            return whole[len(BOM_UTF8) :], [end - len(BOM_UTF8) for end in ends]
        return whole, ends

    def _cut(self, data: bytes) -> tuple[bytes, list[int]]:
        carry = self._carry
        if not carry:
            ends = boundaries(data)
            end = ends[-1] if ends else 0
            if end == len(data):
                return data, ends
            carry += data[end:]
            return data[:end], ends
        begun = max(len(carry) - _LONGEST_BOUNDARY + 1, 0)
        ends = [begun + end for end in boundaries(bytes(carry[begun:]) + data)]
        carry += data
        if not ends:
            return b"", ends
        whole = bytes(memoryview(carry)[: ends[-1]])
        del carry[: ends[-1]]
        return whole, ends

    def rest(self) -> bytes:
        """Take out the event that has begun."""
        rest = bytes(self._carry)
        self._carry.clear()
        return rest if self._has_begun else rest.removeprefix(BOM_UTF8)


class StreamTap:
    """A tap for upstreams that already speak OpenAI's events, which pass unchanged.

    Args:
        takes_usage: The caller gets usage in a chunk at the end, so no other chunk may have it.
        hides_reasoning: See `gateway.providers.usage.usage_of`.
    """

    is_native = False

    def __init__(
        self,
        provider: str,
        n_choices: int = 1,
        *,
        takes_usage: bool = False,
        hides_reasoning: bool = False,
    ) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.usage_event: dict[str, Any] | None = None
        self.head: dict[str, Any] | None = None
        self.forwarded_events = 0
        self.is_done = False
        self.error: ProviderError | None = None
        self._provider = provider
        self._n_choices = n_choices
        self._takes_usage = takes_usage
        self._hides_reasoning = hides_reasoning
        self._finished_choices: set[int] = set()
        self._events = EventCutter()
        self._head_tries = _HEAD_TRIES

    @property
    def is_finished(self) -> bool:
        """Every choice has its reason to finish."""
        return len(self._finished_choices) >= self._n_choices

    def due(self, data: bytes) -> int:
        """Count the bytes of the events that `data` may complete; empty where nothing follows."""
        return self._events.due(data)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return the whole events that can be forwarded, maybe none."""
        if self.is_done or self.error:
            return b""
        whole, ends = self._events.feed(data)
        if self._events.is_too_long:
            self.error = event_too_long(self._provider)
        if self._head_tries == 0 and not is_noteworthy(whole):
            self.forwarded_events += len(ends)
            return whole
        return self._inspect(whole, ends)

    def finish(self) -> bytes:
        """Take the end of the upstream; sets `error` if the answer was not complete."""
        forward = b""
        rest = self._events.rest()
        if not self.is_done and self.error is None and rest:
            forward = self._last_words(rest)
            self.forwarded_events += bool(forward)
        self.is_done = self.is_done or self.is_finished
        if not self.is_done and self.error is None:
            self.error = ended_early(self._provider)
        return forward

    def _last_words(self, rest: bytes) -> bytes:
        """Accept a last event that lacks its blank line only if it is whole otherwise."""
        if not rest.strip() or rest.startswith(b":"):
            return rest
        payload = payload_of(rest)
        if not payload:
            # A body that is no event stream at all: some hosts answer with a plain error.
            error = (decode_object(rest) or {}).get("error")
            self.error = stream_error(error, self._provider) if error else None
            return b""
        if payload != b"[DONE]" and decode_object(payload) is None:
            return b""
        ending = b"\n" if rest.endswith((b"\n", b"\r")) else b"\n\n"
        return self._admitted(rest + ending)

    def _inspect(self, buffer: bytes, ends: list[int]) -> bytes:
        """Look at each event; drop those that are the service's to write."""
        kept: list[bytes] = []
        start = 0
        for end in ends:
            event = buffer[start:end]
            start = end
            if self._head_tries or is_noteworthy(event):
                event = self._admitted(event)
            if event:
                kept.append(event)
            if self.is_done or self.error:
                break
        self.forwarded_events += len(kept)
        return b"".join(kept)

    def _admitted(self, event: bytes) -> bytes:
        """Note what `event` says; return what may be forwarded of it, which may be nothing."""
        payload = payload_of(event)
        if payload == b"[DONE]":
            self.is_done = True
            return b""
        chunk = decode_object(payload) if payload else None
        if chunk is None:
            return event
        error = chunk.get("error") or (chunk if _is_named_error(event) else None)
        if error:
            self.error = stream_error(error, self._provider)
            return b""
        self._note_head(chunk)
        self._note_finish(chunk)
        reported = chunk.get("usage")
        return self._without_usage(event, chunk, reported) if isinstance(reported, dict) else event

    def _without_usage(
        self, event: bytes, chunk: dict[str, Any], reported: Mapping[str, Any]
    ) -> bytes:
        """Keep usage for one chunk at the end: clients add up what several of them say."""
        self.usage = usage_of(reported, hides_reasoning=self._hides_reasoning) or self.usage
        if not chunk.get("choices"):
            self.usage_event = chunk
            return b""
        if not self._takes_usage:
            return event
        self.usage_event = {**chunk, "choices": []}
        del chunk["usage"]
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _note_head(self, chunk: Mapping[str, Any]) -> None:
        """Take the identity from the first chunk that has one (Azure's first has none)."""
        if self._head_tries == 0:
            return
        self._head_tries -= 1
        self.head = {name: chunk.get(name) for name in ("id", "created", "model")}
        if self.head["id"]:
            self._head_tries = 0

    def _note_finish(self, chunk: Mapping[str, Any]) -> None:
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) else None
            if isinstance(reason, str) and reason in FINISH_REASONS:
                self.finish_reason = reason
                index = choice.get("index")
                self._finished_choices.add(index if isinstance(index, int) else 0)


async def fed(tap: Tap, data: bytes, long_work: LongWork) -> bytes:
    """Give `tap` what arrived, empty where nothing follows; return what can be forwarded."""
    if data:
        return await long_work.read(tap.due(data), tap.feed, data)
    return await long_work.read(tap.due(data), tap.finish)


def is_noteworthy(events: bytes) -> bool:
    r"""Whether `events` may hold more than text to forward; wrong only in saying yes.

    Counting is several times quicker than one regular expression: 20 chunks cost 0.03 ms. A key
    inside a JSON string has its quotes escaped (``\\"usage\\"``), so text cannot pass for one.
    """
    says = _says(b'"usage"', events) or _says(b'"finish_reason"', events)
    return says or b'"error"' in events or b"[DONE]" in events or b"event:" in events


def _says(key: bytes, events: bytes) -> bool:
    """Whether `key` may have a value other than null; hosts in Python write a blank before it."""
    unsaid = events.count(key) - events.count(key + b":null")
    return unsaid != 0 and unsaid != events.count(key + b": null")


def event_too_long(provider: str) -> ProviderCutOff:
    """Give up on a stream whose event does not end."""
    return ProviderCutOff(
        f"provider {provider!r} sent an event longer than {MAX_EVENT_BYTES} bytes",
        provider=provider,
    )


def ended_early(provider: str) -> ProviderCutOff:
    """Say that a stream is not a whole answer."""
    return ProviderCutOff(
        f"provider {provider!r} ended its stream before the answer was complete",
        provider=provider,
    )


def boundaries(buffer: bytes) -> list[int]:
    """Find the offset just after each whole event of `buffer`."""
    if b"\r" in buffer:
        return [match.end() for match in _BOUNDARY.finditer(buffer)]
    ends = []
    at = buffer.find(b"\n\n")
    while at >= 0:
        ends.append(at + 2)
        at = buffer.find(b"\n\n", at + 2)
    return ends


def events_in(data: bytes) -> Iterator[bytes]:
    """Iterate over the events in `data`; what follows the last whole one is one too."""
    start = 0
    for end in (*boundaries(data), len(data)):
        if end > start:
            yield data[start:end]
        start = end


def payload_of(event: bytes) -> bytes:
    """Join the ``data`` lines of `event`; empty for a comment."""
    if b"data:" not in event:  # six times as quick for what a host that sends only blanks sends
        return b""
    if event.find(b"\n") == len(event) - 2 and event.startswith(b"data:") and b"\r" not in event:
        return event[5:].strip()  # one line, as most hosts write: in a third of the time
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    # One copy of each line: it may be of many megabytes.
    return b"\n".join(line[6 if line[5:6] == b" " else 5 :] for line in lines).strip()


def _is_named_error(event: bytes) -> bool:
    # The pattern alone takes 40 ms for an event of 7 MB.
    return b"event:" in event and _ERROR_EVENT.search(event) is not None


def decode(payload: bytes) -> Any:
    """Decode JSON that an upstream sent.

    Raises:
        ValueError: It is not JSON, or has more than `MAX_CONTAINERS`.
    """
    is_long = len(payload) > MAX_CONTAINERS
    if is_long and payload.count(b"[") + payload.count(b"{") > MAX_CONTAINERS:
        raise ValueError(f"more than {MAX_CONTAINERS} objects and lists")
    return orjson.loads(payload)


def decode_leniently(payload: bytes) -> Any:
    """Decode what orjson refuses: halves of characters, which are replaced, NaN and infinities.

    A caller can have a model write these, so they are no fault of the model's. They become null.

    Raises:
        ValueError: It is no JSON all the same.
    """
    try:
        value = json.loads(payload, parse_constant=lambda _: None)
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _lenient_or_none(payload: bytes) -> Any:
    try:
        return decode_leniently(payload)
    except ValueError:
        return None


def decode_object(payload: bytes) -> dict[str, Any] | None:
    """Decode a JSON object; None if it is anything else, or nested too deeply to be written."""
    try:
        value = decode(payload)
    except orjson.JSONDecodeError:
        value = _lenient_or_none(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) and not is_too_deep(payload, value) else None
