from dataclasses import replace

import numpy as np
import pytest

from router_models.day_one.answers import Answers
from router_models.day_one.shipped import PoolModel, load_prior
from router_models.estimators.factors import FactorsEstimator
from router_models.estimators.mixture import MixtureEstimator
from tests.fakes.artifacts import ENCODER
from tests.fakes.priors import prior_bytes

QUERIES = np.random.default_rng(0).standard_normal((30, ENCODER.dimension)).astype(np.float32)
NEW = PoolModel("new", ("new",), (1.0, 1.0))
ABLE = PoolModel("able", ("able",), (1.0, 1.0))


@pytest.fixture(scope="module")
def prior():
    return load_prior(prior_bytes(), ENCODER)


def answers(score: float, tokens: float = 100.0, weight: float = 1.0, count: int = 30) -> Answers:
    return Answers(
        QUERIES[:count],
        np.full(count, score),
        np.full(count, tokens),
        np.full(count, weight),
    )


def quality(prior, model, given):
    learned = {} if given is None else {model.name: prior.learn(model, given)}
    return float(prior.router([model], learned).estimator.predict(QUERIES).quality.mean())


@pytest.mark.parametrize("model", [NEW, ABLE])
def test_answers_move_new_and_known_models_towards_what_they_showed(prior, model):
    before = quality(prior, model, None)
    assert quality(prior, model, answers(0.0)) < before - 0.1
    assert quality(prior, model, answers(1.0)) > before


def test_a_known_model_takes_more_answers_to_move_than_a_new_one(prior):
    moved = [
        quality(prior, model, None) - quality(prior, model, answers(0.0, count=4))
        for model in (replace_name(ABLE, "middling"), NEW)
    ]
    assert 0.0 < moved[0] < moved[1]


def replace_name(model: PoolModel, name: str) -> PoolModel:
    return model._replace(name=name, known_as=(name,))


def test_ten_grades_of_a_tenth_of_the_weight_count_as_one(prior):
    one = answers(1.0, count=1)
    tokens = np.full(10, 100.0)
    ten = Answers(np.repeat(one.embeddings, 10, axis=0), np.ones(10), tokens, np.full(10, 0.1))
    whole, parts = (prior.learn(NEW, given).belief for given in (one, ten))
    assert parts.mean == pytest.approx(whole.mean)
    assert parts.covariance == pytest.approx(whole.covariance)


def test_a_new_model_s_own_answers_by_cluster_count_for_the_share_of_the_residual(prior):
    given = answers(1.0)
    mixed = prior.router([NEW, ABLE], {"new": prior.learn(NEW, given)}).estimator
    assert isinstance(mixed, MixtureEstimator)
    assert mixed.quality_share.tolist() == [0.5, 0.0]
    alone = mixed.shared.predict(QUERIES).quality
    expected = (alone[:, 0] + mixed.local.predict(QUERIES).quality[:, 0]) / 2
    assert mixed.predict(QUERIES).quality[:, 0] == pytest.approx(expected)
    assert mixed.predict(QUERIES).quality[:, 1] == pytest.approx(alone[:, 1])


def test_where_profiles_transfer_fully_the_factors_decide_alone(prior):
    sure = replace(prior, manifest=replace(prior.manifest, training={"residual": 0.0}))
    router = sure.router([NEW], {"new": sure.learn(NEW, answers(1.0))})
    assert isinstance(router.estimator, FactorsEstimator)


def test_known_models_keep_their_lengths_until_they_show_others(prior):
    def tokens(given):
        learned = {} if given is None else {"able": prior.learn(ABLE, given)}
        router = prior.router([ABLE], learned)
        return float(router.estimator.predict(QUERIES).cost_usd.mean() * 1e6)

    assert tokens(None) == pytest.approx(200.0)
    assert tokens(answers(1.0, tokens=np.nan)) == pytest.approx(200.0)
    assert 400.0 < tokens(answers(1.0, tokens=1000.0)) < 1000.0


def test_an_answer_to_nothing_changes_nothing(prior):
    assert prior.learn(NEW, answers(1.0, count=0)).answers is None
    assert quality(prior, NEW, answers(1.0, count=0)) == quality(prior, NEW, None)
