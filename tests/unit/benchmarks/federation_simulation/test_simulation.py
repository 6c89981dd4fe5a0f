"""Whole sessions: real strategies, real client apps, small sites."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from benchmarks.federation_simulation.simulation import MemoryCheckpoints, align, simulate
from federation.learning import kmeans, mlp, mlp_training, ridge
from federation.learning.settings import (
    FederatedKMeansSettings,
    FederatedMlpSettings,
    FederatedRidgeSettings,
)
from federation.learning.statistics import RowSums
from federation.protocol.protocol import ARRAYS, Instruction, from_record, to_record
from router_models.artifacts.artifact import load, read_manifest
from router_models.artifacts.registry import ModelRegistry
from router_models.estimators.arrays import strip_prefix
from router_models.estimators.guard import GuardedEstimator
from router_models.statistics import select
from router_models.types import Estimator
from tests.fakes.evaluations import MODELS, made_up
from tests.fakes.sites import ENCODER, SETTINGS, during, plan_of, site_of, sites_of

KINDS = tuple(SETTINGS)
MLP = cast("FederatedMlpSettings", SETTINGS["mlp"])
COLUMNS = tuple(sorted(MODELS))
NO_CAP = {"largest_share": 1.0}
QUERIES = made_up(50, seed=77).embeddings


class Killed(Exception):
    """Stands for the end of a coordinator's process."""


class DyingCheckpoints(MemoryCheckpoints):
    """Keeps a checkpoint and dies after that of a given round."""

    def __init__(self, saves):
        super().__init__()
        self.saves_left = saves

    def save(self, data):
        super().save(data)
        self.saves_left -= 1
        if not self.saves_left:
            raise Killed


class EveryCheckpoint(MemoryCheckpoints):
    """Keeps each of them: what a coordinator leaves that is killed after it."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def save(self, data):
        super().save(data)
        self.kept.append(data)


def rows_of(site):
    return align(site.train, COLUMNS, ModelRegistry())


def total_of(sums):
    first, *others = sums
    return sum(others, start=first)


def unguarded(estimator: Estimator) -> Estimator:
    assert isinstance(estimator, GuardedEstimator)
    return estimator.estimator


def assert_predicts_as(estimator, expected):
    found, wanted = estimator.predict(QUERIES), expected.predict(QUERIES)
    np.testing.assert_allclose(found.quality, wanted.quality, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.cost_usd, wanted.cost_usd, rtol=1e-4, atol=1e-8)


def test_a_kmeans_session_equals_the_learning_functions():
    sites, plan = sites_of(), plan_of("kmeans", **NO_CAP)
    result = simulate(sites, plan)
    rows = [rows_of(site) for site in sites]
    assert isinstance(plan.settings, FederatedKMeansSettings)
    scaler = kmeans.scaler_of(plan.settings, total_of(map(RowSums.gather, rows)).scaler())
    found = [
        kmeans.local_centroids(scaler.apply_unit(r.embeddings), 6, Instruction(plan, 2).seed)
        for r in rows
    ]
    centroids = kmeans.merge_centroids(found, 4, Instruction(plan, 2).seed)
    cells = total_of(kmeans.ClusterSums.gather(centroids, scaler, r) for r in rows)
    expected = kmeans.to_estimator(COLUMNS, scaler, centroids, cells, plan.settings)
    assert_predicts_as(unguarded(result.estimator), expected)


def test_an_mlp_session_equals_the_learning_functions():
    settings = replace(MLP, adam_at="clients")
    sites, plan = sites_of(), plan_of("mlp", settings=settings, **NO_CAP)
    result = simulate(sites, plan)
    rows = [rows_of(site) for site in sites]
    scales = total_of(map(RowSums.gather, rows)).scales()
    assert isinstance(plan.settings, FederatedMlpSettings)
    weights = mlp_training.initial_weights(scales, plan.settings, Instruction(plan, 1).seed)
    for round_ in (2, 3, 4):
        seed = Instruction(plan, round_).seed
        updates = [
            mlp_training.train_locally(weights, r, scales, plan.settings, seed) for r in rows
        ]
        weights = mlp.average(weights, updates)
    assert result.progress.best_round == max(result.progress.losses)
    assert_predicts_as(unguarded(result.estimator), mlp.to_estimator(weights, COLUMNS, scales))


def test_a_ridge_session_equals_the_learning_functions():
    sites, plan = sites_of(), plan_of("ridge", **NO_CAP)
    result = simulate(sites, plan)
    rows = [rows_of(site) for site in sites]
    scales = total_of(map(RowSums.gather, rows)).scales()
    gram = total_of(ridge.GramSums.gather(scales.scaler, r) for r in rows)
    assert isinstance(plan.settings, FederatedRidgeSettings)
    expected = ridge.to_estimator(COLUMNS, scales, gram, plan.settings)
    assert_predicts_as(unguarded(result.estimator), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind):
    first, second = (simulate(sites_of(), plan_of(kind, seed=3)) for _ in range(2))
    assert first.artifact == second.artifact


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_published_is_what_was_trained(kind):
    result = simulate(sites_of(), plan_of(kind))
    assert_predicts_as(load(result.artifact, ENCODER).estimator, unguarded(result.estimator))


@pytest.mark.parametrize(("kind", "rounds"), [("kmeans", 6), ("mlp", 7), ("ridge", 5)])
def test_a_session_that_was_killed_after_any_round_ends_as_if_it_were_not(kind, rounds):
    sites, plan, checkpoints = sites_of(3), plan_of(kind), EveryCheckpoint()
    whole = simulate(sites, plan, checkpoints=checkpoints).artifact
    assert len(checkpoints.kept) == rounds
    for saves, left in enumerate(checkpoints.kept, start=1):
        resumed = simulate(sites, plan, checkpoints=MemoryCheckpoints(left))
        assert {r.round for r in resumed.report.rounds} == set(range(saves + 1, rounds + 1))
        assert resumed.artifact == whole


def test_nothing_is_left_to_resume_after_a_session():
    checkpoints = MemoryCheckpoints()
    simulate(sites_of(2), plan_of(), checkpoints=checkpoints)
    assert checkpoints.latest is None


def worse_each_round(instruction, reply):
    figures = from_record(reply.content.array_records[ARRAYS])
    worse = {**figures, "loss": figures["loss"] + float(instruction.metadata.group_id)}
    return Message(RecordDict({ARRAYS: to_record(worse)}), reply_to=instruction)


def test_keeps_the_weights_of_the_best_round():
    faults = dict.fromkeys((1, 2, 3), during("evaluate.loss", worse_each_round))
    progress = simulate(sites_of(3), plan_of("mlp"), faults=faults).progress
    first = simulate(sites_of(3), plan_of("mlp", settings=replace(MLP, rounds=1)))
    assert progress.best_round == 2
    kept = strip_prefix("weights.", progress.final_state())
    np.testing.assert_array_equal(kept["head_bias"], first.progress.state["weights.head_bias"])


def test_validates_as_often_as_the_plan_says_and_after_the_last_round():
    plan = plan_of("mlp", settings=replace(MLP, rounds=5), validate_every=2)
    assert list(simulate(sites_of(2), plan).progress.losses) == [2, 4, 6]


def test_asks_a_share_of_the_sites_in_each_training_round():
    plan = plan_of("mlp", settings=replace(MLP, client_share=0.5))
    rounds = simulate(sites_of(6), plan).report.rounds
    asked = [len(r.accepted) for r in rounds if r.exchange == "train.weights"]
    assert asked == [3, 3, 3]


def test_draws_other_sites_in_other_rounds():
    plan = plan_of("mlp", settings=replace(MLP, client_share=0.5))
    rounds = simulate(sites_of(6), plan).report.rounds
    assert len({r.accepted for r in rounds if r.exchange == "train.weights"}) > 1


def test_sites_may_call_their_models_by_other_names():
    registry = ModelRegistry({"cheap": ["house-cheap"]})
    renamed = site_of(1, 80)
    models = ("house-cheap", *MODELS[1:])
    renamed = replace(renamed, train=replace(renamed.train, models=models))
    result = simulate([site_of(0, 80), renamed], plan_of(registry=registry))
    assert result.plan.columns == COLUMNS
    assert result.progress.state["rows.count"].tolist() == [160.0] * 4
    assert read_manifest(result.artifact).registry == registry.to_mapping()


def test_learns_from_sites_that_use_different_models():
    first, second = site_of(0), site_of(1)
    half = np.array([True, True, False, False])
    sites = [
        replace(site, train=replace(site.train, **only(site.train, kept)))
        for site, kept in ((first, half), (second, ~half))
    ]
    assert simulate(sites, plan_of()).plan.columns == COLUMNS


def only(rows, kept):
    return {
        "quality": np.where(kept, rows.quality, np.float32(np.nan)),
        "cost_usd": np.where(kept, rows.cost_usd, np.float32(np.nan)),
    }


def test_models_with_too_few_rows_at_a_site_do_not_leave_it():
    site = site_of(0, 80)
    quality = site.train.quality.copy()
    quality[9:, 0] = np.nan
    cost = np.where(np.isfinite(quality), site.train.cost_usd, np.float32(np.nan))
    few = replace(site, train=replace(site.train, quality=quality, cost_usd=cost))
    result = simulate([few, site_of(1, 80)], plan_of())
    count = result.progress.state["rows.count"]
    assert count[COLUMNS.index(MODELS[0])] == 80


def test_leaves_the_guard_out_where_the_plan_does():
    result = simulate(sites_of(2), plan_of(has_guard=False))
    assert not read_manifest(result.artifact).has_guard


def test_aligns_rows_that_have_none_of_the_columns():
    rows = align(select(made_up(5), np.arange(5)), ("other",), ModelRegistry())
    assert np.isnan(rows.quality).all()
    assert rows.models == ("other",)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_a_robust_rule_keeps_one_liar_from_praising_a_model_in_kmeans(rule):
    def routed(rule):
        sites = sites_of(5)
        lie = replace(
            sites[0].train,
            quality=np.where(np.arange(4) == 0, 1.0, 0.0) + 0.0 * sites[0].train.quality,
        )
        result = simulate([replace(sites[0], train=lie), *sites[1:]], plan_of(rule=rule))
        return result.estimator.predict(QUERIES).quality[:, COLUMNS.index(MODELS[0])].mean()

    honest = simulate(sites_of(5), plan_of()).estimator.predict(QUERIES).quality
    truth = honest[:, COLUMNS.index(MODELS[0])].mean()
    assert abs(routed(rule) - truth) < 0.5 * abs(routed("mean") - truth)
