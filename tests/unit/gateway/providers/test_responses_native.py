"""What a host that speaks Responses is sent, and how its answers are read."""

from typing import Any

import pytest

from gateway.providers.base import UpstreamCall
from gateway.providers.hosts import ANY_HOST, Host, host_of
from gateway.providers.openai_compatible import AzureDialect, OpenAIDialect
from gateway.providers.responses_native import (
    RESPONSES,
    ResponsesTap,
    native_body,
    native_completion,
    usage_of,
)
from gateway.types import Capabilities, HostedModel, ModelPrice, NativeRequest
from tests.fakes.responses import HELLO, named, response, response_chunks

SPEAKS = Host(speaks_responses=True)


def call(
    body: dict[str, Any], chat: dict[str, Any] | None = None, wire: str = RESPONSES, **model: Any
) -> UpstreamCall:
    hosted = HostedModel("m", "p", "up", ModelPrice(1, 1), **model)
    native = NativeRequest(wire, HELLO | body)
    return UpstreamCall(hosted, {"model": "m", **(chat or {})}, 0.0, "req", native=native)


def sent(body: dict[str, Any], chat: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    written = native_body(call(body, chat, **model), is_stream=False)
    assert written.pop("store") is False
    return {name: value for name, value in written.items() if name not in HELLO}


def test_a_field_is_sent_where_the_chat_request_that_was_judged_has_it() -> None:
    body = {"temperature": 0.5, "top_p": 0.5, "unheard_of": 1, "store": True}

    assert sent(body, {"temperature": 0.5}) == {"temperature": 0.5}


def test_a_model_that_thinks_gives_its_thoughts_along_and_gets_back_those_that_say_something() -> (
    None
):
    thinks: dict[str, Any] = {"capabilities": Capabilities(reasoning="effort")}
    summary = [{"type": "summary_text", "text": "Hm."}]
    named = {"type": "reasoning", "id": "rs_1", "summary": summary}
    sealed = {**named, "encrypted_content": "aGk="}
    open_ones = {**named, "content": [{"type": "reasoning_text", "text": "Hm."}]}

    call_of = call({"input": [named, sealed, open_ones], "include": ["x"]}, **thinks)
    body = native_body(call_of, is_stream=False)

    assert body["include"] == ["x", "reasoning.encrypted_content"]
    assert body["input"] == [sealed, open_ones]
    assert "include" not in sent({})


def test_verbosity_that_the_model_refused_is_left_out() -> None:
    text = {"format": {"type": "text"}, "verbosity": "low"}

    assert sent({"text": text})["text"] == {"format": {"type": "text"}}
    assert sent({"text": text}, {"verbosity": "low"})["text"] == text


def test_defaults_fill_in_what_the_caller_left_out_and_no_more() -> None:
    defaults = {"temperature": 0.1, "max_tokens": 9, "verbosity": "low", "top_k": 5}
    asked = {"temperature": 0.5, "text": {"verbosity": "high"}}

    body = sent(asked, {"temperature": 0.5, "verbosity": "high"}, request_defaults=defaults)

    assert body == asked | {"max_output_tokens": 9, "top_k": 5}


def test_the_lowest_limit_is_sent() -> None:
    assert sent({"max_output_tokens": 50}, {"max_tokens": 20}) == {"max_output_tokens": 20}


def test_options_of_streams_are_sent_with_streams() -> None:
    asked = call({"stream": True, "stream_options": {"include_obfuscation": False}})

    assert native_body(asked, is_stream=True)["stream_options"] == {"include_obfuscation": False}
    assert not {"stream", "stream_options"} & native_body(asked, is_stream=False).keys()


def test_each_kind_of_host_has_its_path() -> None:
    openai = OpenAIDialect("p", "https://a.example/v1/", SPEAKS)
    azure = AzureDialect("p", "https://a.example/openai", SPEAKS, "2024-10-21")

    assert openai.url(call({}), is_stream=False) == "https://a.example/v1/responses"
    assert (
        openai.url(call({}, wire="messages"), is_stream=False)
        == "https://a.example/v1/chat/completions"
    )
    assert azure.url(call({}), is_stream=False) == "https://a.example/openai/v1/responses"
    assert "/deployments/up/" in azure.url(call({}, wire="messages"), is_stream=False)
    other = OpenAIDialect("p", "https://a.example/v1", ANY_HOST)
    assert other.url(call({}), is_stream=False) == "https://a.example/v1/chat/completions"


def test_only_openai_speaks_it_unless_it_is_said() -> None:
    assert host_of("openai", "https://api.openai.com/v1", None).speaks_responses
    assert not host_of("azure", "https://a.openai.azure.com", None).speaks_responses
    assert not host_of("openai", "https://openrouter.ai/api/v1", None).speaks_responses


def test_what_was_said_and_called_is_gathered() -> None:
    calls = [
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "+ a"},
    ]
    whole = response(output=[*response()["output"], *calls])

    completion = native_completion(whole)

    message = completion.body["choices"][0]["message"]
    assert message["content"] == "Hello!"
    assert [each["function"]["arguments"] for each in message["tool_calls"]] == ["{}", "+ a"]
    assert completion.native is whole


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter")],
)
def test_why_an_answer_is_incomplete_is_read(details, reason) -> None:
    whole = response(status="incomplete", incomplete_details=details)

    assert native_completion(whole).finish_reason == reason


@pytest.mark.parametrize("counts", [None, [], {"input_tokens": "9"}, {}])
def test_what_counts_nothing_is_no_usage(counts) -> None:
    assert usage_of(counts) is None


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_is_forwarded_but_for_its_end_however_it_is_cut(size) -> None:
    chunks = response_chunks()
    raw = b": begun\n\n" + b"".join(chunks) + b"data: [DONE]\n\n"
    tap = ResponsesTap("p")

    passed = b"".join(tap.feed(raw[start : start + size]) for start in range(0, len(raw), size))

    assert passed + tap.finish() == b": begun\n\n" + b"".join(chunks[:-1])
    assert tap.is_done
    assert tap.usage_event is not None
    assert tap.head == {"id": "0a", "created": 1_700_000_000, "model": "upstream-model"}


def test_a_mark_of_the_end_alone_ends_nothing() -> None:
    tap = ResponsesTap("p")
    chunks = response_chunks()[:4]

    assert tap.feed(b"".join(chunks) + b"data: [DONE]\n\n") == b"".join(chunks)
    assert tap.finish() == b""
    assert tap.error is not None


def test_an_error_that_comes_first_is_the_streams() -> None:
    tap = ResponsesTap("p")
    error = {"code": "rate_limit_exceeded", "message": "slow down"}

    assert tap.feed(named({"type": "response.failed", "response": {"error": error}})) == b""
    assert tap.error is not None
