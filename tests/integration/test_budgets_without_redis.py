"""Redis is killed, restarted and frozen, in both of the modes that a deployment may declare."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from gateway.access.keys import KeyStore
from gateway.budgets import opening
from tests.fakes.budgets import budget
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.gateways import CHAT, Gateways, Outcome, eventually, gateways_of
from tests.fakes.postgres import Postgres, running_postgres
from tests.fakes.redis import RedisServer, running_redis
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

GATEWAYS = 2
CLIENTS = 8
PLENTY_NUSD = 10**12


class Load:
    """Clients that send one request after the other until they are stopped."""

    def __init__(self, gateways: Gateways, key: str, clients: int) -> None:
        self.outcomes: list[Outcome] = []
        self._gateways = gateways
        self._key = key
        self._is_stopping = False
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(clients)]

    async def _send(self, number: int) -> None:
        gateway = self._gateways.processes[number % GATEWAYS]
        while not self._is_stopping:
            self.outcomes.append(await gateway.ask(self._key))
            await asyncio.sleep(0.005)

    def since(self, begun_s: float) -> list[Outcome]:
        """List what came of requests sent after that."""
        return [outcome for outcome in self.outcomes if outcome.begun_s >= begun_s]

    async def more(self, begun_s: float, count: int, status: int) -> None:
        """Wait until each gateway has answered `count` requests so that were sent after that."""

        def is_so() -> bool:
            assert not any(task.done() for task in self._tasks)
            answered = Counter(each.url for each in self.since(begun_s) if each.status == status)
            return all(answered[gateway.url] >= count for gateway in self._gateways.processes)

        await until(is_so)

    async def stop(self) -> None:
        """Let every client finish its last request; none may have failed."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    # Its append-only file keeps the counters: without it a killed Redis forgets them.
    with running_redis(is_durable=True) as server:
        yield server


async def test_closed_refuses_budgeted_keys_while_redis_is_gone_and_serves_them_after(
    tmp_path, postgres, redis
):
    async with gateways_of(tmp_path, postgres, redis, when_store_is_down="closed") as gateways:
        key_id, key = gateways.key("budgeted")
        _, free_key = gateways.key("unbudgeted")
        _, limit = gateways.cap("key", key_id, PLENTY_NUSD)
        await gateways.start(GATEWAYS)
        began_s = time.monotonic()
        budgeted, free = Load(gateways, key, CLIENTS), Load(gateways, free_key, 2)
        await budgeted.more(began_s, 25, 200)

        redis.kill()
        killed_s = time.monotonic()
        await budgeted.more(killed_s, 50, 503)
        await free.more(killed_s, 10, 200)
        refused = budgeted.since(killed_s)
        redis.start()
        restarted_s = time.monotonic()
        await budgeted.more(restarted_s, 25, 200)
        await budgeted.stop()
        await free.stop()
        await eventually(gateways.agree)

        assert {each.status for each in refused} == {503}
        assert all(int(each.retry_after or 0) >= 1 for each in refused)
        assert {each.status for each in free.outcomes} == {200}
        for gateway in gateways.processes:
            answered = [each for each in budgeted.since(restarted_s) if each.url == gateway.url]
            again_s = min(each.ended_s for each in answered if each.status == 200)
            assert {each.status for each in answered if each.begun_s >= again_s} == {200}
        assert {each.status for each in budgeted.outcomes} == {200, 503}
        spent = (await gateways.standing(limit)).spent
        assert spent == sum(each.cost_nusd for each in budgeted.outcomes)


async def test_open_serves_while_redis_is_gone_and_counts_it_after(tmp_path, postgres, redis):
    async with gateways_of(tmp_path, postgres, redis, when_store_is_down="open") as gateways:
        key_id, key = gateways.key("budgeted")
        _, limit = gateways.cap("key", key_id, PLENTY_NUSD)
        await gateways.start(GATEWAYS)
        began_s = time.monotonic()
        load = Load(gateways, key, CLIENTS)
        await load.more(began_s, 25, 200)

        redis.kill()
        killed_s = time.monotonic()
        await load.more(killed_s, 50, 200)
        unchecked = [each.request_id for each in load.since(killed_s)]
        await until(lambda: gateways.journaled(unchecked) == len(unchecked))
        redis.start()
        restarted_s = time.monotonic()
        await load.more(restarted_s, 50, 200)
        await load.stop()
        await eventually(gateways.agree)

        assert {each.status for each in load.outcomes} == {200}
        served = sum(each.cost_nusd for each in load.outcomes)
        assert gateways.charged_nusd(key_id=key_id) == served
        assert (await gateways.standing(limit)).spent == served


async def test_a_frozen_redis_refuses_budgeted_keys_in_time_and_no_others(tmp_path, redis):
    settings = {"store": "redis", "redis_url": redis.url, "store_timeout_s": 0.3}
    asking = {"model": SMALL, "messages": [{"role": "user", "content": "Say hello."}]}
    async with running_gateway(
        tmp_path, budgets=settings | {"definitions_poll_s": 0.01}
    ) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        new = KeyStore(gateway.engine).create_key("default", "budgeted")
        named = {"scope": "key", "scope_id": new.info.id, "measure": "tokens"}
        budget(gateway.engine, 10**9, team_id="default", **named)
        await until(lambda: gateway.app.budgets.book.revision > 0)
        async with gateway.caller(new.secret.get_secret_value()) as http, gateway.caller() as other:
            before = await http.post(CHAT, json=asking)
            redis.pause()
            begun_s = time.monotonic()
            refused = await http.post(CHAT, json=asking)
            took_s = time.monotonic() - begun_s
            free = await other.post(CHAT, json=asking)
            redis.resume()

    assert [before.status_code, refused.status_code, free.status_code] == [200, 503, 200]
    assert took_s < 5
    assert int(refused.headers["retry-after"]) >= 1


async def ready(gateway: RunningGateway) -> tuple[int, str]:
    async with gateway.caller() as http:
        answer = await http.get("/ready")
    return answer.status_code, answer.json()["reason"]


async def test_a_gateway_that_never_reached_redis_is_not_ready_and_says_why_once(
    tmp_path, redis, caplog, monkeypatch
):
    monkeypatch.setattr(opening, "PERIOD_S", 0.01)
    settings = {"store": "redis", "redis_url": redis.url, "store_timeout_s": 0.3}
    redis.kill()
    async with running_gateway(tmp_path, budgets=settings) as gateway:
        status, reason = await ready(gateway)
        assert (status, "budgets cannot be checked" in reason) == (503, True)
        (said,) = [line for line in caplog.messages if "budgets cannot be checked" in line]
        assert "cannot connect" in said
        redis.start()
        health = gateway.app.budgets.health
        assert health is not None
        await until(lambda: health.has_answered)
        assert await ready(gateway) == (200, "3 models")
        redis.kill()
        await until(lambda: health.is_down)
        status, reason = await ready(gateway)
        assert (status, "budgets cannot be checked" in reason) == (200, True)


async def test_where_unchecked_callers_are_served_a_gateway_without_redis_is_ready(tmp_path, redis):
    settings = {"store": "redis", "redis_url": redis.url, "when_store_is_down": "open"}
    redis.kill()
    async with running_gateway(tmp_path, budgets=settings) as gateway:
        status, reason = await ready(gateway)
    assert (status, "budgets cannot be checked" in reason) == (200, True)
