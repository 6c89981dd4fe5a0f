"""Ways to get more than one pays for, tried over real sockets under a cap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import func, select

from gateway.budgets.definitions import BudgetDefinitions
from gateway.types import CLIENT_LEFT
from migrations.tables import SETTLEMENTS, TURNS
from tests.fakes.budgets import budget
from tests.fakes.gateway import (
    CLAUDE,
    LARGE,
    SMALL,
    RunningGateway,
    SteppedUpstream,
    running_gateway,
)
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    error_answer,
    json_answer,
    stream_chunks,
)

CHAT = "/v1/chat/completions"
TEXT = "Every word of this answer was written, read and billed by the provider. " * 8
CAP_TOKENS = 6_000


def asking(model: str = SMALL, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": model, "messages": messages, "max_tokens": 600, **fields}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with capped_gateway(tmp_path) as running:
        yield running


@asynccontextmanager
async def capped_gateway(
    path: Path, cap: int = CAP_TOKENS, **limits: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway whose first key may use so many tokens."""
    settings = {"definitions_poll_s": 0.01}
    async with running_gateway(path, budgets=settings, limits=limits) as running:
        budget(running.engine, cap, team_id="default", scope="key", measure="tokens")
        book = running.app.budgets.book
        newest = BudgetDefinitions(running.engine).changes(0, 1000)[-1].revision
        await until(lambda: book.revision >= newest)
        yield running


async def charged_tokens(gateway: RunningGateway, turns: int) -> int:
    """Wait for the journal's rows of so many turns; return what they charge."""

    def settled() -> tuple[int, int]:
        with gateway.engine.connect() as connection:
            columns = func.count(), func.coalesce(func.sum(SETTLEMENTS.c.charged_tokens), 0)
            n_rows, tokens = connection.execute(select(*columns)).one()
        return n_rows, tokens

    await until(lambda: settled()[0] >= turns)
    return settled()[1]


async def read_and_leave(http: httpx2.AsyncClient, body: dict[str, Any], ending: bytes) -> bool:
    """Read a stream until `ending` passed, then close the socket; False where it is refused."""
    async with http.stream("POST", CHAT, json=body) as response:
        if response.status_code != 200:
            return False
        received = b""
        async for data in response.aiter_raw():
            received += data
            if ending in received:
                return True
    return True


@pytest.mark.parametrize("left_after", [b'"finish_reason":"stop"', b"billed"])
async def test_leaving_a_stream_before_its_usage_is_not_free(gateway, left_after) -> None:
    words = [chunk({"content": word + " "}) for word in TEXT.split()]
    upstream = gateway.upstreams.by_name["alpha"] = SteppedUpstream()
    for event in (*words, chunk({}, "stop")):
        upstream.send(event)
    async with gateway.caller() as http:
        assert await read_and_leave(http, asking(stream=True), left_after)
    await asyncio.wait_for(upstream.client_has_left.wait(), PATIENCE_S)

    read = len(TEXT.split()) if b"finish" in left_after else TEXT.split().index("billed")
    assert await charged_tokens(gateway, 1) >= read


async def test_the_cap_stops_callers_that_always_leave_early(gateway) -> None:
    answer = Answer(tuple(stream_chunks(TEXT)[:-2]), stalls=True)
    gateway.alpha.answers = [answer]
    reads = 0
    async with gateway.caller() as http:
        for turns in range(1, 60):
            if not await read_and_leave(http, asking(stream=True), b'"finish_reason":"stop"'):
                break
            reads += 1
            await charged_tokens(gateway, turns)
    assert 0 < reads * len(TEXT.split()) <= CAP_TOKENS
    assert reads < 59


async def test_the_placeholder_of_a_claude_stream_is_not_what_it_cost(gateway) -> None:
    begun = anthropic_stream_chunks(TEXT)[:-2]
    gateway.upstreams.by_name["gamma"].answers = [Answer(tuple(begun), cuts_off=True)]
    async with gateway.caller() as http:
        await http.post(CHAT, json=asking(CLAUDE, stream=True))
    assert await charged_tokens(gateway, 1) >= len(TEXT.split())


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 2**60, "completion_tokens": 2**60, "total_tokens": 2**61},
        {"prompt_tokens": 2**64 - 1, "completion_tokens": 3},
        {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 2**60},
        },
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -9, "completion_tokens": "3"},
    ],
)
async def test_whatever_a_provider_reports_the_row_is_written_and_callers_are_served(
    gateway, usage
) -> None:
    gateway.alpha.answers = [json_answer(completion(TEXT, usage=usage)), json_answer(completion())]
    async with gateway.caller() as http:
        first = await http.post(CHAT, json=asking())
        row = await gateway.turn(first.headers["x-request-id"])
        tokens = await charged_tokens(gateway, 1)
        second = await http.post(CHAT, json=asking())

    assert first.status_code == 200
    assert second.status_code in {200, 429}
    assert 0 < tokens < 2**53
    assert row.prompt_tokens >= row.cached_tokens
    assert orjson.loads(first.content)["waypost"]["cost_usd"] == row.cost_nusd / 1e9
    assert gateway.app.budgets.ledger.has_store_failed is False


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_claim_of_any_size_charges_what_can_be_true(gateway, is_stream) -> None:
    claim = {"prompt_tokens": 2**60, "completion_tokens": 2**60}
    last = chunk({}, choices=[], usage=claim)
    events = (chunk({"content": "Hello!"}), chunk({}, "stop"), last)
    whole = json_answer(completion(TEXT, usage=claim))
    gateway.alpha.answers = [Answer(events) if is_stream else whole]
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=asking(stream=is_stream))
    row = await gateway.turn(answer.headers["x-request-id"])

    assert 600 < await charged_tokens(gateway, 1) < 3_000
    assert row.completion_tokens == 600
    assert row.is_estimated


LONG = "A word and " * 2_000


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("claimed", "kind"), [(5, "too_few"), (200, "few"), (5_000, None)])
async def test_a_report_of_fewer_tokens_than_any_tokenizer_makes_is_not_believed(
    tmp_path, is_stream, claimed, kind
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": claimed}
    pieces = [chunk({"content": LONG[at : at + 20]}) for at in range(0, len(LONG), 20)]
    events = (*pieces, chunk({}, "stop"), chunk({}, choices=[], usage=usage))
    async with capped_gateway(tmp_path, cap=10**6) as gateway, gateway.caller() as http:
        whole = json_answer(completion(LONG, usage=usage))
        gateway.alpha.answers = [Answer(events) if is_stream else whole]
        await http.post(CHAT, json=asking(stream=is_stream, max_tokens=100_000))
        tokens = await charged_tokens(gateway, 1)
        page = (await gateway.app.public.turns[CHAT].service.metrics.page()).decode()

    assert tokens == 9 + (len(LONG) if kind == "too_few" else claimed)
    counted = f'waypost_doubtful_usage_total{{kind="{kind}",provider="alpha"}} 1.0'
    assert (counted in page) is (kind is not None)
    assert ("waypost_doubtful_usage_total{" in page) is (kind is not None)


CLAIMS = [
    {"prompt_tokens": 2**60, "completion_tokens": 2**60},
    {"prompt_tokens": 1_500, "completion_tokens": 600},
    {"prompt_tokens": 9, "completion_tokens": 601},
    {"prompt_tokens": 1_500, "completion_tokens": 0},
]
IMAGE = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
FILE = {"type": "file", "file": {"file_id": "f-1"}}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("parts", [(), (IMAGE,), (FILE,)], ids=["text", "image", "file"])
async def test_no_claim_of_a_provider_is_charged_beyond_what_was_held(
    tmp_path, is_stream, parts
) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Look."}, *parts]}]
    body = asking(stream=is_stream, messages=messages)
    async with capped_gateway(tmp_path, cap=10**8) as gateway, gateway.caller() as http:
        for turns, claim in enumerate(CLAIMS, 1):
            last = chunk({}, choices=[], usage=claim)
            events = (chunk({"content": "Hello!"}), chunk({}, "stop"), last)
            whole = json_answer(completion(TEXT, usage=claim))
            gateway.alpha.answers = [Answer(events) if is_stream else whole]
            assert (await http.post(CHAT, json=body)).status_code == 200
            await charged_tokens(gateway, turns)
        with gateway.engine.connect() as connection:
            rows = connection.execute(select(SETTLEMENTS)).all()
    assert len(rows) == len(CLAIMS)
    assert all(row.charged_nusd <= row.held_nusd for row in rows)
    assert all(0 < row.charged_tokens <= row.held_tokens for row in rows)


async def test_what_a_host_adds_to_a_prompt_is_held_and_charged_once_it_was_seen(gateway) -> None:
    usage = {"prompt_tokens": 700, "completion_tokens": 3}
    gateway.alpha.answers = [json_answer(completion(usage=usage))]
    async with gateway.caller() as http:
        await http.post(CHAT, json=asking())
        first = await charged_tokens(gateway, 1)
        await http.post(CHAT, json=asking())
        assert await charged_tokens(gateway, 2) - first == 703
    assert first < 703


async def test_attempts_that_one_provider_repeats_do_not_pass_a_cap(tmp_path) -> None:
    limits = {"max_retries": 2, "breaker_failures": 1_000}
    async with capped_gateway(tmp_path, **limits) as gateway, gateway.caller() as http:
        broken = Answer(cuts_off=True)
        gateway.alpha.answers = [broken, broken, Answer(tuple(stream_chunks("Hi"))), broken]
        body = asking(stream=True, messages=[{"role": "user", "content": "word " * 300}])
        statuses = [(await http.post(CHAT, json=body)).status_code for _ in range(4)]
        assert statuses == [200, 503, 429, 429]
        assert CAP_TOKENS / 2 < await charged_tokens(gateway, 4) <= CAP_TOKENS


async def test_a_call_that_was_left_is_charged_what_it_cost(gateway) -> None:
    upstream = gateway.upstreams.by_name["alpha"] = SteppedUpstream()
    async with gateway.caller() as http:
        left = asyncio.create_task(http.post(CHAT, json=asking()))
        await upstream.has_begun.wait()
        left.cancel()
        await asyncio.wait([left])
    upstream.send(orjson.dumps(completion(usage={"prompt_tokens": 50, "completion_tokens": 500})))
    upstream.end()

    assert await charged_tokens(gateway, 1) == 550
    with gateway.engine.connect() as connection:
        assert connection.scalar(select(TURNS.c.error)) != CLIENT_LEFT


@pytest.mark.parametrize("chunks", [(), (b'{"id": "x", ',)])
async def test_a_call_that_the_deadline_ends_is_charged_what_it_may_have_cost(tmp_path, chunks):
    begun = Answer(chunks, stalls=True) if chunks else Answer(stalls_at_once=True)
    async with capped_gateway(tmp_path, deadline_s=0.1) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [begun]
        answer = await http.post(CHAT, json=asking())

        assert answer.status_code == 504
        assert await charged_tokens(gateway, 1) > 600


async def test_a_call_that_times_out_before_another_model_answers_is_charged_too(tmp_path):
    async with capped_gateway(tmp_path, deadline_s=0.3) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [Answer(stalls_at_once=True)]
        gateway.beta.answers = [json_answer(completion())]
        answer = await http.post(CHAT, json=asking("auto"))
        row = await gateway.turn(answer.headers["x-request-id"])

        assert await charged_tokens(gateway, 2) > 612
        with gateway.engine.connect() as connection:
            rows = connection.execute(select(SETTLEMENTS).order_by(SETTLEMENTS.c.request_id)).all()
    assert [(each.model, each.outcome, each.is_estimated) for each in rows] == [
        (SMALL, "ProviderTimeout", True),
        (LARGE, "answered", False),
    ]
    assert row.served_model == LARGE
    assert (row.given_up_nusd, row.cost_nusd) == tuple(each.charged_nusd for each in rows)
    assert row.given_up_nusd > 0
    charged_usd = sum(each.charged_nusd for each in rows) / 1e9
    assert answer.json()["waypost"]["cost_usd"] == pytest.approx(charged_usd)


async def test_calls_that_time_out_before_another_model_answers_do_not_pass_a_cap(tmp_path):
    async with capped_gateway(tmp_path, deadline_s=0.1) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [Answer(stalls_at_once=True)]
        gateway.beta.answers = [json_answer(completion())]
        for _ in range(12):
            await http.post(CHAT, json=asking("auto", max_tokens=1_000))
        assert CAP_TOKENS / 2 < await charged_tokens(gateway, 4) <= CAP_TOKENS


async def leave_once(http: httpx2.AsyncClient, body: dict[str, Any], waits: Any) -> None:
    """Send a request, and close its connection once it waits."""
    left = asyncio.create_task(http.post(CHAT, json=body))
    await until(waits)
    left.cancel()
    await asyncio.wait([left])


@pytest.mark.parametrize("is_stream", [True, False])
async def test_leaving_the_queue_of_a_provider_costs_nothing(tmp_path, is_stream) -> None:
    async with capped_gateway(tmp_path, max_concurrency=1) as gateway, gateway.caller() as http:
        upstream = gateway.upstreams.by_name["alpha"] = SteppedUpstream()
        first = asyncio.create_task(http.post(CHAT, json=asking(stream=True)))
        await upstream.has_begun.wait()
        alpha = gateway.app.public.turns[CHAT].service.providers["alpha"]
        await leave_once(http, asking(stream=is_stream), lambda: alpha.condition().waiting == 1)

        assert await charged_tokens(gateway, 1) == 0
        with gateway.engine.connect() as connection:
            assert connection.scalar(select(TURNS.c.error)) == CLIENT_LEFT
        assert upstream.requests == 1
        first.cancel()
        await asyncio.wait([first])


async def test_leaving_between_two_attempts_costs_nothing(tmp_path) -> None:
    refusal = error_answer(429, "slow down", headers={"retry-after": "15"})
    async with capped_gateway(tmp_path, max_retries=1) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [refusal]
        log = gateway.alpha.requests
        await leave_once(http, asking(stream=True), lambda: len(log) == 1)

        assert await charged_tokens(gateway, 1) == 0


async def test_leaving_a_stream_before_its_first_event_costs_the_prompt(gateway) -> None:
    upstream = gateway.upstreams.by_name["alpha"] = SteppedUpstream()
    async with gateway.caller() as http:
        await leave_once(http, asking(stream=True), upstream.has_begun.is_set)

    assert 0 < await charged_tokens(gateway, 1) < 1_000


async def test_a_call_that_was_left_counts_as_one_at_a_time_until_it_ends(tmp_path) -> None:
    upstream = SteppedUpstream()
    async with capped_gateway(tmp_path) as gateway, gateway.caller() as http:
        gateway.upstreams.by_name["alpha"] = upstream
        one_at_a_time = {"scope": "key", "measure": "concurrent", "window": "now"}
        budget(gateway.engine, 1, team_id="default", **one_at_a_time)
        newest = BudgetDefinitions(gateway.engine).changes(0, 1000)[-1].revision
        await until(lambda: gateway.app.budgets.book.revision >= newest)
        await leave_once(http, asking(), upstream.has_begun.is_set)

        assert (await http.post(CHAT, json=asking())).status_code == 429
        upstream.send(orjson.dumps(completion()))
        upstream.end()
        assert await charged_tokens(gateway, 1) == 12


async def test_a_long_prompt_that_is_kept_for_an_hour_costs_what_such_prompts_cost(tmp_path):
    rates = {
        "input_usd_per_mtok": 1,
        "cached_input_usd_per_mtok": 0.1,
        "cache_write_usd_per_mtok": 1.25,
        "cache_write_1h_usd_per_mtok": 2,
        "output_usd_per_mtok": 5,
    }
    dearer = {name: 10 * usd for name, usd in rates.items()} | {"above_prompt_tokens": 1_000}
    claude = {"upstream_name": "claude-sonnet-4-5", "price": {**rates, "tiers": [dearer]}}
    models = {CLAUDE: {"provider": "gamma", **claude}}
    usage = {
        "input_tokens": 500,
        "output_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 600,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 400},
    }
    profiles = {"balanced": {"willingness_to_pay_usd": 1.0}}
    async with running_gateway(tmp_path, models=models, profiles=profiles) as gateway:
        gateway.upstreams.by_name["gamma"].answers = [json_answer(anthropic_message(usage=usage))]
        async with gateway.caller() as http:
            answer = await http.post(CHAT, json=asking(CLAUDE))
        row = await gateway.turn(answer.headers["x-request-id"])

    assert row.cost_nusd == 10 * (500_000 + 10_000 + 250_000 + 800_000 + 35_000)
    kept = row.prompt_tokens, row.cached_tokens, row.cache_write_tokens, row.cache_write_1h_tokens
    assert kept == (1_200, 100, 600, 400)
