"""Federated averaging of the MLP router where the coordinator sees sums of all sites alone."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import SumExchange, Task
from federation.exchanges.mlp import (
    LARGEST_COUNT,
    LOSS,
    TEACHER,
    WEIGHTS,
    WeightExchange,
    advance,
    heads_in,
    local_heads,
    local_update,
    noisy_update,
    settings_of,
)
from federation.exchanges.rows import LARGEST_SUM, SCALES, scales_of
from federation.learning.aggregation import WeightedSums
from federation.learning.mlp import LocalUpdate, mlp_training
from federation.privacy.accounting import Release
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply
from router_models.estimators.arrays import strip_prefix
from router_models.types import Evaluations


class WeightSumExchange(SumExchange):
    """Every site trains the common weights, and sends them times its rows, with its rows."""

    name: ClassVar[str] = "train.weight_sums"
    state_prefixes: ClassVar[tuple[str, ...]] = (WEIGHTS, SCALES, TEACHER)
    is_learned: ClassVar[bool] = True
    prefix: ClassVar[str] = WEIGHTS

    def learning(self, instruction: Instruction) -> Payload:
        """Return the weights that move, as they were sent."""
        return strip_prefix(WEIGHTS, instruction.sent)

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Train on the rows."""
        return _weigh(local_update(instruction, rows))

    def release(self, plan: TrainingPlan) -> Release:
        """One noisy gradient."""
        return WeightExchange().release(plan)

    def noisy_answer(self, task: Task, rng: np.random.Generator, sharers: int) -> Payload:
        """Take one step along a noisy gradient; the numbers of rows are not sent."""
        return _weigh(noisy_update(task, rng, sharers))

    def form(self, instruction: Instruction) -> Form:
        """Sums of the weights' shapes, and what they were weighed by."""
        n_models = len(instruction.plan.columns)
        nothing = LocalUpdate(self.learning(instruction), np.zeros(1), np.zeros(n_models))
        sums = WeightedSums.gather(nothing.contribution())
        fields = {
            n: Field(a.shape, low=0.0, high=LARGEST_COUNT) for n, a in sums.to_arrays().items()
        }
        signed = {
            n: Field(a.shape, low=-LARGEST_SUM, high=LARGEST_SUM) for n, a in sums.sums.items()
        }
        return Form({**fields, **signed})

    def rows(self, payload: Payload) -> float:  # noqa: ARG002
        """Return 0: only totals of all sites are ever read."""
        return 0.0

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Divide the total by its weights."""
        current = self.learning(instruction)
        (total,) = replies
        averaged = WeightedSums.from_arrays(total.payload).mean(current)
        return {**state, **advance(state, current, averaged, settings_of(instruction.plan))}


class HeadSumExchange(WeightSumExchange):
    """The same with the trunk frozen: new models' heads alone are trained and leave a site."""

    name: ClassVar[str] = "train.head_sums"

    def learning(self, instruction: Instruction) -> Payload:
        """Return the heads."""
        return heads_in(instruction)

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Train the heads on the rows."""
        return _weigh(local_heads(instruction, rows))


class LossSumExchange(SumExchange):
    """Every site adds up the loss of the common weights on rows that nobody trained on."""

    name: ClassVar[str] = "evaluate.loss_sums"
    state_prefixes: ClassVar[tuple[str, ...]] = (WEIGHTS, SCALES)
    is_held_out: ClassVar[bool] = True
    prefix: ClassVar[str] = LOSS

    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Measure the rows."""
        scales = scales_of(instruction.plan, instruction.sent)
        total, count = mlp_training().validation_loss(
            strip_prefix(WEIGHTS, instruction.sent), rows, scales
        )
        n_rows = np.isfinite(rows.quality).any(axis=1).sum()
        return {"loss": np.array([total]), **_counts(count=count, rows=n_rows)}

    def form(self, instruction: Instruction) -> Form:  # noqa: ARG002
        """Return one sum and what it is made of."""
        one = Field((1,), low=0.0, high=LARGEST_COUNT)
        return Form(dict.fromkeys(("loss", "count", "rows"), one))

    def rows(self, payload: Payload) -> float:
        """Return the queries it was computed from; evaluations may be several of each."""
        return float(payload["rows"][0])

    def aggregate(
        self,
        state: Payload,
        instruction: Instruction,  # noqa: ARG002
        replies: Sequence[Reply],
    ) -> Payload:
        """Divide the total by its count; NaN where no site has such rows."""
        (total,) = replies
        count = total.payload["count"]
        mean = np.where(count > 0, total.payload["loss"] / np.maximum(count, 1.0), np.nan)
        return {**state, LOSS: mean}


def _counts(**counts: float) -> Payload:
    return {name: np.array([count], np.float64) for name, count in counts.items()}


def _weigh(update: LocalUpdate) -> Payload:
    return WeightedSums.gather(update.contribution()).to_arrays()
