"""What an operator's webhook is told of budgets, on SQLite and Postgres."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select

from budget.ledger.memory import MemoryStore
from budget.ledger.types import Hold, Limit, Scope, Standing
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.budgets.headroom import Headroom
from gateway.budgets.notices import Notices, due
from gateway.providers.http import HttpClient
from migrations.tables import BUDGET_NOTICES
from tests.fakes.budgets import NOON_UNIX_S, Clock, budget, migrated
from tests.fakes.server import serve

DAY_S = 86_400
CAP = 1_000


@dataclass
class Webhook:
    """Takes what it is sent, with the statuses that it is told to answer; 204 when none is left."""

    statuses: list[int] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["method"] == "POST"
        message = await receive()
        status = self.statuses.pop(0) if self.statuses else 204
        if status < 300:
            self.taken.append(orjson.loads(message["body"]))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    @property
    def percents(self) -> list[int]:
        return [notice["percent"] for notice in self.taken]


@dataclass
class Operation:
    """A gateway's counters and notices, with a clock that is told the time."""

    engine: Engine
    webhook: Webhook
    notices: Notices
    clock: Clock
    spendings: int = 0

    async def spend(self, budget: BudgetDefinition, nusd: int) -> None:
        """Spend money of the team's, and let the gateway look."""
        store = self.notices.headroom.store
        limit = Limit(Scope("blue", "team"), "nusd", budget.window, budget.cap)
        self.spendings += 1
        name = f"r{self.spendings}"
        await store.reserve(Hold(name, (limit,), nusd, 0, 0, 0, 0, 60.0))
        await store.settle("blue", name, nusd, 0)
        await self.look()

    async def look(self) -> None:
        await self.notices.headroom.refresh()
        await self.notices.refresh()

    def another(self) -> Notices:
        """Make the notices of another gateway, or of this one after a restart."""
        mine = self.notices
        return Notices(mine.headroom, self.engine, mine.http, mine.url, self.clock)


@pytest.fixture
def engine(database_url: str):
    engine = migrated(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
async def operation(engine: Engine) -> AsyncIterator[Operation]:
    clock, webhook, http = Clock(), Webhook(), HttpClient.open()
    headroom = Headroom(BudgetDefinitions(engine), MemoryStore(clock))
    async with serve(webhook) as url:
        yield Operation(
            engine, webhook, Notices(headroom, engine, http, f"{url}/hook", clock), clock
        )
        await http.aclose()


async def test_each_share_is_told_once(operation: Operation):
    made = budget(operation.engine, CAP, window="day")

    for nusd in (499, 1, 100, 200, 199, 1):
        await operation.spend(made, nusd)
        await operation.look()

    assert operation.webhook.percents == [50, 80, 100]


async def test_of_shares_that_are_passed_at_once_the_highest_is_told(operation: Operation):
    await operation.spend(budget(operation.engine, CAP), 900)

    assert operation.webhook.percents == [80]


async def test_a_notice_says_whose_budget_it_is_and_when_it_will_be_spent(operation: Operation):
    made = budget(operation.engine, CAP, window="day")

    await operation.spend(made, 600)  # at noon, so that a day's budget lasts until 20:00

    (notice,) = operation.webhook.taken
    assert (notice["event"], notice["percent"], notice["spent"]) == ("budget.spent", 50, 600)
    assert (notice["budget"]["id"], notice["budget"]["team_id"]) == (made.id, "blue")
    assert notice["is_spent_at"] == "2026-11-22T20:00:00+00:00"
    assert notice["resets_in_s"] == DAY_S / 2
    assert notice["id"].endswith(":50")


async def test_a_new_window_is_told_of_anew(operation: Operation):
    made = budget(operation.engine, CAP, window="day")
    await operation.spend(made, 600)
    operation.clock.now_s += DAY_S
    await operation.look()

    await operation.spend(made, 600)

    assert operation.webhook.percents == [50, 50]
    with operation.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(BUDGET_NOTICES)) == 1


async def test_a_budget_that_was_raised_is_told_of_anew(operation: Operation):
    made = budget(operation.engine, CAP)
    await operation.spend(made, 900)
    BudgetDefinitions(operation.engine).set_cap(made.id, 2 * CAP)
    await operation.look()

    await operation.look()

    assert operation.webhook.percents == [80]
    await operation.spend(BudgetDefinitions(operation.engine).budget(made.id), 800)
    assert operation.webhook.percents == [80, 80]


async def test_of_several_gateways_one_tells(operation: Operation):
    await operation.spend(budget(operation.engine, CAP), 600)

    await operation.another().refresh()

    assert operation.webhook.percents == [50]


async def test_a_notice_that_is_not_taken_is_told_again_until_it_is(operation: Operation):
    operation.webhook.statuses = [500, 429]
    await operation.spend(budget(operation.engine, CAP), 600)
    assert operation.webhook.percents == []

    await operation.look()
    await operation.another().refresh()
    await operation.look()

    assert operation.webhook.percents == [50]


async def test_a_webhook_that_is_down_stops_nothing_and_its_url_is_not_logged(operation, caplog):
    operation.notices.url = "http://127.0.0.1:1/secret-path"

    await operation.spend(budget(operation.engine, CAP), 600)

    assert "did not take" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize(
    ("window", "cap", "percent"),
    [
        ("total", 10, 100),
        ("day", 10, 100),
        ("hour", 10, None),
        ("minute", 10, None),
        ("now", 10, None),
        ("day", 0, None),
    ],
)
def test_rates_and_what_is_closed_altogether_are_not_told_of(window, cap, percent):
    moment = datetime.fromtimestamp(NOON_UNIX_S, UTC)
    made = BudgetDefinition("b", "blue", "team", None, "tokens", window, cap, moment, moment)
    standing = Standing(Limit(Scope("blue", "team"), "tokens", window, cap), 10, 0, None)

    notice = due(made, standing, NOON_UNIX_S)

    assert (None if notice is None else notice.percent) == percent
