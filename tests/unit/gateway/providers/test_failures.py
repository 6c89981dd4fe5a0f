from time import process_time

import orjson
import pytest

from gateway.errors import (
    ProviderMisconfigured,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from gateway.providers.exchange import (
    ConnectFailed,
    ConnectionBroken,
    HttpFailure,
    TimedOut,
)
from gateway.providers.failures import (
    MAX_ERROR_BYTES,
    error_object,
    failed_exchange,
    failed_status,
    judged,
    redacted,
    retry_after,
    stream_error,
)


def failed(status: int, error: object = None, headers: dict[str, str] | None = None):
    body = b"" if error is None else orjson.dumps({"error": error})
    return failed_status(status, headers or {}, body, "acme", ("sk-secret",))


@pytest.mark.parametrize("status", [400, 413, 415, 422, 451])
def test_passes_a_refusal_of_the_request_on(status: int) -> None:
    said = {"message": "bad 'x'", "type": "invalid_request_error", "param": "x", "code": "c"}
    failure = failed(status, said)
    assert isinstance(failure.error, ProviderRejected)
    assert failure.error.status == status
    assert failure.error.body == said
    assert not failure.is_retryable
    assert not failure.counts


@pytest.mark.parametrize("status", [401, 402, 403, 301, 307])
def test_the_gateways_own_fault_is_not_passed_on(status: int) -> None:
    # Filters and moderations say 403 too, and 402 is said of answers that are too long.
    is_certain = status not in (402, 403)
    failure = failed(status, {"message": "Incorrect API key provided: sk-secret"})
    assert isinstance(failure.error, ProviderMisconfigured)
    assert "sk-" not in failure.error.message
    assert not failure.is_retryable
    assert failure.counts is is_certain


@pytest.mark.parametrize("kind", ["permission_error", "billing_error", "insufficient_quota"])
@pytest.mark.parametrize("status", [402, 403])
def test_a_fault_that_is_named_counts(status: int, kind: str) -> None:
    assert failed(status, {"message": "m", "type": kind}).counts


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, {"message": "The model `x` does not exist", "code": "model_not_found"}),
        (404, {"message": "x", "code": "DeploymentNotFound"}),
        (404, {"message": "model: x", "type": "not_found_error"}),
        (404, {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
        (404, "model 'x' not found, try pulling it first"),
        (404, None),
        (400, {"message": "x is not a valid model ID", "code": 400}),
        (429, {"message": "You exceeded your quota", "type": "insufficient_quota"}),
    ],
)
def test_an_unknown_model_or_an_unpaid_bill_is_the_operators(status: int, error: object) -> None:
    assert isinstance(failed(status, error).error, ProviderMisconfigured)


def test_a_404_about_what_the_request_needs_is_the_callers() -> None:
    said = {"message": "No endpoints that support image input", "code": 404}
    assert isinstance(failed(404, said).error, ProviderRejected)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_worth_another_attempt(status: int) -> None:
    failure = failed(status, {"message": "try later"}, {"retry-after": "3"})
    assert isinstance(failure.error, ProviderUnavailable)
    assert failure.error.retry_after_s == 3.0
    assert failure.error.upstream_status == status
    assert failure.is_retryable
    assert failure.counts is (status >= 500)


def test_an_odd_status_is_the_providers_fault() -> None:
    failure = failed(204)
    assert isinstance(failure.error, ProviderUnavailable)
    assert not failure.is_retryable


def test_a_silent_upstream_is_not_asked_again() -> None:
    failure = failed_exchange(TimedOut(), "acme")
    assert isinstance(failure.error, ProviderTimeout)
    assert not failure.is_retryable


@pytest.mark.parametrize("cause", [ConnectFailed(), ConnectionBroken()])
def test_a_lost_connection_is_worth_another_attempt(cause: HttpFailure) -> None:
    failure = failed_exchange(cause, "acme")
    assert isinstance(failure.error, ProviderUnavailable)
    assert failure.is_retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "now"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT",
                "date": "Wed, 21 Oct 2015 07:28:30 GMT",
            },
            0.0,
        ),
    ],
)
def test_reads_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "m", "code": 1}}', {"message": "m", "code": 1}),
        (
            b'{"type": "error", "error": {"type": "t", "message": "m"}}',
            {"type": "t", "message": "m"},
        ),
        (b'{"object": "error", "message": "m"}', {"object": "error", "message": "m"}),
        (b'{"error": "m"}', {"message": "m"}),
        (b'{"detail": "m"}', {"message": "m"}),
        (b'{"error": {"code": 1}}', {}),
        (b'{"error": [1]}', {}),
        (b"[1]", {}),
        (b"<html>", {}),
        (b'{"error": {"message": "key sk-secret is bad"}}', {"message": "key [redacted] is bad"}),
    ],
)
def test_finds_the_error_in_every_usual_shape(body: bytes, said: object) -> None:
    assert error_object(body, ("sk-secret",)) == said


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"message": "m", "code": 429}, ProviderUnavailable),
        ({"message": "m", "code": "502"}, ProviderUnavailable),
        ({"message": "m", "type": "overloaded_error"}, ProviderUnavailable),
        ({"message": "m"}, ProviderUnavailable),
        ("boom", ProviderUnavailable),
        ({"message": "m", "code": 400}, ProviderRejected),
        ({"message": "m", "status": 422}, ProviderRejected),
        ({"message": "m", "type": "invalid_request_error"}, ProviderRejected),
        ({"message": "m", "type": "authentication_error"}, ProviderMisconfigured),
    ],
)
def test_judges_an_error_inside_an_answer(said: object, kind: type) -> None:
    assert isinstance(stream_error(said, "acme"), kind)


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("boom", False),
        ({"message": "m"}, False),
        ({"message": "m", "code": "house_rules"}, False),
        ({"message": "m", "code": 429}, False),
        ({"message": "m", "code": 403}, False),
        ({"message": "m", "code": 500, "type": "content_filter"}, False),
        ({"message": "m", "code": 500}, True),
        ({"message": "m", "code": 401}, True),
        ({"message": "m", "type": "server_error"}, True),
        ({"message": "m", "type": "overloaded_error"}, True),
        ({"message": "m", "type": "permission_error"}, True),
    ],
)
def test_an_error_inside_an_answer_counts_where_it_says_whose_fault_it_is(said, counts) -> None:
    assert judged(stream_error(said, "acme")).counts is counts


def test_cuts_secrets_out_of_a_refusal_only() -> None:
    refusal = ProviderRejected("no", status=422, body={"message": "at sk-secret", "code": "c"})
    clean = redacted(refusal, ("sk-secret",))
    assert isinstance(clean, ProviderRejected)
    assert clean.body == {"message": "at [redacted]", "code": "c"}
    assert clean.status == 422
    other = ProviderUnavailable("m")
    assert redacted(other, ("m",)) is other


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "Invalid role: 'model not found'", "type": "invalid_request_error"}),
        (404, {"message": "Tool 'the model does not exist' is unknown"}),
        (403, {"message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}),
        (403, {"message": "Flagged", "metadata": {"flagged_input": "x", "provider_name": "a"}}),
        (403, {"message": "Flagged"}),
        (403, {"message": "No", "code": "content_policy_violation"}),
        (402, {"message": "You can only afford 100 tokens"}),
        (500, {"message": "No", "type": "invalid_request_error"}),
    ],
)
def test_what_a_caller_can_provoke_does_not_count_against_the_model(status, error) -> None:
    assert not failed(status, error).counts


@pytest.mark.parametrize("code", [400, 404])
def test_nor_does_it_inside_an_answer(code) -> None:
    said = {"message": "Invalid role: 'model not found'", "code": code}
    assert isinstance(stream_error(said, "acme"), ProviderRejected)


@pytest.mark.parametrize(
    "written", [b"sk\\/secret", b"sk\\u002fsecret", b"\\u0073k/secret", b"sk/secret"]
)
def test_a_secret_is_cut_out_however_it_is_written(written) -> None:
    body = b'{"error": {"message": "key: %b", "param": {"%b": ["%b"]}}}' % ((written,) * 3)
    said = error_object(body, ("sk/secret",))
    assert "secret" not in repr(said)
    assert said["message"] == "key: [redacted]"


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        (
            r"at {\"key\": \"sk\u002dsecret\", \"to\": \"\ud83d\ude00\"}",
            'at {"key": "[redacted]", "to": "😀"}',
        ),
        (r"sk\\u002dsecret", "[redacted]"),
        (r"sk\u005cu002dsecret", "[redacted]"),
        (r"sk-secret and sk\u002dsecret", "[redacted] and [redacted]"),
        (r"sk\u002dsecret \ud83d", "[redacted] �"),
        (r"C:\new\u002d", r"C:\new\u002d"),
        ("\\", "\\"),
    ],
)
def test_a_secret_is_cut_out_of_documents_within_a_string(hidden, shown) -> None:
    said = error_object(orjson.dumps({"error": {"message": hidden}}), ("sk-secret",))
    assert said["message"] == shown


def test_a_text_that_is_escaped_without_end_is_not_passed_on() -> None:
    endless = "\\" + "u005c" * 5_000 + "u002d"
    body = orjson.dumps({"error": {"message": endless}})
    began_s = process_time()
    assert error_object(body, ("sk-secret",)) == {"message": "[redacted]"}
    assert process_time() - began_s < 1.0


def test_an_error_that_is_too_long_is_not_passed_on() -> None:
    body = orjson.dumps({"error": {"message": "\\" * MAX_ERROR_BYTES}})
    assert error_object(body, ("sk-secret",)) == {}


def test_what_is_nested_deep_in_an_error_is_left_out() -> None:
    deep = b"[" * 600 + b"]" * 600
    said = error_object(b'{"error": {"message": "m", "param": ' + deep + b"}}", ())
    assert said["message"] == "m"


def test_a_message_of_any_length_is_read_once() -> None:
    said = {"message": "model " * 100_000, "code": "4" * 10_000, "type": "invalid_request_error"}
    began_s = process_time()
    assert isinstance(stream_error(said, "acme"), ProviderRejected)
    assert process_time() - began_s < 2.0  # the square of it would take minutes
