"""What all adapters share: one call to an upstream, whole or streamed, whatever its dialect."""

import logging
import math
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson

from budget.in_flight import Hold
from gateway.errors import (
    InvalidRequest,
    ProviderCutOff,
    ProviderError,
    ProviderMisconfigured,
    ProviderUnavailable,
)
from gateway.inflating import InflatedTooLong, inflate
from gateway.long_work import LongWork
from gateway.providers.answers import WholeTap, decode_answer, gathered, is_stream
from gateway.providers.base import Completion, Condition, UpstreamCall
from gateway.providers.credentials import Credentials, Keeper
from gateway.providers.dialect import Dialect, Timeouts
from gateway.providers.exchange import (
    BodyTooLong,
    ConnectionBroken,
    HttpFailure,
    HttpResponse,
    NotTrusted,
    TimedOut,
)
from gateway.providers.failures import (
    MAX_ERROR_BYTES,
    AttemptFailed,
    error_object,
    failed_exchange,
    failed_status,
    judged,
    reason_in,
    redacted,
    stream_error,
)
from gateway.providers.http import HttpClient
from gateway.providers.redaction import clean_errors
from gateway.providers.resilience import Resilience
from gateway.providers.sse import MAX_EVENT_BYTES, Tap, event_too_long, fed
from gateway.providers.upstream_stream import UpstreamStream
from gateway.settings.server import MEMORY_PER_BODY_BYTE

MAX_BODY_BYTES = 64 * 1024 * 1024
_NOT_ADMITTED = frozenset({401, 403})
"""What credentials that have ended are answered: by Google and Azure, by AWS."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class HttpProvider:
    """A provider reached over HTTP; `dialect` knows its words, this knows its manners.

    Args:
        headers: Sent with every call; they carry the gateway's key, where it has one.
        own_secrets: Strings that must not reach a caller even inside a provider's error.
        keeper: Of credentials that take the place of a key.
    """

    name: str
    http: HttpClient
    dialect: Dialect
    headers: Mapping[str, str]
    timeouts: Timeouts
    resilience: Resilience
    long_work: LongWork
    own_secrets: tuple[str, ...] = ()
    keeper: Keeper | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not reach a caller, those of credentials that change included."""
        return self.own_secrets if self.keeper is None else self.own_secrets + self.keeper.secrets

    async def complete(self, call: UpstreamCall) -> Completion:
        """Answer `call` with one JSON body."""
        body = await self._encoded(call, is_stream=False)
        breaker = self.resilience.breaker(call.model.upstream_name)
        deadline_s = self._deadline_s(call)
        async with self.resilience.limiter.place(call.team_id):
            completion, attempts = await self.resilience.attempt(
                breaker,
                deadline_s,
                lambda: self._complete_once(call, body, deadline_s),
                call.transit.attempts,
                is_elsewhere=call.is_elsewhere,
            )
        breaker.succeeded()
        return completion if attempts == 1 else replace(completion, attempts=attempts)

    @asynccontextmanager
    async def stream(self, call: UpstreamCall) -> AsyncIterator[UpstreamStream]:
        """Answer `call` as a stream; leaving the context cancels the upstream call."""
        body = await self._encoded(call, is_stream=True)
        breaker = self.resilience.breaker(call.model.upstream_name)
        deadline_s = self._deadline_s(call)
        async with self.resilience.limiter.place(call.team_id):
            stream, attempts = await self.resilience.attempt(
                breaker,
                deadline_s,
                lambda: self._open_once(call, body, deadline_s),
                call.transit.attempts,
                is_elsewhere=call.is_elsewhere,
            )
            stream.attempts = attempts
            breaker.answered()
            try:
                yield stream
            finally:
                if stream.error and judged(stream.error).counts and not stream.is_overdue:
                    breaker.failed()
                elif stream.is_over:
                    breaker.succeeded()
                await stream.aclose()

    def paused(self) -> Collection[str]:
        """Upstream names of the models whose circuit breaker lets no call through."""
        return self.resilience.paused()

    def condition(self) -> Condition:
        """Say how it does, for metrics."""
        return self.resilience.condition()

    async def aclose(self) -> None:
        """Do nothing: the connections belong to the client that all providers share."""

    async def _encoded(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        """Write the request; a long one in a thread: dialects join and copy what is in it."""
        memory = call.transit.memory
        n_bytes = 0 if memory is None else memory.amount // MEMORY_PER_BODY_BYTE
        return await self.long_work.read(n_bytes, self._encode, call, is_stream=is_stream)

    def _encode(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        try:
            return self.dialect.encode(call, is_stream=is_stream)
        except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
            raise InvalidRequest(
                "The body is nested too deeply to be sent to the provider."
            ) from error

    def _deadline_s(self, call: UpstreamCall) -> float:
        return min(call.deadline_s, self.resilience.clock() + self.timeouts.deadline_s)

    async def _complete_once(
        self, call: UpstreamCall, body: bytes, deadline_s: float
    ) -> Completion:
        call.transit.is_upstream = True
        try:
            raw = await self._read(call, body, deadline_s)
            return await self.long_work.read(len(raw), self._decode, call, raw)
        except AttemptFailed as failed:
            call.transit.is_upstream = failed.may_be_billed
            raise

    async def _read(self, call: UpstreamCall, body: bytes, deadline_s: float) -> bytes:
        patience_s = self._left_s(deadline_s)
        response = await self._send(call, body, deadline_s, patience_s, is_stream=False)
        return await self.rest(response, call.transit.memory, deadline_s)

    async def rest(self, response: HttpResponse, memory: Hold | None, deadline_s: float) -> bytes:
        """Read the whole body of an answer, however it is encoded.

        Raises:
            AttemptFailed: It ends early, is too long, or does not come in time.
        """
        try:
            raw = await response.read(MAX_BODY_BYTES, self._left_s(deadline_s), memory)
            if response.encoding is not None:
                raw = await self.long_work.aside(inflate, raw, MAX_BODY_BYTES, response.encoding)
                if memory is not None:
                    memory.grow(memory.amount + MEMORY_PER_BODY_BYTE * len(raw))
        except TimedOut as failure:
            raise failed_exchange(failure, self.name) from failure
        except (ConnectionBroken, BodyTooLong, InflatedTooLong, ValueError) as failure:
            is_long = isinstance(failure, BodyTooLong | InflatedTooLong)
            words = "too long an answer" if is_long else "half an answer"
            cut = ProviderCutOff(f"provider {self.name!r} sent {words}", provider=self.name)
            raise AttemptFailed(cut, is_retryable=False, may_be_billed=True) from failure
        else:
            return raw
        finally:
            response.close()

    def _decode(self, call: UpstreamCall, raw: bytes) -> Completion:
        try:
            if is_stream(raw):
                return gathered(raw, self.dialect.tap(replace(call, native=None)))
            decoded = decode_answer(raw)
            if isinstance(decoded, dict) and decoded.get("error") and not decoded.get("choices"):
                said = error_object(raw, self.secrets) or decoded["error"]
                raise judged(stream_error(said, self.name))
            if isinstance(decoded, dict):
                clean_errors(self.secrets, decoded)
            return self.dialect.decode(call, decoded)
        except ProviderError as error:
            raise judged(redacted(error, self.secrets)) from error
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            strange = ProviderUnavailable(
                f"provider {self.name!r} sent an answer that is not a chat completion",
                provider=self.name,
            )
            raise AttemptFailed(strange, is_retryable=False) from error

    async def _open_once(
        self, call: UpstreamCall, body: bytes, deadline_s: float
    ) -> UpstreamStream:
        """Send the call and wait for the first event, so that failing before it can be mended."""
        patience_s = min(self.timeouts.first_byte_s, self._left_s(deadline_s))
        call.transit.is_upstream = True
        try:
            response = await self._send(call, body, deadline_s, patience_s, is_stream=True)
            try:
                if response.is_json:
                    tap, begun = await self._whole(response, call, deadline_s)
                else:
                    tap = self.dialect.tap(call)
                    begun = await self.first_event(response, tap, deadline_s)
            except BaseException:
                response.close()
                raise
        except AttemptFailed as failed:
            call.transit.is_upstream = failed.may_be_billed
            raise
        return self.streaming(response, tap, begun, call.stream_limit_s)

    def streaming(
        self, response: HttpResponse, tap: Tap, begun: bytes, limit_s: float
    ) -> UpstreamStream:
        """Make a stream of an answer that has begun; it may take `limit_s`."""
        return UpstreamStream(
            response,
            tap,
            begun,
            limit_s,
            idle_s=self.timeouts.idle_s,
            ending_s=self.timeouts.ending_s,
            clock=self.resilience.clock,
            long_work=self.long_work,
            provider=self.name,
            secrets=self.secrets,
        )

    async def _whole(
        self, response: HttpResponse, call: UpstreamCall, deadline_s: float
    ) -> tuple[Tap, bytes]:
        """Make a stream of the whole answer that came instead."""
        raw = await self.rest(response, call.transit.memory, deadline_s)
        completion = await self.long_work.read(len(raw), self._decode, call, raw)
        tap = WholeTap(completion)
        return tap, tap.events

    async def first_event(self, response: HttpResponse, tap: Tap, deadline_s: float) -> bytes:
        """Collect what comes up to the first event; comments show that the upstream lives.

        They are passed on before it only where it is long in coming: after them there is no way
        back to another model.
        """
        begun = bytearray()
        patience_s, passed_s = self.timeouts.first_byte_s, math.inf
        while tap.head is None and not tap.is_done:
            held_s = passed_s - self.resilience.clock()
            try:
                if held_s <= 0:
                    break
                data = await response.next_chunk(min(patience_s, held_s, self._left_s(deadline_s)))
            except HttpFailure as failure:
                if isinstance(failure, TimedOut) and held_s < self._left_s(deadline_s):
                    break
                raise failed_exchange(failure, self.name) from failure
            begun += await fed(tap, data, self.long_work)
            if tap.error:
                tap.error = redacted(tap.error, self.secrets)
                if tap.head is None:
                    raise judged(tap.error)
            if len(begun) > MAX_EVENT_BYTES:
                raise judged(event_too_long(self.name))
            if begun and passed_s == math.inf:
                passed_s = self.resilience.clock() + self.timeouts.comments_s
            patience_s = self.timeouts.idle_s
        return bytes(begun)

    async def _send(
        self,
        call: UpstreamCall,
        body: bytes,
        deadline_s: float,
        timeout_s: float,
        *,
        is_stream: bool,
    ) -> HttpResponse:
        headers = {
            **self.headers,
            "x-request-id": call.request_id,
            **call.trace_headers,
            **self.dialect.headers(call),
        }
        url = self.dialect.url(call, is_stream=is_stream)
        response = await self.sent("POST", url, headers, body, timeout_s)
        if response.status == 200:
            return response
        raise await self.refused(response, call.model.name, call.request_id, deadline_s)

    async def sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> HttpResponse:
        """Send a request, signed in; once more where its credentials turn out to have ended.

        Raises:
            AttemptFailed: There was no answer, or there are no credentials.
        """
        if self.keeper is None:
            return await self._sent(method, url, headers, body, timeout_s)
        ends_s = self.resilience.clock() + timeout_s
        credentials = await self.keeper.credentials()
        signed = await self._signed(credentials, method, url, headers, body)
        response = await self._sent(method, url, signed, body, self._left_s(ends_s))
        if response.status not in _NOT_ADMITTED:
            return response
        others = await self.keeper.instead_of(credentials)
        if others is None:
            return response
        response.close()
        signed = await self._signed(others, method, url, headers, body)
        return await self._sent(method, url, signed, body, self._left_s(ends_s))

    async def _signed(
        self,
        credentials: Credentials,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Mapping[str, str]:
        """Add what signs a request in; a long body is signed in a thread."""
        kind, size = headers.get("content-type"), len(body or b"")
        own = await self.long_work.read(size, credentials.headers, method, url, kind, body)
        return {**headers, **own}

    async def _sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> HttpResponse:
        try:
            return await self.http.request(
                method,
                url,
                headers=headers,
                body=body,
                connect_timeout_s=self.timeouts.connect_s,
                timeout_s=timeout_s,
            )
        except HttpFailure as failure:
            if isinstance(failure, NotTrusted):
                _log.warning("provider %r: no TLS connection could be made: %s", self.name, failure)
            raise failed_exchange(failure, self.name) from failure

    async def refused(
        self, response: HttpResponse, model: str, request_id: str, deadline_s: float
    ) -> AttemptFailed:
        """Judge an answer whose status says that it is none."""
        try:
            said = await response.read(MAX_ERROR_BYTES, self._left_s(deadline_s))
            if response.encoding is not None:
                said = inflate(said, MAX_ERROR_BYTES, response.encoding)
        except (HttpFailure, InflatedTooLong, ValueError):
            said = b""
        finally:
            response.close()
        failed = failed_status(response.status, response.headers, said, self.name, self.secrets)
        if isinstance(failed.error, ProviderMisconfigured):
            _log.warning(
                "%s; model %s, reason %s",
                *(failed.error, model, reason_in(said, self.secrets)),
                extra={"fields": {"request_id": request_id}},
            )
        return failed

    def _left_s(self, deadline_s: float) -> float:
        return max(deadline_s - self.resilience.clock(), 0.0)
