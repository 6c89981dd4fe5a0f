"""Providers behind the sign-in of a cloud: its own library, against what the cloud checks."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import ProviderError, ProviderMisconfigured
from gateway.providers.base import Transit
from gateway.providers.forwarding import Forwarded, forwarding
from gateway.types import Usage
from tests.fakes.clouds import (
    ACCESS_KEY,
    SECRET_KEY,
    aws_error,
    google_error,
    is_signed_for_aws,
)
from tests.fakes.running_cloud import AWS, CLAUDE, NOW_S, Cloud, call
from tests.fakes.turns import until
from tests.fakes.upstream import anthropic_message, completion, error_answer, json_answer


async def test_a_request_to_aws_has_the_signature_that_aws_makes_of_it(cloud: Cloud) -> None:
    cloud.api.answers = [json_answer(anthropic_message())]

    provider = cloud.provider(kind="anthropic-bedrock", auth=AWS)
    answer = await provider.complete(call(CLAUDE))

    assert answer.usage == Usage(9, 3)
    assert cloud.api.last.path == f"/model/{CLAUDE}/invoke"
    assert cloud.api.last.headers["x-amz-security-token"] == "aws-session-token-1"
    assert is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", SECRET_KEY)
    assert not is_signed_for_aws(cloud.api.last, "bedrock", "eu-west-1", "another key")


async def test_an_openai_compatible_endpoint_takes_each_clouds_credentials(cloud: Cloud) -> None:
    shown = {}
    for name, auth in (("aws", AWS), ("google", cloud.google), ("azure", {"cloud": "azure"})):
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
    provider = cloud.provider(auth=cloud.google)

    await asyncio.gather(*(provider.complete(call()) for _ in range(5)))

    assert cloud.issuer.issued == 1


async def test_credentials_are_renewed_behind_requests_before_they_end(cloud: Cloud) -> None:
    provider = cloud.provider(auth=cloud.google)
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
    provider = cloud.provider(auth=auth or cloud.google)
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
    provider = cloud.provider(auth=auth or cloud.google)
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
    provider = cloud.provider(auth=auth or cloud.google)
    await provider.complete(call())
    quoted = " ".join(provider.secrets)
    cloud.api.answers = [error_answer(400, f"you sent {quoted}", type="invalid_request_error")]

    with pytest.raises(ProviderError) as caught:
        await provider.complete(call())

    told = f"{caught.value} {getattr(caught.value, 'body', None)}"
    assert "you sent" in told
    assert len(provider.secrets) > 1  # beside the address
    assert not any(secret in told for secret in provider.secrets)


async def test_an_environment_without_any_keys_is_the_operators_fault(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")

    with pytest.raises(ProviderMisconfigured):
        await cloud.provider(auth=AWS).complete(call())

    assert "AWS's usual places hold no credentials" in caplog.text


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
