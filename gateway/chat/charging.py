"""Writes into a turn what it is charged: what was used, or the most that can have been."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.chat.turn import Turn
from gateway.chat.unseen import unseen_tokens
from gateway.chat.usage import (
    UNUSUAL_CHARS_PER_TOKEN,
    SentCall,
    TokenCounter,
    chars_of,
    counted_usage,
    doubt_about,
    final_usage,
    output_of,
)
from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.evaluation_log.row_layout import MAX_ID_CHARS
from gateway.long_work import LongWork
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest

EVENT_BYTES: Final = 400
"""Beside the text of an event; with logarithms of probabilities there are more."""
FEW_EVENTS: Final = 16
"""That hosts send beside those with text."""


async def charge_answer(turn: Turn, completion: Completion, counter: TokenCounter) -> None:
    """Charge what a whole answer used."""
    reported, call = completion.usage, turn.sent
    if call is None:
        return
    doubt = doubt_about(reported, chars_of(completion.body))
    usage = None if doubt == "too_few" else await final_usage(reported, call, counter)
    if usage is None:
        unseen = unseen_tokens(call, turn.clock())
        usage = await counted_usage(reported, call, counter, output_of(completion.body), unseen)
    turn.charge_for(replace(usage, doubt=doubt) if doubt else usage)


async def charge_stream(
    turn: Turn,
    upstream: AnswerStream,
    forwarded: ForwardedEvents,
    counter: TokenCounter,
    long_work: LongWork,
) -> None:
    """Charge what passed by in a stream, whichever way it ended."""
    turn.record.finish_reason = upstream.finish_reason
    turn.record.answer_id = id_of(turn.request, upstream.head or {}, is_native=upstream.is_native)
    reported, call = upstream.usage, turn.sent
    if call is None:
        return
    usage, doubt = None, None
    if upstream.is_complete:
        # Reading the events takes up to 20 ms, which others shall not wait.
        n_chars = 0
        if _may_be_doubtful(reported, upstream.forwarded_events, forwarded.n_bytes):
            n_chars = await long_work.aside(forwarded.n_chars)
        doubt = doubt_about(reported, n_chars)
        usage = None if doubt == "too_few" else await final_usage(reported, call, counter)
    if usage is None:
        output, unread = await long_work.aside(forwarded.output)
        unread += unseen_tokens(call, turn.clock())
        usage = await counted_usage(reported, call, counter, output, unread)
    turn.charge_for(replace(usage, doubt=doubt) if doubt else usage)


def _may_be_doubtful(reported: Usage | None, n_events: int, n_bytes: int) -> bool:
    """Whether so many bytes of events can hold more text than suits the tokens reported.

    Most hosts send a token an event, and none as much beside it as `EVENT_BYTES`.
    """
    tokens = 0 if reported is None else reported.completion_tokens
    beside = EVENT_BYTES * min(n_events, tokens + FEW_EVENTS)
    return n_bytes > UNUSUAL_CHARS_PER_TOKEN * tokens + beside


async def charge_abandoned(turn: Turn, counter: TokenCounter) -> None:
    """Charge the most that the last call can have used, where nobody waited for its end.

    Its caller left, time or memory ran out, or the connection broke: the provider may go on and
    bill. A call that waits for a place or for its next attempt has used nothing.
    """
    if turn.record.usage is None and turn.sent is not None and turn.transit.is_upstream:
        turn.charge_for(await most_used(turn, turn.sent, counter))


async def most_used(turn: Turn, call: SentCall, counter: TokenCounter) -> Usage:
    """Return the most that one call can have used.

    A stream that is closed before its first event has put out nothing, but may have thought.
    """
    usage = await counted_usage(None, call, counter, "", unseen_tokens(call, turn.clock()))
    if turn.request.is_stream and turn.record.first_byte_s is None:
        return usage
    held = 0 if turn.reservation is None else turn.reservation.output
    return replace(usage, completion_tokens=held)


def id_of(request: ChatRequest, answer: Mapping[str, Any], *, is_native: bool) -> str | None:
    """Return the id of an answer: the provider's, as far as it is kept, or the gateway's own."""
    own = None if is_native or request.keeping is None else request.keeping.answer_id
    answer_id = own or answer.get("id")
    return answer_id[:MAX_ID_CHARS] if isinstance(answer_id, str) else None
