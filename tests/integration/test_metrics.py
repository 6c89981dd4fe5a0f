"""What a scrape of a real gateway shows after real requests."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from router_models.artifacts.artifact import read_manifest
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.scrape import Scrape, scrape
from tests.fakes.upstream import completion, error_answer, json_answer, stream_answer

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]
AUTO = {"model": "auto", "messages": HELLO}
USERS = 2_000
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


@pytest.fixture
async def gateway(tmp_path) -> AsyncIterator[RunningGateway]:
    limits, grading = {"breaker_failures": 1}, {"checks": True, "signals": True}
    async with running_gateway(tmp_path, limits=limits, grading=grading) as running:
        running.alpha.answers = [json_answer(completion())]
        running.beta.answers = [json_answer(completion())]
        yield running


def documented() -> set[str]:
    """Return the metrics in the page's tables, those of the federation's own ports left out."""
    return set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## Federation")[0], re.M))


def meanings() -> dict[str, str]:
    """Return what the page says of each metric."""
    return dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGE.read_text(), re.M))


async def test_every_metric_of_a_gateway_is_documented_and_there(gateway):
    names = (await scrape(gateway)).names

    assert names - documented() == set()
    assert documented() - names <= {"waypost_worker_up"}


async def test_the_page_says_of_every_metric_what_its_help_says(gateway):
    told = (await scrape(gateway)).help

    assert {name for name, said in told.items() if said not in meanings().get(name, "")} == set()


async def test_a_routed_turn_is_counted_under_the_router_that_chose(gateway):
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=AUTO)
        await http.post("/v1/feedback", json={"id": answer.headers["x-request-id"], "score": 0.25})
    seen = await scrape(gateway)
    version = answer.headers["x-waypost-router-version"]

    assert seen.sum("waypost_router_info", version=version, kind="kmeans") == 1
    by = {"model": SMALL, "version": version}
    assert seen.sum("waypost_router_decisions_total", reason="router", **by) == 1
    charged = seen.sum("waypost_router_observed_cost_usd_total", **by)
    assert charged == seen.sum("waypost_cost_usd_total", model=SMALL) > 0
    assert seen.sum("waypost_router_graded_answers_total", version=version) == 1
    assert seen.sum("waypost_router_graded_observed_quality_total", version=version) == 0.25
    assert seen.sum("waypost_grades_total", model=SMALL, source="feedback") == 1
    assert seen.sum("waypost_requests_total", endpoint="chat", status="200") == 1
    assert seen.sum("waypost_requests_total", endpoint="feedback", status="202") == 1


async def test_the_overhead_is_measured_finer_than_a_millisecond(gateway):
    async with gateway.caller() as http:
        for _ in range(20):
            await http.post(CHAT, json=AUTO)
    seen = await scrape(gateway)

    total_s = seen.sum("waypost_gateway_overhead_seconds_sum")
    assert total_s > 0
    assert abs(total_s * 1000 - round(total_s * 1000)) > 1e-6


async def test_a_failure_a_fallback_and_an_open_breaker_are_seen(gateway):
    gateway.alpha.answers = [error_answer(503, "down")]
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=AUTO)
    seen = await scrape(gateway)

    assert answer.headers["x-waypost-model"] == LARGE
    where = {"model": SMALL, "provider": "alpha"}
    assert seen.sum("waypost_fallbacks_total", error_type="ProviderUnavailable", **where) == 1
    assert seen.sum("waypost_provider_breaker_open", **where) == 1
    assert seen.sum("waypost_provider_breaker_opened_total", **where) == 1
    assert seen.sum("waypost_provider_breaker_open", model=LARGE) == 0


async def test_each_chunk_of_a_stream_after_the_first_is_timed(gateway):
    gateway.alpha.answers = [stream_answer("Hello!", pause_s=0.01)]
    async with gateway.caller() as http:
        await http.post(CHAT, json=AUTO | {"stream": True})
    seen = await scrape(gateway)

    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    assert 1 <= seen.sum(f"{name}_count", gen_ai_request_model=SMALL) <= 8
    assert seen.sum(f"{name}_sum") > 0.005
    assert seen.sum("gen_ai_client_operation_time_to_first_chunk_seconds_count") == 1


async def test_a_refused_stranger_is_counted(gateway):
    async with gateway.caller("wp-nobody") as http:
        await http.post(CHAT, json=AUTO)

    assert (await scrape(gateway)).sum("waypost_requests_total", endpoint="chat", status="401") == 1


async def test_two_thousand_users_make_no_more_series_than_forty(gateway):
    await send_as(gateway, range(40))
    before = await scrape(gateway)
    await send_as(gateway, range(40, USERS))
    after = await scrape(gateway)

    assert after.sum("waypost_requests_total") == USERS
    assert after.sum("gen_ai_client_operation_duration_seconds_count") == USERS / 4
    assert after.series == before.series
    assert len(after.series) < 400


async def send_as(gateway: RunningGateway, users: range) -> None:
    """Send a request as each user: a quarter is answered, the others ask for what is not there."""
    version = read_manifest(gateway.store.read(gateway.store.active() or "")).version
    places = asyncio.Semaphore(50)

    async def send(user: int) -> int:
        asked: tuple[dict[str, Any], str] = (
            ({}, CHAT),
            ({"model": f"model-{user}"}, CHAT),
            ({}, f"/v1/users/{user}"),
            ({"waypost": {"router_version": f"{version[:-4]}{user:04x}"}}, CHAT),
        )[user % 4]
        own = {
            "user": f"user-{user}",
            "metadata": {"app": f"app-{user}", f"key-{user}": "x"},
            "waypost": {"conversation_id": f"conversation-{user}", "task": f"task-{user}"},
        }
        body, path = asked
        own["waypost"] |= body.get("waypost", {})
        async with places:
            return await post(gateway, path, AUTO | body | own, f"agent-{user}")

    statuses = await asyncio.gather(*map(send, users))
    assert set(statuses) == {200, 400, 404}


async def post(gateway: RunningGateway, path: str, body: dict[str, Any], agent: str) -> int:
    """Hand a request to the application as its server would; an HTTP client costs as much again."""
    messages = asyncio.Queue[dict[str, Any]]()
    messages.put_nowait({"type": "http.request", "body": orjson.dumps(body)})
    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("gateway", 80),
        "client": ("caller", 1),
        "headers": [
            (b"authorization", b"Bearer " + gateway.key.encode()),
            (b"user-agent", agent.encode()),
        ],
    }
    await gateway.app.public(scope, messages.get, send)
    return statuses[0]


def test_a_scrape_reads_a_page_strictly():
    page = "# HELP a_total A.\n# TYPE a_total counter\na_total 1.0\n"

    assert Scrape.parse(page).names == {"a_total"}
