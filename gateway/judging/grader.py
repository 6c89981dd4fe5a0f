"""Grades a share of answers by a judge, and some of them beside a second answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from gateway.grading.desk import Grade
from gateway.grading.exchange import Exchange
from gateway.judging.background import JUDGE, BackgroundCounts, Reply
from gateway.judging.judge import Judge, Opinion, placed
from gateway.judging.prompts import conversation_of, cut, written
from gateway.judging.shadow import Shadow

MAX_RUNNING: Final = 8
"""Answers that are judged at a time; more that are drawn meanwhile are let go and counted.

Were they to wait for a slow judge, their texts would fill the memory that all graders share.
"""


@dataclass(slots=True)
class JudgeGrader:
    """One of the graders of a `GradingDesk`; for one event loop.

    Attributes:
        share: Of the answers of teams that are judged.
        shadow: None where second answers are off.
        shadow_share: Of the routed turns of these teams.
    """

    judge: Judge
    share: float
    shadow: Shadow | None
    shadow_share: float
    counts: BackgroundCounts
    rng: random.Random
    name: str = JUDGE
    concurrency: int = MAX_RUNNING + 1
    _running: int = field(default=0, init=False)

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        """Judge the answer if it is drawn, and a second one beside it if that is drawn too."""
        record = exchange.record
        if not exchange.caller.is_judged or record.error is not None:
            return ()
        is_compared = self.shadow is not None and self.rng.random() < self.shadow_share
        is_judged = self.rng.random() < self.share
        if not (is_compared or is_judged) or not exchange.answer.is_whole:
            return ()
        if self._running >= MAX_RUNNING:
            self.counts.calls.add((JUDGE, "", "busy"))
            return ()
        self._running += 1
        try:
            second = await self._second(exchange) if is_compared else None
            if second is not None:
                return await self._compare(exchange, *second)
            return await self._judge(exchange) if is_judged else ()
        finally:
            self._running -= 1

    async def _second(self, exchange: Exchange) -> tuple[str, Reply] | None:
        return None if self.shadow is None else await self.shadow.answer(exchange)

    async def _judge(self, exchange: Exchange) -> Sequence[Grade]:
        conversation, answer = self._texts(exchange)
        written_by, asker = _written_by(exchange), exchange.caller
        opinion = await self.judge.score(conversation, answer, written_by, asker)
        return () if opinion is None else (_grade(opinion),)

    async def _compare(self, exchange: Exchange, model: str, reply: Reply) -> Sequence[Grade]:
        """Grade both answers by the same judges, the second one in the order that they prefer."""
        conversation, answer = self._texts(exchange)
        other = cut(written(reply.message), self.judge.settings.max_chars)
        known = (*_written_by(exchange), model), exchange.caller
        first = await self.judge.score(conversation, answer, *known)
        second = await self.judge.score(conversation, other, *known)
        if first is not None and second is not None:
            preference = await self.judge.prefer(conversation, (answer, other), *known)
            second = placed(second, first, preference)
        grades = [] if first is None else [_grade(first)]
        return grades if second is None else [*grades, _grade(second, reply.request_id)]

    def _texts(self, exchange: Exchange) -> tuple[str, str]:
        most, given = self.judge.settings.max_chars, exchange.answer
        calls = [{"name": call.name, "arguments": call.arguments} for call in given.tool_calls]
        shown = f"[tool_calls] {orjson.dumps(calls).decode()}" if calls else ""
        answer = "\n".join(filter(None, (given.text, shown)))
        return conversation_of(exchange.request.body, most), cut(answer, most)


def _written_by(exchange: Exchange) -> tuple[str, ...]:
    served = exchange.record.served_model
    return () if served is None else (served,)


def _grade(opinion: Opinion, answer_id: str | None = None) -> Grade:
    return Grade(
        source="judge",
        grader=opinion.judge,
        score=opinion.score,
        weight=opinion.weight,
        version=opinion.version,
        answer_id=answer_id,
    )
