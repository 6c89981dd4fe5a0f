"""What models have no way to do, and how a request is made fit for one.

A feature without which the answer would be another one (`refused`) rules a model out where the
gateway chooses. A field that only tunes an answer (`dropped`) is left out, which a response header
says, and the two names of the output limit stand for each other. What is listed is what vendors
document; what they do not, the gateway learns from their refusals (`gateway.providers.refusals`).

Sources: https://platform.openai.com/docs/guides/reasoning,
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/reasoning,
https://platform.openai.com/docs/models,
https://platform.claude.com/docs/en/about-claude/models/overview and what is named in
`gateway.providers.anthropic_models`.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from gateway.providers.anthropic_models import traits_of
from gateway.providers.hosts import Host
from gateway.types import LACKS_NOTHING, HostedModel, Lacks

OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_OTHER_LIMIT: Final = dict(zip(OUTPUT_LIMITS, reversed(OUTPUT_LIMITS), strict=True))

BLANK_STOPS: Final = "blank_stops"
CUSTOM_TOOLS: Final = "custom_tools"
LINKED_IMAGES: Final = "linked_images"
PREFILL: Final = "prefill"
SYSTEM_ONLY: Final = "system_only"

THOUGHTS: Final = "thinking"
"""Thoughts of earlier turns, in the name under which callers are told that they were left out."""

_SAMPLING: Final = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
DROPPABLE: Final = _SAMPLING | {
    "min_p",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "repetition_penalty",
    "safety_identifier",
    "seed",
    "service_tier",
    "store",
    "stream_options",
    "top_a",
    "top_k",
    "user",
    "verbosity",
}
"""What an answer may do without, where a model says that it does not take it."""
REFUSABLE: Final = frozenset(
    {"function_call", "functions", "logit_bias", "logprobs", "n", "stop", "top_logprobs"}
)
"""Fields without which the answer would be another one."""
_NEUTRAL: Final[Mapping[str, object]] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "n": 1,
    "top_logprobs": 0,
}
"""Values that say what would hold without the field; empty ones and false always do."""

_ANTHROPIC: Final = Lacks(
    refused=(REFUSABLE - {"stop"}) | {BLANK_STOPS, CUSTOM_TOOLS, LINKED_IMAGES, SYSTEM_ONLY},
    dropped=frozenset(
        {
            "frequency_penalty",
            "prediction",
            "presence_penalty",
            "prompt_cache_key",
            "prompt_cache_retention",
            "seed",
            "service_tier",
            "store",
            "verbosity",
        }
    ),
)
_REASONS: Final = re.compile(r"(^|/)(o\d(?!\d)|gpt-5(?!\.|.*chat))", re.IGNORECASE)
"""OpenAI's models that always think; they refuse to be sampled otherwise than they are."""
_MAY_REASON: Final = re.compile(r"(^|/)gpt-(5\.|[6-9])(?!.*chat)", re.IGNORECASE)
"""Those that take sampling parameters while they do not think."""
_TAKES_NO_STOP: Final = re.compile(r"(^|/)(o[34](?!\d)|gpt-5(?!\.|.*chat))", re.IGNORECASE)
_LONGEST_ANSWERS: Final = (
    (re.compile(r"(^|/)(gpt-4o|chatgpt-4o)", re.IGNORECASE), 16_384),
    (re.compile(r"(^|/)gpt-4\.1", re.IGNORECASE), 32_768),
    (re.compile(r"(^|/)(gpt-4-turbo|gpt-4-\d{4}|gpt-3\.5-turbo)", re.IGNORECASE), 4_096),
    (re.compile(r"(^|/)o[134](?!\d|-mini-2024|-preview)", re.IGNORECASE), 100_000),
    (re.compile(r"(^|/)gpt-5(?!.*chat)", re.IGNORECASE), 128_000),
)
"""As published; a longer limit is refused by these models."""


def lacks_of(kind: str, host: Host, model: str) -> Lacks:
    """Say what `model`, an upstream name, lacks.

    Args:
        kind: Of its provider.
    """
    if kind == "anthropic":
        return _lacks_of_claude(model)
    always = _REASONS.search(model) is not None
    thinks = always or _MAY_REASON.search(model) is not None
    refused = set(host.refused)
    if _TAKES_NO_STOP.search(model):
        refused.add("stop")
    if always:
        refused |= {"logit_bias", "logprobs", "top_logprobs"}
    lacks = Lacks(
        refused=frozenset(refused),
        dropped=host.dropped | _SAMPLING if always else host.dropped,
        dropped_thinking=_SAMPLING if thinks else frozenset(),
        output_limit=host.output_limit or ("max_completion_tokens" if thinks else None),
        output_tokens=next((n for name, n in _LONGEST_ANSWERS if name.search(model)), None),
    )
    return LACKS_NOTHING if lacks == LACKS_NOTHING else lacks


def asked_features(
    body: Mapping[str, Any], among: frozenset[str], *, has_images: bool
) -> frozenset[str]:
    """Name those of the features `among` that a decoded chat-completions body asks for."""
    if not among:
        return among
    asked = {name for name in among & body.keys() if not _is_neutral(name, body[name])}
    if not _ends_plainly(body.get("messages")):
        asked.update(among & _seen(body, (PREFILL, SYSTEM_ONLY)))
    if has_images:
        asked.update(among & _seen(body, (LINKED_IMAGES,)))
    if not _READ_FOR_FEATURES.isdisjoint(body):
        asked.update(among & _seen(body, (BLANK_STOPS, CUSTOM_TOOLS)))
    return frozenset(asked)


def made_fit(
    body: Mapping[str, Any], model: HostedModel, learned: Collection[str] = ()
) -> tuple[Mapping[str, Any], set[str]]:
    """Return what `model` is sent instead of `body`, and the fields that were left out.

    Args:
        learned: Fields that it has refused lately.
    """
    lacks = model.lacks
    if lacks is LACKS_NOTHING and not learned:
        return body, set()
    without = lacks.dropped
    if lacks.dropped_thinking and body.get("reasoning_effort") not in (None, "none"):
        without |= lacks.dropped_thinking
    unwanted = body.keys() & (without | DROPPABLE.intersection(learned))
    limit = lacks.output_limit
    for name in OUTPUT_LIMITS:
        if name in learned:
            limit = _OTHER_LIMIT[name]
    misnamed = limit is not None and body.get(_OTHER_LIMIT[limit]) is not None
    if not unwanted and not misnamed:
        return body, set()
    fit = {name: value for name, value in body.items() if name not in unwanted}
    if misnamed and limit is not None:
        other = fit.pop(_OTHER_LIMIT[limit])
        if fit.get(limit) is None:
            fit[limit] = other
    return fit, {name for name in unwanted if not _is_neutral(name, body[name])}


def may_think(messages: object) -> bool:
    """Whether a Claude model takes a token budget for thinking after `messages`.

    Not where they begin its answer, nor where its last turn called tools: there it wants to see
    what it thought before these calls, which OpenAI's form cannot carry.
    """
    turns = messages if isinstance(messages, list) else []
    for message in reversed(turns):
        if message.get("role") == "tool":
            return False
        if message.get("role") == "assistant":
            return message is not turns[-1] and not message.get("tool_calls")
    return True


def _lacks_of_claude(model: str) -> Lacks:
    traits = traits_of(model)
    refused = _ANTHROPIC.refused if traits.takes_prefill else _ANTHROPIC.refused | {PREFILL}
    dropped = _ANTHROPIC.dropped
    if not traits.takes_sampling:
        dropped |= {"temperature", "top_p"}
    if not traits.takes_budget and not traits.thinks_adaptively:
        dropped |= {"reasoning_effort"}
    return Lacks(refused=refused, dropped=dropped, output_tokens=traits.most_output_tokens)


def _ends_plainly(messages: object) -> bool:
    """Whether a user has the last word, as nearly always: then no feature of messages is asked."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return False
    content = last.get("content")
    return isinstance(content, str) and content != "" and not content.isspace()


def _seen(body: Mapping[str, Any], features: tuple[str, ...]) -> set[str]:
    return {name for name in features if _is_seen(body, _LOOKS[name])}


def _is_seen(body: Mapping[str, Any], looks: Callable[[Mapping[str, Any]], bool]) -> bool:
    try:
        return looks(body)
    except (AttributeError, IndexError, KeyError, TypeError):
        return False  # of no known form: the provider's to judge


def _is_neutral(name: str, value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value == _NEUTRAL.get(name)
    return not value


def _has_custom_tools(body: Mapping[str, Any]) -> bool:
    return any(tool.get("type") == "custom" for tool in body.get("tools") or ())


def _ends_in_prefill(body: Mapping[str, Any]) -> bool:
    last = body["messages"][-1]
    return last["role"] == "assistant" and not last.get("tool_calls")


def _has_no_turn(body: Mapping[str, Any]) -> bool:
    """Whether nothing is said but instructions, or nothing at all."""
    return not any(_is_turn(message) for message in reversed(body["messages"]))


def _is_turn(message: Mapping[str, Any]) -> bool:
    if message["role"] in ("system", "developer"):
        return False
    if message["role"] == "tool" or message.get("tool_calls"):
        return True
    content = message.get("content")
    if isinstance(content, str):
        return bool(content) and not content.isspace()
    return any(
        part.get("type") not in ("text", "refusal") or (part.get("text") or "").strip()
        for part in content or ()
    )


def _has_linked_images(body: Mapping[str, Any]) -> bool:
    """Whether an image is given by a plain http URL, which Anthropic does not follow."""
    return any(
        part.get("type") == "image_url" and part["image_url"]["url"][:5].lower() == "http:"
        for message in body["messages"]
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _stops_at_blanks(body: Mapping[str, Any]) -> bool:
    stops = body.get("stop") or ()
    return any(stop.isspace() for stop in ([stops] if isinstance(stops, str) else stops))


_LOOKS: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    BLANK_STOPS: _stops_at_blanks,
    CUSTOM_TOOLS: _has_custom_tools,
    LINKED_IMAGES: _has_linked_images,
    PREFILL: _ends_in_prefill,
    SYSTEM_ONLY: _has_no_turn,
}
_READ_FOR_FEATURES: Final = frozenset({"stop", "tools"})
FEATURES: Final = REFUSABLE | _LOOKS.keys()
