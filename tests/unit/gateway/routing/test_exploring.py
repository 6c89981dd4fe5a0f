from collections import Counter
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.exploring import (
    DAY_S,
    MOST_SHARE,
    OFF,
    Exploring,
    RegretBudget,
    always,
    exploring,
)
from gateway.settings.routing import ExplorationSettings
from gateway.types import Caller
from router_models.decide import Exploration, decide
from tests.fakes.priors import day_one
from tests.fakes.routing import hosted, planned, request
from tests.fakes.turn_budgets import make_turn_budgets

BY_DOUBT = Exploration("uncertainty")
MODELS = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


waits = st.floats(0.0, DAY_S / 4)
losses = st.floats(0.0, 3.0)


@given(st.lists(st.tuples(waits, losses), max_size=60), st.floats(0.0, 2.0))
def test_no_day_loses_more_than_the_cap_whatever_the_traffic(turns, cap) -> None:
    clock = Clock()
    budget = RegretBudget(cap, clock)
    spent: list[tuple[float, float]] = []
    for wait_s, loss in turns:
        clock.now_s += wait_s
        if loss <= budget.left_usd():
            budget.spend(loss)
            spent.append((clock.now_s, loss))
    for since_s, _ in spent:
        window = [usd for at_s, usd in spent if since_s <= at_s <= since_s + DAY_S]
        assert sum(window) <= cap * (1 + 1e-9)


def test_a_gateway_that_starts_again_and_again_spends_no_more() -> None:
    clock = Clock()
    for _ in range(100):
        assert RegretBudget(1.0, clock).left_usd() == 0.0


def test_auto_explores_under_a_cap_once_answers_are_graded() -> None:
    clock, graded = Clock(), list[bool]()
    it = exploring(ExplorationSettings(), lambda: bool(graded), clock)
    clock.now_s = DAY_S
    assert it.now() == (OFF, inf)
    graded.append(True)
    assert it.budget is not None
    it.budget.earn(100.0)
    how, most_usd = it.now()
    assert how.kind == "uncertainty"
    assert 0.0 < most_usd < 1.0


def test_auto_loses_no_more_than_a_share_of_what_the_answers_are_worth() -> None:
    clock = Clock()
    it = exploring(ExplorationSettings(), always, clock)
    budget = it.budget
    assert budget is not None
    clock.now_s = DAY_S
    assert budget.left_usd() == 0.0
    for _ in range(10):
        budget.earn(0.01)
    assert budget.left_usd() == pytest.approx(MOST_SHARE * 0.1)
    budget.spend(0.001)
    assert budget.left_usd() == pytest.approx(MOST_SHARE * 0.1 - 0.001)


def test_a_cap_that_an_operator_sets_is_the_only_one() -> None:
    clock = Clock()
    it = exploring(ExplorationSettings(max_regret_usd_per_day=1.0), always, clock)
    clock.now_s = DAY_S
    assert it.now()[1] == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["epsilon", "thompson", "uncertainty"])
def test_what_an_operator_asks_for_waits_for_no_grade_and_has_no_cap(kind) -> None:
    it = exploring(ExplorationSettings(kind=kind), lambda: False, Clock())
    assert it.now() == (Exploration(kind), inf)


def _traffic(budget: RegretBudget, clock: Clock, turns: int) -> tuple[Counter[str], list[float]]:
    """Three models of which `a` is believed best, `b` is uncertain, and `c` is known well."""
    rng, tried, expected = np.random.default_rng(0), Counter[str](), [0.0, 0.0, 0.0]
    for _ in range(turns):
        clock.now_s += 10.0
        decision = decide(
            MODELS,
            (0.8, 0.7, 0.7),
            (0.0, 0.0, 0.0),
            (True, True, True),
            0.02,
            exploration=BY_DOUBT,
            rng=rng,
            quality_stderr=(0.02, 0.3, 0.05),
            most_regret_usd=budget.left_usd(),
        )
        if decision.regret_usd:
            budget.spend(decision.regret_usd)
        tried[decision.model] += 1
        expected = [a + b for a, b in zip(expected, decision.propensities, strict=True)]
    return tried, expected


def test_the_budget_buys_answers_where_they_tell_most_and_propensities_are_frequencies() -> None:
    clock = Clock()
    budget = RegretBudget(0.5, clock)
    tried, expected = _traffic(budget, clock, 8_000)
    assert budget.spent_usd <= 0.5
    assert budget.spent_usd > 0.3
    assert tried["b"] > 5 * tried["c"] > 0
    for model, sum_of_propensities in zip(MODELS, expected, strict=True):
        deviation = 3.5 * sum_of_propensities**0.5
        assert abs(tried[model] - sum_of_propensities) < deviation
    assert sum(expected) == pytest.approx(8_000)


def test_without_a_budget_left_the_rest_of_the_day_goes_to_the_best() -> None:
    clock = Clock()
    tried, expected = _traffic(RegretBudget(0.0, clock), clock, 50)
    assert tried == {"a": 50}
    assert expected == [50.0, 0.0, 0.0]


async def test_turns_spend_what_dry_runs_only_ask_about(routing) -> None:
    clock = Clock()
    budget = RegretBudget(1.0, clock)
    it = await routing(
        hosted("able"),
        hosted("new"),
        with_router=False,
        prior=day_one(),
        exploration=Exploring(BY_DOUBT, always, budget),
    )
    clock.now_s = DAY_S
    plans = [await planned(it, request()) for _ in range(40)]
    tried = [plan for plan in plans if plan.reason == "explored"]
    assert tried
    assert budget.spent_usd == 0.0
    before_usd = budget.left_usd()
    for plan in plans:
        it.follow(plan)
    assert budget.spent_usd == pytest.approx(sum(plan.regret_usd for plan in plans))
    assert budget.left_usd() == pytest.approx(before_usd - budget.spent_usd)


async def test_a_key_s_models_alone_are_tried_and_their_propensities_sum_to_one(routing) -> None:
    it = await routing(
        hosted("able"),
        hosted("new"),
        hosted("weak"),
        with_router=False,
        prior=day_one(),
        exploration=BY_DOUBT,
    )
    plans = [
        await planned(it, request(), Caller("k", "t", allowed_models=frozenset({"able", "new"})))
        for _ in range(60)
    ]
    assert {c.model for plan in plans for c in plan.candidates} == {"able", "new"}
    assert all(sum(c.propensity for c in plan.candidates) == pytest.approx(1) for plan in plans)
    share = plans[0].candidates[1].propensity
    tried = sum(plan.models[0].name == "new" for plan in plans)
    assert abs(tried - 60 * share) < 3.5 * (60 * share) ** 0.5
    assert {plan.propensity for plan in plans if plan.models[0].name == "new"} == {share}


async def test_propensities_are_exact_with_an_allotment_and_models_the_prior_fills_in(
    routing,
) -> None:
    pool = [
        replace(hosted(name), request_defaults={"max_tokens": limit})
        for name, limit in (("small", 256), ("new", 256), ("weak", 256), ("able", 4096))
    ]
    it = await routing(*pool, prior=day_one(), exploration=BY_DOUBT)  # a router knows `small`
    asked = request(waypost={"turn_budget": 256})
    budgets = make_turn_budgets(choices=[256, 4096], expected_turns=1)
    plans = [await planned(it, asked, budgets=budgets) for _ in range(300)]
    shares = {c.model: c.propensity for c in plans[0].candidates}
    assert shares["able"] == 0.0  # is allotted too little
    assert sum(shares.values()) == pytest.approx(1.0)
    assert min(shares["weak"], shares["new"]) > 0.01
    tried = Counter(plan.models[0].name for plan in plans)
    for model, share in shares.items():
        assert abs(tried[model] - 300 * share) <= 3.5 * (300 * share) ** 0.5
    assert all(plan.propensity == shares[plan.models[0].name] for plan in plans)


async def earning(routing):
    """Make a routing whose turns alone limit what exploring may lose."""
    clock = Clock()
    budget = RegretBudget(1000.0, clock, most_share=0.02)
    it = await routing(
        hosted("able"),
        hosted("new"),
        with_router=False,
        prior=day_one(),
        exploration=Exploring(OFF, always, budget),
    )
    clock.now_s = DAY_S
    return it, budget


async def test_a_turn_earns_a_share_of_what_the_best_answer_to_it_is_worth(routing) -> None:
    it, budget = await earning(routing)
    plan = await planned(it, request())
    assert budget.left_usd() == 0.0
    it.follow(plan)
    best = max(record.utility or 0.0 for record in plan.candidates)
    assert best > 0.0
    assert plan.willingness_to_pay_usd is not None
    assert budget.left_usd() == pytest.approx(0.02 * best * plan.willingness_to_pay_usd)


async def test_who_says_that_it_pays_any_amount_earns_no_more_than_its_profile(routing) -> None:
    it, budget = await earning(routing)
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e9}))
    assert plan.profile is not None
    it.follow(plan)
    assert 0.0 < budget.left_usd() <= 0.02 * it.profiles[plan.profile].willingness_to_pay_usd
