"""Which fields of a request a provider may be sent: those known not to change what it charges.

What a call costs is worked out from its tokens and the model's price, and what is held for it from
its prompt, `n` and its output limit. A field that asks the host for another model, a faster lane, a
paid search, or a longer answer under another name breaks both. New ones appear every month, so a
field that is not listed here is refused until the operator allows it (`extra_fields`). Content and
metadata of messages are not fields: they pass.

Sources: https://platform.openai.com/docs/api-reference/chat/create,
https://openrouter.ai/docs/api-reference/parameters, https://platform.claude.com/docs/en/api/messages,
https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html,
https://docs.sglang.ai/basic_usage/sampling_params.html,
https://huggingface.co/docs/text-generation-inference/reference/api_reference,
https://github.com/ggml-org/llama.cpp/tree/master/tools/server, https://api-docs.deepseek.com
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.providers.anthropic_wire import KNOWN_FIELDS
from gateway.types import HostedModel

ALL_FIELDS: Final = "*"
MAX_SHOWN_CHARS: Final = 80

_READ_BY_THE_GATEWAY: Final = frozenset(
    {"conversation", "messages", "model", "previous_response_id"}
)
_OPENAI: Final = _READ_BY_THE_GATEWAY | {
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
}
_COMPATIBLE: Final = _OPENAI | {
    # Sampling: vLLM, SGLang, TGI, llama.cpp, Ollama, OpenRouter, Together, Fireworks, Mistral.
    "do_sample",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "dynatemp_range",
    "early_stopping",
    "length_penalty",
    "min_keep",
    "min_p",
    "min_tokens",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "random_seed",
    "repeat_last_n",
    "repeat_penalty",
    "repetition_penalty",
    "samplers",
    "tfs_z",
    "top_a",
    "top_k",
    "top_n_sigma",
    "typical",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
    # Form of the answer, within its output limit.
    "allowed_token_ids",
    "bad_words",
    "ebnf",
    "grammar",
    "guided_decoding_backend",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "guided_whitespace_pattern",
    "ignore_eos",
    "include_stop_str_in_output",
    "json_schema",
    "n_probs",
    "no_stop_trim",
    "parse_tool_calls",
    "regex",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_regex",
    "stop_token_ids",
    "structured_outputs",
    "watermark",
    "whitespace_pattern",
    # Thinking, within the output limit too.
    "chat_template_kwargs",
    "enable_thinking",
    "include_reasoning",
    "reasoning.effort",
    "reasoning.enabled",
    "reasoning.exclude",
    "reasoning.summary",
    "reasoning_format",
    "separate_reasoning",
    "stream_reasoning",
    "thinking.type",
    "thinking_budget",
    "thinking_forced_open",
    "thinking_token_budget",
    # The prompt; what these add to it is counted with it.
    "add_generation_prompt",
    "add_special_tokens",
    "cache_control",
    "cache_prompt",
    "cache_salt",
    "continue_final_message",
    "documents",
    "n_keep",
    "safe_prompt",
    "truncate",
    "truncate_prompt_tokens",
    # Names of the caller's own, and what is reported back.
    "return_progress",
    "session_id",
    "timings_per_token",
    "trace",
    "usage",
}
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset(_COMPATIBLE),
    "azure": frozenset(_OPENAI),
    # Of OpenAI's fields some are dropped, and some refused in words of its own.
    "anthropic": (KNOWN_FIELDS - {"tools"})
    | _READ_BY_THE_GATEWAY
    | {
        "cache_control",
        "output_config",
        "stop_sequences",
        "thinking.budget_tokens",
        "thinking.display",
        "thinking.type",
        "top_k",
        # Tools that Anthropic describes and the caller runs.
        "tools.bash_20241022",
        "tools.bash_20250124",
        "tools.computer_20241022",
        "tools.computer_20250124",
        "tools.computer_20251124",
        "tools.memory_20250818",
        "tools.text_editor_20241022",
        "tools.text_editor_20250124",
        "tools.text_editor_20250429",
        "tools.text_editor_20250728",
    },
}
"""By the kind of a provider. `PARENT.CHILD` is one field of an object, or one kind of tool."""
_ANY_KIND: Final = frozenset[str]().union(*FIELDS.values())

_NAME: Final = re.compile(r"[^\s.*]+")
_IN_PARTS: Final = frozenset({"reasoning", "thinking", "tools"})
_NOT_DEARER_TIERS: Final = frozenset({"auto", "default", "flex", "on_demand", "standard_only"})
_CALLERS_OWN_TOOLS: Final = frozenset({"custom", "function"})


def admitted_fields(kind: str, extra: Collection[str]) -> frozenset[str] | None:
    """Return the fields that a provider may be sent; None where that is any.

    Args:
        extra: Those that the operator allows; `ALL_FIELDS` among them allows any.
    """
    return None if ALL_FIELDS in extra else FIELDS[kind].union(extra)


def useless_entry(extra: Iterable[str]) -> str | None:
    """Name the first entry of `extra_fields` that no body can ask for; None without one."""
    return next((entry for entry in extra if not _may_be_asked(entry)), None)


def _may_be_asked(entry: str) -> bool:
    if entry == ALL_FIELDS:
        return True
    parent, point, child = entry.partition(".")
    if not _NAME.fullmatch(child if point else parent):
        return False
    if not point:
        return True
    return parent in _IN_PARTS and not (parent == "tools" and child in _CALLERS_OWN_TOOLS)


def asked_fields(body: Mapping[str, Any]) -> frozenset[str]:
    """Name the fields of a body that must be admitted; null counts as left out.

    Fields whose value decides are looked into: of `tools` only those that the host would run itself
    are named.
    """
    asked = {name for name, value in body.items() if value is not None}
    for name in asked & _LOOKS.keys():
        asked.remove(name)
        asked.update(_LOOKS[name](body[name]))
    return frozenset(asked)


def is_admitted(asked: frozenset[str], admitted: frozenset[str] | None) -> bool:
    """Whether each of the `asked` fields, or the object that it is in, is admitted."""
    return admitted is None or asked <= admitted or not _missing(asked, admitted)


def asks_for_extras(body: Mapping[str, Any]) -> bool:
    """Whether a body has fields that no kind of provider is sent without its operator's leave."""
    return not is_admitted(asked_fields(body), _ANY_KIND)


def refusal(body: Mapping[str, Any], models: Sequence[HostedModel]) -> InvalidRequest:
    """Say which field keeps a request from `models`, one or more, and what would allow it."""
    asked = asked_fields(body)
    first = next(model for model in models if not is_admitted(asked, model.fields))
    name = min(_missing(asked, first.fields or frozenset()))[:MAX_SHOWN_CHARS]
    table = first.provider if len(models) == 1 else "NAME"
    return InvalidRequest(
        f"`{name}` may change which model answers or what it costs, so it is not passed on. Leave "
        f"it out, or ask the gateway's operator to name it in `providers.{table}.extra_fields`.",
        param=_parent(name) or name,
    )


def _missing(asked: Iterable[str], admitted: frozenset[str]) -> list[str]:
    return [name for name in asked if name not in admitted and _parent(name) not in admitted]


def _parent(name: str) -> str | None:
    """Name the object that a field is in; any field of a body may have a point in its name."""
    parent, _, child = name.partition(".")
    return parent if child and parent in _LOOKS else None


def _tier(value: object) -> Iterable[str]:
    return () if isinstance(value, str) and value in _NOT_DEARER_TIERS else ("service_tier",)


def _modalities(value: object) -> Iterable[str]:
    is_text = isinstance(value, list) and all(kind == "text" for kind in value)
    return () if is_text else ("modalities",)


def _hosted_tools(value: object) -> Iterable[str]:
    tools = value if isinstance(value, list) else [value]
    kinds = {
        str(tool.get("type") or ("function" if "function" in tool else "unknown"))
        for tool in tools
        if isinstance(tool, dict)
    }
    return [f"tools.{kind}" for kind in kinds - _CALLERS_OWN_TOOLS]


def _children(parent: str) -> Callable[[object], Iterable[str]]:
    def look(value: object) -> Iterable[str]:
        if not isinstance(value, dict):
            return (parent,)
        return [f"{parent}.{name}" for name, part in value.items() if part is not None]

    return look


_LOOKS: Final[Mapping[str, Callable[[object], Iterable[str]]]] = {
    "modalities": _modalities,
    "reasoning": _children("reasoning"),
    "service_tier": _tier,
    "thinking": _children("thinking"),
    "tools": _hosted_tools,
}
