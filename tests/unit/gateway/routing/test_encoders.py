import asyncio
import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.encoders import (
    MANIFEST_FILE,
    QueryEmbedder,
    load_encoder,
    open_embedder,
    packaged_encoders,
)
from gateway.settings.config import ConfigurationError
from router_models.errors import ArtifactRejected
from tests.fakes.encoders import PACKAGED, FakeEncoder


@pytest.fixture
def without_onnxruntime(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(PACKAGED, tmp_path / "encoders")


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(scope="module")
def static():
    return load_encoder("static")


@pytest.mark.parametrize(
    ("name", "encoder_id"),
    [("static", "static-cheap-1"), ("minilm", "minilm2-cheap-1"), ("auto", "minilm2-cheap-1")],
)
def test_loads_the_encoder_of_that_name(name, encoder_id) -> None:
    assert load_encoder(name).id == encoder_id


@pytest.mark.parametrize("name", ["static", "auto"])
@pytest.mark.usefixtures("without_onnxruntime")
def test_the_static_encoder_serves_where_onnxruntime_is_missing(name) -> None:
    assert load_encoder(name).id == "static-cheap-1"


@pytest.mark.usefixtures("without_onnxruntime")
def test_asking_for_minilm_without_onnxruntime_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'waypost\[accurate\]'"):
        load_encoder("minilm")


@pytest.mark.parametrize("name", ["static", "minilm"])
def test_the_manifest_describes_the_encoder(name) -> None:
    manifest = json.loads(packaged_encoders().joinpath(MANIFEST_FILE).read_bytes())
    described = manifest["encoders"][name]
    encoder = load_encoder(name)
    assert described["id"] == encoder.id
    assert described["sha256"] == encoder.sha256
    assert described["dimension"] == encoder.dimension


def test_an_altered_file_is_refused_by_name(folder) -> None:
    file = folder / "features.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ArtifactRejected, match=r"features\.json .* reinstall waypost"):
        load_encoder("static", folder)


def test_a_missing_file_is_refused_by_name(folder) -> None:
    (folder / "features.json").unlink()
    with pytest.raises(ArtifactRejected, match=r"features\.json is missing"):
        load_encoder("minilm", folder)


def test_asking_for_minilm_without_its_weights_says_what_to_install(folder) -> None:
    (folder / "minilm" / "model.onnx").unlink()
    assert load_encoder("auto", folder).id == "static-cheap-1"
    with pytest.raises(
        ConfigurationError, match=r"needs waypost-minilm: pip install 'waypost\[accurate\]'"
    ):
        load_encoder("minilm", folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"encoders": {"static": {"files": 3}}}'])
def test_an_unreadable_manifest_is_refused(folder, content) -> None:
    (folder / MANIFEST_FILE).write_text(content)
    with pytest.raises(ArtifactRejected, match="manifest"):
        load_encoder("static", folder)


def test_a_folder_without_manifest_is_refused(tmp_path) -> None:
    with pytest.raises(ArtifactRejected, match="manifest"):
        load_encoder("static", tmp_path)


async def test_a_query_seen_before_is_not_encoded_again(encoder) -> None:
    embedder = QueryEmbedder(encoder)
    first = await embedder.embed("hello", "team")
    second = await embedder.embed("hello", "team")
    np.testing.assert_array_equal(first, second)
    assert encoder.texts == ["hello"]
    assert (embedder.cache_hits, embedder.cache_misses) == (1, 1)


async def test_a_query_of_another_team_is_encoded_again(encoder) -> None:
    embedder = QueryEmbedder(encoder)
    first = await embedder.embed("hello", "one team")
    second = await embedder.embed("hello", "another")
    np.testing.assert_array_equal(first, second)
    assert (embedder.cache_hits, embedder.cache_misses) == (0, 2)


async def test_texts_that_differ_only_in_the_cut_middle_share_an_entry(encoder) -> None:
    embedder = QueryEmbedder(encoder)
    await embedder.embed("a" * 2_000 + "x" * 100 + "b" * 1_000, "team")
    await embedder.embed("a" * 2_000 + "y" * 900 + "b" * 1_000, "team")
    assert encoder.texts == ["a" * 2_000 + "b" * 1_000]


async def test_the_query_unused_for_longest_is_forgotten_first(encoder) -> None:
    embedder = QueryEmbedder(encoder, max_entries=2)
    for text in ["one", "two", "one", "three", "one", "two"]:
        await embedder.embed(text, "team")
    assert encoder.texts == ["one", "two", "three", "two"]


async def test_equal_queries_at_the_same_moment_take_one_place(encoder) -> None:
    embedder = QueryEmbedder(encoder, max_entries=2, executor=ThreadPoolExecutor(1))
    await asyncio.gather(embedder.embed("one", "team"), embedder.embed("one", "team"))
    await embedder.embed("three", "team")
    first = await embedder.embed("one", "team")
    embedder.close()
    assert encoder.texts == ["one", "one", "three"]
    assert first[0] == 3


async def test_a_forgotten_query_leaves_its_place_to_the_next(encoder) -> None:
    embedder = QueryEmbedder(encoder, max_entries=2)
    for text in ["a", "to", "cat", "four"]:
        await embedder.embed(text, "team")
    assert [(await embedder.embed(text, "team"))[0] for text in ("cat", "four")] == [3, 4]
    assert embedder.cache_hits == 2


async def test_a_cache_of_no_entries_remembers_nothing(encoder) -> None:
    embedder = QueryEmbedder(encoder, max_entries=0)
    await embedder.embed("hello", "team")
    await embedder.embed("hello", "team")
    assert encoder.texts == ["hello", "hello"]
    assert embedder.cache_misses == 2


async def test_changing_an_embedding_leaves_the_remembered_one_alone(encoder) -> None:
    embedder = QueryEmbedder(encoder)
    first = await embedder.embed("hello", "team")
    expected = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(await embedder.embed("hello", "team"), expected)


@given(st.text(st.characters(codec=None), max_size=50))
def test_any_text_can_be_embedded(static, text) -> None:
    embedder = open_embedder(static)
    vector = asyncio.run(embedder.embed(text, "team"))
    assert vector.dtype == np.float32
    assert vector.shape == (embedder.encoder.dimension,)
    assert np.isfinite(vector).all()


async def test_names_its_encoder(encoder) -> None:
    assert QueryEmbedder(encoder).encoder_id == "fake-1"


async def test_without_threads_the_encoder_runs_on_the_event_loop(encoder) -> None:
    embedder = QueryEmbedder(encoder)
    await embedder.embed("hello", "team")
    embedder.close()
    assert encoder.threads == {threading.get_ident()}


async def test_with_threads_the_encoder_leaves_the_event_loop_free(encoder) -> None:
    embedder = QueryEmbedder(encoder, executor=ThreadPoolExecutor(1))
    (row,) = await asyncio.gather(embedder.embed("hello", "team"))
    embedder.close()
    assert row[0] == 5
    assert threading.get_ident() not in encoder.threads


async def test_a_closed_embedder_takes_no_more_work(encoder) -> None:
    embedder = open_embedder(encoder)
    embedder.close()
    with pytest.raises(RuntimeError):
        await embedder.embed("hello", "team")


async def test_a_network_is_given_threads_and_agrees_with_itself() -> None:
    encoder = load_encoder("minilm")
    embedder = open_embedder(encoder)
    vectors = await asyncio.gather(*(embedder.embed(f"query {i}", "team") for i in range(8)))
    embedder.close()
    expected = encoder.encode([f"query {i}" for i in range(8)])
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


async def test_the_static_encoder_is_given_no_threads(static) -> None:
    embedder = open_embedder(static)
    before = threading.active_count()
    await embedder.embed("hello", "team")
    embedder.close()
    assert threading.active_count() == before
