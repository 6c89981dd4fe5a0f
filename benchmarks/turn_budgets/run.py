"""Measure budget policies on real samples: `python -m benchmarks.turn_budgets.run --data DIR`.

Learns on train problems, tunes everything on val, measures on test. Writes results.json and the
learning curves beside itself; `python -m benchmarks.turn_budgets.report` makes the other pictures
and README.md of them.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.turn_budgets import problems
from budget.environments.trace import TraceEnvironment
from budget.policies.policy import BudgetPolicy, StaticPolicy
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.training.baselines import baseline_families, cheapest_near_best
from budget.training.evaluate import (
    Comparison,
    Outcomes,
    ParetoFront,
    compare,
    evaluate_policy,
    oracle_front,
)
from budget.training.train import StepFigures, Trainer, TrainingSettings, with_token_price
from gateway.problems.budget_pictures import draw_learning
from gateway.problems.problem_files import build_environment
from gateway.routing.encoders import load_encoder

SEEDS: Final = 5
KINDS: Final = (TabPolicy, AllSubQuestionsPolicy)
NAMES: Final = {"tab": "TAB", "allsubq": "TAB All-SubQ"}
GRID: Final = (64, 128, 256, 512, 1024, 2048)
PAPER_GRID: Final = (256, 512, 1024, 2048, 4096)
PAPER: Final = "paper's reward"


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment and what is trained on it.

    Attributes:
        title: What it is made of.
        rows: Builds it from the folder of samples.
        choices: What the learned policies choose from.
        prices: What a typical static conversation costs, in right answers; one training each.
        has_paper_reward: The paper's own reward is trained as well.
    """

    title: str
    queries: Callable[[Path], Sequence[problems.Query]]
    choices: tuple[int, ...] = GRID
    prices: tuple[float, ...] = (0.03,)
    has_paper_reward: bool = False
    is_socratic: bool = False


SONNET: Final = "claude-sonnet-4"
SETTINGS: Final = {
    "rg_domain": Setting(
        "Reasoning Gym, Claude Sonnet 4, one domain per problem",
        lambda folder: problems.reasoning_gym(folder, SONNET, "domain"),
        prices=(0.03, 0.05, 0.08),
        has_paper_reward=True,
    ),
    "rg_mixed": Setting(
        "Reasoning Gym, Claude Sonnet 4, unrelated sub-questions",
        lambda folder: problems.reasoning_gym(folder, SONNET, None),
    ),
    "rg_paper_grid": Setting(
        "Reasoning Gym, Claude Sonnet 4, the paper's grid of 256 to 4096 tokens",
        lambda folder: problems.reasoning_gym(folder, SONNET, "domain"),
        choices=PAPER_GRID,
    ),
    "zeroeval": Setting(
        "GSM8K, CRUX and MATH level 5 mixed, Llama 3.1 8B",
        lambda folder: problems.zeroeval(folder, "Meta-Llama-3.1-8B-Instruct"),
    ),
    "concise_cot": Setting(
        "Exam questions at four answer lengths, GPT-4, turns as in GSM8K",
        lambda folder: problems.concise_cot(folder, "gpt-4"),
        choices=(64, 128, 256, 512),
        is_socratic=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.out / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for name in arguments.only:
        started = time.process_time()
        measured = measure(name, SETTINGS[name], arguments)
        results[name] = {**measured, "cpu_s": round(time.process_time() - started)}
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(name, results[name]["cpu_s"], "s of CPU")


def measure(name: str, setting: Setting, arguments: argparse.Namespace) -> dict[str, Any]:
    environments = build(setting, arguments.data)
    families = baseline_families(environments["train"], setting.choices)
    unbound = setting.choices[-1] * max(problems.TURNS)
    on_val = [
        evaluate_policy(policy, environments["val"], unbound) for policy in families["static"]
    ]
    typical = round(on_val[cheapest_near_best(on_val)].mean_tokens)
    budgets = {"half": typical // 2, "typical": typical, "unbound": unbound}
    learned, curves = train(setting, environments["train"], budgets, arguments)
    draw_learning(setting.title, curves).savefig(arguments.out / f"{name}_learning.png", dpi=110)
    rows = {
        label: at_budget(budget, families, learned, environments)
        for label, budget in budgets.items()
    }
    oracle = oracle_front(environments["test"], setting.choices[0])
    static = [
        evaluate_policy(policy, environments["test"], unbound) for policy in families["static"]
    ]
    return {
        "title": setting.title,
        "choices": setting.choices,
        "budgets": budgets,
        "problems": {split: one.describe() for split, one in environments.items()},
        "rows": {label: [asdict(row) for row in found] for label, found in rows.items()},
        "oracle": ceiling(rows["unbound"], oracle),
        "fronts": {"static": points(front_of(static)), "oracle": points(oracle)},
    }


def build(setting: Setting, folder: Path) -> dict[str, TraceEnvironment]:
    queries = setting.queries(folder)
    draw_turns = problems.as_socratic(folder) if setting.is_socratic else problems.evenly
    rows = list(problems.build(queries, 0, draw_turns))
    encoder = load_encoder("static")
    return {split: build_environment(rows, encoder, split) for split in problems.N_PROBLEMS}


def train(
    setting: Setting,
    environment: TraceEnvironment,
    budgets: Mapping[str, int],
    arguments: argparse.Namespace,
) -> tuple[dict[str, list[BudgetPolicy]], dict[str, list[list[StepFigures]]]]:
    """Train every kind with every seed; the price of a token is set against a typical problem."""
    typical = budgets["typical"]
    paper = TrainingSettings(
        choices=setting.choices,
        budgets=(typical // 2, typical, 2 * typical, budgets["unbound"]),
        steps=arguments.steps,
    )
    variants = {
        f", price {price:g}": with_token_price(paper, price / typical) for price in setting.prices
    }
    if setting.has_paper_reward:
        variants[f", {PAPER}"] = paper
    policies: dict[str, list[BudgetPolicy]] = {}
    curves: dict[str, list[list[StepFigures]]] = {}
    for kind in KINDS:
        for suffix, settings in variants.items():
            trainers = [
                Trainer.begin(environment, replace(settings, seed=seed), kind)
                for seed in range(arguments.seeds)
            ]
            label = NAMES[kind.kind] + suffix
            policies[label] = [trainer.run() for trainer in trainers]
            curves[label] = [trainer.curve for trainer in trainers]
    return policies, curves


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one budget, on test problems."""

    label: str
    family: str
    figures: Comparison
    val_accuracy: float
    violations: int
    setting: str = ""


def at_budget(
    budget: int,
    families: Mapping[str, Sequence[BudgetPolicy]],
    learned: Mapping[str, Sequence[BudgetPolicy]],
    environments: Mapping[str, TraceEnvironment],
) -> list[Row]:
    """Tune each family on val, and compare all with every static budget on test."""
    val, test = environments["val"], environments["test"]
    static = [evaluate_policy(policy, test, budget) for policy in families["static"]]
    rows = []
    for family, policies in families.items():
        on_val = [evaluate_policy(policy, val, budget) for policy in policies]
        chosen = cheapest_near_best(on_val)
        outcome = evaluate_policy(policies[chosen], test, budget)
        rows.append(row_of(family, family, [outcome], static, on_val[chosen], policies[chosen]))
    for label, policies in learned.items():
        outcomes = [evaluate_policy(policy, test, budget) for policy in policies]
        family = label.partition(",")[0] + (f", {PAPER}" if label.endswith(PAPER) else "")
        rows.append(
            row_of(label, family, outcomes, static, evaluate_policy(policies[0], val, budget))
        )
    return rows


def row_of(
    label: str,
    family: str,
    outcomes: Sequence[Outcomes],
    static: Sequence[Outcomes],
    on_val: Outcomes,
    policy: BudgetPolicy | None = None,
) -> Row:
    return Row(
        label,
        family,
        compare(outcomes, static),
        on_val.accuracy,
        sum(outcome.violations for outcome in outcomes),
        describe(policy),
    )


def describe(policy: BudgetPolicy | None) -> str:
    if policy is None:
        return ""
    if isinstance(policy, StaticPolicy):
        return f"{policy.choices[policy.choice]} tokens"
    names = ("expected_turns", "power", "margin")
    found = [f"{name} {getattr(policy, name):g}" for name in names if hasattr(policy, name)]
    return ", ".join(found)


def ceiling(rows: Sequence[Row], oracle: ParetoFront) -> dict[str, float]:
    """What a clairvoyant would save at the accuracy of the tuned static budget."""
    static = next(row.figures for row in rows if row.label == "static")
    tokens = oracle.tokens_at(static.accuracy[0])
    return {"tokens": tokens, "saved": 1.0 - tokens / static.tokens[0]}


def front_of(outcomes: Sequence[Outcomes]) -> ParetoFront:
    return ParetoFront.from_points(
        np.array([outcome.mean_tokens for outcome in outcomes]),
        np.array([outcome.accuracy for outcome in outcomes]),
    )


def points(front: ParetoFront) -> dict[str, list[float]]:
    """At most 60 points of a front, for the picture."""
    kept = np.unique(np.linspace(0, len(front.tokens) - 1, 60).round().astype(int))
    return {"tokens": front.tokens[kept].tolist(), "accuracy": front.accuracy[kept].tolist()}


if __name__ == "__main__":
    main()
