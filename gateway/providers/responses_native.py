"""Sends requests that came in the form of OpenAI's Responses to hosts that speak it.

https://platform.openai.com/docs/api-reference/responses

A request passes as it was sent, but for what the gateway decides (model, output limit, the model's
own system prompt and defaults), for what this model would refuse (with `auto` its caller cannot
know which one answers), and for fields that nobody judged. Its answer passes as it is.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.providers.base import Completion, UpstreamCall
from gateway.providers.event_tap import EventTap
from gateway.providers.failures import stream_error
from gateway.providers.lacks import OUTPUT_LIMITS
from gateway.providers.sse import decode_object, payload_of
from gateway.providers.usage import count_of, object_of, whole_usage
from gateway.types import HostedModel, Usage

RESPONSES: Final = "responses"
"""Name of the wire."""
RESPONSE_PREFIX: Final = "resp_"
OWN_MARK: Final = "_wp_"
"""In ids of items that the gateway names for other hosts' answers: no host knows them."""
ENCRYPTED: Final = "reasoning.encrypted_content"
_LIMIT: Final = "max_output_tokens"
_SENT: Final = frozenset(
    {
        _LIMIT,
        "include",
        "input",
        "instructions",
        "max_tool_calls",
        "metadata",
        "reasoning",
        "store",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncation",
    }
)
"""Fields that a chat request has in another form or not at all, and that cost nothing more. Others
are sent where the chat request, which was judged and made fit for the model, has them too."""
_THOUGHTS: Final = frozenset({"item_reference", "reasoning"})
_TEXT_DELTA: Final = b"event: response.output_text.delta"
_ENDINGS: Final = frozenset({"response.completed", "response.incomplete"})


def native_body(call: UpstreamCall, *, is_stream: bool) -> dict[str, Any]:
    """Write the body of `call`, whose `native` request is in the form of Responses."""
    assert call.native is not None  # noqa: S101
    given, chat = call.native.body, call.body
    body = {name: value for name, value in given.items() if name in _SENT or name in chat}
    body["model"] = call.model.upstream_name
    body["store"] = False  # what is kept is kept here, for the team alone
    body.pop("stream", None)
    if is_stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)
    if isinstance(body.get("input"), list):
        body["input"] = list(_known_items(body["input"]))
    limits = [chat[name] for name in OUTPUT_LIMITS if type(chat.get(name)) is int]
    if limits:
        body[_LIMIT] = min(limits)
    _fit_text(body, chat)
    _fit_reasoning(body, call)
    _add_own(body, call.model)
    return body


def _known_items(items: list[Any]) -> Iterable[Any]:
    """Leave out what the host could not find: it keeps nothing, so an item has to say all itself.

    That goes for thoughts that are only named, thoughts of other hosts' models, and the names that
    the gateway gave to items.
    """
    for item in items:
        if item.get("type") == "reasoning" and not _can_be_read(item):
            continue
        if not isinstance(item.get("id"), str) or OWN_MARK not in item["id"]:
            yield item
        elif item.get("type") not in _THOUGHTS:
            yield {name: value for name, value in item.items() if name != "id"}


def _can_be_read(thoughts: Mapping[str, Any]) -> bool:
    return bool(thoughts.get("encrypted_content") or thoughts.get("content"))


def _fit_text(body: dict[str, Any], chat: Mapping[str, Any]) -> None:
    text = body.get("text")
    if isinstance(text, dict) and "verbosity" in text and "verbosity" not in chat:
        body["text"] = {name: value for name, value in text.items() if name != "verbosity"}


def _fit_reasoning(body: dict[str, Any], call: UpstreamCall) -> None:
    """Say how much to think as budgets have it; ask a model that does not think for nothing.

    One that does gives its thoughts along, encrypted: it can go on from them only if they are sent.
    """
    effort = call.body.get("reasoning_effort")
    if effort is not None:
        body["reasoning"] = {**(body.get("reasoning") or {}), "effort": effort}
    if call.model.capabilities.reasoning == "effort":
        include = body.get("include") or []
        body["include"] = include if ENCRYPTED in include else [*include, ENCRYPTED]
    elif effort is None:
        if body.pop("reasoning", None):
            call.dropped.add("reasoning")
        if isinstance(body.get("include"), list):
            body["include"] = [part for part in body["include"] if part != ENCRYPTED]


def _add_own(body: dict[str, Any], model: HostedModel) -> None:
    """Add the hosted model's system prompt, and its defaults where the caller said nothing."""
    if model.system_prompt:
        said = (model.system_prompt, body.get("instructions"))
        body["instructions"] = "\n\n".join(filter(None, said))
    for name, value in model.request_defaults.items():
        place, part = _PLACES.get(name, (name, None))
        if part is not None:
            body[place] = {part: value, **(body.get(place) or {})}
        elif body.get(place) is None:
            body[place] = value


_PLACES: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(OUTPUT_LIMITS, (_LIMIT, None)),
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
}
"""Where Responses have a field of chat completions that a model's defaults may name."""


def native_completion(response: dict[str, Any]) -> Completion:
    """Read a whole response.

    Raises:
        ValueError: It is none.
    """
    if response.get("object") != "response" or not isinstance(response.get("output"), list):
        raise ValueError("not a response")
    reason = _finish_reason(response)
    choice = {"index": 0, "message": _message(response["output"]), "finish_reason": reason}
    body = {**_head(response), "object": "chat.completion", "choices": [choice]}
    return Completion(body, usage_of(response.get("usage")), reason, native=response)


def usage_of(reported: object) -> Usage | None:
    """Read the counts of a response; None where there are none."""
    if not isinstance(reported, dict):
        return None
    inputs = object_of(reported, "input_tokens_details")
    return whole_usage(
        prompt=count_of(reported, "input_tokens"),
        completion=count_of(reported, "output_tokens"),
        cached=count_of(inputs, "cached_tokens"),
        cache_write=count_of(inputs, "cache_write_tokens"),
        reasoning=count_of(object_of(reported, "output_tokens_details"), "reasoning_tokens"),
    )


class ResponsesTap(EventTap):
    """Notes what passes by, and forwards the events as they came.

    The last one is withheld, for the service to write once the answer is charged.
    """

    is_native = True

    def _forwarded(self, event: bytes) -> bytes:
        if event.startswith(_TEXT_DELTA) and self.head is not None:
            return event
        payload = payload_of(event)
        message = decode_object(payload) if payload else None
        if message is not None:
            self._note(message)
        return b"" if self.error or self.is_done or payload == b"[DONE]" else event

    def _note(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        response = object_of(message, "response")
        if self.head is None:
            self.head = _head(response)
        if kind in ("error", "response.failed") or message.get("error"):
            said = message.get("error") or response.get("error") or message
            self.error = stream_error(said, self._provider)
        elif isinstance(kind, str) and kind in _ENDINGS:
            self.usage = usage_of(response.get("usage"))
            self.finish_reason = _finish_reason(response)
            self.usage_event = message
            self._end()


def _head(response: Mapping[str, Any]) -> dict[str, Any]:
    """Say which answer it is, as a chunk of chat completions does."""
    given = response.get("id")
    answer_id = given.removeprefix(RESPONSE_PREFIX) if isinstance(given, str) else None
    return {
        "id": answer_id,
        "created": response.get("created_at"),
        "model": response.get("model"),
    }


def _finish_reason(response: Mapping[str, Any]) -> str:
    if response.get("status") == "incomplete":
        reason = object_of(response, "incomplete_details").get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    return "stop"


def _message(output: list[Any]) -> dict[str, Any]:
    """Gather what was said and called: it is what is counted and learnt from."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for item in output:
        if item.get("type") == "message":
            texts += [part.get("text") or part.get("refusal") or "" for part in item["content"]]
        elif item.get("type") in ("function_call", "custom_tool_call"):
            arguments = item.get("arguments") or item.get("input")
            function = {"name": item.get("name"), "arguments": arguments}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    return message | {"tool_calls": calls} if calls else message
