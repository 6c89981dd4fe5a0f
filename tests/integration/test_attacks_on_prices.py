"""Ways to have a provider charge more than the gateway counts, tried with every key and model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.budgets import budget
from tests.fakes.gateway import CLAUDE, LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import anthropic_message, completion, json_answer

CHAT = "/v1/chat/completions"
DEAR: list[dict[str, Any]] = [
    {"models": ["openai/gpt-6.1-sol"], "route": "fallback"},
    {"provider": {"order": ["dear"]}},
    {"plugins": [{"id": "web"}]},
    {"service_tier": "priority"},
    {"best_of": 20},
    {"max_output_tokens": 1_000_000},
    {"speed": "fast"},
    {"tools": [{"type": "web_search"}]},
    {"reasoning": {"max_tokens": 1_000_000}},
]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, limits={"extra_fields": []}) as running:
        yield running


def asking(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("model", ["auto", SMALL])
@pytest.mark.parametrize("dear", DEAR, ids=[next(iter(fields)) for fields in DEAR])
async def test_a_field_that_may_change_model_or_price_is_refused(
    strict_gateway, model, dear
) -> None:
    async with strict_gateway.caller() as http:
        answer = await http.post(CHAT, json=asking(model, max_tokens=5, **dear))
        dry_run = await http.post("/v1/route", json=asking(model, **dear))

    error = answer.json()["error"]
    assert (answer.status_code, dry_run.status_code) == (400, 400)
    assert (error["code"], error["param"]) == ("invalid_request", next(iter(dear)))
    assert "extra_fields" in error["message"]
    assert strict_gateway.alpha.requests == strict_gateway.beta.requests == []


async def test_a_key_with_a_cap_gets_no_other_model_than_it_may_use(gateway) -> None:
    budget(gateway.engine, 10**9, team_id="default", scope="key")
    async with gateway.caller() as http:
        refused = await http.post(CHAT, json=asking(SMALL, models=["dear/model"]))
    assert refused.status_code == 400
    assert gateway.alpha.requests == []


async def test_vendor_content_and_metadata_of_messages_pass(gateway) -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
        "x_vendor": {"models": [1]},
    }
    gateway.alpha.answers = [json_answer(completion())]
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json={"model": SMALL, "messages": [message]})
    assert answer.status_code == 200
    assert gateway.alpha.last.body["messages"] == [message]


async def test_auto_takes_a_model_whose_provider_may_be_sent_the_field(tmp_path) -> None:
    profiles = {"balanced": {"willingness_to_pay_usd": 1.0, "models": [SMALL, LARGE, CLAUDE]}}
    async with running_gateway(tmp_path, profiles=profiles) as gateway:
        gateway.upstreams.by_name["gamma"].answers = [json_answer(anthropic_message())]
        only_claude = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
        async with gateway.caller() as http:
            answer = await http.post(CHAT, json=asking("auto", max_tokens=2_000, **only_claude))
            route = await http.post("/v1/route", json=asking("auto", **only_claude))

    assert answer.headers["x-waypost-model"] == CLAUDE
    verdicts = {each["model"]: each["verdict"] for each in route.json()["candidates"]}
    assert (verdicts[SMALL], verdicts[LARGE]) == ("field_refused", "field_refused")


@pytest.mark.parametrize("allowed", [["service_tier"], ["*"]])
async def test_the_operator_can_allow_a_field_for_a_provider(tmp_path, allowed) -> None:
    async with running_gateway(tmp_path, limits={"extra_fields": allowed}) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        async with gateway.caller() as http:
            answer = await http.post(CHAT, json=asking(SMALL, service_tier="priority"))
    assert answer.status_code == 200
    assert gateway.alpha.last.body["service_tier"] == "priority"
