"""Names the prefixes of a conversation, so that a later call that begins alike is recognised.

A name is that of the message before, hashed with one more message: Python's own hash of strings,
which is keyed anew in each process, reads 6 GB/s and copies nothing. So names mean nothing outside
their process and nobody can make two prompts have one. What ends on equal names is taken for equal
in no more than an expectation of cost.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.exact_json import dumps

MARK: Final = "cache_control"
"""By which Anthropic is told what to cache. Callers move it on with each call: no name has it."""
_TEXT_PART: Final = frozenset({"type", "text", MARK})
_NAMED: Final = frozenset({"role", "content", MARK})


def links(body: Mapping[str, Any], start: int) -> list[int]:
    """Name the prompt up to each of its messages, in order: time linear in what was sent.

    Args:
        body: A chat request; its `messages` are a list of objects.
        start: What the names begin with: of another start, all of them differ.
    """
    link = start
    for name in ("tools", "functions"):  # which providers read before all messages
        if body.get(name):
            link = hash((link, _digest(body[name])))
    found = []
    for message in body["messages"]:
        link = hash((link, _digest(message.get("role")), _digest(message.get("content"))))
        if len(message) > 2:
            for name, value in message.items():
                if name not in _NAMED:
                    link = hash((link, name, _digest(value)))
        found.append(link)
    return found


def is_marked(body: Mapping[str, Any]) -> bool:
    """Say whether a body marks anything of it for caching; one of Responses has no marks."""
    if body.get(MARK):
        return True
    messages, system = body.get("messages"), body.get("system")
    # Callers mark the end of a conversation.
    return (isinstance(messages, list) and _any_marked(reversed(messages))) or (
        isinstance(system, list) and _any_marked(system)
    )


def _any_marked(blocks: Iterable[Any]) -> bool:
    for block in blocks:
        if isinstance(block, dict):
            if block.get(MARK):
                return True
            content = block.get("content")
            if isinstance(content, list) and _any_marked(content):
                return True
    return False


def _digest(value: Any) -> int:
    if isinstance(value, str):
        return hash(value)
    if isinstance(value, list):
        return hash(tuple(map(_digest_of_part, value)))
    return hash(dumps(value))


def _digest_of_part(part: Any) -> int:
    if isinstance(part, dict):
        text = part.get("text")
        if isinstance(text, str) and part.keys() <= _TEXT_PART:
            return hash(text)
        if MARK in part:
            part = {name: value for name, value in part.items() if name != MARK}
    return hash(dumps(part))
