from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import InvalidEvaluations
from router_models.pricing import (
    Prompts,
    implied_prices,
    in_unit,
    in_usd,
    tabulate,
    uncounted_models,
    unit_of,
)
from router_models.statistics import join, select, select_models
from router_models.types import COMPLETION_MTOK, USD, Evaluations, Prediction
from tests.fakes.evaluations import counted, made_up

PRICES = st.floats(0, 1e-4)


def prices_of(prompt, completion, cost, model=None, n_models=1):
    places = np.zeros(len(prompt), np.intp) if model is None else np.array(model)
    p, c, y = (np.array(each, float) for each in (prompt, completion, cost))
    return implied_prices(places, p, c, y, n_models)


@given(PRICES, PRICES)
def test_list_prices_are_found_exactly(paid, earned):
    prompt, completion = np.array([10.0, 500.0, 80.0]), np.array([300.0, 20.0, 0.0])
    found = prices_of(prompt, completion, paid * prompt + earned * completion)
    np.testing.assert_allclose(found[:, 0], [paid, earned], rtol=1e-6, atol=1e-12)


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 3), min_size=1, max_size=5))
def test_no_price_is_negative(rows):
    assert (prices_of(*zip(*rows, strict=True)) >= 0).all()


def test_a_cost_that_falls_with_the_prompt_is_charged_to_the_answer_alone():
    found = prices_of([100, 200, 300], [10, 10, 20], [3.0, 2.0, 4.0])
    assert found[0, 0] == 0
    assert found[1, 0] == pytest.approx((30 + 20 + 80) / 600)


def test_a_cost_that_falls_with_the_answer_is_charged_to_the_prompt_alone():
    assert prices_of([10, 10, 20], [100, 200, 300], [3.0, 2.0, 4.0])[1, 0] == 0


def test_rows_that_are_all_alike_give_one_price_for_both():
    np.testing.assert_allclose(prices_of([30, 30], [10, 10], [4.0, 4.0]), [[0.1], [0.1]])


def test_a_model_without_rows_costs_as_much_as_any():
    prompt, completion = [1, 2, 3, 5], [5, 3, 2, 2]
    cost = np.array([1, 1, 10, 10]) * (np.array(prompt) + 2 * np.array(completion))
    found = prices_of(prompt, completion, cost, [0, 0, 1, 1], n_models=3)
    np.testing.assert_allclose(found, [[1, 10, 10], [2, 20, 20]])


def test_without_any_row_everything_is_free():
    assert prices_of([], [], [], n_models=2).tolist() == [[0, 0], [0, 0]]


def test_a_model_may_lack_a_tenth_of_its_counts():
    model = np.repeat([0, 1], 10)
    completion = np.ones(20)
    completion[0] = completion[[10, 11]] = np.nan
    assert uncounted_models(model, np.ones(20), completion, 2).tolist() == [1]


def test_rows_with_tokens_are_learned_as_tokens():
    rows: Any = counted(made_up(8))
    assert (unit_of(rows), unit_of(made_up(8))) == (COMPLETION_MTOK, USD)
    learned = in_unit(rows, COMPLETION_MTOK)
    np.testing.assert_allclose(learned.cost_usd, rows.tokens.completion / 1e6, rtol=1e-6)
    assert in_unit(rows, USD) is rows


def test_an_answer_without_a_count_is_not_learned_from():
    rows: Any = counted(made_up(8))
    rows.tokens.completion[3, 1] = np.nan
    learned = in_unit(rows, COMPLETION_MTOK)
    assert np.argwhere(np.isnan(learned.quality)).tolist() == [[3, 1]]
    assert np.argwhere(np.isnan(learned.cost_usd)).tolist() == [[3, 1]]


def test_the_tokens_that_were_used_cost_what_was_charged():
    rows: Any = counted(made_up(8, share_answered=0.5))
    used = Prediction(rows.quality, rows.tokens.completion / np.float32(1e6))
    usd = in_usd(used, COMPLETION_MTOK, Prompts.of(rows))
    np.testing.assert_allclose(usd.cost_usd, rows.cost_usd, rtol=1e-4)
    assert in_usd(used, USD, None) is used


def test_a_model_that_was_not_asked_would_have_read_what_the_others_did():
    rows = Evaluations(
        np.zeros((2, 1), np.float32),
        np.array([[1, 1, np.nan], [np.nan] * 3], np.float32),
        np.array([[1, 1, np.nan], [np.nan] * 3], np.float32),
        ("a", "b", "c"),
        tokens=tabulate(
            np.array([0, 0]),
            np.array([0, 1]),
            np.array([100.0, 200.0]),
            np.array([1.0, 1.0]),
            np.array([1.0, 1.0]),
            (2, 3),
        ),
    )
    # A query nobody was asked is as long as the mean one.
    prompts: Any = Prompts.of(rows)
    assert prompts.tokens.tolist() == [[100, 200, 150], [150, 150, 150]]


def test_tokens_that_nobody_counted_are_neither_learned_nor_priced():
    with pytest.raises(InvalidEvaluations, match="lack counts"):
        in_unit(made_up(8), COMPLETION_MTOK)
    assert Prompts.of(made_up(8)) is None
    with pytest.raises(InvalidEvaluations, match="lack counts"):
        in_usd(Prediction(one := np.ones((1, 1), np.float32), one), COMPLETION_MTOK, None)


def test_tokens_stay_with_their_queries_and_models():
    rows: Any = counted(made_up(8))
    part: Any = select_models(select(rows, np.array([2, 5])), np.array([3, 0]))
    np.testing.assert_array_equal(part.tokens.completion, rows.tokens.completion[[2, 5]][:, [3, 0]])
    np.testing.assert_array_equal(part.tokens.prices, rows.tokens.prices[:, [3, 0]])
    one: Any = select(rows, np.array([1]))
    both: Any = join(rows, one)
    np.testing.assert_array_equal(both.tokens.prompt[8:], one.tokens.prompt)
    assert join(rows, replace(one, tokens=None)).tokens is None
