"""Limits, the reservation of a turn's worst case under them, and its outcome."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Measure = Literal["nusd", "tokens", "output", "requests", "concurrent"]
"""``output`` counts completion tokens, reasoning included; ``tokens`` the prompt's as well.
``concurrent`` counts leases that are open; it has the window ``now``."""
Window = Literal["now", "minute", "hour", "day", "week", "month", "total"]
"""Calendar windows in UTC; a week begins on Monday (ISO 8601)."""
ScopeKind = Literal["team", "key", "user", "conversation", "turn"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a limit binds: the tenant, and within it one key, end user, conversation or turn.

    Attributes:
        id: Within the team; the same id under two teams is two scopes. Empty for the team itself.
    """

    team_id: str
    kind: ScopeKind
    id: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """One cap: what the scope may spend of the measure within each window.

    Attributes:
        cap: In the measure's unit: nano-USD, tokens, requests, or open leases.
    """

    scope: Scope
    measure: Measure
    window: Window
    cap: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A request to reserve one turn's worst case under all its limits, in one atomic step.

    The worst case is ``fixed + completion tokens``: the store grants as many completion tokens as
    every limit affords, at most `max_completion_tokens`, or refuses below `min_completion_tokens`.

    Attributes:
        request_id: Idempotency key of the reservation and of its settlement.
        limits: All of one team, so that one shard of a cluster decides; never empty.
        fixed_nusd: Cost of the counted prompt, nano-USD.
        fixed_tokens: Tokens of the counted prompt.
        completion_nusd_per_mtok: Price of one million completion tokens, nano-USD.
        lease_s: The hold is charged in full, as an estimate, if it is neither renewed nor settled.
    """

    request_id: str
    limits: tuple[Limit, ...]
    fixed_nusd: int
    fixed_tokens: int
    completion_nusd_per_mtok: int
    min_completion_tokens: int
    max_completion_tokens: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class OutputCap:
    """What a turn policy allots to one turn, and the conversation's budget that it comes from.

    Attributes:
        tokens: Completion tokens, of all choices together.
        limit: Held in the same atomic step as every other limit; None where no conversation is
            named, so that nothing but this turn is capped.
    """

    tokens: int
    limit: Limit | None


class Standing(NamedTuple):
    """Where one limit stands: ``spent + held <= cap`` unless the cap was lowered under it.

    A tuple, because every request makes one per limit, and a frozen dataclass takes three times as
    long to make.
    """

    limit: Limit
    spent: int
    held: int
    resets_in_s: float | None

    @property
    def remaining(self) -> int:
        """What could still be held now, never negative."""
        return max(self.limit.cap - self.spent - self.held, 0)


@dataclass(frozen=True, slots=True)
class UnjournaledCharge:
    """A charge that is not acknowledged yet; whoever receives it writes its journal row.

    Attributes:
        tokens: Of prompt and completion; `output` of the completion alone.
        is_expired: Nobody settled the hold in time, so it was charged in full.
    """

    request_id: str
    team_id: str
    nusd: int
    tokens: int
    is_expired: bool
    output: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """The hold was admitted.

    Attributes:
        completion_tokens: The cap to send upstream.
        nusd: Held in money; `tokens` likewise.
    """

    completion_tokens: int
    nusd: int
    tokens: int
    standings: tuple[Standing, ...]
    unjournaled: tuple[UnjournaledCharge, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """No completion of the wanted size fits; nothing is held anywhere.

    Attributes:
        standing: Of the limit that refused; of several, the one that frees last.
        retry_after_s: When trying again may help; None where only raising the cap does.
    """

    standing: Standing
    retry_after_s: float | None
    unjournaled: tuple[UnjournaledCharge, ...] = ()


@dataclass(frozen=True, slots=True)
class Charge:
    """What a turn used in the end."""

    nusd: int
    tokens: int
    output: int = 0

    def amount(self, measure: Measure) -> int:
        """Return what was used of one measure; 0 of those that count requests."""
        return {"nusd": self.nusd, "tokens": self.tokens, "output": self.output}.get(measure, 0)
