"""Routers are activated and rolled back while requests run, and no request notices."""

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest

from gateway.routing.encoders import load_encoder
from router_models.artifacts.artifact import read_manifest
from tests.fakes.gateway import LARGE, SMALL, router_for, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import completion, json_answer, stream_answer

CHAT = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
ENCODER = load_encoder("static")
FIRST = router_for(ENCODER, best=SMALL)
SECOND = router_for(ENCODER, best=LARGE, seed=1)
V1 = read_manifest(FIRST).version
V2 = read_manifest(SECOND).version
CALLERS = 50
SWAPS = 6
MODEL_OF = {V1: SMALL, V2: LARGE}


@pytest.fixture
async def swapping(tmp_path):
    async with running_gateway(tmp_path, router=FIRST) as gateway:
        gateway.store.put(SECOND)
        gateway.alpha.answers = gateway.beta.answers = [json_answer(completion())]
        yield gateway


async def version_of(http: httpx2.AsyncClient, **options: Any) -> str:
    """Ask something and return the version that decided; the model must be the one it prefers."""
    response = await http.post(CHAT, json=BODY, **options)
    assert response.status_code == 200, response.text
    version = response.headers["x-waypost-router-version"]
    assert response.headers["x-waypost-model"] == MODEL_OF[version]
    assert response.json()["waypost"]["router_version"] == version
    return version


async def until_version(http: httpx2.AsyncClient, version: str) -> None:
    """Ask until `version` decides."""
    async with asyncio.timeout(PATIENCE_S):
        while await version_of(http) != version:
            pass


async def test_no_request_fails_while_routers_are_activated_and_rolled_back(swapping):
    seen: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def ask(http: httpx2.AsyncClient) -> None:
        while not is_over.is_set():
            seen[await version_of(http)] += 1

    limits = httpx2.Limits(max_connections=None)
    async with (
        swapping.caller() as probe,
        httpx2.AsyncClient(
            base_url=swapping.url, headers=dict(probe.headers), limits=limits, timeout=PATIENCE_S
        ) as http,
        asyncio.TaskGroup() as callers,
    ):
        for _ in range(CALLERS):
            callers.create_task(ask(http))
        for _ in range(SWAPS // 2):
            swapping.store.activate(V2)
            await until_version(probe, V2)
            swapping.store.rollback()
            await until_version(probe, V1)
        is_over.set()

    assert set(seen) == {V1, V2}
    assert seen.total() >= CALLERS
    rows = await swapping.turns(seen.total())
    assert {row.error for row in rows} == {None}
    assert {(row.router_version, row.served_model) for row in rows} == set(MODEL_OF.items())


async def test_a_request_may_pin_a_version_whichever_serves(swapping):
    async with swapping.caller() as http:
        by_header = await version_of(http, headers={"x-waypost-router-version": V2})
        answer = await http.post(CHAT, json=BODY | {"waypost": {"router_version": V2}})
        unpinned = await version_of(http)
        swapping.store.activate(V2)
        await until_version(http, V2)
        old = await version_of(http, headers={"x-waypost-router-version": V1})

    assert by_header == answer.headers["x-waypost-router-version"] == V2
    assert unpinned == V1
    assert old == V1


async def test_a_stream_that_runs_during_a_swap_ends_as_it_began(swapping):
    swapping.alpha.answers = [stream_answer(), *swapping.alpha.answers]
    stream = BODY | {"stream": True, "stream_options": {"include_usage": True}}

    async with swapping.caller() as http, http.stream("POST", CHAT, json=stream) as response:
        swapping.store.activate(V2)
        async with swapping.caller() as probe:
            await until_version(probe, V2)
        body = await response.aread()

    assert response.headers["x-waypost-router-version"] == V1
    assert f'"router_version":"{V1}"'.encode() in body
    assert body.endswith(b"data: [DONE]\n\n")
