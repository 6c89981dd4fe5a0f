"""The ledger of a deployment with budgets: hold the worst case, settle what was used.

Unbudgeted callers cost a look-up in memory. For the others one round trip reserves in every scope
or refuses, and one settles. While the store is down, `when_store_is_down` decides: ``closed``
refuses budgeted callers, ``open`` serves them, journals what they use and tells the store later.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from budget.errors import BudgetExhausted, LedgerUnavailable
from budget.ledger.counters import LedgerCounters
from budget.ledger.pending import PendingSettlement, PendingSettlements
from budget.ledger.running import RunningLeases
from budget.ledger.settlements import (
    Lease,
    SettlementRecord,
    limit_codes,
    settlement_from_charge,
)
from budget.ledger.store import LedgerStore
from budget.ledger.types import (
    Charge,
    Granted,
    Hold,
    Limit,
    OutputCap,
    Refused,
    Standing,
    UnjournaledCharge,
)
from gateway.budgets.base import BoundPrompt, SettlementLog
from gateway.budgets.book import BudgetBook
from gateway.budgets.naming import ScopeNames
from gateway.budgets.refusals import cannot_be_checked, most_within, refused
from gateway.budgets.reservation import Reservation
from gateway.budgets.worst_case import WorstCase, worst_case
from gateway.settings.config import BudgetSettings
from gateway.types import ANSWERED, CLIENT_LEFT, Caller, HostedModel, Usage
from gateway.wire import ChatRequest

STORE_DOWN = "DependencyUnavailable"
RETRY_STORE_S = 0.5
"""After a failure the store is left alone this long, so that an outage costs no request a wait."""
TICK_S = 1.0

_log = logging.getLogger(__name__)


class MeteredLedger:
    """Reserves and settles; for one event loop.

    Args:
        shields: Whether the store's calls can be cancelled half done. Those of a store in this
            process cannot, and a task of its own costs 11 µs of the request.
        clock: Unix seconds.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        *,
        book: BudgetBook,
        store: LedgerStore,
        journal: SettlementLog,
        bound_prompt: BoundPrompt,
        settings: BudgetSettings,
        shields: bool = True,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = LedgerCounters()
        self._book = book
        self._store = store
        self._journal = journal
        self._bound_prompt = bound_prompt
        self._settings = settings
        self._shields = shields
        self._clock = clock
        self._monotonic = monotonic
        self._running = RunningLeases(store, self.counters, settings.lease_s, monotonic)
        self._names = ScopeNames(book, from_prefix=settings.conversation_from_prefix)
        self._pending = PendingSettlements(store, journal.record_settlement, clock)
        self._down_until_s = float("-inf")
        self.has_store_failed = False
        """The last call of the store failed."""

    @property
    def running(self) -> int:
        """Requests whose reservation is not settled yet."""
        return len(self._running)

    @property
    def unsettled(self) -> int:
        """Settlements that wait for the store."""
        return len(self._pending)

    async def reserve(
        self,
        request_id: str,
        caller: Caller,
        request: ChatRequest,
        models: Sequence[HostedModel],
        cap: OutputCap | None = None,
        *,
        charged: Charge | None = None,
    ) -> Reservation:
        """Hold the worst case of `request` on any of `models` in every scope, or refuse.

        Args:
            cap: What a turn policy allots; it lowers the caller's own output limit too.
            charged: To the same turn before, which falls back: limits of a turn hold for both
                together, and it is no second request. None at first.

        Raises:
            BudgetExhausted: A budget of money or tokens has no room.
            RateLimited: Too many requests or tokens per minute, or too many at a time.
            DependencyUnavailable: The store is down, and the mode is ``closed``.
            InvalidRequest: The output limit is no positive whole number.
        """
        lease, limits = self._names.lease(
            request_id, caller, request, cap, self._clock(), is_fallback=charged is not None
        )
        turn_limits = self._book.turn_limits(caller.team_id)
        if not limits and not turn_limits and cap is None:
            return Reservation(request_id)
        prompt_tokens = await self._bound_prompt(request.body, models, caller.team_id)
        need = worst_case(request.body, models, prompt_tokens, self._settings)
        if cap is not None:
            need = need.within(cap.tokens, self._settings.min_completion_tokens)
        most = self._most_within(turn_limits, need, charged)
        if lease is None:
            return Reservation(request_id, completion_tokens=need.per_choice(most))
        return await self._admit(
            lease, need.hold(lease, limits, most, self._settings.lease_s), need
        )

    async def reserve_call(
        self, request_id: str, caller: Caller, request: ChatRequest, need: WorstCase
    ) -> Reservation:
        """Hold `need` for a call that is no turn, in every scope, or refuse.

        Such calls have no row in the log, so each has one in the journal, limited or not.

        Args:
            request: Names the caller's end user and conversation.

        Raises as `reserve` does.
        """
        lease, limits = self._names.lease(request_id, caller, request, None, self._clock())
        most = self._most_within(self._book.turn_limits(caller.team_id), need)
        if lease is not None:
            return await self._admit(
                lease, need.hold(lease, limits, most, self._settings.lease_s), need
            )
        now = self._clock()
        free = Lease(request_id, caller.team_id, caller.key_id, None, None, limit_codes(()), now)
        self._running.add(free.idempotency_key, free, is_held=False)
        return Reservation(request_id, lease=free, lease_name=free.idempotency_key)

    async def settle(
        self,
        reservation: Reservation,
        usage: Usage | None,
        cost_nusd: int,
        *,
        model: str | None = None,
        outcome: str = ANSWERED,
        answer_id: str | None = None,
    ) -> None:
        """Charge what was used instead of what was held; the second time nothing happens.

        Args:
            usage: None where nothing was used.
            model: What answered.
            outcome: ``answered``, or the class of what ended the turn.
            answer_id: The answer's `id`, by which the conversation may go on.
        """
        lease = reservation.lease
        if lease is None or not self._running.end(reservation.lease_name):
            return
        team_id = lease.team_id
        if answer_id is not None and lease.conversation_digest is not None:
            self._names.note_answer(team_id, answer_id, lease.conversation_digest)
        output = 0 if usage is None else usage.completion_tokens
        tokens = 0 if usage is None else usage.prompt_tokens + output
        charge = Charge(cost_nusd, tokens, output)
        name = reservation.lease_name if reservation.is_held else lease.late_idempotency_key
        told = UnjournaledCharge(name, team_id, cost_nusd, tokens, is_expired=False, output=output)
        self._journal.record_settlement(
            SettlementRecord(
                lease=lease,
                model=model,
                held_nusd=reservation.nusd,
                held_tokens=reservation.tokens,
                charged_nusd=cost_nusd,
                charged_tokens=tokens,
                is_estimated=usage is not None and usage.is_estimated,
                outcome=outcome,
                settled_at_unix_s=self._clock(),
                charged_output_tokens=output,
                acknowledges=told if reservation.limits else None,
            )
        )
        if not reservation.limits:
            return
        self.counters.settled += 1
        owed = PendingSettlement(lease, charge, None if reservation.is_held else reservation.limits)
        if not reservation.is_held or self._is_down():
            self._pending.add(owed)
            return
        try:
            await self._store.settle(team_id, name, cost_nusd, tokens, output)
            self.has_store_failed = False
        except LedgerUnavailable as error:
            self._note_failure(error)
            self._pending.add(owed)
        except BaseException:
            self._pending.add(owed)
            raise

    async def run(self) -> None:
        """Renew the leases of long turns and catch up with the store, until cancelled."""
        tick_s = min(TICK_S, self._settings.lease_s / 4)
        while True:
            await asyncio.sleep(tick_s)
            try:
                await self.maintain()
            except Exception:  # noqa: BLE001 (leases must be tended whatever happens to one)
                _log.exception("budgets: renewing reservations failed and is tried again")

    async def maintain(self) -> None:
        """Do once what `run` does every second."""
        if self._is_down():
            return
        try:
            await self._pending.catch_up()
            await self._running.renew()
            await self._acknowledge()
        except LedgerUnavailable as error:
            self._note_failure(error)

    async def aclose(self, grace_s: float = 5.0) -> None:
        """Tell the store what it was not told yet, within `grace_s`; the journal has it anyway."""
        try:
            async with asyncio.timeout(grace_s):
                await self._pending.catch_up()
        except (LedgerUnavailable, TimeoutError):
            _log.warning("budgets: %d settlements did not reach the store", self.unsettled)

    def conversation(self, request: ChatRequest, caller: Caller) -> str | None:
        """Return the `id` of the conversation's scope; None where the request names none."""
        return self._names.conversation(request, caller)

    async def standing(self, limit: Limit) -> Standing:
        """Read where one limit stands; untouched where the store is down and the mode ``open``.

        Raises:
            DependencyUnavailable: The store is down, and the mode is ``closed``.
        """
        try:
            if not self._is_down():
                return (await self._store.standings([limit]))[0]
        except LedgerUnavailable as error:
            self._note_failure(error)
        if self._settings.when_store_is_down == "closed":
            self.counters.refused_for_outage += 1
            raise cannot_be_checked()
        return Standing(limit, 0, 0, None)

    def _most_within(
        self, limits: Sequence[Limit], need: WorstCase, charged: Charge | None = None
    ) -> int:
        try:
            return most_within(limits, need, charged)
        except BudgetExhausted:
            self._note_refusal("turn")
            raise

    async def _admit(self, lease: Lease, hold: Hold, need: WorstCase) -> Reservation:
        try:
            outcome = await self._hold(lease, hold)
        except LedgerUnavailable as error:
            if self._settings.when_store_is_down == "closed":
                self.counters.refused_for_outage += 1
                raise cannot_be_checked(error.retry_after_s) from error
            self.counters.served_unchecked += 1
            unchecked = Reservation(
                request_id=lease.request_id,
                lease=lease,
                lease_name=hold.request_id,
                limits=hold.limits,
                completion_tokens=need.per_choice(hold.max_completion_tokens),
                output=hold.max_completion_tokens,
            )
            self._running.add(hold.request_id, lease, is_held=False)
            return unchecked
        self.has_store_failed = False
        self._note_unjournaled(outcome.unjournaled)
        if isinstance(outcome, Refused):
            self._note_refusal(outcome.standing.limit.scope.kind)
            raise refused(outcome.standing, outcome.retry_after_s, need)
        self.counters.reserved += 1
        held = Reservation(
            request_id=lease.request_id,
            lease=lease,
            lease_name=hold.request_id,
            limits=hold.limits,
            is_held=True,
            completion_tokens=need.per_choice(outcome.completion_tokens),
            nusd=outcome.nusd,
            tokens=outcome.tokens,
            output=outcome.completion_tokens,
            standings=outcome.standings,
        )
        self._running.add(hold.request_id, lease, is_held=True)
        return held

    async def _hold(self, lease: Lease, hold: Hold) -> Granted | Refused:
        """Ask the store; what it may have held for a request that goes no further is given back."""
        if self._is_down():
            raise LedgerUnavailable("", retry_after_s=RETRY_STORE_S)
        try:
            if not self._shields:
                return await self._store.reserve(hold)
            holding = asyncio.ensure_future(self._store.reserve(hold))
            try:
                return await asyncio.shield(holding)
            except asyncio.CancelledError:
                holding.add_done_callback(partial(self._release_when_held, lease))
                raise
        except LedgerUnavailable as error:
            self._note_failure(error)
            if self._settings.when_store_is_down == "closed":
                self._release(lease, STORE_DOWN)
            raise

    def _release_when_held(
        self, lease: Lease, holding: "asyncio.Future[Granted | Refused]"
    ) -> None:
        """Give back what was held for a caller who left meanwhile."""
        if holding.cancelled() or holding.exception() is not None:
            self._release(lease, CLIENT_LEFT)
            return
        outcome = holding.result()
        self._note_unjournaled(outcome.unjournaled)
        if isinstance(outcome, Granted):
            self._release(lease, CLIENT_LEFT, outcome.nusd, outcome.tokens)

    def _release(self, lease: Lease, outcome: str, nusd: int = 0, tokens: int = 0) -> None:
        record = SettlementRecord(
            lease=lease,
            model=None,
            held_nusd=nusd,
            held_tokens=tokens,
            charged_nusd=0,
            charged_tokens=0,
            is_estimated=False,
            outcome=outcome,
            settled_at_unix_s=self._clock(),
            acknowledges=UnjournaledCharge(
                lease.idempotency_key, lease.team_id, 0, 0, is_expired=False
            ),
        )
        self._pending.add(PendingSettlement(lease, Charge(0, 0), record=record))

    def _note_unjournaled(self, charges: Sequence[UnjournaledCharge]) -> None:
        """Journal charges whose rows are missing: the gateway that gets them writes the rows."""
        for found in charges:
            self.counters.leases_expired += found.is_expired
            self._journal.record_settlement(settlement_from_charge(found, self._clock()))

    async def _acknowledge(self) -> None:
        """Tell the store which charges have their rows, after all pending settlements are made.

        What is lost here is returned again, and its row is found written.
        """
        by_team: dict[str, list[UnjournaledCharge]] = {}
        for charge in self._journal.take_durable():
            by_team.setdefault(charge.team_id, []).append(charge)
        for team_id, kept in by_team.items():
            await self._store.acknowledge(team_id, kept)

    def _is_down(self) -> bool:
        return self._monotonic() < self._down_until_s

    def _note_failure(self, error: LedgerUnavailable) -> None:
        self.counters.store_failures += 1
        self.has_store_failed = True
        if not self._is_down():
            _log.warning("budgets: the store is down: %s", error)
        self._down_until_s = self._monotonic() + RETRY_STORE_S

    def _note_refusal(self, kind: str) -> None:
        self.counters.refused[kind] = self.counters.refused.get(kind, 0) + 1
