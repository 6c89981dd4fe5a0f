"""Every error a caller can see, and the one table that renders it in OpenAI's shape.

Shape: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Any

import orjson

from budget.errors import (
    BudgetError,
    BudgetExhausted,
    CapacityExceeded,
    LedgerUnavailable,
    ShareExceeded,
)
from router_models.errors import NoModelAvailable


class GatewayError(Exception):
    """Anything the gateway raises on purpose while serving.

    Args:
        message: What went wrong and what the caller can do, in the caller's words.
        param: The request field at fault, where there is one.
        retry_after_s: When trying again is worthwhile.

    Attributes:
        headers: Response headers that say which turn failed; set by the service.
    """

    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class CallerError(GatewayError):
    """The request cannot be served as it was sent."""


class InvalidRequest(CallerError):
    """The body or a header is malformed."""


class BodyTooLarge(CallerError):
    """The body is longer than the gateway accepts."""


class UnsupportedEncoding(CallerError):
    """The body is compressed in a way that the gateway does not understand."""


class Unauthenticated(CallerError):
    """No key, an unknown key, or one that was revoked or has expired."""


class Forbidden(CallerError):
    """The key is valid but may not do this."""


class ModelNotFound(CallerError):
    """No model of that name is served to this key."""


class NoCapableModel(CallerError):
    """The request needs what none of the models it may use can do."""


class NoSuchResponse(CallerError):
    """The response that a request goes on from is not kept for this team."""


class NotFound(CallerError):
    """No such path or resource."""


class Conflict(CallerError):
    """What shall be created is there already."""


class RateLimited(CallerError):
    """The caller sends faster than allowed.

    Attributes:
        limit_source: Kind of the scope that refused: team, key, user, conversation or turn.
        limit: The limit that refused, for the log.
    """

    limit_source: str | None = None
    limit: str | None = None


class DependencyUnavailable(GatewayError):
    """Something the gateway itself needs is down, so the request cannot be admitted."""


class ProviderError(GatewayError):
    """The provider did not answer; `upstream_status` is what it said, where it said anything.

    Attributes:
        attempts: Calls that were made upstream, retries included.
        repeatable_after: How many attempts failed of a call that may be sent again now, although
            these may be billed; 0 where it may not.
        may_be_provoked: A caller may have brought it about, so that it says nothing of the model.
    """

    attempts: int = 1
    repeatable_after: int = 0
    may_be_provoked: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        upstream_status: int | None = None,
        retry_after_s: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.provider = provider
        self.upstream_status = upstream_status


class ProviderTimeout(ProviderError):
    """The provider did not answer in time; another model may."""


class ProviderUnavailable(ProviderError):
    """The provider is down, overloaded, or its circuit breaker is open; another may answer."""


class ProviderRateLimited(ProviderUnavailable):
    """The provider takes no more calls for now; another may answer."""


class ProviderMisconfigured(ProviderError):
    """The provider refused the gateway's own credentials or address; another model may answer."""


class ProviderUnpaid(ProviderMisconfigured):
    """The gateway's account at the provider has nothing left; another model may answer."""


class ProviderCutOff(ProviderError):
    """The provider's answer ended before it was complete."""


class ProviderRejected(ProviderError):
    """The provider refused this request; another model would not do better.

    Args:
        status: The provider's HTTP status, 4xx; passed on to the caller.
        body: The provider's error object, passed on to the caller.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int = 400,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, provider=provider, upstream_status=status)
        self.status = status
        self.body = body


class ProviderUnsupported(ProviderRejected):
    """The model has no way to do what is asked; another model may have one."""

    @property
    def asked(self) -> str | None:
        """The field of the request that it refused; None where that is not said."""
        param = (self.body or {}).get("param")
        return param if isinstance(param, str) else None

    @property
    def is_about_value(self) -> bool:
        """Whether another value of that field would do."""
        return (self.body or {}).get("code") == "unsupported_value"


def drop_tracebacks(error: BaseException) -> None:
    """Let go of what led to an error that was dealt with.

    Its traceback holds all that the calls had in hand that failed, bodies of many megabytes among
    it. Where one of them had the error in hand too, that is a circle, and Python frees a circle
    when its collector comes to it, which may take hours.
    """
    chain = [error]
    while chain:
        one = chain.pop()
        chain += [led for led in (one.__cause__, one.__context__) if led is not None]
        one.__traceback__ = one.__cause__ = one.__context__ = None


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one class of error looks on the wire."""

    status: int
    type: str
    code: str


RENDERINGS: Mapping[type[Exception], Rendering] = MappingProxyType(
    {
        InvalidRequest: Rendering(400, "invalid_request_error", "invalid_request"),
        BodyTooLarge: Rendering(413, "invalid_request_error", "request_too_large"),
        UnsupportedEncoding: Rendering(415, "invalid_request_error", "unsupported_encoding"),
        Unauthenticated: Rendering(401, "invalid_request_error", "invalid_api_key"),
        Forbidden: Rendering(403, "invalid_request_error", "permission_denied"),
        ModelNotFound: Rendering(404, "invalid_request_error", "model_not_found"),
        NoCapableModel: Rendering(400, "invalid_request_error", "no_capable_model"),
        NoSuchResponse: Rendering(400, "invalid_request_error", "previous_response_not_found"),
        NotFound: Rendering(404, "invalid_request_error", "not_found"),
        Conflict: Rendering(409, "invalid_request_error", "conflict"),
        RateLimited: Rendering(429, "rate_limit_error", "rate_limit_exceeded"),
        DependencyUnavailable: Rendering(503, "server_error", "temporarily_unavailable"),
        ProviderTimeout: Rendering(504, "provider_error", "provider_timeout"),
        ProviderUnavailable: Rendering(503, "provider_error", "provider_unavailable"),
        ProviderRateLimited: Rendering(429, "rate_limit_error", "rate_limit_exceeded"),
        ProviderMisconfigured: Rendering(502, "provider_error", "provider_misconfigured"),
        ProviderUnpaid: Rendering(429, "insufficient_quota", "insufficient_quota"),
        ProviderCutOff: Rendering(502, "provider_error", "provider_cut_off"),
        ProviderRejected: Rendering(400, "invalid_request_error", "provider_rejected"),
        ProviderUnsupported: Rendering(400, "invalid_request_error", "provider_rejected"),
        LedgerUnavailable: Rendering(503, "server_error", "temporarily_unavailable"),
        BudgetExhausted: Rendering(429, "insufficient_quota", "insufficient_quota"),
        ShareExceeded: Rendering(429, "rate_limit_error", "rate_limit_exceeded"),
        CapacityExceeded: Rendering(503, "server_error", "overloaded"),
        NoModelAvailable: Rendering(503, "routing_error", "no_model_available"),
    }
)
INTERNAL = Rendering(500, "server_error", "internal_error")
INTERNAL_MESSAGE = "The gateway failed. Its operator finds the cause in the gateway's log."


LONGEST_CLIENT_WAIT_S = 60.0
"""OpenAI's and Anthropic's SDKs heed no `retry-after` beyond this, and come back at once."""


@dataclass(frozen=True, slots=True)
class RenderedError:
    """An error ready for the wire."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def render(error: Exception) -> RenderedError:
    """Render `error` in OpenAI's shape; anything not in the table is an internal error."""
    rendering = RENDERINGS.get(type(error), INTERNAL)
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, GatewayError | BudgetError):
        headers.extend(error.headers)
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, ceil(error.retry_after_s))).encode()))
    if _is_vain(error):
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, ProviderRejected):
        return RenderedError(error.status, tuple(headers), orjson.dumps(_rejection(error)))
    return RenderedError(rendering.status, tuple(headers), error_body(error))


def _is_vain(error: Exception) -> bool:
    """Whether it is vain to send the same again soon, as clients do after most 429 and 5xx."""
    if isinstance(error, ProviderMisconfigured):
        return True
    if not isinstance(error, RateLimited | BudgetExhausted):
        return False
    return error.retry_after_s is None or error.retry_after_s > LONGEST_CLIENT_WAIT_S


def error_body(error: Exception) -> bytes:
    """Render the JSON object of `error`; also the payload of an SSE error event."""
    rendering = RENDERINGS.get(type(error), INTERNAL)
    message = str(error) if rendering is not INTERNAL else INTERNAL_MESSAGE
    body = {
        "message": message,
        "type": rendering.type,
        "param": getattr(error, "param", None),
        "code": rendering.code,
    }
    if isinstance(error, RateLimited | BudgetExhausted) and error.limit_source:
        body["limit_source"] = error.limit_source
    return orjson.dumps({"error": body})


def _rejection(error: ProviderRejected) -> dict[str, Any]:
    """Pass the provider's own words on: they name the field at fault."""
    inner = dict(error.body or {})
    inner.setdefault("message", error.message)
    inner.setdefault("type", RENDERINGS[ProviderRejected].type)
    inner.setdefault("param", None)
    inner.setdefault("code", RENDERINGS[ProviderRejected].code)
    return {"error": inner}
