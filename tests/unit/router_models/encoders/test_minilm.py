from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from router_models.encoders.encode import digest
from router_models.encoders.features import FEATURE_NAMES
from router_models.encoders.minilm import MINILM_FILES, MODEL_FILE, MiniLMEncoder
from router_models.errors import ArtifactRejected
from tests.fakes.encoders import packaged_files

WIDTH = 384
QUERIES = [
    "How do I treat a patient with pneumonia?",
    "What medicine helps against a lung infection?",
    "Sort a linked list in Python",
    "",
    "one two three " * 2_000,
    "\ud800 half a pair",
]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return packaged_files()


@pytest.fixture(scope="module")
def encoder(files) -> MiniLMEncoder:
    return MiniLMEncoder.from_files(files)


def test_gives_a_direction_then_the_features(encoder) -> None:
    rows = encoder.encode(QUERIES)
    assert rows.shape == (len(QUERIES), encoder.dimension)
    assert encoder.dimension == WIDTH + len(FEATURE_NAMES)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows[:, :WIDTH], axis=1), 1, atol=1e-5)


def test_queries_of_like_meaning_lie_closer_than_others(encoder) -> None:
    rows = encoder.encode(QUERIES[:3])[:, :WIDTH]
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1


def test_a_query_has_the_same_embedding_alone_and_among_others(encoder) -> None:
    together = encoder.encode(QUERIES)
    alone = np.concatenate([encoder.encode([query]) for query in QUERIES])
    np.testing.assert_array_equal(together, alone)


def test_threads_may_share_it(encoder) -> None:
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda query: encoder.encode([query])[0], QUERIES * 5))
    np.testing.assert_array_equal(rows[: len(QUERIES)], encoder.encode(QUERIES))
    np.testing.assert_array_equal(rows[-len(QUERIES) :], encoder.encode(QUERIES))


def test_a_known_query_has_the_embedding_that_routers_were_trained_on(encoder) -> None:
    (row,) = encoder.encode(["What is the capital of France?"])
    np.testing.assert_allclose(row[:6], KNOWN, atol=5e-3)


KNOWN = [0.03997, 0.03221, -0.01037, -0.00183, -0.02496, 0.03063]


def test_no_queries_give_no_rows(encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_the_digest_covers_the_encoders_own_files_only(files, encoder) -> None:
    assert encoder.sha256 == digest({name: files[name] for name in MINILM_FILES})


@pytest.mark.parametrize("name", MINILM_FILES)
def test_a_missing_file_is_named(files, name) -> None:
    with pytest.raises(ArtifactRejected, match=name):
        MiniLMEncoder.from_files({n: content for n, content in files.items() if n != name})


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_corrupt_model_is_refused(files, content) -> None:
    with pytest.raises(ArtifactRejected, match=MODEL_FILE):
        MiniLMEncoder.from_files({**files, MODEL_FILE: content})
