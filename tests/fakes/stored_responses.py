"""A gateway whose first team stores its responses, and OpenAI's SDK with a key of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from sqlalchemy import Engine, select

from gateway.access.keys import KeyStore
from migrations.tables import STORED_RESPONSES
from tests.fakes.gateway import CLAUDE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S

NATIVE = "native"
"""A model whose host speaks Responses."""


@asynccontextmanager
async def opted_in(folder: Path, **changes: Any) -> AsyncIterator[RunningGateway]:
    """Run a gateway whose first team stores its responses."""
    hosted = {
        SMALL: ("alpha", "some-model"),
        CLAUDE: ("gamma", "claude-sonnet-4-5"),
        NATIVE: ("beta", "gpt-5-up"),
    }
    models = {
        name: {"provider": host, "upstream_name": up, "price": PRICE}
        for name, (host, up) in hosted.items()
    }
    async with running_gateway(
        folder,
        keeps_store=True,
        also={"beta": {"responses": True}},
        models=models,
        profiles={},
        keys={"staleness_s": 0.01, "read_timeout_s": PATIENCE_S},
        **changes,
    ) as running:
        KeyStore(running.engine).update_team("default", stores_responses=True)
        yield running


@asynccontextmanager
async def sdk_of(gateway: RunningGateway, key: str = "") -> AsyncIterator[Any]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


def neighbour(gateway: RunningGateway) -> str:
    """Make a key of another team that stores its responses."""
    store = KeyStore(gateway.engine)
    if "neighbour" not in [team.id for team in store.teams()]:
        store.create_team("neighbour", stores_responses=True)
    return store.create_key("neighbour", "other").secret.get_secret_value()


def ids_in(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(STORED_RESPONSES.c.id)).scalars())
