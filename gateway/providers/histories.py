"""A conversation as one host takes it: roles, reasoning and ids of tool calls of other hosts.

Only where a message has something of the kind are messages written anew.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.providers.hosts import Host

_REASONING: Final = frozenset({"reasoning", "reasoning_content", "reasoning_details"})
_TOOL_CALLS: Final = frozenset({"tool_call_id", "tool_calls"})


def foreign_fields(host: Host) -> frozenset[str]:
    """Return the fields of messages that `host` may not take as they are."""
    reasoning = frozenset[str]() if host.takes_reasoning else _REASONING
    return reasoning | _TOOL_CALLS if host.tool_ids else reasoning


def as_taken(messages: list[Any], host: Host, foreign: frozenset[str]) -> list[Any]:
    """Return messages that `host` takes; the same list where these are.

    Args:
        foreign: `foreign_fields` of the host.
    """
    is_taken = host.takes_developer or "developer" not in [one["role"] for one in messages]
    if is_taken and (not foreign or all(map(foreign.isdisjoint, messages))):
        return messages
    return [_message(one, host) for one in messages]


def _message(message: Mapping[str, Any], host: Host) -> Mapping[str, Any]:
    fit = dict(message)
    if fit.get("role") == "developer" and not host.takes_developer:
        fit["role"] = "system"
    if not host.takes_reasoning:
        for name in _REASONING & fit.keys():
            del fit[name]
    if host.tool_ids is not None:
        if isinstance(fit.get("tool_call_id"), str):
            fit["tool_call_id"] = host.tool_ids.fit(fit["tool_call_id"])
        if isinstance(fit.get("tool_calls"), list):
            fit["tool_calls"] = [_call(call, host) for call in fit["tool_calls"]]
    return fit


def _call(call: Any, host: Host) -> Any:
    if host.tool_ids is None or not isinstance(call, dict) or not isinstance(call.get("id"), str):
        return call
    return {**call, "id": host.tool_ids.fit(call["id"])}
