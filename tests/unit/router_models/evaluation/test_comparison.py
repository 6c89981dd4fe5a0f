import numpy as np
import pytest

from router_models.evaluation.comparison import Drawn, compare, spread, with_all_queries
from router_models.evaluation.frontier import Judge, Outcomes, bootstrap_weights, route
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up

TRUTH = made_up(300)
JUDGE = Judge.of(TRUTH)
WEIGHTS = with_all_queries(bootstrap_weights(300, 100, np.random.default_rng(0)))


def drawn(outcomes: Outcomes, weights=WEIGHTS) -> Drawn:
    return Drawn.of(JUDGE, outcomes, weights)


def knows(share: float) -> Outcomes:
    """Route by the truth on a share of the queries, and by chance on the others."""
    guess = made_up(300, seed=5)
    known = (np.arange(300) < share * 300)[:, None]
    quality = np.where(known, TRUTH.quality, guess.quality)
    return route(Prediction(quality, TRUTH.cost_usd), TRUTH)


BEST = JUDGE.single(JUDGE.best_single())


def test_a_router_has_nothing_over_itself():
    found = compare(drawn(JUDGE.oracle), drawn(JUDGE.oracle), "itself", is_model=False)
    assert (found.quality.low, found.quality.value, found.quality.high) == (0.0, 0.0, 0.0)
    assert (found.saving.share.value, found.saving.reached) == (0.0, 1.0)
    assert found.mean_quality is not None
    assert found.mean_quality.high == 0.0


def test_what_is_better_on_every_query_is_better_on_every_draw():
    found = compare(drawn(JUDGE.oracle), drawn(BEST), "best single", is_model=True)
    assert found.quality.low > 0
    assert 0 < found.saving.share.low <= found.saving.share.value < 1


def test_a_model_alone_has_no_quality_over_all_costs():
    found = compare(drawn(JUDGE.oracle), drawn(BEST), "best single", is_model=True)
    assert found.mean_quality is None


def test_a_quality_that_is_never_reached_saves_nothing():
    found = compare(drawn(BEST), drawn(JUDGE.oracle), "oracle", is_model=False)
    assert found.saving.share.value == found.saving.share.low == -np.inf
    assert found.saving.reached == 0.0
    assert found.quality.high < 0


def test_the_quality_that_is_almost_reached_is_cheaper_than_the_whole():
    found = compare(drawn(JUDGE.oracle), drawn(BEST), "best single", is_model=True)
    assert found.saving_at_99.share.value >= found.saving.share.value


def test_nothing_is_reached_below_the_cheapest_point():
    assert drawn(BEST).quality_at(np.zeros(101)).max() == 0.0


def test_pairing_narrows_the_interval_of_a_difference():
    one, other = drawn(knows(0.9)), drawn(knows(0.88))
    paired = compare(one, other, "other", is_model=False).mean_quality
    others = with_all_queries(bootstrap_weights(300, 100, np.random.default_rng(1)))
    unpaired = spread(one.area - drawn(knows(0.88), others).area)
    assert paired is not None
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 2


def test_without_draws_there_is_a_value_and_no_interval():
    weights = WEIGHTS[:1]
    found = compare(
        drawn(JUDGE.oracle, weights), drawn(BEST, weights), "best single", is_model=True
    )
    assert found.quality.value > 0
    assert np.isnan([found.quality.low, found.quality.high]).all()
    assert found.saving.reached == 1.0


def test_a_saving_that_costs_more_is_negative():
    quality = np.array([[0.5, 0.9]] * 40, np.float32)
    truth = Evaluations(np.zeros((40, 1), np.float32), quality, quality, ("small", "large"))
    judge = Judge.of(truth)
    weights = with_all_queries(bootstrap_weights(40, 20, np.random.default_rng(0)))
    small, large = (Drawn.of(judge, judge.single(model), weights) for model in range(2))
    found = compare(large, small, "small", is_model=True)
    assert found.saving.share.value == pytest.approx(1 - 0.9 / 0.5)
