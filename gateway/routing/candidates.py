"""The models a request may be routed to, with what is worked out about them once, not per turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from gateway.deployments import common_fields, least_of, within
from gateway.routing.expected_cost import PoolPrices
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, Capabilities, HostedModel

PoolKey = tuple[str, frozenset[str] | None, frozenset[str]]
"""Of a profile or model, the models that a key admits, and what its data rules require."""
MAX_POOLS: Final = 1_000
"""Every set of models that some key admits has one."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidatePool:
    """The models that one profile, one kind of key and its data rules admit.

    Attributes:
        shared: What every one of them can take.
        fields: Request fields that each of their providers may be sent; None means any.
        prices: What they charge.
        refused: Features that at least one of them lacks.
        whole: The pool that this is a part of; None where it is none.
        places: Of its models, in the whole pool.
    """

    models: tuple[HostedModel, ...]
    names: tuple[str, ...] = field(init=False)
    by_name: Mapping[str, HostedModel] = field(init=False)
    shared: Capabilities = field(init=False)
    fields: frozenset[str] | None = field(init=False)
    prices: PoolPrices = field(init=False)
    refused: frozenset[str] = field(init=False)
    whole: "CandidatePool | None" = field(init=False, repr=False)
    places: Sequence[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(model.name for model in self.models))
        object.__setattr__(self, "by_name", {model.name: model for model in self.models})
        object.__setattr__(self, "shared", least_of(self.models))
        object.__setattr__(self, "prices", PoolPrices.of(self.models))
        object.__setattr__(self, "fields", common_fields(self.models))
        refused = frozenset[str]().union(*(model.lacks.refused for model in self.models))
        object.__setattr__(self, "refused", refused)
        object.__setattr__(self, "whole", None)
        object.__setattr__(self, "places", range(len(self.models)))

    def part(self, places: Sequence[int]) -> "CandidatePool":
        """Return the models at these places, two at least, without working anything out anew.

        `by_name` still has all models, and `shared` is what all of them can take.
        """
        pick = itemgetter(*places)
        part: CandidatePool = object.__new__(CandidatePool)
        for name in ("by_name", "shared", "fields", "refused"):
            object.__setattr__(part, name, getattr(self, name))
        object.__setattr__(part, "models", pick(self.models))
        object.__setattr__(part, "names", pick(self.names))
        object.__setattr__(part, "prices", self.prices.part(pick))
        object.__setattr__(part, "whole", self)
        object.__setattr__(part, "places", places)
        return part


class CandidatePools:
    """Keeps the pools in use until other models are offered.

    Args:
        offered: All hosted models by name; adapters come and go while the gateway runs.
        profiles: Routing profiles by name.
    """

    def __init__(
        self, offered: Mapping[str, HostedModel], profiles: Mapping[str, ProfileSettings]
    ) -> None:
        self._offered = offered
        self._profiles = profiles
        self._known: tuple[HostedModel, ...] = ()
        self._pools: dict[PoolKey, CandidatePool] = {}
        self._named: dict[PoolKey, tuple[tuple[HostedModel, ...], CandidatePool]] = {}

    def find(self, profile: str, caller: Caller) -> CandidatePool:
        """Return the models that `profile`, the caller's key and its data rules admit."""
        now = tuple(self._offered.values())
        if now != self._known or len(self._pools) > MAX_POOLS:
            self._known = now
            self._pools.clear()
        key = profile, caller.allowed_models, caller.requires
        pool = self._pools.get(key)
        if pool is None:
            admitted = self._profiles[profile].models
            pool = self._pools[key] = CandidatePool(
                tuple(
                    within(model, caller.requires)
                    for model in now
                    if caller.may_use(model) and (admitted is None or model.name in admitted)
                )
            )
        return pool

    def named(self, name: str, caller: Caller) -> CandidatePool | None:
        """Return the model of that name, and its fallbacks after it.

        None where there is no such model for the caller.
        """
        model = self._offered.get(name)
        if model is None or not caller.may_use(model):
            return None
        models: tuple[HostedModel, ...] = (model,)
        if model.fallbacks:
            others = filter(None, map(self._offered.get, model.fallbacks))
            models = (model, *filter(caller.may_use, others))
        key = name, caller.allowed_models if model.fallbacks else None, caller.requires
        known, pool = self._named.get(key, ((), None))
        if pool is None or known != models:
            if len(self._named) > MAX_POOLS:
                self._named.clear()
            pool = CandidatePool(tuple(within(one, caller.requires) for one in models))
            self._named[key] = models, pool
        return pool
