from typing import Any

import pytest

from gateway.errors import ProviderRejected
from gateway.providers.anthropic import AnthropicDialect
from gateway.providers.base import UpstreamCall
from gateway.types import Capabilities, HostedModel, ModelPrice, Usage
from tests.fakes.upstream import anthropic_message


def call_of(**body: Any) -> UpstreamCall:
    model = HostedModel(
        "claude",
        "anthropic",
        "claude-haiku-4-5",
        ModelPrice(1, 1),
        Capabilities(max_output_tokens=500),
        system_prompt="Be kind.",
    )
    return UpstreamCall(model, {"messages": [{"role": "user", "content": "Hi"}], **body}, 1.0, "r")


@pytest.mark.parametrize("base", ["https://a", "https://a/", "https://a/v1", "https://a/v1/"])
def test_takes_an_address_with_or_without_version(base: str) -> None:
    assert AnthropicDialect("p", base).url(call_of(), is_stream=False) == "https://a/v1/messages"


def test_writes_the_body_with_prompt_and_limit() -> None:
    raw = AnthropicDialect("p", "https://a").encode(call_of(), is_stream=True)
    assert b'"system":[{"type":"text","text":"Be kind."}]' in raw
    assert b'"max_tokens":500' in raw
    assert b'"stream":true' in raw


def test_refuses_a_malformed_body_clearly() -> None:
    with pytest.raises(ProviderRejected, match="malformed"):
        AnthropicDialect("p", "https://a").encode(call_of(tools=["x"]), is_stream=False)


def test_stamps_answers_with_the_clock() -> None:
    dialect = AnthropicDialect("p", "https://a", unix_time=lambda: 17.9)
    answer = dialect.decode(call_of(), anthropic_message("Hi"))
    assert answer.body["created"] == 17
    assert answer.usage == Usage(9, 3)
    assert answer.finish_reason == "stop"
    tap = dialect.tap(call_of())
    tap.feed(b'data: {"type":"message_start","message":{"id":"m","model":"c"}}\n\n')
    assert tap.head == {"id": "m", "created": 17, "model": "c"}
