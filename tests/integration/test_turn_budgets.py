"""Turn budgets over real sockets: 32 turns at once, both stores, nobody passes the budget."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.artifacts.store import policy_store
from gateway.routing.encoders import load_encoder
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.policies import policy_artifact
from tests.fakes.redis import running_redis
from tests.fakes.turns import until
from tests.fakes.upstream import JSON, completion, json_answer, stream_answer

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]
BUDGET_TOKENS = 4000
PARALLEL = 32
OWN = {"conversation_id": "talk", "turn_budget": BUDGET_TOKENS}


class GreedyUpstream:
    """Answers with as many tokens as it is allowed; waits until all callers are in.

    Attributes:
        used_tokens: Of all answers.
    """

    def __init__(self) -> None:
        self.used_tokens = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        tokens = orjson.loads(raw)["max_tokens"]
        self.used_tokens += tokens
        await asyncio.sleep(0)
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
        answer = orjson.dumps(completion(usage=usage))
        headers = [(k.encode(), v.encode()) for k, v in JSON.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture(params=["memory", "redis"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    with ExitStack() as stack:
        budgets: dict[str, Any] = {"store": request.param, "store_timeout_s": PATIENCE_S}
        if request.param == "redis":
            budgets["redis_url"] = stack.enter_context(running_redis()).url
        async with running_gateway(tmp_path, budgets=budgets) as running:
            yield running


@pytest.fixture
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.caller() as caller:
        yield caller


async def ask(http: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    """Take one turn."""
    return await http.post(CHAT, json={"model": SMALL, "messages": HELLO, **fields})


async def test_32_parallel_turns_never_pass_the_budget(gateway, http):
    upstream = gateway.upstreams.by_name["alpha"] = GreedyUpstream()

    answers = await asyncio.gather(*(ask(http, waypost=OWN) for _ in range(PARALLEL)))

    assert {answer.status_code for answer in answers} == {200, 429}
    refused = [answer.json()["error"] for answer in answers if answer.status_code == 429]
    assert {error["limit_source"] for error in refused} == {"conversation"}
    assert upstream.used_tokens == BUDGET_TOKENS
    ledger = gateway.app.budgets.ledger
    await until(lambda: ledger.running == 0)
    rows = [row for row in await gateway.turns(PARALLEL) if row.error is None]
    assert sum(row.completion_tokens for row in rows) == BUDGET_TOKENS
    assert all(row.completion_tokens <= row.allotted_tokens for row in rows)


async def test_says_and_logs_what_a_turn_was_allotted(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    answer = await ask(http, waypost=OWN)

    assert gateway.alpha.last.body["max_tokens"] == 512
    assert "waypost" not in gateway.alpha.last.body
    assert answer.headers["x-waypost-turn-allotted-tokens"] == "512"
    assert answer.headers["x-waypost-budget-conversation-remaining-output-tokens"] == "3997"
    assert answer.json()["waypost"]["turn_budget"]["proposed_tokens"] == 512
    row = await gateway.turn(answer.headers["x-request-id"])
    assert (row.budget_tokens, row.proposed_tokens, row.allotted_tokens) == (4000, 512, 512)
    assert (row.policy_version, row.policy_propensity) == ("split", 1.0)


async def test_a_header_alone_switches_it_on_and_a_stream_says_it_at_its_end(gateway, http):
    gateway.alpha.answers = [stream_answer()]

    answer = await http.post(
        CHAT,
        json={
            "model": SMALL,
            "messages": HELLO,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        headers={"x-waypost-turn-budget": "4000"},
    )

    final = orjson.loads(answer.text.split("\n\n")[-3].removeprefix("data: "))
    assert final["waypost"]["turn_budget"]["allotted_tokens"] == 512


async def test_an_answer_that_was_cut_off_raises_the_next_allotment(gateway, http):
    cut = completion()
    cut["choices"][0]["finish_reason"] = "length"
    gateway.alpha.answers = [json_answer(cut), json_answer(completion())]

    allotted = [
        (await ask(http, waypost=OWN)).headers["x-waypost-turn-allotted-tokens"] for _ in range(3)
    ]

    assert allotted == ["512", "1024", "512"]


async def test_a_dry_run_explains_the_allotment_and_spends_nothing(gateway, http):
    body = {"model": "auto", "messages": HELLO, "waypost": {**OWN, "plan": ["a", "b", "c"]}}

    told = [(await http.post("/v1/route", json=body)).json()["turn_budget"] for _ in range(2)]

    assert told[0] == told[1]
    assert told[0]["remaining_tokens"] == BUDGET_TOKENS
    assert told[0]["allotted_tokens"] == 1024
    odds = {choice["tokens"]: choice["probability"] for choice in told[0]["choices"]}
    assert odds == {256: 0, 512: 0, 1024: 1, 2048: 0, 4096: 0}


async def test_policies_are_swapped_while_the_gateway_serves(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]
    store = policy_store(gateway.settings)
    encoder = load_encoder("static")
    versions = [store.put(policy_artifact(seed, encoder=encoder)).version for seed in (0, 1)]

    async def until_proposes(version: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await ask(http, waypost={"turn_budget": BUDGET_TOKENS})
                assert answer.status_code == 200
                if answer.headers["x-waypost-policy-version"] == version:
                    return

    for version in versions:
        store.activate(version)
        await until_proposes(version)
    store.rollback()
    await until_proposes(versions[0])
