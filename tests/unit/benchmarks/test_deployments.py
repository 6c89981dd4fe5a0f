"""The places of the benchmark of deployments hold to their limits."""

import numpy as np
import pytest

from benchmarks.deployments.load import arrivals
from benchmarks.deployments.upstreams import BURST_S, PLACES, Served


class Now:
    """A clock that is set."""

    s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def served(now: Now) -> Served:
    return Served(PLACES[0], np.random.default_rng(0), now)


def test_a_place_admits_its_calls_per_minute_however_many_come(now: Now, served: Served) -> None:
    admitted = 0
    for tenth in range(6_000):
        now.s = tenth / 10
        admitted += served.refusal() is None
    most = PLACES[0].per_minute / 60 * (600 + BURST_S)
    assert 0.98 * most < admitted <= most


def test_beyond_them_it_says_when_the_next_is_admitted(now: Now, served: Served) -> None:
    while (refusal := served.refusal()) is None:
        assert served.refused == 0
    assert refusal.status == 429
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    now.s = float(refusal.headers["retry-after"])
    assert served.refusal() is None


def test_a_place_takes_so_many_calls_at_once(served: Served) -> None:
    served.in_flight = PLACES[0].at_once
    refusal = served.refusal()
    assert refusal is not None
    assert refusal.status == 429


def test_a_revoked_key_is_refused_from_then_on(now: Now, served: Served) -> None:
    served.revoked_at_s = 1.0
    assert served.refusal() is None
    now.s = 1.0
    refusal = served.refusal()
    assert refusal is not None
    assert refusal.status == 401


def test_calls_come_at_the_rate_that_was_asked_for_and_the_same_ones_each_time() -> None:
    moments = arrivals(0, 5.0, 1_000.0)
    assert len(moments) == pytest.approx(5_000, rel=0.05)
    assert moments == arrivals(0, 5.0, 1_000.0)
