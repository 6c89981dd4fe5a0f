"""Counters in this process: exact for one worker, gone when it ends."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from budget.ledger.amounts import (
    MAX_COMPLETION_TOKENS,
    affordable_tokens,
    check_hold,
    cost_nusd,
    held_amounts,
    minimum_amounts,
    refusal,
    used_amounts,
)
from budget.ledger.types import (
    Granted,
    Hold,
    Limit,
    Measure,
    Refused,
    Standing,
    UnjournaledCharge,
    Window,
)
from budget.ledger.windows import is_counted_now, window_bounds

CORRECTION_S = 86_400.0
"""How long a lease that expired can still be settled, and so corrected."""
DUPLICATE_S = 60.0
"""How long a settled request id is refused, should somebody reserve it again."""
IDLE_S = 60.0
"""How often a counter without an end is looked at, and forgotten if it counts nothing."""
CONVERSATION_IDLE_S = 30 * 86_400.0
"""A conversation that nobody goes on with this long may use its output tokens anew."""
REDELIVERY_S = 30.0
"""An unacknowledged charge is delivered again after this: its receiver may have died."""
DELIVERED_PER_CALL = 50
SWEPT_PER_CALL = 64
"""Midnight ends every conversation's day at once; no single call pays for all of them."""

_Key = tuple[str, str, Measure, Window]


@dataclass(slots=True, eq=False)
class _Counter:
    """What one limit's scope spent and holds in one window."""

    key: _Key
    start_s: int
    ends_s: int | None
    forget_s: float
    used_s: float
    spent: int = 0
    held: int = 0


@dataclass(slots=True, eq=False)
class _Lease:
    """One reservation, and after its end what is needed to recognise, journal or correct it.

    Attributes:
        deliver_at_s: When the charge is delivered to a caller; None once it is acknowledged.
    """

    request_id: str
    due_s: float
    length_s: float
    completion: int
    nusd: int
    tokens: int
    output: int
    state: Literal["open", "expired", "settled"] = "open"
    forget_s: float = 0.0
    deliver_at_s: float | None = None
    parts: list[tuple[Limit, _Counter, int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Team:
    """Everything of one tenant.

    Attributes:
        due: A heap of leases that may have been renewed or settled since.
        undelivered: A heap of charges to deliver; some may have been acknowledged since.
    """

    counters: dict[_Key, _Counter] = field(default_factory=dict)
    leases: dict[str, _Lease] = field(default_factory=dict)
    due: list[tuple[float, int, _Lease]] = field(default_factory=list)
    undelivered: list[tuple[float, int, _Lease]] = field(default_factory=list)


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
            completion = _granted_completion(hold, counters)
            if completion < hold.min_completion_tokens:
                ends_s = _first_due(team)
                refused = refusal(
                    hold,
                    _standings(hold.limits, counters, now),
                    None if ends_s is None else ends_s - now,
                )
                charges = self._take_undelivered(team_id, team, now)
                return Refused(refused.standing, refused.retry_after_s, charges)
            lease = self._hold(team, hold, counters, completion, now)
        elif lease.state != "open":
            raise ValueError(f"request {hold.request_id!r} has ended: reserve under a new id")
        standings = _standings(hold.limits, counters, now)
        charges = self._take_undelivered(team_id, team, now)
        return Granted(lease.completion, lease.nusd, lease.tokens, standings, charges)

    async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
        """Extend a lease; False where it has ended."""
        team, now = self._teams.get(team_id), self._clock()
        lease = team.leases.get(request_id) if team else None
        if team is None or lease is None or lease.state != "open" or lease.due_s <= now:
            return False
        lease.due_s = now + lease_s
        heapq.heappush(team.due, (lease.due_s, next(self._order), lease))
        return True

    async def settle(
        self, team_id: str, request_id: str, nusd: int, tokens: int, output: int = 0
    ) -> bool:
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
            return False
        if lease.state == "expired":
            self._find_counters(team_id, team, lease, now)
        _charge(lease, nusd, tokens, output)
        lease.nusd, lease.tokens, lease.output, lease.parts = nusd, tokens, output, []
        self._end(team_id, lease, "settled", now + DUPLICATE_S)
        self._schedule_delivery(team, lease, now + lease.length_s)
        self._reap(team_id, team, now)
        return True

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

    async def reap(self, team_id: str) -> tuple[UnjournaledCharge, ...]:
        """Charge the team's expired leases, and return some charges not yet acknowledged."""
        now = self._clock()
        return self._take_undelivered(team_id, self._reaped(team_id, now), now)

    async def acknowledge(self, team_id: str, kept: Sequence[UnjournaledCharge]) -> None:
        """Stop delivering these charges: their journal rows are on disk."""
        leases = self._team(team_id).leases
        for charge in kept:
            lease = leases.get(charge.request_id)
            if lease is not None and _is_charge_of(lease, charge):
                lease.deliver_at_s = None

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
            _charge(lease, lease.nusd, lease.tokens, lease.output)
            self._end(team_id, lease, "expired", now + CORRECTION_S)
            self._schedule_delivery(team, lease, now)

    def _schedule_delivery(self, team: _Team, lease: _Lease, deliver_at_s: float) -> None:
        lease.deliver_at_s = deliver_at_s
        heapq.heappush(team.undelivered, (deliver_at_s, next(self._order), lease))

    def _take_undelivered(
        self, team_id: str, team: _Team, now: float
    ) -> tuple[UnjournaledCharge, ...]:
        """Return the charges that are due for delivery, and schedule their redelivery."""
        taken: list[UnjournaledCharge] = []
        while (
            team.undelivered and team.undelivered[0][0] <= now and len(taken) < DELIVERED_PER_CALL
        ):
            deliver_at_s, _, lease = heapq.heappop(team.undelivered)
            if lease.deliver_at_s == deliver_at_s:
                taken.append(_unjournaled_charge(team_id, lease))
                self._schedule_delivery(team, lease, now + REDELIVERY_S)
        return tuple(taken)

    def _counter(self, team_id: str, team: _Team, limit: Limit, now: float) -> _Counter:
        """Find the counter of the current window."""
        key = (limit.scope.kind, limit.scope.id, limit.measure, limit.window)
        counter = team.counters.get(key)
        if counter is None or not is_counted_now(limit.window, counter.start_s, now):
            start_s, ends_s = window_bounds(limit.window, now)
            forget_s = now + IDLE_S if ends_s is None else ends_s
            team.counters[key] = counter = _Counter(key, start_s, ends_s, forget_s, now)
            self._forget(team_id, counter)
        counter.used_s = now
        return counter

    def _find_counters(self, team_id: str, team: _Team, lease: _Lease, now: float) -> None:
        """Look the counters of an ended lease up anew: some may have been forgotten since."""
        lease.parts = [
            (limit, self._counter(team_id, team, limit, now), start_s)
            for limit, _, start_s in lease.parts
        ]

    def _hold(
        self, team: _Team, hold: Hold, counters: list[_Counter], completion: int, now: float
    ) -> _Lease:
        nusd = hold.fixed_nusd + cost_nusd(completion, hold.completion_nusd_per_mtok)
        tokens = hold.fixed_tokens + completion
        due_s = now + hold.lease_s
        lease = _Lease(hold.request_id, due_s, hold.lease_s, completion, nusd, tokens, completion)
        held, seen = held_amounts(nusd, tokens, completion), set()
        for limit, counter in zip(hold.limits, counters, strict=True):
            if counter in seen:
                continue
            seen.add(counter)
            counter.held += held[limit.measure]
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
            if isinstance(item, _Lease):
                self._forget_lease(team_id, team, item, now)
            else:
                self._forget_counter(team_id, team, item, now)
            if not (team.counters or team.leases):
                del self._teams[team_id]

    def _forget_lease(self, team_id: str, team: _Team, lease: _Lease, now: float) -> None:
        if lease.deliver_at_s is not None:
            lease.forget_s = max(lease.forget_s, now + DUPLICATE_S)
        if lease.forget_s > now:
            self._forget(team_id, lease)
        elif team.leases.get(lease.request_id) is lease:
            del team.leases[lease.request_id]

    def _forget_counter(self, team_id: str, team: _Team, counter: _Counter, now: float) -> None:
        """Drop a counter of a past window, or one without an end that counts nothing.

        A total is never forgotten: its cap would begin anew. Of conversations there are too many.
        """
        is_conversation = counter.key[0] == "conversation" and counter.key[2] == "output"
        if counter.ends_s is None and counter.held:
            counter.forget_s = now + IDLE_S
        elif counter.ends_s is None and counter.spent and is_conversation:
            counter.forget_s = counter.used_s + CONVERSATION_IDLE_S
        if counter.forget_s > now:
            self._forget(team_id, counter)
        elif team.counters.get(counter.key) is counter and not (
            counter.ends_s is None and counter.spent and not is_conversation
        ):
            del team.counters[counter.key]


def _granted_completion(hold: Hold, counters: list[_Counter]) -> int:
    """Count the completion tokens every limit affords; -1 where one does not even afford 0."""
    completion = min(hold.max_completion_tokens, MAX_COMPLETION_TOKENS)
    need = minimum_amounts(hold)
    for limit, counter in zip(hold.limits, counters, strict=True):
        room = limit.cap - counter.spent - counter.held
        if limit.measure == "nusd":
            afforded = affordable_tokens(
                room - hold.fixed_nusd, hold.completion_nusd_per_mtok, completion
            )
        elif limit.measure == "tokens":
            afforded = room - hold.fixed_tokens
        elif limit.measure == "output":
            afforded = room
        else:
            afforded = completion if room >= need[limit.measure] else -1
        completion = min(completion, afforded)
    return max(completion, -1)


def _charge(lease: _Lease, nusd: int, tokens: int, output: int) -> None:
    """Put what was used where it was held; where that was charged in full, correct it."""
    is_open = lease.state == "open"
    used = used_amounts(nusd, tokens, output)
    amounts = held_amounts if is_open else used_amounts
    before = amounts(lease.nusd, lease.tokens, lease.output)
    for limit, counter, start_s in lease.parts:
        measure = limit.measure
        if counter.start_s != start_s:
            continue
        if is_open:
            counter.held -= before[measure]
            counter.spent += used[measure]
        else:
            counter.spent = max(counter.spent + used[measure] - before[measure], 0)


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


def _unjournaled_charge(team_id: str, lease: _Lease) -> UnjournaledCharge:
    is_expired = lease.state == "expired"
    return UnjournaledCharge(
        lease.request_id, team_id, lease.nusd, lease.tokens, is_expired, lease.output
    )


def _is_charge_of(lease: _Lease, charge: UnjournaledCharge) -> bool:
    """Whether this is the lease's latest charge, not one that was corrected since."""
    known = (lease.nusd, lease.tokens, lease.output, lease.state == "expired")
    return known == (charge.nusd, charge.tokens, charge.output, charge.is_expired)
