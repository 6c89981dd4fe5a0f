"""Whatever a caller sends to the Messages endpoint, it gets an answer or an error of its making."""

import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.gateway import CLAUDE
from tests.fakes.messages import AGENT, VERSION
from tests.integration.test_fuzz_chat import FUZZ, anything, places, with_changed

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = "/v1/messages"


@FUZZ
@given(
    model=st.sampled_from(["auto", CLAUDE]),
    is_stream=st.booleans(),
    place=st.sampled_from(list(places(AGENT))),
    value=anything,
)
async def test_no_value_at_any_place_makes_the_gateway_fail(
    accommodating, model, is_stream, place, value
):
    body = with_changed(AGENT, place, value) | {"model": model, "stream": is_stream}
    transport = httpx2.ASGITransport(accommodating.app.public)
    headers = VERSION | {"x-api-key": accommodating.key}
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.post(MESSAGES, content=orjson.dumps(body), headers=headers)

    assert response.status_code != 500, response.text
    if response.status_code != 200:
        said = response.json()
        assert said["type"] == "error"
        assert isinstance(said["error"]["message"], str)
