"""What one exchange between coordinator and sites is made of, on both sides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from federation.errors import PlanRefused
from federation.learning.sums import Sums
from federation.protocol import Instruction, Payload, TrainingPlan
from federation.site import Site
from federation.updates import Field, Form, Reply, add_up
from router_models.types import Evaluations

ROUNDING = 1e-6
"""Relative; by how much sums may disagree after rounding."""


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
        rows = withhold(self.site.train_rows(plan.columns, plan.registry), plan.least_rows)
        if not np.isfinite(rows.quality).any():
            raise PlanRefused(f"no model has the {plan.least_rows} rows that the plan asks for")
        return rows

    def held_out_rows(self) -> Evaluations:
        """Read the rows that choose between rounds, without the models that have too few."""
        plan = self.instruction.plan
        return withhold(self.site.held_out_rows(plan.columns, plan.registry), plan.least_rows)


@dataclass(frozen=True, slots=True)
class Exchange(ABC):
    """One question to all sites, and what becomes of their answers.

    `answer` runs at a site, `merge` at the coordinator; `form` is checked by both, so that nothing
    else leaves a site and nothing else counts.

    Attributes:
        share: Of the sites, drawn anew whenever they are asked.
        validation: Asked afterwards, to see how good the new state is.
    """

    name: ClassVar[str]
    """Flower's message type."""
    sends: ClassVar[tuple[str, ...]]
    """Prefixes of what sites are told of the session's state."""
    is_held_out: ClassVar[bool] = False
    """About rows that nobody trains on, of which a site's profile says nothing."""

    share: float = 1.0
    validation: "Exchange | None" = None

    @abstractmethod
    def answer(self, task: Task) -> Payload:
        """Compute what leaves the site."""

    @abstractmethod
    def form(self, instruction: Instruction) -> Form:
        """Say what an answer must look like."""

    @abstractmethod
    def rows(self, payload: Payload) -> float:
        """Read off an answer how many rows it says it was made of."""

    @abstractmethod
    def merge(self, state: Payload, instruction: Instruction, replies: Sequence[Reply]) -> Payload:
        """Make the next state from the answers, which come in the order of the sites' names."""

    def length(self, instruction: Instruction, payload: Payload) -> float:  # noqa: ARG002
        """Say how far an answer goes; those much longer than others are rejected."""
        return 0.0

    def instruction(self, plan: TrainingPlan, round_: int, state: Payload) -> Instruction:
        """Put the question together."""
        sent = {name: array for name, array in state.items() if name.startswith(self.sends)}
        return Instruction(plan, round_, sent)


class SumExchange(Exchange):
    """An exchange whose answers add up; the total joins the state under `prefix`."""

    prefix: ClassVar[str]

    def merge(self, state: Payload, instruction: Instruction, replies: Sequence[Reply]) -> Payload:
        """Add up, no site for more than its share."""
        rows = np.array([self.rows(reply.payload) for reply in replies])
        total = add_up(replies, rows, instruction.plan.largest_share)
        return {**state, **prefixed(self.prefix, total)}


def withhold(rows: Evaluations, least_rows: int) -> Evaluations:
    """Forget the evaluations of models that have fewer than `least_rows`."""
    few = np.isfinite(rows.quality).sum(axis=0) < least_rows
    nothing = np.float32(np.nan)
    return replace(
        rows,
        quality=np.where(few, nothing, rows.quality),
        cost_usd=np.where(few, nothing, rows.cost_usd),
    )


def prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Payload:
    """Name arrays after what they belong to."""
    return {prefix + name: array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Payload:
    """Undo `prefixed`, leaving all other arrays out."""
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def lengths_of(plan: TrainingPlan, **others: int) -> dict[str, int]:
    """Lengths of axes, as `Sums.shapes` takes them."""
    return {"one": 1, "dimension": plan.encoder.dimension, "n_models": len(plan.columns), **others}


def sum_fields(sums: type[Sums], lengths: Mapping[str, int], high: float) -> dict[str, Field]:
    """Fields of sums that are never negative nor beyond `high`."""
    return {n: Field(shape, low=0.0, high=high) for n, shape in sums.shapes(lengths).items()}


def exceeds(part: NDArray[Any], whole: NDArray[Any]) -> bool:
    """Whether any sum is larger than what it must stay within."""
    return bool((part > whole * (1.0 + ROUNDING) + ROUNDING).any())
