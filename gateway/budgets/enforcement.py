"""How an allotment reaches a model: an output limit, how much of it to think, a line of prompt.

https://platform.openai.com/docs/guides/reasoning and
https://platform.claude.com/docs/en/build-with-claude/extended-thinking
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.budgets.worst_case import with_output_limit
from gateway.deployments import with_system_prompt
from gateway.providers.lacks import OUTPUT_LIMITS, may_think
from gateway.types import HostedModel
from gateway.wire import ChatRequest

LOW_EFFORT_TOKENS: Final = 1024
"""Up to here an answer is thought about little; above `MEDIUM_EFFORT_TOKENS` much."""
MEDIUM_EFFORT_TOKENS: Final = 2048
MIN_THINKING_TOKENS: Final = 1024
"""Anthropic refuses less. A thinking budget is three quarters of the allotment."""
_CHOSEN: Final = frozenset({"reasoning_effort", "reasoning", "thinking"})


def own_limit(model: HostedModel) -> int | None:
    """Return the output limit that makes `model` an arm of its own; None where it sets none."""
    limits = [model.request_defaults.get(name) for name in OUTPUT_LIMITS]
    return min((limit for limit in limits if type(limit) is int and limit > 0), default=None)


def with_reasoning(body: Mapping[str, Any], model: HostedModel) -> Mapping[str, Any]:
    """Return the body with as much thinking as fits its output limit.

    What the caller or the model's own settings say of thinking stays as it is.

    Args:
        body: For `model`, with the output limit that is enforced.
    """
    form = model.capabilities.reasoning
    limits = [body[name] for name in OUTPUT_LIMITS if body.get(name) is not None]
    if form is None or not limits or _CHOSEN & (body.keys() | model.request_defaults.keys()):
        return body
    tokens = min(limits)
    if form == "effort":
        return {**body, "reasoning_effort": effort_within(tokens)}
    thinking = tokens * 3 // 4
    if thinking < MIN_THINKING_TOKENS or not _may_think(body):
        return body
    return {**body, "thinking": {"type": "enabled", "budget_tokens": thinking}}


def asked_of(model: HostedModel, request: ChatRequest, granted: int | None) -> Mapping[str, Any]:
    """Return what `request` asks of `model`: with the output limit that budgets grant.

    A limit that the caller had to name is lowered to what the model takes.
    """
    if granted is None and request.has_formal_limit:
        granted = request.body["max_tokens"]
    body = with_output_limit(request.body, model, granted)
    return body if request.effort is None else with_effort(body, model, request.effort)


def with_effort(body: Mapping[str, Any], model: HostedModel, effort: str) -> Mapping[str, Any]:
    """Return the body with the effort that its caller asks for, where the model can be told."""
    if model.capabilities.reasoning != "effort" or "reasoning_effort" in body:
        return body
    return {**body, "reasoning_effort": effort}


def effort_within(tokens: int) -> str:
    """Name the reasoning effort that suits an answer of at most `tokens`, thinking included."""
    if tokens <= LOW_EFFORT_TOKENS:
        return "low"
    return "medium" if tokens <= MEDIUM_EFFORT_TOKENS else "high"


def with_instruction(models: Sequence[HostedModel], tokens: int) -> tuple[HostedModel, ...]:
    """Return the models with an instruction to think for at most `tokens`.

    It comes before a model's own system prompt, which may end in the middle of an example.
    """
    line = f"Think for at most {tokens} tokens."
    return tuple(
        with_system_prompt(model, "\n".join(filter(None, (line, model.system_prompt))))
        for model in models
    )


def _may_think(body: Mapping[str, Any]) -> bool:
    """Whether Anthropic admits thinking: with no forced tool, nor after a round of tool calls."""
    return body.get("tool_choice") in (None, "auto", "none") and may_think(body["messages"])
