"""Holds what a turn may cost; where money is short, keeps to models that cost less."""

from collections.abc import Sequence
from typing import Any

from budget.errors import BudgetExhausted
from budget.ledger.types import Charge
from gateway.budgets.base import Ledger
from gateway.budgets.reservation import Reservation
from gateway.chat.deployments import Deployments
from gateway.chat.turn import Turn
from gateway.deployments import every_place
from gateway.routing.expected_cost import asked_limit
from gateway.routing.plan import Prediction, RoutePlan
from gateway.routing.routing import Routing
from gateway.types import HostedModel

USUAL_COMPLETION_TOKENS = 1_024
"""By which models are compared where the caller sets no limit."""


async def reserve(
    ledger: Ledger,
    turn: Turn,
    name: str,
    models: Sequence[HostedModel],
    charged: Charge | None = None,
) -> Reservation:
    """Hold the worst case of an answer by any of `models`."""
    allotment = None if turn.plan is None else turn.plan.allotment
    cap = None if allotment is None else allotment.cap
    return await ledger.reserve(name, turn.caller, turn.request, models, cap, charged=charged)


async def afford(
    ledger: Ledger,
    routing: Routing,
    turn: Turn,
    prediction: Prediction,
    deployments: Deployments | None = None,
) -> None:
    """Hold the worst case of the turn's plan, or of one with cheaper models where money is short.

    The dearer half of the models is left out each time, so that a refusal takes few calls of the
    ledger. The router chooses anew among those that are left, so the logged probability is that of
    the choice that was made.

    Args:
        deployments: None where every model is called at one place.

    Raises:
        BudgetExhausted: There is no room for the cheapest model either.
    """
    plan = turn.plan
    assert plan is not None  # noqa: S101
    while True:
        try:
            places = plan.models if deployments is None else every_place(plan.models)
            turn.reservation = await reserve(ledger, turn, turn.record.request_id, places)
        except BudgetExhausted as refusal:
            if not refusal.is_money or len(plan.models) == 1:
                raise
            among = cheaper_half(plan, turn.request.body)
            plan = routing.choose(prediction, plan.allotment, among)
            turn.follow(plan)
        else:
            return


def cheaper_half(plan: RoutePlan, body: dict[str, Any]) -> frozenset[str]:
    """Name the half of a plan's models whose answers would cost least.

    A model that the caller names stays alone, without its fallbacks.
    """
    if plan.profile is None:
        return frozenset({plan.models[0].name})
    completion_tokens = min(asked_limit(body), USUAL_COMPLETION_TOKENS)

    def cost(model: HostedModel) -> float:
        price = model.price.up_to(plan.prompt_tokens)[-1]
        return (
            plan.prompt_tokens * price.input_nusd_per_mtok
            + completion_tokens * price.output_nusd_per_mtok
        )

    ordered = sorted(plan.models, key=cost)
    return frozenset(model.name for model in ordered[: len(ordered) // 2])
