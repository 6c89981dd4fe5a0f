"""The factor router: predicts models that answered little or nothing from what others answered.

Known models have a linear head each. What their heads say of a query, projected on a few axes along
which models differ, gives the query's difficulty and how much it tells models apart. A new model is
a point on these axes, an offset and a deviation per cluster of queries, all with a covariance: it
joins and learns by updating those (`router_models.day_one`), and nothing is trained again.
Coordinates of one model never change another's.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import (
    Scaler,
    add_prefix,
    fit_width,
    read_array,
    strip_prefix,
)
from router_models.types import Arrays, Float32, Prediction

SCORE_FLOOR = 0.04
"""Known models' predicted scores stay this far from 0 and 1, so that their logits are finite."""

PROFILE = "profile."

HIGHEST_LOG_TOKENS = 14.0
"""Over a million tokens: whatever the text, a predicted length stays finite."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryProfile:
    """What known models make of a query, by its text alone.

    Attributes:
        scaler: Applied to a query's vector.
        quality_heads: Score of each known model; the last row is the constant. Shape
            ``(dimension + 1, n_known)``.
        token_heads: Log of its completion tokens; same shape.
        projection: From logits of scores to difficulty and discriminations; shape
            ``(n_known, 1 + n_axes)``.
        centroids: Of length 1; shape ``(n_clusters, dimension)``.
        temperature: Of the soft assignment, in cosine distance.
        cluster_scale: Turns weights of clusters into inputs of the cluster deviations.
    """

    scaler: Scaler
    quality_heads: Float32
    token_heads: Float32
    projection: Float32
    centroids: Float32
    temperature: float
    cluster_scale: float

    @property
    def n_axes(self) -> int:
        """Along how many axes models differ."""
        return int(self.projection.shape[1]) - 1

    @property
    def width(self) -> int:
        """How many numbers describe a model: its axes, its offset and its clusters."""
        return self.n_axes + 1 + len(self.centroids)

    def logits(self, scaled: Float32) -> Float32:
        """Logit of each known model's score for scaled vectors; ``(n_queries, n_known)``."""
        score = scaled @ self.quality_heads[:-1] + self.quality_heads[-1]
        score = np.minimum(np.maximum(score, SCORE_FLOOR), 1.0 - SCORE_FLOOR)
        logits: Float32 = np.log(score / (1.0 - score))
        return logits

    def log_tokens(self, scaled: Float32) -> Float32:
        """Log of each known model's completion tokens; same shape."""
        log_tokens: Float32 = scaled @ self.token_heads[:-1] + self.token_heads[-1]
        return np.minimum(log_tokens, HIGHEST_LOG_TOKENS)

    def design(self, factors: Float32, weights: Float32) -> Float32:
        """Lay out what multiplies a model's numbers; ``(n_queries, width)``.

        Args:
            factors: Difficulty of the queries, then discriminations; ``(n_queries, 1 + n_axes)``.
            weights: Of the clusters.
        """
        design = np.empty((len(factors), self.width), np.float32)
        design[:, : self.n_axes] = factors[:, 1:]
        design[:, self.n_axes] = 1.0
        design[:, self.n_axes + 1 :] = self.cluster_scale * weights
        return design

    def cluster_weights(self, embeddings: Float32) -> Float32:
        """Say how near each cluster is; rows sum to 1."""
        embeddings = fit_width(embeddings, self.centroids.shape[1])
        norms = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        near = (embeddings / norms) @ self.centroids.T / np.float32(self.temperature)
        near -= near.max(axis=1, keepdims=True)
        weights: Float32 = np.exp(near, out=near)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **self.scaler.to_arrays(),
            "quality_heads": self.quality_heads,
            "token_heads": self.token_heads,
            "projection": self.projection,
            "centroids": self.centroids,
            "settings": np.array([self.temperature, self.cluster_scale]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        scaler = Scaler.from_arrays(arrays)
        dimension = len(scaler.shift)
        heads = read_array(arrays, "quality_heads", (dimension + 1, None))
        projection = read_array(arrays, "projection", (heads.shape[1], None))
        centroids = read_array(arrays, "centroids", (None, dimension))
        temperature, cluster_scale = read_array(arrays, "settings", (2,)).tolist()
        if temperature <= 0 or not len(centroids) or not projection.size:
            raise ArtifactRejected("factors need known models, an axis, a cluster, a temperature")
        return cls(
            scaler,
            heads.astype(np.float32),
            read_array(arrays, "token_heads", heads.shape).astype(np.float32),
            projection,
            centroids.astype(np.float32),
            temperature,
            cluster_scale,
        )


@dataclass(slots=True, eq=False)
class FactorsEstimator:
    """Known models by their own heads, new ones by what is believed of them.

    Attributes:
        models: Names of the columns.
        profile: What known models make of a query.
        base: Which known model a model is; -1 for a new one. Shape ``(n_models,)``.
        mean: What is believed of each model: place on the axes, offset, deviation by cluster.
            Shape ``(n_models, width)``.
        covariances: How uncertain that may be; shape ``(n_covariances, width, width)``.
        covariance_of: Which of them each model has: those that answered nothing share one. Shape
            ``(n_models,)``.
        length: Log completion tokens: constant, slope on the base's log; ``(n_models, 2)``.
        length_factors: What the tokens are multiplied by in each cluster; shape
            ``(n_models, n_clusters)``.
        price: USD per million prompt and completion tokens; shape ``(n_models, 2)``.
        prompt_head: Log of prompt tokens; the last is the constant. Shape ``(dimension + 1,)``.
    """

    kind: ClassVar[str] = "factors"

    models: tuple[str, ...]
    profile: QueryProfile
    base: NDArray[np.int64]
    mean: Float32
    covariances: Float32
    covariance_of: NDArray[np.int64]
    length: Float32
    length_factors: Float32
    price: Float32
    prompt_head: Float32
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        self.dimension = len(self.profile.scaler.shift)

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        scaled = self.profile.scaler.apply(embeddings)
        weights = self.profile.cluster_weights(embeddings)
        log_prompt = scaled @ self.prompt_head[:-1] + self.prompt_head[-1]
        prompt = np.exp(np.minimum(log_prompt, HIGHEST_LOG_TOKENS))
        completion = self._tokens(scaled, weights)
        cost_usd = (prompt[:, None] * self.price[:, 0] + completion * self.price[:, 1]) / 1e6
        return Prediction(self._quality(scaled, weights)[0], cost_usd.astype(np.float32))

    def quality(self, embeddings: Float32) -> tuple[Float32, Float32]:
        """Predict quality, and its standard error; each of shape ``(n_queries, n_models)``."""
        scaled = self.profile.scaler.apply(embeddings)
        return self._quality(scaled, self.profile.cluster_weights(embeddings))

    def quality_stderr(self, embeddings: Float32) -> Float32:
        """Standard error of each predicted quality: how far the model's mean may be from it."""
        return self.quality(embeddings)[1]

    def completion_tokens(self, embeddings: Float32) -> Float32:
        """Predict completion tokens; shape ``(n_queries, n_models)``."""
        scaled = self.profile.scaler.apply(embeddings)
        return self._tokens(scaled, self.profile.cluster_weights(embeddings))

    def _quality(self, scaled: Float32, weights: Float32) -> tuple[Float32, Float32]:
        logits = self.profile.logits(scaled)
        factors = logits @ self.profile.projection
        design = self.profile.design(factors, weights)
        base = np.where(self.base >= 0, logits[:, self.base], factors[:, :1])
        spread = ((design @ self.covariances) * design).sum(axis=2)
        variance = np.maximum(spread.T, 0.0)[:, self.covariance_of]
        return expected_score(base + design @ self.mean.T, variance)

    def _tokens(self, scaled: Float32, weights: Float32) -> Float32:
        known = self.profile.log_tokens(scaled)
        base = np.where(self.base >= 0, known[:, self.base], known.mean(axis=1, keepdims=True))
        constant, slope = self.length.T
        log_tokens = np.minimum(constant + slope * base, HIGHEST_LOG_TOKENS)
        tokens = np.exp(log_tokens) * (weights @ self.length_factors.T)
        return np.asarray(tokens, np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **add_prefix(PROFILE, self.profile.to_arrays()),
            "base": self.base,
            "mean": self.mean,
            "covariances": self.covariances,
            "covariance_of": self.covariance_of,
            "length": self.length,
            "length_factors": self.length_factors,
            "price": self.price,
            "prompt_head": self.prompt_head,
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing, has the wrong shape or holds what cannot be.
        """
        profile = QueryProfile.from_arrays(strip_prefix(PROFILE, arrays))
        count, width = len(models), profile.width
        base = read_array(arrays, "base", (count,)).astype(np.int64)
        price = read_array(arrays, "price", (count, 2))
        covariances = read_array(arrays, "covariances", (None, width, width))
        covariance_of = read_array(arrays, "covariance_of", (count,)).astype(np.int64)
        factors = read_array(arrays, "length_factors", (count, len(profile.centroids)))
        if base.min() < -1 or base.max() >= profile.quality_heads.shape[1]:
            raise ArtifactRejected("a model's base is no known model")
        if price.min() < 0 or factors.min() < 0:
            raise ArtifactRejected("a price or a factor of tokens is negative")
        if covariance_of.min() < 0 or covariance_of.max() >= len(covariances):
            raise ArtifactRejected("a model's covariance is not there")
        return cls(
            models,
            profile,
            base,
            read_array(arrays, "mean", (count, width)),
            covariances,
            covariance_of,
            read_array(arrays, "length", (count, 2)),
            factors,
            price,
            read_array(arrays, "prompt_head", (len(profile.scaler.shift) + 1,)),
        )


def expected_score(logit: Float32, variance: Float32) -> tuple[Float32, Float32]:
    """Mean and standard error of a score whose logit is normal (MacKay's approximation)."""
    mean = 0.5 * (1.0 + np.tanh(0.5 * logit / np.sqrt(1.0 + np.pi / 8.0 * variance)))
    # The slope times the deviation, no more than a score can deviate from its mean.
    bound = mean * (1.0 - mean)
    stderr = np.minimum(bound * np.sqrt(variance), np.sqrt(bound))
    return mean.astype(np.float32), stderr.astype(np.float32)
