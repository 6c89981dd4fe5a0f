import numpy as np
import pytest

from router_models.errors import InvalidEvaluations
from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.frontier import oracle_gain
from router_models.training import train as module
from router_models.training.settings import RidgeSettings
from router_models.training.train import TUNING_LAMBDAS, fit, train, tune
from tests.fakes.evaluations import made_up


@pytest.mark.parametrize("kind", ["kmeans", "knn", "ridge"])
def test_tuning_puts_the_setting_that_validated_best_first(kind):
    rows, held_out = made_up(120), made_up(80, seed=1)
    trials = tune(rows, held_out, kind, 0)
    gains = [trial.gain for trial in trials]
    assert gains == sorted(gains, reverse=True)
    best = fit(rows, held_out, trials[0].settings, 0).predict(held_out.embeddings)
    assert oracle_gain(best, held_out, TUNING_LAMBDAS) == gains[0]


def test_trains_with_the_settings_it_tuned():
    rows, held_out = made_up(60), made_up(60, seed=1)
    best = tune(rows, held_out, "ridge", 0)[0].settings
    queries = made_up(5, seed=2).embeddings
    np.testing.assert_array_equal(
        train(rows, held_out, "ridge", 0).predict(queries).quality,
        train(rows, held_out, "ridge", 0, best).predict(queries).quality,
    )


def test_every_trained_router_carries_a_guard():
    trained = train(made_up(40), made_up(40), "", 0, RidgeSettings())
    assert isinstance(trained, GuardedEstimator)


def test_refuses_to_learn_from_hardly_any_row():
    with pytest.raises(InvalidEvaluations, match=f"at least {module.LEAST_ROWS}"):
        train(made_up(5), made_up(40), "kmeans", 0)


def test_refuses_to_tune_on_hardly_any_row():
    with pytest.raises(InvalidEvaluations):
        tune(made_up(40), made_up(0), "kmeans", 0)
