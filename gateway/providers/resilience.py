"""Keeps one provider's failures from becoming everybody's: limits, breakers and retries."""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.errors import ProviderError, ProviderTimeout, ProviderUnavailable, drop_tracebacks
from gateway.providers.base import BreakerState, Condition
from gateway.providers.failures import AttemptFailed
from gateway.providers.limiter import Limiter

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 8.0
LONGEST_RETRY_AFTER_S = 20.0
"""A provider that asks for more is given up at once: another model answers sooner."""

_log = logging.getLogger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


@dataclass(slots=True)
class Breaker:
    """Stops calls to a model that keeps failing, then lets one call probe it.

    Args:
        failures: Failed attempts in a row that open it.
        cooldown_s: How long it stays open before a probe.
        name: Of the model, in the log.
    """

    failures: int
    cooldown_s: float
    clock: Clock
    name: str = ""
    times_opened: int = 0
    _failed_in_a_row: int = 0
    _opened_at: float | None = None
    _is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it failed and has not answered since."""
        return self._opened_at is not None

    def is_available(self) -> bool:
        """Whether a call would be let through now."""
        return self._opened_at is None or (not self._is_probing and self.wait_s() <= 0)

    def wait_s(self) -> float:
        """Seconds until the next probe; 0 if calls are let through."""
        if self._opened_at is None:
            return 0.0
        return max(self._opened_at + self.cooldown_s - self.clock(), 0.0)

    def admit(self) -> bool:
        """Let a call through or not; where it is the probe, no second one is let through."""
        if not self.is_available():
            return False
        self._is_probing = self._opened_at is not None
        return True

    def succeeded(self) -> None:
        """Note that the model answered."""
        self._failed_in_a_row = 0
        self.answered()

    def answered(self) -> None:
        """Note that the model began to answer: enough to end a probe, not to forget failures."""
        if self._opened_at is not None:
            self._opened_at = None
            _log.warning("%s answers again: its circuit breaker is closed", self.name)
        self._is_probing = False

    def failed(self) -> None:
        """Note that the model failed."""
        self._failed_in_a_row += 1
        if self._is_probing or self._failed_in_a_row >= self.failures:
            if not self.is_open:
                self.times_opened += 1
                counts = (self.name, self._failed_in_a_row, self.cooldown_s)
                _log.warning("%s failed %d times in a row: no calls for %g s", *counts)
            self._opened_at = self.clock()
        self._is_probing = False

    def abandoned(self) -> None:
        """Note that the outcome will never be known, or says nothing about the model."""
        self._is_probing = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a retry: full jitter under a doubling ceiling.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    rng: random.Random
    first_s: float = FIRST_BACKOFF_S
    longest_s: float = LONGEST_BACKOFF_S

    def delay_s(self, retry: int, retry_after_s: float | None) -> float:
        """Draw the wait before retry number `retry` (from 0), never less than was asked for."""
        ceiling = min(self.first_s * 2**retry, self.longest_s)
        return max(self.rng.uniform(0.0, ceiling), retry_after_s or 0.0)


@dataclass(slots=True)
class Resilience:
    """The limits of one provider and the breakers of its models."""

    provider: str
    max_retries: int
    breaker_failures: int
    breaker_cooldown_s: float
    limiter: Limiter
    backoff: Backoff
    clock: Clock
    sleep: Sleep
    retries: int = 0
    _breakers: dict[str, Breaker] = field(default_factory=dict)

    def breaker(self, model: str) -> Breaker:
        """Return the breaker of `model`, closed at first."""
        known = self._breakers.get(model)
        if known is None:
            name = f"{self.provider}/{model}"
            known = Breaker(self.breaker_failures, self.breaker_cooldown_s, self.clock, name)
            self._breakers[model] = known
        return known

    def paused(self) -> list[str]:
        """Name the models that no call is let through to now."""
        breakers = self._breakers.items()
        return [model for model, breaker in breakers if not breaker.is_available()]

    def condition(self) -> Condition:
        """Say how the provider does."""
        limiter = self.limiter
        breakers = {
            model: BreakerState(breaker.is_open, breaker.times_opened)
            for model, breaker in list(self._breakers.items())
        }
        return Condition(
            limiter.in_flight,
            limiter.waiting,
            limiter.limit,
            self.retries,
            breakers,
            dict(limiter.refused),
        )

    async def attempt(
        self,
        breaker: Breaker,
        deadline_s: float,
        once: Callable[[], Awaitable[T]],
        before: int = 0,
        *,
        is_elsewhere: bool = False,
    ) -> tuple[T, int]:
        """Call `once` until it succeeds, gives a final answer, or there is no time for another.

        The breaker is told of failures only: `once` may return before its call is over.
        `deadline_s` is on `clock`; no attempt starts later. An attempt that may be billed is not
        repeated here: its error says `repeatable_after`, and who called holds a worst case for the
        next.

        Args:
            before: Attempts of the same call that were made already.
            is_elsewhere: The call can be made elsewhere too, so it is made once here.

        Returns:
            What `once` returned, and the number of attempts.

        Raises:
            ProviderError: The last attempt's, or ProviderUnavailable if the breaker is open.
        """
        retries = before
        while True:
            self._admit(breaker, deadline_s, retries - before)
            try:
                return await once(), retries - before + 1
            except AttemptFailed as failure:
                failure.error.attempts = retries - before + 1
                if failure.counts:
                    breaker.failed()
                else:
                    breaker.abandoned()
                most = 0 if is_elsewhere else self.max_retries
                await self._wait(failure, retries, most, breaker, deadline_s)
                retries += 1
                self.retries += 1
                if failure.may_be_billed:
                    failure.error.repeatable_after = retries
                    raise failure.error from failure
                drop_tracebacks(failure)
            except BaseException:
                breaker.abandoned()
                raise

    def _admit(self, breaker: Breaker, deadline_s: float, attempts: int) -> None:
        error: ProviderError
        if self.clock() >= deadline_s:
            error = ProviderTimeout(
                f"no time was left to call provider {self.provider!r} (again)",
                provider=self.provider,
            )
        elif breaker.admit():
            return
        else:
            error = ProviderUnavailable(
                f"provider {self.provider!r} keeps failing; calls to the model are paused",
                provider=self.provider,
                retry_after_s=max(breaker.wait_s(), 1.0),
            )
        error.attempts = attempts
        raise error

    async def _wait(
        self,
        failure: AttemptFailed,
        retries: int,
        most: int,
        breaker: Breaker,
        deadline_s: float,
    ) -> None:
        """Sleep before the next attempt, or raise the error where there shall be none."""
        asked_s = failure.error.retry_after_s
        delay_s = self.backoff.delay_s(retries, asked_s)
        is_last = retries >= most or not failure.is_retryable
        is_late = self.clock() + delay_s >= deadline_s or (asked_s or 0.0) > LONGEST_RETRY_AFTER_S
        if is_last or is_late or not breaker.is_available():
            raise failure.error from failure
        await self.sleep(delay_s)
