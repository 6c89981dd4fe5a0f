from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import InvalidEvaluations
from router_models.evaluation.frontier import Judge, route
from router_models.statistics import select
from router_models.training.baselines import (
    RIDGE_ALPHAS,
    all_baselines,
    clusters,
    tfidf_ridge,
)
from router_models.types import Evaluations
from tests.fakes.evaluations import made_up

WORDS = {
    "sums": "add the numbers {} and {}",
    "code": "def f(x): return {} * x + {}",
    "letters": "Dear editor, {} lines of praise, {} of blame",
    "riddles": "who walks on {} legs, then on {}",
}


def parts(share_answered: float = 1.0) -> tuple[Evaluations, Evaluations, Evaluations]:
    """Train, validation and test rows with text that tells the task."""
    rows = made_up(400, share_answered=share_answered)
    texts = tuple(WORDS[task].format(i, i + 1) for i, task in enumerate(rows.tasks))
    rows = replace(rows, texts=texts)
    train, validation, asked = (
        select(rows, np.arange(start, stop)) for start, stop in ((0, 240), (240, 300), (300, 400))
    )
    return train, validation, asked


@pytest.mark.parametrize("share_answered", [1.0, 0.4])
def test_every_baseline_predicts_better_than_the_models_means(share_answered):
    train, validation, asked = parts(share_answered)
    found = dict(all_baselines(train, validation, asked, 0))
    assert list(found) == ["TF-IDF + ridge", "kNN", "clusters (Avengers-Pro)"]
    answered = np.isfinite(asked.quality)
    plain = (asked.quality - np.nanmean(train.quality, axis=0))[answered]
    for baseline in found.values():
        error = (asked.quality - baseline.prediction.quality)[answered]
        assert (error**2).mean() < 0.9 * (plain**2).mean()


def test_dense_rows_let_every_baseline_beat_the_best_single_model():
    train, validation, asked = parts()
    judge = Judge.of(asked)
    best = judge.single_models.points()[1].max()
    for baseline in dict(all_baselines(train, validation, asked, 0)).values():
        routed = route(baseline.scores, asked, baseline.lambdas)
        assert judge.figures(routed).quality_first > best


def test_a_table_without_text_has_no_baseline_of_words():
    train, validation, asked = (replace(part, texts=()) for part in parts())
    assert "TF-IDF + ridge" not in dict(all_baselines(train, validation, asked, 0))
    with pytest.raises(InvalidEvaluations, match="needs the text"):
        tfidf_ridge(train, validation, asked, RIDGE_ALPHAS, 0)


def test_a_model_that_nobody_asked_is_expected_to_be_like_the_others_and_dear():
    train, validation, asked = parts()
    quality, cost = train.quality.copy(), train.cost_usd.copy()
    quality[:, 1] = cost[:, 1] = np.nan
    train = replace(train, quality=quality, cost_usd=cost)
    asked_models = [0, 2, 3]
    for found in (
        tfidf_ridge(train, validation, asked, RIDGE_ALPHAS, 0),
        clusters(train, validation, asked, 0),
    ):
        quality, cost = found.prediction.quality[:, 1], found.prediction.cost_usd[:, 1]
        np.testing.assert_allclose(quality, train.quality[:, asked_models].mean(), rtol=1e-5)
        dearest = train.cost_usd[:, asked_models].mean(axis=0).max()
        np.testing.assert_allclose(cost, dearest, rtol=1e-5)


def test_the_penalty_is_chosen_on_validation_rows():
    train, validation, asked = parts()
    absurd = tfidf_ridge(train, validation, asked, (1e9,), 0).prediction
    chosen = tfidf_ridge(train, validation, asked, (1e9, 1.0), 0).prediction
    assert np.ptp(absurd.quality[:, 0]) < 0.01 < np.ptp(chosen.quality[:, 0])


def test_clusters_choose_the_highest_of_the_papers_score():
    train, validation, asked = parts()
    found = clusters(train, validation, asked, 0)
    rows = np.arange(len(asked.quality))
    routed = route(found.scores, asked, found.lambdas)
    for point, alpha in list(enumerate(1 / (1 + found.lambdas)))[::11]:
        score = alpha * found.scores.quality + (1 - alpha) * (1 - found.scores.cost_usd)
        np.testing.assert_array_equal(
            routed.quality[point], asked.quality[rows, score.argmax(axis=1)]
        )


def test_scores_of_clusters_lie_between_0_and_1():
    scores = clusters(*parts(), 0).scores
    for table in (scores.quality, scores.cost_usd):
        assert table.min() >= 0
        assert table.max() <= 1
