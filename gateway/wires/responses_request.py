"""Reads a request of OpenAI's Responses as one of chat completions.

https://platform.openai.com/docs/api-reference/responses/create

Every field is either translated, or dropped because it only helps or asks for what this gateway
does not do anyway (`_HINTS`), or refused with a word on what to do instead, or it stays under its
own name: then it may change which model answers or what that costs, and it is judged as any such
field of a chat request is (`gateway.providers.fields`).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.providers.responses_native import RESPONSES
from gateway.types import NativeRequest
from gateway.wire import OWN_FIELD, ChatRequest, RouteOptions, decoded_body, read_chat_request
from gateway.wires.responses_items import conversation_of
from gateway.wires.responses_tools import add_choice, chat_tools

LOGPROBS: Final = "message.output_text.logprobs"
_TRANSLATED: Final = frozenset(
    {
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
_HINTS: Final = frozenset(
    {
        "client_metadata",
        "max_tool_calls",
        "prompt_cache_options",
        "store",
        "stream_options",
        "truncation",
    }
)
_REFUSED: Final[Mapping[str, str]] = {
    "background": "answers are not made in the background; leave it out, and wait or stream",
    "conversation": "no conversations are stored here; send the whole `input`, and `store: false`",
    "previous_response_id": (
        "no responses are stored here; send the whole `input`, with the output of earlier "
        "responses in it, and `store: false`"
    ),
    "prompt": "no prompts are stored here; send `instructions` and `input`",
    # Names of chat completions, which OpenAI refuses here too.
    "function_call": "it is `tool_choice` in the Responses API",
    "functions": "they are `tools` in the Responses API",
    "logprobs": f"it is `include: [{LOGPROBS!r}]` in the Responses API",
    "max_completion_tokens": "it is `max_output_tokens` in the Responses API",
    "max_tokens": "it is `max_output_tokens` in the Responses API",
    "messages": "they are `input` in the Responses API",
    "n": "the Responses API gives one answer",
    "reasoning_effort": "it is `reasoning.effort` in the Responses API",
    "response_format": "it is `text.format` in the Responses API",
    "verbosity": "it is `text.verbosity` in the Responses API",
}
_REASONING: Final = frozenset({"context", "effort", "generate_summary", "summary"})
_SESSION_HEADERS: Final = (b"session_id", b"session-id")
"""Of Codex."""
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,128}")


def parse_responses_request(
    raw: bytes, headers: Mapping[bytes, bytes], *, is_count: bool = False
) -> ChatRequest:
    """Parse a request body.

    Args:
        raw: The body's bytes.
        headers: Lower-case names; the last of repeated headers.
        is_count: Only its tokens are to be counted, so no model need be named.

    Raises:
        InvalidRequest: Malformed JSON or a field of the wrong type, which is named.
    """
    body = decoded_body(raw)
    own = body.pop(OWN_FIELD, None)
    for name, advice in _REFUSED.items():
        if body.get(name) not in (None, False):
            raise InvalidRequest(f"{name}: {advice}", param=name)
    talk = conversation_of(body.get("instructions"), body.get("input"))
    if not talk.messages:
        raise InvalidRequest("input: at least one message is required", param="input")
    chat = _chat_fields(body)
    chat["messages"] = talk.messages
    if is_count:
        chat.setdefault("model", "auto")
    if own is not None:
        chat[OWN_FIELD] = own
    request = read_chat_request(chat, headers)
    return replace(
        request,
        query=talk.said[-1] if talk.said else request.query,
        turn_index=max(len(talk.said) - 1, 0),
        options=_in_session(request.options, headers),
        native=NativeRequest(RESPONSES, body),
        effort=_effort(body),
    )


def _chat_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate all fields but the conversation."""
    chat = {
        name: value
        for name, value in body.items()
        if value is not None and not (name in _TRANSLATED or name in _HINTS or name in _REFUSED)
    }
    limit = body.get("max_output_tokens")
    if limit is not None:
        if type(limit) is not int or limit < 1:
            raise InvalidRequest(
                "max_output_tokens: it must be a whole number from 1", param="max_output_tokens"
            )
        chat["max_tokens"] = limit
    tools = body.get("tools")
    if tools:
        if not isinstance(tools, list):
            raise InvalidRequest("tools: it must be a list", param="tools")
        chat["tools"] = chat_tools(tools)
        add_choice(chat, body.get("tool_choice"))
    others = {k: v for k, v in _object(body, "reasoning").items() if k not in _REASONING}
    if others:
        chat["reasoning"] = others
    _add_text(chat, _object(body, "text"))
    _add_logprobs(chat, body)
    return chat


def _add_text(chat: dict[str, Any], text: Mapping[str, Any]) -> None:
    wanted = text.get("format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        schema = {name: value for name, value in wanted.items() if name != "type"}  # type: ignore[union-attr]
        chat["response_format"] = {"type": kind, "json_schema": schema}
    elif kind == "json_object":
        chat["response_format"] = {"type": kind}
    elif wanted is not None and kind != "text":
        raise InvalidRequest(
            "text.format: type must be text, json_schema or json_object", param="text.format"
        )
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]


def _add_logprobs(chat: dict[str, Any], body: Mapping[str, Any]) -> None:
    include, most = body.get("include") or [], body.get("top_logprobs")
    if not isinstance(include, list):
        raise InvalidRequest("include: it must be a list", param="include")
    if most is not None and type(most) is not int:
        raise InvalidRequest("top_logprobs: it must be a whole number", param="top_logprobs")
    if most or LOGPROBS in include:
        chat["logprobs"] = True
    if most:
        chat["top_logprobs"] = most


def _effort(body: Mapping[str, Any]) -> str | None:
    """Say how much the caller lets a model reason; None where it does not."""
    effort = _object(body, "reasoning").get("effort")
    if effort is not None and not isinstance(effort, str):
        raise InvalidRequest("reasoning.effort: it must be a string", param="reasoning.effort")
    return effort


def _in_session(options: RouteOptions, headers: Mapping[bytes, bytes]) -> RouteOptions:
    """Name the conversation as the client does, unless its caller named it for the gateway."""
    given = next((headers[name] for name in _SESSION_HEADERS if name in headers), b"")
    session = given.decode("latin-1")
    if options.conversation_id is not None or not _SESSION.fullmatch(session):
        return options
    return replace(options, conversation_id=session)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{name}: it must be an object", param=name)
    return value or {}
