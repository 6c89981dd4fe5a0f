"""A budget of what is held at the same time, such as memory: in all, and by each owner.

Nobody waits for it: who would exceed it is refused at once, so holders cannot block each other.
"""

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from budget.errors import CapacityExceeded, ShareExceeded

RETRY_AFTER_S: Final = 1.0


@dataclass(slots=True)
class InFlight:
    """Counts what is held; owners that hold nothing are forgotten."""

    limit: int
    limit_per_owner: int
    held: int = 0
    refused_for_share: int = 0
    refused_for_limit: int = 0
    _by_owner: Counter[str] = field(default_factory=Counter)

    def hold(self, owner: str) -> "Hold":
        """Return what holds nothing yet; a context manager that gives all back."""
        return Hold(self, owner)

    def change(self, owner: str, amount: int) -> None:
        """Count `amount` more, or less where it is negative.

        Raises:
            ShareExceeded: The owner may not hold so much.
            CapacityExceeded: All owners together may not hold so much.
        """
        if amount > 0 and self._by_owner[owner] + amount > self.limit_per_owner:
            self.refused_for_share += 1
            raise ShareExceeded(
                "Too many large requests of yours are under way. Send this one again when others "
                "have been answered.",
                retry_after_s=RETRY_AFTER_S,
            )
        if amount > 0 and self.held + amount > self.limit:
            self.refused_for_limit += 1
            raise CapacityExceeded(
                "Too many large requests are under way. Send this one again later.",
                retry_after_s=RETRY_AFTER_S,
            )
        self.held += amount
        self._by_owner[owner] += amount
        if not self._by_owner[owner]:
            del self._by_owner[owner]


@dataclass(slots=True)
class Hold:
    """What one request holds."""

    _all: InFlight
    _owner: str
    amount: int = 0

    @property
    def limit(self) -> int:
        """The most that this owner may hold, even where nothing else is held."""
        return self._all.limit_per_owner

    def grow(self, to: int) -> None:
        """Hold at least so much.

        Raises:
            ShareExceeded: The owner may not hold so much.
            CapacityExceeded: All owners together may not hold so much.
        """
        if to > self.amount:
            self._all.change(self._owner, to - self.amount)
            self.amount = to

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._all.change(self._owner, -self.amount)
        self.amount = 0
