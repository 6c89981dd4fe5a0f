"""Makes a request that came in Anthropic's own form fit the Claude model that it is sent to.

It passes as it was sent, but for what the gateway decides (model, output limit, the model's own
system prompt and defaults) and for what this model would refuse: with `auto` its caller cannot know
which one answers. What every Claude model would refuse is mended for those callers alone: who named
a Claude model is told what Anthropic says.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.providers.anthropic_mending import SAMPLING, mend, thinks
from gateway.providers.anthropic_models import Traits, traits_of
from gateway.providers.anthropic_wire import MIN_THINKING_TOKENS, THINKING_TOKENS, to_anthropic
from gateway.providers.base import UpstreamCall
from gateway.providers.lacks import DROPPABLE, THOUGHTS
from gateway.types import HostedModel

MESSAGES: Final = "messages"
"""Name of the wire."""
BETA_HEADER: Final = "anthropic-beta"
LONG_CONTEXT: Final = "context-1m"
USUAL_CONTEXT_TOKENS: Final = 200_000
_EFFORT: Final = "opus-4-5"
"""The one model before Claude 4.6 that takes an effort."""
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_ANY_PROMPT: Final = [{"role": "user", "content": "."}]


def native_body(call: UpstreamCall, *, is_stream: bool) -> dict[str, Any]:
    """Write the body of `call`, whose `native` request is in Anthropic's form."""
    assert call.native is not None  # noqa: S101
    body = dict(call.native.body)
    body["model"] = call.model.upstream_name
    body.pop("stream", None)
    if is_stream:
        body["stream"] = True
    for name in call.refused & DROPPABLE:
        body.pop(name, None)
    body["messages"] = _own_thoughts(call)
    _set_limit(body, call.body)
    if call.body.get("thinking") and not body.get("thinking"):
        body["thinking"] = call.body["thinking"]  # that a turn budget allots
    _add_own(body, call.model)
    _fit(body, call.model.upstream_name)
    if call.is_chosen:
        call.dropped.update(mend(body, traits_of(call.model.upstream_name)))
    return body


def native_headers(call: UpstreamCall) -> Mapping[str, str]:
    """Write the caller's headers, without betas that lengthen the context beyond the model's.

    Prompts are charged up to the context that the settings give a model, and longer ones at a
    higher price where the settings say so.
    """
    assert call.native is not None  # noqa: S101
    headers = call.native.headers
    asked = headers.get(BETA_HEADER, "")
    is_long = (call.model.capabilities.context_tokens or 0) > USUAL_CONTEXT_TOKENS
    if is_long or LONG_CONTEXT not in asked.lower():
        return headers
    kept = [beta for beta in asked.split(",") if LONG_CONTEXT not in beta.lower()]
    others = {name: value for name, value in headers.items() if name != BETA_HEADER}
    return others | {BETA_HEADER: ",".join(kept).strip()} if kept else others


def _own_thoughts(call: UpstreamCall) -> list[Any]:
    """Return the turns with those thoughts alone that this model takes back.

    Thoughts of other vendors' models are not signed. Which of Claude's it reads is for Anthropic to
    say, and whether they still belong to what comes before them: where it refused some, none are
    sent. Nor are they where nothing follows them, as in an answer that was cut off.
    """
    assert call.native is not None  # noqa: S101
    traits = traits_of(call.model.upstream_name)
    takes_any = traits.takes_budget or traits.thinks_adaptively
    is_kept = _is_signed if takes_any and THOUGHTS not in call.refused else _is_no_thought
    turns: list[Any] = []
    for turn in call.native.body["messages"]:
        content = turn.get("content")
        if turn.get("role") != "assistant" or not isinstance(content, list):
            turns.append(turn)
            continue
        kept = [block for block in content if is_kept(block)]
        while kept and _kind(kept[-1]) in _THOUGHTS:
            del kept[-1]
        if _signed_in(kept) < _signed_in(content):
            call.dropped.add(THOUGHTS)
        if kept:
            turns.append(turn if len(kept) == len(content) else {**turn, "content": kept})
    return turns


def _signed_in(blocks: list[Any]) -> int:
    return sum(_kind(block) in _THOUGHTS and _is_signed(block) for block in blocks)


def _is_signed(block: object) -> bool:
    """Whether a block is anything but a thought that no Claude model signed."""
    return _kind(block) != "thinking" or bool(isinstance(block, dict) and block.get("signature"))


def _is_no_thought(block: object) -> bool:
    return _kind(block) not in _THOUGHTS


def _set_limit(body: dict[str, Any], granted: Mapping[str, Any]) -> None:
    """Set the output limit that budgets and model grant; a thinking budget stays below it."""
    limits = [granted.get(name) for name in ("max_tokens", "max_completion_tokens")]
    limit = min((value for value in limits if type(value) is int), default=body["max_tokens"])
    if limit >= body["max_tokens"]:
        return
    body["max_tokens"] = limit
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        _set_thinking(body, thinking, thinking.get("budget_tokens"))


def _set_thinking(body: dict[str, Any], thinking: Mapping[str, Any], tokens: Any) -> None:
    """Let a model think for at most `tokens`, within the output limit, or not at all."""
    tokens = min(tokens, body["max_tokens"] - 1) if type(tokens) is int else 0
    if tokens < MIN_THINKING_TOKENS:
        _stop_thinking(body)
    else:
        body["thinking"] = {**thinking, "type": "enabled", "budget_tokens": tokens}


def _stop_thinking(body: dict[str, Any]) -> None:
    """Ask for no thoughts, nor for what Anthropic admits only with them."""
    body.pop("thinking", None)
    managed = body.get("context_management")
    if isinstance(managed, dict) and isinstance(managed.get("edits"), list):
        edits = [edit for edit in managed["edits"] if "thinking" not in str(_kind(edit))]
        body["context_management"] = {**managed, "edits": edits}
        if not edits:
            del body["context_management"]


def _add_own(body: dict[str, Any], model: HostedModel) -> None:
    """Add the hosted model's system prompt, and its defaults where the caller said nothing."""
    prompt, system = model.system_prompt, body.get("system")
    if prompt and isinstance(system, list):
        body["system"] = [{"type": "text", "text": prompt}, *system]
    elif prompt:
        body["system"] = f"{prompt}\n\n{system}" if system else prompt
    if not model.request_defaults:
        return
    asked = {"messages": _ANY_PROMPT, "max_tokens": body["max_tokens"], **model.request_defaults}
    for name, value in to_anthropic(asked, model.upstream_name, None).items():
        if not (name in SAMPLING and thinks(body)):
            body.setdefault(name, value)


def _fit(body: dict[str, Any], model: str) -> None:
    """Leave out, or say otherwise, what `model`, an upstream name, refuses."""
    traits = traits_of(model)
    if not traits.takes_sampling:
        for name in SAMPLING:
            body.pop(name, None)
    config = body.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    if isinstance(config, dict) and effort is not None:
        _fit_effort(body, config, traits, takes_it=traits.thinks_adaptively or _EFFORT in model)
    if isinstance(body.get("thinking"), dict):
        _fit_thinking(body, body["thinking"], traits, effort)


def _fit_thinking(
    body: dict[str, Any], thinking: Mapping[str, Any], traits: Traits, effort: object
) -> None:
    """Ask for thoughts as the model understands it, or for none."""
    kind = thinking.get("type")
    if not traits.thinks_adaptively and not traits.takes_budget:
        _stop_thinking(body)
    elif traits.thinks_always and kind in ("disabled", "enabled"):
        del body["thinking"]
    elif kind == "adaptive" and not traits.thinks_adaptively:
        shown = {name: value for name, value in thinking.items() if name == "display"}
        _set_thinking(body, shown, THINKING_TOKENS.get(str(effort), THINKING_TOKENS["high"]))
    elif kind == "enabled" and traits.thinks_adaptively and not traits.takes_sampling:
        kept = {name: value for name, value in thinking.items() if name != "budget_tokens"}
        body["thinking"] = {**kept, "type": "adaptive"}
    if (body.get("thinking") or {}).get("type") == "enabled" and _amid_calls(body["messages"]):
        _stop_thinking(body)


def _fit_effort(
    body: dict[str, Any], config: Mapping[str, Any], traits: Traits, *, takes_it: bool
) -> None:
    """Lower an effort that is above what the model takes, or leave it out."""
    if not takes_it:
        body["output_config"] = {name: part for name, part in config.items() if name != "effort"}
        if not body["output_config"]:
            del body["output_config"]
    elif config["effort"] in THINKING_TOKENS and config["effort"] not in traits.efforts:
        body["output_config"] = {**config, "effort": traits.efforts[-1]}


def _amid_calls(messages: list[Mapping[str, Any]]) -> bool:
    """Whether results answer calls of a model that did not think before, or not as Claude does.

    Anthropic refuses to think on under a token budget then.
    """
    turns = [m.get("content") for m in messages if m.get("role") in ("user", "assistant")]
    results, calls = (turns[-1], turns[-2]) if len(turns) > 1 else (None, None)
    if not isinstance(results, list) or not isinstance(calls, list) or not calls:
        return False
    return _kind(results[0] if results else None) == "tool_result" and (
        _kind(calls[0]) not in _THOUGHTS
    )


def _kind(block: object) -> object:
    return block.get("type") if isinstance(block, dict) else None
