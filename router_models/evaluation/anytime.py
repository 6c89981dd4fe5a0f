"""Whether a router does worse than the one before it, asked after every answer.

A test by betting. Capital begins at 1 and is bet, answer after answer, on the new router being
worse. Where it is not, capital is not expected to grow, whatever was seen so far; so it ever
reaches ``1 / risk`` with a probability of at most `risk`, however often and whenever somebody looks
(Ville's inequality). Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting" (JRSS-B 2024, arXiv 2010.09686); the bets of several sizes are averaged, as in their
section 4. A model may get worse after months. So a part of the capital is kept back, and a share of
it begins to bet anew every `NEW_START` answers, as in Shin, Ramdas, Rinaldo, "E-detectors" (NEJSDS
2023, arXiv 2203.03532): what was lost on the good months is then not to be won back first.

What is bet on is the doubly robust difference of the two routers' utilities on each answer whose
model was drawn at random (see `off_policy`). It may be as large as one over the propensity of what
a router would choose. So answers are counted where that is no rarer than it mostly was *before*:
a limit that knew of the answer itself could be chosen by what it says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.evaluation.off_policy import (
    LoggedChoices,
    choose,
    known_models,
    predict_columns,
)
from router_models.evaluation.outcome_model import guess_outcomes
from router_models.types import Evaluations, Float32, Float64

BETS: Final = np.geomspace(0.01, 0.9, 12)
"""Sizes of the bets, as shares of the largest that cannot ruin."""
NEW_START: Final = 64
FIRST_ROWS: Final = 16
"""Answers that only show how rare choices are; after them the limit is set anew as rows double."""
RARE: Final = 0.05
"""Share of the earlier answers that may have been rarer than the limit."""
LEAST_PROPENSITY: Final = 0.002


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """How much better the new router is than the former one, answer by answer.

    Attributes:
        utility: Doubly robust; utilities lie between -1 and 1; shape ``(n_rows,)``.
        quality: The same of quality alone; same shape.
        cost_usd: The same of the cost; same shape.
        propensity: The lower one of what the two would choose; 1 where they agree; same shape.
    """

    utility: Float64
    quality: Float64
    cost_usd: Float64
    propensity: Float64


@dataclass(frozen=True, slots=True)
class Look:
    """What is known after some answers.

    Attributes:
        answers: Whose model was drawn at random.
        disagreements: Answers among them that count, where the routers would choose differently.
        utility: Mean difference over the answers, new less former; so are the next two.
        log_capital: The highest that the logarithm of the capital was so far.
    """

    answers: int
    disagreements: int
    utility: float
    quality: float
    cost_usd: float
    log_capital: float

    @property
    def p_value(self) -> float:
        """Bounds the probability of such capital, at any time, if the new router were no worse."""
        return exp(-max(self.log_capital, 0.0))

    def is_worse(self, risk: float) -> bool:
        """Whether the new router is worse, wrongly said at any look with at most this risk."""
        return self.log_capital >= log(1.0 / risk)


def look(found: Differences, tolerance: float) -> Look:
    """Bet against the new router losing no more than `tolerance` of utility per answer.

    Args:
        found: In the order in which they became known, the same at every look.
        tolerance: Utility, above 0.
    """
    counted, largest = _counted(found.propensity)
    # In units of a reward between 0 and 1, of which a utility is twice as much less one.
    difference = np.where(counted, found.utility / 2.0, 0.0)
    lost = -tolerance / 2.0 - difference
    log_capital = _log_capital(lost, largest + tolerance / 2.0)
    rows = len(difference)

    def mean(column: Float64) -> float:
        return float(np.where(counted, column, 0.0).mean()) if rows else 0.0

    return Look(
        answers=rows,
        disagreements=int((counted & (found.propensity < 1.0)).sum()),
        utility=mean(found.utility),
        quality=mean(found.quality),
        cost_usd=mean(found.cost_usd),
        log_capital=float(log_capital.max(initial=0.0)),
    )


def differences(
    new: Router,
    former: Router,
    choices: LoggedChoices,
    prior: Evaluations,
    willingness_to_pay_usd: float,
) -> Differences:
    """Compare two routers on answers that neither of them was trained on.

    Args:
        choices: In the order in which they became known.
        prior: What either was trained on, for what to expect of models that neither knows.
        willingness_to_pay_usd: USD per unit of quality.
    """
    usable = np.ones(len(choices.answered), bool)
    for router in (new, former):
        usable &= (choices.propensity[:, known_models(router, choices.models)] > 0).any(axis=1)
    choices = choices.select(usable)
    price, rows = 1.0 / willingness_to_pay_usd, np.arange(len(choices.answered))
    guess = guess_outcomes([new, former], choices, prior)
    chosen = []
    for router in (new, former):
        wanted = predict_columns(router, choices.embeddings, choices.models, choices.prompts)
        chosen.append(choose(wanted, choices, price))
    guessed = bounded(guess.quality, guess.cost_usd, price)
    seen = bounded(choices.quality, choices.cost_usd, price)
    odds = choices.propensity.astype(np.float64)

    def compared(observed: Float64 | Float32, modelled: Float64 | Float32) -> Float64:
        values = []
        for columns in chosen:
            residual = observed.astype(np.float64) - modelled[rows, columns]
            happened = columns == choices.answered
            weight = np.where(happened, 1.0 / odds[rows, columns], 0.0)
            values.append(modelled[rows, columns] + weight * residual)
        difference: Float64 = values[0] - values[1]
        return difference

    rarer = np.minimum(odds[rows, chosen[0]], odds[rows, chosen[1]])
    return Differences(
        compared(seen, guessed),
        compared(choices.quality, np.clip(guess.quality, 0.0, 1.0)),
        compared(choices.cost_usd, guess.cost_usd),
        np.where(chosen[0] == chosen[1], 1.0, rarer),
    )


def bounded(quality: Float32, cost_usd: Float32, price: float) -> Float64:
    """Return utilities; one below -1 counts as -1, for no test bears what has no bound."""
    utility: Float64 = np.clip(quality.astype(np.float64) - price * cost_usd, -1.0, 1.0)
    return utility


def _log_capital(lost: Float64, most: Float64) -> Float64:
    """Return the capital after each row.

    Args:
        lost: What is bet on being above 0, row by row.
        most: How far below 0 it may be, known before the row.
    """
    grown = np.cumsum(np.log1p(BETS[:, None] / most * lost), axis=1)
    starts = np.arange(0, len(lost), NEW_START)
    number = np.arange(1.0, len(starts) + 1.0)
    shares = -np.log(number * (number + 1.0))  # which sum up to 1
    begun = np.full_like(grown, -inf)
    begun[:, starts] = shares - np.where(starts > 0, grown[:, starts - 1], 0.0)
    capital = grown + np.logaddexp.accumulate(begun, axis=1)
    average: Float64 = np.logaddexp.reduce(capital, axis=0) - log(len(BETS))
    return average


def _counted(propensity: Float64) -> tuple[NDArray[np.bool_], Float64]:
    """Say which rows count, and how large a difference may be there; the earlier rows decide."""
    counted = np.zeros(len(propensity), bool)
    largest = np.full(len(propensity), inf)
    for begin, end in _blocks(len(propensity)):
        earlier = propensity[:begin]
        differing = earlier[earlier < 1.0]
        least = float(np.quantile(differing, RARE, method="lower")) if len(differing) else 0.5
        least = max(least, LEAST_PROPENSITY)
        counted[begin:end] = propensity[begin:end] >= least
        largest[begin:end] = 1.0 / least
    return counted, largest


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    begin = FIRST_ROWS
    while begin < rows:
        yield begin, min(2 * begin, rows)
        begin *= 2
