import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.errors import BudgetExhausted
from budget.ledger.types import Limit, Scope
from gateway.budgets.book import BudgetBook, BudgetRules
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.budgets.metered import MeteredLedger
from gateway.budgets.reservation import Reservation
from gateway.errors import InvalidRequest, RateLimited
from gateway.settings.config import BudgetSettings
from gateway.types import Caller, Usage
from tests.fakes.budgets import (
    CALLER,
    MODELS,
    Bench,
    Clock,
    Journal,
    SwitchedStore,
    asked,
    bound_prompt,
)


@pytest.fixture
def bench(engine):
    bench = Bench(engine)
    yield bench
    bench.book.close()


async def test_a_caller_without_budgets_is_not_metered(bench):
    held = await bench.reserve(max_tokens="whatever")
    await bench.settle(held)

    assert held == Reservation("req_1")
    assert bench.journal.rows == []


async def test_the_worst_case_is_held_and_replaced_by_what_was_used(bench):
    await bench.cap(10_000_000)

    held = await bench.reserve(max_tokens=50)
    before = await bench.standing()
    await bench.settle(held)
    after = await bench.standing()

    assert (held.nusd, held.tokens, held.completion_tokens) == (200_000, 150, None)
    assert (before.spent, before.held) == (0, 200_000)
    assert (after.spent, after.held) == (1000, 0)
    assert bench.ledger.running == 0
    (row,) = bench.journal.rows
    assert (row.lease.request_id, row.model, row.outcome) == ("req_1", "m", "answered")
    assert (row.held_nusd, row.charged_nusd, row.charged_tokens) == (200_000, 1000, 30)
    assert row.lease.limits == " tna "


async def test_settling_twice_charges_once(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve()

    for _ in range(2):
        await bench.settle(held)

    assert (await bench.standing()).spent == 1000
    assert len(bench.journal.rows) == 1


async def test_what_was_never_answered_costs_nothing(bench):
    await bench.cap(10_000_000)

    await bench.ledger.settle(await bench.reserve(), None, 0, outcome="ProviderTimeout")

    standing = await bench.standing()
    assert (standing.spent, standing.held) == (0, 0)
    assert bench.journal.rows[0].outcome == "ProviderTimeout"


async def test_estimated_usage_is_marked(bench):
    await bench.cap(10_000_000)
    usage = Usage(1, 1, is_estimated=True)

    await bench.ledger.settle(await bench.reserve(), usage, 5)

    assert bench.journal.rows[0].is_estimated


async def test_without_a_limit_of_the_caller_the_rest_of_the_budget_sets_one(bench):
    await bench.cap(100_000 + 2000 * 40)

    held = await bench.reserve()

    assert held.completion_tokens == 40
    assert held.standings[0].remaining == 0


async def test_several_choices_share_what_is_granted(bench):
    await bench.cap(100_000 + 2000 * 100)

    assert (await bench.reserve(n=3)).completion_tokens == 33


async def test_a_budget_without_room_refuses_and_names_its_scope(bench):
    await bench.cap(10_000_000)
    await bench.cap(110_000, scope="conversation")

    with pytest.raises(BudgetExhausted) as refused:
        await bench.reserve(conversation="talk")

    assert refused.value.limit_source == "conversation"
    assert bench.ledger.counters.refused == {"conversation": 1}
    assert (await bench.standing()).held == 0


async def test_a_rate_limit_refuses_with_a_time_to_wait(bench):
    await bench.cap(1, scope="key", measure="requests", window="minute")
    await bench.settle(await bench.reserve())

    with pytest.raises(RateLimited) as refused:
        await bench.reserve()

    assert refused.value.limit_source == "key"
    assert refused.value.retry_after_s == pytest.approx(60)


async def test_who_is_in_the_way_of_requests_that_run_is_told_to_try_again_soon(bench):
    await bench.cap(1, scope="key", measure="concurrent", window="now")
    await bench.cap(405_000)
    held = await bench.reserve(caller=Caller("k2", "blue"), max_tokens=100)

    with pytest.raises(BudgetExhausted) as exhausted:
        await bench.reserve(max_tokens=100)
    with pytest.raises(RateLimited) as limited:
        await bench.reserve(caller=Caller("k2", "blue"), max_tokens=1)

    assert (exhausted.value.retry_after_s, limited.value.retry_after_s) == (1.0, 1.0)
    await bench.settle(held)
    with pytest.raises(BudgetExhausted) as exhausted:
        await bench.reserve(max_tokens=1000)
    assert exhausted.value.retry_after_s is None


async def test_a_single_request_may_be_capped_without_any_counter(bench):
    await bench.cap(140, scope="turn", measure="tokens")

    held = await bench.reserve()
    assert (held.completion_tokens, held.lease) == (40, None)
    with pytest.raises(BudgetExhausted, match="per request") as refused:
        await bench.reserve(max_tokens=41)
    assert refused.value.limit_source == "turn"
    await bench.settle(held)
    assert bench.journal.rows == []


async def test_the_cap_of_a_single_request_holds_beside_the_others(bench):
    await bench.cap(100_000 + 2000 * 20, scope="turn")
    await bench.cap(10_000_000)

    assert (await bench.reserve()).completion_tokens == 20


async def test_users_and_conversations_have_budgets_of_their_own(bench):
    await bench.cap(110_000 + 2000 * 30, scope="user")
    await bench.cap(10_000_000, scope="conversation")
    header = {b"x-waypost-conversation-id": b"talk"}

    held = await bench.reserve(user="alice", headers=header, max_tokens=30)
    with pytest.raises(BudgetExhausted):
        await bench.reserve(user="alice", max_tokens=30)
    await bench.reserve(user="bob", max_tokens=30)
    await bench.reserve(max_tokens=30)

    assert held.lease.user_digest is not None
    assert held.lease.conversation_digest is not None
    assert held.lease.user_digest != "alice"


async def test_an_answer_leads_its_successor_into_the_same_conversation(bench):
    await bench.cap(10_000_000, scope="conversation")
    first = await bench.reserve(prompt_cache_key="talk")
    await bench.settle(first, answer_id="chatcmpl-1")

    second = await bench.reserve(previous_response_id="chatcmpl-1")

    assert second.lease.conversation_digest == first.lease.conversation_digest


async def test_an_unreadable_limit_is_refused_where_money_depends_on_it(bench):
    await bench.cap(10_000_000)

    with pytest.raises(InvalidRequest):
        await bench.reserve(max_tokens="100")


class FixedBook(BudgetBook):
    """Knows what it was told, without a database."""

    def __init__(self, *definitions: BudgetDefinition) -> None:
        super().__init__(BudgetDefinitions(None))  # type: ignore[arg-type]
        self._rules = BudgetRules(definitions)
        self.close()


calls = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "wait"]),
        st.integers(0, 5),
        st.integers(1, 60),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(calls, st.integers(0, 2_000_000))
def test_what_is_spent_and_held_never_passes_the_cap(steps, cap):
    asyncio.run(play(steps, cap))


async def play(steps, cap: int) -> None:
    clock = Clock()
    moment = datetime(2027, 1, 1, tzinfo=UTC)
    book = FixedBook(
        BudgetDefinition("b", "blue", "team", None, "nusd", "total", cap, moment, moment)
    )
    store, journal = SwitchedStore(clock), Journal()
    ledger = MeteredLedger(
        book=book,
        store=store,
        journal=journal,
        bound_prompt=bound_prompt,
        settings=BudgetSettings(),
        clock=clock,
        monotonic=clock,
    )
    limit = Limit(Scope("blue", "team"), "nusd", "total", cap)
    running: list[Reservation] = []
    for number, (step, which, amount) in enumerate(steps):
        if step == "reserve":
            try:
                request = asked(max_tokens=amount)
                running.append(await ledger.reserve(f"r{number}", CALLER, request, MODELS))
            except BudgetExhausted:
                pass
        elif step == "settle" and which < len(running):
            held = running[which]
            cost = held.nusd * amount // 60
            await ledger.settle(held, Usage(1, amount), cost)
        elif step == "wait":
            clock.now_s += amount
            await ledger.maintain()
        (standing,) = await store.standings([limit])
        assert standing.spent + standing.held <= cap
    for held in running:
        await ledger.settle(held, Usage(1, 1), 1)
    (standing,) = await store.standings([limit])
    assert standing.held == 0
    settled = {}
    for row in journal.rows:
        if row.lease.request_id not in settled or row.outcome != "expired":
            settled[row.lease.request_id] = row.charged_nusd
    assert standing.spent == sum(settled.values())
