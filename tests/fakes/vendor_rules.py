"""What vendors take: the types that their own SDKs publish, and rules that types do not hold.

Rules of Anthropic: https://platform.claude.com/docs/en/api/messages and
https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use. Rules of OpenAI:
https://platform.openai.com/docs/api-reference/chat/create.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import jsonschema_rs
from pydantic import TypeAdapter

_ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]+")


@cache
def _validator(module: str, name: str) -> Any:
    """Compile a type of an SDK's, which admits what it names and nothing else."""
    schema = TypeAdapter(getattr(import_module(module), name)).json_schema()
    return jsonschema_rs.validator_for(_closed(schema))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def refused_by_openai(body: Mapping[str, Any]) -> list[str]:
    """Say why OpenAI's chat completions would refuse a request; empty where they would not."""
    kind = "CompletionCreateParamsNonStreaming"
    found = _by_type("openai.types.chat.completion_create_params", kind, body)
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                found.append(f"no call of the message before has the id of {message}")
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            found.append(f"calls without a result: {waiting}")
        waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return [*found, f"calls without a result: {waiting}"] if waiting else found


def refused_by_openai_responses(body: Mapping[str, Any]) -> list[str]:
    """Say why OpenAI's Responses would refuse a request."""
    kind = "ResponseCreateParamsNonStreaming"
    found = _by_type("openai.types.responses.response_create_params", kind, body)
    for item in body["input"]:
        if item.get("type") == "reasoning" and not item.get("encrypted_content"):
            found.append(f"nothing is stored, so there is no such thought: {item}")
    return found


def refused_by_anthropic(body: Mapping[str, Any]) -> list[str]:
    """Say why Anthropic would refuse a request."""
    kind = "MessageCreateParamsNonStreaming"
    found = _by_type("anthropic.types.message_create_params", kind, body)
    turns, seen = body["messages"], set[str]()
    if turns[0]["role"] != "user":
        found.append("the first message is not a user's")
    waiting: list[str] = []
    for turn in turns:
        blocks = _blocks(turn["content"])
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(waiting):
            found.append(f"results of {results} for calls of {waiting}")
        if any(block["type"] == "tool_result" for block in blocks[len(results) :]):
            found.append("results that do not come first")
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for name in waiting:
            if not _ANTHROPIC_ID.fullmatch(name) or name in seen:
                found.append(f"an id that is malformed, or not unique: {name}")
            seen.add(name)
        found += _refused_in(turn["role"], blocks)
    found += ["calls without results"] if waiting else []
    last = _blocks(turns[-1]["content"])[-1]
    if turns[-1]["role"] == "assistant" and last["type"] == "text":
        found += ["a blank at the end"] if last["text"] != last["text"].rstrip() else []
    schemas = [tool["input_schema"] for tool in body.get("tools") or ()]
    return found + [f"no object: {one}" for one in schemas if one.get("type") != "object"]


def _refused_in(role: str, blocks: list[Any]) -> list[str]:
    found = [] if blocks else ["a turn without content"]
    for block in blocks:
        parts = [block, *_blocks(block.get("content") or [])]
        if any(part["type"] == "text" and not part["text"].strip() for part in parts):
            found.append(f"blank text in {block}")
        if block["type"] == "thinking" and not block["signature"]:
            found.append(f"a thought without a signature: {block}")
    if role == "assistant" and blocks and blocks[-1]["type"] == "thinking":
        found.append("the final block is a thought")
    return found


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _by_type(module: str, name: str, body: Mapping[str, Any]) -> list[str]:
    found = _validator(module, name).iter_errors(body)
    return [f"{error.message[:300]} at {error.instance_path}" for error in found]
