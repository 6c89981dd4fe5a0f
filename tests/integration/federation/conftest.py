"""A federation of processes that all tests of it share: starting one takes a minute of CPU time."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.three_organisations import Demonstration, demonstrated


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demonstration]:
    """Three organisations that have trained once; their nodes and the coordinator run on."""
    async with demonstrated(tmp_path_factory.mktemp("federation"), print) as demonstration:
        yield demonstration
