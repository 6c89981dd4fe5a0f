"""The models a request may be routed to, with what is worked out about them once, not per turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.routing.expected_cost import PoolPrices
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, Capabilities, HostedModel

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
    """

    models: tuple[HostedModel, ...]
    names: tuple[str, ...] = field(init=False)
    by_name: Mapping[str, HostedModel] = field(init=False)
    shared: Capabilities = field(init=False)
    fields: frozenset[str] | None = field(init=False)
    prices: PoolPrices = field(init=False)
    refused: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(model.name for model in self.models))
        object.__setattr__(self, "by_name", {model.name: model for model in self.models})
        object.__setattr__(self, "shared", _shared(self.models))
        object.__setattr__(self, "prices", PoolPrices.of(self.models))
        listed = [model.fields for model in self.models if model.fields is not None]
        object.__setattr__(self, "fields", frozenset.intersection(*listed) if listed else None)
        refused = frozenset[str]().union(*(model.lacks.refused for model in self.models))
        object.__setattr__(self, "refused", refused)


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
        self._pools: dict[tuple[str, frozenset[str] | None, frozenset[str]], CandidatePool] = {}
        self._single: dict[str, CandidatePool] = {}

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
                    model
                    for model in now
                    if caller.may_use(model) and (admitted is None or model.name in admitted)
                )
            )
        return pool

    def single(self, model: HostedModel) -> CandidatePool:
        """Return the pool that holds `model` alone."""
        pool = self._single.get(model.name)
        if pool is None or pool.models[0] is not model:
            if len(self._single) > MAX_POOLS:
                self._single.clear()
            pool = self._single[model.name] = CandidatePool((model,))
        return pool


def _shared(models: Sequence[HostedModel]) -> Capabilities:
    """Take the least of each capability."""
    all_of_them = [model.capabilities for model in models]
    contexts = [one.context_tokens for one in all_of_them if one.context_tokens is not None]
    outputs = [one for one in map(longest_answer, models) if one is not None]
    return Capabilities(
        tools=all(one.tools for one in all_of_them),
        vision=all(one.vision for one in all_of_them),
        json_schema=all(one.json_schema for one in all_of_them),
        context_tokens=min(contexts, default=None),
        max_output_tokens=min(outputs, default=None),
    )


def longest_answer(model: HostedModel) -> int | None:
    """Return the highest output limit that may be asked of `model`; None where it is not known."""
    return model.capabilities.max_output_tokens or model.lacks.output_tokens
