"""Conversations of four verifiable questions, and a policy learned from other such questions."""

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import pyarrow.parquet as pq

from budget.policies.artifact import dump
from budget.policies.policy import StoredPolicy
from budget.policies.tab import TabPolicy
from budget.training.train import Trainer, TrainingSettings, with_token_price
from gateway.embedded.routers import DATA
from gateway.problems.calibration import CalibrationPrompt, parse_prompts, read_json_lines
from gateway.problems.problem_files import ProblemRow, build_environment
from gateway.routing.encoders import load_encoder

MODEL: Final = "smollm2-135m-steps"
TURNS: Final = 4
CHOICES: Final = (16, 32, 64, 128)
BUDGET_TOKENS: Final = 128
TRAIN_PROBLEMS: Final = 400
TRAIN_STEPS: Final = 150
TOKEN_PRICE: Final = 0.0005
"""Of a token, in shares of right answers: the whole budget is worth 6 % of them."""

Conversation = tuple[CalibrationPrompt, ...]


def read_prompts() -> tuple[list[CalibrationPrompt], list[CalibrationPrompt]]:
    """Return questions to learn from and questions to ask, half of every task each."""
    halves: tuple[list[CalibrationPrompt], list[CalibrationPrompt]] = ([], [])
    by_task = _by_task(parse_prompts(read_json_lines(DATA / "prompts.jsonl")))
    for prompts in by_task.values():
        for number, prompt in enumerate(sorted(prompts, key=lambda one: one.query_id)):
            halves[number % 2].append(prompt)
    return halves


def draw(prompts: Sequence[CalibrationPrompt], count: int, seed: int) -> list[Conversation]:
    """Draw conversations whose turns are of different tasks."""
    rng, by_task = random.Random(seed), _by_task(prompts)
    return [
        tuple(rng.choice(by_task[task]) for task in rng.sample(sorted(by_task), TURNS))
        for _ in range(count)
    ]


def learn_policy(prompts: Sequence[CalibrationPrompt], seed: int = 0) -> bytes:
    """Train TAB on the answers of the packaged evaluations: asked alone, in full, once each.

    One turn of each problem decides, which the policy cannot see: so it learns to get as many
    turns right as it can.
    """
    table = pq.read_table(DATA / "evaluations.parquet").to_pylist()
    answers = {row["query_id"]: row for row in table if row["model"] == MODEL}
    rows = [
        ProblemRow(
            problem_id=f"{number}",
            turn=turn,
            text=prompt.text,
            sample=0,
            completion_tokens=answers[prompt.query_id]["completion_tokens"],
            score=answers[prompt.query_id]["score"],
            is_decisive=turn == number % TURNS,
        )
        for number, conversation in enumerate(draw(prompts, TRAIN_PROBLEMS, seed))
        for turn, prompt in enumerate(conversation)
    ]
    encoder = load_encoder("static")
    settings = TrainingSettings(
        choices=CHOICES, budgets=(BUDGET_TOKENS,), steps=TRAIN_STEPS, seed=seed
    )
    trainer = Trainer.begin(
        build_environment(rows, encoder), with_token_price(settings, TOKEN_PRICE), TabPolicy
    )
    return seal(trainer.run())


def seal(policy: StoredPolicy) -> bytes:
    """Make an artefact of a policy."""
    return dump(
        policy,
        load_encoder("static"),
        created_at=datetime.now(UTC),
        training={"steps": TRAIN_STEPS, "token_price": TOKEN_PRICE},
        provenance={"train_problems": TRAIN_PROBLEMS},
    )


def _by_task(prompts: Sequence[CalibrationPrompt]) -> dict[str, list[CalibrationPrompt]]:
    by_task: dict[str, list[CalibrationPrompt]] = defaultdict(list)
    for prompt in prompts:
        by_task[prompt.task].append(prompt)
    return by_task
