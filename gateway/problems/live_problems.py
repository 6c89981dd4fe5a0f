"""Multi-turn problems asked live: any OpenAI-compatible endpoint solves, verifiers grade."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

from budget.environments.conversation import Answer, Problem
from budget.errors import InvalidProblems
from router_models.types import Encoder
from router_models.verifiers.verifiers import (
    InvalidVerifier,
    NotVerifiable,
    VerifierSpec,
    parse_verifier,
    verify,
)


class SolverFailed(Exception):
    """The endpoint gave no answer; the message says what it gave instead."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who solves.

    Attributes:
        http: Client whose base URL is the endpoint's ``/v1``, with its key.
        model: Name of the model there.
        limit_field: What the endpoint calls the limit of completion tokens.
        options: Further fields of every request, such as a temperature.
    """

    http: httpx2.Client
    model: str
    limit_field: str = "max_tokens"
    options: Mapping[str, Any] = field(default_factory=dict)

    def complete(self, messages: Sequence[Mapping[str, str]], limit: int) -> tuple[str, int, bool]:
        """Return text, completion tokens, and whether the limit cut it off.

        Raises:
            SolverFailed: There is no answer, or it does not say what it used.
        """
        body = {"model": self.model, "messages": messages, self.limit_field: limit}
        try:
            response = self.http.post("/chat/completions", json={**self.options, **body})
        except httpx2.TransportError as error:
            raise SolverFailed(f"{self.http.base_url}: {error!r}") from error
        if response.status_code != 200:
            raise SolverFailed(f"status {response.status_code}: {response.text[:200]}")
        try:
            found = response.json()
            choice = found["choices"][0]
            tokens = int(found["usage"]["completion_tokens"])
            return choice["message"]["content"] or "", tokens, choice["finish_reason"] == "length"
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SolverFailed(
                f"not a chat completion with its usage: {response.text[:200]}"
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class LiveSolver:
    """One conversation with the endpoint.

    Attributes:
        endpoint: Who answers.
        texts: The sub-questions.
        verifiers: Of the same.
        messages: What was said so far.
    """

    endpoint: Endpoint
    texts: Sequence[str]
    verifiers: Sequence[VerifierSpec]
    messages: list[dict[str, str]] = field(default_factory=list)

    def answer(self, turn: int, allotted_tokens: int) -> Answer:
        """Ask the sub-question with everything said so far; nothing is asked for 0 tokens.

        Raises:
            SolverFailed: The endpoint gave no answer, or none that can be checked.
        """
        self.messages.append({"role": "user", "content": self.texts[turn]})
        if allotted_tokens == 0:
            self.messages.append({"role": "assistant", "content": ""})
            return Answer(0, is_right=False, was_cut_off=True)
        text, tokens, was_cut_off = self.endpoint.complete(self.messages, allotted_tokens)
        self.messages.append({"role": "assistant", "content": text})
        try:
            is_right = verify(self.verifiers[turn], text) == 1.0
        except NotVerifiable as error:
            raise SolverFailed(f"an answer cannot be graded: {error}") from error
        return Answer(tokens, is_right=is_right, was_cut_off=was_cut_off)


@dataclass(frozen=True, slots=True, eq=False)
class LiveEnvironment:
    """Problems that an endpoint solves while a policy learns or is measured.

    Attributes:
        problems: What can be asked.
        verifiers: Per problem and turn.
        endpoint: Who solves; its sampling is its own, so equal generators give unequal answers.
    """

    problems: tuple[Problem, ...]
    verifiers: tuple[tuple[VerifierSpec, ...], ...]
    endpoint: Endpoint

    def start(self, problem: int, rng: np.random.Generator, rollouts: int = 1) -> list[LiveSolver]:
        """Begin as many conversations of their own."""
        del rng
        texts, verifiers = self.problems[problem].texts, self.verifiers[problem]
        return [LiveSolver(self.endpoint, texts, verifiers) for _ in range(rollouts)]


def parse_live_problems(
    tables: Iterable[tuple[str, Mapping[str, Any]]], encoder: Encoder, endpoint: Endpoint
) -> LiveEnvironment:
    """Read problems from tables, each with the words that tell a reader where it stands.

    Args:
        tables: Such as `gateway.problems.calibration.read_json_lines` reads: `problem_id` and
            `sub_questions`, a list of tables with `text`, `verifier` and maybe `is_decisive`.
        encoder: Embeds the sub-questions.
        endpoint: Who solves.

    Raises:
        InvalidProblems: There is none, or a field is missing or wrong.
    """
    problems, verifiers = [], []
    for where, table in tables:
        try:
            turns = list(table["sub_questions"])
            texts = tuple(str(turn["text"]) for turn in turns)
            verifiers.append(tuple(parse_verifier(turn["verifier"]) for turn in turns))
            is_decisive = tuple(bool(turn.get("is_decisive", True)) for turn in turns)
            problem_id = str(table["problem_id"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidProblems(
                f"{where}: `problem_id` and `sub_questions`, each with `text` and `verifier`, "
                f"are needed ({error!r})"
            ) from error
        except InvalidVerifier as error:
            raise InvalidProblems(f"{where}: verifier: {error}") from error
        if not texts or not all(texts):
            raise InvalidProblems(f"{where}: a problem needs sub-questions, none of them empty")
        problems.append(Problem(problem_id, texts, encoder.encode(texts), is_decisive))
    if not problems:
        raise InvalidProblems("the file holds no problem")
    return LiveEnvironment(tuple(problems), tuple(verifiers), endpoint)
