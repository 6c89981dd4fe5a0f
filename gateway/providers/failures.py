"""What an upstream's failure means: who is at fault, and whether trying again can help.

Messages that reach callers are the gateway's own words; only a refusal of the caller's request
passes on what the provider said, and never its headers, address or the gateway's key.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from gateway.errors import (
    ProviderCutOff,
    ProviderError,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
    ProviderUnsupported,
)
from gateway.providers.exchange import ConnectFailed, HttpFailure, TimedOut
from gateway.providers.redaction import without_secrets
from gateway.providers.vendor_words import is_about_the_model

_STATUS = re.compile(r"[45][0-9]{2}")
_UNPAID = frozenset({"insufficient_quota", "billing_not_active", "billing_error"})
_NO_SUCH_MODEL = frozenset(
    {
        *("model_not_found", "DeploymentNotFound", "not_found_error", "NOT_FOUND"),
        "ResourceNotFoundException",
    }
)
_BAD_KEY = "API_KEY_INVALID"
"""Google's reason, beside the status of a malformed request."""
AWS_ERROR_TYPE = "x-amzn-errortype"
"""Where AWS names an error whose body has nothing but a message."""
_UNKNOWN_MODEL = re.compile(
    r"(the |requested |the requested )?(model|deployment)s?\b.{0,300}?(not found|not exist)"
    r"|\S{1,300} is not a valid model",
    re.IGNORECASE | re.DOTALL,
)
"""How hosts begin to say so; elsewhere in a message it is quoted."""
_STATUS_OF_A_REFUSAL = frozenset({400, 413, 422})
MAX_ERROR_BYTES = 64 * 1024
"""A longer error is not passed on."""
_NAME = re.compile(r"[A-Za-z0-9_.]{1,48}")
_MODERATED = frozenset(
    {
        *("content_filter", "content_policy_violation", "data_inspection_failed", "flagged"),
        *("invalid_prompt", "moderation_blocked", "ResponsibleAIPolicyViolation"),
    }
)
"""What moderations and filters say, which callers provoke: OpenAI, Azure, Alibaba."""
_STATUS_OF_NAME = {
    **dict.fromkeys(("invalid_request_error", "invalid_request", "INVALID_ARGUMENT"), 400),
    **dict.fromkeys(("BadRequestError", *_MODERATED), 400),
    "ValidationException": 400,
    **dict.fromkeys(("authentication_error", "invalid_api_key", "UNAUTHENTICATED"), 401),
    "billing_error": 402,
    **dict.fromkeys(("permission_error", "permission_denied", "PERMISSION_DENIED"), 403),
    **dict.fromkeys(("AccessDeniedException", "ExpiredTokenException"), 403),
    **dict.fromkeys(("InvalidSignatureException", "UnrecognizedClientException"), 403),
    "not_found_error": 404,
    "request_too_large": 413,
    **dict.fromkeys(("rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"), 429),
    **dict.fromkeys(("api_error", "server_error", "internal_error", "internal_server_error"), 500),
    **dict.fromkeys(("InternalServerError", "INTERNAL"), 500),
    **dict.fromkeys(("service_unavailable", "UNAVAILABLE"), 503),
    **dict.fromkeys(("timeout_error", "DEADLINE_EXCEEDED"), 504),
    "overloaded_error": 529,
}
"""What hosts name in `code`, `type` or `status`: OpenAI, Azure, Anthropic, Google, AWS, vLLM. A
name that is not here says nothing about whose fault it was, and a caller may have provoked it."""
_RETRYABLE_STATUS = frozenset({408, 409, 424, 429})
"""424 is Bedrock's word for a model that failed."""


_NAMING = ("code", "type", "status")
"""Fields in which hosts name an error."""


class AttemptFailed(Exception):
    """One attempt did not succeed.

    Args:
        error: What the caller is told if no further attempt is made.
        is_retryable: The same call may succeed if it is sent again.
        counts: The failure says that the model is unhealthy, so its circuit breaker counts it.
        may_be_billed: The upstream had the call, and did not say that it will not answer it.
    """

    def __init__(
        self,
        error: ProviderError,
        *,
        is_retryable: bool,
        counts: bool = True,
        may_be_billed: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.is_retryable = is_retryable
        self.counts = counts
        self.may_be_billed = may_be_billed


def failed_exchange(failure: HttpFailure, provider: str) -> AttemptFailed:
    """Judge a failure below HTTP, before any of the answer arrived."""
    if isinstance(failure, TimedOut):
        late = ProviderTimeout(f"provider {provider!r} did not answer in time", provider=provider)
        return AttemptFailed(late, is_retryable=False, may_be_billed=True)
    had_it = not isinstance(failure, ConnectFailed)
    words = "broke the connection" if had_it else "could not be reached"
    gone = ProviderUnavailable(f"provider {provider!r} {words}", provider=provider)
    return AttemptFailed(gone, is_retryable=True, may_be_billed=had_it)


def failed_status(
    status: int, headers: Mapping[str, str], body: bytes, provider: str, secrets: tuple[str, ...]
) -> AttemptFailed:
    """Judge an answer whose status is not 2xx; `secrets` are cut out of what is passed on."""
    said = _named_by_aws(error_object(body, secrets), headers)
    retry_after_s = retry_after(headers)
    is_certain = _is_misconfigured(status, said)
    if is_certain or (status in {400, 404} and _says_unknown_model(said)):
        is_unpaid = status == 429
        wrong = (ProviderUnpaid if is_unpaid else ProviderMisconfigured)(
            f"provider {provider!r} refused the gateway's credentials, billing or model name"
            f" (status {status}); its operator must correct the configuration",
            provider=provider,
            upstream_status=status,
        )
        # A message may quote the caller: it may lead to another model, for this caller alone.
        is_operators = is_certain and not _may_be_provoked(status, said)
        return AttemptFailed(wrong, is_retryable=False, counts=is_operators)
    if 400 <= status < 500 and status not in _RETRYABLE_STATUS:
        refusal = ProviderUnsupported if _is_about_the_model(status, said) else ProviderRejected
        rejected = refusal(
            f"provider {provider!r} rejected the request",
            provider=provider,
            status=status,
            body=said or None,
        )
        return AttemptFailed(rejected, is_retryable=False, counts=False)
    is_limited = status == 429
    away = (ProviderRateLimited if is_limited else ProviderUnavailable)(
        f"provider {provider!r} is {'overloaded' if is_limited else 'failing'} (status {status})",
        provider=provider,
        upstream_status=status,
        retry_after_s=retry_after_s,
    )
    return AttemptFailed(
        away,
        is_retryable=status >= 500 or status in _RETRYABLE_STATUS,
        counts=status not in range(400, 500) and not _blames_request(said),
    )


def stream_error(said: object, provider: str) -> ProviderError:
    """Judge an error that arrived inside an answer of status 200.

    Hosts put an HTTP status into `code`, or a name into `code` or `type`. After anything else
    another model may answer, but it does not count against this one: a caller may have provoked it.
    """
    error = said if isinstance(said, Mapping) else {"message": str(said)}
    status = _status_in(error)
    if status is None or status >= 500 or status in _RETRYABLE_STATUS:
        away = (ProviderRateLimited if status == 429 else ProviderUnavailable)(
            f"provider {provider!r} failed while answering",
            provider=provider,
            upstream_status=status,
        )
        away.may_be_provoked = status is None or status < 500 or _blames_request(error)
        return away
    encoded = orjson.dumps({"error": dict(error)})
    failure = failed_status(status, {}, encoded, provider, ())
    failure.error.may_be_provoked = not failure.counts
    is_quoted = status in (400, 404) and not failure.counts
    if isinstance(failure.error, ProviderMisconfigured) and is_quoted:
        return ProviderRejected(
            f"provider {provider!r} rejected the request", provider=provider, status=status
        )
    return failure.error


def judged(error: ProviderError) -> AttemptFailed:
    """Say whether `error`, which came inside an answer of status 200, may be mended by a retry."""
    is_upstreams = isinstance(error, ProviderUnavailable | ProviderCutOff)
    is_counted = is_upstreams or isinstance(error, ProviderMisconfigured | ProviderTimeout)
    is_billed = isinstance(error, ProviderCutOff)
    return AttemptFailed(
        error,
        is_retryable=is_upstreams,
        counts=is_counted and not error.may_be_provoked,
        may_be_billed=is_billed,
    )


def redacted(error: ProviderError, secrets: tuple[str, ...]) -> ProviderError:
    """Cut `secrets` out of the provider's words in `error`, if it passes any on."""
    if not isinstance(error, ProviderRejected) or not error.body:
        return error
    clean = error_object(orjson.dumps({"error": dict(error.body)}), secrets)
    return type(error)(error.message, provider=error.provider, status=error.status, body=clean)


def reason_in(body: bytes, secrets: tuple[str, ...]) -> str:
    """Name what a provider gives as its reason; its words may quote a prompt, names do not."""
    said = error_object(body, secrets)
    names = (str(said.get(field)) for field in _NAMING if said.get(field) is not None)
    return next((name for name in names if _NAME.fullmatch(name)), "not named")


def error_object(body: bytes, secrets: tuple[str, ...]) -> dict[str, Any]:
    """Find the error object in any of the shapes that hosts use; empty if there is none.

    OpenAI and most others nest it under ``error``; vLLM put it at the top; FastAPI hosts say
    ``detail``; Ollama's ``error`` is a string; Google puts all into a list. One longer than
    `MAX_ERROR_BYTES` is none.
    """
    read = body.decode("utf-8", "replace") if len(body) <= MAX_ERROR_BYTES else "{}"
    try:
        value = without_secrets(secrets, orjson.loads(read))
    except orjson.JSONDecodeError:
        return {}
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    inner = value.get("error", value)
    if isinstance(inner, str):
        return {"message": inner}
    if not isinstance(inner, dict):
        return {}
    if "message" in inner:
        return inner
    return {"message": str(inner["detail"])} if "detail" in inner else {}


def _named_by_aws(said: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Add the name of an error that AWS has in a header: ``ValidationException:http://...``."""
    name = headers.get(AWS_ERROR_TYPE, "").partition(":")[0]
    return {"type": name, **said} if _NAME.fullmatch(name) else said


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long the provider asks to wait, in seconds, from any of the usual headers."""
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        until = parsedate_to_datetime(value)
        # The provider's own Date is the better reference: then neither clock need be right.
        date = headers.get("date")
        now = datetime.now(UTC) if date is None else parsedate_to_datetime(date)
        return max((until - now).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _is_misconfigured(status: int, said: Mapping[str, Any]) -> bool:
    names = _names(said)
    if status == 400 and _has_bad_key(said):
        return True
    if status == 403 and (_is_flagged(said) or bool(names & _MODERATED)):
        return False
    if status in (401, 402, 403) or 300 <= status < 400 or names & _UNPAID:
        return True
    return status == 404 and (not said or bool(names & _NO_SUCH_MODEL))


def _may_be_provoked(status: int, said: Mapping[str, Any]) -> bool:
    """Whether a caller may be at fault, where a status says that the operator is.

    A filter or a moderation says 403 too. With 402 a host may refuse a long answer that what is
    left does not pay for, while it gives others short ones.
    """
    named = _STATUS_OF_NAME.keys() | _UNPAID
    return status in (402, 403) and not (_names(said) & named)


def _blames_request(said: Mapping[str, Any]) -> bool:
    """Whether an error names what the request did wrong, whatever its status."""
    return any(_STATUS_OF_NAME.get(name) in _STATUS_OF_A_REFUSAL for name in _names(said))


def _has_bad_key(said: Mapping[str, Any]) -> bool:
    details = said.get("details")
    parts = details if isinstance(details, list) else ()
    return any(isinstance(part, dict) and part.get("reason") == _BAD_KEY for part in parts)


def _names(said: Mapping[str, Any]) -> set[str]:
    return {str(said.get(field)) for field in _NAMING}


def _is_about_the_model(status: int, said: Mapping[str, Any]) -> bool:
    """Whether another model may take what this one refused."""
    return status in _STATUS_OF_A_REFUSAL and is_about_the_model(said, status)


def _says_unknown_model(said: Mapping[str, Any]) -> bool:
    """Whether a message begins with a model, and says that there is none."""
    is_about_model = said.get("param") in (None, "model")
    return is_about_model and _UNKNOWN_MODEL.match(_message(said)) is not None


def _is_flagged(said: Mapping[str, Any]) -> bool:
    """Whether a moderation refused what the caller sent, as OpenRouter says it with status 403."""
    metadata = said.get("metadata")
    return isinstance(metadata, dict) and bool({"reasons", "flagged_input"} & metadata.keys())


def _message(said: Mapping[str, Any]) -> str:
    return str(said.get("message", ""))


def _status_in(error: Mapping[str, Any]) -> int | None:
    for name in ("code", "status"):
        value = error.get(name)
        if isinstance(value, int | str) and _STATUS.fullmatch(str(value)):
            return int(value)
    if _is_about_the_model(400, error):
        return 400
    names = (str(error.get(name)) for name in _NAMING)
    return next((_STATUS_OF_NAME[name] for name in names if name in _STATUS_OF_NAME), None)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
