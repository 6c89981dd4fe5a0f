"""Which limits bind a request: read from memory, kept up to date in the background.

What the book knows is never older than `poll_s` plus one query, in every replica, so changes count
within two seconds. Without a database the last known definitions stay in force; that is counted.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from budget.ledger.settlements import limit_codes
from budget.ledger.types import Limit, Measure, Scope, ScopeKind, Window
from gateway.budgets.definitions import SCOPE_KINDS, BudgetDefinition, BudgetDefinitions, Change
from gateway.storage.database import summary

POLL_S = 1.0
READ_TIMEOUT_S = 5.0
PAGE = 1000
"""Definitions applied at a time, so that an import of many never holds up the event loop."""
MAX_KNOWN_CALLERS = 10_000

Caps = dict[tuple[Measure, Window], int]
NO_CAPS: Mapping[tuple[Measure, Window], int] = MappingProxyType({})

logger = logging.getLogger(__name__)


class BudgetRules:
    """All definitions, laid out for looking up a scope's limits."""

    def __init__(self, definitions: Iterable[BudgetDefinition] = ()) -> None:
        self._exact: dict[Scope, Caps] = {}
        self._of_team: dict[tuple[str, ScopeKind], Caps] = {}
        self._of_all: dict[ScopeKind, Caps] = {}
        self._sizes: Counter[tuple[str | None, ScopeKind]] = Counter()
        for definition in definitions:
            self.put(definition)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is capped anywhere."""
        return not self._sizes.total()

    def put(self, definition: BudgetDefinition) -> None:
        """Add a definition, or change its cap."""
        table, owner = self._place(definition)
        caps = table.setdefault(owner, {})
        if (definition.measure, definition.window) not in caps:
            self._sizes[definition.team_id, definition.scope] += 1
        caps[definition.measure, definition.window] = definition.cap

    def drop(self, definition: BudgetDefinition) -> None:
        """Take a definition out, if it is in."""
        table, owner = self._place(definition)
        caps = table.get(owner, {})
        if caps.pop((definition.measure, definition.window), None) is not None:
            self._sizes[definition.team_id, definition.scope] -= 1
        if not caps:
            table.pop(owner, None)

    def kinds(self, team_id: str) -> frozenset[ScopeKind]:
        """Return the kinds of scope of which anything is limited in the team."""
        sizes = self._sizes
        return frozenset(
            kind for kind in SCOPE_KINDS if sizes[team_id, kind] > 0 or sizes[None, kind] > 0
        )

    def limits(self, scope: Scope) -> tuple[Limit, ...]:
        """Return what caps `scope`, the narrowest definition of each measure and window."""
        caps: Mapping[tuple[Measure, Window], int] = {
            **self._of_all.get(scope.kind, NO_CAPS),
            **self._of_team.get((scope.team_id, scope.kind), NO_CAPS),
            **self._exact.get(scope, NO_CAPS),
        }
        return tuple(Limit(scope, measure, window, cap) for (measure, window), cap in caps.items())

    def _place(self, definition: BudgetDefinition) -> tuple[dict[Any, Caps], Any]:
        """Return the table a definition belongs in, and where in it."""
        scope = definition.counted_scope()
        if scope is not None:
            return self._exact, scope
        if definition.team_id is not None:
            return self._of_team, (definition.team_id, definition.scope)
        return self._of_all, definition.scope


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What limits one caller's requests; `codes` names them as the journal does."""

    limits: tuple[Limit, ...]
    codes: str


class BudgetBook:
    """Answers from memory which limits apply; for one event loop.

    Args:
        fixed: Budgets that settings define, not the database.

    Attributes:
        failed_reads: Times the database could not be asked; the last known definitions held.
        is_stale: Whether the last read failed.
    """

    def __init__(
        self,
        definitions: BudgetDefinitions,
        *,
        poll_s: float = POLL_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        fixed: Iterable[BudgetDefinition] = (),
    ) -> None:
        self.failed_reads = 0
        self.is_stale = False
        self._definitions = definitions
        self._poll_s = poll_s
        self._read_timeout_s = read_timeout_s
        self._rules = BudgetRules(fixed)
        self._revision = 0
        self._limits: dict[tuple[str, str, str | None, str | None], CallerLimits] = {}
        self._turn_limits: dict[str, tuple[Limit, ...]] = {}
        self._kinds: dict[str, frozenset[ScopeKind]] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="budgets")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is capped anywhere."""
        return self._rules.is_empty

    @property
    def revision(self) -> int:
        """The newest change that counts."""
        return self._revision

    def limits(
        self, team_id: str, key_id: str, user: str | None, conversation: str | None
    ) -> CallerLimits:
        """Return every limit that counters must uphold; none for whoever has no budget.

        Args:
            user: Digest of the end user; None where the request names none.
            conversation: Digest of the conversation; None where it is not known.
        """
        caller = (team_id, key_id, user, conversation)
        known = self._limits.get(caller)
        if known is None:
            if len(self._limits) >= MAX_KNOWN_CALLERS:
                self._limits.clear()
            limits = self._look_up(*caller)
            self._limits[caller] = known = CallerLimits(limits, limit_codes(limits))
        return known

    def limited_kinds(self, team_id: str) -> frozenset[ScopeKind]:
        """Return the kinds of scope of which anything is limited in the team."""
        known = self._kinds.get(team_id)
        if known is None:
            self._kinds[team_id] = known = self._rules.kinds(team_id)
        return known

    def turn_limits(self, team_id: str) -> tuple[Limit, ...]:
        """Return what caps a single request of the team; no counter is needed for these."""
        known = self._turn_limits.get(team_id)
        if known is None:
            self._turn_limits[team_id] = known = self._rules.limits(Scope(team_id, "turn"))
        return known

    async def refresh(self) -> bool:
        """Read what changed; False where the database could not be asked."""
        try:
            while True:
                async with asyncio.timeout(self._read_timeout_s):
                    changes = await asyncio.get_running_loop().run_in_executor(
                        self._threads, self._definitions.changes, self._revision, PAGE
                    )
                self._apply(changes)
                if len(changes) < PAGE:
                    break
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self.failed_reads += 1
            if not self.is_stale:
                logger.warning(
                    "budget definitions cannot be read, the last known ones stay in force: %s",
                    summary(error),
                )
            self.is_stale = True
            return False
        self.is_stale = False
        return True

    async def watch(self) -> None:
        """Keep up to date until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()

    def close(self) -> None:
        """Let go of the thread; a read that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(
        self, team_id: str, key_id: str, user: str | None, conversation: str | None
    ) -> tuple[Limit, ...]:
        rules = self._rules
        if rules.is_empty:
            return ()
        limits = rules.limits(Scope(team_id, "team")) + rules.limits(Scope(team_id, "key", key_id))
        if user is not None:
            limits += rules.limits(Scope(team_id, "user", user))
        if conversation is not None:
            limits += rules.limits(Scope(team_id, "conversation", conversation))
        return limits

    def _apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.is_deleted:
                self._rules.drop(change.definition)
            else:
                self._rules.put(change.definition)
            self._revision = change.revision
        if changes:
            self._limits.clear()
            self._turn_limits.clear()
            self._kinds.clear()
