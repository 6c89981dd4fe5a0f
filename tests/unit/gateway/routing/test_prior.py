import numpy as np
import pytest

from gateway.evaluation_log.graded_answers import GradedAnswer
from gateway.routing.encoders import load_encoder
from gateway.routing.plan import Scores
from gateway.routing.prior import as_pool_model, fill_in, open_prior
from gateway.types import HostedModel, ModelPrice
from tests.fakes.artifacts import ENCODER, EncoderIdentity
from tests.fakes.priors import day_one

QUERY = np.zeros(ENCODER.dimension, np.float32)
NUSD = 1_000_000_000


def hosted(name: str, upstream: str | None = None) -> HostedModel:
    return HostedModel(name, "p", upstream or name, ModelPrice(NUSD, 2 * NUSD))


def offered(*models: HostedModel) -> dict[str, HostedModel]:
    return {model.name: model for model in models}


def test_a_router_is_made_again_when_other_models_are_offered() -> None:
    prior, able, weak = day_one(), hosted("able"), hosted("weak")
    first = prior.router(offered(able))
    assert prior.router(offered(able)) is first
    assert prior.router(offered(able, weak)).models == ("able", "weak")


def test_a_model_is_known_by_its_upstream_name_without_the_organisation() -> None:
    described = as_pool_model(hosted("mine", "Org/Able-2026"))
    assert described.known_as[0] == "Org/Able-2026"
    assert "able-2026" in described.known_as
    assert described.price == (1.0, 2.0)
    assert day_one().prior.knows(described)


def test_what_a_router_does_not_know_is_filled_in_on_the_scale_of_its_graders():
    prior = day_one().router(offered(hosted("able"), hosted("middling"), hosted("weak")))
    names = ("able", "middling", "weak")
    strict = Scores((None, 0.3, None), (None, 0.5, None), 0.9, (None, 0.01, None))
    found = prior.predict_pool(QUERY, names)
    stderr = prior.quality_stderr(QUERY, names)
    guess = Scores(found.quality, (1.0, 2.0, 3.0), 1.0, stderr, found.completion_tokens)
    filled = fill_in(strict, guess)
    able, middling, weak = np.array(filled.quality, float)
    assert middling == 0.3
    assert middling < able < np.array(guess.quality, float)[0]
    assert weak < middling
    assert filled.cost_usd == (guess.cost_usd[0], 0.5, guess.cost_usd[2])
    doubt = np.array(filled.quality_stderr, float)
    assert doubt[1] == 0.01
    assert (doubt[[0, 2]] > 0.02).all()


def test_there_is_none_for_an_encoder_that_none_was_made_for() -> None:
    assert open_prior(EncoderIdentity(id="other-1")) is None


@pytest.mark.parametrize("encoder", ["static", "minilm"])
def test_what_ships_knows_public_models_and_puts_the_able_ones_first(encoder):
    prior = open_prior(load_encoder(encoder))
    assert prior is not None
    pool = [hosted(n) for n in ("gpt-4o", "openai/gpt-4o-mini", "gpt-3.5-turbo")]
    assert all(prior.prior.knows(as_pool_model(model)) for model in pool)
    router = prior.router(offered(*pool))
    query = load_encoder(encoder).encode(["Prove that the square root of 2 is irrational."])[0]
    prediction = router.predict_pool(query, tuple(model.name for model in pool))
    best, middling, weakest = np.array(prediction.quality, float)
    assert best > middling > weakest


@pytest.mark.parametrize("encoder", ["static", "minilm"])
def test_two_wrong_answers_put_no_known_model_behind_one_that_evaluations_find_weaker(encoder):
    prior = open_prior(load_encoder(encoder))
    assert prior is not None
    able, weaker = hosted("gpt-4o"), hosted("gpt-4o-mini")
    texts = ["Prove that the square root of 2 is irrational.", "Write a haiku about rain."]
    asked = load_encoder(encoder).encode(texts)
    wrong = [GradedAnswer(able.name, query, 0.0, 1.0, None) for query in asked]
    prior.learn((able, weaker), wrong)
    router = prior.router(offered(able, weaker))
    found = np.array(router.predict_pool(asked[0], (able.name, weaker.name)).quality, float)
    assert found[0] > found[1]
