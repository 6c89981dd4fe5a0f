"""Turn budgets in front of a ledger that says where a conversation stands."""

from collections.abc import Mapping
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


@dataclass
class Policies:
    """Where the active policy is found."""

    current: Any = None


def make_turn_budgets(
    ledger: object = None,
    *,
    policy: SealedPolicy | None = None,
    profiles: Mapping[str, ProfileSettings] = DEFAULT_PROFILES,
    min_completion_tokens: int = 16,
    **settings: Any,
) -> TurnBudgets:
    """Build turn budgets; the profile ``balanced`` holds for everybody."""

    async def embed(text: str) -> Float32:
        return np.full(4, float(len(text)), np.float32)

    return TurnBudgets(
        settings=TurnBudgetSettings(**settings),
        profiles=profiles,
        profile_of=lambda request, caller: "balanced",
        ledger=cast("Ledger", ledger or Conversations()),
        policy=cast("ActiveArtifact[SealedPolicy]", Policies(policy)),
        embed=embed,
        min_completion_tokens=min_completion_tokens,
        rng=np.random.default_rng(0),
    )
