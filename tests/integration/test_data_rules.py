"""What is held to a data rule goes to models with the attributes it requires, and to no others."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from tests.fakes.gateway import CLAUDE, LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import completion, error_answer, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
RULE = "x-waypost-data-rule"
ALSO: Mapping[str, Mapping[str, Any]] = {
    "alpha": {"attributes": ["eu"]},
    "beta": {"attributes": ["eu", "zero-retention"]},
    "delta": {"attributes": []},
}
RULES = {
    "europe": {"requires": ["eu"]},
    "secret": {"requires": ["eu", "zero-retention"]},
    "nowhere": {"requires": ["moon"]},
}
PASSED = {"draw": {"path": "/v1/images/generations", "provider": "delta", "price_per_call_usd": 0}}
HI = [{"role": "user", "content": "Hi"}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    path = tmp_path_factory.mktemp("rules")
    async with running_gateway(path, also=ALSO, data_rules=RULES, passthrough=PASSED) as running:
        yield running


@pytest.fixture
def ruled(shared: RunningGateway) -> RunningGateway:
    """Upstreams that answer as usual; the router prefers `SMALL`."""
    shared.upstreams.reset()
    shared.refusals.forget()
    for name in ("alpha", "beta"):
        shared.upstreams.by_name[name].answers = [json_answer(completion())]
    return shared


async def ask(
    gateway: RunningGateway, key: str | None = None, rule: str | None = None, model: str = "auto"
) -> httpx2.Response:
    headers = {} if rule is None else {RULE: rule}
    async with gateway.caller(key) as http:
        return await http.post(CHAT, json={"model": model, "messages": HI}, headers=headers)


def key_of(gateway: RunningGateway, team: str, *, of_team: str | None, of_key: str | None) -> str:
    store = KeyStore(gateway.engine)
    store.create_team(team, data_rule=of_team)
    return store.create_key(team, "k", data_rule=of_key).secret.get_secret_value()


async def test_without_a_rule_the_router_chooses_among_all(ruled) -> None:
    answer = await ask(ruled)
    assert answer.headers["x-waypost-model"] == SMALL
    assert (await ruled.turn(answer.headers["x-request-id"])).data_rules is None


async def test_a_request_is_answered_by_a_model_that_its_rule_admits(ruled) -> None:
    answer = await ask(ruled, rule="secret")
    assert answer.headers["x-waypost-model"] == LARGE
    assert not ruled.alpha.requests
    row = await ruled.turn(answer.headers["x-request-id"])
    assert row.data_rules.startswith("secret@")
    assert {one["model"] for one in row.candidates} == {LARGE}


@pytest.mark.parametrize(
    ("team", "of_team", "of_key", "of_request"),
    [
        ("by-team", "secret", None, None),
        ("by-key", None, "secret", None),
        ("by-both", "europe", "secret", None),
        ("by-all", "secret", "europe", "europe"),
        ("by-request", "europe", None, "secret"),
    ],
)
async def test_rules_of_team_key_and_request_hold_together(
    ruled, team, of_team, of_key, of_request
) -> None:
    key = key_of(ruled, team, of_team=of_team, of_key=of_key)
    answer = await ask(ruled, key, of_request)
    assert answer.headers["x-waypost-model"] == LARGE
    assert not ruled.alpha.requests


async def test_no_fallback_leaves_what_the_rule_admits(ruled) -> None:
    ruled.beta.answers = [error_answer(503, "down")]
    answer = await ask(ruled, rule="secret")
    assert answer.status_code == 503
    assert not ruled.alpha.requests


@pytest.mark.parametrize("model", [SMALL, CLAUDE])
async def test_a_model_that_is_named_is_not_served_where_the_rule_does_not_admit_it(
    ruled, model
) -> None:
    assert (await ask(ruled, rule="secret", model=model)).status_code == 404
    assert (await ask(ruled, rule="europe,secret", model=model)).status_code == 404
    assert not ruled.alpha.requests
    assert not ruled.gamma.requests


async def test_where_no_model_has_the_attributes_nothing_is_sent(ruled) -> None:
    answer = await ask(ruled, rule="nowhere")
    assert answer.status_code == 400
    assert "nowhere@" in answer.json()["error"]["message"]
    assert not any(one.requests for one in ruled.upstreams.by_name.values())


async def test_models_that_the_rule_does_not_admit_are_not_listed(ruled) -> None:
    async with ruled.caller() as http:
        listed = (await http.get("/v1/models", headers={RULE: "secret"})).json()["data"]
    names = {one["id"] for one in listed}
    assert LARGE in names
    assert names.isdisjoint({SMALL, CLAUDE})


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/route"])
async def test_a_rule_holds_on_every_way_of_asking(ruled, path) -> None:
    body = {"model": "auto", "max_tokens": 9, "messages": HI}
    if path == "/v1/responses":
        body = {"model": "auto", "input": "Hi"}
    async with ruled.caller() as http:
        answer = await http.post(path, json=body, headers={RULE: "secret"})
    assert answer.status_code == 200, answer.text
    assert not ruled.alpha.requests
    if path == "/v1/route":
        assert answer.json()["model"] == LARGE


async def test_nothing_is_passed_on_to_a_provider_that_the_rule_does_not_admit(ruled) -> None:
    async with ruled.caller() as http:
        answer = await http.post(
            "/v1/images/generations", json={"prompt": "A cat"}, headers={RULE: "europe"}
        )
    assert answer.status_code == 403
    assert "europe@" in answer.json()["error"]["message"]
    assert not ruled.upstreams.by_name["delta"].requests


async def test_a_rule_that_there_is_not_is_an_error_and_not_ignored(ruled) -> None:
    answer = await ask(ruled, rule="europe, secrte")
    assert answer.status_code == 400
    assert "secrte" in answer.json()["error"]["message"]
    assert not ruled.alpha.requests


async def test_a_key_whose_rule_left_the_settings_is_refused(ruled) -> None:
    key = key_of(ruled, "stale", of_team=None, of_key="forgotten")
    answer = await ask(ruled, key)
    assert answer.status_code == 403
    assert "forgotten" in answer.json()["error"]["message"]
    assert not ruled.alpha.requests
