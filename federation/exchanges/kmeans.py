"""The K-means router in two passes: where rows lie, then what models did there."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import (
    Exchange,
    SumExchange,
    Task,
    axis_lengths,
    clip_squares,
    exceeds,
    noise_of,
    sum_fields,
)
from federation.exchanges.rows import LARGEST_SUM, SCALES, RowSumExchange, scales_of
from federation.learning.kmeans import (
    Centroids,
    ClusterSums,
    local_centroids,
    merge_centroids,
    scaler_of,
)
from federation.learning.settings import FederatedKMeansSettings
from federation.privacy.noise import Bounds, random_centroids
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply, cap_weights
from router_models.estimators.arrays import Scaler, strip_prefix
from router_models.types import Evaluations

CENTROIDS = "centroids"
CELLS = "cells."
FARTHEST = 2.0
"""Largest cosine distance."""


class CentroidExchange(Exchange):
    """Every site clusters its rows; the coordinator clusters the centroids."""

    name: ClassVar[str] = "train.centroids"
    state_prefixes: ClassVar[tuple[str, ...]] = (SCALES,)

    def answer(self, task: Task) -> Payload:
        """Cluster the site's rows."""
        instruction = task.instruction
        plan = instruction.plan
        scaler, most = self.local(instruction)
        unit = scaler.apply_unit(task.train_rows().embeddings)
        return local_centroids(unit, most, instruction.seed, plan.least_rows).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Centroids within the unit ball, each of enough rows."""
        plan = instruction.plan
        n_centroids = range(self.local(instruction)[1] + 1)
        fields = {
            "centroids": Field((n_centroids, plan.encoder.dimension), "float32", -1.01, 1.01),
            "counts": Field((n_centroids,), low=plan.least_rows, high=LARGEST_SUM),
        }
        return Form(fields, _problem_of_centroids)

    def rows(self, payload: Payload) -> float:
        """Return the rows of all clusters."""
        return float(payload["counts"].sum())

    def local(self, instruction: Instruction) -> tuple[Scaler, int]:
        """Say what a site scales its rows by, and how many centroids it may send."""
        plan = instruction.plan
        return scaler_in(plan, instruction.sent), settings_of(plan).local_clusters

    def weighted_centroids(self, plan: TrainingPlan, replies: Sequence[Reply]) -> list[Centroids]:
        """Return each site's centroids, its counts capped at its largest share."""
        rows = np.array([self.rows(reply.payload) for reply in replies])
        factors = cap_weights(rows, plan.largest_share) / np.where(rows > 0, rows, 1.0)
        return [
            Centroids(reply.payload["centroids"], reply.payload["counts"] * factor)
            for reply, factor in zip(replies, factors, strict=True)
        ]

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Cluster the centroids by their rows."""
        plan, n_clusters = instruction.plan, settings_of(instruction.plan).clusters
        found = self.weighted_centroids(plan, replies)
        return {**state, CENTROIDS: merge_centroids(found, n_clusters, instruction.seed)}


class PublicCentroidExchange(RowSumExchange):
    """Row sums; the centroids are drawn without asking anybody, since real ones bear no noise."""

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, and draw the centroids."""
        plan = instruction.plan
        n_clusters = settings_of(plan).clusters
        drawn = random_centroids(n_clusters, plan.encoder.dimension, instruction.seed)
        return {**super().aggregate(state, instruction, replies), CENTROIDS: drawn}


class CellExchange(SumExchange):
    """Every site adds up what models did near each common centroid."""

    name: ClassVar[str] = "train.cells"
    state_prefixes: ClassVar[tuple[str, ...]] = (SCALES, CENTROIDS)
    is_learned: ClassVar[bool] = True
    prefix: ClassVar[str] = CELLS
    winsorized: ClassVar[tuple[str, ...]] = ("quality_sum", "cost_sum")

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Add up per cluster, and per cluster and model."""
        plan, centroids = instruction.plan, instruction.sent[CENTROIDS]
        scaler = scaler_in(plan, instruction.sent)
        return ClusterSums.gather(centroids, scaler, rows, plan.least_visible_rows).to_arrays()

    def bounds(self, plan: TrainingPlan) -> Bounds:
        """Bound one query's place among the cells, and its costs by the plan's list of prices."""
        dearest_usd = noise_of(plan).cost_bounds_usd(plan.columns)
        counts = dict.fromkeys(("sizes", "count", "quality_sum", "quality_squares"), 1.0)
        costs = {"cost_sum": dearest_usd, "cost_squares": dearest_usd**2}
        return {**counts, "distance_sum": FARTHEST / 2, **costs}

    def post_processed(self, instruction: Instruction, payload: Payload) -> Payload:
        """Put sums back between nothing and what their counts allow."""
        dearest_usd = instruction.plan.dearest_usd
        sizes, count = (np.maximum(payload[name], 0.0) for name in ("sizes", "count"))
        quality = np.clip(payload["quality_sum"], 0.0, count)
        cost = np.clip(payload["cost_sum"], 0.0, count * dearest_usd)
        return {
            "sizes": sizes,
            "distance_sum": np.clip(payload["distance_sum"], 0.0, FARTHEST * sizes),
            "count": count,
            "quality_sum": quality,
            "quality_squares": clip_squares(payload["quality_squares"], quality, count, 1.0),
            "cost_sum": cost,
            "cost_squares": clip_squares(payload["cost_squares"], cost, count, dearest_usd),
        }

    def form(self, instruction: Instruction) -> Form:
        """Sums must agree with each other and with the plan's dearest call."""
        plan = instruction.plan
        lengths = axis_lengths(plan, n_clusters=len(instruction.sent[CENTROIDS]))
        fields = sum_fields(ClusterSums, lengths, LARGEST_SUM)
        return Form(fields, lambda payload: _problem_of_cells(payload, plan.dearest_usd))

    def rows(self, payload: Payload) -> float:
        """Return the rows of all clusters."""
        return float(payload["sizes"].sum())


def cells_of(plan: TrainingPlan, state: Payload) -> ClusterSums:
    """Read the sums of all sites out of a session's state."""
    lengths = axis_lengths(plan, n_clusters=len(state[CENTROIDS]))
    return ClusterSums.from_arrays(strip_prefix(CELLS, state), lengths)


def scaler_in(plan: TrainingPlan, state: Payload) -> Scaler:
    """Return what rows are scaled by before clustering; a router that grows has its own."""
    measured = scales_of(plan, state).scaler
    return measured if plan.growth else scaler_of(settings_of(plan), measured)


def settings_of(plan: TrainingPlan) -> FederatedKMeansSettings:
    """Return the plan's settings, which are of this kind."""
    assert isinstance(plan.settings, FederatedKMeansSettings)  # noqa: S101
    return plan.settings


def _problem_of_centroids(p: Payload) -> str | None:
    if len(p["centroids"]) != len(p["counts"]):
        return "the numbers of centroids and counts differ"
    if (np.linalg.norm(p["centroids"], axis=1) > 1.01).any():
        return "a centroid is longer than the rows that it is the mean of"
    return None


def _problem_of_cells(p: Payload, dearest_usd: float) -> str | None:
    sizes, count = p["sizes"], p["count"]
    if exceeds(p["distance_sum"], FARTHEST * sizes):
        return "the sum of distances is larger than possible"
    if exceeds(p["quality_sum"], count) or exceeds(p["quality_squares"], p["quality_sum"]):
        return "the mean quality is above 1"
    if exceeds(p["cost_sum"], count * dearest_usd) or exceeds(
        p["cost_squares"], p["cost_sum"] * dearest_usd
    ):
        return f"the mean cost is above dearest_usd, {dearest_usd:g} USD"
    if exceeds(p["quality_sum"] ** 2, count * p["quality_squares"]) or exceeds(
        p["cost_sum"] ** 2, count * p["cost_squares"]
    ):
        return "a sum is larger than its squares allow"
    return None
