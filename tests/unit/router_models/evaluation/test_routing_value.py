from dataclasses import replace

import numpy as np
import pytest

from router_models.evaluation.routing_value import (
    SHRINKAGE,
    TRADE_OFFS,
    RoutingValue,
    mean_gain,
)
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up


def guess_of(rows: Evaluations, seed: int = 5) -> Prediction:
    rng = np.random.default_rng(seed)
    shape = rows.quality.shape
    return Prediction(
        rng.random(shape, np.float32), rng.random(shape, np.float32) * np.float32(0.002)
    )


def exact(rows: Evaluations, prediction: Prediction) -> float:
    scale, queries = rows.cost_usd.mean(dtype=np.float64), np.arange(len(rows.quality))
    found = []
    for t in TRADE_OFFS:
        chosen = ((1 - t) * prediction.quality - t / scale * prediction.cost_usd).argmax(axis=1)
        quality, cost = rows.quality[queries, chosen], rows.cost_usd[queries, chosen]
        found.append(((1 - t) * quality - t * cost / scale).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("shrinkage", [SHRINKAGE, float("inf")])
def test_without_gaps_the_value_is_exact_whatever_the_guess(shrinkage):
    rows, prediction = made_up(300), guess_of(made_up(300), 8)
    value = RoutingValue(rows, guess_of(rows), shrinkage).of_routing(prediction).mean()
    assert value == pytest.approx(exact(rows, prediction), abs=1e-6)


def test_with_gaps_the_value_is_right_on_average_whatever_the_guess():
    rows, prediction = made_up(2_000), guess_of(made_up(2_000), 8)
    found = []
    for seed in range(40):
        kept = np.random.default_rng(seed).random(rows.quality.shape) < 0.3
        sparse = replace(
            rows,
            quality=np.where(kept, rows.quality, np.nan),
            cost_usd=np.where(kept, rows.cost_usd, np.nan),
        )
        found.append(RoutingValue(sparse, guess_of(rows, seed)).of_routing(prediction).mean())
    spread = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(exact(rows, prediction), abs=4 * spread)


def test_the_best_single_model_is_that_of_each_trade_off():
    rows = made_up(300)
    value = RoutingValue(rows, guess_of(rows)).of_best_single().mean()
    alone = [np.zeros((300, 4), np.float32) for _ in range(4)]
    for model, table in enumerate(alone):
        table[:, model] = 1.0
    free = np.zeros((300, 4), np.float32)
    assert value >= max(exact(rows, Prediction(table, free)) for table in alone)


def test_a_model_that_nobody_asked_is_worth_the_guess():
    rows = made_up(50)
    quality, cost = rows.quality.copy(), rows.cost_usd.copy()
    quality[:, 0] = cost[:, 0] = np.nan
    sure, free = np.zeros((50, 4), np.float32), np.zeros((50, 4), np.float32)
    sure[:, 0] = 1.0
    guess = Prediction(np.full((50, 4), 0.25, np.float32), free)
    value = RoutingValue(replace(rows, quality=quality, cost_usd=cost), guess)
    np.testing.assert_allclose(
        value.of_routing(Prediction(sure, free)), 0.25 * (1 - TRADE_OFFS).mean()
    )


def test_free_models_differ_in_quality_alone():
    rows = replace(made_up(50), cost_usd=np.zeros((50, 4), np.float32))
    assert np.isfinite(RoutingValue(rows, guess_of(rows)).of_best_single()).all()


def test_a_gain_comes_with_the_interval_of_its_paired_differences():
    gain = mean_gain(np.array([1.0, 2.0, 3.0, 2.0]), np.array([0.0, 1.0, 2.0, 1.0]))
    assert gain.value == 1.0
    assert gain.low > 0.0


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_or_two_never_show_a_gain(rows):
    gain = mean_gain(np.full(rows, 0.3), np.zeros(rows))
    assert gain.value == pytest.approx(0.3)
    assert gain.low < 0.0
    assert gain.high > 0.6


def test_an_interval_of_many_rows_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.1, 0.5, 10_000)
    gain = mean_gain(values, np.zeros(10_000))
    assert gain.high - gain.value == pytest.approx(1.96 * values.std() / 100, rel=1e-3)
