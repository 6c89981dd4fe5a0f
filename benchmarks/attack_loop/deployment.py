"""A gateway to attack: its settings, its keys and budgets, and what its database says after."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from benchmarks.attack_loop.attacks import MONEY
from benchmarks.attack_loop.upstream import INPUT_NUSD, OUTPUT_NUSD
from gateway.access.keys import KeyStore, ensure_first_key
from gateway.artifacts.store import ArtifactStore
from gateway.budgets.definitions import BudgetDefinitions
from gateway.routing.encoders import load_encoder
from gateway.storage.database import create_database_engine, ensure_schema
from migrations.tables import SETTLEMENTS, TURNS
from tests.fakes.gateway import LARGE, SMALL, router_for
from tests.fakes.postgres import running_postgres
from tests.fakes.processes import ROOT, Serving, start
from tests.fakes.redis import running_redis

TEAM = "default"
CAP_NUSD = 10_000_000
"""About 25 answers: each budget is spent within seconds, and the next one is attacked."""
PLENTY_NUSD = 10**15
"""For attacks on availability: only prompts of keys with a budget are bounded and reserved for."""
KEYS_PER_MINUTE = 20
ODD = (
    *("lines", "liar", "dying", "broken", "dripping", "pieces", "object", "mixed"),
    *("costly", "parrot"),
)
MODELS = ("honest", *ODD, "judge", SMALL, LARGE)
"""The router chooses from the last two; the upstream serves them as it does `honest`."""
DEADLINE_S = 20
PROVIDER = """
[providers.{name}]
base_url = "http://127.0.0.1:{port}/v1"
max_retries = 0
breaker_failures = 1000000
first_byte_timeout_s = 5
idle_timeout_s = 5
deadline_s = 10
[models.{name}]
provider = "{name}"
price = {{ input_usd_per_mtok = {input}, output_usd_per_mtok = {output} }}
"""
OTHERS = """
[providers.others]
base_url = "http://127.0.0.1:{port}/v1"
max_retries = 0
breaker_failures = 1000000
first_byte_timeout_s = 5
idle_timeout_s = 5
deadline_s = 10
[models.vectors]
provider = "others"
kind = "embeddings"
price = {{ input_usd_per_mtok = {input}, output_usd_per_mtok = 0.0 }}
[passthrough.moderations]
provider = "others"
path = "/v1/moderations"
models = ["omni"]
price_per_call_usd = 0.0
"""
"""Endpoints that are no chat; their upstream is as `broken` as that model's."""
SETTINGS = """
data_dir = "{folder}/data"
[database]
url = "{database}"
[server]
port = 0
admin_port = 0
request_deadline_s = {deadline_s}
stream_deadline_s = {deadline_s}
abandoned_json_s = 5
log_level = "error"
[embedded]
enabled = false
[grading.judge]
models = ["judge"]
share = 0.5
cap_usd_per_day = 1000
[routing]
encoder = "static"
[budgets]
{store}
definitions_poll_s = 0.2
"""
Keys = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Deployment:
    """What runs, and what is known of it.

    Attributes:
        keys: Per attack on money: a user's name, which is the id of a key, and the key.
        filling_keys: The same for the minute before anything is measured.
        hostile_key: Of a budget that nobody spends; attacks on availability use it.
    """

    gateway: Serving
    port: int
    upstream_port: int
    engine: Engine
    keys: Keys
    filling_keys: Keys
    hostile_key: str

    def charged_nusd(self) -> dict[str, int]:
        """Add up what each key was charged."""
        amount = func.sum(SETTLEMENTS.c.charged_nusd)
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(SETTLEMENTS.c.key_id, amount).group_by(SETTLEMENTS.c.key_id)
            )
            return {key: int(charged or 0) for key, charged in rows}

    def missing(self, answered: Iterable[str]) -> int:
        """Count the answers of which the evaluation log has no row."""
        with self.engine.connect() as connection:
            logged = set(connection.scalars(select(TURNS.c.request_id)))
        return len(set(answered) - logged)


@asynccontextmanager
async def deployed(
    folder: Path, minutes: float, *, on_postgres: bool, on_redis: bool
) -> AsyncIterator[Deployment]:
    """Run an upstream and a gateway in front of it, with keys for so long an attack."""
    async with AsyncExitStack() as stack:
        database = f"sqlite:///{folder}/waypost.db"
        if on_postgres:
            database = stack.enter_context(running_postgres()).new_database()
        store = 'store = "memory"'
        if on_redis:
            url = stack.enter_context(running_redis(is_durable=True)).url
            store = f'store = "redis"\nredis_url = "{url}"'
        upstream_port, _ = await stack.enter_async_context(running("upstream"))
        file = folder / "waypost.toml"
        prices = {"input": INPUT_NUSD / 1_000, "output": OUTPUT_NUSD / 1_000}
        providers = (PROVIDER.format(name=name, port=upstream_port, **prices) for name in MODELS)
        settings = SETTINGS.format(
            folder=folder, database=database, store=store, deadline_s=DEADLINE_S
        )
        others = OTHERS.format(port=upstream_port, **prices)
        file.write_text(settings + others + "".join(providers))
        engine = create_database_engine(database)
        stack.callback(engine.dispose)
        n_keys = max(2, round(KEYS_PER_MINUTE * minutes))
        hostile_key, all_keys = _keys(engine, n_keys + KEYS_PER_MINUTE)
        keys = {name: each[:n_keys] for name, each in all_keys.items()}
        filling_keys = {name: each[n_keys:] for name, each in all_keys.items()}
        artifacts = ArtifactStore(folder / "data" / "routers")
        artifacts.activate(artifacts.put(router_for(load_encoder("static"))).version)
        gateway = await stack.enter_async_context(start(file))
        port = int((await gateway.started()).rpartition(":")[2])
        yield Deployment(gateway, port, upstream_port, engine, keys, filling_keys, hostile_key)


def _keys(engine: Engine, per_attack: int) -> tuple[str, Keys]:
    ensure_schema(engine)
    ensure_first_key(engine)
    store, definitions = KeyStore(engine), BudgetDefinitions(engine)
    store.update_team(TEAM, trains_reasoner=True, is_judged=True)

    def capped(name: str, cap: int) -> tuple[str, str]:
        new = store.create_key(TEAM, name)
        definitions.create(
            team_id=TEAM,
            scope="key",
            scope_id=new.info.id,
            measure="nusd",
            window="total",
            cap=cap,
        )
        return new.info.id, new.secret.get_secret_value()

    keys = {
        name: [capped(f"{name} {number}", CAP_NUSD) for number in range(per_attack)]
        for name in MONEY
    }
    return capped("hostile", PLENTY_NUSD)[1], keys


@asynccontextmanager
async def running(module: str) -> AsyncIterator[tuple[int, int]]:
    """Run a module of this package that serves; yields its port and its process."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", f"benchmarks.attack_loop.{module}")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline()), process.pid
    finally:
        process.kill()
        await process.wait()
