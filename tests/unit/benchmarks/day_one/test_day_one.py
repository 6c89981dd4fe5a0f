"""The benchmark of new models, on a table of made-up answers."""

import numpy as np
import pytest

from benchmarks.day_one import report
from benchmarks.day_one.completion import complete_log_tokens, complete_scores
from benchmarks.day_one.contenders import (
    Background,
    DayOne,
    answered,
    at_random,
    best_single,
    kmeans,
    predictions,
)
from benchmarks.day_one.protocol import Judge, draws
from benchmarks.day_one.tables import Table, list_price
from router_models.estimators.arrays import Scaler
from tests.fakes.known_answers import known_answers


@pytest.fixture(scope="module")
def table() -> Table:
    known = known_answers(9, 500)
    price = np.stack([np.zeros(9), np.geomspace(0.1, 10.0, 9)], axis=1)
    return Table(
        known.models,
        known.embeddings,
        known.score,
        known.completion_tokens * price[:, 1] / 1e6,
        known.completion_tokens,
        known.prompt_tokens,
        price,
        np.ones(9, bool),
        np.arange(500) % 5 == 0,
    )


@pytest.fixture(scope="module")
def draw(table):
    return next(draws(table, range(1)))


def test_three_models_of_a_pool_are_new_or_all_of_it_is(table):
    three, whole = draws(table, range(1))
    assert (len(three.pool), len(three.new)) == (8, 3)
    assert len(whole.pool) == len(whole.new) == 4
    for one in (three, whole):
        assert not set(one.new) & set(one.known)
        assert not set(one.train) & set(one.test)
        assert set(one.bank) <= set(one.train)


def test_new_models_answered_the_prompts_they_were_asked_and_no_others(draw):
    known = answered(draw, at_random(draw, 20))
    assert known[:, : draw.n_known].all()
    assert known[:, draw.n_known :].sum(axis=0).tolist() == [20] * len(draw.new)


def test_knowing_the_truth_loses_less_than_any_one_model(draw):
    judge, at = Judge.of(draw), np.ix_(draw.test, draw.pool)
    truth = judge.loss(draw.table.score[at], draw.table.cost_usd[at])
    assert truth < min(0.0, judge.constants.min())


def test_every_contender_is_measured_and_learns(draw):
    judge, background = Judge.of(draw), Background.of(draw, 0)
    day_one = DayOne.of(draw, background.clusters.centroids)
    found = {
        (name, count): judge.loss(*prediction)
        for name, count, prediction in predictions(draw, background, day_one)
    }
    assert {name for name, _ in found} == set(report.CONTENDERS)
    assert found["day one", 340] < found["day one", 0]


def test_equal_answers_give_equal_predictions_to_the_best_single_model(draw):
    quality, cost = best_single(draw, at_random(draw, 340))
    assert (quality == quality[0]).all()
    assert (cost == cost[0]).all()
    assert kmeans(draw, at_random(draw, 340), Background.of(draw, 0))[0].std(axis=0).max() > 0.05


def test_list_prices_are_read_from_what_was_charged():
    rng = np.random.default_rng(0)
    prompt, completion = rng.integers(10, 500, (2, 100)).astype(float)
    cost = (prompt * 3.0 + completion * 15.0) / 1e6
    np.testing.assert_allclose(list_price(prompt, completion, cost), [3.0, 15.0])
    np.testing.assert_allclose(list_price(prompt, completion * 0, prompt / 5e6), [0.2, 0.0])


def test_tables_of_other_models_are_joined_by_those_that_both_share():
    truth = known_answers(10, 800)
    score = truth.score.copy()
    score[:400, :3] = score[400:, 7:] = np.nan
    filled = complete_scores(Scaler.fit(truth.embeddings).apply(truth.embeddings), score)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[400:, :3], score[400:, :3])
    strong, weak = filled[400:, 7:].mean(), filled[:400, :3].mean()
    assert strong == pytest.approx(truth.score[400:, 7:].mean(), abs=0.08)
    assert weak == pytest.approx(truth.score[:400, :3].mean(), abs=0.08)


def test_missing_lengths_follow_the_query_and_the_model():
    tokens = np.arange(40.0)[:, None] + np.array([0.0, 1.0, 3.0])
    missing = tokens.copy()
    missing[0, 2] = missing[4, 0] = np.nan
    np.testing.assert_allclose(complete_log_tokens(missing), tokens, atol=0.1)


def test_shares_count_sets_equally_and_pools_by_their_loss():
    rows = [
        {"set": "a", "scenario": "x", "ignorance": 10.0, "loss": {"day one": {"5": 5.0}}},
        {"set": "a", "scenario": "x", "ignorance": 30.0, "loss": {"day one": {"5": 5.0}}},
        {"set": "b", "scenario": "x", "ignorance": 10.0, "loss": {"day one": {"5": 1.0}}},
    ]
    assert report.share(rows, "day one", 5) == pytest.approx((0.25 + 0.1) / 2)
    assert report.share(rows, "K-means", 5) is None
