"""The Redis store on a real cluster of three masters: what only a cluster can do to it."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.crc import key_slot

from budget.errors import LedgerUnavailable
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, Scope
from gateway.budgets.opening import open_store
from gateway.settings.config import BudgetSettings
from tests.fakes.gateways import eventually
from tests.fakes.ledger_calls import granted, stands
from tests.fakes.patience import PATIENCE_S
from tests.fakes.redis import SLOTS, RedisServer, running_cluster

TEAMS = [f"team-{number}" for number in range(12)]


@pytest.fixture
async def shared(cluster: list[RedisServer]) -> AsyncIterator[LedgerStore]:
    """As a gateway opens it: the address names one node, the others are found."""
    async with open_store(settings_of(cluster[0])) as store:
        yield store


def settings_of(node: RedisServer) -> BudgetSettings:
    url = SecretStr(f"redis+cluster://127.0.0.1:{node.port}")
    return BudgetSettings(store="redis", redis_url=url, store_timeout_s=PATIENCE_S)


def money(team: str) -> Limit:
    return Limit(Scope(team, "key", "k"), "nusd", "total", 1_000)


def slot(team: str) -> int:
    found: int = key_slot(f"{{waypost:{team}}}".encode())
    return found


def owner(nodes: list[RedisServer], team: str) -> RedisServer:
    """Return the node that was given the team's slot."""
    return nodes[slot(team) * len(nodes) // SLOTS]


def node_id(node: RedisServer) -> str:
    return node.command("CLUSTER", "MYID").decode().split("\r\n")[1]


def keys(node: RedisServer, team: str) -> list[str]:
    reply = node.command("CLUSTER", "GETKEYSINSLOT", str(slot(team)), "100").decode()
    return [word for word in reply.split("\r\n") if word.startswith("{")]


async def test_teams_are_spread_over_the_nodes_and_each_has_one(cluster, shared):
    for team in TEAMS:
        slots = Limit(Scope(team, "team"), "concurrent", "now", 5)
        await granted(shared, "r", money(team), slots, most=30)
        await shared.settle(team, "r", 30, 30)

    assert {owner(cluster, team) for team in TEAMS} == set(cluster)
    for team in TEAMS:
        assert await stands(shared, money(team)) == (30, 0)
        assert len(keys(owner(cluster, team), team)) == 3  # total, settled request, unjournaled


async def test_a_team_that_moves_to_another_node_keeps_its_counters(cluster, shared):
    team = "moving"
    await granted(shared, "r", money(team), most=30)
    old = owner(cluster, team)
    new = next(node for node in cluster if node is not old)
    new.command("CLUSTER", "SETSLOT", str(slot(team)), "IMPORTING", node_id(old))
    old.command("CLUSTER", "SETSLOT", str(slot(team)), "MIGRATING", node_id(new))
    for key in keys(old, team):
        moved = old.command("MIGRATE", "127.0.0.1", str(new.port), key, "0", "5000")
        assert moved == b"+OK\r\n"
    for node in (new, old):
        node.command("CLUSTER", "SETSLOT", str(slot(team)), "NODE", node_id(new))

    assert await shared.settle(team, "r", 7, 7)

    assert await stands(shared, money(team)) == (7, 0)
    assert keys(old, team) == []


async def test_a_dead_node_stops_its_own_teams_only_and_comes_back():
    with running_cluster() as nodes:
        async with open_store(settings_of(nodes[0])) as store:
            for team in TEAMS:
                await granted(store, "r", money(team), most=30)
            dead = nodes[1]
            stopped = [team for team in TEAMS if owner(nodes, team) is dead]
            dead.kill()

            for team in stopped:
                with pytest.raises(LedgerUnavailable):
                    await store.settle(team, "r", 7, 7)
            for team in sorted({*TEAMS} - {*stopped}):
                assert await stands(store, money(team)) == (0, 30)

            dead.start()
            await eventually(lambda: is_settled(store, stopped[0]))
            for team in stopped[1:]:
                await store.settle(team, "r", 7, 7)
            assert [await stands(store, money(team)) for team in stopped] == [(7, 0)] * len(stopped)


async def is_settled(store: LedgerStore, team: str) -> bool:
    """Whether the team's node answers."""
    try:
        await store.settle(team, "r", 7, 7)
    except LedgerUnavailable:
        return False
    return True
