import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from router_models.artifacts.registry import ModelRegistry
from router_models.encoders.request_shape import WIDTH
from router_models.evaluation.log_rows import read_log_rows

NO_ALIASES = ModelRegistry()
OFFERED = json.dumps(
    [
        {"model": "small", "propensity": 0.9, "is_eligible": True},
        {"model": "large", "propensity": 0.1, "is_eligible": True},
        {"model": "blind", "propensity": 0.0, "is_eligible": False},
    ]
)


@dataclass(frozen=True)
class Row:
    query_id: str = "q"
    query_embedding: np.ndarray | None = None
    model: str | None = "small"
    score: float | None = 0.5
    score_weight: float | None = None
    cost_usd: float | None = 0.25
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    split: str = "train"
    route_reason: str = "router"
    chosen_model: str | None = "small"
    candidates: str = OFFERED


def row(number: int, **changes) -> Row:
    vector = np.array([number, -number], np.float32)
    return replace(Row(f"q{number}", vector), **changes)


def evaluations(*rows: Row, split="train", columns=("small", "large"), registry=NO_ALIASES):
    return read_log_rows([rows], 2, 100).evaluations(split, columns, registry)


def test_answers_to_one_query_are_one_row():
    table = evaluations(row(1), row(2), row(1, model="large", score=1.0, cost_usd=2.0))
    np.testing.assert_array_equal(table.embeddings, np.array([[1, -1], [2, -2]], np.float32))
    np.testing.assert_array_equal(table.quality, np.array([[0.5, 1.0], [0.5, np.nan]], np.float32))
    np.testing.assert_array_equal(
        table.cost_usd, np.array([[0.25, 2.0], [0.25, np.nan]], np.float32)
    )
    assert table.models == ("small", "large")


def test_texts_and_whole_requests_stand_in_one_table():
    whole = np.arange(2 + WIDTH, dtype=np.float32)
    rows = row(1), row(2, query_embedding=whole)
    table = read_log_rows([rows], 2 + WIDTH, 100).evaluations("train", ("small",), NO_ALIASES)
    np.testing.assert_array_equal(table.embeddings, [[1, -1] + [0] * WIDTH, whole])


def test_a_text_is_one_query_to_whom_its_requests_are_not_told():
    shapes = np.eye(WIDTH, dtype=np.float32)[:3]
    steps = [
        row(n, query_embedding=np.concatenate([[5, 5], shape]).astype(np.float32), score=n / 4)
        for n, shape in enumerate(shapes)
    ]
    rows = read_log_rows([[*steps, row(7)]], 2 + WIDTH, 100)
    assert len(rows.embeddings) == 4
    told = rows.of_texts(2)
    np.testing.assert_array_equal(told.embeddings, [[5, 5], [7, -7]])
    table = told.evaluations("train", ("small",), NO_ALIASES)
    np.testing.assert_array_equal(table.quality, [[0.25], [0.5]])


def second(number: int, **changes) -> Row:
    """Make the second answer to a query that ``small`` answered."""
    odds = [{"model": "small", "propensity": 0.0, "is_eligible": False}]
    odds.append({"model": "large", "propensity": 1.0, "is_eligible": True})
    reason = {"route_reason": "shadow", "candidates": json.dumps(odds)}
    return row(number, model="large", chosen_model="large", score=1.0, **reason, **changes)


def test_second_answers_are_learned_from():
    table = evaluations(row(1), second(1))
    np.testing.assert_array_equal(table.quality, np.array([[0.5, 1.0]], np.float32))


def test_second_answers_change_nothing_of_what_routers_are_measured_on():
    held_out = [row(number, split="test", score=number / 4) for number in range(4)]
    seconds = [second(number, split="test") for number in range(4)]
    alone = read_log_rows([held_out], 2, 100)
    beside = read_log_rows([held_out, seconds], 2, 100)
    for name in ("answered", "quality", "cost_usd", "propensity", "query"):
        one, other = getattr(alone.choices(), name), getattr(beside.choices(), name)
        np.testing.assert_array_equal(one, other)
    measured = [rows.evaluations("test", alone.models, NO_ALIASES) for rows in (alone, beside)]
    np.testing.assert_array_equal(measured[0].quality, measured[1].quality)


def test_each_split_has_its_own_queries():
    rows = [row(number, split=split) for number, split in enumerate(("train", "val", "test"))]
    found = [evaluations(*rows, split=split).embeddings[:, 0] for split in ("train", "val", "test")]
    assert np.concatenate(found).tolist() == [0, 1, 2]


def test_columns_are_canonical_names():
    registry = ModelRegistry({"org/small": ["small", "tiny"]})
    rows = row(1), row(1, model="tiny", score=1.0), row(2, model="org/small"), row(3, model="other")
    table = evaluations(*rows, columns=("org/small",), registry=registry)
    assert table.quality.tolist() == [[0.75], [0.5]]


def test_queries_that_no_column_answered_are_left_out():
    table = evaluations(row(1, model="other"))
    assert table.quality.shape == (0, 2)
    assert table.embeddings.shape == (0, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"query_embedding": None},
        {"query_embedding": np.zeros(3, np.float32)},
        {"query_embedding": np.array([np.nan, 0], np.float32)},
        {"model": None},
        {"score": None},
        {"cost_usd": None},
        {"score": 1.5},
        {"score": -0.5},
        {"score": float("nan")},
        {"cost_usd": -0.25},
        {"cost_usd": float("inf")},
    ],
)
def test_rows_that_teach_nothing_are_left_out(changes):
    assert len(evaluations(row(1, **changes), row(2)).quality) == 1


def test_an_empty_log_is_empty_tables():
    rows = read_log_rows([], 2, 10)
    assert rows.models == ()
    assert rows.evaluations("train", ("small",), NO_ALIASES).quality.shape == (0, 1)
    assert rows.choices().propensity.shape == (0, 0)


def test_takes_no_more_rows_than_it_may():
    endless = ([row(number)] for number in range(10**9))
    rows = read_log_rows(endless, 2, 3)
    assert rows.embeddings[:, 0].tolist() == [0, 1, 2]
    assert len(rows.query) == 3


def test_keeps_the_odds_of_answers_that_were_drawn():
    rows = row(1, split="test"), row(2, split="test", route_reason="explored", model="large")
    choices = read_log_rows([[rows[0], replace(rows[1], chosen_model="large")]], 2, 10).choices()
    assert choices.models == ("small", "large")
    assert choices.answered.tolist() == [0, 1]
    np.testing.assert_array_equal(choices.propensity, np.array([[0.9, 0.1]] * 2, np.float32))
    assert choices.embeddings[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "train"},
        {"route_reason": "named"},
        {"route_reason": "router_missing"},
        {"chosen_model": "large"},
        {"candidates": json.dumps([{"model": "small", "propensity": 1.0, "is_eligible": True}])},
        {"candidates": OFFERED.replace("0.9", "1.0").replace("0.1", "0.0")},
        {"candidates": OFFERED.replace("small", "other")},
    ],
)
def test_answers_nothing_else_could_have_given_are_no_draws(changes):
    assert (
        len(read_log_rows([[row(1, **({"split": "test"} | changes))]], 2, 10).choices().answered)
        == 0
    )


def test_draws_in_which_a_model_had_no_chance_are_told_apart():
    closed = OFFERED.replace('0.0, "is_eligible": false', '0.0, "is_eligible": true')
    assert closed != OFFERED
    asked = row(1, split="test"), row(2, split="test", candidates=closed)
    rows = read_log_rows([asked], 2, 10)
    assert rows.choices().embeddings[:, 0].tolist() == [1]
    assert rows.choices().could_answer is None
    found = rows.all_choices()
    assert found.embeddings[:, 0].tolist() == [1, 2]
    assert found.models == ("small", "large", "blind")
    assert found.offered.tolist() == [[True, True, False], [True, True, True]]
    np.testing.assert_array_equal(found.propensity[1], np.array([0.9, 0.1, 0.0], np.float32))
    assert rows.latest(1).all_choices().offered.tolist() == [[True, True, True]]


def test_models_that_turn_up_later_had_no_odds_before():
    late = OFFERED.replace("large", "late")
    rows = read_log_rows([[row(1, split="test"), row(2, split="test", candidates=late)]], 2, 10)
    assert rows.models == ("small", "large", "late")
    np.testing.assert_array_equal(
        rows.choices().propensity, np.array([[0.9, 0.1, 0.0], [0.9, 0.0, 0.1]], np.float32)
    )


def counted(number: int, model: str, prompt: int, completion: int, **changes) -> Row:
    usd = 2e-6 * prompt + 8e-6 * completion
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
    return row(number, model=model, cost_usd=usd, **tokens, **changes)


COUNTED = [counted(n, name, 100 * n, 10 + n) for n in range(1, 5) for name in ("small", "large")]


def test_tokens_and_the_prices_they_imply_are_read_where_answers_have_them():
    tokens = evaluations(*COUNTED, columns=("large", "new", "small")).tokens
    assert tokens is not None
    assert tokens.prompt[:, 0].tolist() == [100, 200, 300, 400]
    assert tokens.completion[:, 2].tolist() == [11, 12, 13, 14]
    assert np.isnan(tokens.prompt[:, 1]).all()
    np.testing.assert_allclose(tokens.prices, [[2e-6] * 3, [8e-6] * 3])


def test_a_log_in_which_a_model_s_tokens_are_unknown_has_none():
    unknown = replace(COUNTED[1], completion_tokens=None)
    assert evaluations(*COUNTED, unknown).tokens is None


def test_models_that_are_left_out_take_their_tokens_along():
    rows = read_log_rows([COUNTED], 2, 100).without_models({"small"})
    tokens = rows.evaluations("train", ("large",), NO_ALIASES).tokens
    assert tokens is not None
    assert tokens.completion[:, 0].tolist() == [11, 12, 13, 14]


def test_a_drawn_answer_says_what_its_prompt_would_cost_with_each_model():
    drawn: Any = read_log_rows(
        [[replace(each, split="test") for each in COUNTED]], 2, 100
    ).choices()
    assert drawn.prompts is not None
    assert drawn.prompts.tokens.tolist() == [[100], [200], [300], [400]]
    np.testing.assert_allclose(drawn.prompts.prices, [[2e-6] * 2, [8e-6] * 2])
    assert drawn.select(np.array([1])).prompts.tokens.tolist() == [[200]]


def test_without_tokens_a_drawn_answer_says_nothing_of_its_prompt():
    rows = read_log_rows([[row(1, split="test")]], 2, 100)
    assert rows.choices().prompts is None
    assert rows.without_models({"large"}).tokens is None


def test_columns_of_some_models_have_the_tokens_of_these_alone():
    tokens = evaluations(*COUNTED, columns=("large",)).tokens
    assert tokens is not None
    assert tokens.completion[:, 0].tolist() == [11, 12, 13, 14]
    np.testing.assert_allclose(tokens.prices, [[2e-6], [8e-6]])


def test_grades_count_by_their_weight_and_add_up_to_one_at_most():
    table = evaluations(
        row(1, score=1.0, score_weight=0.3),
        row(1, score=0.0, score_weight=0.1),
        row(2, score_weight=0.8),
        row(2, score_weight=0.7),
        row(3, model="large"),
    )
    assert table.weight is not None
    np.testing.assert_allclose(table.weight[:, 0], [0.4, 1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(table.quality[0, 0], 0.75, rtol=1e-6)
    assert table.weight[2, 1] == 1.0


def test_rows_that_all_count_as_one_have_no_weights():
    assert evaluations(row(1, score_weight=1.0), row(2)).weight is None


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, float("nan")])
def test_a_row_with_an_impossible_weight_is_left_out(weight):
    assert len(evaluations(row(1, score_weight=weight), row(2)).quality) == 1


def test_answers_of_other_models_are_left_out_with_their_weights():
    rows = [row(1, score_weight=0.5), row(2, model="large", score_weight=0.25)]
    kept = read_log_rows([rows], 2, 100).without_models({"small"})
    np.testing.assert_array_equal(kept.weight, [0.25])
