"""A site's part in tuning a reasoning model: takes steps, answers public prompts, sends adapters.

Nothing is remembered between messages but what `States` keeps, so it makes no difference whether a
node was restarted in between, and a message that comes twice gets the same answer.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
from flwr.app import Message, RecordDict

from federation.errors import PlanRefused, ReplyRejected
from federation.protocol.protocol import ARRAYS, Payload, answer, published, to_record
from federation.reasoner.messages import (
    ADAPTER,
    ADAPTERS,
    ANSWERS,
    FIGURES,
    HELLO,
    PROMPTS_USED,
    PUBLISH,
    ReasonerInstruction,
    ReasonerProfile,
    adapters_form,
    answers_form,
    pack,
)
from federation.reasoner.plan import ReasonerPlan, Step
from federation.reasoner.prompts import Prompt, batch_of
from federation.reasoner.responses import Response
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.states import State, States
from federation.site import Verdict
from router_models.estimators.arrays import add_prefix
from router_models.types import Arrays

NO_PART: Final = "this site takes no part in tuning a reasoning model"

logger = logging.getLogger(__name__)


class OwnAnswers(Protocol):
    """Own answers to a public prompt."""

    @property
    def shared(self) -> Sequence[Response]:
        """Those that are right and complete."""
        ...


class Learner(Protocol):
    """What `federation.reasoner.trainer.Learner` is to its client; that one needs torch.

    Attributes:
        step: Steps taken in the session.
        prompts_used: Prompts that taught since the round began.
    """

    step: int
    prompts_used: int

    def start_round(self, weights: Mapping[str, Any], round_: int) -> None:
        """Take over the session's adapters."""
        ...

    def private_step(self, prompts: Sequence[Prompt]) -> Sequence[float]:
        """Answer private prompts and learn; returns figures."""
        ...

    def answer_public(self, prompts: Sequence[Prompt]) -> Sequence[OwnAnswers]:
        """Answer public prompts; asked again before the step, the answers are the same."""
        ...

    def public_step(
        self, own: Sequence[Any], foreign: Mapping[str, Mapping[str, Sequence[Response]]]
    ) -> Sequence[float]:
        """Learn from public prompts and from others' answers, by prompt and sender."""
        ...

    def weights(self) -> Arrays:
        """Return the adapters by name."""
        ...

    def checkpoint(self) -> Mapping[str, Any]:
        """Return everything that `resume` needs."""
        ...

    def resume(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on where a learner of the same session stopped."""
        ...


class ReasonerSite(Protocol):
    """One organisation's private prompts and its copy of the model."""

    def profile(self) -> ReasonerProfile:
        """Say what there is to learn from, and take the prompts of a new session.

        Raises:
            PlanRefused: There is too little.
        """
        ...

    def prompts(self) -> Sequence[Prompt]:
        """Return the private prompts."""
        ...

    def learner(self, plan: ReasonerPlan) -> Learner:
        """Make a learner that has not learned anything."""
        ...

    def states(self, session: str) -> States:
        """Return where this site stands in a session; others are forgotten."""
        ...

    def receive(self, artifact: bytes, signature: bytes | None) -> Verdict:
        """Judge what came out."""
        ...


@dataclass(slots=True)
class ReasonerClient:
    """Answers for a site.

    Attributes:
        site: Whose prompts are learned from; None refuses everything.
    """

    site: ReasonerSite | None
    _own: dict[tuple[str, int], Sequence[OwnAnswers]] = field(default_factory=dict, init=False)
    """Own answers of the last phase, by session and step, so that they are drawn only once."""

    def answers(self) -> dict[str, Callable[[Message], RecordDict]]:
        """List what is answered, by Flower's message type."""
        return {
            HELLO: self._on_hello,
            ANSWERS: self._work,
            ADAPTERS: self._work,
            PUBLISH: self._hear,
        }

    def _on_hello(self, message: Message) -> RecordDict:
        ReasonerInstruction.from_content(message.content)
        return answer(self._taking_part().profile())

    def _hear(self, message: Message) -> RecordDict:
        instruction = ReasonerInstruction.from_content(message.content)
        return answer(self._taking_part().receive(*published(instruction.sent)))

    def _work(self, message: Message) -> RecordDict:
        instruction = ReasonerInstruction.from_content(message.content)
        payload = self.work(self._taking_part(), instruction)
        return RecordDict({ARRAYS: to_record(payload)})

    def _taking_part(self) -> ReasonerSite:
        if self.site is None:
            raise PlanRefused(NO_PART)
        return self.site

    def work(self, site: ReasonerSite, instruction: ReasonerInstruction) -> Payload:
        """Do one phase, or resume it where it was interrupted.

        Raises:
            PlanRefused: The round began without this site, or its prompts or adapters do not fit.
            ReplyRejected: The answer is not what may leave, such as after training diverged.
        """
        plan, phase = instruction.plan, instruction.phase
        states, question = site.states(plan.session), digest_of(instruction)
        state = states.read(phase.number)
        if state is not None and state.question == question and state.answer is not None:
            return state.answer
        learner = site.learner(plan)
        if state is None or state.question != question:
            state = _begin(learner, states, instruction, question)
        learner.resume(state.learner)
        public = instruction.public_prompts()
        for step in phase.steps:
            if step.number <= learner.step:
                continue
            figures = self._take(step, learner, site, instruction, public)
            figured = (*state.figures, tuple(map(float, figures)))
            state = replace(state, learner=learner.checkpoint(), figures=figured)
            states.write(state)
        try:
            payload = self._answer(learner, instruction, state, public)
        except ReplyRejected:
            states.clear()  # whatever is wrong must not follow the site into the next round
            raise
        states.write(replace(state, answer=payload))
        return payload

    def _take(
        self,
        step: Step,
        learner: Learner,
        site: ReasonerSite,
        instruction: ReasonerInstruction,
        public: Mapping[int, Sequence[Prompt]],
    ) -> Sequence[float]:
        plan, phase = instruction.plan, instruction.phase
        if not step.is_public:
            size = plan.settings.prompts_per_step
            return learner.private_step(batch_of(site.prompts(), size, step.turn, plan.seed))
        prompts = public[step.number]
        if phase.begins_round or step != phase.steps[0]:
            return learner.public_step(learner.answer_public(prompts), {})
        own = self._own.pop((plan.session, step.number), None) or learner.answer_public(prompts)
        return learner.public_step(own, instruction.foreign(prompts))

    def _answer(
        self,
        learner: Learner,
        instruction: ReasonerInstruction,
        state: State,
        public: Mapping[int, Sequence[Prompt]],
    ) -> Payload:
        plan, phase = instruction.plan, instruction.phase
        if phase.answered is None:
            weights = learner.weights()
            payload = {
                **add_prefix(ADAPTER, weights),
                PROMPTS_USED: np.array([learner.prompts_used], np.float64),
                FIGURES: np.array(state.figures, np.float64),
            }
            adapters_form(plan, weights, len(state.figures[0])).check(payload)
            return payload
        own = learner.answer_public(public[phase.answered.number])
        payload = pack(
            [
                (place, response)
                for place, one in enumerate(own)
                for response in answers_to_share(one.shared, plan.settings)
            ]
        )
        answers_form(plan).check(payload)
        self._own = {(plan.session, phase.answered.number): own}
        return payload


def answers_to_share(responses: Sequence[Response], settings: ReasonerSettings) -> list[Response]:
    """Choose which of a prompt's right answers leave: copies once, and as many as are admitted."""
    fitting = {
        each.tokens: each
        for each in reversed(responses)
        if len(each.tokens) == len(each.log_probabilities) <= settings.max_response_tokens
    }
    return list(islice(reversed(fitting.values()), settings.max_per_sender))


def digest_of(instruction: ReasonerInstruction) -> str:
    """Return the SHA-256 of everything that a phase depends on besides the site's own state."""
    digest = sha256(f"{instruction.number} {instruction.plan.to_json()}".encode())
    for name, array in sorted(instruction.sent.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _begin(
    learner: Learner, states: States, instruction: ReasonerInstruction, question: str
) -> State:
    """Return the state that a phase begins with.

    Raises:
        PlanRefused: The round began without this site, or its adapters are another model's.
    """
    phase = instruction.phase
    if not phase.begins_round:
        previous = states.read(phase.number - 1)
        if previous is None or previous.answer is None:
            raise PlanRefused("this round started without this site; it takes part in the next one")
        return replace(previous, number=phase.number, question=question, answer=None)
    previous = states.read_before(phase.number)
    try:
        if previous is not None:
            learner.resume(previous.learner)
        learner.start_round(instruction.adapters(), phase.round)
    except ValueError as error:
        raise PlanRefused(f"the round cannot start: {error}") from error
    return State(phase.number, question, learner.checkpoint())
