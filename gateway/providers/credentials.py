"""Credentials that end: fetched in a thread, and renewed while the old ones are still good."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.errors import ProviderMisconfigured, ProviderUnavailable
from gateway.providers.failures import AttemptFailed
from gateway.providers.resilience import Clock

RENEWED_BEFORE_S: Final = 300.0
"""How long before their end credentials are renewed; half of their life where that is shorter."""
LEAST_AGE_S: Final = 30.0
"""Credentials that are younger have not ended, whatever an upstream says that refuses them."""
PAUSE_S: Final = 5.0
"""After an attempt in vain. A service that issues credentials may limit how often it is asked."""

_log = logging.getLogger(__name__)


class Credentials(Protocol):
    """What the gateway signs in with for a while."""

    @property
    def valid_s(self) -> float:
        """Seconds that they were good for when they were fetched."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings in them that must not reach a caller."""
        ...

    def headers(
        self, method: str, url: str, content_type: str | None, body: bytes | None
    ) -> Mapping[str, str]:
        """Write the headers that sign a request in."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token."""

    value: str = field(repr=False)
    valid_s: float

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (self.value,)

    def headers(
        self, method: str, url: str, content_type: str | None, body: bytes | None
    ) -> Mapping[str, str]:
        """Write the header that carries it."""
        del method, url, content_type, body
        return {"authorization": f"Bearer {self.value}"}


@dataclass(frozen=True, slots=True)
class _Held:
    credentials: Credentials
    fetched_s: float

    @property
    def ends_s(self) -> float:
        return self.fetched_s + self.credentials.valid_s

    @property
    def renewed_s(self) -> float:
        valid_s = self.credentials.valid_s
        return self.ends_s - min(RENEWED_BEFORE_S, valid_s / 2)


class Keeper:
    """Keeps the credentials of one provider good; for one event loop.

    Args:
        fetch: Gets new ones. It may block, and raise anything.
        patience_s: How long a request waits for it.
    """

    def __init__(
        self, provider: str, fetch: Callable[[], Credentials], patience_s: float, clock: Clock
    ) -> None:
        self.secrets: tuple[str, ...] = ()
        self._provider = provider
        self._fetch = fetch
        self._patience_s = patience_s
        self._clock = clock
        self._held: _Held | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._paused_until_s = float("-inf")

    async def credentials(self) -> Credentials:
        """Return credentials that are good now; waits only where there are none.

        Raises:
            AttemptFailed: There are none to be had.
        """
        now, held = self._clock(), self._held
        if held is None or now >= held.ends_s:
            held = await self._renew(held)
        elif now >= held.renewed_s and now >= self._paused_until_s:
            self._begin()
        return held.credentials

    async def instead_of(self, refused: Credentials) -> Credentials | None:
        """Return others than those that an upstream refused; None where it meant these.

        Raises:
            AttemptFailed: There are none to be had.
        """
        held = self._held
        if held is not None and held.credentials is not refused:
            return held.credentials  # renewed meanwhile
        if held is not None and self._clock() - held.fetched_s < LEAST_AGE_S:
            return None
        return (await self._renew(held)).credentials

    async def _renew(self, ended: _Held | None) -> _Held:
        """Wait for credentials to take the place of those that ended."""
        if self._clock() >= self._paused_until_s:
            fetching = self._begin()
            try:
                async with asyncio.timeout(self._patience_s):
                    await asyncio.shield(fetching)
            except TimeoutError as error:
                slow = ProviderUnavailable(
                    f"credentials for provider {self._provider!r} did not come in time",
                    provider=self._provider,
                )
                raise AttemptFailed(slow, is_retryable=False) from error
        if self._held is None or self._held is ended:
            wrong = ProviderMisconfigured(
                f"the gateway has no credentials for provider {self._provider!r};"
                " its operator must correct the configuration",
                provider=self._provider,
            )
            raise AttemptFailed(wrong, is_retryable=False)
        return self._held

    def _begin(self) -> asyncio.Task[None]:
        """Fetch new ones, once for all who want them."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetched())
        return self._fetching

    async def _fetched(self) -> None:
        began_s = self._clock()
        try:
            fresh = await asyncio.to_thread(self._fetch)
        except Exception as error:  # noqa: BLE001 (each cloud's library has its own)
            self._paused_until_s = self._clock() + PAUSE_S
            _log.warning(
                "provider %r: no credentials could be had: %s: %s",
                *(self._provider, type(error).__name__, _first_line(error)),
            )
            return
        # Of those before too: an answer that began with them may still quote them.
        before = () if self._held is None else self._held.credentials.secrets
        self._held = _Held(fresh, began_s)
        self.secrets = tuple(dict.fromkeys((*fresh.secrets, *before)))


def _first_line(error: Exception) -> str:
    """Shorten what a cloud's library says; it says what it looked for, and shows no secret."""
    return next(iter(str(error).splitlines()), "")[:200]
