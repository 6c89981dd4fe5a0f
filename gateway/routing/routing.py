"""From a request to a plan: capability filter, encoder, router, decision, and what to do without.

The one place where the gateway's models, the active router and `router_models.decide` meet.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from gateway.artifacts.active import ActiveRouter
from gateway.budgets.turn_budgets import Allot, TurnAllotment
from gateway.errors import InvalidRequest, ModelNotFound, NoCapableModel
from gateway.routing.candidates import CandidatePool, CandidatePools
from gateway.routing.capabilities import UNAVAILABLE, Verdict, judge, within_allotment
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, CandidateRecord, HostedModel
from gateway.wire import ChatRequest
from router_models.artifacts.router import Router
from router_models.decide import Exploration, RouteDecision, decide
from router_models.errors import ArtifactRejected, NoModelAvailable
from router_models.types import Float32

_log = logging.getLogger(__name__)

AUTO = "auto"
NAMED = "named"
ROUTER_MISSING = "router_missing"
ROUTER_FAILED = "router_failed"
NOT_IN_ROUTER = "not_in_router"


class Embedder(Protocol):
    """Turns query text into the vector that routers read, without blocking the event loop."""

    @property
    def encoder_id(self) -> str:
        """Name and revision of the encoder."""
        ...

    async def embed(self, text: str) -> Float32:
        """Embed `text`; shape ``(dimension,)``."""
        ...


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Which models will be tried for one turn, in order, and why.

    Attributes:
        models: The chosen model, then the fallbacks; never empty.
        propensity: Probability with which `models[0]` was chosen.
        reason: ``router``, ``explored``, ``named``, ``router_missing`` or ``router_failed``.
        familiarity: How close the query is to what the router was trained on, 0 to 1.
        allotment: What the turn gets of its conversation's budget; None where there is none.
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
    allotment: TurnAllotment | None = None


class _Predictions(NamedTuple):
    """The router's view of the candidates; None where it does not know a model."""

    quality: tuple[float | None, ...]
    cost_usd: tuple[float | None, ...]
    familiarity: float
    quality_stderr: tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True)
class Routing:
    """Plans turns.

    Attributes:
        models: Every hosted model by name.
        default_model: Serves where the router cannot choose.
        paused: Says provider and upstream name of the models whose circuit breaker is open.
        count_failure: Called with the reason whenever the router could not choose.
    """

    models: Mapping[str, HostedModel]
    profiles: Mapping[str, ProfileSettings]
    default_profile: str
    default_model: str
    exploration: Exploration
    embedder: Embedder
    router: ActiveRouter
    paused: Callable[[], Collection[tuple[str, str]]]
    count_failure: Callable[[str], None]
    rng: np.random.Generator
    _pools: CandidatePools = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pools", CandidatePools(self.models, self.profiles))

    def is_routed(self, model: str) -> bool:
        """Whether `model` names a choice of the router rather than a model."""
        return model == AUTO or model in self.profiles

    def profile_of(self, request: ChatRequest, caller: Caller) -> str:
        """Name the profile that a request falls under: its own, the key's, or the default."""
        if request.model in self.profiles:
            return request.model
        # A key's profile may have left the settings since the key was made.
        known = caller.profile is not None and caller.profile in self.profiles
        return caller.profile if known and caller.profile else self.default_profile

    async def plan(
        self, request: ChatRequest, caller: Caller, allot: Allot | None = None
    ) -> RoutePlan:
        """Choose the models to try for `request`.

        Args:
            allot: Shares out the conversation's budget; None where it has none.

        Raises:
            ModelNotFound: The caller names a model that is not served to it.
            NoCapableModel: None of the models can do what the request needs.
            NoModelAvailable: Those that could are down.
            InvalidRequest: A pinned router version is unknown.
        """
        if self.is_routed(request.model):
            return await self._route(request, caller, allot)
        model = self.models.get(request.model)
        if model is None or not caller.may_use(model.name):
            raise ModelNotFound(
                f"No model {request.model!r} is served to this key; GET /v1/models lists them.",
                param="model",
            )
        embedding = await self.embedder.embed(request.query)
        return RoutePlan(
            models=(model,),
            candidates=(),
            propensity=1.0,
            reason=NAMED,
            profile=None,
            willingness_to_pay_usd=None,
            router_version=None,
            familiarity=None,
            encoder_id=self.embedder.encoder_id,
            embedding=embedding,
            allotment=None if allot is None else allot(embedding, None, None),
        )

    async def _route(self, request: ChatRequest, caller: Caller, allot: Allot | None) -> RoutePlan:
        name = self.profile_of(request, caller)
        profile = self.profiles[name]
        pool = self._pools.find(name, caller)
        verdicts = judge(request.body, pool, self.paused())
        if not any(verdict.is_eligible for verdict in verdicts):
            raise _nobody(pool, verdicts)
        embedding = await self.embedder.embed(request.query)
        router = await self._router(request.options.router_version)
        predictions, reason = self._predict(router, pool, embedding)
        allotment = None
        if allot is not None:
            allotment = allot(embedding, *_best(predictions, verdicts))
            verdicts = within_allotment(pool.models, verdicts, allotment.cap.tokens)
        paid = request.options.willingness_to_pay_usd or profile.willingness_to_pay_usd
        decision = None if predictions is None else self._decide(pool, verdicts, predictions, paid)
        if decision is None:
            self.count_failure(reason)
            order, propensity = self._without_router(pool, verdicts), 1.0
        else:
            reason = decision.reason
            order, propensity = (decision.model, *decision.fallbacks), decision.propensity
        return RoutePlan(
            # Not looked up again: an adapter may have been withdrawn since the pool was read.
            models=tuple(map(pool.by_name.__getitem__, order)),
            candidates=_records(pool, verdicts, predictions, decision, order[0]),
            propensity=propensity,
            reason=reason,
            profile=name,
            willingness_to_pay_usd=paid,
            router_version=None if router is None else router.version,
            familiarity=None if predictions is None else predictions.familiarity,
            encoder_id=self.embedder.encoder_id,
            embedding=embedding,
            allotment=allotment,
        )

    async def _router(self, pinned: str | None) -> Router | None:
        if pinned is None:
            return self.router.current
        try:
            return await self.router.pinned(pinned)
        except ArtifactRejected as error:
            raise InvalidRequest(
                f"Router version {pinned!r} cannot be used: {error}", param="waypost.router_version"
            ) from error

    def _predict(
        self, router: Router | None, pool: CandidatePool, embedding: Float32
    ) -> tuple[_Predictions | None, str]:
        if router is None:
            return None, ROUTER_MISSING
        try:
            stderr = None
            if self.exploration.kind == "thompson":
                stderr = router.quality_stderr(embedding, pool.names)
            found = router.predict_pool(embedding, pool.names)
            return _Predictions(*found, stderr), ROUTER_MISSING
        except Exception:  # noqa: BLE001
            # A router that fails must never fail the request: it is served by the default model.
            _log.exception("router %s failed; the default model serves", router.version)
            return None, ROUTER_FAILED

    def _decide(
        self,
        pool: CandidatePool,
        verdicts: tuple[Verdict, ...],
        predictions: _Predictions,
        willingness_to_pay_usd: float,
    ) -> RouteDecision | None:
        """Decide, or return None where the router knows no model that could answer."""
        eligible = [verdict.is_eligible for verdict in verdicts]
        figures = zip(predictions.quality, eligible, strict=True)
        if not any(can and quality is not None for quality, can in figures):
            return None
        return decide(
            models=pool.names,
            quality=predictions.quality,
            cost_usd=predictions.cost_usd,
            eligible=eligible,
            willingness_to_pay_usd=willingness_to_pay_usd,
            exploration=self.exploration,
            rng=self.rng,
            quality_stderr=predictions.quality_stderr,
        )

    def _without_router(
        self, pool: CandidatePool, verdicts: tuple[Verdict, ...]
    ) -> tuple[str, ...]:
        """Order the eligible models: the declared default first, then as configured."""
        names = [n for n, v in zip(pool.names, verdicts, strict=True) if v.is_eligible]
        return tuple(sorted(names, key=lambda name: name != self.default_model))


def _best(
    predictions: _Predictions | None, verdicts: tuple[Verdict, ...]
) -> tuple[float | None, float | None]:
    """Return quality and cost of the best model that can answer; None where none is predicted."""
    if predictions is None:
        return None, None
    figures = zip(predictions.quality, predictions.cost_usd, verdicts, strict=True)
    known = [
        (quality, cost) for quality, cost, can in figures if can.is_eligible and quality is not None
    ]
    return max(known, key=lambda best: best[0], default=(None, None))


def _nobody(pool: CandidatePool, verdicts: tuple[Verdict, ...]) -> Exception:
    """Say whose turn it is: to wait for a model that is down, or to send another request."""
    if not pool.models:
        return NoCapableModel("This key and profile admit none of the served models.")
    reasons = ", ".join(f"{n}: {v.reason}" for n, v in zip(pool.names, verdicts, strict=True))
    message = f"No model can take this request ({reasons})."
    if any(verdict == UNAVAILABLE for verdict in verdicts):
        return NoModelAvailable(message)
    return NoCapableModel(message)


def _records(
    pool: CandidatePool,
    verdicts: tuple[Verdict, ...],
    predictions: _Predictions | None,
    decision: RouteDecision | None,
    chosen: str,
) -> tuple[CandidateRecord, ...]:
    nothing = (None,) * len(pool.models)
    columns = (
        pool.names,
        nothing if predictions is None else predictions.quality,
        nothing if predictions is None else predictions.cost_usd,
        nothing if decision is None else decision.utilities,
        [float(name == chosen) for name in pool.names]
        if decision is None
        else decision.propensities,
        [verdict.is_eligible for verdict in verdicts],
        [verdict.reason for verdict in verdicts],
    )
    records = tuple(map(CandidateRecord, *columns))
    if predictions is not None and None in predictions.quality:
        for record in records:
            if record.quality is None and record.is_eligible:
                record.verdict = NOT_IN_ROUTER
    return records
