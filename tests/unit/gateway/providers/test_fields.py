from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.fields import (
    ALL_FIELDS,
    FIELDS,
    admitted_fields,
    asked_fields,
    is_admitted,
    refusal,
    useless_entry,
)
from gateway.types import HostedModel, ModelPrice

MESSAGES = [{"role": "user", "content": "Hi", "x_vendor": {"models": ["dear"]}}]
FUNCTION = {"type": "function", "function": {"name": "f"}}


def takes(body: dict[str, Any], kind: str = "openai", *extra: str) -> bool:
    asked = asked_fields({"model": "m", "messages": MESSAGES, **body})
    return is_admitted(asked, admitted_fields(kind, extra))


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 2, "max_tokens": 5, "max_completion_tokens": 5, "stop": ["\n"], "seed": 7},
        {"temperature": 0, "top_p": 1, "logprobs": True, "top_logprobs": 3, "logit_bias": {"1": 2}},
        {"stream": True, "stream_options": {"include_usage": True}, "user": "u", "store": False},
        {"tools": [FUNCTION, {"type": "custom", "custom": {"name": "c"}}], "tool_choice": "auto"},
        {"tools": [{"function": {"name": "f"}}], "parallel_tool_calls": False},
        {"functions": [{"name": "f"}], "function_call": "auto"},
        {"response_format": {"type": "json_object"}, "metadata": {"job": "4"}},
        {"reasoning_effort": "low", "verbosity": "low", "safety_identifier": "u"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        {"service_tier": "auto"},
        {"service_tier": "flex", "modalities": ["text"]},
        {"models": None, "service_tier": None, "tools": None, "reasoning": None},
        {"conversation": "c", "previous_response_id": "r"},
    ],
)
def test_what_clients_send_to_every_host_is_admitted(kind: str, body: dict[str, Any]) -> None:
    assert takes(body, kind)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("openai", {"top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1, "top_a": 0}),
        ("openai", {"length_penalty": 1.2, "do_sample": True, "top_n_sigma": 1, "watermark": True}),
        ("openai", {"separate_reasoning": True, "regex": "a", "ebnf": "", "samplers": ["top_k"]}),
        ("openai", {"chat_template_kwargs": {"enable_thinking": True}, "guided_json": {}}),
        ("openai", {"reasoning": {"effort": "high", "exclude": True, "max_tokens": None}}),
        ("openai", {"thinking": {"type": "enabled"}, "usage": {"include": True}}),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 2_000}, "top_k": 4}),
        ("anthropic", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
    ],
)
def test_what_a_host_is_known_to_take_within_its_price_is_admitted(kind: str, body: Any) -> None:
    assert takes(body, kind)


DEAR = [
    ({"models": ["openai/gpt-6.1-sol"]}, "models"),
    ({"route": "fallback"}, "route"),
    ({"provider": {"order": ["dear"]}}, "provider"),
    ({"plugins": [{"id": "web"}]}, "plugins"),
    ({"preset": "dear"}, "preset"),
    ({"speed": "fast"}, "speed"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"best_of": 20}, "best_of"),
    ({"max_output_tokens": 99_999}, "max_output_tokens"),
    ({"n_predict": 99_999}, "n_predict"),
    ({"options": {"num_predict": 99_999}}, "options"),
    ({"extra_body": {"models": ["dear"]}}, "extra_body"),
    ({"lora_path": "other"}, "lora_path"),
    ({"adapter_id": "other"}, "adapter_id"),
    ({"priority": 9}, "priority"),
    ({"chat_template": "{% for _ in range(9**9) %}{% endfor %}"}, "chat_template"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"custom_logit_processor": "code"}, "custom_logit_processor"),
    ({"lora": [{"id": 0, "scale": 1}]}, "lora"),
    ({"search_parameters": {"mode": "on"}}, "search_parameters"),
    ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
    ({"x_new": 1}, "x_new"),
    ({"Models": ["dear"]}, "Models"),
    ({"": 1}, ""),
    ({"user.models": 1}, "user.models"),
]
DEAR_ON_OPENAI = [
    ({"service_tier": ["flex"]}, "service_tier"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"modalities": ["text", "audio"], "temperature": 0}, "modalities"),
    ({"modalities": "audio"}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"reasoning": {"max_tokens": 99_999}}, "reasoning.max_tokens"),
    ({"reasoning": 99_999}, "reasoning"),
    ({"thinking": {"budget_tokens": 99_999}}, "thinking.budget_tokens"),
    ({"tools": [FUNCTION, {"type": "web_search"}]}, "tools.web_search"),
    ({"tools": [{"googleSearch": {}}]}, "tools.unknown"),
    ({"tools": {"type": "web_search"}}, "tools.web_search"),
    ({"tools": [{"type": {"web_search": 1}}]}, "tools.{'web_search': 1}"),
]


@pytest.mark.parametrize(
    ("kind", "body", "name"),
    [(kind, *case) for case in DEAR for kind in FIELDS]
    + [("openai", *case) for case in DEAR_ON_OPENAI]
    + [("azure", {"data_sources": []}, "data_sources"), ("azure", {"top_k": 1}, "top_k")]
    + [("anthropic", {"repetition_penalty": 1.1}, "repetition_penalty")]
    + [("anthropic", {"tools": [{"type": "web_search"}]}, "tools.web_search")],
)
def test_what_may_change_model_or_price_is_refused_by_name(kind, body, name) -> None:
    model = HostedModel("m", "acme", "m", ModelPrice(1, 1), fields=admitted_fields(kind, ()))
    assert not takes(body, kind)

    refused = refusal(body, (model,))

    assert refused.param == next(iter(body))
    assert f"`{name}`" in refused.message
    assert "providers.acme.extra_fields" in refused.message


@pytest.mark.parametrize(("body", "name"), DEAR + DEAR_ON_OPENAI)
def test_the_operator_may_allow_a_field_or_any(body, name) -> None:
    assert takes(body, "openai", name)
    assert takes(body, "openai", next(iter(body)))
    assert takes(body, "openai", ALL_FIELDS)
    assert not takes({**body, "x_other": 1}, "openai", name)


@pytest.mark.parametrize("entry", ["*", "provider", "reasoning.max_tokens", "tools.web_search"])
def test_an_entry_that_a_body_can_ask_for_is_of_use(entry: str) -> None:
    assert useless_entry(("x", entry)) is None


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "provider ", "two words", "tools.*", "reasoning.", ".max_tokens", "x_*"),
        *("options.num_predict", "service_tier.priority", "modalities.audio", "tools.function"),
        *("reasoning.max.tokens", "tools/web_search.x"),
    ],
)
def test_an_entry_that_no_body_can_ask_for_is_named(entry: str) -> None:
    assert useless_entry(("provider", entry, "x y")) == entry


def test_a_refusal_shows_no_more_of_a_name_than_a_line() -> None:
    model = HostedModel("m", "acme", "m", ModelPrice(1, 1), fields=frozenset())
    refused = refusal({"x" * 10_000: 1}, (model,))
    assert len(refused.message) < 400
    assert refused.param == "x" * 80


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
looked_into = st.sampled_from(["tools", "modalities", "reasoning", "service_tier", "thinking"])


@given(st.dictionaries(looked_into | st.text(max_size=5), json, max_size=5))
def test_every_body_has_named_fields(body: dict[str, Any]) -> None:
    asked = asked_fields(body)
    assert {name for name in asked if name.partition(".")[0] not in body} <= body.keys()
    assert {n for n in body if body[n] is not None} - asked <= {
        "tools",
        "modalities",
        "reasoning",
        "service_tier",
        "thinking",
    }
