"""Turn budgets: what a turn may use of the completion tokens its conversation has left.

A policy proposes, the proposal is made to fit, the ledger holds it. Requests without a turn budget
pay for two look-ups. See ``docs/decisions/turn-budgets.md``.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from budget.ledger.types import Limit, OutputCap, Scope
from budget.policies.artifact import SealedPolicy
from budget.policies.mdp import allot
from budget.policies.policy import BudgetPolicy
from budget.policies.types import Allotment, TurnState
from gateway.artifacts.active import ActiveArtifact
from gateway.budgets.base import Ledger
from gateway.budgets.enforcement import with_instruction
from gateway.errors import InvalidRequest
from gateway.settings.config import ProfileSettings
from gateway.settings.turn_budgets import TurnBudgetSettings
from gateway.types import Caller, HostedModel
from gateway.wire import ChatRequest, text_of
from router_models.types import Float32

MAX_CONVERSATIONS = 20_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TurnAllotment:
    """What one turn gets, and how that came about.

    Attributes:
        budget_tokens: Of the whole conversation.
        remaining_tokens: Of these, as the policy saw it.
        choices: What the policy could propose.
        proposal: What it proposed.
        cap: What the ledger holds the turn to.
        is_in_prompt: The model reads its allotment in the system prompt too.
    """

    budget_tokens: int
    remaining_tokens: int
    choices: tuple[int, ...]
    proposal: Allotment
    cap: OutputCap
    is_in_prompt: bool

    def instruct(self, models: Sequence[HostedModel]) -> tuple[HostedModel, ...]:
        """Return the models as they are to be called under this allotment."""
        return with_instruction(models, self.cap.tokens) if self.is_in_prompt else tuple(models)

    def summary(self) -> dict[str, Any]:
        """Say it as the `turn_budget` of the `waypost` object."""
        return {
            "budget_tokens": self.budget_tokens,
            "proposed_tokens": self.proposal.proposed_tokens,
            "allotted_tokens": self.cap.tokens,
            "policy_version": self.proposal.policy_version,
            "propensity": self.proposal.propensity,
        }

    def explain(self) -> dict[str, Any]:
        """Say it as `/v1/route` does."""
        odds = zip(self.choices, self.proposal.probabilities, strict=True)
        return {
            **self.summary(),
            "remaining_tokens": self.remaining_tokens,
            "choices": [{"tokens": tokens, "probability": share} for tokens, share in odds],
        }

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Say it in response headers."""
        return [
            (b"x-waypost-turn-allotted-tokens", str(self.cap.tokens).encode()),
            (b"x-waypost-turn-proposed-tokens", str(self.proposal.proposed_tokens).encode()),
            (b"x-waypost-policy-version", self.proposal.policy_version.encode()),
            (b"x-waypost-policy-propensity", f"{self.proposal.propensity:.6g}".encode()),
        ]


class Predicted(Protocol):
    """What an allotment depends on of what routing predicts; `gateway.routing` makes it."""

    @property
    def profile(self) -> ProfileSettings:
        """The routing profile that the request falls under."""
        ...

    @property
    def embedding(self) -> Float32:
        """The query's embedding; shape ``(dimension,)``."""
        ...

    def best(self) -> tuple[float | None, float | None]:
        """Return predicted quality and cost of the best model that can answer."""
        ...


@dataclass(slots=True)
class TurnBudgetCounters:
    """What became of turn budgets since the start."""

    turns: int = 0
    allotted_tokens: int = 0
    used_tokens: int = 0
    cut_off: int = 0
    policy_failures: int = 0


class TurnBudgets:
    """Shares out the completion tokens of conversations.

    Args:
        policy: The artefact that proposes; the built-in policy of `settings` where there is none.
        embed: Embeds the sub-questions of a plan, for a team.
        min_completion_tokens: No answer is allotted less; what no longer fits is refused.
        rng: Read only where the settings ask for exploration.
    """

    def __init__(
        self,
        *,
        settings: TurnBudgetSettings,
        ledger: Ledger,
        policy: ActiveArtifact[SealedPolicy],
        embed: Callable[[str, str], Awaitable[Float32]],
        min_completion_tokens: int,
        rng: np.random.Generator,
    ) -> None:
        self.counters = TurnBudgetCounters()
        self.policy = policy
        self._settings = settings
        self._ledger = ledger
        self._built_in = settings.make_policy()
        self._embed = embed
        self._min_completion_tokens = min_completion_tokens
        self._rng = rng
        self._cut_offs = CutOffs()

    async def allot(
        self, request: ChatRequest, caller: Caller, predicted: Predicted
    ) -> TurnAllotment | None:
        """Share out what the conversation has left; None where nothing gives it a turn budget.

        A request that names no conversation is one of its own: nothing is counted over turns.

        Raises:
            DependencyUnavailable: The ledger's store is down.
            InvalidRequest: The budget is too small for any answer.
        """
        budget_tokens = self._budget_tokens(request, predicted.profile)
        if budget_tokens is None:
            return None
        self._check_size(request, budget_tokens)
        digest = self._ledger.conversation(request, caller)
        limit, used_tokens, remaining_tokens = None, 0, budget_tokens
        was_cut_off, cut_off_turns = False, 0
        if digest is not None:
            scope = Scope(caller.team_id, "conversation", digest)
            limit = Limit(scope, "output", "total", budget_tokens)
            standing = await self._ledger.standing(limit)
            used_tokens, remaining_tokens = standing.spent, standing.remaining
            was_cut_off, cut_off_turns = self._cut_offs.of(scope)
        quality, cost_usd = predicted.best()
        state = TurnState(
            budget_tokens=budget_tokens,
            remaining_tokens=remaining_tokens,
            used_tokens=used_tokens,
            turn_index=request.turn_index,
            prompt_chars=len(request.query),
            history_chars=_chars(request) - len(request.query),
            was_cut_off=was_cut_off,
            cut_off_turns=cut_off_turns,
            text=request.query,
            plan=await self._embed_plan(request.options.plan, caller.team_id),
            plan_texts=request.options.plan,
            plan_position=request.options.plan_position,
            embedding=predicted.embedding,
            quality=quality,
            cost_usd=cost_usd,
        )
        policy, proposal = self._propose(state)
        return TurnAllotment(
            budget_tokens=budget_tokens,
            remaining_tokens=remaining_tokens,
            choices=policy.choices,
            proposal=proposal,
            cap=OutputCap(max(proposal.allotted_tokens, self._min_completion_tokens), limit),
            is_in_prompt=self._settings.tells_model,
        )

    def note_outcome(
        self, allotment: TurnAllotment, used_tokens: int, *, was_cut_off: bool
    ) -> None:
        """Note how an allotted turn ended.

        Args:
            was_cut_off: By what it was granted, and not by a lower limit of caller or model.
        """
        self.counters.turns += 1
        self.counters.allotted_tokens += allotment.cap.tokens
        self.counters.used_tokens += used_tokens
        self.counters.cut_off += was_cut_off
        if allotment.cap.limit is not None:
            self._cut_offs.note(allotment.cap.limit.scope, was_cut_off=was_cut_off)

    def _budget_tokens(self, request: ChatRequest, profile: ProfileSettings) -> int | None:
        """Return the operator's budget or the caller's own, whichever is smaller."""
        asked = request.options.turn_budget_tokens
        given = profile.turn_budget_tokens or self._settings.tokens_per_conversation
        if asked is None or given is None:
            return asked or given
        return min(asked, given)

    def _check_size(self, request: ChatRequest, budget_tokens: int) -> None:
        choices = request.body.get("n")
        least = self._min_completion_tokens * (choices if type(choices) is int else 1)
        if budget_tokens < least:
            raise InvalidRequest(
                f"A turn budget of {budget_tokens} tokens is too small: an answer is given at "
                f"least {least}.",
                param="waypost.turn_budget",
            )

    async def _embed_plan(self, texts: tuple[str, ...], team_id: str) -> Float32 | None:
        return np.stack([await self._embed(text, team_id) for text in texts]) if texts else None

    def _propose(self, state: TurnState) -> tuple[BudgetPolicy, Allotment]:
        """Ask the active policy; one that fails must not fail the request."""
        active = self.policy.current
        if active is not None:
            try:
                return active.policy, self._ask(active.policy, active.version, state)
            except Exception:  # noqa: BLE001
                self.counters.policy_failures += 1
                _log.exception(
                    "budget policy %s failed for this request; the built-in one allots",
                    active.version,
                )
        return self._built_in, self._ask(self._built_in, self._settings.policy, state)

    def _ask(self, policy: BudgetPolicy, version: str, state: TurnState) -> Allotment:
        return allot(
            policy,
            state,
            self._rng,
            exploration=self._settings.exploration,
            reserve_tokens=self._min_completion_tokens * _turns_to_come(state),
            raises_after_cut_off=True,
            policy_version=version,
        )


class CutOffs:
    """Which conversations were cut off by their allotment, and how often; oldest out first.

    Known to this process only: another replica proposes as if nothing had been cut off.
    """

    def __init__(self, max_conversations: int = MAX_CONVERSATIONS) -> None:
        self._known: OrderedDict[Scope, tuple[bool, int]] = OrderedDict()
        self._max_conversations = max_conversations

    def of(self, conversation: Scope) -> tuple[bool, int]:
        """Say whether the latest turn was cut off, and how many were."""
        return self._known.get(conversation, (False, 0))

    def note(self, conversation: Scope, *, was_cut_off: bool) -> None:
        """Remember how the latest turn of a conversation ended."""
        if not was_cut_off and conversation not in self._known:
            return
        _, turns = self.of(conversation)
        self._known[conversation] = was_cut_off, turns + was_cut_off
        self._known.move_to_end(conversation)
        if len(self._known) > self._max_conversations:
            self._known.popitem(last=False)


def _turns_to_come(state: TurnState) -> int:
    """Count the planned turns after this one: for each the least of an answer is kept back."""
    return 0 if state.plan is None else max(len(state.plan) - state.plan_position - 1, 0)


def _chars(request: ChatRequest) -> int:
    return sum(len(text_of(message.get("content"))) for message in request.body["messages"])
