"""What routing makes of a request: a prediction for each model, then the plan whom to call."""

from dataclasses import dataclass
from itertools import compress
from typing import Final, NamedTuple

from gateway.budgets.turn_budgets import TurnAllotment
from gateway.candidate_records import Candidates
from gateway.routing.caches import Conversation
from gateway.routing.candidates import CandidatePool
from gateway.routing.capabilities import Verdict
from gateway.routing.expected_cost import CacheCosts, bounded
from gateway.settings.config import ProfileSettings
from gateway.types import HostedModel
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
        caches: What they change in `cost_usd`, and in later calls; None where none is known.
    """

    quality: tuple[float | None, ...]
    cost_usd: tuple[float | None, ...]
    familiarity: float
    quality_stderr: tuple[float | None, ...] | None
    completion_tokens: tuple[float | None, ...] | None = None
    caches: CacheCosts | None = None

    @property
    def whole_cost_usd(self) -> tuple[float | None, ...]:
        """What choosing each model is expected to cost: its answer, less what later calls save."""
        if self.caches is None:
            return self.cost_usd
        pairs = zip(self.cost_usd, self.caches.saved_later_usd, strict=True)
        return tuple([None if cost is None else cost - saved for cost, saved in pairs])


def with_caches(scores: Scores, caches: CacheCosts | None) -> Scores:
    """Take what the providers' caches hold into account; `scores` are those without any."""
    if caches is None:
        return scores
    pairs = zip(scores.cost_usd, caches.added_usd, strict=True)
    cost_usd = tuple([None if cost is None else cost + added for cost, added in pairs])
    return scores._replace(cost_usd=cost_usd, caches=caches)


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
        conversation: What it goes on from; None where nothing is known of that.
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
    conversation: Conversation | None = None

    def scores_within(self, tokens: int) -> Scores | None:
        """Return what is expected of answers that have no more than so many tokens."""
        scores = self.scores
        if scores is None or scores.completion_tokens is None:
            return scores
        expected = bounded(scores.completion_tokens, tokens)
        cost_usd = self.pool.prices.cost_usd(self.prompt_tokens, expected)
        scores = scores._replace(cost_usd=cost_usd, completion_tokens=expected)
        return with_caches(scores, scores.caches)

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
        conversation: What the request goes on from; None where nothing is known of that.
    """

    models: tuple[HostedModel, ...]
    candidates: Candidates
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
    conversation: Conversation | None = None

    @property
    def worth_usd(self) -> float:
        """What the best answer is expected to be worth, its utility in money; nothing at least."""
        eligible = compress(
            self.candidates.column("utility"), self.candidates.column("is_eligible")
        )
        most = max(filter(None, eligible), default=0.0)
        return max(most, 0.0) * (self.willingness_to_pay_usd or 0.0)


def candidates_of(
    pool: CandidatePool,
    verdicts: tuple[Verdict, ...],
    scores: Scores | None,
    decision: RouteDecision | None,
    chosen: str,
) -> Candidates:
    """Lay out what is logged of each model of the pool."""
    nothing = (None,) * len(pool.models)
    caches = None if scores is None else scores.caches
    can_answer = [verdict.is_eligible for verdict in verdicts]
    reasons = [verdict.reason for verdict in verdicts]
    if scores is not None and None in scores.quality:
        figures = zip(reasons, scores.quality, can_answer, strict=True)
        reasons = [
            NOT_IN_ROUTER if quality is None and can else reason for reason, quality, can in figures
        ]
    return Candidates(
        pool.names,
        nothing if scores is None else scores.quality,
        nothing if scores is None else scores.cost_usd,
        nothing if decision is None else decision.utilities,
        [float(name == chosen) for name in pool.names]
        if decision is None
        else decision.propensities,
        can_answer,
        reasons,
        None if scores is None else scores.completion_tokens,
        None if caches is None else caches.cached_tokens,
        None if caches is None else caches.saved_later_usd,
    )


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
