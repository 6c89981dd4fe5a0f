"""Answers to judge routers on: none of them was trained or chosen on these."""

from dataclasses import dataclass

from router_models.artifacts.registry import ModelRegistry
from router_models.evaluation.log_rows import LoggedRows
from router_models.evaluation.off_policy import LoggedChoices
from router_models.types import Evaluations, Float64


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Answers that no router was trained or chosen on, under this gateway's names of models.

    Attributes:
        answers: One row per query.
        choices: The answers among them that any model might have been drawn to give.
        prior: Train rows, for the outcome model of the doubly robust estimate.
        prices: Quality per USD at the operating points that callers use.
        all_choices: The drawn answers, though some models had no chance; None where each had one.
    """

    answers: Evaluations
    choices: LoggedChoices
    prior: Evaluations
    prices: Float64
    all_choices: LoggedChoices | None = None

    @classmethod
    def of(cls, rows: LoggedRows, prices: Float64) -> "HeldOut":
        """Take the log's test rows, and its train rows for the outcome model."""
        names = ModelRegistry()
        return cls(
            rows.evaluations("test", rows.models, names),
            rows.choices(),
            rows.evaluations("train", rows.models, names),
            prices,
            None if rows.could_answer is None else rows.all_choices(),
        )
