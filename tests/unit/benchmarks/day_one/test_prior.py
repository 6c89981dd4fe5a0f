from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.day_one.prior import Newcomer, fit_prior
from router_models.artifacts.artifact import dump, load
from router_models.day_one.abilities import AbilityPrior
from router_models.day_one.choice import choose, kmeans_share, target_moments, transfers
from router_models.errors import InvalidEvaluations
from router_models.estimators.mixture import MixtureEstimator
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.known_answers import DIMENSION, known_answers

NEW = 1.2
"""Ability of the model that nobody has asked."""

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def known():
    return known_answers()


@pytest.fixture(scope="module")
def prior(known):
    return fit_prior(known, 0)


@pytest.fixture(scope="module")
def truth():
    return known_answers(n_queries=2000, seed=1, ability=np.array([NEW]))


def newcomer(prior, belief, answers, count):
    length = prior.length(answers.embeddings[:count], answers.completion_tokens[:count, 0])
    return Newcomer("new", belief, length, (1.0, 2.0))


def predicted(prior, belief, answers, count=0):
    return prior.estimator([], [newcomer(prior, belief, answers, count)])


def error(prior, belief, truth):
    quality = predicted(prior, belief, truth).quality(truth.embeddings)[0][:, 0]
    return abs(float(quality.mean() - truth.score.mean()))


def test_a_model_without_answers_is_expected_to_be_as_the_known_ones_are(prior, known):
    belief = prior.believe()
    quality, stderr = predicted(prior, belief, known).quality(known.embeddings)
    assert quality.mean() == pytest.approx(known.score.mean(), abs=0.08)
    assert stderr.mean() > 0.1


def test_a_few_answers_say_how_able_a_model_is(prior, known, truth):
    answers = known_answers(n_queries=400, ability=np.array([NEW]))
    items = prior.prompts(known.embeddings[:20], known.score[:20])
    learned = prior.believe().update(items, answers.score[:20, 0])
    assert error(prior, learned, truth) < 0.5 * error(prior, prior.believe(), truth)
    before = predicted(prior, prior.believe(), truth).quality(truth.embeddings)[1].mean()
    after = predicted(prior, learned, truth).quality(truth.embeddings)[1].mean()
    assert after < 0.7 * before


def test_answers_count_the_same_all_at_once_and_in_two_halves(prior, known):
    score = known_answers(ability=np.array([NEW])).score[:, 0]
    items = prior.prompts(known.embeddings, known.score)
    first, second = np.arange(20), np.arange(20, 40)
    whole = prior.believe().update(items.take(np.arange(40)), score[:40])
    halves = prior.believe().update(items.take(first), score[:20])
    halves = halves.update(items.take(second), score[20:40])
    apart = whole.mean[: prior.profile.n_axes + 1] - halves.mean[: prior.profile.n_axes + 1]
    assert np.abs(apart).max() < 0.25


@pytest.mark.parametrize("ability", [-6.0, 6.0])
@pytest.mark.parametrize("count", [5, 40, 160])
def test_a_model_far_from_all_known_ones_is_seen_for_what_it_is(prior, known, ability, count):
    answers = known_answers(n_queries=400, ability=np.array([ability]))
    items = prior.prompts(known.embeddings[:count], known.score[:count])
    learned = prior.believe().update(items, answers.score[:count, 0])
    quality = predicted(prior, learned, answers).quality(answers.embeddings)[0].mean()
    assert quality == pytest.approx(answers.score.mean(), abs=0.45 if count == 5 else 0.2)


def test_prompts_that_no_known_model_answered_teach_too(prior, known, truth):
    answers = known_answers(n_queries=60, seed=5, ability=np.array([NEW]))
    learned = prior.believe().update(prior.prompts(answers.embeddings), answers.score[:, 0])
    assert error(prior, learned, truth) < 0.5 * error(prior, prior.believe(), truth)


def test_nothing_is_learned_from_no_answers(prior):
    belief = prior.believe()
    nothing = prior.prompts(np.zeros((0, DIMENSION), np.float32))
    assert belief.update(nothing, np.zeros(0)) is belief


def test_the_most_telling_prompts_teach_more_than_dull_ones(prior, known):
    items = prior.prompts(known.embeddings, known.score)
    belief, free = prior.believe(), np.ones(len(items), bool)
    targets = target_moments(belief, *prior.queries(known.embeddings))
    rng = np.random.default_rng(0)
    left = {}
    for share in (0.0, 1.0):
        places = choose(belief, items, targets, 10, random_share=share, free=free, rng=rng)
        assert len(set(places)) == 10
        learned = belief.update(items.take(np.array(places)), np.full(10, 0.5))
        left[share] = np.trace(targets @ learned.covariance)
    assert left[0.0] < left[1.0]


def test_every_second_prompt_is_random_and_no_prompt_is_asked_twice(prior, known):
    items = prior.prompts(known.embeddings[:8], known.score[:8])
    belief, free = prior.believe(), np.ones(8, bool)
    free[3] = False
    targets = target_moments(belief, *prior.queries(known.embeddings))
    found = [
        choose(belief, items, targets, 9, random_share=0.5, free=free, rng=np.random.default_rng(s))
        for s in range(5)
    ]
    assert all(sorted(places) == [0, 1, 2, 4, 5, 6, 7] for places in found)
    assert len({places[0] for places in found}) == 1
    assert len({places[1] for places in found}) > 1


def test_what_a_model_writes_is_read_from_the_others_and_from_its_own_answers(prior, known):
    answers = known_answers(n_queries=400, ability=np.array([4.0]))
    truth = answers.completion_tokens.mean()
    found = {
        count: predicted(prior, prior.believe(), answers, count)
        .completion_tokens(answers.embeddings)
        .mean()
        for count in (0, 40)
    }
    assert found[0] == pytest.approx(known.completion_tokens.mean(), rel=0.2)
    assert found[40] == pytest.approx(truth, rel=0.15)


def test_a_price_makes_a_cost_of_the_tokens(prior, known):
    one = predicted(prior, prior.believe(), known)
    cost, tokens = (
        one.predict(known.embeddings).cost_usd,
        one.completion_tokens(known.embeddings),
    )
    np.testing.assert_allclose(cost, (50.0 * 1.0 + tokens * 2.0) / 1e6, rtol=1e-3)


def test_known_models_are_predicted_by_their_own_answers(prior, known):
    estimator = prior.estimator([("a", 0, (1.0, 1.0)), ("b", 9, (1.0, 1.0))], [])
    quality, stderr = estimator.quality(known.embeddings)
    np.testing.assert_allclose(quality.mean(axis=0), known.score.mean(axis=0)[[0, 9]], atol=0.03)
    assert not stderr.any()
    tokens = estimator.completion_tokens(known.embeddings).mean(axis=0)
    np.testing.assert_allclose(tokens, known.completion_tokens.mean(axis=0)[[0, 9]], rtol=0.1)


def test_two_models_that_differ_in_one_ability_leave_less_residual_than_two_kinds(prior, known):
    rng = np.random.default_rng(3)
    kinds = rng.random((10, 8)) < 0.5
    nearest = np.argmin(
        np.linalg.norm(known.embeddings[:, None] - _centres(known)[None], axis=2), axis=1
    )
    odd = known.score.copy()
    odd[:] = kinds[:, nearest].T
    other = fit_prior(
        type(known)(
            known.models,
            known.embeddings,
            odd,
            known.completion_tokens,
            known.prompt_tokens,
            known.price,
        ),
        0,
    )
    assert other.spread.residual > 2 * prior.spread.residual


def _centres(known):
    return known.embeddings[:8]


def test_a_dearer_model_is_expected_to_be_abler_where_that_holds_of_the_known_ones(prior):
    cheap, dear = prior.believe("x", 0.3), prior.believe("x", 4.0)
    assert cheap.mean[0] < -0.5 < 0.5 < dear.mean[0]
    assert dear.covariance[0, 0] < prior.spread.axes[0]


def test_a_price_beyond_all_known_ones_leaves_more_doubt_not_less(prior):
    shares = [prior.abilities.predict("x", price)[1] for price in (1.0, 4.0, 1e3, 1e-3)]
    assert 0.0 < shares[0] < shares[1] < shares[2]
    assert shares[0] < shares[3]


def test_the_price_says_nothing_where_it_misled_about_known_models(known):
    shuffled = np.random.default_rng(0).permutation(known.price)
    abilities = AbilityPrior.fit(known.models, shuffled, np.linspace(-1.5, 1.5, 10))
    assert abilities.predict("x", 4.0) == (0.0, 1.0)


def test_models_of_one_family_are_alike_where_that_holds_of_the_known_ones():
    names = tuple(f"{family}-{n}" for family in ("org/Llama", "gpt") for n in range(6))
    ability = np.repeat([-1.0, 1.0], 6) + np.linspace(-0.1, 0.1, 12)
    abilities = AbilityPrior.fit(names, np.ones(12), ability)
    assert abilities.predict("llama-9", 1.0)[0] < -0.5 < 0.5 < abilities.predict("GPT-9", 1.0)[0]
    assert abilities.predict("another", 1.0)[0] == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_a_few_known_models_are_enough(count):
    known = known_answers(count)
    prior = fit_prior(known, 0)
    quality, stderr = predicted(prior, prior.believe(), known).quality(known.embeddings)
    assert np.isfinite(quality).all()
    assert np.isfinite(stderr).all()


def test_one_known_model_is_no_prior():
    with pytest.raises(InvalidEvaluations, match="two models"):
        fit_prior(known_answers(1), 0)


def test_is_served_from_an_ordinary_artefact(prior, known, truth):
    encoder = EncoderIdentity(dimension=DIMENSION)
    estimator = prior.estimator(
        [("known", 3, (1.0, 1.0))], [newcomer(prior, prior.believe(), truth, 10)]
    )
    data = dump(
        estimator, encoder, created_at=NOON, training={}, provenance={"rows": len(known.score)}
    )
    router = load(data, encoder)
    embedding = truth.embeddings[0]
    np.testing.assert_allclose(
        router.predict(embedding).quality, estimator.predict(embedding[None]).quality[0]
    )
    stderr = router.quality_stderr(embedding, ("new", "other", "known"))
    assert stderr is not None
    assert stderr[0] is not None
    assert stderr[0] > 0.05
    assert stderr[1:] == (None, 0.0)


def test_is_mixed_with_k_means_in_an_ordinary_artefact(prior, truth):
    encoder = EncoderIdentity(dimension=DIMENSION)
    new = prior.estimator([], [newcomer(prior, prior.believe(), truth, 10)])
    rows = Evaluations(
        truth.embeddings, truth.score.astype(np.float32), np.ones_like(truth.score, np.float32),
        ("new",),
    )  # fmt: skip
    local = fit_kmeans(rows, KMeansSettings(n_clusters=4), 0)
    share = np.array([kmeans_share(0.4, 10, is_known=False)], np.float32)
    mixture = MixtureEstimator(local, new, share, share)
    data = dump(mixture, encoder, created_at=NOON, training={}, provenance={})
    found = load(data, encoder).predict(truth.embeddings[0]).quality[0]
    parts = [part.predict(truth.embeddings[:1]).quality[0, 0] for part in (local, new)]
    assert found == pytest.approx(0.4 * parts[0] + 0.6 * parts[1], abs=1e-5)


def test_choosing_is_for_models_whose_profiles_transfer():
    assert transfers(0.14)
    assert not transfers(0.45)


def test_k_means_counts_for_more_where_profiles_do_not_transfer_and_for_nothing_without_answers():
    assert kmeans_share(0.05, 40, is_known=False) == 0.05
    assert kmeans_share(1.2, 40, is_known=False) == kmeans_share(0.05, 0, is_known=True) == 0.5
    assert kmeans_share(1.2, 0, is_known=False) == 0.0
