"""Pools of a hundred models: what each turn works out is worked out for the best of them."""

from dataclasses import replace

import pytest

from gateway.routing import shortlist
from gateway.routing.exploring import Exploring, always
from gateway.routing.prior import DayOne
from gateway.routing.shortlist import MOST_CONSIDERED
from gateway.types import HostedModel, ModelPrice
from router_models.artifacts.router import Router
from router_models.decide import Exploration
from tests.fakes.priors import day_one
from tests.fakes.routing import hosted, planned, request

OFF = Exploration()
BY_DOUBT = Exploring(Exploration("uncertainty"), always, None)
WORTH = (1e-6, 1e-4, 0.01, 1.0, 1e6)
"""In USD: from where the cheapest model is best to where the ablest one is."""


def pool(n: int = 100) -> list[HostedModel]:
    """Make models of many prices, which the prior takes for as many abilities."""
    priced = [
        replace(hosted(f"model-{number:03}"), price=ModelPrice(number * 7919 % 1009, number**2))
        for number in range(1, n - 1)
    ]
    return [hosted("small"), *priced, hosted("large")]


@pytest.mark.parametrize("worth", WORTH)
@pytest.mark.parametrize("with_router", [False, True])
async def test_the_best_are_considered_and_the_choice_is_that_of_the_whole_pool(
    routing, monkeypatch, worth, with_router
) -> None:
    it = await routing(*pool(), prior=day_one(), with_router=with_router)
    asked = request(waypost={"willingness_to_pay": worth}, max_tokens=100)
    plan = await planned(it, asked)

    monkeypatch.setattr(shortlist, "MOST_CONSIDERED", 1000)
    whole = await planned(it, asked)

    assert (len(plan.candidates), len(whole.candidates)) == (MOST_CONSIDERED, 100)
    assert plan.models[0].name == whole.models[0].name
    utilities = sorted(each.utility or 0.0 for each in whole.candidates)
    least = min(each.utility or 0.0 for each in plan.candidates)
    assert least == pytest.approx(utilities[-MOST_CONSIDERED])
    of_all = {each.model: each for each in whole.candidates}
    for each in plan.candidates:
        assert each.quality == pytest.approx(of_all[each.model].quality)
        assert each.cost_usd == pytest.approx(of_all[each.model].cost_usd)
        assert each.completion_tokens == of_all[each.model].completion_tokens


async def test_a_small_pool_is_considered_as_a_whole(routing) -> None:
    it = await routing(*pool(MOST_CONSIDERED), prior=day_one())

    assert len((await planned(it, request())).candidates) == MOST_CONSIDERED


async def test_models_that_cannot_answer_take_no_place_from_those_that_can(routing) -> None:
    models = [
        model if number % 3 else replace(model, capabilities=hosted("m", tools=False).capabilities)
        for number, model in enumerate(pool())
    ]
    it = await routing(*models, prior=day_one())
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    plan = await planned(it, request(tools=[tool]))

    assert {each.verdict for each in plan.candidates} == {"ok"}
    assert len(plan.models) == MOST_CONSIDERED


async def test_where_few_can_answer_all_of_these_are_considered(routing) -> None:
    able = {"small", "model-050", "large"}
    models = [
        model
        if model.name in able
        else replace(model, capabilities=hosted("m", tools=False).capabilities)
        for model in pool()
    ]
    it = await routing(*models, prior=day_one())
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    plan = await planned(it, request(tools=[tool]))

    assert {model.name for model in plan.models} == able


async def test_propensities_of_those_considered_sum_to_one_and_the_uncertain_are_tried(
    routing,
) -> None:
    it = await routing(*pool(), prior=day_one(), with_router=False, exploration=BY_DOUBT)
    plans = [await planned(it, request()) for _ in range(100)]

    assert all(sum(each.propensity for each in plan.candidates) == 1.0 for plan in plans)
    assert len({plan.models[0].name for plan in plans}) > 1
    for plan in plans:
        chosen = plan.candidates.find(plan.models[0].name)
        assert chosen is not None
        assert chosen.propensity == plan.propensity


async def test_a_model_that_may_be_good_is_considered_before_one_that_surely_is_not(
    routing, monkeypatch
) -> None:
    """`model-050` is predicted worst of all, and nothing is known of it."""
    stderr, predict = Router.quality_stderr, Router.predict

    def doubtful(self, embedding, models):
        found = stderr(self, embedding, models)
        return tuple(5.0 if name == "model-050" else 0.01 for name in models) if found else None

    class Estimator:
        def __init__(self, own):
            self._own = own

        def quality_stderr(self, rows):
            found = self._own.quality_stderr(rows)
            found[:] = 0.01
            found[0, self._own.models.index("model-050")] = 5.0
            return found

        def __getattr__(self, name):
            return getattr(self._own, name)

    def poor(self, embedding):
        found = predict(self, embedding)
        found.quality[self.columns(("model-050",))] = 0.001
        return found

    it = await routing(*pool(), prior=day_one(), with_router=False, exploration=BY_DOUBT)
    router = it.prior.router(it.models)
    object.__setattr__(router, "estimator", Estimator(router.estimator))
    monkeypatch.setattr(Router, "quality_stderr", doubtful)
    monkeypatch.setattr(Router, "predict", poor)
    plan = await planned(it, request(waypost={"willingness_to_pay": 1e6}))

    tried = plan.candidates.find("model-050")
    assert tried is not None
    assert tried.propensity > 0.01


async def test_a_router_that_fails_leaves_the_default_model(routing, monkeypatch) -> None:
    it = await routing(*pool(), prior=day_one())
    monkeypatch.setattr(Router, "predict", lambda *arguments: 1 / 0)
    plan = await planned(it, request())

    assert (plan.reason, plan.models[0].name) == ("router_failed", "large")


async def test_a_prior_that_fails_leaves_the_default_model(routing, monkeypatch) -> None:
    it = await routing(*pool(), prior=day_one())
    monkeypatch.setattr(DayOne, "router", lambda *arguments: 1 / 0)
    plan = await planned(it, request())

    assert (plan.reason, plan.models[0].name) == ("router_failed", "large")


async def test_the_prior_is_not_asked_where_the_router_knows_all_models(
    routing, monkeypatch
) -> None:
    it = await routing(prior=day_one())
    monkeypatch.setattr(DayOne, "router", lambda *arguments: 1 / 0)

    assert (await planned(it, request())).reason == "router"
