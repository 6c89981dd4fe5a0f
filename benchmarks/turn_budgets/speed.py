"""How long a proposal takes: `python -m benchmarks.turn_budgets.speed`. Writes speed.json."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from budget.policies.mdp import CHOICES, FEATURES, allot
from budget.policies.policy import BudgetPolicy, StaticPolicy
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.policies.types import TurnState
from gateway.routing.encoders import load_encoder
from router_models.estimators.arrays import Scaler

ROUNDS = 15
CALLS = 1000
N_READ, N_HIDDEN = 16, 64


def main() -> None:
    encoder = load_encoder("static")
    plan = encoder.encode([f"What is the total after {n} weeks?" for n in range(6)])
    state = TurnState(
        budget_tokens=8000,
        remaining_tokens=5000,
        embedding=plan[2],
        plan=plan,
        plan_position=2,
        turn_index=2,
    )
    policies: list[BudgetPolicy] = [
        StaticPolicy(CHOICES, 2),
        random_policy(TabPolicy, encoder.dimension),
        random_policy(AllSubQuestionsPolicy, encoder.dimension),
    ]
    embed_us = best_us(lambda: encoder.encode(["What is the total after 3 weeks?"]), CALLS // 10)
    rng = np.random.default_rng(0)
    found = {policy.kind: propose_us(policy, state, rng) for policy in policies}
    figures = {
        "embedding_us": round(embed_us, 1),
        "proposal_us": {kind: round(us, 1) for kind, us in found.items()},
        "share_of_embedding": {kind: round(us / embed_us, 3) for kind, us in found.items()},
    }
    Path(__file__).with_name("speed.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def random_policy(kind: type[TabPolicy], dimension: int) -> TabPolicy:
    rng = np.random.default_rng(0)
    shapes = (
        (dimension, N_READ),
        (N_READ,),
        (kind.blocks * N_READ + len(FEATURES), N_HIDDEN),
        (N_HIDDEN,),
        (N_HIDDEN, len(CHOICES)),
        (len(CHOICES),),
    )
    weights = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return kind(CHOICES, Scaler.identity(dimension), *weights)


def propose_us(policy: BudgetPolicy, state: TurnState, rng: np.random.Generator) -> float:
    return best_us(lambda: allot(policy, state, rng, exploration=0.05), CALLS)


def best_us(call: Callable[[], object], calls: int) -> float:
    """CPU time of one call, the best of several rounds: other work on the machine only adds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(calls):
            call()
        rounds.append((time.process_time() - started) / calls * 1e6)
    return min(rounds)


if __name__ == "__main__":
    main()
