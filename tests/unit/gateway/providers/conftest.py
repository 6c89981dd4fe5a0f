import pytest

from gateway.providers.http import HttpClient


@pytest.fixture
async def http():
    client = HttpClient.open()
    yield client
    await client.aclose()
