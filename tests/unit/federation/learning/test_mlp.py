from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.learning.mlp import LocalUpdate, average, to_estimator
from federation.learning.mlp_training import initial_weights, train_locally, validation_loss
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import RowSums
from router_models.errors import ArtifactRejected
from router_models.training.mlp import RouterNetwork, Rows, masked_loss
from tests.fakes.clients import no_rows, pooled, split_rows, without_model
from tests.fakes.evaluations import MODELS, made_up

TINY = FederatedMlpSettings(
    hidden=8, learning_rate=1e-2, dropout=0.1, batch_size=32, adam_at="clients"
)
STEADY = replace(TINY, adam_at="coordinator", dropout=0.0)
ROWS = made_up(120, share_answered=0.5)
SCALES = RowSums.gather(ROWS).scales()
START = initial_weights(SCALES, TINY, seed=3)


def trained(rows, seed=0, **options) -> LocalUpdate:
    return train_locally(START, rows, SCALES, TINY, seed, **options)


def unanswered(rows):
    return reduce(without_model, range(len(MODELS)), rows)


def one_answer_each(rows):
    kept = np.arange(len(rows.quality))[:, None] % len(MODELS) == np.arange(len(MODELS))
    missing = np.float32(np.nan)
    return replace(
        rows,
        quality=np.where(kept, rows.quality, missing),
        cost_usd=np.where(kept, rows.cost_usd, missing),
    )


def update_of(value: float, rows: float, rows_per_model) -> LocalUpdate:
    weights = {name: np.full_like(array, value) for name, array in START.items()}
    return LocalUpdate(weights, np.array([rows]), np.array(rows_per_model, float))


def assert_equal_weights(one, other, **tolerance):
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], err_msg=name, **tolerance)


def run_rounds(clients, rounds=12):
    weights = START
    for number in range(rounds):
        weights = average(
            weights, [train_locally(weights, rows, SCALES, TINY, number) for rows in clients]
        )
    return weights


def loss_of(weights, rows) -> float:
    total, count = validation_loss(weights, rows, SCALES)
    return total / count


def test_heads_begin_at_their_models_means():
    estimator = to_estimator(START | {"head_weight": np.zeros((8, 8), np.float32)}, MODELS, SCALES)
    predicted = estimator.predict(ROWS.embeddings).quality
    np.testing.assert_allclose(predicted, np.tile(SCALES.quality_means, (120, 1)), rtol=1e-4)


def test_the_same_seed_gives_the_same_bits():
    one, other = trained(ROWS, seed=5), trained(ROWS, seed=5)
    assert_equal_weights(one.weights, other.weights, rtol=0)
    assert_equal_weights(START, initial_weights(SCALES, TINY, seed=3), rtol=0)


def test_another_seed_gives_other_weights():
    assert not np.array_equal(
        trained(ROWS, 1).weights["head_bias"], trained(ROWS, 2).weights["head_bias"]
    )


def test_training_leaves_the_common_weights_alone():
    before = {name: array.copy() for name, array in START.items()}
    trained(ROWS)
    assert_equal_weights(START, before, rtol=0)


def test_a_client_says_how_many_rows_it_has_of_each_model():
    update = trained(without_model(ROWS, 1))
    assert update.rows_per_model[1] == 0
    assert update.rows_per_model[0] == np.isfinite(ROWS.quality[:, 0]).sum()


def test_queries_that_no_model_answered_are_left_out():
    rows = ROWS.quality.copy()
    rows[:100] = np.nan
    silent = type(ROWS)(ROWS.embeddings, rows, np.where(np.isnan(rows), rows, 0.001), MODELS)
    assert trained(silent).rows == 20


@pytest.mark.parametrize("rows", [no_rows(), unanswered(made_up(5))])
def test_a_client_without_rows_changes_nothing(rows):
    update = trained(rows)
    assert_equal_weights(update.weights, START, rtol=0)
    assert_equal_weights(average(START, [update]), START, rtol=0)


def test_a_client_with_one_row_trains():
    update = trained(made_up(1))
    assert update.rows == 1
    assert all(np.isfinite(array).all() for array in update.weights.values())


def test_one_client_alone_is_the_average():
    update = trained(made_up(60))
    assert_equal_weights(average(START, [update]), update.weights, rtol=1e-6)


def test_equal_clients_are_averaged_plainly():
    updates = [update_of(1.0, 10, [5, 5, 5, 5]), update_of(3.0, 10, [5, 5, 5, 5])]
    for array in average(START, updates).values():
        np.testing.assert_allclose(array, 2.0)


def test_the_trunk_counts_by_rows_and_each_head_by_its_models_rows():
    averaged = average(START, [update_of(0.0, 30, [9, 0, 1, 0]), update_of(1.0, 10, [1, 4, 1, 0])])
    np.testing.assert_allclose(averaged["trunk.0.weight"], 0.25)
    np.testing.assert_allclose(averaged["head_bias"][[0, 1, 2]], [0.1, 1.0, 0.5])
    np.testing.assert_allclose(averaged["head_weight"][:, [4, 5, 6]], [[0.1, 1.0, 0.5]] * 8)


def test_a_head_that_nobody_has_rows_for_stays():
    averaged = average(START, [trained(without_model(ROWS, 2), seed) for seed in (0, 1)])
    np.testing.assert_array_equal(
        averaged["head_weight"][:, [2, 6]], START["head_weight"][:, [2, 6]]
    )
    np.testing.assert_array_equal(averaged["head_bias"][[2, 6]], START["head_bias"][[2, 6]])


def test_a_client_cannot_move_the_head_of_a_model_it_has_no_rows_of():
    other = trained(made_up(50, seed=1))
    quiet = LocalUpdate(
        trained(without_model(ROWS, 2)).weights, np.array([1e-9]), np.array([9.0, 9, 0, 9])
    )
    averaged = average(START, [quiet, other])
    np.testing.assert_allclose(
        averaged["head_weight"][:, [2, 6]], other.weights["head_weight"][:, [2, 6]], rtol=1e-6
    )


@given(rows=st.lists(st.integers(1, 1000), min_size=1, max_size=4), value=st.floats(-10, 10))
def test_clients_that_agree_are_not_changed_by_averaging(rows, value):
    averaged = average(START, [update_of(value, n, [n, n, n, n]) for n in rows])
    for array in averaged.values():
        np.testing.assert_allclose(array, np.float32(value), rtol=1e-6)


def test_clients_learn_together_what_none_of_them_could_alone():
    held_out = made_up(200, seed=8)
    clients = split_rows(made_up(240, share_answered=0.3), 3)
    together = run_rounds(clients)
    assert loss_of(together, held_out) < loss_of(START, held_out) - 0.05
    assert loss_of(together, held_out) < min(loss_of(run_rounds([c]), held_out) for c in clients)


def test_a_frozen_trunk_stays_and_its_heads_learn():
    update = trained(ROWS, frozen_trunk=True)
    trunk = {name: array for name, array in START.items() if name.startswith("trunk.")}
    assert_equal_weights({name: update.weights[name] for name in trunk}, trunk, rtol=0)
    assert not np.array_equal(update.weights["head_weight"], START["head_weight"])


def test_a_teacher_keeps_the_predictions_of_models_without_rows():
    lone = without_model(without_model(made_up(80, seed=4), 0), 2)
    teacher = run_rounds([made_up(200)])

    def moved(**options) -> float:
        weights = teacher
        for number in range(8):
            weights = train_locally(weights, lone, SCALES, TINY, number, **options).weights
        before, after = (
            to_estimator(w, MODELS, SCALES).predict(lone.embeddings) for w in (teacher, weights)
        )
        return float(np.abs(before.quality - after.quality)[:, [0, 2]].mean())

    assert moved(teacher=teacher) < 0.5 * moved()


def test_the_loss_over_clients_is_that_of_all_their_rows():
    clients = split_rows(ROWS, 3)
    parts = [validation_loss(START, rows, SCALES) for rows in clients]
    rows = Rows.from_evaluations(pooled(clients), SCALES.scaler, SCALES.cost_scale)
    expected = masked_loss(RouterNetwork.from_weights(START)(rows.features), rows).item()
    assert sum(total for total, _ in parts) / sum(n for _, n in parts) == pytest.approx(expected)


def test_a_client_without_held_out_rows_has_no_say_in_the_loss():
    assert validation_loss(START, no_rows(), SCALES) == (0.0, 0)


def test_the_estimator_holds_weights_and_scales():
    arrays = to_estimator(START, MODELS, SCALES).to_arrays()
    assert_equal_weights({name: arrays[name] for name in START}, START, rtol=0)
    np.testing.assert_array_equal(arrays["cost_floor_usd"], SCALES.cost_floor_usd)


def test_an_update_comes_back_from_its_arrays():
    update = trained(ROWS)
    again = LocalUpdate.from_arrays(update.to_arrays(), START)
    assert_equal_weights(again.to_arrays(), update.to_arrays(), rtol=0)


def test_refuses_an_update_of_another_shape():
    arrays = trained(ROWS).to_arrays() | {"rows_per_model": np.ones(3)}
    with pytest.raises(ArtifactRejected, match="rows_per_model"):
        LocalUpdate.from_arrays(arrays, START)


def gradient(rows) -> LocalUpdate:
    return train_locally(START, rows, SCALES, STEADY, 0)


def test_gradients_of_clients_average_to_the_gradient_of_all_their_rows():
    rows = one_answer_each(made_up(90))
    averaged = average(START, [gradient(part) for part in split_rows(rows, 3)])
    assert_equal_weights(averaged, gradient(rows).weights, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_the_same_in_one_pass_and_in_several(monkeypatch):
    whole = gradient(ROWS).weights
    monkeypatch.setattr("federation.learning.mlp_training.ROWS_AT_ONCE", 16)
    assert_equal_weights(gradient(ROWS).weights, whole, rtol=1e-4, atol=1e-6)


def test_a_gradient_leaves_a_frozen_trunk_and_the_head_of_an_unknown_model():
    update = train_locally(START, without_model(ROWS, 2), SCALES, STEADY, 0, frozen_trunk=True)
    np.testing.assert_array_equal(update.weights["trunk.0.weight"], START["trunk.0.weight"])
    np.testing.assert_array_equal(update.weights["head_bias"][[2, 6]], START["head_bias"][[2, 6]])
    assert (update.weights["head_bias"][[0, 4]] != START["head_bias"][[0, 4]]).all()
