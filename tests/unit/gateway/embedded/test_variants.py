from pathlib import Path

import pytest

from gateway.embedded import routers
from gateway.embedded.routers import packaged_router
from gateway.embedded.variants import (
    CPU_S_PER_COMPLETION_TOKEN,
    EMBEDDED_PROVIDER,
    TRAINED_CONTEXT_TOKENS,
    USD_PER_CPU_HOUR,
    embedded_models,
    embedded_price,
    embedded_provider_settings,
    few_shot_prompt,
)
from gateway.embedded.weights import BASE_MODEL
from gateway.settings.config import EmbeddedSettings
from gateway.types import Usage


def test_every_arm_is_the_same_base_model_asked_in_another_way() -> None:
    arms = embedded_models()
    assert {arm.upstream_name for arm in arms.values()} == {BASE_MODEL}
    assert {arm.provider for arm in arms.values()} == {EMBEDDED_PROVIDER}
    asked = [(arm.system_prompt, dict(arm.request_defaults)) for arm in arms.values()]
    assert len({repr(way) for way in asked}) == len(arms)
    assert all(name == arm.name for name, arm in arms.items())


def test_every_arm_is_greedy_and_ends() -> None:
    for arm in embedded_models().values():
        assert arm.request_defaults["temperature"] == 0.0
        assert 0 < arm.request_defaults["max_tokens"] <= 256


def test_the_price_is_the_cpu_time_of_the_tokens() -> None:
    usage = Usage(prompt_tokens=0, completion_tokens=1_000_000)
    usd = CPU_S_PER_COMPLETION_TOKEN * 1_000_000 / 3600 * USD_PER_CPU_HOUR
    assert embedded_price().cost_nusd(usage) == pytest.approx(usd * 1e9)


def test_a_cached_token_costs_less_than_a_read_one_and_more_than_nothing() -> None:
    price = embedded_price()
    assert price.cached_input_nusd_per_mtok is not None
    assert 0 < price.cached_input_nusd_per_mtok < price.input_nusd_per_mtok


@pytest.mark.parametrize(("given", "expected"), [(2048, 2048), (1_000_000, TRAINED_CONTEXT_TOKENS)])
def test_the_context_is_what_both_server_and_model_can_take(given: int, expected: int) -> None:
    for arm in embedded_models(given).values():
        assert arm.capabilities.context_tokens == expected


def test_the_examples_become_turns_before_the_callers() -> None:
    prompt = few_shot_prompt("Be brief.", [("Up?", "Down")])
    assert prompt == (
        "Be brief.<|im_end|>\n<|im_start|>user\nUp?<|im_end|>\n<|im_start|>assistant\nDown"
    )


def test_the_provider_is_an_openai_compatible_host_on_this_machine() -> None:
    settings = embedded_provider_settings("http://127.0.0.1:9/v1", "key", 16)
    assert settings.kind == "openai"
    assert settings.max_concurrency == 16
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "key"


def test_a_router_ships_for_an_encoder_or_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "DATA", tmp_path)
    (tmp_path / "router-static-1.safetensors").write_bytes(b"")
    ships, none = EmbeddedSettings(), EmbeddedSettings(router=False)
    assert packaged_router("static-1", ships) == tmp_path / "router-static-1.safetensors"
    assert packaged_router("static-1", none) is None
    assert packaged_router("other-1", ships) is None
