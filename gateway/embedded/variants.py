"""The arms of the embedded pool: honest variants of one small model, each with a measured price."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from budget.ledger.amounts import NUSD_PER_USD, TOKENS_PER_MTOK
from gateway.embedded.weights import BASE_MODEL
from gateway.settings.config import ProviderSettings
from gateway.types import Capabilities, HostedModel, ModelPrice

EMBEDDED_PROVIDER = "embedded"
TRAINED_CONTEXT_TOKENS = 8192

# What a cloud's shared virtual CPU costs: the declared price of this machine's time.
USD_PER_CPU_HOUR = 0.04
# CPU seconds per token, one thread, AMD EPYC: medians of benchmarks/embedded_pool.
CPU_S_PER_PROMPT_TOKEN = 0.0059
CPU_S_PER_CACHED_TOKEN = 0.00004
CPU_S_PER_COMPLETION_TOKEN = 0.0122

Example = tuple[str, str]
BRIEF: tuple[Example, ...] = (
    ("What is the capital of Brazil?", "Brasilia"),
    ("Is the sun hot?", "Yes"),
    ("What is the opposite of tall?", "Short"),
    ("Is this review positive or negative? I loved every minute.", "positive"),
    ("Can fish climb trees?", "No"),
    ("Which number is larger, 12 or 45?", "45"),
    ("Is this review positive or negative? It was a complete waste of time.", "negative"),
)
MATHS: tuple[Example, ...] = (
    ("What is 12 + 7?", "12 + 7 = 19"),
    ("43 minus 8 equals what?", "43 - 8 = 35"),
    ("Tom has 5 pens and buys 3 more. How many pens does he have now?", "5 + 3 = 8"),
    ("Calculate 6 x 9.", "6 * 9 = 54"),
    ("A box holds 4 cups. How many cups are in 7 boxes?", "4 * 7 = 28"),
    ("24 sweets are shared by 6 children. How many does each get?", "24 / 6 = 4"),
    ("Sue had 31 cards and lost 12. How many cards are left?", "31 - 12 = 19"),
)
COPY: tuple[Example, ...] = (
    ("Repeat exactly: red green blue", "red green blue"),
    ("Extract the phone number from this text: Call me on 555 0199 after six.", "555 0199"),
    ("Copy this line and write nothing else: every good boy does", "every good boy does"),
    ("Extract the web address from this text: See www.lake.org today.", "www.lake.org"),
    ("Repeat exactly: pen house tree cloud", "pen house tree cloud"),
)
STEPS: tuple[Example, ...] = (
    (
        "How many words are in this list: cat, dog, cow, pig?",
        "1. cat\n2. dog\n3. cow\n4. pig\nAnswer: 4",
    ),
    (
        "Tom has 5 pens and buys 3 more. How many pens does he have now?",
        "Tom starts with 5 pens. He buys 3 more, so he has 5 + 3 = 8 pens.\nAnswer: 8",
    ),
    (
        "A box holds 4 cups. How many cups are in 7 boxes?",
        "One box holds 4 cups. 7 boxes hold 7 * 4 = 28 cups.\nAnswer: 28",
    ),
    ("How many words are in this list: sun, moon?", "1. sun\n2. moon\nAnswer: 2"),
    (
        "Sue had 31 cards and lost 12. How many cards are left?",
        "Sue had 31 cards. She lost 12, so 31 - 12 = 19 cards are left.\nAnswer: 19",
    ),
)


def embedded_models(context_tokens: int = TRAINED_CONTEXT_TOKENS) -> dict[str, HostedModel]:
    """Return the arms by name; `context_tokens` is what the server was given."""
    brief = few_shot_prompt("Answer in one or two words.", BRIEF)
    maths = few_shot_prompt("You are a calculator.", MATHS)
    copy = few_shot_prompt("You repeat text exactly as it is given.", COPY)
    steps = few_shot_prompt("You work step by step.", STEPS)
    arms = (
        _arm("smollm2-135m", None, 256, context_tokens, repeat_penalty=1.1),
        _arm("smollm2-135m-brief", brief, 24, context_tokens),
        _arm("smollm2-135m-maths", maths, 48, context_tokens),
        _arm("smollm2-135m-copy", copy, 128, context_tokens),
        _arm("smollm2-135m-steps", steps, 128, context_tokens),
    )
    return {arm.name: arm for arm in arms}


def few_shot_prompt(instruction: str, examples: Sequence[Example]) -> str:
    """Write a system prompt that goes on with turns of an example conversation.

    The turns are in the model's own chat marks (ChatML): measured on the base model, examples
    inside the instruction are quoted back, examples as turns are followed.
    """
    turns = (
        f"<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n{answer}"
        for query, answer in examples
    )
    return instruction + "".join(turns)


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


def _arm(
    name: str,
    system_prompt: str | None,
    max_tokens: int,
    context_tokens: int,
    **sampling: float,
) -> HostedModel:
    # Greedy: the same query is answered the same, so a measured quality is what callers get.
    defaults: dict[str, Any] = {"temperature": 0.0, "max_tokens": max_tokens, **sampling}
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
