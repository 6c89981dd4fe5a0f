"""A model's old answers count less where it does otherwise lately, and nowhere else."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from router_models.evaluation.log_rows import LoggedRows
from router_models.training.recency import (
    HALF_LIVES,
    LEAST_JUDGED,
    Changes,
    find_changes,
)
from tests.fakes.evaluations import MODELS, made_up

NAME = "dear"
SPOILED = MODELS.index(NAME)


def logged(answers: int, *, spoiled: int = 0, quality: float = 0.0, seed: int = 0) -> LoggedRows:
    """One answer to each query, by a model drawn evenly; one model's last `spoiled` are worse."""
    truth = made_up(answers, seed=seed)
    query = np.arange(answers)
    model = np.random.default_rng(seed).integers(0, len(MODELS), answers)
    score = truth.quality[query, model].copy()
    own = np.flatnonzero(model == SPOILED)
    score[own[len(own) - spoiled :]] *= quality
    return LoggedRows(
        truth.embeddings,
        np.random.default_rng(1).choice(3, answers, p=[0.7, 0.1, 0.2]).astype(np.int8),
        MODELS,
        query,
        model,
        score,
        truth.cost_usd[query, model],
        np.flatnonzero(query % 7 == 0),
        np.full((len(query[::7]), len(MODELS)), 0.25, np.float32),
    )


def found(rows: LoggedRows) -> Mapping[str, int]:
    return find_changes(rows, 0).half_lives


@pytest.mark.parametrize("seed", range(10))
def test_where_nothing_changed_old_answers_count_as_much(seed):
    assert found(logged(6_000, seed=seed)) == {}


@pytest.mark.parametrize("spoiled", [150, 400])
def test_old_answers_of_a_model_that_got_worse_fade(spoiled):
    assert set(found(logged(6_000, spoiled=spoiled))) == {NAME}


def test_a_sudden_change_is_followed_fast():
    assert found(logged(6_000, spoiled=150))[NAME] == HALF_LIVES[-1]


def test_what_was_found_stays_true_while_others_answer():
    rows, later = logged(6_000, spoiled=150), logged(4_000, seed=3)
    others = np.flatnonzero(later.model != SPOILED)
    longer = replace(
        rows,
        embeddings=np.concatenate([rows.embeddings, later.embeddings]),
        split=np.concatenate([rows.split, later.split]),
        query=np.concatenate([rows.query, 6_000 + later.query[others]]),
        model=np.concatenate([rows.model, later.model[others]]),
        score=np.concatenate([rows.score, later.score[others]]),
        cost_usd=np.concatenate([rows.cost_usd, later.cost_usd[others]]),
    )
    assert set(found(longer)) == {NAME}


def test_of_few_answers_all_count():
    assert found(logged(600, spoiled=60)) == {}
    test_rows = replace(logged(1_000), split=np.full(1_000, 2, np.int8))
    assert found(test_rows) == {}


def test_the_answers_that_routers_are_judged_on_do_not_make_the_others_fade():
    rows, true = logged(6_000, spoiled=400), logged(6_000)
    learned = rows.split[rows.query] != 2
    kept = replace(rows, score=np.where(learned, true.score, rows.score))
    assert found(kept) == {}


def test_an_answer_counts_half_after_a_half_life_of_the_model_s_own():
    rows = Changes({NAME: 100}).fading(logged(6_000))
    assert rows.weight is not None
    own = rows.weight[rows.model == SPOILED]
    np.testing.assert_allclose(own[[-1, -101, -201, 0]], [1.0, 0.5, 0.25, 2.0**-10], rtol=1e-6)
    assert (rows.weight[rows.model != SPOILED] == 1.0).all()


def test_weights_of_grades_fade_too():
    half = replace(logged(6_000, spoiled=400), weight=np.full(6_000, 0.5, np.float32))
    assert set(found(half)) == {NAME}
    weight = Changes({NAME: 100}).fading(half).weight
    assert weight is not None
    own = weight[half.model == SPOILED]
    np.testing.assert_allclose(own[[-1, -101]], [0.5, 0.25], rtol=1e-6)


def test_routers_are_judged_by_the_answers_since_the_latest_change():
    rows = logged(6_000)
    judged = Changes({MODELS[0]: 1_000, NAME: 300}).since(rows)
    assert (judged.model == SPOILED).sum() == 600
    assert judged.query[0] == np.flatnonzero(rows.model == SPOILED)[-600]
    assert len(Changes({NAME: 100}).since(rows).query) == LEAST_JUDGED


def test_where_nothing_changed_all_answers_teach_and_judge():
    rows = logged(3_000)
    assert Changes().fading(rows) is rows
    assert Changes().since(rows) is rows


def test_the_latest_rows_keep_what_was_drawn_among_them():
    rows = logged(300)
    late = rows.latest(100)
    np.testing.assert_array_equal(late.query[late.drawn], np.arange(203, 300, 7))
    assert len(late.propensities) == len(late.drawn) == len(late.choices().answered)
    assert len(rows.latest(1_000).query) == 300
