"""Turn budgets in front of a ledger that says where a conversation stands."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from budget.ledger.types import Limit, Standing
from budget.policies.artifact import SealedPolicy
from gateway.artifacts.active import ActiveArtifact
from gateway.budgets.base import Ledger
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.settings.config import DEFAULT_PROFILES, ProfileSettings
from gateway.settings.turn_budgets import TurnBudgetSettings
from gateway.types import Caller
from gateway.wire import ChatRequest
from router_models.types import Float32


@dataclass
class Conversations:
    """A ledger's view of conversations.

    Attributes:
        spent: Completion tokens of every conversation.
        held: What parallel turns hold.
        asked: Limits whose standing was read.
    """

    spent: int = 0
    held: int = 0
    asked: list[Limit] = field(default_factory=list)

    def conversation(self, request: ChatRequest, caller: Caller) -> str | None:
        """Take the caller's own name for it."""
        del caller
        return request.options.conversation_id

    async def standing(self, limit: Limit) -> Standing:
        """Say what the test says."""
        self.asked.append(limit)
        return Standing(limit, self.spent, self.held, None)


@dataclass(frozen=True)
class Prediction:
    """What routing predicts, as far as an allotment depends on it."""

    profile: ProfileSettings = DEFAULT_PROFILES["balanced"]
    embedding: Float32 = field(default_factory=lambda: np.zeros(4, np.float32))
    quality: float | None = None
    cost_usd: float | None = None

    def best(self) -> tuple[float | None, float | None]:
        """Return quality and cost of the best model."""
        return self.quality, self.cost_usd


@dataclass
class Policies:
    """Where the active policy is found."""

    current: Any = None


def make_turn_budgets(
    ledger: object = None,
    *,
    policy: SealedPolicy | None = None,
    min_completion_tokens: int = 16,
    **settings: Any,
) -> TurnBudgets:
    """Build turn budgets."""

    async def embed(text: str, team_id: str) -> Float32:
        del team_id
        return np.full(4, float(len(text)), np.float32)

    return TurnBudgets(
        settings=TurnBudgetSettings(**settings),
        ledger=cast("Ledger", ledger or Conversations()),
        policy=cast("ActiveArtifact[SealedPolicy]", Policies(policy)),
        embed=embed,
        min_completion_tokens=min_completion_tokens,
        rng=np.random.default_rng(0),
    )
