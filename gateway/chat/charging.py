"""Writes into a turn what it is charged: what was used, or the most that can have been."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.chat.turn import Turn
from gateway.chat.usage import SentCall, TokenCounter, counted_usage, final_usage, output_of
from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.evaluation_log.row_layout import MAX_ID_CHARS
from gateway.long_work import LongWork
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest


async def charge_answer(turn: Turn, completion: Completion, counter: TokenCounter) -> None:
    """Charge what a whole answer used."""
    reported, call = completion.usage, turn.sent
    if call is None:
        return
    usage = await final_usage(reported, call, counter)
    if usage is None:
        usage = await counted_usage(reported, call, counter, output_of(completion.body))
    turn.charge_for(usage)


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
    usage = await final_usage(reported, call, counter) if upstream.is_complete else None
    if usage is None:
        # Reading them takes up to 20 ms, which others shall not wait.
        output, scale = await long_work.aside(forwarded.output)
        usage = await counted_usage(reported, call, counter, output, scale)
    turn.charge_for(usage)


async def charge_abandoned(turn: Turn, counter: TokenCounter) -> None:
    """Charge the most that the last call can have used, where nobody waited for its end.

    Its caller left, time or memory ran out, or the connection broke: the provider may go on and
    bill. A call that waits for a place or for its next attempt has used nothing.
    """
    if turn.record.usage is None and turn.sent is not None and turn.transit.is_upstream:
        turn.charge_for(await most_used(turn, turn.sent, counter))


async def most_used(turn: Turn, call: SentCall, counter: TokenCounter) -> Usage:
    """Return the most that one call can have used.

    A stream that is closed before its first event has put out nothing.
    """
    usage = await counted_usage(None, call, counter, "")
    is_unanswered = turn.request.is_stream and turn.record.first_byte_s is None
    held = 0 if turn.reservation is None or is_unanswered else turn.reservation.output
    return replace(usage, completion_tokens=held)


def id_of(request: ChatRequest, answer: Mapping[str, Any], *, is_native: bool) -> str | None:
    """Return the id of an answer: the provider's, as far as it is kept, or the gateway's own."""
    own = None if is_native or request.keeping is None else request.keeping.answer_id
    answer_id = own or answer.get("id")
    return answer_id[:MAX_ID_CHARS] if isinstance(answer_id, str) else None
