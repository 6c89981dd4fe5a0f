"""A gateway with models of every kind that the tests of a module share."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.fakes.endpoints import (
    gateway_of_endpoints,
)
from tests.fakes.gateway import RunningGateway
from tests.fakes.patience import PATIENCE_S


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with gateway_of_endpoints(tmp_path_factory.mktemp("endpoints")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.upstreams.reset()
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.caller() as client:
        yield client
