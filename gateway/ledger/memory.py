"""Counters in this process: exact for one worker, gone when it ends."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from gateway.ledger.amounts import (
    MAX_COMPLETION_TOKENS,
    affordable_tokens,
    check_hold,
    cost_nusd,
    least_need,
    refusal,
)
from gateway.ledger.types import (
    ExpiredLease,
    Granted,
    Hold,
    Limit,
    Measure,
    Refused,
    Settled,
    Standing,
    Window,
)
from gateway.ledger.windows import window_bounds

RETENTION_S = 30 * 86_400.0
"""A counter whose window does not end is forgotten this long after its last use."""
CORRECTION_S = 86_400.0
"""How long a lease that expired can still be settled, and so corrected."""
DUPLICATE_S = 60.0
"""How long a settled request id is refused, should somebody reserve it again."""
TURN_S = 3_600.0
"""A turn's counters are forgotten this long after their last use."""
SWEPT_PER_CALL = 64
"""Midnight ends every conversation's day at once; no single call pays for all of them."""

_Key = tuple[str, str, Measure, Window]


@dataclass(slots=True, eq=False)
class _Counter:
    """What one limit's scope spent and holds in one window."""

    key: _Key
    start_s: int
    ends_s: int | None
    forget_s: float = 0.0
    spent: int = 0
    held: int = 0


@dataclass(slots=True, eq=False)
class _Lease:
    """One reservation, and after its end what is needed to recognise or correct it."""

    request_id: str
    due_s: float
    completion: int
    nusd: int
    tokens: int
    state: Literal["open", "expired", "settled"] = "open"
    forget_s: float = 0.0
    parts: list[tuple[Limit, _Counter, int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Team:
    """Everything of one tenant; `due` is a heap of leases that may have been renewed or settled."""

    counters: dict[_Key, _Counter] = field(default_factory=dict)
    leases: dict[str, _Lease] = field(default_factory=dict)
    due: list[tuple[float, int, _Lease]] = field(default_factory=list)
    expired: list[ExpiredLease] = field(default_factory=list)


class MemoryStore:
    """The `LedgerStore` of one process: a call runs to its end before the next begins.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._teams: dict[str, _Team] = {}
        self._forgettable: list[tuple[float, int, str, _Counter | _Lease]] = []
        self._order = count()

    async def reserve(self, hold: Hold) -> Granted | Refused:
        """Hold the worst case under every limit, or nothing under any; idempotent by request id.

        Raises:
            ValueError: The request has ended, or the hold cannot be counted exactly.
        """
        check_hold(hold)
        team_id, now = hold.limits[0].scope.team_id, self._clock()
        team = self._reaped(team_id, now)
        counters = [self._counter(team_id, team, limit, now) for limit in hold.limits]
        lease = team.leases.get(hold.request_id)
        if lease is None:
            completion = _grant(hold, counters)
            if completion < hold.min_completion_tokens:
                ends_s = _first_due(team)
                refused = refusal(
                    hold,
                    _standings(hold.limits, counters, now),
                    None if ends_s is None else ends_s - now,
                )
                return Refused(refused.standing, refused.retry_after_s, _taken(team))
            lease = self._hold(team, hold, counters, completion, now)
        elif lease.state != "open":
            raise ValueError(f"request {hold.request_id!r} has ended: reserve under a new id")
        standings = _standings(hold.limits, counters, now)
        return Granted(lease.completion, lease.nusd, lease.tokens, standings, _taken(team))

    async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
        """Extend a lease; False where it has ended."""
        team, now = self._teams.get(team_id), self._clock()
        lease = team.leases.get(request_id) if team else None
        if team is None or lease is None or lease.state != "open" or lease.due_s <= now:
            return False
        lease.due_s = now + lease_s
        heapq.heappush(team.due, (lease.due_s, next(self._order), lease))
        return True

    async def settle(self, team_id: str, request_id: str, nusd: int, tokens: int) -> Settled:
        """Replace a hold by what was used, in the windows it was held in; idempotent.

        A request this store does not know, as after a restart, is charged nothing: its journal row
        is what `waypost budgets rebuild` counts.
        """
        now = self._clock()
        self._sweep(now)
        team = self._team(team_id)
        lease = team.leases.get(request_id)
        if lease is None or lease.state == "settled":
            self._reap(team_id, team, now)
            return Settled(is_first=False, standings=())
        _charge(lease, nusd, tokens)
        limits = [limit for limit, _, _ in lease.parts]
        self._end(team_id, lease, "settled", now + DUPLICATE_S)
        lease.parts = []
        self._reap(team_id, team, now)
        counters = [self._counter(team_id, team, limit, now) for limit in limits]
        return Settled(is_first=True, standings=_standings(limits, counters, now))

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """Read where limits (all of one team) stand."""
        if not limits:
            return ()
        team_id, now = limits[0].scope.team_id, self._clock()
        team = self._reaped(team_id, now)
        counters = [self._counter(team_id, team, limit, now) for limit in limits]
        return _standings(limits, counters, now)

    async def overwrite(self, limit: Limit, spent: int) -> None:
        """Set what was spent in the current window; open leases (`concurrent`) stay as they are."""
        if limit.measure == "concurrent":
            return
        team_id = limit.scope.team_id
        counter = self._counter(team_id, self._team(team_id), limit, self._clock())
        counter.spent = spent

    async def reap(self, team_id: str) -> tuple[ExpiredLease, ...]:
        """Charge the team's expired leases and take those nobody was told of yet."""
        return _taken(self._reaped(team_id, self._clock()))

    def _team(self, team_id: str) -> _Team:
        team = self._teams.get(team_id)
        if team is None:
            team = self._teams[team_id] = _Team()
        return team

    def _reaped(self, team_id: str, now: float) -> _Team:
        self._sweep(now)
        team = self._team(team_id)
        self._reap(team_id, team, now)
        return team

    def _reap(self, team_id: str, team: _Team, now: float) -> None:
        """Charge in full, as estimates, the leases that nobody renewed or settled in time."""
        while team.due and team.due[0][0] <= now:
            due_s, _, lease = heapq.heappop(team.due)
            if lease.state != "open" or lease.due_s != due_s:
                continue
            _charge(lease, lease.nusd, lease.tokens)
            self._end(team_id, lease, "expired", now + CORRECTION_S)
            team.expired.append(ExpiredLease(lease.request_id, team_id, lease.nusd, lease.tokens))

    def _counter(self, team_id: str, team: _Team, limit: Limit, now: float) -> _Counter:
        """Find the counter of the current window; a clock that is set back never reopens one."""
        key = (limit.scope.kind, limit.scope.id, limit.measure, limit.window)
        counter = team.counters.get(key)
        if counter is None:
            counter = _Counter(key, *window_bounds(limit.window, now))
            team.counters[key] = counter
            _touch(counter, now)
            self._forget(team_id, counter)
        elif counter.ends_s is not None and counter.ends_s <= now:
            counter.start_s, counter.ends_s = window_bounds(limit.window, now)
            counter.spent = counter.held = 0
        _touch(counter, now)
        return counter

    def _hold(
        self, team: _Team, hold: Hold, counters: list[_Counter], completion: int, now: float
    ) -> _Lease:
        nusd = hold.fixed_nusd + cost_nusd(completion, hold.completion_nusd_per_mtok)
        tokens = hold.fixed_tokens + completion
        lease = _Lease(hold.request_id, now + hold.lease_s, completion, nusd, tokens)
        seen = set()
        for limit, counter in zip(hold.limits, counters, strict=True):
            if counter.key in seen:
                continue
            seen.add(counter.key)
            counter.held += _held(limit.measure, nusd, tokens)
            counter.spent += limit.measure == "requests"
            lease.parts.append((limit, counter, counter.start_s))
        team.leases[hold.request_id] = lease
        heapq.heappush(team.due, (lease.due_s, next(self._order), lease))
        return lease

    def _end(
        self, team_id: str, lease: _Lease, state: Literal["expired", "settled"], forget_s: float
    ) -> None:
        lease.state, lease.forget_s = state, forget_s
        self._forget(team_id, lease)

    def _forget(self, team_id: str, item: _Counter | _Lease) -> None:
        heapq.heappush(self._forgettable, (item.forget_s, next(self._order), team_id, item))

    def _sweep(self, now: float) -> None:
        """Drop counters of past windows and leases that ended long ago."""
        for _ in range(SWEPT_PER_CALL):
            if not self._forgettable or self._forgettable[0][0] > now:
                return
            _, _, team_id, item = heapq.heappop(self._forgettable)
            team = self._teams.get(team_id)
            if team is None:
                continue
            if item.forget_s > now:
                self._forget(team_id, item)
            elif isinstance(item, _Lease):
                if team.leases.get(item.request_id) is item:
                    del team.leases[item.request_id]
            elif item.held and item.ends_s is None:
                _touch(item, now)
                self._forget(team_id, item)
            else:
                team.counters.pop(item.key, None)
            if not (team.counters or team.leases or team.expired):
                del self._teams[team_id]


def _grant(hold: Hold, counters: list[_Counter]) -> int:
    """Count the completion tokens every limit affords; -1 where one does not even afford 0."""
    completion = min(hold.max_completion_tokens, MAX_COMPLETION_TOKENS)
    need = least_need(hold)
    for limit, counter in zip(hold.limits, counters, strict=True):
        room = limit.cap - counter.spent - counter.held
        if limit.measure == "nusd":
            afforded = affordable_tokens(
                room - hold.fixed_nusd, hold.completion_nusd_per_mtok, completion
            )
        elif limit.measure == "tokens":
            afforded = room - hold.fixed_tokens
        else:
            afforded = completion if room >= need[limit.measure] else -1
        completion = min(completion, afforded)
    return max(completion, -1)


def _charge(lease: _Lease, nusd: int, tokens: int) -> None:
    """Put what was used where it was held; where that was charged in full, correct it."""
    for limit, counter, start_s in lease.parts:
        if counter.start_s != start_s:
            continue
        held = _held(limit.measure, lease.nusd, lease.tokens)
        used = _used(limit.measure, nusd, tokens)
        if lease.state == "open":
            counter.held -= held
            counter.spent += used
        else:
            charged = _used(limit.measure, lease.nusd, lease.tokens)
            counter.spent = max(counter.spent + used - charged, 0)


def _held(measure: Measure, nusd: int, tokens: int) -> int:
    if measure == "concurrent":
        return 1
    return _used(measure, nusd, tokens)


def _used(measure: Measure, nusd: int, tokens: int) -> int:
    if measure == "nusd":
        return nusd
    return tokens if measure == "tokens" else 0


def _standings(
    limits: Sequence[Limit], counters: list[_Counter], now: float
) -> tuple[Standing, ...]:
    return tuple(
        Standing(
            limit,
            counter.spent,
            counter.held,
            None if counter.ends_s is None else counter.ends_s - now,
        )
        for limit, counter in zip(limits, counters, strict=True)
    )


def _first_due(team: _Team) -> float | None:
    """When the first open lease ends; leases that were renewed or settled are passed over."""
    while team.due and (team.due[0][2].state != "open" or team.due[0][2].due_s != team.due[0][0]):
        heapq.heappop(team.due)
    return team.due[0][0] if team.due else None


def _taken(team: _Team) -> tuple[ExpiredLease, ...]:
    if not team.expired:
        return ()
    taken = tuple(team.expired)
    team.expired.clear()
    return taken


def _touch(counter: _Counter, now: float) -> None:
    kind, _, _, window = counter.key
    if counter.ends_s is not None:
        counter.forget_s = float(counter.ends_s)
    elif window == "now":
        counter.forget_s = now + DUPLICATE_S
    else:
        counter.forget_s = now + (TURN_S if kind == "turn" else RETENTION_S)
