"""Predicted quality and cost, and what the caller would pay for quality, become a route decision.

Utility is ``quality - cost / willingness_to_pay``; the paper's lambda is one over the willingness
to pay (arXiv 2601.22318). Whatever explores here returns the probability with which it really
chose, because off-policy estimates divide by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, inf, isfinite, sqrt
from typing import Final, Literal, NamedTuple

import numpy as np

from router_models.errors import NoModelAvailable

Figures = Sequence[float | None]
"""One figure per model; None or a value that is not finite stands for "unknown"."""

THOMPSON_DRAWS: Final = 256
"""Posterior draws that define the choice probabilities of one Thompson decision."""

LEAST_SHARE: Final = 1e-3
"""Chance of beating the best below which ``uncertainty`` does not try a model at all: a row of a
smaller propensity would outweigh all others in off-policy estimates."""

KINDS: Final = ("off", "epsilon", "thompson", "uncertainty")


@dataclass(frozen=True, slots=True)
class Exploration:
    """How often to try a model that is not believed best.

    Attributes:
        kind: ``epsilon`` is uniform over the eligible models with probability `epsilon`;
            ``thompson`` chooses each model as often as it wins when quality is drawn from its
            predicted distribution; ``uncertainty`` in proportion to the probability that it beats
            the best one, which takes no draws.
        epsilon: In (0, 1]; read where there are no standard errors, and by ``epsilon``.
    """

    kind: Literal["off", "epsilon", "thompson", "uncertainty"] = "off"
    epsilon: float = 0.05

    @property
    def reads_stderr(self) -> bool:
        """Whether it goes by the standard errors of predicted quality."""
        return self.kind in {"thompson", "uncertainty"}

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"exploration {self.kind!r}: use one of {', '.join(KINDS)}")
        if not 0.0 < self.epsilon <= 1.0:
            raise ValueError(f"epsilon is {self.epsilon}, expected more than 0 and at most 1")


class RouteDecision(NamedTuple):
    """Which model answers, who steps in for it, and how likely the choice was.

    A named tuple, as everything that each turn makes: a frozen dataclass takes three times as long.

    Attributes:
        fallbacks: The other eligible models by falling utility, unpredicted ones last.
        utilities: Of every model in the order given; None where nothing is predicted.
        propensities: In the same order; 0 where the model was not eligible.
        propensity: Probability with which this policy chose `model`.
        is_explored: Exploration chose another model than the best one known.
        regret_usd: What the choice is expected to lose against the best one known, in money: the
            difference of their utilities times the willingness to pay.
        reason: ``router``, ``explored``, or ``router_missing`` where no eligible model has a
            prediction and the first by cost and name was taken.
    """

    model: str
    fallbacks: tuple[str, ...]
    utilities: list[float | None]
    propensities: list[float]
    propensity: float
    is_explored: bool
    reason: Literal["router", "explored", "router_missing"]
    regret_usd: float = 0.0


def decide(
    models: Sequence[str],
    quality: Figures,
    cost_usd: Figures,
    eligible: Sequence[bool],
    willingness_to_pay_usd: float,
    *,
    exploration: Exploration,
    rng: np.random.Generator,
    quality_stderr: Figures | None = None,
    most_regret_usd: float = inf,
) -> RouteDecision:
    """Choose among the eligible models; ties go to the lower cost, then to the first name.

    A model without a prediction is chosen only where no eligible model has one, or by exploration:
    that is how a new model gets its first evaluations.

    Args:
        models: The pool, without duplicates; all other sequences have its length and order.
        quality: Predicted, in [0, 1].
        cost_usd: Predicted, for the whole call.
        eligible: Whether the model can and may take the query.
        willingness_to_pay_usd: USD per unit of quality, more than 0; infinity ignores cost.
        exploration: How often to try another model than the best.
        rng: Not read where `exploration` is off.
        quality_stderr: Of `quality`; unknown ones count as 0. Without any, epsilon explores.
        most_regret_usd: A model of larger or, where this is finite, unknown regret is not tried.

    Raises:
        NoModelAvailable: No model is eligible.
        ValueError: Lengths differ or `willingness_to_pay_usd` is not above 0.
    """
    if not willingness_to_pay_usd > 0.0:
        raise ValueError(f"willingness to pay is {willingness_to_pay_usd} USD, expected above 0")
    if not len(quality) == len(cost_usd) == len(eligible) == len(models):
        raise ValueError("models, quality, cost and eligibility differ in length")
    utilities = [
        None if q is None or c is None or not isfinite(q - c) else q - c / willingness_to_pay_usd
        for q, c in zip(quality, cost_usd, strict=True)
    ]
    ranked = _rank(models, cost_usd, utilities, eligible)
    if not ranked:
        raise NoModelAvailable("no model of the pool can take this query")
    shares = _shares(exploration, ranked, utilities, quality_stderr, rng)
    if len(shares) > 1 and most_regret_usd < inf:
        shares = _affordable(shares, ranked, utilities, most_regret_usd / willingness_to_pay_usd)
    chosen = ranked[0 if len(shares) == 1 else _draw(shares, rng)]
    propensities = [0.0] * len(models)
    for index, share in zip(ranked, shares, strict=False):
        propensities[index] = share
    return RouteDecision(
        model=models[chosen],
        fallbacks=tuple([models[i] for i in ranked if i != chosen]),
        utilities=utilities,
        propensities=propensities,
        propensity=propensities[chosen],
        is_explored=chosen != ranked[0],
        reason=_reason(ranked, chosen, utilities),
        regret_usd=_in_usd(_regret(utilities, ranked[0], chosen), willingness_to_pay_usd),
    )


def _rank(
    models: Sequence[str],
    cost_usd: Figures,
    utilities: Sequence[float | None],
    eligible: Sequence[bool],
) -> list[int]:
    """Order the eligible models by falling utility, then cost, then name; unpredicted ones last."""
    known: list[tuple[float, float, str, int]] = []
    unknown: list[tuple[float, str, int]] = []
    rows = zip(models, cost_usd, utilities, eligible, strict=True)
    for index, (model, cost, utility, is_eligible) in enumerate(rows):
        if not is_eligible:
            continue
        if utility is not None and cost is not None:
            known.append((-utility, cost, model, index))
        else:
            unknown.append((inf if cost is None or not isfinite(cost) else cost, model, index))
    known.sort()
    unknown.sort()
    return [key[-1] for key in known] + [key[-1] for key in unknown]


def _shares(
    exploration: Exploration,
    ranked: Sequence[int],
    utilities: Sequence[float | None],
    quality_stderr: Figures | None,
    rng: np.random.Generator,
) -> list[float]:
    """Give the models their probabilities in the order of `ranked`; a single one is certain."""
    if exploration.kind == "off" or len(ranked) == 1:
        return [1.0]
    if exploration.kind == "epsilon" or quality_stderr is None:
        return _epsilon_shares(len(ranked), exploration.epsilon)
    if exploration.kind == "uncertainty":
        return _uncertainty_shares(ranked, utilities, quality_stderr)
    return _thompson_shares(ranked, utilities, quality_stderr, rng)


def _epsilon_shares(n_eligible: int, epsilon: float) -> list[float]:
    """Give the best model what the uniform draws leave; the first one is the best."""
    uniform = epsilon / n_eligible
    return [1.0 - epsilon + uniform] + [uniform] * (n_eligible - 1)


def _uncertainty_shares(
    ranked: Sequence[int], utilities: Sequence[float | None], stderr: Figures
) -> list[float]:
    """Weigh each model by how likely it beats the best one, which itself weighs 1.

    Two qualities are taken for independent normal ones. A model nobody predicts is not tried.
    """
    best = ranked[0]
    own = _spread(stderr[best])
    weights = [1.0]
    for index in ranked[1:]:
        apart, other = _regret(utilities, best, index), _spread(stderr[index])
        spread = sqrt(own * own + other * other)
        chance = 0.5 * erfc(apart / (sqrt(2.0) * spread)) if spread > 0.0 else 0.0
        weights.append(chance if chance >= LEAST_SHARE else 0.0)
    total = sum(weights)
    return [weight / total for weight in weights]


def _affordable(
    shares: Sequence[float],
    ranked: Sequence[int],
    utilities: Sequence[float | None],
    most: float,
) -> list[float]:
    """Take their probability from models of larger regret than `most`; the best one gets it."""
    kept = [
        share if _regret(utilities, ranked[0], index) <= most else 0.0
        for index, share in zip(ranked[1:], shares[1:], strict=True)
    ]
    return [1.0 - sum(kept), *kept]


def _regret(utilities: Sequence[float | None], best: int, other: int) -> float:
    """Utility that `other` is expected to lack; infinity where nothing is predicted of one."""
    most, less = utilities[best], utilities[other]
    if best == other:
        return 0.0
    return inf if most is None or less is None else most - less


def _in_usd(regret: float, willingness_to_pay_usd: float) -> float:
    return regret * willingness_to_pay_usd if regret > 0.0 else 0.0  # infinity times 0 is no number


def _spread(stderr: float | None) -> float:
    return stderr if stderr is not None and isfinite(stderr) else 0.0


def _thompson_shares(
    ranked: Sequence[int],
    utilities: Sequence[float | None],
    stderr: Figures,
    rng: np.random.Generator,
) -> list[float]:
    """Count how often each model wins over `THOMPSON_DRAWS` draws of all qualities.

    The model is then drawn from these very frequencies, so they are its true propensities given
    the draws. One more draw is shared out evenly: without it a model that happened to win no draw
    would have propensity 0, and off-policy estimates that divide by propensities would be biased.
    """
    known = [i for i in ranked if utilities[i] is not None]
    n_eligible = len(ranked)
    wins = [0] * n_eligible
    if known:
        mean = np.array([utilities[i] for i in known])
        spread = np.nan_to_num([stderr[i] or 0.0 for i in known], posinf=0.0)
        noise = rng.standard_normal((THOMPSON_DRAWS, len(known)), dtype=np.float32)
        winners = (mean + spread * noise).argmax(axis=1)
        wins[: len(known)] = np.bincount(winners, minlength=len(known)).tolist()
    else:
        wins[0] = THOMPSON_DRAWS
    return [(won + 1.0 / n_eligible) / (THOMPSON_DRAWS + 1) for won in wins]


def _draw(shares: Sequence[float], rng: np.random.Generator) -> int:
    """Draw an index with probability `shares`; rounding goes to the first, the likeliest to be."""
    point = rng.random()
    for index, share in enumerate(shares):
        point -= share
        if point < 0.0:
            return index
    return 0


def _reason(
    ranked: Sequence[int], chosen: int, utilities: Sequence[float | None]
) -> Literal["router", "explored", "router_missing"]:
    if chosen != ranked[0]:
        return "explored"
    return "router_missing" if utilities[chosen] is None else "router"
