from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import InvalidEvaluations
from router_models.statistics import check, cost_floor, model_means, select
from tests.fakes.evaluations import made_up


def with_column(rows, column, quality, cost):
    changed_quality, changed_cost = rows.quality.copy(), rows.cost_usd.copy()
    changed_quality[:, column], changed_cost[:, column] = quality, cost
    return replace(rows, quality=changed_quality, cost_usd=changed_cost)


def test_means_count_only_answered_queries():
    rows = made_up(100, share_answered=0.5)
    quality, cost = model_means(rows)
    np.testing.assert_allclose(quality, np.nanmean(rows.quality, axis=0), rtol=1e-5)
    np.testing.assert_allclose(cost, np.nanmean(rows.cost_usd, axis=0), rtol=1e-5)


def test_an_unseen_model_counts_as_average_and_as_dear_as_the_dearest():
    rows = with_column(made_up(50), 0, np.nan, np.nan)
    quality, cost = model_means(rows)
    assert quality[0] == pytest.approx(quality[1:].mean(), rel=1e-5)
    assert cost[0] == cost[1:].max()
    assert cost_floor(rows)[0] == 0.0


def test_the_floor_is_the_lowest_cost_seen():
    rows = made_up(50)
    np.testing.assert_array_equal(cost_floor(rows), rows.cost_usd.min(axis=0))


def test_selects_rows_with_their_tasks():
    rows = made_up(10)
    kept = select(rows, np.array([3, 1]))
    assert kept.tasks == (rows.tasks[3], rows.tasks[1])
    assert select(replace(rows, tasks=()), np.array([3])).tasks == ()


def test_accepts_good_evaluations():
    check(made_up(30, share_answered=0.3), least_rows=30)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (replace(made_up(5), models=("a",)), "must both have shape"),
        (with_column(made_up(5), 0, 1.5, 0.1), "between 0 and 1"),
        (with_column(made_up(5), 0, 0.5, -0.1), "a cost is negative"),
        (with_column(made_up(5), 0, np.nan, 0.1), "for the same"),
        (replace(made_up(5), embeddings=np.full((5, 12), np.inf, np.float32)), "not finite"),
        (made_up(3), "3 queries with an evaluation; at least 4"),
    ],
)
def test_refuses_evaluations_that_nothing_can_be_learned_from(rows, message):
    with pytest.raises(InvalidEvaluations, match=message):
        check(rows, least_rows=4)
