"""A gateway whose teams store their responses, for all tests of a module."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.fakes.gateway import RunningGateway
from tests.fakes.responses import response
from tests.fakes.stored_responses import opted_in, sdk_of
from tests.fakes.upstream import anthropic_message, completion, json_answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with opted_in(tmp_path_factory.mktemp("stored")) as running:
        yield running


@pytest.fixture
def gateway(shared: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams greet and have seen nothing."""
    shared.upstreams.reset()
    shared.alpha.answers = [json_answer(completion())]
    shared.beta.answers = [json_answer(response())]
    shared.gamma.answers = [json_answer(anthropic_message())]
    return shared


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: RunningGateway) -> AsyncIterator[Any]:
    async with sdk_of(gateway) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.caller() as client:
        yield client
