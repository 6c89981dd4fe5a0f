from dataclasses import replace

import numpy as np
import pytest

from gateway.settings.routing import DEFAULT_PROFILES
from router_models.evaluation.report import BALANCED_USD, REFERENCES, evaluate
from tests.fakes.evaluations import made_up
from tests.fakes.reports import TRUTH, contender, report


def test_a_router_is_compared_with_every_baseline_and_what_no_router_makes():
    found = report().frontier
    assert found is not None
    assert set(found.frontiers) == {*REFERENCES, "knows", "guesses"}
    assert [each.reference for each in found.differences["knows"]] == [
        "best single",
        "random mix",
        "guesses",
    ]
    assert np.isnan(found.frontiers["cheapest"].common_auc.value)
    assert np.isnan(found.frontiers["best single"].figures.saved)
    assert found.frontiers["cheapest"].cost_usd == pytest.approx([found.models["cheap"].cost_usd])


def test_two_routers_are_compared_with_each_other():
    both = {"knows": contender(TRUTH), "guesses": contender(TRUTH, 9)}
    found = evaluate(
        both,
        {},
        TRUTH,
        np.full(4, 0.5, np.float32),
        draws=20,
        rng=np.random.default_rng(0),
    ).frontier
    assert found is not None
    assert found.differences["guesses"][-1].reference == "knows"
    assert found.differences["knows"][-1].reference == "guesses"


def test_the_same_seed_gives_the_same_report():
    assert report() == report()


def test_a_log_of_one_answer_per_query_has_predictions_and_no_frontier():
    found = report(made_up(300, share_answered=0.0))
    assert found.frontier is None
    assert found.predictions["knows"].overall.squared_error == 0.0
    assert found.answers == 300


def test_the_few_queries_of_a_log_that_every_model_happened_to_answer_are_no_frontier():
    truth = made_up(300, share_answered=0.3)
    assert np.isfinite(truth.quality).all(axis=1).any()
    assert report(truth).frontier is None


def test_only_queries_that_every_model_answered_are_routed():
    truth = made_up(300, share_answered=0.9)
    found = report(truth)
    assert found.frontier is not None
    assert found.frontier.queries == int(np.isfinite(truth.quality).all(axis=1).sum())
    assert found.queries == 300


def test_models_that_are_not_clearly_worse_than_the_best_are_named():
    quality = TRUTH.quality.copy()
    quality[:, 1] = np.roll(quality[:, 3], 1)
    found = report(replace(TRUTH, quality=quality)).frontier
    assert found is not None
    assert (found.best_single.model, found.best_single.rivals) == ("coder", ("dear",))
    assert found.best_single.is_best < 0.9


def test_tasks_are_measured_at_the_willingness_to_pay_that_is_asked_for():
    asked = report(willingness_to_pay_usd=1e-6).frontier
    unasked = report().frontier
    assert asked is not None
    assert unasked is not None
    assert asked.at_willingness
    assert not unasked.at_willingness
    cost = [sum(t.cost_usd for t in found.tasks["knows"]) for found in (asked, unasked)]
    assert cost[0] < cost[1]


def test_says_in_money_what_routing_is_worth_beside_the_best_single_model():
    asked, unasked = report(willingness_to_pay_usd=1.0).frontier, report().frontier
    assert asked is not None
    assert unasked is not None
    found = asked.fixed_choice["knows"]
    (alone,) = [each for each in asked.at_willingness if each.name == f"{found.model} alone"]
    assert found.gain_usd.value == pytest.approx(1000.0 * alone.under["knows"].value)
    assert found.gain_usd.low <= found.gain_usd.value <= found.gain_usd.high
    assert unasked.fixed_choice["knows"].willingness_to_pay_usd == BALANCED_USD
    paid = DEFAULT_PROFILES["balanced"].willingness_to_pay_usd
    assert paid == BALANCED_USD
