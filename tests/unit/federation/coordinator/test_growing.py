"""Sessions that start from a router: models and sites join it, and nothing else changes."""

from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.federation_simulation.simulation import MemoryCheckpoints, align, simulate
from federation.coordinator.growing import Parent
from federation.errors import GrowthRefused, QuorumMissing
from federation.learning import growth, kmeans, mlp, mlp_training
from federation.learning.adam import adamw_step
from federation.learning.settings import FederatedKMeansSettings
from federation.learning.statistics import RowSums
from federation.privacy.settings import NoiseSettings
from federation.protocol.joining import CLIENTS_JOIN, MODELS_JOIN
from federation.protocol.protocol import Instruction
from router_models.artifacts.artifact import load, read_manifest
from router_models.artifacts.registry import ModelRegistry
from router_models.estimators.arrays import strip_prefix
from tests.fakes.evaluations import MODELS, made_up
from tests.fakes.sites import ENCODER, SETTINGS, plan_of, site_of
from tests.unit.benchmarks.federation_simulation.test_simulation import (
    MLP,
    DyingCheckpoints,
    Killed,
)

pytestmark = pytest.mark.xdist_group("growing")  # tests share the routers that they let grow
OLD, NEW = ("cheap", "coder", "writer"), ("dear",)
ALL = OLD + NEW
NO_CAP = {"largest_share": 1.0}
SECURE = {"secure_sum": True, "quorum": 3}
QUERIES = made_up(50, seed=77).embeddings
JOINING = [(k, j) for k in ("kmeans", "mlp") for j in (MODELS_JOIN, CLIENTS_JOIN)]


@pytest.fixture
def few_rounds(monkeypatch):
    """Enough to see that something is done, not how well."""
    monkeypatch.setattr(growth, "NEW_MODEL_ROUNDS", 4)
    monkeypatch.setattr(growth, "NEW_CLIENT_ROUNDS", 3)


def with_models(site, models):
    """The same site, whose log has answers of these models alone."""
    none = ModelRegistry()
    return replace(
        site,
        train=align(site.train, models, none),
        held_out=align(site.held_out, models, none),
    )


def sites_with(models, places=range(4)):
    return [with_models(site_of(place, 60 + 20 * place), models) for place in places]


def rows_of(sites, columns):
    return [align(site.train, columns, ModelRegistry()) for site in sites]


def total_of(sums):
    first, *others = sums
    return sum(others, start=first)


def parent_of(result):
    return Parent(load(result.artifact, ENCODER), result.progress.sites)


def trained(kind, sites, **changes):
    """A router of the old models, from these sites."""
    return parent_of(simulate(sites, plan_of(kind, **{**NO_CAP, **changes})))


@cache
def old_router(kind, n_sites=4, **changes):
    """A router of the old models, from the first sites; nothing changes one."""
    return trained(kind, sites_with(OLD)[:n_sites], **changes)


def grown(parent, sites, *allowed, **changes):
    kind = parent.router.estimator.kind
    plan = parent.plan(plan_of(kind, **{**NO_CAP, **changes}), allowed)
    return simulate(sites, plan, start=parent.progress())


def before_and_after(kind, joining, **changes):
    """A router of two sites and the old models, and what joined it."""
    rounds = growth.NEW_MODEL_ROUNDS, growth.NEW_CLIENT_ROUNDS
    return joined(kind, joining, rounds, tuple(changes.items()))


@cache
def joined(kind, joining, rounds, changes):
    if joining == MODELS_JOIN:
        parent, sites = old_router(kind, **dict(changes)), sites_with(ALL)
    else:
        parent, sites = old_router(kind, 2, **dict(changes)), sites_with(OLD)
    return parent, sites, grown(parent, sites, joining, **dict(changes))


def assert_same_arrays(found, expected):
    assert found.models == expected.models
    for name, array in expected.to_arrays().items():
        np.testing.assert_allclose(found.to_arrays()[name], array, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("joining", [MODELS_JOIN, CLIENTS_JOIN])
def test_kmeans_grows_into_what_training_anew_about_its_centroids_makes(joining):
    parent, sites, result = before_and_after("kmeans", joining)
    router = parent.router.estimator
    cells = [
        kmeans.ClusterSums.gather(router.centroids, router.scaler, rows)
        for rows in rows_of(sites, result.estimator.models)
    ]
    settings = cast("FederatedKMeansSettings", SETTINGS["kmeans"])
    anew = kmeans.to_estimator(
        result.estimator.models, router.scaler, router.centroids, total_of(cells), settings
    )
    assert_same_arrays(result.estimator.estimator, anew)


def test_kmeans_keeps_what_it_knew_of_old_models_to_the_bit():
    parent, _, result = before_and_after("kmeans", MODELS_JOIN)
    kept = result.estimator.estimator.statistics.select_models(np.arange(3)).to_arrays()
    for name, array in parent.router.estimator.statistics.to_arrays().items():
        np.testing.assert_array_equal(kept[name], array)


@pytest.mark.usefixtures("few_rounds")
def test_an_mlp_keeps_its_predictions_for_old_models():
    parent, _, result = before_and_after("mlp", MODELS_JOIN)
    old, wide = parent.router.estimator, result.estimator.estimator
    for before, after in zip(old.trunk, wide.trunk, strict=True):
        np.testing.assert_array_equal(after.weight, before.weight)
    quality_and_cost = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(wide.head_weight[:, quality_and_cost], old.head_weight)
    found, known = (
        result.estimator.predict(QUERIES),
        parent.router.serving_estimator.predict(QUERIES),
    )
    np.testing.assert_allclose(found.quality[:, :3], known.quality, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.cost_usd[:, :3], known.cost_usd, rtol=1e-5, atol=1e-9)


@pytest.mark.usefixtures("few_rounds")
def test_new_heads_equal_the_learning_functions():
    parent, sites, result = before_and_after("mlp", MODELS_JOIN)
    router, rows = parent.router.estimator, rows_of(sites, NEW)
    scales = growth.scales_of_new_models(router, total_of(map(RowSums.gather, rows)).scales())
    settings = growth.settings_for_new_models(MLP)
    weights, round_ = growth.new_heads(router, scales), 1
    moments: dict[str, Any] = {}
    while round_ < result.progress.best_round:
        round_ += 1
        seed = Instruction(result.plan, round_).seed
        updates = [
            mlp_training.train_locally(weights, own, scales, settings, seed, frozen_trunk=True)
            for own in rows
        ]
        averaged = mlp.average(weights, updates)
        heads = {name: weights[name] for name in mlp.HEADS}
        slope = {name: array - averaged[name] for name, array in heads.items()}
        heads, moments = adamw_step(
            heads, slope, moments, settings.learning_rate, settings.weight_decay
        )
        weights = {**weights, **heads}
    expected = growth.join_models(router, NEW, weights, scales)
    assert_same_arrays(result.estimator.estimator, expected)


def test_new_heads_learn_their_model_from_few_rows():
    parent = old_router("mlp")
    few = [
        replace(site, train=made_up(20, seed=place)) for place, site in enumerate(sites_with(ALL))
    ]
    predicted = grown(parent, few, MODELS_JOIN).estimator.predict(made_up(200, seed=3).embeddings)
    truth = made_up(200, seed=3)
    assert np.median(np.abs(predicted.cost_usd[:, 3] / truth.cost_usd[:, 3] - 1)) < 0.4
    assert predicted.quality[:, 3].mean() == pytest.approx(truth.quality[:, 3].mean(), abs=0.1)


def of_task(site, task, *, is_kept):
    kept = np.flatnonzero((np.array(site.train.tasks) == task) == is_kept)
    rows = site.train
    return replace(
        site,
        train=replace(
            rows,
            embeddings=rows.embeddings[kept],
            quality=rows.quality[kept],
            cost_usd=rows.cost_usd[kept],
            tasks=None,
        ),
    )


def test_new_sites_are_learned_without_forgetting_what_the_router_knew():
    old = [of_task(site_of(n, 120), "code", is_kept=False) for n in range(2)]
    new = [of_task(site_of(n, 120), "code", is_kept=True) for n in range(2, 4)]
    settings = replace(MLP, rounds=20)
    parent = trained("mlp", old, settings=settings)
    result = grown(parent, [*old, *new], CLIENTS_JOIN, settings=settings)

    def error(router, sites):
        rows = [site.train for site in sites]
        made = [router.predict(own.embeddings).quality for own in rows]
        column = [list(router.models).index(name) for name in MODELS]
        differences = [m[:, column] - own.quality for m, own in zip(made, rows, strict=True)]
        return float(np.mean(np.concatenate(differences) ** 2))

    before, after = parent.router.estimator, result.estimator.estimator
    assert error(after, new) < error(before, new)
    assert error(after, old) < error(before, old) + 0.02


def test_only_what_joins_is_asked_and_everybody_gets_the_router():
    _, sites, result = before_and_after("kmeans", CLIENTS_JOIN)
    assert {name for r in result.report.rounds for name in r.accepted} == {"site-2", "site-3"}
    assert set(result.report.verdicts) == {site.name for site in sites}


def test_sites_without_the_new_models_are_not_asked_for_them():
    parent = old_router("kmeans")
    sites = [*sites_with(OLD, range(2)), *sites_with(ALL, range(2, 4))]
    result = grown(parent, sites, MODELS_JOIN)
    assert {name for r in result.report.rounds for name in r.accepted} == {"site-2", "site-3"}
    assert result.plan.columns == NEW


def test_new_sites_are_noticed_before_new_models():
    parent = old_router("kmeans", 2)
    result = grown(parent, sites_with(ALL), CLIENTS_JOIN, MODELS_JOIN)
    assert (result.plan.joining, result.estimator.models) == (CLIENTS_JOIN, OLD)
    result = grown(parent_of(result), sites_with(ALL), CLIENTS_JOIN, MODELS_JOIN)
    assert (result.plan.joining, result.estimator.models) == (MODELS_JOIN, ALL)


def test_nobody_joins_twice():
    _, sites, result = before_and_after("kmeans", CLIENTS_JOIN)
    assert parent_of(result).sites == {site.name for site in sites}
    with pytest.raises(QuorumMissing, match="too few of 4 sites bring clients or models"):
        grown(parent_of(result), sites, CLIENTS_JOIN, MODELS_JOIN)


def test_a_new_site_is_no_stranger_to_the_guard():
    sites = sites_with(OLD)
    far = [replace(s, train=replace(s.train, embeddings=-s.train.embeddings)) for s in sites[2:]]
    parent = old_router("kmeans", 2)
    result = grown(parent, [*sites[:2], *far], CLIENTS_JOIN)
    queries = far[0].train.embeddings
    assert parent.router.serving_estimator.familiarity(queries).mean() < 0.1
    assert result.estimator.familiarity(queries).mean() > 0.8


def test_a_router_without_a_guard_grows_without_one():
    _, _, result = before_and_after("kmeans", CLIENTS_JOIN, has_guard=False)
    assert not read_manifest(result.artifact).has_guard


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize(("kind", "joining"), JOINING)
def test_the_artefact_says_which_router_it_grew_from(kind, joining):
    parent, _, result = before_and_after(kind, joining)
    manifest = read_manifest(result.artifact)
    assert manifest.parent == parent.router.version
    assert manifest.training["joined"] == joining
    assert manifest.provenance["models"] == len(manifest.models)
    assert manifest.has_guard


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize(("kind", "joining"), JOINING)
def test_a_session_that_was_killed_ends_as_if_it_were_not(kind, joining):
    parent, sites, whole = before_and_after(kind, joining)
    plan = parent.plan(plan_of(kind, **NO_CAP), (joining,))
    for saves in (1, 2):
        checkpoints = DyingCheckpoints(saves)
        with pytest.raises(Killed):
            simulate(sites, plan, checkpoints=checkpoints, start=parent.progress())
        resumed = simulate(sites, plan, checkpoints=checkpoints, start=parent.progress())
        assert resumed.artifact == whole.artifact
        assert resumed.progress.sites == whole.progress.sites


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize(("kind", "joining"), JOINING)
def test_masked_sums_make_the_same_router(kind, joining):
    parent = old_router(kind, 3, has_guard=False)
    sites = sites_with(ALL if joining == MODELS_JOIN else OLD, range(6))
    # Sites may send less than ten rows of a cell where nobody sees them.
    clear, masked = (
        grown(parent, [replace(s, policy=replace(s.policy, least_rows=1)) for s in sites], joining,
              has_guard=False, **options).estimator.predict(QUERIES)
        for options in ({"least_rows": 1}, SECURE)
    )  # fmt: skip
    np.testing.assert_allclose(masked.quality, clear.quality, atol=1e-4)
    np.testing.assert_allclose(masked.cost_usd, clear.cost_usd, rtol=1e-3, atol=1e-8)


def test_kmeans_grows_under_noise():
    noise = NoiseSettings(0.01, dict.fromkeys(MODELS, 0.01), longest_vector=6.0)
    parent = old_router("kmeans")
    noisy = grown(parent, sites_with(ALL), MODELS_JOIN, noise=noise, has_guard=False)
    clear = grown(parent, sites_with(ALL), MODELS_JOIN)
    found, wanted = (r.estimator.estimator.statistics.count[:, 3] for r in (noisy, clear))
    assert 0 < np.abs(found - wanted).max() < 1.0


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("ridge", {}, "nothing can join a ridge router"),
        (
            "mlp",
            {"noise": NoiseSettings(1.0, {}), "has_guard": False},
            "nothing can join an mlp router",
        ),
        ("kmeans", {"registry": ModelRegistry({"big": ["cheap"]})}, "is an alias of 'big'"),
    ],
)
def test_what_cannot_grow_is_refused_with_the_reason(kind, changes, reason):
    parent = old_router(kind, 2)
    with pytest.raises(GrowthRefused, match=reason):
        parent.plan(plan_of(kind, **changes), (MODELS_JOIN,))


def test_a_router_of_another_kind_is_not_grown():
    parent = old_router("kmeans", 2)
    with pytest.raises(GrowthRefused, match="is a kmeans one, this coordinator trains mlp"):
        parent.plan(plan_of("mlp"), (MODELS_JOIN,))


@pytest.mark.usefixtures("few_rounds")
def test_new_heads_alone_leave_a_site():
    messages: list[Any] = []
    parent = old_router("mlp")
    plan = parent.plan(plan_of("mlp", **NO_CAP), (MODELS_JOIN,))
    simulate(sites_with(ALL), plan, start=parent.progress(), traffic=messages)
    names = {
        name
        for m in messages
        if m.instruction.metadata.message_type == "train.heads"
        for name in m.reply.content.array_records["arrays"]
    }
    assert names == {"head_weight", "head_bias", "rows", "rows_per_model"}
    assert (
        strip_prefix("parent.", {name: np.zeros(0) for m in messages for name in sent_in(m)}) == {}
    )


def sent_in(message):
    return message.instruction.content.array_records.get("arrays", {})


def test_a_checkpoint_of_another_parent_is_left_aside(caplog):
    first, second = (old_router("kmeans", 2, seed=seed) for seed in (0, 1))
    checkpoints = DyingCheckpoints(1)
    with pytest.raises(Killed):
        simulate(
            sites_with(OLD),
            first.plan(plan_of(), (CLIENTS_JOIN,)),
            checkpoints=checkpoints,
            start=first.progress(),
        )
    kept = MemoryCheckpoints(checkpoints.latest)
    plan = second.plan(plan_of(), (CLIENTS_JOIN,))
    simulate(sites_with(OLD), plan, checkpoints=kept, start=second.progress())
    assert "the training starts over" in caplog.text
