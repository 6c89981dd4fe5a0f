"""The MLP router: a shared trunk with one quality head and one cost head per model."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.estimators.arrays import Scaler, read_array
from router_models.types import Arrays, Float32, Prediction

LAYER_NORM_EPSILON = 1e-5
GELU_SCALE = np.float32(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One block of the trunk: linear, layer norm, GELU.

    Attributes:
        weight: Shape ``(n_in, n_out)``.
        bias: Shape ``(n_out,)``.
        gain: Of the layer norm; same shape.
        offset: Of the layer norm; same shape.
    """

    weight: Float32
    bias: Float32
    gain: Float32
    offset: Float32

    def apply(self, rows: Float32) -> Float32:
        """Run the block on each row."""
        linear = rows @ self.weight + self.bias
        width = np.float32(1.0 / linear.shape[1])
        linear -= linear.sum(axis=1, keepdims=True) * width
        variance = np.einsum("ij,ij->i", linear, linear)[:, None] * width
        linear *= self.gain / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
        linear += self.offset
        return gelu(linear)


def gelu(rows: Float32) -> Float32:
    """Apply GELU in its tanh form, which needs no erf; torch's ``approximate="tanh"``."""
    inner = rows * rows
    inner *= np.float32(0.044715) * GELU_SCALE
    inner += GELU_SCALE
    inner *= rows
    np.tanh(inner, out=inner)
    inner += np.float32(1.0)
    inner *= rows
    inner *= np.float32(0.5)
    return inner


@dataclass(slots=True, eq=False)
class MlpEstimator:
    """Two blocks of linear, layer norm and GELU, then linear heads.

    Attributes:
        models: Names of the columns.
        scaler: Applied to a query's vector.
        trunk: The blocks, in order.
        head_weight: Quality heads, then cost heads; shape ``(hidden, 2 * n_models)``.
        head_bias: Same order; shape ``(2 * n_models,)``.
        cost_scale: Rows: mean and deviation of log1p(USD) per model; shape ``(2, n_models)``.
        cost_floor_usd: A model's lowest cost seen; no prediction goes below. Shape ``(n_models,)``.
    """

    kind: ClassVar[str] = "mlp"

    models: tuple[str, ...]
    scaler: Scaler
    trunk: tuple[Layer, ...]
    head_weight: Float32
    head_bias: Float32
    cost_scale: Float32
    cost_floor_usd: Float32
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        """Read the dimension off the scaler."""
        self.dimension = len(self.scaler.shift)

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        rows = self.scaler.apply(embeddings)
        for layer in self.trunk:
            rows = layer.apply(rows)
        heads = rows @ self.head_weight + self.head_bias
        n_models = len(self.models)
        # The tanh form of the sigmoid cannot overflow.
        quality = np.tanh(heads[:, :n_models] * np.float32(0.5)) * np.float32(0.5)
        quality += np.float32(0.5)
        cost = np.expm1(heads[:, n_models:] * self.cost_scale[1] + self.cost_scale[0])
        return Prediction(quality, np.maximum(cost, self.cost_floor_usd))

    def quality_stderr(self, embeddings: Float32) -> None:
        """None: the artefact does not keep what the heads were fitted to."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        arrays: dict[str, NDArray[Any]] = {
            **self.scaler.to_arrays(),
            "head_weight": self.head_weight,
            "head_bias": self.head_bias,
            "cost_scale": self.cost_scale,
            "cost_floor_usd": self.cost_floor_usd,
        }
        for index, layer in enumerate(self.trunk):
            arrays[f"trunk.{index}.weight"] = layer.weight
            arrays[f"trunk.{index}.bias"] = layer.bias
            arrays[f"trunk.{index}.gain"] = layer.gain
            arrays[f"trunk.{index}.offset"] = layer.offset
        return arrays

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        scaler = Scaler.from_arrays(arrays)
        width = len(scaler.shift)
        trunk: list[Layer] = []
        depth = sum(name.startswith("trunk.") and name.endswith(".weight") for name in arrays)
        for index in range(depth):
            weight = read_array(arrays, f"trunk.{index}.weight", (width, None))
            width = weight.shape[1]
            vectors = (
                read_array(arrays, f"trunk.{index}.{n}", (width,))
                for n in ("bias", "gain", "offset")
            )
            trunk.append(Layer(weight, *vectors))
        n_models = len(models)
        return cls(
            models,
            scaler,
            tuple(trunk),
            read_array(arrays, "head_weight", (width, 2 * n_models)),
            read_array(arrays, "head_bias", (2 * n_models,)),
            read_array(arrays, "cost_scale", (2, n_models)),
            read_array(arrays, "cost_floor_usd", (n_models,)),
        )
