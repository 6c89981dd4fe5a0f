"""Leaves out of a request in Anthropic's own form what no Claude model would take.

A caller that named the model is sent what Anthropic says of its request. One that left the choice
to the gateway would have been answered by another vendor's model, so its request is made fit, by
the rules that requests for chat completions are translated by.

https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.providers.anthropic_messages import OPENING
from gateway.providers.anthropic_models import Traits
from gateway.providers.anthropic_schemas import enforced_schema, tool_schema

SAMPLING: Final = ("temperature", "top_p", "top_k")
_NEUTRAL: Final[Mapping[str, object]] = {"temperature": 1, "top_p": 1}


def mend(body: dict[str, Any], traits: Traits) -> set[str]:
    """Make `body`, which nobody else holds, fit for a model; its parts are replaced, not changed.

    Returns:
        The names of fields that were left out and would have made a difference.
    """
    dropped = _mend_sampling(body, traits) | _mend_stops(body)
    body["messages"] = _turns(body["messages"])
    if isinstance(body.get("system"), list):
        body["system"] = _texts(body["system"])
    if not body.get("system"):
        body.pop("system", None)
    if isinstance(body.get("tools"), list):
        body["tools"] = [_tool(tool) for tool in body["tools"]]
    config = body.get("output_config")
    if isinstance(config, dict):
        body["output_config"] = _with(config, "format", _format)
    if body.get("output_format"):
        body["output_format"] = _format(body["output_format"])
    return dropped


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for thoughts."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _mend_sampling(body: dict[str, Any], traits: Traits) -> set[str]:
    """Leave out what is refused beside thoughts, and one of two where only one is taken."""
    unwanted: tuple[str, ...] = ()
    if thinks(body):
        unwanted = SAMPLING
    elif traits.takes_one_sampling and body.get("temperature") is not None:
        unwanted = ("top_p",)
    given = {name: body.pop(name, None) for name in unwanted}
    return {name for name, value in given.items() if value not in (None, _NEUTRAL.get(name))}


def _mend_stops(body: dict[str, Any]) -> set[str]:
    given = body.pop("stop_sequences", None) or []
    taken = [stop for stop in given if not _is_blank(stop)]
    if taken:
        body["stop_sequences"] = taken
    return {"stop_sequences"} if any(stop and _is_blank(stop) for stop in given) else set()


def _turns(given: list[Any]) -> list[Any]:
    """Leave out blank texts, turns of nothing else, and blanks at the end of a begun answer."""
    turns = [turn for turn in map(_turn, given) if turn.get("content")]
    if not turns:
        return given
    if turns[-1].get("role") == "assistant":
        turns[-1] = _ended(turns[-1])
    if turns[0].get("role") == "assistant":
        turns.insert(0, {"role": "user", "content": OPENING})
    return turns


def _turn(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    content = turn.get("content")
    if isinstance(content, str):
        return {**turn, "content": ""} if _is_blank(content) else turn
    if not isinstance(content, list):
        return turn
    kept = [_with(block, "content", _texts) if _holds(block) else block for block in content]
    return {**turn, "content": _texts(kept)}


def _ended(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    content = turn["content"]
    if isinstance(content, str):
        return {**turn, "content": content.rstrip()}
    return {**turn, "content": [*content[:-1], _with(content[-1], "text", str.rstrip)]}


def _texts(blocks: list[Any]) -> list[Any]:
    """Return blocks without blank texts."""
    return [block for block in blocks if not (_kind(block) == "text" and _is_blank(block["text"]))]


def _tool(tool: Any) -> Any:
    """Give a tool of the caller's the schema of an object; Anthropic describes the others."""
    if not isinstance(tool, dict) or not isinstance(tool.get("input_schema"), dict):
        return tool
    is_strict = tool.get("strict") is True
    return {**tool, "input_schema": tool_schema(tool["input_schema"], is_strict=is_strict)}


def _format(given: Any) -> Any:
    return _with(given, "schema", enforced_schema)


def _with(given: Any, name: str, mended: Callable[[Any], Any]) -> Any:
    """Return an object with one part of it mended, if it has that part."""
    return {**given, name: mended(given[name])} if given.get(name) else given


def _holds(block: Any) -> bool:
    return _kind(block) == "tool_result" and isinstance(block.get("content"), list)


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _is_blank(text: Any) -> bool:
    return isinstance(text, str) and not text.strip()
