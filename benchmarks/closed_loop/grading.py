"""Who grades in the simulation: callers who know what is right, and a judge who does not quite."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.closed_loop.world import CHEAPER
from gateway.errors import RateLimited
from gateway.judging.background import JUDGE, BackgroundCalls, BackgroundCounts, RowLog
from gateway.judging.judge import Judge, JudgeLog
from gateway.settings.judging import JudgeSettings
from gateway.types import Caller, HostedModel, ModelPrice
from gateway.wire import ChatRequest

JUDGING: Final = HostedModel("judge", "simulated", "judge", ModelPrice(150_000_000, 600_000_000))
"""At the list price of a small model: 0.15 and 0.60 USD per million tokens."""
RUBRIC_TOKENS: Final = 450
VERDICT_TOKENS: Final = 40
DAY_S: Final = 86_400.0

_FENCED: Final = re.compile(r"BEGIN ANSWER (\w+)\n(.*?)\nEND ANSWER \1", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Opinions:
    """How a judge errs.

    Attributes:
        taken_in: Share of the wrong answers that it takes for right ones.
        too_strict: Share of the right answers that it takes for wrong ones.
        noise: Standard deviation around what it takes an answer for.
        kindness: Added to every score.
        favour: Added to scores of the model whose style it likes, `CHEAPER`.
    """

    taken_in: float = 0.2
    too_strict: float = 0.08
    noise: float = 0.15
    kindness: float = 0.05
    favour: float = 0.05

    def score(self, quality: float, model: str, rng: np.random.Generator) -> float:
        """Score an answer, 0 to 1."""
        errs = rng.random() < (self.too_strict if quality >= 0.5 else self.taken_in)
        seen = 1.0 - quality if errs else quality
        seen += self.kindness + self.favour * (model == CHEAPER) + self.noise * rng.normal()
        return round(min(max(float(seen), 0.0), 1.0), 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gateway is answered by the judge's host; `background.Answered` is its protocol."""

    body: bytes


@dataclass(slots=True, eq=False)
class JudgeHost:
    """Serves the judge: reads what the answer says of itself, and errs.

    Attributes:
        cap_usd_per_day: Calls that would go beyond it are refused, as by the ledger.
        clock: Seconds since the simulation began.
        spent_usd: By day.
        pairs: What it said, beside the truth.
    """

    opinions: Opinions
    cap_usd_per_day: float
    clock: Callable[[], float]
    rng: np.random.Generator
    spent_usd: dict[int, float] = field(default_factory=dict)
    pairs: list[tuple[float, float]] = field(default_factory=list)

    async def complete(self, request: ChatRequest, caller: Caller) -> Verdict:
        """Answer a request for a verdict."""
        del caller
        found = _FENCED.search(request.body["messages"][-1]["content"])
        assert found is not None
        code, answer = found[1], orjson.loads(found[2])
        price = JUDGING.price
        read = RUBRIC_TOKENS + answer["tokens"]
        wrote = VERDICT_TOKENS * price.output_nusd_per_mtok
        cost_usd = (read * price.input_nusd_per_mtok + wrote) / 1e15
        day = int(self.clock() // DAY_S)
        if self.spent_usd.get(day, 0.0) + cost_usd > self.cap_usd_per_day:
            left_s = (day + 1) * DAY_S - self.clock()
            raise RateLimited("the judge's cap is reached", retry_after_s=left_s)
        self.spent_usd[day] = self.spent_usd.get(day, 0.0) + cost_usd
        score = self.opinions.score(answer["quality"], answer["model"], self.rng)
        self.pairs.append((score, answer["quality"]))
        said = orjson.dumps({"id": code, "score": score}).decode()
        own = {"request_id": "verdict", "cost_usd": cost_usd}
        body: dict[str, Any] = {"choices": [{"message": {"content": said}}], "waypost": own}
        return Verdict(orjson.dumps(body))


def answer_of(quality: float, model: str, tokens: float) -> str:
    """Write an answer that says how good it is, for the judge to read."""
    return orjson.dumps({"quality": quality, "model": model, "tokens": round(tokens)}).decode()


def open_judge(host: JudgeHost) -> Judge:
    """Make the gateway's judge, with `host` in the place of the way to a provider."""

    def serving(log: RowLog) -> JudgeHost:
        del log
        return host

    counts = BackgroundCounts()
    return Judge(
        BackgroundCalls(serving, JUDGE, counts, host.clock),
        JudgeLog(lambda _: None),
        {JUDGING.name: JUDGING},
        JudgeSettings(models=(JUDGING.name,)),
        counts,
    )
