"""Translates the turns of Anthropic's Messages to messages of chat completions; pure functions.

https://platform.claude.com/docs/en/api/messages

What chat completions cannot say is carried along (`CARRIED`): it belongs to the prompt that an
upstream of Anthropic's form is sent, so it must be counted. Other upstreams are not sent it.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.exact_json import dumps
from gateway.types import CARRIED

Block = Mapping[str, Any]
Message = dict[str, Any]

# Fields of a block that are translated, or that change nothing in the prompt.
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"type", "text", "cache_control"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
    "search_result": frozenset(
        {"type", "content", "source", "title", "citations", "cache_control"}
    ),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
}
_PICTURE: Final = "The result is in the picture that follows."


def chat_messages(system: object, messages: object) -> list[Message]:
    """Translate a system prompt and a conversation.

    Raises:
        InvalidRequest: They are malformed; the message says where.
    """
    translated: list[Message] = []
    if system:
        translated.append(_at("system", _system, system))
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: at least one message is required", param="messages")
    reminders: list[Message] = []
    for i, message in enumerate(messages):
        turns = _at(f"messages.{i}", _turn, message)
        if turns and turns[0]["role"] == "system" and i:
            reminders += turns
        elif turns:
            _remind(translated, reminders)
            reminders = []
            translated += turns
    _remind(translated, reminders)
    return translated


def _remind(messages: list[Message], instructions: list[Message]) -> None:
    """Add instructions amid a conversation: many hosts take system messages only before it.

    All that follow each other at once: to add one after the other would take quadratic time.
    """
    if not instructions:
        return
    texts = [f"<system-reminder>\n{one['content']}\n</system-reminder>" for one in instructions]
    if not messages or messages[-1]["role"] != "user":
        messages.append({"role": "user", "content": "\n\n".join(texts)})
    elif isinstance(messages[-1]["content"], str):
        messages[-1]["content"] = "\n\n".join([messages[-1]["content"], *texts])
    else:
        messages[-1]["content"] += [{"type": "text", "text": text} for text in texts]
    own = messages[-1].get(CARRIED, [])
    _carrying(messages[-1], own + [rest for one in instructions for rest in one.get(CARRIED, [])])


def _at(where: str, translate: Any, value: Any) -> Any:
    try:
        return translate(value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else "it is malformed"
        raise InvalidRequest(f"{where}: {said}", param=where) from error


def _system(system: object) -> Message:
    """Join a system prompt: many hosts take it as one text only."""
    if isinstance(system, str):
        return {"role": "system", "content": system}
    blocks: list[Block] = list(system)  # type: ignore[call-overload]
    message: Message = {
        "role": "system",
        "content": "\n\n".join(_string(block["text"]) for block in blocks),
    }
    return _carrying(message, [rest for block in blocks if (rest := _rest(block))])


def _turn(message: Mapping[str, Any]) -> list[Message]:
    role, content = message["role"], message["content"]
    if role == "system":
        return [_system(content)]
    if role not in ("user", "assistant"):
        raise ValueError
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise TypeError
    return _assistant(content) if role == "assistant" else _user(content)


def _user(blocks: list[Block]) -> list[Message]:
    """Translate a user's turn: results of tools are messages of their own, and come first.

    Pictures in results come after all of them, since chat completions admits none there.
    """
    results: list[Message] = []
    parts: list[dict[str, Any]] = []
    carried: list[Any] = []
    own: list[Block] = []
    for block in blocks:
        if block["type"] == "tool_result":
            results.append(_result(block, parts))
        else:
            own.append(block)
    for block in own:
        translated = _parts(block)
        parts += translated
        rest = _rest(block)
        if rest:
            carried.append(rest)
    if not parts and not carried:
        return results
    content: Any = parts
    if len(parts) == 1 and parts[0]["type"] == "text":
        content = parts[0]["text"]
    return [*results, _carrying({"role": "user", "content": content or ""}, carried)]


def _result(block: Block, pictures: list[dict[str, Any]]) -> Message:
    content = block.get("content") or ""
    carried: list[Any] = []
    if isinstance(content, list):
        texts, found = [], len(pictures)
        for inner in content:
            parts = _parts(inner)
            texts += [part["text"] for part in parts if part["type"] == "text"]
            pictures += [part for part in parts if part["type"] != "text"]
            rest = _rest(inner)
            if rest:
                carried.append(rest)
        content = "\n".join(texts)
        if not content and len(pictures) > found:
            content = _PICTURE
    tool = {
        "role": "tool",
        "tool_call_id": _string(block["tool_use_id"]),
        "content": _string(content),
    }
    return _carrying(tool, carried)


def _parts(block: Block) -> list[dict[str, Any]]:
    """Translate a block of a user's to parts; none where chat completions has no such part."""
    kind = block["type"]
    if kind == "text":
        return [{"type": "text", "text": _string(block["text"])}]
    if kind == "image":
        return [_image(block["source"])]
    if kind == "document":
        return _document(block)
    if kind == "search_result":
        texts = [_string(inner["text"]) for inner in block["content"]]
        heading = f"{block.get('title')} ({block.get('source')})"
        return [{"type": "text", "text": "\n".join([heading, *texts])}]
    return []


def _image(source: Mapping[str, Any]) -> dict[str, Any]:
    if source["type"] == "file":
        return {"type": "file", "file": {"file_id": _string(source["file_id"])}}
    return {"type": "image_url", "image_url": {"url": _address(source)}}


def _document(block: Block) -> list[dict[str, Any]]:
    source, title = block["source"], block.get("title")
    said = [_string(block[name]) for name in ("title", "context") if block.get(name)]
    kind = source["type"]
    if kind == "text":
        return [{"type": "text", "text": "\n".join([*said, _string(source["data"])])}]
    heading = [{"type": "text", "text": "\n".join(said)}] if said else []
    if kind == "content":
        content = source["content"]
        if isinstance(content, str):
            return [*heading, {"type": "text", "text": content}]
        return [*heading, *(part for inner in content for part in _parts(inner))]
    if kind == "file":
        return [*heading, {"type": "file", "file": {"file_id": _string(source["file_id"])}}]
    file = {"file_data": _address(source), "filename": title or "document.pdf"}
    return [*heading, {"type": "file", "file": file}]


def _address(source: Mapping[str, Any]) -> str:
    if source["type"] == "base64":
        return f"data:{_string(source['media_type'])};base64,{_string(source['data'])}"
    if source["type"] == "url":
        return _string(source["url"])
    raise ValueError


def _assistant(blocks: list[Block]) -> list[Message]:
    """Translate a model's turn: its texts are one text, its calls follow."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    carried: list[Any] = []
    for block in blocks:
        kind = block["type"]
        if kind == "text":
            texts.append(_string(block["text"]))
        elif kind == "tool_use":
            calls.append(_call(block))
        rest = _rest(block)
        if rest:
            carried.append(rest)
    message: Message = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
    }
    if calls:
        message["tool_calls"] = calls
    return [_carrying(message, carried)]


def _call(block: Block) -> dict[str, Any]:
    given = block.get("input") or {}
    if not isinstance(given, dict):
        raise TypeError
    function = {"name": _string(block["name"]), "arguments": dumps(given).decode()}
    return {"id": _string(block["id"]), "type": "function", "function": function}


def _rest(block: Block) -> Any:
    """Return what of `block` has no translation: some of its fields, or all of it."""
    known = _KNOWN.get(block["type"])
    if known is None:
        return block
    if block.keys() <= known:
        return None
    return {name: value for name, value in block.items() if name not in known}


def _carrying(message: Message, carried: list[Any]) -> Message:
    if carried:
        message[CARRIED] = carried
    return message


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
