"""Four real gateways, one real Redis, 64 clients: caps hold, also when a gateway is killed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from budget.ledger.types import Limit
from gateway.budgets.definitions import BudgetDefinitions
from tests.fakes.gateways import (
    STALL,
    WORST_NUSD,
    Gateways,
    Outcome,
    Process,
    eventually,
    gateways_of,
)
from tests.fakes.postgres import Postgres
from tests.fakes.redis import running_redis
from tests.fakes.turns import until

GATEWAYS = 4
CLIENTS = 64
REQUESTS = 20
"""Of each client; about seven times what the caps admit."""
CAP_NUSD = 7_000_000
TALK = "talk"
STALLED = 16
USABLE = 0.95
LEASE_S = 6.0
"""Long enough that a living gateway renews it in time on a busy machine."""
FLUSH_S = 0.5
"""Of the journal, as in production: a gateway that is killed loses what it has not written."""


@pytest.fixture
async def gateways(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Gateways]:
    with running_redis() as redis:
        async with gateways_of(
            tmp_path, postgres, redis, lease_s=LEASE_S, flush_interval_s=FLUSH_S
        ) as deployment:
            yield deployment


@dataclass(frozen=True)
class SqliteFile:
    """In place of a server: a file that gateways share."""

    folder: Path

    def new_database(self) -> str:
        """Return its URL."""
        return f"sqlite:///{self.folder / 'shared.db'}"


@pytest.fixture
async def gateways_on_a_file(tmp_path: Path) -> AsyncIterator[Gateways]:
    with running_redis() as redis:
        async with gateways_of(
            tmp_path, SqliteFile(tmp_path), redis, flush_interval_s=FLUSH_S
        ) as deployment:
            yield deployment


class Watch:
    """Looks at the counters all the time; `most` is the most ever spent and held of each limit."""

    def __init__(self, gateways: Gateways) -> None:
        self.most: dict[Limit, int] = {}
        self.looks = 0
        self._gateways = gateways
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            for standing in await self._gateways.store.standings(self._gateways.limits):
                used = standing.spent + standing.held
                self.most[standing.limit] = max(used, self.most.get(standing.limit, 0))
            self.looks += 1
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stop looking; looking must not have failed."""
        assert not self._task.done()
        self._task.cancel()
        await asyncio.wait([self._task])


async def client(
    gateway: Process, key: str, conversation: str | None, requests: int
) -> list[Outcome]:
    """Send one request after the other, whatever comes back."""
    return [await gateway.ask(key, conversation=conversation) for _ in range(requests)]


async def load(
    gateways: list[Process],
    key: str,
    conversation: str | None,
    clients: int,
    requests: int = REQUESTS,
) -> list[Outcome]:
    """Let parallel clients send, spread over the gateways."""
    sending = (
        client(gateways[i % len(gateways)], key, conversation, requests) for i in range(clients)
    )
    return [outcome for sent in await asyncio.gather(*sending) for outcome in sent]


def ids(outcomes: list[Outcome]) -> list[str]:
    """Name the requests."""
    return [outcome.request_id for outcome in outcomes]


async def is_served(gateway: Process, key: str) -> bool:
    """Whether a request is answered."""
    return (await gateway.ask(key)).status == 200


async def freeze_unjournaled(victim: Process, gateways: Gateways, key: str) -> list[Outcome]:
    """Let a gateway settle, and freeze it before it has journaled all of that."""
    answered: list[Outcome] = []
    while gateways.journaled(ids(answered)) == len(answered):
        victim.resume()
        answered += await load([victim], key, None, 4, requests=1)
        victim.pause()
    return answered


def check_refusals(outcomes: list[Outcome], limit_source: str) -> None:
    """Everything that was not answered was refused by this scope."""
    assert [outcome.body for outcome in outcomes if outcome.status not in {200, 429}] == []
    assert {outcome.status for outcome in outcomes} == {200, 429}
    errors = [outcome.body["error"] for outcome in outcomes if outcome.status == 429]
    told = {(error["code"], error["limit_source"]) for error in errors}
    assert told == {("insufficient_quota", limit_source)}


async def test_parallel_clients_never_pass_a_cap_and_can_spend_nearly_all_of_it(gateways):
    _, talkers_key = gateways.key("talkers")
    key_id, capped_key = gateways.key("capped")
    _, talk = gateways.cap("conversation", TALK, CAP_NUSD)
    _, key = gateways.cap("key", key_id, CAP_NUSD)
    await gateways.start(GATEWAYS)
    watch = Watch(gateways)

    talked, sent = await asyncio.gather(
        load(gateways.processes, talkers_key, TALK, CLIENTS // 2),
        load(gateways.processes, capped_key, None, CLIENTS // 2),
    )

    await eventually(gateways.agree)
    await watch.stop()
    check_refusals(talked, "conversation")
    check_refusals(sent, "key")
    for limit, outcomes in ((talk, talked), (key, sent)):
        spent = (await gateways.standing(limit)).spent
        assert CAP_NUSD * USABLE <= spent <= CAP_NUSD
        assert watch.most[limit] <= CAP_NUSD
        assert sum(outcome.cost_nusd for outcome in outcomes) == spent
    answered = sum(outcome.status == 200 for outcome in talked + sent)
    assert answered < len(talked + sent) / 5


async def test_a_killed_gateway_costs_its_leases_and_wedges_nobody(gateways):
    key_id, key = gateways.key("capped")
    _, free_key = gateways.key("uncapped")
    definition, limit = gateways.cap("key", key_id, CAP_NUSD)
    gateways.cap("conversation", TALK, CAP_NUSD)
    await gateways.start(GATEWAYS)
    victim, *survivors = gateways.processes
    lost = [
        asyncio.create_task(victim.ask(key, content=STALL, conversation=TALK))
        for _ in range(STALLED)
    ]
    await until(lambda: gateways.upstream.stalled == STALLED)
    watch = Watch(gateways)

    # While the key has money left: a refusal would never be journaled.
    settled = await freeze_unjournaled(victim, gateways, key)
    half = CLIENTS * 3 // 4
    sending = asyncio.create_task(load(survivors, key, TALK, half))
    answered = gateways.upstream.answered
    await until(lambda: gateways.upstream.answered > answered + 20)
    await victim.kill()
    sent = settled + await sending

    assert {type(each) for each in await asyncio.gather(*lost, return_exceptions=True)} <= {
        httpx2.RemoteProtocolError,
        httpx2.ReadError,
    }
    check_refusals(sent, "key")
    await eventually(gateways.agree)
    await watch.stop()
    spent = (await gateways.standing(limit)).spent
    charged = sum(outcome.cost_nusd for outcome in sent)
    expired = gateways.charged_nusd(outcome="expired")
    assert gateways.outcomes("expired") == STALLED
    assert 0 < expired <= STALLED * WORST_NUSD
    assert gateways.outcomes("recovered") > 0
    answered = ids([outcome for outcome in sent if outcome.status == 200])
    assert gateways.journaled(answered) == len(answered)
    assert spent == charged + expired
    assert CAP_NUSD * USABLE <= spent <= CAP_NUSD
    assert watch.most[limit] <= CAP_NUSD

    assert (await survivors[0].ask(free_key)).status == 200
    BudgetDefinitions(gateways.engine).set_cap(definition.id, 2 * CAP_NUSD)
    await gateways.start(1)
    for gateway in [*survivors, gateways.processes[-1]]:
        await eventually(lambda of=gateway: is_served(of, key))
    await eventually(gateways.agree)
    assert await gateways.verify() == "counters and journal agree\n"


async def test_two_gateways_on_one_sqlite_file_never_pass_a_cap(gateways_on_a_file):
    gateways = gateways_on_a_file
    key_id, capped_key = gateways.key("capped")
    _, limit = gateways.cap("key", key_id, CAP_NUSD // 4)
    await gateways.start(2)
    watch = Watch(gateways)

    sent = await load(gateways.processes, capped_key, None, CLIENTS // 4)

    await eventually(gateways.agree)
    await watch.stop()
    check_refusals(sent, "key")
    spent = (await gateways.standing(limit)).spent
    assert CAP_NUSD // 4 * USABLE <= spent <= CAP_NUSD // 4
    assert watch.most[limit] <= CAP_NUSD // 4
    assert sum(outcome.cost_nusd for outcome in sent) == spent
