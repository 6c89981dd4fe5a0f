"""Translates the tools of OpenAI's Responses to functions of chat completions, and names back.

https://platform.openai.com/docs/guides/function-calling

Few hosts of chat completions know custom tools or namespaces. A custom tool, whose input is any
text, becomes a function with one string; a function of a namespace gets a name with both in it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest
from gateway.exact_json import exact

INPUT: Final = "input"
MAX_NAME_CHARS: Final = 64
"""Of a function, at OpenAI and most hosts."""
_INPUT_SCHEMA: Final = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
_NO_INPUT: Final = {"type": "object", "properties": {}}
_DIGEST_CHARS: Final = 12
_CHOICES: Final = frozenset({"auto", "none", "required"})
_CALLED: Final = frozenset({"custom", "function"})


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the caller's, as an answer names it."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


def function_name(name: str, namespace: object) -> str:
    """Name the function that stands for a tool; the same tool always has the same one."""
    if not isinstance(namespace, str) or not namespace:
        return name
    joined = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    if len(joined) <= MAX_NAME_CHARS:
        return joined
    digest = blake2b(joined.encode("utf-8", "replace"), digest_size=_DIGEST_CHARS // 2).hexdigest()
    return f"{joined[: MAX_NAME_CHARS - _DIGEST_CHARS - 1]}_{digest}"


def renamed_tools(tools: object) -> dict[str, Tool]:
    """List the tools that are not functions of the same name, by the function for each."""
    return {
        function: tool
        for function, tool in _named(tools if isinstance(tools, list) else [])
        if tool.is_custom or tool.namespace
    }


def _named(tools: list[Any]) -> Iterator[tuple[str, Tool]]:
    for tool in tools:
        kind = tool.get("type")
        if kind in _CALLED:
            yield tool["name"], Tool(tool["name"], None, kind == "custom")
        elif kind == "namespace":
            for inner in tool["tools"]:
                name, namespace = inner["name"], tool["name"]
                yield (
                    function_name(name, namespace),
                    Tool(name, namespace, inner["type"] == "custom"),
                )


def chat_tools(tools: list[Any]) -> list[dict[str, Any]]:
    """Translate tools that callers run; those that a host runs itself stay as they are.

    Raises:
        InvalidRequest: One is malformed; the message says which.
    """
    translated: list[dict[str, Any]] = []
    for i, tool in enumerate(tools):
        where = f"tools[{i}]"
        kind = _kind(tool)
        if kind is None:
            raise InvalidRequest(f"{where}: it must be an object with a type", param=where)
        if kind == "namespace":
            translated += _namespace(tool, where)
        elif kind in _CALLED:
            translated.append(_function(tool, where))
        else:
            translated.append(tool)
    return translated


def _namespace(tool: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    inner = tool.get("tools")
    if not isinstance(inner, list) or not _is_name(tool.get("name")):
        raise InvalidRequest(f"{where}: it needs a name and tools", param=where)
    for j, one in enumerate(inner):
        at = f"{where}.tools[{j}]"
        if _kind(one) not in _CALLED:
            raise InvalidRequest(f"{at}: type must be function or custom", param=at)
        yield _function(one, at, tool["name"])


def _function(tool: Mapping[str, Any], where: str, namespace: str | None = None) -> dict[str, Any]:
    name, described = tool.get("name"), tool.get("description")
    parameters = _INPUT_SCHEMA if tool["type"] == "custom" else tool.get("parameters") or _NO_INPUT
    if not _is_name(name) or not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: it needs a name, and parameters as a schema", param=where)
    function: dict[str, Any] = {"name": function_name(str(name), namespace)}
    if tool["type"] == "custom":
        described = "\n\n".join(filter(None, (described, _form(tool.get("format"), where))))
    if described:
        function["description"] = described
    function["parameters"] = parameters
    if tool.get("strict"):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _form(form: object, where: str) -> str:
    """Say in words what a grammar would enforce."""
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return ""
    if not isinstance(form, dict) or not isinstance(form.get("definition"), str):
        at = f"{where}.format"
        raise InvalidRequest(f"{at}: type must be text, or grammar with a definition", param=at)
    return f"The input must match this {form.get('syntax')} grammar:\n{form['definition']}"


def _kind(tool: object) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return kind if isinstance(kind, str) else None


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


def add_choice(chat: dict[str, Any], choice: object) -> None:
    """Translate `tool_choice`; of allowed tools the others are left out.

    Raises:
        InvalidRequest: It is malformed, or names a tool that is not there.
    """
    if choice is None:
        return
    if isinstance(choice, str) and choice in _CHOICES:
        chat["tool_choice"] = choice
        return
    kind = _kind(choice)
    if isinstance(choice, dict) and kind in _CALLED and _is_name(choice.get("name")):
        chosen = function_name(choice["name"], choice.get("namespace"))
        chat["tool_choice"] = {"type": "function", "function": {"name": chosen}}
    elif isinstance(choice, dict) and kind == "allowed_tools":
        _allow(chat, choice)
    elif kind is not None and kind in [tool["type"] for tool in chat["tools"]]:
        chat["tool_choice"] = choice  # which is the host's to run, and to judge
    else:
        raise InvalidRequest(
            "tool_choice: it must be auto, none, required, allowed_tools, or a function or custom "
            "tool with its name",
            param="tool_choice",
        )


def _allow(chat: dict[str, Any], choice: Mapping[str, Any]) -> None:
    mode, tools = choice.get("mode"), choice.get("tools")
    if mode not in ("auto", "required") or not isinstance(tools, list):
        raise InvalidRequest(
            "tool_choice: allowed_tools needs a mode, auto or required, and tools",
            param="tool_choice",
        )
    chosen = {
        function_name(str(tool.get("name")), tool.get("namespace"))
        for tool in tools
        if isinstance(tool, dict)
    }
    chat["tools"] = [
        tool
        for tool in chat.get("tools") or ()
        if tool["type"] != "function" or tool["function"]["name"] in chosen
    ]
    chat["tool_choice"] = mode


def written_input(text: str) -> str:
    """Write the input of a custom tool as the arguments of its function."""
    return orjson.dumps({INPUT: text}).decode()


def read_input(arguments: str) -> str:
    """Read the input of a custom tool from the arguments of its function."""
    try:
        given = exact(arguments.encode(), orjson.loads(arguments))
    except ValueError:
        return arguments
    text = given.get(INPUT) if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments
