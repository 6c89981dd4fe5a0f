import numpy as np
import pytest

from router_models.evaluation.comparison import with_all_queries
from router_models.evaluation.frontier import Judge, Outcomes, bootstrap_weights, route
from router_models.evaluation.operating_point import (
    OTHERS,
    at_willingness,
    by_task,
    point_at_price,
)
from router_models.types import Prediction
from tests.fakes.evaluations import made_up

TRUTH = made_up(300)
JUDGE = Judge.of(TRUTH)
WEIGHTS = with_all_queries(bootstrap_weights(300, 50, np.random.default_rng(0)))
KNOWS = Prediction(TRUTH.quality, TRUTH.cost_usd)
GUESSES = Prediction(made_up(300, seed=7).quality, TRUTH.cost_usd)
POINTS = Outcomes(np.array([[0.9], [0.7], [0.8]]), np.array([[9.0], [3.0], [5.0]]))


@pytest.mark.parametrize(("limit", "point"), [(10, 0), (6, 2), (4, 1), (1, 1)])
def test_the_point_at_a_price_is_the_best_that_it_pays_for_or_else_the_cheapest(limit, point):
    assert point_at_price(POINTS, limit) == point


def test_utility_is_compared_query_by_query_at_the_willingness_to_pay():
    found = {
        each.name: each
        for each in at_willingness(
            {"knows": KNOWS, "guesses": GUESSES}, ["knows"], TRUTH, 1.0, WEIGHTS
        )
    }
    assert list(found) == ["knows", "guesses", "dear alone", "oracle"]
    assert found["knows"].utility == pytest.approx(
        found["knows"].quality - found["knows"].cost_usd / 1.0
    )
    assert found["guesses"].under["knows"].low > 0
    assert found["oracle"].under["knows"].high == pytest.approx(0.0)
    assert found["knows"].under == {}


def test_a_low_willingness_to_pay_is_compared_with_the_cheap_model():
    names = [each.name for each in at_willingness({"k": KNOWS}, ["k"], TRUTH, 1e-7, WEIGHTS)]
    assert "cheap alone" in names


def test_each_task_is_compared_on_its_own_queries():
    best, chosen = JUDGE.single(JUDGE.best_single()), route(KNOWS, TRUTH, np.array([0.01]))
    found = by_task(chosen, best, TRUTH.tasks, WEIGHTS)
    assert sum(each.queries for each in found) == 300
    assert [each.queries for each in found] == sorted((e.queries for e in found), reverse=True)
    inside = np.array(TRUTH.tasks) == found[0].task
    assert found[0].quality == pytest.approx(chosen.quality[0, inside].mean())
    assert found[0].difference.value == pytest.approx(found[0].quality - found[0].single_quality)
    assert found[0].difference.low > 0


def test_small_tasks_are_counted_together_and_come_last():
    tasks = [f"rare {i}" if i < 30 else "often" for i in range(300)]
    chosen = route(KNOWS, TRUTH, np.array([0.01]))
    found = by_task(chosen, JUDGE.single(0), tasks, WEIGHTS)
    assert [(each.task, each.queries) for each in found] == [("often", 270), (OTHERS, 30)]
