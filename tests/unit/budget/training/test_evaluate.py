import numpy as np
import pytest

from budget.policies.policy import StaticPolicy
from budget.training.evaluate import (
    Outcomes,
    ParetoFront,
    bootstrap,
    compare,
    evaluate_policy,
    interval,
    oracle_front,
)
from tests.fakes.problems import trace_environment

ENVIRONMENT = trace_environment([["easy", "long"], ["hopeless", "easy"], ["easy", "easy"]])


def outcomes(is_right, tokens) -> Outcomes:
    tokens = np.array(tokens, float)
    return Outcomes(np.array(is_right, float), tokens, tokens, 0)


def test_plays_every_problem_once():
    found = evaluate_policy(StaticPolicy((512,)), ENVIRONMENT, 10_000)
    np.testing.assert_array_equal(found.is_right, [1, 0, 1])
    np.testing.assert_array_equal(found.tokens, [310, 522, 20])
    np.testing.assert_array_equal(found.allotted_tokens, [1024, 1024, 1024])
    assert found.e3 == pytest.approx((2 / 3) ** 2 / 284)


def test_no_conversation_uses_more_than_its_budget():
    found = evaluate_policy(StaticPolicy((4096,)), ENVIRONMENT, 300)
    assert found.violations == 0
    assert found.tokens.max() <= 300


def test_a_front_keeps_what_no_cheaper_point_beats():
    front = ParetoFront.from_points(
        np.array([30.0, 10.0, 20.0, 40.0]), np.array([0.4, 0.1, 0.5, 0.6])
    )
    np.testing.assert_array_equal(front.tokens, [10, 20, 40])
    np.testing.assert_array_equal(front.accuracy, [0.1, 0.5, 0.6])


def test_between_two_points_a_front_mixes_them():
    front = ParetoFront(np.array([10.0, 20.0]), np.array([0.2, 0.6]))
    assert front.tokens_at(0.4) == pytest.approx(15.0)
    assert front.accuracy_at(15.0) == pytest.approx(0.4)
    assert front.tokens_at(0.9) == 20.0


def test_the_oracle_solves_the_cheapest_problems_first_and_spends_least_on_the_rest():
    front = oracle_front(ENVIRONMENT, smallest=64)
    # Idle: 10 + 64, 64 + 10, 10 + 10 tokens; the third problem then costs nothing more.
    np.testing.assert_allclose(front.tokens, [168 / 3, (168 + 236) / 3])
    np.testing.assert_allclose(front.accuracy, [1 / 3, 2 / 3])


def test_the_oracle_gives_turns_that_are_not_decisive_the_least():
    environment = trace_environment([["long", "easy"]], [[False, True]])
    assert oracle_front(environment, smallest=64).tokens_at(1.0) == 74


def test_bootstrap_begins_with_the_sample_itself():
    weights = bootstrap(5, 20)
    np.testing.assert_allclose(weights[0], 0.2)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_interval_leaves_a_tail_on_each_side():
    low, high = interval(np.arange(1001))
    assert (low, high) == pytest.approx((25.0, 975.0))


def test_compares_at_matched_accuracy_and_at_matched_tokens():
    family = [outcomes([0, 0, 0, 0], [10] * 4), outcomes([1, 1, 0, 0], [100] * 4)]
    found = compare([outcomes([1, 1, 0, 0], [50] * 4)], family, replicates=50)
    assert found.accuracy[0] == 0.5
    assert found.tokens == pytest.approx((50.0, 50.0, 50.0))
    assert found.saved[0] == pytest.approx(0.5)
    assert found.gained[0] == pytest.approx(0.5 - 0.5 * 40 / 90)
    assert found.e3[0] == pytest.approx(0.25 / 50)


def test_seeds_that_differ_widen_the_interval():
    family = [outcomes([1, 0] * 20, [100] * 40)]
    same = [outcomes([1, 0] * 20, [50] * 40)] * 2
    unlike = [outcomes([1, 0] * 20, [20] * 40), outcomes([1, 0] * 20, [80] * 40)]
    narrow = compare(same, family, replicates=200).tokens
    wide = compare(unlike, family, replicates=200).tokens
    assert narrow[2] - narrow[1] < wide[2] - wide[1]
