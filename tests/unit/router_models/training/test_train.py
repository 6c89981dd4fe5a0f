from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from router_models.errors import InvalidEvaluations
from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.evaluation.frontier import LAMBDAS, oracle_gain
from router_models.pricing import Prompts, in_usd
from router_models.statistics import select
from router_models.training import train as module
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import (
    DEFAULTS,
    AverageSettings,
    KMeansSettings,
    RidgeSettings,
    candidates,
)
from router_models.training.train import FOLDS, fit, fit_each, train, tune
from router_models.types import COMPLETION_MTOK, Evaluations
from tests.fakes.evaluations import counted, made_up


@pytest.mark.parametrize("kind", ["knn", "ridge"])
def test_tuning_puts_the_setting_of_highest_value_first(kind):
    trials = tune(made_up(120), made_up(80, seed=1), kind, 0)
    values = [trial.value for trial in trials]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


def test_kmeans_keeps_its_default_where_no_setting_is_clearly_better(monkeypatch):
    assert set(candidates("kmeans")) > DEFAULTS
    tables = made_up(60, share_answered=0.0), made_up(20, seed=1, share_answered=0.0)
    monkeypatch.setattr(module, "DEFAULTS", frozenset())
    highest, second = tune(*tables, "kmeans", 0)[:2]
    monkeypatch.setattr(module, "DEFAULTS", {second.settings})
    assert [one.settings for one in tune(*tables, "kmeans", 0)[:2]] == [
        second.settings,
        highest.settings,
    ]


def test_kmeans_leaves_a_default_that_is_clearly_worse(monkeypatch):
    blurred = KMeansSettings(64, prior_rows=30.0, temperature=0.2, clusterings=3)
    monkeypatch.setattr(module, "DEFAULTS", {blurred})
    first, *others = tune(made_up(400), made_up(80, seed=1), "kmeans", 0)
    assert first.settings != blurred
    assert first.value >= max(trial.value for trial in others)


def test_tuning_on_one_answer_a_query_finds_a_setting_that_routes():
    rows, held_out = made_up(600, share_answered=0.0), made_up(100, seed=1, share_answered=0.0)
    truth = made_up(400, seed=2)
    trials = tune(rows, held_out, "ridge", 0)
    first, last = (
        oracle_gain(fit(rows, held_out, t.settings, 0).predict(truth.embeddings), truth, LAMBDAS)
        for t in (trials[0], trials[-1])
    )
    assert first > 0.3 > last
    assert trials[0].gain.low > 0


def test_nothing_to_learn_is_no_gain():
    rng = np.random.default_rng(0)
    rows = made_up(400, share_answered=0.0)
    noise = np.where(np.isfinite(rows.quality), rng.integers(0, 2, rows.quality.shape), np.nan)
    same = np.where(np.isfinite(rows.quality), 0.001, np.nan).astype(np.float32)
    rows = replace(rows, quality=noise.astype(np.float32), cost_usd=same)
    gain = tune(select(rows, np.arange(300)), select(rows, np.arange(300, 400)), "kmeans", 0)[
        0
    ].gain
    assert gain.low < 0 < gain.high


def one_direction(n_queries: int, seed: int) -> Evaluations:
    """Vectors without clusters: how far along one direction they lie says which model is right."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n_queries, 24)).astype(np.float32)
    left = (embeddings[:, 0] < 0).astype(np.float32)
    cost = np.full((n_queries, 2), 0.001, np.float32)
    return Evaluations(embeddings, np.stack([left, 1 - left], axis=1), cost, ("left", "right"))


def test_compares_kinds_and_takes_the_one_that_routes_best():
    trials = tune(one_direction(300, 0), one_direction(60, 1), "auto", 0)
    assert isinstance(trials[0].settings, RidgeSettings)
    assert {type(trial.settings) for trial in trials[1:]} == {KMeansSettings, AverageSettings}


def test_takes_the_simplest_kind_where_none_is_clearly_better():
    rows = made_up(200)
    coin = np.random.default_rng(0).integers(0, 2, rows.quality.shape).astype(np.float32)
    noise = replace(rows, quality=coin, cost_usd=np.full_like(coin, 0.001))
    best = tune(select(noise, np.arange(150)), select(noise, np.arange(150, 200)), "auto", 0)[0]
    assert isinstance(best.settings, KMeansSettings)


def test_an_average_predicts_half_of_what_each_part_does():
    rows, queries = made_up(60), made_up(9, seed=1).embeddings
    parts = (KMeansSettings(4), RidgeSettings())
    one, other = (fit(rows, rows, part, 0).predict(queries) for part in parts)
    both = fit(rows, rows, AverageSettings(parts), 0).predict(queries)
    np.testing.assert_allclose(both.quality, (one.quality + other.quality) / 2, atol=1e-6)
    np.testing.assert_allclose(both.cost_usd, (one.cost_usd + other.cost_usd) / 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["kmeans", "knn", "ridge"])
def test_settings_that_share_a_fit_predict_as_if_each_had_its_own(kind):
    rows, held_out = made_up(60), made_up(20, seed=1)
    some = candidates(kind)[::7]
    for settings, estimator in zip(some, fit_each(rows, held_out, some, 0), strict=True):
        alone = fit(rows, held_out, settings, 0).predict(held_out.embeddings)
        together = estimator.predict(held_out.embeddings)
        np.testing.assert_array_equal(alone.quality, together.quality)
        np.testing.assert_array_equal(alone.cost_usd, together.cost_usd)


def test_tuning_clusters_once_into_each_number_of_clusters(monkeypatch):
    fitted = []

    def counted(*asked: Any) -> KMeansEstimator:
        fitted.append(asked)
        return fit_kmeans(*asked)

    monkeypatch.setattr(module, "fit_kmeans", counted)
    tune(made_up(60), made_up(20, seed=1), "kmeans", 0)
    assert len(fitted) == 7 * FOLDS


def test_a_log_of_one_query_asked_again_and_again_can_be_tuned_on():
    rows = made_up(40)
    one = replace(rows, embeddings=np.tile(rows.embeddings[0], (40, 1)))
    assert tune(one, one, "kmeans", 0)


def test_more_rows_than_tuning_looks_at_are_drawn_the_same_way_each_time(monkeypatch):
    monkeypatch.setattr(module, "TUNING_ROWS", 50)
    rows, held_out = made_up(200), made_up(40, seed=1)
    once, twice = (tune(rows, held_out, "knn", 3)[0] for _ in range(2))
    assert once == twice


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


@pytest.mark.parametrize("kind", ["kmeans", "knn", "ridge"])
def test_rows_with_tokens_train_a_router_of_tokens_whose_prices_may_change(kind):
    rows, held_out = (counted(made_up(n, seed=n)) for n in (200, 40))
    asked: Any = counted(made_up(100, seed=100))
    trained = train(rows, held_out, kind, 0)
    found = trained.predict(asked.embeddings)
    priced = in_usd(found, COMPLETION_MTOK, Prompts.of(asked))
    assert priced.cost_usd.sum() == pytest.approx(asked.cost_usd.sum(), rel=0.1)
    dearer: Any = replace(asked.tokens, prices=asked.tokens.prices * 3)
    thrice = in_usd(found, COMPLETION_MTOK, Prompts.of(replace(asked, tokens=dearer)))
    np.testing.assert_allclose(thrice.cost_usd, 3 * priced.cost_usd, rtol=1e-5)


def test_tuning_on_tokens_values_routing_in_usd():
    rows, held_out = counted(made_up(300)), counted(made_up(100, seed=1))
    in_tokens = tune(rows, held_out, "kmeans", 0)
    plain = tune(replace(rows, tokens=None), replace(held_out, tokens=None), "kmeans", 0)
    assert in_tokens[0].gain.low > 0
    assert in_tokens[0].value == pytest.approx(plain[0].value, abs=0.02)
