from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.artifacts.store import ArtifactStore
from gateway.routing.caches import PromptCaches
from gateway.routing.routing import Routing
from gateway.types import HostedModel, ModelPrice, Usage
from router_models.decide import Exploration
from router_models.types import COMPLETION_MTOK
from tests.fakes.artifacts import router_artifact
from tests.fakes.clocks import ManualClock
from tests.fakes.routing import CALLER, planned, request
from tests.fakes.turn_budgets import make_turn_budgets

CHEAP = ModelPrice(1_000_000_000, 2_000_000_000)
DEAR = ModelPrice(10_000_000_000, 30_000_000_000)


async def of_tokens(routing: Any, store: ArtifactStore, small: ModelPrice = CHEAP) -> Routing:
    """Routing by a router that predicts tokens, over two models."""
    data = router_artifact(unit=COMPLETION_MTOK)
    store.activate(store.put(data).version)
    pool = (HostedModel("small", "p", "s", small), HostedModel("large", "p", "l", DEAR))
    return cast("Routing", await routing(*pool, with_router=False))


async def test_predicted_tokens_cost_what_the_model_charges_for_them(routing, store) -> None:
    asked = request()
    plan = await planned(await of_tokens(routing, store), asked)
    assert plan.prompt_tokens == asked.prompt_tokens
    for candidate, price in zip(plan.candidates, (CHEAP, DEAR), strict=True):
        assert candidate.completion_tokens is not None
        usage = Usage(plan.prompt_tokens, round(candidate.completion_tokens))
        assert candidate.cost_usd == pytest.approx(price.cost_nusd(usage) / 1e9, rel=1e-3)


async def test_a_price_change_needs_no_other_router(routing, store) -> None:
    before, after = [
        (await planned(await of_tokens(routing, store, price), request())).candidates
        for price in (CHEAP, ModelPrice(2_000_000_000, 4_000_000_000))
    ]
    assert before[0].completion_tokens == after[0].completion_tokens
    assert after[0].cost_usd == pytest.approx(2 * (before[0].cost_usd or 0))
    assert after[1].cost_usd == before[1].cost_usd


async def test_a_long_prompt_is_expected_to_cost_what_it_costs(routing, store) -> None:
    text = "Say it in other words. " * 5_000
    asked = request(messages=[{"role": "user", "content": text}])
    plan = await planned(await of_tokens(routing, store), asked)
    assert (plan.candidates[1].cost_usd or 0) > 10e-6 * len(text) / 5


async def test_no_answer_is_expected_to_be_longer_than_it_may_be(routing, store) -> None:
    it = await of_tokens(routing, store)
    free = await planned(it, request())
    assert min(c.completion_tokens or 0 for c in free.candidates) > 100
    by_caller = await planned(it, request(max_tokens=100))
    by_budget = await planned(
        it,
        request(waypost={"turn_budget": 1000}),
        budgets=make_turn_budgets(choices=[100], expected_turns=1),
    )
    assert by_budget.allotment is not None
    for plan, limit in ((by_caller, 100), (by_budget, by_budget.allotment.cap.tokens)):
        assert [c.completion_tokens for c in plan.candidates] == [limit, limit]
        assert all(
            (c.cost_usd or 0) < (f.cost_usd or 0)
            for c, f in zip(plan.candidates, free.candidates, strict=True)
        )


async def test_a_router_that_predicts_usd_is_believed_as_before(routing) -> None:
    plan = await planned(await routing(), request(max_tokens=1))
    assert [c.completion_tokens for c in plan.candidates] == [None, None]
    assert all(c.cost_usd for c in plan.candidates)


CACHED = replace(DEAR, cached_input_nusd_per_mtok=1_000_000_000)
QUESTION = {"role": "user", "content": "Say it in other words. " * 5_000}
NEXT = [QUESTION, {"role": "assistant", "content": "It."}, {"role": "user", "content": "Again."}]


async def warm(routing: Any, store: ArtifactStore, **changes: Any) -> Routing:
    """Routing over two models that cost the same, the second of which has read `QUESTION`."""
    data = router_artifact(unit=COMPLETION_MTOK)
    store.activate(store.put(data).version)
    pool = [HostedModel(name, "p", name, CACHED) for name in ("small", "large")]
    caches = PromptCaches(ManualClock(0.0))
    first = request(messages=[QUESTION])
    caches.remember(first, CALLER.team_id, None, pool[1], Usage(first.prompt_tokens, 1), 0.0)
    made = await routing(*pool, with_router=False, caches=caches, **changes)
    return cast("Routing", made)


async def test_a_warm_cache_counts_under_a_turn_budget_too(routing, store) -> None:
    asked = request(messages=NEXT, waypost={"turn_budget": 1000})
    budgets = make_turn_budgets(choices=[100], expected_turns=1)
    small, large = (await planned(await warm(routing, store), asked, budgets=budgets)).candidates
    assert small.cost_usd == pytest.approx(10e-6 * asked.prompt_tokens, rel=0.1)
    assert large.cost_usd == pytest.approx(1e-6 * asked.prompt_tokens, rel=0.25)
    assert (large.utility or 0) > (small.utility or 0)


async def test_a_model_whose_cache_is_cold_is_explored_less(routing, store) -> None:
    asked = request(messages=NEXT, waypost={"willingness_to_pay": 0.2})
    it = await warm(routing, store, exploration=Exploration("thompson"))
    known, unknown = [await planned(each, asked) for each in (it, replace(it, caches=None))]
    assert 0.0 < known.candidates[0].propensity < unknown.candidates[0].propensity
    drawn = Counter([(await planned(it, asked)).models[0].name for _ in range(200)])
    assert drawn["small"] / 200 == pytest.approx(known.candidates[0].propensity, abs=0.15)


async def test_what_exploration_loses_counts_the_cache_that_it_leaves(routing, store) -> None:
    asked = request(messages=NEXT, waypost={"willingness_to_pay": 0.2})
    it = await warm(routing, store, exploration=Exploration("epsilon", 1.0))
    plans = [await planned(it, asked) for _ in range(20)]
    left = next(plan for plan in plans if plan.models[0].name == "small")
    small, large = left.candidates
    lost_usd = (small.cost_usd or 0) - (large.cost_usd or 0)
    later_usd = (large.saved_later_usd or 0) - (small.saved_later_usd or 0)
    worth_usd = 0.2 * ((large.quality or 0) - (small.quality or 0))
    assert left.regret_usd == pytest.approx(worth_usd + lost_usd + later_usd)
    assert lost_usd > 0.1


async def test_a_router_that_predicts_usd_counts_no_cache(routing, store) -> None:
    pool = [HostedModel(name, "p", name, CACHED) for name in ("small", "large")]
    caches = PromptCaches(ManualClock(0.0))
    first = request(messages=[QUESTION])
    caches.remember(first, CALLER.team_id, None, pool[1], Usage(first.prompt_tokens, 1), 0.0)
    asked = request(messages=NEXT)
    plans = [await planned(await routing(*pool, caches=known), asked) for known in (caches, None)]
    assert plans[0].candidates[1].cost_usd == plans[1].candidates[1].cost_usd
    assert plans[0].candidates[1].utility == plans[1].candidates[1].utility
    assert plans[0].candidates[1].cached_tokens is None
