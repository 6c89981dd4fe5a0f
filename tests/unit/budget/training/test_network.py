import numpy as np
import pytest
import torch

from budget.environments.conversation import Conversation
from budget.policies.mdp import features
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.training.network import TabNetwork
from router_models.estimators.arrays import Scaler
from tests.fakes.problems import trace_environment


@pytest.mark.parametrize("kind", [TabPolicy, AllSubQuestionsPolicy])
def test_network_and_policy_are_the_same_function(kind):
    environment = trace_environment([["easy", "long", "hopeless"], ["long", "easy"]])
    scaler = Scaler.fit(np.concatenate([problem.embeddings for problem in environment.problems]))
    torch.manual_seed(0)
    network = TabNetwork(kind, (100, 200, 400), scaler, n_read=3, n_hidden=5)
    torch.nn.init.normal_(network.head.weight)
    policy = network.to_policy()
    plans = torch.zeros(2, 3, 3)
    for row, problem in enumerate(environment.problems):
        plans[row, : len(problem.texts)] = torch.from_numpy(scaler.apply(problem.embeddings))
    questions = network.read_plans(plans, torch.tensor([3, 2]))
    for row, problem in enumerate(environment.problems):
        (solver,) = environment.start(row, np.random.default_rng(0))
        conversation = Conversation(problem, solver, 1000)
        while not conversation.is_over:
            state = conversation.state()
            seen = torch.from_numpy(features(state, sees_plan=kind.sees_plan))[None]
            log_odds = network(questions[row, state.turn_index][None], seen)
            found = log_odds.exp().detach().numpy()[0]
            np.testing.assert_allclose(policy.probabilities(state), found, rtol=1e-5)
            conversation.answer(200)


def test_begins_by_preferring_no_choice():
    network = TabNetwork(TabPolicy, (100, 200), Scaler.identity(3), 2, 4)
    log_odds = network(torch.ones(1, 2), torch.ones(1, 15))
    torch.testing.assert_close(log_odds.exp(), torch.full((1, 2), 0.5))
