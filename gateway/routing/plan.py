"""What routing makes of a request: a prediction for each model, then the plan whom to call."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.budgets.turn_budgets import TurnAllotment
from gateway.routing.candidates import CandidatePool
from gateway.routing.capabilities import Verdict
from gateway.routing.expected_cost import bounded
from gateway.settings.config import ProfileSettings
from gateway.types import CandidateRecord, HostedModel
from router_models.decide import RouteDecision
from router_models.types import Float32

AUTO: Final = "auto"
NAMED: Final = "named"
ROUTER_MISSING: Final = "router_missing"
ROUTER_FAILED: Final = "router_failed"
NOT_IN_ROUTER: Final = "not_in_router"


class Scores(NamedTuple):
    """What the router predicts of the models of a pool; None where it does not know a model.

    Attributes:
        quality: Of each model's answer.
        cost_usd: Of each model's answer.
        familiarity: How close the query is to what the router was trained on, 0 to 1.
        quality_stderr: Standard errors of `quality`, where they were asked for.
        completion_tokens: Of each model's answer; None where the router predicts USD at once.
    """

    quality: tuple[float | None, ...]
    cost_usd: tuple[float | None, ...]
    familiarity: float
    quality_stderr: tuple[float | None, ...] | None
    completion_tokens: tuple[float | None, ...] | None = None


class CanaryScores(NamedTuple):
    """What a second router predicts, that decides a share of such turns.

    Attributes:
        share: Probability with which it decides.
        is_drawn: It decides this one.
    """

    version: str
    scores: Scores
    share: float
    is_drawn: bool


@dataclass(slots=True, eq=False)
class Prediction:
    """Which models can answer a request, and what the router predicts of each.

    Nobody changes it; it is not frozen because making a frozen one takes three times as long.

    Attributes:
        pool: The models that may be called; the only one is the model that the caller named.
        verdicts: Of each model of the pool, whether it can take the request.
        profile_name: Of the routing profile that the request falls under.
        prompt_tokens: About how many the request has.
        scores: None where the router does not choose, for the reason in `reason`.
        reason: ``named``, ``router_missing`` or ``router_failed``; of no meaning beside `scores`.
        canary: None where the router decides for certain.
    """

    pool: CandidatePool
    verdicts: tuple[Verdict, ...]
    profile_name: str
    profile: ProfileSettings
    willingness_to_pay_usd: float
    prompt_tokens: int
    encoder_id: str
    embedding: Float32
    router_version: str | None
    scores: Scores | None
    reason: str
    canary: CanaryScores | None = None

    def scores_within(self, tokens: int) -> Scores | None:
        """Return what is expected of answers that have no more than so many tokens."""
        scores = self.scores
        if scores is None or scores.completion_tokens is None:
            return scores
        expected = bounded(scores.completion_tokens, tokens)
        cost_usd = self.pool.prices.cost_usd(self.prompt_tokens, expected)
        return scores._replace(cost_usd=cost_usd, completion_tokens=expected)

    def best(self) -> tuple[float | None, float | None]:
        """Return quality and cost of the best model that can answer; None where unpredicted."""
        if self.scores is None:
            return None, None
        figures = zip(self.scores.quality, self.scores.cost_usd, self.verdicts, strict=True)
        known = [
            (quality, cost)
            for quality, cost, verdict in figures
            if verdict.is_eligible and quality is not None
        ]
        return max(known, key=lambda figure: figure[0], default=(None, None))


@dataclass(slots=True, eq=False)
class RoutePlan:
    """Which models are called for one turn, in order, and why; nobody changes it either.

    Attributes:
        models: The chosen model, then the fallbacks, as they are to be called; never empty.
        propensity: Probability with which `models[0]` was chosen.
        reason: ``router``, ``explored``, ``named``, ``router_missing`` or ``router_failed``.
        familiarity: How close the query is to what the router was trained on, 0 to 1.
        quality_stderr: Standard errors of the candidates' quality, where they were asked for.
        allotment: What the turn gets of its conversation's budget; None where there is none.
        prompt_tokens: About how many the request has.
        regret_usd: What the choice is expected to lose against the best model known.
    """

    models: tuple[HostedModel, ...]
    candidates: tuple[CandidateRecord, ...]
    propensity: float
    reason: str
    profile: str | None
    willingness_to_pay_usd: float | None
    router_version: str | None
    familiarity: float | None
    encoder_id: str | None
    embedding: Float32 | None
    quality_stderr: tuple[float | None, ...] | None = None
    allotment: TurnAllotment | None = None
    prompt_tokens: int = 0
    regret_usd: float = 0.0

    @property
    def worth_usd(self) -> float:
        """What the best answer is expected to be worth, its utility in money; nothing at least."""
        utilities = [record.utility or 0.0 for record in self.candidates if record.is_eligible]
        return max([0.0, *utilities]) * (self.willingness_to_pay_usd or 0.0)


def records_of(
    pool: CandidatePool,
    verdicts: tuple[Verdict, ...],
    scores: Scores | None,
    decision: RouteDecision | None,
    chosen: str,
) -> tuple[CandidateRecord, ...]:
    """Lay out what is logged of each model of the pool."""
    nothing = (None,) * len(pool.models)
    columns = (
        pool.names,
        nothing if scores is None else scores.quality,
        nothing if scores is None else scores.cost_usd,
        nothing if decision is None else decision.utilities,
        [float(name == chosen) for name in pool.names]
        if decision is None
        else decision.propensities,
        [verdict.is_eligible for verdict in verdicts],
        [verdict.reason for verdict in verdicts],
    )
    tokens = None if scores is None else scores.completion_tokens
    records = tuple(map(CandidateRecord, *columns, nothing if tokens is None else tokens))
    if scores is not None and None in scores.quality:
        for record in records:
            if record.quality is None and record.is_eligible:
                record.verdict = NOT_IN_ROUTER
    return records


def eligible(names: tuple[str, ...], verdicts: tuple[Verdict, ...]) -> tuple[str, ...]:
    """Name the models that can answer."""
    if len(names) == 1:
        return names
    return tuple(n for n, verdict in zip(names, verdicts, strict=True) if verdict.is_eligible)


def any_known(scores: Scores, can_answer: list[bool]) -> bool:
    """Say whether anything is predicted of a model that can answer."""
    figures = zip(scores.quality, can_answer, strict=True)
    return any(can and quality is not None for quality, can in figures)


def has_decided(decision: RouteDecision | None) -> bool:
    """Say whether a prediction had a part in the decision: only then is a router named."""
    if decision is None:
        return False
    if None not in decision.utilities:
        return True
    figures = zip(decision.utilities, decision.propensities, strict=True)
    return any(utility is not None and propensity > 0.0 for utility, propensity in figures)
