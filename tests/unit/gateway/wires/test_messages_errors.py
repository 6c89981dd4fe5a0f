import orjson
import pytest

from budget.errors import BudgetExhausted, CapacityExceeded, ShareExceeded
from gateway.errors import (
    RENDERINGS,
    BodyTooLarge,
    DependencyUnavailable,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NoCapableModel,
    ProviderCutOff,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    Unauthenticated,
)
from gateway.wires.messages_errors import TYPES, render_as_anthropic

KINDS = {*TYPES.values(), "api_error"}


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("no"), 400, "invalid_request_error"),
        (BodyTooLarge("no"), 413, "request_too_large"),
        (Unauthenticated("no"), 401, "authentication_error"),
        (Forbidden("no"), 403, "permission_error"),
        (ModelNotFound("no"), 404, "not_found_error"),
        (RateLimited("no"), 429, "rate_limit_error"),
        (ShareExceeded("no"), 429, "rate_limit_error"),
        (BudgetExhausted("no"), 402, "billing_error"),
        (CapacityExceeded("no"), 529, "overloaded_error"),
        (ProviderUnavailable("no"), 529, "overloaded_error"),
        (ProviderTimeout("no"), 504, "timeout_error"),
        (ProviderCutOff("no"), 502, "api_error"),
        (DependencyUnavailable("no"), 503, "api_error"),
        (ZeroDivisionError("secret"), 500, "api_error"),
    ],
)
def test_each_error_has_anthropics_status_and_type(error, status, kind) -> None:
    rendered = render_as_anthropic(error)

    body = orjson.loads(rendered.body)
    assert rendered.status == status
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", kind, None)
    assert "secret" not in body["error"]["message"]


@pytest.mark.parametrize("kind", RENDERINGS)
def test_every_error_has_a_type_that_anthropic_knows(kind) -> None:
    body = orjson.loads(render_as_anthropic(kind("no")).body)

    assert body["error"]["type"] in KINDS


def test_a_turn_that_failed_is_named_in_body_and_headers() -> None:
    error = InvalidRequest("no")
    error.headers = ((b"x-request-id", b"req_1"),)

    rendered = render_as_anthropic(error)

    assert orjson.loads(rendered.body)["request_id"] == "req_1"
    assert (b"request-id", b"req_1") in rendered.headers


def test_the_words_and_the_type_of_a_provider_pass() -> None:
    said = {"type": "permission_error", "message": "not this file", "details": {"a": 1}}

    body = orjson.loads(render_as_anthropic(ProviderRejected("x", status=400, body=said)).body)

    assert body["error"] == said | {"code": "provider_rejected"}


@pytest.mark.parametrize(
    "error",
    [
        NoCapableModel("No model can take this request (small: context_too_long)."),
        ProviderRejected("x", body={"message": "8192 at most", "code": "context_length_exceeded"}),
    ],
)
def test_a_prompt_that_is_too_long_is_called_so(error) -> None:
    body = orjson.loads(render_as_anthropic(error).body)

    assert body["error"]["message"].startswith("prompt is too long: ")
