"""Reading named arrays back out of an artefact, and scaling the vectors that estimators read."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.encoders.request_shape import WIDTH
from router_models.errors import ArtifactRejected
from router_models.types import Arrays, Float32

SMALLEST_NORM = 1e-12
UNSEEN_VARIANCE = 1.0 / 12.0
"""Of a quality that may be anything from 0 to 1."""
_LOWEST, _HIGHEST = np.array(-8.0, np.float32), np.array(8.0, np.float32)
"""As arrays, which numpy need not turn into arrays."""


def read_array(arrays: Arrays, name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return the array called `name` after checking its shape; None stands for any length.

    Raises:
        ArtifactRejected: It is missing, has another shape or holds values that are not finite.
    """
    array = arrays.get(name)
    if array is None:
        raise ArtifactRejected(f"array {name!r} is missing")
    fits = len(array.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if length is None else length for length in shape)
        raise ArtifactRejected(f"array {name!r} has shape {array.shape}, expected {wanted}")
    if not np.isfinite(array).all():
        raise ArtifactRejected(f"array {name!r} holds values that are not finite")
    return array


def add_prefix(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Put `prefix` before every array's name, so that several parts fit into one mapping."""
    return {prefix + name: array for name, array in arrays.items()}


def strip_prefix(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with `prefix`, named without it."""
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def fit_width(embeddings: Float32, dimension: int) -> Float32:
    """Take the shape of the request away, or put zeros in its place; shape ``(..., dimension)``.

    An encoder's vector may have the shape of the request appended, where that has one. What was
    learned from texts alone reads the texts' part, and zeros stand for a request without a shape.

    Raises:
        ValueError: The lengths differ by anything else.
    """
    missing = dimension - embeddings.shape[-1]
    if missing == 0:
        return embeddings
    if missing == -WIDTH:
        return embeddings[..., :dimension]
    if missing != WIDTH:
        raise ValueError(f"vectors of length {embeddings.shape[-1]}, expected {dimension}")
    zeros = np.zeros((*embeddings.shape[:-1], missing), np.float32)
    return np.concatenate((embeddings, zeros), axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Centres and scales each feature, as measured on train rows only.

    Attributes:
        shift: What to take away; shape ``(dimension,)``.
        factor: What to multiply by afterwards, one over the deviation; same shape.
    """

    shift: Float32
    factor: Float32
    _is_identity: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_identity = not self.shift.any() and bool((self.factor == 1.0).all())
        object.__setattr__(self, "_is_identity", is_identity)

    @classmethod
    def fit(cls, embeddings: Float32) -> "Scaler":
        """Measure mean and deviation of each feature."""
        deviation = embeddings.std(axis=0, dtype=np.float64)
        return cls.from_moments(embeddings.mean(axis=0, dtype=np.float64), deviation)

    @classmethod
    def from_moments(cls, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> "Scaler":
        """Scale by known figures; a feature that never varies is switched off."""
        varies = deviation > 1e-6
        factor = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    @classmethod
    def identity(cls, dimension: int) -> "Scaler":
        """Leave every feature as it is."""
        return cls(np.zeros(dimension, np.float32), np.ones(dimension, np.float32))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Scaler":
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        shift = read_array(arrays, "shift", (None,))
        return cls(shift, read_array(arrays, "factor", shift.shape))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs."""
        return {"shift": self.shift, "factor": self.factor}

    def equals(self, other: "Scaler") -> bool:
        """Say whether both scale alike."""
        return np.array_equal(self.shift, other.shift) and np.array_equal(self.factor, other.factor)

    def apply(self, embeddings: Float32) -> Float32:
        """Scale each row; values beyond 8 deviations are cut, so that no feature runs away.

        Of rows of another length as many features are read as there are scales, see `fit_width`.
        """
        embeddings = fit_width(embeddings, len(self.shift))
        if self._is_identity:
            scaled: Float32 = np.maximum(embeddings, _LOWEST)
        else:
            scaled = embeddings - self.shift
            scaled *= self.factor
            np.maximum(scaled, _LOWEST, out=scaled)
        np.minimum(scaled, _HIGHEST, out=scaled)
        return scaled

    def apply_unit(self, embeddings: Float32) -> Float32:
        """Scale each row and give it length 1, so that a dot product is a cosine."""
        scaled = self.apply(embeddings)
        norms = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
        scaled /= np.maximum(norms, SMALLEST_NORM)[:, None]
        return scaled
