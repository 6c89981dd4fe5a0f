"""Renders errors in Anthropic's shape.

https://platform.claude.com/docs/en/api/errors
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from budget.errors import BudgetExhausted, CapacityExceeded
from gateway.errors import (
    NoCapableModel,
    ProviderRejected,
    ProviderUnavailable,
    RenderedError,
    render,
)

STATUSES: Final[Mapping[type[Exception], int]] = MappingProxyType(
    {BudgetExhausted: 402, CapacityExceeded: 529, ProviderUnavailable: 529}
)
"""Where Anthropic has another status than OpenAI: its SDKs do not try 402 again."""
TYPES: Final = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_TOO_LONG: Final = "prompt is too long"
"""Claude Code shortens a conversation when it reads this."""


def render_as_anthropic(error: Exception) -> RenderedError:
    """Render `error`; anything not in the table of errors is an internal error."""
    rendered = render(error)
    status = STATUSES.get(type(error), rendered.status)
    request_id = next((value for name, value in rendered.headers if name == b"x-request-id"), None)
    named = () if request_id is None else ((b"request-id", request_id),)
    body = {
        "type": "error",
        "error": _object(error, orjson.loads(rendered.body)["error"], status),
        "request_id": None if request_id is None else request_id.decode(),
    }
    return RenderedError(status, (*rendered.headers, *named), orjson.dumps(body))


def error_of(error: Exception) -> dict[str, Any]:
    """Return the object of `error`, as an event of a stream has it."""
    said: dict[str, Any] = orjson.loads(render_as_anthropic(error).body)["error"]
    return said


def _object(error: Exception, said: Mapping[str, Any], status: int) -> dict[str, Any]:
    """Write the object of an error: a type of Anthropic's, and what else is known."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    if isinstance(error, ProviderRejected) and said["type"] in TYPES.values():
        kind = said["type"]
    message = str(said["message"])
    if _is_too_long(error, said, message) and _TOO_LONG not in message.lower():
        message = f"{_TOO_LONG}: {message}"
    others = {
        name: value
        for name, value in said.items()
        if value is not None and name not in ("message", "type")
    }
    return {"type": kind, "message": message, **others}


def _is_too_long(error: Exception, said: Mapping[str, Any], message: str) -> bool:
    if isinstance(error, NoCapableModel):
        return "context_too_long" in message
    return said.get("code") == "context_length_exceeded"
