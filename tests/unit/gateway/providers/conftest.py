from collections.abc import AsyncIterator

import pytest

from gateway.providers.http import HttpClient


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient.open()
    yield client
    await client.aclose()
