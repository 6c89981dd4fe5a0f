"""Checks of an answer's form that cost nothing: pure functions, in time linear in the answer.

A failed check is evidence against an answer, as much as the check is sure. A passed one is nearly
none: that JSON is valid says nothing of what is in it. Yet an answer without a finding gets a grade
too, a neutral one of little weight. Else only bad answers would be graded, and a model that fails
once in a hundred times would look like one that always fails.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from gateway.grading.desk import Grade
from gateway.grading.exchange import Exchange, GivenAnswer
from gateway.grading.languages import Languages
from gateway.grading.loops import is_loop
from gateway.grading.phrases import Phrases
from gateway.wire import text_of

VERSION: Final = "1"
"""Grows with every change of what a check finds, or of its weights."""
NEUTRAL: Final = 0.7
"""The score of an answer in which nothing is found: about what graded answers get on average."""
NEUTRAL_WEIGHT: Final = 0.05
CUT_OFF: Final = frozenset({"length", "max_tokens", "model_length"})
MIN_CUT_OFF_TOKENS: Final = 256
"""An answer that was cut off before had a limit of its caller's or its budget's choice."""
MAX_INSTRUCTIONS: Final = 4
"""Messages whose text may ask for another language: the first ones and the last ones."""
LIMITS: Final = ("max_completion_tokens", "max_tokens")
_REPEATING: Final = ("repeat", "times", "wiederhol", "répét", "repite", "repita", "ripet", "重复")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found wrong.

    Attributes:
        check: Its name.
        score: What the answer is worth, if the check is right.
        weight: How sure it is.
    """

    check: str
    score: float
    weight: float


def grades_of_form(exchange: Exchange, phrases: Phrases, languages: Languages) -> list[Grade]:
    """Grade an answer by its form: by what is found, or else neutrally."""
    found = list(findings(exchange, phrases, languages)) or [
        Finding("form", NEUTRAL, NEUTRAL_WEIGHT)
    ]
    return [Grade("check", one.check, one.score, one.weight, VERSION) for one in found]


def findings(exchange: Exchange, phrases: Phrases, languages: Languages) -> Iterator[Finding]:
    """Find what is wrong with an answer's form."""
    answer, body = exchange.answer, exchange.request.body
    if answer.finish_reason == "content_filter":
        yield Finding("filtered", 0.1, 0.5)
    elif not answer.text.strip() and not answer.tool_calls and answer.is_whole:
        yield Finding("empty", 0.0, 0.95)
    if is_cut_off(exchange):
        yield Finding("cut_off", 0.2, 0.3 if _chosen_limit(exchange) else 0.7)
    if is_loop(answer.text) and not _asks_to_repeat(exchange):
        yield Finding("loop", 0.0, 0.9)
    is_refusal = not answer.tool_calls and phrases.is_refusal(answer.text)
    if is_refusal:
        # To refuse may be right: the weight is small, so that a judge's opinion is the one to have.
        yield Finding("refusal", 0.1, 0.4)
    elif _is_in_another_language(exchange, languages):
        yield Finding("language", 0.2, 0.5)
    if answer.is_whole and answer.finish_reason != "content_filter":
        if wants_json(body) and not answer.tool_calls and not is_json_object(answer.text):
            yield Finding("json", 0.0, 0.95)
        yield from _of_calls(answer, body)


def is_cut_off(exchange: Exchange) -> bool:
    """Whether the answer ended at a limit that is not a small one of its caller or budget."""
    record = exchange.record
    written = None if record.usage is None else record.usage.completion_tokens
    return (
        exchange.answer.finish_reason in CUT_OFF
        and record.allotted_tokens is None
        and (written is None or written >= MIN_CUT_OFF_TOKENS)
    )


def wants_json(body: Mapping[str, Any]) -> bool:
    """Whether the request asks for JSON."""
    asked = body.get("response_format")
    return isinstance(asked, dict) and asked.get("type") in ("json_object", "json_schema")


def is_json_object(text: str) -> bool:
    """Whether a text is JSON, and an object, as callers who ask for JSON decode it."""
    try:
        return isinstance(decoded(text), dict)
    except ValueError:
        return False


def decoded(text: str) -> Any:
    """Decode JSON.

    Raises:
        ValueError: It is none, or nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def asked_tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas of the tools that a request offers, by name."""
    tools = body.get("tools")
    schemas: dict[str, Any] = {}
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            schemas[function["name"]] = function.get("parameters")
    return schemas


def _of_calls(answer: GivenAnswer, body: Mapping[str, Any]) -> Iterator[Finding]:
    """Find calls of tools that do not exist, whose arguments are no object, or that lack."""
    chosen = body.get("tool_choice")
    is_forced = chosen == "required" or isinstance(chosen, dict)
    tools = asked_tools(body) if answer.tool_calls or is_forced else {}
    if not tools:
        return
    if any(call.name not in tools for call in answer.tool_calls):
        yield Finding("unknown_tool", 0.0, 0.95)
    if not all(is_json_object(call.arguments or "{}") for call in answer.tool_calls):
        yield Finding("tool_arguments", 0.0, 0.95)
    if is_forced and not answer.tool_calls and answer.finish_reason not in CUT_OFF:
        yield Finding("no_tool_call", 0.0, 0.9)


def _chosen_limit(exchange: Exchange) -> bool:
    """Whether the caller chose an output limit: one that the wire requires is no choice."""
    body = exchange.request.body
    return not exchange.request.has_formal_limit and any(body.get(name) for name in LIMITS)


def _asks_to_repeat(exchange: Exchange) -> bool:
    query = exchange.request.query[:4_000].casefold()
    return any(word in query for word in _REPEATING)


def _is_in_another_language(exchange: Exchange, languages: Languages) -> bool:
    answer, request = exchange.answer, exchange.request
    if answer.tool_calls or wants_json(request.body) or not answer.text:
        return False
    if not languages.differ(request.query, answer.text):
        return False
    return not any(map(languages.are_named_in, _instructions(request.body["messages"])))


def _instructions(messages: Sequence[Any]) -> Iterator[str]:
    """Take what may say which language is wanted: a few of the first and of the last messages."""
    ends = (
        messages
        if len(messages) <= 2 * MAX_INSTRUCTIONS
        else (*messages[:MAX_INSTRUCTIONS], *messages[-MAX_INSTRUCTIONS:])
    )
    for message in islice(ends, 2 * MAX_INSTRUCTIONS):
        if isinstance(message, dict) and message.get("role") != "assistant":
            yield text_of(message.get("content"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
