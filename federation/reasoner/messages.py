"""The messages between coordinator and sites while a reasoning model is tuned.

Only numbers leave a site: its adapters, and the tokens of right answers to public prompts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
from flwr.app import Message, RecordDict

from federation.errors import PlanRefused, ReplyRejected
from federation.protocol.protocol import Payload, pack_instruction, read_table, unpack_instruction
from federation.protocol.updates import Field, Form
from federation.reasoner.plan import BaseName, Phase, ReasonerPlan
from federation.reasoner.prompts import InvalidPrompt, Prompt, parse_prompts
from federation.reasoner.responses import Response
from federation.site import Profile
from router_models.estimators.arrays import strip_prefix
from router_models.types import Arrays

HELLO: Final = "query.reasoner_hello"
ANSWERS: Final = "train.reasoner_answers"
"""Asks for right answers to public prompts."""
ADAPTERS: Final = "train.reasoner_adapters"
"""Asks for what a round made of the adapters."""
PUBLISH: Final = "query.reasoner_publish"

ADAPTER: Final = "adapter/"
POOL: Final = "pool/"
"""Before the number of a sender and the arrays of its answers."""
PUBLIC: Final = "public"
PROMPTS_USED: Final = "prompts_used"
FIGURES: Final = "figures"
FAR: Final = 1e9
"""No figure is that far from 0, and all of them can be added up."""


@dataclass(frozen=True, slots=True)
class ReasonerProfile(Profile):
    """The profile of a site that tunes a reasoning model.

    Attributes:
        base_sha256: Of the weights of its model.
        tokenizer_sha256: Of its tokenizer.
        prompts: Private ones, rounded up to a power of two.
    """

    base_sha256: str
    tokenizer_sha256: str
    prompts: int


@dataclass(frozen=True, slots=True, eq=False)
class ReasonerInstruction:
    """What a site is asked.

    Attributes:
        number: Of the phase; 0 outside of rounds.
        sent: The session's adapters or other sites' answers, and public prompts.
    """

    plan: ReasonerPlan
    number: int = 0
    sent: Payload = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        """What is to be done.

        Raises:
            PlanRefused: The plan has no such phase.
        """
        phases = self.plan.phases()
        if not 1 <= self.number <= len(phases):
            raise PlanRefused(f"the plan has no phase {self.number}")
        return phases[self.number - 1]

    def to_content(self) -> RecordDict:
        """Lay out for Flower."""
        return pack_instruction(self.plan.to_json(), self.number, self.sent)

    @classmethod
    def from_content(cls, content: RecordDict) -> "ReasonerInstruction":
        """Read `to_content`.

        Raises:
            PlanRefused: The coordinator is of another version.
        """
        plan, number, sent = unpack_instruction(content)
        return cls(ReasonerPlan.from_json(plan), number, sent)

    def adapters(self) -> Payload:
        """Return the adapters that a round begins with."""
        return strip_prefix(ADAPTER, self.sent)

    def public_prompts(self) -> dict[int, list[Prompt]]:
        """Return the public prompts by the number of their step.

        Raises:
            PlanRefused: They cannot be read.
        """
        try:
            tables = json.loads(self.sent[PUBLIC].tobytes())
            # One by one: a small public set has a prompt twice in a batch.
            return {
                int(number): [prompt for one in batch for prompt in parse_prompts([("", one)])]
                for number, batch in tables.items()
            }
        except (KeyError, ValueError, TypeError, AttributeError, InvalidPrompt) as error:
            raise PlanRefused(f"the public prompts cannot be read: {error}") from error

    def foreign(self, prompts: Sequence[Prompt]) -> dict[str, dict[str, list[Response]]]:
        """Return other sites' answers to a step's prompts, by the prompt's id and by sender.

        Raises:
            PlanRefused: They cannot be read.
        """
        arrays = strip_prefix(POOL, self.sent)
        senders = {name.partition("/")[0] for name in arrays}
        found: dict[str, dict[str, list[Response]]] = {prompt.id: {} for prompt in prompts}
        try:
            for sender in sorted(senders):
                for place, response in unpack(strip_prefix(f"{sender}/", arrays)):
                    found[prompts[place].id].setdefault(sender, []).append(response)
        except (KeyError, IndexError, ValueError) as error:
            raise PlanRefused(f"the others' answers cannot be read: {error}") from error
        return found


def read_profile(message: Message) -> ReasonerProfile:
    """Read a site's profile.

    Raises:
        ReplyRejected: It is no profile.
    """
    try:
        profile = ReasonerProfile(**read_table(message))
    except TypeError as error:
        raise ReplyRejected(f"the profile is incomplete or of another version: {error}") from error
    texts = (profile.name, profile.base_sha256, profile.tokenizer_sha256)
    if not all(isinstance(text, str) and text for text in texts):
        raise ReplyRejected("a name in the profile is not text")
    if type(profile.prompts) is not int or profile.prompts < 0:
        raise ReplyRejected("a number in the profile is not a count")
    return profile


def problem_of(profile: ReasonerProfile, base: BaseName) -> str | None:
    """Say why a site cannot tune this model; None where it can."""
    if profile.base_sha256 != base.sha256:
        return (
            f"its weights of {base.id} differ ({profile.base_sha256[:12]}, not "
            f"{base.sha256[:12]}): give it the same files"
        )
    if profile.tokenizer_sha256 != base.tokenizer_sha256:
        return f"its tokenizer of {base.id} differs: give it the same files"
    return None


def lay_out_prompts(batches: Mapping[int, Sequence[Prompt]]) -> Payload:
    """Lay out the public prompts of some steps."""
    tables = {step: [to_table(prompt) for prompt in batch] for step, batch in batches.items()}
    return {PUBLIC: np.frombuffer(json.dumps(tables, sort_keys=True).encode(), np.uint8)}


def to_table(prompt: Prompt) -> dict[str, Any]:
    """Write a prompt as `parse_prompts` reads it."""
    spec = prompt.verifier
    verifier = {each.name: getattr(spec, each.name) for each in fields(spec) if each.init}
    return {
        "query_id": prompt.id,
        "messages": [{"role": one.role, "content": one.content} for one in prompt.messages],
        "verifier": {"kind": spec.kind, **verifier},
        "task": prompt.task,
    }


def pack(answers: Sequence[tuple[int, Response]]) -> Payload:
    """Lay out answers, each with the place of its prompt; their texts are not sent."""
    responses = [response for _, response in answers]
    tokens = [token for response in responses for token in response.tokens]
    seen = [one for response in responses for one in response.log_probabilities]
    return {
        "prompt": np.array([place for place, _ in answers], np.int32),
        "length": np.array([len(response.tokens) for response in responses], np.int32),
        "tokens": np.array(tokens, np.int32),
        "log_probabilities": np.array(seen, np.float32),
    }


def unpack(payload: Arrays) -> list[tuple[int, Response]]:
    """Read `pack`; texts are empty, for whoever wants them reads the tokens."""
    tokens, seen = payload["tokens"].tolist(), payload["log_probabilities"].tolist()
    ends = np.cumsum(payload["length"]).tolist()
    return [
        (place, Response("", tuple(tokens[a:b]), tuple(seen[a:b]), is_complete=True))
        for place, (a, b) in zip(payload["prompt"].tolist(), pairwise((0, *ends)), strict=True)
    ]


def answers_form(plan: ReasonerPlan) -> Form:
    """Say what answers to public prompts look like; whether they are right is for receivers."""
    settings = plan.settings
    most = settings.prompts_per_step * settings.max_per_sender
    longest = settings.max_response_tokens
    several, many = range(most + 1), range(most * longest + 1)
    return Form(
        {
            "prompt": Field((several,), "int32", 0, settings.prompts_per_step - 1),
            "length": Field((several,), "int32", 1, longest),
            "tokens": Field((many,), "int32", 0, plan.base.n_tokens - 1),
            "log_probabilities": Field((many,), "float32", high=0.0),
        },
        lambda payload: _problem_of_answers(payload, settings.max_per_sender),
    )


def adapters_form(plan: ReasonerPlan, current: Arrays, n_figures: int) -> Form:
    """Say what a round's adapters look like: as the current ones."""
    settings = plan.settings
    most = settings.steps_per_round * settings.prompts_per_step
    return Form(
        {
            **{ADAPTER + name: Field(array.shape, "float32") for name, array in current.items()},
            PROMPTS_USED: Field((1,), low=0.0, high=float(most)),
            FIGURES: Field((settings.steps_per_round, n_figures), low=-FAR, high=FAR),
        }
    )


def _problem_of_answers(payload: Payload, most: int) -> str | None:
    n_tokens = int(payload["length"].sum())
    lengths = {len(payload["tokens"]), len(payload["log_probabilities"])}
    if len(payload["prompt"]) != len(payload["length"]) or lengths != {n_tokens}:
        return "the lengths of the answers do not match their tokens"
    if len(payload["prompt"]) and np.bincount(payload["prompt"]).max() > most:
        return f"one prompt has more than {most} answers"
    return None
