"""What was reserved for one turn, and how the caller is told what is left."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.settlements import Lease
from budget.ledger.types import Charge, Limit, Measure, ScopeKind, Standing

_SHOWN_KINDS: Final[tuple[ScopeKind, ...]] = ("key", "user", "conversation")
"""What a team has left is for its operator to tell."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was held for one turn.

    Attributes:
        lease: None where no counter is involved: nothing limits this caller.
        lease_name: `lease.name`, as the store knows it.
        limits: Those it is charged to.
        is_held: Whether the store holds it; False while the store is down (mode ``open``).
        completion_tokens: Output limit to send upstream for each choice; None leaves the caller's.
        nusd: Held in money; `tokens` likewise.
        output: The most completion tokens of all choices together, held or not.
        standings: Where the limits stood with this turn's worst case held.
    """

    request_id: str
    lease: Lease | None = None
    lease_name: str = ""
    limits: tuple[Limit, ...] = ()
    is_held: bool = False
    completion_tokens: int | None = None
    nusd: int = 0
    tokens: int = 0
    output: int = 0
    standings: tuple[Standing, ...] = ()

    @property
    def is_limited(self) -> bool:
        """Whether anything limits the turn, so that there is something to tell."""
        return self.lease is not None or self.completion_tokens is not None

    def after(self, first: "Reservation") -> "Reservation":
        """Return the same, with what `first` counted of requests: a fallback counts none."""
        counted = [each for each in first.standings if each.limit.measure == "requests"]
        return replace(self, standings=(*counted, *self.standings))


def budget_headers(
    reservation: Reservation, charge: Charge | None = None
) -> list[tuple[bytes, bytes]]:
    """Say what is left, in response headers.

    Args:
        charge: What the turn used, where that is known already; its worst case counts otherwise.
    """
    headers = standing_headers(reservation.standings, _returned(reservation, charge))
    if reservation.completion_tokens is not None:
        limit = str(reservation.completion_tokens).encode()
        headers.append((b"x-waypost-budget-completion-tokens", limit))
    return headers


def standing_headers(
    standings: Iterable[Standing], returned: Charge | None = None
) -> list[tuple[bytes, bytes]]:
    """Say where limits stand: OpenAI's headers for limits per minute, our own for budgets."""
    standings = tuple(standings)
    headers: list[tuple[bytes, bytes]] = []
    for measure in ("requests", "tokens"):
        standing = _rate_limit(standings, measure)
        if standing is not None:
            name = f"x-ratelimit-%s-{measure}"
            resets = duration(standing.resets_in_s or 0.0)
            left = _left(standing, returned)
            for part, number in (("limit", standing.limit.cap), ("remaining", left)):
                headers.append(((name % part).encode(), str(number).encode()))
            headers.append(((name % "reset").encode(), resets.encode()))
    for kind, rest in _remaining(standings, returned).items():
        for unit, value in rest.items():
            shown = f"{value:.9f}" if unit == "usd" else str(value)
            name = f"x-waypost-budget-{kind}-remaining-{unit.replace('_', '-')}"
            headers.append((name.encode(), shown.encode()))
    return headers


def budget_summary(reservation: Reservation, charge: Charge | None = None) -> dict[str, Any]:
    """Say what is left as the `budget` of the `waypost` object."""
    summary: dict[str, Any] = {
        kind: {f"remaining_{unit}": value for unit, value in left.items()}
        for kind, left in _remaining(reservation.standings, _returned(reservation, charge)).items()
    }
    if reservation.completion_tokens is not None:
        summary["completion_tokens"] = reservation.completion_tokens
    if reservation.lease is not None and not reservation.is_held:
        summary["is_unchecked"] = True
    return summary


def duration(seconds: float) -> str:
    """Write a time span as OpenAI's headers do: ``20ms``, ``1s``, ``6m0s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}h{minutes}m{whole % 60}s"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"


def _returned(reservation: Reservation, charge: Charge | None) -> Charge | None:
    """Return what of the hold was not used after all."""
    if charge is None or not reservation.is_held:
        return None
    return Charge(
        reservation.nusd - charge.nusd,
        reservation.tokens - charge.tokens,
        reservation.output - charge.output,
    )


def _left(standing: Standing, returned: Charge | None) -> int:
    if returned is None:
        return standing.remaining
    back = {
        "nusd": returned.nusd,
        "tokens": returned.tokens,
        "output": returned.output,
        "concurrent": 1,
    }
    left = standing.limit.cap - standing.spent - standing.held
    return max(left + back.get(standing.limit.measure, 0), 0)


def _rate_limit(standings: tuple[Standing, ...], measure: str) -> Standing | None:
    """Return the key's limit per minute, else the tightest of those that bind it too."""
    per_minute = [s for s in standings if (s.limit.measure, s.limit.window) == (measure, "minute")]
    of_key = [standing for standing in per_minute if standing.limit.scope.kind == "key"]
    return min(of_key or per_minute, key=lambda standing: standing.remaining, default=None)


def _remaining(
    standings: tuple[Standing, ...], returned: Charge | None
) -> dict[str, dict[str, int | float]]:
    """Return the least that is left of each kind of scope, in USD and in tokens."""
    remaining: dict[str, dict[str, int | float]] = {}
    units: dict[Measure, str] = {
        "nusd": "usd",
        "tokens": "tokens",
        "output": "output_tokens",
    }
    for standing in standings:
        kind, unit = standing.limit.scope.kind, units.get(standing.limit.measure)
        if unit is None or kind not in _SHOWN_KINDS or standing.limit.window == "minute":
            continue
        left = _left(standing, returned)
        value: int | float = left / NUSD_PER_USD if unit == "usd" else left
        known = remaining.setdefault(kind, {})
        known[unit] = min(known.get(unit, value), value)
    return remaining
