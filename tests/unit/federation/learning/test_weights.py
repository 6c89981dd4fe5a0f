"""Weights multiply before sites add up: sums of sites are the sums of all rows."""

from dataclasses import replace

import numpy as np
import pytest

from federation.exchanges.exchange import suppress_rare_models
from federation.learning.kmeans import ClusterSums
from federation.learning.mlp_training import train_locally, validation_loss
from federation.learning.personal import mixture_shares
from federation.learning.ridge import GramSums
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import RowSums
from federation.privacy.noise import clipped_sums
from router_models.estimators.arrays import Scaler
from router_models.statistics import model_means, select
from router_models.training.kmeans import fit_kmeans
from router_models.training.mlp import RouterNetwork, cost_scale_of, single_threaded
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations
from tests.fakes.evaluations import DIMENSION, MODELS, made_up

CENTROIDS = np.eye(5, DIMENSION, dtype=np.float32)
SCALER = Scaler.identity(DIMENSION)


def weighed(n_queries: int = 120) -> Evaluations:
    rows = made_up(n_queries, share_answered=0.4)
    weight = np.random.default_rng(1).uniform(0.05, 1.0, rows.quality.shape)
    return replace(rows, weight=weight.astype(np.float32))


def cells(rows: Evaluations) -> ClusterSums:
    return ClusterSums.gather(CENTROIDS, SCALER, rows, least_rows=1)


GATHERS = (RowSums.gather, cells, lambda rows: GramSums.gather(SCALER, rows))


@pytest.mark.parametrize("gather", GATHERS, ids=["moments", "cells", "ridge"])
def test_sums_of_sites_are_those_of_all_rows(gather):
    rows = weighed()
    parts = [gather(select(rows, np.arange(*span))).to_arrays() for span in ((0, 50), (50, 120))]
    for name, total in gather(rows).to_arrays().items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], total, rtol=1e-6)


@pytest.mark.parametrize("gather", GATHERS, ids=["moments", "cells", "ridge"])
def test_an_answer_of_a_weight_adds_no_more_than_one_without(gather):
    rows = weighed(1)
    light, full = gather(rows).to_arrays(), gather(replace(rows, weight=None)).to_arrays()
    for name, array in full.items():
        assert np.linalg.norm(light[name]) <= np.linalg.norm(array) * (1 + 1e-6), name


def test_sums_with_noise_are_clipped_as_those_without_weights():
    rows = replace(weighed(30), cost_usd=np.where(np.isnan(weighed(30).quality), np.nan, 1.0))
    bounds = dict.fromkeys(cells(rows).to_arrays(), 100.0)
    clipped = clipped_sums(lambda each: cells(each).to_arrays(), rows, bounds)
    np.testing.assert_allclose(clipped["count"], cells(rows).count, rtol=1e-6)


def test_means_and_scales_of_sites_are_the_central_ones():
    rows, sums = weighed(), RowSums.gather(weighed())
    np.testing.assert_allclose(sums.means(), model_means(rows), rtol=1e-5)
    np.testing.assert_allclose(sums.cost_scale(), cost_scale_of(rows), rtol=1e-3)


def test_a_model_whose_answers_weigh_less_than_enough_rows_is_not_told():
    rows = made_up(12)
    weight = np.ones((12, 4), np.float32)
    weight[1:, 2] = 0.1
    told = suppress_rare_models(replace(rows, weight=weight), 10)
    assert np.isfinite(told.quality).any(axis=0).tolist() == [True, True, False, True]


def test_a_network_counts_a_site_s_answers_by_weight():
    rows = weighed()
    scales, settings = RowSums.gather(rows).scales(), FederatedMlpSettings(hidden=8)
    with single_threaded(0):
        weights = RouterNetwork(DIMENSION, len(MODELS), 8, 0.0).weights()
    update = train_locally(weights, rows, scales, settings, 0)
    np.testing.assert_allclose(update.rows_per_model, rows.counts.sum(axis=0), rtol=1e-6)
    assert validation_loss(weights, rows, scales)[1] == pytest.approx(rows.counts.sum(), rel=1e-6)


def test_light_held_out_answers_leave_the_choice_to_the_others():
    good, bad = fit_kmeans(made_up(300), KMeansSettings(8), 0), None
    wrong = made_up(300)
    bad = fit_kmeans(replace(wrong, quality=1 - wrong.quality), KMeansSettings(8), 0)
    held_out = made_up(200, seed=3)
    turned = replace(held_out, quality=1 - held_out.quality)
    both = Evaluations(
        np.tile(held_out.embeddings, (2, 1)),
        np.concatenate([held_out.quality, turned.quality]),
        np.tile(held_out.cost_usd, (2, 1)),
        MODELS,
        weight=np.concatenate([np.ones((200, 4)), np.full((200, 4), 0.01)]).astype(np.float32),
    )
    by_weight, plain = (
        mixture_shares(good, bad, rows)[0].mean() for rows in (both, replace(both, weight=None))
    )
    assert by_weight > plain + 0.05
