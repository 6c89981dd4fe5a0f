import numpy as np
import pytest

from benchmarks.federated_routing.measure import FIGURES, Measured, mean_of, measure, over_seeds
from router_models.evaluation.frontier import Judge, Outcomes, bootstrap_weights, oracle, route
from router_models.types import Prediction
from tests.fakes.evaluations import made_up

TRUTH = made_up(80)
JUDGE = Judge.of(TRUTH)
WEIGHTS = bootstrap_weights(80, 12, np.random.default_rng(0))


def guesses(seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    shape = TRUTH.quality.shape
    guess = Prediction(rng.random(shape, np.float32), 0.005 * rng.random(shape, np.float32))
    return route(guess, TRUTH)


def only(model: int) -> Outcomes:
    return Outcomes(
        np.tile(TRUTH.quality[:, model], (3, 1)).astype(float),
        np.tile(TRUTH.cost_usd[:, model], (3, 1)).astype(float),
    )


@pytest.mark.parametrize("outcomes", [guesses(0), guesses(1), oracle(TRUTH), only(0), only(3)])
def test_agrees_with_the_judge_on_all_queries_and_on_every_draw(outcomes):
    measured = measure(JUDGE, outcomes, WEIGHTS)
    expected = JUDGE.figures(outcomes)
    drawn = [JUDGE.figures(outcomes, weights) for weights in WEIGHTS]
    for index, name in enumerate(FIGURES):
        assert measured.values[index] == pytest.approx(getattr(expected, name))
        np.testing.assert_allclose(
            measured.draws[index], [getattr(one, name) for one in drawn], atol=1e-12
        )


def test_a_router_does_not_differ_from_itself():
    one = measure(JUDGE, guesses(0), WEIGHTS)
    difference = one - one
    assert not difference.values.any()
    assert not difference.draws.any()


def test_means_over_clients_keep_draws_paired():
    one, other = (measure(JUDGE, guesses(seed), WEIGHTS) for seed in (0, 1))
    mean = mean_of([one, other])
    np.testing.assert_allclose(mean.draws, (one.draws + other.draws) / 2)


def test_the_interval_over_seeds_is_wider_where_seeds_differ():
    def width(spread: float) -> float:
        runs = [Measured(np.full(3, spread * s), np.full((3, 200), spread * s)) for s in range(5)]
        found = over_seeds(runs, np.random.default_rng(0)).interval(0)
        assert found.value == pytest.approx(2 * spread)
        return found.high - found.low

    assert width(0.0) == 0.0
    assert width(0.1) > 0.1
