"""The whole loop on this machine: traffic, grades, a training, and what the new router is worth.

READ `demonstrate` FIRST. Everything but the questions is what an operator has: a gateway that
serves, callers that ask and grade, a step of the learner. The questions by which routers are
compared are never graded in the log, so nothing learns from them.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from gateway.access.keys import KeyStore
from gateway.demo.asking import Answer, Caller, for_each, wait_until_ready
from gateway.demo.questions import Question, draw_questions
from gateway.demo.report import (
    Course,
    Outcome,
    best_alone,
    compare,
    moved,
    table_of_courses,
    table_of_traffic,
)
from gateway.demo.serving import SETTINGS, Address, serving
from gateway.embedded.variants import embedded_models
from gateway.learning.opening import open_learner
from gateway.learning.watching import step_with_lease
from gateway.settings.config import GatewaySettings, load_settings
from gateway.settings.routing import DEFAULT_PROFILES
from gateway.storage.engines import opened
from router_models.verifiers.verifiers import parse_verifier, verify

TEAM: Final = "default"
EPSILON: Final = 0.75
PAID_USD: Final = DEFAULT_PROFILES["balanced"].willingness_to_pay_usd
SWAP_TIMEOUT_S: Final = 30.0
"""A gateway that did not take up an activated router by then is broken."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Examination:
    """Questions that nobody learns from; a model that was asked one is not asked it again.

    The embedded models decode greedily: they would say the same.
    """

    address: Address
    questions: Sequence[Question]
    _answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def by_router(self) -> tuple[str, Course]:
        """Ask those whom the router that serves finds best; returns its version too."""
        choices = for_each(self.address, self.questions, Caller.choice)
        version = choices[0].router_version or "the default model"
        return version, self._take(version, [choice.model for choice in choices])

    def by_model(self, model: str) -> Course:
        """Ask one model all questions."""
        return self._take(f"always {model}", [model] * len(self.questions))

    def _take(self, name: str, models: Sequence[str]) -> Course:
        pairs = list(zip(self.questions, models, strict=True))
        missing = [pair for pair in pairs if (pair[0].text, pair[1]) not in self._answers]

        async def ask(caller: Caller, pair: tuple[Question, str]) -> Answer:
            return await caller.ask(*pair)

        with click.progressbar(length=len(missing), label="   asking", show_pos=True) as bar:
            answers = for_each(self.address, missing, ask, lambda: bar.update(1))
        for (question, model), answer in zip(missing, answers, strict=True):
            self._answers[question.text, model] = answer
        return Course(name, [self._outcome(*pair) for pair in pairs])

    def _outcome(self, question: Question, model: str) -> Outcome:
        answer = self._answers[question.text, model]
        score = verify(parse_verifier(question.verifier), answer.text)
        return Outcome(question.kind, model, score, answer.cost_usd)


def demonstrate(
    folder: Path,
    environ: Mapping[str, str],
    say: Say,
    *,
    turns: int,
    held_out: int,
    seed: int,
) -> None:
    """Run the loop once in `folder`, and say what comes of each step.

    Args:
        turns: Questions of callers, from whose grades the learner learns.
        held_out: Questions by which routers are compared.
        seed: Draws the questions.

    Raises:
        ClickException: The gateway does not start, or fails.
    """
    rng = random.Random(seed)  # noqa: S311 (questions are no secret)
    questions = draw_questions(rng, turns + held_out)
    settings = _settings(folder)
    say(f"Five variants of a small model answer {len(questions)} questions on this machine.")
    with serving(folder / "waypost.toml", environ) as address:
        wait_until_ready(address)
        # Verifiers read the answers that a team lets the gateway keep.
        with opened(settings) as engine:
            KeyStore(engine).update_team(TEAM, trains_reasoner=True)
        examination = Examination(address, questions[:held_out])
        say(f"\n1. Before: {held_out} questions to a gateway that has no grade and no router.")
        _, before = examination.by_router()
        say(f"\n2. Traffic: {turns} other questions to `auto`. {EPSILON:.0%} of them explore.")
        say("   Each answer is graded by POST /v1/feedback with what is right.")
        traffic = _traffic(address, questions[held_out:])
        for line in table_of_traffic(traffic):
            say(f"   {line}")
        say("\n3. Learning: one step of the learner.")
        activated = _learn(settings, say)
        if activated is None:
            say("\nNo new router serves, so there is nothing to compare.")
            return
        _wait_for(address, questions[0], activated)
        single = best_alone(traffic, PAID_USD)
        say(f"\n4. After: the questions of step 1 to the new router, and to {single} alone,")
        say("   which had the best grades.")
        _, after = examination.by_router()
        alone = examination.by_model(single)
    _report(say, before, alone, after)


def _settings(folder: Path) -> GatewaySettings:
    file = folder / "waypost.toml"
    text = SETTINGS.format(
        folder=json.dumps(str(folder)),
        epsilon=EPSILON,
        willingness_to_pay_usd=PAID_USD,
        models=json.dumps(list(embedded_models())),
    )
    file.write_text(text, encoding="utf-8")
    return load_settings(file, {})


def _traffic(address: Address, questions: Sequence[Question]) -> list[Outcome]:
    async def turn(caller: Caller, question: Question) -> Outcome:
        answer = await caller.ask(question)
        score = await caller.grade(answer, question)
        return Outcome(question.kind, answer.model, score, answer.cost_usd)

    with click.progressbar(length=len(questions), label="   asking", show_pos=True) as bar:
        return for_each(address, questions, turn, lambda: bar.update(1))


def _learn(settings: GatewaySettings, say: Say) -> str | None:
    """Take a step of the learner; returns the router that serves then, if a new one does."""
    with opened(settings) as engine:
        events = step_with_lease(open_learner(settings, engine), is_forced=True) or ()
    for event in events:
        say(f"   {event.what} {event.router_version or ''}")
        say(f"      {event.why}")
    return next((event.router_version for event in events if event.what == "activated"), None)


def _wait_for(address: Address, question: Question, version: str) -> None:
    """Wait until the running gateway has taken up the new router."""
    deadline = time.monotonic() + SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        (choice,) = for_each(address, [question], Caller.choice)
        if choice.router_version == version:
            return
        time.sleep(0.1)
    raise click.ClickException(f"the gateway did not take up {version}")


def _report(say: Say, before: Course, alone: Course, after: Course) -> None:
    say("")
    for line in table_of_courses((before, alone, after)):
        say(line)
    say("")
    for kind, (former, latter) in moved(before, after).items():
        say(f"{kind:<10}{former} -> {latter}")
    say(f"\nWorth to callers who pay {PAID_USD:g} USD for a right answer, less the cost, with 95 %")
    say(f"intervals over the {len(after.outcomes)} questions: the new router is")
    for other in (before, alone):
        say(f"- {compare(after, other, PAID_USD)}")
