"""Sums over all rows: what features, qualities and costs are scaled by."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import (
    SumExchange,
    Task,
    exceeds,
    lengths_of,
    prefixed,
    sum_fields,
    under,
)
from federation.learning.statistics import RowSums, Scales
from federation.protocol import Instruction, Payload, TrainingPlan
from federation.updates import Field, Form, Reply

LARGEST_SUM = 1e15
"""Beyond it, adding one row changes nothing."""

ROWS = "rows."
SCALES = "scales."
SITES = "sites"
"""How many took part."""


class RowSumExchange(SumExchange):
    """Every site adds up its rows; the scales of all rows follow from the total."""

    name: ClassVar[str] = "query.rows"
    sends: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = ROWS

    def answer(self, task: Task) -> Payload:
        """Add up features, qualities and costs."""
        return RowSums.gather(task.train_rows()).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Sums must agree with each other and with the plan's dearest call."""
        plan = instruction.plan
        lengths = lengths_of(plan)
        signed = Field((lengths["dimension"],), low=-LARGEST_SUM, high=LARGEST_SUM)
        fields = {**sum_fields(RowSums, lengths, LARGEST_SUM), "feature_sum": signed}
        return Form(fields, lambda payload: _problem(payload, plan.dearest_usd))

    def rows(self, payload: Payload) -> float:
        """Return the queries it is made of."""
        return float(payload["rows"][0])

    def length(self, instruction: Instruction, payload: Payload) -> float:  # noqa: ARG002
        """Root mean square of a row's vector: sites share an encoder, so theirs are alike."""
        return float(np.sqrt(payload["feature_squares"].sum() / max(self.rows(payload), 1.0)))

    def merge(self, state: Payload, instruction: Instruction, replies: Sequence[Reply]) -> Payload:
        """Add up, and measure the scales."""
        state = super().merge(state, instruction, replies)
        scales = row_sums_of(instruction.plan, state).scales()
        return {**state, **prefixed(SCALES, scales.to_arrays()), SITES: np.array([len(replies)])}


def row_sums_of(plan: TrainingPlan, state: Payload) -> RowSums:
    """Read the sums of all sites out of a session's state."""
    return RowSums.from_arrays(under(ROWS, state), lengths_of(plan))


def scales_of(plan: TrainingPlan, state: Payload) -> Scales:
    """Read the scales out of a session's state, or out of the part of it that was sent."""
    return Scales.from_arrays(under(SCALES, state), len(plan.columns))


def _problem(p: Payload, dearest_usd: float) -> str | None:
    rows, count = p["rows"], p["count"]
    if exceeds(count, rows):
        return "a model has more evaluations than there are rows"
    if exceeds(p["quality_sum"], count):
        return "qualities add up to more than 1 each"
    if exceeds(p["cost_sum"], count * dearest_usd):
        return f"costs add up to more than {dearest_usd:g} USD each"
    if exceeds(p["log_cost_sum"], p["cost_sum"]):
        return "logarithms of costs add up to more than the costs"
    squares = {"feature": rows, "log_cost": count, "log_nusd": count}
    if any(exceeds(p[f"{n}_sum"] ** 2, k * p[f"{n}_squares"]) for n, k in squares.items()):
        return "a sum is larger than its squares allow"
    return None
