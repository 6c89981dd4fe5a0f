"""What Anthropic refuses is mended for callers of Messages who left the choice to the gateway."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.fakes.gateway import CLAUDE, PRICE, RunningGateway, running_gateway
from tests.fakes.messages import HELLO, VERSION
from tests.fakes.upstream import Answer, anthropic_message, anthropic_stream_chunks, json_answer
from tests.fakes.vendor_rules import refused_by_anthropic

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("messages chosen"),  # one gateway
]

UNTYPED = ("stream", "temperature")
"""Fields that the types of Anthropic's SDK do not name, or not for the newest models."""
BLANK = {"type": "text", "text": "\n"}
REFUSED: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "stop_sequences": ["END", "\n"],
    "tools": [{"name": "f", "input_schema": {"properties": {}}}],
    "messages": [
        {"role": "user", "content": [BLANK, {"type": "text", "text": "Say hello."}]},
        {"role": "assistant", "content": "So "},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway that can choose nothing but a Claude model."""
    sees = {"tools": True}
    model = {"provider": "gamma", "upstream_name": "claude-sonnet-4-5", "price": PRICE}
    folder = tmp_path_factory.mktemp("chosen")
    models = {CLAUDE: model | {"capabilities": sees}}
    async with running_gateway(folder, models=models, profiles={}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    gateway.upstreams.reset()
    async with gateway.caller() as client:
        yield client


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_request_that_leaves_the_choice_is_made_fit(gateway, http, is_stream) -> None:
    stream = Answer(tuple(anthropic_stream_chunks()))
    gateway.gamma.answers = [stream if is_stream else json_answer(anthropic_message())]
    asked = {**HELLO, **REFUSED, "stop_sequences": ["END", ""], "stream": is_stream}

    response = await http.post("/v1/messages", json=asked, headers=VERSION)

    assert response.status_code == 200, response.text
    sent = gateway.gamma.last.body
    assert refused_by_anthropic({name: sent[name] for name in sent if name not in UNTYPED}) == []
    assert sent["stop_sequences"] == ["END"]
    assert sent["messages"][1]["content"] == "So"
    assert response.headers["x-waypost-dropped"] == "top_p"


async def test_a_request_that_names_the_model_is_sent_as_it_came(gateway, http) -> None:
    gateway.gamma.answers = [json_answer(anthropic_message())]
    asked = {**HELLO, **REFUSED, "model": CLAUDE}

    response = await http.post("/v1/messages", json=asked, headers=VERSION)

    assert response.status_code == 200, response.text
    assert gateway.gamma.last.body == {**asked, "model": "claude-sonnet-4-5"}
    assert "x-waypost-dropped" not in response.headers
