"""Figures that add up over clients: all that most steps send, and all that secure sums need."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from router_models.estimators.arrays import read_array
from router_models.types import Arrays

Float64 = NDArray[np.float64]

SHAPE: Final = "shape"
"""Key of a field's metadata: the names of its array's lengths, such as ``("n_models",)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Arrays of 64-bit floats, one per field, each the sum of something over rows."""

    def __add__(self, other: Self) -> Self:
        """Join another client's rows."""
        return type(self)(
            **{
                item.name: getattr(self, item.name) + getattr(other, item.name)
                for item in fields(self)
            }
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs; what leaves a client."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def shapes(cls, lengths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Shape of each array, given how many features, models and so on there are."""
        return {i.name: tuple(lengths[name] for name in i.metadata[SHAPE]) for i in fields(cls)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, lengths: Mapping[str, int]) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing, has the wrong shape or is not finite.
        """
        shapes = cls.shapes(lengths)
        return cls(**{n: read_array(arrays, n, s).astype(np.float64) for n, s in shapes.items()})
