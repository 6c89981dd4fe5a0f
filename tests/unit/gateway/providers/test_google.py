"""Google's OpenAI-compatible endpoints: what they refuse, how they count, what they sign."""

from typing import Any

import orjson
import pytest

from gateway.errors import ProviderUnsupported
from gateway.providers.base import UpstreamCall
from gateway.providers.fields import admitted_fields, asked_fields, is_admitted
from gateway.providers.hosts import Host, host_of
from gateway.providers.lacks import asked_features, lacks_of, made_fit
from gateway.providers.openai_compatible import OpenAIDialect
from gateway.providers.usage import usage_of
from gateway.providers.vendor_words import refused_field
from gateway.types import HostedModel, ModelPrice, Usage
from tests.fakes.upstream import chunk, completion

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
VERTEX = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"
SKIPPED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
THOUGHT = {"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553}


def host(address: str) -> Host:
    return host_of("openai", address, None)


def call_of(model: str, *calls: dict[str, Any]) -> UpstreamCall:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": list(calls)},
        *({"role": "tool", "tool_call_id": one["id"], "content": "1"} for one in calls),
    ]
    hosted = HostedModel("fast", "google", model, ModelPrice(1, 1))
    return UpstreamCall(hosted, {"messages": messages}, 1e9, "req-1")


def tool_call(name: str, **fields: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": "{}"}
    return {"id": name, "type": "function", "function": function, **fields}


def sent_calls(address: str, model: str, *calls: dict[str, Any]) -> list[dict[str, Any]]:
    dialect = OpenAIDialect("google", address, host(address))
    sent = orjson.loads(dialect.encode(call_of(model, *calls), is_stream=False))
    found: list[dict[str, Any]] = sent["messages"][1]["tool_calls"]
    return found


@pytest.mark.parametrize("address", [GEMINI, f"{VERTEX}/endpoints/openapi"])
def test_a_regional_host_is_googles(address: str) -> None:
    assert host(address).signs_calls
    assert host(address).hides_reasoning


@pytest.mark.parametrize("name", ["seed", "frequency_penalty", "store", "metadata", "user"])
def test_the_gemini_api_is_not_sent_what_it_refuses_to_read(name: str) -> None:
    lacks = lacks_of("openai", host(GEMINI), "gemini-3-flash")
    model = HostedModel("fast", "google", "gemini-3-flash", ModelPrice(1, 1), lacks=lacks)

    fit, dropped = made_fit({"messages": [], name: "x"}, model)

    assert fit == {"messages": []}
    assert dropped == {name}


def test_what_would_be_ignored_silently_rules_google_out() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True}
    lacks = lacks_of("openai", host(f"{VERTEX}/endpoints/openapi"), "google/gemini-2.5-flash")

    assert asked_features(body, lacks.refused, has_images=False) == {"logprobs"}


@pytest.mark.parametrize("name", ["google", "extra_body", "web_search_options", "cachedContent"])
def test_fields_that_google_charges_for_are_not_passed(name: str) -> None:
    asked = asked_fields({"messages": [], name: {"thinking_config": {}}})

    assert not is_admitted(asked, admitted_fields("openai", ()))


def test_thoughts_that_are_in_the_sum_alone_are_charged() -> None:
    expected = Usage(20, 533, reasoning_tokens=382)
    dialect = OpenAIDialect("google", GEMINI, host(GEMINI))
    asked = call_of("gemini-3-flash")

    assert usage_of(THOUGHT) == Usage(20, 151)  # of a host that is not known to hide any
    assert usage_of(THOUGHT, hides_reasoning=True) == expected
    assert dialect.decode(asked, completion(usage=THOUGHT)).usage == expected
    tap = dialect.tap(asked)
    tap.feed(chunk({"content": "Hi"}, usage=THOUGHT) + chunk({}, "stop", usage=THOUGHT))
    assert tap.usage == expected


def test_a_sum_that_is_too_small_takes_nothing_away() -> None:
    assert usage_of({**THOUGHT, "total_tokens": 3}, hides_reasoning=True) == Usage(20, 151)


def test_the_first_call_of_another_vendors_model_gets_what_stands_for_a_signature() -> None:
    first, second = sent_calls(GEMINI, "gemini-3-flash", tool_call("a"), tool_call("b"))

    assert first["extra_content"] == SKIPPED
    assert "extra_content" not in second


def test_a_signature_of_googles_own_goes_back_to_it_and_to_no_other_host() -> None:
    signed = tool_call("a", extra_content={"google": {"thought_signature": "c2lnbmVk"}})

    assert sent_calls(GEMINI, "gemini-3-flash", signed) == [signed]
    for address in ("https://api.openai.com/v1", "https://api.groq.com/openai/v1"):
        assert sent_calls(address, "gpt-5", signed) == [tool_call("a")]


@pytest.mark.parametrize("model", ["google/gemini-2.5-flash", "meta/llama-4-maverick"])
def test_models_that_want_no_signature_get_none(model: str) -> None:
    assert sent_calls(f"{VERTEX}/endpoints/openapi", model, tool_call("a")) == [tool_call("a")]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ('Invalid JSON payload received. Unknown name "top_k": Cannot find field.', "top_k"),
        (
            "Malformed input request: #: extraneous key [top_k] is not permitted, please reformat",
            "top_k",
        ),
        ('I quote: Invalid JSON payload received. Unknown name "x": Cannot find field.', None),
    ],
)
def test_the_field_is_found_that_google_or_bedrock_refuse(message: str, field: str | None) -> None:
    refusal = ProviderUnsupported("no", status=400, body={"message": message})

    assert refused_field(refusal) == field
