"""A conversation as one host takes it: roles, reasoning, ids and signatures of other hosts' calls.

Only where a message has something of the kind are messages written anew.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.providers.hosts import Host

_REASONING: Final = frozenset({"reasoning", "reasoning_content", "reasoning_details"})
_TOOL_CALLS: Final = frozenset({"tool_call_id", "tool_calls"})
_SIGNED: Final = "extra_content"
"""Where Google puts its signature of a tool call: https://ai.google.dev/gemini-api/docs/openai."""
_UNSIGNED: Final = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google takes for the signature of a call that another vendor's model made:
https://ai.google.dev/gemini-api/docs/thought-signatures."""
_WANTS_SIGNATURES: Final = re.compile(r"gemini-[3-9]", re.IGNORECASE)
"""Others do without, or may not know the field."""


def foreign_fields(host: Host) -> frozenset[str]:
    """Return the fields of messages that `host` may not take as they are."""
    reasoning = frozenset[str]() if host.takes_reasoning else _REASONING
    if host.tool_ids or host.signs_calls:
        return reasoning | _TOOL_CALLS
    return reasoning | {"tool_calls"} if reasoning else reasoning


def as_taken(
    messages: list[Any], host: Host, foreign: frozenset[str], model: str = ""
) -> list[Any]:
    """Return messages that `host` takes; the same list where these are.

    Args:
        foreign: `foreign_fields` of the host.
        model: Upstream name of the one that is sent them.
    """
    is_taken = host.takes_developer or "developer" not in [one["role"] for one in messages]
    if is_taken and (not foreign or all(map(foreign.isdisjoint, messages))):
        return messages
    wants_signatures = host.signs_calls and _WANTS_SIGNATURES.search(model) is not None
    return [_message(one, host, wants_signatures=wants_signatures) for one in messages]


def _message(
    message: Mapping[str, Any], host: Host, *, wants_signatures: bool
) -> Mapping[str, Any]:
    fit = dict(message)
    if fit.get("role") == "developer" and not host.takes_developer:
        fit["role"] = "system"
    if not host.takes_reasoning:
        for name in _REASONING & fit.keys():
            del fit[name]
    if host.tool_ids is not None and isinstance(fit.get("tool_call_id"), str):
        fit["tool_call_id"] = host.tool_ids.fit(fit["tool_call_id"])
    calls = fit.get("tool_calls")
    if isinstance(calls, list) and (calls := [_call(call, host) for call in calls]):
        fit["tool_calls"] = calls
        if wants_signatures and isinstance(calls[0], dict):
            # Of calls that were made at once the first is signed.
            calls[0] = {_SIGNED: _UNSIGNED, **calls[0]}
    return fit


def _call(call: Any, host: Host) -> Any:
    if not isinstance(call, dict):
        return call
    fit = dict(call)
    if not host.signs_calls:
        fit.pop(_SIGNED, None)
    if host.tool_ids is not None and isinstance(fit.get("id"), str):
        fit["id"] = host.tool_ids.fit(fit["id"])
    return fit
