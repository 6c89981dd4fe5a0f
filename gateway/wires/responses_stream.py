"""Writes a streamed answer as the events of OpenAI's Responses.

https://platform.openai.com/docs/api-reference/responses-streaming

Every item has its place in the output, which its events name. So calls whose arguments come mixed
stay open side by side.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway.errors import render
from gateway.exact_json import dumps
from gateway.providers.base import AnswerStream
from gateway.providers.sse import decode_object, events_in, payload_of
from gateway.types import Usage
from gateway.wire import Keeping
from gateway.wires.messages_answer import arguments_in, thoughts_in
from gateway.wires.responses_answer import (
    COMPLETED,
    IN_PROGRESS,
    Call,
    OutputItem,
    Part,
    Said,
    Thoughts,
    Wanted,
    annotations_in,
    call_of,
    ending_of,
    item_id,
    kept,
    logprobs_in,
    response_id,
    response_object,
    usage_of,
)

_KNOWN_FAILURES: Final = (
    "context_length_exceeded",
    "insufficient_quota",
    "rate_limit_exceeded",
)
"""Codes that clients tell apart in a response that failed; any other one is a server's error."""


_TEXT_EVENT: Final = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    b'"item_id":"%b","output_index":%d,"content_index":%d,"sequence_number":'
)


class NativeWriter:
    """Ends a stream whose events are OpenAI's own, which pass unchanged."""

    translate: Callable[[bytes], bytes] | None = None

    def __init__(self, upstream: AnswerStream, keeping: Keeping | None = None) -> None:
        self._upstream = upstream
        self._keeping = keeping

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer: the provider's, with what the gateway says of it."""
        del usage
        last = upstream.usage_event or {}
        response = {**(last.get("response") or {}), "waypost": summary()}
        return _event({**last, "response": kept(response, self._keeping)})

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write an error; events are numbered, and as many were forwarded as had a number."""
        del request_id
        said = orjson.loads(render(error).body)["error"]
        return _event(_error(said, self._upstream.forwarded_events))


class ResponsesWriter:
    """Turns chunks of chat completions into events of Responses."""

    def __init__(self, wants: Wanted) -> None:
        self.translate: Callable[[bytes], bytes] | None = self._translate
        self._wants = wants
        self._out: list[bytes] = []
        self._number = 0
        self._head: Mapping[str, Any] = {}
        self._id = ""
        self._finish_reason: object = None
        self._items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._calls: dict[int, Call] = {}
        self._text: Part | None = None
        self._text_event = b""

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer."""
        if not self._id:
            self._begin(upstream.head or {})
        ending = ending_of(self._finish_reason)
        self._close(ending["status"])
        for call in self._calls.values():
            self._close_call(call, ending["status"])
        output = [item.item() for item in self._items]
        fields = {**ending, "output": output, "usage": usage_of(usage), "waypost": summary()}
        response = kept(self._response(**fields), self._wants.keeping)
        self._put(f"response.{ending['status']}", response=response)
        return self._taken()

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write the end of an answer that is not complete: a failed response, and an error.

        SDKs raise at an event that has an `error`; Codex heeds the failed response.
        """
        del request_id
        said = orjson.loads(render(error).body)["error"]
        if self._id:
            code = next((each for each in _KNOWN_FAILURES if each == said["code"]), "server_error")
            for item in self._items:
                item.status = "incomplete" if item.status == IN_PROGRESS else item.status
            output = [item.item() for item in self._items]
            failure = {"code": code, "message": said["message"]}
            failed = self._response(status="failed", output=output, error=failure)
            self._put("response.failed", response=failed)
        self._out.append(_event(_error(said, self._number)))
        return self._taken()

    def _translate(self, events: bytes) -> bytes:
        for event in events_in(events):
            payload = payload_of(event)
            chunk = decode_object(payload) if payload else None
            if chunk is not None:
                self._take(chunk)
            elif not payload and event.startswith(b":"):
                self._out.append(event)
        return self._taken()

    def _taken(self) -> bytes:
        written = b"".join(self._out)
        self._out.clear()
        return written

    def _take(self, chunk: Mapping[str, Any]) -> None:
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if not self._id:
            self._begin(chunk)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if len(delta) == 1 and self._text is not None and type(content) is str and content:
            self._say(content, choice)  # as nearly every chunk
        else:
            self._take_texts(delta, choice)
            calls = delta.get("tool_calls")
            for position, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, dict):
                    self._take_call(call, position)

    def _take_texts(self, delta: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        thoughts = thoughts_in(delta)
        if thoughts:
            self._think(thoughts)
        content, refusal = delta.get("content"), delta.get("refusal")
        if isinstance(content, str) and content:
            self._say(content, choice)
        if isinstance(refusal, str) and refusal:
            self._refuse(refusal)
        for annotation in annotations_in(delta):
            self._annotate(annotation)

    def _begin(self, head: Mapping[str, Any]) -> None:
        self._head = {name: head.get(name) for name in ("created", "model", "service_tier")}
        self._id = response_id(head.get("id"), self._wants.keeping)
        response = orjson.Fragment(dumps(self._response()))
        self._put("response.created", response=response)
        self._put("response.in_progress", response=response)

    def _response(self, **fields: Any) -> dict[str, Any]:
        return response_object(self._id, self._head, self._wants, **fields)

    def _think(self, text: str) -> None:
        item = self._open
        if not isinstance(item, Thoughts):
            item = Thoughts(self._next_id("rs"), len(self._items), self._wants.summary)
            self._start(item)
            self._put_of(item, _OF_THOUGHTS[item.is_summary][0], part=item.part(""))
        item.texts.append(text)
        self._put_of(item, _OF_THOUGHTS[item.is_summary][1], delta=text)

    def _say(self, text: str, choice: Mapping[str, Any]) -> None:
        """Write text; what the events of a part have in common is written once."""
        part = self._text
        if part is None:
            item, part = self._part(is_refusal=False)
            self._text = part
            place = (item.id.encode(), item.index, len(item.parts) - 1)
            self._text_event = _TEXT_EVENT % place
        part.texts.append(text)
        logprobs = logprobs_in(choice) if self._wants.logprobs else []
        part.logprobs += logprobs
        told = (self._text_event, self._number, orjson.dumps(logprobs), orjson.dumps(text))
        self._out.append(b'%b%d,"logprobs":%b,"delta":%b}\n\n' % told)
        self._number += 1

    def _refuse(self, text: str) -> None:
        self._text = None
        item, part = self._part(is_refusal=True)
        part.texts.append(text)
        self._put_of(item, "response.refusal.delta", delta=text)

    def _annotate(self, annotation: Any) -> None:
        item, part = self._part(is_refusal=False)
        part.annotations.append(annotation)
        self._put_of(
            item,
            "response.output_text.annotation.added",
            annotation_index=len(part.annotations) - 1,
            annotation=annotation,
        )

    def _part(self, *, is_refusal: bool) -> tuple[Said, Part]:
        """Return the open message and its open part, of the kind that is asked for."""
        item = self._open
        if not isinstance(item, Said):
            item = Said(self._next_id("msg"), len(self._items))
            self._start(item)
        if not item.parts or item.parts[-1].is_refusal != is_refusal:
            if item.parts:
                self._close_part(item)
            item.parts.append(Part(is_refusal=is_refusal))
            self._put_of(item, "response.content_part.added", part=item.parts[-1].written())
        return item, item.parts[-1]

    def _take_call(self, part: Mapping[str, Any], position: int) -> None:
        index = part.get("index")
        index = index if type(index) is int else position
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        call = self._calls.get(index)
        if call is None:
            if not function.get("name"):
                return
            call = call_of(part, index, function, len(self._items), self._id, self._wants)
            self._calls[index] = call
            self._start(call)
        arguments = arguments_in(function)
        if arguments and call.status == IN_PROGRESS:
            call.parts.append(arguments)
            if not call.tool.is_custom:
                self._put_call(call, "delta", delta=arguments)

    def _next_id(self, kind: str) -> str:
        return item_id(kind, self._id, len(self._items))

    def _start(self, item: OutputItem) -> None:
        self._close()
        self._open = item
        self._items.append(item)
        self._put("response.output_item.added", output_index=item.index, item=item.item())

    def _close(self, status: str = COMPLETED) -> None:
        """Close the open item; a call whose arguments have not ended stays open."""
        item, self._open, self._text = self._open, None, None
        if isinstance(item, Thoughts):
            text = "".join(item.texts)
            _, _, done, part_done = _OF_THOUGHTS[item.is_summary]
            self._put_of(item, done, text=text)
            self._put_of(item, part_done, part=item.part(text))
            self._put_done(item, status)
        elif isinstance(item, Said):
            self._close_part(item)
            self._put_done(item, status)
        elif isinstance(item, Call) and _is_object("".join(item.parts)):
            self._close_call(item, status)

    def _close_part(self, item: Said) -> None:
        part = item.parts[-1].written()
        if part["type"] == "refusal":
            self._put_of(item, "response.refusal.done", refusal=part["refusal"])
        else:
            told = {"text": part["text"], "logprobs": part["logprobs"]}
            self._put_of(item, "response.output_text.done", **told)
        self._put_of(item, "response.content_part.done", part=part)

    def _close_call(self, call: Call, status: str) -> None:
        if call.status != IN_PROGRESS:
            return
        if call.tool.is_custom:
            self._put_call(call, "delta", delta=call.input)
            self._put_call(call, "done", input=call.input)
        else:
            if not call.parts:
                self._put_call(call, "delta", delta=call.arguments)
            self._put_call(call, "done", arguments=call.arguments)
        self._put_done(call, status)

    def _put_call(self, call: Call, what: str, **fields: Any) -> None:
        kind = "custom_tool_call_input" if call.tool.is_custom else "function_call_arguments"
        place = {"item_id": call.id, "output_index": call.index}
        self._put(f"response.{kind}.{what}", **place, **fields)

    def _put_done(self, item: OutputItem, status: str) -> None:
        item.status = status
        self._put("response.output_item.done", output_index=item.index, item=item.item())

    def _put_of(self, item: Thoughts | Said, kind: str, **fields: Any) -> None:
        """Write an event of a part of `item`."""
        place: dict[str, Any] = {"item_id": item.id, "output_index": item.index}
        if isinstance(item, Said):
            place["content_index"] = len(item.parts) - 1
        else:
            place["summary_index" if item.is_summary else "content_index"] = 0
        self._put(kind, **place, **fields)

    def _put(self, kind: str, **fields: Any) -> None:
        self._out.append(_event({"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1


_OF_THOUGHTS: Final = {
    True: (
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ),
    False: (
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
    ),
}
"""The events of thoughts, by whether they are a summary: begun, more, done, closed."""


def _error(said: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Write an error as the reference has it, and as OpenAI sends it and its SDKs expect it."""
    told = {name: said.get(name) for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": number, **told, "error": said}


def _event(body: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(body.get("type")).encode(), dumps(body))


def _is_object(text: str) -> bool:
    """Whether arguments have ended."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
