import inspect

import orjson
import pytest

from budget.errors import BudgetError
from gateway import errors
from router_models.errors import NoModelAvailable

ABSTRACT = {BudgetError, errors.GatewayError, errors.CallerError, errors.ProviderError}
CONCRETE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind not in ABSTRACT
]


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_error_has_a_rendering(kind: type[Exception]) -> None:
    assert kind in errors.RENDERINGS


@pytest.mark.parametrize("kind", errors.RENDERINGS)
def test_every_error_leaves_in_openai_s_shape(kind: type[Exception]) -> None:
    rendered = errors.render(kind("what happened"))
    error = orjson.loads(rendered.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "what happened"
    assert 400 <= rendered.status <= 599


def test_a_bug_is_an_internal_error_that_says_nothing_of_the_inside() -> None:
    rendered = errors.render(KeyError("secret"))
    assert rendered.status == 500
    assert b"secret" not in rendered.body


def test_says_when_to_try_again() -> None:
    rendered = errors.render(errors.RateLimited("slow down", retry_after_s=0.2))
    assert (b"retry-after", b"1") in rendered.headers


def test_a_rejection_keeps_the_provider_s_own_words() -> None:
    error = errors.ProviderRejected("m", status=422, body={"message": "n > 8", "param": "n"})
    rendered = errors.render(error)
    assert rendered.status == 422
    assert orjson.loads(rendered.body)["error"] == {
        "message": "n > 8",
        "param": "n",
        "type": "invalid_request_error",
        "code": "provider_rejected",
    }


def test_no_model_available_is_a_routing_error() -> None:
    assert errors.render(NoModelAvailable("none")).status == 503
