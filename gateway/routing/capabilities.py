"""Which hosted models can take a request at all, decided before any router is asked.

The prompt's tokens are unknown until a provider counts them, so they are bounded from characters: a
model is ruled out where even the lower bound is too long, and passed over where only the upper
bound is and another model surely has room. So is one that found a prompt too long lately, for all
prompts that are no shorter, where another model did not.
"""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from gateway.budgets.enforcement import own_limit
from gateway.deployments import longest_answer
from gateway.errors import NoCapableModel
from gateway.exact_json import dumps
from gateway.providers.fields import asked_fields, is_admitted, refusal
from gateway.providers.lacks import FEATURES, REFUSABLE, asked_features
from gateway.providers.refusals import LEARNED_NOTHING, NOTHING_LEARNED, Learned
from gateway.routing.candidates import CandidatePool
from gateway.types import Caller, HostedModel, Place
from gateway.wire import ChatRequest
from router_models.errors import NoModelAvailable

MOST_CHARS_PER_TOKEN: Final = 6.0
"""English prose has 4 to 5 with current tokenizers; long texts do not reach 6."""
FEWEST_CHARS_PER_TOKEN: Final = 2.5
"""Code and numbers in ASCII; texts in other alphabets count as `MOST_TOKENS_PER_CHAR`."""
MOST_TOKENS_PER_CHAR: Final = 1.5
TOKENS_PER_MESSAGE: Final = 8
TOKENS_PER_IMAGE: Final = 1_600
"""A large picture at full detail; the lower bound counts none."""

IMAGE_PARTS: Final = frozenset({"image_url", "input_image", "image", "file", "input_file"})
"""Files count as pictures: providers hand the pages of a PDF to models that see."""
AUDIO_PARTS: Final = frozenset({"input_audio", "audio", "audio_url"})
VIDEO_PARTS: Final = frozenset({"video_url", "input_video", "video"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one model can take one request.

    Attributes:
        reason: ``ok``, or why not: ``no_tools``, ``no_vision``, ``no_audio``, ``no_video``,
            ``no_json_schema``, ``context_too_long``, ``context_may_be_too_long``,
            ``output_too_long``, ``field_refused``, ``over_allotment``, ``over_budget``,
            ``unavailable``, or ``no_`` and the name of a feature or field that it lacks.
    """

    is_eligible: bool
    reason: str


OK: Final = Verdict(is_eligible=True, reason="ok")
NO_TOOLS: Final = Verdict(is_eligible=False, reason="no_tools")
NO_VISION: Final = Verdict(is_eligible=False, reason="no_vision")
NO_AUDIO: Final = Verdict(is_eligible=False, reason="no_audio")
NO_VIDEO: Final = Verdict(is_eligible=False, reason="no_video")
NO_JSON_SCHEMA: Final = Verdict(is_eligible=False, reason="no_json_schema")
CONTEXT_TOO_LONG: Final = Verdict(is_eligible=False, reason="context_too_long")
CONTEXT_MAY_BE_TOO_LONG: Final = Verdict(is_eligible=False, reason="context_may_be_too_long")
OUTPUT_TOO_LONG: Final = Verdict(is_eligible=False, reason="output_too_long")
FIELD_REFUSED: Final = Verdict(is_eligible=False, reason="field_refused")
OVER_BUDGET: Final = Verdict(is_eligible=False, reason="over_budget")
OVER_ALLOTMENT: Final = Verdict(is_eligible=False, reason="over_allotment")
UNAVAILABLE: Final = Verdict(is_eligible=False, reason="unavailable")
LACKS: Final = {name: Verdict(is_eligible=False, reason=f"no_{name}") for name in sorted(FEATURES)}

_SPECIAL: Final = (
    ("tools", NO_TOOLS),
    ("vision", NO_VISION),
    ("json_schema", NO_JSON_SCHEMA),
    # No model is known to take these two; a caller who knows better can name one.
    ("audio", NO_AUDIO),
    ("video", NO_VIDEO),
)
"""What `Needs` and `Capabilities` call the same, and the verdict where it is wanting."""


class Needs(NamedTuple):
    """What a request asks of a model.

    Attributes:
        min_prompt_tokens: The prompt has surely no fewer.
        max_prompt_tokens: The prompt has hardly more.
        output_tokens: What the caller reserves for the answer; 0 where it says nothing.
        fields: That a provider must be sent.
        features: Asked for, and not to be had of every model.
    """

    tools: bool
    vision: bool
    audio: bool
    video: bool
    json_schema: bool
    min_prompt_tokens: int
    max_prompt_tokens: int
    output_tokens: int
    fields: frozenset[str]
    features: frozenset[str]


def judge(
    body: Mapping[str, Any],
    pool: CandidatePool,
    paused: Collection[Place],
    learned: Mapping[str, Learned] = NOTHING_LEARNED,
    prompt_tokens: int = 0,
) -> tuple[Verdict, ...]:
    """Give each model a verdict on a decoded chat-completions body.

    Args:
        body: As the caller sent it; parts of unknown form are left for the provider to judge.
        pool: The models the caller may use.
        paused: Provider and upstream name of those whose circuit breaker lets no call through.
        learned: What models refused the caller's team lately, by the models' names.
        prompt_tokens: Of the prompt, as they were counted when it was learned.
    """
    refused = pool.refused
    if learned:
        refused = refused.union(*(one.fields for one in learned.values()))
    needs = read_needs(body, refused)
    special = [(name, verdict) for name, verdict in _SPECIAL if getattr(needs, name)]
    upper = needs.max_prompt_tokens + needs.output_tokens
    room = pool.shared.context_tokens
    has_room_everywhere = room is None or upper <= room
    is_simple = not (paused or needs.features or learned) and has_room_everywhere
    if is_simple and _verdict(needs, special, pool) is OK:
        # As nearly every time: what each of them can take covers the request.
        return (OK,) * len(pool.models)
    verdicts = [_judged(needs, special, model, paused, learned) for model in pool.models]
    _pass_over_narrow(verdicts, pool.models, learned, prompt_tokens, upper)
    return tuple(verdicts)


def without_resting(
    models: Sequence[HostedModel], verdicts: tuple[Verdict, ...], resting: Collection[Place]
) -> tuple[Verdict, ...]:
    """Rule out the models whose places are all `resting`. Where no other is left, all stay."""
    judged = list(zip(models, verdicts, strict=True))
    if not any(verdict.is_eligible and not model.is_at(resting) for model, verdict in judged):
        return verdicts
    return tuple(
        UNAVAILABLE if verdict.is_eligible and model.is_at(resting) else verdict
        for model, verdict in judged
    )


def _judged(
    needs: Needs,
    special: Sequence[tuple[str, Verdict]],
    model: HostedModel,
    paused: Collection[Place],
    learned: Mapping[str, Learned],
) -> Verdict:
    verdict = _verdict(needs, special, model)
    if verdict is OK and needs.features:
        verdict = _lacking(needs.features, model, learned)
    if verdict is OK and paused and model.is_at(paused):
        verdict = UNAVAILABLE
    return verdict


def _pass_over_narrow(
    verdicts: list[Verdict],
    models: Sequence[HostedModel],
    learned: Mapping[str, Learned],
    prompt_tokens: int,
    upper: int,
) -> None:
    """Rule models out that a prompt may be too long for, where another one surely takes it.

    Args:
        upper: Bound of what prompt and answer take together.
    """
    able = [place for place, verdict in enumerate(verdicts) if verdict is OK]
    refused = {place for place in able if _was_too_long(prompt_tokens, models[place], learned)}
    others = [place for place in able if place not in refused]
    limits = {place: models[place].capabilities.context_tokens for place in others}
    narrow = {place for place, limit in limits.items() if limit is not None and upper > limit}
    has_room = any(limit is not None and upper <= limit for limit in limits.values())
    for place in (refused if others else set()) | (narrow if has_room else set()):
        verdicts[place] = CONTEXT_MAY_BE_TOO_LONG


def within_allotment(
    models: Sequence[HostedModel], verdicts: tuple[Verdict, ...], tokens: int
) -> tuple[Verdict, ...]:
    """Rule out the arms whose own output limit is above a turn's allotment.

    A model with an output limit of its own is a pair of model and budget, and what the router
    expects of it holds at that budget. Where no pair fits, all stay: they are cut to fit.
    """
    limits = [own_limit(model) or 0 for model in models]
    judged = zip(verdicts, limits, strict=True)
    if not any(verdict.is_eligible and limit <= tokens for verdict, limit in judged):
        return verdicts
    return tuple(
        OVER_ALLOTMENT if verdict.is_eligible and limit > tokens else verdict
        for verdict, limit in zip(verdicts, limits, strict=True)
    )


def no_model(
    request: ChatRequest, caller: Caller, pool: CandidatePool, verdicts: tuple[Verdict, ...]
) -> Exception:
    """Say whether waiting helps, as a model that could answer is down, or another request."""
    if not pool.models:
        all_of_them = " and ".join(("this key", *caller.data_rules, "this profile"))
        return NoCapableModel(f"No served model is allowed by {all_of_them}.")
    if all(verdict == FIELD_REFUSED for verdict in verdicts):
        return refusal(request.body, pool.models)
    reasons = ", ".join(f"{n}: {v.reason}" for n, v in zip(pool.names, verdicts, strict=True))
    message = f"No model can take this request ({reasons})."
    if any(verdict == UNAVAILABLE for verdict in verdicts):
        return NoModelAvailable(message)
    return NoCapableModel(message)


def within_budget(
    models: Sequence[HostedModel], verdicts: tuple[Verdict, ...], among: Container[str]
) -> tuple[Verdict, ...]:
    """Rule out the models that budgets have no money left for."""
    judged = zip(models, verdicts, strict=True)
    return tuple(
        OVER_BUDGET if verdict.is_eligible and model.name not in among else verdict
        for model, verdict in judged
    )


def read_needs(body: Mapping[str, Any], refused: frozenset[str] = frozenset()) -> Needs:
    """Work out what a decoded chat-completions body needs; never raises on its form.

    Args:
        refused: Features that not every model has.
    """
    tally = _Tally()
    tools = _fill(tally, body, "tools") | _fill(tally, body, "functions")
    messages = body.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict):
                tally.read_message(message)
    response_format = body.get("response_format")
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_schema":
        tally.read_json(response_format)
    modalities = body.get("modalities")
    return Needs(
        tools=tools or tally.calls_tools,
        vision=tally.images > 0,
        audio=tally.has_audio or (isinstance(modalities, list) and "audio" in modalities),
        video=tally.has_video,
        json_schema=kind == "json_schema",
        min_prompt_tokens=int(tally.min_tokens),
        max_prompt_tokens=int(tally.max_tokens) + tally.images * TOKENS_PER_IMAGE,
        output_tokens=_output_tokens(body),
        fields=asked_fields(body),
        features=asked_features(body, refused, has_images=tally.images > 0),
    )


def _verdict(
    needs: Needs, special: Sequence[tuple[str, Verdict]], host: HostedModel | CandidatePool
) -> Verdict:
    if isinstance(host, CandidatePool):
        can, longest = host.shared, host.shared.max_output_tokens
    else:
        can, longest = host.capabilities, longest_answer(host)
    if not is_admitted(needs.fields, host.fields):
        return FIELD_REFUSED
    for name, verdict in special:
        if not getattr(can, name, False):
            return verdict
    if longest is not None and needs.output_tokens > longest:
        return OUTPUT_TOO_LONG
    lower = needs.min_prompt_tokens + needs.output_tokens
    if can.context_tokens is not None and lower > can.context_tokens:
        return CONTEXT_TOO_LONG
    return OK


def _was_too_long(tokens: int, model: HostedModel, learned: Mapping[str, Learned]) -> bool:
    """Whether `model` refused a prompt that was no longer than one of so many tokens."""
    refused = learned.get(model.name, LEARNED_NOTHING).too_long_tokens
    return refused is not None and tokens >= refused


def _lacking(
    features: frozenset[str], model: HostedModel, learned: Mapping[str, Learned]
) -> Verdict:
    """Rule `model` out where it lacks one of the features."""
    lacking = features & model.lacks.refused
    if learned:
        lacking |= features & REFUSABLE & learned.get(model.name, LEARNED_NOTHING).fields
    return LACKS[min(lacking)] if lacking else OK


class _Tally:
    """Adds up what the parts of a prompt need."""

    __slots__ = ("calls_tools", "has_audio", "has_video", "images", "max_tokens", "min_tokens")

    def __init__(self) -> None:
        self.calls_tools = False
        self.has_audio = False
        self.has_video = False
        self.images = 0
        self.min_tokens = 0.0
        self.max_tokens = 0.0

    def read_text(self, text: str) -> None:
        """Bound the tokens of `text`."""
        n_chars = len(text)
        self.min_tokens += n_chars / MOST_CHARS_PER_TOKEN
        if text.isascii():
            self.max_tokens += n_chars / FEWEST_CHARS_PER_TOKEN
        else:
            self.max_tokens += n_chars * MOST_TOKENS_PER_CHAR

    def read_json(self, value: object) -> None:
        """Bound the tokens of a schema, as it would be put into the prompt."""
        try:
            n_bytes = len(dumps(value))
        except orjson.JSONEncodeError:
            return  # nested deeper than orjson writes, though it reads it: nobody can send it on
        self.min_tokens += n_bytes / MOST_CHARS_PER_TOKEN
        self.max_tokens += n_bytes / FEWEST_CHARS_PER_TOKEN

    def read_message(self, message: Mapping[str, Any]) -> None:
        """Add one message."""
        self.max_tokens += TOKENS_PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            self.read_text(content)
        elif isinstance(content, list):
            self._read_parts(content)
        if message.get("role") in ("tool", "function"):
            self.calls_tools = True
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            self.calls_tools = True
            self.read_json(calls)

    def _read_parts(self, parts: Sequence[object]) -> None:
        for part in parts:
            if not isinstance(part, dict):
                continue
            text = part.get("text")
            if isinstance(text, str):
                self.read_text(text)
            kind = part.get("type")
            if not isinstance(kind, str):
                continue
            self.images += kind in IMAGE_PARTS
            self.has_audio |= kind in AUDIO_PARTS
            self.has_video |= kind in VIDEO_PARTS


def _fill(tally: _Tally, body: Mapping[str, Any], field: str) -> bool:
    """Add the tools a caller offers; they are part of the prompt."""
    tools = body.get(field)
    if not isinstance(tools, list) or not tools:
        return False
    tally.read_json(tools)
    return True


def _output_tokens(body: Mapping[str, Any]) -> int:
    """What the caller reserves; anything but a whole number is left for the provider to refuse."""
    for field in ("max_completion_tokens", "max_tokens"):
        value = body.get(field)
        if type(value) is int and value > 0:
            return value
    return 0
