"""Requests that a provider is sent as they are: the same manners as for chat, and any content."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.errors import ProviderCutOff, ProviderTimeout, ProviderUnavailable
from gateway.exact_json import dumps
from gateway.providers.answers import decode_answer
from gateway.providers.base import Transit
from gateway.providers.exchange import HttpFailure, HttpResponse, TimedOut
from gateway.providers.failures import (
    MAX_ERROR_BYTES,
    AttemptFailed,
    error_object,
    judged,
    redacted,
    stream_error,
)
from gateway.providers.redaction import clean_errors
from gateway.providers.sse import StreamTap
from gateway.providers.upstream import HttpProvider
from gateway.providers.upstream_stream import UpstreamStream

Form = Literal["json", "events", "any"]
_PARTS_OF_ANSWERS: Final = frozenset({"choices", "data", "id", "object", "results"})
"""An object with one of these is an answer, whatever it says of an error."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One request to a provider.

    Attributes:
        path: Below the API's version.
        upstream_name: Of the model that serves it; None where the gateway knows of none.
        name: Of the model or the endpoint, for the log.
        form: What is expected: ``json``, ``events`` (a stream that is looked into, or JSON), or
            ``any``, which passes unread unless it is JSON.
        is_read: The answer says what it costs, so that it has to be decoded.
        n_choices: How many answers a stream of events has.
        takes_usage: The caller wants a stream's usage.
        team_id: Whose line it waits in for a place.
    """

    method: str
    path: str
    upstream_name: str | None
    name: str
    request_id: str
    body: bytes | None
    content_type: str | None
    deadline_s: float
    stream_limit_s: float
    form: Form = "any"
    is_read: bool = False
    n_choices: int = 1
    takes_usage: bool = False
    transit: Transit = field(default_factory=Transit)
    team_id: str = ""


@dataclass(slots=True)
class Forwarding:
    """An answer that has begun: one of `whole`, `events` and `pieces`.

    Attributes:
        decoded: What `whole` says, where it was read.
        is_complete: All of it came.
        has_failed: Its provider did not send all of it, for no fault of the caller's.
    """

    status: int
    content_type: str
    response: HttpResponse
    attempts: int = 1
    whole: bytes | None = None
    decoded: Any = None
    events: UpstreamStream | None = None
    pieces: AsyncIterator[bytes] | None = None
    is_complete: bool = False
    has_failed: bool = False

    def judge(self, events: UpstreamStream) -> None:
        """Note how its events ended; a reader that is slow is no fault of the provider."""
        self.is_complete = events.is_complete
        if events.error is not None and not events.is_overdue:
            self.has_failed = judged(events.error).counts

    async def aclose(self) -> None:
        """Give the connection back if the answer is complete; else drop it, which cancels."""
        if self.events is not None:
            await self.events.aclose()
        self.response.close()


@asynccontextmanager
async def forwarding(provider: HttpProvider, call: Forwarded) -> AsyncIterator[Forwarding]:
    """Send `call`; leaving the context cancels what has not come of its answer.

    A call that may be billed is not repeated, since only one worst case is held for it.

    Raises:
        ProviderError: No answer began.
    """
    resilience = provider.resilience
    breaker = resilience.breaker(call.upstream_name or call.name)
    deadline_s = min(call.deadline_s, resilience.clock() + provider.timeouts.deadline_s)
    async with resilience.limiter.place(call.team_id):
        answer, answer_attempts = await resilience.attempt(
            breaker, deadline_s, lambda: _once(provider, call, deadline_s)
        )
        answer.attempts = answer_attempts
        breaker.answered()
        try:
            yield answer
        finally:
            if answer.events is not None:
                answer.judge(answer.events)
            if answer.has_failed:
                breaker.failed()
            elif answer.is_complete:
                breaker.succeeded()
            await answer.aclose()


async def _once(provider: HttpProvider, call: Forwarded, deadline_s: float) -> Forwarding:
    call.transit.is_upstream = True
    try:
        response = await _sent(provider, call, deadline_s)
        try:
            return await _begun(provider, call, response, deadline_s)
        except BaseException:
            response.close()
            raise
    except AttemptFailed as failed:
        call.transit.is_upstream = failed.may_be_billed
        raise


async def _sent(provider: HttpProvider, call: Forwarded, deadline_s: float) -> HttpResponse:
    content_type = {} if call.content_type is None else {"content-type": call.content_type}
    headers = {**provider.headers, **content_type, "x-request-id": call.request_id}
    if call.form == "any":
        headers["accept"] = "*/*"
    if call.body is None:
        headers.pop("content-type", None)
    url = provider.dialect.address(call.path, call.upstream_name)
    left_s = max(deadline_s - provider.resilience.clock(), 0.0)
    response = await provider.sent(call.method, url, headers, call.body, left_s)
    if 200 <= response.status < 300:
        return response
    failed = await provider.refused(response, call.name, call.request_id, deadline_s)
    if call.upstream_name is None and response.status == 404:
        failed.counts = False  # the caller names what it wants to see
    raise failed


async def _begun(
    provider: HttpProvider, call: Forwarded, response: HttpResponse, deadline_s: float
) -> Forwarding:
    kind = response.headers.get("content-type", "application/octet-stream")
    answer = Forwarding(response.status, kind, response)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and response.encoding is None:
        raise _strange(provider, "answered in an encoding that was not asked for")
    if call.form == "json" or response.is_json:
        await _read(provider, call, answer, deadline_s)
    elif call.form == "events":
        tap = StreamTap(provider.name, call.n_choices, takes_usage=call.takes_usage)
        begun = await provider.first_event(response, tap, deadline_s)
        answer.events = provider.streaming(response, tap, begun, call.stream_limit_s)
    else:
        ends_s = provider.resilience.clock() + call.stream_limit_s
        answer.pieces = _pieces(provider, answer, ends_s, provider.resilience.clock)
    return answer


async def _read(
    provider: HttpProvider, call: Forwarded, answer: Forwarding, deadline_s: float
) -> None:
    """Read a whole answer, and what it says where that matters."""
    raw = await provider.rest(answer.response, call.transit.memory, deadline_s)
    answer.whole, answer.is_complete = raw, True
    must_be_json = call.form != "any"
    may_be_error = len(raw) <= MAX_ERROR_BYTES and b'"error"' in raw
    if not (must_be_json or call.is_read or may_be_error):
        return
    try:
        answer.decoded = await provider.long_work.read(len(raw), decode_answer, raw)
    except ValueError as error:
        if must_be_json:
            raise _strange(provider, "sent an answer that is no JSON") from error
        return
    said = answer.decoded
    if not isinstance(said, dict):
        if must_be_json:
            raise _strange(provider, "sent an answer of an odd form")
    elif said.get("error") and not said.keys() & _PARTS_OF_ANSWERS:
        told = error_object(raw, provider.secrets) or said["error"]
        raise judged(redacted(stream_error(told, provider.name), provider.secrets))
    elif clean_errors(provider.secrets, said):
        answer.whole = dumps(said)


async def _pieces(
    provider: HttpProvider, answer: Forwarding, ends_s: float, clock: Callable[[], float]
) -> AsyncIterator[bytes]:
    """Pass a body on as it comes."""
    left_s = idle_s = provider.timeouts.idle_s
    try:
        while piece := await answer.response.next_chunk(min(idle_s, left_s)):
            yield piece
            left_s = max(ends_s - clock(), 0.0)
        answer.is_complete = True
    except HttpFailure as failure:
        is_late = isinstance(failure, TimedOut)
        answer.has_failed = not (is_late and left_s < idle_s)
        raise (ProviderTimeout if is_late else ProviderCutOff)(
            f"provider {provider.name!r} did not send all of its answer", provider=provider.name
        ) from failure


def _strange(provider: HttpProvider, words: str) -> AttemptFailed:
    strange = ProviderUnavailable(f"provider {provider.name!r} {words}", provider=provider.name)
    return AttemptFailed(strange, is_retryable=False)
