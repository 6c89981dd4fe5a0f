"""Keeping one estimator inside the arrays of another."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import add_prefix, read_array, strip_prefix
from router_models.types import Arrays, Estimator

KIND = "kind"
"""Array beside an inner estimator's own: its kind, as bytes."""


def pack(prefix: str, estimator: Estimator) -> dict[str, NDArray[Any]]:
    """Name the estimator's arrays by `prefix`, and its kind beside them."""
    arrays = add_prefix(prefix, estimator.to_arrays())
    return arrays | {prefix + KIND: np.frombuffer(estimator.kind.encode(), np.uint8)}


def unpack(
    prefix: str, models: tuple[str, ...], arrays: Arrays, kinds: Iterable[type[Estimator]]
) -> Estimator:
    """Rebuild what `pack` put in; only one of `kinds` is ever built.

    Raises:
        ArtifactRejected: An array is missing or has the wrong shape, or the kind is unknown.
    """
    inner = strip_prefix(prefix, arrays)
    kind = read_array(inner, KIND, (None,)).astype(np.uint8).tobytes().decode(errors="replace")
    known = {candidate.kind: candidate for candidate in kinds}
    if kind not in known:
        raise ArtifactRejected(
            f"unknown kind of estimator {kind!r}; known kinds: {', '.join(known)}"
        )
    return known[kind].from_arrays(models, inner)
