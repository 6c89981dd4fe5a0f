import asyncio

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine

from budget.errors import BudgetExhausted
from budget.ledger.redis_store import RedisStore
from gateway.budgets import opening
from gateway.budgets.opening import open_budgets, open_store
from gateway.judging.background import cap_of
from gateway.settings.config import BudgetSettings, ConfigurationError
from gateway.storage.database import create_database_engine
from gateway.types import Caller, Usage
from tests.fakes.budgets import Journal, asked, budget, hosted, write
from tests.fakes.patience import PATIENCE_S

REDIS = BudgetSettings(store="redis", redis_url=SecretStr("redis://127.0.0.1:1/0"))


async def bound_prompt(body, models, team_id) -> int:
    return 100


async def test_counters_in_memory_begin_with_what_the_journal_says(engine: Engine, tmp_path):
    made = budget(engine, 10_000_000)
    journal = Journal()
    async with open_budgets(BudgetSettings(), engine, journal, bound_prompt) as budgets:
        held = await budgets.ledger.reserve("r1", Caller("k", "blue"), asked(), (hosted(),))
        await budgets.ledger.settle(held, Usage(1, 1), 700)
    await write(engine, tmp_path / "spool", *journal.rows)

    async with open_budgets(BudgetSettings(), engine, journal, bound_prompt) as budgets:
        (standing,) = await budgets.desk.usage(made.id)

    assert standing["spent"] == 700


async def test_a_budget_that_settings_define_holds_and_remembers_what_was_spent(
    engine: Engine, tmp_path
):
    fixed, caller, journal = (cap_of("judge", 0.001),), Caller("@judge", "@judge"), Journal()
    for is_restarted in (False, True):
        async with open_budgets(
            BudgetSettings(), engine, journal, bound_prompt, fixed=fixed
        ) as budgets:
            if is_restarted:
                with pytest.raises(BudgetExhausted):
                    await budgets.ledger.reserve("r2", caller, asked(), (hosted(),))
            else:
                held = await budgets.ledger.reserve("r1", caller, asked(), (hosted(),))
                await budgets.ledger.settle(held, Usage(1, 1), 1_000_000)
        await write(engine, tmp_path / "spool", *journal.rows)
        journal.rows.clear()


async def test_budgets_defined_while_it_runs_count_soon(engine: Engine):
    settings = BudgetSettings(definitions_poll_s=0.01)
    async with open_budgets(settings, engine, Journal(), bound_prompt) as budgets:
        budget(engine, 1)
        async with asyncio.timeout(PATIENCE_S):
            while not budgets.book.limits("blue", "k", None, None).limits:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_a_database_that_cannot_be_read_stops_the_start(tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'empty.db'}")

    with pytest.raises(ConfigurationError, match="cannot be read"):
        async with open_budgets(BudgetSettings(), engine, Journal(), bound_prompt):
            pass
    engine.dispose()


async def test_redis_need_not_be_up_when_the_gateway_starts():
    async with open_store(REDIS) as store:
        assert isinstance(store, RedisStore)


async def test_a_malformed_address_says_what_to_write():
    wrong = REDIS.model_copy(update={"redis_url": SecretStr("nonsense")})

    with pytest.raises(ConfigurationError, match="redis://"):
        async with open_store(wrong):
            pass


async def test_a_missing_extra_says_what_to_install(monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="hiredis")

    monkeypatch.setattr(opening, "import_module", missing)

    with pytest.raises(ConfigurationError, match=r"waypost\[redis\]"):
        async with open_store(REDIS):
            pass


@pytest.mark.parametrize(
    "table",
    [
        {"store": "redis"},
        {"min_completion_tokens": 100, "default_max_completion_tokens": 50},
        {"lease_s": 0.5},
        {"definitions_poll_s": 5},
        {"stor": "memory"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_served_are_refused(table):
    with pytest.raises(ValidationError):
        BudgetSettings(**table)


@pytest.mark.parametrize("url", ["", "example.com/hook", "ftp://example.com", "http://"])
def test_a_webhook_that_is_no_web_address_stops_the_start(url):
    with pytest.raises(ValidationError, match="webhook_url"):
        BudgetSettings(webhook_url=SecretStr(url))
