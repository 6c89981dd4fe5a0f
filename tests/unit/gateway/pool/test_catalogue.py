import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.pool.catalogue import build_models, capabilities_of
from gateway.pool.discovery import Discovered
from gateway.settings.config import (
    CapabilitySettings,
    ConfigurationError,
    GatewaySettings,
    ModelSettings,
    ProviderSettings,
)
from gateway.types import Capabilities, ModelPrice

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def settings(models: dict[str, Any], **providers: Any) -> GatewaySettings:
    tables = providers or {"openai": {"base_url": "https://api.openai.com/v1"}}
    return GatewaySettings.model_validate(
        {"data_dir": Path("data"), "models": models, "providers": tables}
    )


def test_builds_a_model_with_the_catalogues_price_and_context() -> None:
    model = build_models(settings({"gpt-4o-mini": {"provider": "openai"}}), now=NOW)["gpt-4o-mini"]
    assert model.upstream_name == "gpt-4o-mini"
    assert model.provider == "openai"
    assert model.price.input_nusd_per_mtok == 150_000_000
    assert model.capabilities == Capabilities(vision=True, context_tokens=128_000)


def test_builds_a_variant_of_a_model() -> None:
    table = {
        "provider": "openai",
        "upstream_name": "gpt-4o-mini",
        "system_prompt": "Be brief.",
        "request_defaults": {"max_tokens": 50},
        "capabilities": {"vision": False, "max_output_tokens": 50},
    }
    model = build_models(settings({"brief": table}), now=NOW)["brief"]
    assert model.name == "brief"
    assert model.upstream_name == "gpt-4o-mini"
    assert model.system_prompt == "Be brief."
    assert model.request_defaults == {"max_tokens": 50}
    assert not model.capabilities.vision
    assert model.capabilities.max_output_tokens == 50


def test_refuses_a_model_without_a_price() -> None:
    local = {"base_url": "http://10.0.0.7:8000/v1"}
    with pytest.raises(ConfigurationError, match=r"models\.llama: no price"):
        build_models(settings({"llama": {"provider": "mine"}}, mine=local), now=NOW)


def test_takes_a_price_from_the_settings() -> None:
    local = {"base_url": "http://10.0.0.7:8000/v1"}
    table = {
        "provider": "mine",
        "price": {"input_usd_per_mtok": 0.25, "output_usd_per_mtok": 0.5},
    }
    models = build_models(settings({"llama": table}, mine=local))
    assert models["llama"].price == ModelPrice(250_000_000, 500_000_000)


def test_does_not_load_the_catalogue_for_a_model_of_which_the_settings_say_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)  # fails where imported
    table = {
        "provider": "openai",
        "price": {"input_usd_per_mtok": 0.25, "output_usd_per_mtok": 0.5},
        "capabilities": {"context_tokens": 8000},
    }
    models = build_models(settings({"gpt-4o-mini": table}))
    assert models["gpt-4o-mini"].capabilities.context_tokens == 8000


def test_a_provider_may_name_its_catalogue() -> None:
    proxy = {"base_url": "http://proxy/v1", "catalogue": "anthropic"}
    models = build_models(settings({"claude-haiku-4-5": {"provider": "p"}}, p=proxy), now=NOW)
    assert models["claude-haiku-4-5"].price.input_nusd_per_mtok == 1_000_000_000


def test_settings_win_over_what_was_discovered() -> None:
    discovered = Discovered(
        {"openai": ProviderSettings(base_url="http://found/v1")},
        {
            "gpt-4o": ModelSettings(provider="openai"),
            "gpt-4o-mini": ModelSettings(provider="openai", system_prompt="found"),
        },
    )
    models = build_models(settings({"gpt-4o-mini": {"provider": "openai"}}), discovered, NOW)
    assert sorted(models) == ["gpt-4o", "gpt-4o-mini"]
    assert models["gpt-4o-mini"].system_prompt is None


def test_refuses_a_discovered_model_without_its_provider() -> None:
    lost = Discovered({}, {"m": ModelSettings(provider="nobody")})
    with pytest.raises(ConfigurationError, match=r"no \[providers\.nobody\] table"):
        build_models(GatewaySettings(data_dir=Path("data")), lost, NOW)


@pytest.mark.parametrize(
    ("name", "tools", "vision", "json_schema"),
    [
        ("gpt-4o-2024-08-06", True, True, True),
        ("gpt-6.1-sol", True, True, True),
        ("openai/gpt-oss-120b", True, False, True),
        ("o1-mini", False, False, False),
        ("o3", True, True, True),
        ("o3-mini", True, False, True),
        ("gpt-3.5-turbo", True, False, False),
        ("gpt-4-turbo", True, True, False),
        ("claude-3-5-haiku-latest", True, True, False),
        ("claude-haiku-5-5", True, True, True),
        ("anthropic/claude-sonnet-5.5", True, True, True),
        ("claude-sonnet-4-0", True, True, False),
        ("google/gemini-3.8-flash", True, True, True),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", True, True, True),
        ("meta-llama/llama-3.2-11b-vision-instruct", True, True, True),
        ("qwen2.5-vl:7b", True, True, True),
        ("Qwen/Qwen3.8-Flash", True, False, True),
        ("deepseek-r1:8b", False, False, True),
        ("smollm2:135m", False, False, True),
        ("something-new", True, False, True),
    ],
)
def test_judges_by_name_what_a_model_takes(
    name: str, *, tools: bool, vision: bool, json_schema: bool
) -> None:
    found = capabilities_of(name, CapabilitySettings(), None)
    assert (found.tools, found.vision, found.json_schema) == (tools, vision, json_schema)


def test_the_settings_have_the_last_word_on_what_a_model_takes() -> None:
    known = CapabilitySettings(tools=True, vision=True, json_schema=True, context_tokens=7)
    found = capabilities_of("o1-mini", known, None)
    assert found == Capabilities(vision=True, context_tokens=7)


@pytest.mark.parametrize(
    ("name", "known", "reasoning"),
    [
        ("o3-mini", None, "effort"),
        ("openai/gpt-5-mini", None, "effort"),
        ("o1-mini", None, None),
        ("gpt-5-chat-latest", None, None),
        ("gpt-4o", None, None),
        ("claude-opus-4-1", None, None),
        ("claude-opus-4-1", "thinking", "thinking"),
        ("gpt-5", "none", None),
    ],
)
def test_knows_how_a_model_is_told_to_think(name, known, reasoning) -> None:
    assert capabilities_of(name, CapabilitySettings(reasoning=known), None).reasoning == reasoning
