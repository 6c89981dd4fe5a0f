from dataclasses import replace

import pytest
import torch

from benchmarks.turn_budgets_llm import llm_train
from benchmarks.turn_budgets_llm.llm_policy import LlmPolicy
from benchmarks.turn_budgets_llm.llm_train import LlmTrainer, adapt
from budget.policies.policy import StaticPolicy
from budget.training.evaluate import evaluate_policy
from budget.training.train import TrainingSettings, start_groups
from tests.fakes.language_models import tiny_model, tiny_tokenizer
from tests.fakes.problems import trace_environment

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

CHOICES = (64, 512, 2048)
KINDS = [["easy", "long"], ["hopeless", "long"], ["long", "hopeless"], ["easy", "easy"]]
ENVIRONMENT = trace_environment(KINDS)
SETTINGS = TrainingSettings(
    choices=CHOICES,
    budgets=(5000,),
    penalty=2e-4,
    free_share=0.0,
    is_enforced=True,
    advantage_eps=1.0,
    steps=20,
    groups_per_step=8,
    learning_rate=0.02,
    entropy_bonus=0.001,
)
SHORT = replace(SETTINGS, steps=3)


def begin(settings=SHORT, environment=ENVIRONMENT) -> LlmTrainer:
    adapted = adapt(tiny_model(), rank=4, last_layers=2, seed=settings.seed)
    policy = LlmPolicy.begin(CHOICES, adapted, tiny_tokenizer())
    return LlmTrainer.begin(environment, settings, policy)


def weights(policy) -> bytes:
    return b"".join(one.numpy().tobytes() for one in policy.learned().values())


def test_learns_to_spend_where_it_matters():
    policy = begin(SETTINGS).run()
    generous = evaluate_policy(StaticPolicy((2048,)), ENVIRONMENT, 5000)
    learned = evaluate_policy(policy, ENVIRONMENT, 5000)
    assert learned.accuracy == generous.accuracy == 0.5
    assert learned.mean_tokens < 0.8 * generous.mean_tokens


def test_the_same_seed_gives_the_same_bits():
    assert weights(begin().run()) == weights(begin().run())


def test_another_seed_gives_another_policy():
    assert weights(begin().run()) != weights(begin(replace(SHORT, seed=1)).run())


def test_a_resumed_run_ends_as_if_it_had_not_stopped():
    whole = begin()
    expected = weights(whole.run())
    stopped = begin()
    stopped.step(0)
    stopped.step(1)
    again = begin()
    again.resume(stopped.checkpoint())
    assert weights(again.run()) == expected
    assert again.curve == whole.curve


def test_a_checkpoint_does_not_change_as_training_goes_on():
    trainer = begin()
    checkpoint = trainer.checkpoint()
    before = {name: one.clone() for name, one in checkpoint["learned"].items()}
    trainer.run()
    assert all(torch.equal(one, before[name]) for name, one in checkpoint["learned"].items())


def test_does_not_go_on_from_a_checkpoint_of_other_settings():
    with pytest.raises(ValueError, match="the checkpoint has settings"):
        begin(replace(SHORT, seed=1)).resume(begin().checkpoint())


def test_refuses_settings_for_other_choices():
    with pytest.raises(ValueError, match="the policy chooses from"):
        begin(replace(SHORT, choices=(64, 128)))


def test_adapters_change_nothing_before_they_learn():
    ids = torch.arange(12)[None]
    with torch.no_grad():
        plain = tiny_model()(ids).logits
        adapted = adapt(tiny_model(), rank=4, last_layers=1, seed=0)(ids).logits
    torch.testing.assert_close(adapted, plain)


def test_only_adapters_of_the_last_layers_learn():
    adapted = adapt(tiny_model(), rank=4, last_layers=1, seed=0)
    learning = [name for name, one in adapted.named_parameters() if one.requires_grad]
    assert len(learning) == 2 * 7
    assert all("layers.1." in name and "lora_" in name for name in learning)


def test_the_frozen_model_stays_as_it_was():
    trainer = begin()
    trainer.run()
    base = trainer.policy.model.unload().state_dict()  # type: ignore[operator]
    assert all(torch.equal(one, base[name]) for name, one in tiny_model().state_dict().items())


def test_each_distinct_prompt_of_a_step_is_read_once(monkeypatch):
    read = []
    trainer = begin(replace(SHORT, group_size=16))
    log_odds = LlmPolicy.log_odds

    def counting(policy, prompts):
        read.extend(prompts)
        return log_odds(policy, prompts)

    monkeypatch.setattr(LlmPolicy, "log_odds", counting)
    trainer.play(start_groups(trainer.environment, trainer.settings, trainer.rng))
    assert len(read) == len(set(read)) < 40


def test_learns_the_same_from_many_small_batches_as_from_one(monkeypatch):
    learned = []
    for size in (1, 1000):
        monkeypatch.setattr(llm_train, "PROMPTS_AT_ONCE", size)
        learned.append(begin(replace(SHORT, steps=1)).run().learned())
    assert all(torch.allclose(one, learned[1][name], atol=1e-3) for name, one in learned[0].items())


def test_groups_without_spread_teach_nothing():
    settings = replace(SHORT, free_share=1.0)
    trainer = begin(settings, trace_environment([["easy", "easy"]]))
    before = weights(trainer.policy)
    trainer.run()
    assert trainer.curve[-1].groups_with_spread == 0.0
    assert weights(trainer.policy) == before


def test_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    begin().run()
    assert torch.equal(torch.get_rng_state(), before)
