"""`waypost budgets`, as an operator types it."""

import asyncio
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from budget.ledger.memory import MemoryStore
from budget.ledger.types import Hold, Limit, Scope
from gateway.access.keys import KeyStore
from gateway.budgets.operations import BudgetDesk
from gateway.commands import counters
from gateway.commands.budgets import command
from gateway.endpoints.admin import build_admin_app
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import BudgetSettings, EvaluationLogSettings, GatewaySettings
from tests.fakes.budgets import Clock, migrated
from tests.fakes.patience import PATIENCE_S
from tests.fakes.redis import running_redis
from tests.fakes.server import serve

TOKEN = "the-admin-token-of-this-test"


async def show_nothing(*, is_open: bool = False) -> bytes:
    return b""


@pytest.fixture
def engine(tmp_path: Path):
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def config(tmp_path: Path, engine) -> Path:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n')
    return file


@pytest.fixture
def budgets(config: Path):
    def run(name: str, *arguments: str, fails: bool = False) -> str:
        result = CliRunner().invoke(command, [name, "--config", str(config), *arguments])
        assert (result.exit_code != 0) == fails, result.output
        return result.output if fails else result.stdout

    return run


def id_in(output: str) -> str:
    found = re.search(r"bud_[0-9a-f]{20}", output)
    assert found is not None
    return found[0]


def test_a_budget_lives_from_creation_to_deletion(budgets):
    made = id_in(budgets("create", "--team", "blue", "--usd", "12.5", "--per", "month"))

    assert budgets("list") == f"{made}  {'blue':40} 12.5 USD per month\n"
    assert "0.000000001 USD" in budgets("raise", made, "--usd", "0.000000001")
    assert "created 2" in budgets("show", made)
    assert f"delete {made}" in budgets("delete", made, fails=True)
    assert f"delete {made}" in budgets("delete", made, "--dry-run")
    assert budgets("delete", made, "--yes").startswith("deleted bud_")
    assert budgets("list") == ""


def test_every_kind_of_budget_can_be_written(budgets, engine):
    key = KeyStore(engine).create_key("blue", "k").info.id

    lines = [
        budgets("create", "--every-team", "--scope", "conversation", "--usd", "1"),
        budgets("create", "--team", "blue", "--scope", "user", "--tokens", "9", "--per", "day"),
        budgets("create", "--team", "blue", "--scope", "key", "--id", key, "--requests", "60"),
        budgets("create", "--team", "blue", "--scope", "key", "--concurrent", "4"),
        budgets("create", "--team", "blue", "--scope", "turn", "--tokens", "5"),
    ]

    assert [re.sub(r" {2,}", " | ", line.strip()) for line in lines] == [
        f"{id_in(lines[0])} | every team / each conversation | 1 USD in total",
        f"{id_in(lines[1])} | blue / each user | 9 tokens per day",
        f"{id_in(lines[2])} | blue / key {key} | 60 requests per minute",
        f"{id_in(lines[3])} | blue / each key | 4 requests at a time",
        f"{id_in(lines[4])} | blue / each turn | 5 tokens in total",
    ]
    assert budgets("list", "--team", "blue", "--scope", "key").count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--usd", "1"], "--team TEAM and --every-team"),
        (["create", "--team", "blue", "--every-team", "--usd", "1"], "one of --team TEAM"),
        (["create", "--team", "blue"], "give one of --usd"),
        (["create", "--team", "blue", "--usd", "1", "--tokens", "1"], "give one of --usd"),
        (["create", "--team", "blue", "--usd", "much"], "write it as 10 or 0.25"),
        (["create", "--team", "blue", "--usd", "0.0000000001"], "at most 9 decimals"),
        (["create", "--team", "blue", "--usd", "NaN"], "must be 0 to"),
        (["create", "--team", "blue", "--concurrent", "1", "--per", "day"], "leave out --per"),
        (["create", "--team", "red", "--usd", "1"], "create it first"),
        (["show", "bud_none"], "waypost budgets list"),
        (["usage", "bud_none"], "Is the gateway running"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(budgets, arguments, message):
    assert message in budgets(*arguments, fails=True)


def test_a_cap_is_raised_in_its_own_measure(budgets):
    made = id_in(budgets("create", "--team", "blue", "--usd", "1"))

    assert "give --usd" in budgets("raise", made, "--tokens", "5", fails=True)


def test_a_gateway_that_is_not_there_is_named(budgets, tmp_path):
    (tmp_path / "admin-token").write_text(TOKEN)
    config = tmp_path / "waypost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n[server]\nadmin_port = 1\n')

    assert "http://127.0.0.1:1" in budgets("verify", fails=True)


async def test_counters_in_memory_are_those_of_the_running_gateway(
    budgets, engine, config, tmp_path
):
    desk = BudgetDesk(engine, MemoryStore(Clock()), Clock())
    log = EvaluationLog(engine, EvaluationLogSettings(), tmp_path / "spool")
    app = build_admin_app(
        engine=engine, log=log, token=SecretStr(TOKEN), metrics=show_nothing, budgets=desk
    )
    made = id_in(budgets("create", "--team", "blue", "--usd", "1", "--per", "day"))
    default = id_in(budgets("create", "--team", "blue", "--scope", "user", "--tokens", "1"))
    limit = Limit(Scope("blue", "team"), "nusd", "day", 10**9)
    await desk.store.reserve(Hold("r", (limit,), 10**8, 0, 0, 0, 0, 60.0))
    async with serve(app) as server:
        (host, port) = server.removeprefix("http://").split(":")
        config.write_text(
            f'data_dir = "{tmp_path}"\n[server]\nadmin_token = "{TOKEN}"\n'
            f'admin_host = "{host}"\nadmin_port = {port}\n'
        )

        async def run(*arguments: str, fails: bool = False) -> str:
            return await asyncio.to_thread(budgets, *arguments, fails=fails)

        shown = await run("usage", made)
        assert shown.startswith(f"{'blue':40} spent 0 USD, held 0.1 USD, of 1 USD per day, ")
        assert shown.endswith("resets in 12h0m0s\n")
        assert "nothing was spent" in await run("usage", default)
        assert "user" in await run("usage", default, "--id", "alice")
        assert "say whose" in await run("reset", default, "--dry-run", fails=True)
        await desk.store.settle("blue", "r", 10**8, 0)
        output = await run("verify", fails=True)
        assert "blue day: counted 0.1 USD, journal 0 USD" in output
        assert "1 counters differ" in output
        for arguments, fails in ((("--dry-run",), False), ((), True)):
            said = await run("reset", made, *arguments, fails=fails)
            assert f"set to 0 what was spent by {'blue':40} spent 0.1 USD" in said
        assert "spent 0 USD" in await run("reset", made, "--yes")
        assert await run("rebuild") == "1 counters set, 0 expired reservations charged\n"
        assert await run("verify") == "counters and journal agree\n"
        age = ("--older-than-days", "90")
        assert "fold 0 rows" in await run("prune", *age, "--dry-run")
        assert await run("prune", *age, "--yes") == "0 rows folded\n"


async def test_counters_in_redis_are_reached_directly(engine, tmp_path):
    with running_redis() as redis:
        settings = BudgetSettings(
            store="redis", redis_url=SecretStr(redis.url), store_timeout_s=PATIENCE_S
        )
        gateway = GatewaySettings(data_dir=tmp_path, budgets=settings)

        done = await asyncio.to_thread(counters.with_counters, gateway, lambda live: live.rebuild())

    assert done == {"counters": 0, "expired_leases": 0}


def test_without_a_gateway_a_command_says_what_it_needs(config, budgets):
    with config.open("a") as file:
        file.write(f'[server]\nadmin_port = 1\nadmin_token = "{TOKEN}"\n')

    said = budgets("usage", "bud_00000000000000000000", fails=True)

    assert "http://127.0.0.1:1 does not answer" in said
    assert "set server.admin_port" in said
