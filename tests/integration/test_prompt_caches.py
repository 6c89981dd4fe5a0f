"""A gateway that prices its providers' prompt caches, in front of upstreams that report them."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.access.keys import KeyStore
from gateway.routing.caches import PromptCaches
from gateway.routing.encoders import load_encoder
from router_models.types import COMPLETION_MTOK
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.messages import VERSION
from tests.fakes.turns import until
from tests.fakes.upstream import anthropic_message, completion, json_answer

PRICE = {
    "input_usd_per_mtok": 10.0,
    "output_usd_per_mtok": 20.0,
    "cached_input_usd_per_mtok": 1.0,
}
MODELS = {
    SMALL: {"provider": "alpha", "upstream_name": "alpha-small", "price": PRICE},
    LARGE: {"provider": "beta", "upstream_name": "beta-large", "price": PRICE},
}
BETTER = 0.6
"""By so much is one model predicted better than the other; see `router_for`."""
LONG = "The quick brown fox jumps over the lazy dog. " * 2_000
DOUBTFUL_USD, CLEAR_USD = 0.05, 2.0
"""Willing to pay so much, a caller gains less or more by the better model than 0.2 USD: what
reading 20,000 tokens costs."""


class Chat:
    """A conversation with `auto`, by routers that prefer one model or the other."""

    def __init__(self, running: RunningGateway) -> None:
        self.running = running
        store, encoder = running.store, load_encoder("static")
        self.versions = {
            name: store.put(router_for(encoder, name, unit=COMPLETION_MTOK)).version
            for name in (SMALL, LARGE)
        }
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": LONG}]

    @property
    def caches(self) -> PromptCaches:
        """What the gateway remembers."""
        service: Any = self.running.app.public.turns["/v1/chat/completions"].service
        found: PromptCaches = service.routing.caches
        return found

    def body(self, better: str, paid_usd: float) -> dict[str, Any]:
        """Ask by the router that takes `better` for the better model."""
        options = {"router_version": self.versions[better], "willingness_to_pay": paid_usd}
        return {"model": "auto", "messages": self.messages, "waypost": options}

    async def ask(
        self, better: str = SMALL, paid_usd: float = DOUBTFUL_USD, key: str | None = None
    ) -> str:
        """Have the next turn answered; return the model that did."""
        remembered = len(self.caches)
        async with self.running.caller(key) as http:
            answer = await http.post("/v1/chat/completions", json=self.body(better, paid_usd))
        assert answer.status_code == 200, answer.text
        self.messages = [
            *self.messages,
            answer.json()["choices"][0]["message"],
            {"role": "user", "content": "Go on."},
        ]
        await until(lambda: len(self.caches) > remembered)
        return answer.headers["x-waypost-model"]

    async def explained(
        self, better: str = SMALL, paid_usd: float = DOUBTFUL_USD
    ) -> dict[str, dict[str, Any]]:
        """What `/v1/route` says of the candidates for the next turn."""
        async with self.running.caller() as http:
            told = await http.post("/v1/route", json=self.body(better, paid_usd))
        return {candidate["model"]: candidate for candidate in told.json()["candidates"]}

    def wait(self, seconds: float) -> None:
        """Let the caches grow older."""
        self.caches.clock = lambda: time.monotonic() + seconds


def answers(cached: int) -> Any:
    usage = {
        "prompt_tokens": 20_000,
        "completion_tokens": 3,
        "total_tokens": 20_003,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return json_answer(completion("Yes.", usage=usage))


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[Chat]:
    async with running_gateway(tmp_path, models=MODELS) as running:
        running.alpha.answers = running.beta.answers = [answers(19_000)]
        yield Chat(running)


async def test_a_conversation_stays_where_its_cache_is_warm_though_another_model_is_better(
    chat: Chat,
) -> None:
    assert await chat.ask(SMALL) == SMALL
    assert await chat.ask(LARGE) == SMALL
    assert await chat.ask(LARGE) == SMALL


async def test_it_leaves_where_the_other_model_is_worth_more_than_its_cache(chat: Chat) -> None:
    assert await chat.ask(SMALL, CLEAR_USD) == SMALL
    assert await chat.ask(LARGE, CLEAR_USD) == LARGE


async def test_it_leaves_when_the_cache_has_died(chat: Chat) -> None:
    assert await chat.ask(SMALL) == SMALL
    chat.wait(1_500.0)
    assert await chat.ask(LARGE) == LARGE


async def test_it_leaves_a_provider_that_turned_out_to_cache_nothing(chat: Chat) -> None:
    chat.running.alpha.answers = [answers(0)]
    for _ in range(40):
        await chat.ask(SMALL)
    assert await chat.ask(LARGE) == LARGE


async def test_another_team_that_sends_the_same_conversation_is_routed_as_before(
    chat: Chat,
) -> None:
    assert await chat.ask(SMALL) == SMALL
    keys = KeyStore(chat.running.engine)
    keys.create_team("others")
    other = keys.create_key("others", "other").secret.get_secret_value()
    assert await chat.ask(LARGE, key=other) == LARGE


async def test_a_single_turn_is_routed_as_before(chat: Chat) -> None:
    asked = list(chat.messages)
    assert await chat.ask(SMALL) == SMALL
    chat.messages = asked
    explained = await chat.explained(LARGE)
    assert explained[SMALL]["cached_tokens"] is None
    assert explained[SMALL]["cost_usd"] == explained[LARGE]["cost_usd"]


async def test_a_dry_run_explains_what_is_expected_of_caches_and_warms_none(chat: Chat) -> None:
    await chat.ask(SMALL)
    small, large = map((await chat.explained(LARGE)).__getitem__, (SMALL, LARGE))
    assert small["cached_tokens"] > 0.9 * 20_000 > large["cached_tokens"] == 0.0
    assert small["cost_usd"] < 0.2 * large["cost_usd"]
    assert large["saved_later_usd"] > small["saved_later_usd"] > 0.0
    for each in (small, large):
        whole_usd = each["cost_usd"] - each["saved_later_usd"]
        assert each["utility"] == pytest.approx(each["quality"] - whole_usd / DOUBTFUL_USD)
    assert len(chat.caches) == 1


async def test_the_log_says_what_the_call_alone_was_expected_to_cost(chat: Chat) -> None:
    await chat.ask(SMALL)
    await chat.ask(SMALL)
    row = (await chat.running.turns(2))[1]
    expected = {candidate["model"]: candidate for candidate in row.candidates}
    assert expected[SMALL]["cost_usd"] == pytest.approx(row.cost_nusd / 1e9, rel=0.3)
    assert "saved_later_usd" not in expected[SMALL]


async def test_with_the_setting_off_no_cache_counts(tmp_path: Path) -> None:
    routing = {"encoder": "static", "prior": False, "prompt_caches": False}
    async with running_gateway(tmp_path, models=MODELS, routing=routing) as running:
        running.alpha.answers = running.beta.answers = [answers(19_000)]
        chat = Chat(running)
        for better in (SMALL, LARGE):
            body = chat.body(better, DOUBTFUL_USD)
            async with running.caller() as http:
                answer = await http.post("/v1/chat/completions", json=body)
            assert answer.headers["x-waypost-model"] == better
            chat.messages = [
                *chat.messages,
                *({"role": r, "content": "a"} for r in ("assistant", "user")),
            ]


WRITES = {**PRICE, "cache_write_usd_per_mtok": 12.5}
ON_CLAUDE = {
    **MODELS,
    SMALL: {"provider": "gamma", "upstream_name": "claude-sonnet-4-5", "price": WRITES},
}
MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize("mark", [MARK, {}])
async def test_claude_keeps_a_conversation_whose_caller_marks_what_is_to_be_cached(
    tmp_path: Path, mark: dict[str, Any]
) -> None:
    read, written = ("cache_read_input_tokens", "cache_creation_input_tokens")
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": LONG, **mark}]}
    ]
    async with running_gateway(tmp_path, models=ON_CLAUDE) as running:
        running.beta.answers = [answers(0)]
        chat = Chat(running)
        served: list[str] = []
        for counts in ({written: 20_000}, {read: 19_000, written: 1_000}):
            usage = {"input_tokens": 10, "output_tokens": 3, **(counts if mark else {})}
            if not mark:
                usage["input_tokens"] = 20_010
            running.gamma.answers = [json_answer(anthropic_message("Yes.", usage=usage))]
            version = chat.versions[LARGE if served else SMALL]
            asked = {"x-waypost-router-version": version, "x-waypost-willingness-to-pay": "0.05"}
            body = {"model": "auto", "max_tokens": 100, "messages": messages}
            async with running.caller() as http:
                answer = await http.post("/v1/messages", json=body, headers={**VERSION, **asked})
            assert answer.status_code == 200, answer.text
            served.append(answer.headers["x-waypost-model"])
            await until(lambda: len(chat.caches) == len(served))
            plain = {"role": "user", "content": [{"type": "text", "text": LONG}]}  # marks move on
            said = {"role": "assistant", "content": answer.json()["content"]}
            asks = {"role": "user", "content": [{"type": "text", "text": "Go on.", **mark}]}
            messages = [plain, said, asks]
    assert served == [SMALL, SMALL if mark else LARGE]
