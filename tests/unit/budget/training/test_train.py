from dataclasses import replace

import numpy as np
import pytest
import torch

from budget.environments.conversation import Conversation
from budget.policies.policy import StaticPolicy
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.training.evaluate import evaluate_policy
from budget.training.train import Trainer, TrainingSettings, with_token_price
from tests.fakes.problems import trace_environment

CHOICES = (64, 512, 2048)
KINDS = [["easy", "long"], ["hopeless", "long"], ["long", "hopeless"], ["easy", "easy"]]
ENVIRONMENT = trace_environment(KINDS * 3)
PAPER = TrainingSettings(
    choices=CHOICES,
    budgets=(400,),
    steps=60,
    groups_per_step=12,
    learning_rate=0.02,
    n_read=4,
    n_hidden=16,
)
SETTINGS = with_token_price(replace(PAPER, budgets=(1000, 5000)), 2e-4)
SHORT = replace(SETTINGS, steps=4)


def weights(policy) -> bytes:
    return b"".join(array.tobytes() for array in policy.to_arrays().values())


def run(settings=SHORT, kind=TabPolicy, environment=ENVIRONMENT):
    trainer = Trainer.begin(environment, settings, kind)
    return trainer, trainer.run()


@pytest.mark.parametrize("kind", [TabPolicy, AllSubQuestionsPolicy])
def test_learns_to_spend_where_it_matters(kind):
    policy = run(SETTINGS, kind)[1]
    generous = evaluate_policy(StaticPolicy((2048,)), ENVIRONMENT, 5000)
    learned = evaluate_policy(policy, ENVIRONMENT, 5000)
    assert learned.accuracy == generous.accuracy == 0.5
    assert learned.mean_tokens < 0.6 * generous.mean_tokens


def test_with_the_papers_reward_learns_to_stay_within_the_budget():
    policy = run(PAPER)[1]
    assert evaluate_policy(policy, ENVIRONMENT, 10_000).mean_tokens < 800


def test_the_same_seed_gives_the_same_bits():
    assert weights(run()[1]) == weights(run()[1])


def test_another_seed_gives_another_policy():
    assert weights(run()[1]) != weights(run(replace(SHORT, seed=1))[1])


def test_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    run()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_run_ends_as_if_it_had_not_stopped():
    whole, expected = run()
    stopped = Trainer.begin(ENVIRONMENT, SHORT, TabPolicy)
    stopped.step(0)
    stopped.step(1)
    again = Trainer.begin(ENVIRONMENT, SHORT, TabPolicy)
    again.resume(stopped.checkpoint())
    assert weights(again.run()) == weights(expected)
    assert again.curve == whole.curve


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(AllSubQuestionsPolicy, SHORT), (TabPolicy, replace(SHORT, seed=1))],
)
def test_does_not_go_on_from_a_checkpoint_of_another_run(kind, settings):
    checkpoint = Trainer.begin(ENVIRONMENT, SHORT, TabPolicy).checkpoint()
    with pytest.raises(ValueError, match="the checkpoint has"):
        Trainer.begin(ENVIRONMENT, settings, kind).resume(checkpoint)


def test_the_learning_curve_has_a_point_per_step():
    trainer = run()[0]
    assert [point.step for point in trainer.curve] == [0, 1, 2, 3]
    assert all(0.0 <= point.accuracy <= 1.0 and point.tokens > 0 for point in trainer.curve)


def test_groups_without_spread_teach_nothing():
    trainer = Trainer.begin(trace_environment([["easy", "easy"]]), SHORT, TabPolicy)
    before = weights(trainer.network.to_policy())
    generous = replace(SHORT, free_share=1.0)
    trainer.settings = generous
    trainer.run()
    assert trainer.curve[-1].groups_with_spread == 0.0
    assert weights(trainer.network.to_policy()) == before


def test_shows_progress_where_it_is_asked_to():
    shown = []

    def show(steps):
        for step in steps:
            shown.append(step)
            yield step

    Trainer.begin(ENVIRONMENT, SHORT, TabPolicy).run(show)
    assert shown == [0, 1, 2, 3]


def test_policies_of_plans_of_unequal_length_learn_together():
    environment = trace_environment([["easy"], ["long", "easy", "hopeless"]])
    policy = run(SHORT, AllSubQuestionsPolicy, environment)[1]
    assert np.isfinite(policy.head).all()


def test_what_training_never_knew_does_not_move_the_policy():
    policy = run()[1]
    (solver,) = ENVIRONMENT.start(0, np.random.default_rng(0))
    state = Conversation(ENVIRONMENT.problems[0], solver, 1000).state()
    known = replace(state, quality=0.9, cost_usd=0.5)
    np.testing.assert_array_equal(policy.probabilities(state), policy.probabilities(known))
