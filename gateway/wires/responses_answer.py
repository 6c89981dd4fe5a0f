"""Writes answers in the form of OpenAI's Responses: whole ones, and the items of streamed ones.

https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.providers.responses_native import OWN_MARK, RESPONSE_PREFIX
from gateway.providers.tool_ids import IdForm
from gateway.types import Usage
from gateway.wire import Keeping
from gateway.wires.messages_answer import arguments_in, thoughts_in
from gateway.wires.responses_request import LOGPROBS
from gateway.wires.responses_tools import Tool, read_input, renamed_tools

_SUFFIX: Final = IdForm(r"[a-zA-Z0-9_-]{1,48}", prefix="", longest=24)
"""Ids of items may have 64 signs when they come back."""
_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
"""What a response repeats of its request, and what it says where the request said nothing."""
_CUT_OFF: Final = frozenset({"length", "max_tokens", "model_length"})
_URL: Final = "url_citation"
IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"


class Wanted:
    """What a request, as it was sent, wants to see of an answer, or has repeated in it.

    Attributes:
        keeping: Keeps the answer; None where it is not kept.
        summary: It asks for a summary of thoughts, so clients look for thoughts there.
        tools: Those that the functions of other names stand for.
    """

    __slots__ = ("echo", "keeping", "logprobs", "summary", "tools")

    def __init__(self, body: Mapping[str, Any], keeping: Keeping | None = None) -> None:
        self.keeping = keeping
        self.echo: dict[str, Any] = {
            name: default if body.get(name) is None else body[name]
            for name, default in _ECHOED.items()
        }
        reasoning = body.get("reasoning") or {}
        self.echo["reasoning"] = {"effort": None, "summary": None, **reasoning}
        self.echo["text"] = {"format": {"type": "text"}, **(body.get("text") or {})}
        self.summary = bool(reasoning.get("summary") or reasoning.get("generate_summary"))
        self.logprobs = bool(body.get("top_logprobs") or LOGPROBS in (body.get("include") or ()))
        self.tools = renamed_tools(body.get("tools"))
        if keeping is not None:
            self.echo |= {"store": keeping.is_wanted, **_went_on_from(keeping)}


@dataclass(slots=True)
class Thoughts:
    """What a model thought; `index` is the item's place in the output."""

    id: str
    index: int
    is_summary: bool
    texts: list[str] = field(default_factory=list)
    status: str = IN_PROGRESS

    def item(self) -> dict[str, Any]:
        """Write the item."""
        item: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": []}
        if self.texts:
            item["summary" if self.is_summary else "content"] = [self.part("".join(self.texts))]
        item["status"] = self.status
        return item

    def part(self, text: str) -> dict[str, Any]:
        """Write the one part of it."""
        return {"type": "summary_text" if self.is_summary else "reasoning_text", "text": text}


@dataclass(slots=True)
class Part:
    """A part of a message: text, or a refusal."""

    texts: list[str] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    is_refusal: bool = False

    def written(self) -> dict[str, Any]:
        """Write it."""
        text = "".join(self.texts)
        if self.is_refusal:
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": self.annotations,
            "logprobs": self.logprobs,
        }


@dataclass(slots=True)
class Said:
    """What a model said."""

    id: str
    index: int
    parts: list[Part] = field(default_factory=list)
    status: str = IN_PROGRESS

    def item(self) -> dict[str, Any]:
        """Write the item."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": self.status,
            "content": [part.written() for part in self.parts],
        }


@dataclass(slots=True)
class Call:
    """A call of a tool, as far as it has arrived."""

    id: str
    index: int
    call_id: str
    tool: Tool
    parts: list[str] = field(default_factory=list)
    status: str = IN_PROGRESS

    @property
    def arguments(self) -> str:
        """All of what it is called with; an object also where nothing was given."""
        return "".join(self.parts) or "{}"

    @property
    def input(self) -> str:
        """What a custom tool is called with."""
        return read_input("".join(self.parts))

    def item(self) -> dict[str, Any]:
        """Write the item; nothing of its arguments before they are complete."""
        has_begun = self.status == IN_PROGRESS
        item: dict[str, Any] = {
            "id": self.id,
            "type": "custom_tool_call" if self.tool.is_custom else "function_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.tool.name,
        }
        if self.tool.is_custom:
            item["input"] = "" if has_begun else self.input
        else:
            item["arguments"] = "" if has_begun else self.arguments
        if self.tool.namespace is not None:
            item["namespace"] = self.tool.namespace
        return item


OutputItem = Thoughts | Said | Call


def response_of(answer: Mapping[str, Any], wants: Wanted, usage: Usage | None) -> dict[str, Any]:
    """Translate a `chat.completion` to a response."""
    choices = answer.get("choices")
    choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
    answer_id = response_id(answer.get("id"), wants.keeping)
    items = list(_items(_object(choice.get("message")), choice, answer_id, wants))
    ending = ending_of(choice.get("finish_reason"))
    for item in items:
        item.status = COMPLETED if item is not items[-1] else ending["status"]
    output = [item.item() for item in items]
    return response_object(answer_id, answer, wants, **ending, output=output, usage=usage_of(usage))


def _items(
    said: Mapping[str, Any], choice: Mapping[str, Any], answer_id: str, wants: Wanted
) -> Iterable[OutputItem]:
    index = 0
    thoughts = thoughts_in(said)
    if thoughts:
        yield Thoughts(item_id("rs", answer_id, index), index, wants.summary, [thoughts])
        index += 1
    parts = list(_parts(said, choice, wants))
    if parts:
        yield Said(item_id("msg", answer_id, index), index, parts)
        index += 1
    calls = said.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        function = _object(_object(call).get("function"))
        opened = call_of(_object(call), position, function, index, answer_id, wants)
        opened.parts.append(arguments_in(function))
        yield opened
        index += 1


def _parts(said: Mapping[str, Any], choice: Mapping[str, Any], wants: Wanted) -> Iterable[Part]:
    if isinstance(said.get("content"), str) and said["content"]:
        logprobs = logprobs_in(choice) if wants.logprobs else []
        yield Part([said["content"]], annotations_in(said), logprobs)
    if isinstance(said.get("refusal"), str) and said["refusal"]:
        yield Part([said["refusal"]], is_refusal=True)


def call_of(
    call: Mapping[str, Any],
    position: int,
    function: Mapping[str, Any],
    index: int,
    answer_id: str,
    wants: Wanted,
) -> Call:
    """Begin an item for a call of a function, under the name that the caller knows."""
    name = str(function.get("name") or "")
    tool = wants.tools.get(name) or Tool(name)
    given = call.get("id")
    call_id = given if isinstance(given, str) and given else f"call_{answer_id}_{position}"
    kind = "ctc" if tool.is_custom else "fc"
    return Call(item_id(kind, answer_id, index), index, call_id, tool)


def response_id(given: object, keeping: Keeping | None) -> str:
    """Name a response after the answer that it stands for.

    One that is kept has a name of its own: not every host takes care that no two are the same.
    """
    return f"{RESPONSE_PREFIX}{given if keeping is None else keeping.answer_id}"


def kept(response: dict[str, Any], keeping: Keeping | None) -> dict[str, Any]:
    """Keep a response where that is wanted; returns it with what is to be said of that."""
    if keeping is None:
        return response
    told = {**response, "store": True, **_went_on_from(keeping)}
    return told if keeping.is_wanted and keeping.keep(told) else {**told, "store": False}


def _went_on_from(keeping: Keeping) -> dict[str, Any]:
    """Say what the response goes on from, which the request that its host was sent did not."""
    name = keeping.conversation_id
    joined = {} if name is None else {"conversation": {"id": name}}
    return {"previous_response_id": keeping.previous_id, **joined}


def item_id(kind: str, answer_id: str, index: int) -> str:
    """Name an item: the same one of the same answer always has the same name."""
    return f"{kind}{OWN_MARK}{_SUFFIX.fit(answer_id.removeprefix(RESPONSE_PREFIX))}_{index}"


def response_object(
    answer_id: str, head: Mapping[str, Any], wants: Wanted, **fields: Any
) -> dict[str, Any]:
    """Write a response: what it repeats of its request, and `fields`."""
    created = head.get("created")
    return {
        "id": answer_id,
        "object": "response",
        "created_at": created if isinstance(created, int | float) else 0,
        "status": IN_PROGRESS,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": head.get("model"),
        "output": [],
        "previous_response_id": None,
        "service_tier": head.get("service_tier"),
        "store": False,
        "truncation": "disabled",
        "usage": None,
        **wants.echo,
        **fields,
    }


def ending_of(finish_reason: object) -> dict[str, Any]:
    """Say whether an answer is complete, and if not, why."""
    if isinstance(finish_reason, str) and finish_reason in _CUT_OFF:
        return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    if finish_reason == "content_filter":
        return {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    return {"status": COMPLETED}


def usage_of(usage: Usage | None) -> dict[str, Any]:
    """Write what is charged."""
    usage = usage or Usage(0, 0)
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def logprobs_in(choice: Mapping[str, Any]) -> list[Any]:
    """Return the log probabilities of a choice's text."""
    content = _object(choice.get("logprobs")).get("content")
    return content if isinstance(content, list) else []


def annotations_in(said: Mapping[str, Any]) -> list[Any]:
    """Return the citations of a message or delta."""
    given = said.get("annotations")
    return [
        {"type": _URL, **_object(one.get(_URL))} if one.get("type") == _URL else one
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict)
    ]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
