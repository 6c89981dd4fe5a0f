"""Translates chat completions to Anthropic's Messages API and back; pure functions.

https://platform.claude.com/docs/en/api/messages
What is translated, dropped and refused is listed in docs/reference/providers.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.exact_json import dumps
from gateway.providers.anthropic_messages import conversation, rejected, with_cache_mark
from gateway.providers.anthropic_models import Traits, traits_of
from gateway.providers.anthropic_schemas import enforced_schema, tool_schema
from gateway.providers.lacks import may_think
from gateway.providers.usage import count_of, object_of, whole_usage
from gateway.types import Usage

MIN_THINKING_TOKENS = 1024
THINKING_TOKENS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
JSON_ONLY = "Answer with a single valid JSON object and nothing else."

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_HAS_NO_EQUIVALENT = frozenset(
    {"logit_bias", "audio", "web_search_options", "functions", "function_call", "top_logprobs"}
)
# Fields of OpenAI's that are translated below, or change nothing that a caller can rely on.
KNOWN_FIELDS = _HAS_NO_EQUIVALENT | {
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "user",
    "safety_identifier",
    "metadata",
    "n",
    "logprobs",
    "modalities",
    "seed",
    "store",
    "service_tier",
    "presence_penalty",
    "frequency_penalty",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
}


def to_anthropic(
    body: Mapping[str, Any],
    model: str,
    max_output_tokens: int | None,
    dropped: set[str] | None = None,
) -> dict[str, Any]:
    """Translate a chat-completions body for `model`, an upstream name.

    Unknown fields pass, so that Anthropic's own (``thinking``, ``top_k``) can be used.

    Args:
        dropped: Gets the names of fields that are left out because of what else is asked.

    Raises:
        ProviderRejected: Anthropic has no equivalent of something that changes the answer.
    """
    _refuse_the_impossible(body)
    traits = traits_of(model)
    dropped = set() if dropped is None else dropped
    system, messages = conversation(body.get("messages"))
    translated = {name: value for name, value in body.items() if name not in KNOWN_FIELDS}
    translated["model"] = model
    translated["messages"] = messages
    if body.get("stream"):
        translated["stream"] = True
    _add_tools(translated, body)
    _add_output(translated, body, system)
    if system:
        translated["system"] = system
    if _has_budget(translated) and not _may_think(translated, body):
        del translated["thinking"]
        dropped.add("thinking")
    _add_limits(translated, body, traits, max_output_tokens)
    if traits.takes_sampling:
        dropped |= _add_sampling(translated, body, traits)
    dropped |= _add_stops(translated, body)
    _add_user(translated, body)
    return translated


def from_anthropic(body: Mapping[str, Any], created: int) -> dict[str, Any]:
    """Translate a whole message to a `chat.completion`; `created` is in Unix seconds.

    Raises:
        ValueError: It is not a message.
    """
    if body.get("type") != "message":
        raise ValueError("not a message")
    reason = finish_reason_of(body.get("stop_reason"))
    choice = {
        "index": 0,
        "message": _answer(body["content"]),
        "logprobs": None,
        "finish_reason": reason,
    }
    return {
        "id": body.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": body.get("model"),
        "choices": [choice],
        "usage": usage_to_openai(usage_of(body.get("usage")) or Usage(0, 0)),
    }


def finish_reason_of(stop_reason: object) -> str | None:
    """Translate a stop reason; unknown ones count as an ordinary end."""
    return _FINISH_REASONS.get(str(stop_reason), "stop") if stop_reason else None


def usage_of(reported: object) -> Usage | None:
    """Read Anthropic's counts, where input excludes what the prompt cache held."""
    if not isinstance(reported, dict):
        return None
    cached = count_of(reported, "cache_read_input_tokens")
    kept = object_of(reported, "cache_creation")
    written_1h = count_of(kept, "ephemeral_1h_input_tokens")
    written = max(
        count_of(reported, "cache_creation_input_tokens"),
        count_of(kept, "ephemeral_5m_input_tokens") + written_1h,
    )
    return whole_usage(
        prompt=count_of(reported, "input_tokens") + cached + written,
        completion=count_of(reported, "output_tokens"),
        cached=cached,
        cache_write=written,
        cache_write_1h=written_1h,
        reasoning=count_of(object_of(reported, "output_tokens_details"), "thinking_tokens"),
    )


def usage_to_openai(usage: Usage) -> dict[str, Any]:
    """Write `usage` as OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _refuse_the_impossible(body: Mapping[str, Any]) -> None:
    for name in sorted(_HAS_NO_EQUIVALENT):
        # Empty options ask for a search too.
        if body.get(name) or (name == "web_search_options" and body.get(name) is not None):
            raise rejected(f"{name} is not supported by Anthropic's models; leave it out", name)
    if (body.get("n") or 1) != 1:
        raise rejected("n must be 1: Anthropic's models give one choice", "n")
    if body.get("logprobs"):
        raise rejected("logprobs is not supported by Anthropic's models; leave it out", "logprobs")
    if set(body.get("modalities") or ()) - {"text"}:
        raise rejected("modalities must be text only with Anthropic's models", "modalities")


def _add_tools(translated: dict[str, Any], body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if not tools:
        return
    translated["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    choice = _tool_choice(body.get("tool_choice"))
    is_serial = body.get("parallel_tool_calls") is False
    if is_serial and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    if choice:
        translated["tool_choice"] = choice


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        kind = tool.get("type")
        raise rejected(f"tools of type {kind!r} are not supported; use function", where)
    function = tool["function"]
    schema = tool_schema(function.get("parameters"), is_strict=function.get("strict") is True)
    translated = {"name": function["name"], "input_schema": schema}
    for name in ("description", "strict"):
        if function.get(name):
            translated[name] = function[name]
    return with_cache_mark(translated, tool)


def _tool_choice(choice: Any) -> dict[str, Any]:
    if choice is None:
        return {}
    if isinstance(choice, str):
        kinds = {"auto": "auto", "required": "any", "none": "none"}
        if choice in kinds:
            return {"type": kinds[choice]}
    elif choice.get("type") == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    raise rejected("tool_choice must be auto, required, none or a function", "tool_choice")


def _add_output(
    translated: dict[str, Any], body: Mapping[str, Any], system: list[dict[str, Any]]
) -> None:
    """Ask for JSON: by schema where there is one, else in words, as there is no JSON mode."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = enforced_schema(wanted["json_schema"].get("schema") or {"type": "object"})
        given = translated.get("output_config") or {}
        translated["output_config"] = {
            **given,
            "format": {"type": "json_schema", "schema": schema},
        }
    elif wanted.get("type") == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})


def _add_limits(
    translated: dict[str, Any],
    body: Mapping[str, Any],
    traits: Traits,
    max_output_tokens: int | None,
) -> None:
    """Set the output limit and how much of it may be thought."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    default = min(traits.default_max_tokens, max_output_tokens or traits.default_max_tokens)
    translated["max_tokens"] = asked or default
    effort = body.get("reasoning_effort")
    if not effort or "thinking" in translated:
        return
    if effort != "none" and effort not in THINKING_TOKENS:
        known = ", ".join(THINKING_TOKENS)
        raise rejected(
            f"reasoning_effort {effort!r} is not supported; use none, {known}", "reasoning_effort"
        )
    if traits.thinks_adaptively:
        _add_adaptive_thinking(translated, effort, traits)
    elif traits.takes_budget and effort != "none" and _may_think(translated, body):
        if not asked:
            translated["max_tokens"] = default + THINKING_TOKENS[effort]
        budget = min(THINKING_TOKENS[effort], translated["max_tokens"] - 1)
        if budget >= MIN_THINKING_TOKENS:
            translated["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _add_adaptive_thinking(translated: dict[str, Any], effort: str, traits: Traits) -> None:
    if effort == "none" and not traits.thinks_always:
        translated["thinking"] = {"type": "disabled"}
        return
    if not traits.thinks_always:
        translated["thinking"] = {"type": "adaptive"}
    if effort in ("none", "minimal"):
        effort = "low"
    level = effort if effort in traits.efforts else traits.efforts[-1]
    translated["output_config"] = {**(translated.get("output_config") or {}), "effort": level}


def _has_budget(translated: Mapping[str, Any]) -> bool:
    thinking = translated.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"


def _may_think(translated: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether a token budget for thinking is admissible; it is not with a forced tool."""
    is_forced = translated.get("tool_choice", {}).get("type") in ("any", "tool")
    return not is_forced and may_think(body["messages"])


def _add_sampling(translated: dict[str, Any], body: Mapping[str, Any], traits: Traits) -> set[str]:
    """Copy temperature, whose range ends at 1 here, and top_p where it means anything.

    Returns:
        The fields that are left out.
    """
    temperature, top_p = body.get("temperature"), body.get("top_p")
    top_p = None if top_p in (1, 1.0) else top_p
    if "thinking" in translated and translated["thinking"].get("type") != "disabled":
        translated.pop("top_k", None)
        given = {"temperature": temperature, "top_p": top_p, "top_k": body.get("top_k")}
        return {name for name, value in given.items() if value is not None}
    dropped = set()
    if temperature is not None:
        translated["temperature"] = min(temperature, 1)
        if top_p is not None and traits.takes_one_sampling:
            top_p = None
            dropped.add("top_p")
    if top_p is not None:
        translated["top_p"] = top_p
    return dropped


def _add_stops(translated: dict[str, Any], body: Mapping[str, Any]) -> set[str]:
    """Copy where to stop, except for blanks, which Anthropic refuses; returns what is left out."""
    given = body.get("stop") or ()
    stops = [given] if isinstance(given, str) else list(given)
    taken = [stop for stop in stops if not isinstance(stop, str) or stop.strip()]
    if taken:
        translated["stop_sequences"] = taken
    return {"stop"} if any(isinstance(stop, str) and stop.isspace() for stop in stops) else set()


def _add_user(translated: dict[str, Any], body: Mapping[str, Any]) -> None:
    metadata = body.get("metadata") or {}
    user = body.get("safety_identifier") or body.get("user") or metadata.get("user_id")
    if isinstance(user, str):
        translated["metadata"] = {"user_id": user}


def _answer(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [block["text"] for block in blocks if block.get("type") == "text"]
    thoughts = [block.get("thinking") or "" for block in blocks if block.get("type") == "thinking"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dumps(block.get("input") or {}).decode()
    return {
        "id": block["id"],
        "type": "function",
        "function": {"name": block["name"], "arguments": arguments},
    }
