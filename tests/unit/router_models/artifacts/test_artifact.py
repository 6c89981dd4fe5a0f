import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from router_models.artifacts import artifact, sealed_file
from router_models.artifacts.artifact import dump, load, read_manifest
from router_models.artifacts.registry import ModelRegistry
from router_models.errors import ArtifactRejected, InvalidRegistry
from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.estimators.knn import NearestNeighbours
from router_models.types import Prediction

MODELS = ("small", "large")
DIMENSION = 4
NOW = datetime(2026, 11, 3, 12, 0, 0, 250, tzinfo=UTC)


@dataclass(frozen=True)
class EncoderIdentity:
    id: str = "static-cheap-1"
    sha256: str = "ab" * 32
    dimension: int = DIMENSION


ENCODER = EncoderIdentity()


def kmeans(models=MODELS, dimension=DIMENSION) -> KMeansEstimator:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, dimension)).astype(np.float32)
    scores = rng.random((30, len(models))).astype(np.float32)
    statistics = CellStatistics.gather(np.arange(30) % 3, scores, scores * np.float32(0.01), 3)
    centroids = points[:3] / np.linalg.norm(points[:3], axis=1, keepdims=True)
    tenth = np.full(3, 0.1, np.float32)
    return KMeansEstimator(
        models, Scaler.identity(dimension), centroids, tenth, tenth * 100, statistics
    )


def guarded(estimator=None) -> GuardedEstimator:
    inner = estimator or kmeans()
    means = np.full(len(inner.models), 0.5, np.float32)
    guard = Guard(inner.scaler, kmeans().centroids, np.full(3, 0.1, np.float32), 1, 2, means, means)
    return GuardedEstimator(inner, guard)


def dumped(estimator=None, encoder=ENCODER, **changes) -> bytes:
    training, provenance = {"auc": 0.75, "seeds": [0, 1]}, {"queries": 30, "evaluations": 60}
    manifest = {"created_at": NOW, "training": training, "provenance": provenance, **changes}
    return dump(estimator or guarded(), encoder, **manifest)


WHOLE = dumped()


def relabelled(data: bytes = WHOLE, **changes) -> bytes:
    """The same arrays under a manifest with other entries and a checksum that fits them."""
    arrays = load_safetensors(data)
    table = json.loads(header_of(data)["__metadata__"]["waypost"]) | changes
    table = {name: value for name, value in table.items() if value is not ...}
    return rewritten(arrays, table)


def rearranged(**arrays) -> bytes:
    """The same manifest over other arrays, with a checksum that fits."""
    table = json.loads(header_of(WHOLE)["__metadata__"]["waypost"])
    kept = {n: a for n, a in (load_safetensors(WHOLE) | arrays).items() if a is not None}
    return rewritten(kept, table)


def rewritten(arrays, table) -> bytes:
    table = {**table, "checksum": sealed_file.checksum(table, arrays)}
    return sealed_file.write_safetensors("waypost", table, arrays)


def canonical_with_infinity(value) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def header_of(data: bytes):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])


def with_header(data: bytes, old: bytes, new: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length].rstrip(b" "), data[8 + length :]
    assert old in header
    header = header.replace(old, new)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def rejection(data: bytes, encoder=ENCODER) -> str:
    with pytest.raises(ArtifactRejected) as caught:
        load(data, encoder)
    return str(caught.value)


def test_loads_what_was_dumped():
    router = load(WHOLE, ENCODER)
    embedding = np.array([0.3, -0.2, 0.9, 0.1], np.float32)
    expected, familiarity = guarded().predict_with_familiarity(embedding[None])
    found = router.predict(embedding)
    np.testing.assert_allclose(found.quality, expected.quality[0], rtol=1e-5)
    np.testing.assert_allclose(found.cost_usd, expected.cost_usd[0], rtol=1e-5)
    assert found.familiarity == pytest.approx(familiarity[0], rel=1e-5)


def test_the_manifest_says_where_the_router_comes_from():
    manifest = read_manifest(dumped(parent="kmeans-20261102-0123456789ab"))
    assert manifest.kind == "kmeans"
    assert (manifest.encoder_id, manifest.encoder_sha256) == (ENCODER.id, ENCODER.sha256)
    assert (manifest.models, manifest.dimension) == (MODELS, DIMENSION)
    assert manifest.has_guard
    assert manifest.created_at == datetime(2026, 11, 3, 12, tzinfo=UTC)
    assert manifest.training == {"auc": 0.75, "seeds": [0, 1]}
    assert manifest.provenance == {"queries": 30, "evaluations": 60}
    assert manifest.parent == "kmeans-20261102-0123456789ab"


def test_the_version_names_kind_day_and_content():
    manifest = read_manifest(WHOLE)
    assert manifest.version == f"kmeans-20261103-{manifest.checksum[:12]}"
    assert sealed_file.VERSION_PATTERN.fullmatch(manifest.version)


def test_equal_content_gives_equal_bytes():
    other_zone = NOW.astimezone(timezone(timedelta(hours=5)))
    assert dumped() == dumped(created_at=other_zone) == WHOLE


def test_other_content_gives_another_version():
    changed = [dumped(training={}), dumped(parent="x"), dumped(kmeans())]
    assert len({read_manifest(data).version for data in [WHOLE, *changed]}) == 4


def test_is_a_safetensors_file_that_others_can_read():
    arrays = load_safetensors(WHOLE)
    np.testing.assert_array_equal(arrays["estimator/centroids"], kmeans().centroids)
    assert "guard/centroids" in arrays
    assert set(header_of(WHOLE)["__metadata__"]) == {"waypost"}


def test_an_estimator_without_a_guard_is_loaded_without_one():
    assert load(dumped(kmeans()), ENCODER).guard is None


def test_every_kind_is_known_by_its_own_name():
    assert set(artifact.ESTIMATORS) == {"factors", "kmeans", "mlp", "knn", "ridge", "mixture"}


def test_loads_other_kinds_and_types_of_arrays():
    points = kmeans().centroids
    quality = np.array([[1, 0], [0, 1], [-1, -1]], ">f4")
    neighbours = NearestNeighbours(
        MODELS, Scaler.identity(DIMENSION), points, quality, quality.astype(np.float16), 2
    )
    router = load(dumped(neighbours), ENCODER)
    assert router.manifest.kind == "knn"
    assert router.predict(points[0]).quality.shape == (2,)


@settings(deadline=None)
@given(st.data())
def test_refuses_a_file_with_any_byte_changed(data):
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda b: b != WHOLE[place]))
    assert rejection(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :])


@settings(deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_refuses_a_truncated_file(length):
    assert rejection(WHOLE[:length])


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=64))
def test_refuses_a_file_with_bytes_added(extra):
    assert rejection(WHOLE + extra)


@settings(deadline=None)
@given(st.binary(max_size=256))
def test_refuses_bytes_of_any_kind(data):
    assert rejection(data)


@settings(deadline=None)
@given(st.binary(max_size=128))
def test_refuses_a_header_of_any_kind(header):
    assert rejection(len(header).to_bytes(8, "little") + header)


def test_refuses_a_header_of_absurd_length():
    assert "absurdly long" in rejection(b"\xff" * 8 + WHOLE)


def test_refuses_a_header_nested_beyond_reason():
    header = b"[" * 100_000
    assert "not JSON" in rejection(len(header).to_bytes(8, "little") + header)


def test_refuses_a_header_that_is_no_object():
    assert "not a JSON object" in rejection(b"\x02" + bytes(7) + b"[]")


def test_refuses_a_foreign_safetensors_file():
    arrays = {"weight": np.zeros(3, np.float32)}
    assert "without a router's manifest" in rejection(save_safetensors(arrays))
    assert "without a router's manifest" in rejection(save_safetensors(arrays, {"format": "pt"}))


def test_refuses_spaces_that_json_would_ignore():
    assert "laid out" in rejection(with_header(WHOLE, b'{"__metadata__":', b'{"__metadata__": '))


def test_refuses_arrays_outside_the_file():
    assert "not a valid safetensors file" in rejection(with_header(WHOLE, b"[0,", b"[8,"))


def test_refuses_a_type_of_number_that_no_artefact_is_made_of():
    assert "safetensors" in rejection(with_header(WHOLE, b'"dtype":"F64"', b'"dtype":"BF16"'))
    complex_number = rejection(with_header(WHOLE, b'"dtype":"F64"', b'"dtype":"C64"'))
    assert "no artefact is made of" in complex_number


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        (EncoderIdentity(id="minilm2-cheap-1"), "trained on encoder static-cheap-1"),
        (EncoderIdentity(dimension=5), "4 dimensions"),
        (EncoderIdentity(sha256="cd" * 32), "other weights"),
    ],
)
def test_refuses_an_artefact_of_another_encoder(encoder, why):
    assert why in rejection(WHOLE, encoder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": ...}, "format version None"),
        ({"kind": "oracle"}, "unknown kind of estimator 'oracle'"),
        ({"kind": "mlp"}, "the mlp estimator"),
        ({"kind": "../../etc"}, "kind"),
        ({"kind": None}, "kind is not a string"),
        ({"models": ["small"]}, "has shape"),
        ({"models": ["small", "small"]}, "distinct names"),
        ({"models": []}, "distinct names"),
        ({"models": "small"}, "a list of names"),
        ({"models": ["small", ""]}, "a list of names"),
        ({"dimension": 5}, "5"),
        ({"dimension": True}, "dimension"),
        ({"dimension": 0}, "dimension"),
        ({"has_guard": 1}, "true or false"),
        ({"created_at": "yesterday"}, "not a UTC time"),
        ({"created_at": "0001-01-01T00:00:00Z"}, "kind"),
        ({"training": None}, "training is not an object"),
        ({"training": {"auc": inf}}, "not JSON"),
        ({"provenance": {"rows": "many"}}, "counts"),
        ({"parent": 7}, "parent"),
        ({"parent": ...}, "missing or unknown entries: parent"),
        ({"surprise": 1}, "missing or unknown entries: surprise"),
        ({"unit": "usd"}, "unit"),
    ],
)
def test_refuses_a_manifest_that_does_not_fit(changes, why, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sealed_file, "canonical_json", canonical_with_infinity)
        data = relabelled(**changes)
    assert why in rejection(data)


def test_refuses_a_checksum_of_another_kind():
    checksum = read_manifest(WHOLE).checksum.encode()
    assert "SHA-256" in rejection(with_header(WHOLE, checksum, b"md5"))
    assert "checksum does not match" in rejection(with_header(WHOLE, checksum, b"0" * 64))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"estimator/centroids": None}, "'centroids' is missing"),
        ({"guard/reach": None}, "'reach' is missing"),
        ({"estimator/sizes": np.array([1, np.nan, 1], np.float32)}, "not finite"),
        ({"estimator/settings": np.array([-1.0, 0.0])}, "prior rows"),
        ({"estimator/centroids": np.zeros((3, 5), np.float32)}, "shape"),
        ({"stray": np.zeros(1)}, "no part of a router"),
        ({"estimator/cost_sum": np.full((3, 2), 1e308)}, "nobody can use"),
    ],
)
def test_refuses_arrays_that_do_not_fit(arrays, why):
    assert why in rejection(rearranged(**arrays))


class Toy:
    """An estimator that can be told to misbehave by the one array it is made of."""

    kind = "toy"
    dimension = DIMENSION
    models = MODELS

    def __init__(self, behaviour: int) -> None:
        self.behaviour = behaviour

    def predict(self, embeddings):
        if self.behaviour == 1:
            raise IndexError("row 7 of 3")
        zeros = np.zeros((1, 2 if self.behaviour == 0 else 3), np.float32)
        return Prediction(zeros, zeros)

    def to_arrays(self):
        return {"behaviour": np.array(self.behaviour)}

    @classmethod
    def from_arrays(cls, models, arrays):
        if arrays["behaviour"] == 3:
            raise ValueError("3 is too many")
        return cls(int(arrays["behaviour"]))


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [(1, "cannot predict: row 7 of 3"), (2, "nobody can use"), (3, "can be built: 3 is too many")],
)
def test_never_hands_out_an_estimator_that_cannot_predict(behaviour, why, monkeypatch):
    monkeypatch.setattr(artifact, "ESTIMATORS", {"toy": Toy})
    assert load(dumped(Toy(0)), ENCODER).predict(np.zeros(DIMENSION, np.float32)).familiarity == 1.0
    with pytest.raises(ArtifactRejected, match=why):
        dumped(Toy(behaviour))


def test_does_not_dump_what_cannot_be_served():
    spoilt = kmeans()
    spoilt.centroids[0, 0] = np.inf
    with pytest.raises(ArtifactRejected, match="not finite"):
        dumped(spoilt)
    with pytest.raises(ArtifactRejected, match="read 5 dimensions"):
        dumped(kmeans(dimension=5))
    with pytest.raises(ArtifactRejected, match="unknown kind"):
        dumped(Toy(0))


def test_does_not_dump_a_time_without_a_zone():
    with pytest.raises(ValueError, match="no time zone"):
        dumped(created_at=NOW.replace(tzinfo=None))


def test_does_not_dump_training_figures_that_are_not_json():
    with pytest.raises(ValueError, match="JSON"):
        dumped(training={"auc": inf})


REGISTRY = ModelRegistry({"small": ["mini", "org/small"], "unknown": ["other"]})


def test_a_registry_travels_with_the_models_it_is_about():
    data = dumped(registry=REGISTRY)
    assert load(data, ENCODER).registry == ModelRegistry({"small": ["mini", "org/small"]})
    assert read_manifest(data).registry == {"small": ["mini", "org/small"]}
    assert read_manifest(data).version != read_manifest(WHOLE).version


def test_an_empty_registry_leaves_no_trace():
    assert dumped(registry=ModelRegistry()) == dumped(registry=None) == WHOLE
    assert dumped(registry=ModelRegistry({"unknown": ["other"]})) == WHOLE
    assert "registry" not in json.loads(header_of(WHOLE)["__metadata__"]["waypost"])


def test_does_not_dump_a_column_that_is_an_alias_of_another():
    with pytest.raises(InvalidRegistry, match="'small' is an alias of 'large'"):
        dumped(registry=ModelRegistry({"large": ["small"]}))


@pytest.mark.parametrize(
    ("registry", "problem"),
    [
        ({}, "registry is not the aliases of its models"),
        ({"small": ["b", "a"]}, "registry is not the aliases of its models"),
        ({"other": ["mini"]}, "registry is not the aliases of its models"),
        ({"other": ["large"]}, "'large' is an alias of 'other'"),
    ],
)
def test_refuses_a_registry_that_means_nothing(registry, problem):
    assert problem in rejection(relabelled(registry=registry))
