"""Translates a conversation from OpenAI's messages to Anthropic's turns; pure functions.

https://platform.claude.com/docs/en/build-with-claude/working-with-messages
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import ProviderRejected, ProviderUnsupported
from gateway.exact_json import exact
from gateway.providers.sse import decode
from gateway.providers.tool_ids import ANTHROPIC_IDS

Block = dict[str, Any]

_DATA_URL = re.compile(r"data:(?P<type>[\w.+/-]+);base64,", re.IGNORECASE)
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
OPENING = "."
"""Said by the user where a conversation begins with the model: Anthropic wants a user first."""


def conversation(messages: object) -> tuple[list[Block], list[dict[str, Any]]]:
    """Split `messages` into system blocks and alternating turns.

    Anthropic keeps instructions apart, so system messages lose their place among the turns.
    Tool results belong to the user's turn there; neighbours of the same role become one turn.

    Raises:
        ProviderRejected: Something in them has no equivalent, or is malformed.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise rejected("messages must be a list", "messages")
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    names = _Names()
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        try:
            role, blocks = _translated(message, where)
        except (KeyError, TypeError, AttributeError) as error:
            raise malformed(error, where) from error
        names.tell_apart(blocks)
        if role == "system":
            system += blocks
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    _end_cleanly(turns)
    if not turns:
        raise rejected(
            "messages must hold one of the role user: Anthropic's models require it", "messages"
        )
    if turns[0]["role"] != "user":  # as where a model greets
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    return system, turns


class _Names:
    """Ids of tool calls: some hosts count them anew in every answer, and Anthropic takes each once.

    The same calls are renamed in the same way in every turn of a conversation.
    """

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._latest: dict[str, str] = {}

    def tell_apart(self, blocks: list[Block]) -> None:
        """Rename calls whose name was there before, and their results with them."""
        for block in blocks:
            if block["type"] == "tool_use":
                given = block["id"]
                times = self._times[given] = self._times.get(given, 0) + 1
                block["id"] = given if times == 1 else ANTHROPIC_IDS.fit(f"{given} {times}")
                self._latest[given] = block["id"]
            elif block["type"] == "tool_result":
                given = block["tool_use_id"]
                block["tool_use_id"] = self._latest.get(given, given)


def _end_cleanly(turns: list[dict[str, Any]]) -> None:
    """Take blanks from the end of an answer that the request has begun: Anthropic refuses them."""
    if turns and turns[-1]["role"] == "assistant":
        last = turns[-1]["content"][-1]
        if last.get("type") == "text":
            last["text"] = last["text"].rstrip()


def rejected(message: str, param: str) -> ProviderUnsupported:
    """Refuse `param` of a request, which another dialect may have a form for."""
    # The details hold the caller's words, so they are no part of what is logged.
    refusal = ProviderUnsupported(
        "Anthropic's models have no form for it", status=400, body=_said(message, param)
    )
    refusal.attempts = 0
    return refusal


def malformed(error: Exception, where: str) -> ProviderRejected:
    """Refuse a part of a request that is of no known form, for any model."""
    message = f"{where} is malformed: {error!r}"
    return ProviderRejected(message, status=400, body=_said(message, where))


def _said(message: str, param: str) -> dict[str, Any]:
    """Write the error in OpenAI's shape."""
    return {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": "unsupported_parameter",
    }


def with_cache_mark(translated: Block, part: Mapping[str, Any]) -> Block:
    """Copy the mark that ends a cached prefix, which callers may set on parts and tools."""
    if part.get("cache_control"):
        translated["cache_control"] = part["cache_control"]
    return translated


def _translated(message: Mapping[str, Any], where: str) -> tuple[str, list[Block]]:
    role, blocks = _read(message, where)
    if "cache_control" in message and blocks and message["role"] != "tool":
        with_cache_mark(blocks[-1], message)
    return role, blocks


def _read(message: Mapping[str, Any], where: str) -> tuple[str, list[Block]]:
    role = message["role"]
    if role in ("system", "developer"):
        return "system", _blocks(message.get("content"), where)
    if role == "user":
        return "user", _blocks(message.get("content"), where)
    if role == "assistant":
        if message.get("function_call"):
            raise rejected("function_call is deprecated; send tool_calls instead", where)
        calls = message.get("tool_calls") or ()
        uses = [_tool_use(call, f"{where}.tool_calls[{j}]") for j, call in enumerate(calls)]
        return "assistant", _blocks(message.get("content"), where) + uses
    if role == "tool":
        return "user", [_tool_result(message, where)]
    raise rejected(
        f"role {role!r} is not supported; use system, user, assistant or tool", f"{where}.role"
    )


def _blocks(content: object, where: str) -> list[Block]:
    """Translate content; empty and blank texts, which Anthropic refuses, are left out."""
    if content is None:
        return []
    if isinstance(content, str):
        return [] if _is_blank(content) else [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise rejected("content must be a string or a list of parts", f"{where}.content")
    parts = [_part(part, f"{where}.content[{j}]") for j, part in enumerate(content)]
    return [part for part in parts if part.get("type") != "text" or not _is_blank(part["text"])]


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _part(part: Mapping[str, Any], where: str) -> Block:
    kind = part["type"]
    if kind in ("text", "refusal"):
        return with_cache_mark({"type": "text", "text": part[kind]}, part)
    if kind == "image_url":
        source = _image_source(part["image_url"]["url"], where)
        return with_cache_mark({"type": "image", "source": source}, part)
    if kind == "file":
        return with_cache_mark(_document(part["file"], where), part)
    raise rejected(f"content parts of type {kind!r} are not supported by Anthropic's models", where)


def _image_source(url: str, where: str) -> Block:
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    found = _DATA_URL.match(url)
    if found is None:
        raise rejected("an image must be an https URL or a base64 data URL", where)
    kind = found["type"].lower()
    if kind not in _IMAGE_TYPES:
        known = ", ".join(sorted(_IMAGE_TYPES))
        raise rejected(f"images of type {kind!r} are not supported; use {known}", where)
    return {"type": "base64", "media_type": kind, "data": url[found.end() :]}


def _document(file: Mapping[str, Any], where: str) -> Block:
    data = file.get("file_data") or ""
    found = _DATA_URL.match(data)
    if found is None or found["type"].lower() != _PDF:
        raise rejected("a file must be a PDF in file_data, as a base64 data URL", where)
    source = {"type": "base64", "media_type": _PDF, "data": data[found.end() :]}
    document: Block = {"type": "document", "source": source}
    if file.get("filename"):
        document["title"] = file["filename"]
    return document


def _tool_use(call: Mapping[str, Any], where: str) -> Block:
    if call.get("type", "function") != "function":
        raise rejected("tool calls must be of type function", where)
    function = call["function"]
    try:
        written = (function.get("arguments") or "{}").encode()
        arguments = exact(written, decode(written))
    except ValueError as error:
        raise rejected("the arguments of a tool call must be valid JSON", where) from error
    if not isinstance(arguments, dict):
        raise rejected("the arguments of a tool call must be a JSON object", where)
    return {
        "type": "tool_use",
        "id": ANTHROPIC_IDS.fit(call["id"]),
        "name": function["name"],
        "input": arguments,
    }


def _tool_result(message: Mapping[str, Any], where: str) -> Block:
    content = message.get("content")
    result: Block = {
        "type": "tool_result",
        "tool_use_id": ANTHROPIC_IDS.fit(message["tool_call_id"]),
    }
    if isinstance(content, str):
        result["content"] = "" if _is_blank(content) else content
    elif content:
        result["content"] = _blocks(content, where)
    return with_cache_mark(result, message)
