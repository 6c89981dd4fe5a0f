"""A federation of processes that all tests of it share: starting one takes a minute of CPU time."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from federation.deployment.sessions import SessionRecord
from tests.fakes.three_organisations import Demonstration, demonstrated


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demonstration]:
    """Three organisations that have trained once; their nodes and the coordinator run on."""
    async with demonstrated(tmp_path_factory.mktemp("federation"), print) as demonstration:
        yield demonstration


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def masked(shown: Demonstration) -> SessionRecord:
    """A second session of the same nodes, in which the coordinator can read sums alone."""
    file = shown.federation.settings_file("coordinator")
    open_settings = file.read_text()
    file.write_text(open_settings.replace("quorum = 2", "quorum = 3") + "secure_sum = true\n")
    await shown.coordinator.end()
    await shown.coordinator.start()
    session = await shown.federation.train()
    file.write_text(open_settings)
    await shown.coordinator.end()
    await shown.coordinator.start()
    return session
