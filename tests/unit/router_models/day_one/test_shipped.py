from dataclasses import replace

import numpy as np
import pytest

from router_models.day_one.shipped import PoolModel, load_prior
from router_models.errors import ArtifactRejected
from router_models.types import COMPLETION_MTOK
from tests.fakes.artifacts import ENCODER
from tests.fakes.priors import prior_bytes

QUERY = np.zeros(ENCODER.dimension, np.float32)


@pytest.fixture(scope="module")
def prior():
    return load_prior(prior_bytes(), ENCODER)


def model(name, price=1.0):
    return PoolModel(name, (name,), (price, price))


def predicted(prior, *pool):
    router = prior.router(pool)
    names = tuple(one.name for one in pool)
    return router.predict_pool(QUERY, names), router.quality_stderr(QUERY, names)


def test_known_models_are_predicted_by_their_answers_whatever_they_are_called(prior):
    renamed = PoolModel("mine", ("unknown", "able-2026"), (1.0, 1.0))
    prediction, _ = predicted(prior, model("able"), renamed, model("weak"))
    able, mine, weak = prediction.quality
    assert able == mine
    assert able > 0.8
    assert weak < 0.4


def test_an_unknown_model_is_less_certain_than_a_known_one(prior):
    _, stderr = predicted(prior, model("new"), model("middling"))
    assert stderr[0] > 1.2 * stderr[1] > 0.0


def test_a_dearer_unknown_model_is_expected_to_be_abler_and_to_write_as_much(prior):
    prediction, _ = predicted(prior, model("a", 0.1), model("b", 10.0))
    assert prediction.quality[0] < prediction.quality[1]
    assert prior.router([model("a")]).unit == COMPLETION_MTOK
    assert prediction.cost_usd[1] == prediction.cost_usd[0]
    assert prediction.cost_usd[0] == pytest.approx(200 / 1e6)


def test_the_router_is_called_as_the_prior_is(prior):
    assert prior.router([model("a")]).version == prior.manifest.version
    assert prior.manifest.version.startswith("prior-20")


def test_damaged_bytes_and_another_encoder_are_refused():
    data = prior_bytes()
    with pytest.raises(ArtifactRejected):
        load_prior(data[:-1] + bytes([data[-1] ^ 1]), ENCODER)
    with pytest.raises(ArtifactRejected):
        load_prior(data, replace(ENCODER, sha256="cd" * 32))
