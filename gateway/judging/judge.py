"""A model as a judge: how good is an answer, and which of two is better."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.judging.background import BackgroundCalls, BackgroundCounts
from gateway.judging.prompts import (
    PAIRWISE_VERSION,
    POINTWISE_VERSION,
    Message,
    code_for,
    draw_code,
    pairwise,
    pointwise,
)
from gateway.judging.verdicts import Preference, agreed, preference_in, score_in
from gateway.settings.judging import JudgeSettings
from gateway.types import Caller, HostedModel, TurnRecord
from gateway.wire import read_chat_request, text_of

OWN: Final = "own"
"""In the version of a grade: the judge graded an answer of its own."""
UNUSABLE: Final = "unusable"
WEIGHT: Final = 0.5
"""How much a judge's score says beside what is checked, until it is measured."""
OWN_WEIGHT: Final = 0.25
"""Models prefer what they wrote: Panickssery et al. (NeurIPS 2024, arXiv 2404.13076)."""
LEAST_LEAD: Final = 0.1
"""How far from the first answer's score that of a second one is put which is better, or worse."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge thinks of one answer, 0 to 1."""

    judge: str
    score: float
    weight: float
    version: str


class JudgeLog:
    """Keeps rows of judges' calls without the embedding: it is one of other people's text."""

    def __init__(self, record: Callable[[TurnRecord], None]) -> None:
        self._record = record

    def record(self, row: TurnRecord) -> None:
        """Keep `row`; never raises, never waits."""
        self._record(replace(row, query_embedding=None, encoder_id=None))


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks models for verdicts.

    Attributes:
        models: Those that are served, by name.
        draw: Draws the codes around what is judged.
    """

    calls: BackgroundCalls
    log: JudgeLog
    models: Mapping[str, HostedModel]
    settings: JudgeSettings
    counts: BackgroundCounts
    draw: Callable[[], str] = draw_code

    async def score(
        self, conversation: str, answer: str, written_by: Collection[str], asker: Caller
    ) -> Opinion | None:
        """Grade an answer; None where no judge gave a usable score.

        Args:
            written_by: Models that must not judge it where another one can.
            asker: Who was answered: no judge reads it that its data must not be sent to.
        """
        judges, is_own = self.judges(written_by, asker)
        for judge in judges:
            code = code_for((conversation, answer), self.draw)
            reply = await self._ask(judge, pointwise(conversation, answer, code), asker)
            if reply is None:
                continue
            score = score_in(reply, code)
            self.counts.verdicts.add((judge, UNUSABLE if score is None else "score"))
            if score is None:
                return None
            version = f"{POINTWISE_VERSION}/{OWN}" if is_own else POINTWISE_VERSION
            return Opinion(judge, score, OWN_WEIGHT if is_own else WEIGHT, version)
        return None

    async def prefer(
        self,
        conversation: str,
        answers: tuple[str, str],
        written_by: Collection[str],
        asker: Caller,
    ) -> Preference | None:
        """Say which answer is better, asked in both orders; None without two usable verdicts."""
        forward = await self._prefer(conversation, answers, written_by, asker)
        if forward is None:
            return None
        turned = answers[1], answers[0]
        return agreed(forward, await self._prefer(conversation, turned, written_by, asker))

    def judges(self, written_by: Collection[str], asker: Caller) -> tuple[Sequence[str], bool]:
        """Name the judges in order, and whether they are among those that wrote what is judged."""
        offered = [
            name
            for name in self.settings.models
            if name in self.models and self.models[name].is_admitted(asker.requires)
        ]
        written = {_origin(self.models[name]) for name in written_by if name in self.models}
        others = [name for name in offered if _origin(self.models[name]) not in written]
        return (others, False) if others else (offered, True)

    async def _prefer(
        self,
        conversation: str,
        answers: tuple[str, str],
        written_by: Collection[str],
        asker: Caller,
    ) -> Preference | None:
        judges, _ = self.judges(written_by, asker)
        for judge in judges:
            code = code_for((conversation, *answers), self.draw)
            reply = await self._ask(judge, pairwise(conversation, *answers, code), asker)
            if reply is None:
                continue
            preference = preference_in(reply, code)
            self.counts.verdicts.add((judge, preference or UNUSABLE))
            return preference
        return None

    async def _ask(self, judge: str, messages: Iterable[Message], asker: Caller) -> str | None:
        body = {
            "model": judge,
            "messages": list(messages),
            "max_tokens": self.settings.max_completion_tokens,
            "temperature": 0,
        }
        reply = await self.calls.ask(read_chat_request(body, {}), self.log, asker)
        return None if reply is None else text_of(reply.message.get("content"))


def placed(second: Opinion, first: Opinion, preference: Preference | None) -> Opinion:
    """Put a second answer's score where the preference between both answers says.

    A preference that held in both orders rests on seeing both, so it decides their order. Where the
    scores say otherwise, or hardly tell the two apart, the second one's is moved. The first one's
    stays what it would be without a second answer, so that nothing that is measured on served
    answers depends on which of them were compared.
    """
    version = f"{second.version}+{PAIRWISE_VERSION}"
    score = second.score
    if preference == "first":
        score = max(min(score, first.score - LEAST_LEAD), 0.0)
    elif preference == "second":
        score = min(max(score, first.score + LEAST_LEAD), 1.0)
    return replace(second, score=score, version=version)


def _origin(model: HostedModel) -> str:
    """Name what answers, whichever provider hosts it and whatever prompt it is given."""
    return model.upstream_name.rpartition("/")[2].casefold()
