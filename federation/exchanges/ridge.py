"""The ridge router: one pass of sums, which make exactly the router of all rows."""

from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import SumExchange, axis_lengths, exceeds, suppress_rare_models
from federation.exchanges.rows import LARGEST_SUM, SCALES, scales_of
from federation.learning.ridge import GramSums
from federation.learning.settings import FederatedRidgeSettings
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form
from router_models.estimators.arrays import strip_prefix
from router_models.types import Evaluations

GRAM = "gram."


class GramExchange(SumExchange):
    """Every site adds up X'X and X'y of each model.

    X'X of fewer rows than weights can be solved for the rows, so models with fewer are withheld,
    unless only the total of all sites is seen, or the plan hides nothing (`least_rows` 1).
    """

    name: ClassVar[str] = "train.gram"
    state_prefixes: ClassVar[tuple[str, ...]] = (SCALES,)
    is_learned: ClassVar[bool] = True
    prefix: ClassVar[str] = GRAM

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Add up products of scaled features."""
        plan, sent = instruction.plan, instruction.sent
        least_rows = plan.encoder.dimension + 1 if plan.least_visible_rows > 1 else 1
        scaler = scales_of(plan, sent).scaler
        return GramSums.gather(scaler, suppress_rare_models(rows, least_rows)).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Products must agree with each other and with the plan's dearest call."""
        plan = instruction.plan
        shapes = GramSums.shapes(_lengths(plan))
        fields = {n: Field(s, low=-LARGEST_SUM, high=LARGEST_SUM) for n, s in shapes.items()}
        return Form(fields, lambda payload: _problem(payload, plan.dearest_usd))

    def rows(self, payload: Payload) -> float:
        """Return the rows of the model that has most."""
        return float(payload["gram"][:, -1].max())


def gram_of(plan: TrainingPlan, state: Payload) -> GramSums:
    """Read the sums of all sites out of a session's state."""
    return GramSums.from_arrays(strip_prefix(GRAM, state), _lengths(plan))


def settings_of(plan: TrainingPlan) -> FederatedRidgeSettings:
    """Return the plan's settings, which are of this kind."""
    assert isinstance(plan.settings, FederatedRidgeSettings)  # noqa: S101
    return plan.settings


def _lengths(plan: TrainingPlan) -> dict[str, int]:
    return {**axis_lengths(plan), **GramSums.lengths(plan.encoder.dimension, len(plan.columns))}


def _problem(p: Payload, dearest_usd: float) -> str | None:
    """Hold products to Cauchy and Schwarz: none exceeds the root of its two squares."""
    rows, columns = np.triu_indices(len(p["quality"]))
    squares = p["gram"][:, rows == columns]
    if (squares < 0).any():
        return "a sum of squares is negative"
    if exceeds(p["gram"] ** 2, squares[:, rows] * squares[:, columns]):
        return "a product of features is larger than their squares allow"
    bound = (squares * squares[:, -1:]).T
    if exceeds(p["quality"] ** 2, bound) or exceeds(p["cost_usd"] ** 2, bound * dearest_usd**2):
        return "qualities or costs are larger than the rows behind them allow"
    return None
