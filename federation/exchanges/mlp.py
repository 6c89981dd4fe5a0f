"""Federated averaging of the MLP router: one round of training, and how well it went."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import ClassVar

import numpy as np

from federation.exchanges.exchange import Exchange, Task, noise_of
from federation.exchanges.rows import SCALES, RowSumExchange, scales_of
from federation.learning.adam import adamw_step
from federation.learning.aggregation import RULES, Contribution, clip_norms, update_norm
from federation.learning.growth import settings_for_new_clients, settings_for_new_models
from federation.learning.mlp import HEADS, LocalUpdate, mlp_training
from federation.learning.settings import FederatedMlpSettings
from federation.privacy.accounting import Release
from federation.protocol.joining import CLIENTS_JOIN, MODELS_JOIN
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply, cap_weights
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.types import Evaluations

WEIGHTS = "weights."
TEACHER = "teacher."
"""Weights of the router that new clients join, which keep it from forgetting what it knew."""

MOMENTS = "moments."
"""Of the coordinator's Adam; kept with the state, sent to nobody."""

LOSS = "loss"
LARGEST_WEIGHT = 1e4
LARGEST_LOSS = 100.0
"""Of one evaluation; an untrained network's is below 1."""

LARGEST_COUNT = 2.0**40


class InitialWeightExchange(RowSumExchange):
    """Row sums, from which the first weights follow: heads begin at their models' means."""

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, measure the scales and draw the weights."""
        state = super().aggregate(state, instruction, replies)
        plan = instruction.plan
        scales = scales_of(plan, state)
        weights = mlp_training().initial_weights(scales, settings_of(plan), instruction.seed)
        return {**state, **add_prefix(WEIGHTS, weights)}


class WeightExchange(Exchange):
    """Every site trains the common weights on its rows; they are averaged."""

    name: ClassVar[str] = "train.weights"
    state_prefixes: ClassVar[tuple[str, ...]] = (WEIGHTS, SCALES, TEACHER)
    is_learned: ClassVar[bool] = True

    def learning(self, instruction: Instruction) -> Payload:
        """Return the weights that move, as they were sent."""
        return strip_prefix(WEIGHTS, instruction.sent)

    def answer(self, task: Task) -> Payload:
        """Train on the site's rows."""
        return local_update(task.instruction, task.train_rows()).to_arrays()

    def release(self, plan: TrainingPlan) -> Release:
        """One noisy gradient."""
        return noise_of(plan).gradient()

    def noisy_answer(self, task: Task, rng: np.random.Generator, sharers: int) -> Payload:
        """Take one step along a noisy gradient; the numbers of rows are not sent."""
        return noisy_update(task, rng, sharers).to_arrays()

    def form(self, instruction: Instruction) -> Form:
        """Weights of the same shapes, and the rows behind them."""
        fields = {
            name: Field(array.shape, "float32", -LARGEST_WEIGHT, LARGEST_WEIGHT)
            for name, array in self.learning(instruction).items()
        }
        n_models = len(instruction.plan.columns)
        for name, length in (("rows", 1), ("rows_per_model", n_models)):
            fields[name] = Field((length,), low=0.0, high=LARGEST_COUNT)
        return Form(fields, _problem)

    def rows(self, payload: Payload) -> float:
        """Return the queries it was trained on."""
        return float(payload["rows"][0])

    def update_norm(self, instruction: Instruction, payload: Payload) -> float:
        """Distance from the weights that were sent."""
        current = self.learning(instruction)
        return update_norm(current, {name: payload[name] for name in current})

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Put the weights together by the plan's rule, each head by its model's rows."""
        plan, current = instruction.plan, self.learning(instruction)
        updates = [LocalUpdate.from_arrays(reply.payload, current) for reply in replies]
        rows = np.concatenate(
            [[u.rows for u in updates], [u.rows_per_model for u in updates]], axis=1
        )
        fair = np.apply_along_axis(cap_weights, 0, rows, plan.largest_share)
        contributions = [
            LocalUpdate(update.weights, counts[:1], counts[1:]).contribution()
            for update, counts in zip(updates, fair, strict=True)
        ]
        if plan.norm_bound is not None:
            contributions = clip_norms(current, contributions, plan.norm_bound)
        averaged = RULES[plan.rule](current, contributions)
        return {**state, **advance(state, current, averaged, settings_of(plan))}


class HeadExchange(WeightExchange):
    """The same with the trunk frozen: new models' heads alone are trained and leave a site."""

    name: ClassVar[str] = "train.heads"

    def learning(self, instruction: Instruction) -> Payload:
        """Return the heads."""
        return heads_in(instruction)

    def answer(self, task: Task) -> Payload:
        """Train the heads on the site's rows."""
        return local_heads(task.instruction, task.train_rows()).to_arrays()


def heads_in(instruction: Instruction) -> Payload:
    """Return the heads that sites were sent."""
    return {name: instruction.sent[WEIGHTS + name] for name in HEADS}


def local_update(
    instruction: Instruction, rows: Evaluations, *, frozen_trunk: bool = False
) -> LocalUpdate:
    """Train what was sent on a site's rows, close to the teacher where one was sent too."""
    plan, sent = instruction.plan, instruction.sent
    update: LocalUpdate = mlp_training().train_locally(
        strip_prefix(WEIGHTS, sent),
        rows,
        scales_of(plan, sent),
        settings_of(plan),
        instruction.seed,
        frozen_trunk=frozen_trunk,
        teacher=strip_prefix(TEACHER, sent) or None,
    )
    return update


def local_heads(instruction: Instruction, rows: Evaluations) -> LocalUpdate:
    """Train the heads that were sent on a site's rows."""
    update = local_update(instruction, rows, frozen_trunk=True)
    return replace(update, weights={name: update.weights[name] for name in HEADS})


def advance(
    state: Payload, current: Payload, averaged: Payload, settings: FederatedMlpSettings
) -> Payload:
    """Take the average as the next weights, or as a gradient for the coordinator's Adam."""
    if settings.adam_at == "clients":
        return add_prefix(WEIGHTS, averaged)
    gradient = {name: array - averaged[name] for name, array in current.items()}
    weights, moments = adamw_step(
        current,
        gradient,
        strip_prefix(MOMENTS, state),
        settings.learning_rate,
        settings.weight_decay,
    )
    return {**add_prefix(WEIGHTS, weights), **add_prefix(MOMENTS, moments)}


class LossExchange(Exchange):
    """Every site measures the common weights on rows that nobody trained on."""

    name: ClassVar[str] = "evaluate.loss"
    state_prefixes: ClassVar[tuple[str, ...]] = (WEIGHTS, SCALES)

    def answer(self, task: Task) -> Payload:
        """Measure the mean loss over the site's held-out evaluations."""
        plan, sent, held_out = task.instruction.plan, task.instruction.sent, task.held_out_rows()
        scales = scales_of(plan, sent)
        weights = strip_prefix(WEIGHTS, sent)
        total, count = mlp_training().validation_loss(weights, held_out, scales)
        rows = np.isfinite(held_out.quality).any(axis=1).sum()
        return {LOSS: np.array([total / max(count, 1)]), "rows": np.array([rows], np.float64)}

    def form(self, instruction: Instruction) -> Form:  # noqa: ARG002
        """Return one figure and what it rests on."""
        return Form(
            {
                LOSS: Field((1,), low=0.0, high=LARGEST_LOSS),
                "rows": Field((1,), low=0.0, high=LARGEST_COUNT),
            }
        )

    def rows(self, payload: Payload) -> float:
        """Return the queries it was measured on."""
        return float(payload["rows"][0])

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Put the losses together by the rule that puts weights together; NaN where nobody can."""
        plan = instruction.plan
        rows = np.array([self.rows(reply.payload) for reply in replies])
        contributions = [
            Contribution({LOSS: reply.payload[LOSS]}, {LOSS: fair})
            for reply, fair in zip(replies, cap_weights(rows, plan.largest_share), strict=True)
        ]
        merged = RULES[plan.rule]({LOSS: np.array([np.nan])}, contributions)
        return {**state, **merged}


def noisy_update(task: Task, rng: np.random.Generator, sharers: int) -> LocalUpdate:
    """Go down by a noisy gradient over the site's rows; every site counts as one row."""
    plan, sent = task.instruction.plan, task.instruction.sent
    noisy_gradient = import_module("federation.privacy.noisy_gradient")
    weights = noisy_gradient.noisy_gradient_step(
        strip_prefix(WEIGHTS, sent),
        task.train_rows(),
        scales_of(plan, sent),
        settings_of(plan).dropout,
        noise_of(plan),
        rng,
        sharers,
    )
    return LocalUpdate(weights, np.ones(1), np.ones(len(plan.columns)))


def settings_of(plan: TrainingPlan) -> FederatedMlpSettings:
    """Return the plan's settings, which are of this kind, adapted to what joins the router."""
    assert isinstance(plan.settings, FederatedMlpSettings)  # noqa: S101
    if plan.joining == MODELS_JOIN:
        return settings_for_new_models(plan.settings)
    if plan.joining == CLIENTS_JOIN:
        return settings_for_new_clients(plan.settings)
    return plan.settings


def _problem(payload: Payload) -> str | None:
    if (payload["rows_per_model"] > payload["rows"]).any():
        return "a model has more rows than the site"
    return None
