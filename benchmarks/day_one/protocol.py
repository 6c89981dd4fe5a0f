"""Who is new, what is measured, and what a router's choices are worth."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_one.heads import fit_heads
from benchmarks.day_one.prior import KnownAnswers
from benchmarks.day_one.tables import Float64, Table
from router_models.estimators.arrays import Scaler

COUNTS: Final = (0, 5, 10, 20, 40, 80, 160, 340)
"""Prompts that each new model answers."""

POOL, NEW, WHOLE_POOL = 8, 3, 5
BANK: Final = 1500
"""Train queries that prompts are chosen from."""

LAMBDAS: Final = np.concatenate([[0.0], np.geomspace(0.02, 2.0, 11)])
"""Utility lost per mean cost of the pool's dearest model.

Not per widest difference of mean costs: where all cost much the same, that weighs cost without
bound."""


TIE: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One pool of one table, some of it new.

    Attributes:
        pool: Columns of the table; the new ones come last.
        n_known: How many of the pool are not new.
        known: Columns with answers to all train queries; in the pool or not.
        train: Rows to learn from.
        test: Rows to measure on.
        bank: Rows of `train` that prompts come from, in the order in which they are asked at
            random.
    """

    table: Table
    scenario: str
    seed: int
    pool: NDArray[np.intp]
    n_known: int
    known: NDArray[np.intp]
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    bank: NDArray[np.intp]

    @property
    def new(self) -> NDArray[np.intp]:
        """Columns of the new models."""
        return self.pool[self.n_known :]

    @property
    def lambdas(self) -> Float64:
        """Utility per USD."""
        costs = self.table.cost_usd[np.ix_(self.train, self.pool)].mean(axis=0)
        return LAMBDAS / max(float(costs.max()), 1e-12)

    def known_answers(self) -> KnownAnswers:
        """What a prior learns from."""
        at = np.ix_(self.train, self.known)
        return KnownAnswers(
            tuple(self.table.models[column] for column in self.known),
            self.table.embeddings[self.train],
            self.table.score[at],
            self.table.completion_tokens[at],
            self.table.prompt_tokens[self.train],
            self.table.price[self.known].max(axis=1),
        )


def draws(table: Table, seeds: range) -> Iterator[Draw]:
    """Draw pools: three new models among eight, and five that are all new, per seed.

    A small table has as many models as it has: then all are in the first pool, and four in the
    second.
    """
    able = np.flatnonzero(table.can_route)
    rows = np.flatnonzero(~table.is_test), np.flatnonzero(table.is_test)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        order = rng.permutation(able)
        bank = rng.permutation(rows[0])[:BANK]
        pool = order[: min(POOL, len(able))]
        for scenario, chosen, n_new in (
            ("three new", pool, NEW),
            ("all new", order[-_whole(len(able)) :], _whole(len(able))),
        ):
            known = np.setdiff1d(np.arange(len(table.models)), chosen[len(chosen) - n_new :])
            yield Draw(
                table,
                scenario,
                seed,
                chosen,
                len(chosen) - n_new,
                known,
                *rows,
                bank,
            )


def _whole(n_able: int) -> int:
    return WHOLE_POOL if n_able > POOL + NEW else WHOLE_POOL - 1


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """What choices are worth on the test rows, beside the router that knows all answers.

    Attributes:
        draw: Whose pool.
        best: Utility of that router.
        ignorance: What the best single model without answers loses.
        constants: What each model of the pool loses where it serves every query.
    """

    draw: Draw
    best: float
    constants: Float64
    ignorance: float

    @classmethod
    def of(cls, draw: Draw) -> "Judge":
        """Fit the router that knows all train answers, and measure it."""
        table, pool = draw.table, draw.pool
        scaler = Scaler.fit(table.embeddings[draw.train])
        x, y = (scaler.apply(table.embeddings[rows]) for rows in (draw.train, draw.test))
        at = np.ix_(draw.train, pool)
        quality = fit_heads(x, table.score[at])[0]
        tokens = np.maximum(table.completion_tokens[at], 1.0)
        heads, held = fit_heads(x, np.log(tokens))
        factor = table.completion_tokens[at].sum(axis=0) / np.exp(held).sum(axis=0)
        written = np.exp(y @ heads[:-1] + heads[-1]) * factor
        best = _utility(draw, y @ quality[:-1] + quality[-1], charged(draw, written))
        spent = table.cost_usd[np.ix_(draw.test, pool)].mean(axis=0)
        earned = table.score[np.ix_(draw.test, pool)].mean(axis=0)
        constants = best - np.mean(earned - draw.lambdas[:, None] * spent, axis=0)
        return cls(draw, best, 1000.0 * constants, _ignorance(draw, best))

    def loss(self, quality: Float64, cost_usd: Float64) -> float:
        """Utility lost by following predictions for the test rows and the pool, times 1,000."""
        return 1000.0 * (self.best - _utility(self.draw, quality, cost_usd))


def charged(draw: Draw, completion_tokens: Float64) -> Float64:
    """What test queries cost at list price, if models write so many tokens."""
    price = draw.table.price[draw.pool]
    prompt = draw.table.prompt_tokens[draw.test][:, None]
    cost: Float64 = (prompt * price[:, 0] + completion_tokens * price[:, 1]) / 1e6
    return cost


def _utility(draw: Draw, quality: Float64, cost_usd: Float64) -> float:
    at = np.ix_(draw.test, draw.pool)
    score, cost = draw.table.score[at], draw.table.cost_usd[at]
    rows = np.arange(len(score))
    earned = []
    # Ties go to the lower cost, as they do in the gateway: without answers models may look alike.
    tie = TIE * cost_usd / max(float(cost_usd.max()), 1e-12)
    for weight in draw.lambdas:
        chosen = (quality - weight * cost_usd - tie).argmax(axis=1)
        earned.append((score[rows, chosen] - weight * cost[rows, chosen]).mean())
    return float(np.mean(earned))


def _ignorance(draw: Draw, best: float) -> float:
    """The best known model of the pool for each weight; where none is known, the cheapest listed.

    Where cost does not count and nothing is known, any model is as good a choice.
    """
    if draw.n_known == 0:
        cheapest = int(draw.table.price[draw.pool].sum(axis=1).argmin())
        return _blind(draw, best, cheapest)
    known = draw.pool[: draw.n_known]
    at, held = np.ix_(draw.train, known), np.ix_(draw.test, known)
    table, earned = draw.table, []
    means = table.score[at].mean(axis=0), table.cost_usd[at].mean(axis=0)
    truth = table.score[held].mean(axis=0), table.cost_usd[held].mean(axis=0)
    for weight in draw.lambdas:
        chosen = int((means[0] - weight * means[1]).argmax())
        earned.append(truth[0][chosen] - weight * truth[1][chosen])
    return 1000.0 * (best - float(np.mean(earned)))


def _blind(draw: Draw, best: float, model: int) -> float:
    """What `model` loses where it serves whenever cost counts, and any model where it does not."""
    at = np.ix_(draw.test, draw.pool)
    score, cost = draw.table.score[at].mean(axis=0), draw.table.cost_usd[at].mean(axis=0)
    earned = [score.mean(), *(score[model] - weight * cost[model] for weight in draw.lambdas[1:])]
    return 1000.0 * (best - float(np.mean(earned)))
