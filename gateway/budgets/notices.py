"""Tells an operator's webhook when much of a budget is spent: once in each window, and never late.

Of several gateways the one that writes the row first tells. A notice that is not taken is told
again at the next look, until its window ends.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Engine, and_, delete
from sqlalchemy.exc import SQLAlchemyError

from budget.ledger.types import Standing
from budget.ledger.windows import window_start
from gateway.budgets.definitions import BudgetDefinition
from gateway.budgets.headroom import Headroom
from gateway.budgets.operations import described
from gateway.providers.exchange import HttpFailure
from gateway.providers.http import HttpClient
from gateway.storage.database import insertion_into, summary, writing
from migrations.tables import BUDGET_NOTICES

PERCENTS: Final = (100, 80, 50)
LONG_WINDOWS: Final = frozenset({"day", "week", "month", "total"})
"""In shorter ones a budget is a rate, which is used up and free again before anybody looks."""
TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


class Notice(NamedTuple):
    """What is told once: the columns of `migrations.tables.BUDGET_NOTICES`."""

    budget_id: str
    window_start: int
    cap: int
    percent: int


@dataclass(slots=True)
class Notices:
    """Looks through what `headroom` found last.

    Attributes:
        clock: Unix seconds.
    """

    headroom: Headroom
    engine: Engine
    http: HttpClient
    url: str
    clock: Callable[[], float] = time.time
    _told: dict[str, Notice] = field(default_factory=dict, init=False)

    async def refresh(self) -> None:
        """Tell what is to be told now; where the database is down, later."""
        now = self.clock()
        for definition, standing in self.headroom.told:
            notice = due(definition, standing, now)
            if notice is None or self._told.get(definition.id) == notice:
                continue
            try:
                if await self._tell(notice, body_of(notice, definition, standing, now)):
                    self._told[definition.id] = notice
            except SQLAlchemyError as error:
                _log.warning("budgets: a notice waits for the database: %s", summary(error))
                return

    async def _tell(self, notice: Notice, body: bytes) -> bool:
        """Tell it, if no other gateway has; False where it is still to be told."""
        if not await asyncio.to_thread(self._claim, notice) or await self._send(notice, body):
            return True
        await asyncio.to_thread(self._give_back, notice)
        return False

    async def _send(self, notice: Notice, body: bytes) -> bool:
        """Send it; False where it was not taken. The URL may hold a secret, so no log has it."""
        try:
            response = await self.http.request(
                "POST",
                self.url,
                headers={"content-type": "application/json"},
                body=body,
                connect_timeout_s=TIMEOUT_S,
                timeout_s=TIMEOUT_S,
            )
        except HttpFailure as error:
            said = type(error).__name__
        else:
            response.close()
            if response.status < 300:
                return True
            said = f"status {response.status}"
        told = (notice.budget_id, notice.percent, said)
        _log.warning("budgets: the webhook did not take that %s is at %d %%: %s", *told)
        return False

    def _claim(self, notice: Notice) -> bool:
        """Write that it is told, and forget what was told in earlier windows; False if it was."""
        table = BUDGET_NOTICES
        values = notice._asdict()
        new = insertion_into(table, self.engine.dialect).values(**values).on_conflict_do_nothing()
        is_past = and_(
            table.c.budget_id == notice.budget_id, table.c.window_start < notice.window_start
        )
        with writing(self.engine) as connection:
            claimed = connection.execute(new.returning(table.c.percent)).first() is not None
            if claimed:
                connection.execute(delete(table).where(is_past))
            return claimed

    def _give_back(self, notice: Notice) -> None:
        values = (BUDGET_NOTICES.c[name] == value for name, value in notice._asdict().items())
        with writing(self.engine) as connection:
            connection.execute(delete(BUDGET_NOTICES).where(*values))


def due(definition: BudgetDefinition, standing: Standing, now_unix_s: float) -> Notice | None:
    """Say what a budget's standing gives cause to tell: the highest share that is spent."""
    if definition.window not in LONG_WINDOWS or definition.cap <= 0:
        return None
    for percent in PERCENTS:
        if 100 * standing.spent >= percent * definition.cap:
            start = window_start(definition.window, now_unix_s)
            return Notice(definition.id, start, definition.cap, percent)
    return None


def body_of(
    notice: Notice, definition: BudgetDefinition, standing: Standing, now_unix_s: float
) -> bytes:
    """Write a notice: the budget, where it stands, and when it is spent at the window's rate."""
    return orjson.dumps(
        {
            "event": "budget.spent",
            "id": ":".join(str(part) for part in notice),
            "at": datetime.fromtimestamp(now_unix_s, UTC),
            "percent": notice.percent,
            "budget": described(definition),
            "spent": standing.spent,
            "held": standing.held,
            "remaining": standing.remaining,
            "resets_in_s": standing.resets_in_s,
            "is_spent_at": _forecast(notice, standing, now_unix_s),
        }
    )


def _forecast(notice: Notice, standing: Standing, now_unix_s: float) -> Any:
    """Say when the cap is reached at the mean rate of the window; None where it is not, in it."""
    elapsed_s = now_unix_s - notice.window_start
    if standing.spent <= 0 or standing.resets_in_s is None or elapsed_s <= 0:
        return None
    left_s = max(notice.cap - standing.spent, 0) * elapsed_s / standing.spent
    if left_s > standing.resets_in_s:
        return None
    return datetime.fromtimestamp(now_unix_s + left_s, UTC)
