from functools import reduce
from operator import add

import numpy as np

from federation.learning.ridge import GramSums, to_estimator
from federation.learning.settings import FederatedRidgeSettings
from federation.learning.statistics import RowSums
from router_models.estimators.ridge import RidgeSums
from router_models.training.ridge import fit_ridge
from router_models.training.settings import RidgeSettings
from tests.fakes.clients import no_rows, split_rows, without_model
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(150, share_answered=0.5)
SCALES = RowSums.gather(ROWS).scales()
QUERIES = made_up(20, seed=1).embeddings


def total_of(clients):
    return reduce(add, (GramSums.gather(SCALES.scaler, rows) for rows in clients))


def federated(clients, scales=SCALES):
    return to_estimator(MODELS, scales, total_of(clients), FederatedRidgeSettings(3.0))


def test_clients_solve_what_all_rows_solve():
    scaled = SCALES.scaler.apply(ROWS.embeddings)
    expected = RidgeSums.gather(scaled, ROWS.quality, ROWS.cost_usd).solve(3.0)
    solved = total_of(split_rows(ROWS, 4)).sums().solve(3.0)
    np.testing.assert_allclose(solved, expected, rtol=1e-8, atol=1e-12)


def test_predicts_what_the_central_router_predicts():
    central = fit_ridge(ROWS, RidgeSettings(3.0)).predict(QUERIES)
    found = federated(split_rows(ROWS, 4)).predict(QUERIES)
    np.testing.assert_allclose(found.quality, central.quality, atol=1e-5)
    dear = np.maximum(central.cost_usd, SCALES.cost_floor_usd)
    np.testing.assert_allclose(np.maximum(found.cost_usd, dear.min()), dear, atol=1e-3)


def test_a_client_without_rows_changes_nothing():
    expected = federated([ROWS]).predict(QUERIES)
    found = federated([ROWS, no_rows()]).predict(QUERIES)
    np.testing.assert_array_equal(found.quality, expected.quality)


def test_a_model_nobody_evaluated_is_predicted_at_the_means_of_the_scales():
    rows = without_model(ROWS, 2)
    scales = RowSums.gather(rows).scales()
    found = federated([rows], scales).predict(QUERIES)
    np.testing.assert_allclose(found.quality[:, 2], scales.quality_means[2], rtol=1e-5)
    np.testing.assert_allclose(found.cost_usd[:, 2], scales.cost_means_usd[2], rtol=1e-5)


def test_solving_leaves_the_sums_alone():
    total = total_of([without_model(ROWS, 2)])
    before = total.gram.copy(), total.quality.copy(), total.cost_usd.copy()
    to_estimator(MODELS, SCALES, total, FederatedRidgeSettings(3.0))
    np.testing.assert_array_equal(total.gram, before[0])
    np.testing.assert_array_equal(total.quality, before[1])
    np.testing.assert_array_equal(total.cost_usd, before[2])


def test_sums_come_back_from_their_arrays():
    total = total_of([ROWS])
    again = GramSums.from_arrays(total.to_arrays(), GramSums.lengths(12, 4))
    np.testing.assert_array_equal(again.gram, total.gram)
