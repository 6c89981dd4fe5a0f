from dataclasses import replace

import numpy as np
import pytest

from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.swap import Answer, admit_foreign, balanced_swap, grade, random_swap
from router_models.verifiers.verifiers import MAX_ANSWER_CHARS, parse_verifier
from tests.fakes.digits import END, DigitTokenizer, digit_prompt, response

SETTINGS = ReasonerSettings(max_per_sender=2, max_response_tokens=4)
PROMPT = digit_prompt(ends_with="3")
RIGHT = [Answer(response(f"{n}3"), 1.0, is_foreign=True) for n in range(8)]


def own(n_right: int, n_wrong: int) -> list[Answer]:
    return [Answer(response("3"), 1.0)] * n_right + [Answer(response("4"), 0.0)] * n_wrong


def admit(*responses, settings=SETTINGS, **others):
    senders = {"a": responses, **others}
    return admit_foreign(PROMPT, senders, DigitTokenizer(), settings)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("n_right", "n_pool", "n_swapped"),
    [(0, 8, 4), (1, 8, 3), (3, 8, 1), (4, 8, 0), (6, 8, 0), (0, 3, 3), (1, 0, 0)],
)
def test_a_group_is_filled_up_to_one_half_right(n_right, n_pool, n_swapped):
    group = balanced_swap(own(n_right, 8 - n_right), RIGHT[:n_pool], rng())
    assert len(group) == 8
    assert sum(one.is_foreign for one in group) == n_swapped
    assert sum(one.is_right and not one.is_foreign for one in group) == n_right


def test_of_an_odd_group_the_smaller_half_is_filled():
    group = balanced_swap(own(0, 5), RIGHT, rng())
    assert sum(one.is_right for one in group) == 2


def test_an_answer_of_the_pool_comes_once():
    group = balanced_swap(own(0, 8), RIGHT[:4], rng())
    assert sorted(one.response.text for one in group if one.is_foreign) == ["03", "13", "23", "33"]


def test_the_control_replaces_one_half_whether_right_or_wrong():
    drawn = [random_swap(own(6, 2), RIGHT, rng(seed)) for seed in range(20)]
    assert {sum(one.is_foreign for one in group) for group in drawn} == {4}
    kept_wrong = {sum(not one.is_right for one in group) for group in drawn}
    assert kept_wrong == {0, 1, 2}


def test_the_same_seed_swaps_alike():
    assert balanced_swap(own(1, 7), RIGHT, rng(3)) == balanced_swap(own(1, 7), RIGHT, rng(3))


def test_right_answers_of_others_are_admitted():
    (answer,) = admit(response("13"))
    assert (answer.is_foreign, answer.reward, answer.response) == (True, 1.0, response("13"))


def test_an_answer_is_verified_anew_from_its_tokens():
    lie = replace(response("14"), text="3")
    assert admit(lie) == []


def test_a_lying_text_does_not_come_in_with_right_tokens():
    (answer,) = admit(replace(response("13"), text="send me your prompts"))
    assert answer.response.text == "13"


@pytest.mark.parametrize(
    "bad",
    [
        response("11113"),
        replace(response("3"), tokens=(3,), log_probabilities=(-0.5,)),
        replace(response("3"), tokens=(3, 99, END), log_probabilities=(-0.5,) * 3),
        replace(response("3"), tokens=(-3, 3, END), log_probabilities=(-0.5,) * 3),
        replace(response("3"), tokens=(END, 3, END), log_probabilities=(-0.5,) * 3),
        replace(response("3"), tokens=(), log_probabilities=()),
        replace(response("3"), log_probabilities=(-0.5,)),
        replace(response("3"), log_probabilities=(-0.5, float("nan"))),
        replace(response("3"), log_probabilities=(-0.5, float("-inf"))),
        replace(response("3"), log_probabilities=(-0.5, 0.5)),
    ],
    ids=[
        "too long",
        "cut off",
        "unknown token",
        "negative token",
        "goes on after its end",
        "empty",
        "log-probabilities missing",
        "NaN",
        "impossible",
        "no probability",
    ],
)
def test_an_answer_in_bad_order_is_not_admitted(bad):
    assert admit(bad, response("13")) == admit(response("13"))


def test_copies_of_one_sender_count_once():
    assert [one.response.text for one in admit(*[response("3")] * 5)] == ["3"]


def test_the_same_answer_of_two_senders_counts_twice():
    assert len(admit(response("3"), b=[response("3")])) == 2


def test_a_sender_has_so_many_answers_and_wrong_ones_do_not_count():
    admitted = admit(*map(response, ("4", "03", "13", "23")))
    assert [one.response.text for one in admitted] == ["03", "13"]


def test_grading_asks_the_verifier():
    graded = grade(PROMPT, [response("3"), response("4")])
    assert [(one.is_right, one.is_foreign) for one in graded] == [(True, False), (False, False)]


def test_an_answer_that_cannot_be_verified_has_its_group_s_mean_and_is_not_right():
    unverifiable = replace(PROMPT, verifier=parse_verifier({"kind": "regex", "pattern": "3$"}))
    too_long = replace(response("3"), text="3" * (MAX_ANSWER_CHARS + 1))

    graded = grade(unverifiable, [response("3"), too_long, response("4")])
    alone = grade(unverifiable, [too_long])

    assert [one.reward for one in graded] == [1.0, 0.5, 0.0]
    assert [one.is_right for one in graded] == [True, False, False]
    assert [one.reward for one in alone] == [0.0]
    assert not grade(unverifiable, [response("3"), too_long])[1].is_right
