"""Comparing routers on a log whose exploration gave some models no chance; the truth is known."""

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean

import numpy as np
import pytest

from router_models.evaluation.design_variance import Shares, reach, weighed
from router_models.evaluation.off_policy import LoggedChoices, choose, effective_answers
from router_models.evaluation.outcome_model import fit_outcome_model
from router_models.evaluation.unseen import Design
from router_models.types import Prediction

MODELS = tuple("abcde")
SKILL = np.array([0.75, 0.7, 0.6, 0.45, 0.3])
PRICES, SCALES = np.array([1.0, 5.0, 20.0]), np.full(3, 1 / 3)
DOUBT, MOST_REGRET = 0.06, 0.2
"""What looks worse than the best by more than so much is not tried."""
QUERIES, LOGS = 20_000, 60


@dataclass
class World:
    """What every model answers, and what two routers expect of them by topic."""

    likely: np.ndarray
    quality: np.ndarray
    cost_usd: np.ndarray
    dear: np.ndarray
    active: np.ndarray
    new: np.ndarray

    @classmethod
    def make(cls, wrong_active: float, wrong_new: float) -> "World":
        """Let the routers be wrong, by topic and model, by these standard deviations."""
        rng = np.random.default_rng(7)
        topic = rng.integers(0, 6, QUERIES)
        likely = SKILL + rng.normal(0, 0.18, (6, 5))[topic] + rng.normal(0, 0.05, (QUERIES, 5))
        likely = np.clip(likely, 0.03, 0.97)
        dear = np.array([0.001, 0.003, 0.01, 0.02, 0.0005]) * rng.lognormal(0, 0.4, (QUERIES, 1))
        quality = (rng.random(likely.shape) < likely).astype(np.float64)
        cost = dear * rng.lognormal(-0.08, 0.4, likely.shape)
        active, new = (
            np.clip(likely + wrong * rng.standard_normal((6, 5))[topic], 0.02, 0.98)
            for wrong in (wrong_active, wrong_new)
        )
        return cls(likely, quality, cost, dear, active, new)

    @cached_property
    def odds(self) -> np.ndarray:
        """Weigh models by how near the best one the active router believes them."""
        utility = self.active - PRICES[1] * self.dear
        apart = utility.max(axis=1, keepdims=True) - utility
        weight = np.where(apart > MOST_REGRET, 0.0, np.exp(-0.5 * (apart / DOUBT) ** 2))
        weight[weight < 1e-3] = 0.0
        odds: np.ndarray = weight / weight.sum(axis=1, keepdims=True)
        return odds

    def chosen(self, expected: np.ndarray) -> list[np.ndarray]:
        return [(expected - price * self.dear).argmax(axis=1) for price in PRICES]

    @cached_property
    def truth(self) -> float:
        """By how much the new router is better."""
        at = np.arange(QUERIES)
        both = zip(PRICES, self.chosen(self.new), self.chosen(self.active), strict=True)
        gains = []
        for price, new, active in both:
            utility = self.quality - price * self.cost_usd
            gains.append((utility[at, new] - utility[at, active]).mean())
        return float(np.mean(gains))

    def log(self, rows: int, rng: np.random.Generator) -> tuple[Design, float]:
        """Draw queries and answers; returns how many of these an estimate is worth, too."""
        at = rng.integers(0, QUERIES, rows)
        odds = self.odds[at]
        answered = (odds.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
        choices = LoggedChoices(
            np.zeros((rows, 1), np.float32),
            answered,
            self.quality[at, answered].astype(np.float32),
            self.cost_usd[at, answered].astype(np.float32),
            odds.astype(np.float32),
            MODELS,
            np.arange(rows),
            could_answer=np.ones(odds.shape, bool),
        )
        cost = np.broadcast_to(self.dear[at], odds.shape).astype(np.float32)
        shares, effective = dict[str, Shares](), float(rows)
        for name, expected in (("active", self.active), ("new", self.new)):
            wanted = Prediction(expected[at].astype(np.float32), cost)
            chosen = [choose(wanted, choices, price) for price in PRICES]
            shares[name] = Shares.of(chosen, PRICES, SCALES, choices)
            effective = min(effective, *(effective_answers(each, choices) for each in chosen))
        both = ((self.active + self.new) / 2)[at].astype(np.float32)
        outcomes = fit_outcome_model(Prediction(both, cost), choices)
        return Design(choices, outcomes, shares), effective


def interval(design: Design, effective: float, *, is_bounded: bool = True) -> tuple[float, float]:
    shares = design.shares["new"].minus(design.shares["active"])
    value = float(weighed(design.outcomes, shares, design.choices).value.mean())
    margin = reach(effective) * design.standard_error("new", "active")
    unseen = design.unseen("new", "active")
    low, high = (unseen.below, unseen.above) if is_bounded else (0.0, 0.0)
    return value + low - margin, value + high + margin


@pytest.mark.parametrize("rows", [300, 1500])
@pytest.mark.parametrize(("wrong_active", "wrong_new"), [(0.1, 0.1), (0.0, 0.1), (0.1, 0.3)])
def test_intervals_cover_the_truth_though_hardly_a_turn_gave_every_model_a_chance(
    rows, wrong_active, wrong_new
):
    world, rng = World.make(wrong_active, wrong_new), np.random.default_rng(1)
    assert (world.odds > 0).all(axis=1).mean() < 0.05
    logs = [world.log(rows, rng) for _ in range(LOGS)]
    intervals = [interval(*each) for each in logs]
    assert np.mean([low <= world.truth <= high for low, high in intervals]) >= 0.9


def test_by_what_routers_expect_of_what_had_no_chance_they_would_miss_it():
    world, rng = World.make(0.1, 0.3), np.random.default_rng(1)
    logs = [world.log(1500, rng) for _ in range(LOGS)]
    assert mean(design.unseen("new", "active").share for design, _ in logs) > 0.1

    def covered(*, is_bounded: bool) -> float:
        found = [interval(*each, is_bounded=is_bounded) for each in logs]
        return float(np.mean([low <= world.truth <= high for low, high in found]))

    assert covered(is_bounded=True) >= 0.95
    assert covered(is_bounded=False) < 0.85


def test_where_every_model_had_a_chance_nothing_is_left_to_expectations():
    world = World.make(0.1, 0.1)
    design, _ = world.log(300, np.random.default_rng(0))
    odds = np.full(design.choices.propensity.shape, 0.2, np.float32)
    choices = replace(design.choices, propensity=odds, could_answer=None)
    whole = Design(choices, design.outcomes, design.shares)
    assert whole.unseen("new", "active") == (0.0, 0.0, 0.0)


def test_routers_that_choose_alike_differ_by_nothing_whatever_had_a_chance():
    world = World.make(0.2, 0.2)
    design, _ = world.log(300, np.random.default_rng(0))
    assert design.unseen("new", "new") == (0.0, 0.0, 0.0)
    assert design.standard_error("new", "new") == 0.0
