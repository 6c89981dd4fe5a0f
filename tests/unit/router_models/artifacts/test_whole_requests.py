"""Routers of texts and of whole requests, each asked about the other's vectors."""

import numpy as np
import pytest

from router_models.artifacts.artifact import load
from router_models.artifacts.sealed_file import RequestEncoder
from router_models.encoders.request_shape import WIDTH
from router_models.errors import ArtifactRejected
from tests.fakes.artifacts import ENCODER, MODELS, EncoderIdentity, router_artifact

TEXT = np.full(ENCODER.dimension, 0.5, np.float32)


def with_shape(value: float) -> np.ndarray:
    return np.concatenate([TEXT, np.full(WIDTH, value, np.float32)])


def test_a_router_of_texts_reads_the_text_of_a_whole_request():
    router = load(router_artifact(), ENCODER)
    for found, expected in zip(router.predict(with_shape(1)), router.predict(TEXT), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert router.predict_pool(with_shape(1), MODELS) is router.predict_pool(TEXT, MODELS)


def test_a_router_of_whole_requests_takes_a_text_for_one_without_shape():
    router = load(router_artifact(encoder=RequestEncoder.of(ENCODER)), ENCODER)
    for found, expected in zip(router.predict(TEXT), router.predict(with_shape(0)), strict=True):
        np.testing.assert_array_equal(found, expected)
    shaped, plain = (router.predict(with_shape(value)).quality for value in (1, 0))
    assert not np.array_equal(shaped, plain)


@pytest.mark.parametrize("changes", [{"id": "minilm2-cheap-1"}, {"sha256": "cd" * 32}])
def test_a_router_of_whole_requests_is_refused_by_another_encoder(changes):
    with pytest.raises(ArtifactRejected, match="trained on"):
        load(router_artifact(encoder=RequestEncoder.of(ENCODER)), EncoderIdentity(**changes))
