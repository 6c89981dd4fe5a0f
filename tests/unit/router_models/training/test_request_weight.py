from dataclasses import replace

import numpy as np
import pytest

from router_models.artifacts.sealed_file import RequestEncoder
from router_models.encoders.request_shape import WIDTH
from router_models.statistics import select
from router_models.training.request_weight import read_unweighted, train_on_requests, weighted
from router_models.training.settings import KMeansSettings, MlpSettings
from router_models.training.train import Trial, train, tune
from router_models.types import Evaluations
from tests.fakes.artifacts import EncoderIdentity

ENCODER = EncoderIdentity(dimension=8)
SETTINGS = KMeansSettings(n_clusters=2, temperature=0.02)


def logged(n_rows: int, *, tells: bool) -> tuple[Evaluations, Evaluations]:
    """Queries of two applications, each with a model that answers it better.

    Where the shape `tells` the application, the text does not; else the other way round.
    """
    rng = np.random.default_rng(0)
    application = np.arange(n_rows) % 2
    marks = rng.standard_normal((2, 4 + WIDTH)).astype(np.float32)
    noise = rng.standard_normal((n_rows, 8)).astype(np.float32)
    text = noise if tells else noise * 0.3 + np.tile(marks[:, :4], 2)[application]
    shapes = marks[:, 4:] / np.linalg.norm(marks[:, 4:], axis=1, keepdims=True) * 2.0
    shape = shapes[application if tells else rng.integers(0, 2, n_rows)]
    quality = np.where(np.stack([application, 1 - application], 1) == 1, 0.9, 0.1)
    rows = Evaluations(
        np.hstack([text, shape]).astype(np.float32),
        quality.astype(np.float32),
        np.full((n_rows, 2), 0.001, np.float32),
        ("small", "large"),
    )
    cut = n_rows * 3 // 4
    return select(rows, np.arange(cut)), select(rows, np.arange(cut, n_rows))


def trained(rows, held_out):
    best = Trial(SETTINGS, *_value(tune(rows, held_out, "kmeans", 0)[0]))
    return train_on_requests(rows, held_out, "kmeans", 0, best, ENCODER)


def _value(trial):
    return trial.value, trial.gain


def test_a_shape_that_tells_the_better_model_is_read():
    rows, held_out = logged(160, tells=True)
    router, read, trial = trained(rows, held_out)
    assert read == RequestEncoder.of(ENCODER)
    assert trial.gain.low > 0.1
    chosen = router.predict(held_out.embeddings).quality.argmax(axis=1)
    assert (chosen == held_out.quality.argmax(axis=1)).mean() > 0.9


def test_a_shape_that_tells_nothing_leaves_a_router_of_texts():
    rows, held_out = logged(160, tells=False)
    router, read, _ = trained(rows, held_out)
    assert read == ENCODER
    assert router.dimension == ENCODER.dimension


def test_the_network_is_given_whole_requests_as_they_are():
    rows, held_out = logged(80, tells=False)
    settings = MlpSettings(hidden=8, max_epochs=1)
    trial = Trial(settings, *_value(tune(rows, held_out, "ridge", 0)[0]))
    router, read, _ = train_on_requests(rows, held_out, "mlp", 0, trial, ENCODER)
    assert router.dimension == read.dimension == ENCODER.dimension + WIDTH


@pytest.mark.parametrize("standardized", [True, False])
def test_a_router_of_weighted_rows_makes_the_same_of_plain_ones(standardized):
    rows, held_out = logged(80, tells=True)
    heavy = weighted(rows, 8, 3.0)
    router = train(heavy, heavy, "kmeans", 0, replace(SETTINGS, standardized=standardized))
    plain = read_unweighted(router, 8, 3.0)
    np.testing.assert_allclose(
        plain.predict(held_out.embeddings).quality,
        router.predict(weighted(held_out, 8, 3.0).embeddings).quality,
        rtol=1e-4,
    )
