"""Writes answers in the form of Anthropic's Messages: whole ones, and the parts of streamed ones.

https://platform.claude.com/docs/en/api/messages
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from gateway.exact_json import dumps, exact
from gateway.nesting import is_too_deep
from gateway.types import Usage

_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_TOOL_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_KEPT_OF_ID: Final = 40


def message_of(answer: Mapping[str, Any], wants: "Wanted") -> dict[str, Any]:
    """Translate a `chat.completion` to a message, without its usage."""
    choices = answer.get("choices")
    choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
    said = _object(choice.get("message"))
    blocks: list[dict[str, Any]] = []
    thoughts = thoughts_in(said)
    if thoughts and wants.thoughts:
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    blocks += [{"type": "text", "text": text} for text in texts_in(said)]
    calls = said.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        blocks.append(_tool_use(_object(call), answer.get("id"), position))
    return {
        "id": answer.get("id"),
        "type": "message",
        "role": "assistant",
        "model": answer.get("model"),
        "content": blocks,
        **stop_of(choice, wants, calls=bool(calls), refused=bool(said.get("refusal"))),
    }


def _tool_use(call: Mapping[str, Any], answer_id: object, position: int) -> dict[str, Any]:
    function = _object(call.get("function"))
    return {
        "type": "tool_use",
        "id": tool_id(call.get("id"), answer_id, position),
        "name": str(function.get("name") or ""),
        "input": tool_input(arguments_in(function)),
    }


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class Wanted:
    """What a request, as it was sent, wants to see of an answer.

    Attributes:
        thoughts: It asks to think, so it expects blocks of thoughts. Others may take the first
            block to be the text.
        stops: Its stop sequences.
    """

    __slots__ = ("stops", "thoughts")

    def __init__(self, body: Mapping[str, Any]) -> None:
        thinking = body.get("thinking")
        kind = thinking.get("type") if isinstance(thinking, dict) else None
        self.thoughts = kind not in (None, "disabled")
        self.stops: Iterable[Any] = body.get("stop_sequences") or ()


def stop_of(
    choice: Mapping[str, Any], wants: Wanted, *, calls: bool, refused: bool = False
) -> dict[str, Any]:
    """Say why an answer stopped.

    Chat completions do not tell which stop sequence was met; vLLM says it in `stop_reason`.
    """
    met = choice.get("stop_reason")
    if isinstance(met, str) and met in wants.stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": met}
    reason = _STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn")
    if refused:
        reason = "refusal"
    elif calls and reason == "end_turn":
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": None}


def thoughts_in(said: Mapping[str, Any]) -> str:
    """Return what a message or delta has of thoughts, under either of the usual names."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(said.get(name), str) and said[name]:
            return str(said[name])
    return ""


def texts_in(said: Mapping[str, Any]) -> list[str]:
    """Return what a message or delta says; a refusal is text here too."""
    return [said[k] for k in ("content", "refusal") if isinstance(said.get(k), str) and said[k]]


def arguments_in(function: Mapping[str, Any]) -> str:
    """Return the arguments of a call as JSON; some hosts send an object."""
    given = function.get("arguments")
    if isinstance(given, dict):
        return dumps(given).decode()
    return given if isinstance(given, str) else ""


def tool_input(arguments: str) -> dict[str, Any]:
    """Decode the arguments of a call, which must be an object in this form.

    What is no JSON, or is nested more deeply than a request may be, stays a text.
    """
    raw = (arguments or "{}").encode()
    try:
        value = exact(raw, orjson.loads(raw))
    except orjson.JSONDecodeError:
        value = arguments
    if is_too_deep(raw, value):
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}


def tool_id(given: object, answer_id: object, position: int) -> str:
    """Return the id of a call in the letters that Anthropic admits, the same for the same call.

    It comes back with the result of the call, maybe to another model, which takes it as it is.
    """
    if isinstance(given, str) and _TOOL_ID.fullmatch(given):
        return given
    name = given if isinstance(given, str) and given else f"{answer_id}-{position}"
    kept = _NOT_IN_TOOL_ID.sub("_", name)[:_KEPT_OF_ID]
    return f"{kept}_{blake2b(name.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"


def usage_of(usage: Usage | None) -> dict[str, Any]:
    """Write what is charged; input excludes what the prompt cache held."""
    usage = usage or Usage(0, 0)
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    told: dict[str, Any] = {
        "input_tokens": max(usage.prompt_tokens - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told
