"""Claude at the paths of clouds, and how errors of clouds are judged."""

import orjson
import pytest

from gateway.errors import ProviderError, ProviderMisconfigured, ProviderUnavailable
from gateway.types import Usage
from tests.fakes.clouds import (
    SECRET_KEY,
    aws_error,
    framed,
    framed_answer,
    framed_exception,
    google_error,
    is_signed_for_aws,
)
from tests.fakes.running_cloud import AWS, CLAUDE, Cloud, call, native_call
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    anthropic_message,
    anthropic_stream_chunks,
    json_answer,
)


async def test_the_name_of_a_model_may_be_an_arn_with_slashes(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message())]
    arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"

    await cloud.provider(kind="anthropic-bedrock", auth=AWS).complete(call(arn))

    assert cloud.api.last.path == f"/model/{arn.replace('/', '%2F')}/invoke"
    assert is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", SECRET_KEY)


async def test_what_the_body_says_is_what_bedrock_takes(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message()), framed_answer(anthropic_stream_chunks())]
    provider = cloud.provider(kind="anthropic-bedrock", auth=AWS)

    await provider.complete(call(CLAUDE, max_tokens=7))
    async with provider.stream(call(CLAUDE, max_tokens=7)) as stream:
        forwarded = b"".join([events async for events in stream])

    whole, streamed = cloud.api.requests
    assert whole.body == streamed.body
    assert whole.body == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert streamed.path == f"/model/{CLAUDE}/invoke-with-response-stream"
    assert is_signed_for_aws(streamed, "bedrock", "eu-west-1", SECRET_KEY)
    assert forwarded.count(b"data: ") == 8
    assert stream.usage == Usage(9, 3)


async def test_betas_are_in_the_body_for_bedrock_and_in_a_header_for_vertex(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message())]
    betas = {"anthropic-beta": "context-1m-2025-08-07, interleaved-thinking-2025-05-14"}
    asked = native_call(CLAUDE, **betas)

    for kind, auth in (("anthropic-bedrock", AWS), ("anthropic-vertex", cloud.google)):
        await cloud.provider(kind=kind, auth=auth).complete(asked)

    bedrock, vertex = cloud.api.requests
    assert bedrock.body["anthropic_beta"] == ["interleaved-thinking-2025-05-14"]
    assert "anthropic-beta" not in bedrock.headers
    assert vertex.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert "anthropic_beta" not in vertex.body


async def test_a_stream_in_frames_passes_natively_as_server_sent_events(cloud: Cloud) -> None:
    events = [e for e in anthropic_stream_chunks("Hi") if b"ping" not in e]
    cloud.api.answers = [framed_answer(events)]

    async with cloud.provider(kind="anthropic-bedrock", auth=AWS).stream(
        native_call(CLAUDE)
    ) as stream:
        forwarded = b"".join([each async for each in stream])

    assert stream.is_native
    assert forwarded == b"".join(events[:-1])  # the service writes the last


async def test_claude_on_vertex_is_asked_below_its_model_with_googles_token(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message()), Answer(tuple(anthropic_stream_chunks()))]
    provider = cloud.provider(
        kind="anthropic-vertex",
        base_url=f"{cloud.url}/v1/projects/p/locations/global",
        auth=cloud.google,
    )

    await provider.complete(call("claude-sonnet-4-5@20250929", max_tokens=7))
    async with provider.stream(call("claude-sonnet-4-5@20250929")) as stream:
        forwarded = b"".join([events async for events in stream])

    whole, streamed = cloud.api.requests
    models = "/v1/projects/p/locations/global/publishers/anthropic/models"
    assert whole.path == f"{models}/claude-sonnet-4-5@20250929:rawPredict"
    assert streamed.path == f"{models}/claude-sonnet-4-5@20250929:streamRawPredict"
    assert whole.headers["authorization"] == "Bearer ya29.google-token-1"
    assert "model" not in whole.body
    assert whole.body["anthropic_version"] == "vertex-2023-10-16"
    assert streamed.body["stream"] is True
    assert stream.usage == Usage(9, 3)
    assert b"data: " in forwarded
    assert cloud.issuer.issued == 1


@pytest.mark.parametrize(
    ("name", "status", "expected"),
    [
        ("throttlingException", 429, ProviderUnavailable),
        ("modelStreamErrorException", 503, ProviderUnavailable),
        ("internalServerException", 500, ProviderUnavailable),
    ],
)
async def test_an_exception_in_a_stream_of_frames_is_judged_as_its_status_is(
    cloud: Cloud, name: str, status: int, expected: type[ProviderError]
) -> None:
    cloud.api.answers = [framed_answer([])]
    provider = cloud.provider(kind="anthropic-bedrock", auth=AWS)
    begun = framed(anthropic_stream_chunks("Hel")[:6])

    for frames in ([framed_exception(name, "no")], [*begun, framed_exception(name, "no")]):
        cloud.api.answers = [Answer(tuple(frames))]
        with pytest.raises(expected) as caught:
            async with provider.stream(call(CLAUDE)) as stream:
                [events async for events in stream]
        assert caught.value.upstream_status == status


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (aws_error(429, "Too many requests", "ThrottlingException"), ProviderUnavailable),
        (aws_error(424, "The model failed", "ModelErrorException"), ProviderUnavailable),
        (
            aws_error(404, "Could not resolve it", "ResourceNotFoundException"),
            ProviderMisconfigured,
        ),
        (aws_error(403, "You don't have access", "AccessDeniedException"), ProviderMisconfigured),
        (google_error(429, "Quota exceeded", "RESOURCE_EXHAUSTED"), ProviderUnavailable),
        (google_error(403, "No permission", "PERMISSION_DENIED"), ProviderMisconfigured),
        (google_error(404, "models/x is not found for v1", "NOT_FOUND"), ProviderMisconfigured),
        (google_error(404, "Publisher Model `x` not found.", "NOT_FOUND"), ProviderMisconfigured),
        (anthropic_error(529, "Overloaded", "overloaded_error"), ProviderUnavailable),
    ],
)
async def test_errors_of_clouds_are_judged_by_their_own_names(
    cloud: Cloud, answer: Answer, expected: type[ProviderError]
) -> None:
    cloud.api.answers = [answer]
    with pytest.raises(expected):
        await cloud.provider(api_key="a-key-of-some-length").complete(call())


async def test_a_key_that_google_finds_malformed_is_the_operators_fault(cloud: Cloud) -> None:
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    cloud.api.answers = [
        google_error(400, "API key not valid.", "INVALID_ARGUMENT", details=[reason])
    ]
    with pytest.raises(ProviderMisconfigured):
        await cloud.provider(api_key="a-key-of-some-length").complete(call())


async def test_tools_pass_both_ways_through_frames(cloud: Cloud) -> None:
    used = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}}
    cloud.api.answers = [json_answer(anthropic_message(content=[used], stop_reason="tool_use"))]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

    answer = await cloud.provider(kind="anthropic-bedrock", auth=AWS).complete(
        call(CLAUDE, tools=tools)
    )

    assert cloud.api.last.body["tools"][0]["name"] == "look"
    (called,) = answer.body["choices"][0]["message"]["tool_calls"]
    assert orjson.loads(called["function"]["arguments"]) == {"at": "sky"}
    assert answer.finish_reason == "tool_calls"
