"""From a request to a plan: first predict what each model is worth, then choose.

The one place where the gateway's models, the active router and `router_models.decide` meet. Between
the two steps the turn's budget is allotted, which rests on the prediction and bounds the choice.
"""

import logging
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gateway.artifacts.active import ActiveRouter
from gateway.budgets.turn_budgets import TurnAllotment
from gateway.candidate_records import NO_CANDIDATES
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.providers.fields import asked_fields, is_admitted, refusal
from gateway.providers.refusals import Refusals
from gateway.routing.caches import PromptCaches
from gateway.routing.canary import Canary, mixed
from gateway.routing.candidates import CandidatePool, CandidatePools
from gateway.routing.capabilities import (
    OK,
    Verdict,
    judge,
    no_model,
    within_allotment,
    within_budget,
    without_resting,
)
from gateway.routing.exploring import Exploring
from gateway.routing.plan import (
    AUTO,
    NAMED,
    ROUTER_FAILED,
    ROUTER_MISSING,
    CanaryScores,
    Prediction,
    RoutePlan,
    Scores,
    any_known,
    candidates_of,
    eligible,
    has_decided,
    with_caches,
)
from gateway.routing.predictions import Asked
from gateway.routing.prior import DayOne
from gateway.routing.shortlist import scored, shortlist
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, HostedModel, Place
from gateway.wire import ChatRequest
from router_models.artifacts.router import Router
from router_models.decide import RouteDecision, decide
from router_models.encoders.request_shape import append_shape
from router_models.errors import ArtifactRejected
from router_models.types import Float32

_log = logging.getLogger(__name__)


class Embedder(Protocol):
    """Turns query text into the vector that routers read, without blocking the event loop."""

    @property
    def encoder_id(self) -> str:
        """Name and revision of the encoder."""
        ...

    async def embed(self, text: str, team_id: str) -> Float32:
        """Embed `text` for a team; shape ``(dimension,)``."""
        ...


@dataclass(frozen=True, slots=True)
class Routing:
    """Predicts and chooses.

    Attributes:
        models: Every hosted model by name.
        default_model: Serves where the router cannot choose.
        paused: Says provider and upstream name of the models whose circuit breaker is open.
        refusals: What models refused lately.
        prior: Predicts models that the router does not know; None leaves them unpredicted.
        canary: A router that decides a share of the turns; None where none ever does.
        caches: What providers have cached; None where that is not asked.
    """

    models: Mapping[str, HostedModel]
    profiles: Mapping[str, ProfileSettings]
    default_profile: str
    default_model: str
    exploration: Exploring
    embedder: Embedder
    router: ActiveRouter
    paused: Callable[[], Collection[Place]]
    rng: np.random.Generator
    refusals: Refusals
    prior: DayOne | None = None
    canary: Canary | None = None
    caches: PromptCaches | None = None
    _pools: CandidatePools = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pools", CandidatePools(self.models, self.profiles))

    @property
    def serving_version(self) -> str | None:
        """Name of the router that is active, or else of the prior; None where neither is."""
        if self.router.version is not None:
            return self.router.version
        return None if self.prior is None else self.prior.version

    def _prior(self) -> Router | None:
        return None if self.prior is None else self.prior.router(self.models)

    async def predict(
        self, request: ChatRequest, caller: Caller, *, with_stderr: bool = False
    ) -> Prediction:
        """Find the models that can answer `request`, and what the router expects of each.

        Args:
            with_stderr: Ask for standard errors of quality too, whether or not exploration does.

        Raises:
            ModelNotFound: The caller names a model that is not served to it.
            NoCapableModel: None of the models can do what the request needs.
            NoModelAvailable: Those that could are down.
            InvalidRequest: A pinned router version is unknown, or no provider may be sent one of
                the request's fields.
        """
        profile_name = self._profile_of(request, caller)
        is_routed = request.model == AUTO or request.model in self.profiles
        pool, verdicts = (
            self._eligible(request, caller, profile_name)
            if is_routed
            else self._named(request, caller)
        )
        text = await self.embedder.embed(request.query, caller.team_id)
        encoder_id, embedding = append_shape(self.embedder.encoder_id, text, request.body)
        profile = self.profiles[profile_name]
        paid = request.options.willingness_to_pay_usd or profile.willingness_to_pay_usd
        router, scores, reason, canary, conversation = None, None, NAMED, None, None
        if is_routed:
            router = await self._router(request.options.router_version, pool, verdicts)
            asked = Asked(embedding, request, caller.team_id)
            with_stderr |= self.exploration.now()[0].reads_stderr
            pool, verdicts, scores = shortlist(
                router, self._prior, pool, verdicts, asked, paid, with_stderr=with_stderr
            )
            if self.caches is not None:
                conversation = self.caches.find(request, caller.team_id, pool.models)
            if conversation is not None:
                caches = pool.prices.cache_costs(request.prompt_tokens, conversation.warmth)
                asked = asked._replace(caches=caches)
            if scores is None:
                scores, reason = self._score(router, pool, asked, with_stderr=with_stderr)
            else:
                scores, reason = with_caches(scores, asked.caches), ROUTER_MISSING
            if scores is not None and request.options.router_version is None:
                canary = self._canary(pool, asked, with_stderr=with_stderr)
        return Prediction(
            pool=pool,
            verdicts=verdicts,
            profile_name=profile_name,
            profile=profile,
            willingness_to_pay_usd=paid,
            prompt_tokens=request.prompt_tokens,
            encoder_id=encoder_id,
            embedding=embedding,
            router_version=None if router is None else router.version,
            scores=scores,
            reason=reason,
            canary=canary,
            conversation=conversation,
        )

    def choose(
        self,
        prediction: Prediction,
        allotment: TurnAllotment | None = None,
        among: Container[str] | None = None,
    ) -> RoutePlan:
        """Choose the models to call, in order.

        Args:
            allotment: What the turn gets of its conversation's budget; None where it has none.
            among: The models that budgets leave money for; None where that is not in question.
        """
        pool, scores, verdicts = prediction.pool, prediction.scores, prediction.verdicts
        is_named = prediction.reason == NAMED
        if allotment is not None and not is_named:
            verdicts = within_allotment(pool.models, verdicts, allotment.cap.tokens)
            scores = prediction.scores_within(allotment.cap.tokens)
        if among is not None:
            verdicts = within_budget(pool.models, verdicts, among)
        decision, version = self._decide(prediction, scores, verdicts), prediction.router_version
        canary = prediction.canary
        # Turns with a budget are the active router's: it was allotted by what that one predicts.
        if canary is not None and decision is not None and allotment is None:
            other = self._decide(prediction, canary.scores, verdicts)
            decision = mixed(decision, other or decision, canary, pool.names)
            if canary.is_drawn:
                scores, version = canary.scores, canary.version
        if decision is None:
            order, propensity, reason = eligible(pool.names, verdicts), 1.0, prediction.reason
        else:
            order, propensity = (decision.model, *decision.fallbacks), decision.propensity
            # Why the router did not decide is known here alone.
            is_missing = decision.reason == ROUTER_MISSING
            reason = prediction.reason if is_missing else decision.reason
        # Not looked up again: an adapter may have been withdrawn since the pool was read.
        models = tuple(map(pool.by_name.__getitem__, order))
        candidates = NO_CANDIDATES
        if not is_named:
            candidates = candidates_of(pool, verdicts, scores, decision, order[0])
        return RoutePlan(
            models=models if allotment is None else allotment.instruct(models),
            candidates=candidates,
            propensity=propensity,
            reason=reason,
            profile=None if is_named else prediction.profile_name,
            willingness_to_pay_usd=None if is_named else prediction.willingness_to_pay_usd,
            prompt_tokens=prediction.prompt_tokens,
            router_version=version if has_decided(decision) else None,
            familiarity=None if scores is None else scores.familiarity,
            quality_stderr=None if scores is None else scores.quality_stderr,
            encoder_id=prediction.encoder_id,
            embedding=prediction.embedding,
            allotment=allotment,
            regret_usd=0.0 if decision is None else decision.regret_usd,
            conversation=prediction.conversation,
        )

    def follow(self, plan: RoutePlan) -> None:
        """Take what `plan` may lose out of the exploration's budget: it is not a dry run.

        Called before anything else is awaited: other requests then see what is left.
        """
        budget = self.exploration.budget
        if budget is None:
            return
        if plan.profile is not None and plan.willingness_to_pay_usd is not None:
            # A caller may say that it pays any amount, which others would pay for.
            usual_usd = self.profiles[plan.profile].willingness_to_pay_usd
            budget.earn(plan.worth_usd * min(1.0, usual_usd / plan.willingness_to_pay_usd))
        if plan.regret_usd:
            budget.spend(plan.regret_usd)

    def _profile_of(self, request: ChatRequest, caller: Caller) -> str:
        """Name the profile that a request falls under: its own, the key's, or the default."""
        if request.model in self.profiles:
            return request.model
        # A key's profile may have left the settings since the key was made.
        known = caller.profile is not None and caller.profile in self.profiles
        return caller.profile if known and caller.profile else self.default_profile

    def _named(
        self, request: ChatRequest, caller: Caller
    ) -> tuple[CandidatePool, tuple[Verdict, ...]]:
        """Return the model that the caller names; whether it can answer is the caller's to know.

        Its fallbacks come after it, as far as they can.
        """
        pool = self._pools.named(request.model, caller)
        if pool is None:
            raise ModelNotFound(
                f"No model {request.model!r} is served to this key; GET /v1/models lists them.",
                param="model",
            )
        if not is_admitted(asked_fields(request.body), pool.models[0].fields):
            raise refusal(request.body, pool.models[:1])
        if len(pool.models) == 1:
            return pool, (OK,)
        return pool, (OK, *self._judged(request, caller.team_id, pool)[1:])

    def _eligible(
        self, request: ChatRequest, caller: Caller, profile_name: str
    ) -> tuple[CandidatePool, tuple[Verdict, ...]]:
        """Return the models that profile and key admit, at least one of which can answer."""
        pool = self._pools.find(profile_name, caller)
        verdicts = self._judged(request, caller.team_id, pool)
        if not any(verdict.is_eligible for verdict in verdicts):
            raise no_model(request, caller, pool, verdicts)
        return pool, verdicts

    def _judged(
        self, request: ChatRequest, team_id: str, pool: CandidatePool
    ) -> tuple[Verdict, ...]:
        body = request.body
        if request.has_formal_limit:  # which is lowered to what a model takes
            body = {**body, "max_tokens": None}
        learned = self.refusals.of_team(team_id)
        verdicts = judge(body, pool, self.paused(), learned, request.prompt_tokens)
        if resting := self.refusals.resting(team_id):
            verdicts = without_resting(pool.models, verdicts, resting)
        return verdicts

    async def _router(
        self, pinned: str | None, pool: CandidatePool, verdicts: tuple[Verdict, ...]
    ) -> Router | None:
        """Return the pinned router, the active one, or the prior's where that knows no model."""
        if pinned is None:
            return self._serving_router(pool, verdicts)
        try:
            return await self.router.pinned(pinned)
        except ArtifactRejected as error:
            raise InvalidRequest(
                f"Router version {pinned!r} cannot be used: {error}", param="waypost.router_version"
            ) from error

    def _serving_router(self, pool: CandidatePool, verdicts: tuple[Verdict, ...]) -> Router | None:
        router = self.router.current
        if self.prior is None or (router is None and self.router.last_error is not None):
            # The prior does not stand in for a router that was activated and cannot be used: the
            # default model is what the operator expects then, and the failure stays in sight.
            return router
        if router is not None and self._is_prior(router):
            return self.prior.router(self.models)
        for name, verdict in zip(pool.names, verdicts, strict=True):
            if verdict.is_eligible and router is not None and router.column(name) is not None:
                return router
        return self.prior.router(self.models)

    def _is_prior(self, router: Router) -> bool:
        """Say whether a router is the prior as it was kept, and nothing is compared with it.

        Then the prior itself serves, with what use has taught it since.
        """
        is_kept = self.prior is not None and self.prior.prior.is_kept_as(router)
        return is_kept and (self.canary is None or self.canary.current is None)

    def _score(
        self, router: Router | None, pool: CandidatePool, asked: Asked, *, with_stderr: bool
    ) -> tuple[Scores | None, str]:
        """Ask the router for its predictions; without them, say why there are none."""
        if router is None:
            return None, ROUTER_MISSING
        try:
            known = scored(router, self._prior, pool, asked, with_stderr=with_stderr)
        except Exception:  # noqa: BLE001
            # A router that fails must never fail the request: it is served by the default model.
            _log.exception(
                "router %s failed; the default model answers this request", router.version
            )
            return None, ROUTER_FAILED
        return known, ROUTER_MISSING

    def _canary(
        self, pool: CandidatePool, asked: Asked, *, with_stderr: bool
    ) -> CanaryScores | None:
        """Ask the canary too; one that fails decides nothing."""
        if self.canary is None or self.canary.current is None:
            return None
        router, share = self.canary.current
        scores, _ = self._score(router, pool, asked, with_stderr=with_stderr)
        if scores is None:
            return None
        is_drawn = self.canary.draws(asked.team_id, asked.request.options.conversation_id)
        return CanaryScores(router.version, scores, share, is_drawn)

    def _decide(
        self, prediction: Prediction, scores: Scores | None, verdicts: tuple[Verdict, ...]
    ) -> RouteDecision | None:
        """Decide, or return None where the caller named the model."""
        pool = prediction.pool
        if prediction.reason == NAMED and scores is None:
            return None
        can_answer = [verdict.is_eligible for verdict in verdicts]
        if scores is None or not any_known(scores, can_answer):
            # Nothing is predicted: the order of preference takes the place of costs.
            order = self._default_order(pool, verdicts)
            places = {name: float(place) for place, name in enumerate(order)}
            scores = Scores(
                (None,) * len(pool.names), tuple(map(places.get, pool.names)), 0.0, None
            )
        exploration, most_regret_usd = self.exploration.now()
        return decide(
            models=pool.names,
            quality=scores.quality,
            cost_usd=scores.whole_cost_usd,
            eligible=can_answer,
            willingness_to_pay_usd=prediction.willingness_to_pay_usd,
            exploration=exploration,
            rng=self.rng,
            quality_stderr=scores.quality_stderr,
            most_regret_usd=most_regret_usd,
        )

    def _default_order(self, pool: CandidatePool, verdicts: tuple[Verdict, ...]) -> tuple[str, ...]:
        """Order the eligible models: the declared default first, then as configured."""
        return tuple(sorted(eligible(pool.names, verdicts), key=self.default_model.__ne__))
