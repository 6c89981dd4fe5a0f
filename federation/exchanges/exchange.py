"""The base classes of an exchange between coordinator and sites, with both sides of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from federation.errors import PlanRefused
from federation.learning.aggregation import WINSORIZED_SHARES, winsorize
from federation.learning.sums import Sums
from federation.privacy.accounting import Release
from federation.privacy.noise import Bounds, add_noise, clipped_sums
from federation.privacy.settings import NoiseSettings
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply, sum_replies
from federation.site import Site
from router_models.estimators.arrays import add_prefix
from router_models.types import Evaluations

ROUNDING = 1e-6
"""Relative; by how much sums may disagree after rounding."""

SMALLEST_COUNT = 1e-9
"""Keeps a noisy count of nothing from dividing."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """An instruction in the hands of the site that answers it."""

    site: Site
    instruction: Instruction

    def train_rows(self) -> Evaluations:
        """Read the rows to learn from, without the models that have too few.

        Raises:
            PlanRefused: There are too few rows altogether.
        """
        plan = self.instruction.plan
        least_rows = plan.least_visible_rows
        rows = suppress_rare_models(self.site.train_rows(plan.columns, plan.registry), least_rows)
        if not np.isfinite(rows.quality).any():
            raise PlanRefused(f"no model has the {least_rows} rows that the plan asks for")
        return rows

    def held_out_rows(self) -> Evaluations:
        """Read the rows that choose between rounds, without the models that have too few."""
        plan = self.instruction.plan
        least_rows = plan.least_visible_rows
        return suppress_rare_models(
            self.site.held_out_rows(plan.columns, plan.registry), least_rows
        )


@dataclass(frozen=True, slots=True)
class Exchange(ABC):
    """One request to all sites, and how their answers are aggregated.

    `answer` runs at a site, `aggregate` at the coordinator. Both check `form`, so that nothing else
    leaves a site and nothing else counts.

    Attributes:
        share: Of the sites, drawn anew whenever they are asked.
        validation: Asked afterwards, to see how good the new state is.
    """

    name: ClassVar[str]
    """Flower's message type."""
    state_prefixes: ClassVar[tuple[str, ...]]
    """Prefixes of the arrays of the session's state that are sent to sites."""
    is_about_rows: ClassVar[bool] = True
    """Whether an answer depends on a site's rows."""
    is_learned: ClassVar[bool] = False
    """Whether the router is trained on the answers, so that their sites count as its sites."""

    share: float = 1.0
    validation: "Exchange | None" = None

    @abstractmethod
    def answer(self, task: Task) -> Payload:
        """Compute the answer at a site."""

    @abstractmethod
    def form(self, instruction: Instruction) -> Form:
        """Return the form that an answer must have."""

    @abstractmethod
    def rows(self, payload: Payload) -> float:
        """Return the number of rows that an answer says it was computed from."""

    @abstractmethod
    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Return the next state; `replies` come in the order of the sites' names."""

    def update_norm(self, instruction: Instruction, payload: Payload) -> float:  # noqa: ARG002
        """Return the norm of an update; those far above the median are rejected."""
        return 0.0

    def release(self, plan: TrainingPlan) -> Release:  # noqa: ARG002
        """Return the privacy cost of one noisy answer.

        Raises:
            PlanRefused: This cannot be answered with noise.
        """
        raise PlanRefused(f"{self.name} cannot be answered with noise")

    def noisy_answer(
        self,
        task: Task,  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        sharers: int,  # noqa: ARG002
    ) -> Payload:
        """Compute the answer at a site, with noise on it.

        Args:
            rng: Not known to the coordinator.
            sharers: Sites whose noise adds up before anybody sees it.

        Raises:
            PlanRefused: This cannot be answered with noise.
        """
        raise PlanRefused(f"{self.name} cannot be answered with noise")

    def post_processed(self, instruction: Instruction, payload: Payload) -> Payload:  # noqa: ARG002
        """Clip noisy figures back into their ranges; reading nothing else costs no privacy."""
        return payload

    def instruction(self, plan: TrainingPlan, round_: int, state: Payload) -> Instruction:
        """Build the instruction that every site is sent."""
        sent = {
            name: array for name, array in state.items() if name.startswith(self.state_prefixes)
        }
        return Instruction(plan, round_, sent)


class SumExchange(Exchange):
    """An exchange whose answers are sums; their total is put into the state under `prefix`."""

    prefix: ClassVar[str]
    is_held_out: ClassVar[bool] = False
    """About the rows that nobody trains on."""
    winsorized: ClassVar[tuple[str, ...]] = ()
    """Sums per model, over `count` evaluations, whose means a robust rule winsorizes over sites."""

    @abstractmethod
    def local_sums(self, instruction: Instruction, rows: Evaluations) -> Payload:
        """Add up a site's rows."""

    def answer(self, task: Task) -> Payload:
        """Add up the rows that this is about."""
        return self.local_sums(task.instruction, self._rows_of(task))

    def bounds(self, plan: TrainingPlan) -> Bounds:  # noqa: ARG002
        """Say how much one query may add to each array, before noise.

        Raises:
            PlanRefused: This cannot be answered with noise.
        """
        raise PlanRefused(f"{self.name} cannot be answered with noise")

    def release(self, plan: TrainingPlan) -> Release:
        """One message of sums."""
        return noise_of(plan).sums()

    def noisy_answer(self, task: Task, rng: np.random.Generator, sharers: int) -> Payload:
        """Add up the rows, each clipped, and put noise on the sums."""
        instruction, plan = task.instruction, task.instruction.plan
        bounds = self.bounds(plan)
        sums = clipped_sums(
            lambda rows: self.local_sums(instruction, rows), self._rows_of(task), bounds
        )
        noisy = add_noise(sums, bounds, noise_of(plan).noise_multiplier, rng, sharers)
        return dict(noisy)

    def _rows_of(self, task: Task) -> Evaluations:
        return task.held_out_rows() if self.is_held_out else task.train_rows()

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, no site for more than its share."""
        rows = np.array([self.rows(reply.payload) for reply in replies])
        share = WINSORIZED_SHARES.get(instruction.plan.rule)
        if share is not None:
            replies = self._winsorize(instruction, replies, share)
        total = sum_replies(replies, rows, instruction.plan.largest_share)
        return {**state, **add_prefix(self.prefix, total)}

    def _winsorize(
        self, instruction: Instruction, replies: Sequence[Reply], share: float
    ) -> list[Reply]:
        payloads = [dict(reply.payload) for reply in replies]
        for name in self.winsorized:
            totals, counts = (np.stack([p[key] for p in payloads]) for key in (name, "count"))
            for payload, total in zip(payloads, winsorize(totals, counts, share), strict=True):
                payload[name] = total
        return [
            Reply(reply.site, self.post_processed(instruction, payload))
            for reply, payload in zip(replies, payloads, strict=True)
        ]


def noise_of(plan: TrainingPlan) -> NoiseSettings:
    """Return the plan's noise, which it has."""
    assert plan.noise is not None  # noqa: S101
    return plan.noise


def suppress_rare_models(rows: Evaluations, least_rows: int) -> Evaluations:
    """Suppress the evaluations of models that have fewer than `least_rows`, by weight.

    By weight, so that no sum is mostly of fewer rows, which the others hide in name alone.
    """
    few = rows.counts.sum(axis=0, dtype=np.float64) < least_rows
    nothing = np.float32(np.nan)
    return replace(
        rows,
        quality=np.where(few, nothing, rows.quality),
        cost_usd=np.where(few, nothing, rows.cost_usd),
    )


def axis_lengths(plan: TrainingPlan, **others: int) -> dict[str, int]:
    """Lengths of axes, as `Sums.shapes` takes them."""
    return {"one": 1, "dimension": plan.encoder.dimension, "n_models": len(plan.columns), **others}


def sum_fields(sums: type[Sums], lengths: Mapping[str, int], high: float) -> dict[str, Field]:
    """Fields of sums that are never negative nor beyond `high`."""
    return {n: Field(shape, low=0.0, high=high) for n, shape in sums.shapes(lengths).items()}


def exceeds(part: NDArray[Any], whole: NDArray[Any]) -> bool:
    """Whether any sum is larger than what it must stay within."""
    return bool((part > whole * (1.0 + ROUNDING) + ROUNDING).any())


def clip_squares(
    squares: NDArray[Any], total: NDArray[Any], count: NDArray[Any], largest: float
) -> NDArray[Any]:
    """Clip sums of squares to what `total` implies at least and `largest` allows at most."""
    least = total**2 / np.maximum(count, SMALLEST_COUNT)
    most = np.maximum(total * largest, least) if np.isfinite(largest) else np.inf
    clipped: NDArray[Any] = np.clip(squares, least, most)
    return clipped
