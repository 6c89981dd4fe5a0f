"""A federation of processes that all tests of it share: starting one takes a minute of CPU time."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from federation.deployment.sessions import SessionRecord
from tests.fakes.three_organisations import Demonstration, demonstrated
from tests.fakes.turbulence import Aftermath, masked_session, turbulent


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demonstration]:
    """Three organisations that have trained once; their nodes and the coordinator run on."""
    async with demonstrated(tmp_path_factory.mktemp("federation"), print) as demonstration:
        yield demonstration


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def aftermath(shown: Demonstration) -> Aftermath:
    """A second session, in which a member lies and both sides are killed."""
    return await turbulent(shown)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def masked(shown: Demonstration, aftermath: Aftermath) -> SessionRecord:
    """A third session: the coordinator was killed before it, and can read sums alone.

    It comes last because its nodes must all tell the truth.
    """
    return await masked_session(shown, aftermath.liar)
