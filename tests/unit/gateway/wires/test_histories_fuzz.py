"""No conversation, on whichever wire it comes, becomes a request that its upstream refuses.

And it says there what it said here: the same texts, calls, results and ids, in the same order.
"""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from gateway.budgets.enforcement import asked_of
from gateway.providers.anthropic import AnthropicDialect
from gateway.providers.anthropic_messages import OPENING
from gateway.providers.base import UpstreamCall
from gateway.providers.dialect import Dialect
from gateway.providers.hosts import ANY_HOST, Host, host_of
from gateway.providers.lacks import lacks_of, made_fit
from gateway.providers.openai_compatible import OpenAIDialect
from gateway.types import Capabilities, HostedModel, ModelPrice
from gateway.wire import ChatRequest
from tests.fakes.histories import (
    History,
    as_chat,
    as_messages,
    as_responses,
    histories,
    is_begun,
)
from tests.fakes.vendor_rules import (
    refused_by_anthropic,
    refused_by_openai,
    refused_by_openai_responses,
)

pytest.importorskip("anthropic")

WIRES = {"chat": as_chat, "messages": as_messages, "responses": as_responses}
HOSTS: dict[str, tuple[Host, str]] = {
    "openai": (host_of("openai", "https://api.openai.com/v1", None), "gpt-4o-mini"),
    "groq": (host_of("openai", "https://api.groq.com/openai/v1", None), "llama-3.3-70b"),
    "mistral": (host_of("openai", "https://api.mistral.ai/v1", None), "mistral-large"),
    "any": (ANY_HOST, "some-model"),
}
CLAUDES = ("claude-sonnet-4-5", "claude-opus-4-7", "claude-3-5-haiku-20241022")
IDS_AT = {"mistral": "[a-zA-Z0-9]{9}", "openai": ".{1,40}"}
FUZZ = settings(max_examples=25)


def sent(request: ChatRequest, dialect: Dialect, kind: str, host: Host, name: str) -> Any:
    """Return the body that is sent, as the service has it made."""
    lacks = lacks_of(kind, host, name)
    reasoning: Any = "effort" if "gpt-5" in name else None
    can = Capabilities(vision=True, reasoning=reasoning)
    model = HostedModel("m", "p", name, ModelPrice(1, 1), can, lacks=lacks)
    body, dropped = made_fit(asked_of(model, request, None), model)
    call = UpstreamCall(model, body, 1.0, "r", native=request.native, dropped=dropped)
    return orjson.loads(dialect.encode(call, is_stream=False))


def takes_prefill(name: str) -> bool:
    return name != "claude-opus-4-7"


@pytest.mark.parametrize("name", CLAUDES)
@pytest.mark.parametrize("wire", WIRES)
@FUZZ
@given(history=histories())
def test_anthropic_takes_what_it_is_sent(wire: str, name: str, history: History) -> None:
    if is_begun(history) and not takes_prefill(name):
        return  # another model is asked
    request = WIRES[wire](history)
    body = sent(request, AnthropicDialect("p", "https://a.example"), "anthropic", ANY_HOST, name)

    assert refused_by_anthropic(body) == []
    if not any(turn.reminder for turn in history.turns):  # which move to another place
        wanted = gist_of(history if wire != "messages" else replace(history, greeting=None))
        assert gist_of_messages(body["messages"]) == wanted


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("wire", WIRES)
@FUZZ
@given(history=histories())
def test_hosts_of_chat_completions_take_what_they_are_sent(
    wire: str, name: str, history: History
) -> None:
    host, model = HOSTS[name]
    host = replace(host, speaks_responses=False)
    body = sent(
        WIRES[wire](history), OpenAIDialect("p", "https://a.example", host), "openai", host, model
    )

    known = body if name != "any" else without_reasoning(body)
    assert refused_by_openai(known) == []
    ids = [one["tool_call_id"] for one in body["messages"] if one["role"] == "tool"]
    assert all(re.fullmatch(IDS_AT.get(name, ".+"), one) for one in ids)
    if not any(turn.reminder for turn in history.turns):
        wanted = gist_of(history if wire != "messages" else replace(history, greeting=None))
        assert gist_of_chat(body["messages"]) == wanted


@FUZZ
@given(history=histories())
def test_openai_takes_the_responses_that_it_is_sent(history: History) -> None:
    host = HOSTS["openai"][0]
    dialect = OpenAIDialect("p", "https://a.example", host)
    body = sent(as_responses(history), dialect, "openai", host, "gpt-5-mini")

    assert refused_by_openai_responses(body) == []


def without_reasoning(body: Any) -> Any:
    """Leave out what OpenAI's types do not have, and hosts of no known name may take."""
    messages = [
        {name: value for name, value in one.items() if name != "reasoning_content"}
        for one in body["messages"]
    ]
    return {**body, "messages": messages}


Gist = list[tuple[str, Any]]


def gist_of(history: History) -> Gist:
    """List what is said, called and answered, in order; blanks say nothing.

    Texts of one speaker in a row may be joined.
    """
    gist: Gist = [("assistant", history.greeting)] if history.greeting else []
    for turn in history.turns:
        if text := squeezed(*turn.asked):
            gist.append(("user", text))
        if text := squeezed(*(turn.said or ())):
            gist.append(("assistant", text))
        gist += [("call", call.input) for call in turn.calls]
        gist += [("result", squeezed(call.result)) for call in turn.calls]
    return joined(gist)


def gist_of_chat(messages: list[Any]) -> Gist:
    """List the same of a request of chat completions."""
    gist: Gist = []
    for message in messages:
        role, text = message["role"], squeezed(*texts_in(message.get("content")))
        if role == "tool":
            gist.append(("result", text))
        elif role in ("user", "assistant") and text:
            gist.append((role, text))
        calls = message.get("tool_calls") or ()
        gist += [("call", orjson.loads(call["function"]["arguments"])) for call in calls]
    return joined(gist)


def gist_of_messages(turns: list[Any]) -> Gist:
    """List the same of a request of Messages."""
    gist: Gist = []
    for turn in turns:
        content = turn["content"]
        if turn is turns[0] and content == [{"type": "text", "text": OPENING}]:
            continue
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text":
                gist.append((turn["role"], squeezed(block["text"])))
            elif block["type"] == "tool_use":
                gist.append(("call", block["input"]))
            elif block["type"] == "tool_result":
                gist.append(("result", squeezed(*texts_in(block.get("content")))))
    return joined(gist)


def texts_in(content: Any) -> list[str]:
    """List the texts of a content, but for those that only say that a picture follows."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    found = [part["text"] for part in content or () if part["type"] == "text"]
    return [text for text in found if not text.startswith("The result is in the picture")]


def squeezed(*texts: str) -> str:
    """Join texts without blanks, pictures, documents."""
    return "".join("".join(text.split()) for text in texts if not text.startswith("<"))


def joined(gist: Gist) -> Gist:
    """Join what one speaker says in a row."""
    out: Gist = []
    for kind, value in gist:
        if out and kind in ("user", "assistant") and out[-1][0] == kind:
            out[-1] = (kind, out[-1][1] + value)
        else:
            out.append((kind, value))
    return out
