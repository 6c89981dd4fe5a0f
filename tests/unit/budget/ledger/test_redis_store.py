import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from budget.errors import LedgerUnavailable
from budget.ledger.redis_link import RECONNECT_DELAY_S, PipelinedLink, Unreachable
from budget.ledger.redis_store import ACKNOWLEDGE_BATCH, RedisStore
from budget.ledger.types import Granted, Scope, UnjournaledCharge
from tests.fakes.clocks import skip_ahead
from tests.fakes.ledger_calls import PATIENT, opened
from tests.fakes.ledgers import hold, limit
from tests.fakes.patience import PATIENCE_S
from tests.fakes.redis import RedisServer, running_cluster, running_redis

MONEY = limit("nusd", "total", 1_000)
DAY_S = 86_400


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One whose data survive a kill."""
    with running_redis(is_durable=True) as server:
        yield server


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with opened(server, f"test-{uuid4().hex}") as store:
        yield store


async def back(store: RedisStore) -> None:
    """Call until Redis answers again."""
    while True:
        try:
            await store.reap("acme")
        except LedgerUnavailable:
            await asyncio.sleep(RECONNECT_DELAY_S / 4)
        else:
            return


async def pass_by(seconds: float) -> None:
    """Let time pass once what was begun waits, and let the timers that it makes due run."""
    await asyncio.sleep(0)
    skip_ahead(seconds)
    for _ in range(3):
        await asyncio.sleep(0)


def calls(server: RedisServer, command: str) -> int:
    stats = server.command("INFO", "commandstats").decode()
    found = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


def connections(server: RedisServer) -> int:
    return int(server.command("INFO", "clients").split(b"connected_clients:")[1].split()[0])


async def test_reserve_and_settle_are_one_round_trip_each(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reap("acme")
    before = calls(server, "evalsha")
    await store.reserve(hold("r", MONEY, limit("requests", "minute", 5)))
    await store.settle("acme", "r", 1, 1)
    assert calls(server, "evalsha") - before == 2


async def test_many_turns_share_one_connection(server: RedisServer, store: RedisStore) -> None:
    before = connections(server)
    wide = limit("nusd", "total", 10**9)
    await asyncio.gather(*(store.reserve(hold(f"r{n}", wide)) for n in range(64)))
    assert connections(server) - before == 1


async def test_uses_the_servers_clock(store: RedisStore) -> None:
    before_s = time.time()
    (standing,) = await store.standings([limit("nusd", "day", 1)])
    after_s = time.time()
    assert standing.resets_in_s is not None
    midnight_s = round((before_s + standing.resets_in_s) / DAY_S) * DAY_S
    assert before_s - 1 <= midnight_s - standing.resets_in_s <= after_s + 1


async def test_acknowledges_many_charges_in_batches(server: RedisServer, store: RedisStore) -> None:
    wide = limit("nusd", "total", 10**9)
    ids = [f"r{number}" for number in range(ACKNOWLEDGE_BATCH + 1)]
    await asyncio.gather(*(store.reserve(hold(each, wide, lease_s=0.001)) for each in ids))
    await asyncio.gather(*(store.settle("acme", each, 1, 2) for each in ids))
    charges = [UnjournaledCharge(each, "acme", 1, 2, is_expired=False) for each in ids]
    before = calls(server, "evalsha")
    await store.acknowledge("acme", charges)
    assert calls(server, "evalsha") - before == 2
    assert await store.reap("acme") == ()


async def test_a_killed_redis_is_a_503_with_retry_after_and_then_works_again(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reserve(hold("before", MONEY))
    server.kill()
    try:
        for _ in range(3):
            with pytest.raises(LedgerUnavailable) as caught:
                await store.reserve(hold("during", MONEY))
            assert caught.value.retry_after_s == 1.0
    finally:
        server.start()
    await back(store)
    answer = await store.reserve(hold("after", MONEY))
    assert isinstance(answer, Granted)
    assert answer.standings[0].held == 200  # what was held before the kill is held still
    assert await store.settle("acme", "before", 7, 7)


async def test_failed_connections_are_not_tried_for_every_call(server: RedisServer) -> None:
    server.kill()
    try:
        async with opened(server, "down") as store:
            with pytest.raises(LedgerUnavailable) as first:
                await store.reap("acme")
            with pytest.raises(LedgerUnavailable) as second:
                await store.reap("acme")
            assert "cannot connect" in str(first.value.__cause__)
            assert "just failed" in str(second.value.__cause__)
    finally:
        server.start()


async def test_an_idle_connection_that_redis_closed_is_replaced_unnoticed(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reserve(hold("r", MONEY))
    server.kill()
    server.start()
    assert await store.settle("acme", "r", 1, 1)


async def test_a_redis_that_hangs_fails_in_time_and_takes_nothing(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reap("acme")
    server.pause()
    try:
        calls = [asyncio.create_task(store.reserve(hold(f"r{n}", MONEY))) for n in range(3)]
        await asyncio.sleep(0)
        skip_ahead(PATIENCE_S)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    finally:
        server.resume()
    await back(store)
    for name in "abc":
        await store.reserve(hold(name, limit("requests", "day", 100)))
    (standing,) = await store.standings([MONEY])
    assert (standing.spent, standing.held) == (0, 0)


async def test_a_settlement_after_a_lost_answer_still_counts(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reserve(hold("other", MONEY))
    task = asyncio.create_task(store.reserve(hold("r", MONEY)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.reserve(hold("next", limit("requests", "day", 100)))
    (standing,) = await store.standings([MONEY])
    assert (standing.spent, standing.held) == (0, 100)  # only the other's
    assert await store.settle("acme", "r", 40, 40)
    (standing,) = await store.standings([MONEY])
    assert (standing.spent, standing.held) == (40, 100)


async def test_a_reservation_that_arrives_after_it_was_given_up_holds_nothing(
    store: RedisStore,
) -> None:
    store._abandoned.append(("acme", "late"))
    await store.reserve(hold("r", MONEY))
    with pytest.raises(ValueError, match="has ended"):
        await store.reserve(hold("late", MONEY))
    store._abandoned.append(("acme", "late"))
    assert isinstance(await store.reserve(hold("s", MONEY)), Granted)


async def test_giving_back_waits_until_redis_answers(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reserve(hold("r", MONEY))
    store._abandoned.append(("acme", "r"))
    server.pause()
    try:
        giving = asyncio.create_task(store._release_abandoned())
        await asyncio.sleep(0)
        skip_ahead(PATIENCE_S)
        await giving
    finally:
        server.resume()
    assert list(store._abandoned) == [("acme", "r")]
    await back(store)
    await store._release_abandoned()
    assert (await store.standings([MONEY]))[0].held == 0


async def test_loads_the_script_again_where_redis_lost_it(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reserve(hold("r", MONEY))
    server.command("SCRIPT", "FLUSH")
    assert await store.settle("acme", "r", 1, 1)


async def test_a_server_without_memory_is_unavailable(
    server: RedisServer, store: RedisStore
) -> None:
    await store.reap("acme")
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailable):
            await store.reserve(hold("r", MONEY))
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")
    assert isinstance(await store.reserve(hold("r", MONEY)), Granted)


async def test_a_wrong_password_is_unavailable(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "gateway", "on", ">right", "~*", "+@all")
    async with Redis.from_url(server.url, username="gateway", password="wrong") as client:
        store = RedisStore(client, **PATIENT)
        with pytest.raises(LedgerUnavailable) as caught:
            await store.reap("acme")
        await store.aclose()
    assert "wrong" not in str(caught.value)


async def test_bugs_stay_bugs(server: RedisServer, store: RedisStore) -> None:
    await store.reap("acme")
    server.command("SET", f"{{{store._prefix}:acme}}:leases", "not a sorted set")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.reap("acme")


def test_refuses_a_prefix_that_moves_the_hash_tag() -> None:
    with pytest.raises(ValueError, match="braces"):
        RedisStore(Redis(), "way{post}")


async def test_a_peer_that_is_no_redis_is_unavailable() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(65_536):
            is_greeting = b"CLIENT" in received
            writer.write(b"+OK\r\n" * received.count(b"CLIENT") if is_greeting else b"HTTP/1.1\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as peer:
        port = peer.sockets[0].getsockname()[1]
        async with Redis(port=port, protocol=2) as client:
            store = RedisStore(client, **PATIENT)
            with pytest.raises(LedgerUnavailable) as caught:
                await store.reap("acme")
            await store.aclose()
    cause = caught.value.__cause__
    assert cause is not None
    assert "not a reply of Redis" in str(cause.__cause__)


async def test_a_link_that_cannot_come_back_says_that_the_command_may_have_run(
    server: RedisServer,
) -> None:
    client = Redis.from_url(server.url)
    link = PipelinedLink(client.connection_pool, **PATIENT)
    await link.call(("PING",), b"")
    server.pause()
    waiting = asyncio.create_task(link.call(("PING",), b""))
    await asyncio.sleep(0)
    server.kill()
    try:
        with pytest.raises(Unreachable) as caught:
            await waiting
    finally:
        server.start()
    assert caught.value.may_have_run
    await link.reset()
    await client.aclose()


async def test_each_call_has_its_own_deadline_under_one_timer(server: RedisServer) -> None:
    async with Redis.from_url(server.url) as client:
        link = PipelinedLink(client.connection_pool, **PATIENT)
        await link.call(("PING",), b"")
        await pass_by(0.6 * PATIENCE_S)
        server.pause()
        waiting = asyncio.create_task(link.call(("PING",), b""))
        await pass_by(0.6 * PATIENCE_S)
        server.resume()
        assert await waiting == b"PONG"
        await pass_by(2 * PATIENCE_S)
        assert await link.call(("PING",), b"") == b"PONG"
        await link.reset()


async def test_messages_nobody_asked_for_are_passed_over(server: RedisServer) -> None:
    async with Redis.from_url(server.url, protocol=3) as client:
        link = PipelinedLink(client.connection_pool, **PATIENT)
        await link.call(("CLIENT", "TRACKING", "ON"), b"")
        await link.call(("GET", "watched"), b"watched")
        server.command("SET", "watched", "1")
        assert await link.call(("GET", "watched"), b"watched") == b"1"
        await link.reset()


async def test_a_broken_connection_does_not_trouble_those_who_left(server: RedisServer) -> None:
    async with Redis.from_url(server.url) as client:
        link = PipelinedLink(client.connection_pool, **PATIENT)
        await link.call(("PING",), b"")
        server.pause()
        leaving = asyncio.create_task(link.call(("PING",), b""))
        staying = asyncio.create_task(link.call(("PING",), b""))
        await asyncio.sleep(0)
        leaving.cancel()
        server.kill()
        server.start()
        assert await staying == b"PONG"
        assert leaving.cancelled()
        await link.reset()


async def test_works_on_a_cluster() -> None:
    with running_cluster(1) as [node]:
        cluster = RedisCluster.from_url(node.url)
        store = RedisStore(cluster, **PATIENT)
        for team in ("acme", "other", "third"):
            wide = limit("nusd", "total", 1_000, Scope(team, "key", "k"))
            slots = limit("concurrent", "now", 5, Scope(team, "team"))
            assert isinstance(await store.reserve(hold("r", wide, slots)), Granted)
            assert await store.settle(team, "r", 5, 5)
        await store.aclose()
        assert (await store.standings([wide]))[0].spent == 5
        node.command("SET", "{waypost:acme}:leases", "not a sorted set")
        with pytest.raises(ResponseError):
            await store.reap("acme")
        node.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LedgerUnavailable):
            await store.reserve(hold("s", wide))
        node.kill()
        with pytest.raises(LedgerUnavailable):
            await store.reap("acme")
        await store.aclose()
        await cluster.aclose()
