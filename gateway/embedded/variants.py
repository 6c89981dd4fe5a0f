"""The arms of the embedded pool: honest variants of one small model, each with a measured price."""

from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from gateway.config import ProviderSettings
from gateway.embedded.weights import BASE_MODEL
from gateway.types import NUSD_PER_USD, TOKENS_PER_MTOK, Capabilities, HostedModel, ModelPrice

EMBEDDED_PROVIDER = "embedded"
TRAINED_CONTEXT_TOKENS = 8192

# What a cloud's shared virtual CPU costs: the declared price of this machine's time.
USD_PER_CPU_HOUR = 0.04
# CPU seconds per token with two threads, measured by benchmarks/embedded_pool.
CPU_S_PER_PROMPT_TOKEN = 0.0075
CPU_S_PER_CACHED_TOKEN = 0.00002
CPU_S_PER_COMPLETION_TOKEN = 0.021

STEPS_PROMPT = "Think step by step. Then write the last line as 'Answer: ' and the answer."
BRIEF_PROMPT = "Answer with the answer only: one word, number or line. No explanation."


def embedded_models(context_tokens: int = TRAINED_CONTEXT_TOKENS) -> dict[str, HostedModel]:
    """Return the arms by name; `context_tokens` is what the server was given."""
    arms = (
        _arm("smollm2-135m", None, 512, context_tokens),
        _arm("smollm2-135m-brief", BRIEF_PROMPT, 48, context_tokens),
        _arm("smollm2-135m-steps", STEPS_PROMPT, 768, context_tokens),
    )
    return {arm.name: arm for arm in arms}


def embedded_provider_settings(
    base_url: str, api_key: str, max_concurrency: int = 32
) -> ProviderSettings:
    """Describe the running server to the adapter for OpenAI-compatible hosts."""
    return ProviderSettings(
        kind="openai",
        base_url=base_url,
        api_key=SecretStr(api_key),
        max_concurrency=max_concurrency,
        # One slow machine: a long prompt or a full queue takes its time to the first byte.
        first_byte_timeout_s=300.0,
        # A killed child is back within a second or two.
        breaker_cooldown_s=2.0,
        max_retries=4,
    )


def embedded_price() -> ModelPrice:
    """Price one token by the CPU time it takes."""
    return ModelPrice(
        input_nusd_per_mtok=_nusd_per_mtok(CPU_S_PER_PROMPT_TOKEN),
        output_nusd_per_mtok=_nusd_per_mtok(CPU_S_PER_COMPLETION_TOKEN),
        cached_input_nusd_per_mtok=_nusd_per_mtok(CPU_S_PER_CACHED_TOKEN),
    )


def _nusd_per_mtok(cpu_s_per_token: float) -> int:
    return round(cpu_s_per_token * USD_PER_CPU_HOUR / 3600 * NUSD_PER_USD * TOKENS_PER_MTOK)


def _arm(name: str, system_prompt: str | None, max_tokens: int, context_tokens: int) -> HostedModel:
    # Greedy: the same query is answered the same, so a measured quality is what callers get.
    defaults: dict[str, Any] = {"temperature": 0.0, "max_tokens": max_tokens}
    return HostedModel(
        name=name,
        provider=EMBEDDED_PROVIDER,
        upstream_name=BASE_MODEL,
        price=embedded_price(),
        capabilities=Capabilities(
            # llama.cpp constrains decoding to a JSON schema; 135 M parameters call no tools.
            tools=False,
            vision=False,
            json_schema=True,
            context_tokens=min(context_tokens, TRAINED_CONTEXT_TOKENS),
        ),
        system_prompt=system_prompt,
        request_defaults=MappingProxyType(defaults),
    )
