"""Exact arithmetic of caps and holds, the same in Python and in the store's Lua."""

from budget.ledger.types import Hold, Measure, Refused, Standing

NUSD_PER_USD = 1_000_000_000
TOKENS_PER_MTOK = 1_000_000
MAX_AMOUNT = 2**53 - 1
"""Largest cap: Redis computes in doubles, exact up to here; 9,007,199 USD in nano-USD."""
MAX_COMPLETION_TOKENS = 2**31 - 1
"""More than any model writes; larger wishes are granted as this many."""


def cost_nusd(tokens: int, nusd_per_mtok: int) -> int:
    """Price completion tokens in nano-USD, rounded up."""
    return -(-tokens * nusd_per_mtok // TOKENS_PER_MTOK)


def affordable_tokens(room_nusd: int, nusd_per_mtok: int, most: int) -> int:
    """Count the tokens, at most `most`, that `room_nusd` pays for; negative if it is negative."""
    if nusd_per_mtok == 0 or room_nusd < 0:
        return most if room_nusd >= 0 else -1
    return min(room_nusd * TOKENS_PER_MTOK // nusd_per_mtok, most)


def held_amounts(nusd: int, tokens: int, output: int) -> dict[Measure, int]:
    """Say what an open lease holds, by measure."""
    return {"nusd": nusd, "tokens": tokens, "output": output, "requests": 0, "concurrent": 1}


def used_amounts(nusd: int, tokens: int, output: int) -> dict[Measure, int]:
    """Say what a lease that ended has spent, by measure; its request was counted at the start."""
    return {"nusd": nusd, "tokens": tokens, "output": output, "requests": 0, "concurrent": 0}


def check_hold(hold: Hold) -> None:
    """Refuse what no store could count exactly or in one place.

    Raises:
        ValueError: No limits, limits of several teams, or a cap above `MAX_AMOUNT`.
    """
    if not hold.limits:
        raise ValueError("a hold needs at least one limit")
    team_id = hold.limits[0].scope.team_id
    for limit in hold.limits:
        if limit.scope.team_id != team_id:
            raise ValueError("all limits of a hold belong to one team")
        if limit.cap > MAX_AMOUNT:
            raise ValueError(f"a cap is at most {MAX_AMOUNT}; leave the limit out for no cap")


def refusal(
    hold: Hold, standings: tuple[Standing, ...], first_lease_ends_in_s: float | None
) -> Refused:
    """Name the limit that refused: of several, the one that frees last.

    Args:
        hold: What was wanted.
        standings: Of the hold's limits, in their order; at least one cannot afford the minimum.
        first_lease_ends_in_s: Of the team; None where no lease is open.
    """
    need = minimum_amounts(hold)
    worst: tuple[float, float | None, Standing] | None = None
    for standing in standings:
        wanted = need[standing.limit.measure]
        if standing.spent + standing.held + wanted <= standing.limit.cap:
            continue
        wait = _wait_s(standing, wanted, first_lease_ends_in_s)
        order = float("inf") if wait is None else wait
        if worst is None or order > worst[0]:
            worst = (order, wait, standing)
    if worst is None:
        raise ValueError("every limit affords the minimum")
    return Refused(worst[2], worst[1])


def minimum_amounts(hold: Hold) -> dict[str, int]:
    """Sum up what the smallest useful completion costs, by measure."""
    least = hold.min_completion_tokens
    return {
        "nusd": hold.fixed_nusd + cost_nusd(least, hold.completion_nusd_per_mtok),
        "tokens": hold.fixed_tokens + least,
        "output": least,
        "requests": 1,
        "concurrent": 1,
    }


def _wait_s(standing: Standing, wanted: int, first_lease_ends_in_s: float | None) -> float | None:
    """Seconds until the limit may afford `wanted`; None where waiting does not help."""
    if wanted > standing.limit.cap:
        return None
    waits = [] if standing.resets_in_s is None else [standing.resets_in_s]
    is_blocked_by_held = standing.held > 0 and standing.spent + wanted <= standing.limit.cap
    if is_blocked_by_held and first_lease_ends_in_s is not None:
        waits.append(first_lease_ends_in_s)
    return min(waits, default=None)
