"""What callers send: parsed just far enough to route it; every other field passes through.

https://platform.openai.com/docs/api-reference/chat/create, plus one object of our own, `waypost`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import orjson

from gateway.errors import InvalidRequest
from gateway.exact_json import dumps, exact
from gateway.expected_tokens import expected_prompt_tokens
from gateway.nesting import MAX_DEPTH, MAX_INDENTATION_BYTES, indentation_of, is_too_deep
from gateway.types import NativeRequest

OWN_FIELD = "waypost"
MAX_NAME_CHARS = 256
MAX_PIECES = 250_000
"""Strings, commas and brackets of a body: 35,000 messages. Six million lists took 6 s to decode."""
SLICE_BYTES = 1024 * 1024
"""Of a long string that are searched in one go: that takes 8 ms, and others wait meanwhile."""
MAX_SHOWN_CHARS = 80
MAX_WILLINGNESS_TO_PAY_USD = 1e9
_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+(?P<end>"?)', re.DOTALL)
_PIECE = re.compile(rb'"' + _REST.pattern + rb"|[,\[{]", re.DOTALL)
_CONVERSATION_ID = re.compile(r"[\x21-\x7e]{1,128}")
MAX_TURN_BUDGET_TOKENS = 2**31 - 1
MAX_PLAN = 64
MAX_SUB_QUESTION_CHARS = 8_000
_IN_HEADERS = ("conversation_id", "router_version", "task", "turn_budget", "willingness_to_pay")
_OWN_FIELDS = frozenset({*_IN_HEADERS, "plan", "plan_position"})
_TRACE_HEADERS = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"))
_OWN_HEADERS = {b"x-waypost-" + name.replace("_", "-").encode(): name for name in _IN_HEADERS}


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What a caller may say about routing, in the body's `waypost` object or in headers.

    Attributes:
        willingness_to_pay_usd: USD per unit of quality; the profile's where None.
        router_version: Pins a router artefact.
        conversation_id: The caller's name for the conversation.
        task: A label for the caller's own reports; logged, never used to route.
        turn_budget_tokens: Completion tokens for the whole conversation; turns get shares of it.
        plan: The sub-questions of the conversation, past and coming, as far as they are known.
        plan_position: Which of them this turn asks, from 0.
    """

    willingness_to_pay_usd: float | None = None
    router_version: str | None = None
    conversation_id: str | None = None
    task: str | None = None
    turn_budget_tokens: int | None = None
    plan: tuple[str, ...] = ()
    plan_position: int = 0


NO_OPTIONS = RouteOptions()


class Keeping(Protocol):
    """Keeps an answer of the Responses API, so that a later request can go on from it."""

    @property
    def answer_id(self) -> str:
        """Names an answer that is written here; those that pass as they are have a name."""
        ...

    @property
    def previous_id(self) -> str | None:
        """Names the response that the request goes on from."""
        ...

    @property
    def conversation_id(self) -> str | None:
        """Names the stored conversation that request and answer are added to."""
        ...

    @property
    def first_id(self) -> str | None:
        """Names the response that the conversation began with; None where this one begins it."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether the caller has not asked for the contrary."""
        ...

    def keep(self, response: Mapping[str, Any]) -> bool:
        """Keep a response; False where it is not kept."""
        ...

    async def settle(self) -> None:
        """Wait, where a next request could otherwise miss what was kept, until it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request in the form that the gateway works with: that of chat completions.

    Other wires (`gateway.wires`) translate to it. What they say and chat completions cannot, they
    put under `gateway.types.CARRIED` in a message or tool, so that it is counted with the prompt.

    Attributes:
        body: As sent, without the gateway's own object; never modified.
        query: Text of the last user message: what the router reads.
        prompt_tokens: About how many tokens models read; see `gateway.expected_tokens`.
        turn_index: User messages before this one.
        wants_usage: The caller asked for the final usage chunk of a stream.
        trace_headers: W3C's, where the caller sent them.
        native: The request as it was sent, where that was on another wire.
        effort: How much the caller lets a model reason, for those that can be told; a caller of
            chat completions says it in the body.
        has_formal_limit: The wire requires an output limit, so callers name the largest they know.
        keeping: Keeps the answer; None where no answer of this caller's is kept.
    """

    model: str
    body: dict[str, Any]
    query: str
    prompt_tokens: int
    turn_index: int
    is_stream: bool
    wants_usage: bool
    options: RouteOptions
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    native: NativeRequest | None = None
    effort: str | None = None
    has_formal_limit: bool = False
    keeping: Keeping | None = None


def parse_chat_request(raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
    """Parse a request body.

    Args:
        raw: The body's bytes.
        headers: Lower-case names; the last of repeated headers.

    Raises:
        InvalidRequest: Malformed JSON or a field of the wrong type, which is named.
    """
    return read_chat_request(decoded_body(raw), headers)


def read_chat_request(body: dict[str, Any], headers: Mapping[bytes, bytes]) -> ChatRequest:
    """Read a decoded body, and take the gateway's own object out of it.

    Raises:
        InvalidRequest: A field is of the wrong type, which is named.
    """
    own = body.pop(OWN_FIELD, None)
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME_CHARS:
        raise InvalidRequest(
            "`model` must be the name of a model, or `auto`; GET /v1/models lists them.",
            param="model",
        )
    query, user_messages = _read_messages(body.get("messages"))
    is_stream = body.get("stream") or False
    if not isinstance(is_stream, bool):
        raise InvalidRequest(
            f"`stream` must be true or false, not {_shown(is_stream)}.", param="stream"
        )
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise InvalidRequest(
            f"`stream_options` must be an object, not {_shown(stream_options)}.",
            param="stream_options",
        )
    return ChatRequest(
        model=model,
        body=body,
        query=query,
        prompt_tokens=expected_prompt_tokens(body),
        turn_index=max(user_messages - 1, 0),
        is_stream=is_stream,
        wants_usage=is_stream and stream_options.get("include_usage") is True,
        options=parse_options(own, headers),
        trace_headers={
            name: headers[raw_name].decode("latin-1")
            for raw_name, name in _TRACE_HEADERS
            if raw_name in headers
        },
    )


def parse_options(own: object, headers: Mapping[bytes, bytes]) -> RouteOptions:
    """Read routing options; a header wins over the body, so that a proxy can set policy.

    Raises:
        InvalidRequest: An option is unknown or out of range.
    """
    given = {} if own is None else own
    if not isinstance(given, dict):
        raise InvalidRequest(f"`waypost` must be an object, not {_shown(given)}.", param=OWN_FIELD)
    if not given and headers.keys().isdisjoint(_OWN_HEADERS):
        return NO_OPTIONS
    unknown = sorted(set(given) - _OWN_FIELDS)
    if unknown:
        known = ", ".join(sorted(_OWN_FIELDS))
        raise InvalidRequest(
            f"`waypost.{unknown[0]}` is not an option; known: {known}.",
            param=f"{OWN_FIELD}.{unknown[0]}",
        )
    fields = dict(given)
    for header, name in _OWN_HEADERS.items():
        value = headers.get(header)
        if value is not None:
            fields[name] = _text(value)
    conversation_id = _name(fields, "conversation_id")
    if conversation_id is not None and not _CONVERSATION_ID.fullmatch(conversation_id):
        raise InvalidRequest(
            "`conversation_id` must be 1 to 128 printable ASCII characters without spaces.",
            param="waypost.conversation_id",
        )
    plan = _plan(fields.get("plan"))
    return RouteOptions(
        willingness_to_pay_usd=_willingness_to_pay(fields.get("willingness_to_pay")),
        router_version=_name(fields, "router_version"),
        conversation_id=conversation_id,
        task=_name(fields, "task"),
        turn_budget_tokens=_turn_budget(fields.get("turn_budget")),
        plan=plan,
        plan_position=_plan_position(fields.get("plan_position"), len(plan)),
    )


def _text(value: bytes) -> str:
    """Decode a header: as UTF-8, which most send beyond ASCII, or as HTTP once had it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _shown(value: object) -> str:
    """Write a value that was sent into a message: short, and none of what is nested in it."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "an object"
    return dumps(value).decode()[:MAX_SHOWN_CHARS]


def decoded_body(raw: bytes) -> dict[str, Any]:
    """Decode a request body.

    Raises:
        InvalidRequest: It is not a JSON object, or too much of it is nested too deeply.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_shown(body)}.")
    if is_too_deep(raw, body):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")
    if indentation_of(raw, body) > MAX_INDENTATION_BYTES:
        raise InvalidRequest("The body has too many values that are nested deeply.")
    whole: dict[str, Any] = exact(raw, body)
    return whole


def refuse_excess(raw: bytes) -> None:
    """Refuse what would take long to decode and to read, before it is decoded.

    Raises:
        InvalidRequest: It has more pieces than any caller needs.
    """
    if len(raw) <= MAX_PIECES:
        return
    # With the quotes and commas within strings: most bodies have few enough even so.
    most = raw.count(b'"') // 2 + 1 + sum(map(raw.count, (b",", b"[", b"{")))
    if most > MAX_PIECES and any(islice(_pieces(raw), MAX_PIECES, None)):
        raise InvalidRequest(f"The body has more than {MAX_PIECES} strings, commas and brackets.")


def _pieces(raw: bytes) -> Iterator[bool]:
    """Find the strings, and the commas and brackets outside them, a slice at a time."""
    at, is_within = 0, False
    while at < len(raw):
        end = at + SLICE_BYTES
        found = _REST.match(raw, at, end) if is_within else _PIECE.search(raw, at, end)
        if found is None:
            at = end
            continue
        if not is_within:
            yield True
        elif found.end() == at:  # a backslash that ends the body
            return
        is_within = found["end"] == b""
        at = found.end()


def _read_messages(messages: object) -> tuple[str, int]:
    """Return the last user message's text (else the last message's) and the number of them."""
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a list of at least one message.", param="messages")
    query: str | None = None
    user_messages = 0
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f"`messages[{position}]` must be an object with a `role`.",
                param=f"messages[{position}]",
            )
        if message["role"] == "user":
            user_messages += 1
            if query is None:
                query = text_of(message.get("content"))
    return (text_of(messages[-1].get("content")) if query is None else query), user_messages


def text_of(content: object) -> str:
    """Join the text parts of a message's `content`, which is a string, a list of parts or null."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _willingness_to_pay(value: object) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (OverflowError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number <= MAX_WILLINGNESS_TO_PAY_USD:
        raise InvalidRequest(
            "`willingness_to_pay` (USD per unit of quality) must be a number above 0 and at most "
            f"1e9, not {_shown(value)}.",
            param="waypost.willingness_to_pay",
        )
    return number


def _turn_budget(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:11])
    if value is not None and not (type(value) is int and 0 < value <= MAX_TURN_BUDGET_TOKENS):
        raise InvalidRequest(
            f"`turn_budget` (completion tokens) must be a whole number from 1 to "
            f"{MAX_TURN_BUDGET_TOKENS}, not {_shown(value)}.",
            param="waypost.turn_budget",
        )
    return value


def _plan(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list) and len(value) <= MAX_PLAN and all(map(_is_sub_question, value)):
        return tuple(value)
    raise InvalidRequest(
        f"`plan` must be a list of at most {MAX_PLAN} sub-questions, each a string of 1 to "
        f"{MAX_SUB_QUESTION_CHARS} characters.",
        param="waypost.plan",
    )


def _is_sub_question(item: object) -> bool:
    return isinstance(item, str) and 0 < len(item) <= MAX_SUB_QUESTION_CHARS


def _plan_position(value: object, n_planned: int) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < n_planned:
        raise InvalidRequest(
            f"`plan_position` must be the index of this turn in `plan`, which has {n_planned} "
            f"entries, not {_shown(value)}.",
            param="waypost.plan_position",
        )
    return value


def _name(fields: Mapping[str, object], key: str) -> str | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARS:
        raise InvalidRequest(
            f"`{key}` must be a string of 1 to {MAX_NAME_CHARS} characters.",
            param=f"{OWN_FIELD}.{key}",
        )
    return value
