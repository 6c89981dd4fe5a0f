"""What known models teach about a model that nobody has asked yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_one.heads import fit_heads
from router_models.day_one.abilities import AbilityPrior, Spread, leave_out_each, places_of
from router_models.day_one.belief import Belief, Float64, Items
from router_models.day_one.items import ItemModel, fit_items, item_posteriors
from router_models.day_one.lengths import LengthPrior, fit_lengths, token_factors
from router_models.errors import InvalidEvaluations
from router_models.estimators.arrays import Scaler
from router_models.estimators.factors import SCORE_FLOOR, FactorsEstimator, QueryProfile
from router_models.training.kmeans import cluster
from router_models.types import Float32

CLUSTERS: Final = 64
TEMPERATURE: Final = 0.05
LEAST_KNOWN: Final = 2
MOST_ROWS: Final = 3000
"""Prompts that variances are estimated from."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownAnswers:
    """What known models answered; every one of them every prompt.

    Attributes:
        models: Names of the columns.
        embeddings: Shape ``(n, dimension)``.
        score: In [0, 1]; shape ``(n, n_known)``.
        completion_tokens: Same shape.
        prompt_tokens: Shape ``(n,)``.
        price: USD per million completion tokens of each model; shape ``(n_known,)``.
    """

    models: tuple[str, ...]
    embeddings: Float32
    score: Float64
    completion_tokens: Float64
    prompt_tokens: Float64
    price: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Newcomer:
    """A model to predict: what is believed of it, what it writes and what it costs.

    Attributes:
        length: Line and factors, as `FactorsEstimator` has them.
        price: USD per million prompt and completion tokens.
    """

    name: str
    belief: Belief
    length: tuple[Float64, Float64]
    price: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """All that a new model's first predictions and its updates need.

    Attributes:
        models: The known ones.
        places: Of the known models on the axes, first column 1; ``(n_known, 1 + n_axes)``.
        mean_score: Of each known model.
        spread: How far a new model may lie from them.
        lengths: What it may write.
        token_factors: Of each known model by cluster; shape ``(n_known, n_clusters)``.
        abilities: How able it may be by price and family.
    """

    models: tuple[str, ...]
    profile: QueryProfile
    prompt_head: Float32
    token_factors: Float64
    places: Float64
    mean_score: Float64
    spread: Spread
    items: ItemModel
    lengths: LengthPrior
    abilities: AbilityPrior

    def believe(self, name: str = "", price: float = 1.0) -> Belief:
        """What is believed of a model without an answer, by its name and list price."""
        profile = self.profile
        ability, ability_share = self.abilities.predict(name, price)
        variance = np.ones(profile.width)
        variance[: profile.n_axes] = self.spread.axes * (1.0 + 1.0 / len(self.models))
        variance[0] *= ability_share
        variance[profile.n_axes] = self.spread.offset
        mean = np.zeros(profile.width)
        mean[0] = ability
        return Belief(mean, np.diag(variance))

    def prompts(self, embeddings: Float32, score: Float64 | None = None) -> Items:
        """Lay out prompts for `Belief.update`, with known models' scores where there are some."""
        logits = self.profile.logits(self.profile.scaler.apply(embeddings))
        factors = (logits @ self.profile.projection).astype(np.float64)
        if score is None:
            found = self.items.steepness * factors
            covariance = np.tile(np.diag(self.items.variance), (len(found), 1, 1))
        else:
            found, covariance = item_posteriors(self.items, factors, self.places, score)
        weights = self.profile.cluster_weights(embeddings)
        design = self.profile.design(found.astype(np.float32), weights).astype(np.float64)
        return Items(found[:, 0], design, covariance)

    def queries(self, embeddings: Float32) -> tuple[Float64, Float64]:
        """Lay out queries for predictions: logits at the origin, and the design."""
        logits = self.profile.logits(self.profile.scaler.apply(embeddings))
        factors = logits @ self.profile.projection
        design = self.profile.design(factors, self.profile.cluster_weights(embeddings))
        return factors[:, 0].astype(np.float64), design.astype(np.float64)

    def length(self, embeddings: Float32, tokens: Float64) -> tuple[Float64, Float64]:
        """What a model writes that wrote so many tokens; see `LengthPrior.update`."""
        known = self.profile.log_tokens(self.profile.scaler.apply(embeddings))
        weights = self.profile.cluster_weights(embeddings).astype(np.float64)
        return self.lengths.update(known.mean(axis=1).astype(np.float64), tokens, weights)

    def estimator(
        self, known: Sequence[tuple[str, int, tuple[float, float]]], new: Sequence[Newcomer]
    ) -> FactorsEstimator:
        """Build what serves: known models by column, with name and price, then new ones."""
        width = self.profile.width
        count = len(known) + len(new)
        mean = np.zeros((count, width), np.float32)
        covariances = [np.zeros((width, width))]
        length = np.tile(np.array([0.0, 1.0], np.float32), (count, 1))
        factors = np.ones((count, len(self.profile.centroids)), np.float32)
        for place, (_, column, _) in enumerate(known):
            factors[place] = self.token_factors[column]
        for place, one in enumerate(new, len(known)):
            mean[place] = one.belief.mean
            covariances.append(one.belief.covariance)
            length[place], factors[place] = one.length
        return FactorsEstimator(
            models=(*(name for name, _, _ in known), *(one.name for one in new)),
            profile=self.profile,
            base=np.array([column for _, column, _ in known] + [-1] * len(new), np.int64),
            mean=mean,
            covariances=np.array(covariances, np.float32),
            covariance_of=np.array([0] * len(known) + list(range(1, len(new) + 1)), np.int64),
            length=length,
            length_factors=factors,
            price=np.array([p for _, _, p in known] + [n.price for n in new], np.float32),
            prompt_head=self.prompt_head,
        )


def fit_prior(
    known: KnownAnswers,
    seed: int,
    centroids: Float32 | None = None,
    spread: Spread | None = None,
) -> Prior:
    """Fit heads, axes, items and lengths to the answers of known models.

    Args:
        centroids: Of the queries' clusters, where they are known.
        spread: How far new models may lie, where that is known better than by leaving these out.

    Raises:
        InvalidEvaluations: There are too few models.
    """
    if len(known.models) < LEAST_KNOWN or not len(known.embeddings):
        raise InvalidEvaluations("a prior needs answers of at least two models")
    scaler = Scaler.fit(known.embeddings)
    scaled = scaler.apply(known.embeddings)
    quality_heads, held_score = fit_heads(scaled, known.score)
    tokens = np.maximum(known.completion_tokens, 1.0)
    prompt = np.log(np.maximum(known.prompt_tokens, 1.0))[:, None]
    token_heads, held_tokens = fit_heads(scaled, np.concatenate([np.log(tokens), prompt], axis=1))
    held_score = np.clip(held_score, SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    logits = np.log(held_score / (1.0 - held_score))
    mean_score = np.clip(known.score.mean(axis=0), SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    places = places_of(logits, mean_score)
    rows = _some(len(logits), seed)
    spread = spread or leave_out_each(logits[rows], mean_score)
    projection = np.linalg.pinv(places).T
    if centroids is None:
        norms = np.linalg.norm(known.embeddings, axis=1, keepdims=True)
        centroids = cluster(known.embeddings / np.maximum(norms, 1e-12), CLUSTERS, seed)
    profile = QueryProfile(
        scaler,
        quality_heads,
        token_heads[:, :-1],
        projection.astype(np.float32),
        centroids,
        TEMPERATURE,
        1.0,
    )
    held_tokens = held_tokens[:, :-1]
    factors = known_factors(profile, known, held_tokens)
    return Prior(
        known.models,
        _with_cluster_scale(profile, known.embeddings[rows], spread.residual),
        token_heads[:, -1],
        factors,
        places,
        mean_score,
        spread,
        fit_items((logits @ projection)[rows], places, known.score[rows]),
        fit_lengths(held_tokens, known.completion_tokens),
        AbilityPrior.fit(known.models, known.price, places[:, 1]),
    )


def known_factors(profile: QueryProfile, known: KnownAnswers, held: Float64) -> Float64:
    """What each known model's fitted tokens are multiplied by; shape ``(n_known, n_clusters)``."""
    weights = profile.cluster_weights(known.embeddings).astype(np.float64)
    columns = zip(np.exp(held).T, known.completion_tokens.T, strict=True)
    return np.stack([token_factors(fitted, tokens, weights, 1.0) for fitted, tokens in columns])


def _some(count: int, seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(count)[:MOST_ROWS]


def _with_cluster_scale(
    profile: QueryProfile, embeddings: Float32, residual: float
) -> QueryProfile:
    """Scale the weights so that deviations of variance 1 make up the residual variance."""
    squares = float((profile.cluster_weights(embeddings) ** 2).sum(axis=1).mean())
    scale = float(np.sqrt(residual / squares))
    return QueryProfile(
        profile.scaler,
        profile.quality_heads,
        profile.token_heads,
        profile.projection,
        profile.centroids,
        profile.temperature,
        scale,
    )
