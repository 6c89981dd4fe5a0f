"""The one form of every artefact on disk: a safetensors file, its manifest sealed in the header.

Form: https://huggingface.co/docs/safetensors/index#format. The header is written here rather than
by the library, sorted and without spaces, so that equal content gives equal bytes whichever
library version is installed; and only that spelling is read back, so every byte of the file counts.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from router_models.encoders.request_shape import SUFFIX, WIDTH
from router_models.errors import ArtifactRejected
from router_models.types import Arrays

VERSION_PATTERN: Final = re.compile(r"[a-z]{2,16}-[0-9]{8}-[0-9a-f]{12}", re.ASCII)
"""What a version looks like; match it whole before using one as a file name."""

OPTIONAL: Final[Mapping[str, bool]] = {"is_optional": True}
"""Metadata of a manifest's field that is left out of the file where it is empty or its default."""

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
    """Which encoder's vectors an artefact reads; every `Encoder` says it."""

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


@dataclass(frozen=True, slots=True)
class RequestEncoder:
    """What an encoder is called where the shape of the request is appended to its vectors."""

    id: str
    sha256: str
    dimension: int

    @classmethod
    def of(cls, encoder: EncoderIdentity) -> Self:
        """Name what is made with `encoder`; the weights are the same."""
        return cls(encoder.id + SUFFIX, encoder.sha256, encoder.dimension + WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The part of the manifest that every artefact has.

    Attributes:
        format_version: Of the artefact form.
        kind: Of what the file holds: 2 to 16 letters.
        created_at: UTC, whole seconds.
        training: Figures of the training run, as JSON.
        provenance: What it was trained on, as counts.
        parent: Version that it was trained from, where it was not trained from nothing.
        checksum: SHA-256 of the rest of the manifest and of all arrays.
    """

    format_version: int
    kind: str
    created_at: datetime
    training: Mapping[str, Any]
    provenance: Mapping[str, int]
    parent: str | None
    checksum: str = ""

    @property
    def version(self) -> str:
        """Kind, day and content, such as ``kmeans-20261103-9f86d081884c``.

        Equal names hold equal bytes.
        """
        return f"{self.kind}-{self.created_at:%Y%m%d}-{self.checksum[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderManifest(Manifest):
    """The part that every artefact has which reads an encoder's vectors.

    Attributes:
        encoder_id: The encoder whose vectors it reads.
        encoder_sha256: Digest of that encoder's weights.
        dimension: Of those vectors.
    """

    encoder_id: str
    encoder_sha256: str
    dimension: int

    def check_encoder(self, encoder: EncoderIdentity) -> None:
        """Make sure that the artefact reads this encoder's vectors, of texts or whole requests.

        Raises:
            ArtifactRejected: It was trained on another encoder, or on other weights of this one.
        """
        known = (encoder, RequestEncoder.of(encoder))
        if (self.encoder_id, self.dimension) not in [(one.id, one.dimension) for one in known]:
            raise ArtifactRejected(
                f"trained on encoder {self.encoder_id} ({self.dimension} dimensions), but this "
                f"gateway runs {encoder.id} ({encoder.dimension}): set routing.encoder or train "
                "again"
            )
        if self.encoder_sha256 != encoder.sha256:
            raise ArtifactRejected(
                f"trained on other weights of encoder {encoder.id} "
                f"({self.encoder_sha256[:12]}, not {encoder.sha256[:12]}): train it again"
            )


ManifestT = TypeVar("ManifestT", bound=Manifest)


@dataclass(frozen=True, slots=True)
class SealedFile(Generic[ManifestT]):
    """One family of artefacts: what its manifests say and what its arrays are called.

    Attributes:
        key: Entry of the header's metadata that holds the manifest.
        noun: What a file holds, for messages.
        format_version: The only one that is read.
        manifest: Its manifest.
        parse: Checks the entries that only this manifest has, and gives them their types.
        prefixes: How names of arrays may begin.
    """

    key: str
    noun: str
    format_version: int
    manifest: type[ManifestT]
    parse: Callable[[Mapping[str, Any]], dict[str, Any]]
    prefixes: tuple[str, ...]

    def write(self, manifest: ManifestT, arrays: Arrays) -> bytes:
        """Seal `manifest` over `arrays` and lay out the file; its checksum is filled in here.

        Raises:
            ArtifactRejected: An array is of a type that no artefact holds.
            ValueError: `created_at` has no time zone, or `training` is not JSON.
        """
        if manifest.created_at.tzinfo is None:
            raise ValueError("created_at has no time zone")
        created_at = manifest.created_at.astimezone(UTC).replace(microsecond=0)
        arrays = {name: _little_endian(array) for name, array in arrays.items()}
        table = manifest_table(replace(manifest, created_at=created_at))
        table["checksum"] = checksum(table, arrays)
        return write_safetensors(self.key, table, arrays)

    def read(self, data: bytes) -> tuple[ManifestT, dict[str, NDArray[Any]]]:
        """Take the file apart; after this every byte of it is known to be as it was written.

        Raises:
            ArtifactRejected: The bytes are not a whole artefact of this family.
        """
        table = self._table(_read_header(data))
        manifest = self._manifest(table)
        try:
            arrays = load_safetensors(data)
        except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise ArtifactRejected(f"not a valid safetensors file: {error}") from error
        if checksum(table, arrays) != manifest.checksum:
            raise ArtifactRejected("the checksum does not match: the file was changed or damaged")
        if write_safetensors(self.key, table, arrays) != data:  # such as spaces that JSON ignores
            raise ArtifactRejected(
                "the file is not laid out as an artefact: it was changed or damaged"
            )
        for name, array in arrays.items():
            if not name.startswith(self.prefixes):
                raise ArtifactRejected(f"array {name!r} is no part of a {self.noun}")
            if not np.isfinite(array).all():
                raise ArtifactRejected(f"array {name!r} holds values that are not finite")
        return manifest, arrays

    def _table(self, header: Mapping[str, Any]) -> dict[str, Any]:
        metadata = header.get("__metadata__")
        text = metadata.get(self.key) if isinstance(metadata, dict) else None
        if not isinstance(text, str):
            raise ArtifactRejected(f"a safetensors file, but without a {self.noun}'s manifest")
        return _object(text, "the manifest")

    def _manifest(self, table: Mapping[str, Any]) -> ManifestT:
        version = table.get("format_version")
        if version != self.format_version:
            raise ArtifactRejected(
                f"format version {version!r}, but this gateway reads {self.format_version}: "
                f"upgrade it or train the {self.noun} again"
            )
        names = {item.name for item in fields(self.manifest)}
        optional = {item.name for item in fields(self.manifest) if item.metadata == OPTIONAL}
        if not names - optional <= set(table) <= names:
            odd = ", ".join(sorted((set(table) ^ names) - (optional - set(table))))
            raise ArtifactRejected(f"the manifest has missing or unknown entries: {odd}")
        created_at = _check_manifest(table)
        manifest = self.manifest(**{**table, "created_at": created_at, **self.parse(table)})
        require(VERSION_PATTERN.fullmatch(manifest.version) is not None, "kind", "2 to 16 letters")
        return manifest


def require(is_met: bool, item: str, expected: str) -> None:  # noqa: FBT001
    """Refuse a manifest whose entry `item` is not what is `expected`.

    Raises:
        ArtifactRejected: It is not.
    """
    if not is_met:
        raise ArtifactRejected(f"the manifest's {item} is not {expected}")


def require_encoder(table: Mapping[str, Any]) -> None:
    """Refuse a manifest whose entries of an `EncoderManifest` are not what they should be.

    Raises:
        ArtifactRejected: They are not.
    """
    for item in ("encoder_id", "encoder_sha256"):
        require(isinstance(table[item], str), item, "a string")
    require(type(table["dimension"]) is int and table["dimension"] > 0, "dimension", "above 0")


def manifest_table(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as the table that is written."""
    table = {
        item.name: getattr(manifest, item.name)
        for item in fields(manifest)
        if item.metadata != OPTIONAL or getattr(manifest, item.name) not in ({}, item.default)
    }
    return {**table, "created_at": manifest.created_at.strftime(_TIME_FORMAT)}


def canonical_json(value: Any) -> str:
    """Write JSON in canonical form: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(table: Mapping[str, Any], arrays: Arrays) -> str:
    """Return the SHA-256 of the manifest without its checksum and of all arrays, by name."""
    rest = {name: value for name, value in table.items() if name != "checksum"}
    names = sorted(arrays)
    forms = [[name, _dtype(name, arrays[name]), list(arrays[name].shape)] for name in names]
    digest = hashlib.sha256(canonical_json([rest, forms]).encode("ascii"))
    for name in names:
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def write_safetensors(key: str, table: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the bytes of a safetensors file; wide types come first, so every array is aligned."""
    header: dict[str, Any] = {"__metadata__": {key: canonical_json(table)}}
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
    text = canonical_json(header).encode("ascii")
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *bodies])


def _read_header(data: bytes) -> dict[str, Any]:
    if len(data) < _LENGTH_BYTES:
        raise ArtifactRejected(f"the file has {len(data)} bytes: too short for an artefact")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > _MAX_HEADER_BYTES:
        raise ArtifactRejected("not a safetensors file: its header would be absurdly long")
    if length > len(data) - _LENGTH_BYTES:
        raise ArtifactRejected("the file ends inside its header: it is truncated")
    return _object(data[_LENGTH_BYTES : _LENGTH_BYTES + length], "the file's header")


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        canonical_json(value)  # refuses NaN and nesting that could not be written again
    except (ValueError, RecursionError) as error:
        raise ArtifactRejected(f"{what} is not JSON: the file is damaged or foreign") from error
    if not isinstance(value, dict):
        raise ArtifactRejected(f"{what} is not a JSON object: the file is damaged or foreign")
    return value


def _check_manifest(table: Mapping[str, Any]) -> datetime:
    """Check the entries that every manifest has; return the one that JSON cannot hold."""
    for item in ("kind", "created_at", "checksum"):
        require(isinstance(table[item], str), item, "a string")
    require(_SHA256.fullmatch(table["checksum"]) is not None, "checksum", "a SHA-256")
    require(isinstance(table["training"], dict), "training", "an object")
    provenance = table["provenance"]
    require(
        isinstance(provenance, dict) and all(type(n) is int for n in provenance.values()),
        "provenance",
        "an object of counts",
    )
    parent = table["parent"]
    require(parent is None or isinstance(parent, str), "parent", "a version or null")
    try:
        return datetime.strptime(table["created_at"], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise ArtifactRejected("the manifest's created_at is not a UTC time") from error


def _dtype(name: str, array: NDArray[Any]) -> str:
    dtype = _DTYPES.get(array.dtype.str[1:])
    if dtype is None:
        raise ArtifactRejected(f"array {name!r} holds {array.dtype}, which no artefact is made of")
    return dtype


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
