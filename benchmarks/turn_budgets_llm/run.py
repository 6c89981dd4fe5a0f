"""Train a small language model as the budgeter, beside TAB, on the problems of turn_budgets.

`python -m benchmarks.turn_budgets_llm.run --data DIR --model DIR_OR_HUB_ID [--gguf FILE]`
writes results.json beside itself. A run that was stopped goes on from --checkpoint.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.turn_budgets import problems
from benchmarks.turn_budgets.run import SETTINGS, build
from benchmarks.turn_budgets_llm.llm_policy import LlmPolicy
from benchmarks.turn_budgets_llm.llm_train import LlmTrainer, adapt
from budget.environments.trace import TraceEnvironment
from budget.policies.policy import BudgetPolicy
from budget.policies.tab import TabPolicy
from budget.training.baselines import baseline_families, cheapest_near_best
from budget.training.evaluate import Outcomes, compare, evaluate_policy
from budget.training.train import Trainer, TrainingSettings, with_token_price

RANK: Final = 8
LAST_LAYERS: Final = 6
PRICE: Final = 0.06
"""Right answers that a typical static conversation's tokens cost."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--model", required=True, help="folder or hub id of a causal model")
    parser.add_argument("--gguf", help="name of a GGUF file there")
    parser.add_argument("--only", default="zeroeval", choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--train-cpu-s", type=float, default=480.0, help="no step begins after it")
    parser.add_argument("--tab-steps", type=int, default=200)
    parser.add_argument("--test-problems", type=int, default=100)
    parser.add_argument("--checkpoint", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = SETTINGS[arguments.only]
    environments = build(setting, arguments.data)
    static = baseline_families(environments["train"], setting.choices)["static"]
    unbound = setting.choices[-1] * max(problems.TURNS)
    on_val = [evaluate_policy(policy, environments["val"], unbound) for policy in static]
    tuned = cheapest_near_best(on_val)
    settings = with_token_price(
        TrainingSettings(
            choices=setting.choices,
            budgets=(unbound,),
            steps=arguments.steps,
            groups_per_step=8,
            group_size=16,
            epochs=1,
        ),
        PRICE / on_val[tuned].mean_tokens,
    )
    trained, training = train(settings, environments["train"], arguments)
    test = environments["test"].select(range(arguments.test_problems))
    played = {name: timed(policy, test, unbound) for name, policy in trained.items()}
    family = [evaluate_policy(policy, test, unbound) for policy in static]
    played["static"] = (family[tuned], 0.0)
    results = {
        "title": setting.title,
        "choices": setting.choices,
        "budget_tokens": unbound,
        "test_problems": arguments.test_problems,
        "settings": asdict(settings),
        "lora": {"rank": RANK, "last_layers": LAST_LAYERS},
        "training": training,
        "rows": {
            name: {**asdict(compare([outcomes], family)), "decision_cpu_ms": cpu_ms}
            for name, (outcomes, cpu_ms) in played.items()
        },
    }
    file = Path(__file__).with_name("results.json")
    file.write_text(json.dumps(results, indent=1) + "\n")


def train(
    settings: TrainingSettings, environment: TraceEnvironment, arguments: argparse.Namespace
) -> tuple[dict[str, BudgetPolicy], dict[str, Any]]:
    """Train the language model, TAB on as many rollouts, and TAB on as many as it likes."""
    llm, llm_cpu_s = train_llm(replace(settings, learning_rate=2e-3), environment, arguments)
    usual = TrainingSettings(choices=settings.choices, budgets=settings.budgets)
    usual = replace(with_token_price(usual, settings.penalty), steps=arguments.tab_steps)
    policies: dict[str, BudgetPolicy] = {"language model": llm.policy}
    training: dict[str, Any] = {"language model": {"cpu_s": llm_cpu_s, "curve": llm.curve}}
    as_many = replace(settings, steps=len(llm.curve))
    for name, tab_settings in (("TAB, as many rollouts", as_many), ("TAB", usual)):
        trainer = Trainer.begin(environment, tab_settings, TabPolicy)
        started = time.process_time()
        policies[name] = trainer.run()
        cpu_s = round(time.process_time() - started, 1)
        training[name] = {"cpu_s": cpu_s, "curve": trainer.curve}
    return policies, training


def train_llm(
    settings: TrainingSettings, environment: TraceEnvironment, arguments: argparse.Namespace
) -> tuple[LlmTrainer, float]:
    """Take steps until CPU or steps are spent; also CPU seconds, those before a stop included."""
    where = {"gguf_file": arguments.gguf} if arguments.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, **where)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, **where)
    adapted = adapt(model, rank=RANK, last_layers=LAST_LAYERS, seed=settings.seed)
    policy = LlmPolicy.begin(settings.choices, adapted.eval(), tokenizer)
    trainer = LlmTrainer.begin(environment, settings, policy)
    cpu_s = 0.0
    if arguments.checkpoint.is_file():
        kept = torch.load(arguments.checkpoint, weights_only=True)
        trainer.resume(kept["trainer"])
        cpu_s = kept["cpu_s"]

    def show(steps: Iterable[int]) -> Iterator[int]:
        nonlocal cpu_s
        for step in tqdm(steps, "training", unit="step"):
            if cpu_s >= arguments.train_cpu_s:
                return
            started = time.process_time()
            yield step
            cpu_s += time.process_time() - started
            kept = {"trainer": trainer.checkpoint(), "cpu_s": cpu_s}
            torch.save(kept, arguments.checkpoint)

    trainer.run(show)
    return trainer, round(cpu_s, 1)


def timed(
    policy: BudgetPolicy, environment: TraceEnvironment, budget_tokens: int
) -> tuple[Outcomes, float]:
    """Play all problems; also CPU milliseconds per turn, the question's embedding not included."""
    n_turns = int(np.sum([len(problem.texts) for problem in environment.problems]))
    started = time.process_time()
    outcomes = evaluate_policy(policy, environment, budget_tokens)
    return outcomes, 1000.0 * (time.process_time() - started) / n_turns


if __name__ == "__main__":
    main()
