"""What a site may answer, exchange by exchange: honest sums pass, sums that cannot be do not."""

from dataclasses import replace

import numpy as np
import pytest

from federation.errors import ReplyRejected
from federation.exchanges.exchange import Exchange, Task
from federation.exchanges.guard import DistanceExchange, GuardCentroidExchange, ReachExchange
from federation.exchanges.kmeans import CellExchange, CentroidExchange
from federation.exchanges.mlp import InitialWeightExchange, LossExchange, WeightExchange
from federation.exchanges.ridge import GramExchange
from federation.exchanges.rows import RowSumExchange
from federation.learning.settings import FederatedMlpSettings
from federation.protocol.protocol import Instruction, Payload
from federation.protocol.updates import Reply
from router_models.estimators.arrays import add_prefix
from tests.fakes.evaluations import MODELS
from tests.fakes.sites import plan_of, site_of

PLANS = {kind: plan_of(kind, columns=MODELS) for kind in ("kmeans", "mlp", "ridge")}
SITES = [site_of(0), site_of(1)]


def state_before(kind: str, *exchanges: Exchange) -> Payload:
    """Let two sites answer these exchanges."""
    state: Payload = {}
    for exchange in exchanges:
        instruction = exchange.instruction(PLANS[kind], 1, state)
        replies = [Reply(s.name, exchange.answer(Task(s, instruction))) for s in SITES]
        state = exchange.aggregate(state, instruction, replies)
    return state


ROWS = RowSumExchange()
STATES = {
    "nothing": {},
    "rows": state_before("kmeans", ROWS),
    "centroids": state_before("kmeans", ROWS, CentroidExchange()),
    "weights": state_before("mlp", InitialWeightExchange()),
    "guard": state_before("kmeans", ROWS, GuardCentroidExchange()),
    "reach": state_before("kmeans", ROWS, GuardCentroidExchange(), ReachExchange()),
}
EXCHANGES = {
    "rows": ("kmeans", ROWS, "nothing"),
    "centroids": ("kmeans", CentroidExchange(), "rows"),
    "cells": ("kmeans", CellExchange(), "centroids"),
    "weights": ("mlp", WeightExchange(), "weights"),
    "loss": ("mlp", LossExchange(), "weights"),
    "gram": ("ridge", GramExchange(), "rows"),
    "guard_centroids": ("kmeans", GuardCentroidExchange(), "nothing"),
    "reach": ("kmeans", ReachExchange(), "guard"),
    "distances": ("kmeans", DistanceExchange(), "reach"),
}


def question(name: str) -> tuple[Exchange, Instruction]:
    kind, exchange, before = EXCHANGES[name]
    return exchange, exchange.instruction(PLANS[kind], 1, STATES[before])


def honest(name: str) -> tuple[Exchange, Instruction, Payload]:
    exchange, instruction = question(name)
    return exchange, instruction, exchange.answer(Task(SITES[0], instruction))


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_honest_answer_passes(name):
    exchange, instruction, payload = honest(name)
    exchange.form(instruction).check(payload)


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name != "distances"])
def test_an_answer_says_how_many_rows_it_was_made_of(name):
    exchange, _, payload = honest(name)
    assert 0 < exchange.rows(payload) <= 160


LIES = [
    ("rows", "count", lambda p: p["count"] + 999, "more evaluations than there are rows"),
    ("rows", "quality_sum", lambda p: p["count"] + 1, "the mean quality is above 1"),
    ("rows", "cost_sum", lambda p: p["count"] * 101, "the mean cost is above dearest_usd"),
    ("rows", "log_cost_sum", lambda p: p["cost_sum"] * 2, "logarithms of costs"),
    ("rows", "feature_sum", lambda p: p["feature_sum"] + 1e4, "larger than its squares"),
    ("rows", "feature_squares", lambda p: p["feature_squares"] * 0, "larger than its squares"),
    ("rows", "log_cost_squares", lambda p: p["log_cost_squares"] * 0, "larger than its squares"),
    ("rows", "rows", lambda p: -p["rows"], "outside 0"),
    ("rows", "quality_sum", lambda p: -p["quality_sum"] - 1, "outside 0"),
    ("centroids", "centroids", lambda p: p["centroids"] * 2, ""),
    (
        "centroids",
        "centroids",
        lambda p: p["centroids"][:-1],
        "numbers of centroids and counts differ",
    ),
    ("centroids", "centroids", lambda p: np.full_like(p["centroids"], 0.5), "longer than the rows"),
    ("centroids", "counts", lambda p: p["counts"] * 0 + 9, "outside 10"),
    ("cells", "distance_sum", lambda p: p["sizes"] * 2 + 1, "the sum of distances"),
    ("cells", "quality_sum", lambda p: p["count"] + 1, "the mean quality"),
    ("cells", "quality_squares", lambda p: p["quality_sum"] + 1, "the mean quality"),
    ("cells", "quality_squares", lambda p: p["quality_squares"] * 0, "larger than its squares"),
    ("cells", "cost_sum", lambda p: p["count"] * 101, "the mean cost"),
    ("cells", "cost_squares", lambda p: p["cost_sum"] * 101, "the mean cost"),
    ("cells", "cost_squares", lambda p: p["cost_squares"] * 0, ""),
    ("weights", "rows_per_model", lambda p: p["rows"] + p["rows_per_model"], "more rows than"),
    ("weights", "head_bias", lambda p: p["head_bias"] + np.float32(2e4), "outside -10000"),
    ("loss", "loss", lambda p: -p["loss"], "outside 0"),
    ("loss", "loss", lambda p: p["loss"] + 1000, "outside 0 to 100"),
    ("gram", "gram", lambda p: -p["gram"], "negative"),
    ("gram", "gram", lambda p: p["gram"] + 1e4 * (np.arange(91) == 1), "product of features"),
    ("gram", "quality", lambda p: p["quality"] + 1e4, "qualities or costs"),
    ("gram", "cost_usd", lambda p: p["cost_usd"] + 1e6, "qualities or costs"),
    ("guard_centroids", "counts", lambda p: p["counts"] * 0, "outside 10"),
    ("reach", "distance_sum", lambda p: p["sizes"] * 2 + 1, "the sum of distances"),
    ("reach", "distance_squares", lambda p: p["distance_sum"] * 2 + 1, "the sum of distances"),
    ("reach", "distance_squares", lambda p: p["distance_squares"] * 0, "larger than its squares"),
    ("distances", "rows", lambda p: p["rows"] - 1, "outside 0"),
]


@pytest.mark.parametrize(("name", "array", "lie", "reason"), LIES)
def test_an_answer_that_cannot_be_is_rejected(name, array, lie, reason):
    exchange, instruction, payload = honest(name)
    with pytest.raises(ReplyRejected) as error:
        exchange.form(instruction).check({**payload, array: lie(payload)})
    assert reason in str(error.value)


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_site_is_sent_only_what_the_exchange_names(name):
    exchange, instruction = question(name)
    assert all(array.startswith(exchange.state_prefixes or "nothing") for array in instruction.sent)


def test_no_head_moves_by_a_site_that_has_no_rows_of_its_model():
    exchange, instruction, payload = honest("weights")
    assert isinstance(instruction.plan.settings, FederatedMlpSettings)
    settings = replace(instruction.plan.settings, adam_at="clients")
    instruction = replace(instruction, plan=replace(instruction.plan, settings=settings))
    idle = {**payload, "rows_per_model": np.array([80.0, 80.0, 0.0, 80.0])}
    merged = exchange.aggregate(dict(instruction.sent), instruction, [Reply("a", idle)])
    kept = instruction.sent["weights.head_bias"]
    moved = np.flatnonzero(merged["weights.head_bias"] != kept)
    assert moved.tolist() == [0, 1, 3, 4, 5, 7]


def test_models_of_which_the_gram_matrix_would_tell_the_rows_are_withheld():
    site = site_of(0, n_queries=12)
    exchange, instruction = question("gram")
    payload = exchange.answer(Task(site, instruction))
    assert not payload["gram"].any()


def test_a_prefix_names_what_arrays_belong_to():
    assert list(add_prefix("rows.", {"count": np.zeros(1)})) == ["rows.count"]
