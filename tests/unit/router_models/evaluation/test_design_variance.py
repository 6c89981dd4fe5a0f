"""Intervals of off-policy estimates, on made-up logs whose truth is known."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pytest

from router_models.evaluation.design_variance import (
    Contributions,
    Shares,
    contributions,
    reach,
    weighed,
)
from router_models.evaluation.off_policy import LoggedChoices, effective_answers
from router_models.evaluation.outcome_model import OutcomeModel, fit_outcome_model
from router_models.types import Prediction

MODELS = ("a", "b", "c", "d")
PRICE = 20.0


@dataclass(frozen=True)
class World:
    """Queries whose every answer is known, and what another router would choose.

    It disagrees with the one that served on the first sixth of the queries.
    """

    quality: np.ndarray
    cost_usd: np.ndarray
    guess: Prediction
    chosen: np.ndarray
    served: np.ndarray

    @classmethod
    def make(cls, *, graded: float = 1.0, queries: int = 20_000) -> "World":
        """Guess right on average, but for models that seldom answer: `graded` times as good."""
        rng = np.random.default_rng(7)
        likely = rng.uniform(0.1, 0.95, (queries, len(MODELS)))
        dear = np.array([0.001, 0.003, 0.01, 0.03]) * rng.lognormal(0, 0.5, (queries, 1))
        right = likely * np.array([1.0, 1.0, graded, graded])
        quality = (rng.random(likely.shape) < right).astype(np.float64)
        cost = dear * rng.lognormal(-0.18, 0.6, likely.shape)
        served = rng.integers(0, 2, queries)
        chosen = np.where(np.arange(queries) % 6 == 0, 3 - served, served)
        guess = Prediction(likely.astype(np.float32), dear.astype(np.float32))
        return cls(quality, cost, guess, chosen, served)

    def log(self, rows: int, epsilon: float, rng: np.random.Generator) -> "Log":
        """Draw queries, and a model for each."""
        at = rng.integers(0, len(self.served), rows)
        odds = np.full((rows, len(MODELS)), epsilon / len(MODELS))
        odds[np.arange(rows), self.served[at]] += 1 - epsilon
        is_explored = rng.random(rows) < epsilon
        drawn = rng.integers(0, len(MODELS), rows)
        answered = np.where(is_explored, drawn, self.served[at])
        choices = LoggedChoices(
            np.zeros((rows, 1), np.float32),
            answered,
            self.quality[at, answered].astype(np.float32),
            self.cost_usd[at, answered].astype(np.float32),
            odds.astype(np.float32),
            MODELS,
            np.arange(rows),
        )
        guess = Prediction(self.guess.quality[at], self.guess.cost_usd[at])
        return Log(choices, guess, fit_outcome_model(guess, choices), self.chosen[at], at)

    @property
    def truth(self) -> np.ndarray:
        """Mean quality, cost and utility of what the other router chooses."""
        at = np.arange(len(self.chosen)), self.chosen
        quality, cost = self.quality[at].mean(), self.cost_usd[at].mean()
        return np.array([quality, cost, quality - PRICE * cost])


@dataclass(frozen=True)
class Log:
    choices: LoggedChoices
    guess: Prediction
    outcomes: OutcomeModel
    chosen: np.ndarray
    at: np.ndarray

    def found(self) -> Iterator[Contributions]:
        utility = self.outcomes.utility(PRICE)
        for outcome in (self.outcomes.quality, self.outcomes.cost_usd, utility):
            yield contributions(outcome, self.chosen, self.choices)

    @property
    def effective(self) -> float:
        return effective_answers(self.chosen, self.choices)

    def errors_off(self, truth: np.ndarray) -> list[float]:
        """How many standard errors each estimate is off."""
        return [
            abs(each.value.mean() - true)
            / each.standard_error(self.choices.query, self.outcomes.persistence)
            for each, true in zip(self.found(), truth, strict=True)
        ]


@pytest.mark.parametrize("graded", [1.0, 0.5])
@pytest.mark.parametrize(("rows", "epsilon"), [(1000, 0.025), (1000, 0.2)])
def test_intervals_cover_the_truth_as_often_as_they_say(graded, rows, epsilon):
    world, rng = World.make(graded=graded), np.random.default_rng(1)
    logs = [world.log(rows, epsilon, rng) for _ in range(120)]
    assert 30 < logs[0].effective < 400

    covers = [np.array(log.errors_off(world.truth)) <= reach(log.effective) for log in logs]

    quality, cost, utility = np.mean(covers, axis=0)
    for share in (quality, cost, utility):
        assert 0.9 <= share <= 0.995


def test_the_spread_of_the_draws_alone_would_miss_most_of_the_time():
    # One answer in 160 is of a given other model: many logs hold none that matters.
    world, rng = World.make(graded=0.5), np.random.default_rng(1)
    is_covered = []
    for _ in range(120):
        quality = next(world.log(1000, 0.025, rng).found())
        error = quality.value.std() / np.sqrt(1000)
        is_covered.append(abs(quality.value.mean() - world.truth[0]) <= 2.0 * error)
    assert np.mean(is_covered) < 0.75


def test_intervals_for_every_look_hold_at_all_of_them():
    world, rng = World.make(), np.random.default_rng(2)
    missed_once, missed_always = [], []
    for _ in range(40):
        whole = world.log(3000, 0.1, rng)
        off, once, always = [], [], []
        for rows in range(300, 3001, 300):
            seen = np.arange(rows)
            choices = whole.choices.select(seen)
            guess = Prediction(whole.guess.quality[seen], whole.guess.cost_usd[seen])
            log = Log(choices, guess, fit_outcome_model(guess, choices), whole.chosen[seen], seen)
            off.append(log.errors_off(world.truth)[0])
            once.append(reach(log.effective))
            always.append(reach(log.effective, rows))
        missed_once.append(np.any(np.array(off) > once))
        missed_always.append(np.any(np.array(off) > always))

    assert np.mean(missed_always) <= 0.05
    assert np.mean(missed_once) > 0.1


def test_two_routers_that_choose_alike_differ_by_nothing():
    log = World.make().log(300, 0.1, np.random.default_rng(0))
    quality = next(log.found())
    difference = quality.minus(quality, np.zeros(300, bool))
    assert difference.value.mean() == 0.0
    assert difference.standard_error(log.choices.query, log.outcomes.persistence) == 0.0


def test_a_difference_is_less_certain_than_what_it_is_between():
    log = World.make().log(300, 0.1, np.random.default_rng(0))
    one, other = (
        contributions(log.outcomes.quality, np.full(300, model), log.choices) for model in (2, 3)
    )
    query, persistence = log.choices.query, log.outcomes.persistence
    difference = one.minus(other, np.ones(300, bool)).standard_error(query, persistence)
    assert difference > 1.2 * one.standard_error(query, persistence)
    assert difference > 1.2 * other.standard_error(query, persistence)


def test_one_choice_weighed_is_what_it_contributes() -> None:
    log = World.make().log(300, 0.1, np.random.default_rng(0))
    shares = Shares.of([log.chosen], np.array([PRICE]), np.ones(1), log.choices)
    found = weighed(log.outcomes, shares, log.choices)
    utility = contributions(log.outcomes.utility(PRICE), log.chosen, log.choices)
    for field in fields(Contributions):
        assert getattr(found, field.name) == pytest.approx(getattr(utility, field.name))


def test_differences_at_several_prices_together_are_covered_as_often_as_they_say() -> None:
    world, rng = World.make(graded=0.5), np.random.default_rng(3)
    prices, scales = np.array([1.0, 5.0, 20.0]), np.full(3, 1 / 3)
    new = [np.where(np.arange(len(world.served)) % 6 < turn, 3, world.served) for turn in (3, 2, 1)]
    rows = np.arange(len(world.served))
    truth = sum(
        scale * (utility[rows, chosen] - utility[rows, world.served]).mean()
        for chosen, price, scale in zip(new, prices, scales, strict=True)
        for utility in [world.quality - price * world.cost_usd]
    )
    is_covered = []
    for _ in range(120):
        log = world.log(1000, 0.05, rng)
        shares = [
            Shares.of([each[log.at] for each in routers], prices, scales, log.choices)
            for routers in (new, [world.served] * 3)
        ]
        found = weighed(log.outcomes, shares[0].minus(shares[1]), log.choices)
        off = abs(found.value.mean() - truth)
        effective = effective_answers(new[0][log.at], log.choices)
        error = found.standard_error(log.choices.query, log.outcomes.persistence)
        is_covered.append(off <= reach(effective) * error)
    assert 0.9 <= np.mean(is_covered) <= 0.995


def test_answers_that_persist_are_less_certain_when_queries_repeat():
    log = World.make().log(300, 0.1, np.random.default_rng(0))
    quality, repeated = next(log.found()), np.arange(300) // 10
    errors = [quality.standard_error(repeated, persistence) for persistence in (0.0, 1.0)]
    assert errors[0] < errors[1]


def test_the_reach_is_that_of_a_normal_distribution_where_answers_are_many():
    assert reach(1e6) == pytest.approx(1.96, abs=1e-3)
    assert reach(30.0) == pytest.approx(2.042, abs=5e-3)  # Student's with 30 degrees of freedom
    assert 2.9 < reach(1e6, 2000) < 3.2


def test_a_log_in_which_every_answer_is_free_has_a_certain_cost():
    world = World.make()
    free = World(world.quality, 0.0 * world.cost_usd, world.guess, world.chosen, world.served)
    log = free.log(300, 0.1, np.random.default_rng(0))
    _, cost, _ = log.found()
    assert cost.value.mean() == 0.0
    assert cost.standard_error(log.choices.query, log.outcomes.persistence) == 0.0
