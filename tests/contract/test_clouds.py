"""Providers behind the sign-in of a cloud: its own library, against what the cloud checks."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import ProviderError, ProviderMisconfigured, ProviderUnavailable
from gateway.providers.base import Transit, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.forwarding import Forwarded, forwarding
from gateway.providers.http import HttpClient
from gateway.providers.upstream import HttpProvider
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice, NativeRequest, Usage
from tests.fakes.clocks import ManualClock
from tests.fakes.clouds import (
    ACCESS_KEY,
    SECRET_KEY,
    Issuer,
    aws_error,
    framed,
    framed_answer,
    framed_exception,
    google_error,
    is_signed_for_aws,
)
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    anthropic_error,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    error_answer,
    json_answer,
)

NOW_S = 1000.0
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
AWS_ENVIRONMENT = re.compile(r"(AWS|AZURE|GOOGLE|IDENTITY|MSI|GCE)_\w+|CLOUDSDK_\w+")


@dataclass
class Cloud:
    """A cloud that lets one gateway in.

    Attributes:
        issuer: Of its credentials.
        api: What scripts its models' answers.
        account: The file of a Google service account.
    """

    issuer: Issuer
    api: ScriptedUpstream
    url: str
    account: Path
    http: HttpClient
    clock: ManualClock

    def provider(self, **settings: Any) -> HttpProvider:
        """Build a provider of it."""
        table = ProviderSettings.model_validate(
            {"base_url": self.url, "max_retries": 0, **settings}
        )
        return build_providers({"cloud": table}, self.http, clock=self.clock)["cloud"]


@pytest.fixture
async def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    issuer, api = Issuer(), ScriptedUpstream(json_answer(completion()))
    for name in list(os.environ):
        if AWS_ENVIRONMENT.fullmatch(name):
            monkeypatch.delenv(name)
    http = HttpClient.open()
    async with serve(issuer) as issuing, serve(api) as url:
        environment = {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "profiles"),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{issuing}/role",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-this-pod",
            "IDENTITY_ENDPOINT": f"{issuing}/identity",
            "IDENTITY_HEADER": "of-this-app",
            "GCE_METADATA_HOST": "127.0.0.1:9",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        account = issuer.service_account(tmp_path, issuing)
        yield Cloud(issuer, api, url, account, http, ManualClock(NOW_S))
    await http.aclose()


AWS = {"cloud": "aws", "region": "eu-west-1"}


def google(cloud: Cloud) -> dict[str, Any]:
    return {"cloud": "google", "credentials_file": cloud.account}


def call(upstream_name: str = "up", **body: Any) -> UpstreamCall:
    model = HostedModel("fast", "cloud", upstream_name, ModelPrice(1, 1))
    asked = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], **body}
    return UpstreamCall(model, asked, NOW_S + 1e6, "req-1")


async def test_a_request_to_aws_has_the_signature_that_aws_makes_of_it(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message())]

    provider = cloud.provider(kind="anthropic-bedrock", auth=AWS)
    answer = await provider.complete(call(CLAUDE))

    assert answer.usage == Usage(9, 3)
    assert cloud.api.last.path == f"/model/{CLAUDE}/invoke"
    assert cloud.api.last.headers["x-amz-security-token"] == "aws-session-token-1"
    assert is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", SECRET_KEY)
    assert not is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", "another key")


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
    body = {"max_tokens": 7, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"anthropic-beta": "context-1m-2025-08-07, interleaved-thinking-2025-05-14"}
    asked = UpstreamCall(
        HostedModel("fast", "cloud", CLAUDE, ModelPrice(1, 1)),
        body,
        NOW_S + 1e6,
        "req-1",
        native=NativeRequest("messages", body, headers),
    )

    for kind, auth in (("anthropic-bedrock", AWS), ("anthropic-vertex", google(cloud))):
        await cloud.provider(kind=kind, auth=auth).complete(asked)

    bedrock, vertex = cloud.api.requests
    assert bedrock.body["anthropic_beta"] == ["interleaved-thinking-2025-05-14"]
    assert "anthropic-beta" not in bedrock.headers
    assert vertex.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert "anthropic_beta" not in vertex.body


async def test_a_stream_in_frames_passes_natively_as_server_sent_events(cloud: Cloud) -> None:
    events = [e for e in anthropic_stream_chunks("Hi") if b"ping" not in e]
    cloud.api.answers = [framed_answer(events)]
    body = {"max_tokens": 7, "messages": [{"role": "user", "content": "Hi"}]}
    asked = UpstreamCall(
        HostedModel("fast", "cloud", CLAUDE, ModelPrice(1, 1)),
        body,
        NOW_S + 1e6,
        "req-1",
        native=NativeRequest("messages", body),
    )

    async with cloud.provider(kind="anthropic-bedrock", auth=AWS).stream(asked) as stream:
        forwarded = b"".join([each async for each in stream])

    assert stream.is_native
    assert forwarded == b"".join(events[:-1])  # the service writes the last


async def test_claude_on_vertex_is_asked_below_its_model_with_googles_token(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message()), Answer(tuple(anthropic_stream_chunks()))]
    provider = cloud.provider(
        kind="anthropic-vertex",
        base_url=f"{cloud.url}/v1/projects/p/locations/global",
        auth=google(cloud),
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


async def test_an_openai_compatible_endpoint_takes_each_clouds_credentials(cloud: Cloud) -> None:
    shown = {}
    for name, auth in (("aws", AWS), ("google", google(cloud)), ("azure", {"cloud": "azure"})):
        await cloud.provider(auth=auth).complete(call())
        shown[name] = cloud.api.last

    assert is_signed_for_aws(shown["aws"], "bedrock", "eu-west-1", SECRET_KEY)
    assert shown["google"].headers["authorization"].startswith("Bearer ya29.google-token-")
    assert shown["azure"].headers["authorization"].startswith("Bearer entra-token-")
    assert {each.path for each in shown.values()} == {"/chat/completions"}


async def test_azure_by_deployment_takes_a_token_of_entra(cloud: Cloud) -> None:
    provider = cloud.provider(kind="azure", api_version="2024-10-21", auth={"cloud": "azure"})

    await provider.complete(call())

    assert cloud.api.last.headers["authorization"] == "Bearer entra-token-1"
    assert "api-key" not in cloud.api.last.headers
    assert cloud.api.last.path == "/openai/deployments/up/chat/completions"


async def test_what_is_passed_through_is_signed_in_too(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer({"data": []})]
    asked = Forwarded(
        method="POST",
        path="/embeddings",
        upstream_name="up",
        name="up",
        request_id="req-1",
        body=b'{"input":"Hi"}',
        content_type="application/json",
        deadline_s=NOW_S + 1e6,
        stream_limit_s=60,
        form="json",
        transit=Transit(),
    )

    async with forwarding(cloud.provider(auth=AWS), asked) as answer:
        assert answer.status == 200

    assert is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", SECRET_KEY)


async def test_keys_of_the_environment_and_of_a_profile_are_found(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = "[second]\naws_access_key_id = AKSECOND\naws_secret_access_key = of-the-second\n"
    (tmp_path / "profiles").write_text(profile)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-first")

    for auth, secret in ((AWS, "of-the-first"), ({**AWS, "profile": "second"}, "of-the-second")):
        await cloud.provider(auth=auth).complete(call())
        assert is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", secret)
        assert "x-amz-security-token" not in cloud.api.last.headers
    assert cloud.issuer.issued == 0


async def test_googles_default_credentials_are_found(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(cloud.account))

    await cloud.provider(auth={"cloud": "google"}).complete(call())

    assert cloud.api.last.headers["authorization"] == "Bearer ya29.google-token-1"


async def test_credentials_are_fetched_once_for_all_requests(cloud: Cloud) -> None:
    provider = cloud.provider(auth=google(cloud))

    await asyncio.gather(*(provider.complete(call()) for _ in range(5)))

    assert cloud.issuer.issued == 1


async def test_credentials_are_renewed_behind_requests_before_they_end(cloud: Cloud) -> None:
    provider = cloud.provider(auth=google(cloud))
    await provider.complete(call())

    cloud.clock.advance(3600 - 200)
    await provider.complete(call())
    assert cloud.api.last.headers["authorization"] == "Bearer ya29.google-token-1"
    await until(lambda: cloud.issuer.issued == 2)
    await until(lambda: "ya29.google-token-2" in provider.secrets)
    await provider.complete(call())

    assert cloud.api.last.headers["authorization"] == "Bearer ya29.google-token-2"


EXPIRED = {
    "aws": (AWS, aws_error(403, "The security token is expired", "ExpiredTokenException")),
    "google": (None, google_error(401, "Request had invalid credentials.", "UNAUTHENTICATED")),
    "azure": ({"cloud": "azure"}, error_answer(401, "Access token has expired.", code="401")),
}


@pytest.mark.parametrize("name", sorted(EXPIRED))
async def test_a_request_whose_credentials_have_ended_is_sent_once_more_with_others(
    cloud: Cloud, name: str
) -> None:
    auth, refusal = EXPIRED[name]
    provider = cloud.provider(auth=auth or google(cloud))
    await provider.complete(call())
    cloud.clock.advance(60)
    cloud.api.answers = [refusal, json_answer(completion())]

    await provider.complete(call())

    assert cloud.issuer.issued == 2
    _, refused, answered = cloud.api.requests
    assert refused.raw == answered.raw
    assert refused.headers["authorization"] != answered.headers["authorization"]


@pytest.mark.parametrize("name", sorted(EXPIRED))
async def test_credentials_that_are_refused_are_the_operators_fault_and_stay_secret(
    cloud: Cloud, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    auth, _ = EXPIRED[name]
    provider = cloud.provider(auth=auth or google(cloud))
    await provider.complete(call())
    quoted = " ".join(provider.secrets)
    cloud.api.answers = [error_answer(403, f"not with {quoted}", type="permission_error")]

    for _ in range(3):
        with pytest.raises(ProviderMisconfigured) as caught:
            await provider.complete(call())
        assert not any(secret in str(caught.value) for secret in provider.secrets)

    assert len(cloud.api.requests) == 4  # new credentials would not help, so none are fetched
    assert cloud.issuer.issued == 1
    assert not any(secret in caplog.text for secret in provider.secrets)


@pytest.mark.parametrize("name", sorted(EXPIRED))
async def test_secrets_of_credentials_are_cut_out_of_what_a_provider_says(
    cloud: Cloud, name: str
) -> None:
    auth, _ = EXPIRED[name]
    provider = cloud.provider(auth=auth or google(cloud))
    await provider.complete(call())
    quoted = " ".join(provider.secrets)
    cloud.api.answers = [error_answer(400, f"you sent {quoted}", type="invalid_request_error")]

    with pytest.raises(ProviderError) as caught:
        await provider.complete(call())

    told = f"{caught.value} {getattr(caught.value, 'body', None)}"
    assert "you sent" in told
    assert len(provider.secrets) > 1  # beside the address
    assert not any(secret in told for secret in provider.secrets)


async def test_without_credentials_no_request_is_sent_and_the_service_is_not_pressed(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.issuer.is_down = True
    provider = cloud.provider(kind="anthropic-bedrock", auth=AWS)

    for _ in range(3):
        with pytest.raises(ProviderMisconfigured) as caught:
            await provider.complete(call(CLAUDE))

    assert "no credentials for provider 'cloud'" in str(caught.value)
    assert cloud.api.requests == []
    assert caplog.text.count("no credentials could be had") == 1
    cloud.issuer.is_down = False
    cloud.clock.advance(10)
    cloud.api.answers = [json_answer(anthropic_message())]
    await provider.complete(call(CLAUDE))


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
