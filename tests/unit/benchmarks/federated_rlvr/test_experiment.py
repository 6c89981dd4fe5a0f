from dataclasses import replace

import pytest

from benchmarks.federated_rlvr.experiment import TOGETHER, Lab, run_arm
from benchmarks.federated_rlvr.protocol import (
    ARMS,
    BALANCED,
    CONFIGS,
    EXTRAS,
    FEDAVG,
    LOCAL,
    PUBLIC,
    Config,
)
from benchmarks.federated_rlvr.tasks import Sizes, World
from tests.fakes.reasoners import SETTINGS, TOKENIZER, prompts_of, reasoner

# peft 0.19 reads an attribute that transformers 5.18 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SIZES = Sizes(private=6, public=3, test=4)


@pytest.fixture(scope="module")
def world():
    kinds = {f"says {digit}": digit for digit in "01"}
    return World(
        private={kind: prompts_of(kind, digit) for kind, digit in kinds.items()},
        public=[one for kind, digit in kinds.items() for one in prompts_of(f"p {kind}", digit, 1)],
        test={kind: prompts_of(f"t {kind}", digit, 4) for kind, digit in kinds.items()},
    )


def lab(config):
    tiny = reasoner()
    return Lab(config, tiny.model, TOKENIZER, tiny.name, tiny.initial, 1000)


@pytest.fixture(scope="module")
def measured(world):
    small = lab(Config(SETTINGS, rounds=1, measured_after=(1,), sizes=SIZES))
    return {name: run_arm(small, arm, world, seed=1) for name, arm in ARMS.items()}


def test_every_arm_takes_as_many_steps_on_as_many_prompts(measured):
    assert len({(run["steps"], run["prompts"]) for run in measured.values()}) == 1


def test_trained_alone_every_client_has_a_model_that_is_tested_on_all_kinds(measured, world):
    for marks in measured[LOCAL]["marks"].values():
        assert set(marks) == set(world.private)
        assert all(set(one) == set(world.test) for one in marks.values())


def test_trained_together_there_is_one_model(measured):
    assert all(set(marks) == {TOGETHER} for marks in measured[FEDAVG]["marks"].values())


def test_answers_are_swapped_only_by_the_arms_that_say_so(measured):
    swapped = {name for name, run in measured.items() if run["answers_swapped"]}
    assert BALANCED in swapped
    assert not swapped & {LOCAL, FEDAVG, PUBLIC}


def test_an_arm_leaves_nothing_behind_for_the_next(measured, world):
    small = lab(Config(SETTINGS, rounds=1, measured_after=(1,), sizes=SIZES))
    again = run_arm(small, ARMS[FEDAVG], world, seed=1)
    assert again["marks"] == measured[FEDAVG]["marks"]
    assert again["reward"] == measured[FEDAVG]["reward"]


@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_changes_one_switch_and_runs(name, world):
    small = lab(Config(SETTINGS, rounds=1, measured_after=(1,), sizes=SIZES))
    assert run_arm(small, EXTRAS[name], world, seed=1)["marks"]["1"][TOGETHER]
    assert len(set(EXTRAS[name].changes) - {"public"}) == 1


def test_the_configuration_for_a_gpu_runs_on_a_tiny_model(world):
    large = CONFIGS["gpu"]
    form = ("lora_rank", "lora_alpha", "lora_targets", "prompts_per_step", "max_new_tokens")
    settings = replace(large.settings, **{name: getattr(SETTINGS, name) for name in form})
    config = replace(large, settings=settings, rounds=1, measured_after=(1,), device="cpu")
    assert run_arm(lab(config), ARMS[BALANCED], world, seed=1)["steps"] == 16
