"""Reads a request of Anthropic's Messages as one of chat completions.

https://platform.claude.com/docs/en/api/messages

Every field is either translated, or dropped because it only helps (`_HINTS`), or stays under its
own name: then it may change which model answers or what that costs, and it is judged as any such
field of a chat request is (`gateway.providers.fields`). An upstream of Anthropic's own form gets
the request as it was sent.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest
from gateway.nesting import is_too_deep
from gateway.providers.anthropic_native import BETA_HEADER, MESSAGES
from gateway.types import CARRIED, NativeRequest
from gateway.wire import OWN_FIELD, ChatRequest, RouteOptions, decoded_body, read_chat_request
from gateway.wires.messages_turns import chat_messages

MAX_USER_CHARS: Final = 64
"""Of an end user's name: OpenAI takes no longer one."""
MEDIUM_TOKENS: Final = 4_096
"""A thinking budget from here on is medium effort, from `HIGH_TOKENS` on high."""
HIGH_TOKENS: Final = 16_384
_TRANSLATED: Final = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "output_config",
        "output_format",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
_HINTS: Final = frozenset({"cache_control", "diagnostics"})
_THINKING: Final = frozenset({"budget_tokens", "display", "type"})
_TOOL: Final = frozenset({"cache_control", "description", "input_schema", "name", "strict", "type"})
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_CLAUDE_CODE_USER: Final = re.compile(
    r"(?P<user>user_[^_]+(?:_account_[0-9a-f-]*)?)_session_(?P<session>[0-9a-f-]{8,64})"
)
_SESSION_HEADER: Final = b"x-claude-code-session-id"
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,128}")
_REMINDER: Final = "<system-reminder>"
"""Opens what Claude Code adds to its user's text."""


def parse_messages_request(
    raw: bytes, headers: Mapping[bytes, bytes], *, needs_limit: bool = True
) -> ChatRequest:
    """Parse a request body.

    Args:
        raw: The body's bytes.
        headers: Lower-case names; the last of repeated headers.
        needs_limit: `max_tokens` is required, as it is except for counting tokens.

    Raises:
        InvalidRequest: Malformed JSON or a field of the wrong type, which is named.
    """
    body = decoded_body(raw)
    own = body.pop(OWN_FIELD, None)
    limit = body.get("max_tokens")
    if limit is None and needs_limit:
        raise InvalidRequest("max_tokens: Field required", param="max_tokens")
    if limit is not None and not (type(limit) is int and limit > 0):
        raise InvalidRequest("max_tokens: it must be a whole number from 1", param="max_tokens")
    chat = chat_body(body)
    if own is not None:
        chat[OWN_FIELD] = own
    user, session = _speaker(body.get("metadata"))
    if user is not None:
        chat["user"] = user
    request = read_chat_request(chat, headers)
    turns = _texts(body["messages"])
    beta = headers.get(BETA_HEADER.encode())
    return replace(
        request,
        query=turns[-1] if turns else request.query,
        turn_index=max(len(turns) - 1, 0),
        options=_in_session(request.options, headers, session),
        native=NativeRequest(
            MESSAGES, body, {} if beta is None else {BETA_HEADER: beta.decode("latin-1")}
        ),
        effort=_effort(body),
        has_formal_limit="max_tokens" in chat,
    )


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a body; what has no translation stays under its own name.

    Raises:
        InvalidRequest: A field is of the wrong type, which is named.
    """
    chat = {
        name: value
        for name, value in body.items()
        if name not in _TRANSLATED and name not in _HINTS and value is not None
    }
    chat["messages"] = chat_messages(body.get("system"), body.get("messages"))
    if body.get("max_tokens") is not None:
        chat["max_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = _list(body, "stop_sequences")
    if chat.get("service_tier") in ("auto", "standard_only"):  # no dearer than the host's own
        del chat["service_tier"]
    _add_tools(chat, body)
    _add_thinking(chat, body)
    if _only_clears(chat.get("context_management")):
        del chat["context_management"]
    return chat


def _add_tools(chat: dict[str, Any], body: Mapping[str, Any]) -> None:
    if not body.get("tools"):
        return
    chat["tools"] = [_tool(tool, f"tools.{i}") for i, tool in enumerate(_list(body, "tools"))]
    choice = _object(body, "tool_choice")
    if not choice:
        return
    kind, name = choice.get("type"), choice.get("name")
    if kind == "tool" and isinstance(name, str):
        chat["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise InvalidRequest(
            "tool_choice: type must be auto, any, none, or tool with a name", param="tool_choice"
        )
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


def _tool(tool: Any, where: str) -> dict[str, Any]:
    """Translate a tool of the caller's; Anthropic's own, which have no schema here, stay."""
    if not isinstance(tool, dict):
        raise InvalidRequest(f"{where}: it must be an object", param=where)
    if tool.get("type") not in (None, "custom"):
        return tool
    schema = tool.get("input_schema")
    if not isinstance(tool.get("name"), str) or not isinstance(schema, dict):
        raise InvalidRequest(f"{where}: it needs a name and an input_schema", param=where)
    function = {"name": tool["name"], "parameters": schema}
    for name in ("description", "strict"):
        if tool.get(name):
            function[name] = tool[name]
    translated: dict[str, Any] = {"type": "function", "function": function}
    rest = {name: value for name, value in tool.items() if name not in _TOOL}
    if rest:
        translated[CARRIED] = rest
    return translated


def _add_thinking(chat: dict[str, Any], body: Mapping[str, Any]) -> None:
    """Translate the form of the answer; keep what of thinking and output is not known here."""
    thinking, config = _object(body, "thinking"), _object(body, "output_config")
    if thinking.keys() - _THINKING:
        chat["thinking"] = thinking
    wanted = config.get("format") or body.get("output_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {"name": "answer", "schema": wanted.get("schema")}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted is not None:
        raise InvalidRequest(
            "output_config.format: type must be json_schema", param="output_config"
        )
    others = {k: v for k, v in config.items() if k not in ("effort", "format") and v is not None}
    if others:
        chat["output_config"] = others


def _effort(body: Mapping[str, Any]) -> str | None:
    """Say how much the caller lets a model reason, in OpenAI's words; None where it does not."""
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None:
        return _EFFORTS.get(str(effort))
    tokens = (body.get("thinking") or {}).get("budget_tokens")
    if type(tokens) is not int:
        return None
    if tokens < MEDIUM_TOKENS:
        return "low"
    return "medium" if tokens < HIGH_TOKENS else "high"


def _only_clears(managed: object) -> bool:
    """Whether context is only cleared, which costs nothing; summing it up is another call."""
    edits = managed.get("edits") if isinstance(managed, dict) and len(managed) == 1 else None
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits
    )


def _speaker(metadata: object) -> tuple[str | None, str | None]:
    """Take the end user and the conversation out of `metadata.user_id`.

    Claude Code writes both there: as JSON, or earlier as ``user_..._session_...``.
    """
    name = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        return None, None
    session = None
    found = _CLAUDE_CODE_USER.fullmatch(name)
    if found is not None:
        name, session = found["user"], found["session"]
    elif name.startswith("{"):
        name, session = _from_json(name)
    if len(name) > MAX_USER_CHARS:
        name = blake2b(name.encode("utf-8", "replace"), digest_size=MAX_USER_CHARS // 2).hexdigest()
    return name, session


def _from_json(name: str) -> tuple[str, str | None]:
    try:
        parts = orjson.loads(name)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return name, None
    if is_too_deep(name.encode(), parts):
        return name, None
    session = parts.pop("session_id", None)
    user = "/".join(str(parts[key]) for key in sorted(parts) if parts[key])
    return user or name, session if isinstance(session, str) else None


def _in_session(
    options: RouteOptions, headers: Mapping[bytes, bytes], session: str | None
) -> RouteOptions:
    """Name the conversation as the client does, unless its caller named it for the gateway."""
    header = headers.get(_SESSION_HEADER)
    session = session if header is None else header.decode("latin-1")
    if options.conversation_id is not None or session is None or not _SESSION.fullmatch(session):
        return options
    return replace(options, conversation_id=session)


def _texts(messages: list[Any]) -> list[str]:
    """List what the user said, turn by turn: without results of tools and what a client adds."""
    said = []
    for message in messages:
        if message["role"] != "user":
            continue
        content = message["content"]
        if isinstance(content, str):
            said.append(content)
            continue
        texts = [block["text"] for block in content if block["type"] == "text"]
        own = [text for text in texts if not text.startswith(_REMINDER)]
        if own:
            said.append("\n".join(own))
    return said


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body[name]
    if not isinstance(value, list):
        raise InvalidRequest(f"{name}: it must be a list", param=name)
    return value


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{name}: it must be an object", param=name)
    return value or {}
