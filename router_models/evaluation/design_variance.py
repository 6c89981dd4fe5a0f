"""How uncertain an off-policy estimate is: from the design of the log, and from its draws.

A router that seldom agrees with the one that served is measured on a few answers of great weight.
Their own spread, which a bootstrap draws from, says little: the rare answer that would have moved
the estimate far is most likely not among them. The propensities and the outcome model say what
could have happened: the modelled values vary between queries, and each answer adds its expected
squared surprise over its propensity. That variance is used, and the draws' own as far as there are
many. Särndal, Swensson, Wretman, "Model Assisted Survey Sampling" (1992), chapter 6.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.off_policy import LoggedChoices
from router_models.evaluation.outcome_model import Outcome, OutcomeModel

Float64 = NDArray[np.float64]

RISK: Final = 0.05
"""Share of the intervals that may miss."""
NORMAL: Final = 1.959964
"""Standard errors to either side of 95 % of a normal distribution."""
PRIOR_DRAWS: Final = 30.0
"""The draws' own spread counts half when so many of them carry the variance."""
SHARPEST_AT: Final = 2000.0
"""Answers at which intervals for every look are the least wider than those for one."""


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """What each answer adds to an estimate, and what it might have added.

    Attributes:
        value: Doubly robust; its mean is the estimate; shape ``(n_rows,)``.
        modelled: By the outcome model alone; same shape.
        squares: Expected square of the surprise of an answer that counts; same shape.
        variance: The same, over the answer's propensity: what a draw adds; same shape.
        instability: How far that square itself is left to chance; same shape.
    """

    value: Float64
    modelled: Float64
    squares: Float64
    variance: Float64
    instability: Float64

    def minus(self, other: "Contributions", differs: NDArray[np.bool_]) -> "Contributions":
        """Subtract another choice on the same answers; `differs` marks where it is another one."""
        return Contributions(
            self.value - other.value,
            self.modelled - other.modelled,
            np.where(differs, self.squares + other.squares, 0.0),
            np.where(differs, self.variance + other.variance, 0.0),
            np.where(differs, self.instability + other.instability, 0.0),
        )

    def standard_error(self, query: NDArray[np.intp], persistence: float) -> float:
        """Return the standard error of the estimate.

        Args:
            query: Which rows are the same query, as places from 0; shape ``(n_rows,)``.
            persistence: Correlation of the surprises of one model at the same query.
        """

        def squared_sums(rows: Float64) -> float:
            sums = np.bincount(query, rows)
            return float(sums @ sums)

        variance, unstable = float(self.variance.sum()), float(self.instability.sum())
        repeated = squared_sums(np.sqrt(self.squares)) - float(self.squares.sum())
        designed = squared_sums(self.modelled - self.modelled.mean()) + variance
        designed += persistence * repeated
        drawn = squared_sums(self.value - self.value.mean())
        carriers = variance**2 / unstable if unstable else 0.0
        share = carriers / (carriers + PRIOR_DRAWS)
        return sqrt(share * drawn + (1.0 - share) * designed) / len(query)


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """By how much each model's figures count for each query; shape ``(n_rows, n_models)``."""

    quality: Float64
    cost_usd: Float64

    @classmethod
    def of(
        cls,
        chosen: Iterable[NDArray[np.intp]],
        prices: Float64,
        scales: Float64,
        choices: LoggedChoices,
    ) -> "Shares":
        """Add up utilities, `quality - price * cost_usd`, of what is chosen at several prices.

        Args:
            chosen: A column per row, for each price.
            prices: Quality given up per USD saved.
            scales: What multiplies the utility at each price.
        """
        rows = np.arange(len(choices.answered))
        quality, cost_usd = np.zeros((2, *choices.propensity.shape))
        for columns, price, scale in zip(chosen, prices, scales, strict=True):
            quality[rows, columns] += scale
            cost_usd[rows, columns] += scale * price
        return cls(quality, cost_usd)

    def minus(self, other: "Shares") -> "Shares":
        """Subtract the shares of another router."""
        return Shares(self.quality - other.quality, self.cost_usd - other.cost_usd)


def contributions(
    outcome: Outcome, chosen: NDArray[np.intp], choices: LoggedChoices
) -> Contributions:
    """Weigh logged answers for a router that would choose `chosen`, a column per row."""
    rows = np.arange(len(chosen))
    propensity = choices.propensity[rows, chosen].astype(np.float64)
    modelled, squares = outcome.modelled[rows, chosen], outcome.squares[rows, chosen]
    surprise = np.where(chosen == choices.answered, outcome.observed - modelled, 0.0)
    return Contributions(
        modelled + surprise / propensity,
        modelled,
        squares,
        squares / propensity,
        squares**2 / propensity**3,
    )


def weighed(outcomes: OutcomeModel, shares: Shares, choices: LoggedChoices) -> Contributions:
    """Weigh logged answers where each model's figures count by shares, negative ones too.

    What a router is worth at several prices together is such a sum, and so is how much more it is
    worth than another one: of each query one model answered, so its draw decides all of them.
    """
    rows, answered = np.arange(len(choices.answered)), choices.answered
    propensity = np.where(choices.propensity > 0, choices.propensity, np.inf).astype(np.float64)
    graded, charged = outcomes.quality, outcomes.cost_usd
    modelled = shares.quality * graded.modelled - shares.cost_usd * charged.modelled
    surprise = shares.quality[rows, answered] * (
        graded.observed - graded.modelled[rows, answered]
    ) - shares.cost_usd[rows, answered] * (charged.observed - charged.modelled[rows, answered])
    both = shares.quality * shares.cost_usd * np.sqrt(graded.squares * charged.squares)
    squares = shares.quality**2 * graded.squares + shares.cost_usd**2 * charged.squares
    squares = np.maximum(squares - 2.0 * outcomes.correlation * both, 0.0)
    squares = np.where(choices.propensity > 0, squares, 0.0)
    expected: Float64 = modelled.sum(axis=1)
    return Contributions(
        expected + surprise / propensity[rows, answered],
        expected,
        squares.sum(axis=1),
        (squares / propensity).sum(axis=1),
        (squares**2 / propensity**3).sum(axis=1),
    )


def widened(quantile: float, effective: float) -> float:
    """Return by how much Student's quantile is above the normal one, with so many answers."""
    return 1.0 + (quantile**2 + 1.0) / (4.0 * effective)


def reach(effective: float, answers_at_every_look: int | None = None) -> float:
    """Return how many standard errors an interval of 95 % reaches to either side.

    For one look it is a quantile of Student's distribution (Abramowitz and Stegun, 26.7.5). For
    every look at a growing log together it is the boundary of an asymptotic confidence sequence:
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic
    confidence sequences" (arXiv 2103.06476).

    Args:
        effective: Answers that the estimate is worth.
        answers_at_every_look: Answers in the log so far; None for one look.
    """
    few = widened(NORMAL, effective)
    if answers_at_every_look is None:
        return NORMAL * few
    doubt = -2.0 * log(RISK)
    time = answers_at_every_look * (doubt + log(doubt + 1.0)) / SHARPEST_AT
    return few * sqrt((1.0 + 1.0 / time) * (log(1.0 + time) + doubt))
