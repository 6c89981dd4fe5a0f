"""Whether a new router may serve: compared with the one that serves on answers nobody learned from.

A log tells the truth about one model per query. So there are three kinds of evidence, from direct
and noisy to indirect and sharp: queries that several models answered show what routing wins;
answers whose model was drawn at random show what a router would have been worth (`off_policy`); all
answers show how wrong its predictions are. How far chance may have moved the first and the last, a
bootstrap over queries says; of the second, the design of the log (`design_variance`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.evaluation.design_variance import Shares, weighed, widened
from router_models.evaluation.frontier import bootstrap_weights, routing_gains
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.off_policy import (
    LoggedChoices,
    choose,
    known_models,
    policy_value,
    predict_columns,
)
from router_models.evaluation.outcome_model import (
    fit_outcome_model,
    guess_outcomes,
)
from router_models.evaluation.unseen import Design, Unseen
from router_models.pricing import Prompts
from router_models.statistics import select
from router_models.types import Evaluations, Float32, Prediction

Float64 = NDArray[np.float64]
Kind = Literal["routing", "off_policy", "prediction"]

ACTIVE: Final = "active"
"""What the router that serves is called in evidence and figures."""

UNITS: Final[Mapping[Kind, str]] = {
    "routing": "of the oracle's gain",
    "off_policy": "of utility",
    "prediction": "of the active router's squared error",
}
"""What a difference of 1 means for each kind of evidence."""


@dataclass(frozen=True, slots=True)
class AcceptanceCriteria:
    """How good a new router must be.

    Attributes:
        tolerance: It may lose as much against the active one, in `UNITS` of the evidence.
        risk: Probability with which it may lose more than that.
        least_queries: Held-out queries that several models answered, for ``routing``.
        least_effective_rows: Randomly drawn answers for ``off_policy``, in effective rows.
        least_answers: Held-out answers for ``prediction``.
        draws: Of the bootstrap.
    """

    tolerance: float = 0.02
    risk: float = 0.1
    least_queries: int = 100
    least_effective_rows: float = 100.0
    least_answers: int = 100
    draws: int = 500


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """How well each router does on the same rows.

    Attributes:
        scores: By router, per row and in `UNITS`; more is better.
        query: Which rows are of the same query: those are drawn together.
        effective_rows: Fewest of any router; as many as rows unless answers were weighed.
        snips: Value by matching answers alone, for ``off_policy``.
        design: Of the log that the rows are from, for ``off_policy``.
    """

    kind: Kind
    scores: Mapping[str, Float64]
    query: NDArray[np.intp]
    effective_rows: float
    snips: Mapping[str, float]
    design: "Design | None" = None

    def best(self, names: tuple[str, ...]) -> str:
        """Return which of `names` does best; the first of equals."""
        return max(names, key=lambda name: float(self.scores[name].mean()))


@dataclass(frozen=True, slots=True)
class Decision:
    """Which router is best, and whether it may serve.

    Attributes:
        best: Its name among the contenders.
        figures: Merits of all routers, the difference with its interval, and what it rests on.
    """

    best: str
    is_accepted: bool
    reason: str
    figures: Mapping[str, float]


def find_invalid_predictions(router: Router, embeddings: Float32) -> str | None:
    """Say what is wrong with a router's predictions for real queries; None where nothing is."""
    with np.errstate(all="ignore"):
        prediction = router.serving_estimator.predict(embeddings)
    if not (np.isfinite(prediction.quality).all() and np.isfinite(prediction.cost_usd).all()):
        return "it predicts figures that are not finite"
    if not ((prediction.quality > -1e-3) & (prediction.quality < 1.001)).all():
        return "it predicts qualities outside 0 to 1"
    if not (prediction.cost_usd >= 0).all():
        return "it predicts costs below 0"
    return None


def gather_evidence(
    routers: Mapping[str, Router], held_out: HeldOut, criteria: AcceptanceCriteria
) -> Iterator[Evidence]:
    """Measure all routers on the same rows, by each kind of evidence there is enough of.

    Args:
        routers: The active one first.
        held_out: Rows that none of them was trained or chosen on.
        criteria: How many rows each kind of evidence needs.

    Yields:
        The most direct kind first.
    """
    for measure in (_routing, _off_policy, _prediction):
        evidence = measure(routers, held_out, criteria)
        if evidence is not None:
            yield evidence


def decide(
    contenders: Mapping[str, Router],
    active: Router | None,
    held_out: HeldOut,
    criteria: AcceptanceCriteria,
    rng: np.random.Generator,
) -> Decision:
    """Choose one of the contenders and say whether it may take the place of `active`.

    Without an active router there is nothing to lose, and the best, or the first, is accepted if it
    has a choice between these models; with one, and too few rows to compare them, nothing is.

    Args:
        contenders: The first is chosen where there is too little evidence.
        active: None where no router serves these models.
        held_out: Rows that none of them was trained or chosen on.
        criteria: How good the new router must be.
        rng: Draws the bootstrap.
    """
    routers = contenders if active is None else {ACTIVE: active, **contenders}
    found = gather_evidence(routers, held_out, criteria)
    first = next(found, None)
    best = next(iter(contenders)) if first is None else first.best(tuple(contenders))
    answers = int(np.isfinite(held_out.answers.quality).sum())
    figures = {"answers": float(answers)}
    if active is None:
        unfit = _choice_missing(contenders[best], held_out)
        reason = unfit or "no other router is active here for these models"
        return Decision(best, is_accepted=unfit is None, reason=reason, figures=figures)
    if first is None:
        reason = f"{answers} held-out answers are too few to compare it with {active.version}"
        return Decision(best, is_accepted=False, reason=reason, figures=figures)
    is_accepted, evidence, compared = _decide_by_evidence(
        chain([first], found), best, criteria, rng
    )
    lost = lost_models(contenders[best], active, held_out)
    if lost and evidence.kind == "prediction":
        reason = f"it does not know the models {', '.join(lost)}, which {active.version} routes to"
        return Decision(best, is_accepted=False, reason=reason, figures=figures | compared)
    reason = _explain(evidence, compared, active, criteria, is_accepted=is_accepted)
    return Decision(best, is_accepted, reason, figures | compared)


def _decide_by_evidence(
    found: Iterable[Evidence], new: str, criteria: AcceptanceCriteria, rng: np.random.Generator
) -> tuple[bool, Evidence, dict[str, float]]:
    """Decide by the first conclusive kind of evidence; refuse where none is conclusive.

    The direct kinds are noisy: in doubt a kind that sees more rows decides, unless the estimate of
    the direct kind is a loss beyond the tolerance.
    """
    for evidence in found:
        compared = _compare(evidence, new, criteria, rng)
        is_accepted = compared["odds_of_loss"] <= criteria.risk
        if is_accepted or compared["difference"] + compared["unseen_above"] < -criteria.tolerance:
            break
    return is_accepted, evidence, compared


def _compare(
    evidence: Evidence, new: str, criteria: AcceptanceCriteria, rng: np.random.Generator
) -> dict[str, float]:
    """Say how much better the new router is than the active one, and how sure that is."""
    difference = evidence.scores[new] - evidence.scores[ACTIVE]
    chance = _by_bootstrap if evidence.design is None else _by_design
    low, high, odds_of_loss = chance(evidence, new, criteria, rng)
    unseen = Unseen() if evidence.design is None else evidence.design.unseen(new, ACTIVE)
    return {
        **{f"merit_{name}": float(score.mean()) for name, score in evidence.scores.items()},
        **{f"snips_{name}": value for name, value in evidence.snips.items()},
        "difference": float(difference.mean()),
        "difference_low": low,
        "difference_high": high,
        "odds_of_loss": odds_of_loss,
        **{f"unseen_{name}": value for name, value in unseen._asdict().items()},
        "rows": float(len(difference)),
        "queries": float(len(np.unique(evidence.query))),
        "effective_rows": evidence.effective_rows,
    }


def _by_bootstrap(
    evidence: Evidence, new: str, criteria: AcceptanceCriteria, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Draw the difference to the active router over queries, the same for both."""
    difference = evidence.scores[new] - evidence.scores[ACTIVE]
    _, query, rows = np.unique(evidence.query, return_inverse=True, return_counts=True)
    sums = np.bincount(query, difference)
    drawn = np.empty(criteria.draws)
    for draw in range(criteria.draws):
        weights = bootstrap_weights(len(rows), 1, rng)[0]
        drawn[draw] = (weights @ sums) / (weights @ rows)
    low, high = np.quantile(drawn, [criteria.risk, 1.0 - criteria.risk])
    return float(low), float(high), float((drawn < -criteria.tolerance).mean())


def _by_design(
    evidence: Evidence, new: str, criteria: AcceptanceCriteria, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Take what could have been drawn into account too: a bootstrap sees only what was."""
    del rng
    difference = float((evidence.scores[new] - evidence.scores[ACTIVE]).mean())
    error, unseen = 0.0, Unseen()
    if evidence.design is not None:
        error = evidence.design.standard_error(new, ACTIVE)
        unseen = evidence.design.unseen(new, ACTIVE)
    # A risk of nothing, or of everything, has no quantile.
    quantile = -NormalDist().inv_cdf(min(max(criteria.risk, 1e-9), 1.0 - 1e-9))
    error *= widened(quantile, evidence.effective_rows)
    low, high = difference + unseen.below, difference + unseen.above
    loss = low + criteria.tolerance
    odds = NormalDist().cdf(-loss / error) if error else float(loss < 0.0)
    return low - quantile * error, high + quantile * error, odds


def _explain(
    evidence: Evidence,
    compared: Mapping[str, float],
    active: Router,
    criteria: AcceptanceCriteria,
    *,
    is_accepted: bool,
) -> str:
    verb = "does not lose" if is_accepted else "may lose"
    unseen = ""
    if compared["unseen_share"]:
        unseen = (
            f"; in {100 * compared['unseen_share']:.2g} % of them what one would choose had no "
            "chance, so the interval holds whatever that may be worth"
        )
    return (
        f"it {verb} more than {criteria.tolerance:g} against {active.version} on "
        f"{compared['rows']:.0f} held-out rows: difference {compared['difference']:+.4f} "
        f"[{compared['difference_low']:+.4f}, {compared['difference_high']:+.4f}] "
        f"{UNITS[evidence.kind]}, measured by {evidence.kind.replace('_', ' ')}"
        f"{unseen}"
    )


def _all_aligned(
    routers: Mapping[str, Router], rows: Evaluations | LoggedChoices, prompts: Prompts | None
) -> dict[str, Prediction]:
    return {
        name: predict_columns(router, rows.embeddings, rows.models, prompts)
        for name, router in routers.items()
    }


def _routing(
    routers: Mapping[str, Router], held_out: HeldOut, criteria: AcceptanceCriteria
) -> Evidence | None:
    """Route the queries that at least two models answered and every router knows one of."""
    answered = np.isfinite(held_out.answers.quality)
    usable = answered.sum(axis=1) >= 2
    for router in routers.values():
        usable &= answered[:, known_models(router, held_out.answers.models)].any(axis=1)
    if usable.sum() < criteria.least_queries:
        return None
    truth = select(held_out.answers, np.flatnonzero(usable))
    scores = {
        name: routing_gains(prediction, truth, held_out.prices)
        for name, prediction in _all_aligned(routers, truth, Prompts.of(truth)).items()
    }
    places = np.arange(len(truth.quality))
    return Evidence("routing", scores, places, float(len(places)), {})


def _off_policy(
    routers: Mapping[str, Router], held_out: HeldOut, criteria: AcceptanceCriteria
) -> Evidence | None:
    """Value each router on drawn answers; per price in units of 1 + what a call costs there."""
    choices = held_out.all_choices or held_out.choices
    usable = np.ones(len(choices.answered), bool)
    for router in routers.values():
        usable &= choices.offered[:, known_models(router, choices.models)].any(axis=1)
    if usable.sum() < criteria.least_effective_rows:
        return None
    choices = choices.select(usable)
    guess = guess_outcomes(routers.values(), choices, held_out.prior)
    outcomes = fit_outcome_model(guess, choices)
    scales = 1.0 / (1.0 + held_out.prices * float(choices.cost_usd.mean()))
    shares: dict[str, Shares] = {}
    snips: dict[str, float] = {}
    fewest = float(usable.sum())
    for name, wanted in _all_aligned(routers, choices, choices.prompts).items():
        values = [policy_value(wanted, choices, guess, price) for price in held_out.prices]
        chosen = [choose(wanted, choices, price) for price in held_out.prices]
        shares[name] = Shares.of(chosen, held_out.prices, scales / len(scales), choices)
        snips[name] = float(np.mean([v.snips * s for v, s in zip(values, scales, strict=True)]))
        fewest = min(fewest, *(value.effective_rows for value in values))
    if fewest < criteria.least_effective_rows:
        return None
    scores = {name: weighed(outcomes, each, choices).value for name, each in shares.items()}
    design = Design(choices, outcomes, shares)
    return Evidence("off_policy", scores, choices.query, fewest, snips, design)


def _prediction(
    routers: Mapping[str, Router], held_out: HeldOut, criteria: AcceptanceCriteria
) -> Evidence | None:
    """Square the error of each predicted utility, of models that every router knows."""
    answers = held_out.answers
    answered = np.isfinite(answers.quality)
    for router in routers.values():
        answered[:, ~known_models(router, answers.models)] = False
    if answered.sum() < criteria.least_answers:
        return None
    prices = held_out.prices[:, None]
    quality, cost = answers.quality[answered], answers.cost_usd[answered]
    scales = 1.0 / (1.0 + prices * float(cost.mean()))
    errors = {
        name: (
            (
                (prediction.quality[answered] - quality)
                - prices * (prediction.cost_usd[answered] - cost)
            )
            * scales
        )
        for name, prediction in _all_aligned(routers, answers, Prompts.of(answers)).items()
    }
    squares = {name: (error.astype(np.float64) ** 2).mean(axis=0) for name, error in errors.items()}
    unit = max(float(squares[next(iter(routers))].mean()), 1e-12)
    scores = {name: -square / unit for name, square in squares.items()}
    return Evidence("prediction", scores, np.nonzero(answered)[0], float(answered.sum()), {})


def _choice_missing(router: Router, held_out: HeldOut) -> str | None:
    """Say why a router could not choose between models that were answered by; None where it can.

    One that knows none of several would decide nothing, and one that knows one would give it all.
    """
    answers = held_out.answers
    here = np.isfinite(answers.quality).any(axis=0)
    known = here & known_models(router, answers.models)
    if known.sum() >= min(2, here.sum()):
        return None
    names = [model for model, is_known in zip(answers.models, known, strict=True) if is_known]
    return f"of the {here.sum()} models of these answers it knows {', '.join(names) or 'none'}"


def lost_models(new: Router, active: Router, held_out: HeldOut) -> tuple[str, ...]:
    """Models with held-out answers that `active` routes to and `new` does not know."""
    answers = held_out.answers
    answered = np.isfinite(answers.quality).any(axis=0)
    gone = answered & known_models(active, answers.models) & ~known_models(new, answers.models)
    return tuple(model for model, is_gone in zip(answers.models, gone, strict=True) if is_gone)
