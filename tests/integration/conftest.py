"""A gateway that all tests of a process share, since most leave nothing behind in it."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.fakes.agreeable import agreeable
from tests.fakes.gateway import RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """The shared gateway with upstreams that have seen nothing, and none of which is spared."""
    shared_gateway.upstreams.reset()
    shared_gateway.refusals.forget()
    return shared_gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_strict_gateway(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("strict")
    async with running_gateway(folder, limits={"extra_fields": []}) as running:
        yield running


@pytest.fixture
def strict_gateway(shared_strict_gateway: RunningGateway) -> RunningGateway:
    """A shared gateway that passes on no field that it does not know."""
    shared_strict_gateway.upstreams.reset()
    return shared_strict_gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http(shared_gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client with a key of the shared gateway."""
    async with shared_gateway.caller() as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_client(shared_gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{shared_gateway.url}/v1",
        api_key=shared_gateway.key,
        max_retries=0,
        timeout=PATIENCE_S,
    ) as client:
        yield client


@pytest.fixture
def client(gateway: RunningGateway, shared_client: AsyncOpenAI) -> AsyncOpenAI:
    """OpenAI's SDK with a key of the shared gateway."""
    return shared_client


@pytest.fixture
def accommodating(gateway: RunningGateway) -> RunningGateway:
    """The gateway with upstreams that accept everything."""
    gateway.upstreams.by_name = dict.fromkeys(("alpha", "beta", "gamma"), agreeable)
    return gateway
