"""Fits how much of a prediction the guard keeps on queries it does not know.

Parts of the train rows play the unknown queries: each in turn is held out of a small K-means router
and of the guard, and what the router predicts for it is compared with what is true.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_models.estimators.guard import Guard
from router_models.estimators.kmeans import CellStatistics, Float64, KMeansEstimator
from router_models.statistics import select
from router_models.training.kmeans import assign, cluster, mean_radii
from router_models.types import Evaluations, Prediction

PARTS = 8
LEAST_UNKNOWN_ROWS = 5.0
"""Of a part, weighted by how unknown they are, for the part to count."""

USUAL_KEPT = (0.25, 0.5)
"""Of quality and cost, where no part tells."""

PRIOR_PARTS = 8.0
"""How many parts that counts for: they differ so much that eight deserve half of the belief. These
constants were chosen on train and validation rows of four sets, with tasks held out."""

PRIOR_ROWS = 3.0
TEMPERATURE = 0.02
"""Of the small router, which is then about as sure of itself as a tuned one. A softer mixture let
more survive, most on mmlu_pro."""


class Slope(NamedTuple):
    """Sums of a regression through 0, one column for quality and one for cost."""

    squares: Float64
    products: Float64


def with_kept(guard: Guard, evaluations: Evaluations, seed: int) -> Guard:
    """Let unknown queries keep as much of a prediction as held-out train rows bear out.

    A part is a group of the guard's clusters. Differences between models that were predicted from
    the other parts are compared with true ones, where the guard calls a row unknown. One answer per
    query is enough.
    """
    slopes = [
        borne_out(outside, prediction, rows)
        for outside, prediction, rows in _held_out_parts(guard, evaluations, seed)
        if (1.0 - outside.familiarity(rows.embeddings)).sum() >= LEAST_UNKNOWN_ROWS
    ]
    usual = np.array(USUAL_KEPT)
    if not slopes:
        return replace(guard, kept_quality=USUAL_KEPT[0], kept_cost=USUAL_KEPT[1])
    squares = np.sum([slope.squares for slope in slopes], axis=0)
    products = np.sum([slope.products for slope in slopes], axis=0)
    prior = np.maximum(squares, np.finfo(np.float64).tiny) * PRIOR_PARTS / len(slopes)
    kept = np.clip((products + prior * usual) / (squares + prior), 0.0, 1.0)
    return replace(guard, kept_quality=float(kept[0]), kept_cost=float(kept[1]))


def borne_out(guard: Guard, prediction: Prediction, rows: Evaluations) -> Slope:
    """Regress true differences from the models' means on predicted ones, where unknown.

    Of quality only what sets models apart counts: how easy a query is changes no choice. Cost is
    measured in multiples of the model's mean, so that dear models do not outweigh the others.
    """
    counts = rows.counts.astype(np.float64)
    quality = prediction.quality - guard.quality_means
    quality = quality - quality.mean(axis=1, keepdims=True)
    price = np.where(guard.cost_means_usd > 0, guard.cost_means_usd, np.float32(1.0))
    predicted = (quality, (prediction.cost_usd - guard.cost_means_usd) / price)
    true = (rows.quality - guard.quality_means, (rows.cost_usd - guard.cost_means_usd) / price)
    familiarity = guard.familiarity(rows.embeddings)[:, None].astype(np.float64)
    squares, products = [], []
    for guess, truth in zip(predicted, true, strict=True):
        shrinkable = np.where(counts > 0, guess * (1.0 - familiarity), 0.0)
        left = np.where(counts > 0, truth - guess * familiarity, 0.0)
        squares.append((counts * shrinkable * shrinkable).sum())
        products.append((counts * shrinkable * left).sum())
    return Slope(np.array(squares), np.array(products))


def _held_out_parts(
    guard: Guard, evaluations: Evaluations, seed: int
) -> Iterator[tuple[Guard, Prediction, Evaluations]]:
    """Hold out each part: a guard without it, what a router without it predicts, and its rows."""
    router, assigned = _small_router(guard, evaluations)
    centres = cluster(guard.centroids, PARTS, seed, np.maximum(router.sizes, 1.0))
    part_of, _ = assign(guard.centroids, centres)
    for part in range(len(centres)):
        outside = part_of != part
        cells = router.statistics.select_clusters(outside)
        if not cells.count.any():
            continue
        rest = replace(
            router,
            centroids=router.centroids[outside],
            radii=router.radii[outside],
            sizes=router.sizes[outside],
            statistics=cells,
        )
        quality, cost = (mean.astype(np.float32) for mean in cells.model_means())
        limits = replace(
            guard,
            centroids=guard.centroids[outside],
            reach=guard.reach[outside],
            quality_means=quality,
            cost_means_usd=cost,
        )
        rows = select(evaluations, np.flatnonzero(~outside[assigned]))
        yield limits, rest.predict(rows.embeddings), rows


def _small_router(
    guard: Guard, evaluations: Evaluations
) -> tuple[KMeansEstimator, NDArray[np.intp]]:
    """K-means over the guard's own clusters, and the cluster of each row."""
    n_clusters = len(guard.centroids)
    assigned, distance = assign(guard.scaler.apply_unit(evaluations.embeddings), guard.centroids)
    sizes = np.bincount(assigned, minlength=n_clusters).astype(np.float64)
    router = KMeansEstimator(
        evaluations.models,
        guard.scaler,
        guard.centroids,
        mean_radii(np.bincount(assigned, distance, n_clusters), sizes),
        sizes.astype(np.float32),
        CellStatistics.gather(
            assigned, evaluations.quality, evaluations.cost_usd, n_clusters, evaluations.counts
        ),
        PRIOR_ROWS,
        TEMPERATURE,
    )
    return router, assigned
