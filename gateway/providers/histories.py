"""A conversation as one host takes it: roles, reasoning and ids of tool calls of other hosts.

A body is searched for the few words that only such conversations have, once it is encoded, which
costs less than looking at each message. Only then is it written anew.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.providers.hosts import Host

_DEVELOPER: Final = b'"role":"developer"'
_REASONING: Final = (b'"reasoning_content":', b'"reasoning_details":')
_TOOL_CALLS: Final = (b'"tool_calls":', b'"tool_call_id":')
_REASONING_FIELDS: Final = frozenset({"reasoning", "reasoning_content", "reasoning_details"})


def marks_of(host: Host) -> tuple[bytes, ...]:
    """Return what an encoded body holds that `host` may not take."""
    developer = () if host.takes_developer else (_DEVELOPER,)
    reasoning = () if host.takes_reasoning else _REASONING
    return (*developer, *reasoning, *(_TOOL_CALLS if host.tool_ids else ()))


def as_taken(body: dict[str, Any], host: Host) -> dict[str, Any]:
    """Return `body` with messages that `host` takes."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    fit = [_message(one, host) if isinstance(one, dict) else one for one in messages]
    return {**body, "messages": fit}


def _message(message: Mapping[str, Any], host: Host) -> Mapping[str, Any]:
    fit = dict(message)
    if fit.get("role") == "developer" and not host.takes_developer:
        fit["role"] = "system"
    if not host.takes_reasoning:
        for name in _REASONING_FIELDS & fit.keys():
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
