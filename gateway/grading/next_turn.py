"""Grades an answer by what comes after it: tools' results, and the next message of its caller.

The next request holds the answer in its history. So a digest of question and answer finds the turn
again, among the latest of the same team, and so does the name of the conversation where the caller
gives one. Nothing else is kept of a turn. An answer is graded by one next request, the first that
comes; where none comes, that says nothing.
"""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from gateway.grading.desk import SHORT, Grade, at_once
from gateway.grading.exchange import MAX_CALLS, Exchange, ToolCall
from gateway.grading.form import decoded
from gateway.grading.phrases import Phrases
from gateway.long_work import LongWork
from gateway.wire import ChatRequest, text_of

VERSION: Final = "1"
MAX_TURNS: Final = 1_000
"""Of a team that are remembered, each with 200 bytes; of so many teams:"""
MAX_TEAMS: Final = 100
MAX_READ_CHARS: Final = 50_000
"""Of each message that digests and comparisons read."""
MAX_HISTORY: Final = 64
"""Messages after the last answer; where there are more, nothing is read of them."""
CHARS_PER_TOKEN: Final = 4
HEAD_CHARS: Final = 400
"""Of a tool's result that are searched for an error."""
MIN_SHARED_WORDS: Final = 3

_NOTHING: Final[Mapping[str, Any]] = {}
_WORD: Final = re.compile(r"\w+")
_EMPHASIS: Final = frozenset(
    {"a", "an", "the", "please", "can", "could", "would", "you", "me", "i", "just", "again"}
    | {"exactly", "correctly", "properly", "now", "really", "to", "of", "is", "in", "for", "and"}
    | {"so", "then", "ok", "okay", "bitte", "mir", "vous", "plaît", "por", "favor"}
)
_FAILED: Final = re.compile(
    r"\s*(?:\W{0,4})(?:error\b|exception\b|traceback \(most recent call last\)|fatal:|panic:"
    r"|<tool_use_error>|tool (?:call |execution )?(?:failed|error)|command failed|failed to )",
    re.IGNORECASE,
)
_MISUSED: Final = re.compile(
    r"invalid (?:arguments?|params?|parameters?|input|json|tool)"
    r"|missing (?:required|argument|param)|unknown (?:tool|function|argument|param)"
    r"|no such (?:tool|function)|validation ?error|unexpected (?:keyword )?argument"
    r"|is a required property|not a valid",
    re.IGNORECASE,
)
_PENDING: Final = re.compile(
    r"pending|queued|running|in.progress|not (?:yet )?(?:ready|finished|done|complete)"
    r"|wait|try again|rate.limit|timed? ?out|429|503",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Past:
    """What a request goes on from.

    Attributes:
        question: Text of the user's last message before the last answer.
        answer: That answer's text; `calls` are the tools that it called.
        results: What the tools returned.
        has_error: A result is marked as an error, on a wire that can say so.
        message: What the user wrote then; empty where there are results of tools.
    """

    question: str
    answer: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]
    has_error: bool
    message: str


@dataclass(frozen=True, slots=True)
class Signal:
    """What the next request says of the answer before it, or of its own answer.

    Attributes:
        is_of_earlier: It is about the answer before.
    """

    name: str
    score: float
    weight: float
    is_of_earlier: bool = True


@dataclass(slots=True)
class NextTurnGrader:
    """Remembers the latest turns, and grades them when their conversations go on."""

    phrases: Phrases
    work: LongWork
    name: str = "signals"
    concurrency: int = 1
    _teams: OrderedDict[str, OrderedDict[bytes, str]] = field(default_factory=OrderedDict)

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        """Grade the answer before this turn, and this one if it repeats a call of a tool."""
        n_chars = CHARS_PER_TOKEN * exchange.request.prompt_tokens + exchange.answer.n_chars
        read = self.work.aside if n_chars > SHORT else at_once
        own, past, signals = await read(self._read, exchange)
        turns, request_id = self._turns_of(exchange.caller.team_id), exchange.record.request_id
        found = [turns.pop(key, None) for key in past]
        earlier = next(filter(None, found), None)
        for key in own:
            turns[key] = request_id
        while len(turns) > MAX_TURNS:
            turns.popitem(last=False)
        graded = ((each, earlier if each.is_of_earlier else request_id) for each in signals)
        return [
            Grade("signal", each.name, each.score, each.weight, VERSION, answer_id=answer_id)
            for each, answer_id in graded
            if answer_id is not None
        ]

    def _read(self, exchange: Exchange) -> tuple[list[bytes], list[bytes], list[Signal]]:
        """Return the keys of this turn and of the one before, and what is to be seen."""
        answer, conversation = exchange.answer, exchange.request.options.conversation_id
        own = _keys(exchange.request.query, answer.text, answer.tool_calls, conversation)
        past = past_of(exchange.request)
        if past is None:
            return own, [], []
        keys = _keys(past.question, past.answer, past.calls, conversation)
        return own, keys, list(signals_of(past, answer.tool_calls, self.phrases))

    def _turns_of(self, team_id: str) -> OrderedDict[bytes, str]:
        turns = self._teams.setdefault(team_id, OrderedDict())
        self._teams.move_to_end(team_id)
        if len(self._teams) > MAX_TEAMS:
            self._teams.popitem(last=False)
        return turns


def past_of(request: ChatRequest) -> Past | None:
    """Find the last answer in a request's history, and what came after it."""
    messages = request.body["messages"]
    after: list[Mapping[str, Any]] = []
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            break
        after.append(messages[at])
        if len(after) > MAX_HISTORY:
            return None
    else:
        return None
    answered = messages[at]
    asked = next((m for m in reversed(messages[:at]) if m["role"] == "user"), _NOTHING)
    results = tuple(_read(m) for m in reversed(after) if m["role"] == "tool")
    said = next((_read(m) for m in after if m["role"] == "user"), "")
    return Past(
        _read(asked),
        _read(answered),
        tuple(_calls_in(answered)),
        results,
        _is_marked_as_error(request),
        "" if results else said,
    )


def signals_of(past: Past, calls: Sequence[ToolCall], phrases: Phrases) -> Iterator[Signal]:
    """Tell what the history says of the last answer, and `calls` of the one to this request."""
    failed = past.has_error or any(_FAILED.match(result[:HEAD_CHARS]) for result in past.results)
    if failed and any(_MISUSED.search(result[:HEAD_CHARS]) for result in past.results):
        yield Signal("tool_misuse", 0.1, 0.5)
    elif failed:
        # Most errors are of the world, such as a file that is missing: they say little.
        yield Signal("tool_error", 0.3, 0.2)
    made = {_canonical(call) for call in past.calls}
    is_waiting = any(_PENDING.search(result[:HEAD_CHARS]) for result in past.results)
    if past.results and not is_waiting and any(_canonical(call) in made for call in calls):
        yield Signal("repeated_call", 0.1, 0.4, is_of_earlier=False)
    reaction = phrases.reaction_in(past.message) if past.message else None
    if reaction == "corrected":
        yield Signal("corrected", 0.1, 0.6)
    elif reaction == "thanked":
        yield Signal("thanked", 1.0, 0.5)
    elif past.message and is_asked_again(past.question, past.message, phrases):
        yield Signal("asked_again", 0.2, 0.4)


def is_asked_again(question: str, message: str, phrases: Phrases) -> bool:
    """Whether a message asks what was asked before: it says so, or has the same words.

    Questions that share most words, or lie close together in an encoder's space, are often of
    different things ("the capital of France", "the capital of Spain"), so that is no sign.
    """
    if phrases.asks_again(message):
        return True
    words = _content_words(message)
    return len(words) >= MIN_SHARED_WORDS and words == _content_words(question)


def _content_words(text: str) -> set[str]:
    return set(_WORD.findall(text[:MAX_READ_CHARS].casefold())) - _EMPHASIS


def _keys(
    question: str, answer: str, calls: Sequence[ToolCall], conversation: str | None
) -> list[bytes]:
    """Return digests by which a turn is known: of what was said, and of its conversation."""
    said = [" ".join(text[:MAX_READ_CHARS].split()) for text in (question, answer)]
    digest = hashlib.blake2b(digest_size=16)
    for part in (*said, *map(_canonical, calls), conversation or ""):
        digest.update(part.encode("utf-8", "replace") + b"\0")
    keys = [digest.digest()]
    if conversation is not None:
        keys.append(hashlib.blake2b(conversation.encode(), digest_size=16).digest())
    return keys


def _canonical(call: ToolCall) -> str:
    """Write a call in one way, however its arguments are laid out."""
    arguments = call.arguments[:MAX_READ_CHARS] or "{}"
    with suppress(ValueError, RecursionError):
        arguments = json.dumps(decoded(arguments), sort_keys=True)
    return f"{call.name} {arguments}"


def _calls_in(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for call in islice(calls, MAX_CALLS) if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield ToolCall(str(function.get("name")), function["arguments"])


def _read(message: Mapping[str, Any]) -> str:
    return text_of(message.get("content"))[:MAX_READ_CHARS]


def _is_marked_as_error(request: ChatRequest) -> bool:
    """Whether a tool's result in the last message is marked as an error, as Messages has it."""
    messages = () if request.native is None else request.native.body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    blocks = last.get("content") if isinstance(last, dict) else None
    return isinstance(blocks, list) and any(
        isinstance(block, dict) and block.get("is_error") is True for block in blocks[:MAX_HISTORY]
    )
