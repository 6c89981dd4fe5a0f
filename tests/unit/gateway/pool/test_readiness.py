from types import SimpleNamespace
from typing import Any

import pytest

from gateway.pool.readiness import Readiness


def pool(*providers: str, embedded: Any) -> Any:
    models = {name: SimpleNamespace(provider=name) for name in providers}
    return SimpleNamespace(models=models, embedded=embedded)


READY = SimpleNamespace(is_ready=True, problem=None)
LOADING = SimpleNamespace(is_ready=False, problem=None)
BROKEN = SimpleNamespace(is_ready=False, problem="no weights")


@pytest.mark.parametrize(
    ("pool", "state"),
    [
        (pool("alpha", embedded=None), (True, "1 models")),
        (pool("alpha", "embedded", embedded=LOADING), (True, "2 models")),
        (pool("embedded", embedded=READY), (True, "1 models")),
        (pool("embedded", embedded=LOADING), (False, "the embedded model is loading")),
        (pool("embedded", embedded=BROKEN), (False, "no weights")),
    ],
)
def test_ready_means_that_a_first_request_could_be_answered(pool: Any, state: tuple[bool, str]):
    assert Readiness(pool).state() == state


def test_a_gateway_told_to_stop_is_not_ready():
    readiness = Readiness(pool("alpha", embedded=None))

    readiness.is_leaving = True

    assert readiness.state() == (False, "the gateway is stopping")


@pytest.mark.parametrize(
    ("counters", "state"),
    [
        ((False, "the store is down"), (False, "the store is down")),
        ((False, None), (False, "the store of the budgets' counters was not asked yet")),
        ((True, "the store is down"), (True, "1 models; the store is down")),
        ((True, None), (True, "1 models")),
    ],
)
def test_a_gateway_is_not_ready_before_budgets_could_be_checked_once(counters, state):
    readiness = Readiness(pool("alpha", embedded=None), counters_problem=lambda: counters)

    assert readiness.state() == state
