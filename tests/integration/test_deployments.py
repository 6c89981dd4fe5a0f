"""One model at several places: a call that fails at one goes to the next, and no rule is left."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from budget.ledger.amounts import NUSD_PER_USD
from gateway.access.keys import KeyStore
from gateway.budgets.definitions import BudgetDefinitions
from gateway.chat.deployments import Watched
from gateway.providers.resilience import Resilience
from gateway.providers.upstream import HttpProvider
from tests.fakes.budgets import budget
from tests.fakes.gateway import LARGE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.scrape import scrape
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    completion,
    error_answer,
    json_answer,
    stream_answer,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
DEAR = {"input_usd_per_mtok": 100.0, "output_usd_per_mtok": 200.0}
FAILURES = 5


def at(provider: str, **also: Any) -> dict[str, Any]:
    return {"provider": provider, "upstream_name": f"at-{provider}", **also}


MODELS: Mapping[str, Mapping[str, Any]] = {
    SMALL: {"price": PRICE, "deployments": [at("alpha"), at("beta")]},
    "ranked": {"price": PRICE, "deployments": [at("beta", priority=1), at("alpha")]},
    "drained": {"price": PRICE, "deployments": [at("alpha", weight=0), at("beta")]},
    "unequal": {"price": PRICE, "deployments": [at("alpha"), at("beta", price=DEAR, priority=1)]},
    "mixed": {"price": PRICE, "deployments": [at("gamma"), at("alpha", priority=1)]},
    "vectors": {
        "price": PRICE,
        "kind": "embeddings",
        "deployments": [at("alpha"), at("delta", priority=1)],
    },
    "backed": {
        "provider": "alpha",
        "price": PRICE,
        "fallbacks": ["drained", LARGE],
    },
    "small-backed": {
        "price": PRICE,
        "fallbacks": ["plain"],
        "deployments": [at("alpha"), at("beta")],
    },
    "plain": {"provider": "delta", "price": PRICE},
    "backed-dearly": {"provider": "alpha", "price": PRICE, "fallbacks": ["dear"]},
    "dear": {"provider": "delta", "price": DEAR},
    LARGE: {"provider": "beta", "upstream_name": "beta-large", "price": PRICE},
}
ALSO: Mapping[str, Mapping[str, Any]] = {
    "alpha": {"extra_fields": ["service_tier"], "max_retries": 2},
    "beta": {"attributes": ["eu"]},
    "delta": {"attributes": ["eu"]},
}
PROFILES = {
    "balanced": {"willingness_to_pay_usd": 1.0},
    "one": {"willingness_to_pay_usd": 1.0, "models": [SMALL, LARGE]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("deployments"),
        also=ALSO,
        models=MODELS,
        profiles=PROFILES,
        limits={"breaker_failures": FAILURES},
        budgets={"definitions_poll_s": 0.01},
        data_rules={"europe": {"requires": ["eu"]}},
    ) as running:
        for team in ("limited", "revoked", "poor"):
            KeyStore(running.engine).create_team(team)
        yield running


@pytest.fixture
def gateway(shared: RunningGateway) -> RunningGateway:
    """Upstreams that answer as usual, of which nothing bad is remembered."""
    shared.upstreams.reset()
    shared.refusals.forget()
    deployments = shared.app.public.turns[CHAT].service.deployments
    assert deployments is not None
    deployments.forget()
    for name in ("alpha", "beta", "delta"):
        shared.upstreams.by_name[name].answers = [json_answer(completion())]
    shared.gamma.answers = [json_answer(anthropic_message())]
    for name in ("alpha", "beta", "gamma"):
        resilience_of(shared, name).breaker(f"at-{name}").succeeded()
    return shared


def resilience_of(gateway: RunningGateway, provider: str) -> Resilience:
    """Return what keeps the provider's failures from becoming everybody's."""
    found = gateway.app.public.turns[CHAT].service.providers[provider]
    assert isinstance(found, Watched)
    assert isinstance(found.provider, HttpProvider)
    return found.provider.resilience


async def ask(
    http: httpx2.AsyncClient, model: str, headers: Mapping[str, str] | None = None, **body: Any
) -> httpx2.Response:
    asked = {"model": model, "messages": HI, **body}
    return await http.post(CHAT, json=asked, headers=dict(headers or {}))


def of_team(gateway: RunningGateway, team: str) -> httpx2.AsyncClient:
    key = KeyStore(gateway.engine).create_key(team, "k").secret.get_secret_value()
    return gateway.caller(key)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("model", [SMALL, "one"])
async def test_a_key_that_is_revoked_under_load_fails_no_request(gateway, model, is_stream) -> None:
    good = stream_answer() if is_stream else json_answer(completion())
    gateway.alpha.answers = [good] * 5 + [error_answer(401, "revoked", code="invalid_api_key")]
    gateway.beta.answers = [good]
    async with of_team(gateway, "revoked") as http:
        asked = (ask(http, model, stream=is_stream) for _ in range(40))
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 40
    assert not any("error" in answer.text for answer in answers)
    assert len(gateway.alpha.requests) < 40


async def test_a_place_at_its_rate_limit_rests_while_another_answers(gateway) -> None:
    limited = error_answer(429, "slow down", headers={"retry-after": "30"})
    gateway.alpha.answers = [limited]
    async with of_team(gateway, "limited") as http:
        answers = [await ask(http, "ranked") for _ in range(2 * FAILURES)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-waypost-provider"] for answer in answers} == {"beta"}
    assert len(gateway.alpha.requests) == 1  # it asked to be left alone
    assert not resilience_of(gateway, "alpha").condition().breakers["at-alpha"].is_open
    async with (
        gateway.caller() as http
    ):  # a caller can provoke it, so it changes nothing for others
        await ask(http, "ranked")
    assert len(gateway.alpha.requests) == 2


async def test_where_all_places_are_at_their_limit_the_caller_is_told_when_to_come_back(
    gateway,
) -> None:
    for upstream in (gateway.alpha, gateway.beta):
        upstream.answers = [error_answer(429, "slow down", headers={"retry-after": "30"})]
    async with of_team(gateway, "limited") as http:
        answer = await ask(http, SMALL)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"
        assert len(gateway.alpha.requests) == len(gateway.beta.requests) == 1
        again = await ask(http, SMALL)
    assert again.status_code == 429
    assert int(again.headers["retry-after"]) <= 30
    assert len(gateway.alpha.requests) == len(gateway.beta.requests) == 1  # nobody was asked


@pytest.mark.parametrize("is_stream", [False, True])
async def test_where_all_places_rest_a_call_waits_for_the_one_that_is_open_first(
    gateway, is_stream
) -> None:
    whole = stream_answer("Hello!") if is_stream else json_answer(completion())
    for upstream, seconds in ((gateway.alpha, "0.3"), (gateway.beta, "30")):
        limited = error_answer(429, "slow down", headers={"retry-after": seconds})
        upstream.answers = [limited, whole]
    async with of_team(gateway, "limited") as http:
        first = await ask(http, "ranked", stream=is_stream)
        assert first.status_code == 429  # beta, which was asked last, wants to be left too long
        second = await ask(http, "ranked", stream=is_stream)
    assert second.headers["x-waypost-provider"] == "alpha"
    assert (len(gateway.alpha.requests), len(gateway.beta.requests)) == (2, 1)


async def test_nobody_waits_for_a_place_where_a_fallback_can_answer(gateway) -> None:
    for upstream in (gateway.alpha, gateway.beta):
        upstream.answers = [
            error_answer(429, "slow down", headers={"retry-after": "30"}),
            json_answer(completion()),
        ]
    async with of_team(gateway, "limited") as http:
        await ask(http, "drained")
        answer = await ask(http, "small-backed")
    assert answer.headers["x-waypost-fallback-from"] == "small-backed"
    assert answer.headers["x-waypost-provider"] == "delta"


async def test_a_failing_place_is_called_once_and_the_next_at_once(gateway) -> None:
    gateway.alpha.answers = [error_answer(503, "down")]
    async with gateway.caller() as http:
        answer = await ask(http, "ranked")
    assert answer.status_code == 200
    assert len(gateway.alpha.requests) == 1  # though its provider has two retries
    row = await gateway.turn(answer.headers["x-request-id"])
    assert (row.provider, row.served_model, row.attempts) == ("beta", "ranked", 2)


async def test_the_last_place_is_called_again_as_a_single_one_is(gateway) -> None:
    gateway.beta.answers = [error_answer(503, "down")]
    gateway.alpha.answers = [error_answer(503, "down"), json_answer(completion())]
    async with gateway.caller() as http:
        answer = await ask(http, "drained")
    assert answer.status_code == 200
    assert len(gateway.alpha.requests) == 2


async def test_places_of_lower_priority_and_drained_ones_get_no_calls(gateway) -> None:
    async with gateway.caller() as http:
        for _ in range(10):
            await ask(http, "ranked")
        assert (len(gateway.alpha.requests), len(gateway.beta.requests)) == (10, 0)
        for _ in range(10):
            await ask(http, "drained")
    assert (len(gateway.alpha.requests), len(gateway.beta.requests)) == (10, 10)


async def test_calls_are_spread_over_equal_places(gateway) -> None:
    async with gateway.caller() as http:
        await asyncio.gather(*(ask(http, SMALL) for _ in range(60)))
    assert min(len(gateway.alpha.requests), len(gateway.beta.requests)) > 10


async def test_a_model_is_passed_over_only_where_all_its_places_are_paused(gateway) -> None:
    alpha, beta = resilience_of(gateway, "alpha"), resilience_of(gateway, "beta")
    body = {"model": "one", "messages": HI}
    for _ in range(FAILURES):
        alpha.breaker("at-alpha").failed()
    async with gateway.caller() as http:
        one = (await http.post("/v1/route", json=body)).json()
        for _ in range(FAILURES):
            beta.breaker("at-beta").failed()
        both = (await http.post("/v1/route", json=body)).json()
    eligible = [{c["model"]: c["verdict"] for c in plan["candidates"]} for plan in (one, both)]
    assert eligible[0][SMALL] == "ok"
    assert eligible[1][SMALL] == "unavailable"


async def test_each_place_charges_its_own_price_and_the_dearest_is_held(gateway) -> None:
    async with gateway.caller() as http:
        cheap = await ask(http, "unequal")
        gateway.alpha.answers = [error_answer(503, "down")]
        dear = await ask(http, "unequal")
    costs = [float(answer.headers["x-waypost-cost-usd"]) for answer in (cheap, dear)]
    assert costs == [pytest.approx(15e-6), pytest.approx(1500e-6)]


async def test_a_data_rule_holds_for_every_place(gateway) -> None:
    gateway.beta.answers = [error_answer(503, "down")]
    async with gateway.caller() as http:
        answers = [await ask(http, SMALL, {"x-waypost-data-rule": "europe"}) for _ in range(8)]
        assert {answer.status_code for answer in answers} == {503}
        nowhere = await ask(http, "mixed", {"x-waypost-data-rule": "europe"})
    assert not gateway.alpha.requests
    assert gateway.beta.requests
    assert nowhere.status_code == 404


async def test_other_endpoints_keep_to_the_data_rule_too(gateway) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    found = {"object": "list", "data": [vector], "model": "m", "usage": {"prompt_tokens": 1}}
    gateway.upstreams.by_name["delta"].answers = [json_answer(found)]
    gateway.alpha.answers = [json_answer(found)]
    body = {"model": "vectors", "input": "Hi"}
    async with gateway.caller() as http:
        free = await http.post("/v1/embeddings", json=body)
        ruled = await http.post(
            "/v1/embeddings", json=body, headers={"x-waypost-data-rule": "europe"}
        )
    assert free.status_code == ruled.status_code == 200
    assert len(gateway.alpha.requests) == len(gateway.upstreams.by_name["delta"].requests) == 1


async def test_a_field_is_admitted_only_where_every_place_admits_it(gateway) -> None:
    async with gateway.caller() as http:
        answer = await ask(http, SMALL, service_tier="priority")
    assert answer.status_code == 400
    assert not gateway.alpha.requests


async def test_places_may_speak_different_apis(gateway) -> None:
    async with gateway.caller() as http:
        claude = await ask(http, "mixed")
        gateway.gamma.answers = [error_answer(529, "overloaded")]
        other = await ask(http, "mixed")
    served = [answer.headers["x-waypost-provider"] for answer in (claude, other)]
    assert served == ["gamma", "alpha"]
    assert gateway.alpha.last.body["model"] == "at-alpha"


async def test_a_stream_that_breaks_before_its_first_event_goes_elsewhere(gateway) -> None:
    gateway.alpha.answers = [Answer((b": hello\n\n",), cuts_off=True)]
    gateway.beta.answers = [stream_answer()]
    async with gateway.caller() as http:
        answer = await ask(http, "ranked", stream=True)
    assert answer.headers["x-waypost-provider"] == "beta"
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_a_named_model_with_fallbacks_is_answered_by_them_and_the_answer_says_so(
    gateway,
) -> None:
    async with gateway.caller() as http:
        usual = await ask(http, "backed")
        gateway.alpha.answers = [error_answer(429, "slow down", headers={"retry-after": "60"})]
        other = await ask(http, "backed")
    assert usual.headers["x-waypost-model"] == "backed"
    assert "x-waypost-fallback-from" not in usual.headers
    assert (other.headers["x-waypost-model"], other.status_code) == ("drained", 200)
    assert other.headers["x-waypost-fallback-from"] == "backed"
    row = await gateway.turn(other.headers["x-request-id"])
    assert (row.requested_model, row.chosen_model, row.served_model) == (
        "backed",
        "backed",
        "drained",
    )


async def test_a_refusal_for_length_goes_to_the_fallback_too(gateway) -> None:
    gateway.alpha.answers = [error_answer(400, "too long", code="context_length_exceeded")]
    async with gateway.caller() as http:
        answer = await ask(http, "backed")
    assert answer.headers["x-waypost-model"] == "drained"


async def test_without_fallbacks_a_named_model_stays_as_named(gateway) -> None:
    gateway.beta.answers = [error_answer(500, "down")]
    async with gateway.caller() as http:
        answer = await ask(http, LARGE)
    assert answer.status_code == 503
    assert not gateway.alpha.requests


async def test_a_fallback_that_the_key_may_not_use_is_not_called(gateway) -> None:
    gateway.alpha.answers = [error_answer(500, "down")]
    made = KeyStore(gateway.engine).create_key("poor", "k", allowed_models=["backed", LARGE])
    async with gateway.caller(made.secret.get_secret_value()) as http:
        answer = await ask(http, "backed")
    assert answer.headers["x-waypost-model"] == LARGE


async def test_a_dear_fallback_is_left_out_where_the_budget_has_no_room_for_it(gateway) -> None:
    budget(gateway.engine, NUSD_PER_USD // 100, team_id="poor")
    newest = BudgetDefinitions(gateway.engine).changes(0, 1000)[-1].revision
    await until(lambda: gateway.app.budgets.book.revision >= newest)
    gateway.upstreams.by_name["delta"].answers = [json_answer(completion())]
    async with of_team(gateway, "poor") as http:
        fits = await ask(http, "backed-dearly", max_tokens=100)
        gateway.alpha.answers = [error_answer(500, "down")]
        fails = await ask(http, "backed-dearly", max_tokens=100)
        dear = await ask(http, "dear", max_tokens=100)
    assert (fits.status_code, fails.status_code, dear.status_code) == (200, 503, 429)
    assert not gateway.upstreams.by_name["delta"].requests


async def test_breakers_of_all_places_are_in_the_metrics(gateway) -> None:
    labels = {
        (dict(labels)["model"], dict(labels)["provider"])
        for name, labels in (await scrape(gateway)).series
        if name == "waypost_provider_breaker_open"
    }
    assert {(SMALL, "alpha"), (SMALL, "beta"), ("vectors", "delta")} <= labels
