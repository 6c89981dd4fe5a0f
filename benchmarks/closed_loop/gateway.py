"""A gateway without sockets: its own routing, log, judge and learner, in simulated time."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from sqlalchemy import Engine

from benchmarks.closed_loop.grading import JudgeHost, Opinions, answer_of, open_judge
from benchmarks.closed_loop.world import Float64, World
from budget.ledger.amounts import NUSD_PER_USD
from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import router_store
from gateway.evaluation_log.graded_answers import GradedAnswers
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.row_layout import to_row
from gateway.judging.judge import Judge, Opinion
from gateway.learning.learner import Learner
from gateway.learning.opening import open_learner
from gateway.learning.operating import let_serve
from gateway.learning.training import train_router
from gateway.providers.refusals import Refusals
from gateway.routing.canary import Canary, read_canary
from gateway.routing.encoders import QueryEmbedder
from gateway.routing.exploring import exploring
from gateway.routing.plan import RoutePlan
from gateway.routing.prior import DayOne
from gateway.routing.routing import Routing
from gateway.routing.use import LearningFromUse
from gateway.settings.config import GatewaySettings
from gateway.settings.learning import LearningSettings
from gateway.storage.database import create_database_engine, ensure_schema, writing
from gateway.storage.rows import insert_rows
from gateway.types import Caller, HostedModel, ModelPrice, TurnRecord, Usage
from gateway.wire import read_chat_request
from router_models.artifacts.registry import ModelRegistry
from router_models.day_one.shipped import ShippedPrior
from router_models.errors import InvalidEvaluations
from router_models.types import Encoder

BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
CALLER: Final = Caller(key_id="key", team_id="team", is_judged=True)
LOOKS_PER_DAY: Final = 6
"""How often grades are read, and the learner takes a step. Really it is every 30 and 60 seconds."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a contender has switched on.

    Attributes:
        feedback_share: Of the turns, whose callers say whether the answer was right.
        judge_share: Of the turns, that the judge grades.
        judge_cap_usd: Per day.
        learns: ``loop`` as `waypost learn` does; ``weekly`` on all rows, without acceptance;
            ``never``.
        learning: How, where it is done.
    """

    feedback_share: float = 0.0
    judge_share: float = 0.0
    judge_cap_usd: float = 1.0
    learns: Literal["loop", "weekly", "never"] = "never"
    learning: LearningSettings = field(default_factory=LearningSettings)


@dataclass(slots=True, eq=False)
class Clock:
    """Simulated time."""

    now_s: float = 0.0

    def seconds(self) -> float:
        """Return seconds since the beginning."""
        return self.now_s

    def time(self) -> datetime:
        """Return the date and time."""
        return BEGIN + timedelta(seconds=self.now_s)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One gateway in one world.

    Attributes:
        models: Those that are hosted now; changed as the world changes.
        waiting: Rows that the log has not written yet.
        chosen: Column of the model that answered each turn.
        regret_usd: That each turn was expected to lose by exploring.
    """

    world: World
    setup: Setup
    clock: Clock
    engine: Engine
    models: dict[str, HostedModel]
    routing: Routing
    use: LearningFromUse
    active: ActiveRouter
    canary: Canary
    learner: Learner
    judge: Judge
    host: JudgeHost
    rng: np.random.Generator
    waiting: list[TurnRecord | GradeRecord] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    regret_usd: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Live through all days."""
        plan = self.world.plan
        step = plan.turns_per_day // LOOKS_PER_DAY
        for day in range(plan.days):
            self.models.update(hosted_models(self.world, day))
            queries = self.world.asked[day]
            quality, cost = self.world.quality(day, queries), self.world.cost_usd(day, queries)
            for turn, query in enumerate(queries):
                self.clock.now_s = 86_400.0 * (day + (turn + 1) / (plan.turns_per_day + 1))
                await self._turn(int(query), quality[turn], cost[turn])
                if turn % step == step - 1:
                    await self._look()
            if self.setup.learns == "weekly" and day % 7 == 6:
                await self._retrain()

    async def _turn(self, query: int, quality: Float64, cost: Float64) -> None:
        answers = self.world.answers
        body = {"model": "auto", "messages": [{"role": "user", "content": answers.texts[query]}]}
        request = read_chat_request(body, {})
        plan = self.routing.choose(await self.routing.predict(request, CALLER))
        self.routing.follow(plan)
        column = answers.models.index(plan.models[0].name)
        self.chosen.append(column)
        self.regret_usd.append(plan.regret_usd)
        if self.setup.feedback_share or self.setup.judge_share:
            record = self._record(plan, query, column, float(cost[column]))
            self.waiting.append(record)
            await self._grade(record, float(quality[column]))

    def _record(self, plan: RoutePlan, query: int, column: int, cost_usd: float) -> TurnRecord:
        name, number = plan.models[0].name, len(self.chosen)
        answers = self.world.answers
        return TurnRecord(
            request_id=f"req_{number:06d}",
            decision_id=f"dec_{number:06d}",
            started_at_unix_s=self.clock.time().timestamp(),
            key_id=CALLER.key_id,
            team_id=CALLER.team_id,
            requested_model="auto",
            turn_index=0,
            is_stream=False,
            chosen_model=name,
            served_model=name,
            provider="simulated",
            encoder_id=plan.encoder_id,
            query_embedding=plan.embedding,
            candidates=plan.candidates,
            propensity=plan.propensity,
            route_reason=plan.reason,
            router_version=plan.router_version,
            willingness_to_pay_usd=plan.willingness_to_pay_usd,
            usage=Usage(
                round(float(answers.prompt_tokens[query])),
                round(float(answers.completion_tokens[query, column])),
            ),
            cost_nusd=round(cost_usd * NUSD_PER_USD),
            attempts=1,
        )

    async def _grade(self, record: TurnRecord, quality: float) -> None:
        """Let the caller say how good it was, and the judge, if this turn is drawn for either."""
        asked, judged = self.rng.random(2)
        model = str(record.served_model)
        if asked < self.setup.feedback_share:
            self.waiting.append(grade_record(record, "feedback", CALLER.key_id, quality))
        if judged < self.setup.judge_share:
            usage = record.usage
            tokens = 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
            answer = answer_of(quality, model, tokens)
            opinion = await self.judge.score("", answer, (model,), CALLER)
            if opinion is not None:
                self.waiting.append(judged_record(record, opinion))

    async def _look(self) -> None:
        """Write the log; read grades; let the learner take a step, and its router serve."""
        write_rows(self.engine, self.waiting)
        self.waiting.clear()
        self.clock.now_s += 15.0
        await self.use.refresh()
        if self.setup.learns == "loop":
            self.learner.step()
            await self.active.refresh()
            await self.canary.refresh()

    async def _retrain(self) -> None:
        """Do by hand what is done without a learner: train on everything, let it serve."""
        rows, names = self.learner.evidence.rows(), ModelRegistry()
        try:
            trained = train_router(
                rows.evaluations("train", rows.models, names),
                rows.evaluations("val", rows.models, names),
                self.setup.learning.estimator,
                0,
                self.learner.serving.encoder,
                reads_requests=True,
                now=self.clock.time(),
            )
        except InvalidEvaluations:
            return
        store = self.learner.serving.store
        let_serve(store, store.put_own(trained.content).version, None)
        await self.active.refresh()


@asynccontextmanager
async def open_site(
    world: World, setup: Setup, encoder: Encoder, first: ShippedPrior, folder: Path, seed: int
) -> AsyncIterator[Site]:
    """Make a gateway with an empty log in `folder`."""
    settings = GatewaySettings(data_dir=folder, learning=setup.learning)
    engine = create_database_engine(f"sqlite:///{folder / 'waypost.db'}")
    ensure_schema(engine)
    clock, models = Clock(), hosted_models(world, 0)
    embedder = QueryEmbedder(encoder, max_entries=20_000)
    prior = DayOne(first)
    use = LearningFromUse(GradedAnswers(engine, encoder.id), prior, models, clock.time)
    active = ActiveRouter(router_store(settings), encoder)
    judging, exploration, grading, second = (np.random.default_rng([seed, n]) for n in range(4))
    canary = Canary(partial(read_canary, engine), active, second)
    host = JudgeHost(Opinions(), setup.judge_cap_usd, clock.seconds, judging)
    routing = Routing(
        models=models,
        profiles=settings.all_profiles,
        default_profile=settings.routing.default_profile,
        default_model=next(iter(models)),
        exploration=exploring(settings.routing.exploration, use.is_graded, clock.seconds),
        embedder=embedder,
        router=active,
        paused=lambda: (),
        rng=exploration,
        refusals=Refusals(clock.seconds),
        prior=prior,
        canary=canary,
    )
    learner = open_learner(settings, engine, clock.time)
    learner = replace(learner, serving=replace(learner.serving, default_artifact=None))
    judge = open_judge(host)
    try:
        yield Site(
            world,
            setup,
            clock,
            engine,
            models,
            routing,
            use,
            active,
            canary,
            learner,
            judge,
            host,
            grading,
        )
    finally:
        engine.dispose()


def hosted_models(world: World, day: int) -> dict[str, HostedModel]:
    """Describe the models that are there, at the prices of the day."""
    models = {}
    for name, price in zip(world.answers.models, world.price(day).tolist(), strict=True):
        prompt, completion = (round(usd * NUSD_PER_USD) for usd in price)
        if name in world.hosted(day):
            rates = ModelPrice(prompt, completion)
            models[name] = HostedModel(name, "simulated", name, rates)
    return models


def grade_record(record: TurnRecord, source: str, grader: str, score: float) -> GradeRecord:
    """Make a grade of a turn's answer, given at once."""
    return GradeRecord(
        grade_id=f"{source}_{record.request_id}",
        answer_id=record.request_id,
        team_id=record.team_id,
        grader=grader,
        source=source,  # type: ignore[arg-type]
        score=score,
        comment=None,
        created_at_unix_s=record.started_at_unix_s + 1.0,
    )


def judged_record(record: TurnRecord, opinion: Opinion) -> GradeRecord:
    """Make a grade of what a judge thinks."""
    grade = grade_record(record, "judge", opinion.judge, opinion.score)
    return replace(grade, weight=opinion.weight, version=opinion.version)


def write_rows(engine: Engine, records: Iterable[TurnRecord | GradeRecord]) -> None:
    """Write rows as the log's thread does."""
    with writing(engine) as connection:
        insert_rows(connection, [to_row(record) for record in records])
