"""What a provider is: the one interface the service calls and every adapter implements."""

import math
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from budget.in_flight import Hold
from gateway.types import HostedModel, NativeRequest, TurnRecord, Usage


@dataclass(slots=True)
class Transit:
    """Where a call is; its provider keeps this up to date.

    Attributes:
        memory: Grows with what is read of an answer; None where nobody counts.
        is_upstream: The upstream has the call and has not refused it, so it may bill it.
        attempts: Those of the same call before, which their caller held a worst case for apart.
        turn: What the log keeps of the turn that the call belongs to; None where it is no turn.
    """

    memory: Hold | None = None
    is_upstream: bool = False
    attempts: int = 0
    turn: TurnRecord | None = None


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One request to a provider, in OpenAI's chat-completions form.

    Attributes:
        body: The caller's body with the gateway's own fields removed; adapters copy, never edit.
        deadline_s: Monotonic time (`time.monotonic()`) after which no attempt is started.
        stream_limit_s: Seconds that a streamed answer may take once it has begun.
        request_id: Sent upstream as ``x-request-id``, so that both logs can be joined.
        trace_headers: Sent upstream too.
        native: The caller's request on another wire, for upstreams that speak it.
        dropped: Fields of the caller's that are not sent; its provider adds to them.
        refused: Fields that the model refused the caller's team lately: a `native` request, which
            is sent as it came, is sent without them.
        is_chosen: The caller named no model, or another one, so it cannot know what this one takes.
        team_id: Whose line it waits in for a place.
        is_elsewhere: The model can be called elsewhere too, so nobody waits to call it here again.
        is_last: Neither this model elsewhere nor another model is called after this.
    """

    model: HostedModel
    body: Mapping[str, Any]
    deadline_s: float
    request_id: str
    stream_limit_s: float = math.inf
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    transit: Transit = field(default_factory=Transit)
    native: NativeRequest | None = None
    dropped: set[str] = field(default_factory=set)
    refused: frozenset[str] = frozenset()
    is_chosen: bool = False
    team_id: str = ""
    is_elsewhere: bool = False
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole JSON answer in OpenAI's form, unknown fields included.

    Attributes:
        body: The decoded `chat.completion` object.
        usage: What the provider reported; None if it reported nothing.
        attempts: Upstream calls made, retries included.
        native: The answer as the upstream gave it, to a call that had a `native` request for it.
    """

    body: dict[str, Any]
    usage: Usage | None
    finish_reason: str | None
    attempts: int = 1
    native: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Whether a model is paused for its failures."""

    is_open: bool
    times_opened: int


@dataclass(frozen=True, slots=True)
class Condition:
    """How a provider does.

    Attributes:
        waiting: Calls that wait for one of the `limit` places.
        retries: Attempts repeated so far.
        breakers: By upstream name, of the models that were called.
        refused: Calls that got no place, by reason: ``full`` or ``late``.
    """

    in_flight: int
    waiting: int
    limit: int
    retries: int
    breakers: Mapping[str, BreakerState]
    refused: Mapping[str, int] = field(default_factory=dict)


class AnswerStream(Protocol):
    """A streamed answer: iterate for bytes to forward, then read what passed by.

    Yields whole SSE events in OpenAI's form, as raw bytes, as soon as they are whole. Two events
    are withheld for the service to write: the usage chunk (the one with empty `choices`) and
    ``data: [DONE]``. Entering the stream's context waits for the first event, so an error before
    it may fall back to another model.

    Raises:
        ProviderCutOff: The upstream ended before a finish_reason or ``[DONE]``.
        ProviderError: The upstream sent an error event, or failed.
    """

    usage: Usage | None
    finish_reason: str | None
    usage_event: dict[str, Any] | None
    """The withheld usage chunk as decoded; None if the provider sent none."""
    head: dict[str, Any] | None
    """`id`, `created`, `model` of the first chunk: what a usage chunk of our own is built from."""
    forwarded_events: int
    """Events forwarded so far."""
    is_complete: bool
    """The upstream said that its answer is complete; until then no count of it is final."""
    attempts: int
    is_native: bool
    """Its events are on the wire of the call's `native` request, not in OpenAI's form."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the events to forward."""
        ...

    async def leave(self) -> bytes:
        """End the upstream call at once; return the events that came and were not iterated over."""
        ...


class Provider(Protocol):
    """Hosts models behind one upstream dialect."""

    name: str

    async def complete(self, call: UpstreamCall) -> Completion:
        """Answer `call` with one JSON body.

        Raises:
            ProviderError: A narrower class says whether another model may do better.
        """
        ...

    def stream(self, call: UpstreamCall) -> AbstractAsyncContextManager[AnswerStream]:
        """Answer `call` as a stream; leaving the context cancels the upstream call.

        Raises:
            ProviderError: On entering, before the first byte.
        """
        ...

    def paused(self) -> Collection[str]:
        """Upstream names of the models whose circuit breaker lets no call through."""
        ...

    def condition(self) -> Condition:
        """Say how it does, for metrics."""
        ...

    async def aclose(self) -> None:
        """Close connections; called once at shutdown."""
        ...
