import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from router_models.encoders.encode import (
    FEATURES_FILE,
    STATIC_FILES,
    TABLE_FILE,
    StaticEncoder,
    digest,
)
from router_models.encoders.features import FEATURE_NAMES
from router_models.errors import ArtifactRejected
from tests.fakes.encoders import packaged_files

WIDTH = 256


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return packaged_files()


@pytest.fixture(scope="module")
def encoder(files) -> StaticEncoder:
    return StaticEncoder.from_files(files)


def table(dtype=np.int8, shape=(4, 3), n_scales=4) -> bytes:
    return save({"table": np.ones(shape, dtype), "scale": np.ones(n_scales, np.float32)})


def test_gives_a_direction_then_the_features(encoder) -> None:
    (row,) = encoder.encode(["How many legs has a spider?"])
    assert row.shape == (encoder.dimension,) == (WIDTH + len(FEATURE_NAMES),)
    assert row.dtype == np.float32
    assert np.linalg.norm(row[:WIDTH]) == pytest.approx(1, abs=1e-5)


def test_queries_of_like_meaning_lie_closer_than_others(encoder) -> None:
    rows = encoder.encode(
        [
            "How do I treat a patient with pneumonia?",
            "What medicine helps against a lung infection?",
            "Sort a linked list in Python",
        ]
    )[:, :WIDTH]
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1


@given(st.lists(st.text(st.characters(codec=None), max_size=60), min_size=1, max_size=4))
def test_a_query_has_the_same_embedding_alone_and_among_others(encoder, texts) -> None:
    together = encoder.encode(texts)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(together[-1], encoder.encode(texts[-1:])[0])


def test_an_empty_query_has_no_direction(encoder) -> None:
    assert not encoder.encode([""])[0, :WIDTH].any()


def test_no_queries_give_no_rows(encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_a_known_query_has_the_embedding_that_routers_were_trained_on(encoder) -> None:
    (row,) = encoder.encode(["What is the capital of France?"])
    np.testing.assert_allclose(row[:6], KNOWN, atol=1e-4)


KNOWN = [-0.05765, -0.03357, 0.05334, 0.00329, 0.11171, 0.25997]


def test_the_digest_depends_on_names_and_contents_but_not_on_their_order() -> None:
    files = {"a": b"1", "b": b"2"}
    assert digest(files) == digest(dict(reversed(files.items())))
    assert digest(files) != digest({"a": b"2", "b": b"1"})


def test_the_digest_covers_the_encoders_own_files_only(files, encoder) -> None:
    assert encoder.sha256 == digest({name: files[name] for name in STATIC_FILES})


@pytest.mark.parametrize("name", STATIC_FILES)
def test_a_missing_file_is_named(files, name) -> None:
    with pytest.raises(ArtifactRejected, match=name):
        StaticEncoder.from_files({n: content for n, content in files.items() if n != name})


@pytest.mark.parametrize("name", STATIC_FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe nonsense", b"[1]"])
def test_a_corrupt_file_is_named(files, name, content) -> None:
    with pytest.raises(ArtifactRejected, match=name):
        StaticEncoder.from_files({**files, name: content})


@pytest.mark.parametrize(
    "content",
    [
        table(dtype=np.float32),
        table(shape=(4,)),
        table(n_scales=3),
        save({"table": np.ones((4, 3), np.int8)}),
    ],
)
def test_a_table_of_another_form_is_refused(files, content) -> None:
    with pytest.raises(ArtifactRejected, match=TABLE_FILE):
        StaticEncoder.from_files({**files, TABLE_FILE: content})


def test_a_table_for_another_vocabulary_is_refused(files) -> None:
    with pytest.raises(ArtifactRejected, match="word pieces"):
        StaticEncoder.from_files({**files, TABLE_FILE: table()})


def test_constants_of_other_features_are_refused(files) -> None:
    document = json.loads(files[FEATURES_FILE])
    document["names"][0] = "phase_of_the_moon"
    with pytest.raises(ArtifactRejected, match="other features"):
        StaticEncoder.from_files({**files, FEATURES_FILE: json.dumps(document).encode()})
