from math import inf

import numpy as np
import pytest

from budget.environments.trace import TraceSolver
from tests.fakes.problems import trace_environment

PLAIN = TraceSolver([([300], [True]), ([200], [False])], (0,))
TIERED = TraceSolver([([10, 90], [False, True])], (0, 128))


def test_a_right_sample_no_longer_than_the_allotment_succeeds():
    assert PLAIN.answer(0, 300) == (300, True, False)


def test_a_sample_longer_than_the_allotment_is_cut_off_and_wrong():
    assert PLAIN.answer(0, 299) == (299, False, True)


def test_a_wrong_sample_stays_wrong_whatever_it_is_allotted():
    assert PLAIN.answer(1, 4096) == (200, False, False)


@pytest.mark.parametrize(("allotted", "used"), [(64, 10), (127, 10), (128, 90), (4096, 90)])
def test_a_solver_that_was_told_a_limit_answers_as_it_did_under_it(allotted, used):
    assert TIERED.answer(0, allotted).tokens == used


def test_the_cheapest_right_answer_is_of_a_tier_that_can_be_had():
    assert TIERED.cheapest_right(0, 64) == 90
    assert PLAIN.cheapest_right(0, 64) == 300
    assert PLAIN.cheapest_right(1, 64) == inf


def test_all_rollouts_of_a_problem_meet_the_same_draws():
    environment = trace_environment([["easy", "long"]])
    first, second = environment.start(0, np.random.default_rng(3), 2)
    assert first.answer(1, 1000) == second.answer(1, 1000)


def test_equal_generators_draw_equal_samples():
    environment = trace_environment([["easy", "long"]])
    draws = [environment.start(0, np.random.default_rng(7))[0].drawn for _ in range(2)]
    assert draws[0] == draws[1]


def test_a_selection_keeps_problems_with_their_samples():
    environment = trace_environment([["easy"], ["long", "easy"], ["hopeless"]])
    selected = environment.select([1])
    assert selected.problems == environment.problems[1:2]
    assert selected.samples == environment.samples[1:2]
    assert selected.describe() == {"problems": 1, "turns": 2, "samples": 2}
