from typing import Any

import pytest

from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import ConfigurationError, ProviderSettings


def table(**fields: Any) -> dict[str, ProviderSettings]:
    return {"p": ProviderSettings.model_validate({"base_url": "http://a", **fields})}


def headers_of(tables: dict[str, ProviderSettings], http: HttpClient) -> Any:
    provider: Any = build_providers(tables, http)["p"]
    return provider.headers


async def test_names_providers_as_their_tables(http: HttpClient) -> None:
    assert build_providers(table(), http)["p"].name == "p"


async def test_azure_needs_a_version(http: HttpClient) -> None:
    with pytest.raises(ConfigurationError, match=r"providers\.p\.api_version"):
        build_providers(table(kind="azure"), http)


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [
        ("openai", "authorization", "Bearer k"),
        ("azure", "api-key", "k"),
        ("anthropic", "x-api-key", "k"),
    ],
)
async def test_sends_the_key_as_the_kind_wants_it(
    http: HttpClient, kind: str, header: str, value: str
) -> None:
    with_key = table(kind=kind, api_key="k", api_version="1")
    without = table(kind=kind, api_version="1")
    assert headers_of(with_key, http)[header] == value
    assert header not in headers_of(without, http)


async def test_the_tables_headers_have_the_last_word(http: HttpClient) -> None:
    extra = {"HTTP-Referer": "https://me", "Authorization": "Basic x"}
    headers = headers_of(table(api_key="k", headers=extra), http)
    assert headers["http-referer"] == "https://me"
    assert headers["authorization"] == "Basic x"
