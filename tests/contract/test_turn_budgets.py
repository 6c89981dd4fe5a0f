"""A conversation's turn budget on both ledger stores: whatever runs at once, it holds."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from budget.errors import BudgetExhausted
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, Standing
from gateway.budgets.book import BudgetBook
from gateway.budgets.definitions import BudgetDefinitions
from gateway.budgets.metered import MeteredLedger
from gateway.budgets.turn_budgets import TurnAllotment
from gateway.settings.config import BudgetSettings
from gateway.types import Usage
from tests.fakes.budgets import CALLER, MODELS, Journal, asked, count_prompt, migrated
from tests.fakes.clocks import ManualClock
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turn_budgets import Prediction, make_turn_budgets
from tests.fakes.turns import make_turn

BUDGET_TOKENS = 4000
PARALLEL = 32
EMBEDDING = make_turn().query_embedding


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    yield engine
    engine.dispose()


class Conversation:
    """One conversation's turns, as the service takes them: allot, reserve, answer, settle."""

    def __init__(self, store: LedgerStore, engine: Engine, clock: ManualClock) -> None:
        self.book = BudgetBook(BudgetDefinitions(engine), read_timeout_s=PATIENCE_S)
        self.store = store
        self.ledger = MeteredLedger(
            book=self.book,
            store=store,
            journal=Journal(),
            count_prompt=count_prompt,
            settings=BudgetSettings(),
            clock=clock,
        )
        self.budgets = make_turn_budgets(self.ledger, tokens_per_conversation=BUDGET_TOKENS)
        self.used_tokens = 0
        self.refused_by: list[str] = []
        self.most_at_once = 0

    async def allot(self, name: str = "talk") -> TurnAllotment:
        """Allot one turn."""
        allotment = await self.budgets.allot(
            asked(headers={b"x-waypost-conversation-id": name.encode()}), CALLER, Prediction()
        )
        assert allotment is not None
        return allotment

    async def turn(self, number: int, share: float, **body: int) -> None:
        """Take one turn that uses `share` of what it is granted."""
        request = asked(headers={b"x-waypost-conversation-id": b"talk"}, **body)
        made = await self.allot()
        try:
            held = await self.ledger.reserve(f"req_{number}", CALLER, request, MODELS, made.cap)
        except BudgetExhausted as error:
            self.refused_by.append(error.limit_source)
            return
        self.most_at_once = max(self.most_at_once, await self.taken(made.cap.limit))
        await asyncio.sleep(0)
        granted = held.completion_tokens or body["max_tokens"]
        assert granted <= made.cap.tokens
        usage = Usage(10, int(granted * share))
        self.used_tokens += usage.completion_tokens
        await self.ledger.settle(held, usage, 0, model="m")

    async def taken(self, limit: Limit | None) -> int:
        """Sum what is spent and held."""
        standing = await self.standing(limit)
        return standing.spent + standing.held

    async def standing(self, limit: Limit | None) -> Standing:
        """Read where the budget stands."""
        assert limit is not None
        return (await self.store.standings([limit]))[0]


@pytest.fixture
def conversation(store: LedgerStore, engine: Engine, clock: ManualClock) -> Iterator[Conversation]:
    it = Conversation(store, engine, clock)
    yield it
    it.book.close()


async def test_32_parallel_turns_use_up_the_budget_and_never_pass_it(conversation) -> None:
    await asyncio.gather(*(conversation.turn(number, 1.0) for number in range(PARALLEL)))
    assert conversation.used_tokens == BUDGET_TOKENS
    assert conversation.most_at_once <= BUDGET_TOKENS
    assert set(conversation.refused_by) == {"conversation"}


async def test_what_parallel_turns_do_not_use_is_there_for_later_ones(conversation) -> None:
    dice = random.Random(0)
    for number in range(0, 10 * PARALLEL, PARALLEL):
        turns = (conversation.turn(number + i, dice.random()) for i in range(PARALLEL))
        await asyncio.gather(*turns)
        assert conversation.used_tokens <= BUDGET_TOKENS
    standing = await conversation.standing((await conversation.allot()).cap.limit)
    assert (standing.spent, standing.held) == (conversation.used_tokens, 0)
    assert standing.remaining < 16
    assert conversation.most_at_once <= BUDGET_TOKENS


async def test_a_caller_s_own_limit_neither_lifts_an_allotment_nor_fails_by_it(
    conversation,
) -> None:
    await conversation.turn(0, 1.0, max_tokens=3000)
    assert conversation.used_tokens == (await conversation.allot("other")).cap.tokens
    await conversation.turn(1, 1.0, max_tokens=20)
    assert conversation.refused_by == []


async def test_a_lower_budget_of_the_same_conversation_counts_what_was_spent(
    conversation,
) -> None:
    await conversation.turn(0, 1.0)
    limit = (await conversation.allot()).cap.limit
    assert limit is not None
    standing = await conversation.standing(replace(limit, cap=600))
    assert standing.remaining == 600 - conversation.used_tokens


async def test_other_conversations_have_budgets_of_their_own(conversation) -> None:
    await conversation.turn(0, 1.0)
    assert (await conversation.allot("other")).remaining_tokens == BUDGET_TOKENS
