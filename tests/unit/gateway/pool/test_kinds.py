"""What a model is asked for is told by its name."""

from collections.abc import Mapping

import pytest

from gateway.pool.catalogue import build_models
from gateway.pool.kinds import kind_of
from gateway.settings.config import ConfigurationError, GatewaySettings


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("text-embedding-3-small", "embeddings"),
        ("nomic-embed-text:latest", "embeddings"),
        ("BAAI/bge-m3", "embeddings"),
        ("intfloat/e5-mistral-7b-instruct", "embeddings"),
        ("mistral-embed", "embeddings"),
        ("rerank-v3.5", "rerank"),
        ("BAAI/bge-reranker-v2-m3", "rerank"),
        ("jina-reranker-v2-base-multilingual", "rerank"),
        ("gpt-3.5-turbo-instruct", "completions"),
        ("davinci-002", "completions"),
        ("gpt-4o-mini", "chat"),
        ("claude-sonnet-4-5", "chat"),
        ("meta-llama/Llama-3.1-8B-Instruct", "chat"),
        ("gte5-chat", "chat"),
    ],
)
def test_a_name_tells_the_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def settings(table: Mapping[str, object], kind: str = "openai") -> GatewaySettings:
    providers = {"openai": {"kind": kind, "base_url": "https://api.openai.com/v1"}}
    return GatewaySettings.model_validate(
        {"data_dir": "data", "providers": providers, "models": {"m": table}}
    )


def test_the_catalogue_prices_what_puts_nothing_out() -> None:
    table: dict[str, object] = {"provider": "openai", "upstream_name": "text-embedding-3-small"}
    model = build_models(settings(table))["m"]
    assert (model.kind, model.price.input_nusd_per_mtok) == ("embeddings", 20_000_000)
    assert model.price.output_nusd_per_mtok == 0


def test_a_model_without_a_known_price_is_refused_whatever_its_kind() -> None:
    table: dict[str, object] = {"provider": "openai", "upstream_name": "an-embedding-of-ours"}
    with pytest.raises(ConfigurationError, match="no price"):
        build_models(settings(table))


def test_the_settings_have_the_last_word() -> None:
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0, "search_unit_usd": 0.002}
    model = build_models(settings({"provider": "openai", "kind": "rerank", "price": price}))["m"]
    assert (model.kind, model.price.search_unit_nusd) == ("rerank", 2_000_000)


def test_anthropic_has_no_endpoint_of_another_kind() -> None:
    table: dict[str, object] = {"provider": "openai", "kind": "embeddings"}
    with pytest.raises(ConfigurationError, match="has no endpoint for embeddings"):
        build_models(settings(table, "anthropic"))
