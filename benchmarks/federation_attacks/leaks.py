"""Runs sessions, records what leaves each site, and attacks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.federated_routing.protocol import join
from benchmarks.federation_attacks.arms import Arm
from benchmarks.federation_attacks.membership import (
    LEAST_DEVIATION,
    Guesses,
    Reference,
    by_cells,
    by_centroids,
    by_feature_sums,
    losses,
)
from benchmarks.federation_attacks.sites import World
from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.simulation import simulate
from federation.coordinator.session import SessionResult
from federation.exchanges.kmeans import CELLS, CENTROIDS, CellExchange
from federation.exchanges.mlp import WEIGHTS
from federation.exchanges.rows import ROWS, scales_of
from federation.learning.guard import scaler_of_guard
from federation.learning.mlp import to_estimator
from federation.protocol.protocol import ARRAYS, Instruction, Payload, TrainingPlan
from router_models.estimators.arrays import Scaler, strip_prefix
from router_models.estimators.mlp import MlpEstimator
from router_models.types import Evaluations

Float64 = NDArray[np.float64]

STEP: Final = 0.1
"""How far along a site's update its effect on a candidate is looked at: where it is linear."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Whose log is asked about: one site, or all of them together behind a secure sum.

    Attributes:
        rows: Candidates; the first `n_members` of them were trained on.
    """

    rows: Evaluations
    n_members: int
    known: Reference

    def guesses(self, scores: Float64) -> Guesses:
        """Tell members' scores from the others'."""
        return Guesses(scores[: self.n_members], scores[self.n_members :])


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A finished session and everything that went over the wire."""

    plan: TrainingPlan
    result: SessionResult
    traffic: Sequence[Exchanged]

    def sent(self, exchange: str) -> list[tuple[Instruction, dict[int, Payload]]]:
        """Group the answers to one kind of exchange by round; node to arrays."""
        rounds: dict[int, tuple[Instruction, dict[int, Payload]]] = {}
        for message in self.traffic:
            reply = message.reply
            if message.instruction.metadata.message_type != exchange or reply is None:
                continue
            if ARRAYS not in reply.content.array_records:
                continue
            instruction = Instruction.from_content(message.instruction.content)
            arrays = {n: a.numpy() for n, a in reply.content.array_records[ARRAYS].items()}
            rounds.setdefault(instruction.round, (instruction, {}))[1][message.node] = arrays
        return [rounds[index] for index in sorted(rounds)]


def record(world: World, arm: Arm, kind: str, seed: int) -> Recording:
    """Run one session."""
    traffic: list[Exchanged] = []
    plan = arm.plan(kind, world.encoder, seed)
    return Recording(plan, simulate(world.sites(), plan, traffic=traffic), traffic)


def targets_of(world: World, *, together: bool) -> list[Target]:
    """List whom to ask about; validation rows are the candidates that were not trained on."""
    targets = []
    for index, client in enumerate(world.clients):
        rows = join([client.rows.train, client.rows.validation])
        targets.append(Target(rows, len(client.rows.train.quality), world.reference(index)))
    if not together:
        return targets
    train = join(client.rows.train for client in world.clients)
    others = join(client.rows.validation for client in world.clients)
    return [Target(join([train, others]), len(train.quality), Reference(world.test, train))]


def attack(world: World, recording: Recording) -> dict[str, list[Guesses]]:
    """Make every attack that the session's messages allow; by name of the message."""
    plan = recording.plan
    targets = targets_of(world, together=plan.secure_sum)
    found = {"row sums": _attack_row_sums(recording, targets)}
    if plan.kind == "kmeans":
        found["cells"] = _attack_cells(recording, targets)
        for exchange, name in (
            ("train.centroids", "centroids"),
            ("train.guard_centroids", "guard centroids"),
        ):
            sites = targets_of(world, together=False)
            found |= {name: g} if (g := _attack_centroids(recording, exchange, sites)) else {}
    else:
        found["weights"] = _attack_weights(recording, targets)
    return found


def _attack_row_sums(recording: Recording, targets: Sequence[Target]) -> list[Guesses]:
    payloads = _sums(recording, "query.rows", ROWS)
    return [
        target.guesses(by_feature_sums(payload, target.rows, target.known))
        for payload, target in zip(payloads, targets, strict=True)
    ]


def _attack_cells(recording: Recording, targets: Sequence[Target]) -> list[Guesses]:
    plan, centroids = recording.result.plan, recording.result.progress.state[CENTROIDS]
    scaler = Scaler.identity(plan.encoder.dimension)
    spread = _deviations(plan, len(targets))
    payloads = _sums(recording, "train.cells", CELLS)
    return [
        target.guesses(
            by_cells(
                payload,
                target.rows,
                target.known,
                centroids,
                scaler,
                plan.least_visible_rows,
                spread,
            )
        )
        for payload, target in zip(payloads, targets, strict=True)
    ]


def _sums(recording: Recording, exchange: str, prefix: str) -> list[Payload]:
    """What a coordinator can read: each site's sums, or their total."""
    if recording.plan.secure_sum:
        return [strip_prefix(prefix, recording.result.progress.state)]
    ((_, answers),) = recording.sent(exchange)
    return [answers[node] for node in sorted(answers)]


def _deviations(plan: TrainingPlan, n_targets: int) -> Mapping[str, Any]:
    if plan.noise is None:
        return {}
    bounds = CellExchange().bounds(plan)
    # Behind a secure sum, ten sites each add a fifth of the variance.
    dose = sqrt(2.0) if n_targets == 1 else 1.0
    share = plan.noise.noise_multiplier * sqrt(len(bounds)) * dose
    return {name: np.asarray(bound) * share for name, bound in bounds.items()}


def _attack_centroids(
    recording: Recording, exchange: str, targets: Sequence[Target]
) -> list[Guesses]:
    dimension = recording.plan.encoder.dimension
    scaler = scaler_of_guard(dimension)
    return [
        target.guesses(by_centroids(answers[node], target.rows, target.known, scaler, node))
        for _, answers in recording.sent(exchange)
        for node, target in zip(sorted(answers), targets, strict=True)
    ]


def _attack_weights(recording: Recording, targets: Sequence[Target]) -> list[Guesses]:
    """Add up, over all rounds, by how much an update lowers each candidate's loss."""
    scores = [np.zeros(len(target.rows.quality)) for target in targets]
    rounds = _updates(recording)
    for before, updates in rounds:
        for index, target in enumerate(targets):
            gains = [losses(before, target.rows) - losses(u, target.rows) for u in updates]
            own = gains.pop(index)
            if gains:
                usual = np.stack(gains)
                own = (own - usual.mean(axis=0)) / (usual.std(axis=0) + LEAST_DEVIATION)
            scores[index] += own
    return [target.guesses(score) for target, score in zip(targets, scores, strict=True)]


def _updates(recording: Recording) -> list[tuple[MlpEstimator, list[MlpEstimator]]]:
    """Weights before each round, and a step from there along each update that can be read."""
    secure = recording.plan.secure_sum
    plan = recording.result.plan
    found = []
    rounds = recording.sent("train.weight_sums" if secure else "train.weights")
    for index, (instruction, answers) in enumerate(rounds):
        current = strip_prefix(WEIGHTS, instruction.sent)
        if secure:
            # The next round's weights are what the total made of these.
            after = rounds[index + 1][0].sent if index + 1 < len(rounds) else None
            updates = [] if after is None else [strip_prefix(WEIGHTS, after)]
        else:
            updates = [answers[node] for node in sorted(answers)]
        scales = scales_of(plan, recording.result.progress.state)
        steps = [to_estimator(_step(current, u), plan.columns, scales) for u in updates]
        if steps:
            found.append((to_estimator(current, plan.columns, scales), steps))
    return found


def _step(current: Payload, update: Payload) -> Payload:
    return {n: w + STEP * (update[n] - w) for n, w in current.items()}


def pool(guesses: Sequence[Guesses]) -> Guesses:
    """Put sites and seeds together."""
    return Guesses(
        np.concatenate([g.members for g in guesses]), np.concatenate([g.others for g in guesses])
    )
