from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from budget.errors import CapacityExceeded, ShareExceeded
from budget.in_flight import InFlight
from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.embedded.process import EmbeddedPool
from gateway.providers.base import BreakerState, Condition
from gateway.readings import (
    newest_candidate,
    read_exploration,
    read_memory,
    read_providers,
    read_router,
)
from gateway.routing.exploring import always, exploring
from gateway.settings.routing import ExplorationSettings
from gateway.telemetry.families import Read
from gateway.telemetry.series import Reading, render
from gateway.types import HostedModel, ModelPrice
from router_models.artifacts.assessment import Assessment, Outcome
from tests.fakes.artifacts import ENCODER, router_artifact
from tests.fakes.providers import FakeProvider
from tests.fakes.scrape import Scrape

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICE = ModelPrice(0, 0)


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "routers")


@dataclass
class Pool:
    is_ready: bool = False
    restarts: int = 3


class Working(FakeProvider):
    def condition(self) -> Condition:
        breakers = {"up": BreakerState(is_open=True, times_opened=2)}
        return Condition(
            in_flight=4, waiting=1, limit=8, retries=5, breakers=breakers, refused={"late": 6}
        )


def read(made: Read) -> Scrape:
    registry = CollectorRegistry()
    registry.register(Reading(made))
    return Scrape.parse(render(registry).decode())


def judged(store: ArtifactStore, seed: int, outcome: Outcome, at: datetime) -> str:
    version = store.put(router_artifact(seed)).version
    store.note(version, Assessment(outcome, "for a reason", at))
    return version


async def test_the_router_that_serves_and_the_one_that_waits_are_told(store):
    serving = store.put(router_artifact(1)).version
    store.activate(serving)
    waiting = judged(store, 2, "candidate", NOW)
    router = ActiveRouter(store, ENCODER)
    await router.refresh()

    seen = read(read_router(router, store))

    assert seen.sum("waypost_router_info", version=serving, encoder=ENCODER.id) == 1
    assert seen.sum("waypost_router_candidate_info", version=waiting, kind="kmeans") == 1
    assert seen.sum("waypost_router_swaps_total") == 1


def test_what_exploration_may_have_lost_is_told():
    it = exploring(ExplorationSettings(), always, clock=lambda: 0.0)
    assert it.budget is not None
    it.budget.spend(0.125)
    uncapped = exploring(ExplorationSettings(kind="epsilon"), always, clock=lambda: 0.0)

    assert read(read_exploration(it)).sum("waypost_exploration_regret_usd_total") == 0.125
    assert read(read_exploration(uncapped)).sum("waypost_exploration_regret_usd_total") == 0


async def test_without_a_router_there_is_nothing_to_tell_of_it(store):
    seen = read(read_router(ActiveRouter(store, ENCODER), store))

    assert {name for name, _ in seen.series} == {
        "waypost_router_loaded",
        "waypost_router_swaps_total",
        "waypost_router_artifacts_rejected_total",
    }


def test_the_candidate_is_the_one_judged_last(store):
    judged(store, 1, "candidate", NOW)
    later = judged(store, 2, "candidate", NOW + HOUR)
    judged(store, 3, "activated", NOW + 2 * HOUR)
    (store.folder / "frontier.json").write_text("{}")

    assert newest_candidate(store) == later


def test_a_paused_model_and_the_places_of_its_provider_are_told():
    models = {
        name: HostedModel(name, "acme", upstream_name, PRICE)
        for name, upstream_name in (("a", "up"), ("b", "other"))
    }

    seen = read(read_providers({"acme": Working()}, models, cast("EmbeddedPool", Pool())))

    assert seen.sum("waypost_provider_breaker_open", model="a", provider="acme") == 1
    assert seen.sum("waypost_provider_breaker_opened_total", model="a") == 2
    assert seen.sum("waypost_provider_breaker_open", model="b") == 0
    assert seen.sum("waypost_provider_calls_in_flight", provider="acme") == 4
    assert seen.sum("waypost_provider_calls_waiting") == 1
    assert seen.sum("waypost_provider_calls_limit") == 8
    assert seen.sum("waypost_provider_retries_total") == 5
    assert seen.sum("waypost_provider_calls_refused_total", provider="acme", reason="late") == 6
    assert seen.sum("waypost_embedded_ready") == 0
    assert seen.sum("waypost_embedded_restarts_total") == 3


def test_without_an_embedded_pool_nothing_is_told_of_one():
    names = {name for name, _ in read(read_providers({}, {}, None)).series}

    assert not any(name.startswith("waypost_embedded") for name in names)


def test_memory_of_bodies_and_who_was_refused_for_it_is_told():
    memory = InFlight(limit=100, limit_per_owner=60)
    with memory.hold("one") as one, memory.hold("two") as two:
        one.grow(50)
        with pytest.raises(ShareExceeded):
            one.grow(61)
        for _ in range(2):
            with pytest.raises(CapacityExceeded):
                two.grow(51)
        seen = read(read_memory(memory))

    name = "waypost_body_memory"
    assert seen.sum(f"{name}_held_bytes") == 50
    assert seen.sum(f"{name}_limit_bytes") == 100
    assert seen.sum(f"{name}_refused_total", reason="key") == 1
    assert seen.sum(f"{name}_refused_total", reason="all") == 2
    assert read(read_memory(memory)).sum(f"{name}_held_bytes") == 0
