"""Budgets for tests: definitions in a real database, a clock that is told the time."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine

from budget.errors import LedgerUnavailable
from budget.ledger.memory import MemoryStore
from budget.ledger.settlements import SettlementRecord
from budget.ledger.types import Limit, Scope, Standing, UnjournaledCharge
from gateway.access.keys import KeyStore
from gateway.budgets.book import BudgetBook
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.budgets.metered import MeteredLedger
from gateway.budgets.reservation import Reservation
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import BudgetSettings, EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.types import Caller, Capabilities, HostedModel, ModelPrice, Usage
from gateway.wire import ChatRequest, parse_chat_request
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema

NOON_UNIX_S = 1_795_348_800.0  # Sunday 2026-11-22 12:00 UTC


class Clock:
    """Shows the time it was told."""

    def __init__(self, now_s: float = NOON_UNIX_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Journal:
    """Keeps the rows it is given; `taken` of them are acknowledged."""

    rows: list[SettlementRecord] = field(default_factory=list)
    taken: int = 0

    def record_settlement(self, settlement: SettlementRecord) -> None:
        """Keep `settlement`."""
        self.rows.append(settlement)

    def take_durable(self) -> list[UnjournaledCharge]:
        """Take what rows acknowledge since the last call."""
        fresh, self.taken = self.rows[self.taken :], len(self.rows)
        return [row.acknowledges for row in fresh if row.acknowledges is not None]


class SwitchedStore(MemoryStore):
    """A real store that can be made unreachable."""

    is_up = True

    def _check(self) -> None:
        if not self.is_up:
            raise LedgerUnavailable("the store is down")

    async def reserve(self, hold):
        self._check()
        return await super().reserve(hold)

    async def settle(self, team_id, request_id, nusd, tokens, output=0):
        self._check()
        return await super().settle(team_id, request_id, nusd, tokens, output)

    async def renew(self, team_id, request_id, lease_s):
        self._check()
        return await super().renew(team_id, request_id, lease_s)


def migrated(url: str) -> Engine:
    """Open a database with the team ``blue``."""
    engine = create_database_engine(url)
    with_schema(engine)
    KeyStore(engine).create_team("blue")
    return engine


def budget(engine: Engine, cap: int, **changes: Any) -> BudgetDefinition:
    """Define a budget, of the team ``blue``'s money in total by default."""
    fields: dict[str, Any] = {
        "team_id": "blue",
        "scope": "team",
        "scope_id": None,
        "measure": "nusd",
        "window": "total",
        "cap": cap,
    }
    return BudgetDefinitions(engine).create(**(fields | changes))


async def write(engine: Engine, directory: Path, *rows: SettlementRecord) -> None:
    """Write journal rows as a gateway does."""
    log = EvaluationLog(engine, EvaluationLogSettings(retention_days=None), directory)
    for row in rows:
        log.record_settlement(row)
    log.start()
    await log.aclose(PATIENCE_S)
    assert log.counters.written == len(rows)


def hosted(name: str = "m", *, input_usd: int = 1, output_usd: int = 2, **changes: Any) -> Any:
    """Make a hosted model, priced in USD per million tokens."""
    price = ModelPrice(input_usd * 10**9, output_usd * 10**9)
    fields: dict[str, Any] = {"upstream_name": name, "price": price, "capabilities": Capabilities()}
    return HostedModel(name=name, provider="p", **(fields | changes))


def asked(
    *, headers: dict[bytes, bytes] | None = None, content: Any = "Hello", **body: Any
) -> ChatRequest:
    """Parse a chat request."""
    sent = {"model": "m", "messages": [{"role": "user", "content": content}]} | body
    return parse_chat_request(orjson.dumps(sent), headers or {})


CALLER = Caller("k1", "blue")
MODELS = (hosted(),)
PROMPT_TOKENS = 100


async def bound_prompt(body, models, team_id) -> int:
    return PROMPT_TOKENS


class Bench:
    """A metered ledger with everything around it in reach."""

    def __init__(self, engine: Engine, **changes) -> None:
        self.engine = engine
        self.clock = Clock()
        self.monotonic = Clock(0.0)
        self.store = SwitchedStore(self.clock)
        self.journal = Journal()
        self.book = BudgetBook(BudgetDefinitions(engine), read_timeout_s=PATIENCE_S)
        self.ledger = MeteredLedger(
            book=self.book,
            store=self.store,
            journal=self.journal,
            bound_prompt=bound_prompt,
            settings=BudgetSettings(**changes),
            clock=self.clock,
            monotonic=self.monotonic,
        )
        self.requests = 0

    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.monotonic.now_s += seconds

    async def cap(self, cap: int, **changes) -> None:
        budget(self.engine, cap, **changes)
        await self.book.refresh()

    async def reserve(self, *, caller=CALLER, headers=None, **body) -> Reservation:
        self.requests += 1
        request = asked(headers=headers, **body)
        return await self.ledger.reserve(f"req_{self.requests}", caller, request, MODELS)

    async def settle(self, held: Reservation, tokens: int = 30, **changes) -> None:
        usage = Usage(tokens - 10, 10)
        await self.ledger.settle(held, usage, 1000, model="m", **changes)

    async def standing(self, kind="team", measure="nusd", window="total", scope_id="") -> Standing:
        limit = Limit(Scope("blue", kind, scope_id), measure, window, 1)
        return (await self.store.standings([limit]))[0]
