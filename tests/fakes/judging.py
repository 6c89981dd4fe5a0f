"""Models that a gateway asks in the background, and exchanges for it to grade."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from gateway.chat.service import Answer
from gateway.grading.exchange import Exchange, GivenAnswer
from gateway.judging.background import (
    JUDGE,
    SHADOW,
    BackgroundCalls,
    BackgroundCounts,
    RowLog,
)
from gateway.judging.grader import JudgeGrader
from gateway.judging.judge import Judge, JudgeLog
from gateway.judging.shadow import Shadow
from gateway.routing.candidates import CandidatePool
from gateway.routing.capabilities import OK, Verdict
from gateway.routing.plan import Prediction, Scores
from gateway.settings.config import ProfileSettings
from gateway.settings.judging import JudgeSettings, ShadowSettings
from gateway.types import Caller, HostedModel, TurnRecord
from gateway.wire import ChatRequest
from tests.fakes.chat import PRICE, request
from tests.fakes.settled import Log
from tests.fakes.turns import make_turn

CODE = "c0dec0dec0dec0de"
JUDGED = Caller(key_id="k", team_id="blue", is_judged=True)
PROFILE = ProfileSettings(willingness_to_pay_usd=1.0)

Says = Callable[[ChatRequest], str] | str | Exception


def model(name: str, upstream_name: str | None = None) -> HostedModel:
    return HostedModel(name, "p", upstream_name or name, PRICE)


SMALL, LARGE, ARBITER = model("small"), model("large"), model("arbiter")


@dataclass
class AskedModels:
    """Answers as scripted by model once `is_free` is set, and remembers what it was asked."""

    says: Mapping[str, Says]
    asked: list[tuple[ChatRequest, Caller]] = field(default_factory=list)
    is_free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_free.set()

    def serving(self, log: RowLog) -> "_Serving":
        return _Serving(self, log)

    @property
    def names(self) -> list[str]:
        return [asked.model for asked, _ in self.asked]

    @property
    def prompts(self) -> list[str]:
        return [asked.body["messages"][-1]["content"] for asked, _ in self.asked]


@dataclass
class _Serving:
    models: AskedModels
    log: RowLog

    async def complete(self, request: ChatRequest, caller: Caller) -> Answer:
        models = self.models
        models.asked.append((request, caller))
        await models.is_free.wait()
        number = len(models.asked)
        row = make_turn(
            number,
            request_id=f"req_background_{number}",
            key_id=caller.key_id,
            team_id=caller.team_id,
            served_model=request.model,
            chosen_model=request.model,
            route_reason="named",
            propensity=1.0,
        )
        says = models.says[request.model]
        if isinstance(says, Exception):
            self.log.record(row)
            raise says
        text = says if isinstance(says, str) else says(request)
        self.log.record(row)
        body = {
            "choices": [{"message": {"role": "assistant", "content": text}}],
            "waypost": {"request_id": row.request_id, "cost_usd": 0.002},
        }
        return Answer([], orjson.dumps(body))


@dataclass
class Predicted:
    """Routing that predicts as it was told."""

    names: tuple[str, ...] = ("small", "large", "arbiter")
    quality: tuple[float | None, ...] = (0.5, 0.6, 0.7)
    stderr: tuple[float | None, ...] | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    error: Exception | None = None

    async def predict(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> Prediction:
        if self.error is not None:
            raise self.error
        assert with_stderr
        return Prediction(
            pool=CandidatePool(tuple(map(model, self.names))),
            verdicts=tuple(self.verdicts.get(name, OK) for name in self.names),
            profile_name="balanced",
            profile=PROFILE,
            willingness_to_pay_usd=1.0,
            prompt_tokens=1,
            encoder_id="e",
            embedding=np.zeros(3, np.float32),
            router_version="r-2",
            scores=Scores(self.quality, (0.001,) * len(self.names), 1.0, self.stderr),
            reason="router",
        )


def verdict(score: float) -> Callable[[ChatRequest], str]:
    """Play a judge that always gives the same score, and finds all answers alike."""
    return lambda _: orjson.dumps({"id": CODE, "score": score, "better": "tie"}).decode()


def exchange(
    text: str = "4.", caller: Caller = JUDGED, *, body: Any = None, **record: Any
) -> Exchange:
    """Make a turn of the model ``small`` that was answered with `text`."""
    given = {"team_id": caller.team_id, "allotted_tokens": None, **record}
    asked = request(**(body or {"messages": [{"role": "user", "content": "What is 2+2?"}]}))
    return Exchange(make_turn(0, **given), asked, caller, GivenAnswer(text, (), "stop"))


@dataclass
class Graders:
    """A grader with everything it tells."""

    grader: JudgeGrader
    judge: Judge
    asked: AskedModels
    log: Log
    counts: BackgroundCounts
    routing: Predicted

    @property
    def shadow(self) -> Shadow:
        assert self.grader.shadow is not None
        return self.grader.shadow

    @property
    def rows(self) -> list[TurnRecord]:
        return self.log.rows


def make_grader(
    says: Mapping[str, Says],
    *,
    judges: tuple[str, ...] = ("arbiter",),
    share: float = 1.0,
    shadow: ShadowSettings | None = None,
    routing: Predicted | None = None,
    models: tuple[HostedModel, ...] = (SMALL, LARGE, ARBITER),
    seed: int = 0,
    monotonic: Callable[[], float] = lambda: 0.0,
    **settings: Any,
) -> Graders:
    """Make a grader whose judges and second models answer as scripted."""
    asked, log, counts = AskedModels(says), Log(), BackgroundCounts()
    served = {each.name: each for each in models}
    rng = random.Random(seed)
    judge = Judge(
        BackgroundCalls(asked.serving, JUDGE, counts, monotonic),
        JudgeLog(log.record),
        served,
        JudgeSettings(models=judges, share=share, **settings),
        counts,
        draw=lambda: CODE,
    )
    second, routing = None, routing or Predicted()
    if shadow is not None:
        calls = BackgroundCalls(asked.serving, SHADOW, counts, monotonic)
        second = Shadow(calls, log, routing, served, shadow, rng)
    shadow_share = 0.0 if shadow is None else shadow.share
    grader = JudgeGrader(judge, share, second, shadow_share, counts, rng)
    return Graders(grader, judge, asked, log, counts, routing)
