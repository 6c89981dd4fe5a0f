"""What an operator may say of a cloud, and what is told of it at the start."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from gateway.pool.catalogue import build_models
from gateway.pool.prices import catalogue_entry
from gateway.providers.clouds import fetcher, is_at_aws
from gateway.providers.factory import build_providers
from gateway.providers.fields import admitted_fields, asked_fields, is_admitted
from gateway.providers.http import HttpClient
from gateway.settings.base import ConfigurationError
from gateway.settings.cloud import CloudSettings
from gateway.settings.config import GatewaySettings, ProviderSettings

RUNTIME = "https://bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("cloud", "module"), [("aws", "botocore.auth"), ("google", "google.auth"), ("azure", "azure")]
)
def test_a_library_that_is_missing_ends_the_start_with_the_name_of_its_extra(
    monkeypatch: pytest.MonkeyPatch, cloud: Any, module: str
) -> None:
    for loaded in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError, match=rf"pip install 'waypost\[{cloud}\]'"):
        fetcher("p", RUNTIME, CloudSettings(cloud=cloud))


def test_a_region_that_no_host_names_has_to_be_given() -> None:
    with pytest.raises(ConfigurationError, match=r"providers\.p\.auth\.region: needed"):
        fetcher("p", "https://proxy.example", CloudSettings(cloud="aws"))


@pytest.mark.parametrize(
    ("address", "service"),
    [
        (RUNTIME, "bedrock"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://bedrock-mantle.us-east-1.api.aws/anthropic", "bedrock-mantle"),
    ],
)
def test_the_host_says_what_is_signed_for(
    monkeypatch: pytest.MonkeyPatch, address: str, service: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")

    keys = fetcher("p", address, CloudSettings(cloud="aws"))()
    signed = keys.headers("POST", address, "application/json", b"{}")

    region = address.split(".")[1]
    assert f"/{region}/{service}/aws4_request" in signed["Authorization"]
    assert is_at_aws(address)
    assert "a-secret-key" not in repr(keys)


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ({"cloud": "aws", "scope": "x"}, "`scope` means nothing"),
        ({"cloud": "google", "region": "x"}, "`region` means nothing"),
        ({"cloud": "azure", "profile": "x"}, "`profile` means nothing"),
        ({"cloud": "ibm"}, "Input should be"),
    ],
)
def test_a_setting_of_another_cloud_is_refused(auth: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ProviderSettings.model_validate({"base_url": RUNTIME, "auth": auth})


def test_a_key_and_a_cloud_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="`api_key` or `auth`, not both"):
        ProviderSettings.model_validate(
            {"base_url": RUNTIME, "api_key": "k", "auth": {"cloud": "aws"}}
        )


@pytest.mark.parametrize("kind", ["anthropic-bedrock", "anthropic-vertex"])
def test_claude_at_a_cloud_may_be_sent_what_claude_may_and_lacks_what_it_lacks(kind: str) -> None:
    name = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    price = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}
    settings = GatewaySettings.model_validate(
        {
            "data_dir": "/nowhere",
            "providers": {
                "cloud": {"kind": kind, "base_url": RUNTIME},
                "own": {"kind": "anthropic", "base_url": "https://api.anthropic.com"},
            },
            "models": {
                where: {"provider": where, "upstream_name": name, "price": price}
                for where in ("cloud", "own")
            },
        }
    )

    models = build_models(settings)

    assert models["cloud"].fields == models["own"].fields
    assert models["cloud"].lacks == models["own"].lacks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anthropic_beta", ["context-1m-2025-08-07"]),
        ("anthropic_version", "bedrock-2023-05-31"),
        ("amazon-bedrock-guardrailConfig", {"tagSuffix": "x"}),
        ("performanceConfig", {"latency": "optimized"}),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}]),
    ],
)
def test_fields_that_a_cloud_charges_for_or_that_are_the_gateways_are_refused(
    name: str, value: Any
) -> None:
    for api in ("openai", "anthropic"):
        assert not is_admitted(asked_fields({name: value}), admitted_fields(api, ()))


@pytest.mark.parametrize(
    ("kind", "address", "header"),
    [
        ("anthropic", "https://api.anthropic.com", "x-api-key"),
        ("anthropic", "https://r.services.ai.azure.com/anthropic", "x-api-key"),
        ("anthropic", f"{RUNTIME}/anthropic", "authorization"),
        ("anthropic-bedrock", RUNTIME, "authorization"),
        ("openai", f"{RUNTIME}/openai/v1", "authorization"),
        ("openai", "https://r.openai.azure.com/openai/v1", "authorization"),
    ],
)
async def test_a_key_is_sent_as_the_address_takes_it(kind: Any, address: str, header: str) -> None:
    table = ProviderSettings(kind=kind, base_url=address, api_key=SecretStr("k" * 8))
    http = HttpClient.open()
    try:
        headers = build_providers({"p": table}, http)["p"].headers
    finally:
        await http.aclose()

    assert {"authorization", "x-api-key", "api-key"} & headers.keys() == {header}
    assert ("anthropic-version" in headers) is (kind == "anthropic")


@pytest.mark.parametrize(
    ("catalogue", "name"),
    [
        ("google", "google/gemini-2.5-flash"),
        ("google", "claude-sonnet-4-5@20250929"),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ],
)
def test_the_catalogue_has_prices_under_the_names_of_clouds(catalogue: str, name: str) -> None:
    assert catalogue_entry(catalogue, name, datetime(2026, 11, 1, tzinfo=UTC)) is not None
