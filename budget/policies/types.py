"""What a budget policy sees of a conversation, and what comes of its proposal."""

from dataclasses import dataclass

from router_models.types import Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnState:
    """A conversation as it stands when a turn is about to be answered.

    All tokens are completion tokens, thinking included.

    Attributes:
        budget_tokens: What the whole conversation may use: B.
        remaining_tokens: B less what was used and what parallel turns still hold.
        used_tokens: What earlier turns used.
        turn_index: From 0.
        embedding: Of the last user message, shape ``(d,)``; None where there is no encoder.
        prompt_chars: Length of the last user message.
        history_chars: Length of everything before it.
        was_cut_off: The turn before was stopped by its allotment (finish reason ``length``).
        cut_off_turns: How many earlier turns were.
        quality: What the router expects of the best candidate model, in [0, 1]; None if unknown.
        cost_usd: What that model is expected to cost; None if unknown.
        text: The last user message, for policies that read.
        plan: Embeddings of all sub-questions, past and coming, shape ``(n, d)``; None without one.
        plan_texts: The same as texts.
        plan_position: Which sub-question of the plan this turn is, from 0.
    """

    budget_tokens: int
    remaining_tokens: int
    used_tokens: int = 0
    turn_index: int = 0
    embedding: Float32 | None = None
    prompt_chars: int = 0
    history_chars: int = 0
    was_cut_off: bool = False
    cut_off_turns: int = 0
    quality: float | None = None
    cost_usd: float | None = None
    text: str = ""
    plan: Float32 | None = None
    plan_texts: tuple[str, ...] = ()
    plan_position: int = 0


@dataclass(frozen=True, slots=True)
class Allotment:
    """How many tokens a turn gets, and how that came about.

    Attributes:
        proposed_tokens: What the policy chose, raised after a cut-off turn.
        allotted_tokens: What is left of that once it fits the conversation's budget; 0 is nothing.
        choice: Index of what was drawn among the policy's choices.
        propensity: Probability with which that choice was drawn; 1 where nothing was drawn.
        probabilities: Of each choice, as drawn from.
        policy_version: Name of the policy's artefact; empty where it has none.
    """

    proposed_tokens: int
    allotted_tokens: int
    choice: int
    propensity: float
    probabilities: tuple[float, ...]
    policy_version: str = ""
