"""The nouns that encoders, estimators and decisions share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

Unit = Literal["usd", "completion_mtok"]
"""What estimators count besides quality, where their fields say `cost_usd`: USD for the call, or
the tokens of its answer, in millions. So a price change needs no training, and the figures are of
the size of costs, which is what constants of estimators are made for."""
USD: Final = "usd"
COMPLETION_MTOK: Final = "completion_mtok"
TOKENS_PER_MTOK: Final = 1_000_000


class Encoder(Protocol):
    """Turns query text into the vector every estimator reads."""

    id: str
    """Name and revision, such as ``static-cheap-1``; part of every artefact."""
    sha256: str
    """Digest of the weights; an artefact trained on other weights is refused."""
    dimension: int

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embed `texts`; shape ``(len(texts), dimension)``."""
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an estimator expects of each model on each query.

    Attributes:
        quality: In [0, 1]; shape ``(n_queries, n_models)``.
        cost_usd: For the whole call, in the router's unit, never negative; same shape.
    """

    quality: Float32
    cost_usd: Float32


@dataclass(frozen=True, slots=True, eq=False)
class TokenCounts:
    """How many tokens answers took, and what models charge for them.

    Attributes:
        prompt: Shape ``(n_queries, n_models)``; NaN where unknown.
        completion: Same shape; NaN where unknown.
        prices: USD per token of a prompt and of a completion; shape ``(2, n_models)``.
    """

    prompt: Float32
    completion: Float32
    prices: Float64

    def select(self, rows: NDArray[Any]) -> "TokenCounts":
        """Keep the queries at `rows`."""
        return TokenCounts(self.prompt[rows], self.completion[rows], self.prices)

    def select_models(self, columns: Sequence[int] | NDArray[np.intp]) -> "TokenCounts":
        """Keep the models at `columns`, in that order."""
        return TokenCounts(
            self.prompt[:, columns], self.completion[:, columns], self.prices[:, columns]
        )


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Which models answered which queries, how well and at what cost.

    Attributes:
        embeddings: Shape ``(n_queries, dimension)``.
        quality: Shape ``(n_queries, n_models)``; NaN where the model did not answer the query.
        cost_usd: Same shape, NaN in the same places.
        models: Names of the columns.
        tasks: Task label of each query, for reports only; empty where unknown.
        texts: Of the queries, for what reads words instead of vectors; empty where unknown.
        tokens: Of prompts and completions; None where they were not counted.
        weight: How much is learned from each answer, above 0 and at most 1, shape as of `quality`;
            None where each counts as one.
    """

    embeddings: Float32
    quality: Float32
    cost_usd: Float32
    models: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    tokens: TokenCounts | None = None
    weight: Float32 | None = None

    @property
    def counts(self) -> Float32:
        """What each answer counts for in a sum, 0 where there is none; shape as of `quality`."""
        answered = np.isfinite(self.quality)
        weight = np.float32(1.0) if self.weight is None else self.weight
        return np.where(answered, weight, np.float32(0.0))


class Estimator(Protocol):
    """Predicts quality and cost per model; trained elsewhere, read-only once built."""

    kind: ClassVar[str]
    models: tuple[str, ...]
    dimension: int

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        ...

    def quality_stderr(self, embeddings: Float32) -> Float32 | None:
        """Standard error of each predicted quality: how far a model's mean there may be from it.

        A method of its own, so that a decision that does not explore pays nothing. None where the
        estimator has nothing to tell it from.
        """
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        ...

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        ...
