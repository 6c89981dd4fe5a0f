"""Chooses among the places where a model can be called, by weight and by what they have to do."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from gateway.errors import (
    ProviderError,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from gateway.providers.base import AnswerStream, Completion, Condition, Provider, UpstreamCall
from gateway.providers.refusals import Refusals
from gateway.providers.resilience import FIRST_BACKOFF_S, LONGEST_RETRY_AFTER_S, Sleep
from gateway.types import Deployment, HostedModel, Place

MUCH: Final = 2.0
"""By how much another place must be less loaded to be called instead of the one that was drawn.
Below it the weights decide, which are the operator's word."""
MEMORY_S: Final = 10.0
"""In which a time that was measured loses most of its weight. So a slow place is tried again."""
FAILED_S: Final = 10.0
"""A failed call counts as one that took at least so long."""
MOST_WAITS: Final = 2
"""For a place at its rate limit, before the caller is told so."""
_OF_THE_PLACE: Final = (ProviderMisconfigured, ProviderTimeout, ProviderUnavailable)


@dataclass(slots=True)
class Latency:
    """Mean of the times that calls took, of late most of all."""

    mean_s: float | None = None
    noted_s: float = 0.0

    def note(self, seconds: float, now_s: float) -> None:
        """Take the time of a call that ended now into the mean."""
        kept = 0.0 if self.mean_s is None else math.exp((self.noted_s - now_s) / MEMORY_S)
        self.mean_s = kept * (self.mean_s or 0.0) + (1 - kept) * seconds
        self.noted_s = now_s

    def at(self, now_s: float) -> float | None:
        """Return the mean, less the longer nothing was measured; None where nothing ever was."""
        if self.mean_s is None:
            return None
        return self.mean_s * math.exp((self.noted_s - now_s) / MEMORY_S)


@dataclass(slots=True)
class Load:
    """What one place has to do, and how long calls take there.

    Attributes:
        whole: Of answers in one piece.
        stream: Of streams, to their first event.
    """

    in_flight: int = 0
    whole: Latency = field(default_factory=Latency)
    stream: Latency = field(default_factory=Latency)


class Deployments:
    """Orders the places of models that have several.

    Args:
        paused: Names the places whose circuit breaker lets no call through.
        refusals: Says which of them a team shall leave alone for now.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        paused: Callable[[], Collection[Place]],
        refusals: Refusals,
        clock: Callable[[], float],
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self._paused = paused
        self._refusals = refusals
        self._rng = rng
        self._sleep = sleep
        self._loads: dict[Place, Load] = {}

    def forget(self) -> None:
        """Know of no load any more."""
        self._loads.clear()

    async def rest(self, call: UpstreamCall) -> None:
        """Wait until the place of a call may be called, if it asked to be left alone.

        Of several that wait, the first finds out whether it is open; if not, the others wait again.
        Each wait stands for an attempt, so there are fewer retries after it.

        Raises:
            ProviderRateLimited: It can be called elsewhere, or the wait would be too long.
        """
        waits, place = 0, call.model.place
        while (wait_s := self._refusals.resting(call.team_id).get(place)) is not None:
            is_late = self.clock() + wait_s >= call.deadline_s or wait_s > LONGEST_RETRY_AFTER_S
            if is_late or waits == MOST_WAITS or not call.is_last:
                error = ProviderRateLimited(
                    f"provider {call.model.provider!r} is at its rate limit",
                    provider=call.model.provider,
                    upstream_status=429,
                    retry_after_s=wait_s,
                )
                error.attempts = 0
                raise error
            waits += 1
            await self._sleep(wait_s + self._rng.uniform(0.0, FIRST_BACKOFF_S))
        call.transit.attempts = max(call.transit.attempts, waits)

    def load(self, place: Place) -> Load:
        """Return what is known of a place."""
        return self._loads.setdefault(place, Load())

    def in_order(
        self, models: Iterable[HostedModel], team_id: str, *, is_stream: bool
    ) -> list[HostedModel]:
        """List the models as they are to be called: each at all of its places, best first."""
        ordered: list[HostedModel] = []
        for model in models:
            if model.deployments:
                ordered.extend(self._places(model.deployments, team_id, is_stream=is_stream))
            else:
                ordered.append(model)
        return ordered

    def _places(
        self, deployments: Collection[Deployment], team_id: str, *, is_stream: bool
    ) -> Iterable[HostedModel]:
        """Draw the places of each priority; those that should be left alone come last.

        Of those at their rate limit only the one that will be open first is there.
        """
        resting = self._refusals.resting(team_id)
        if resting:
            deployments = _without_most(deployments, resting)
        shut = {*self._paused(), *resting}

        def rank(one: Deployment) -> tuple[bool, bool, int]:
            return one.model.place in shut, not one.weight, one.priority

        for _, equals in groupby(sorted(deployments, key=rank), rank):
            left = list(equals)
            while left:
                taken = self._draw(left, is_stream=is_stream)
                left.remove(taken)
                yield taken.model

    def _draw(self, among: list[Deployment], *, is_stream: bool) -> Deployment:
        """Draw two by weight, and take the first, or the second where that has much less to do.

        Two draws spread calls nearly as well as looking at all places does, and no place is
        overrun by everybody at once: Mitzenmacher, The Power of Two Choices in Randomized Load
        Balancing (2001).
        """
        drawn = self._draw_one(among)
        others = [one for one in among if one is not drawn]
        if not others:
            return drawn
        other = self._draw_one(others)
        mean_weight = (drawn.weight + other.weight) / 2 or 1.0
        work = [self._work(one, mean_weight, is_stream=is_stream) for one in (drawn, other)]
        if None in (seconds := [one[1] for one in work]):
            seconds = [1.0, 1.0]  # nothing to compare
        first, second = (n * (s or 0.0) for (n, _), s in zip(work, seconds, strict=True))
        return other if second * MUCH < first else drawn

    def _draw_one(self, among: list[Deployment]) -> Deployment:
        weights = [one.weight for one in among]
        return self._rng.choices(among, weights if any(weights) else None)[0]

    def _work(
        self, one: Deployment, mean_weight: float, *, is_stream: bool
    ) -> tuple[float, float | None]:
        """Return calls in flight in relation to the weight, and how long each of them takes."""
        load = self.load(one.model.place)
        latency = load.stream if is_stream else load.whole
        relative = one.weight / mean_weight or 1.0
        return 1 + load.in_flight / relative, latency.at(self.clock())


@dataclass(slots=True)
class Watched:
    """A provider of models that are deployed elsewhere too: notes how calls of them go."""

    name: str
    provider: Provider
    deployments: Deployments
    places: frozenset[Place]

    async def complete(self, call: UpstreamCall) -> Completion:
        """Answer `call` with one JSON body."""
        if call.model.place not in self.places:
            return await self.provider.complete(call)
        await self.deployments.rest(call)
        load, clock = self.deployments.load(call.model.place), self.deployments.clock
        load.in_flight += 1
        began_s = clock()
        try:
            completion = await self.provider.complete(call)
        except ProviderError as error:
            _note_failure(load.whole, error, began_s, clock())
            raise
        finally:
            load.in_flight -= 1
        load.whole.note(clock() - began_s, clock())
        return completion

    @asynccontextmanager
    async def stream(self, call: UpstreamCall) -> AsyncIterator[AnswerStream]:
        """Answer `call` as a stream; leaving the context cancels the upstream call."""
        if call.model.place in self.places:
            await self.deployments.rest(call)
        load, clock = self.deployments.load(call.model.place), self.deployments.clock
        load.in_flight += 1
        began_s = clock()
        has_begun = False
        try:
            async with self.provider.stream(call) as upstream:
                has_begun = True
                load.stream.note(clock() - began_s, clock())
                yield upstream
        except ProviderError as error:
            if not has_begun:
                _note_failure(load.stream, error, began_s, clock())
            raise
        finally:
            load.in_flight -= 1

    def paused(self) -> Collection[str]:
        """Upstream names of the models whose circuit breaker lets no call through."""
        return self.provider.paused()

    def condition(self) -> Condition:
        """Say how the provider does."""
        return self.provider.condition()

    async def aclose(self) -> None:
        """Close the provider's connections."""
        await self.provider.aclose()


def watched(
    providers: Mapping[str, Provider],
    models: Iterable[HostedModel],
    deployments: Deployments | None,
) -> Mapping[str, Provider]:
    """Return the providers, those of models with several deployments watched."""
    if deployments is None:
        return providers
    places = frozenset(one.model.place for model in models for one in model.deployments)
    hosts = {provider for provider, _ in places}
    return {
        name: Watched(name, provider, deployments, places) if name in hosts else provider
        for name, provider in providers.items()
    }


def _without_most(
    deployments: Collection[Deployment], resting: Mapping[Place, float]
) -> Collection[Deployment]:
    """Leave out the places at their rate limit, except the one that will be open first."""
    at_limit = [one for one in deployments if one.model.place in resting]
    first = min(at_limit, key=lambda one: resting[one.model.place], default=None)
    return [one for one in deployments if one is first or one.model.place not in resting]


def _note_failure(latency: Latency, error: ProviderError, began_s: float, now_s: float) -> None:
    """Count a failure that is the place's as a slow call."""
    if isinstance(error, _OF_THE_PLACE) and not error.may_be_provoked:
        latency.note(max(now_s - began_s, FAILED_S), now_s)
