from typing import Any

import pytest

from gateway.providers.anthropic_schemas import enforced_schema
from gateway.providers.histories import as_taken, foreign_fields
from gateway.providers.hosts import ANY_HOST, host_of
from gateway.providers.lacks import FEATURES, asked_features, lacks_of, made_fit, may_think
from gateway.types import LACKS_NOTHING, HostedModel, ModelPrice

SAMPLING = {"frequency_penalty", "presence_penalty", "temperature", "top_p"}


def hosted(name: str, kind: str = "openai", host: str | None = None) -> HostedModel:
    lacks = lacks_of(kind, host_of(kind, "http://upstream.example/v1", host), name)
    return HostedModel(name, "p", name, ModelPrice(1, 1), lacks=lacks)


@pytest.mark.parametrize(
    ("model", "dropped", "refused", "limit", "longest"),
    [
        ("gpt-5", SAMPLING, "stop", "max_completion_tokens", 128_000),
        ("openai/gpt-5-mini", SAMPLING, "stop", "max_completion_tokens", 128_000),
        ("gpt-5-chat-latest", set(), None, None, None),
        ("gpt-5.2", set(), None, "max_completion_tokens", 128_000),
        ("o1", SAMPLING, "logprobs", "max_completion_tokens", 100_000),
        ("o3", SAMPLING, "stop", "max_completion_tokens", 100_000),
        ("o4-mini", SAMPLING, "stop", "max_completion_tokens", 100_000),
        ("gpt-4o-mini", set(), None, None, 16_384),
        ("gpt-4.1", set(), None, None, 32_768),
        ("gpt-oss-120b", set(), None, None, None),
        ("o365-model", set(), None, None, None),
        ("llama-4", set(), None, None, None),
    ],
)
def test_tells_what_a_model_lacks_from_its_name(
    model: str, dropped: set[str], refused: str | None, limit: str | None, longest: int | None
) -> None:
    lacks = lacks_of("openai", ANY_HOST, model)
    assert lacks.dropped == dropped
    assert (refused in lacks.refused) if refused else not lacks.refused
    assert (lacks.output_limit, lacks.output_tokens) == (limit, longest)


def test_an_ordinary_model_lacks_nothing_and_costs_nothing() -> None:
    model = hosted("llama-4")
    body = {"temperature": 0}
    assert model.lacks is LACKS_NOTHING
    assert made_fit(body, model)[0] is body


@pytest.mark.parametrize(
    ("model", "lacking"),
    [
        ("claude-3-opus", {"reasoning_effort"}),
        ("claude-sonnet-4-5", set()),
        ("claude-opus-4-7", {"temperature", "top_p"}),
    ],
)
def test_claude_models_lack_what_their_version_does(model: str, lacking: set[str]) -> None:
    dropped = hosted(model, "anthropic").lacks.dropped
    assert dropped & {"reasoning_effort", "temperature", "top_p"} == lacking


@pytest.mark.parametrize(
    ("fields", "sent", "dropped"),
    [
        ({"reasoning_effort": "high", "temperature": 0}, {"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "none", "temperature": 0}, None, False),
        ({"temperature": 0}, None, False),
        ({"max_tokens": 5}, {"max_completion_tokens": 5}, False),
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            {"max_completion_tokens": 6},
            False,
        ),
        ({"max_tokens": None}, None, False),
    ],
)
def test_a_model_that_may_think_is_sampled_while_it_does_not(
    fields: Any, sent: Any, *, dropped: bool
) -> None:
    fit, left_out = made_fit(fields, hosted("gpt-5.2"))
    assert fit == (fields if sent is None else sent)
    assert left_out == ({"temperature"} if dropped else set())


def test_what_was_learned_is_left_out_too() -> None:
    body = {"top_k": 3, "max_tokens": 5, "n": 2}
    fit, left_out = made_fit(body, hosted("some"), frozenset({"top_k", "max_tokens", "n"}))
    assert (fit, left_out) == ({"n": 2, "max_completion_tokens": 5}, {"top_k"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "functions": []},
        {"messages": 3, "tools": 7, "stop": []},
        {"messages": [], "tools": [1]},
        {"messages": [{"role": "user"}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "tool", "content": ""}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    ],
)
def test_neutral_values_and_odd_forms_ask_for_no_feature(body: Any) -> None:
    asked = asked_features(body, FEATURES, has_images=True)
    assert asked - {"system_only"} == set()
    assert ("system_only" in asked) is (body.get("messages") == [])


def test_may_think_of_what_is_no_conversation() -> None:
    assert may_think(None)


@pytest.mark.parametrize(
    ("kind", "address", "catalogue", "knows_developer"),
    [
        ("openai", "https://api.openai.com/v1", None, True),
        ("openai", "https://eu.api.openai.com/v1", None, True),
        ("openai", "https://x.openai.azure.com", None, True),
        ("azure", "https://proxy.example", None, True),
        ("openai", "https://notapi.openai.com.example/v1", None, False),
        ("openai", "http://127.0.0.1:8000/v1", None, False),
        ("openai", "http://127.0.0.1:8000/v1", "openai", True),
        ("openai", "https://api.mistral.ai/v1", None, False),
        ("openai", "https://openrouter.ai/api/v1", "openrouter", False),
    ],
)
def test_hosts_are_known_by_address_or_by_catalogue(
    kind: str, address: str, catalogue: str | None, *, knows_developer: bool
) -> None:
    assert host_of(kind, address, catalogue).takes_developer is knows_developer


def test_a_call_without_an_id_is_left_to_its_host() -> None:
    host = host_of("openai", "https://api.mistral.ai/v1", None)
    messages = [
        {"role": "assistant", "tool_calls": [{"id": None}, 3, {"id": "a:b"}]},
        {"role": "tool", "tool_call_id": None, "tool_calls": None},
    ]
    first, second = as_taken(messages, host, foreign_fields(host))
    assert first["tool_calls"][:2] == [{"id": None}, 3]
    assert len(first["tool_calls"][2]["id"]) == 9
    assert second == messages[1]


def test_schemas_of_odd_forms_are_left_as_they_are() -> None:
    assert enforced_schema({"items": True, "properties": 3}) == {
        "items": True,
        "properties": 3,
        "additionalProperties": False,
    }
