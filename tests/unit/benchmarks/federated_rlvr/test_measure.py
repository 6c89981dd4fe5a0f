import numpy as np
import pytest

from benchmarks.federated_rlvr.measure import accuracy, difference, own_kinds, right_answers

EVERY = range(2)


def test_what_local_training_gets_right_is_the_mean_of_its_models():
    marks = {"one": {"sum": "1100"}, "other": {"sum": "1000"}}
    np.testing.assert_array_equal(
        right_answers({"marks": {"8": marks}}, "8"), [[1.0, 0.5, 0.0, 0.0]]
    )


def test_a_clients_own_kind_is_read_from_its_own_model():
    marks = {"sum": {"sum": "10", "count": "00"}, "count": {"sum": "00", "count": "11"}}
    np.testing.assert_array_equal(own_kinds({"marks": {"8": marks}}, "8"), [[1, 0], [1, 1]])


def coins(seed, chance):
    rng = np.random.default_rng(seed)
    return [(rng.random((2, 50)) < chance).astype(float) for _ in range(3)]


def test_an_accuracy_lies_inside_its_interval():
    found = accuracy(coins(0, 0.7), EVERY)
    assert found.value == pytest.approx(np.mean(coins(0, 0.7)))
    assert found.low < found.value < found.high


def test_the_interval_of_one_kind_ignores_the_others():
    right = [np.array([[1.0] * 50, row]) for row in np.eye(3, 50)]
    assert accuracy(right, [0]).low == accuracy(right, [0]).high == 1.0


def test_seeds_that_disagree_widen_the_interval():
    alike = [np.tile([1.0, 0.0], (2, 25))] * 3
    apart = [np.full((2, 50), value) for value in (0.0, 0.5, 1.0)]
    assert accuracy(apart, EVERY).low < accuracy(alike, EVERY).low


def test_a_difference_is_paired_question_by_question():
    right = coins(1, 0.5)
    better = [np.minimum(one + 0.25, 1.25) for one in right]
    gap = difference(better, right, EVERY)
    assert gap.low == pytest.approx(gap.high) == pytest.approx(0.25)
