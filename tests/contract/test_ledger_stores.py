"""One suite for both ledger stores, the Redis one on a real server."""

import pytest

from budget.ledger.amounts import MAX_AMOUNT
from budget.ledger.memory import MemoryStore
from budget.ledger.redis_store import RedisStore
from budget.ledger.types import Scope, Standing
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import granted, refused, stands
from tests.fakes.ledgers import CONVERSATION, hold, limit

Reapable = MemoryStore | RedisStore


async def test_holds_the_worst_case_under_every_limit(store: Reapable) -> None:
    money, tokens = limit("nusd", "day", 10_000), limit("tokens", "minute", 1_000, CONVERSATION)

    answer = await granted(store, "r", money, tokens, nusd=500, tokens=50, price=7_000_000)

    assert (answer.completion_tokens, answer.nusd, answer.tokens) == (100, 1_200, 150)
    assert answer.standings == (
        Standing(money, 0, 1_200, 30.0),
        Standing(tokens, 0, 150, 30.0),
    )
    assert answer.unjournaled == ()


async def test_settles_what_was_used_and_frees_the_rest(store: Reapable) -> None:
    money, tokens = limit("nusd", "day", 10_000), limit("tokens", "total", 1_000, CONVERSATION)
    await granted(store, "r", money, tokens)

    assert await store.settle("acme", "r", 33, 44)

    assert await store.standings([money, tokens]) == (
        Standing(money, 33, 0, 30.0),
        Standing(tokens, 44, 0, None),
    )


async def test_charges_the_truth_where_it_exceeds_the_hold(store: Reapable) -> None:
    money = limit("nusd", "day", 100)
    await granted(store, "r", money)
    await store.settle("acme", "r", 250, 0)
    assert await stands(store, money) == (250, 0)
    answer = await refused(store, "s", money)
    assert answer.standing.remaining == 0


async def test_settles_once(store: Reapable) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "r", money)
    await store.settle("acme", "r", 10, 10)
    assert not await store.settle("acme", "r", 10, 10)
    assert await stands(store, money) == (10, 0)


async def test_charges_nothing_for_a_request_it_does_not_know(store: Reapable) -> None:
    assert not await store.settle("acme", "never-reserved", 10, 10)
    assert not await store.renew("acme", "never-reserved", 60.0)


async def test_reserves_once(store: Reapable) -> None:
    money, rate = limit("nusd", "total", 1_000), limit("requests", "minute", 5)
    first = await granted(store, "r", money, rate)
    assert await granted(store, "r", money, rate) == first
    assert await stands(store, money) == (0, 100)
    assert await stands(store, rate) == (1, 0)


async def test_refuses_to_reserve_what_has_ended(store: Reapable) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "r", money)
    await store.settle("acme", "r", 10, 10)
    with pytest.raises(ValueError, match="has ended"):
        await store.reserve(hold("r", money))


async def test_counts_a_scope_named_twice_once(store: Reapable) -> None:
    high, low = limit("nusd", "total", 1_000), limit("nusd", "total", 70)
    answer = await granted(store, "r", high, low)
    assert answer.completion_tokens == 70
    assert [standing.held for standing in answer.standings] == [70, 70]
    await store.settle("acme", "r", 5, 5)
    assert await stands(store, low) == (5, 0)


async def test_grants_what_the_tightest_limit_affords(store: Reapable) -> None:
    money = limit("nusd", "day", 1_000)
    tokens = limit("tokens", "day", 150)
    answer = await granted(store, "r", money, tokens, nusd=10, tokens=100, price=33_000_000)
    assert answer.completion_tokens == 30  # 990 nano-USD at 33 each; the tokens would admit 50
    assert answer.nusd == 1_000


async def test_rounds_the_price_of_a_completion_up(store: Reapable) -> None:
    answer = await granted(store, "r", limit("nusd", "day", 10), price=1, least=1, most=3)
    assert (answer.completion_tokens, answer.nusd) == (3, 1)


async def test_free_models_are_limited_by_their_prompt_only(store: Reapable) -> None:
    money = limit("nusd", "day", 10)
    assert (await granted(store, "r", money, nusd=10, price=0)).completion_tokens == 100
    answer = await refused(store, "s", money, nusd=1, price=0)
    assert answer.standing.limit == money


async def test_refusal_holds_nothing_anywhere(store: Reapable) -> None:
    plenty, none, rate = (
        limit("nusd", "day", 1_000),
        limit("tokens", "day", 0),
        limit("requests", "minute", 9),
    )
    answer = await refused(store, "r", plenty, rate, none)
    assert answer.standing.limit == none
    assert answer.retry_after_s is None
    assert await store.standings([plenty, none, rate]) == (
        Standing(plenty, 0, 0, 30.0),
        Standing(none, 0, 0, 30.0),
        Standing(rate, 0, 0, 30.0),
    )


async def test_refusal_names_the_limit_that_frees_last(store: Reapable, clock: ManualClock) -> None:
    clock.advance(60.0)  # 2027-01-01T00:00:30Z
    minute, hour = limit("requests", "minute", 1), limit("requests", "hour", 1)
    await granted(store, "r", minute, hour)
    answer = await refused(store, "s", minute, hour)
    assert answer.standing.limit == hour
    assert answer.retry_after_s == 3_570.0


@pytest.mark.parametrize("measure", ["nusd", "concurrent"])
async def test_waits_for_the_first_lease_where_holds_block(store: Reapable, measure: str) -> None:
    of = limit("concurrent", "now", 1) if measure == "concurrent" else limit("nusd", "total", 100)
    await store.reserve(hold("r", of, lease_s=7.0))
    answer = await refused(store, "s", of)
    assert answer.retry_after_s == 7.0
    assert answer.standing.held == of.cap


async def test_waiting_does_not_help_where_a_total_is_spent(store: Reapable) -> None:
    of = limit("nusd", "total", 100)
    await granted(store, "r", of)
    await store.settle("acme", "r", 100, 100)
    assert (await refused(store, "s", of)).retry_after_s is None


async def test_holds_and_charges_output_apart_from_the_prompt(store: Reapable) -> None:
    output = limit("output", "total", 50, CONVERSATION)
    await granted(store, "r", output, tokens=1000, least=1, most=40)
    assert await stands(store, output) == (0, 40)
    await store.settle("acme", "r", 100, 1012, 12)
    assert await stands(store, output) == (12, 0)


async def test_grants_no_more_output_than_is_left(store: Reapable) -> None:
    output = limit("output", "total", 50, CONVERSATION)
    await granted(store, "first", output, least=1, most=30)
    second = await granted(store, "second", output, least=1, most=30)
    assert second.completion_tokens == 20
    answer = await refused(store, "third", output, least=1, most=30)
    assert answer.standing.limit == output


async def test_requests_are_not_given_back(store: Reapable) -> None:
    rate = limit("requests", "minute", 1)
    await granted(store, "r", rate)
    await store.settle("acme", "r", 0, 0)
    assert (await refused(store, "s", rate)).retry_after_s == 30.0


async def test_counts_open_leases(store: Reapable) -> None:
    slots = limit("concurrent", "now", 2)
    await granted(store, "a", slots)
    await granted(store, "b", slots)
    await refused(store, "c", slots)
    await store.settle("acme", "a", 0, 0)
    await granted(store, "d", slots)
    assert await stands(store, slots) == (0, 2)


async def test_a_new_window_begins_with_nothing_spent(store: Reapable, clock: ManualClock) -> None:
    limits = [
        limit("requests", "minute", 1),
        limit("requests", "hour", 1),
        limit("requests", "day", 1),
        limit("requests", "month", 1),
    ]
    await granted(store, "r", *limits)
    clock.advance(30.0)
    await granted(store, "s", *limits)
    assert [standing.spent for standing in await store.standings(limits)] == [1, 1, 1, 1]


async def test_settles_into_the_window_it_was_held_in(store: Reapable, clock: ManualClock) -> None:
    minute, week = limit("nusd", "minute", 1_000), limit("nusd", "week", 1_000)
    await granted(store, "old", minute, week)
    clock.advance(45.0)
    await granted(store, "new", minute, week)

    await store.settle("acme", "old", 7, 7)

    assert await stands(store, minute) == (0, 100)
    assert await stands(store, week) == (7, 100)


async def test_a_clock_set_back_does_not_reopen_a_window(
    store: Reapable, clock: ManualClock
) -> None:
    clock.advance(60.0)
    rate = limit("requests", "minute", 1)
    await granted(store, "r", rate)
    clock.advance(-60.0)
    await refused(store, "s", rate)


LONGEST_DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1, "week": 7, "month": 31}


@pytest.mark.parametrize("window", LONGEST_DAYS)
async def test_who_is_refused_after_the_clock_came_back_waits_for_this_window_alone(
    store: Reapable, clock: ManualClock, window
) -> None:
    rate = limit("requests", window, 1)
    clock.advance(100 * 86_400.0)
    await granted(store, "ahead", rate)
    answer = await refused(store, "ahead too", rate)
    clock.advance(-100 * 86_400.0)
    await granted(store, "now", rate)
    again = await refused(store, "again", rate)
    for retry_after_s in (answer.retry_after_s, again.retry_after_s):
        assert retry_after_s is not None
        assert 0 < retry_after_s <= LONGEST_DAYS[window] * 86_400.0


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month"])
async def test_what_was_counted_while_the_clock_was_far_ahead_is_no_debt(
    store: Reapable, clock: ManualClock, window
) -> None:
    clock.advance(100 * 86_400.0)
    rate = limit("requests", window, 1)
    await granted(store, "ahead", rate)
    clock.advance(-100 * 86_400.0)
    await granted(store, "now", rate)
    await store.settle("acme", "ahead", 7, 7)
    assert await stands(store, rate) == (1, 0)
    await refused(store, "again", rate)


async def test_overwriting_sets_what_was_spent_and_keeps_what_is_held(store: Reapable) -> None:
    money, slots = limit("nusd", "day", 1_000), limit("concurrent", "now", 1)
    await granted(store, "r", money, slots)
    await store.overwrite(money, 800)
    await store.overwrite(slots, 800)
    assert await stands(store, money) == (800, 100)
    assert await stands(store, slots) == (0, 1)
    await store.settle("acme", "r", 10, 10)
    assert await stands(store, money) == (810, 0)


async def test_a_correction_after_a_reset_never_goes_below_zero(
    store: Reapable, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "late", money)
    clock.advance(61.0)
    assert await stands(store, money) == (100, 0)
    await store.overwrite(money, 0)
    await store.settle("acme", "late", 30, 30)
    assert await stands(store, money) == (0, 0)


async def test_a_lowered_cap_binds_at_once(store: Reapable) -> None:
    await granted(store, "r", limit("nusd", "day", 1_000))
    answer = await refused(store, "s", limit("nusd", "day", 50))
    assert (answer.standing.held, answer.standing.remaining) == (100, 0)


async def test_scopes_of_two_teams_are_two_scopes(store: Reapable) -> None:
    ours = limit("nusd", "total", 100)
    theirs = limit("nusd", "total", 100, Scope("ac}me", "key", "key-1"))
    await granted(store, "r", ours)
    await granted(store, "r", theirs)
    await store.settle("ac}me", "r", 5, 5)
    assert await stands(store, ours) == (0, 100)
    assert await stands(store, theirs) == (5, 0)


async def test_counts_exactly_up_to_the_largest_cap(store: Reapable) -> None:
    money = limit("nusd", "total", MAX_AMOUNT)
    await store.overwrite(money, MAX_AMOUNT - 123)
    answer = await granted(store, "r", money, nusd=100, most=10**12)
    assert (answer.completion_tokens, answer.standings[0].remaining) == (23, 0)
    await store.settle("acme", "r", 101, 0)
    assert await stands(store, money) == (MAX_AMOUNT - 22, 0)


async def test_refuses_what_it_cannot_count(store: Reapable) -> None:
    with pytest.raises(ValueError, match="at least one"):
        await store.reserve(hold("r"))
    with pytest.raises(ValueError, match="a cap is at most"):
        await store.reserve(hold("r", limit("nusd", "total", MAX_AMOUNT + 1)))
    elsewhere = limit("nusd", "day", 1, Scope("other", "team"))
    with pytest.raises(ValueError, match="one team"):
        await store.reserve(hold("r", limit("nusd", "day", 1), elsewhere))


async def test_no_limits_have_no_standings(store: Reapable) -> None:
    assert await store.standings([]) == ()
