"""The guard against unfamiliar queries: where rows lie, how widely, and what is familiar."""

from collections.abc import Sequence
from typing import ClassVar, Final

from federation.exchanges.exchange import Exchange, SumExchange, axis_lengths, exceeds, sum_fields
from federation.exchanges.kmeans import FARTHEST, CentroidExchange
from federation.exchanges.rows import LARGEST_SUM, SCALES, scales_of
from federation.learning.guard import (
    BINS,
    LOCAL_CLUSTERS,
    DistanceCounts,
    ReachSums,
    limited_guard,
    merge_guard_centroids,
    scaler_of_guard,
    unlimited_guard,
)
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Form, Reply
from router_models.estimators.arrays import Scaler, strip_prefix
from router_models.estimators.guard import Guard
from router_models.types import Evaluations

CENTROIDS = "guard.centroids"
REACH = "guard.reach"
REACH_SUMS = "guard_reach_sums."
DISTANCES = "guard_distances."


class GuardCentroidExchange(CentroidExchange):
    """Every site clusters its rows finely, as they are."""

    name: ClassVar[str] = "train.guard_centroids"
    state_prefixes: ClassVar[tuple[str, ...]] = ()

    def local(self, instruction: Instruction) -> tuple[Scaler, int]:
        """Scale by nothing, whatever the router does."""
        return scaler_of_guard(instruction.plan.encoder.dimension), LOCAL_CLUSTERS

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Cluster the centroids as finely as their rows allow."""
        found = self.weighted_centroids(instruction.plan, replies)
        return {**state, CENTROIDS: merge_guard_centroids(found, instruction.seed)}


class ReachExchange(SumExchange):
    """Every site adds up how far its rows lie from the common centroids."""

    name: ClassVar[str] = "query.guard_reach"
    state_prefixes: ClassVar[tuple[str, ...]] = (CENTROIDS,)
    prefix: ClassVar[str] = REACH_SUMS

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Add up distances per cluster."""
        least_rows = instruction.plan.least_visible_rows
        return ReachSums.gather(instruction.sent[CENTROIDS], rows, least_rows).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Distances must agree with their squares and sizes."""
        lengths = axis_lengths(instruction.plan, n_clusters=len(instruction.sent[CENTROIDS]))
        return Form(sum_fields(ReachSums, lengths, LARGEST_SUM), _problem_of_reach)

    def rows(self, payload: Payload) -> float:
        """Return the rows of all clusters."""
        return float(payload["sizes"].sum())

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, and measure each cluster's reach."""
        state = super().aggregate(state, instruction, replies)
        lengths = axis_lengths(instruction.plan, n_clusters=len(state[CENTROIDS]))
        sums = ReachSums.from_arrays(strip_prefix(REACH_SUMS, state), lengths)
        return {**state, REACH: sums.reach()}


class DistanceExchange(SumExchange):
    """Every site counts how far its held-out rows lie from the nearest cluster."""

    name: ClassVar[str] = "query.guard_distances"
    state_prefixes: ClassVar[tuple[str, ...]] = (CENTROIDS, REACH, SCALES)
    is_held_out: ClassVar[bool] = True
    prefix: ClassVar[str] = DISTANCES

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Count held-out rows by distance."""
        plan = instruction.plan
        guard = _unlimited(plan, instruction.sent)
        return DistanceCounts.gather(guard, rows, plan.least_visible_rows).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Counts per bin."""
        lengths = axis_lengths(instruction.plan, n_bins=BINS)
        return Form(sum_fields(DistanceCounts, lengths, LARGEST_SUM))

    def rows(self, payload: Payload) -> float:
        """Return the rows of all bins."""
        return float(payload["rows"].sum())


GUARD_EXCHANGES: Final[tuple[Exchange, ...]] = (
    GuardCentroidExchange(),
    ReachExchange(),
    DistanceExchange(),
)
"""In this order."""


def guard_of(plan: TrainingPlan, state: Payload) -> Guard:
    """Build the guard from a session's final state."""
    counts = DistanceCounts.from_arrays(
        strip_prefix(DISTANCES, state), axis_lengths(plan, n_bins=BINS)
    )
    return limited_guard(_unlimited(plan, state), counts)


def _unlimited(plan: TrainingPlan, state: Payload) -> Guard:
    return unlimited_guard(state[CENTROIDS], state[REACH], scales_of(plan, state))


def _problem_of_reach(p: Payload) -> str | None:
    sizes, total, squares = p["sizes"], p["distance_sum"], p["distance_squares"]
    if exceeds(total, FARTHEST * sizes) or exceeds(squares, FARTHEST * total):
        return "the sum of distances is larger than possible"
    if exceeds(total**2, sizes * squares):
        return "a sum is larger than its squares allow"
    return None
