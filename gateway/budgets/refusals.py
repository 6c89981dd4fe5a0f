"""What a caller is told when a limit refuses: which scope, what is left, whether waiting helps."""

from collections.abc import Mapping, Sequence
from typing import Final

from budget.errors import BudgetExhausted
from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Charge, Limit, Measure, Standing, Window
from gateway.budgets.reservation import duration, standing_headers
from gateway.budgets.worst_case import WorstCase
from gateway.errors import DependencyUnavailable, RateLimited

HELD_RETRY_S: Final = 1.0
"""Most requests end long before their lease, and give back most of what they hold."""
_PERIODS: Final[dict[Window, str]] = {
    "now": "at a time",
    "minute": "per minute",
    "hour": "per hour",
    "day": "per day",
    "week": "per week",
    "month": "per month",
    "total": "in total",
}


UNITS: Final[Mapping[str, str]] = {"concurrent": "requests", "output": "output tokens"}


def refused(
    standing: Standing, retry_after_s: float | None, need: WorstCase
) -> BudgetExhausted | RateLimited:
    """Make the error of a limit that has no room: a rate that passes, or a budget that is spent."""
    limit = standing.limit
    if retry_after_s is not None and _is_blocked_by_held(standing, need):
        retry_after_s = min(retry_after_s, HELD_RETRY_S)
    headers = tuple(standing_headers((standing,)))
    message = _message(limit, standing.remaining, need, retry_after_s)
    if limit.measure in ("requests", "concurrent") or limit.window == "minute":
        limited = RateLimited(message, retry_after_s=retry_after_s)
        limited.limit_source = limit.scope.kind
        limited.headers, limited.limit = headers, _named(limit)
        return limited
    exhausted = BudgetExhausted(
        message,
        limit_source=limit.scope.kind,
        is_money=limit.measure == "nusd",
        retry_after_s=retry_after_s,
    )
    exhausted.headers, exhausted.limit = headers, _named(limit)
    return exhausted


def turn_refused(limit: Limit, need: WorstCase) -> BudgetExhausted:
    """Make the error of a request that is dearer than a single one may be."""
    is_money = limit.measure == "nusd"
    message = _message(limit, limit.cap, need, None)
    exhausted = BudgetExhausted(message, limit_source="turn", is_money=is_money)
    exhausted.limit = _named(limit)
    return exhausted


def _named(limit: Limit) -> str:
    """Name a limit in the log: whose, of what, and how long it counts."""
    return f"{limit.scope.kind} {limit.measure} {limit.window} {limit.cap}"


def most_within(limits: Sequence[Limit], need: WorstCase, charged: Charge | None) -> int:
    """Return the most completion tokens that the limits of a single request leave.

    Args:
        charged: To the same request before; None at first.

    Raises:
        BudgetExhausted: They have no room.
    """
    most = need.most_completion_tokens
    for limit in limits:
        left = limit.cap - (0 if charged is None else charged.amount(limit.measure))
        most = min(most, need.afforded(left, limit.measure))
        if most < need.least_completion_tokens:
            raise turn_refused(limit, need)
    return most


def cannot_be_checked(retry_after_s: float | None = None) -> DependencyUnavailable:
    """Make the error of a store that is down."""
    return DependencyUnavailable(
        "Budgets cannot be checked because the budget store is down. Try again.",
        retry_after_s=retry_after_s or 1.0,
    )


def _is_blocked_by_held(standing: Standing, need: WorstCase) -> bool:
    """Whether there is room as soon as the requests that run give back what they do not use."""
    least = {
        "nusd": need.cost_nusd(need.least_completion_tokens),
        "tokens": need.prompt_tokens + need.least_completion_tokens,
        "output": need.least_completion_tokens,
    }.get(standing.limit.measure, 1)
    return standing.held > 0 and standing.spent + least <= standing.limit.cap


def _message(limit: Limit, left: int, need: WorstCase, retry_after_s: float | None) -> str:
    kind, measure = limit.scope.kind, limit.measure
    cap = f"{_amount(limit.cap, measure)} {_PERIODS[limit.window]}"
    if kind == "turn":
        cap = f"{_amount(limit.cap, measure)} per request"
    said = f"This {kind} may use {cap}, of which {_amount(left, measure)} is left."
    if measure == "nusd":
        least = need.cost_nusd(need.least_completion_tokens)
        said += f" This request may cost {_amount(least, measure)}"
        said += _ending(need)
    elif measure == "tokens":
        least = need.prompt_tokens + need.least_completion_tokens
        said += f" This request may take {_amount(least, measure)}"
        said += _ending(need)
    if retry_after_s is not None:
        return f"{said} Try again in {duration(max(retry_after_s, 1.0))}."
    if measure in ("requests", "concurrent"):
        return f"{said} Ask your operator to raise it."
    return f"{said} Shorten the request or lower its output limit, or have the budget raised."


def _ending(need: WorstCase) -> str:
    if not need.most_completion_tokens:
        return "."
    return " with the output limit it sets." if need.is_capped else " at least."


def _amount(amount: int, measure: Measure) -> str:
    if measure == "nusd":
        dollars = f"{amount / NUSD_PER_USD:.9f}".rstrip("0")
        return f"{dollars}{'00'[: max(0, 2 - len(dollars.partition('.')[2]))]} USD"
    return f"{amount} {UNITS.get(measure, measure)}"
