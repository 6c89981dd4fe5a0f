"""The router that serves before one was trained is what the first trained one stands beside."""

from dataclasses import replace

import numpy as np

from gateway.learning.first import FirstRouter
from router_models.evaluation.log_rows import LoggedRows
from router_models.types import Float32
from tests.fakes.artifacts import ENCODER
from tests.fakes.priors import day_one

N_ROWS = 200
NAMES = ("mine", "yours")


def logged(score: Float32, split: int = 0) -> LoggedRows:
    """Two models, of which the settings call one `mine`, answered queries in turn."""
    rng, model = np.random.default_rng(0), np.arange(N_ROWS) % 2
    return LoggedRows(
        embeddings=rng.standard_normal((N_ROWS, ENCODER.dimension)).astype(np.float32),
        split=np.full(N_ROWS, split, np.int8),
        models=NAMES,
        query=np.arange(N_ROWS),
        model=model,
        score=score[model],
        cost_usd=np.full(N_ROWS, 0.001, np.float32),
        drawn=np.empty(0, np.intp),
        propensities=np.empty((0, 2), np.float32),
        tokens=np.full((2, N_ROWS), 100.0, np.float32),
        prices=np.full((2, 2), 1e-6),
    )


def expected(rows: LoggedRows) -> Float32:
    """Return the mean quality that is expected of each model."""
    first = FirstRouter(day_one().prior, {"mine": "acme/able", "yours": "weak"})
    router = first.of(rows)
    assert router is not None
    mean: Float32 = router.serving_estimator.predict(rows.embeddings).quality.mean(axis=0)
    return mean


def test_it_knows_models_by_what_providers_call_them():
    unlearned = logged(np.array([0.9, 0.3], np.float32), split=2)
    assert expected(unlearned)[0] > expected(unlearned)[1] + 0.3


def test_it_learned_from_the_log_as_the_gateway_does():
    before = expected(logged(np.array([0.1, 0.9], np.float32), split=2))
    after = expected(logged(np.array([0.1, 0.9], np.float32)))
    assert after[0] < before[0] - 0.1
    assert after[1] > before[1] + 0.1


def test_it_learned_nothing_from_the_rows_that_routers_are_judged_on():
    good, bad = (logged(np.array(score, np.float32), split=2) for score in ((1, 1), (0, 0)))
    np.testing.assert_array_equal(expected(good), expected(bad))


def test_without_counts_of_tokens_there_is_none():
    rows = replace(logged(np.array([0.1, 0.9], np.float32)), tokens=None, prices=None)
    assert FirstRouter(day_one().prior, {}).of(rows) is None
