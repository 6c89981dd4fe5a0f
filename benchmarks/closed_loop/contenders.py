"""Who chooses a model for each turn, and what is known of how that went."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop import bandit
from benchmarks.closed_loop.bandit import BanditSettings
from benchmarks.closed_loop.gateway import BEGIN, Setup, hosted_models, open_site
from benchmarks.closed_loop.grading import Opinions
from benchmarks.closed_loop.world import Float64, World
from gateway.routing.prior import as_pool_model
from gateway.settings.learning import LearningSettings
from router_models.day_one.shipped import ShippedPrior
from router_models.training.ridge import fit_ridge
from router_models.training.settings import RidgeSettings
from router_models.types import TOKENS_PER_MTOK, Encoder, Evaluations

FIRST: Final = "first router"
LOOP: Final = "loop"
JUDGED: Final = "loop, judge"
WEEKLY: Final = "by hand"
USE: Final = "no learner"
BANDIT: Final = "ParetoBandit"
INFORMED: Final = "informed"
ORACLE: Final = "oracle"
STATIC: Final = "static, day 0"
HINDSIGHT: Final = "static, hindsight"
RANDOM: Final = "random"
SITES: Final = (USE, LOOP, JUDGED, WEEKLY)
FEEDBACK: Final = 0.25
JUDGE: Final = 0.3
TUNED: Final = BanditSettings(alpha=0.01, forgetting=0.9997, n_effective=1000.0)
"""The best of `bandit.GRID` on seeds that are not measured on; see `run --tune`."""
INFORMED_SETTINGS: Final = RidgeSettings(1000.0)


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What a contender did.

    Attributes:
        chosen: Column of the model of each turn.
        events: What its learner did: day, what, and why.
        exploring_usd: What exploring choices were expected to lose.
        judge_usd: What its judge cost.
        verdicts: Of the judge: how many, correlation with the truth, bias and root mean square.
    """

    chosen: NDArray[np.intp]
    events: Sequence[tuple[float, str, str]] = ()
    exploring_usd: float = 0.0
    explored: int = 0
    judge_usd: float = 0.0
    verdicts: Sequence[float] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, eq=False)
class Arena:
    """What all contenders meet.

    Attributes:
        paid_usd: Willingness to pay for an answer of quality 1.
        features: Of the queries, for the bandit.
        estimator: That learners train.
        prior: That all begin with.
    """

    world: World
    encoder: Encoder
    paid_usd: float
    features: Float64
    estimator: str
    seed: int
    prior: ShippedPrior

    def run(self, name: str, settings: BanditSettings = TUNED) -> Choices:
        """Let one contender route all turns."""
        if name in SITES:
            return asyncio.run(self._site(self._setup(name)))
        if name == BANDIT:
            rng = np.random.default_rng([self.seed, 7])
            guess, grades = self._prior(0)[0], grades_of(self.world, rng)
            chosen = bandit.run_bandit(
                self.world, self.features, guess, grades, self.paid_usd, settings, self.seed
            )
            return Choices(chosen)
        return Choices(
            {
                FIRST: self._first,
                INFORMED: self._informed,
                ORACLE: self._oracle,
                STATIC: self._static,
                HINDSIGHT: self._hindsight,
                RANDOM: self._random,
            }[name]()
        )

    def utilities(self) -> Float64:
        """Utility of every model on every turn; shape ``(n_turns, n_models)``."""
        return np.concatenate(
            [
                self.world.utility(day, queries, self.paid_usd)
                for day, queries in enumerate(self.world.asked)
            ]
        )

    def _setup(self, name: str) -> Setup:
        learning = LearningSettings.model_validate(
            {"enabled": True, "on_acceptance": "activate", "estimator": self.estimator}
        )
        return {
            USE: Setup(FEEDBACK, JUDGE),
            LOOP: Setup(FEEDBACK, learns="loop", learning=learning),
            JUDGED: Setup(FEEDBACK, JUDGE, learns="loop", learning=learning),
            WEEKLY: Setup(FEEDBACK, JUDGE, learns="weekly", learning=learning),
        }[name]

    async def _site(self, setup: Setup) -> Choices:
        with TemporaryDirectory() as folder:
            seed = self.seed
            place = Path(folder)
            async with open_site(self.world, setup, self.encoder, self.prior, place, seed) as site:
                await site.run()
                events = [
                    ((event.at - BEGIN).total_seconds() / 86_400.0, event.what, event.why)
                    for event in reversed(site.learner.events.newest(1000))
                ]
                return Choices(
                    np.array(site.chosen, np.intp),
                    events,
                    sum(site.regret_usd),
                    sum(regret > 0.0 for regret in site.regret_usd),
                    sum(site.host.spent_usd.values()),
                    quality_of(site.host.pairs),
                )

    def _prior(self, day: int) -> tuple[Float64, Float64]:
        """Return quality and cost that the prior expects of a day's turns, of the new model too."""
        models = hosted_models(self.world, self.world.plan.days - 1)
        router = self.prior.router([as_pool_model(model) for model in models.values()])
        queries = self.world.asked[day]
        found = router.serving_estimator.predict(self.world.answers.embeddings[queries])
        prompt, completion = self.world.price(day).T
        asked_mtok = self.world.answers.prompt_tokens[queries, None] / TOKENS_PER_MTOK
        # What it predicts as cost are million tokens of the answer, which have today's price.
        cost_usd = asked_mtok * prompt + found.cost_usd * completion
        return found.quality.astype(np.float64), cost_usd

    def _expected(self, day: int) -> Float64:
        quality, cost = self._prior(day)
        return np.where(self.world.is_hosted(day), quality - cost / self.paid_usd, -np.inf)

    def _first(self) -> NDArray[np.intp]:
        """Route by the prior that all begin with, at the prices of the day, and learn nothing."""
        days = range(self.world.plan.days)
        return np.concatenate([self._expected(day).argmax(axis=1) for day in days])

    def _static(self) -> NDArray[np.intp]:
        best = int(self._expected(0).mean(axis=0).argmax())
        return np.full(self.world.asked.size, best)

    def _hindsight(self) -> NDArray[np.intp]:
        best = int(self.utilities().sum(axis=0).argmax())
        return np.full(self.world.asked.size, best)

    def _oracle(self) -> NDArray[np.intp]:
        best: NDArray[np.intp] = self.utilities().argmax(axis=1)
        return best

    def _random(self) -> NDArray[np.intp]:
        rng = np.random.default_rng([self.seed, 8])
        drawn = rng.random((self.world.asked.size, len(self.world.answers.models)))
        chosen: NDArray[np.intp] = np.where(np.isfinite(self.utilities()), drawn, -1.0).argmax(
            axis=1
        )
        return chosen

    def _informed(self) -> NDArray[np.intp]:
        """Route by what was learned from the answers of all models to all other queries.

        Half of the queries are routed by what the other half shows, as the world is on that day.
        """
        chosen = np.zeros(self.world.asked.shape, np.intp)
        halves = np.arange(len(self.world.answers.quality)) % 2
        for begin, end in pairwise(self.world.plan.phases):
            asked = self.world.asked[begin:end]
            routed = np.zeros(len(halves), np.intp)
            for half in (0, 1):
                learned, asked_here = np.flatnonzero(halves != half), halves == half
                routed[asked_here] = self._route_informed(begin, learned, asked_here)
            chosen[begin:end] = routed[asked]
        return chosen.ravel()

    def _route_informed(
        self, day: int, learned: NDArray[np.intp], asked: NDArray[np.bool_]
    ) -> NDArray[np.intp]:
        world = self.world
        truth = Evaluations(
            world.answers.embeddings[learned],
            world.quality(day, learned).astype(np.float32),
            world.cost_usd(day, learned).astype(np.float32),
            world.answers.models,
        )
        found = fit_ridge(truth, INFORMED_SETTINGS).predict(world.answers.embeddings[asked])
        utility = found.quality - found.cost_usd / self.paid_usd
        best: NDArray[np.intp] = np.where(world.is_hosted(day), utility, -np.inf).argmax(axis=1)
        return best


def grades_of(world: World, rng: np.random.Generator) -> Float64:
    """Grade every model's answer to every turn as the loop with a judge would get it.

    NaN where nobody would; shape ``(n_turns, n_models)``.
    """
    truth = np.concatenate([world.quality(day, asked) for day, asked in enumerate(world.asked)])
    opinions, models = Opinions(), world.answers.models
    grades = np.full(truth.shape, np.nan)
    for turn, qualities in enumerate(truth):
        if rng.random() < JUDGE:
            grades[turn] = [
                opinions.score(float(quality), model, rng)
                for quality, model in zip(qualities, models, strict=True)
            ]
        if rng.random() < FEEDBACK:
            grades[turn] = qualities
    return grades


def quality_of(pairs: Sequence[tuple[float, float]]) -> Sequence[float]:
    """Sum up verdicts beside the truth."""
    if len(pairs) < 2:
        return ()
    said, truth = np.array(pairs).T
    error = said - truth
    correlation = float(np.corrcoef(said, truth)[0, 1])
    return (len(said), correlation, float(error.mean()), float(np.sqrt((error**2).mean())))


def names(*, with_bandit: bool) -> Iterator[str]:
    """Name all contenders, the cheapest to run first."""
    yield from (ORACLE, HINDSIGHT, STATIC, RANDOM, FIRST, INFORMED)
    if with_bandit:
        yield BANDIT
    yield from SITES
