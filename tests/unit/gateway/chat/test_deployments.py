"""Which place a model is called at, by weight and by what the places have to do."""

import random
from collections import Counter

import pytest

from gateway.chat.deployments import FAILED_S, MEMORY_S, MOST_WAITS, Deployments, Latency
from gateway.deployments import joined, within
from gateway.errors import ProviderRateLimited
from gateway.providers.base import UpstreamCall
from gateway.providers.refusals import Refusals
from gateway.providers.resilience import FIRST_BACKOFF_S, LONGEST_RETRY_AFTER_S
from gateway.types import Deployment, HostedModel, ModelPrice

DRAWS = 4_000
TEAM = "t"


def at(provider: str, **also: float | int) -> Deployment:
    return Deployment(HostedModel("m", provider, "m", ModelPrice(1, 1)), **also)  # type: ignore[arg-type]


class Bench:
    """Places to choose among, and a clock that stands still."""

    def __init__(self, *deployments: Deployment) -> None:
        self.now_s = 100.0
        self.paused: set[tuple[str, str]] = set()
        self.refusals = Refusals(lambda: self.now_s)
        self.model = joined(deployments)
        self.slept_s: list[float] = []
        self.rests_again_s = 0.0
        self.deployments = Deployments(
            lambda: self.paused,
            self.refusals,
            lambda: self.now_s,
            random.Random(0),
            self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        if self.rests_again_s:
            self.refusals.rest(TEAM, ("a", "m"), self.rests_again_s)

    def call(self, provider: str, *, is_last: bool) -> UpstreamCall:
        return UpstreamCall(
            HostedModel("m", provider, "m", ModelPrice(1, 1)),
            {},
            deadline_s=self.now_s + 60.0,
            request_id="r",
            team_id=TEAM,
            is_last=is_last,
        )

    def order(self) -> list[str]:
        ordered = self.deployments.in_order([self.model], TEAM, is_stream=False)
        return [one.provider for one in ordered]

    def first(self) -> Counter[str]:
        return Counter(self.order()[0] for _ in range(DRAWS))

    def took(self, provider: str, seconds: float) -> None:
        self.deployments.load((provider, "m")).whole.note(seconds, self.now_s)


@pytest.mark.parametrize("seconds", [None, 1.0])
def test_shares_of_places_that_do_alike_are_their_weights(seconds) -> None:
    bench = Bench(at("a", weight=9), at("b", weight=3), at("c", weight=0))
    if seconds is not None:
        bench.took("a", seconds)
        bench.took("b", seconds * 1.5)
    first = bench.first()
    assert first["c"] == 0
    assert first["b"] / DRAWS == pytest.approx(0.25, abs=0.03)  # four standard errors


def test_a_place_that_is_much_slower_is_left_and_tried_again_after_a_while() -> None:
    bench = Bench(at("a"), at("b"))
    bench.took("a", 1.0)
    bench.took("b", 10.0)
    assert bench.first()["b"] == 0
    bench.now_s += 2 * MEMORY_S
    bench.took("a", 1.0)
    assert bench.first()["b"] > 0


def test_calls_go_where_fewer_are_in_flight_for_the_weight() -> None:
    bench = Bench(at("a", weight=3), at("b", weight=1))
    bench.deployments.load(("a", "m")).in_flight = 30
    bench.deployments.load(("b", "m")).in_flight = 10
    assert 0 < bench.first()["b"] < DRAWS / 2  # in balance, so the weights decide
    bench.deployments.load(("b", "m")).in_flight = 1
    assert bench.first()["b"] == DRAWS


def test_priorities_come_before_weights_and_what_is_shut_comes_last() -> None:
    bench = Bench(at("low", priority=2, weight=9), at("high"), at("drained", weight=0))
    assert bench.order() == ["high", "low", "drained"]
    bench.paused.add(("high", "m"))
    assert bench.order() == ["low", "drained", "high"]
    bench.refusals.rest(TEAM, ("low", "m"), 5.0)
    assert bench.order() == ["drained", "high", "low"]
    bench.now_s += 6.0
    assert bench.order() == ["low", "drained", "high"]


def test_of_places_at_their_rate_limit_the_one_that_is_open_first_is_left() -> None:
    bench = Bench(at("a"), at("b", weight=0), at("c", priority=1))
    for provider, seconds in (("a", 9.0), ("b", 3.0), ("c", 6.0)):
        bench.refusals.rest(TEAM, (provider, "m"), seconds)
    assert bench.order() == ["b"]
    bench.now_s += 4.0
    assert bench.order() == ["b", "c"]


async def test_a_call_waits_until_its_place_is_open_and_has_one_retry_less() -> None:
    bench = Bench(at("a"), at("b"))
    call = bench.call("a", is_last=True)
    await bench.deployments.rest(call)
    assert (bench.slept_s, call.transit.attempts) == ([], 0)
    bench.refusals.rest(TEAM, ("a", "m"), 3.0)
    await bench.deployments.rest(call)
    assert bench.slept_s == [pytest.approx(3.0, abs=FIRST_BACKOFF_S)]
    assert bench.slept_s[0] >= 3.0
    assert call.transit.attempts == 1


async def test_who_waits_waits_again_where_another_found_the_place_closed() -> None:
    bench = Bench(at("a"), at("b"))
    bench.rests_again_s = 2.0
    bench.refusals.rest(TEAM, ("a", "m"), 1.0)
    with pytest.raises(ProviderRateLimited):
        await bench.deployments.rest(bench.call("a", is_last=True))
    assert len(bench.slept_s) == MOST_WAITS


@pytest.mark.parametrize(("rests_s", "is_last"), [(3.0, False), (LONGEST_RETRY_AFTER_S + 1, True)])
async def test_nobody_waits_where_another_can_be_called_or_the_wait_is_long(
    rests_s: float, *, is_last: bool
) -> None:
    bench = Bench(at("a"), at("b"))
    bench.refusals.rest(TEAM, ("a", "m"), rests_s)
    with pytest.raises(ProviderRateLimited) as refused:
        await bench.deployments.rest(bench.call("a", is_last=is_last))
    assert (refused.value.retry_after_s, refused.value.attempts) == (rests_s, 0)
    assert not bench.slept_s


def test_a_model_at_one_place_stays_as_it_is() -> None:
    bench = Bench(at("a"))
    alone = bench.model
    assert alone.deployments == ()
    assert bench.deployments.in_order([alone], TEAM, is_stream=True)[0] is alone


def test_what_was_measured_last_weighs_most() -> None:
    latency = Latency()
    assert latency.at(0.0) is None
    latency.note(FAILED_S, 0.0)
    latency.note(1.0, 10 * MEMORY_S)
    assert latency.at(10 * MEMORY_S) == pytest.approx(1.0, rel=0.01)


def test_a_joined_model_takes_what_each_of_its_places_takes() -> None:
    wide = HostedModel("m", "a", "m", ModelPrice(1, 1), fields=frozenset({"x", "y"}))
    narrow = HostedModel("m", "b", "m", ModelPrice(9, 9), fields=frozenset({"x"}))
    both = joined([Deployment(wide), Deployment(narrow)])
    assert (both.fields, both.provider, both.price) == (frozenset({"x"}), "a", ModelPrice(1, 1))


def test_what_a_data_rule_leaves_is_all_that_is_left() -> None:
    here = HostedModel("m", "a", "m", ModelPrice(1, 1), attributes=frozenset({"eu"}))
    there = HostedModel("m", "b", "m", ModelPrice(1, 1))
    both = joined([Deployment(there), Deployment(here)])
    assert within(both, frozenset({"eu"})) == here
    assert within(both, frozenset()) is both
    assert not both.is_admitted(frozenset({"moon"}))
