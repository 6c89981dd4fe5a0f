"""The one form of a router on disk: a safetensors file with a JSON manifest in its header.

Form: https://huggingface.co/docs/safetensors/index#format. The header is written here rather than
by the library, sorted and without spaces, so that equal content gives equal bytes whichever
library version is installed; and only that spelling is read back, so every byte of the file counts.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from router_models.errors import ArtifactRejected
from router_models.guard import Guard, GuardedEstimator
from router_models.kmeans import KMeansEstimator
from router_models.knn import NearestNeighbours
from router_models.mlp import MlpEstimator
from router_models.ridge import RidgeEstimator
from router_models.router import Manifest, Router
from router_models.types import Arrays, Estimator

FORMAT_VERSION: Final = 1

ESTIMATORS: Final[Mapping[str, type[Estimator]]] = {
    estimator.kind: estimator
    for estimator in (KMeansEstimator, MlpEstimator, NearestNeighbours, RidgeEstimator)
}
"""The kinds that an artefact can hold; nothing else is ever built from a file."""

VERSION_PATTERN: Final = re.compile(r"[a-z]{2,16}-[0-9]{8}-[0-9a-f]{12}", re.ASCII)
"""What a version looks like; match it whole before using one as a file name."""

MANIFEST_KEY: Final = "waypost"
ESTIMATOR_PREFIX: Final = "estimator/"
GUARD_PREFIX: Final = "guard/"

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
_DTYPES: Final = {
    "f8": "F64", "f4": "F32", "f2": "F16",
    "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
    "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL",
}  # fmt: skip
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class EncoderIdentity(Protocol):
    """Which encoder's vectors a router reads; every `Encoder` says it."""

    @property
    def id(self) -> str:
        """Name and revision."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of the weights."""
        ...

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        ...


def dump(
    estimator: Estimator,
    encoder: EncoderIdentity,
    *,
    created_at: datetime,
    training: Mapping[str, Any],
    provenance: Mapping[str, int],
    parent: str | None = None,
) -> bytes:
    """Turn an estimator into an artefact; a `GuardedEstimator` brings its guard along.

    What this returns is what `load` accepts: it is loaded once before it is handed out.

    Args:
        estimator: Of a kind in `ESTIMATORS`, guarded or bare.
        encoder: Whose vectors it was trained on.
        created_at: With a time zone; kept to the second.
        training: Figures of the training run; JSON, finite numbers only.
        provenance: What it was trained on, as counts.
        parent: Version it was trained from.

    Raises:
        ArtifactRejected: The estimator cannot be served, such as one with arrays that are not
            finite.
        ValueError: `created_at` has no time zone, or `training` is not JSON.
    """
    if created_at.tzinfo is None:
        raise ValueError("created_at has no time zone")
    estimator, guard = _take_apart(estimator)
    arrays = {ESTIMATOR_PREFIX + name: array for name, array in estimator.to_arrays().items()}
    if guard is not None:
        arrays |= {GUARD_PREFIX + name: array for name, array in guard.to_arrays().items()}
    arrays = {name: _little_endian(array) for name, array in arrays.items()}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        kind=estimator.kind,
        encoder_id=encoder.id,
        encoder_sha256=encoder.sha256,
        dimension=encoder.dimension,
        models=estimator.models,
        has_guard=guard is not None,
        created_at=created_at.astimezone(UTC).replace(microsecond=0),
        training=training,
        provenance=provenance,
        parent=parent,
        checksum="",
    )
    manifest = replace(manifest, checksum=_checksum(manifest, arrays))
    data = _write(manifest, arrays)
    load(data, encoder)
    return data


def read_manifest(data: bytes) -> Manifest:
    """Read the manifest after verifying every byte, without asking for an encoder.

    Raises:
        ArtifactRejected: The bytes are not a whole artefact of this format.
    """
    return _read(data)[0]


def load(data: bytes, encoder: EncoderIdentity) -> Router:
    """Verify an artefact and build its router.

    Raises:
        ArtifactRejected: The bytes are corrupt, of another format or encoder, or hold an estimator
            that cannot be served; the message says which.
    """
    manifest, arrays = _read(data)
    _check_encoder(manifest, encoder)
    kind = ESTIMATORS.get(manifest.kind)
    if kind is None:
        known = ", ".join(ESTIMATORS)
        raise ArtifactRejected(f"unknown kind of estimator {manifest.kind!r}; known: {known}")
    # Overflow in hostile arrays shows up as figures that are not finite, which the probe refuses.
    with np.errstate(all="ignore"):
        router = Router(manifest, *_build(kind, manifest, arrays))
        _probe(router)
    return router


def _take_apart(estimator: Estimator) -> tuple[Estimator, Guard | None]:
    if isinstance(estimator, GuardedEstimator):
        return estimator.estimator, estimator.guard
    return estimator, None


def _read(data: bytes) -> tuple[Manifest, dict[str, NDArray[Any]]]:
    """Take the file apart; after this every byte of it is known to be as it was written."""
    header = _read_header(data)
    manifest = _read_manifest(header)
    try:
        arrays = load_safetensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise ArtifactRejected(f"not a valid safetensors file: {error}") from error
    if _checksum(manifest, arrays) != manifest.checksum:
        raise ArtifactRejected("the checksum does not match: the file was changed or damaged")
    if _write(manifest, arrays) != data:  # such as spaces that JSON ignores
        raise ArtifactRejected("the file is not laid out as an artefact: it was changed or damaged")
    for name, array in arrays.items():
        if not name.startswith((ESTIMATOR_PREFIX, GUARD_PREFIX)):
            raise ArtifactRejected(f"array {name!r} belongs neither to estimator nor to guard")
        if not np.isfinite(array).all():
            raise ArtifactRejected(f"array {name!r} holds values that are not finite")
    return manifest, arrays


def _read_header(data: bytes) -> dict[str, Any]:
    if len(data) < _LENGTH_BYTES:
        raise ArtifactRejected(f"the file has {len(data)} bytes: too short for an artefact")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > _MAX_HEADER_BYTES:
        raise ArtifactRejected("not a safetensors file: its header would be absurdly long")
    if length > len(data) - _LENGTH_BYTES:
        raise ArtifactRejected("the file ends inside its header: it is truncated")
    return _object(data[_LENGTH_BYTES : _LENGTH_BYTES + length], "the file's header")


def _read_manifest(header: Mapping[str, Any]) -> Manifest:
    metadata = header.get("__metadata__")
    text = metadata.get(MANIFEST_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ArtifactRejected("a safetensors file, but without a router's manifest")
    table = _object(text, "the manifest")
    version = table.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactRejected(
            f"format version {version!r}, but this gateway reads {FORMAT_VERSION}: "
            "upgrade it or train the router again"
        )
    names = {item.name for item in fields(Manifest)}
    if set(table) != names:
        odd = ", ".join(sorted(set(table) ^ names))
        raise ArtifactRejected(f"the manifest has missing or unknown entries: {odd}")
    return _parse_manifest(table)


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        _canonical(value)  # refuses NaN and nesting that could not be written again
    except (ValueError, RecursionError) as error:
        raise ArtifactRejected(f"{what} is not JSON: the file is damaged or foreign") from error
    if not isinstance(value, dict):
        raise ArtifactRejected(f"{what} is not a JSON object: the file is damaged or foreign")
    return value


def _parse_manifest(table: Mapping[str, Any]) -> Manifest:
    for item in ("kind", "encoder_id", "encoder_sha256", "created_at", "checksum"):
        _require(isinstance(table[item], str), item, "a string")
    _require(type(table["dimension"]) is int and table["dimension"] > 0, "dimension", "above 0")
    _require(isinstance(table["has_guard"], bool), "has_guard", "true or false")
    _require(_SHA256.fullmatch(table["checksum"]) is not None, "checksum", "a SHA-256")
    models = table["models"]
    _require(
        isinstance(models, list) and all(isinstance(m, str) and m for m in models),
        "models",
        "a list of names",
    )
    _require(len(models) > 0 and len(set(models)) == len(models), "models", "distinct names")
    _require(isinstance(table["training"], dict), "training", "an object")
    provenance = table["provenance"]
    _require(
        isinstance(provenance, dict) and all(type(n) is int for n in provenance.values()),
        "provenance",
        "an object of counts",
    )
    parent = table["parent"]
    _require(parent is None or isinstance(parent, str), "parent", "a version or null")
    try:
        created_at = datetime.strptime(table["created_at"], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise ArtifactRejected("the manifest's created_at is not a UTC time") from error
    manifest = Manifest(**{**table, "models": tuple(models), "created_at": created_at})
    _require(VERSION_PATTERN.fullmatch(manifest.version) is not None, "kind", "2 to 16 letters")
    return manifest


def _require(is_met: bool, item: str, expected: str) -> None:  # noqa: FBT001
    if not is_met:
        raise ArtifactRejected(f"the manifest's {item} is not {expected}")


def _check_encoder(manifest: Manifest, encoder: EncoderIdentity) -> None:
    if (manifest.encoder_id, manifest.dimension) != (encoder.id, encoder.dimension):
        raise ArtifactRejected(
            f"trained on encoder {manifest.encoder_id} ({manifest.dimension} dimensions), but this "
            f"gateway runs {encoder.id} ({encoder.dimension}): set routing.encoder or train again"
        )
    if manifest.encoder_sha256 != encoder.sha256:
        raise ArtifactRejected(
            f"trained on other weights of encoder {encoder.id} "
            f"({manifest.encoder_sha256[:12]}, not {encoder.sha256[:12]}): train it again"
        )


def _build(
    kind: type[Estimator], manifest: Manifest, arrays: Arrays
) -> tuple[Estimator, Guard | None]:
    """Build estimator and guard; arrays that make them stumble are the file's fault."""
    try:
        estimator = kind.from_arrays(manifest.models, _under(arrays, ESTIMATOR_PREFIX))
        guarded = _under(arrays, GUARD_PREFIX)
        guard = Guard.from_arrays(manifest.models, guarded) if manifest.has_guard else None
    except ArtifactRejected as error:
        raise ArtifactRejected(f"the {manifest.kind} estimator or its guard: {error}") from error
    except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as error:
        raise ArtifactRejected(f"no {manifest.kind} estimator can be built: {error}") from error
    for dimension in (estimator.dimension, guard.scaler.shift.size if guard else None):
        if dimension not in {None, manifest.dimension}:
            raise ArtifactRejected(
                f"its arrays read {dimension} dimensions, its manifest says {manifest.dimension}"
            )
    return estimator, guard


def _probe(router: Router) -> None:
    """Ask for two predictions, so that an estimator that cannot predict never serves."""
    n_models = len(router.manifest.models)
    for value in (0.0, 1.0):
        embedding = np.full(router.manifest.dimension, value, np.float32)
        try:
            figures = router.predict(embedding)
        except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as error:
            raise ArtifactRejected(f"the estimator cannot predict: {error}") from error
        for row in figures[:2]:
            if row.shape != (n_models,) or not np.isfinite(row).all():
                raise ArtifactRejected("the estimator predicts figures that nobody can use")


def _write(manifest: Manifest, arrays: Arrays) -> bytes:
    """Lay out the file; wide types come first, which keeps every array aligned."""
    header: dict[str, Any] = {"__metadata__": {MANIFEST_KEY: _canonical(_to_json(manifest))}}
    bodies: list[bytes] = []
    offset = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = arrays[name]
        bodies.append(array.tobytes())
        header[name] = {
            "dtype": _dtype(name, array),
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = _canonical(header).encode("ascii")
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *bodies])


def _checksum(manifest: Manifest, arrays: Arrays) -> str:
    """Digest the manifest without its checksum, then the arrays by name, each with its form."""
    table = _to_json(manifest)
    del table["checksum"]
    names = sorted(arrays)
    forms = [[name, _dtype(name, arrays[name]), list(arrays[name].shape)] for name in names]
    digest = hashlib.sha256(_canonical([table, forms]).encode("ascii"))
    for name in names:
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _to_json(manifest: Manifest) -> dict[str, Any]:
    table = {item.name: getattr(manifest, item.name) for item in fields(manifest)}
    return {**table, "created_at": manifest.created_at.strftime(_TIME_FORMAT)}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _dtype(name: str, array: NDArray[Any]) -> str:
    dtype = _DTYPES.get(array.dtype.str[1:])
    if dtype is None:
        raise ArtifactRejected(f"array {name!r} holds {array.dtype}, which no router is made of")
    return dtype


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _under(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
