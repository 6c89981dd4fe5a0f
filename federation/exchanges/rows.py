"""Sums over all rows: what features, qualities and costs are scaled by."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import (
    SumExchange,
    axis_lengths,
    clip_squares,
    exceeds,
    noise_of,
    sum_fields,
)
from federation.exchanges.masked import MEMBERS
from federation.learning.statistics import NUSD_PER_USD, RowSums, Scales
from federation.privacy.noise import Bounds
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.types import Evaluations

LARGEST_SUM = 1e15
"""Beyond it, adding one row changes nothing."""

SQUARES_OVER_LENGTH = 0.25
"""Longest vector of squared features, over the longest vector's squared length; 0.22 measured."""

ROWS = "rows."
SCALES = "scales."
SITES = "sites"
"""How many took part."""


class RowSumExchange(SumExchange):
    """Every site adds up its rows; the scales of all rows follow from the total."""

    name: ClassVar[str] = "query.rows"
    state_prefixes: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = ROWS
    winsorized: ClassVar[tuple[str, ...]] = ("quality_sum", "cost_sum")

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:  # noqa: ARG002
        """Add up features, qualities and costs."""
        return RowSums.gather(rows).to_arrays()

    def bounds(self, plan: TrainingPlan) -> Bounds:
        """Bound one query by the longest vector and the plan's list of prices."""
        noise = noise_of(plan)
        dearest_usd = noise.cost_bounds_usd(plan.columns)
        log_cost, log_nusd = np.log1p(dearest_usd), np.log1p(dearest_usd * NUSD_PER_USD)
        return {
            **dict.fromkeys(("rows", "count", "quality_sum"), 1.0),
            "feature_sum": noise.longest_vector,
            "feature_squares": noise.longest_vector**2 * SQUARES_OVER_LENGTH,
            "cost_sum": dearest_usd,
            "log_cost_sum": log_cost,
            "log_cost_squares": log_cost**2,
            "log_nusd_sum": log_nusd,
            "log_nusd_squares": log_nusd**2,
        }

    def post_processed(self, instruction: Instruction, payload: Payload) -> Payload:
        """Put sums back between nothing and what their counts allow."""
        rows = np.maximum(payload["rows"], 1.0)
        count = np.clip(payload["count"], 0.0, rows)
        dearest_usd = instruction.plan.dearest_usd
        cost = np.clip(payload["cost_sum"], 0.0, count * dearest_usd)
        largest_log = np.log1p(dearest_usd * NUSD_PER_USD)
        post_processed = {
            **payload,
            "rows": rows,
            "count": count,
            "quality_sum": np.clip(payload["quality_sum"], 0.0, count),
            "cost_sum": cost,
            "log_cost_sum": np.clip(payload["log_cost_sum"], 0.0, cost),
            "log_nusd_sum": np.clip(payload["log_nusd_sum"], 0.0, count * largest_log),
        }
        for name, behind in (("feature", rows), ("log_cost", count), ("log_nusd", count)):
            squares, total = payload[f"{name}_squares"], post_processed[f"{name}_sum"]
            post_processed[f"{name}_squares"] = clip_squares(squares, total, behind, np.inf)
        return post_processed

    def form(self, instruction: Instruction) -> Form:
        """Sums must agree with each other and with the plan's dearest call."""
        plan = instruction.plan
        lengths = axis_lengths(plan)
        signed = Field((lengths["dimension"],), low=-LARGEST_SUM, high=LARGEST_SUM)
        fields = {**sum_fields(RowSums, lengths, LARGEST_SUM), "feature_sum": signed}
        return Form(fields, lambda payload: _problem(payload, plan.dearest_usd))

    def rows(self, payload: Payload) -> float:
        """Return the queries it was computed from."""
        return float(payload["rows"][0])

    def update_norm(self, instruction: Instruction, payload: Payload) -> float:  # noqa: ARG002
        """Root mean square of a row's vector: sites share an encoder, so theirs are alike."""
        return float(np.sqrt(payload["feature_squares"].sum() / max(self.rows(payload), 1.0)))

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, and measure the scales."""
        state = super().aggregate(state, instruction, replies)
        scales = row_sums_of(instruction.plan, state).scales()
        # Of a secure sum there is one answer, the total.
        n_sites = len(instruction.sent.get(MEMBERS, replies))
        return {**state, **add_prefix(SCALES, scales.to_arrays()), SITES: np.array([n_sites])}


def row_sums_of(plan: TrainingPlan, state: Payload) -> RowSums:
    """Read the sums of all sites out of a session's state."""
    return RowSums.from_arrays(strip_prefix(ROWS, state), axis_lengths(plan))


def scales_of(plan: TrainingPlan, state: Payload) -> Scales:
    """Read the scales out of a session's state, or out of the part of it that was sent."""
    return Scales.from_arrays(strip_prefix(SCALES, state), len(plan.columns))


def _problem(p: Payload, dearest_usd: float) -> str | None:
    rows, count = p["rows"], p["count"]
    if exceeds(count, rows):
        return "a model has more evaluations than there are rows"
    if exceeds(p["quality_sum"], count):
        return "the mean quality is above 1"
    if exceeds(p["cost_sum"], count * dearest_usd):
        return f"the mean cost is above dearest_usd, {dearest_usd:g} USD"
    if exceeds(p["log_cost_sum"], p["cost_sum"]):
        return "the sum of logarithms of costs is larger than the costs allow"
    squares = {"feature": rows, "log_cost": count, "log_nusd": count}
    if any(exceeds(p[f"{n}_sum"] ** 2, k * p[f"{n}_squares"]) for n, k in squares.items()):
        return "a sum is larger than its squares allow"
    return None
