"""Translates the input items of OpenAI's Responses to messages of chat completions.

https://platform.openai.com/docs/api-reference/responses/create

What one model put out, and the results of its calls, may come as many items in any order; chat
completions want one message of the model's, and the results right after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.types import CARRIED
from gateway.wires.responses_tools import function_name, written_input

Item = Mapping[str, Any]
Message = dict[str, Any]

_PICTURE: Final = "The result is in the picture that follows."
_OF_CLIENTS: Final = (
    "<environment_context>",
    "<turn_aborted>",
    "<user_instructions>",
    "# AGENTS.md",
)
"""Open what Codex adds to its user's text, as messages of their own."""
_OF_HOSTS: Final = frozenset(
    {
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "computer_call",
        "computer_call_output",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    }
)
"""Calls of tools that OpenAI describes or runs, and their results: no other model has them."""
_REFERENCE: Final = "item_reference"
_REFUSED: Final = {
    "compaction": "only the model that wrote it can read it; send the items that it stands for",
    _REFERENCE: "no items are stored here; send the item itself, and `store: false`",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation in the form of chat completions.

    Attributes:
        said: What the user said, turn by turn, without what clients add.
    """

    messages: list[Message]
    said: list[str]


def conversation_of(instructions: object, given: object) -> Conversation:
    """Translate `instructions` and `input`.

    Raises:
        InvalidRequest: They are malformed; the message says where.
    """
    reader = _Reader()
    if instructions is not None:
        if not isinstance(instructions, str):
            raise InvalidRequest("instructions: it must be a string", param="instructions")
        reader.system.append(instructions)
    if isinstance(given, str):
        reader.add({"role": "user", "content": given})
    elif isinstance(given, list):
        for i, item in enumerate(given):
            try:
                reader.add(item)
            except InvalidRequest as error:
                raise InvalidRequest(f"input[{i}]: {error}", param=f"input[{i}]") from error
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                wrong = f"{error} is missing" if isinstance(error, KeyError) else "it is malformed"
                raise InvalidRequest(f"input[{i}]: {wrong}", param=f"input[{i}]") from error
    else:
        raise InvalidRequest("input: it must be a string or a list of items", param="input")
    return Conversation(reader.messages(), reader.said)


@dataclass(slots=True)
class _Turn:
    """What a model put out in a row, and the results of its calls, which follow it at once."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Message] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    pictures: list[Message] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """Write the message, if anything was said, and the results."""
        if not self.texts and not self.calls:
            return self.results
        text = "\n\n".join(self.texts)
        message: Message = {
            "role": "assistant",
            "content": text if self.texts or not self.calls else None,
        }
        if self.thoughts:
            message["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = self.calls
        return [message, *self.results]


class _Reader:
    """Puts a conversation together, item by item, in linear time."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self.said: list[str] = []
        self.carried: list[Item] = []
        self._parts: list[_Turn | Message] = []
        self._turn: _Turn | None = None
        self._turn_of_call: dict[str, _Turn] = {}
        self._adders: Mapping[str, Callable[[Item], None]] = {
            "message": self._add_message,
            "function_call": self._add_function_call,
            "function_call_output": self._add_result,
            "custom_tool_call": self._add_custom_call,
            "custom_tool_call_output": self._add_result,
            "reasoning": self._add_thoughts,
        }

    def add(self, item: Item) -> None:
        """Add one item.

        Raises:
            InvalidRequest, KeyError, TypeError, AttributeError, ValueError: It is malformed.
        """
        kind = item.get("type") or "message"
        adder = self._adders.get(kind)
        if adder is not None:
            adder(item)
        elif kind in _OF_HOSTS:
            self.carried.append(item)
        elif kind == _REFERENCE and str(item.get("id")).startswith("rs_"):
            return  # to thoughts, which an answer can do without
        elif kind in _REFUSED:
            raise InvalidRequest(f"{kind}: {_REFUSED[kind]}")
        else:
            raise InvalidRequest("items of this type are not known")

    def messages(self) -> list[Message]:
        """Write all messages."""
        written: list[Message] = []
        if self.system:
            written.append({"role": "system", "content": "\n\n".join(self.system)})
        pictures: list[Message] = []
        for part in self._parts:
            if isinstance(part, dict) and part["role"] == "user" and pictures:
                part["content"] = [*pictures, *_as_parts(part["content"])]
                pictures = []
            if pictures:
                written.append({"role": "user", "content": pictures})
            written += part.messages() if isinstance(part, _Turn) else [part]
            pictures = part.pictures if isinstance(part, _Turn) else []
        if pictures:
            written.append({"role": "user", "content": pictures})
        if self.carried and written:
            written[-1][CARRIED] = self.carried
        return written

    def _add_message(self, item: Item) -> None:
        role, content = item["role"], item["content"]
        if not isinstance(content, str | list):
            raise TypeError
        if role == "assistant":
            self._now().texts.append(_text(content))
        elif role == "user":
            self._turn = None
            self._add_user(content)
        elif role not in ("system", "developer"):
            raise InvalidRequest("role must be user, assistant, system or developer")
        elif self._parts:
            self._remind(_text(content))
        else:
            self.system.append(_text(content))

    def _add_user(self, content: str | list[Any]) -> None:
        parts: Any = content if isinstance(content, str) else [_part(part) for part in content]
        texts = [part["text"] for part in _as_parts(parts) if part["type"] == "text"]
        own = [text for text in texts if not text.startswith(_OF_CLIENTS)]
        if any(own):
            self.said.append("\n".join(own))
        if isinstance(parts, list) and len(parts) == len(texts) < 2:
            parts = "".join(texts)
        self._parts.append({"role": "user", "content": parts})

    def _remind(self, instruction: str) -> None:
        """Add an instruction amid a conversation: many hosts take them only before it."""
        text = f"<system-reminder>\n{instruction}\n</system-reminder>"
        last = self._parts[-1]
        if isinstance(last, _Turn) or last["role"] != "user":
            self._turn = None
            self._parts.append({"role": "user", "content": [{"type": "text", "text": text}]})
        else:
            last["content"] = _as_parts(last["content"])
            last["content"].append({"type": "text", "text": text})

    def _now(self) -> _Turn:
        """Return the turn that the model's next item belongs to."""
        if self._turn is None:
            self._turn = _Turn()
            self._parts.append(self._turn)
        return self._turn

    def _add_function_call(self, item: Item) -> None:
        self._add_call(item, _string(item["arguments"]))

    def _add_custom_call(self, item: Item) -> None:
        self._add_call(item, written_input(_string(item["input"])))

    def _add_call(self, item: Item, arguments: str) -> None:
        call_id, name = _string(item["call_id"]), _string(item["name"])
        function = {"name": function_name(name, item.get("namespace")), "arguments": arguments}
        turn = self._now()
        turn.calls.append({"id": call_id, "type": "function", "function": function})
        self._turn_of_call[call_id] = turn

    def _add_result(self, item: Item) -> None:
        call_id, output = _string(item["call_id"]), item["output"]
        pictures: list[Message] = []
        if isinstance(output, list):
            parts = [_part(part) for part in output]
            pictures = [part for part in parts if part["type"] != "text"]
            output = "\n".join(part["text"] for part in parts if part["type"] == "text")
            if pictures and not output:
                output = _PICTURE
        message = {"role": "tool", "tool_call_id": call_id, "content": _string(output)}
        turn = self._turn_of_call.get(call_id)
        if turn is None:  # a result of no call: for the model to judge
            turn = _Turn()
            self._parts.append(turn)
        turn.results.append(message)
        turn.pictures += pictures
        self._turn = None

    def _add_thoughts(self, item: Item) -> None:
        """Keep thoughts that can be read; encrypted ones are for the model that wrote them."""
        if item.get("encrypted_content"):
            self.carried.append(item)
            return
        parts = item.get("content") or item.get("summary") or ()
        texts = [_string(part["text"]) for part in parts]
        if any(texts):
            self._now().thoughts.append("\n\n".join(texts))


def _as_parts(content: str | list[Message]) -> list[Message]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(content: str | list[Any]) -> str:
    """Join the texts of what a model or an operator said; a refusal is text here too."""
    if isinstance(content, str):
        return content
    return "".join(_string(part["refusal" if "refusal" in part else "text"]) for part in content)


def _part(part: Item) -> Message:
    kind = part["type"]
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": _string(part["text"])}
    if kind == "refusal":
        return {"type": "text", "text": _string(part["refusal"])}
    if kind == "input_image":
        return _image(part)
    if kind == "input_file":
        return {"type": "file", "file": _file(part)}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": dict(part["input_audio"])}
    raise InvalidRequest("content of this type is not known")


def _image(part: Item) -> Message:
    if part.get("image_url") is None:
        return {"type": "file", "file": {"file_id": _string(part["file_id"])}}
    image = {"url": _string(part["image_url"])}
    if part.get("detail") is not None:
        image["detail"] = _string(part["detail"])
    return {"type": "image_url", "image_url": image}


def _file(part: Item) -> Message:
    if part.get("file_id") is not None:
        return {"file_id": _string(part["file_id"])}
    data = part["file_url"] if part.get("file_data") is None else part["file_data"]
    file = {"file_data": _string(data)}
    if part.get("filename") is not None:
        file["filename"] = _string(part["filename"])
    return file


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
