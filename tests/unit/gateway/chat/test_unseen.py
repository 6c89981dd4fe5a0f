"""Thoughts that no caller sees are charged to who leaves before the provider says how many."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.chat.unseen import FASTEST_TOKENS_PER_S, may_hide_thoughts
from gateway.errors import ProviderCutOff, ProviderTimeout
from gateway.types import Capabilities
from tests.fakes.chat import CALLER, FIRST, SECOND, request
from tests.fakes.patience import PATIENCE_S
from tests.fakes.providers import FakeProvider, FakeStream, event

O3 = replace(FIRST, upstream_name="o3")
MAX_TOKENS = 50_000


@pytest.mark.parametrize(
    ("name", "asked", "may"),
    [
        ("o3", {}, True),
        ("openai/gpt-5-mini", {"reasoning_effort": "minimal"}, True),
        ("gpt-5.2", {}, True),
        ("gpt-5.2", {"reasoning_effort": "none"}, False),
        ("gpt-5.2", {"reasoning": {"effort": "none"}}, False),
        ("gpt-5-chat-latest", {}, False),
        ("gpt-4o", {}, False),
        ("google/gemini-2.5-pro", {"reasoning_effort": "none"}, True),
        ("gemini-2.5-flash", {}, True),
        ("gemini-2.5-flash", {"reasoning": {"enabled": False}}, False),
        ("grok-4", {}, True),
        ("grok-4-fast-non-reasoning", {}, False),
        ("claude-sonnet-4-5", {}, False),
        ("claude-sonnet-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, True),
        ("claude-sonnet-4-5", {"thinking": {"type": "disabled"}}, False),
        ("claude-opus-4-6", {"reasoning_effort": "high"}, True),
        ("claude-mythos-1", {}, True),
        ("deepseek-reasoner", {}, False),
        ("deepseek-reasoner", {"reasoning": {"exclude": True}}, True),
        ("qwen3", {"include_reasoning": False}, True),
        ("qwen3", {"reasoning_format": "hidden"}, True),
    ],
)
def test_tells_which_models_may_think_unseen(name, asked, may) -> None:
    assert may_hide_thoughts(replace(FIRST, upstream_name=name), asked) is may


def test_a_model_that_is_told_how_much_to_think_may_think_unseen() -> None:
    deployed = replace(FIRST, capabilities=Capabilities(reasoning="effort"))
    assert may_hide_thoughts(deployed, {})
    quiet = replace(deployed, request_defaults={"reasoning_effort": "none"})
    assert not may_hide_thoughts(quiet, {})


def thinking(bench, *script: Any, model=O3, **options: Any):
    it = bench(FakeProvider(*script, **options), models=(model, SECOND))
    it.ledger.output = MAX_TOKENS
    return it


async def leave_after(it, seconds: float, max_tokens: int = MAX_TOKENS) -> None:
    """Read the first event of a stream, and leave it after so many seconds."""
    asked = request(stream=True, max_tokens=max_tokens)
    async with asyncio.timeout(PATIENCE_S), it.service.stream(asked, CALLER) as answer:
        await anext(answer.events)
        it.time_s[0] += seconds


@pytest.mark.parametrize(
    ("model", "max_tokens", "charged"),
    [
        (O3, MAX_TOKENS, 3 * FASTEST_TOKENS_PER_S + 2),
        (O3, 700, 700),
        (replace(FIRST, upstream_name="gpt-4.1"), MAX_TOKENS, 2),
    ],
)
async def test_leaving_early_pays_for_the_time_in_which_a_model_may_have_thought(
    bench, model, max_tokens, charged
) -> None:
    it = thinking(bench, (event("hi"), FakeStream.HANG), model=model)
    await leave_after(it, 3.0, max_tokens)
    assert it.row.usage.completion_tokens == charged
    assert it.row.usage.is_estimated


async def test_leaving_before_the_first_event_pays_for_thoughts_too(bench) -> None:
    it = thinking(bench, FakeStream.HANG)

    async def wait_for_ever(call: Any) -> Any:
        call.transit.is_upstream = True
        it.time_s[0] += 2.0
        raise ProviderTimeout("silent")

    it.service.providers["one"].stream = _stream_of(wait_for_ever)
    it.service.providers["two"].stream = _stream_of(wait_for_ever)
    with pytest.raises(ProviderTimeout):
        async with it.service.stream(request(stream=True, max_tokens=MAX_TOKENS), CALLER):
            pass
    (_, lost, _), *_ = it.ledger.settled
    assert lost.completion_tokens == 2 * FASTEST_TOKENS_PER_S


def _stream_of(begin: Any) -> Any:
    class _Opening:
        def __init__(self, call: Any) -> None:
            self._call = call

        async def __aenter__(self) -> Any:
            return await begin(self._call)

        async def __aexit__(self, *_: object) -> None:
            pass

    return _Opening


async def test_a_stream_that_breaks_is_charged_for_thoughts_too(bench) -> None:
    it = thinking(bench, (event("hi"), ProviderCutOff("died")))
    async with it.service.stream(request(stream=True, max_tokens=MAX_TOKENS), CALLER) as answer:
        async for _ in answer.events:
            it.time_s[0] += 1.0
    assert it.row.usage.completion_tokens > FASTEST_TOKENS_PER_S


async def test_what_the_provider_says_at_the_end_is_charged_instead(bench) -> None:
    it = thinking(bench, (event("hi"),))
    async with it.service.stream(request(stream=True, max_tokens=MAX_TOKENS), CALLER) as answer:
        async for _ in answer.events:
            it.time_s[0] += 100.0
    assert it.row.usage.completion_tokens == 5
    assert not it.row.usage.is_estimated
